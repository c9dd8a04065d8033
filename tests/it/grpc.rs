//! gRPC against a server that speaks it well (hyper's HTTP/2, with messages by the shop's own descriptors) and one that speaks it as a
//! script says. Method: a real run over loopback, its recording read back, and outcomes and causes compared with what the server is known
//! to do. A hang is a test that does not end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use prost_reflect::{DescriptorPool, DynamicMessage};
use squall::grpc::{Call, Descriptors, Json, Types};
use squall::plan::{Plan, Protocol, Talk};
use squall::recording::{History, Outcome};
use tokio_rustls::TlsAcceptor;

use crate::command::Squall;
use crate::fake_http2::{
    After, BUSY, DATA, END_HEADERS, END_STREAM, FakeHttp2, HEADERS, OK, Script, answer, frame, goaway, rst_stream,
};
use crate::http2::{certificate, check};
use crate::listening::Listening;
use crate::load::Drive;

const SHOP: &[u8] = include_bytes!("../../plans/protos/shop.protoset");

fn call(method: &str, message: serde_json::Value) -> Talk {
    let call =
        Call { method: method.parse().expect("a method"), types: Types::Reflection, message: Json::from(message), known: None };
    let known = call.resolve(&Descriptors::read(SHOP).expect("the shop's types")).unwrap_or_else(|wrongs| panic!("{wrongs:?}"));
    Talk::Grpc(Call { known: Some(known), ..call })
}

/// 25 calls in half a second over a few connections.
fn drive(url: impl Into<String>) -> Drive {
    let talk = call("shop.Checkout/Pay", serde_json::json!({"user": "ann"}));
    Drive { protocol: Protocol::Grpc, talk, method: "POST", connections: 2, streams: 16, ..Drive::at(url) }
}

/// What a good server has seen.
#[derive(Clone, Default)]
struct Seen {
    calls: u64,
    /// What of each call was not as it must be.
    wrong: Vec<String>,
    /// In microseconds, as each call said it.
    timeouts: Vec<u64>,
    /// What it was asked by reflection.
    asked: Vec<String>,
}

/// The shop on a thread of its own.
struct Shop {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    server: Listening,
}

#[derive(Clone, Copy)]
struct Manners {
    takes: Duration,
    streams: u32,
    reflection: Reflection,
    /// What x-key has to say in every call and every question.
    key: Option<&'static str>,
}

/// What it tells of its types.
#[derive(Clone, Copy, PartialEq)]
enum Reflection {
    None,
    /// All files at once, in the version before the first.
    Alpha,
    /// Only the file that was asked for.
    FileByFile,
    /// Files of a megabyte, each of which imports another.
    Endless,
    /// Millions of types without a name.
    Dense,
    /// It has none of what it is asked for, and a great many names that a terminal would obey.
    Loud,
}

const QUICK: Manners = Manners { takes: Duration::ZERO, streams: 200, reflection: Reflection::None, key: None };

impl Shop {
    fn open(manners: Manners) -> Shop {
        Shop::over(None, manners)
    }

    fn over(tls: Option<TlsAcceptor>, manners: Manners) -> Shop {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let counting = seen.clone();
        let server = Listening::start(move |stream, _| {
            let (seen, tls) = (counting.clone(), tls.clone());
            async move {
                let service = hyper::service::service_fn(move |request| serve(request, manners, seen.clone()));
                let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http2.timer(TokioTimer::new()).max_concurrent_streams(manners.streams);
                match tls {
                    None => http2.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => http2.serve_connection(TokioIo::new(stream), service).await,
                        Err(_) => Ok(()),
                    },
                }
            }
        });
        Shop { address: server.address, seen, server }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic while counting").clone()
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn serve(request: Request<Incoming>, manners: Manners, seen: Arc<Mutex<Seen>>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if manners.key.is_some_and(|key| headers.get("x-key").is_none_or(|said| said != key)) {
        return Ok(refusal(16));
    }
    if path.starts_with("/grpc.reflection.") {
        return Ok(reflect(&path, &body, manners, &seen));
    }
    {
        let mut seen = seen.lock().expect("no panic while counting");
        seen.calls += 1;
        let wrong = unlike_a_call(&path, &headers, &body);
        seen.wrong.extend(wrong);
        seen.timeouts.extend(timeout(&headers));
    }
    if manners.takes > Duration::ZERO {
        tokio::time::sleep(manners.takes).await;
    }
    Ok(match path.as_str() {
        "/shop.Checkout/Pay" => reply(&[b"\x0a\x03r-1"], 0),
        "/shop.Checkout/Track" => {
            let steps =
                message("shop.Tracking", &body[5..]).get_field_by_name("steps").and_then(|steps| steps.as_u32()).unwrap_or(0);
            reply(&vec![&b"\x0a\x04here"[..]; steps as usize], 0)
        }
        _ => refusal(12),
    })
}

/// An answer that is all in its head.
fn refusal(status: u32) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
    response.body(Full::new(Bytes::new()).boxed()).expect("a response")
}

