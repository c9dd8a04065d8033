//! What a search found: its probes, each a run with a recording of its own, and the one sentence that they come to. What is not in here
//! is in no report of a search.

use std::collections::BTreeMap;

use serde::Serialize;

use super::search::{Doubt, Outcome};
use crate::exit::Exit;
use crate::names::Name;
use crate::units::Rate;
use crate::verdict::{Finding, Verdict};

/// The version of `capacity.json`; its keys only ever grow.
pub const SCHEMA: &str = "squall.capacity.v1";

/// A search, summed up. Serialises into `capacity.json`. Rates are in requests per second.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    pub schema: &'static str,
    pub search_id: String,
    /// The version of Squall that searched.
    pub squall: String,
    pub plan: Name,
    /// The plan's file as it was named.
    pub plan_file: Option<String>,
    /// The assertion that was to hold.
    pub slo: Name,
    /// In words.
    pub claim: String,
    pub target: String,
    /// The load whose rate was searched for; `None` where it is that of all together.
    pub load: Option<Name>,
    pub seed: u64,
    pub params: BTreeMap<String, String>,
    /// Wall time at which the search started, ISO 8601 in UTC.
    pub started: String,
    /// Where it searched.
    pub lowest_rps: f64,
    pub highest_rps: f64,
    pub resolution_pct: f64,
    pub end: End,
    pub exit_code: u8,
    /// The highest rate at which the objective held; confirmed by a longer probe, unless the search was broken off.
    pub capacity_rps: Option<f64>,
    /// The lowest at which it failed.
    pub failed_rps: Option<f64>,
    /// What came of it, in one sentence.
    pub reason: String,
    pub probes: Vec<Probe>,
    /// The machine that sent.
    pub environment: BTreeMap<String, String>,
    /// Why it does not lie in its folder, where it could not be written.
    #[serde(skip)]
    pub unsaved: Option<String>,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Found,
    /// Even the lowest rate failed.
    BelowLowest,
    Inconclusive,
    Interrupted,
    /// The environment gave way.
    Broken,
}

/// One probe.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Counts from 1.
    pub n: usize,
    /// What was asked for.
    pub rate_rps: f64,
    /// What was sent, or tried at a closed door, over the window.
    pub sent_rps: f64,
    /// What was answered as asked.
    pub answered_rps: f64,
    pub warm_up_s: f64,
    pub window_s: f64,
    pub verdict: Verdict,
    /// Whether the generator was the limit.
    pub limited: bool,
    /// Why nothing was decided, where nothing was: the certificate's reasons, or the check's.
    pub doubts: Vec<String>,
    /// One per check of the objective.
    pub findings: Vec<Finding>,
    pub started: String,
    pub seed: u64,
    pub run_id: String,
    /// Its folder, below the search's.
    pub folder: String,
}

/// One check of a probe, as the objective's checks are called: `p99`.
pub type Check<'p> = (&'p str, &'p Finding);

impl Probe {
    /// The first reason why nothing was decided, where nothing was.
    pub fn doubt(&self) -> Option<&str> {
        self.doubts.first().map(String::as_str)
    }

    /// The findings by the name of their check.
    pub fn checks(&self) -> impl Iterator<Item = Check<'_>> {
        self.findings.iter().map(|finding| (finding.name.rsplit('.').next().unwrap_or_default(), finding))
    }
}

impl Capacity {
    /// Takes in how the search ended.
    pub fn conclude(&mut self, outcome: Outcome) {
        let (end, exit, low, high) = match outcome {
            Outcome::Found { low, high } => (End::Found, Exit::Pass, Some(low), high),
            Outcome::BelowLowest => (End::BelowLowest, Exit::Fail, None, Some(self.lowest_rps)),
            Outcome::Inconclusive { low, high, .. } => (End::Inconclusive, Exit::Inconclusive, low, high),
        };
        self.reason = match outcome {
            Outcome::Found { low, high } => self.found(low, high),
            Outcome::BelowLowest => {
                format!("even at {}, the lowest rate that was tried, `{}` failed", rate(self.lowest_rps), self.slo)
            }
            Outcome::Inconclusive { low, at, doubt, .. } => self.undecided(low, at, doubt),
        };
        (self.end, self.exit_code, self.capacity_rps, self.failed_rps) = (end, exit.code(), low, high);
    }

