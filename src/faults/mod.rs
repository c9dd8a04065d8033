//! Breaking things on purpose, and proving it.
//!
//! ```text
//! planned ─▶ undo journalled ─▶ applied under a lease ─▶ proven effective ─▶ healed ─▶ proven gone
//! ```
//!
//! A fault is one file with `Spec`, `targets`, `undo`, `inject` and `heal`, in that order, and one row in the table below.
//! [`conduct`] leads each through these steps; [`heal`](heal::heal) finishes what a killed run left, by the same `heal`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::{self, Cluster, Pod};
use crate::kinds::kinds;
use crate::names::ObjectRef;
use crate::rights::Right;

pub mod agent;
pub mod blast;
pub mod conduct;
pub mod evidence;
pub mod heal;
mod hold;
pub mod journal;
mod latency;
pub mod lease;
mod pod_kill;
pub mod preflight;
mod probe;
pub mod scene;

pub use conduct::{Act, Curtain, Stage, conduct};
pub use hold::Hold;
pub use journal::Journal;
use preflight::{Findings, Ground};
pub use scene::Scene;

kinds! {
    /// What can be broken.
    pub enum Spec as dyn Fault {
        pod_kill::Spec => PodKill "pod_kill": "deletes pods and lets the platform replace them" = "{pods: 1, grace: 0s}",
        latency::Spec => Latency "latency": "delays what reaches the pods of a workload" = "{on: shop/deployment/payments, add: 200ms, jitter: 50ms}",
    }
}

/// What every fault knows how to do.
pub trait Fault: Send + Sync {
    /// The workload that the spec names; the target's is meant where it names none.
    fn on(&self) -> Option<&ObjectRef>;

    /// Whether there is anything to end.
    fn lasting(&self) -> Lasting;

    /// How many of `ready` pods it touches: the blast radius that is shown before anything is broken.
    fn reach(&self, ready: u32) -> u32;

    /// What it asks of the API server in the workload's namespace, beside the workload itself.
    fn rights(&self) -> &'static [Right];

    /// Why the spec, as it is written, can never be applied.
    fn contradiction(&self) -> Option<String> {
        None
    }

    /// What stands in its way, as things are now. Reads, and tries writes that are not kept.
    fn preflight<'a>(&'a self, _: &'a Ground) -> BoxFuture<'a, Result<Findings, Error>> {
        Box::pin(async { Ok(Findings::default()) })
    }

    /// What will stand in its way in pods that are not there yet: one as its template has it, in a namespace with these labels.
    fn foresee(&self, _: &Pod, _: &BTreeMap<String, String>) -> Findings {
        Findings::default()
    }

    /// Chooses what to touch and takes the fingerprint of how it is before. Reads, and changes nothing.
    fn targets<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<Targets, Error>>;

    /// What would have to be undone: journalled before anything is touched.
    fn undo(&self, scene: &Scene, targets: &Targets) -> Vec<Undo>;

    /// How long what it touches may take by itself until the effect is complete: a pod that drains. Added to how long the effect of
    /// a fault that happens once is waited for.
    fn settling(&self, _: &Targets) -> Duration {
        Duration::ZERO
    }

    /// Does it, and returns the hold on it: whatever must go on while it lasts. Evidence is told to `scene.evidence` from there.
    fn inject<'a>(&'a self, scene: &'a Scene, targets: Targets) -> BoxFuture<'a, Result<Hold, Error>>;

    /// Brings the undos about and proves it, saying the proof in words. The hold has been let go of, by [`Hold::release`] or because
    /// the process that had it is dead. May be called any number of times.
    fn heal<'a>(&'a self, cluster: &'a Cluster, undos: &'a [Undo]) -> BoxFuture<'a, Result<String, Error>>;
}

/// Whether a fault happens once or goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// It is done when it is applied; `for` makes no sense.
    Once,
    /// It goes on for as long as `for` says, to the end of the run where it does not.
    UntilHealed,
}

/// What a fault touches.
#[derive(Clone, Debug)]
pub struct Targets {
    pub workload: cluster::Workload,
    pub pods: Vec<Pod>,
    /// Out of how many.
    pub of: u64,
    /// How things are before, in the fault's own words.
    pub before: Value,
}

/// One thing to be undone, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// For a person: what to do by hand if all else fails.
    pub says: String,
    /// For the fault's own `heal`.
    pub detail: Value,
}

/// Why a fault could not be applied or healed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A limit on the damage was met before anything was touched.
    #[error("{0}")]
    Refused(String),
    /// The journal could not be written, so nothing was touched.
    #[error("the undo journal cannot be written, so nothing is touched: {0}")]
    Journal(#[from] std::io::Error),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// Nothing of the fault is active any more, but the platform has not repaired what it broke.
    #[error("{0}")]
    NotRecovered(String),
    /// It cannot be shown that the fault is gone.
    #[error("{0}")]
    NotProven(String),
}

impl Error {
    /// Whether something of the fault may still be active.
    pub fn may_be_active(&self) -> bool {
        !matches!(self, Error::NotRecovered(_))
    }
}
