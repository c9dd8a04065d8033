//! Deletes pods of a workload and lets the platform replace them. Nothing can be restored: what heals is the controller, and what is
//! proven is that it did.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

use super::evidence::{Evidence, Witness};
use super::hold::Released;
use super::{Error, Hold, Lasting, Scene, Targets, Undo, blast};
use crate::cluster::endpoints::{EndpointState, Slice};
use crate::cluster::pod::Grace;
use crate::cluster::watch::{self, Scope, Sight};
use crate::cluster::{self, Cluster, Pod, Workload};
use crate::names::ObjectRef;
use crate::rights::Right;
use crate::time::monotonic_now;
use crate::units::{Ratio, Span};

/// What to kill, and how gently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose pods; the target's workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ObjectRef>,
    /// How many: a count (`1`) or a share of the ready ones (`25%`, rounded down, at least one).
    pub pods: Pods,
    /// Seconds between SIGTERM and SIGKILL; the pod's own when absent, `0s` to kill at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
}

/// A number of pods: so many, or a share of those that are ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pods {
    Count(u32),
    Share(Ratio),
}

impl Pods {
    /// Of `ready` pods, how many are meant.
    fn of(self, ready: usize) -> usize {
        match self {
            Pods::Count(count) => count as usize,
            // Rounded down: rounding up would make 25% of two pods one half of them.
            Pods::Share(share) => ((ready as f64 * share.fraction()).floor() as usize).max(1),
        }
    }
}

/// Between looks at whether the platform has repaired things.
const LOOK: Duration = Duration::from_millis(200);
/// How long the platform may take to repair things.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(75);

/// What the journal keeps of one killed pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Killed {
    workload: ObjectRef,
    pod: String,
    uid: String,
    /// Ready pods before.
    ready: u32,
}

impl super::Fault for Spec {
    fn on(&self) -> Option<&ObjectRef> {
        self.on.as_ref()
    }

    fn lasting(&self) -> Lasting {
        Lasting::Once
    }

    fn reach(&self, ready: u32) -> u32 {
        u32::try_from(self.pods.of(ready as usize)).unwrap_or(u32::MAX).min(ready)
    }