fn reply(messages: &[&[u8]], status: u32) -> Response<Body> {
    let body: Vec<u8> = messages.iter().flat_map(|message| prefixed(message)).collect();
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(status))]);
    let body = Full::new(Bytes::from(body)).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    Response::builder().header("content-type", "application/grpc").header("x-pod", "shop-1").body(body).expect("a response")
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn message(kind: &str, bytes: &[u8]) -> DynamicMessage {
    let kind = DescriptorPool::decode(SHOP).expect("the shop's types").get_message_by_name(kind).expect("the shop has it");
    DynamicMessage::decode(kind, Bytes::copy_from_slice(bytes)).expect("a message")
}

/// What gRPC asks of a request that this one does not have; and an order is of the user that its metadata names.
fn unlike_a_call(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let length = body.first_chunk::<5>().map(|[_, length @ ..]| u32::from_be_bytes(*length) as usize + 5);
    if (said("te"), said("content-type")) != ("trailers", "application/grpc")
        || body.first() != Some(&0)
        || length != Some(body.len())
    {
        return Some(format!("{headers:?} {body:?}"));
    }
    if path == "/shop.Checkout/Pay" && said("x-user") != "none" {
        let order = message("shop.Order", &body[5..]);
        let text =
            |name: &str| order.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        if text("user") != said("x-user") || text("card") != format!("card of {}", said("x-user")) {
            return Some(format!("{order:?} of {}", said("x-user")));
        }
    }
    None
}

fn timeout(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at(text.len() - 1);
    assert!(digits.len() <= 8, "{text}");
    let unit = match unit {
        "u" => 1,
        "m" => 1_000,
        _ => panic!("{text}"),
    };
    Some(digits.parse::<u64>().expect("digits") * unit)
}

fn reflect(path: &str, body: &[u8], manners: Manners, seen: &Mutex<Seen>) -> Response<Body> {
    let alpha = path == "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    assert!(alpha || path == "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "{path}");
    // A question is one field of text.
    let (kind, asked) = (body[5] >> 3, String::from_utf8(body[7..].to_vec()).expect("text"));
    seen.lock().expect("no panic while counting").asked.push(format!("{kind} {asked}"));
    if manners.reflection == Reflection::None || (manners.reflection == Reflection::Alpha) != alpha {
        return refusal(12);
    }
    let all = FileDescriptorSet::decode(SHOP).expect("a set").file;
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        [&out, bytes].concat()
    };
    let files = |files: &mut dyn Iterator<Item = &FileDescriptorProto>| {
        let files: Vec<u8> = files.flat_map(|file| field(1, &file.encode_to_vec())).collect();
        field(4, &files)
    };
    let told = match (kind, asked.as_str()) {
        (7, "*") if manners.reflection == Reflection::Loud => {
            let services: Vec<u8> = (0..50_000).flat_map(|n| field(1, &field(1, format!("\x1b[2Ja.S{n}").as_bytes()))).collect();
            field(6, &services)
        }
        (4, _) if manners.reflection == Reflection::Dense => field(4, &field(1, &[0x22, 0].repeat(2_000_000))),
        (3 | 4, _) if manners.reflection == Reflection::Endless => {
            let imported = format!("{}{}", asked.trim_start_matches(char::is_alphabetic), "x");
            let package = Some("p".repeat(1 << 20));
            let file = FileDescriptorProto { name: Some(asked), package, dependency: vec![imported], ..Default::default() };
            files(&mut std::iter::once(&file))
        }
        (4, "shop.Checkout") if alpha => files(&mut all.iter()),
        (4, "shop.Checkout") => files(&mut all.iter().filter(|file| file.name() == "shop.proto")),
        (3, name) => files(&mut all.iter().filter(|file| file.name() == name)),
        (7, "*") => field(6, &[field(1, &field(1, b"shop.Checkout")), field(1, &field(1, b"shop.Other"))].concat()),
        _ => field(7, b"\x08\x05\x12\x09not found"),
    };
    reply(&[&told], 0)
}

