//! WebSockets against a server that speaks them well and one that speaks them as a script says. Method: a real run over loopback, its
//! recording read back, and outcomes and causes compared with what the server is known to do. A hang is a test that does not end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use squall::answers::BodyChecks;
use squall::plan::{Exchange, Payload, Protocol, Rhythm, Rotation, Talk, Think};
use squall::recording::Outcome;
use squall::recording::sink::Measure;
use squall::units::Span;
use tokio_rustls::TlsAcceptor;

use crate::command::Squall;
use crate::fake_websocket::{After, BINARY, CLOSE, CONTINUE, FakeWebSocket, PING, Script, TEXT, close, frame, piece, text};
use crate::load::{Drive, Ran, trusting};

/// What is sent, and what of the messages that come is waited for.
fn talk(send: Option<&str>, contains: Option<&str>) -> Talk {
    let expect = contains.map(|text| BodyChecks { contains: Some(text.to_owned()), ..BodyChecks::default() });
    Talk::WebSocket(Exchange { send: send.map(|text| Payload::Text(text.to_owned())), expect })
}

/// 25 exchanges in half a second over a few connections.
fn drive(url: impl Into<String>) -> Drive {
    let talk = talk(Some("hello"), None);
    Drive { protocol: Protocol::WebSocket, talk, method: "WEBSOCKET", connections: 32, ..Drive::at(url) }
}

/// So many users, each of whom sends ten times a second.
fn users(n: u32) -> Option<(u32, Rhythm)> {
    Some((n, Rhythm { think: Think::default(), every: Some(Span::from_millis(100)) }))
}

fn messages(ran: &Ran) -> u64 {
    ran.history.windows.values().map(|tally| tally.messages).sum()
}

fn opened(ran: &Ran) -> u64 {
    ran.history.windows.values().map(|tally| tally.opened).sum()
}

type Case = (&'static str, Script, Outcome, Option<&'static str>);

