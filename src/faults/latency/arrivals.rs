//! The pods that appear under a delay, as they become known to be the workload's, each once. What cannot be known of one, and counts, is told
//! to the fault's evidence.

use std::collections::BTreeSet;
use std::time::Duration;

use super::newcomers::Newcomers;
use super::{ASK_AGAIN, NewPods, SEATS_MAX, Spec};
use crate::cluster::watch::{Scope, Sight, Watching};
use crate::cluster::{Cluster, Pod, Workload};
use crate::faults::evidence::{Evidence, Witness};
use crate::faults::{Error, Scene, Targets};
use crate::names::ObjectRef;
use crate::time::monotonic_now;

/// Waits until a pod that appeared is delayed. Clients can reach it meanwhile, so one that is not delayed within this time is told of, once, while
/// that still counts.
pub(super) async fn soon<T>(pod: &str, within: Duration, evidence: &Evidence, joining: impl Future<Output = T>) -> T {
    tokio::pin!(joining);
    tokio::select! {
        joined = &mut joining => return joined,
        () = tokio::time::sleep(within) => {}
    }
    let why = format!("new pod {pod} was not delayed within {}s of its appearance", within.as_secs());
    evidence.contradicts(Witness::Mechanism, why);
    joining.await
}

/// Who appears.
pub(super) struct Arrivals {
    cluster: Cluster,
    workload: Workload,
    on: ObjectRef,
    joins: bool,
    newcomers: Newcomers,
    sightings: Watching,
    evidence: Evidence,
}

impl Arrivals {
    /// Beside those that are targeted.
    pub async fn beside(targets: &Targets, spec: &Spec, scene: &Scene) -> Result<Arrivals, Error> {
        let pod = scene.cluster.resource_of("v1", "Pod").await?;
        let namespace = Scope::namespace(&targets.workload.object.namespace);
        let scope = Scope { selector: targets.workload.selector.clone(), ..namespace };
        Ok(Arrivals {
            cluster: scene.cluster.clone(),
            workload: targets.workload.clone(),
            on: spec.on.clone(),
            joins: spec.new_pods == NewPods::Join,
            newcomers: Newcomers::beside(targets.pods.iter().map(|pod| pod.uid.clone())),
            sightings: scene.cluster.watch(&pod, scope),
            evidence: scene.evidence.clone(),
        })
    }

    /// Waits until something is seen, and gives the pods that are to be delayed by now; `None` when nothing can be seen any more. Cancel-safe:
    /// who was seen and not given is given later.
    pub async fn next(&mut self) -> Option<Vec<Pod>> {
        let asks = !self.newcomers.unknown().is_empty();
        tokio::select! {
            sighting = self.sightings.next() => match sighting?.sight {
                Sight::Seen(object) if self.joins => self.newcomers.seen(&object, monotonic_now()),
                Sight::Listed(objects) if self.joins => self.newcomers.listed(&objects, monotonic_now()),
                Sight::Gone(object) => self.newcomers.gone(&object),
                _ => {}
            },
            () = tokio::time::sleep(ASK_AGAIN), if asks => {}
        }
        let unknown = self.newcomers.unknown();
        if unknown.is_empty() {
            return Some(Vec::new());
        }
        let against = |why: String| self.evidence.contradicts(Witness::Mechanism, why);
        let pods = match self.cluster.owned(&self.workload, unknown).await {
            Ok(pods) => pods,
            Err(error) => {
                let lost = self.newcomers.unanswered(&error, monotonic_now());
                if !lost.is_empty() {
                    against(format!("whether {} are pods of {} is not known: {error}", lost.join(", "), self.on));
                }
                return Some(Vec::new());
            }
        };
        self.newcomers.are_ours(&pods);
        let without: BTreeSet<String> = pods.iter().filter(|pod| !self.newcomers.seat(pod)).map(|pod| pod.uid.clone()).collect();
        let (seated, late): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(|pod| !without.contains(&pod.uid));
        for pod in late {
            against(format!("new pod {} is not delayed: one fault follows at most {SEATS_MAX} pods", pod.label()));
        }
        Some(seated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::{Ending, RunEnded, RunStarted};
    use crate::recording::{History, Recording};

    /// Goal: a pod that comes late is told of once, while it still counts, and one that comes in time is not. How: one that is there at once, and one
    /// that comes only after it was told of.
    #[tokio::test]
    async fn a_pod_that_is_not_delayed_in_time_is_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let clock = crate::time::Clock::starting_in(Duration::ZERO);
        let (sink, recording) = Recording::create(dir.path(), clock, RunStarted::of_nothing()).unwrap();
        let name: crate::names::Name = "slow".parse().unwrap();
        let evidence = Evidence::new(name.clone(), sink.clone());
        evidence.open();
        let mut told = sink.subscribe();
        assert_eq!(soon("s/a", Duration::from_secs(3600), &evidence, async { 1 }).await, 1);
        let joining = async {
            told.recv().await.unwrap();
            2
        };
        assert_eq!(soon("s/b", Duration::ZERO, &evidence, joining).await, 2);
        recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
        let seen = History::load(dir.path()).unwrap().fault(&name).unwrap();
        let said: Vec<(&str, bool)> = seen.evidence.iter().map(|one| (one.says.as_str(), one.supports)).collect();
        assert_eq!(said, [("new pod s/b was not delayed within 0s of its appearance", false)]);
    }
}
