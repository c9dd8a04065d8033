//! Judgement: a pure function of the recording and of what was claimed. No clock, no I/O, no plan, no cluster; the same recording
//! gives the same findings, byte for byte, on the day of the run and a year later.
//!
//! An assertion kind is one file with a `Spec`, an `impl Judge for Spec`, and one row in the table below.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::kinds;
use crate::names::{Anchor, Name, ObjectRef};
use crate::recording::History;
use crate::units::Span;

mod amplification;
mod autoscaling;
pub mod certificate;
pub mod detectors;
mod draft;
mod latency;
mod level;
mod moment;
mod overload;
mod pods;
mod ratio;
mod recovery;
mod resilience;
mod scaling;
mod slo;
pub mod spacing;
pub mod statistics;
mod threshold;
mod window;
mod within;
mod words;

pub use certificate::{CERTIFIED, Certificate};
pub use window::doubt;

use detectors::{Detected, Symptom};

kinds! {
    /// What can be claimed.
    pub enum Spec as dyn Judge {
        slo::Spec => Slo "slo": "availability and latency percentiles meet their objectives" = "{available: 99.9%, p99: 300ms}",
        threshold::Spec => Threshold "threshold": "an aggregate of any recorded metric stays within a limit" = "{metric: shop/deployment/checkout.ready_replicas, aggregate: min, at_least: 2}",
        autoscaling::Spec => Autoscaling "autoscaling": "the autoscaler reaches a size in time and does not flap" = "{reach: 5, within: auto, reversals: 1}",
        resilience::Spec => Resilience "resilience": "a fault costs no more than its budget, and service recovers in time" = "{failed: 0.5%, recover_within: 30s}",
        overload::Spec => Overload "overload": "beyond capacity, work is refused early instead of piling up" = "{goodput: 90%, accepted_p99: 1s}",
    }
}

/// One assertion of a plan, with everything that judging needs and nothing of the plan itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub name: Name,
    /// The window that the plan named; judged against what really happened.
    pub over: Over,
    pub spec: Spec,
    /// The line of the plan that asks.
    pub line: u32,
}

/// The stretch of a run that a claim speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// The whole run.
    Run,
    /// A phase.
    Phase(Name),
    /// Between two moments.
    Between(Anchor, Anchor),
    /// A fault and its aftermath.
    Fault(Name),
}

/// What an assertion kind knows how to do.
pub trait Judge {
    /// Judges the claim, one [`Finding`] per check that the spec asks for (`steady.available`, `steady.p99`). Never panics on a
    /// strange history: what cannot be decided is [`Verdict::Inconclusive`] with the reason.
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding>;

    /// What must exist for this claim to be decidable at all; `squall check` holds the plan against it before anything runs.
    fn needs(&self) -> Vec<Need>;

    /// The claim in words, for a person.
    fn describe(&self) -> String;

    /// How it looks when `check` fails (`p99` of `steady.p99`): what detectors are asked for. None: whatever there is.
    fn symptoms(&self, _check: &str) -> &'static [Symptom] {
        &[]
    }

    /// The tightest latency that the claim holds the service to, if it does: it decides how late the generator may be.
    fn latency_limit(&self) -> Option<Span> {
        None
    }

    /// Objects that the claim reads, beyond the target's own: they must be observed for it.
    fn objects(&self) -> Vec<ObjectRef> {
        Vec::new()
    }
}

/// Something without which a claim can never be decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// At least so many requests in the window, and what for: a p99 needs 299 to pass.
    Samples { least: u64, why: String },
    /// `fault:` must name a fault of the plan.
    Fault,
    /// The plan must name an autoscaler in `target`.
    Autoscaler,
    /// The plan must name a workload in `target`.
    Workload,
    /// Load that comes whether or not answers do, and why: users who wait for them will not do.
    OpenModel { why: String },
    /// A load of this name must exist.
    Load(Name),
    /// The load that it speaks of, or some load, must have requests of this class.
    Class(Name),
    /// The load that it speaks of, or some load, must have a flow with this step.
    Step(Name),
    /// The spec contradicts itself, and how.
    Never { why: String },
}

/// How a check ended. The order is the algebra: the worst of several is their maximum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Inconclusive,
    Fail,
}

impl Verdict {
    /// The verdict of several: FAIL over INCONCLUSIVE over PASS. Nothing at all decided is inconclusive.
    pub fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        verdicts.into_iter().max().unwrap_or(Verdict::Inconclusive)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Pass => "PASS",
            Verdict::Inconclusive => "INCONCLUSIVE",
            Verdict::Fail => "FAIL",
        })
    }
}

/// What judging one check found. Serialised as it stands into `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `assertion.check`, stable between runs and without numbers: `steady.p99`.
    pub name: String,
    /// The assertion kind's key.
    pub kind: String,
    pub verdict: Verdict,
    /// The claim in words: `99% of requests answer within 300ms`.
    pub claim: String,
    /// One sentence with the numbers, and what to do where there is something to do.
    pub reason: String,
    /// The value; absent where nothing could be measured. In `unit`.
    pub observed: Option<f64>,
    pub limit: Option<f64>,
    /// Where the limit came from: `the plan`, or the arithmetic of an `auto`.
    pub limit_source: String,
    /// Of `observed`, `limit`, `ci_low` and `ci_high`: `ms`, `s`, `%`, `replicas`, `1`.
    pub unit: String,
    /// The bounds of the value's confidence interval, at the level that `reason` names.
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    /// Samples behind the value.
    pub n: u64,
    /// `[from, to]` in seconds since the first phase started.
    pub window_s: [f64; 2],
    /// Numbers of the events in the recording that prove it, the most telling first; at most twenty.
    pub evidence: Vec<u64>,
    /// What stood in the way of a decision, or what a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is known to cause what failed, and was seen in its window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detected: Vec<Detected>,
    /// The plan's line.
    pub line: u32,
}

/// Judges every claim, in the order of the plan, and looks for what explains the checks that fail.
pub fn judge(claims: &[Claim], history: &History) -> Vec<Finding> {
    claims.iter().flat_map(|claim| detectors::explain(claim, history, claim.spec.judge(claim, history))).collect()
}

/// The certificate of the whole run, held against the tightest latency limit of `claims`.
pub fn certificate(claims: &[Claim], history: &History) -> Certificate {
    Certificate::of_run(history, claims.iter().filter_map(|claim| claim.spec.latency_limit()).min().map(Span::duration))
}

/// The verdict of a run: the worst of its findings, and never PASS on a certificate that is not valid, nor when a fault of the plan
/// was not proven effective: the plan was not carried out then, whether or not an assertion names the fault.
pub fn overall(findings: &[Finding], certificate: &Certificate, history: &History) -> Verdict {
    let sound = certificate.valid && unproven(history).is_empty();
    let of_run = if sound { Verdict::Pass } else { Verdict::Inconclusive };
    let of_claims = Verdict::worst(findings.iter().map(|finding| finding.verdict));
    of_claims.max(of_run)
}

/// The plan's faults that were never injected, never proven effective or did not hold, and why: one sentence each, in the order of the
/// plan.
pub fn unproven(history: &History) -> Vec<String> {
    history.faults().iter().filter_map(doubt).collect()
}