#[test]
fn calls_are_answered_and_are_what_grpc_asks_for() {
    let shop = Shop::open(QUICK);
    let ran = drive(shop.url()).run();
    let seen = shop.seen();
    assert_eq!((ran.counts.ok, seen.calls, ran.sum(|tally| tally.messages)), (25, 25, 25), "{:?}", ran.causes);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    let served: u64 = ran.history.windows.values().filter_map(|tally| tally.served_by.get("shop-1")).sum();
    assert_eq!(served, 25, "who answered is counted");
}

#[test]
fn the_messages_of_streams_are_counted() {
    let shop = Shop::open(QUICK);
    let talk = call("shop.Checkout/Track", serde_json::json!({"number": "r-1", "steps": 40}));
    let ran = Drive { talk, ..drive(shop.url()) }.run();
    assert_eq!((ran.counts.ok, ran.sum(|tally| tally.messages)), (25, 25 * 40), "{:?}", ran.causes);
}

/// Goal: the server knows how long it has, from the moment when a call was due. How: it takes one call of 50 ms at a time, so that calls
/// wait for the one before them, and say less the longer they have waited.
#[test]
fn a_call_says_how_long_an_answer_is_waited_for() {
    let shop = Shop::open(Manners { takes: Duration::from_millis(50), streams: 1, ..QUICK });
    let ran = Drive { connections: 1, timeout: Duration::from_secs(20), ..drive(shop.url()) }.run();
    let timeouts = shop.seen().timeouts;
    assert_eq!((ran.counts.ok, timeouts.len()), (25, 25), "{:?}", ran.causes);
    assert!(timeouts.iter().all(|timeout| *timeout <= 20_000_000), "{timeouts:?}");
    // 25 come in half a second and take 1.25 s: the last has waited for most of the difference.
    assert!(timeouts.is_sorted_by(|before, after| before >= after), "{timeouts:?}");
    assert!(timeouts[24] <= timeouts[0] - 500_000, "{timeouts:?}");

    let ran = Drive { timeout: Duration::from_secs(200), ..drive(shop.url()) }.run();
    let timeouts = shop.seen().timeouts.split_off(25);
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert!(timeouts.iter().all(|timeout| (180_000_000..=200_000_000).contains(timeout)), "{timeouts:?}");
}

/// Goal: a plan's calls are what it says, each with its own values. How: the server compares the user of the message, and a text made of
/// it, with the metadata.
#[test]
fn a_plan_calls_with_messages_that_differ() {
    for volume in ["rate: 200/s", "users: 20"] {
        let (squall, shop) = (Squall::new(), Shop::open(Manners { streams: 8, ..QUICK }));
        std::fs::write(squall.path("shop.protoset"), SHOP).expect("a file");
        squall.file(
            "plan.yaml",
            &format!(
                "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n- name: l\n  {volume}\n  \
                 protocol: grpc\n  draw: {{user: {{uniform: {{of: 1000000}}}}}}\n  request:\n    grpc: shop.Checkout/Pay\n    \
                 descriptors: shop.protoset\n    message: {{user: \"{{{{user}}}}\", cents: 1250, card: \"card of {{{{user}}}}\"}}\n    \
                 metadata: {{x-user: \"{{{{user}}}}\"}}\n    timeout: 20s\n\
                 assert: [{{name: answered, slo: {{available: 90%}}}}]\n",
                shop.url()
            ),
        );
        squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]).found_nothing_wrong();
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let (counts, seen) = (history.counts(None, from, to), shop.seen());
        assert!(counts.ok >= 20 && counts.ok == counts.intended && seen.calls == counts.ok, "{volume}: {counts:?}");
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    }
}

