//! What a load's client does beyond sending each request once, ready to be asked: whether an attempt is followed by another and when,
//! and whether the budgets allow it. One for all workers of a load: a client has one budget, however many threads it has.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::names::Name;
use crate::plan::{self, Backoff, Jitter, Patience, Trigger};
use crate::protocol::{End, RetryAfter};
use crate::schedule::random::{seed_of_name, split_mix};
use crate::time::{Clock, Offset};
use crate::varying::draw::Chance;

/// The client of one load.
pub(super) struct Client {
    pub(super) retries: Option<Retries>,
    pub(super) hedge: Option<Hedge>,
}

/// Attempts one after the other.
pub(super) struct Retries {
    planned: plan::Retries,
    bucket: Option<Bucket>,
    /// What jitter hangs on.
    seed: u64,
}

/// Attempts side by side.
pub(super) struct Hedge {
    pub(super) after: Duration,
    pub(super) max: u32,
    bucket: Option<Bucket>,
}

/// What follows an attempt that ended badly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Another, so much later.
    Retry(Duration),
    /// Another would follow, and the budget does not allow it.
    Withheld,
    /// None.
    Over,
}

/// How an attempt ended, as far as its client looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) end: End,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) at: Offset,
}

impl Client {
    /// The client of the load `name`, whose seed is `seed`.
    pub(super) fn of(planned: &plan::Client, name: &Name, seed: u64) -> Client {
        Client {
            retries: planned.retries.clone().map(|planned| Retries {
                bucket: planned.budget.map(Bucket::of),
                planned,
                seed: seed_of_name(seed, &format!("{name} retries")),
            }),
            hedge: planned.hedge.as_ref().map(|hedge| Hedge {
                after: hedge.after.duration(),
                max: hedge.max,
                bucket: hedge.budget.map(Bucket::of),
            }),
        }
    }

    /// A request has come: the budgets grow by their share of it.
    pub(super) fn begins(&self) {
        let buckets = [self.retries.as_ref().and_then(|r| r.bucket.as_ref()), self.hedge.as_ref().and_then(|h| h.bucket.as_ref())];
        buckets.into_iter().flatten().for_each(Bucket::put);
    }

    /// How long one attempt may take, where that is not as long as its request.
    pub(super) fn attempt_timeout(&self) -> Option<Duration> {
        self.retries.as_ref()?.planned.attempt_timeout.map(|span| span.duration())
    }
}

impl Hedge {
    /// Whether another attempt may be sent beside those that are on their way; takes it from the budget.
    pub(super) fn allows_one(&self) -> bool {
        self.bucket.as_ref().is_none_or(Bucket::take)
    }
}

/// The waits of one request.
pub(super) struct Waits {
    chance: Chance,
    /// Attempts so far that followed one another.
    tries: u32,
    before: Duration,
}

impl Retries {
    /// Those of the request `number`, and of its `step` where it is the run of a flow: what they are depends on that and the run's seed alone.
    pub(super) fn waits(&self, number: u64, step: usize) -> Waits {
        Waits {
            chance: Chance::of(self.seed ^ split_mix(step as u64), number),
            tries: 1,
            before: self.planned.backoff.base.duration(),
        }
    }

    /// What follows an attempt that ended so, of a request that has until `deadline`. A retry that comes of it has been taken from the
    /// budget.
    pub(super) fn after(&self, failure: Failure, waits: &mut Waits, deadline: Offset, clock: Clock) -> Next {
        if !self.follows(failure.end) || waits.tries >= self.planned.attempts {
            return Next::Over;
        }
        let backoff = waits.next(&self.planned.backoff);
        let asked = match self.planned.retry_after {
            Patience::Ignore => None,
            _ => failure.retry_after.and_then(|said| said.seconds_from(clock.wall(failure.at))),
        };
        let asked = Duration::try_from_secs_f64(asked.unwrap_or_default()).unwrap_or(Duration::MAX);
        if matches!(self.planned.retry_after, Patience::AtMost(most) if asked > most.duration()) {
            return Next::Over;
        }
        let wait = backoff.max(asked);
        // It is not begun just to be out of time.
        if failure.at + wait >= deadline {
            return Next::Over;
        }
        if !self.bucket.as_ref().is_none_or(Bucket::take) {
            return Next::Withheld;
        }
        waits.tries += 1;
        Next::Retry(wait)
    }

