//! The latency agent against a fake data plane: a socket that keeps the table, and clients that go where the table says.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::interpose::sandbox::{Answer, Request};
use super::*;

/// What the fake data plane was asked and holds.
#[derive(Default)]
struct FakePlane {
    asked: Vec<Request>,
    /// Where connections to the port go, and the answer that they get.
    via: Option<String>,
    deaf: bool,
}

/// An agent next to an echo server, with everything that keeps it alive in the test's hands.
struct Rig {
    plane: Arc<Mutex<FakePlane>>,
    said: Arc<Mutex<Vec<u8>>>,
    heartbeats: Option<DuplexStream>,
    tell: Option<oneshot::Sender<()>>,
    agent: JoinHandle<Result<()>>,
    _folder: tempfile::TempDir,
}

struct Ear(Arc<Mutex<Vec<u8>>>);

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Accepts forever and sends back what it gets, half-closing when its peer does.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    port
}

fn data_plane(socket: &std::path::Path) -> Arc<Mutex<FakePlane>> {
    let plane = Arc::new(Mutex::new(FakePlane::default()));
    let listener = UnixListener::bind(socket).expect("the folder is fresh");
    let shared = Arc::clone(&plane);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let plane = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                    let request: Request = serde_json::from_str(&line).expect("the agent speaks the protocol");
                    line.clear();
                    let answer = {
                        let mut plane = plane.lock().expect("no test panics with it");
                        if plane.deaf {
                            return;
                        }
                        plane.asked.push(request.clone());
                        let mut table = Vec::new();
                        plane.via = match request {
                            Request::Set { port, via, .. } => {
                                table.push(serde_json::json!({"port": port, "via": via}));
                                Some(via)
                            }
                            Request::Clear { .. } => None,
                        };
                        Answer { ok: true, table, error: None }
                    };
                    let text = serde_json::to_string(&answer).expect("it is plain data") + "\n";
                    stream.get_mut().write_all(text.as_bytes()).await.expect("the agent reads");
                }
            });
        }
    });
    plane
}

impl Rig {
    async fn start(more: &[&str]) -> Rig {
        Rig::before(wall_now() + Duration::from_secs(60), more).await
    }

    /// Spoken to once.
    async fn before(deadline: jiff::Timestamp, more: &[&str]) -> Rig {
        let mut rig = Rig::silent(deadline, more).await;
        // One that refused at once no longer reads.
        let _ = rig.heartbeats.as_mut().expect("it is there").write_all(b"\n").await;
        rig
    }

    async fn silent(deadline: jiff::Timestamp, more: &[&str]) -> Rig {
        #[derive(clap::Parser)]
        struct Arguments {
            #[command(flatten)]
            options: Options,
        }
        let port = echo_server().await.to_string();
        let deadline = deadline.to_string();
        let words = ["latency", "--port", &port, "--deadline", &deadline, "--seed", "7"];
        let words = words.into_iter().chain(more.iter().copied());
        let options = <Arguments as clap::Parser>::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).options;
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let socket = folder.path().join("interpose");
        let plane = data_plane(&socket);
        let said = Arc::default();
        let (heartbeats, stdin) = tokio::io::duplex(64);
        let (tell, told) = oneshot::channel();
        let agent = tokio::spawn(disturb(
            options,
            Pod { ip: Ipv4Addr::LOCALHOST.into(), plane: DataPlane::Sandbox(socket) },
            stdin,
            async move {
                // A dropped sender is no order.
                if told.await.is_err() {
                    std::future::pending::<()>().await;
                }
            },
            Speaker::new(Ear(Arc::clone(&said))),
        ));
        Rig { plane, said, heartbeats: Some(heartbeats), tell: Some(tell), agent, _folder: folder }
    }

    /// Waits until the agent is in the data plane's table; gives its address.
    async fn active(&self) -> String {
        self.until("the agent is in the data plane", || self.plane.lock().expect("no test panics with it").via.clone()).await
    }

    async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = crate::time::monotonic_now() + Duration::from_secs(10);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(crate::time::monotonic_now() < deadline, "never: {what}; {:?}", self.said());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn said(&self) -> Vec<Line> {
        let text = String::from_utf8(self.said.lock().expect("no test panics with it").clone()).expect("it is text");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits for the agent's end; its last words and whether it is out of the table.
    async fn reverted(self) -> (Result<()>, String, bool) {
        let outcome = tokio::time::timeout(Duration::from_secs(10), self.agent).await.expect("it ends").expect("it does not panic");
        let plane = self.plane.lock().expect("no test panics with it");
        assert!(plane.deaf || plane.asked.last().is_some_and(|last| matches!(last, Request::Clear { .. })), "{:?}", plane.asked);
        let text = String::from_utf8(self.said.lock().expect("no test panics with it").clone()).expect("it is text");
        match text.lines().last().map(serde_json::from_str) {
            Some(Ok(Line::Reverted { reason, cleared, .. })) => (outcome, reason, cleared),
            other => panic!("its last words are not that it reverted: {other:?}"),
        }
    }
}

