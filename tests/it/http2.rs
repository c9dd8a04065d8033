//! HTTP/2 against a server that speaks it well (hyper's) and one that speaks it as a script says. Method: a real run over loopback, its
//! recording read back, and outcomes and causes compared with what the server is known to do. A hang is a test that does not end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::PrivateKeyDer;
use squall::plan::{Protocol, Rhythm, Rotation, Think};
use squall::protocol::Trust;
use squall::recording::History;
use squall::recording::Outcome;
use squall::recording::sink::Measure;
use squall::time::Clock;
use squall::units::Span;
use tokio_rustls::TlsAcceptor;

use crate::command::Squall;
use crate::fake_http2::{
    After, BUSY, CONTINUATION, DATA, END_HEADERS, END_STREAM, FakeHttp2, HEADERS, OK, PING, PRIORITY, PUSH_PROMISE, Script,
    WINDOW_UPDATE, answer, frame, goaway, rst_stream, settings,
};
use crate::fake_target::{Dial, FakeTarget, Then, Timing};
use crate::listening::Listening;
use crate::load::{Drive, LEAD, Ran, trusting};

/// Connections that live for so many milliseconds.
fn aged(millis: u64) -> Rotation {
    Rotation { age: Some(Span::from_millis(millis)), requests: None }
}

/// 25 requests in half a second over a few connections.
fn drive(url: impl Into<String>) -> Drive {
    Drive { protocol: Protocol::Http2, connections: 2, streams: 16, ..Drive::at(url) }
}

/// hyper's server on a thread of its own. It answers after a time with what it was asked, and trailers.
pub struct Good {
    pub address: SocketAddr,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    server: Listening,
}

#[derive(Clone, Copy)]
pub struct Manners {
    takes: Duration,
    streams: u32,
    window: u32,
}

pub const QUICK: Manners = Manners { takes: Duration::ZERO, streams: 200, window: 65_535 };

