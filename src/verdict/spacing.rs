//! Whether what was sent is spaced as it was planned. A generator that stands still and catches up sends bursts that the plan never asked
//! for, and the service pays for them. What tells is the index of dispersion of counts, `I = Var N / E N` over windows: 1 for Poisson
//! arrivals, more for bursts. Planned and sent are counted over the same requests in the same windows, so the mean is the same, and
//!
//! ```text
//! I(sent) - I(planned) = (sum s^2 - sum d^2) / n        s, d: sent and due in a window; n: requests
//! ```
//!
//! is what the generator added, whatever the process is. A test of the sent gaps against the distribution of the process (Kolmogorov and
//! Smirnov, Anderson and Darling) would find, with enough requests, that a wake-up takes microseconds, which harms nobody; and would know
//! no distribution for half of the processes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::{SPACING_MS, Spacing};
use crate::time::Offset;

/// The burstiness that the generator added to a schedule: the index of dispersion of counts as sent less that as planned, in windows of
/// three widths. Negative where what was sent is smoother than planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dispersion {
    pub in_1ms: f64,
    pub in_10ms: f64,
    /// The one that is judged: what lies below is lateness, which has a limit of its own.
    pub in_100ms: f64,
}

/// The spacing of the load that was distorted most.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spaced {
    pub(super) load: Name,
    pub(super) added: Dispersion,
    /// The most that may be added in windows of 100 ms.
    pub(super) limit: f64,
}

/// So much may always be added: the variance of Poisson arrivals once more.
const ALWAYS: f64 = 1.0;
/// The square of the share by which counts may vary beyond the plan: a seventh of the mean.
const VARIATION: f64 = 0.02;
/// Standard errors that chance is given: one sum in 30,000 strays so far, if its error were as large as this bound on it.
const CHANCE: f64 = 4.0;
/// The window that is judged, in seconds, and its place in [`SPACING_MS`].
const JUDGED: (f64, usize) = (0.1, 2);

/// The load that was distorted most in `[from, to)`, where `lateness` is the most that requests may be late; `None` where no spacing was
/// recorded.
pub(super) fn worst(history: &History, from: Offset, to: Offset, lateness: Duration) -> Option<Spaced> {
    let within = |spacing: &&Spacing| {
        let start = Offset::from_nanos(spacing.second.saturating_mul(1_000_000_000));
        start < to && start + Duration::from_secs(1) > from
    };
    let of_load = |load: &Name| {
        let sums = history.spacing().filter(within).filter(|spacing| spacing.load == *load).fold(Sums::default(), Sums::and);
        (sums.requests > 0.0).then(|| Spaced { load: load.clone(), added: sums.added(), limit: sums.limit(lateness) })
    };
    let strain = |spaced: &Spaced| spaced.added.in_100ms / spaced.limit;
    history.loads().filter_map(of_load).max_by(|one, other| strain(one).total_cmp(&strain(other)))
}

/// Sums over the seconds of one load.
#[derive(Clone, Copy, Default)]
struct Sums {
    requests: f64,
    planned: [f64; SPACING_MS.len()],
    sent: [f64; SPACING_MS.len()],
}

impl Sums {
    fn and(self, more: &Spacing) -> Sums {
        let plus = |sums: [f64; 3], more: [u64; 3]| [0, 1, 2].map(|width| sums[width] + more[width] as f64);
        Sums {
            requests: self.requests + more.requests as f64,
            planned: plus(self.planned, more.planned),
            sent: plus(self.sent, more.sent),
        }
    }

    fn added(&self) -> Dispersion {
        let [in_1ms, in_10ms, in_100ms] = [0, 1, 2].map(|width| (self.sent[width] - self.planned[width]) / self.requests);
        Dispersion { in_1ms, in_10ms, in_100ms }
    }

