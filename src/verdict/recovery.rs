//! When was service back? The second from which goodput is at 95% of what it was before, stays there for a while, and is not lost again
//! before the bound has passed.
//! Goodput is taken per request that was due, so that neither the noise of arrivals nor a new phase looks like a change.

use std::time::Duration;

use super::draft::Draft;
use super::moment::{Seen, decide};
use super::words::seconds;
use super::{Need, Verdict};
use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::Outcome;
use crate::recording::sink::Measure;
use crate::time::Offset;
use crate::units::Span;

/// The share of its old goodput at which a service counts as back.
const BACK: f64 = 0.95;
/// How much goodput before the fault may differ between its first and second half.
const STEADY: f64 = 0.1;
/// Fewer requests than this cannot be told good or bad.
const REQUESTS_LEAST: f64 = 10.0;
/// Goodput is known per second.
pub const RESOLUTION: Duration = Duration::from_secs(1);
/// How far back "before" reaches, and how little of it will do.
const BEFORE_S: (i64, i64) = (10, 3);

/// What counts as good, of which requests.
#[derive(Clone, Copy, Debug)]
pub struct Goodput<'a> {
    pub load: Option<&'a Name>,
    /// An answer is good when it took at most this long; however long, when `None`.
    pub within: Option<Span>,
}

/// What a claim on recovery needs, by the key that makes it.
pub fn need(key: &str) -> Need {
    let why =
        format!("`{key}` is judged by what is sent while the service is away, and users who wait for answers send nothing then");
    Need::OpenModel { why }
}

/// One second: good and due.
type Second = (i64, u64, u64);

/// As many seconds as it takes to see ten requests: one, at the rates of most loads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    from: i64,
    /// The second after its last.
    to: i64,
    good: u64,
    due: u64,
}

/// The recovery that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// From when it is counted.
    pub start: Offset,
    /// What stayed good for the hold counts only when it did so beyond this moment too: before it nothing had struck yet.
    pub past: Offset,
    pub bound: Duration,
    /// How long goodput must stay to count as back.
    pub hold: Duration,
}

/// How it went.
#[derive(Debug)]
pub struct Recovery {
    pub back: Option<Offset>,
    pub verdict: Verdict,
    /// In words that follow "95% of the goodput".
    pub said: String,
}

