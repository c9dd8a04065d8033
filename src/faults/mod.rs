//! Breaking things on purpose, and proving it.
//!
//! ```text
//! planned ─▶ undo journalled ─▶ applied under a lease ─▶ proven effective ─▶ healed ─▶ proven gone
//! ```
//!
//! A fault is one file with `Spec`, `targets`, `undo`, `inject` and `heal`, in that order, and one row in the table below.

use crate::kinds::kinds;

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
pub trait Fault {}
