//! The target's name, looked up again and again while a run goes on: new connections go to the addresses that it stands for by then.
//! What is found and how long that took is recorded, also of the look before the run.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::protocol::Addresses;
use crate::recording::Sink;
use crate::recording::fact::{Fact, Lookup};
use crate::time::monotonic_now;
use crate::units::Span;

/// How many addresses are recorded of one look; more are counted.
const RECORDED: usize = 64;

/// A name, what it stands for, and how often that is to be looked up.
pub struct Lookups {
    pub host: String,
    pub every: Option<Duration>,
    /// How long one look may take.
    pub patience: Duration,
    /// Where new connections go.
    pub addresses: Addresses,
    /// Those that took no connection before the run, though the name stands for them: as long as it does, they are left out, as a client
    /// does that goes to the next.
    pub shut: Vec<SocketAddr>,
    /// What the look before the run found, and how long it took.
    pub first: (Duration, Vec<SocketAddr>),
}

impl Lookups {
    /// Looks the name up for as long as it is waited for, with `ask`; what that finds is what new connections go to from then on. A look
    /// that finds nothing changes nothing.
    pub async fn keep<A>(mut self, sink: Sink, mut ask: impl FnMut() -> A) -> Infallible
    where
        A: Future<Output = Result<Vec<SocketAddr>, String>>,
    {
        let (took, mut known) = std::mem::take(&mut self.first);
        known.sort_unstable();
        known.dedup();
        sink.emit(self.fact(took, Ok((&known, true))));
        let closed = closed_families(&known, &self.shut);
        let Some(every) = self.every else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let begun = monotonic_now();
            let late = || Err(format!("no answer within {}", Span::from(self.patience)));
            let answer = tokio::time::timeout(self.patience, ask()).await.unwrap_or_else(|_| late());
            let took = monotonic_now() - begun;
            let found = answer.and_then(|mut found| {
                found.sort_unstable();
                found.dedup();
                if found.is_empty() { Err("it stands for no address".to_owned()) } else { Ok(found) }
            });
            match found {
                Err(why) => sink.emit(self.fact(took, Err(why))),
                Ok(found) => {
                    let news = found != known;
                    if news {
                        self.turn_to(&found, &closed);
                        known = found;
                    }
                    sink.emit(self.fact(took, Ok((&known, news))));
                }
            }
        }
    }

    /// New connections go to what was found, but for those that are known to be shut.
    fn turn_to(&mut self, found: &[SocketAddr], closed: &[Family]) {
        self.shut.retain(|shut| found.contains(shut));
        let is_open = |address: &&SocketAddr| !self.shut.contains(address) && !closed.contains(&Family::of(address));
        let open: Vec<SocketAddr> = found.iter().filter(is_open).copied().collect();
        self.addresses.set(if open.is_empty() { found.to_vec() } else { open });
    }

    fn fact(&self, took: Duration, found: Result<(&[SocketAddr], bool), String>) -> Fact {
        let (found, failed) = match found {
            Ok((found, news)) => (Some((found, news)), None),
            Err(why) => (None, Some(why)),
        };
        let news = found.filter(|(_, news)| *news).map(|(found, _)| found).unwrap_or_default();
        Fact::Lookup(Lookup {
            host: self.host.clone(),
            took_us: took.as_micros() as u64,
            found: found.map_or(0, |(found, _)| found.len() as u64),
            addresses: news.iter().take(RECORDED).map(ToString::to_string).collect(),
            failed,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: &SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The families that this machine has no way to, whatever address of them comes up: all of one were shut, and others were not.
fn closed_families(known: &[SocketAddr], shut: &[SocketAddr]) -> Vec<Family> {
    let is_open = |family: Family| known.iter().any(|address| Family::of(address) == family && !shut.contains(address));
    let is_closed = |(family, other): (Family, Family)| {
        known.iter().any(|address| Family::of(address) == family) && !is_open(family) && is_open(other)
    };
    [(Family::V4, Family::V6), (Family::V6, Family::V4)]
        .into_iter()
        .filter(|pair| is_closed(*pair))
        .map(|(family, _)| family)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::History;
    use crate::recording::fact::{Ending, RunEnded, RunStarted, SCHEMA};
    use crate::recording::writer::Recording;
    use crate::time::Clock;

    fn started() -> RunStarted {
        RunStarted {
            schema: SCHEMA.into(),
            run_id: "r".into(),
            squall: "0".into(),
            plan: "p".into(),
            claim: "c".into(),
            seed: 1,
            params: Default::default(),
            zero: "1970-01-01T00:00:00Z".into(),
            target: "http://shop.test/".into(),
            workload: None,
            autoscaler: None,
            phases: Vec::new(),
            loads: Vec::new(),
            faults: Vec::new(),
            environment: Default::default(),
        }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    /// Goal: what a name stands for is followed, what is shut is left out, a look that fails changes nothing, and all of it is told.
    /// How: a resolver that answers from a list.
    #[tokio::test]
    async fn new_connections_follow_the_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sink, recording) =
            Recording::create(folder.path(), Clock::starting_in(Duration::ZERO), started()).expect("a recording");
        let addresses = Addresses::of([address(1), address(2)]);
        let lookups = Lookups {
            host: "shop.test".into(),
            every: Some(Duration::from_millis(1)),
            patience: Duration::from_secs(20),
            addresses: addresses.clone(),
            shut: vec![address(9)],
            first: (Duration::from_micros(700), vec![address(9), address(1), address(2)]),
        };
        let mut answers = vec![
            // The same in another order, then others; nothing, no answer, only what is shut, and what was shut after it was gone.
            Ok(vec![address(2), address(9), address(1)]),
            Ok(vec![address(3), address(9), address(2)]),
            Ok(Vec::new()),
            Err("no such name".to_owned()),
            Ok(vec![address(9)]),
            Ok(vec![address(3)]),
            Ok(vec![address(3), address(9)]),
        ]
        .into_iter();
        let seen = std::cell::RefCell::new(Vec::new());
        let (done, over) = tokio::sync::oneshot::channel();
        let mut done = Some(done);
        let ask = || {
            seen.borrow_mut().push(addresses.now());
            let answer = answers.next();
            if answer.is_none() {
                done.take().map(|done| done.send(()));
            }
            async move { answer.unwrap_or(Err("over".to_owned())) }
        };
        tokio::select! {
            never = lookups.keep(sink.clone(), ask) => match never {},
            _ = over => {}
        }
        let before = vec![address(1), address(2)];
        let after = vec![address(2), address(3)];
        let expected = [
            before.clone(),
            before,
            after.clone(),
            after.clone(),
            after,
            vec![address(9)],
            vec![address(3)],
            vec![address(3), address(9)],
        ];
        // Who asks may ask once more before it is told that this is over.
        assert_eq!(seen.borrow()[..8], expected);
        recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).expect("a whole recording");
        let history = History::load(folder.path()).expect("a recording");
        let told: Vec<(u64, usize, bool)> = history
            .events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Lookup(lookup) => Some((lookup.found, lookup.addresses.len(), lookup.failed.is_some())),
                _ => None,
            })
            .collect();
        assert_eq!(
            told[..8],
            [(3, 3, false), (3, 0, false), (3, 3, false), (0, 0, true), (0, 0, true), (1, 1, false), (1, 1, false), (2, 2, false)]
        );
    }

    #[test]
    fn a_family_is_closed_where_all_of_it_is_shut_and_the_other_is_not() {
        let six = |last| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 80));
        let known = [address(1), six(1), six(2)];
        assert_eq!(closed_families(&known, &[six(1), six(2)]), [Family::V6]);
        assert_eq!(closed_families(&known, &[six(1)]), [], "one is open");
        assert_eq!(closed_families(&known, &[address(1)]), [Family::V4]);
        assert_eq!(closed_families(&known, &known), [], "then neither tells anything");
        assert_eq!(closed_families(&[address(1)], &[address(1)]), []);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sink, _recording) =
            Recording::create(folder.path(), Clock::starting_in(Duration::ZERO), started()).expect("a recording");
        let addresses = Addresses::of([address(1)]);
        let lookups = Lookups {
            host: "shop.test".into(),
            every: Some(Duration::from_millis(1)),
            patience: Duration::from_millis(20),
            addresses: addresses.clone(),
            shut: Vec::new(),
            first: (Duration::ZERO, vec![address(1)]),
        };
        let mut live = sink.subscribe();
        let keeping = lookups.keep(sink.clone(), std::future::pending);
        let told = async {
            loop {
                if let Fact::Lookup(Lookup { failed: Some(why), .. }) = &live.recv().await.expect("an event").fact {
                    return why.clone();
                }
            }
        };
        tokio::select! {
            never = keeping => match never {},
            why = told => assert_eq!(why, "no answer within 20ms"),
        }
        assert_eq!(addresses.now(), [address(1)]);
    }
}