    /// Takes in that it was broken off, and what is known all the same.
    pub fn break_off(&mut self, end: End, exit: Exit, why: &str) {
        let held = |probe: &&Probe| probe.verdict == Verdict::Pass;
        let failed = self.probes.iter().filter(|probe| probe.verdict == Verdict::Fail).map(|probe| probe.rate_rps).reduce(f64::min);
        let low = self.probes.iter().filter(held).map(|probe| probe.rate_rps).filter(|rate| failed.is_none_or(|high| *rate < high));
        self.capacity_rps = low.reduce(f64::max);
        self.failed_rps = failed;
        self.reason = match self.capacity_rps {
            Some(low) => format!("{why}; until then `{}` held at {}, which was not confirmed", self.slo, rate(low)),
            None => why.to_owned(),
        };
        (self.end, self.exit_code) = (end, exit.code());
    }

    fn found(&self, low: f64, high: Option<f64>) -> String {
        let confirmed = self.probes.iter().rev().find(|probe| probe.rate_rps == low && probe.verdict == Verdict::Pass);
        let length = confirmed.map(|probe| format!(", in a probe of {}s", probe.window_s)).unwrap_or_default();
        let above = match high {
            Some(high) => format!("and failed at {}", rate(high)),
            None => "and more was not to be tried".to_owned(),
        };
        let undecided = self.probes.iter().filter(|probe| {
            probe.verdict == Verdict::Inconclusive && probe.rate_rps > low && high.is_none_or(|high| probe.rate_rps < high)
        });
        let wide = match undecided.reduce(|one, other| if other.rate_rps < one.rate_rps { other } else { one }) {
            Some(probe) if probe.limited => format!("; at {} this machine was the limit", rate(probe.rate_rps)),
            Some(probe) => format!("; at {} it lies too near to its limit for probes of this length", rate(probe.rate_rps)),
            None => String::new(),
        };
        format!("`{}` held{length}, {above}{wide}", self.slo)
    }

    fn undecided(&self, low: Option<f64>, at: f64, doubt: Doubt) -> String {
        let why = self.probes.iter().rev().find(|probe| probe.rate_rps == at).and_then(Probe::doubt);
        let why = why.unwrap_or("nothing was decided");
        match (doubt, low) {
            (Doubt::Generator, Some(_)) => format!("beyond that this machine is the limit: at {}, {why}", rate(at)),
            (Doubt::Generator, None) => format!("this machine is the limit at {} already: {why}", rate(at)),
            (Doubt::Evidence, _) => {
                format!("`{}` could not be decided at {}: {why}; make probes longer with --probe", self.slo, rate(at))
            }
        }
    }

    /// The answer without its reason: `617/s [617, 644]`, `at least 200/s`.
    pub fn answer(&self) -> String {
        match (self.end, self.capacity_rps, self.failed_rps) {
            (End::Found, Some(low), Some(high)) => format!("{} [{low}, {high}]", rate(low)),
            (_, Some(low), None) => format!("at least {}", rate(low)),
            (_, Some(low), Some(high)) => format!("between {} and {}", rate(low), rate(high)),
            (_, None, Some(high)) => format!("below {}", rate(high)),
            (_, None, None) => "unknown".to_owned(),
        }
    }
}

