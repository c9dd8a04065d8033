//! Availability and latency objectives over a window. Each is a share of bad requests against a budget: "p99 <= L" is judged
//! exactly as "at most 1% of the requests took longer than L", with its own bounds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::detectors::Symptom;
use super::draft::{Draft, heaviest, unless_blamed};
use super::latency::{self, Objective, Of};
use super::ratio::{Share, budget};
use super::statistics::least_samples;
use super::window::Window;
use super::words::percent;
use super::{Claim, Finding, Judge, Need, Verdict};
use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::{Counts, Fact};
use crate::recording::history::Selection;
use crate::units::{Ratio, Span};

/// Service level objectives. Give at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The share of requests that must be answered as asked. Failed and timed out requests are bad; rejected ones are as
    /// `rejected` says; requests that Squall never sent count neither way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Ratio>,
    /// Half of the requests take at most this long. Latency is that of answered and timed out requests, from the intended start;
    /// a timed out one is slower than any limit. Rejected and failed ones have no latency that a user would call one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<Span>,
    /// 90% of the requests take at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90: Option<Span>,
    /// 95% of the requests take at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Span>,
    /// 99% of the requests take at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Span>,
    /// 99.9% of the requests take at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999: Option<Span>,
    /// Only requests of this load; of every load together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Name>,
    /// Only requests of this class; of every class together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// Only requests of this step of a flow; of every step together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
    /// What a rejected request (429, 503) is to `available`.
    #[serde(default, skip_serializing_if = "Rejected::is_bad")]
    pub rejected: Rejected,
}

/// What a rejected request is to availability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// Not available.
    #[default]
    Bad,
    /// Left out of the count: use it where refusing is right, and something else (`overload`) judges how it is done.
    Excluded,
}

impl Rejected {
    fn is_bad(&self) -> bool {
        *self == Rejected::Bad
    }

    /// Bad ones and all that count.
    pub(super) fn share_of(self, counts: &Counts) -> (u64, u64) {
        let bad = counts.failed + counts.timed_out + if self == Rejected::Bad { counts.rejected } else { 0 };
        (bad, bad + counts.ok)
    }
}

impl Spec {
    /// The latency objectives: check, quantile, limit.
    fn quantiles(&self) -> impl Iterator<Item = (&'static str, f64, Span)> {
        [
            ("p50", 0.5, self.p50),
            ("p90", 0.9, self.p90),
            ("p95", 0.95, self.p95),
            ("p99", 0.99, self.p99),
            ("p999", 0.999, self.p999),
        ]
        .into_iter()
        .filter_map(|(check, q, limit)| Some((check, q, limit?)))
    }

    /// Which requests it speaks of.
    fn which(&self) -> Selection<'_> {
        Selection { load: self.load.as_ref(), class: self.class.as_ref(), step: self.step.as_ref() }
    }

    /// The same in words.
    fn of_which(&self) -> String {
        let class = self.class.as_ref().map(|class| format!(" of class {class}"));
        let load = self.load.as_ref().map(|load| format!(" of {load}"));
        let step = self.step.as_ref().map(|step| format!(" of step {step}"));
        class.into_iter().chain(step).chain(load).collect()
    }

    fn available(&self, draft: Draft, target: Ratio, window: &Window, history: &History) -> Finding {
        let budget = budget(target.fraction());
        let draft = history.closed(self.load.as_ref()).fold(draft, |draft, name| draft.note(latency::unseen(name)));
        let seconds: Vec<(u64, u64)> = history
            .per_second(self.which(), window.from, window.to)
            .iter()
            .map(|(_, counts)| self.rejected.share_of(counts))
            .collect();
        let bad = Share::of_process(seconds);
        let counts = history.counts(self.which(), window.from, window.to);
        let draft = draft
            .samples(bad.n)
            .evidence(heaviest(history, self.which(), window.from, window.to, |tally| self.rejected.share_of(&tally.counts).0));
        if bad.n == 0 {
            return draft.inconclusive(nothing_counts(&counts));
        }
        let draft = draft.observed((1.0 - bad.point) * 100.0).interval((1.0 - bad.high) * 100.0, (1.0 - bad.low) * 100.0);
        let why = causes(history, self.which(), window).filter(|_| bad.bad > 0).map(|why| format!(", {why}")).unwrap_or_default();
        let said = format!(
            "{} of {} were not answered as asked ({} failed, {} timed out, {} rejected{}{why}): {}",
            bad.bad,
            bad.n,
            counts.failed,
            counts.timed_out,
            counts.rejected,
            if self.rejected == Rejected::Excluded { " and left out" } else { "" },
            bad.words()
        );
        let allowed = percent(budget);
        match bad.against(budget) {
            Verdict::Pass => draft.end(Verdict::Pass, format!("{said}, {allowed} allowed")),
            Verdict::Fail => draft.end(Verdict::Fail, format!("{said}, {allowed} allowed")),
            Verdict::Inconclusive => draft.inconclusive(format!("{said}, {allowed} allowed: {}", bad.way_out(budget))),
        }
    }
}

/// Why a share of requests is one of none.
pub(super) fn nothing_counts(counts: &Counts) -> String {
    match counts.intended {
        0 => "no request was due in this window: give it load, or judge another".to_owned(),
        due => format!(
            "none of the {due} requests that were due in this window counts: {} were rejected and are left out, {} were never sent",
            counts.rejected, counts.unsent
        ),
    }
}

