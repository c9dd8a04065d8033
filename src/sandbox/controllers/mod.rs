//! The controllers: one file each, woken by changes, never by polling. Each compares what an object asks for with what is there and
//! takes the step between them; what it did comes back to it as a change.

pub mod autoscaler;
mod claim;
mod deployment;
mod endpoints;
mod garbage;
mod node;
mod replicaset;
mod scheduler;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::address::Block;
use super::feed::News;
use super::kubelet::Kubelet;
use super::objects::{Key, key};
use super::store::Store;

pub use autoscaler::Autoscaling;
pub use endpoints::named_port;
pub use node::NODE;

/// What controllers share.
#[derive(Clone)]
pub struct Shared {
    pub store: Arc<Store>,
    pub block: Arc<Block>,
    pub kubelet: Kubelet,
    /// Pods that the one node takes.
    pub pods_max: usize,
    pub autoscaling: Autoscaling,
}

/// Starts them all; they end when the set is dropped.
pub fn start(shared: &Shared, tasks: &mut JoinSet<()>) {
    node::register(shared);
    tasks.spawn(endpoints::run(shared.clone()));
    tasks.spawn(deployment::run(shared.clone()));
    tasks.spawn(replicaset::run(shared.clone()));
    tasks.spawn(scheduler::run(shared.clone()));
    tasks.spawn(garbage::run(shared.clone()));
    tasks.spawn(autoscaler::run(shared.clone()));
}

/// Objects that want work, each once.
type Queue = BTreeSet<Key>;

/// Queues the objects that changed themselves.
fn queue_own(queue: &mut Queue, batch: impl IntoIterator<Item = News>) {
    for news in batch {
        if let News::Changed(change) = news {
            queue.insert(key(&change.object));
        }
    }
}