/// Goal: a plan without a file learns the types from the server, whichever version it speaks and however it tells them; and what it cannot
/// learn, or cannot call then, is told before anything is sent.
#[test]
fn types_are_learnt_from_the_server() {
    let plan = |squall: &Squall, shop: &Shop, rest: &str| {
        squall.file(
            "plan.yaml",
            &format!(
                "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n- name: l\n  rate: 50/s\n  \
                 protocol: grpc\n  request: {{grpc: {rest}, reflection: true}}\nassert: [{{name: answered, slo: {{available: 80%}}}}]\n",
                shop.url()
            ),
        );
    };
    for reflection in [Reflection::Alpha, Reflection::FileByFile] {
        let (squall, shop) = (Squall::new(), Shop::open(Manners { reflection, ..QUICK }));
        plan(&squall, &shop, "shop.Checkout/Pay, message: {user: ann, due: \"2026-01-31T09:30:00Z\"}");
        squall.run(&["run", "plan.yaml", "--out", "run"]).found_nothing_wrong();
        let seen = shop.seen();
        assert!(seen.calls == 50 && seen.wrong.is_empty(), "{:?} {:?}", seen.wrong, seen.asked);
        let first = ["4 shop.Checkout", "4 shop.Checkout"];
        assert_eq!(seen.asked.len(), if reflection == Reflection::Alpha { 2 } else { 4 }, "{:?}", seen.asked);
        assert!(reflection == Reflection::FileByFile || seen.asked == first, "{:?}", seen.asked);
    }
    for (reflection, rest, code, says) in [
        (Reflection::None, "shop.Checkout/Pay", 4, "the server does not offer reflection; name a file with the types"),
        (Reflection::Alpha, "shop.Chekout/Pay", 4, "the server has no service `shop.Chekout`; there are shop.Checkout, shop.Other"),
        (Reflection::Endless, "shop.Checkout/Pay", 4, "the server tells more than 16 MiB of its types; name a file with the types"),
        (Reflection::Dense, "shop.Checkout/Pay", 4, "the server tells of more than 1000000 things; name a file with the types"),
        (Reflection::Loud, "shop.Chekout/Pay", 4, "a.S9, and 49990 more"),
        (Reflection::Alpha, "shop.Checkout/Buy", 2, "has no method `Buy` (there are shop.Checkout/Pay"),
        (Reflection::Alpha, "shop.Checkout/Collect", 2, "takes a stream of messages"),
        (
            Reflection::FileByFile,
            "shop.Checkout/Pay, message: {items: [{cuont: 1}]}",
            2,
            "at `items[0]`: shop.Item has no field `cuont`",
        ),
    ] {
        let (squall, shop) = (Squall::new(), Shop::open(Manners { reflection, ..QUICK }));
        plan(&squall, &shop, rest);
        squall.run(&["run", "plan.yaml", "--out", "run"]).expect(code).saying(says);
        assert_eq!(shop.seen().calls, 0);
    }
}