/// The share of requests that may wait for a connection of ours before a reader must know of it.
const WAITED_MOST: f64 = 0.01;

/// The loads that often had no connection left: whether the service was slow or the load too narrow, only a reader can tell.
fn crowded(history: &History, load: Option<&Name>) -> Vec<String> {
    let (from, to) = history.whole();
    let loads = history.started.loads.iter().map(|line| &line.name).filter(|name| load.is_none_or(|load| load == *name));
    loads
        .filter_map(|name| {
            let bound = format!("connections of load {name}");
            let hits = history.events.iter().filter_map(|event| match &event.fact {
                Fact::Bound { what, limit, lost } if *what == bound => Some((*limit, *lost)),
                _ => None,
            });
            let (limit, waited) = hits.fold((0, 0), |(_, sum), (limit, lost)| (limit, sum + lost));
            let share = waited as f64 / history.counts(Some(name), from, to).intended.max(1) as f64;
            (share > WAITED_MOST).then(|| {
                format!(
                    "over the run, {} of the requests of {name} waited for one of its {limit} connections, and that wait is in their \
                     latency: raise `connections` if the service is not to blame for it",
                    percent(share)
                )
            })
        })
        .collect()
}

/// The commonest causes of requests that did not end well: `503 x status 503, 12 x reset`.
pub(super) fn causes<'a>(history: &'a History, which: impl Into<Selection<'a>>, window: &Window) -> Option<String> {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, tally) in history.windows_in(which, window.from, window.to) {
        for (cause, count) in &tally.causes {
            *causes.entry(cause).or_default() += count;
        }
    }
    let mut causes: Vec<(&str, u64)> = causes.into_iter().collect();
    causes.sort_by_key(|(cause, count)| (std::cmp::Reverse(*count), *cause));
    let words: Vec<String> = causes.iter().take(3).map(|(cause, count)| format!("{count} x {cause}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let window = Window::of(&claim.over, history);
        let blame = window.as_ref().ok().and_then(|window| {
            Certificate::over(history, window.from, window.to, self.latency_limit().map(Span::duration)).blame()
        });
        let rounded = "the window does not start and end on whole seconds; the requests of the seconds that it cuts are counted in";
        let open = |draft: Draft| match &window {
            Ok(window) => {
                let draft = draft.window(window.from, window.to);
                if history.rounds(self.which(), window.from, window.to) { draft.note(rounded) } else { draft }
            }
            Err(_) => draft,
        };
        let crowded = crowded(history, self.load.as_ref());
        let open = |draft: Draft| open(draft).notes(&crowded);
        let mut findings = Vec::new();
        if let Some(target) = self.available {
            let words = format!("{target} of requests{} are answered as asked", self.of_which());
            let draft = open(Draft::of(claim, "available", words, "%").limit(target.percent()));
            findings.push(match &window {
                Ok(window) => unless_blamed(self.available(draft, target, window, history), blame.as_deref()),
                Err(blind) => draft.blind(blind),
            });
        }
        for (check, q, limit) in self.quantiles() {
            let words = format!("{} of requests{} answer within {limit}", percent(q), self.of_which());
            let draft = open(Draft::of(claim, check, words, "ms").limit(limit.millis()));
            findings.push(match &window {
                Ok(window) => {
                    let objective = Objective { q, limit, which: self.which(), of: Of::Accepted };
                    unless_blamed(latency::judge(draft, &objective, window, history), blame.as_deref())
                }
                Err(blind) => draft.blind(blind),
            });
        }
        findings
    }

    fn symptoms(&self, check: &str) -> &'static [Symptom] {
        if check == "available" { &[Symptom::Lost] } else { &[Symptom::Slow] }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.load.iter().cloned().map(Need::Load).collect();
        needs.extend(self.class.iter().cloned().map(Need::Class));
        needs.extend(self.step.iter().cloned().map(Need::Step));
        let sample = |name: &str, budget| Need::Samples {
            least: least_samples(budget),
            why: format!("{name} needs {} to pass at 95% confidence", super::words::count(least_samples(budget), "request")),
        };
        match self.available.map(|target| budget(target.fraction())) {
            Some(0.0) => needs.push(Need::Never {
                why: "100% available cannot be shown by any number of requests; claim what must be shown, as in 99.9%".to_owned(),
            }),
            Some(budget) => needs.push(sample("available", budget)),
            None => {}
        }
        needs.extend(self.quantiles().map(|(check, q, _)| sample(check, budget(q))));
        if self.available.is_none() && self.quantiles().next().is_none() {
            needs.push(Need::Never { why: "it claims nothing: give `available` or a percentile, as in {p99: 300ms}".to_owned() });
        }
        needs
    }

    fn describe(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some(target) = self.available {
            parts.push(format!("{target} of requests{} are answered as asked", self.of_which()));
        }
        parts.extend(self.quantiles().map(|(_, q, limit)| format!("{} answer within {limit}", percent(q))));
        parts.join(", ")
    }

    fn latency_limit(&self) -> Option<Span> {
        self.quantiles().map(|(_, _, limit)| limit).min()
    }
}