    fn follows(&self, end: End) -> bool {
        let outcome = end.outcome();
        self.planned.on.iter().any(|trigger| match *trigger {
            Trigger::Outcome(known) => known == outcome,
            Trigger::Status(status) => matches!(end, End::Answered(said) | End::UpgradeRefused(said) if said == status),
        })
    }
}

impl Waits {
    /// The next wait, before whatever the peer asked for.
    fn next(&mut self, backoff: &Backoff) -> Duration {
        let whole = backoff.nth(self.tries);
        let wait = match backoff.jitter {
            Jitter::None => whole,
            Jitter::Full => whole.mul_f64(self.chance.unit()),
            Jitter::Equal => whole / 2 + (whole / 2).mul_f64(self.chance.unit()),
            Jitter::Decorrelated => {
                let (base, cap) = (backoff.base.duration(), backoff.cap.duration());
                let most = self.before.saturating_mul(3).max(base);
                (base + (most - base).mul_f64(self.chance.unit())).min(cap)
            }
        };
        self.before = wait;
        wait
    }
}

/// A budget: see [`plan::Budget`]. Millionths of a token, so that any share is exact enough.
struct Bucket {
    tokens: AtomicI64,
    share: i64,
    most: i64,
}

const TOKEN: i64 = 1_000_000;

impl Bucket {
    fn of(budget: plan::Budget) -> Bucket {
        let most = i64::from(budget.burst) * TOKEN;
        Bucket { tokens: AtomicI64::new(most), share: (budget.ratio.fraction() * TOKEN as f64).round() as i64, most }
    }

    fn put(&self) {
        let grown = |tokens: i64| (tokens < self.most).then(|| (tokens + self.share).min(self.most));
        // A full bucket stays as it is.
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
    }