/// Goal: calls and the questions before them go through TLS, as whoever the metadata says. How: a server that wants a key of both, and whose
/// certificate is its own authority's.
#[test]
fn over_tls_types_are_learnt_as_the_one_who_calls() {
    let (folder, _, tls) = certificate();
    let manners = Manners { reflection: Reflection::FileByFile, key: Some("hunter2"), ..QUICK };
    let (squall, shop) = (Squall::new(), Shop::over(Some(tls), manners));
    let url = format!("grpcs://localhost:{}/shop.Checkout/Pay", shop.address.port());
    let ca = folder.path().join("ca.pem");
    let load =
        ["load", &url, "--ca", ca.to_str().expect("text"), "--rate", "400/s", "--for", "1s", "--message", "{\"user\": \"ann\"}"];
    squall
        .run(&[&load[..], &["-H", "x-key: hunter2", "--out", "run"]].concat())
        .found_nothing_wrong()
        .saying("answers: 400 messages");
    let seen = shop.seen();
    assert!(seen.calls == 400 && seen.wrong.is_empty() && !seen.asked.is_empty(), "{:?}", seen.wrong);
    let summary = std::fs::read_to_string(squall.path("run/run.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["totals"][0]["messages"], 400);
    assert!(!summary.to_string().contains("hunter2"));

    let said = squall.run(&[&load[..], &["-H", "x-key: other"]].concat());
    said.expect(4).saying("the server answers a question of reflection with UNAUTHENTICATED; name a file with the types");
    squall
        .run(&load[..].iter().map(|word| if *word == url { "grpcs://localhost:1/a.B/C" } else { word }).collect::<Vec<_>>())
        .expect(4);
}

/// Goal: what is shipped and stands in the README runs. How: its plan, and its line for `squall load`, against the service that they call.
#[test]
fn the_shipped_calls_are_answered() {
    let (squall, shop) = (Squall::new(), Shop::open(Manners { reflection: Reflection::Alpha, ..QUICK }));
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/calls-are-answered.yaml");
    squall.run(&["run", plan, "--set", &format!("url={}", shop.url()), "--out", "run"]).found_nothing_wrong().saying("messages");
    squall.run(&["judge", "run"]).found_nothing_wrong();
    assert!(shop.seen().calls > 900 && shop.seen().wrong.is_empty(), "{:?}", shop.seen().wrong);

    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let line = readme.lines().find(|line| line.starts_with("squall load grpc://")).expect("a line for it");
    let line = line.replace("127.0.0.1:50051", &shop.address.to_string());
    // Words, of which one is in quotes.
    let (before, rest) = line.split_once('\'').expect("a message");
    let (message, after) = rest.split_once('\'').expect("its end");
    let words: Vec<&str> = before.split_whitespace().skip(1).chain([message]).chain(after.split_whitespace()).collect();
    let before = shop.seen().calls;
    squall.run(&words).found_nothing_wrong();
    assert!(shop.seen().calls > before && shop.seen().wrong.is_empty(), "{:?}", shop.seen().wrong);
}

/// `name: value` as a header block by itself, to be put after others.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// The head of an answer of gRPC.
fn head() -> Vec<u8> {
    [OK, &field("content-type", "application/grpc")].concat()
}

/// A whole answer: messages, as they are, and trailers.
fn said(id: u32, body: &[u8], status: &str) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, id, &head()), frame(DATA, 0, id, body), trailers(id, status)].concat()
}

fn trailers(id: u32, status: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, id, &field("grpc-status", status))
}

fn alone(id: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = fields.iter().fold(head(), |block, (name, value)| [block, field(name, value)].concat());
    frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
}

const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

/// Goal: of an answer that is none to a call, as of a proxy that has nobody to hand it to, it is known all the same when it says to come
/// again.
#[test]
fn what_a_proxy_says_of_later_is_heard() {
    let target = FakeHttp2::start(Script::says(
        |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &[BUSY, &field("retry-after", "1")].concat()),
        After::Keep,
    ));
    let ran = drive(target.url()).run();
    assert_eq!((ran.counts.rejected, ran.cause("http status 503")), (25, 25), "{:?}", ran.causes);
    assert_eq!(ran.sum(|tally| tally.retry_after), 25);
}

