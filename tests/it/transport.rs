//! How requests get there: instants, connections, addresses. Method: a real run over loopback against servers whose clock, number or
//! place is known, and what the recording must then say of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use squall::plan::{Protocol, Rhythm, Rotation};
use squall::protocol::Addresses;
use squall::recording::sink::Measure;
use squall::time::Clock;

use crate::command::wait_until;
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::load::{Drive, LEAD, Ran};

/// Connections that carry so many requests, give or take a quarter.
fn carrying(requests: u32) -> Rotation {
    Rotation { age: None, requests: Some(requests) }
}

impl Ran {
    fn sum(&self, of: impl Fn(&squall::recording::fact::Tally) -> u64) -> u64 {
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
            Protocol::Http2 => assert_eq!((opened, ran.sum(|tally| tally.unopened)), (0, 25), "{:?}", ran.causes),
        }
        assert_eq!(ran.histogram(Measure::Tls).len(), 0);
    }
    let ran = Drive::at(format!("http://{}/", FakeTarget::nobody())).run();
    assert_eq!(ran.cause("connection refused"), 25, "{:?}", ran.causes);
    assert_eq!((ran.sum(|tally| tally.opened), ran.sum(|tally| tally.unopened)), (0, 25));
    assert_eq!(ran.histogram(Measure::Connect).len(), 0);
}

/// Goal: connections are replaced when they have carried enough, and whoever leaves opens no other before. How: users, one request a
/// connection, and then about ten.
#[test]
fn connections_are_replaced_by_count_and_not_for_who_leaves() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(5))));
    let users = Some((3, Rhythm::default()));
    let ran = Drive { users, rotation: carrying(1), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, ran.counts.intended, "{:?}", ran.causes);
    assert!(ran.counts.ok >= 10, "{:?}", ran.counts);
    assert_eq!((ran.sum(|tally| tally.opened), target.seen().connections), (ran.counts.ok, ran.counts.ok));

    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive { rate: 200.0, seconds: 1.0, connections: 1, rotation: carrying(10), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, 200, "{:?}", ran.causes);
    // Each carries 8 to 13; the last one is replaced too, since nobody knows that no request will come.
    assert!((15..=27).contains(&target.seen().connections), "{} connections", target.seen().connections);
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