/// Checks the cases side by side: nearly all of their time is waiting.
#[track_caller]
fn check(drive: fn(String) -> Drive, cases: Vec<Case>) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let checks: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || mismatch(drive, case))).collect();
        checks.into_iter().filter_map(|check| check.join().expect("the run ends")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Why the exchanges of a case did not all end as they must.
fn mismatch(drive: fn(String) -> Drive, (what, script, outcome, cause): Case) -> Option<String> {
    let target = FakeWebSocket::start(script);
    // Nobody waits for it but those who must time out.
    let timeout = Duration::from_millis(if outcome == Outcome::TimedOut { 600 } else { 10_000 });
    let ran = Drive { timeout, ..drive(target.url()) }.run();
    let as_expected = ran.counts.intended == 25
        && ran.counts.of(outcome) == 25
        && cause.is_none_or(|cause| ran.cause(cause) == 25)
        && target.seen().wrong.is_empty();
    (!as_expected).then(|| format!("{what}: {:?}, {:?}, {:?}", ran.counts, ran.causes, target.seen()))
}

#[test]
fn messages_are_answered_over_connections_that_are_kept() {
    let target = FakeWebSocket::start(Script::good());
    let ran = drive(target.url()).run();
    let seen = target.seen();
    assert_eq!((ran.counts.ok, messages(&ran), ran.counts.sent), (25, 25, 25), "{:?}", ran.causes);
    assert!(seen.messages.len() == 25 && seen.messages.iter().all(|message| message == b"hello"), "{seen:?}");
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    let served: u64 = ran.history.windows.values().filter_map(|tally| tally.served_by.get("fake-1")).sum();
    assert_eq!(served, 25, "who agreed to the handshake answers");
    assert_eq!((opened(&ran), ran.histogram(Measure::Upgrade).len()), (seen.connections, seen.connections));
    // Frames of five bytes, masked there and not masked back.
    assert_eq!((ran.counts.bytes_out, ran.counts.bytes_in), (25 * 11, 25 * 7));
    let head = &seen.heads[0];
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:") && head.contains("Sec-WebSocket-Version: 13\r\n"), "{head}");
    let keys: BTreeSet<&str> = seen.heads.iter().filter_map(|head| head.lines().find(|line| line.contains("-Key: "))).collect();
    assert_eq!(keys.len() as u64, seen.connections, "each handshake has a key of its own");
}

/// Goal: each user holds a connection, and one that is only held answers pings, whatever the server says meanwhile.
#[test]
fn users_hold_a_connection_each_and_answer_pings_while_they_rest() {
    let pushes = Some((Duration::from_millis(20), text("news")));
    let target = FakeWebSocket::start(Script { by_itself: pushes, ..Script::good() });
    let rhythm = Rhythm { think: Think::default(), every: Some(Span::from_millis(700)) };
    let talk = talk(Some("hello"), Some("hello"));
    let ran = Drive { users: Some((7, rhythm)), seconds: 2.0, talk, ..drive(target.url()) }.run();
    let seen = target.seen();
    assert!(ran.counts.ok >= 14 && ran.counts.ok == ran.counts.intended, "{:?}, {:?}", ran.counts, ran.causes);
    assert_eq!((seen.connections, seen.most_open), (7, 7));
    // Seven connections over 1.4 seconds at least, fifty a second each: a third of it is for a busy machine.
    assert!(seen.pongs > 7 * 70 / 3, "{} pongs", seen.pongs);
    assert!(messages(&ran) > ran.counts.ok, "what nobody asked for is counted, at the next exchange");
    assert_eq!(seen.wrong, Vec::<String>::new());
}

#[test]
fn what_is_not_expected_is_passed_over() {
    let noisy = |_: &[u8]| [text("no"), frame(PING, b""), text("nor this"), text("the one"), text("no more")].concat();
    let target = FakeWebSocket::start(Script { greets: text("welcome"), ..Script::says(noisy, After::Keep) });
    let ran = Drive { talk: talk(Some("hello"), Some("one")), ..drive(target.url()) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert!(messages(&ran) >= 3 * 25, "{}", messages(&ran));
}

/// Goal: an exchange that sends nothing waits for what the server says by itself, keeps its connection when that does not come, and is not
/// taken for one that had no connection.
#[test]
fn who_sends_nothing_waits_for_what_comes() {
    let pushes = Some((Duration::from_millis(5), text("news")));
    let target = FakeWebSocket::start(Script { by_itself: pushes, ..Script::good() });
    let quiet = FakeWebSocket::start(Script::good());
    let listening = |url: String| Drive { talk: talk(None, None), users: users(3), timeout: Duration::from_secs(10), ..drive(url) };
    let ran = listening(target.url()).run();
    assert!(ran.counts.ok >= 3 && ran.counts.ok == ran.counts.intended && ran.counts.sent == ran.counts.ok, "{:?}", ran.counts);
    assert_eq!(target.seen().messages, Vec::<Vec<u8>>::new());

    let ran = Drive { timeout: Duration::from_secs(1), seconds: 3.0, ..listening(quiet.url()) }.run();
    assert!(ran.counts.timed_out >= 6 && ran.cause("no answer in time") == ran.counts.intended, "{:?}", ran.causes);
    assert_eq!(quiet.seen().connections, 3, "nothing is owed on a connection where nothing was sent");
}

/// Goal: what was said before an exchange sent anything is no answer to it, and an answer that comes too late none to the next one. How: a
/// server that greets, echoes each message and says one more right after; and one whose echoes come after their exchange's time.
#[test]
fn only_what_comes_after_a_message_answers_it() {
    let noisy = |message: &[u8]| [frame(TEXT, message), text("and another thing")].concat();
    let target = FakeWebSocket::start(Script { greets: text("welcome"), ..Script::says(noisy, After::Keep) });
    let ran = Drive { rate: 10.0, seconds: 2.0, connections: 1, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().connections), (20, 1), "{:?}", ran.causes);
    // The greeting and nineteen further things were dropped, and told with the exchanges after them.
    assert!((39..=40).contains(&messages(&ran)), "{}", messages(&ran));
    assert_eq!(ran.counts.bytes_out, 20 * 11);

    let late = Script { delay: Duration::from_secs(2), ..Script::good() };
    let target = FakeWebSocket::start(late);
    let timeout = Duration::from_secs(1);
    let ran = Drive { rate: 2.0, seconds: 3.0, timeout, connections: 8, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.timed_out, ran.cause("no answer in time")), (6, 6), "{:?}", ran.causes);
    assert_eq!(target.seen().connections, 6, "a connection that owes an answer carries nothing more");
}

