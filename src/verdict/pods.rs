//! Which pods a workload had, and how long they took to become ready in this very run: the part of every scaling bound that belongs to
//! the service.

use std::collections::BTreeMap;

use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::Fact;
use crate::time::Offset;

/// Whether a pod is of `workload`. Its name starts with the workload's: that is how every controller names them.
pub fn belongs(namespace: &str, name: &str, workload: &ObjectRef) -> bool {
    namespace == workload.namespace && name.strip_prefix(&workload.name).is_some_and(|rest| rest.starts_with('-'))
}

/// The pods of `workload` (every pod when `None`) that a watch saw, or that have readings of `metric`.
pub fn of(history: &History, workload: Option<&ObjectRef>, metric: &str) -> Vec<ObjectRef> {
    let mut pods = history.objects_with(metric);
    for event in &history.events {
        let Fact::Pod(pod) = &event.fact else { continue };
        let seen = ObjectRef { namespace: pod.namespace.clone(), kind: "pod".to_owned(), name: pod.name.clone() };
        if !pods.contains(&seen) {
            pods.push(seen);
        }
    }
    pods.retain(|pod| workload.is_none_or(|workload| belongs(&pod.namespace, &pod.name, workload)));
    pods
}

/// When `pod` was seen to be gone, if it was.
pub fn gone(history: &History, pod: &ObjectRef) -> Option<Offset> {
    history.events.iter().find_map(|event| match &event.fact {
        Fact::Pod(seen) if seen.gone && seen.namespace == pod.namespace && seen.name == pod.name => Some(event.t_ns),
        _ => None,
    })
}

/// Used where no pod became ready while it was watched, so that a bound can be given at all.
const ASSUMED_S: f64 = 10.0;

/// From the first sight of a pod to its readiness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PodReady {
    /// The 95th percentile, which of fewer than twenty pods is the slowest.
    pub p95_s: f64,
    /// Pods that became ready while they were watched; 0 when the value is assumed.
    pub pods: usize,
}

impl PodReady {
    /// Over the pods of `workload` (every pod when `None`) that were seen before they were ready.
    pub fn measured(history: &History, workload: Option<&ObjectRef>) -> PodReady {
        let mut born: BTreeMap<&str, Option<Offset>> = BTreeMap::new();
        let mut took: Vec<f64> = Vec::new();
        for event in &history.events {
            let Fact::Pod(pod) = &event.fact else { continue };
            if workload.is_some_and(|workload| !belongs(&pod.namespace, &pod.name, workload)) {
                continue;
            }
            match born.get(pod.uid.as_str()) {
                // Ready at first sight: it is older than the watch.
                None => _ = born.insert(&pod.uid, (!pod.ready).then_some(event.t_ns)),
                Some(Some(since)) if pod.ready => {
                    took.push(event.t_ns.since(*since).as_secs_f64());
                    born.insert(&pod.uid, None);
                }
                Some(_) => {}
            }
        }
        took.sort_by(f64::total_cmp);
        let rank = (took.len() as f64 * 0.95).ceil() as usize;
        match rank.checked_sub(1).and_then(|index| took.get(index)) {
            Some(p95_s) => PodReady { p95_s: *p95_s, pods: took.len() },
            None => PodReady { p95_s: ASSUMED_S, pods: 0 },
        }
    }

    /// `pod ready 1.8s (p95 of 5 pods of this run)`.
    pub fn words(&self) -> String {
        let seconds = super::words::seconds(self.p95_s);
        match self.pods {
            0 => format!("pod ready {seconds} (assumed: no pod became ready while it was watched)"),
            n => format!("pod ready {seconds} (p95 of {} of this run)", super::words::count(n as u64, "pod")),
        }
    }
}