impl Good {
    pub fn start(manners: Manners, tls: Option<TlsAcceptor>) -> Good {
        let (connections, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counting = (connections.clone(), requests.clone());
        let server = Listening::start(move |stream, _| {
            counting.0.fetch_add(1, Ordering::Relaxed);
            let (requests, tls) = (counting.1.clone(), tls.clone());
            async move {
                let service = hyper::service::service_fn(move |request| reply(request, manners, requests.clone()));
                let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http2.timer(TokioTimer::new()).max_concurrent_streams(manners.streams);
                http2.initial_stream_window_size(manners.window).initial_connection_window_size(manners.window);
                match tls {
                    None => http2.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => http2.serve_connection(TokioIo::new(stream), service).await,
                        Err(_) => Ok(()),
                    },
                }
            }
        });
        Good { address: server.address, connections, requests, server }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn seen(&self) -> (u64, u64) {
        (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

async fn reply(
    request: Request<Incoming>,
    manners: Manners,
    requests: Arc<AtomicU64>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    requests.fetch_add(1, Ordering::Relaxed);
    let asked = request.uri().to_string();
    let item = request.headers().get("x-item").cloned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // Where each request is another, its parts must belong together.
    let meant =
        |item: &HeaderValue| asked.ends_with(&format!("/{}", item.to_str().unwrap_or("?"))) && body.ends_with(item.as_bytes());
    let status = if item.as_ref().is_none_or(meant) { 200 } else { 400 };
    if manners.takes > Duration::ZERO {
        tokio::time::sleep(manners.takes).await;
    }
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-check"), HeaderValue::from_static("0"))]);
    let said = Full::new(Bytes::from(format!("{asked}: {} bytes", body.len())));
    let said = said.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    Ok(Response::builder().status(status).header("x-pod", "good-1").body(said).expect("a response"))
}

/// Goal: requests that differ are whole on every stream, also where their bodies wait for the peer's window while others are composed.
/// How: path, header and body of each name one key, and a server that compares them; bodies of 40 KB in windows of 10.
#[test]
fn requests_that_differ_are_whole_on_streams_that_they_share() {
    for volume in ["rate: 200/s", "users: 20"] {
        let squall = Squall::new();
        let good = Good::start(Manners { streams: 8, window: 10_000, ..QUICK }, None);
        let padding = "x".repeat(40_000);
        squall.file(
            "plan.yaml",
            &format!(
                "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n- name: l\n  {volume}\n  protocol: http2\n  \
                 draw: {{item: {{uniform: {{of: 1000000}}}}}}\n  \
                 request: {{post: \"/{{{{item}}}}\", headers: {{x-item: \"{{{{item}}}}\"}}, body: \"{padding}{{{{item}}}}\", timeout: 20s}}\n\
                 assert: [{{name: answered, slo: {{available: 90%}}}}]\n",
                good.url()
            ),
        );
        squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]).expect(0);
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let counts = history.counts(None, from, to);
        assert!(counts.ok >= 20 && counts.ok == counts.intended, "{volume}: {counts:?}");
    }
}

pub fn certificate() -> (tempfile::TempDir, Trust, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).expect("a file");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the test's certificate is sound");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (folder, trusting(&pem), TlsAcceptor::from(Arc::new(config)))
}

#[test]
fn a_good_server_answers_all_of_it() {
    let target = Good::start(QUICK, None);
    let ran = drive(target.url()).run();
    assert_eq!((ran.counts.ok, target.seen().1), (25, 25), "{:?}", ran.causes);
    let served: u64 = ran.history.windows.values().filter_map(|tally| tally.served_by.get("good-1")).sum();
    assert_eq!(served, 25, "who answered is counted");
    assert!(ran.counts.bytes_in >= 25 * 20 && ran.counts.bytes_out >= 25 * 9, "{:?}", ran.counts);
    assert!(target.seen().0 <= 2, "{} connections", target.seen().0);
}

/// Goal: many requests share few connections, and none waits for another. How: each takes 200 ms and 200 come in a second, so that 40
/// are under way at once, over two connections.
///
/// Why 200 ms: were they sent one after the other, the last would wait for seconds.
#[test]
fn requests_that_are_under_way_at_once_share_few_connections() {
    let target = Good::start(Manners { takes: Duration::from_millis(200), ..QUICK }, None);
    let ran = Drive { rate: 200.0, seconds: 1.5, streams: 100, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen()), (300, (2, 300)), "{:?}", ran.causes);
    assert!(ran.histogram(Measure::Service).min() >= 199_900, "{} us", ran.histogram(Measure::Service).min());
    assert!(ran.quantile_ms(Measure::Response, 0.5) < 400.0, "{} ms", ran.quantile_ms(Measure::Response, 0.5));
    let connections = ran.history.generator().map(|(_, sample)| sample.connections).max().unwrap_or(0);
    assert!(connections <= 2, "{connections} connections by the generator's own count");
}

/// Goal: what connections x streams do not hold waits, and is told as what it is. How: 2 x 4 requests of 100 ms at once is 80 a second,
/// and 160 come.
#[test]
fn no_more_is_under_way_than_connections_times_streams() {
    let target = Good::start(Manners { takes: Duration::from_millis(100), ..QUICK }, None);
    let ran = Drive { rate: 160.0, seconds: 1.0, streams: 4, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen()), (160, (2, 160)), "{:?}", ran.causes);
    assert!(ran.quantile_ms(Measure::Response, 0.99) >= 500.0, "{} ms", ran.quantile_ms(Measure::Response, 0.99));
    assert!(ran.lost_to("connections of load users", 2) >= 100);
}

/// Goal: a server that takes fewer streams than the plan would send is never sent more, and the wait for it is not the generator's
/// lateness. How: it takes 2 of 100 ms at once, and 60 come in half a second.
#[test]
fn the_server_s_own_limit_of_streams_is_kept() {
    let target = Good::start(Manners { takes: Duration::from_millis(100), streams: 2, ..QUICK }, None);
    let ran = Drive { rate: 120.0, connections: 1, streams: 100, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen()), (60, (1, 60)), "{:?}", ran.causes);
    assert!(ran.quantile_ms(Measure::Response, 0.9) >= 1_500.0, "{} ms", ran.quantile_ms(Measure::Response, 0.9));
    assert!(ran.quantile_ms(Measure::Lateness, 0.9) < 500.0, "{} ms", ran.quantile_ms(Measure::Lateness, 0.9));
}

