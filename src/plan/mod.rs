//! YAML -> [`Plan`]: a claim and the evidence asked for. The only folder that knows YAML.
//!
//! A `Plan` in hand has been read and checked: there is no other way to get one than [`Plan::read`] and
//! [`Plan::adhoc`]. Problems are reported all at once, in file order, each with its place and the way out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::names::{Anchor, Name, ObjectRef};
use crate::units::{Rate, Span};
use crate::{faults, verdict};

/// A plan that has been read and checked.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: Name,
    pub claim: String,
    /// The parameters as set; never a secret.
    pub params: BTreeMap<String, String>,
    pub cluster: ClusterChoice,
    /// Manifest files, resolved against the plan's own folder.
    pub manifests: Vec<PathBuf>,
    pub target: Target,
    pub phases: Vec<Phase>,
    pub loads: Vec<Load>,
    pub faults: Vec<PlannedFault>,
    pub claims: Vec<verdict::Claim>,
    /// The seed that the plan fixes, where it does.
    pub seed: Option<u64>,
    /// The text that was read, line for line; secrets stand in it as `${NAME}`.
    pub source: String,
}

/// Where the plan runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterChoice {
    /// No Kubernetes at all: a URL under load.
    None,
    /// The embedded one.
    Sandbox(SandboxOptions),
    /// A context of the kubeconfig (the current one when `None`).
    Context(Option<String>),
}

/// How the embedded cluster differs from a real one, on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxOptions {
    /// How often the autoscaler looks; 15 s in a real cluster, 1 s here.
    pub autoscaler_sync: Span,
    /// Whether latency faults take effect; `false` is for testing that an ineffective fault is noticed.
    pub interpose: bool,
}

/// What is under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// `http://` or `https://`, host, optional port and base path.
    pub url: String,
    pub workload: Option<ObjectRef>,
    pub autoscaler: Option<ObjectRef>,
    /// The response header that tells who answered.
    pub identity_header: String,
    /// Accept any certificate.
    pub insecure: bool,
}

/// A stretch of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub name: Name,
    pub length: Span,
}

/// Requests on a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub name: Name,
    pub arrivals: Arrivals,
    /// The rate in each phase; a phase that is absent has none.
    pub rate: BTreeMap<Name, PhaseRate>,
    pub request: Request,
    /// Connections that may be open at once; bounded even when the plan does not say.
    pub connections: u32,
    /// Requests that may be due and not ended at once; what comes on top is `unsent`.
    pub in_flight: u32,
}

/// The process by which requests become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Independent, as many users are: exponential gaps.
    Poisson,
}

/// The rate through one phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PhaseRate {
    Steady(Rate),
    /// Linear from the phase's start to its end.
    Ramp {
        from: Rate,
        to: Rate,
    },
}

/// One HTTP request, the same for every arrival.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// In upper case.
    pub method: String,
    /// Appended to the target's URL; starts with `/`.
    pub path: String,
    /// Names as written; values may hold secrets, so this type's `Debug` prints none of them.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the intended start.
    pub timeout: Span,
}

/// A fault at its moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFault {
    pub name: Name,
    pub at: Anchor,
    /// How long it lasts, for faults that last.
    pub length: Option<Span>,
    pub spec: faults::Spec,
    pub line: u32,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body", &self.body.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}
