//! The controllers: one file each, woken by changes, never by polling. Each compares what an object asks for with what is there and
//! takes the step between them; what it did comes back to it as a change.

pub mod autoscaler;
mod claim;
mod deployment;
mod endpoints;
mod garbage;
mod history;
mod indexes;
mod job;
mod node;
mod replicaset;
pub mod scaled_object;
mod scheduler;
mod statefulset;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use super::address::Block;
use super::feed::{Feed, News};
use super::kubelet::Kubelet;
use super::objects::{Key, key};
use super::pod_security::Policy;
use super::resource::{PODS, Resource};
use super::store::{Store, StoreError, text};
use crate::time::{monotonic_now, until};

pub use autoscaler::Autoscaling;
pub use endpoints::named_port;
pub use node::NODE;
pub use scaled_object::Desk;

/// Pods that one look at an owner makes at most, as a real controller's does. Each that is made has its owner looked at again.
const CREATED_MAX: i64 = 500;

/// What controllers share.
#[derive(Clone)]
pub struct Shared {
    pub store: Arc<Store>,
    pub block: Arc<Block>,
    pub kubelet: Kubelet,
    /// Pods that a node takes which does not say how many.
    pub pods_max: usize,
    pub autoscaling: Autoscaling,
    /// Before a Job's first failed pod is replaced; it doubles.
    pub crash_backoff: Duration,
    /// Of the ScaledObjects, for their autoscalers.
    pub scaled: Arc<Desk>,
}

impl Shared {
    /// Makes a pod as a controller makes one: by way of admission.
    fn make_pod(&self, pod: Value) -> Result<Arc<Value>, StoreError> {
        let policy = Policy::of(&self.store, text(&pod, "namespace"));
        match policy.admit(&pod) {
            Ok(()) => self.store.create(&PODS, pod),
            // By then a server has given it its name.
            Err(refusal) => Err(self.store.create_dry(&PODS, pod).and_then(|named| policy.admit(&named)).err().unwrap_or(refusal)),
        }
    }
}

/// Starts them all; they end when the set is dropped.
pub fn start(shared: &Shared, tasks: &mut JoinSet<()>) {
    node::register(shared);
    tasks.spawn(endpoints::run(shared.clone()));
    tasks.spawn(deployment::run(shared.clone()));
    tasks.spawn(replicaset::run(shared.clone()));
    tasks.spawn(statefulset::run(shared.clone()));
    tasks.spawn(job::run(shared.clone()));
    tasks.spawn(scheduler::run(shared.clone()));
    tasks.spawn(node::run(shared.clone()));
    tasks.spawn(garbage::run(shared.clone()));
    tasks.spawn(autoscaler::run(shared.clone()));
    tasks.spawn(scaled_object::run(shared.clone()));
}

/// Objects that want work, each once.
type Queue = BTreeSet<Key>;

/// Follows the objects of one kind and what they control: each that changed, or whose own changed, is looked at. `look` takes one step,
/// and says after how long to look again if nothing changes.
async fn follow(
    shared: &Shared,
    owners: &'static Resource,
    owned: &'static Resource,
    mut look: impl FnMut(&Key) -> Option<Duration>,
) {
    let (mut own, mut theirs) = (Feed::new(&shared.store, owners), Feed::new(&shared.store, owned));
    // Those that time alone will change.
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    loop {
        let mut queue = Queue::new();
        let next = due.values().min().copied();
        tokio::select! {
            batch = own.batch() => queue_own(&mut queue, batch),
            batch = theirs.batch() => claim::queue_owners(&mut queue, &shared.store, batch, owners),
            () = until(next) => {
                let now = monotonic_now();
                queue.extend(due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()));
            }
        }
        for at in queue {
            due.remove(&at);
            if let Some(again) = look(&at) {
                due.insert(at, monotonic_now() + again);
            }
        }
    }
}

/// Queues the objects that changed themselves.
fn queue_own(queue: &mut Queue, batch: impl IntoIterator<Item = News>) {
    for news in batch {
        if let News::Changed(change) = news {
            queue.insert(key(&change.object));
        }
    }
}
