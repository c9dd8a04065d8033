//! The ratio engine: bad out of all, against a budget, with exact bounds. Availability, latency percentiles, losses and refusals
//! are all this one question; "p99 <= L" is exactly "at most 1% are slower than L".

use super::Verdict;
use super::statistics::{clopper_pearson, least_samples, overdispersion};
use super::words::{count, percent};

/// The most requests that a way out proposes.
const PROPOSAL_MOST: u64 = 100_000_000;

/// A share of bad ones with its one-sided 95% bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub bad: u64,
    pub n: u64,
    /// How much the bad ones cluster; 1 when they do not.
    pub phi: f64,
    pub point: f64,
    pub low: f64,
    pub high: f64,
}

impl Share {
    /// The bad ones as a sample of a process that goes on: clustering in time counts against the sample's size.
    pub fn of_process(seconds: impl IntoIterator<Item = (u64, u64)> + Clone) -> Share {
        let (mut bad, mut n) = (0, 0);
        for (k, all) in seconds.clone() {
            bad += k;
            n += all;
        }
        Share::with(bad, n, overdispersion(seconds))
    }

    /// The bad ones of one happening: that they cluster is what a happening is.
    pub fn of_happening(bad: u64, n: u64) -> Share {
        Share::with(bad, n, 1.0)
    }

    fn with(bad: u64, n: u64, phi: f64) -> Share {
        let point = if n > 0 { bad as f64 / n as f64 } else { 0.0 };
        let (low, high) = clopper_pearson(bad as f64 / phi, n as f64 / phi);
        Share { bad, n, phi, point, low, high }
    }

    /// PASS when even the upper bound meets the budget, FAIL when even the lower one breaks it. A budget of nothing is a count:
    /// one bad one breaks it, and none keeps it.
    pub fn against(&self, budget: f64) -> Verdict {
        if self.n == 0 {
            Verdict::Inconclusive
        } else if budget <= 0.0 {
            if self.bad == 0 { Verdict::Pass } else { Verdict::Fail }
        } else if self.high <= budget {
            Verdict::Pass
        } else if self.low > budget {
            Verdict::Fail
        } else {
            Verdict::Inconclusive
        }
    }

    /// The most bad ones of as many, as clustered, that still pass; the fewest that fail.
    pub fn edges(&self, budget: f64) -> (Option<u64>, Option<u64>) {
        let first = |is: &dyn Fn(Verdict) -> bool| {
            let (mut low, mut high) = (0, self.n + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                if is(Share::with(middle, self.n, self.phi).against(budget)) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        let fails = first(&|verdict| verdict == Verdict::Fail);
        (first(&|verdict| verdict != Verdict::Pass).checked_sub(1), (fails <= self.n).then_some(fails))
    }

    /// `0.2% (95% bounds 0.15% to 0.28%, n 4000)`, and what clustering cost where it cost something.
    pub fn words(&self) -> String {
        let clustering = if self.phi > 1.05 {
            format!(", worth {:.0} since the bad ones cluster", (self.n as f64 / self.phi).floor())
        } else {
            String::new()
        };
        format!("{} (95% bounds {} to {}, n {}{clustering})", percent(self.point), percent(self.low), percent(self.high), self.n)
    }

    /// What would decide a share that is not decided.
    pub fn way_out(&self, budget: f64) -> String {
        if self.n == 0 {
            return "nothing was counted; give the window some load".to_owned();
        }
        let least = least_samples(budget);
        if self.bad == 0 {
            return format!("no fewer than {} can show it; make the window longer or the rate higher", count(least, "request"));
        }
        let decides = |n: u64| {
            let share = Share::with((self.point * n as f64).round() as u64, n, self.phi);
            share.against(budget) != Verdict::Inconclusive
        };
        let mut n = self.n.max(least);
        while n < PROPOSAL_MOST && !decides(n) {
            n = n.saturating_mul(5) / 4 + 1;
        }
        if n < PROPOSAL_MOST {
            format!("about {n} requests would decide it; make the window longer or the rate higher")
        } else {
            "the value lies so close to the limit that no number of requests decides it".to_owned()
        }
    }
}

/// One minus the share that must be good, without the last-digit noise of the subtraction.
pub fn budget(good: f64) -> f64 {
    ((1.0 - good) * 1e12).round() / 1e12
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cut-offs of the statistics' own table.
    #[test]
    fn the_edges_are_where_the_verdict_turns() {
        assert_eq!(Share::of_happening(10, 1000).edges(0.01), (Some(4), Some(16)));
        assert_eq!(Share::of_happening(0, 100).edges(0.01), (None, Some(4)));
        assert_eq!(Share::of_happening(0, 4).edges(0.5), (None, None));
    }

    #[test]
    fn the_three_verdicts() {
        assert_eq!(Share::of_happening(4, 1000).against(0.01), Verdict::Pass);
        assert_eq!(Share::of_happening(10, 1000).against(0.01), Verdict::Inconclusive);
        assert_eq!(Share::of_happening(16, 1000).against(0.01), Verdict::Fail);
        assert_eq!(Share::of_happening(0, 0).against(0.01), Verdict::Inconclusive);
        assert_eq!(Share::of_happening(0, 5).against(0.0), Verdict::Pass);
        assert_eq!(Share::of_happening(1, 5).against(0.0), Verdict::Fail);
    }

    #[test]
    fn a_way_out_is_enough_when_it_is_taken() {
        let share = Share::of_happening(6, 1000);
        assert_eq!(share.against(0.01), Verdict::Inconclusive);
        assert!(share.way_out(0.01).starts_with("about "), "{}", share.way_out(0.01));
        assert!(Share::of_happening(0, 100).way_out(0.01).contains("299 requests"));
    }

    /// The same count decides when it is spread and does not when it came at once.
    #[test]
    fn one_burst_of_failures_is_one_sample() {
        let spread: Vec<(u64, u64)> = (0..60).map(|s| (u64::from(s % 2 == 0), 100)).collect();
        let burst: Vec<(u64, u64)> = (0..60).map(|s| (if s == 0 { 30 } else { 0 }, 100)).collect();
        assert_eq!(Share::of_process(spread).against(0.01), Verdict::Pass);
        assert_eq!(Share::of_process(burst).against(0.01), Verdict::Inconclusive);
    }
}
