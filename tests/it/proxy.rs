//! Goal: requests go through a proxy as the plan says, and what a proxy does to them has a cause of its own. How: a small proxy in this
//! process with a dial, servers behind it, and the words of a real run.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall::plan::{Exchange, Payload, Protocol, Talk};
use squall::protocol::Tls;
use squall::proxy::Proxy;
use squall::recording::sink::Measure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::command::Squall;
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::fake_websocket::{FakeWebSocket, Script};
use crate::http2::{Good, QUICK, certificate};
use crate::load::{Drive, Ran};
use crate::tls::Authority;
use crate::{readme, tls};

/// What the proxy does to who comes.
#[derive(Clone, Copy, PartialEq)]
pub enum Manners {
    Obliging,
    /// Obliging to whoever says `alice:hunter2`.
    Strict,
    Refusing(u16),
    Hanging,
    Closing,
    Garbling,
}

/// What `alice:hunter2` is in a header.
const KNOWN: &str = "Proxy-Authorization: Basic YWxpY2U6aHVudGVyMg==\r\n";

/// A proxy that knows every name as the one place `to`, for as long as the process lives.
pub struct FakeProxy {
    pub address: SocketAddr,
    /// The head of the first request of each connection.
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl FakeProxy {
    pub fn start(manners: Manners, to: SocketAddr) -> FakeProxy {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (ready, address) = std::sync::mpsc::sync_channel(1);
        let seen = heads.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    // What becomes of a connection is its ends' business.
                    tokio::spawn(serve(stream, manners, to, seen.clone()));
                }
            });
        });
        FakeProxy { address: address.recv().expect("the proxy starts"), heads }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn through(&self) -> Option<Proxy> {
        Some(self.url().parse().expect("a proxy"))
    }

    fn known(&self) -> Option<Proxy> {
        Some(format!("http://alice:hunter2@{}", self.address).parse().expect("a proxy"))
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics while it counts").clone()
    }
}

async fn serve(mut client: TcpStream, manners: Manners, to: SocketAddr, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let known = head.contains(KNOWN);
    seen.lock().expect("nobody panics while it counts").push(head.clone());
    let answer = match manners {
        Manners::Hanging => std::future::pending().await,
        Manners::Closing => return Ok(()),
        Manners::Garbling => "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        Manners::Refusing(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"),
        Manners::Strict if !known => "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n".to_owned(),
        Manners::Strict | Manners::Obliging => {
            let mut server = TcpStream::connect(to).await?;
            server.set_nodelay(true)?;
            if head.starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            } else {
                server.write_all(&bytes).await?;
            }
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    };
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    client.read_to_end(&mut Vec::new()).await.map(drop)
}

fn run(url: &str, proxy: Option<Proxy>, tls: Tls, protocol: Protocol) -> Ran {
    let streams = if protocol == Protocol::Http2 { 8 } else { 1 };
    Drive { proxy, tls, protocol, streams, timeout: Duration::from_secs(10), ..Drive::at(url) }.run()
}

fn opened(ran: &Ran) -> u64 {
    ran.history.windows.values().map(|tally| tally.opened).sum()
}

#[test]
fn plain_requests_are_handed_to_the_proxy_with_their_whole_url() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let proxy = FakeProxy::start(Manners::Obliging, target.address);
    let ran = run("http://shop.example/api/", proxy.through(), Tls::default(), Protocol::Http1);
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert!(target.seen().lines.iter().all(|line| line == "GET http://shop.example/api/ HTTP/1.1"), "{:?}", target.seen().lines);
    assert!(target.seen().request.contains("\r\nHost: shop.example\r\n"), "{}", target.seen().request);
    assert_eq!((opened(&ran), ran.histogram(Measure::Tunnel).len()), (target.seen().connections, 0));

    // Whoever wants to know who comes is told with each request; and where it is not, that is its doing and not the service's.
    let strict = FakeProxy::start(Manners::Strict, target.address);
    let ran = run("http://shop.example/", strict.known(), Tls::default(), Protocol::Http1);
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    let ran = run("http://shop.example/", strict.through(), Tls::default(), Protocol::Http1);
    assert_eq!((ran.cause("proxy wants credentials"), ran.counts.failed), (25, 25), "{:?}", ran.causes);
    // Without a proxy it is a status like any other.
    let odd = FakeProxy::start(Manners::Refusing(407), target.address);
    let ran = run(&odd.url(), None, Tls::default(), Protocol::Http1);
    assert_eq!(ran.cause("status 407"), 25, "{:?}", ran.causes);
}