    fn rights(&self) -> &'static [Right] {
        const RIGHTS: &[Right] = &[
            Right::to(&["list", "watch", "delete"], "", "pods"),
            Right::to(&["list"], "apps", "replicasets"),
            Right::to(&["list", "watch"], "discovery.k8s.io", "endpointslices"),
        ];
        RIGHTS
    }

    fn targets<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<Targets, Error>> {
        Box::pin(async move {
            let workload = scene.admitted(self.on.as_ref()).await?;
            let mut ready: Vec<Pod> = scene.cluster.pods_of(&workload).await?.into_iter().filter(Pod::serves).collect();
            // The same seed must choose the same pods whatever order the server lists them in.
            ready.sort_by(|a, b| a.name.cmp(&b.name));
            let wanted = self.pods.of(ready.len());
            blast::admit_loss(&workload, wanted, ready.len())?;
            let mut random = Pcg64Mcg::seed_from_u64(scene.seed);
            let chosen = rand::seq::index::sample(&mut random, ready.len(), wanted);
            let of = ready.len() as u64;
            let pods = chosen.into_iter().map(|index| ready[index].clone()).collect();
            Ok(Targets { workload, pods, of, before: Value::Null })
        })
    }

    fn undo(&self, _: &Scene, targets: &Targets) -> Vec<Undo> {
        let ready = u32::try_from(targets.of).unwrap_or(u32::MAX);
        targets
            .pods
            .iter()
            .map(|pod| {
                let killed =
                    Killed { workload: targets.workload.object.clone(), pod: pod.name.clone(), uid: pod.uid.clone(), ready };
                Undo {
                    says: format!("nothing to restore: wait for {} to replace pod {}", killed.workload, pod.label()),
                    detail: json!(killed),
                }
            })
            .collect()
    }

    fn settling(&self, targets: &Targets) -> Duration {
        let own = targets.pods.iter().map(|pod| pod.grace_s).max().unwrap_or(0);
        self.grace.map_or(Duration::from_secs(own.into()), Span::duration)
    }

    fn inject<'a>(&'a self, scene: &'a Scene, targets: Targets) -> BoxFuture<'a, Result<Hold, Error>> {
        Box::pin(async move {
            let mut hold = Hold::new();
            let (witness, now) = Watching::start(scene, &targets).await?;
            // Between the choice and now others may have gone: the limit is held against what is there when it is done.
            let serving: Vec<&Pod> = now.iter().filter(|pod| pod.serves()).collect();
            let taken = serving.iter().filter(|pod| witness.uids.contains(&pod.uid)).count();
            blast::admit_loss(&targets.workload, taken, serving.len())?;
            let grace = match self.grace {
                None => Grace::Own,
                // The API takes whole seconds; half a second of grace must not become none.
                Some(span) => Grace::Seconds(span.seconds().ceil() as u32),
            };
            let deletions = targets.pods.iter().map(|pod| scene.cluster.delete_pod(pod, grace));
            for (pod, deleted) in targets.pods.iter().zip(futures::future::join_all(deletions).await) {
                match deleted {
                    // Gone by itself in the meantime, or replaced by a namesake: not by us, but just as gone.
                    Ok(()) | Err(cluster::Error::NotFound { .. } | cluster::Error::Conflict { .. }) => {}
                    Err(error) => return Err(Error::Failed(format!("pod {} could not be deleted: {error}", pod.label()))),
                }
            }
            let released = hold.released();
            hold.spawn(witness.run(scene.evidence.clone(), released));
            Ok(hold)
        })
    }

    fn heal<'a>(&'a self, cluster: &'a Cluster, undos: &'a [Undo]) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            let killed: Vec<Killed> = undos
                .iter()
                .map(|undo| serde_json::from_value(undo.detail.clone()))
                .collect::<Result<_, _>>()
                .map_err(|e| Error::NotProven(format!("the journal's undo cannot be read: {e}")))?;
            let Some(first) = killed.first() else { return Ok("nothing was killed".into()) };
            let uids: BTreeSet<&str> = killed.iter().map(|k| k.uid.as_str()).collect();
            let deadline = monotonic_now() + RECOVERY_TIMEOUT;
            let mut unanswered = 0;
            loop {
                let (lacks, pause) = match recovery(cluster, first, &uids).await {
                    Ok(Recovery::Done(proof)) if unanswered == 0 => return Ok(proof),
                    Ok(Recovery::Done(proof)) => return Ok(format!("{proof}; {unanswered} looks before were not answered")),
                    Ok(Recovery::Lacks(what)) => (what, LOOK),
                    Err(error) if error.is_passing() => {
                        unanswered += 1;
                        (error.to_string(), error.pause(LOOK))
                    }
                    Err(error) => return Err(error.into()),
                };
                if monotonic_now() >= deadline {
                    return Err(Error::NotRecovered(format!(
                        "{} has not recovered within {}s of waiting: {lacks}",
                        first.workload,
                        RECOVERY_TIMEOUT.as_secs()
                    )));
                }
                tokio::time::sleep(pause).await;
            }
        })
    }
}

enum Recovery {
    Done(String),
    Lacks(String),
}

async fn recovery(cluster: &Cluster, killed: &Killed, uids: &BTreeSet<&str>) -> Result<Recovery, cluster::Error> {
    let workload = match cluster.workload(&killed.workload).await {
        Ok(workload) => workload,
        Err(cluster::Error::NotFound { .. }) => return Ok(Recovery::Done(format!("{} is gone itself", killed.workload))),
        Err(error) => return Err(error),
    };
    let pods = cluster.pods_of(&workload).await?;
    // One that is there and not going was never deleted: the run died, or was refused, before it could.
    let left = pods.iter().filter(|pod| pod.terminating && uids.contains(pod.uid.as_str())).count();
    if left > 0 {
        return Ok(Recovery::Lacks(format!("{left} of the killed pods still terminate")));
    }
    // The autoscaler may have asked for fewer meanwhile, and for more than it had: the loss is repaired at the lesser of the two.
    let wanted = workload.wanted.min(killed.ready) as usize;
    let ready = pods.iter().filter(|pod| pod.serves()).count();
    Ok(if ready >= wanted {
        Recovery::Done(format!("{} has {ready} ready pods, and no killed one is left", killed.workload))
    } else {
        Recovery::Lacks(format!("{ready} of {wanted} pods are ready"))
    })
}

/// Two views of the killing: the pods as the API tells of them, and the endpoints that traffic follows.
struct Watching {
    workload: Workload,
    uids: BTreeSet<String>,
    before: BTreeSet<String>,
    served: Served,
    pods: watch::Watching,
    slices: watch::Watching,
}

