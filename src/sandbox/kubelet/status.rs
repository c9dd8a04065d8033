//! A pod's status from the states of its containers: phase, conditions, statuses, as a kubelet writes them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pod::{Role, Slot};
use crate::sandbox::objects::{Updates, set_condition};
use crate::sandbox::quantity;

/// What of a pod is true now, beside its containers.
pub struct Facts<'a> {
    pub ip: &'a str,
    pub host_ip: &'a str,
    pub started_at: &'a str,
    /// Its network is there: containers may start.
    pub has_network: bool,
    /// Its address is told: something of it has run, or was refused.
    pub has_address: bool,
}

/// Why a container ended that was never there when its pod did.
pub const UNKNOWN: &str = "ContainerStatusUnknown";

/// Brings `pod.status` to what is true now.
pub fn write(pod: &mut Value, slots: &[Slot], facts: &Facts<'_>) {
    let mains = || slots.iter().filter(|s| s.role == Role::Main);
    let phase = phase(pod, slots);
    let status = &mut pod["status"];
    status["phase"] = json!(phase);
    status["hostIP"] = json!(facts.host_ip);
    status["hostIPs"] = json!([{"ip": facts.host_ip}]);
    status["startTime"] = json!(facts.started_at);
    if facts.has_address {
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
    let (requests, limits) = (resources_of(pod, "requests"), resources_of(pod, "limits"));
    let status = &mut pod["status"];
    if !requests.is_empty() {
        status["allocatedResources"] = json!(requests);
    }
    status["resources"] = json!({});
    for (field, amounts) in [("requests", requests), ("limits", limits)] {
        if !amounts.is_empty() {
            status["resources"][field] = json!(amounts);
        }
    }

    let ended = matches!(phase, "Succeeded" | "Failed");
    let unready: Vec<&str> = mains().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let uninitialised: Vec<&str> =
        slots.iter().filter(|s| s.role == Role::Init && !s.succeeded()).map(|s| s.name.as_str()).collect();
    let plain = |holds: bool| (holds, None);
    let because = |reason: &str, message: String| (false, Some((reason.to_owned(), message)));
    // What never ran has not failed either: it is only not ready.
    let ran = slots.iter().all(|s| s.state["terminated"]["reason"] != UNKNOWN);
    let ready = if ended && phase == "Succeeded" {
        because("PodCompleted", String::new())
    } else if ended && ran {
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
    // The kubelet's order; the scheduler's condition was there first, and what others say comes after.
    if let Some(list) = pod["status"]["conditions"].as_array_mut() {
        const ORDER: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
        list.sort_by_key(|c| ORDER.iter().position(|kind| c["type"] == *kind).unwrap_or(ORDER.len()));
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
    if slot.id.is_some() {
        let asked = &slot.spec["resources"];
        if let Some(requests) = asked.get("requests").filter(|requests| requests.is_object()) {
            status["allocatedResources"] = requests.clone();
        }
        status["resources"] = if asked.is_object() { asked.clone() } else { json!({}) };
    }
    status
}

/// What a pod's containers ask for together, by name: as its init containers run before the others, the most of either.
fn resources_of(pod: &Value, which: &str) -> Map<String, Value> {
    let amounts = |list: &str| -> Vec<(String, String)> {
        let containers = pod["spec"].get(list).and_then(Value::as_array).into_iter().flatten();
        let asked = containers.filter_map(|container| container["resources"].get(which)?.as_object());
        asked.flatten().filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.to_owned()))).collect()
    };
    let (main, init) = (amounts("containers"), amounts("initContainers"));
    let names: BTreeSet<&String> = main.iter().chain(&init).map(|(name, _)| name).collect();
    let of = |all: &[(String, String)], name: &str| -> Vec<String> {
        all.iter().filter(|(of, _)| of == name).map(|(_, amount)| amount.clone()).collect()
    };
    let most = |name: &str| {
        let together = quantity::sum(of(&main, name).iter().map(String::as_str));
        let alone = of(&init, name);
        together.into_iter().chain(alone).max_by_key(|amount| quantity::nano(amount))
    };
    names.into_iter().filter_map(|name| Some((name.clone(), json!(most(name)?)))).collect()
}
