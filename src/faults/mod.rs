//! Breaking things on purpose, and proving it.
//!
//! ```text
//! planned ─▶ undo journalled ─▶ applied under a lease ─▶ proven effective ─▶ healed ─▶ proven gone
//! ```
//!
//! A fault is one file with `Spec`, `targets`, `undo`, `inject` and `heal`, in that order, and one row in the table below.

use crate::kinds::kinds;
use crate::names::ObjectRef;

pub mod agent;
mod latency;
mod pod_kill;

kinds! {
    /// What can be broken.
    pub enum Spec as dyn Fault {
        pod_kill::Spec => PodKill "pod_kill": "deletes pods and lets the platform replace them" = "{pods: 1, grace: 0s}",
        latency::Spec => Latency "latency": "delays what reaches the pods of a workload" = "{on: shop/deployment/payments, add: 200ms, jitter: 50ms}",
    }
}

/// What every fault knows how to do.
pub trait Fault {
    /// Whether it lasts for a while, and so needs `for:`; one that happens at once must not have it.
    fn lasts(&self) -> bool;

    /// The workload whose pods it touches; `target` is the plan's own, for a spec that names none.
    fn workload<'a>(&'a self, target: Option<&'a ObjectRef>) -> Option<&'a ObjectRef>;

    /// How many of `ready` pods it touches: the blast radius that a plan shows before anything is broken.
    fn reach(&self, ready: u32) -> u32;

    /// What it must be allowed to do in the workload's namespace, one line of `verbs resource` each.
    fn permissions(&self) -> &'static [&'static str];
}