#[test]
fn bodies_go_through_small_windows() {
    let target = Good::start(Manners { window: 65_535, ..QUICK }, None);
    let body: &'static str = "x".repeat(300_000).leak();
    let ran = Drive { method: "POST", body, ..drive(target.url()) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert!(ran.counts.bytes_out >= 25 * 300_000, "{:?}", ran.counts);

    let ran = Drive { method: "HEAD", ..drive(target.url()) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
}

#[test]
fn over_tls_the_server_has_to_agree() {
    let (folder, trust, tls) = certificate();
    let target = Good::start(QUICK, Some(tls));
    let at =
        |address: SocketAddr, trust: Trust| Drive { tls: trust.into(), ..drive(format!("https://localhost:{}/", address.port())) };
    let ran = at(target.address, trust).run();
    assert_eq!((ran.counts.ok, target.seen().1), (25, 25), "{:?}", ran.causes);

    // One that knows no ALPN at all.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).expect("a file");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let old = FakeTarget::start_tls(Dial::good(Timing::AtOnce), made.cert.der().clone(), key);
    let ran = at(old.address, trusting(&pem)).run();
    assert_eq!((ran.counts.failed, ran.cause("http/2 not agreed")), (25, 25), "{:?}", ran.causes);
    assert_eq!(old.seen().requests, 0);
}

/// What is done to a request, and what it must end as: an outcome, with a cause where it is not `ok`.
pub type Case = (Script, Outcome, Option<&'static str>);

/// Checks the cases side by side: nearly all of their time is waiting. One request at a time on each connection, so that none ends for
/// what was done to another.
#[track_caller]
pub fn check(drive: fn(String) -> Drive, cases: Vec<(&'static str, Case)>) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let checks: Vec<_> = cases.into_iter().map(|(what, case)| scope.spawn(move || mismatch(drive, what, case))).collect();
        checks.into_iter().filter_map(|check| check.join().expect("the run ends")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Why the requests of a case did not all end as they must.
fn mismatch(drive: fn(String) -> Drive, what: &str, (script, outcome, cause): Case) -> Option<String> {
    let target = FakeHttp2::start(script);
    let ran = Drive { timeout: Duration::from_millis(800), connections: 32, streams: 1, ..drive(target.url()) }.run();
    // On a busy machine an answer may take longer than the timeout; nothing else may come in between.
    let late = if outcome == Outcome::TimedOut { 0 } else { ran.counts.timed_out };
    let as_expected = ran.counts.intended == 25
        && late <= 5
        && ran.counts.of(outcome) + late == 25
        && cause.is_none_or(|cause| ran.cause(cause) + late == 25);
    (!as_expected).then(|| format!("{what}: {:?}, {:?}, {:?}", ran.counts, ran.causes, target.seen()))
}

fn ok(answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Case {
    (Script::says(answer, After::Keep), Outcome::Ok, None)
}

fn fails(answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static, after: After, cause: &'static str) -> Case {
    (Script::says(answer, after), Outcome::Failed, Some(cause))
}

#[test]
fn good_answers_are_ok_however_they_are_framed() {
    check(
        drive,
        vec![
            ("no body", ok(|id| answer(id, OK, b""))),
            ("a body", ok(|id| answer(id, OK, b"hello"))),
            (
                "an interim head first",
                ok(|id| [frame(HEADERS, END_HEADERS, id, b"\x08\x03103"), answer(id, OK, b"hello")].concat()),
            ),
            (
                "padding",
                ok(|id| [frame(HEADERS, END_HEADERS, id, OK), frame(DATA, END_STREAM | 8, id, b"\x03hello\0\0\0")].concat()),
            ),
            (
                "trailers",
                ok(|id| {
                    [
                        frame(HEADERS, END_HEADERS, id, OK),
                        frame(DATA, 0, id, b"hello"),
                        frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x00\x0bgrpc-status\x010"),
                    ]
                    .concat()
                }),
            ),
            (
                "a head in pieces",
                ok(|id| {
                    [frame(HEADERS, END_STREAM, id, b""), frame(CONTINUATION, 0, id, b""), frame(CONTINUATION, END_HEADERS, id, OK)]
                        .concat()
                }),
            ),
            (
                "the dynamic table",
                ok(|id| {
                    let block: &[u8] = if id == 1 { b"\x88\x40\x05x-pod\x01a" } else { b"\x88\xbe" };
                    answer(id, block, b"hello")
                }),
            ),
            (
                "frames of no concern",
                ok(|id| {
                    [
                        frame(PRIORITY, 0, id, &[0; 5]),
                        frame(0xbe, 0xff, id, b"grease"),
                        frame(PING, 0, 0, b"12345678"),
                        settings(&[(0x9a9a, 1), (3, 100)]),
                        answer(id, OK, b"hello"),
                    ]
                    .concat()
                }),
            ),
            (
                "a connection that goes away in peace",
                (
                    Script::new(&[], |id, _| ([answer(id, OK, b"hello"), goaway(u32::MAX >> 1, 0)].concat(), After::Keep)),
                    Outcome::Ok,
                    None,
                ),
            ),
            (
                "a connection that is closed after each answer",
                (Script::new(&[], |id, _| (answer(id, OK, b"hello"), After::Close)), Outcome::Ok, None),
            ),
        ],
    );
}

#[test]
fn not_now_is_told_from_no() {
    let rejects = |answer: fn(u32) -> Vec<u8>, cause| (Script::says(answer, After::Keep), Outcome::Rejected, Some(cause));
    check(
        drive,
        vec![
            ("busy", rejects(|id| answer(id, BUSY, b""), "status 503")),
            ("refused", rejects(|id| rst_stream(id, 7), "stream reset: refused stream")),
            ("too much", rejects(|id| rst_stream(id, 11), "stream reset: enhance your calm")),
            ("not looked at", rejects(|id| goaway(id.saturating_sub(2), 0), "going away: no error")),
            ("broken off", fails(|id| rst_stream(id, 2), After::Keep, "stream reset: internal error")),
            (
                "broken off under a code that nobody knows",
                fails(|id| rst_stream(id, 4711), After::Keep, "stream reset: unknown code"),
            ),
            ("left for an error", fails(|_| goaway(0, 2), After::Close, "going away: internal error")),
            ("not found", fails(|id| answer(id, b"\x8d", b""), After::Keep, "status 404")),
        ],
    );
}

/// Goal: a request that waited for a stream on a connection that goes away was never sent, and is sent on another. How: the first
/// connection takes one request at a time, and leaves with the answer to its first while others wait.
#[test]
fn what_was_never_sent_on_a_connection_that_goes_away_is_sent_on_another() {
    let left = AtomicBool::new(false);
    let script = Script::new(&[(3, 1)], move |id, _| {
        if left.swap(true, Ordering::Relaxed) {
            return (answer(id, OK, b""), After::Keep);
        }
        std::thread::sleep(Duration::from_millis(200));
        ([goaway(id, 0), answer(id, OK, b"")].concat(), After::Keep)
    });
    let target = FakeHttp2::start(script);
    let ran = Drive { connections: 1, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().requests, target.seen().connections), (25, 25, 2), "{:?}", ran.causes);
}

#[test]
fn each_bad_server_is_named_for_what_it_did() {
    let greets = |bytes: &[u8], after: After, cause| (Script::greets(bytes, after), Outcome::Failed, Some(cause));
    let broken = |code| match code {
        1 => "http/2 rule broken: protocol error",
        3 => "http/2 rule broken: flow control error",
        6 => "http/2 rule broken: frame size error",
        _ => "http/2 rule broken: compression error",
    };
    check(
        drive,
        vec![
            ("speaks HTTP/1.1", greets(b"HTTP/1.1 400 Bad Request\r\n\r\n", After::Close, "not http/2")),
            ("greets with something else", greets(&frame(PING, 0, 0, b"12345678"), After::Keep, "not http/2")),
            ("hangs up at once", greets(b"", After::Close, "closed before an answer")),
            ("resets at once", greets(b"", After::Reset, "reset")),
            ("leaves at once", greets(&goaway(0, 12), After::Close, "going away: inadequate security")),
            ("hangs up on a request", fails(|_| Vec::new(), After::Close, "closed before an answer")),
            ("hangs up in a body", fails(|id| frame(HEADERS, END_HEADERS, id, OK), After::Close, "closed mid-body")),
            ("resets the connection", fails(|_| Vec::new(), After::Reset, "reset")),
            ("sends a body without a head", fails(|id| frame(DATA, END_STREAM, id, b"x"), After::Keep, "garbage")),
            ("sends a head without a status", fails(|id| answer(id, b"\x00\x01a\x01b", b""), After::Keep, "garbage")),
            ("promises more than it sends", fails(|id| answer(id, b"\x88\x0f\x0d\x019", b"hello"), After::Keep, "garbage")),
            ("cannot compress", fails(|id| answer(id, &[0xbe], b""), After::Keep, broken(9))),
            ("answers on a stream of nobody's", fails(|id| answer(id + 1000, OK, b""), After::Keep, broken(1))),
            ("pushes", fails(|id| frame(PUSH_PROMISE, END_HEADERS, id, &[0, 0, 0, 2, 0x82]), After::Keep, broken(1))),
            (
                "interrupts a head",
                fails(|id| [frame(HEADERS, 0, id, OK), frame(PING, 0, 0, b"12345678")].concat(), After::Keep, broken(1)),
            ),
            ("sends frames that are too long", fails(|_| frame(PING, 0, 0, &[0; 20_000]), After::Keep, broken(6))),
            (
                "opens windows beyond the last",
                fails(|_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), After::Keep, broken(3)),
            ),
        ],
    );
}

/// Everything that a server can repeat without end ends the connection, not the load: the cause says that it was a flood.
#[test]
fn floods_end() {
    let flood = |bytes: Vec<u8>| fails(|_| Vec::new(), After::Repeat(bytes), "http/2 rule broken: enhance your calm");
    let many = |frame: Vec<u8>| frame.repeat(100);
    check(
        drive,
        vec![
            ("pings", flood(many(frame(PING, 0, 0, b"12345678")))),
            ("settings", flood(many(settings(&[])))),
            ("goodbyes", flood(many(goaway(u32::MAX >> 1, 0)))),
            ("frames of unknown kinds", flood(many(frame(0xbe, 0, 0, b"")))),
            (
                "interim heads",
                fails(
                    |id| frame(HEADERS, END_HEADERS, id, b"\x08\x03100").repeat(20_000),
                    After::Keep,
                    "http/2 rule broken: enhance your calm",
                ),
            ),
            (
                "empty data",
                fails(
                    |id| [frame(HEADERS, END_HEADERS, id, OK), frame(DATA, 0, id, b"").repeat(20_000)].concat(),
                    After::Keep,
                    "http/2 rule broken: enhance your calm",
                ),
            ),
        ],
    );
    // The one whose head it is has a head that is too large; whoever shares its connection has met somebody who floods.
    let target = FakeHttp2::start(Script::says(
        |id| [frame(HEADERS, 0, id, OK), frame(CONTINUATION, 0, id, b"").repeat(1_000)].concat(),
        After::Keep,
    ));
    let ran = drive(target.url()).run();
    let (own, others) = (ran.cause("head too large"), ran.cause("http/2 rule broken: enhance your calm"));
    assert!(own >= 1 && own + others + ran.counts.timed_out == 25, "{:?}", ran.causes);
}

/// Goal: a request that is given up costs its stream, not its connection. How: nobody is ever answered; all time out, over as many
/// connections as the load may have, and the server is told of each.
#[test]
fn who_does_not_answer_in_time_times_out_and_keeps_the_connection() {
    let target = FakeHttp2::start(Script::says(|_| Vec::new(), After::Keep));
    let ran = Drive { rate: 100.0, timeout: Duration::from_millis(300), ..drive(target.url()) }.run();
    assert_eq!((ran.counts.timed_out, ran.cause("no answer in time")), (50, 50), "{:?}", ran.causes);
    let seen = target.seen();
    assert_eq!((seen.connections, seen.requests), (2, 50), "{seen:?}");
    assert!(seen.resets.iter().all(|code| *code == 8) && seen.resets.len() >= 40, "{seen:?}");
    assert!(ran.histogram(Measure::Response).min() >= 299_000, "{} us", ran.histogram(Measure::Response).min());

    check(
        drive,
        vec![(
            "a body that does not end",
            (
                Script::says(|id| frame(HEADERS, END_HEADERS, id, OK), After::Keep),
                Outcome::TimedOut,
                Some("answer unfinished in time"),
            ),
        )],
    );
}

/// A server that neither reads nor says anything is waited for no longer than the timeout, whenever it stops.
#[test]
fn a_server_that_freezes_is_not_waited_for() {
    check(
        drive,
        vec![
            ("before its settings", (Script::greets(b"", After::Freeze), Outcome::TimedOut, Some("no connection in time"))),
            ("after a request", (Script::says(|_| Vec::new(), After::Freeze), Outcome::TimedOut, None)),
            (
                "with no streams for anybody",
                (Script::new(&[(3, 0)], |_, _| (Vec::new(), After::Keep)), Outcome::TimedOut, Some("no connection in time")),
            ),
        ],
    );
    // The same with bodies that no socket's buffers hold.
    let target = FakeHttp2::start(Script::greets(
        &[settings(&[(4, u32::MAX >> 1)]), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])].concat(),
        After::Freeze,
    ));
    let body: &'static str = "x".repeat(4 << 20).leak();
    let ran = Drive { method: "POST", body, timeout: Duration::from_millis(500), ..drive(target.url()) }.run();
    assert_eq!(ran.counts.timed_out, 25, "{:?}", ran.causes);
}

/// Goal: a connection that never opens is given up for another, however many requests want it one after the other. How: the first of a
/// server's connections is never greeted, and there is always somebody who waits for one.
#[test]
fn a_connection_that_never_opens_is_replaced() {
    let script = Script::says(|id| answer(id, OK, b""), After::Keep);
    let greeting = |nth| if nth == 0 { (Vec::new(), After::Freeze) } else { (settings(&[]), After::Keep) };
    let target = FakeHttp2::start(Script { greeting: Box::new(greeting), ..script });
    let ran =
        Drive { seconds: 2.0, connections: 1, streams: 100, timeout: Duration::from_millis(500), ..drive(target.url()) }.run();
    assert!(ran.counts.ok >= 25 && ran.counts.ok + ran.counts.timed_out == 100, "{:?}", ran.causes);
    assert_eq!(ran.cause("no connection in time"), ran.counts.timed_out, "{:?}", ran.causes);
}

/// Goal: a server that writes its answer before it reads on is heard while large bodies wait for it. How: bodies and answers that no
/// socket's buffers hold.
#[test]
fn a_server_that_writes_before_it_reads_is_read_from() {
    let reply = |id| {
        let part = frame(DATA, 0, id, &[b'x'; 16_384]);
        [frame(HEADERS, END_HEADERS, id, OK), part.repeat(1_000), frame(DATA, END_STREAM, id, b"")].concat()
    };
    let mut script = Script::says(reply, After::Keep);
    let greeting = [settings(&[(4, u32::MAX >> 1)]), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])].concat();
    script.greeting = Box::new(move |_| (greeting.clone(), After::Keep));
    let target = FakeHttp2::start(script);
    let body: &'static str = "x".repeat(8 << 20).leak();
    let ran = Drive { method: "POST", body, rate: 100.0, seconds: 0.1, connections: 1, ..drive(target.url()) }.run();
    assert_eq!(ran.counts.ok, 10, "{:?}", ran.causes);
}

#[test]
fn a_server_of_http1_is_named_as_what_it_is_not() {
    let target = FakeTarget::start(Dial::says("HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n", Then::Close));
    let ran = drive(target.url()).run();
    assert_eq!((ran.counts.failed, ran.cause("not http/2")), (25, 25), "{:?}", ran.causes);
    let ran = drive(format!("http://{}/", FakeTarget::nobody())).run();
    assert_eq!((ran.counts.failed, ran.cause("connection refused")), (25, 25), "{:?}", ran.causes);
}

/// Goal: users share connections, each with a stream of its own, and wait for nobody but the server. How: 64 of them over four
/// connections, each of which carries 16; the server takes 20 ms, so that all are under way at once.
#[test]
fn users_share_connections() {
    let target = Good::start(Manners { takes: Duration::from_millis(20), ..QUICK }, None);
    let users = Some((64, Rhythm::default()));
    let ran = Drive { users, connections: 4, streams: 16, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().0), (ran.counts.intended, 4), "{:?}", ran.causes);
    assert!(ran.counts.ok >= 64 && ran.counts.ok == target.seen().1, "{:?}", ran.counts);
    assert_eq!(ran.lost_to("connections of load users", 4), 0, "nobody waited for a connection");
}