impl Watching {
    /// Starts to watch; also gives the workload's pods as they are now.
    async fn start(scene: &Scene, targets: &Targets) -> Result<(Watching, Vec<Pod>), Error> {
        let namespace = &targets.workload.object.namespace;
        let pod = scene.cluster.resource_of("v1", "Pod").await?;
        let slice = scene.cluster.resource_of("discovery.k8s.io/v1", "EndpointSlice").await?;
        let mut pods =
            scene.cluster.watch(&pod, Scope { selector: targets.workload.selector.clone(), ..Scope::namespace(namespace) });
        let mut slices = scene.cluster.watch(&slice, Scope::namespace(namespace));
        // Both first lists must lie before the deed, or the deed would be part of the state.
        let (listed, endpoints) = futures::future::join(first_list(&mut pods), first_list(&mut slices)).await;
        let listed: Vec<Pod> = listed.iter().filter_map(Pod::read).collect();
        let before = listed.iter().map(|pod| pod.uid.clone()).collect();
        let uids = targets.pods.iter().map(|pod| pod.uid.clone()).collect();
        let mut served = Served::default();
        served.see(Sight::Listed(endpoints), &uids);
        let now = scene.cluster.owned(&targets.workload, listed).await?;
        Ok((Watching { workload: targets.workload.clone(), uids, before, served, pods, slices }, now))
    }

    async fn run(mut self, evidence: Evidence, mut released: Released) {
        let all = self.uids.len();
        let (mut deleted, mut replaced) = (BTreeSet::new(), BTreeSet::new());
        let (mut said_deleted, mut said_unserved, mut said_replaced) = (false, false, false);
        loop {
            tokio::select! {
                sighting = self.pods.next() => match sighting.map(|s| s.sight) {
                    None => return,
                    Some(Sight::Gone(object)) => deleted.extend(Pod::read(&object).map(|p| p.uid).filter(|u| self.uids.contains(u))),
                    Some(Sight::Seen(object)) => replaced.extend(Pod::read(&object).filter(Pod::serves).map(|p| p.uid).filter(|u| !self.before.contains(u))),
                    Some(Sight::Listed(objects)) => {
                        let there: BTreeSet<String> = objects.iter().filter_map(Pod::read).map(|pod| pod.uid).collect();
                        deleted.extend(self.uids.iter().filter(|uid| !there.contains(*uid)).cloned());
                    }
                    Some(Sight::Blind { .. }) => {}
                },
                sighting = self.slices.next() => match sighting {
                    None => return,
                    Some(sighting) => self.served.see(sighting.sight, &self.uids),
                },
                () = released.wait() => return,
            }
            if !said_deleted && deleted.len() == all {
                said_deleted = true;
                evidence.supports(Witness::Mechanism, format!("{all} killed by uid, each seen deleted: {}", names(&deleted)));
            }
            if !said_unserved && self.served.lost_all(&self.uids) {
                said_unserved = true;
                evidence.supports(Witness::Victim, format!("none of the {all} killed is a ready endpoint of a service any more"));
            }
            if !said_replaced && replaced.len() >= all {
                said_replaced = true;
                evidence.supports(Witness::Victim, format!("{} has {all} new ready pods in their place", self.workload.object));
            }
        }
    }
}

/// The complete state with which a watch begins.
async fn first_list(watching: &mut watch::Watching) -> Vec<Value> {
    while let Some(sighting) = watching.next().await {
        if let Sight::Listed(objects) = sighting.sight {
            return objects;
        }
    }
    Vec::new()
}

/// Which of the killed are endpoints, by slice.
#[derive(Default)]
struct Served {
    ready: std::collections::BTreeMap<String, BTreeSet<String>>,
    /// Killed pods that were seen as ready endpoints: one that never was cannot be missed.
    once: BTreeSet<String>,
}

impl Served {
    fn see(&mut self, sight: Sight, uids: &BTreeSet<String>) {
        match sight {
            Sight::Listed(objects) => {
                self.ready.clear();
                objects.iter().filter_map(Slice::read).for_each(|slice| self.note(slice, uids));
            }
            Sight::Seen(object) => {
                if let Some(slice) = Slice::read(&object) {
                    self.note(slice, uids);
                }
            }
            Sight::Gone(object) => {
                if let Some(slice) = Slice::read(&object) {
                    self.ready.remove(&slice.name);
                }
            }
            Sight::Blind { .. } => {}
        }
    }

    fn note(&mut self, slice: Slice, uids: &BTreeSet<String>) {
        let ready: BTreeSet<String> = slice
            .endpoints
            .into_iter()
            .filter(|endpoint| endpoint.state == EndpointState::Ready)
            .filter_map(|endpoint| endpoint.uid)
            .filter(|uid| uids.contains(uid))
            .collect();
        self.once.extend(ready.iter().cloned());
        self.ready.insert(slice.name, ready);
    }

