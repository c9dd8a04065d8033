//! Deletes pods of a workload and lets the platform replace them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::ObjectRef;
use crate::units::Span;

/// What to kill, and how gently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose pods; the target's workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ObjectRef>,
    /// How many: a count (`1`) or a share of the ready ones (`25%`, rounded down, at least one).
    pub pods: Pods,
    /// Seconds between SIGTERM and SIGKILL; the pod's own when absent, `0s` to kill at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
}

/// A number of pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pods(u32);

impl super::Fault for Spec {
    fn lasts(&self) -> bool {
        false
    }
    fn workload<'a>(&'a self, target: Option<&'a ObjectRef>) -> Option<&'a ObjectRef> {
        self.on.as_ref().or(target)
    }
    fn reach(&self, ready: u32) -> u32 {
        self.pods.0.min(ready)
    }
    fn permissions(&self) -> &'static [&'static str] {
        &["get,list,watch pods", "delete pods"]
    }
}