/// Goal: a connection that has grown old takes its leave without a request noticing. How: requests that take longer than what is left of
/// its life, at ages of a tenth of a second.
#[test]
fn old_connections_are_replaced_without_a_failure() {
    let target = Good::start(Manners { takes: Duration::from_millis(60), ..QUICK }, None);
    let drive = Drive { rate: 100.0, seconds: 2.0, rotation: aged(100), ..drive(target.url()) };
    let ran = drive.run();
    assert_eq!((ran.counts.ok, target.seen().1), (200, 200), "{:?}", ran.causes);
    // Two at a time live 75 to 125 ms and as long as their last request: at least 2 x 2 s / 0.2 s = 20, less what a busy machine swallows.
    let connections = target.seen().0;
    assert!((10..=120).contains(&connections), "{connections} connections");
}

/// Goal: users who think for longer than connections live find a connection each time. How: they come one after the other, so that each
/// round of requests meets the old connections of the last with others still resting on them.
#[test]
fn old_connections_on_which_users_rest_keep_nobody_waiting() {
    let target = Good::start(QUICK, None);
    let thinking = Rhythm { think: Think::Constant(Span::from_secs(2)), every: None };
    let drive = Drive {
        users: Some((24, thinking)),
        seconds: 3.0,
        streams: 32,
        timeout: Duration::from_secs(1),
        rotation: aged(60),
        ..drive(target.url())
    };
    let ran = drive.run();
    assert_eq!((ran.counts.ok, target.seen().1), (ran.counts.intended, ran.counts.intended), "{:?}", ran.causes);
}

