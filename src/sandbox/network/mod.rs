//! The sandbox's data plane. Everything that reaches a pod on the cluster's behalf (service balancers, probes, metric scrapes) dials here,
//! so that a fault agent which interposes itself before a pod's port is met by all of them, as a kernel rule would be.

pub mod balancer;
pub mod get;
pub mod interposition;
mod relay;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::time::monotonic_now;

/// Connections that all balancers of a sandbox carry at the same time.
pub const CONNECTIONS_MAX: usize = 8192;
/// Ports of one pod that can be interposed at the same time.
pub const INTERPOSED_MAX: usize = 16;
/// How long a connection to a pod may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A port of a pod.
pub type PodPort = (Ipv4Addr, u16);

/// A handle; all clones are one network.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    honours: Honours,
    table: Mutex<HashMap<PodPort, Entry>>,
    bells: Mutex<HashMap<PodPort, watch::Sender<u64>>>,
    connections: Arc<Semaphore>,
}

/// Whether interposition takes effect. Tests switch it off to have a fault that does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Honours {
    Interposition,
    Nothing,
}

/// Who answers for a pod's port for a while.
#[derive(Clone, Copy, Debug)]
struct Entry {
    via: SocketAddr,
    expires: Instant,
    existing: Existing,
}

/// What becomes of established connections when an entry appears or goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// They are reset, so that their clients connect anew and meet the new path.
    Reset,
    /// They go on as they are.
    Leave,
}

impl Network {
    pub fn new(honours: Honours) -> Network {
        Network(Arc::new(Inner {
            honours,
            table: Mutex::default(),
            bells: Mutex::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }))
    }

    /// Connects to a pod's port, or to who is interposed before it.
    pub async fn dial(&self, ip: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        let to = self.route((ip, port)).unwrap_or_else(|| SocketAddrV4::new(ip, port).into());
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Interposes `via` before a pod's port for `ttl`, or renews that. An entry that is not renewed goes by itself.
    pub fn interpose(&self, at: PodPort, via: SocketAddr, ttl: Duration, existing: Existing) -> Result<(), String> {
        let expires = monotonic_now() + ttl;
        let mut table = lock(&self.0.table);
        if !table.contains_key(&at) && table.keys().filter(|(ip, _)| *ip == at.0).count() >= INTERPOSED_MAX {
            return Err(format!("{INTERPOSED_MAX} ports of this pod are interposed already"));
        }
        let before = table.insert(at, Entry { via, expires, existing });
        drop(table);
        if before.is_none_or(|entry| entry.via != via) {
            self.ring(at, existing);
        }
        if before.is_none() {
            tokio::spawn(self.clone().expire(at));
        }
        Ok(())
    }

    /// Takes an interposition away. Whether there was one.
    pub fn clear(&self, at: PodPort) -> bool {
        let gone = lock(&self.0.table).remove(&at);
        if let Some(entry) = gone {
            self.ring(at, entry.existing);
        }
        gone.is_some()
    }

    /// What is interposed before a pod: port, via, time left.
    pub fn interposed(&self, ip: Ipv4Addr) -> Vec<(u16, SocketAddr, Duration)> {
        let now = monotonic_now();
        let table = lock(&self.0.table);
        let mut rows: Vec<_> = table
            .iter()
            .filter(|((of, _), entry)| *of == ip && entry.expires > now)
            .map(|((_, port), entry)| (*port, entry.via, entry.expires - now))
            .collect();
        rows.sort_by_key(|row| row.0);
        rows
    }

    /// Forgets a pod that is gone.
    pub fn forget(&self, ip: Ipv4Addr) {
        lock(&self.0.table).retain(|(of, _), _| *of != ip);
        lock(&self.0.bells).retain(|(of, _), _| *of != ip);
    }

    /// Changes when the established connections of a pod's port are to be reset.
    fn resets(&self, at: PodPort) -> watch::Receiver<u64> {
        lock(&self.0.bells).entry(at).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn connections(&self) -> &Arc<Semaphore> {
        &self.0.connections
    }

    fn route(&self, at: PodPort) -> Option<SocketAddr> {
        if self.0.honours == Honours::Nothing {
            return None;
        }
        let table = lock(&self.0.table);
        table.get(&at).filter(|entry| entry.expires > monotonic_now()).map(|entry| entry.via)
    }

    fn ring(&self, at: PodPort, existing: Existing) {
        if self.0.honours == Honours::Interposition
            && existing == Existing::Reset
            && let Some(bell) = lock(&self.0.bells).get(&at)
        {
            bell.send_modify(|n| *n += 1);
        }
    }

    /// Lives as long as an entry does, and takes it away when nobody renewed it.
    async fn expire(self, at: PodPort) {
        loop {
            let Some(expires) = lock(&self.0.table).get(&at).map(|entry| entry.expires) else { return };
            if expires <= monotonic_now() {
                self.clear(at);
                return;
            }
            tokio::time::sleep_until(expires.into()).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answering(word: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(word).await;
            }
        });
        address
    }

    async fn hears(network: &Network, port: u16) -> String {
        let mut heard = String::new();
        network.dial(Ipv4Addr::LOCALHOST, port).await.unwrap().read_to_string(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn an_interposition_is_met_until_it_is_cleared_or_expires_by_itself() {
        let (pod, agent) = (answering(b"pod").await, answering(b"agent").await);
        let network = Network::new(Honours::Interposition);
        let at = (Ipv4Addr::LOCALHOST, pod.port());
        let mut resets = network.resets(at);
        assert_eq!(hears(&network, pod.port()).await, "pod");
        network.interpose(at, agent, Duration::from_secs(30), Existing::Reset).unwrap();
        resets.changed().await.unwrap();
        assert_eq!(hears(&network, pod.port()).await, "agent");
        assert!(network.clear(at));
        resets.changed().await.unwrap();
        assert_eq!(hears(&network, pod.port()).await, "pod");

        network.interpose(at, agent, Duration::from_millis(30), Existing::Reset).unwrap();
        resets.changed().await.unwrap();
        // Nobody renews it: the next reset is its expiry.
        resets.changed().await.unwrap();
        assert_eq!(hears(&network, pod.port()).await, "pod");
    }

    #[tokio::test]
    async fn a_network_that_honours_nothing_keeps_the_table_and_dials_the_pod() {
        let (pod, agent) = (answering(b"pod").await, answering(b"agent").await);
        let network = Network::new(Honours::Nothing);
        let at = (Ipv4Addr::LOCALHOST, pod.port());
        network.interpose(at, agent, Duration::from_secs(30), Existing::Reset).unwrap();
        assert_eq!(network.interposed(Ipv4Addr::LOCALHOST).len(), 1);
        assert_eq!(hears(&network, pod.port()).await, "pod");
    }
}
