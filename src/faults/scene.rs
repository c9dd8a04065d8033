//! What a fault is given to work with.

use std::sync::Arc;

use super::evidence::Evidence;
use super::journal::{Entry, Journal};
use super::{Error, Undo, blast};
use crate::cluster::{Cluster, Workload};
use crate::names::{Name, ObjectRef};

/// The surroundings of one fault.
#[derive(Clone)]
pub struct Scene {
    pub fault: Name,
    pub run: String,
    pub cluster: Cluster,
    pub permission: blast::Permission,
    /// For this fault's choices: from the run's seed and the fault's name, so that another fault in the plan does not change them.
    pub seed: u64,
    /// The workload that the plan's target names.
    pub workload: Option<ObjectRef>,
    /// The image that holds the agent, where one was named.
    pub agent_image: Option<String>,
    /// When it must be over even if everything of ours is dead.
    pub deadline: jiff::Timestamp,
    pub evidence: Evidence,
    pub journal: Arc<Journal>,
}

impl Scene {
    /// The workload that is meant, looked up and admitted.
    pub async fn admitted(&self, on: Option<&ObjectRef>) -> Result<Workload, Error> {
        let object = on
            .or(self.workload.as_ref())
            .ok_or_else(|| Error::Refused("it names no workload: write `on:`, or `workload:` in the plan's target".into()))?;
        let workload = self.cluster.workload(object).await?;
        blast::admit(self.permission, &workload, self.cluster.server())?;
        Ok(workload)
    }

    /// Journals undos that came up while the fault was active, before they are needed.
    pub async fn journal_more(&self, undos: Vec<Undo>) -> Result<(), Error> {
        Ok(self.journal.write(Entry::More { fault: self.fault.clone(), undos }).await?)
    }
}

/// A seed of its own for a name: FNV-1a over the name, mixed with the run's seed, which is the same on every machine and release.
pub fn seed_of(seed: u64, name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