/// Goal: each chunk is late by 20 to 60 ms, in order, and nothing is lost or changed. How: 25 writes, each waiting for its echo, so
/// that each is a chunk of its own; measured from outside, with room upwards for a busy machine and none downwards.
#[tokio::test]
async fn chunks_are_delayed_within_bounds_and_stay_in_order() {
    let rig = Rig::start(&["--add", "40ms", "--jitter", "20ms"]).await;
    let mut stream = TcpStream::connect(rig.active().await).await.expect("the proxy listens");
    let mut took = Vec::new();
    for n in 0..25_u32 {
        let began = crate::time::monotonic_now();
        stream.write_all(&n.to_be_bytes()).await.expect("the proxy reads");
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.expect("the echo comes");
        assert_eq!(u32::from_be_bytes(echo), n);
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    assert!(took[0] >= 20.0, "{took:?}");
    // The median of 25 uniform draws on [20, 60] lies below 56 but for one time in a million; 30 ms are for the machine.
    assert!(took[12] < 86.0, "{took:?}");
    assert!(took[24] - took[0] > 5.0, "there is jitter: {took:?}");
    let (_, reason, _) = {
        let counters = rig
            .until("evidence", || {
                rig.said().into_iter().find_map(|line| match line {
                    Line::Evidence(counters) if counters.chunks >= 25 => Some(counters),
                    _ => None,
                })
            })
            .await;
        assert!(counters.delay_ms_min >= 20.0 && counters.delay_ms_mean < 86.0, "{counters:?}");
        assert_eq!((counters.connections, counters.refused), (1, 0));
        let mut rig = rig;
        drop(rig.heartbeats.take());
        rig.reverted().await
    };
    assert_eq!(reason, "standard input was closed");
}

/// Many chunks are under way at once: a long message must come out as it went in, and half-closing must wait for its turn.
#[tokio::test]
async fn a_long_message_keeps_its_order_and_its_end() {
    let rig = Rig::start(&["--add", "5ms", "--jitter", "5ms"]).await;
    let mut stream = TcpStream::connect(rig.active().await).await.expect("the proxy listens");
    let message: Vec<u8> = (0..2_000_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&message).await.expect("the proxy reads");
        write.shutdown().await.expect("it can be half-closed");
    };
    let mut echo = Vec::new();
    let (_, got) = tokio::join!(send, read.read_to_end(&mut echo));
    got.expect("the echo ends in good order");
    assert!(echo == message, "{} of {} bytes came back, or others", echo.len(), message.len());
    rig.until("the connection is over", || (rig.agent.is_finished() || open(&rig) == 0).then_some(())).await;
}