/// As a plan writes it.
fn rate(per_second: f64) -> String {
    Rate::per_second_of(per_second).map_or_else(|| "-".to_owned(), |rate| rate.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(n: usize, rate_rps: f64, verdict: Verdict, doubt: Option<&str>) -> Probe {
        Probe {
            n,
            rate_rps,
            sent_rps: rate_rps,
            answered_rps: rate_rps,
            warm_up_s: 3.0,
            window_s: 10.0,
            verdict,
            limited: doubt == Some("late"),
            doubts: doubt.map(str::to_owned).into_iter().collect(),
            findings: Vec::new(),
            started: String::new(),
            seed: 0,
            run_id: String::new(),
            folder: String::new(),
        }
    }

    fn capacity(probes: Vec<Probe>) -> Capacity {
        Capacity {
            schema: SCHEMA,
            search_id: "s".into(),
            squall: "0".into(),
            plan: "p".parse().expect("a name"),
            plan_file: None,
            slo: "steady".parse().expect("a name"),
            claim: "c".into(),
            target: "t".into(),
            load: None,
            seed: 1,
            params: BTreeMap::new(),
            started: String::new(),
            lowest_rps: 10.0,
            highest_rps: 1e7,
            resolution_pct: 5.0,
            end: End::Broken,
            exit_code: 4,
            capacity_rps: None,
            failed_rps: None,
            reason: String::new(),
            probes,
            environment: BTreeMap::new(),
            unsaved: None,
        }
    }

    #[track_caller]
    fn says(probes: Vec<Probe>, outcome: Outcome, exit: u8, answer: &str, reason: &str) {
        let mut capacity = capacity(probes);
        capacity.conclude(outcome);
        assert_eq!((capacity.exit_code, capacity.answer().as_str()), (exit, answer));
        assert_eq!(capacity.reason, reason);
    }

    #[test]
    fn every_end_says_what_is_known_and_why_no_more() {
        use Verdict::{Fail, Inconclusive, Pass};
        let (held, failed) = (|rate| probe(1, rate, Pass, None), |rate| probe(2, rate, Fail, None));
        let doubtful = |rate| probe(3, rate, Inconclusive, Some("late"));
        let vague = |rate| probe(3, rate, Inconclusive, Some("too few"));
        let found = |high| Outcome::Found { low: 100.0, high };
        says(
            vec![held(100.0), failed(104.0)],
            found(Some(104.0)),
            0,
            "100/s [100, 104]",
            "`steady` held, in a probe of 10s, and failed at 104/s",
        );
        says(vec![held(100.0)], found(None), 0, "at least 100/s", "`steady` held, in a probe of 10s, and more was not to be tried");
        says(
            vec![held(100.0), failed(120.0), vague(110.0)],
            found(Some(120.0)),
            0,
            "100/s [100, 120]",
            "`steady` held, in a probe of 10s, and failed at 120/s; at 110/s it lies too near to its limit for probes of this length",
        );
        says(
            vec![failed(10.0)],
            Outcome::BelowLowest,
            1,
            "below 10/s",
            "even at 10/s, the lowest rate that was tried, `steady` failed",
        );
        let limited = |low| Outcome::Inconclusive { low, high: None, at: 200.0, doubt: Doubt::Generator };
        says(
            vec![held(100.0), doubtful(200.0)],
            limited(Some(100.0)),
            3,
            "at least 100/s",
            "beyond that this machine is the limit: at 200/s, late",
        );
        says(vec![doubtful(200.0)], limited(None), 3, "unknown", "this machine is the limit at 200/s already: late");
    }

    #[test]
    fn what_was_broken_off_says_what_held_until_then() {
        let mut capacity = capacity(vec![probe(1, 50.0, Verdict::Pass, None), probe(2, 100.0, Verdict::Fail, None)]);
        capacity.break_off(End::Interrupted, Exit::Interrupted, "interrupted by SIGINT");
        assert_eq!((capacity.exit_code, capacity.answer().as_str()), (130, "between 50/s and 100/s"));
        assert_eq!(capacity.reason, "interrupted by SIGINT; until then `steady` held at 50/s, which was not confirmed");
    }
}
