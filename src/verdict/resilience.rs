//! A fault costs no more than its budget, and service recovers in time. Judged only when the fault was proven effective and
//! service was steady before it: otherwise nothing that happened can be laid at its door.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amplification;
use super::certificate::Certificate;
use super::detectors::Symptom;
use super::draft::{Draft, heaviest, unless_blamed};
use super::latency;
use super::pods::PodReady;
use super::ratio::Share;
use super::recovery::{self, Asked, Goodput, RESOLUTION, Recovery};
use super::slo::{Rejected, causes, nothing_counts};
use super::statistics::least_samples;
use super::window::{Blind, Window, blind, effective, ran};
use super::within::Within;
use super::words::{percent, seconds};
use super::{Claim, Finding, Judge, Need, Over, Verdict};
use crate::names::Name;
use crate::recording::History;
use crate::recording::history::FaultSeen;
use crate::time::Offset;
use crate::units::{Ratio, Span};

/// How long `auto` gives a service to be back once the fault is gone, besides what its pods need to become ready.
const AUTO: Duration = Duration::from_secs(30);
/// Requests that were on their way when the fault struck belong to it.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// What a fault may cost. Needs `fault:` beside it. Give at least one of `failed`, `recover_within` and `retry_amplification`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The share of requests that may fail or time out, from a second before the injection (for what was on its way) until the
    /// fault is healed and `recover_within` has passed. `0%` means not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Ratio>,
    /// How long until goodput is back at 95% of what it was before, per request that was due, not to be lost again before this time is
    /// over. Counted from the injection, or, for a fault that lasts, from when its healing began. `auto` is 30 s, and for a fault that
    /// does not last as much more as pods took to become ready in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_within: Option<Within>,
    /// How long goodput must stay back to count as back.
    #[serde(default = "Spec::hold_default")]
    pub hold: Span,
    /// An answer is good only when it took at most this long; however long, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_within: Option<Span>,
    /// What a rejected request (429, 503) is to `failed`.
    #[serde(default)]
    pub rejected: Rejected,
    /// How many times the service may call its dependency for each operation that it wants, while the fault lasts and until it has
    /// recovered; from the counters `dependency_attempts_total` and `dependency_operations_total` of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_amplification: Option<f64>,
    /// Only requests of this load; of every load together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Name>,
}

/// The times that matter of a fault that worked.
struct Course {
    fault: FaultSeen,
    injected: Offset,
    /// From when recovery is counted.
    start: Offset,
    bound: Duration,
    bound_source: String,
    /// What `failed` and `retry_amplification` count over.
    cost: Window,
}

impl Spec {
    fn hold_default() -> Span {
        Span::from_secs(3)
    }

    fn drafts(&self, claim: &Claim) -> Vec<(Check, Draft)> {
        let mut drafts = Vec::new();
        if let Some(budget) = self.failed {
            let words = format!("at most {budget} of requests fail because of the fault");
            drafts.push((Check::Failed(budget), Draft::of(claim, "failed", words, "%").limit(budget.percent())));
        }
        if let Some(within) = self.recover_within {
            let words = format!("service is back within {within} and stays for {}", self.hold);
            let draft = Draft::of(claim, "recover_within", words, "s");
            drafts.push((
                Check::Recover,
                match within {
                    Within::Auto => draft.limit_source("auto: not derived"),
                    Within::Span(span) => draft.limit(span.seconds()),
                },
            ));
        }
        if let Some(most) = self.retry_amplification {
            let words = format!("at most {most} calls to the dependency per operation");
            drafts.push((Check::Amplification(most), Draft::of(claim, "retry_amplification", words, "1").limit(most)));
        }
        drafts
    }

