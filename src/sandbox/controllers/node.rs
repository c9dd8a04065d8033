//! The nodes: the one that every sandbox begins with, and whatever others somebody makes. None is a machine: each is ready as soon as it is
//! there, and what it does not say of itself is filled in. What a cluster does about its nodes is done here: a cordoned one is tainted, pods
//! that do not bear a `NoExecute` taint go when they must, and those of a node that is gone go with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::scheduler::taints::{UNSCHEDULABLE, toleration, untolerated};
use super::{Shared, scheduler};
use crate::sandbox::architecture;
use crate::sandbox::defaults::fill;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, Updates, condition, is_active, key, set_condition};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{NODES, PODS};
use crate::sandbox::store::{ChangeKind, DeleteOptions, Preconditions, seconds, text};
use crate::time::{monotonic_now, until, wall_now};

/// The name of the first one.
pub const NODE: &str = "sandbox";

/// Makes the first one's object.
pub fn register(shared: &Shared) {
    let mut node = json!({"metadata": {"name": NODE, "labels": {scheduler::ZONE: "sandbox-a"}}, "spec": {}});
    complete(shared, &mut node);
    if let Err(error) = shared.store.create(&NODES, node) {
        tracing::warn!("failed to register the sandbox's node: {error}");
    }
}

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "taint-eviction-controller", Spot::Nowhere);
    let mut keeper = Keeper { shared: &shared, recorder, going: BTreeMap::new() };
    let (mut nodes, mut pods) = (Feed::new(&shared.store, &NODES), Feed::new(&shared.store, &PODS));
    loop {
        let next = keeper.going.values().map(|(_, at)| *at).min();
        tokio::select! {
            batch = nodes.batch() => for news in batch {
                match news {
                    News::Changed(change) if change.kind == ChangeKind::Deleted => keeper.look_at_all(),
                    News::Changed(change) => keeper.tend(&change.object),
                    News::StartsOver => keeper.look_at_all(),
                }
            },
            batch = pods.batch() => for news in batch {
                match news {
                    News::Changed(change) if change.kind == ChangeKind::Deleted => drop(keeper.going.remove(&key(&change.object))),
                    News::Changed(change) => keeper.look_at(&change.object),
                    News::StartsOver => keeper.look_at_all(),
                }
            },
            () = until(next) => keeper.evict_due(),
        }
    }
}

struct Keeper<'a> {
    shared: &'a Shared,
    recorder: Recorder,
    /// Pods that have to go, by uid, and when.
    going: BTreeMap<Key, (String, Instant)>,
}

/// How long a pod bears the taints of its node.
enum Stay {
    Always,
    For(Duration),
}

impl Keeper<'_> {
    /// Completes a node, and looks at the pods on it.
    fn tend(&mut self, node: &Value) {
        let (_, name) = key(node);
        // A node that went meanwhile needs nothing.
        let _ = self.shared.store.update(&NODES, "", &name, |node| {
            complete(self.shared, node);
            taint_cordoned(node);
            Ok(())
        });
        for pod in self.shared.store.list(&PODS, None).0.iter().filter(|pod| pod["spec"]["nodeName"] == name.as_str()) {
            self.look_at(pod);
        }
    }

    fn look_at_all(&mut self) {
        for pod in self.shared.store.list(&PODS, None).0 {
            self.look_at(&pod);
        }
    }

    /// Whether a pod may stay where it is.
    fn look_at(&mut self, pod: &Value) {
        let Some(node) = pod["spec"].get("nodeName").and_then(Value::as_str).filter(|node| !node.is_empty()) else { return };
        let at = key(pod);
        let Some(node) = self.shared.store.get(&NODES, "", node) else {
            let gone = json!({"reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"});
            return self.delete(pod, gone, Some(0));
        };
        match stay(pod, &node) {
            _ if !is_active(pod) => drop(self.going.remove(&at)),
            Stay::Always => {
                if self.going.remove(&at).is_some() {
                    self.say(pod, "Cancelling deletion of Pod");
                }
            }
            Stay::For(time) if time.is_zero() => self.evict(pod),
            Stay::For(time) => {
                let known = self.going.get(&at).filter(|(uid, _)| uid == text(pod, "uid"));
                if known.is_none() {
                    self.going.insert(at, (text(pod, "uid").to_owned(), monotonic_now() + time));
                }
            }
        }
    }

    fn evict_due(&mut self) {
        let now = monotonic_now();
        let due: Vec<Key> = self.going.iter().filter(|(_, (_, at))| *at <= now).map(|(pod, _)| pod.clone()).collect();
        for at in due {
            let uid = self.going.remove(&at).map(|(uid, _)| uid);
            let pod = self.shared.store.get(&PODS, &at.0, &at.1).filter(|pod| uid.as_deref() == Some(text(pod, "uid")));
            if let Some(pod) = pod {
                self.evict(&pod);
            }
        }
    }

    fn evict(&mut self, pod: &Value) {
        self.going.remove(&key(pod));
        self.say(pod, "Marking for deletion Pod");
        let why = json!({"reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"});
        self.delete(pod, why, None);
    }

    fn say(&self, pod: &Value, what: &str) {
        let (ns, name) = key(pod);
        self.recorder.normal(pod, "TaintManagerEviction", &format!("{what} {ns}/{name}"));
    }

    /// Deletes this very pod, which says why.
    fn delete(&self, pod: &Value, why: Value, grace_s: Option<i64>) {
        let (ns, name) = key(pod);
        let demands = Preconditions { uid: Some(text(pod, "uid").to_owned()), ..Preconditions::default() };
        // Already gone is as good.
        let _ = self.shared.store.update(&PODS, &ns, &name, |present| {
            demands.check(&PODS, &name, present)?;
            let mut condition = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": null,
                "observedGeneration": present["metadata"]["generation"]});
            for field in ["reason", "message"] {
                condition[field] = why[field].clone();
            }
            set_condition(present, condition, Updates::No);
            Ok(())
        });
        let how = DeleteOptions { grace_s, demands, ..DeleteOptions::default() };
        let _ = self.shared.store.begin_delete(&PODS, &ns, &name, &how);
    }
}