#[test]
fn a_call_counts_as_its_status_says() {
    let ends = |answer: fn(u32) -> Vec<u8>, outcome, cause| (Script::says(answer, After::Keep), outcome, cause);
    check(
        drive,
        vec![
            ("well", ends(|id| said(id, EMPTY, "0"), Outcome::Ok, None)),
            (
                "well, in pieces",
                ends(
                    |id| {
                        let body = prefixed(b"hello");
                        let pieces = body.chunks(2).flat_map(|piece| frame(DATA, 0, id, piece));
                        frame(HEADERS, END_HEADERS, id, &head()).into_iter().chain(pieces).chain(trailers(id, "0")).collect()
                    },
                    Outcome::Ok,
                    None,
                ),
            ),
            ("not found", ends(|id| said(id, b"", "5"), Outcome::Failed, Some("grpc NOT_FOUND"))),
            ("not found, after a message", ends(|id| said(id, EMPTY, "5"), Outcome::Failed, Some("grpc NOT_FOUND"))),
            ("too much", ends(|id| alone(id, &[("grpc-status", "8")]), Outcome::Rejected, Some("grpc RESOURCE_EXHAUSTED"))),
            ("not now", ends(|id| alone(id, &[("grpc-status", "14")]), Outcome::Rejected, Some("grpc UNAVAILABLE"))),
            ("not in time", ends(|id| alone(id, &[("grpc-status", "4")]), Outcome::TimedOut, Some("grpc DEADLINE_EXCEEDED"))),
            (
                "under a code that nobody knows",
                ends(|id| alone(id, &[("grpc-status", "99")]), Outcome::Failed, Some("grpc UNKNOWN")),
            ),
            ("under no code", ends(|id| alone(id, &[("grpc-status", "no")]), Outcome::Failed, Some("grpc UNKNOWN"))),
            ("refused by HTTP/2", ends(|id| rst_stream(id, 7), Outcome::Rejected, Some("stream reset: refused stream"))),
            ("by a proxy that is busy", ends(|id| answer(id, BUSY, b"busy"), Outcome::Rejected, Some("http status 503"))),
            ("by a proxy that finds nothing", ends(|id| answer(id, b"\x8d", b"<html>"), Outcome::Failed, Some("http status 404"))),
        ],
    );
}