impl Goodput<'_> {
    /// Per second of `[from, to)` in which anything was due.
    pub fn seconds(&self, history: &History, from: Offset, to: Offset) -> Vec<Second> {
        let slow = self.within.map(|limit| {
            let limit_us = u64::try_from(limit.duration().as_micros()).unwrap_or(u64::MAX);
            history.above_per_second(self.load, &[Outcome::Ok], Measure::Response, limit_us, from, to)
        });
        history
            .per_second(self.load, from, to)
            .into_iter()
            .filter(|(_, counts)| counts.intended > 0)
            .map(|(second, counts)| {
                let slow = slow.as_ref().and_then(|slow| slow.get(&second)).map_or(0, |(slow, _)| *slow);
                (second, counts.ok.saturating_sub(slow), counts.intended)
            })
            .collect()
    }

    /// The share that was good before `at`, over at most ten whole seconds.
    ///
    /// # Errors
    /// In words, when there is too little to see, or it was not steady.
    pub fn before(&self, history: &History, at: Offset) -> Result<f64, String> {
        if let Some(load) = history.closed(self.load).next() {
            return Err(format!(
                "the users of {load} wait for answers, and while there are none they send nothing that could show that service is not \
                 back: give the load a `rate`"
            ));
        }
        let whole = Offset::from_nanos(at.second().saturating_mul(1_000_000_000));
        let from = (whole - Duration::from_secs(BEFORE_S.0.unsigned_abs())).max(history.whole().0);
        let seconds = self.seconds(history, from, whole);
        let due: u64 = seconds.iter().map(|(_, _, due)| due).sum();
        if (seconds.len() as i64) < BEFORE_S.1 {
            return Err(format!(
                "only {} of load came before it, {} s are needed to know what was normal: start the fault later",
                super::words::count(seconds.len() as u64, "second"),
                BEFORE_S.1
            ));
        }
        if (due as f64) < REQUESTS_LEAST * seconds.len() as f64 {
            return Err(format!(
                "{:.1} requests a second are too few to see a recovery second by second: at least {REQUESTS_LEAST} are needed",
                due as f64 / seconds.len() as f64
            ));
        }
        let (first, second) = seconds.split_at(seconds.len() / 2);
        let (a, b, all) = (share(first), share(second), share(&seconds));
        if (a - b).abs() > STEADY {
            return Err(format!(
                "service was not steady before it: {} good in the first half of the {} s before, {} in the second",
                super::words::percent(a),
                seconds.len(),
                super::words::percent(b)
            ));
        }
        if all < 0.5 {
            return Err(format!("service was already down before it: {} good", super::words::percent(all)));
        }
        Ok(all)
    }

    /// Judges when goodput was back at 95% of `normal`: the last time that it came back and stayed for `hold` before the bound passed,
    /// since what is lost again within the bound was no recovery; the first time after it, where there was none before. A single bad
    /// second does not lose it, two within a hold do. The draft gets value, interval, sample and notes.
    pub fn recovery(&self, draft: Draft, asked: Asked, normal: f64, history: &History) -> (Draft, Recovery) {
        let (_, end) = history.whole();
        let Asked { start, bound, hold, .. } = asked;
        let looks = looks(&self.seconds(history, start, end));
        let found = search(&looks, asked, normal);
        let back = found.back.map(|index| looks[index].start().max(start));

        let until = back.map_or(end, |back| (back + hold).max(start + bound).min(end));
        let mut draft = draft.samples(self.seconds(history, start, until).iter().map(|(_, _, due)| due).sum());
        if let Some(second) = found.again {
            let when = if at(second + 1) <= start + bound {
                "before the bound had passed: only what stays counts"
            } else {
                "after the bound"
            };
            draft = draft.note(format!("goodput fell again in second {second}, {when}"));
        }
        if let Some(dip) = found.dip {
            draft = draft.note(format!("goodput dipped in second {}, for no longer than that", looks[dip].from));
        }
        let watched = looks.last().map_or(start, |look| at(look.to));
        let (verdict, said) = match (back, found.away) {
            // Lost again a moment later, it would have been none.
            (Some(back), _) if back <= start + bound && watched + RESOLUTION <= start + bound => {
                let why = format!(
                    "came after {}, and whether it stayed is known for only {} of the {} allowed: let the load go on for longer, or ask \
                     for less",
                    seconds(back.since(start).as_secs_f64()),
                    seconds(watched.since(start).as_secs_f64()),
                    seconds(bound.as_secs_f64())
                );
                (Verdict::Inconclusive, why)
            }
            (Some(back), _) => {
                let after = back.since(start);
                let resolution = found.back.map_or(RESOLUTION, |index| resolution(&looks, index));
                // It came somewhere between the look before and this one.
                draft = draft
                    .observed(after.as_secs_f64())
                    .interval(after.saturating_sub(resolution).as_secs_f64(), after.as_secs_f64());
                // What is seen in time is in time, however long nobody looked before.
                decide(Seen::After(after), bound, if after > bound { resolution } else { RESOLUTION })
            }
            (None, Some(away)) if away >= start + bound => decide(Seen::NotWithin(away.since(start)), bound, RESOLUTION),
            (None, _) => {
                let why = format!(
                    "was seen neither to come and stay for {} nor to stay away for {}: that takes at least {REQUESTS_LEAST} requests a \
                     second for the first {}",
                    seconds(hold.as_secs_f64()),
                    seconds(bound.as_secs_f64()),
                    seconds((bound + hold).as_secs_f64())
                );
                (Verdict::Inconclusive, why)
            }
        };
        (draft, Recovery { back, verdict, said })
    }
}

impl Look {
    fn start(&self) -> Offset {
        at(self.from)
    }

    /// One stray request does not make a look bad: with ten requests it would be ten per cent.
    fn is_good(&self, normal: f64) -> bool {
        self.good as f64 >= BACK * normal * self.due as f64 || self.due.saturating_sub(self.good) <= 1
    }
}

/// What was found among looks.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The look from which service was back.
    back: Option<usize>,
    /// The start of the last look in which it was not.
    away: Option<Offset>,
    /// The second in which it fell after it had been back.
    again: Option<i64>,
    /// The last look in which it was bad for a moment after it had been back.
    dip: Option<usize>,
}

fn search(looks: &[Look], asked: Asked, normal: f64) -> Found {
    let hold_s = (asked.hold.as_secs_f64().ceil() as i64).max(1);
    let mut found = Found::default();
    let mut since: Option<usize> = None;
    for (index, look) in looks.iter().enumerate() {
        if !look.is_good(normal) {
            match (found.back, found.dip) {
                (None, _) => {
                    found.away = Some(look.start());
                    since = None;
                }
                // Bad twice within a hold: it did not hold.
                (Some(_), Some(dip)) if look.from - looks[dip].to < hold_s => {
                    found = Found { away: Some(look.start()), again: Some(looks[dip].from), dip: None, ..found };
                    if at(looks[dip].to) > asked.start + asked.bound {
                        return found;
                    }
                    (found.back, since) = (None, None);
                }
                (Some(_), _) => found.dip = Some(index),
            }
            continue;
        }
        // Nothing was seen between two looks that do not meet, so nothing held there.
        since = since.filter(|_| looks[index - 1].to == look.from);
        let first = *since.get_or_insert(index);
        if look.to - looks[first].from >= hold_s && look.to > asked.past.second() {
            found.back.get_or_insert(first);
        }
    }
    found
}

