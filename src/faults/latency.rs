//! Delays what reaches the pods of a workload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::ObjectRef;
use crate::units::Span;

/// Where, and how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub on: ObjectRef,
    /// Added to each request's way in.
    pub add: Span,
    /// Each delay is drawn uniformly from `add - jitter` to `add + jitter`.
    #[serde(default)]
    pub jitter: Span,
}

impl super::Fault for Spec {
    fn lasts(&self) -> bool {
        true
    }
    fn workload<'a>(&'a self, _target: Option<&'a ObjectRef>) -> Option<&'a ObjectRef> {
        Some(&self.on)
    }
    fn reach(&self, ready: u32) -> u32 {
        ready
    }
    fn permissions(&self) -> &'static [&'static str] {
        &["get,list,watch pods", "patch pods/ephemeralcontainers", "create,get pods/attach"]
    }
}
