//! A TCP proxy that delays what clients send, chunk by chunk and in order, and nothing else: answers pass at once, half-closed
//! connections stay half-closed, a reset on one side becomes a reset on the other.
//!
//! ```text
//! client ──read──▶ [chunk, due] [chunk, due] … bounded ──at its time──▶ pod
//! client ◀───────────────────── at once ────────────────────────────── pod
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::time::monotonic_now;

use super::evidence::{Counters, Sender};

/// A chunk is what one read gives, at most this much.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that a connection may hold back; with [`CHUNK_BYTES`], one megabyte. More stays in the kernel, then with the client.
const CHUNKS: usize = 64;
/// The pod is on this very address; it answers a connection attempt at once or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Out of file descriptors or the like: asking again at once would only burn CPU.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What the proxy does to each chunk.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    pub add: Duration,
    pub jitter: Duration,
    pub seed: u64,
}

/// The proxy's shared state.
pub struct Proxy {
    upstream: SocketAddr,
    disturbance: Disturbance,
    connections_most: usize,
    counters: Mutex<Counters>,
    /// Set when the fault is over: what still flows through flows undelayed.
    over: AtomicBool,
}

/// What travels inwards.
enum Inbound {
    Data(Bytes, Sender),
    /// The client has said all it had to say.
    End,
    /// The client reset the connection.
    Reset,
}

/// One side broke, or reset the connection.
struct Broke;

/// Both ends of a connection. Unless both directions came to a good end, dropping them resets whoever is still there: neither may
/// take a broken connection, or the end of the proxy, for the end of a message.
struct Ends {
    client: TcpStream,
    pod: TcpStream,
    in_order: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.in_order {
            let _ = self.client.set_zero_linger();
            let _ = self.pod.set_zero_linger();
        }
    }
}

impl Proxy {
    pub fn new(upstream: SocketAddr, disturbance: Disturbance, connections_most: usize) -> Arc<Proxy> {
        Arc::new(Proxy { upstream, disturbance, connections_most, counters: Mutex::default(), over: AtomicBool::new(false) })
    }

    pub fn counters(&self) -> Counters {
        *self.count()
    }

    /// From now on nothing is delayed.
    pub fn stop_delaying(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Accepts and relays until it is dropped; then every connection is reset.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.connections_most));
        let mut relays = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((client, _peer)) => match Arc::clone(&room).try_acquire_owned() {
                        Ok(room) => {
                            let number = {
                                let mut counters = self.count();
                                counters.connections += 1;
                                counters.open += 1;
                                counters.connections
                            };
                            let proxy = Arc::clone(&self);
                            relays.spawn(async move {
                                let _room = room;
                                proxy.relay(client, number).await;
                                proxy.count().open -= 1;
                            });
                        }
                        Err(_full) => {
                            self.count().refused += 1;
                            let _ = client.set_zero_linger();
                        }
                    },
                    Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
                },
                Some(_ended) = relays.join_next(), if !relays.is_empty() => {}
            }
        }
    }

    async fn relay(&self, client: TcpStream, number: u64) {
        let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(self.upstream)).await;
        let Ok(Ok(pod)) = connected else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = pod.set_nodelay(true);
        let mut ends = Ends { client, pod, in_order: false };
        let (from_client, to_client) = ends.client.split();
        let (from_pod, to_pod) = ends.pod.split();
        let ended = tokio::try_join!(self.inbound(from_client, to_pod, number), outbound(from_pod, to_client));
        ends.in_order = ended.is_ok();
    }

    /// Client to pod, each chunk at its time.
    async fn inbound(&self, from_client: ReadHalf<'_>, to_pod: WriteHalf<'_>, number: u64) -> Result<(), Broke> {
        let (hold, held) = mpsc::channel(CHUNKS);
        let random = Pcg64Mcg::seed_from_u64(self.disturbance.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        tokio::try_join!(self.receive(from_client, hold, random), self.deliver(held, to_pod)).map(|_| ())
    }

    async fn receive(
        &self,
        mut from_client: ReadHalf<'_>,
        hold: mpsc::Sender<(Instant, Instant, Inbound)>,
        mut random: Pcg64Mcg,
    ) -> Result<(), Broke> {
        let mut buffer = BytesMut::new();
        let mut sender = None;
        loop {
            buffer.reserve(CHUNK_BYTES);
            let inbound = match from_client.read_buf(&mut buffer).await {
                Ok(0) => Inbound::End,
                Ok(_) => {
                    let data = buffer.split().freeze();
                    let sender = *sender.get_or_insert_with(|| Sender::of(&data));
                    Inbound::Data(data, sender)
                }
                Err(_reset) => Inbound::Reset,
            };
            let last = !matches!(inbound, Inbound::Data(..));
            let read = monotonic_now();
            let due = read + self.draw(&mut random);
            if hold.capacity() == 0 {
                self.count().stalled += 1;
            }
            // The receiver lives as long as this future: both are joined.
            if hold.send((read, due, inbound)).await.is_err() || last {
                return Ok(());
            }
        }
    }

    async fn deliver(&self, mut held: mpsc::Receiver<(Instant, Instant, Inbound)>, mut to_pod: WriteHalf<'_>) -> Result<(), Broke> {
        // In order: a chunk that drew a short delay waits for the one before it, since it is taken out of the queue after it.
        while let Some((read, due, inbound)) = held.recv().await {
            if !self.over.load(Ordering::Relaxed) {
                tokio::time::sleep_until(due.into()).await;
            }
            match inbound {
                Inbound::Data(data, sender) => {
                    to_pod.write_all(&data).await.map_err(|_| Broke)?;
                    self.count().delayed(data.len(), read.elapsed().as_secs_f64() * 1e3, sender);
                }
                Inbound::End => return to_pod.shutdown().await.map_err(|_| Broke),
                Inbound::Reset => return Err(Broke),
            }
        }
        Ok(())
    }

    /// Uniform on `[add - jitter, add + jitter]`.
    fn draw(&self, random: &mut Pcg64Mcg) -> Duration {
        let Disturbance { add, jitter, .. } = self.disturbance;
        let least = add.saturating_sub(jitter);
        least + (add + jitter - least).mul_f64(random.random_range(0.0..=1.0))
    }

    fn count(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pod to client, at once.
async fn outbound(mut from_pod: ReadHalf<'_>, mut to_client: WriteHalf<'_>) -> Result<(), Broke> {
    match copy(&mut from_pod, &mut to_client).await {
        Ok(_) => to_client.shutdown().await.map_err(|_| Broke),
        Err(_) => Err(Broke),
    }
}