#[test]
fn each_bad_server_is_named_for_what_it_did() {
    let fails = |answer: fn(u32) -> Vec<u8>, after, cause| (Script::says(answer, after), Outcome::Failed, Some(cause));
    let keeps = |answer: fn(u32) -> Vec<u8>, cause| fails(answer, After::Keep, cause);
    check(
        drive,
        vec![
            ("answers no messages", keeps(|id| answer(id, OK, b"<html>"), "content is not grpc")),
            (
                "answers in JSON",
                keeps(|id| answer(id, &[OK, &field("content-type", "application/json")].concat(), b"{}"), "content is not grpc"),
            ),
            ("has no trailers", keeps(|id| answer(id, &head(), EMPTY), "no grpc-status")),
            ("ends with its head", keeps(|id| alone(id, &[]), "no grpc-status")),
            (
                "has trailers that say nothing",
                keeps(
                    |id| {
                        [frame(HEADERS, END_HEADERS, id, &head()), frame(HEADERS, END_HEADERS | END_STREAM, id, &field("x", "y"))]
                            .concat()
                    },
                    "no grpc-status",
                ),
            ),
            ("says nothing, and well", keeps(|id| said(id, b"", "0"), "no message")),
            ("says two things", keeps(|id| said(id, &EMPTY.repeat(2), "0"), "more than one message")),
            ("sends text", keeps(|id| said(id, b"hello, world", "0"), "malformed message")),
            ("compresses what nobody asked for", keeps(|id| said(id, &[1, 0, 0, 0, 0], "0"), "compressed message, unasked")),
            (
                "compresses, and says how",
                keeps(
                    |id| {
                        let head = [head(), field("grpc-encoding", "gzip")].concat();
                        [frame(HEADERS, END_HEADERS, id, &head), frame(DATA, 0, id, &[1, 0, 0, 0, 1, 9]), trailers(id, "0")]
                            .concat()
                    },
                    "compressed message, unasked",
                ),
            ),
            (
                "says how it ended before it has",
                keeps(
                    |id| {
                        [
                            frame(HEADERS, END_HEADERS, id, &[head(), field("grpc-status", "0")].concat()),
                            frame(DATA, END_STREAM, id, EMPTY),
                        ]
                        .concat()
                    },
                    "no grpc-status",
                ),
            ),
            ("sends a message of 4 GiB", keeps(|id| said(id, &[0, 255, 255, 255, 255, 1], "0"), "message too large")),
            ("ends in a prefix", keeps(|id| said(id, &[0, 0, 0], "0"), "message cut short")),
            ("ends in a message", keeps(|id| said(id, &[0, 0, 0, 0, 9, 1, 2], "0"), "message cut short")),
            (
                "gives up a stream",
                keeps(|id| [frame(HEADERS, END_HEADERS, id, &head()), rst_stream(id, 2)].concat(), "stream reset: internal error"),
            ),
            ("hangs up before it answers", fails(|_| Vec::new(), After::Close, "closed before an answer")),
            (
                "hangs up in a message",
                fails(
                    |id| [frame(HEADERS, END_HEADERS, id, &head()), frame(DATA, 0, id, &[0, 0, 0, 0, 9, 1])].concat(),
                    After::Close,
                    "closed mid-body",
                ),
            ),
            (
                "hangs up before its trailers",
                fails(
                    |id| [frame(HEADERS, END_HEADERS, id, &head()), frame(DATA, 0, id, EMPTY)].concat(),
                    After::Close,
                    "closed mid-body",
                ),
            ),
            ("resets the connection", fails(|_| Vec::new(), After::Reset, "reset")),
            ("leaves for an error", fails(|_| goaway(0, 2), After::Close, "going away: internal error")),
        ],
    );
    let greets = |bytes: &[u8], cause| (Script::greets(bytes, After::Close), Outcome::Failed, Some(cause));
    check(drive, vec![("speaks HTTP/1.1", greets(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not http/2"))]);
}

/// Goal: who never ends an answer ends nothing else, and a server that gives up when it was told to is no failure of its own. How: messages
/// without an end, and a server that resets each stream, or cancels the call, just when its time is up.
#[test]
fn a_call_without_an_end_times_out() {
    let hangs = |answer: fn(u32) -> Vec<u8>, after| (Script::says(answer, after), Outcome::TimedOut, None);
    check(
        drive,
        vec![
            ("hangs", hangs(|_| Vec::new(), After::Keep)),
            ("freezes", hangs(|_| Vec::new(), After::Freeze)),
            (
                "hangs before its trailers",
                hangs(|id| [frame(HEADERS, END_HEADERS, id, &head()), frame(DATA, 0, id, EMPTY)].concat(), After::Keep),
            ),
        ],
    );
    for gives_up in [|id| rst_stream(id, 8), |id| alone(id, &[("grpc-status", "1")])] {
        let begun = Instant::now();
        let script = Script::new(&[], move |id, _| {
            // One call at a time, whose time is known to be up when half a second has passed since it came.
            std::thread::sleep(Duration::from_millis(500));
            (gives_up(id), After::Keep)
        });
        let server = crate::fake_http2::FakeHttp2::start(script);
        let ran =
            Drive { rate: 4.0, seconds: 1.0, connections: 1, timeout: Duration::from_millis(500), ..drive(server.url()) }.run();
        assert_eq!(ran.counts.timed_out, 4, "{:?} after {:?}", ran.causes, begun.elapsed());
    }
}

/// Goal: what a plan says of a call is explained. How: the words of `check --explain`.
#[test]
fn calls_are_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("shop.protoset"), SHOP).expect("a file");
    let explained = |request: &str| {
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: \"http://127.0.0.1:1/\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n- {{name: l, rate: 50/s, \
             protocol: grpc, request: {{{request}}}}}\n"
        );
        let plan = Plan::read_text("p.yaml", &text, folder.path(), &[], &|name| (name == "KEY").then(|| "hunter2".into()));
        let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
        squall::plan::explain(&plan, &squall::timeline::Timeline::of(&plan, 1))
    };
    let said = explained(
        "grpc: shop.Checkout/Track, descriptors: shop.protoset, metadata: {x-key: \"${KEY}\"}, message: {number: \"${KEY}\"}",
    );
    for words in [
        "calls       shop.Checkout/Track (server streaming) at http://127.0.0.1:1",
        "types       in shop.protoset",
        "x-key: ${KEY}",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(!said.contains("hunter2"));
    let said = explained("grpc: a.B/C, reflection: true");
    assert!(
        said.contains("a.B/C (types unknown before the run)") && said.contains("asked of the server before the first call"),
        "{said}"
    );
}