fn open(rig: &Rig) -> u64 {
    rig.said()
        .iter()
        .rev()
        .find_map(|line| match line {
            Line::Evidence(counters) => Some(counters.open),
            _ => None,
        })
        .unwrap_or(u64::MAX)
}

#[tokio::test]
async fn a_reset_goes_through() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let upstream = listener.local_addr().expect("it is bound");
    let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let via = front.local_addr().expect("it is bound");
    let none = Disturbance { add: Duration::from_millis(1), jitter: Duration::ZERO, seed: 0 };
    let proxy = tokio::spawn(Proxy::new(upstream, none, 8).serve(front));
    for who in ["client", "pod", "proxy"] {
        let mut client = TcpStream::connect(via).await.expect("the proxy listens");
        let (mut pod, _) = listener.accept().await.expect("the proxy connects");
        client.write_all(b"x").await.expect("the proxy reads");
        let mut byte = [0];
        pod.read_exact(&mut byte).await.expect("it comes through");
        let survivor = match who {
            "client" => {
                client.set_zero_linger().expect("it is a socket");
                drop(client);
                &mut pod
            }
            "pod" => {
                pod.set_zero_linger().expect("it is a socket");
                drop(pod);
                &mut client
            }
            _ => {
                proxy.abort();
                &mut client
            }
        };
        let error = survivor.read(&mut byte).await.expect_err("a reset, not an end").kind();
        assert_eq!(error, std::io::ErrorKind::ConnectionReset, "{who}");
    }
}