    /// What became of the fault, or why it says nothing.
    fn course(&self, claim: &Claim, history: &History) -> Result<Course, Blind> {
        let Over::Fault(name) = &claim.over else {
            return Err(blind("no fault is named: write `fault: NAME` beside `resilience`".to_owned()));
        };
        let fault = effective(name, history)?;
        let Some((_, injected)) = fault.injected else {
            return Err(blind(format!("fault {name} was proven effective but never recorded as injected")));
        };
        let lasts = fault.planned.as_ref().is_some_and(|planned| planned.duration_ns.is_some());
        let start = match (lasts, fault.healing.or(fault.healed)) {
            (false, _) => injected,
            (true, Some((_, t))) => t,
            (true, None) => {
                let why = format!("healing of fault {name} never began{}: what came after it cannot be told", fault.why_not());
                return Err(Blind { evidence: fault.failures.iter().map(|failure| failure.seen.0).collect(), ..blind(why) });
            }
        };
        let (bound, bound_source) = match self.recover_within {
            Some(Within::Span(span)) => (span.duration(), "the plan".to_owned()),
            None | Some(Within::Auto) if lasts => (AUTO, format!("auto: {} once the fault is gone", seconds(AUTO.as_secs_f64()))),
            None | Some(Within::Auto) => {
                let ready = PodReady::measured(history, history.started.workload.as_ref());
                let bound = AUTO + Duration::from_secs_f64(ready.p95_s);
                (bound, format!("auto: {} + {} = {}", seconds(AUTO.as_secs_f64()), ready.words(), seconds(bound.as_secs_f64())))
            }
        };
        let (first, last) = history.whole();
        let healed = fault.healed.map_or(start, |(_, t)| t);
        let to = healed.max(start + bound).min(last);
        ran(to, history)?;
        Ok(Course { injected, start, bound, bound_source, cost: Window { from: (injected - IN_FLIGHT).max(first), to }, fault })
    }

    fn failed(&self, budget: Ratio, draft: Draft, course: &Course, history: &History) -> Finding {
        let window = &course.cost;
        let load = self.load.as_ref();
        let counts = history.counts(load, window.from, window.to);
        let draft = history.closed(load).fold(draft, |draft, name| draft.note(latency::unseen(name)));
        let (bad, n) = self.rejected.share_of(&counts);
        let share = Share::of_happening(bad, n);
        let draft = draft
            .window(window.from, window.to)
            .samples(n)
            .evidence(course.fault.injected.map(|(n, _)| n))
            .evidence(heaviest(history, load, window.from, window.to, |tally| self.rejected.share_of(&tally.counts).0));
        if n == 0 {
            return draft.inconclusive(nothing_counts(&counts));
        }
        let mut draft = draft.observed(share.point * 100.0).interval(share.low * 100.0, share.high * 100.0);
        if let Some(causes) = causes(history, load, window).filter(|_| bad > 0) {
            draft = draft.note(format!("why: {causes}"));
        }
        let said = format!(
            "{bad} of {n} requests failed ({} failed, {} timed out, {} rejected{}): {}",
            counts.failed,
            counts.timed_out,
            counts.rejected,
            if self.rejected == Rejected::Excluded { " and left out" } else { "" },
            share.words()
        );
        match share.against(budget.fraction()) {
            Verdict::Pass => draft.end(Verdict::Pass, format!("{said}, {budget} allowed")),
            Verdict::Fail => {
                let remark = amplification::remark(window, history).map(|remark| format!("; {remark}")).unwrap_or_default();
                draft.end(Verdict::Fail, format!("{said}, {budget} allowed{remark}"))
            }
            Verdict::Inconclusive => draft.inconclusive(format!("{said}, {budget} allowed: {}", share.way_out(budget.fraction()))),
        }
    }

    fn recover(&self, draft: Draft, course: &Course, history: &History) -> Finding {
        let goodput = Goodput { load: self.load.as_ref(), within: self.answer_within };
        let (_, end) = history.whole();
        let draft = draft
            .limit(course.bound.as_secs_f64())
            .limit_source(course.bound_source.clone())
            .window(course.start, (course.start + course.bound).min(end))
            .evidence(course.fault.injected.map(|(n, _)| n))
            .evidence(course.fault.effective.map(|(n, _)| n));
        let normal = match goodput.before(history, course.injected) {
            Ok(normal) => normal,
            Err(why) => return draft.inconclusive(why),
        };
        // Before a fault is proven it has not struck yet: a pod that is told to go may still serve.
        let struck = course.fault.effective.map_or(course.start, |(_, t)| t).max(course.start);
        let asked = Asked { start: course.start, past: struck, bound: course.bound, hold: self.hold.duration() };
        let (mut draft, Recovery { back, verdict, said }) = goodput.recovery(draft, asked, normal, history);
        let lowest = goodput
            .seconds(history, course.injected, back.unwrap_or(end).max(course.injected + RESOLUTION))
            .into_iter()
            .min_by(|a, b| (a.1 as f64 / a.2 as f64).total_cmp(&(b.1 as f64 / b.2 as f64)));
        if let Some((second, good, due)) = lowest {
            let at = Offset::from_nanos(second.saturating_mul(1_000_000_000));
            draft = draft
                .evidence(heaviest(history, self.load.as_ref(), at, at + RESOLUTION, |tally| {
                    tally.counts.intended - tally.counts.ok.min(tally.counts.intended)
                }))
                .note(format!(
                    "goodput was {} before it and {} at its lowest, in second {second}",
                    percent(normal),
                    percent(good as f64 / due as f64)
                ));
        }
        let said = format!("95% of the goodput before the fault {said}");
        // A fault that is over and a service that is not back: something sustains it, and retries are what usually does.
        let after = Window { from: course.start, to: back.unwrap_or(end) };
        match amplification::remark(&after, history).filter(|_| verdict == Verdict::Fail) {
            Some(remark) => draft.end(verdict, format!("{said}; {remark}")),
            None => draft.end(verdict, said),
        }
    }
}