#[test]
fn a_refused_upgrade_is_told_as_what_it_is() {
    let says = |status: &str| format!("HTTP/1.1 {status}\r\nx-pod: fake-1\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nnope");
    let refuses = |status: &str| Script::refuses(&says(status), After::Keep);
    check(
        drive,
        vec![
            ("503", refuses("503 Busy"), Outcome::Rejected, Some("upgrade refused: status 503")),
            ("429", refuses("429 Slow"), Outcome::Rejected, Some("upgrade refused: status 429")),
            ("404", refuses("404 Nowhere"), Outcome::Failed, Some("upgrade refused: status 404")),
            ("401", refuses("401 Who"), Outcome::Failed, Some("upgrade refused: status 401")),
            ("302", refuses("302 There"), Outcome::Failed, Some("upgrade refused: status 302")),
            ("200", refuses("200 OK"), Outcome::Failed, Some("upgrade refused: status 200")),
            (
                "after hints",
                Script::refuses(&format!("HTTP/1.1 103 Hints\r\n\r\n{}", says("500 Oh")), After::Close),
                Outcome::Failed,
                Some("upgrade refused: status 500"),
            ),
        ],
    );

    let target = FakeWebSocket::start(refuses("503 Busy"));
    let ran = drive(target.url()).run();
    let told: u64 = ran.history.windows.values().map(|tally| tally.retry_after).sum();
    let served: u64 = ran.history.windows.values().filter_map(|tally| tally.served_by.get("fake-1")).sum();
    assert_eq!((told, served, ran.counts.sent), (25, 25, 25), "who refuses is heard out, and was asked");
    assert_eq!((opened(&ran), ran.histogram(Measure::FirstByte).len()), (0, 25), "no connection came of it");
}