#[test]
fn encrypted_requests_and_streams_go_through_a_tunnel() {
    let (_folder, trust, tls) = certificate();
    let encrypted = Good::start(QUICK, Some(tls));
    let plain = Good::start(QUICK, None);
    for (url, server, trust) in
        [("https://localhost:4433/", &encrypted, trust.into()), ("http://shop.example/", &plain, Tls::default())]
    {
        let proxy = FakeProxy::start(Manners::Strict, server.address);
        let ran = run(url, proxy.known(), trust, Protocol::Http2);
        assert_eq!(ran.counts.ok, 25, "{url}: {:?}", ran.causes);
        assert_eq!(ran.histogram(Measure::Tunnel).len(), opened(&ran));
        let place = if url.starts_with("https") { "localhost:4433" } else { "shop.example:80" };
        for head in proxy.heads() {
            assert!(head.starts_with(&format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n")) && head.contains(KNOWN), "{head}");
        }
    }
}

/// A proxy takes no messages: it is asked for a way even to a target that is not encrypted.
#[test]
fn a_websocket_goes_through_a_tunnel() {
    let target = FakeWebSocket::start(Script::good());
    let proxy = FakeProxy::start(Manners::Strict, target.address);
    let talk = Talk::WebSocket(Exchange { send: Some(Payload::Text("hello".into())), expect: None });
    let drive =
        Drive { protocol: Protocol::WebSocket, talk, timeout: Duration::from_secs(10), ..Drive::at("http://shop.example/") };
    let ran = Drive { proxy: proxy.known(), ..drive }.run();
    assert_eq!((ran.counts.ok, ran.histogram(Measure::Tunnel).len()), (25, target.seen().connections), "{:?}", ran.causes);
    assert!(proxy.heads().iter().all(|head| head.starts_with("CONNECT shop.example:80 ")), "{:?}", proxy.heads());
    assert!(target.seen().heads.iter().all(|head| !head.contains("Proxy-Authorization")), "{:?}", target.seen().heads);
}

#[test]
fn a_proxy_that_does_not_open_the_way_is_told_from_a_service_that_fails() {
    let nobody = FakeTarget::nobody();
    let cases = [
        (Manners::Strict, "proxy wants credentials"),
        (Manners::Refusing(502), "proxy refused: status 502"),
        (Manners::Refusing(503), "proxy refused: status 503"),
        (Manners::Closing, "closed by the proxy"),
        (Manners::Garbling, "garbage from the proxy"),
        // It cannot reach the target, and hangs up.
        (Manners::Obliging, "closed by the proxy"),
    ];
    for (manners, cause) in cases {
        let proxy = FakeProxy::start(manners, nobody);
        for (url, protocol) in [("https://shop.example/", Protocol::Http1), ("http://shop.example/", Protocol::Http2)] {
            let ran = run(url, proxy.through(), Tls::default(), protocol);
            assert_eq!((ran.cause(cause), ran.counts.failed, ran.counts.sent), (25, 25, 0), "{url}: {:?}", ran.causes);
            assert_eq!(opened(&ran), 0);
        }
    }
    let gone = Some(format!("http://{nobody}").parse().expect("a proxy"));
    let ran = run("http://shop.example/", gone, Tls::default(), Protocol::Http1);
    assert_eq!(ran.cause("proxy unreachable"), 25, "{:?}", ran.causes);

    let hanging = FakeProxy::start(Manners::Hanging, nobody);
    let timeout = Duration::from_millis(300);
    let ran = Drive { proxy: hanging.through(), timeout, ..Drive::at("https://shop.example/") }.run();
    assert_eq!((ran.cause("no connection in time"), ran.counts.timed_out), (25, 25), "{:?}", ran.causes);
}

/// Goal: a proxy that does not let a plan's requests through is found before they are sent, and is not taken for a service that fails. How:
/// HTTP/2 to an http:// target needs a tunnel, for which this proxy does not know us.
#[test]
fn a_proxy_that_refuses_the_tunnel_is_4() {
    let proxy = FakeProxy::start(Manners::Strict, FakeTarget::nobody());
    let squall = Squall::new();
    let load = ["load", "http://shop.invalid/", "--rate", "50/s", "--for", "1s", "--http2", "--proxy", &proxy.url()];
    squall.run(&load).expect(4).saying("proxy wants credentials").saying("PROXY_PASSWORD");
    assert!(proxy.heads().iter().all(|head| head.starts_with("CONNECT shop.invalid:80 ")), "{:?}", proxy.heads());
}

/// Goal: the target that the README shows is reached, as it is written there. How: a proxy in this process in the place of that one, behind
/// it a server that wants to see who comes, with the files and the password that the plan names.
#[test]
fn the_target_in_the_readme_is_reached() {
    let squall = Squall::new();
    let authority = Authority::new("ours");
    let server = authority.server("checkout.internal", tls::Good::Now);
    let target = tls::serving(tls::acceptor(&server, "checkout.internal", Some(&authority), tls::BOTH));
    tls::written(&squall, &authority, &authority.client(tls::Good::Now));
    let proxy = FakeProxy::start(Manners::Obliging, target.address);
    let readme = readme::readme();
    let shown = readme::unfenced(&readme, "target", "transport");
    let here = shown.replace("proxy.example:3128", &proxy.address.to_string());
    assert_ne!(here, shown);
    let text = format!(
        "plan: p\nclaim: c\n{here}phases: [{{name: a, for: 2s}}]\nload: [{{name: l, rate: 50/s, request: {{get: /cart}}}}]\n\
         assert: [{{name: answered, slo: {{available: 95%}}}}]\n"
    );
    squall.file("tls/plan.yaml", &text);
    let variables = [("PROXY_PASSWORD", Path::new("hunter2"))];
    let ran = squall.start_with(&["run", "tls/plan.yaml", "--out", "run"], &variables).wait(Duration::from_secs(120));
    ran.found_nothing_wrong();
    // Basic squall:hunter2.
    let known = "Proxy-Authorization: Basic c3F1YWxsOmh1bnRlcjI=\r\n";
    let heads = proxy.heads();
    assert!(heads.iter().any(|head| head.starts_with("CONNECT checkout.example:443 HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads.iter().all(|head| head.contains(known)), "{heads:?}");
    let seen = target.seen();
    assert!(seen.requests == 100 && seen.request.starts_with("GET /cart HTTP/1.1\r\nHost: checkout.example\r\n"), "{seen:?}");
}

/// Goal: who we are to the proxy stands nowhere but in its requests. How: a command line and a plan with a password, and everything that
/// they say and write.
#[test]
fn the_credentials_of_a_proxy_show_nowhere() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let proxy = FakeProxy::start(Manners::Strict, target.address);
    let squall = Squall::new();
    let known = format!("http://alice:hunter2@{}", proxy.address);
    let load = ["load", "http://shop.invalid/", "--rate", "50/s", "--for", "1s", "--available", "10%"];
    // A proxy of the environment's that nobody asked for is not used, though nobody answers there.
    let elsewhere = format!("http://{}", FakeTarget::nobody());
    let variables =
        [("HTTP_PROXY", Path::new(&elsewhere)), ("http_proxy", Path::new(&elsewhere)), ("PROXY_PASSWORD", Path::new("hunter2"))];
    let start = |args: &[&str]| squall.start_with(args, &variables).wait(Duration::from_secs(120));
    let mut said = vec![start(&[&load[..], &["--proxy", &known, "--out", "by-flag"]].concat())];
    said[0].found_nothing_wrong();
    let direct = target.url();
    said.push(start(&["load", &direct, "--rate", "50/s", "--for", "1s", "--available", "10%", "--out", "direct"]));
    said[1].found_nothing_wrong();

    let plan = |proxy: &str| {
        format!(
            "plan: p\nclaim: c\ntarget: {{url: \"http://shop.invalid/\", proxy: \"{proxy}\"}}\nphases: [{{name: a, for: 1s}}]\n\
             load: [{{name: l, rate: 50/s, request: {{get: /}}}}]\nassert: [{{name: answered, slo: {{available: 10%}}}}]\n"
        )
    };
    squall.file("plan.yaml", &plan(&format!("http://alice:${{PROXY_PASSWORD}}@{}", proxy.address)));
    said.push(start(&["check", "--explain", "plan.yaml"]));
    said[2].expect(0).saying("http://alice:${PROXY_PASSWORD}@127.0.0.1:").saying("PROXY_PASSWORD from the environment");
    said.push(start(&["run", "plan.yaml", "--out", "by-plan"]));
    said[3].found_nothing_wrong();
    said.push(start(&["judge", "by-plan"]));
    said[4].found_nothing_wrong();
    // A word too few.
    squall.file("plan.yaml", &plan(&format!("http://${{PROXY_PASSWORD}}:x${{PROXY_PASSWORD}}@{}/a", proxy.address)));
    said.push(start(&["check", "plan.yaml"]));
    said[5].expect(2).saying("a proxy has no path");
    for said in &said {
        assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{}\n{}", said.stdout, said.stderr);
    }
    for run in ["by-flag", "by-plan"] {
        for file in std::fs::read_dir(squall.path(run)).expect("the run's folder") {
            let path = file.expect("an entry").path();
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
            assert!(!text.contains("hunter2") && !text.contains("YWxpY2U6aHVudGVyMg"), "{}", path.display());
        }
    }
    assert!(proxy.heads().iter().all(|head| head.contains(KNOWN)), "{:?}", proxy.heads());

    // What is written out would stand in every recording; and where nobody may pass, that is said before a request is sent.
    squall.file("plan.yaml", &plan(&format!("http://alice:hunter2@{}", proxy.address)));
    start(&["check", "plan.yaml"]).expect(2).saying("would stand in every recording").saying("${PROXY_PASSWORD}");
    let refused = ["load", "https://shop.invalid/", "--rate", "50/s", "--for", "1s", "--proxy"];
    start(&[&refused[..], &[&proxy.url()]].concat()).expect(4).saying("proxy wants credentials; name them");
}
