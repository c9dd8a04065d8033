//! The vocabulary of facts. One line of `recording.jsonl` is one [`Event`]; the format is versioned by [`SCHEMA`] and only ever
//! grows. What is measured per request is not here one by one: it is counted into a [`Tally`] per second, and its histograms go
//! to `latency.hlog` beside it, so memory and file size are bounded by the number of series, never by the number of requests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{Name, ObjectRef};
use crate::recording::attempts::Attempts;
use crate::time::Offset;

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

/// How a run began: all that judging and reporting need to know besides what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub schema: String,
    pub run_id: String,
    /// The version of Squall that wrote this.
    pub squall: String,
    pub plan: String,
    pub claim: String,
    pub seed: u64,
    /// The plan's parameters as they were set; secrets from the environment are never among them.
    pub params: BTreeMap<String, String>,
    /// Wall time of offset zero, ISO 8601 in UTC: for display only.
    pub zero: String,
    pub target: String,
    /// What was under test, where the plan names it.
    pub workload: Option<ObjectRef>,
    pub autoscaler: Option<ObjectRef>,
    pub phases: Vec<PhaseSpan>,
    pub loads: Vec<LoadLine>,
    pub faults: Vec<FaultLine>,
    /// What this machine is: cores, kernel, memory, and its name. All but the name is compared before two runs are.
    pub environment: BTreeMap<String, String>,
}

/// A phase on the timeline: `[start, end)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseSpan {
    pub name: Name,
    pub start: Offset,
    pub end: Offset,
}

/// A load as it was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadLine {
    pub name: Name,
    pub method: String,
    pub path: String,
    /// Nanoseconds; a request that took longer ended as `timed_out`.
    pub timeout_ns: u64,
    /// Requests that the schedule holds, per phase; none where users send, since how many get answered is known to nobody before.
    pub intended: BTreeMap<Name, u64>,
    /// Users at the start and at the end of each phase, of a closed load: each waits for an answer before sending again. Empty for an
    /// open one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<Name, [u32; 2]>,
    /// The classes of its requests, where they have any: each is counted apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Name>,
    /// The most attempts that one of its requests can come to, where its client tries more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The steps of its flows, where it has any: each is counted apart, under a name that no other step of the load has. Per phase,
    /// `intended` then counts the runs of flows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<FlowLine>,
}

/// A flow as it was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowLine {
    /// How often it is taken, beside the weights of the others.
    pub weight: u32,
    pub steps: Vec<StepLine>,
}

/// A step of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    pub name: Name,
    pub method: String,
    pub path: String,
    /// Nanoseconds, from the moment when the step was due.
    pub timeout_ns: u64,
}

impl LoadLine {
    /// Whether anything was to be sent in this phase.
    pub fn sends_in(&self, phase: &Name) -> bool {
        self.intended.get(phase).is_some_and(|due| *due > 0) || self.most_users_in(phase).is_some_and(|users| users > 0)
    }

    /// The most users at once in this phase, where it has any.
    pub fn most_users_in(&self, phase: &Name) -> Option<u32> {
        self.users.get(phase).and_then(|ends| ends.iter().copied().max())
    }

    /// Every step of its flows, in the order of the plan.
    pub fn steps(&self) -> impl Iterator<Item = &StepLine> {
        self.flows.iter().flat_map(|flow| &flow.steps)
    }

    /// Those that follow another: how many of them come due depends on answers.
    pub fn later_steps(&self) -> impl Iterator<Item = &StepLine> {
        self.flows.iter().flat_map(|flow| flow.steps.iter().skip(1))
    }

    /// Whether users send, who wait for answers.
    pub fn is_closed(&self) -> bool {
        !self.users.is_empty()
    }
}

/// A fault as it was planned. The offset is absent where it hangs on another fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultLine {
    pub name: Name,
    pub kind: String,
    pub at: Option<Offset>,
    pub duration_ns: Option<u64>,
}

/// How one request ended. There is no sixth way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered as asked.
    Ok,
    /// The service said "not now": 429, 503.
    Rejected,
    /// An error answer, a broken connection, garbage.
    Failed,
    /// No answer in time: what the service did is not known. Its latency is at least the timeout.
    TimedOut,
    /// Not sent: a limit of Squall's own. Evidence against the generator, never against the service.
    Unsent,
}

impl Outcome {
    pub const ALL: [Outcome; 5] = [Outcome::Ok, Outcome::Rejected, Outcome::Failed, Outcome::TimedOut, Outcome::Unsent];

    /// The name in tags, columns and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Unsent => "unsent",
        }
    }
}

/// Why a request was not sent, as [`Tally::causes`] calls it, and the way out: every cause of [`Outcome::Unsent`], and no other.
pub const LIMITS: [(&str, &str); 9] = [
    ("in-flight bound", "raise the load's `in_flight`, or shorten the request's `timeout`"),
    ("connection bound", "raise the load's `connections`"),
    ("generator late", "give the generator more CPU, lower the rate, or have fewer users"),
    ("file descriptors", "raise the limit of open files (`ulimit -n`)"),
    ("local ports", "have fewer connections or users, or widen net.ipv4.ip_local_port_range"),
    ("memory", "give the machine more memory, or have fewer connections or users"),
    ("feed used up", "give the feed more rows, send fewer requests, or use rows again (`order: sequential`)"),
    ("stopped", "let the run end by itself"),
    ("bug in squall", "please report it"),
];

