//! Pods: a fact whenever something in one changes, and a last one when it goes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Probe;
use crate::cluster::Pod;
use crate::recording::fact::{Fact, PodSeen};

/// The pods of a namespace as last told, by uid.
#[derive(Default)]
pub(super) struct Pods(BTreeMap<String, PodSeen>);

impl Probe for Pods {
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact> {
        let pods: Vec<Pod> = objects.iter().filter_map(Pod::read).collect();
        let lost: Vec<String> = self.0.keys().filter(|uid| !pods.iter().any(|pod| pod.uid == **uid)).cloned().collect();
        let mut facts: Vec<Fact> = lost.iter().filter_map(|uid| self.0.remove(uid)).map(last).collect();
        facts.extend(pods.iter().filter_map(|pod| self.tell(pod)));
        facts
    }

    fn seen(&mut self, object: &Value) -> Vec<Fact> {
        Pod::read(object).and_then(|pod| self.tell(&pod)).into_iter().collect()
    }

    fn gone(&mut self, object: &Value) -> Vec<Fact> {
        let Some(pod) = Pod::read(object) else { return Vec::new() };
        self.0.remove(&pod.uid);
        vec![last(seen(&pod))]
    }
}

impl Pods {
    fn tell(&mut self, pod: &Pod) -> Option<Fact> {
        let now = seen(pod);
        if self.0.get(&pod.uid) == Some(&now) {
            return None;
        }
        self.0.insert(pod.uid.clone(), now.clone());
        Some(Fact::Pod(Box::new(now)))
    }
}

fn last(mut pod: PodSeen) -> Fact {
    pod.gone = true;
    // Whatever its last state said, what is not there serves nobody.
    pod.ready = false;
    Fact::Pod(Box::new(pod))
}

fn seen(pod: &Pod) -> PodSeen {
    PodSeen {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        owner: pod.owner.clone(),
        phase: pod.phase.clone(),
        ready: pod.ready,
        terminating: pod.terminating,
        gone: false,
        restarts: pod.restarts,
        ip: pod.ip.clone(),
        reason: pod.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, ready: &str) -> Value {
        json!({"metadata": {"namespace": "shop", "name": format!("web-{uid}"), "uid": uid, "resourceVersion": "7"},
            "spec": {"containers": []}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn a_pod_is_told_when_it_changes_and_when_it_is_missed() {
        let mut pods = Pods::default();
        assert_eq!(pods.listed(vec![pod("a", "True"), pod("b", "False")]).len(), 2);
        assert!(pods.seen(&pod("a", "True")).is_empty(), "nothing in it changed");
        assert_eq!(pods.seen(&pod("b", "True")).len(), 1);
        let facts = pods.listed(vec![pod("b", "True")]);
        let [Fact::Pod(gone)] = &facts[..] else { panic!("{facts:?}") };
        assert!(gone.gone && !gone.ready && gone.uid == "a", "a deletion that was missed is found by the next list");
        assert_eq!(pods.gone(&pod("b", "True")).len(), 1);
    }
}
