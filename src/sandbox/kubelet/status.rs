//! A pod's status from the states of its containers: phase, conditions, statuses, as a kubelet writes them.

use serde_json::{Value, json};

use super::pod::{Role, Slot};
use crate::sandbox::objects::{Updates, set_condition};

/// What of a pod is true now, beside its containers.
pub struct Facts<'a> {
    pub ip: &'a str,
    pub host_ip: &'a str,
    pub started_at: &'a str,
    /// Something of it has run.
    pub has_network: bool,
}

/// Brings `pod.status` to what is true now.
pub fn write(pod: &mut Value, slots: &[Slot], facts: &Facts<'_>) {
    let mains = || slots.iter().filter(|s| s.role == Role::Main);
    let phase = phase(pod, slots);
    let status = &mut pod["status"];
    status["phase"] = json!(phase);
    status["hostIP"] = json!(facts.host_ip);
    status["hostIPs"] = json!([{"ip": facts.host_ip}]);
    status["startTime"] = json!(facts.started_at);
    if facts.has_network {
        status["podIP"] = json!(facts.ip);
        status["podIPs"] = json!([{"ip": facts.ip}]);
    }
    let generation = pod["metadata"]["generation"].clone();
    let status = &mut pod["status"];
    status["observedGeneration"] = generation;
    let of = |role: Role| slots.iter().filter(|s| s.role == role).map(container_status).collect::<Vec<_>>();
    status["containerStatuses"] = json!(of(Role::Main));
    for (field, role) in [("initContainerStatuses", Role::Init), ("ephemeralContainerStatuses", Role::Ephemeral)] {
        let list = of(role);
        if !list.is_empty() {
            status[field] = json!(list);
        }
    }

    let ended = matches!(phase, "Succeeded" | "Failed");
    let unready: Vec<&str> = mains().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let uninitialised: Vec<&str> =
        slots.iter().filter(|s| s.role == Role::Init && !s.succeeded()).map(|s| s.name.as_str()).collect();
    let plain = |holds: bool| (holds, None);
    let because = |reason: &str, message: String| (false, Some((reason.to_owned(), message)));
    let ready = if ended && phase == "Succeeded" {
        because("PodCompleted", String::new())
    } else if ended {
        because("PodFailed", String::new())
    } else if unready.is_empty() {
        plain(true)
    } else {
        because("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
    };
    let initialized = if uninitialised.is_empty() {
        if ended && phase == "Succeeded" { (true, Some(("PodCompleted".to_owned(), String::new()))) } else { plain(true) }
    } else {
        because("ContainersNotInitialized", format!("containers with incomplete status: [{}]", uninitialised.join(" ")))
    };
    let has_sandbox = facts.has_network && !ended;
    for (kind, (holds, why)) in [
        ("PodReadyToStartContainers", plain(has_sandbox)),
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", plain(true)),
    ] {
        let mut condition = json!({"type": kind, "observedGeneration": pod["metadata"]["generation"],
            "status": if holds { "True" } else { "False" }, "lastProbeTime": null, "lastTransitionTime": null});
        if let Some((reason, message)) = why {
            condition["reason"] = json!(reason);
            if !message.is_empty() {
                condition["message"] = json!(message);
            }
        }
        set_condition(pod, condition, Updates::No);
    }
    // The kubelet's order; the scheduler's condition was there first.
    if let Some(list) = pod["status"]["conditions"].as_array_mut() {
        const ORDER: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
        list.sort_by_key(|c| ORDER.iter().position(|kind| c["type"] == *kind));
    }
}

fn phase(pod: &Value, slots: &[Slot]) -> &'static str {
    let mains: Vec<&Slot> = slots.iter().filter(|s| s.role == Role::Main).collect();
    let init_failed = slots.iter().any(|s| s.role == Role::Init && s.gave_up());
    if init_failed {
        return "Failed";
    }
    if mains.iter().all(|s| s.is_over()) {
        let well = mains.iter().all(|s| s.succeeded());
        return if well { "Succeeded" } else { "Failed" };
    }
    if mains.iter().all(|s| s.runs > 0) {
        return "Running";
    }
    // A pod that ran stays running, whatever happens to its containers afterwards.
    if pod["status"]["phase"] == "Running" { "Running" } else { "Pending" }
}

fn container_status(slot: &Slot) -> Value {
    let image = slot.spec["image"].as_str().unwrap_or_default();
    let mut status = json!({
        "name": slot.name, "state": slot.state, "lastState": slot.last_state, "ready": slot.ready,
        "restartCount": slot.restarts, "image": image, "imageID": "",
    });
    if let Some(id) = &slot.id {
        status["containerID"] = json!(id);
    }
    if slot.role != Role::Ephemeral {
        status["started"] = json!(slot.started && slot.is_running());
    }
    status
}