#[tokio::test]
async fn it_reverts_when_its_input_ends() {
    let mut rig = Rig::start(&["--add", "10ms"]).await;
    rig.active().await;
    drop(rig.heartbeats.take());
    let (outcome, reason, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
    assert_eq!(reason, "standard input was closed");
}

/// The lease is 300 ms: heartbeats for more than twice that keep it alive, and their end ends it.
#[tokio::test]
async fn it_lives_on_heartbeats_and_reverts_without() {
    let mut rig = Rig::start(&["--add", "10ms", "--lease", "300ms"]).await;
    rig.active().await;
    let mut heartbeats = rig.heartbeats.take().expect("it is there");
    for _ in 0..15 {
        heartbeats.write_all(b"\n").await.expect("the agent reads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!rig.agent.is_finished(), "{:?}", rig.said());
    let renewals = rig.plane.lock().expect("no test panics with it").asked.len();
    assert!(renewals >= 4, "750 ms hold seven renewals of a lease of 300 ms; {renewals} came");
    let (outcome, reason, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
    assert_eq!(reason, "heartbeats stopped");
    drop(heartbeats);
}

#[tokio::test]
async fn it_reverts_at_its_deadline() {
    let rig = Rig::before(wall_now() + Duration::from_millis(400), &["--add", "10ms"]).await;
    rig.active().await;
    let (outcome, reason, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
    assert_eq!(reason, "the deadline came");
}

/// Goal: an agent that nobody attaches to changes nothing, however it ends. How: its input is closed, or its deadline comes, before a
/// heartbeat; a twin gets one, and acts.
#[tokio::test]
async fn it_touches_nothing_before_it_is_spoken_to() {
    for says in ["standard input was closed", "the deadline came"] {
        let deadline = wall_now() + if says.starts_with("the") { Duration::from_millis(300) } else { Duration::from_secs(60) };
        let mut rig = Rig::silent(deadline, &["--add", "10ms"]).await;
        rig.until("it listens", || rig.said().iter().any(|line| matches!(line, Line::Started { .. })).then_some(())).await;
        if says.starts_with("standard") {
            drop(rig.heartbeats.take());
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), &mut rig.agent).await.expect("it ends").expect("no panic");
        assert!(ended.is_ok(), "{ended:?}");
        assert!(rig.plane.lock().expect("no test panics with it").asked.is_empty());
        assert!(matches!(rig.said().last(), Some(Line::Reverted { reason, .. }) if reason == says), "{:?}", rig.said());
    }
    Rig::start(&["--add", "10ms"]).await.active().await;
}

#[tokio::test]
async fn it_reverts_when_told() {
    let mut rig = Rig::start(&["--add", "10ms"]).await;
    let mut stream = TcpStream::connect(rig.active().await).await.expect("the proxy listens");
    stream.write_all(b"x").await.expect("the proxy reads");
    let mut echo = [0];
    stream.read_exact(&mut echo).await.expect("the echo comes");
    rig.tell.take().expect("it is there").send(()).expect("the agent listens");
    let (outcome, reason, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
    assert_eq!(reason, "told to end");
    assert!(stream.read(&mut echo).await.is_err(), "connections through the proxy are reset with it");
}

#[tokio::test]
async fn connections_that_are_left_alone_end_by_themselves() {
    let mut rig = Rig::start(&["--add", "10ms", "--existing", "leave"]).await;
    let mut stream = TcpStream::connect(rig.active().await).await.expect("the proxy listens");
    stream.write_all(b"x").await.expect("the proxy reads");
    let mut echo = [0];
    stream.read_exact(&mut echo).await.expect("the echo comes");
    drop(rig.heartbeats.take());
    rig.until("it is out of the table", || rig.plane.lock().expect("no test panics with it").via.is_none().then_some(())).await;
    stream.write_all(b"y").await.expect("the proxy still reads");
    stream.read_exact(&mut echo).await.expect("the echo still comes");
    drop(stream);
    let (outcome, _, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
}

/// The deadline comes after a second, and the connection lives on: the agent does not.
#[tokio::test]
async fn connections_that_are_left_alone_do_not_keep_it_beyond_its_deadline() {
    let mut rig = Rig::before(wall_now() + Duration::from_secs(1), &["--add", "10ms", "--existing", "leave"]).await;
    let mut stream = TcpStream::connect(rig.active().await).await.expect("the proxy listens");
    stream.write_all(b"x").await.expect("the proxy reads");
    let mut echo = [0];
    stream.read_exact(&mut echo).await.expect("the echo comes");
    drop(rig.heartbeats.take());
    let (outcome, _, cleared) = rig.reverted().await;
    assert!(outcome.is_ok() && cleared, "{outcome:?}");
    assert!(stream.read(&mut echo).await.is_err(), "it is reset with the proxy");
}

/// A data plane that does not answer is no reason to stay: the agent goes, and says that it could not prove it.
#[tokio::test]
async fn a_data_plane_that_went_deaf_is_an_error_not_a_success() {
    let mut rig = Rig::start(&["--add", "10ms"]).await;
    rig.active().await;
    rig.plane.lock().expect("no test panics with it").deaf = true;
    drop(rig.heartbeats.take());
    let (outcome, _, cleared) = rig.reverted().await;
    assert!(!cleared);
    let error = format!("{:#}", outcome.expect_err("it is not proven"));
    assert!(error.contains("ends by itself within 5s"), "{error}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let past = wall_now() - Duration::from_secs(1);
    for (deadline, more, says) in [
        (past, ["--add", "10ms", "--jitter", "0s"], "has passed"),
        (past + Duration::from_secs(60), ["--add", "10ms", "--jitter", "11ms"], "negative delays"),
        (past + Duration::from_secs(60), ["--add", "10ms", "--lease", "1ms"], "at least 100ms"),
    ] {
        let rig = Rig::before(deadline, &more).await;
        let error = format!("{:#}", rig.agent.await.expect("it does not panic").expect_err("it refuses"));
        assert!(error.contains(says), "{error}");
        assert!(rig.plane.lock().expect("no test panics with it").asked.is_empty());
    }
}

#[test]
fn without_the_pods_address_it_refuses() {
    // No test sets the variable, so it is absent as it is on any machine.
    let error = format!("{:#}", Pod::around().err().expect("this is no pod"));
    assert!(error.contains("POD_IP is not set"), "{error}");
}
