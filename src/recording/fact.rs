//! The vocabulary of facts. One line of `recording.jsonl` is one [`Event`]; the format is versioned by [`SCHEMA`] and only ever
//! grows. What is measured per request is not here one by one: it is counted into a [`Tally`] per second, and its histograms go
//! to `latency.hlog` beside it, so memory and file size are bounded by the number of series, never by the number of requests.

use serde::{Deserialize, Serialize};

use crate::names::{Name, ObjectRef};
use crate::time::Offset;

mod cluster;
mod generator;
mod start;
mod tally;

pub use cluster::{AutoscalerSpec, PodSeen, ScalingPolicy, ScalingRules, Waking};
pub use generator::{GeneratorSample, SPACING_MS, Spacing};
pub use start::{FaultLine, FlowLine, LoadLine, PhaseSpan, RunStarted, StepLine};
pub use tally::{Counts, LIMITS, Outcome, Part, Tally};

/// The version of the recording format.
pub const SCHEMA: &str = "squall.recording.v1";

/// The name of the machine among the facts of [`RunStarted::environment`].
pub const HOSTNAME: &str = "hostname";

/// One line of the recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: evidence points at events by it. Counts up from 0 in file order.
    pub n: u64,
    /// When it was seen, on the run's clock, in nanoseconds.
    pub t_ns: Offset,
    pub fact: Fact,
}

/// What can be said about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Always the first.
    RunStarted(Box<RunStarted>),
    PhaseStarted {
        phase: Name,
    },
    PhaseEnded {
        phase: Name,
    },
    /// What the load did in one second of one phase. Lines for the same load, phase and second add up.
    Tally(Box<Tally>),
    /// The generator watching itself, about once a second.
    Generator(GeneratorSample),
    /// How the requests of an open load were spaced in one second, as planned and as sent.
    Spacing(Box<Spacing>),
    /// A step in the life of a fault.
    Fault {
        fault: Name,
        step: FaultStep,
    },
    /// A number that was observed.
    Reading(Reading),
    /// A pod as a watch showed it; written when something in it changed.
    Pod(Box<PodSeen>),
    /// The endpoints of a Service as a watch showed them.
    Endpoints {
        service: ObjectRef,
        ready: Vec<String>,
        not_ready: Vec<String>,
        terminating: Vec<String>,
    },
    /// An autoscaler's live spec, at the start and whenever it changes: what `within: auto` is derived from.
    Autoscaler(Box<AutoscalerSpec>),
    /// A condition of an observed object, when it changed.
    Condition {
        object: ObjectRef,
        condition: String,
        status: String,
        reason: String,
        message: String,
    },
    /// An event that the cluster itself wrote about an observed object.
    ClusterEvent {
        object: ObjectRef,
        kind: String,
        reason: String,
        message: String,
        count: u32,
    },
    /// Something that should have been observed was not: assertions that need it are inconclusive over this stretch.
    Gap(Gap),
    /// The target's name was looked up.
    Lookup(Lookup),
    /// A bound of Squall's own was hit, and this is what it cost.
    Bound {
        what: String,
        limit: u64,
        lost: u64,
    },
    /// Something that the run made and could not prove gone.
    LeftBehind {
        what: String,
        reason: String,
    },
    /// Always the last of a run that was not killed.
    RunEnded(RunEnded),
}

/// A step in the life of a fault, in this order; `Failed` may follow any of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStep {
    /// What it will touch, chosen with the run's seed.
    Targeted {
        targets: Vec<String>,
        of: u64,
    },
    /// Its undo is on disk.
    Journalled,
    Injected,
    /// One witness: `mechanism`, `victim` or `client`.
    Evidence {
        witness: String,
        says: String,
        supports: bool,
    },
    /// At least two witnesses agree.
    Effective,
    /// Healing has been asked for (its time is up, or the run ends).
    Healing,
    /// Proven gone: what was touched is as it was before.
    Healed,
    /// It could not be applied, proven or healed, and why.
    Failed {
        during: String,
        reason: String,
    },
}

/// A number about an object at a moment: `ready_replicas` of a Deployment, a gauge that a pod exposes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub object: ObjectRef,
    pub metric: String,
    pub value: f64,
}

/// A look at what the target's name stands for; the first is the one before the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    pub host: String,
    pub took_us: u64,
    /// How many addresses were found.
    pub found: u64,
    /// Which, where they are others than at the look before; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Why there was no answer: the addresses of before are used on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A stretch in which something was not observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What was blind: `watch pods in shop`, `scrape shop/checkout-abc`.
    pub source: String,
    pub from: Offset,
    pub to: Offset,
    pub reason: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    pub how: Ending,
    /// Events that found no room in the sink's queue; their absence makes the run inconclusive.
    pub lost_events: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Completed,
    /// By a signal, after healing.
    Interrupted {
        signal: String,
    },
    /// The environment gave way: the target or the cluster could not be reached.
    Broken {
        reason: String,
    },
}
