//! How requests get there: instants, connections, addresses. Method: a real run over loopback against servers whose clock, number or
//! place is known, and what the recording must then say of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use squall::plan::{Protocol, Rhythm, Rotation};
use squall::protocol::Addresses;
use squall::recording::sink::Measure;
use squall::time::Clock;

use crate::command::{Squall, wait_until};
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::load::{Drive, LEAD, Ran};

/// Connections that carry so many requests, give or take a quarter.
fn carrying(requests: u32) -> Rotation {
    Rotation { age: None, requests: Some(requests) }
}

impl Ran {
    pub fn sum(&self, of: impl Fn(&squall::recording::fact::Tally) -> u64) -> u64 {
        self.history.windows.values().map(of).sum()
    }

    fn sent_to(&self) -> BTreeMap<String, u64> {
        let mut sum: BTreeMap<String, u64> = BTreeMap::new();
        for (address, n) in self.history.windows.values().flat_map(|tally| &tally.sent_to) {
            *sum.entry(address.clone()).or_default() += n;
        }
        sum
    }
}

/// Goal: the first byte of an answer is told from its last. How: a server that begins to answer after 50 ms, and says a byte each 2 ms.
#[test]
fn the_first_byte_is_told_from_the_last() {
    let dial = Dial { drip: Some(Duration::from_millis(2)), ..Dial::good(Timing::After(Duration::from_millis(50))) };
    let bytes = dial.reply.len() as u64;
    let target = FakeTarget::start(dial);
    let ran = Drive::at(target.url()).run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    let (first, all) = (ran.histogram(Measure::FirstByte), ran.histogram(Measure::Service));
    assert_eq!((first.len(), all.len()), (25, 25));
    assert!(first.min() >= 49_900, "{} us", first.min());
    assert!(all.min() >= 50_000 + 2_000 * (bytes - 1) - 1_000, "{} us", all.min());
    // Of most, whatever a busy machine does to some.
    assert!(first.value_at_quantile(0.5) + 100_000 < all.value_at_quantile(0.5), "{first:?} {all:?}");
}

/// Goal: an answer that never begins does not make first bytes look early, and one that comes in a piece has one moment.
#[test]
fn who_gets_no_byte_has_waited_for_it_all_the_same() {
    let target = FakeTarget::start(Dial::good(Timing::Never));
    let ran = Drive { timeout: Duration::from_millis(200), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.timed_out, 25, "{:?}", ran.causes);
    assert_eq!(ran.histogram(Measure::FirstByte).len(), ran.counts.sent);
    assert!(ran.quantile_ms(Measure::FirstByte, 0.9) >= 100.0);

    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive::at(target.url()).run();
    assert_eq!((ran.counts.ok, ran.histogram(Measure::FirstByte).len()), (25, 25), "{:?}", ran.causes);
    let (first, all) = (ran.histogram(Measure::FirstByte), ran.histogram(Measure::Service));
    assert_eq!((first.min(), first.max()), (all.min(), all.max()), "no second look at the clock");
}

/// Goal: every connection is counted with what it took, and every one that could not be had. How: one answer per connection, then a
/// door that is shut.
#[test]
fn connections_are_counted_with_what_they_took() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let target = FakeTarget::start(Dial { then: crate::fake_target::Then::Close, ..Dial::good(Timing::AtOnce) });
        let ran = Drive { protocol, ..Drive::at(target.url()) }.run();
        let opened = ran.sum(|tally| tally.opened);
        match protocol {
            Protocol::Http1 => {
                assert_eq!((opened, target.seen().connections), (25, 25), "{:?}", ran.causes);
                assert_eq!(ran.histogram(Measure::Connect).len(), 25);
            }
            // It connects, and does not speak it.
            _ => assert_eq!((opened, ran.sum(|tally| tally.unopened)), (0, 25), "{:?}", ran.causes),
        }
        assert_eq!(ran.histogram(Measure::Tls).len(), 0);
    }
    let ran = Drive::at(format!("http://{}/", FakeTarget::nobody())).run();
    assert_eq!(ran.cause("connection refused"), 25, "{:?}", ran.causes);
    assert_eq!((ran.sum(|tally| tally.opened), ran.sum(|tally| tally.unopened)), (0, 25));
    assert_eq!(ran.histogram(Measure::Connect).len(), 0);
}