    /// Takes a token, where there is one.
    fn take(&self) -> bool {
        let taken = |tokens: i64| (tokens >= TOKEN).then(|| tokens - TOKEN);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::Outcome;
    use crate::units::{Ratio, Span};

    fn retries(change: impl FnOnce(&mut plan::Retries)) -> Retries {
        let mut planned = plan::Retries {
            attempts: 3,
            on: vec![Trigger::Outcome(Outcome::Rejected), Trigger::Status(502)],
            backoff: Backoff { base: Span::from_millis(100), cap: Span::from_millis(150), jitter: Jitter::None },
            budget: None,
            retry_after: Patience::Any,
            attempt_timeout: None,
        };
        change(&mut planned);
        let client = plan::Client { retries: Some(planned), hedge: None };
        Client::of(&client, &"l".parse().expect("a name"), 7).retries.expect("it has some")
    }

    fn after(retries: &Retries, waits: &mut Waits, end: End, retry_after: Option<RetryAfter>) -> Next {
        let failure = Failure { end, retry_after, at: Offset::from_secs_f64(1.0) };
        retries.after(failure, waits, Offset::from_secs_f64(6.0), Clock::starting_in(Duration::ZERO))
    }

    const REJECTED: End = End::Answered(503);

    fn ms(ms: u64) -> Next {
        Next::Retry(Duration::from_millis(ms))
    }

    #[test]
    fn what_the_plan_names_is_tried_again_as_often_as_it_says() {
        let retries = retries(|_| {});
        let mut waits = retries.waits(1, 0);
        for (end, next) in [
            (End::Answered(200), Next::Over),
            (End::Answered(500), Next::Over),
            (End::NoAnswerInTime, Next::Over),
            (End::ConnectionBound, Next::Over),
            (End::Answered(502), ms(100)),
            (REJECTED, ms(150)),
            (REJECTED, Next::Over),
        ] {
            assert_eq!(after(&retries, &mut waits, end, None), next, "{end:?}");
        }
    }

    #[test]
    fn who_says_when_to_come_again_is_heard_as_far_as_the_plan_says() {
        let says = |retry_after: Patience, seconds: u32| {
            let retries = retries(|planned| planned.retry_after = retry_after);
            after(&retries, &mut retries.waits(1, 0), REJECTED, Some(RetryAfter::Seconds(seconds)))
        };
        assert_eq!(says(Patience::Any, 2), ms(2_000));
        assert_eq!(says(Patience::Any, 0), ms(100), "never earlier than the backoff");
        assert_eq!(says(Patience::Any, 5), Next::Over, "no time is left then");
        assert_eq!(says(Patience::AtMost(Span::from_secs(1)), 2), Next::Over);
        assert_eq!(says(Patience::AtMost(Span::from_secs(1)), 1), ms(1_000));
        assert_eq!(says(Patience::Ignore, 2), ms(100));
        assert_eq!(says(Patience::Any, u32::MAX), Next::Over);
        let retries = retries(|_| {});
        assert_eq!(after(&retries, &mut retries.waits(1, 0), REJECTED, Some(RetryAfter::Never)), Next::Over);
        assert_eq!(after(&retries, &mut retries.waits(1, 0), REJECTED, Some(RetryAfter::Unreadable)), ms(100));
    }

    #[test]
    fn jitters_keep_their_bounds_and_depend_on_the_seed_and_the_request_alone() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_millis(150));
        for (jitter, least, most, mean) in [
            (Jitter::Full, Duration::ZERO, base, 50.0),
            (Jitter::Equal, base / 2, base, 75.0),
            // From 100 to 300 ms, and no more than 150: a quarter of the time below the cap, 125 ms in the mean.
            (Jitter::Decorrelated, base, cap, 0.25 * 125.0 + 0.75 * 150.0),
        ] {
            let retries = retries(|planned| planned.backoff.jitter = jitter);
            let wait = |number| match after(&retries, &mut retries.waits(number, 0), REJECTED, None) {
                Next::Retry(wait) => wait,
                next => panic!("{next:?}"),
            };
            let waits: Vec<Duration> = (0..4_000).map(wait).collect();
            assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{jitter:?}");
            let seen = waits.iter().map(Duration::as_secs_f64).sum::<f64>() / 4.0;
            // Five standard deviations of a mean of 4,000 that are spread over at most 100 ms.
            assert!((seen - mean).abs() < 5.0 * 29.0 / 4_000_f64.sqrt(), "{jitter:?}: {seen} for {mean} ms");
            assert_eq!(wait(17), waits[17], "{jitter:?}");
        }
    }

    #[test]
    fn a_budget_that_is_spent_withholds() {
        let budget = Ratio::from_fraction(0.5).map(|ratio| plan::Budget { ratio, burst: 2 });
        let planned = plan::Client {
            retries: Some(plan::Retries { budget, ..retries(|_| {}).planned }),
            hedge: Some(plan::Hedge { after: Span::from_millis(5), max: 1, budget }),
        };
        let client = Client::of(&planned, &"l".parse().expect("a name"), 7);
        let (retries, hedge) = (client.retries.as_ref().expect("some"), client.hedge.as_ref().expect("one"));
        let next = || after(retries, &mut retries.waits(1, 0), REJECTED, None);
        assert_eq!([next(), next(), next()], [ms(100), ms(100), Next::Withheld]);
        assert_eq!([hedge.allows_one(), hedge.allows_one(), hedge.allows_one()], [true, true, false], "each has its own");
        client.begins();
        assert_eq!(next(), Next::Withheld, "half a token is none");
        client.begins();
        assert_eq!([next(), next()], [ms(100), Next::Withheld]);
    }

    proptest! {
        /// Goal: the bound that is documented holds over every stretch of requests, however they and the retries come.
        #[test]
        fn no_more_comes_of_a_budget_than_its_bound(
            steps in prop::collection::vec(any::<bool>(), 1..400),
            percent in 0_u32..=100,
            burst in 1_u32..20,
        ) {
            let ratio = Ratio::from_fraction(f64::from(percent) / 100.0).expect("a share");
            let bucket = Bucket::of(plan::Budget { ratio, burst });
            // For each stretch: requests and retries since its start.
            let mut since: Vec<(f64, f64)> = Vec::new();
            for request in steps {
                since.push((0.0, 0.0));
                let retried = !request && bucket.take();
                if request {
                    bucket.put();
                }
                for (requests, retries) in &mut since {
                    *requests += f64::from(u8::from(request));
                    *retries += f64::from(u8::from(retried));
                    prop_assert!(*retries <= ratio.fraction() * *requests + f64::from(burst) + 1e-6);
                }
            }
        }
    }
}
