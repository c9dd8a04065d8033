//! When was service back? The first second from which goodput is at 95% of what it was before, and stays there for a while.
//! Goodput is taken per request that was due, so that neither the noise of arrivals nor a new phase looks like a change.

use std::time::Duration;

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
/// A second with fewer requests than this cannot be told from a good or bad one.
const REQUESTS_LEAST: f64 = 10.0;
/// How far back "before" reaches, and how little of it will do.
const BEFORE_S: (i64, i64) = (10, 3);

/// What counts as good, of which requests.
#[derive(Clone, Copy, Debug)]
pub struct Goodput<'a> {
    pub load: Option<&'a Name>,
    /// An answer is good when it took at most this long; however long, when `None`.
    pub within: Option<Span>,
}

/// One second: good and due.
type Second = (i64, u64, u64);

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

    /// The first second at or after `start` from which every second is back at 95% of `normal` for `hold`, given that the
    /// stretch also reaches beyond `past`; and the second in which it fell again before `end`, if it did.
    pub fn back(
        &self,
        history: &History,
        (start, past, end): (Offset, Offset, Offset),
        normal: f64,
        hold: Duration,
    ) -> (Option<Offset>, Option<i64>) {
        let hold_s = (hold.as_secs_f64().ceil() as i64).max(1);
        let seconds = self.seconds(history, start, end);
        let mut since: Option<i64> = None;
        for (index, second) in seconds.iter().enumerate() {
            if !good(*second, normal) {
                since = None;
                continue;
            }
            let from = *since.get_or_insert(second.0);
            if second.0 - from + 1 >= hold_s && second.0 >= past.second() {
                let back = Offset::from_nanos(from.saturating_mul(1_000_000_000)).max(start);
                let again = seconds[index + 1..].iter().find(|second| !good(**second, normal)).map(|second| second.0);
                return (Some(back), again);
            }
        }
        (None, None)
    }
}

fn share(seconds: &[Second]) -> f64 {
    let (good, due) = seconds.iter().fold((0, 0), |(good, due), second| (good + second.1, due + second.2));
    if due == 0 { 0.0 } else { good as f64 / due as f64 }
}

/// One stray request does not make a second bad: with few requests it would be more than five per cent.
fn good((_, good, due): Second, normal: f64) -> bool {
    good as f64 >= BACK * normal * due as f64 || due.saturating_sub(good) <= 1
}
