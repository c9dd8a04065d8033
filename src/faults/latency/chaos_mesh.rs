//! The same delay by Chaos Mesh, where a cluster has it: by `netem` in each pod's network, on all that the pod sends. One NetworkChaos for each
//! pod, since what one of them selects is frozen when it begins. That it says of itself that it injected proves nothing: releases have said so
//! and injected a thousandth. What is measured along the victims' way decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::arrivals::{Arrivals, soon};
use super::{Before, END_MARGIN, LOOK, PROBE_EVERY, PROBE_WINDOW, Probe, Spec, can_take, median};
use crate::cluster::{self, Applied, Cluster, Pod};
use crate::faults::evidence::{Evidence, Witness};
use crate::faults::hold::Released;
use crate::faults::preflight::{Findings, Ground, Refusal};
use crate::faults::{Error, Scene, Undo, lease, scene::seed_of};
use crate::names::ObjectRef;
use crate::rights::{Right, Without};
use crate::time::{monotonic_now, wall_now};

const API_VERSION: &str = "chaos-mesh.org/v1alpha1";
const KIND: &str = "NetworkChaos";
/// How long it may take to inject.
const INJECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to take back what it did, which its objects wait for.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an object of which nothing was seen may still come to be: longer than one call to the cluster may take.
const LATE_APPLY: Duration = Duration::from_secs(15);
/// Measurements that a statement about the dose rests on at least.
const PAIRS_LEAST: usize = 3;
/// Between looks at whether it is still as it was.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is asked of an API server.
pub(super) const RIGHTS: &[Right] = &[
    Right::to(&["get", "list", "watch"], "", "pods"),
    Right::to(&["list"], "apps", "replicasets").without(Without::Possible),
    // An apply that makes an object creates it.
    Right::to(&["get", "create", "patch", "delete"], "chaos-mesh.org", "networkchaos"),
    Right::to(&["list"], "", "services").without(Without::Possible),
    Right::to(&["get"], "", "pods/proxy").only("where Services cannot be reached from where Squall runs"),
];

/// The delay of one pod. What the journal keeps of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Experiment {
    object: Applied,
    run: String,
    /// As its records name it: `shop/checkout-abc`.
    pod: String,
    uid: String,
    deadline: jiff::Timestamp,
    probe: Option<Probe>,
}

/// What stands in the way.
pub(super) async fn look(ground: &Ground, pods: &[Pod]) -> Findings {
    let mut found = Findings::default();
    let whole = &ground.workload.object;
    match ground.cluster.resource_of(API_VERSION, KIND).await {
        Ok(_) => found.fine = Some(format!("Chaos Mesh is there for the pods of {whole}")),
        Err(cluster::Error::UnknownKind { .. } | cluster::Error::NotFound { .. }) => found.refusals.push(Refusal {
            object: whole.to_string(),
            cause: format!("Chaos Mesh is to delay it, and the cluster serves no {KIND} of {API_VERSION}"),
            fix: "install Chaos Mesh, or leave `via` out: Squall's own agents need nothing installed".into(),
        }),
        Err(error) => found.unknown.push(format!("whether Chaos Mesh is there is not known: {error}")),
    }
    if let Some(pod) = pods.iter().find(|pod| can_take(pod) && pod.host_network) {
        found.refusals.push(super::admission::on_the_nodes_network(pod));
    }
    found
}

impl Experiment {
    pub fn of(scene: &Scene, pod: &Pod, before: &Before) -> Experiment {
        let seed = seed_of(0, &format!("{}/{}/{}", scene.run, scene.fault, pod.uid));
        Experiment {
            object: Applied {
                api_version: API_VERSION.into(),
                kind: KIND.into(),
                namespace: Some(pod.namespace.clone()),
                name: format!("squall-{seed:016x}"),
                pods: None,
            },
            run: scene.run.clone(),
            pod: pod.label(),
            uid: pod.uid.clone(),
            deadline: scene.deadline,
            probe: before.probe.clone(),
        }
    }

