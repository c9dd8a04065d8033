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

impl super::Fault for Spec {}