/// Goal: connections are replaced when they have carried enough, by the next request and for no one else. How: users and a schedule, one
/// request a connection, and then about ten.
#[test]
fn connections_are_replaced_by_count_and_not_for_who_leaves() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(5))));
    let users = Some((3, Rhythm::default()));
    let ran = Drive { users, rotation: carrying(1), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, ran.counts.intended, "{:?}", ran.causes);
    assert!(ran.counts.ok >= 10, "{:?}", ran.counts);
    assert_eq!((ran.sum(|tally| tally.opened), target.seen().connections), (ran.counts.ok, ran.counts.ok));

    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive { rotation: carrying(1), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, ran.counts.intended, "{:?}", ran.causes);
    assert_eq!((ran.sum(|tally| tally.opened), ran.sum(|tally| tally.unopened)), (ran.counts.ok, 0));

    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive { rate: 200.0, seconds: 1.0, connections: 1, rotation: carrying(10), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, 200, "{:?}", ran.causes);
    // Each carries 8 to 13.
    assert!((15..=26).contains(&target.seen().connections), "{} connections", target.seen().connections);
}

/// Goal: connections are spread over all addresses, those that come to be and those that are gone included. How: three servers at three
/// addresses of one port; the third takes the place of the first in the middle of a run.
#[test]
fn new_connections_go_to_the_addresses_that_there_are() {
    let servers: Vec<FakeTarget> = {
        let first = FakeTarget::start_at(([127, 0, 0, 1], 0).into(), Dial::good(Timing::AtOnce));
        let port = first.address.port();
        let more = (2..=3).map(|n| FakeTarget::start_at(([127, 0, 0, n], port).into(), Dial::good(Timing::AtOnce)));
        [first].into_iter().chain(more.collect::<Vec<_>>()).collect()
    };
    let places: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let addresses = Addresses::of(places[..2].iter().copied());
    let drive = Drive {
        rate: 400.0,
        seconds: 4.0,
        connections: 4,
        rotation: carrying(10),
        addresses: Some(addresses.clone()),
        ..Drive::at(servers[0].url())
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = 0;
    let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |_| {
        wait_until(Duration::from_secs(60), || (servers[0].seen().requests + servers[1].seen().requests >= 400).then_some(()));
        addresses.set(places[1..].iter().copied());
        before = servers[0].seen().requests;
    });
    let ran = Ran::read(folder.path(), summary);
    assert_eq!(ran.counts.ok, 1600, "{:?}", ran.causes);
    let shares = ran.sent_to();
    for server in &servers {
        assert_eq!(shares.get(&server.address.to_string()), Some(&server.seen().requests), "{shares:?}");
    }
    let seen: Vec<u64> = servers.iter().map(|server| server.seen().requests).collect();
    // At most what its four connections still carried, and one that was being opened.
    assert!(seen[0] <= before + 5 * 13, "{seen:?}, of which {before} before");
    assert!(seen[2] >= 300, "what is new gets its share: {seen:?}");
    // Half of the time two had all of it, half of the time the other two: the second always had half.
    assert!((600..=1000).contains(&seen[1]), "{seen:?}");
}

/// Servers on one port of so many addresses, from 127.0.0.2 on.
fn neighbours(count: u8) -> Vec<FakeTarget> {
    let first = FakeTarget::start_at(([127, 0, 0, 2], 0).into(), Dial::good(Timing::AtOnce));
    let port = first.address.port();
    let more: Vec<FakeTarget> =
        (1..count).map(|n| FakeTarget::start_at(([127, 0, 0, 2 + n], port).into(), Dial::good(Timing::AtOnce))).collect();
    [first].into_iter().chain(more).collect()
}

