//! An HTTP server in this process with a dial: when it answers, with which bytes, and what it does to the connection afterwards.
//! One fake that can be every bad server, rather than one mock per badness. It keeps count of what it saw, as the other side of
//! what the load engine reports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// When a request is answered.
#[derive(Clone, Debug)]
pub enum Timing {
    AtOnce,
    After(Duration),
    /// After `usual` until `closes`; from then on everything is held and released together at `opens`; then at once.
    Gate {
        usual: Duration,
        closes: Instant,
        opens: Instant,
    },
    /// No queue: `short` or `long`, drawn with even odds.
    Either {
        short: Duration,
        long: Duration,
        seed: u64,
    },
    Never,
}

/// What happens to the connection once the reply has been written.
#[derive(Clone)]
pub enum Then {
    Keep,
    Close,
    /// Closes with a reset instead of a proper end.
    Reset,
    /// Keeps the connection, takes the next request and hangs up on it: what a keep-alive connection looks like that the server
    /// closed just when the client used it.
    CloseOnNext,
    /// Writes this again and again until the client hangs up.
    Repeat(Vec<u8>),
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Then::Keep => f.write_str("Keep"),
            Then::Close => f.write_str("Close"),
            Then::Reset => f.write_str("Reset"),
            Then::CloseOnNext => f.write_str("CloseOnNext"),
            Then::Repeat(bytes) => write!(f, "Repeat({:?}...)", String::from_utf8_lossy(&bytes[..bytes.len().min(40)])),
        }
    }
}

/// The dial.
#[derive(Clone, Debug)]
pub struct Dial {
    pub timing: Timing,
    /// Written to a fresh connection before anything is read from it.
    pub greeting: Vec<u8>,
    pub reply: Vec<u8>,
    /// Writes the reply byte by byte, so far apart; all at once where there is none.
    pub drip: Option<Duration>,
    pub then: Then,
}

impl Dial {
    /// Answers 200 with two bytes after `timing`.
    pub fn good(timing: Timing) -> Dial {
        let reply = b"HTTP/1.1 200 OK\r\nx-pod: fake-1\r\nContent-Length: 2\r\n\r\nok".to_vec();
        Dial { timing, greeting: Vec::new(), reply, drip: None, then: Then::Keep }
    }

    /// Writes `reply` at once, whatever it is, and goes on as `then` says.
    pub fn says(reply: &str, then: Then) -> Dial {
        Dial { reply: reply.as_bytes().to_vec(), then, ..Dial::good(Timing::AtOnce) }
    }
}

/// What the server saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: u64,
    pub requests: u64,
    /// The most that came over one connection.
    pub most_on_one: u64,
    /// Requests being served now.
    pub in_flight: u64,
    /// How many others were being served when each request came.
    pub others: Vec<u64>,
    /// Request-seconds served, of requests that are done.
    pub busy: Duration,
    pub first: Option<Instant>,
    /// When each reply was given, in order.
    pub departures: Vec<Instant>,
    /// The first request, as text.
    pub request: String,
    /// The first line of every request, in the order in which they came.
    pub lines: Vec<String>,
}

struct Shared {
    dial: Dial,
    seen: Mutex<Seen>,
    random: Mutex<Pcg64Mcg>,
}

/// Any free port of this machine.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running server; it ends when this is dropped.
pub struct FakeTarget {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeTarget {
    pub fn start(dial: Dial) -> FakeTarget {
        FakeTarget::start_at(ANY, dial)
    }

    /// At this address.
    pub fn start_at(address: SocketAddr, dial: Dial) -> FakeTarget {
        FakeTarget::run(address, dial, None, Accepting::All)
    }

    /// Speaks TLS with this certificate and its key.
    pub fn start_tls(dial: Dial, certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> FakeTarget {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the test's certificate is sound");
        FakeTarget::run(ANY, dial, Some(TlsAcceptor::from(Arc::new(config))), Accepting::All)
    }

    /// Speaks TLS as `acceptor` does.
    pub fn start_encrypted(dial: Dial, acceptor: TlsAcceptor) -> FakeTarget {
        FakeTarget::run(ANY, dial, Some(acceptor), Accepting::All)
    }

    /// Listens, but never takes a connection, with room for one that waits.
    pub fn start_deaf() -> FakeTarget {
        FakeTarget::run(ANY, Dial::good(Timing::Never), None, Accepting::None)
    }

    /// Takes connections, greets, and never reads a byte.
    pub fn start_ignoring(greeting: &str) -> FakeTarget {
        let dial = Dial { greeting: greeting.as_bytes().to_vec(), ..Dial::good(Timing::Never) };
        FakeTarget::run(ANY, dial, None, Accepting::Ignored)
    }

    /// Takes connections and resets each at once, or when it has read so many bytes.
    pub fn start_resetting(after: usize) -> FakeTarget {
        FakeTarget::run(ANY, Dial::good(Timing::Never), None, Accepting::ResetAfter(after))
    }

    /// An address where nobody listens.
    pub fn nobody() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("a bound socket has an address")
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().expect("no test panics while it counts").clone()
    }