#[test]
fn whoever_leaves_says_goodbye() {
    let target = FakeHttp2::start(Script::says(|id| answer(id, OK, b""), After::Keep));
    let ran = Drive { rotation: aged(50), ..drive(target.url()) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    let seen = target.seen();
    assert!(seen.connections >= 3 && seen.goodbyes.len() >= 2 && seen.goodbyes.iter().all(|code| *code == 0), "{seen:?}");
    assert!(seen.resets.is_empty(), "nothing was cut off: {seen:?}");
}

#[test]
fn a_stopped_run_accounts_for_all_that_was_due() {
    let target = FakeHttp2::start(Script::says(|_| Vec::new(), After::Keep));
    let drive = Drive { rate: 200.0, seconds: 30.0, streams: 10, ..drive(target.url()) };
    let folder = tempfile::tempdir().expect("a folder");
    let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |running| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while target.seen().requests < 20 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        running.stop();
    });
    let ran = Ran::read(folder.path(), summary);
    assert_eq!((ran.cause("stopped in flight"), ran.counts.timed_out), (20, 20), "{:?}", ran.causes);
    assert_eq!(ran.counts.unsent, ran.counts.intended - 20);
    assert_eq!(target.seen().streams_most, 10);
}

#[test]
fn one_command_is_enough() {
    let target = Good::start(QUICK, None);
    let squall = Squall::new();
    let url = target.url();
    let load = ["load", &url, "--rate", "200/s", "--for", "2s", "--http2"];
    let said = squall.run(&[&load[..], &["--streams", "8", "--connections", "2"]].concat());
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    assert_eq!(target.seen().1, 400);
    assert!(target.seen().0 <= 4, "{} connections", target.seen().0);
    let said = squall.run(&[&load[..6], &["--streams", "8"]].concat());
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("--http2"), "{}", said.stderr);
}