/// Counts of one load in one second of one phase, by the *intended* start of each request. A request that ends later than its
/// second comes in a later line for the same second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that came due here: by the schedule, or because a user was ready to send one.
    pub intended: u64,
    /// Requests whose first byte was handed to the kernel.
    pub sent: u64,
    pub ok: u64,
    pub rejected: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub unsent: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.ok += other.ok;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.unsent += other.unsent;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Ok => self.ok,
            Outcome::Rejected => self.rejected,
            Outcome::Failed => self.failed,
            Outcome::TimedOut => self.timed_out,
            Outcome::Unsent => self.unsent,
        }
    }

    /// Requests whose end is known: everything but what is still in flight. `unsent` counts as ended.
    pub fn ended(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.of(*outcome)).sum()
    }
}

/// What is counted apart within a load, where its plan declares anything: a request is of exactly one part, and the parts of a load
/// are all of it. Bounded by the plan.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// The class of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// The step of a flow that they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
}

/// [`Counts`] with their place and what the answers said about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub load: Name,
    pub phase: Name,
    #[serde(flatten)]
    pub part: Part,
    /// The window: whole seconds since offset zero.
    pub second: i64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Why requests did not end `ok`, by a short bounded class: `status 503`, `connection refused`, `reset`, `closed mid-body`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
    /// Answers by the identity of who served them (the `x-pod` header), bounded; the rest under `_other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub served_by: BTreeMap<String, u64>,
    /// Of the rejected, how many carried Retry-After.
    #[serde(default)]
    pub retry_after: u64,
    /// Redirects that were followed; a request that was led on is one all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redirects: u64,
    /// Steps of flows that did not come due, since their run had ended before them, by why: `a step before was not ok`, `the load was over`,
    /// `due in a phase without load`, `stopped`. They are no requests, and nothing above counts them; in the second of the last step of their run that did come due.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
    /// Requests that were sent, by the address that they went to, bounded; the rest under `_other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sent_to: BTreeMap<String, u64>,
    /// Connections that were opened, ready for requests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opened: u64,
    /// Connections that could not be opened, or were given up before that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unopened: u64,
    /// Messages that came back, where answers are made of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages: u64,
    /// What was tried for these requests, where their client tries more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Box<Attempts>>,
}

impl Tally {
    /// How often something was sent for these requests.
    pub fn attempts_sent(&self) -> u64 {
        self.attempts.as_ref().map_or(self.counts.sent, |attempts| attempts.sent)
    }

    /// What was tried for these requests: where their client tries once, what was sent.
    pub fn tried(&self) -> Cow<'_, Attempts> {
        match &self.attempts {
            Some(attempts) => Cow::Borrowed(attempts),
            None => Cow::Owned(Attempts::of_single(self.counts.sent)),
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The generator's own state over one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSample {
    pub second: i64,
    /// CPU of the busiest load worker, as a share of one core.
    pub cpu: f64,
    /// Time that the hypervisor took from this machine, as a share of one core; absent where the kernel does not say.
    pub steal: Option<f64>,
    /// Requests due and not ended, at the end of the second.
    pub in_flight: u64,
    /// Connections open, at the end of the second.
    pub connections: u64,
    /// The share of the second in which the worker that waited longest was ready to run and had no core; absent where the kernel does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved: Option<f64>,
    /// Microseconds by which a request may be sent late so that several are sent together, of the worker with the widest window; zero
    /// where each has a wake-up of its own.
    #[serde(default)]
    pub window_us: u64,
}

/// The widths of the windows of [`Spacing`], in milliseconds.
pub const SPACING_MS: [u64; 3] = [1, 10, 100];

/// How the requests of one load were spaced in one second. Sums over seconds tell how bursty they were: over the same requests, the sums
/// of squares of what was planned and of what was sent differ by what the generator did to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spacing {
    pub load: Name,
    /// Whole seconds since offset zero.
    pub second: i64,
    /// Requests that came due in this second and were sent.
    pub requests: u64,
    /// The sums of the squares of how many came due in each window, by the widths of [`SPACING_MS`].
    pub planned: [u64; SPACING_MS.len()],
    /// The same of how many were sent, whenever they came due.
    pub sent: [u64; SPACING_MS.len()],
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

/// A pod's state as a watch delivered it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodSeen {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The controller that owns it, as far as the watch tells: a ReplicaSet's name.
    pub owner: Option<String>,
    pub phase: String,
    pub ready: bool,
    pub terminating: bool,
    /// True on the last sight of it.
    pub gone: bool,
    pub restarts: u32,
    pub ip: Option<String>,
    /// Why it waits or ended, where the kubelet says: `CrashLoopBackOff`, `OOMKilled`.
    pub reason: Option<String>,
}

/// The live spec of a HorizontalPodAutoscaler, with the controller's constants as far as they can be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoscalerSpec {
    pub object: ObjectRef,
    /// What it scales.
    pub scales: ObjectRef,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// One line per metric, as `pods in_flight averageValue 8`.
    pub metrics: Vec<String>,
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
    /// The controller's sync period, and where that number comes from.
    pub sync_period_s: f64,
    pub sync_period_source: String,
    pub tolerance: f64,
}

/// One direction of `spec.behavior`, with the API's defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingRules {
    pub stabilization_window_s: u32,
    /// `Max`, `Min` or `Disabled`.
    pub select_policy: String,
    pub policies: Vec<ScalingPolicy>,
}

/// One policy: at most `value` pods or per cent in `period_s` seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// `Pods` or `Percent`.
    pub kind: String,
    pub value: u32,
    pub period_s: u32,
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