/// From the start of the look before to the start of this one; a second for the first.
fn resolution(looks: &[Look], index: usize) -> Duration {
    index.checked_sub(1).map_or(RESOLUTION, |before| looks[index].start().since(looks[before].start()))
}

/// Seconds, put together where one has too few requests to be told good or bad. A second without any ends a look that is under way:
/// nobody knows what would have become of requests then.
fn looks(seconds: &[Second]) -> Vec<Look> {
    let mut looks = Vec::new();
    let mut under_way: Option<Look> = None;
    for (second, good, due) in seconds {
        let mut look =
            under_way.take().filter(|look| look.to == *second).unwrap_or(Look { from: *second, to: *second, good: 0, due: 0 });
        look.to = second + 1;
        look.good += good;
        look.due += due;
        if look.due as f64 >= REQUESTS_LEAST {
            looks.push(look);
        } else {
            under_way = Some(look);
        }
    }
    looks
}

fn at(second: i64) -> Offset {
    Offset::from_nanos(second.saturating_mul(1_000_000_000))
}

fn share(seconds: &[Second]) -> f64 {
    let (good, due) = seconds.iter().fold((0, 0), |(good, due), second| (good + second.1, due + second.2));
    if due == 0 { 0.0 } else { good as f64 / due as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty a second, of which so many are good, from second 8 on; recovery counts from 8.3 s and has 8 s.
    fn found(good: &[u64]) -> Found {
        let seconds: Vec<Second> = good.iter().zip(8..).map(|(good, second)| (second, *good, 60)).collect();
        search(&looks(&seconds), asked(), 1.0)
    }

    fn asked() -> Asked {
        let start = Offset::from_secs_f64(8.3);
        Asked { start, past: start, bound: Duration::from_secs(8), hold: Duration::from_secs(3) }
    }

    #[test]
    fn what_is_lost_again_within_the_bound_was_no_recovery() {
        let lost = found(&[60, 60, 60, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lost, Found { away: Some(at(17)), again: Some(11), ..Found::default() });
        let flapping = found(&[60, 60, 60, 0, 60, 0, 60, 60, 60]);
        assert_eq!(flapping, Found { back: Some(6), away: Some(at(13)), again: Some(11), dip: None });
    }

    #[test]
    fn a_single_bad_second_loses_nothing() {
        assert_eq!(found(&[60, 60, 60, 0, 60, 60, 60]), Found { back: Some(0), dip: Some(3), ..Found::default() });
        assert_eq!(found(&[60, 60, 60, 0, 60, 60, 60, 0]), Found { back: Some(0), dip: Some(7), ..Found::default() });
    }

    #[test]
    fn what_is_lost_after_the_bound_is_another_story() {
        let good = [0, 60, 60, 60, 60, 60, 60, 60, 0, 0];
        assert_eq!(
            found(&good),
            Found { back: Some(1), away: Some(at(17)), again: Some(16), dip: None },
            "16.3 s are in second 16"
        );
    }

    #[test]
    fn few_requests_are_looked_at_together_and_never_pass_for_good() {
        let look = |from, to, good, due| Look { from, to, good, due };
        let seconds: Vec<Second> = (10..24).map(|second| (second, 0, 1)).collect();
        assert_eq!(looks(&seconds), [look(10, 20, 0, 10)], "what is left over tells nothing");
        assert!(!look(10, 20, 0, 10).is_good(1.0) && look(10, 20, 9, 10).is_good(1.0));
        assert_eq!(
            looks(&[(1, 4, 6), (3, 6, 6), (4, 6, 6)]),
            [look(3, 5, 12, 12)],
            "a look does not reach over a second without load"
        );
    }

    #[test]
    fn a_second_without_load_holds_nothing() {
        let seconds = [(8, 60, 60), (9, 60, 60), (14, 60, 60), (15, 60, 60), (16, 60, 60)];
        assert_eq!(search(&looks(&seconds), asked(), 1.0).back, Some(2));
        assert_eq!(search(&looks(&seconds[..2]), asked(), 1.0), Found::default());
    }
}