fn stay(pod: &Value, node: &Value) -> Stay {
    const EFFECT: &str = "NoExecute";
    if untolerated(pod, node, &[EFFECT]).next().is_some() {
        return Stay::For(Duration::ZERO);
    }
    let taints = node["spec"]["taints"].as_array().into_iter().flatten().filter(|taint| taint["effect"] == EFFECT);
    let word = |taint: &Value, field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let spans = taints.filter_map(|taint| {
        let borne = toleration(pod, &word(taint, "key"), &word(taint, "value"), EFFECT)?;
        Some(Duration::from_secs(borne.get("tolerationSeconds")?.as_i64()?.max(0) as u64))
    });
    spans.min().map_or(Stay::Always, Stay::For)
}

/// Fills in what a node does not say of itself, as its kubelet would.
fn complete(shared: &Shared, node: &mut Value) {
    let name = text(node, "name").to_owned();
    for (label, value) in [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        fill(&mut node["metadata"]["labels"], label, json!(value));
    }
    let pods = shared.pods_max.to_string();
    for (resource, usual) in [("cpu", "64"), ("memory", "256Gi"), ("ephemeral-storage", "256Gi"), ("pods", pods.as_str())] {
        fill(&mut node["status"]["capacity"], resource, json!(usual));
    }
    for (resource, all) in node["status"]["capacity"].as_object().cloned().unwrap_or_default() {
        fill(&mut node["status"]["allocatable"], &resource, all);
    }
    let address = shared.block.api().to_string();
    let addresses = json!([{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]);
    fill(&mut node["status"], "addresses", addresses);
    let now = seconds(wall_now());
    for (kind, status, reason, message) in [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ] {
        if condition(node, kind).is_none() {
            let condition = json!({"type": kind, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now,
                "reason": reason, "message": message});
            set_condition(node, condition, Updates::No);
        }
    }
    let info = json!({
        "kubeletVersion": concat!("v1.36.0+squall.", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
        "containerRuntimeVersion": "processes://1", "operatingSystem": "linux", "osImage": "Squall sandbox",
        "architecture": architecture(), "kernelVersion": "", "machineID": "", "systemUUID": "", "bootID": "",
    });
    fill(&mut node["status"], "nodeInfo", info);
}

/// Gives a cordoned node the taint that says so, and takes it from one that is not.
fn taint_cordoned(node: &mut Value) {
    let cordoned = node["spec"].get("unschedulable").is_some_and(|cordoned| *cordoned == true);
    let mut taints = node["spec"].get("taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let known = taints.iter().any(|taint| taint["key"] == UNSCHEDULABLE);
    if cordoned == known {
        return;
    }
    taints.retain(|taint| taint["key"] != UNSCHEDULABLE);
    if cordoned {
        taints.push(json!({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": seconds(wall_now())}));
    }
    if taints.is_empty() {
        if let Some(spec) = node["spec"].as_object_mut() {
            spec.shift_remove("taints");
        }
    } else {
        node["spec"]["taints"] = json!(taints);
    }
}