    fn lost_all(&self, uids: &BTreeSet<String>) -> bool {
        uids.is_subset(&self.once) && self.ready.values().all(BTreeSet::is_empty)
    }
}

fn names(uids: &BTreeSet<String>) -> String {
    uids.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pods::Count(count) => write!(f, "{count}"),
            Pods::Share(share) => write!(f, "{share}"),
        }
    }
}

impl Serialize for Pods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Pods::Count(count) => serializer.serialize_u32(*count),
            Pods::Share(share) => share.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Pods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pods, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Pods;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of pods, as in 1 or 25%")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Pods, E> {
                match u32::try_from(count) {
                    Ok(0) => Err(E::custom("0 pods is no fault: ask for at least 1")),
                    Ok(count) => Ok(Pods::Count(count)),
                    Err(_) => Err(E::custom(format!("{count} pods is more than any cluster has"))),
                }
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Pods, E> {
                u64::try_from(count)
                    .map_err(|_| E::custom(format!("{count} is not a number of pods: write 1 or 25%")))
                    .and_then(|count| self.visit_u64(count))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pods, E> {
                if let Ok(count) = text.trim().parse() {
                    return self.visit_u64(count);
                }
                let share: Ratio = text.parse().map_err(|_| {
                    E::custom(format!("`{text}` is not a number of pods: write a count, as in 1, or a share, as in 25%"))
                })?;
                if share.fraction() == 0.0 {
                    Err(E::custom("0% of the pods is no fault: ask for more"))
                } else {
                    Ok(Pods::Share(share))
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Pods {
    fn schema_name() -> Cow<'static, str> {
        "Pods".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of pods, as in 1, or a share of the ready ones, as in 25% (rounded down, at least one)",
            "oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9.]+ *%?$"}]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_a_count_or_a_share() {
        let read = |json: &str| serde_json::from_str::<Pods>(json);
        assert_eq!(read("1").unwrap(), Pods::Count(1));
        assert_eq!(read("\"3\"").unwrap(), Pods::Count(3));
        let share = read("\"25%\"").unwrap();
        for (ready, killed) in [(1, 1), (2, 1), (4, 1), (8, 2), (9, 2)] {
            assert_eq!(share.of(ready), killed, "25% of {ready}");
        }
        assert_eq!(serde_json::to_string(&share).unwrap(), "\"25%\"");
        assert_eq!(serde_json::to_string(&Pods::Count(2)).unwrap(), "2");
        for wrong in ["0", "-1", "1.5", "\"0%\"", "\"101%\"", "\"half\"", "5000000000"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A pod that drains for 45 seconds is deleted only then: its killing cannot be proven sooner.
    #[test]
    fn a_kill_is_waited_for_as_long_as_its_pods_may_drain() {
        let pod = |grace: Value| {
            Pod::read(&json!({"metadata": {"namespace": "s", "name": "p", "uid": "u"}, "spec": {"containers": [], "terminationGracePeriodSeconds": grace}}))
                .unwrap()
        };
        let object = "s/deployment/p".parse().unwrap();
        let workload = Workload::read(&object, &json!({"metadata": {"uid": "d"}})).unwrap();
        let targets = Targets { workload, pods: vec![pod(json!(5)), pod(json!(45))], of: 3, before: Value::Null };
        let settling = |spec: &str| super::super::Fault::settling(&serde_json::from_str::<Spec>(spec).unwrap(), &targets);
        assert_eq!(settling(r#"{"pods": 2}"#), Duration::from_secs(45));
        assert_eq!(settling(r#"{"pods": 2, "grace": "3s"}"#), Duration::from_secs(3));
        assert_eq!(settling(r#"{"pods": 2, "grace": "0s"}"#), Duration::ZERO);
    }

    #[test]
    fn an_endpoint_is_missed_only_when_it_was_there() {
        let uids: BTreeSet<String> = ["u1".to_owned()].into();
        let slice = |ready: bool| {
            json!({"metadata": {"name": "s-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "s"}},
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"name": "p", "uid": "u1"}}]})
        };
        let mut served = Served::default();
        served.see(Sight::Seen(slice(false)), &uids);
        assert!(!served.lost_all(&uids), "it never was one");
        served.see(Sight::Seen(slice(true)), &uids);
        assert!(!served.lost_all(&uids), "it is one");
        served.see(Sight::Seen(slice(false)), &uids);
        assert!(served.lost_all(&uids));
    }
}