#[derive(Clone, Copy)]
enum Check {
    Failed(Ratio),
    Recover,
    Amplification(f64),
}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let drafts = self.drafts(claim);
        let course = match self.course(claim, history) {
            Ok(course) => course,
            Err(blind) => {
                let blind = blind.planned(&claim.over, history);
                return drafts.into_iter().map(|(_, draft)| draft.blind(&blind)).collect();
            }
        };
        let Course { cost, injected, .. } = &course;
        // Everything that is compared must be sound: what came before the fault as much as what came after.
        let before = (*injected - Duration::from_secs(10)).max(history.whole().0);
        let limit = self.answer_within.map(Span::duration);
        let blame = Certificate::over(history, before, cost.to, limit).blame();
        let others: Vec<String> = history
            .faults()
            .iter()
            .filter(|other| other.name != course.fault.name)
            .filter(|other| other.stretch().is_some_and(|(from, to)| from < cost.to && to.is_none_or(|to| to > cost.from)))
            .map(|other| format!("fault {} was active in this window too: its cost is counted here", other.name))
            .collect();
        let lingers = course.fault.healed.is_none().then(|| {
            format!("fault {} was never proven healed{}: it may be active still", course.fault.name, course.fault.why_not())
        });
        drafts
            .into_iter()
            .map(|(check, draft)| {
                let draft = draft.notes(&others).notes(lingers.as_slice());
                let finding = match check {
                    Check::Failed(budget) => self.failed(budget, draft, &course, history),
                    Check::Recover => self.recover(draft, &course, history),
                    Check::Amplification(most) => amplification::judge(draft.window(cost.from, cost.to), most, cost, history),
                };
                unless_blamed(finding, blame.as_deref())
            })
            .collect()
    }

    fn symptoms(&self, check: &str) -> &'static [Symptom] {
        if check == "failed" { &[Symptom::Lost] } else { &[Symptom::Lost, Symptom::Slow] }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Fault];
        needs.extend(self.load.iter().cloned().map(Need::Load));
        if self.recover_within.is_some() {
            needs.push(recovery::need("recover_within"));
        }
        if let Some(budget) = self.failed.filter(|budget| budget.fraction() > 0.0) {
            let least = least_samples(budget.fraction());
            needs
                .push(Need::Samples { least, why: format!("`failed: {budget}` needs {least} requests to pass at 95% confidence") });
        }
        let never = |why: &str| Need::Never { why: why.to_owned() };
        if self.failed.is_none() && self.recover_within.is_none() && self.retry_amplification.is_none() {
            needs.push(never(
                "it claims nothing: give `failed`, `recover_within` or `retry_amplification`, as in {failed: 0.5%, recover_within: 30s}",
            ));
        }
        if self.retry_amplification.is_some_and(|most| most.is_nan() || most < 1.0) {
            needs.push(never("`retry_amplification` is at least 1: each operation is one call without any retry"));
        }
        needs
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if let Some(budget) = self.failed {
            parts.push(format!("the fault costs at most {budget} of requests"));
        }
        if let Some(within) = self.recover_within {
            parts.push(match within {
                Within::Auto => "service recovers as soon as its pods allow".to_owned(),
                Within::Span(span) => format!("service recovers within {span}"),
            });
        }
        if let Some(most) = self.retry_amplification {
            parts.push(format!("retries multiply calls by at most {most}"));
        }
        parts.join(", ")
    }

    fn latency_limit(&self) -> Option<Span> {
        self.answer_within
    }
}