    pub fn undo(&self) -> Undo {
        Undo {
            says: format!(
                "Chaos Mesh stops delaying pod {} by {} at the latest; `kubectl delete networkchaos.chaos-mesh.org {} -n {}` ends it at once",
                self.pod,
                self.deadline,
                self.object.name,
                self.object.namespace.as_deref().unwrap_or_default()
            ),
            detail: json!(self),
        }
    }

    fn manifest(&self, spec: &Spec) -> Value {
        let (namespace, pod) = self.pod.split_once('/').unwrap_or_default();
        let left = Duration::try_from(self.deadline.duration_since(wall_now())).unwrap_or_default();
        let mut selected = json!({});
        selected[namespace] = json!([pod]);
        json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": {"name": self.object.name, "namespace": self.object.namespace},
            "spec": {
                "action": "delay", "mode": "all", "selector": {"pods": selected},
                "delay": {"latency": spoken(spec.add.millis()), "jitter": spoken(spec.jitter.millis()), "correlation": "0"},
                // From the moment at which it is made: its lease.
                "duration": format!("{}s", left.as_secs().max(1)),
            },
        })
    }

    /// Makes it, and waits until its record says that the pod is injected.
    async fn begin(&self, cluster: &Cluster, spec: &Spec, mut released: Released) -> Result<Begun, Error> {
        let prepared = tokio::select! {
            biased;
            () = released.wait() => return Ok(Begun::Released),
            prepared = cluster.prepare(vec![self.manifest(spec)], &self.run) => prepared?,
        };
        // subtle: what was sent is not taken back by not waiting for it. So this is waited for even when all is let go of, as long as a call may
        // take, and goes on by itself should the waiting be dropped; healing looks for it longer than that.
        let making = cluster.clone();
        let made = tokio::spawn(async move { making.apply(&prepared).await }).await;
        made.map_err(|bug| Error::Failed(format!("making {} ended in a bug: {bug}", self.object)))??;
        tokio::select! {
            injected = self.injected(cluster) => injected.map(|()| Begun::Injected),
            () = released.wait() => Ok(Begun::Released),
        }
    }

    /// Waits until its record says that the pod is injected.
    async fn injected(&self, cluster: &Cluster) -> Result<(), Error> {
        let began = monotonic_now();
        loop {
            let (state, pause) = match cluster.existing(&self.object).await {
                Ok(Some(object)) => (state(&object, &self.pod), LOOK),
                Ok(None) => return Err(Error::Failed(format!("{} was taken away before it injected", self.object))),
                Err(error) if error.is_passing() => (State::NotYet(error.to_string()), error.pause(LOOK)),
                Err(error) => return Err(error.into()),
            };
            let why = match state {
                State::Injected => return Ok(()),
                State::NotYet(why) => why,
            };
            if began.elapsed() >= INJECT_TIMEOUT {
                return Err(Error::Failed(format!(
                    "Chaos Mesh did not delay pod {} within {}s: {why}",
                    self.pod,
                    INJECT_TIMEOUT.as_secs()
                )));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn is_vacant(&self, cluster: &Cluster) -> bool {
        let (namespace, name) = self.pod.split_once('/').unwrap_or_default();
        match cluster.pod(namespace, name).await {
            Ok(pod) => pod.uid != self.uid || pod.terminating,
            Err(error) => error.is_not_found(),
        }
    }
}

/// As Go reads durations; whole ones, since there are releases that leave out `0.5s`.
fn spoken(ms: f64) -> String {
    let us = (ms * 1e3).round() as u64;
    if us.is_multiple_of(1000) { format!("{}ms", us / 1000) } else { format!("{us}us") }
}

enum State {
    Injected,
    /// And what it says of it.
    NotYet(String),
}

/// What an experiment's record says of its pod. Its conditions alone say the same before it began and after it was taken back.
fn state(object: &Value, pod: &str) -> State {
    let records = object.pointer("/status/experiment/containerRecords").and_then(Value::as_array);
    let record = records
        .into_iter()
        .flatten()
        .find(|record| record["id"].as_str().is_some_and(|id| id == pod || id.starts_with(&format!("{pod}/"))));
    let Some(record) = record else {
        return State::NotYet("it has selected no pod yet".into());
    };
    let count = |field: &str| record[field].as_u64().unwrap_or(0);
    if record["phase"] == "Injected" && count("injectedCount") > count("recoveredCount") {
        return State::Injected;
    }
    let events = record["events"].as_array().into_iter().flatten();
    let failed = events.filter(|event| event["type"] == "Failed").filter_map(|event| event["message"].as_str()).next_back();
    State::NotYet(failed.map_or_else(|| format!("its record says {}", record["phase"]), str::to_owned))
}

/// How beginning ended where it did not fail.
#[derive(PartialEq)]
enum Begun {
    Injected,
    /// Nobody waits for it any more.
    Released,
}

/// Those that are looked at: injected, and not seen to have ended.
type Active = Arc<Mutex<Vec<Experiment>>>;

/// Begins all, and keeps them and those of pods that appear, until released.
pub(super) struct Keeper {
    pub spec: Spec,
    pub scene: Scene,
    pub before: Before,
    pub arrivals: Arrivals,
}

impl Keeper {
    /// Those that are active from now on; who was killed or scaled away meanwhile is left out.
    pub async fn begin(&self, pods: &[Pod], released: &Released) -> Result<Vec<Experiment>, Error> {
        let all: Vec<Experiment> = pods.iter().map(|pod| Experiment::of(&self.scene, pod, &self.before)).collect();
        let beginning = all.iter().map(|one| one.begin(&self.scene.cluster, &self.spec, released.clone()));
        let begun = futures::future::join_all(beginning).await;
        let mut active = Vec::new();
        for (experiment, result) in all.into_iter().zip(begun) {
            match result {
                Ok(_) => active.push(experiment),
                Err(_) if experiment.is_vacant(&self.scene.cluster).await => {}
                Err(error) => return Err(error),
            }
        }
        match active.is_empty() {
            true => Err(Error::Failed(format!("all pods of {} were gone before they could be delayed", self.spec.on))),
            false => Ok(active),
        }
    }

    pub async fn run(mut self, active: Vec<Experiment>, mut released: Released) {
        let active: Active = Arc::new(Mutex::new(active));
        let mut tasks = JoinSet::new();
        tasks.spawn(look_on(self.scene.clone(), active.clone(), released.clone()));
        loop {
            let pods = tokio::select! {
                pods = self.arrivals.next() => pods,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                () = released.wait() => break,
            };
            let Some(pods) = pods else { break };
            for pod in pods {
                if pod.host_network {
                    let why = format!("a new pod is not delayed: {}", super::admission::on_the_nodes_network(&pod));
                    self.scene.evidence.contradicts(Witness::Mechanism, why);
                    continue;
                }
                let experiment = Experiment::of(&self.scene, &pod, &self.before);
                tasks.spawn(join(self.spec.clone(), self.scene.clone(), experiment, active.clone(), released.clone()));
            }
        }
        released.wait().await;
        while tasks.join_next().await.is_some() {}
    }
}

/// Has a pod that appeared delayed, too.
async fn join(spec: Spec, scene: Scene, experiment: Experiment, active: Active, released: Released) {
    let joining = async {
        // Write-ahead holds for pods that join, too.
        scene.journal_more(vec![experiment.undo()]).await?;
        experiment.begin(&scene.cluster, &spec, released).await
    };
    match soon(&experiment.pod, lease::LEASE, &scene.evidence, joining).await {
        Ok(Begun::Injected) => active.lock().expect("nobody panics while holding them").push(experiment),
        Ok(Begun::Released) => {}
        Err(_) if experiment.is_vacant(&scene.cluster).await => {}
        Err(error) => {
            let why = format!("new pod {} is not delayed: {error}", experiment.pod);
            scene.evidence.contradicts(Witness::Mechanism, why);
        }
    }
}

/// Looks time and again whether they are as they were.
async fn look_on(scene: Scene, active: Active, mut released: Released) {
    loop {
        let all = active.lock().expect("nobody panics while holding them").clone();
        let looked = async {
            let ended = ended(&scene.cluster, &all, &scene.evidence).await;
            active.lock().expect("nobody panics while holding them").retain(|one| !ended.contains(&one.object));
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        tokio::select! {
            () = looked => {}
            () = released.wait() => return,
        }
    }
}

/// What is measured of the delay: how much longer the victim's probe takes than it did before, and than a request of ours takes at the same time
/// that comes by no pod. Chaos Mesh's own record is no measure of it.
pub(super) struct Dose {
    pub cluster: Cluster,
    pub probe: Option<Probe>,
    pub on: ObjectRef,
    /// What it must come to.
    pub least_ms: f64,
}

impl Dose {
    pub async fn run(self, evidence: Evidence, mut released: Released) {
        let Some(probe) = &self.probe else {
            evidence.contradicts(Witness::Mechanism, format!("nothing measures what Chaos Mesh does to the pods of {}", self.on));
            return;
        };
        let mut pairs: Vec<(f64, f64)> = Vec::new();
        let mut most = f64::NEG_INFINITY;
        loop {
            let pair = async {
                let pair = self.pair(probe).await;
                tokio::time::sleep(PROBE_EVERY).await;
                pair
            };
            tokio::select! {
                pair = pair => pairs.extend(pair),
                () = released.wait() => break,
            }
            if pairs.len() > PROBE_WINDOW {
                pairs.remove(0);
            }
            if pairs.len() < PAIRS_LEAST {
                continue;
            }
            let dose = over_control(&pairs, probe.before_ms);
            most = most.max(dose);
            if dose >= self.least_ms {
                let least = self.least_ms;
                let says = format!(
                    "{probe} takes {dose:.0}ms longer than before and than what goes past the pods at the same time; it must be {least:.0}ms"
                );
                evidence.supports(Witness::Mechanism, says);
                return;
            }
        }
        let measured = if most.is_finite() { format!("at most {:.0}ms", most.max(0.0)) } else { "nothing".to_owned() };
        let says = format!(
            "of a delay by Chaos Mesh {measured} was measured at {probe} over what goes past the pods at the same time; it must be {:.0}ms",
            self.least_ms
        );
        evidence.contradicts(Witness::Mechanism, says);
    }

    /// Both, one right after the other, in milliseconds.
    async fn pair(&self, probe: &Probe) -> Option<(f64, f64)> {
        let probed = probe.once(&self.cluster).await?;
        let began = monotonic_now();
        self.cluster.version().await.ok()?;
        Some((probed, began.elapsed().as_secs_f64() * 1e3))
    }
}

/// How much longer the first of these pairs take, than before and than the second of them; in the middle.
fn over_control(pairs: &[(f64, f64)], before_ms: f64) -> f64 {
    median(&mut pairs.iter().map(|(probed, control)| probed - control.max(before_ms)).collect::<Vec<_>>())
}

/// Those that are not as they were any more, which counts where their pods are still there.
async fn ended(cluster: &Cluster, active: &[Experiment], evidence: &Evidence) -> Vec<Applied> {
    let mut ended = Vec::new();
    for experiment in active {
        let why = match cluster.existing(&experiment.object).await {
            Ok(Some(object)) => match state(&object, &experiment.pod) {
                State::Injected => continue,
                State::NotYet(why) => why,
            },
            Ok(None) => "it was taken away".to_owned(),
            // What cannot be seen is not known to have ended; the victim is looked at all the time.
            Err(_) => continue,
        };
        if !experiment.is_vacant(cluster).await {
            evidence.contradicts(Witness::Mechanism, format!("Chaos Mesh stopped delaying pod {} early: {why}", experiment.pod));
        }
        ended.push(experiment.object.clone());
    }
    ended
}

/// Takes all away, waits until Chaos Mesh has let go of them, which it does when it has taken back what it did, and proves it by the victim.
pub(super) async fn heal(spec: &Spec, cluster: &Cluster, undos: &[Undo]) -> Result<String, Error> {
    let experiments: Vec<Experiment> = undos
        .iter()
        .map(|undo| serde_json::from_value(undo.detail.clone()))
        .collect::<Result<_, _>>()
        .map_err(|e| Error::NotProven(format!("the journal's undo cannot be read: {e}")))?;
    let Some(first) = experiments.first() else { return Ok("there was nothing".into()) };
    let objects: Vec<Applied> = experiments.iter().map(|experiment| experiment.object.clone()).collect();
    if let Err(error) = removed(cluster, &objects, &first.run).await {
        return Err(Error::NotProven(format!(
            "Chaos Mesh has not taken back its delay: {error}; it ends by itself by {}, where Chaos Mesh runs",
            first.deadline + END_MARGIN
        )));
    }
    let proof = format!("{} experiments of Chaos Mesh are gone", objects.len());
    let mut there = Vec::new();
    for experiment in &experiments {
        if !experiment.is_vacant(cluster).await {
            there.push(experiment.pod.as_str());
        }
    }
    if there.is_empty() {
        return Ok(format!("{proof}, and so are all the pods that they delayed, with their networks"));
    }
    let Some(probe) = experiments.iter().find_map(|experiment| experiment.probe.clone()) else { return Ok(proof) };
    let probe = probe.by_one_of(&there);
    match super::back(cluster, &probe, spec.slow_ms(&probe)).await {
        Ok(ms) => Ok(format!("{proof}; {probe} takes {ms:.0}ms again ({:.0}ms before)", probe.before_ms)),
        // Its objects can be gone and its rules still there.
        Err(now) => Err(Error::NotProven(format!("{proof}, and {probe} {now}"))),
    }
}

/// Takes them away, also those that come to be only now: what was sent last may be done a little later than anybody waited for it.
async fn removed(cluster: &Cluster, objects: &[Applied], run: &str) -> Result<(), cluster::Error> {
    let began = monotonic_now();
    let mut unseen = Vec::new();
    for object in objects {
        if !matches!(cluster.existing(object).await, Ok(Some(_))) {
            unseen.push(object.clone());
        }
    }
    cluster.remove(objects, run, RECOVER_TIMEOUT).await?;
    while !unseen.is_empty() && began.elapsed() < LATE_APPLY {
        tokio::time::sleep(LOOK_AGAIN).await;
        cluster.remove(&unseen, run, RECOVER_TIMEOUT).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what goes by the pods, and only now, counts as delay. How: a delay; a service that was as slow before; a machine that is slow
    /// to everybody; and one answer among several.
    #[test]
    fn a_dose_is_what_is_more_than_before_and_than_a_control() {
        assert_eq!(over_control(&[(153.0, 2.0), (151.0, 1.0), (152.0, 1.0)], 2.0), 150.0);
        assert_eq!(over_control(&[(153.0, 2.0), (151.0, 1.0), (152.0, 1.0)], 150.0), 2.0);
        assert_eq!(over_control(&[(153.0, 152.0), (151.0, 140.0), (152.0, 150.0)], 2.0), 2.0);
        assert!(over_control(&[(900.0, 1.0), (3.0, 1.0), (2.0, 1.0)], 2.0) < 2.0);
    }

    #[test]
    fn durations_are_whole_as_every_release_reads_them() {
        assert_eq!((spoken(500.0), spoken(0.5), spoken(0.0)), ("500ms".into(), "500us".into(), "0ms".into()));
    }

    /// Its conditions are true before it begins and after it has ended.
    #[test]
    fn only_a_record_says_that_a_pod_is_injected() {
        let of = |phase: &str, injected: u64, recovered: u64| {
            json!({"status": {"conditions": [{"type": "AllInjected", "status": "True"}], "experiment": {"containerRecords": [
                {"id": "shop/a", "phase": phase, "injectedCount": injected, "recoveredCount": recovered,
                    "events": [{"type": "Failed", "message": "no daemon"}]}]}}})
        };
        assert!(matches!(state(&of("Injected", 1, 0), "shop/a"), State::Injected));
        assert!(matches!(state(&of("Injected", 1, 1), "shop/a"), State::NotYet(_)));
        assert!(matches!(state(&of("Not Injected", 0, 0), "shop/a"), State::NotYet(why) if why == "no daemon"));
        assert!(matches!(state(&of("Injected", 1, 0), "shop/b"), State::NotYet(why) if why.contains("selected no pod")));
        assert!(matches!(state(&json!({}), "shop/a"), State::NotYet(_)));
    }
}