    fn run(at: SocketAddr, dial: Dial, tls: Option<TlsAcceptor>, accepting: Accepting) -> FakeTarget {
        let seed = if let Timing::Either { seed, .. } = dial.timing { seed } else { 0 };
        let shared = Arc::new(Shared { dial, seen: Mutex::default(), random: Mutex::new(Pcg64Mcg::seed_from_u64(seed)) });
        let (stop, mut stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::sync_channel(1);
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("fake-target".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async move {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    socket.set_reuseaddr(true).expect("a socket");
                    socket.bind(at).expect("a free port");
                    let listener = socket.listen(if accepting == Accepting::None { 1 } else { 4096 }).expect("a listening socket");
                    ready.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                    match accepting {
                        Accepting::None => drop(stopped.await),
                        _ => accept(&listener, &serving, accepting, tls, &mut stopped).await,
                    }
                });
            })
            .expect("a thread");
        FakeTarget { address: address.recv().expect("the server starts"), shared, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FakeTarget {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the fake target panicked");
        }
    }
}

/// What becomes of those who want to connect.
#[derive(Clone, Copy, PartialEq)]
enum Accepting {
    All,
    None,
    Ignored,
    ResetAfter(usize),
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    accepting: Accepting,
    tls: Option<TlsAcceptor>,
    stopped: &mut oneshot::Receiver<()>,
) {
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection"),
            _ = &mut *stopped => return,
        };
        stream.set_nodelay(true).expect("a TCP socket");
        shared.seen.lock().expect("no panic while counting").connections += 1;
        let shared = shared.clone();
        let tls = tls.clone();
        // What a client does to its connection is the client's business: errors end the connection and nothing else.
        tokio::spawn(async move {
            match (accepting, tls) {
                (Accepting::Ignored, _) => ignore(stream, &shared).await,
                (Accepting::ResetAfter(bytes), _) => reset(stream, bytes).await,
                (_, None) => {
                    if let Then::Reset = shared.dial.then {
                        stream.set_zero_linger().expect("a TCP socket");
                    }
                    serve(stream, &shared).await
                }
                (_, Some(tls)) => match tls.accept(stream).await {
                    Ok(stream) => serve::<tokio_rustls::server::TlsStream<TcpStream>>(stream, &shared).await,
                    Err(error) => Err(error),
                },
            }
        });
    }
}

async fn ignore(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.write_all(&shared.dial.greeting).await?;
    std::future::pending().await
}

async fn reset(mut stream: TcpStream, after: usize) -> std::io::Result<()> {
    stream.set_zero_linger().expect("a TCP socket");
    let mut bytes = vec![0; after];
    stream.read_exact(&mut bytes).await?;
    Ok(())
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) -> std::io::Result<()> {
    stream.write_all(&shared.dial.greeting).await?;
    let mut buffer = Vec::new();
    let mut nth = 0;
    while let Some(request) = next_request(&mut stream, &mut buffer).await? {
        nth += 1;
        if nth > 1 && matches!(shared.dial.then, Then::CloseOnNext) {
            return Ok(());
        }
        let came = Instant::now();
        let departs = {
            let mut seen = shared.seen.lock().expect("no panic while counting");
            if seen.requests == 0 {
                seen.request = String::from_utf8_lossy(&request).into_owned();
            }
            seen.requests += 1;
            seen.most_on_one = seen.most_on_one.max(nth);
            let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
            seen.lines.push(String::from_utf8_lossy(line).into_owned());
            let others = seen.in_flight;
            seen.others.push(others);
            seen.in_flight += 1;
            seen.first.get_or_insert(came);
            departure(shared, came)
        };
        match departs {
            Some(departs) if departs > came => tokio::time::sleep_until(departs.into()).await,
            Some(_) => {}
            None => std::future::pending().await,
        }
        {
            let mut seen = shared.seen.lock().expect("no panic while counting");
            seen.in_flight -= 1;
            let now = Instant::now();
            seen.busy += now - came;
            seen.departures.push(now);
        }
        match shared.dial.drip {
            None => stream.write_all(&shared.dial.reply).await?,
            Some(apart) => drip(&mut stream, &shared.dial.reply, apart).await?,
        }
        stream.flush().await?;
        match &shared.dial.then {
            Then::Keep | Then::CloseOnNext => {}
            Then::Reset => return Ok(()),
            Then::Close => return stream.shutdown().await,
            Then::Repeat(bytes) => loop {
                stream.write_all(bytes).await?;
            },
        }
    }
    Ok(())
}

async fn drip<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], apart: Duration) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        tokio::time::sleep(apart).await;
    }
    Ok(())
}

fn departure(shared: &Shared, came: Instant) -> Option<Instant> {
    match shared.dial.timing {
        Timing::AtOnce => Some(came),
        Timing::After(time) => Some(came + time),
        Timing::Gate { usual, closes, opens } => Some(match came {
            _ if came < closes => came + usual,
            _ => opens.max(came),
        }),
        Timing::Either { short, long, .. } => {
            let heads = shared.random.lock().expect("no panic while counting").random_bool(0.5);
            Some(came + if heads { short } else { long })
        }
        Timing::Never => None,
    }
}

/// The next request, head and body; `None` when the client hung up.
async fn next_request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let body: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().expect("the client counts its body"));
            let whole = end + 4 + body;
            if buffer.len() >= whole {
                return Ok(Some(buffer.drain(..whole).collect()));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
