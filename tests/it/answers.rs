//! Goal: an answer that is not as its plan expects ends as failed, for a cause of its own, in both protocols; redirects are followed as
//! browsers follow them; and nothing that a server sends in place of what is looked for hangs or bloats the engine. How: real loads
//! over loopback, their recordings read back, and what the server was asked.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use squall::answers::{BodyChecks, Expect, Matcher, Statuses, Wanted};
use squall::plan::Protocol;
use squall::recording::History;

use crate::command::Squall;
use crate::fake_service::{Asked, FakeService, answer, header};
use crate::fake_target::{Dial, FakeTarget, Then};
use crate::load::{Drive, Ran};

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn drive(protocol: Protocol, url: &str, wanted: &Wanted) -> Drive {
    let streams = protocol.usual_streams();
    Drive { protocol, streams, connections: 4, rate: 20.0, wanted: wanted.clone(), ..Drive::at(url) }
}

/// Causes and their counts; `ok` for those that have none.
fn ends(ran: &Ran) -> Vec<(&str, u64)> {
    let ok = (ran.counts.ok > 0).then_some(("ok", ran.counts.ok));
    ok.into_iter().chain(ran.causes.iter().map(|(cause, n)| (cause.as_str(), *n))).collect()
}

/// Runs ten requests in each protocol against a server that answers so, and expects all of them to end so.
#[track_caller]
fn check(answers: impl Fn(&Asked) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static, wanted: &Wanted, end: &str) {
    for protocol in PROTOCOLS {
        let service = FakeService::start(answers.clone());
        let ran = drive(protocol, &service.url(), wanted).run();
        assert_eq!(ends(&ran), [(end, 10)], "{protocol:?}");
        if end != "ok" {
            assert_eq!(ran.counts.failed, 10, "{protocol:?}");
        }
    }
}

fn expect(expect: Expect) -> Wanted {
    Wanted { expect, ..Wanted::default() }
}

fn body(checks: BodyChecks) -> Wanted {
    expect(Expect { body: Some(checks), ..Expect::default() })
}

fn contains(text: &str) -> Wanted {
    body(BodyChecks { contains: Some(text.to_owned()), ..BodyChecks::default() })
}

