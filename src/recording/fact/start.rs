//! What a run is about to do, as it is written first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{Name, ObjectRef};
use crate::time::Offset;

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

#[cfg(test)]
impl RunStarted {
    /// The beginning of a run in which nothing is planned.
    pub(crate) fn of_nothing() -> RunStarted {
        let started = serde_json::json!({"schema": super::SCHEMA, "run_id": "r", "squall": "0", "plan": "p", "claim": "c", "seed": 1,
            "params": {}, "zero": "", "target": "", "workload": null, "autoscaler": null, "phases": [], "loads": [], "faults": [],
            "environment": {}});
        serde_json::from_value(started).expect("it has every field")
    }
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
