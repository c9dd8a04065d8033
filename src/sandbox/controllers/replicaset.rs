//! Keeps as many pods as a ReplicaSet asks for: makes what is missing, and of what is too much takes first what would be missed least.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::claim::claimed;
use super::template::pod_of;
use super::{CREATED_MAX, Shared, follow};
use crate::sandbox::objects::{
    Key, Updates, available_in, condition, has_ended, int, is_active, is_leaving, is_ready, key, millis, selects, set_condition,
};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{PODS, REPLICASETS};
use crate::sandbox::store::{DeleteOptions, text};

/// When a pod is tried again that could not be made.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "replicaset-controller", Spot::Nowhere);
    follow(&shared, &REPLICASETS, &PODS, |at| sync(&shared, &recorder, at)).await;
}

/// One step; and after how long to look again, when time alone will change something.
fn sync(shared: &Shared, recorder: &Recorder, (ns, name): &Key) -> Option<Duration> {
    let set = shared.store.get(&REPLICASETS, ns, name)?;
    let pods = claimed(&shared.store, &REPLICASETS, &set, &PODS);
    let active: Vec<&Arc<Value>> = pods.iter().filter(|pod| is_active(pod)).collect();
    let wanted = int(&set["spec"]["replicas"], 1);
    let missing = wanted - active.len() as i64;
    let mut failure = None;
    if !is_leaving(&set) {
        for _ in 0..missing.clamp(0, CREATED_MAX) {
            match shared.make_pod(pod_of(&set)) {
                Ok(pod) => recorder.normal(&set, "SuccessfulCreate", &format!("Created pod: {}", text(&pod, "name"))),
                Err(error) => {
                    recorder.warning(&set, "FailedCreate", &format!("Error creating: {error}"));
                    failure = Some(("FailedCreate", error.to_string()));
                    break;
                }
            }
        }
        for pod in victims(&active, -missing) {
            let pod_name = text(pod, "name");
            match shared.store.begin_delete(&PODS, ns, pod_name, &DeleteOptions::default()) {
                Ok(_) => recorder.normal(&set, "SuccessfulDelete", &format!("Deleted pod: {pod_name}")),
                Err(error) => failure = Some(("FailedDelete", error.to_string())),
            }
        }
    }
    let refused = failure.is_some();
    let again = write_status(shared, &set, &pods, failure);
    // What refused it may be taken away without the set being touched.
    if refused { Some(again.map_or(REFUSED_RETRY, |again| again.min(REFUSED_RETRY))) } else { again }
}

/// The `count` pods that would be missed least: unscheduled before scheduled, pending before running, not ready before ready, cheap
/// before dear (`pod-deletion-cost`), briefly ready before long ready, often restarted before steady, young before old.
pub fn victims<'a>(active: &[&'a Arc<Value>], count: i64) -> Vec<&'a Arc<Value>> {
    let mut ranked = active.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let cost = &pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
        let cost: i64 = cost.as_str().and_then(|c| c.parse().ok()).unwrap_or(0);
        let ready = is_ready(pod);
        let since = condition(pod, "Ready").filter(|_| ready).and_then(|c| millis(&c["lastTransitionTime"]));
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let restarts = statuses.map(|c| int(&c["restartCount"], 0)).max();
        (
            pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty()),
            pod["status"]["phase"] != "Pending",
            ready,
            cost,
            Reverse(since),
            Reverse(restarts),
            Reverse(millis(&pod["metadata"]["creationTimestamp"])),
        )
    });
    ranked.truncate(count.max(0) as usize);
    ranked
}

/// Says of the pods as they were found, before any were made or deleted: what those steps come to is told when they are seen.
fn write_status(shared: &Shared, set: &Value, pods: &[Arc<Value>], failure: Option<(&str, String)>) -> Option<Duration> {
    let active = || pods.iter().filter(|pod| is_active(pod));
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let labelled = active().filter(|pod| selects(labels, &pod["metadata"]["labels"])).count();
    let ready: Vec<_> = active().filter(|pod| is_ready(pod)).collect();
    let leaving = pods.iter().filter(|pod| is_leaving(pod) && !has_ended(pod)).count();

    // Available is ready for long enough.
    let enough_s = int(&set["spec"]["minReadySeconds"], 0);
    let waits: Vec<Duration> = ready.iter().filter_map(|pod| available_in(pod, enough_s)).filter(|left| !left.is_zero()).collect();
    let available = ready.len() - waits.len();

    let (ns, name) = key(set);
    // A set that went meanwhile has no status to write.
    let _ = shared.store.update(&REPLICASETS, &ns, &name, |set| {
        let conditions = set["status"]["conditions"].clone();
        let mut status = json!({"replicas": active().count()});
        let mut count = |field: &str, n: usize| {
            if n > 0 {
                status[field] = json!(n);
            }
        };
        count("fullyLabeledReplicas", labelled);
        count("readyReplicas", ready.len());
        count("availableReplicas", available);
        status["terminatingReplicas"] = json!(leaving);
        status["observedGeneration"] = set["metadata"]["generation"].clone();
        if conditions.is_array() {
            status["conditions"] = conditions;
        }
        set["status"] = status;
        match failure {
            Some((reason, message)) => {
                let failed = json!({"type": "ReplicaFailure", "status": "True", "reason": reason, "message": message});
                set_condition(set, failed, Updates::No);
            }
            None => {
                if let Some(status) = set["status"].as_object_mut() {
                    status.remove("conditions");
                }
            }
        }
        Ok(())
    });
    waits.into_iter().min().map(|left| left + Duration::from_millis(1))
}