fn report(squall: &Squall, run: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(squall.path(run).join("run.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

/// Goal: the shipped plan does what it says: requests for a name go to the addresses that the plan has for it, and each report tells
/// how many to which.
#[test]
fn every_address_gets_its_share() {
    let servers = neighbours(2);
    let squall = Squall::new();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/every-address-gets-its-share.yaml");
    let port = format!("port={}", servers[0].address.port());
    let said = squall.run(&["run", plan, "--set", &port, "--seed", "7", "--out", "run"]);
    said.expect(0).saying("Connections, what opening them took in ms").saying("apps to: 127.0.0.");
    let report = report(&squall, "run");
    let total = &report["totals"][1];
    for server in &servers {
        let seen = server.seen();
        assert_eq!(total["sent_to"][server.address.to_string()].as_u64(), Some(seen.requests));
        assert!(seen.request.contains("\r\nHost: shop.example\r\n"), "{}", seen.request);
    }
    let shares: Vec<f64> = servers.iter().map(|server| server.seen().requests as f64).collect();
    assert!(shares.iter().all(|share| (0.3..=0.7).contains(&(share / shares.iter().sum::<f64>()))), "{shares:?}");
    // Every connection carries about 50 and lives for about a second.
    let opened = total["connections"]["opened"].as_u64().expect("a count");
    // Before the run, somebody knocked at each door.
    assert_eq!(opened + 2, servers.iter().map(|server| server.seen().connections).sum::<u64>());
    assert!(opened >= 8, "{opened}");
    assert_eq!(total["connections"]["connect_ms"]["n"].as_u64(), Some(opened));
    assert_eq!(total["connections"]["lookups"], 0, "what the plan says is not looked up");
    assert!(total["first_byte_ms"]["p50"].as_f64() <= total["service_ms"]["p50"].as_f64());
}

/// Goal: a name is looked up while the run goes on, and that is told. How: one that stands for this machine, every tenth of a second.
#[test]
fn a_name_is_looked_up_again_and_again() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let squall = Squall::new();
    let plan = |dns: &str| {
        format!(
            "plan: p\nclaim: c\ntarget: {{url: \"http://localhost:{}/\", dns: {dns}}}\nphases: [{{name: a, for: 1s}}, {{name: b, for: 1s}}]\n\
             load: [{{name: l, rate: 50/s, request: {{get: /}}}}]\nassert: [{{name: answered, slo: {{available: 10%}}}}]\n",
            target.address.port()
        )
    };
    let row = |run: &str, n: usize| report(&squall, run)["totals"][n]["connections"].clone();
    squall.file("often.yaml", &plan("{every: 100ms}"));
    squall.run(&["run", "often.yaml", "--out", "often"]).expect(0).saying("dns: ");
    let all = row("often", 2)["lookups"].as_u64().expect("a count");
    assert!((3..=30).contains(&all), "{all}");
    assert_eq!(all, row("often", 0)["lookups"].as_u64().unwrap_or(0) + row("often", 1)["lookups"].as_u64().unwrap_or(0));
    assert_eq!((row("often", 2)["dns_ms"]["n"].as_u64(), row("often", 2)["lookups_failed"].as_u64()), (Some(all), Some(0)));
    squall.file("once.yaml", &plan("once"));
    squall.run(&["run", "once.yaml", "--out", "once"]).expect(0).saying("dns: 1 lookup; p50 ");
    let summary = std::fs::read_to_string(squall.path("once/summary.csv")).expect("a summary");
    assert!(
        summary.starts_with("run_id,") && summary.lines().next().is_some_and(|header| header.contains(",dns_max_ms")),
        "{summary}"
    );
}

/// Goal: a body from a file is sent byte by byte, whatever is in it, beside a request whose path differs. How: text with what would be
/// references elsewhere, and bytes that are no text.
#[test]
fn a_body_from_a_file_is_sent_as_it_is() {
    let squall = Squall::new();
    let bytes: Vec<u8> = (0..=255).chain(*b"{{item}} {{{{").collect();
    std::fs::create_dir(squall.path("plans")).expect("a folder");
    for (file, body) in [("order.json", b"{\"a\": \"{{item}} {{{{ {{\"}".as_slice()), ("order.bin", &bytes)] {
        std::fs::write(squall.path("plans").join(file), body).expect("a file");
        for protocol in ["http1", "http2"] {
            let (heard, hears) = std::sync::mpsc::sync_channel(64);
            let url = echo::start(protocol == "http2", heard);
            squall.file(
                "plans/plan.yaml",
                &format!(
                    "plan: p\nclaim: c\ntarget: {{url: \"{url}\"}}\nphases: [{{name: a, for: 1s}}]\nload:\n- name: l\n  rate: 20/s\n  \
                     protocol: {protocol}\n  draw: {{item: {{uniform: {{of: 9}}}}}}\n  \
                     request: {{post: \"/{{{{item}}}}\", body: {{file: {file}}}}}\n"
                ),
            );
            squall
                .run(&["check", "--explain", "plans/plan.yaml"])
                .expect(0)
                .saying(&format!("with a body of {} bytes", body.len()));
            squall.run(&["run", "plans/plan.yaml", "--out", &format!("{file}-{protocol}")]);
            let all: Vec<Vec<u8>> = hears.try_iter().collect();
            assert_eq!(all.len(), 20, "{file} over {protocol}");
            assert!(all.iter().all(|heard| heard == body), "{file} over {protocol}");
        }
    }
}

/// A server that tells what bodies it was sent.
mod echo {
    use std::convert::Infallible;
    use std::sync::mpsc::SyncSender;

    use http_body_util::{BodyExt, Empty};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    /// Starts it, for as long as the process lives, and returns its URL.
    pub fn start(http2: bool, heard: SyncSender<Vec<u8>>) -> String {
        let (ready, address) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let heard = heard.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let heard = heard.clone();
                        async move {
                            let body = request.into_body().collect().await.expect("a whole body").to_bytes().to_vec();
                            // Whoever only knocked sends nothing; and the test may be over.
                            let _ = heard.try_send(body);
                            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                        }
                    });
                    let stream = TokioIo::new(stream);
                    tokio::spawn(async move {
                        // What a client does to its connection is the client's business.
                        if http2 {
                            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                .serve_connection(stream, service)
                                .await;
                        } else {
                            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                        }
                    });
                }
            });
        });
        format!("http://{}/", address.recv().expect("the server starts"))
    }
}