fn json(path: &str, text: &str) -> Wanted {
    let path = path.parse().expect("a path");
    body(BodyChecks { json: vec![(path, Matcher::Equals(text.to_owned()))], ..BodyChecks::default() })
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

#[test]
fn a_status_is_good_where_the_plan_says_so_and_there_alone() {
    let statuses = |statuses: &[Statuses]| expect(Expect { statuses: statuses.to_vec(), ..Expect::default() });
    check(|_| answer(404, &[], "gone"), &statuses(&[Statuses::One(404)]), "ok");
    check(|_| answer(204, &[], ""), &statuses(&[Statuses::One(200), Statuses::Class(3)]), "status 204");
    check(|_| answer(500, &[], "oops"), &statuses(&[Statuses::Class(2)]), "status 500");
}

#[test]
fn headers_and_bodies_are_held_against_what_is_expected() {
    let header = |matcher| expect(Expect { headers: vec![("x-cache".to_owned(), matcher)], ..Expect::default() });
    let said = |_: &Asked| answer(200, &[("X-Cache", "hit, from here")], "{\"order\": {\"id\": 7}}");
    check(said, &header(Matcher::Contains("hit".into())), "ok");
    check(said, &header(Matcher::Present(false)), "header not as expected");
    check(said, &contains("order"), "ok");
    check(said, &contains("parcel"), "body not as expected");
    check(said, &json("$.order.id", "7"), "ok");
    check(said, &json("$.order.id", "8"), "body not as expected");
    check(|_| answer(200, &[], "<html>"), &json("$.order.id", "7"), "body is not json");
    // A status that is bad says more than a body that is not as expected.
    check(|_| answer(500, &[], "<html>"), &json("$.order.id", "7"), "status 500");
}

/// Goal: a body is looked into in whatever pieces it comes, and the connection lives on.
#[test]
fn long_bodies_come_in_pieces_and_are_whole() {
    let long = format!("{}needle", "hay ".repeat(150_000));
    check(move |_| answer(200, &[], long.clone()), &contains("y needle"), "ok");
    let chunks: String = ["hay ", "nee", "dle"].iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    for (reply, then) in [
        (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"), Then::Keep),
        ("HTTP/1.1 200 OK\r\n\r\nhay needle".to_owned(), Then::Close),
        ("HTTP/1.1 103 Hints\r\nX: needle\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhay needle".to_owned(), Then::Keep),
    ] {
        let keeps = matches!(then, Then::Keep);
        let target = FakeTarget::start(Dial::says(&reply, then));
        let ran = Drive { connections: 1, ..drive(Protocol::Http1, &target.url(), &contains("y needle")) }.run();
        assert_eq!(ends(&ran), [("ok", 10)], "{reply}");
        assert!(!keeps || target.seen().connections == 1, "one connection is enough for who keeps it");
    }
}

#[test]
fn gzip_is_asked_for_counted_as_it_comes_and_taken_off_where_somebody_looks() {
    let text = format!("{{\"a\": \"b\", \"pad\": \"{}\"}}", "x".repeat(10_000));
    let short = gzip(text.as_bytes());
    let length = short.len() as u64;
    let answers = move |asked: &Asked| match header(asked, "accept-encoding") {
        Some("gzip") => answer(200, &[("content-encoding", "gzip")], short.clone()),
        _ => answer(200, &[], text.clone()),
    };
    check(answers.clone(), &Wanted { gzip: true, ..json("$.a", "b") }, "ok");
    check(answers.clone(), &json("$.a", "b"), "ok");
    for protocol in PROTOCOLS {
        let service = FakeService::start(answers.clone());
        let ran = drive(protocol, &service.url(), &Wanted { gzip: true, ..Wanted::default() }).run();
        assert_eq!(ends(&ran), [("ok", 10)]);
        // Heads are a few hundred bytes at most.
        assert!((10 * length..10 * (length + 500)).contains(&ran.counts.bytes_in), "{protocol:?}: {}", ran.counts.bytes_in);
    }
    check(|_| answer(200, &[("content-encoding", "gzip")], "{\"a\": \"b\"}"), &json("$.a", "b"), "body is not gzip");
    check(|_| answer(200, &[("content-encoding", "br")], "{\"a\": \"b\"}"), &json("$.a", "b"), "body in a coding other than gzip");
    // Nobody looks: whatever it is, it is counted and thrown away.
    check(|_| answer(200, &[("content-encoding", "gzip")], "{\"a\": \"b\"}"), &Wanted { gzip: true, ..Wanted::default() }, "ok");
    let bomb = gzip(&vec![b' '; 64 << 20]);
    check(move |_| answer(200, &[("content-encoding", "gzip")], bomb.clone()), &json("$.a", "b"), "body too long to look into");
}

/// Goal: a body without end is given up when it has become longer than what is looked into, long before its request's time is up.
#[test]
fn a_body_without_end_is_too_long_to_look_into() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (reply, again) in [
        (chunked, format!("2710\r\n{}\r\n", "x".repeat(10_000))),
        ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(10_000)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n", "x".repeat(10_000)),
    ] {
        let target = FakeTarget::start(Dial::says(reply, Then::Repeat(again.into_bytes())));
        let ran = drive(Protocol::Http1, &target.url(), &contains("y")).run();
        assert_eq!(ends(&ran), [("body too long to look into", 10)], "{reply}");
        assert!(ran.counts.bytes_in < 10 * (2 << 20), "{}", ran.counts.bytes_in);
    }
    let long = "x".repeat(2 << 20);
    let says = long.clone();
    check(move |_| answer(200, &[], says.clone()), &contains("y"), "body too long to look into");
    // What its status says comes first.
    check(move |_| answer(500, &[], long.clone()), &contains("y"), "status 500");
}

/// A shop whose pages lead to one another.
fn maze(asked: &Asked) -> Response<Full<Bytes>> {
    let to = |status, location: &str| answer(status, &[("location", location)], "elsewhere");
    match asked.uri().path() {
        "/" => to(302, "/a?b=c"),
        "/a" => to(307, "../d/e"),
        "/d/e" => answer(200, &[], format!("{} {}", asked.method(), asked.body().len())),
        "/loop" => to(301, "/loop"),
        path => answer(404, &[], path.to_owned()),
    }
}

#[test]
fn redirects_are_followed_within_the_origin_and_come_to_an_end() {
    let follows = |redirects| Wanted { redirects, ..contains("GET 0") };
    for protocol in PROTOCOLS {
        let service = FakeService::start(maze);
        let ran = drive(protocol, &service.url(), &follows(2)).run();
        assert_eq!(ends(&ran), [("ok", 10)], "{protocol:?}");
        assert_eq!((ran.counts.intended, ran.counts.sent), (10, 10), "with all that it led to, a request is one");
        let lines = service.lines();
        assert_eq!(lines.len(), 30);
        for line in ["GET /", "GET /a?b=c", "GET /d/e"] {
            assert_eq!(lines.iter().filter(|known| *known == line).count(), 10, "{line}");
        }
        let followed: u64 = ran.history.windows.values().map(|tally| tally.redirects).sum();
        assert_eq!(followed, 20);
    }
    check(maze, &follows(1), "too many redirects");
    check(maze, &Wanted::default(), "ok");
    check(|_| answer(302, &[("location", "/")], ""), &follows(20), "too many redirects");
    check(|_| answer(302, &[("location", "http://elsewhere.example/")], ""), &follows(5), "redirect to another origin");
    check(|_| answer(302, &[("location", "http://[")], ""), &follows(5), "redirect to nowhere");
    check(|_| answer(302, &[], ""), &follows(5), "redirect to nowhere");
    check(|_| answer(304, &[], ""), &Wanted { redirects: 5, ..Wanted::default() }, "ok");
}

/// Goal: who asks for a host by a header of the plan is led on within that host, as a service behind a proxy names itself.
#[test]
fn redirects_are_followed_within_the_host_that_the_plan_names() {
    for (protocol, location, ends) in [
        ("http1", "http://shop.example/there", true),
        ("http2", "http://shop.example/there", true),
        ("http1", "http://shop.example:81/there", false),
        ("http1", "http://other.example/there", false),
    ] {
        let service = FakeService::start(move |asked| match asked.uri().path() {
            "/there" => answer(200, &[], "here"),
            _ => answer(302, &[("location", location)], ""),
        });
        let squall = Squall::new();
        let plan = format!(
            "plan: led\nclaim: It is led on.\ntarget: {{url: \"{}\"}}\nphases: [{{name: main, for: 1s}}]\nload:\n  - name: all\n    \
             protocol: {protocol}\n    rate: 400/s\n    request: {{get: /, headers: {{host: shop.example}}, redirects: 2}}\n\
             assert: [{{name: answered, slo: {{available: 99%}}}}]\n",
            service.url()
        );
        squall.file("plan.yaml", &plan);
        let ran = squall.run(&["run", "plan.yaml"]);
        if ends {
            ran.found_nothing_wrong();
        } else {
            ran.expect(1).saying("redirect to another origin");
        }
    }
}

/// Goal: what is sent after a redirect is what browsers send: a POST becomes a GET without its body, but for those that say that it must
/// not. How: a plan, whose request has values in it, run by the binary.
#[test]
fn a_post_becomes_a_get_where_browsers_make_it_one() {
    for protocol in ["http1", "http2"] {
        let service = FakeService::start(|asked| match asked.uri().path() {
            "/base/kept" => answer(308, &[("location", "/there")], ""),
            "/base/changed" => answer(303, &[("location", "/there"), ("connection", "close")], ""),
            "/there" if asked.uri().query().is_none() => answer(307, &[("location", "?again")], ""),
            _ => answer(200, &[], ""),
        });
        let squall = Squall::new();
        let load = |name: &str| {
            format!(
                "- {{name: {name}, rate: 5/s, protocol: {protocol}, draw: {{item: {{uniform: {{of: 1}}}}}}, \
                 request: {{post: /{name}, redirects: 3, headers: {{content-type: text/plain, x-item: \"{{{{item}}}}\"}}, body: \"item {{{{item}}}}\"}}}}\n"
            )
        };
        squall.file(
            "plan.yaml",
            &format!(
                "plan: p\nclaim: c\ntarget: {{url: \"{}base\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n{}{}\
                 assert: [{{name: answered, slo: {{available: 50%}}}}]\n",
                service.url(),
                load("kept"),
                load("changed")
            ),
        );
        squall.run(&["run", "plan.yaml", "--out", "run"]).saying("redirects");
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for asked in service.asked() {
            let line = format!(
                "{} {} type {} item {} body `{}`",
                asked.method(),
                asked.uri().path_and_query().expect("a path"),
                header(&asked, "content-type").unwrap_or("none"),
                header(&asked, "x-item").unwrap_or("none"),
                String::from_utf8_lossy(asked.body())
            );
            *seen.entry(line).or_default() += 1;
        }
        let all: Vec<(&str, u64)> = seen.iter().map(|(line, n)| (line.as_str(), *n)).collect();
        assert_eq!(
            all,
            [
                ("GET /there type none item 1 body ``", 5),
                ("GET /there?again type none item 1 body ``", 5),
                ("POST /base/changed type text/plain item 1 body `item 1`", 5),
                ("POST /base/kept type text/plain item 1 body `item 1`", 5),
                ("POST /there type text/plain item 1 body `item 1`", 5),
                ("POST /there?again type text/plain item 1 body `item 1`", 5),
            ],
            "{protocol}"
        );
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        assert_eq!(history.counts(None, from, to).ok, 10);
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("a report")).expect("JSON");
        let row = json["totals"].as_array().expect("rows").iter().find(|row| row["phase"] == "_all").expect("a row");
        assert_eq!(row["redirects"], 20);
        squall.run(&["judge", "run"]);
    }
}
