//! What stands in the way of a fault, found before anything is touched: by reads, and by writes that are only tried. Each refusal names the
//! object, the cause and the way out.

use std::fmt;

use super::Error;
use crate::cluster::{Cluster, Workload};

/// Where a fault would be injected.
pub struct Ground {
    pub cluster: Cluster,
    pub workload: Workload,
    /// The image that holds `squall`, where one was named.
    pub agent_image: Option<String>,
}

/// Why a fault cannot be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub object: String,
    pub cause: String,
    /// The way out.
    pub fix: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub refusals: Vec<Refusal>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
    /// What was looked at and is as it should be.
    pub fine: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.cause, self.fix)
    }
}

impl Findings {
    /// An error with every refusal, if there are any.
    pub fn refused(&self) -> Option<Error> {
        let all: Vec<String> = self.refusals.iter().map(Refusal::to_string).collect();
        (!all.is_empty()).then(|| Error::Refused(all.join("; and ")))
    }
}