    /// The most that may be added in the windows that are judged, of three parts.
    ///
    /// What is harmless: [`ALWAYS`], and a [`VARIATION`] of the counts, of which `sum d^2 / n`, the mean count that a request finds around
    /// itself, makes an index.
    ///
    /// What the limit of lateness allows: whoever sends all that is due every `L` shifts up to `L` of requests, evenly, over each bound
    /// of a window `w`, which is a variance of `(L / w)^2 / 6` of the squared mean. So no run is refused here for being as late as it may.
    ///
    /// What chance does: requests that cross a bound change the counts by chance. If all did, planned and sent were two draws of the
    /// process, whose indices have variances of `2 / windows` each for Poisson (Cox and Lewis, 1966); for counts that vary,
    /// `4 sum d^2 / n^2` bounds the sum of both.
    fn limit(&self, lateness: Duration) -> f64 {
        let planned = self.planned[JUDGED.1].max(self.requests);
        let around = planned / self.requests;
        let late = lateness.as_secs_f64() / JUDGED.0;
        ALWAYS + around * (VARIATION + late * late / 6.0) + CHANCE * 2.0 * planned.sqrt() / self.requests
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::Rng;
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const ALLOWED: Duration = Duration::from_millis(10);

    fn uniform(random: &mut Pcg64Mcg) -> f64 {
        ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Poisson arrivals in seconds.
    fn poisson(random: &mut Pcg64Mcg, rate: f64, seconds: f64) -> Vec<f64> {
        let mut t = 0.0;
        let gaps = std::iter::from_fn(|| {
            t -= uniform(random).ln() / rate;
            (t < seconds).then_some(t)
        });
        gaps.collect()
    }

    /// Counts squared in windows of 100 ms; the other widths are the same in kind.
    fn sums(due: &[f64], sent: &[f64]) -> Sums {
        let squares = |times: &[f64]| {
            let mut counts: BTreeMap<i64, f64> = BTreeMap::new();
            times.iter().for_each(|t| *counts.entry((t / JUDGED.0).floor() as i64).or_default() += 1.0);
            [counts.values().map(|count| count * count).sum(); 3]
        };
        Sums { requests: due.len() as f64, planned: squares(due), sent: squares(sent) }
    }

    /// A generator that stands still between the moments, and sends what has come due at each.
    fn stopping(due: &[f64], mut runs_again: impl FnMut(f64) -> f64) -> Vec<f64> {
        let mut again = 0.0;
        let sent = due.iter().map(|t| {
            if *t >= again {
                again = runs_again(*t);
            }
            again.max(*t)
        });
        sent.collect()
    }

    /// Goal: a generator within its limit of lateness is not refused for its spacing, fewer than once in ten thousand runs. How: 2,000
    /// runs of each kind of honest lateness, at rates and lengths at which the error is largest, from a fixed seed; the most that any of
    /// them comes to is below three quarters of the limit. What is added has the tail of a sum of many, so that the last quarter is worth
    /// far more than the factor of five that 2,000 runs leave open.
    #[test]
    fn honest_runs_are_not_refused() {
        let mut random = Pcg64Mcg::new(7);
        for (rate, seconds) in [(50.0, 2.0), (20.0, 30.0), (1_000.0, 1.0), (5_000.0, 0.5)] {
            for kind in ["wake-ups", "ticks of 10ms", "a busy machine", "late by 10ms"] {
                let mut highest = f64::MIN;
                for _ in 0..500 {
                    let due = poisson(&mut random, rate, seconds);
                    if due.is_empty() {
                        continue;
                    }
                    let phase = uniform(&mut random) * 0.01;
                    let sent = match kind {
                        // Exponential, 60 us in the mean.
                        "wake-ups" => due.iter().map(|t| t - uniform(&mut random).ln() * 60e-6).collect(),
                        "ticks of 10ms" => stopping(&due, |t| ((t - phase) / 0.01).ceil() * 0.01 + phase),
                        // One time slice in three goes to somebody else, for up to 10 ms.
                        "a busy machine" => {
                            stopping(&due, |t| t + if uniform(&mut random) < 0.33 { uniform(&mut random) * 0.01 } else { 0.0 })
                        }
                        _ => due.iter().map(|t| t + uniform(&mut random) * 0.01).collect(),
                    };
                    let sums = sums(&due, &sent);
                    highest = highest.max(sums.added().in_100ms / sums.limit(ALLOWED));
                }
                assert!(highest < 0.75, "{kind} at {rate}/s for {seconds}s comes to {highest:.2} of the limit");
            }
        }
    }

    /// Goal: what a plan never asked for is found. How: standing still for long enough to matter, and catching up, while all else is in
    /// time; as seldom as leaves the 99th percentile of lateness alone.
    #[test]
    fn catching_up_in_bursts_is_found() {
        let mut random = Pcg64Mcg::new(8);
        for (rate, seconds, stop) in [(1_000.0, 60.0, 0.57), (5_000.0, 60.0, 0.5)] {
            let due = poisson(&mut random, rate, seconds);
            let sent = stopping(&due, |t| if (20.0..20.01).contains(&t) { t + stop } else { t });
            let late = due.iter().zip(&sent).filter(|(due, sent)| *sent - *due > 0.01).count();
            assert!(late * 100 < due.len(), "the limit of lateness does not see it");
            let sums = sums(&due, &sent);
            let (added, limit) = (sums.added().in_100ms, sums.limit(ALLOWED));
            assert!(added > limit, "{rate}/s, {stop}s: {added:.2} is within {limit:.2}");
        }
        // Every 130 ms, at a modest rate: clumps of 65 where 50 came one by one.
        let due = poisson(&mut random, 500.0, 30.0);
        let sums = sums(&due, &stopping(&due, |t| (t / 0.13).ceil() * 0.13));
        assert!(sums.added().in_100ms > sums.limit(ALLOWED));
    }

    #[test]
    fn smoother_than_planned_is_no_burst_and_a_herd_takes_its_time() {
        // 500 at once go out over 4 ms, as sockets take them.
        let due = vec![1.098; 500];
        let sent: Vec<f64> = (0..500).map(|n| 1.098 + f64::from(n) * 8e-6).collect();
        let sums = sums(&due, &sent);
        assert!(sums.added().in_100ms < 0.0 && sums.limit(ALLOWED) > 1.0);
    }
}