#[test]
fn a_handshake_that_is_none_has_a_cause_of_its_own() {
    let says = |lines: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n\r\n");
    let refuses = |lines: &str| Script::refuses(&says(lines), After::Keep);
    let raw = |bytes: &str, after: After| Script::refuses(bytes, after);
    let failed = Outcome::Failed;
    check(
        drive,
        vec![
            ("no upgrade", refuses("x: y"), failed, Some("websocket rule broken: upgrade to something else")),
            (
                "no key",
                refuses("Upgrade: websocket\r\nConnection: Upgrade"),
                failed,
                Some("websocket rule broken: wrong sec-websocket-accept"),
            ),
            (
                "another's key",
                refuses("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                failed,
                Some("websocket rule broken: wrong sec-websocket-accept"),
            ),
            (
                "compressed",
                Script { lines: "Sec-WebSocket-Extensions: permessage-deflate\r\n", ..Script::good() },
                failed,
                Some("websocket rule broken: extension not offered"),
            ),
            (
                "subprotocol",
                Script { lines: "Sec-WebSocket-Protocol: chat\r\n", ..Script::good() },
                failed,
                Some("websocket rule broken: subprotocol not offered"),
            ),
            ("garbage", raw("SSH-2.0-OpenSSH_9.9\r\n", After::Keep), failed, Some("garbage")),
            ("garbage, closed", raw("SSH", After::Close), failed, Some("garbage")),
            ("closed", raw("", After::Close), failed, Some("closed before an answer")),
            ("closed in the middle", raw("HTTP/1.1 101 Swi", After::Close), failed, Some("closed mid-head")),
            ("reset", raw("HTTP/1.1 101 Swi", After::Reset), failed, Some("reset")),
            ("endless", raw("HTTP/1.1 101 Ok\r\n", After::Repeat(b"a: b\r\n".repeat(10))), failed, Some("head too large")),
            ("endless hints", raw("", After::Repeat(b"HTTP/1.1 103 Hints\r\n\r\n".repeat(50))), failed, Some("head too large")),
            ("silence", raw("", After::Keep), Outcome::TimedOut, Some("no connection in time")),
        ],
    );
}

#[test]
fn good_messages_are_ok_however_they_are_framed() {
    let ok = |what, answer: fn(&[u8]) -> Vec<u8>| (what, Script::says(answer, After::Keep), Outcome::Ok, None);
    check(
        drive,
        vec![
            ok("empty", |_| text("")),
            ok("binary", |_| frame(BINARY, b"\xff\x00")),
            ok("in pieces", |_| {
                [piece(TEXT, b"h"), frame(PING, b"?"), piece(CONTINUE, b""), piece(CONTINUE, b"\xc3"), frame(CONTINUE, b"\xbc")]
                    .concat()
            }),
            ok("middling", |_| frame(TEXT, &b"x".repeat(300))),
            ok("long", |_| frame(BINARY, &b"x".repeat(300_000))),
        ],
    );
    // One that is closed after each message: the next exchange finds out before it sends anything.
    let closing = Script::says(|message| [frame(TEXT, message), close(1000)].concat(), After::Close);
    let vanishing = Script::says(|message| frame(TEXT, message), After::Close);
    check(
        |url| Drive { connections: 1, ..drive(url) },
        vec![("closed", closing, Outcome::Ok, None), ("vanished", vanishing, Outcome::Ok, None)],
    );
}

#[test]
fn what_breaks_a_rule_is_named_for_it() {
    let fails = |what, answer: fn(&[u8]) -> Vec<u8>, cause| (what, Script::says(answer, After::Keep), Outcome::Failed, Some(cause));
    check(
        drive,
        vec![
            fails("masked", |_| [&[0x81, 0x82, 0, 0, 0, 0][..], b"hi"].concat(), "websocket rule broken: masked frame"),
            fails("reserved bits", |_| piece(0xc1, b"hi"), "websocket rule broken: reserved bits"),
            fails("reserved opcode", |_| frame(3, b"hi"), "websocket rule broken: unknown opcode"),
            fails("reserved control", |_| frame(11, b""), "websocket rule broken: unknown opcode"),
            fails("continues nothing", |_| frame(CONTINUE, b"hi"), "websocket rule broken: fragment out of order"),
            fails(
                "does not continue",
                |_| [piece(TEXT, b"h"), text("hi")].concat(),
                "websocket rule broken: fragment out of order",
            ),
            fails("long ping", |_| frame(PING, &b"x".repeat(126)), "websocket rule broken: malformed control frame"),
            fails("ping in pieces", |_| piece(PING, b"x"), "websocket rule broken: malformed control frame"),
            fails("half a close", |_| frame(CLOSE, b"x"), "websocket rule broken: malformed control frame"),
            fails("no text", |_| frame(TEXT, b"\xff"), "websocket rule broken: text is not utf-8"),
            fails("too long", |_| [&[0x82, 127][..], &(17u64 << 20).to_be_bytes()].concat(), "message too large"),
            fails("far too long", |_| [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat(), "message too large"),
            fails(
                "too long in pieces",
                |_| [piece(BINARY, b""), piece(CONTINUE, &vec![0; 9 << 20]), piece(CONTINUE, &vec![0; 9 << 20])].concat(),
                "message too large",
            ),
        ],
    );
}

#[test]
fn who_leaves_is_named_for_how() {
    let leaves = |what, answer: fn(&[u8]) -> Vec<u8>, after: After, outcome, cause| {
        (what, Script::says(answer, after), outcome, Some(cause))
    };
    let failed = Outcome::Failed;
    check(
        drive,
        vec![
            leaves("normally", |_| close(1000), After::Close, failed, "closed: normal (1000)"),
            leaves("away", |_| close(1001), After::Close, failed, "closed: going away (1001)"),
            leaves("broken", |_| close(1011), After::Keep, failed, "closed: internal error (1011)"),
            leaves("busy", |_| close(1013), After::Close, Outcome::Rejected, "closed: try again later (1013)"),
            leaves("its own", |_| close(4401), After::Close, failed, "closed: 4401"),
            leaves("wordless", |_| frame(CLOSE, b""), After::Close, failed, "closed: no code"),
            leaves("silently", |_| Vec::new(), After::Close, failed, "closed before an answer"),
            leaves("in the middle", |_| text("hello")[..4].to_vec(), After::Close, failed, "message cut short"),
            leaves("between pieces", |_| piece(TEXT, b"h"), After::Close, failed, "message cut short"),
            leaves("reset", |_| Vec::new(), After::Reset, failed, "reset"),
            leaves("reset in the middle", |_| text("hello")[..4].to_vec(), After::Reset, failed, "reset"),
        ],
    );
}

#[test]
fn what_does_not_come_times_out_as_what_it_is() {
    let waits = |what, script, cause| (what, script, Outcome::TimedOut, Some(cause));
    let expecting = |url| Drive { talk: talk(Some("hello"), Some("thanks")), ..drive(url) };
    check(
        expecting,
        vec![
            waits("nothing", Script::says(|_| Vec::new(), After::Keep), "no answer in time"),
            waits("pings", Script::says(|_| frame(PING, b""), After::Keep), "no answer in time"),
            waits("others", Script::says(|_| text("no"), After::Keep), "no message as expected in time"),
            waits(
                "others, then a ping",
                Script::says(|_| [text("no"), frame(PING, b"")].concat(), After::Keep),
                "no message as expected in time",
            ),
            waits("a part", Script::says(|_| text("thanks")[..5].to_vec(), After::Keep), "answer unfinished in time"),
            waits("the start of one", Script::says(|_| piece(TEXT, b"thanks"), After::Keep), "answer unfinished in time"),
        ],
    );
}

/// Goal: what is too long to be looked into, and yet no longer than what is read, is no message as expected. How: one exchange, whose message
/// has all come long before its time is up.
#[test]
fn a_long_message_is_not_looked_into() {
    let target = FakeWebSocket::start(Script::says(|_| frame(TEXT, &b"thanks".repeat(200_000)), After::Keep));
    let talk = talk(Some("hello"), Some("thanks"));
    let ran = Drive { talk, rate: 2.0, timeout: Duration::from_secs(5), ..drive(target.url()) }.run();
    assert_eq!((ran.counts.timed_out, ran.cause("no message as expected in time")), (1, 1), "{:?}", ran.causes);
}

/// Goal: who floods and listens to nothing keeps no exchange beyond its time, nor others from theirs.
#[test]
fn floods_end_with_the_time_of_the_exchange() {
    let floods = |first: Vec<u8>, bytes: Vec<u8>| {
        let target = FakeWebSocket::start(Script::says(move |_| first.clone(), After::Repeat(bytes)));
        let talk = talk(Some("hello"), Some("thanks"));
        let ran = Drive { talk, rate: 8.0, timeout: Duration::from_secs(1), ..drive(target.url()) }.run();
        // On a busy machine one may never have been sent.
        assert!(ran.counts.timed_out > 0 && ran.counts.timed_out + ran.counts.unsent == 4, "{:?}, {:?}", ran.counts, ran.causes);
    };
    floods(text("no"), text("no").repeat(1000));
    floods(text("no"), frame(PING, b"there?").repeat(1000));
    floods(piece(TEXT, b""), piece(CONTINUE, b"").repeat(1000));
}

#[test]
fn a_message_as_long_as_the_buffers_crosses_its_echo() {
    let target = FakeWebSocket::start(Script::says(|message| frame(BINARY, message), After::Keep));
    let long: Vec<u8> = (0..4 << 20).map(|n: u32| n as u8).collect();
    let talk = Talk::WebSocket(Exchange { send: Some(Payload::Binary(long.clone())), expect: None });
    let ran = Drive { talk, rate: 6.0, connections: 2, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().messages), (3, vec![long; 3]), "{:?}", ran.causes);
    assert!(ran.counts.bytes_out > 3 * (4 << 20) && ran.counts.bytes_in > 3 * (4 << 20), "{:?}", ran.counts);
}

/// Goal: what is shipped and stands in the README runs. How: its plan, and its line for `squall load`, against rooms in which news comes.
#[test]
fn the_shipped_messages_are_answered() {
    let news = Some((Duration::from_millis(100), text(r#"{"type": "news"}"#)));
    let rooms = Script::says(|_| text(r#"{"type": "said"}"#), After::Keep);
    let (target, squall) = (FakeWebSocket::start(Script { by_itself: news, ..rooms }), Squall::new());
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/messages-are-answered.yaml");
    squall
        .run(&["run", plan, "--set", &format!("url={}", target.url()), "--out", "run"])
        .found_nothing_wrong()
        .saying("upgrade p50");
    squall.run(&["judge", "run"]).found_nothing_wrong();
    let seen = target.seen();
    assert_eq!((seen.heads.len(), &seen.wrong[..]), (150, &[][..]), "one connection for each user");
    assert!(seen.most_open >= 150, "all at once: {}", seen.most_open);
    let said = String::from_utf8(seen.messages[0].clone()).expect("text");
    assert!(said.starts_with(r#"{"say": "hello", "number": ""#) && !said.contains("{{"), "{said}");
    let rooms: BTreeSet<&str> = seen.heads.iter().filter_map(|head| head.lines().next()).collect();
    assert!(rooms.len() > 10 && rooms.contains("GET /news HTTP/1.1"), "{rooms:?}");

    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let line = readme.lines().find(|line| line.starts_with("squall load ws://")).expect("a line for it");
    let line = line.replace("127.0.0.1:8080", &target.address.to_string());
    // Words, of which one is in quotes.
    let (before, rest) = line.split_once('\'').expect("a message");
    let (message, after) = rest.split_once('\'').expect("its end");
    let words: Vec<&str> = before.split_whitespace().skip(1).chain([message]).chain(after.split_whitespace()).collect();
    squall.run(&words).found_nothing_wrong();
    assert!(target.seen().messages.iter().any(|said| said == message.as_bytes()) && target.seen().heads.len() == 170);
}

/// Goal: with connections that are replaced after one exchange, each has one of its own, and the server is told goodbye.
#[test]
fn a_connection_can_be_had_for_each_exchange() {
    let target = FakeWebSocket::start(Script::good());
    let rotation = Rotation { age: None, requests: Some(1) };
    let ran = Drive { rotation, ..drive(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().connections), (25, 25), "{:?}", ran.causes);
    assert!(
        target.seen().closes.len() >= 20 && target.seen().closes.iter().all(|code| *code == 1000),
        "{:?}",
        target.seen().closes
    );
}

#[test]
fn it_is_spoken_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).expect("a file");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the test's certificate is sound");
    let pushes = Some((Duration::from_millis(10), text("news")));
    let script = Script { by_itself: pushes, ..Script::good() };
    let target = FakeWebSocket::over(Some(TlsAcceptor::from(Arc::new(config))), script);
    let url = format!("https://localhost:{}/", target.address.port());
    let talk = talk(Some("hello"), Some("hello"));
    let ran = Drive { tls: trusting(&folder.path().join("ca.pem")).into(), talk, ..drive(url) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert_eq!(ran.histogram(Measure::Tls).len(), target.seen().connections);
    assert!(target.seen().pongs > 0 && target.seen().wrong.is_empty(), "{:?}", target.seen().wrong);
}

/// Goal: what is refused for now is tried again as any request is, and heard when it says when.
#[test]
fn refused_upgrades_are_tried_again() {
    let target = FakeWebSocket::start(Script::refuses("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", After::Close));
    let client = r#"{retries: {attempts: 2, on: [503], backoff: none}}"#;
    let squall = Squall::new();
    let plan = format!(
        "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: a, for: 1s}}]\n\
         load: [{{name: l, rate: 20/s, protocol: websocket, client: {client}, request: {{websocket: /live, send: hello}}}}]\n",
        target.url()
    );
    let plan = squall.file("plan.yaml", &plan);
    squall.run(&["run", plan.to_str().expect("a path"), "--out", "run"]);
    let summary = std::fs::read_to_string(squall.path("run/run.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["totals"][0]["causes"]["upgrade refused: status 503"], 20, "{}", summary["totals"][0]);
    assert_eq!(target.seen().heads.len(), 40);
}
