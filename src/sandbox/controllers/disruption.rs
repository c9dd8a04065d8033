//! The status of PodDisruptionBudgets: how many pods an eviction may still take. The API's eviction reads it.

use serde_json::{Value, json};

use super::{Queue, Shared};
use crate::sandbox::feed::Feed;
use crate::sandbox::objects::{Rounding, Updates, controller, count_or_percent, int, is_active, is_ready, key, set_condition};
use crate::sandbox::resource::{DEPLOYMENTS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS};
use crate::sandbox::selector;

pub async fn run(shared: Shared) {
    let (mut budgets, mut pods) = (Feed::new(&shared.store, &PODDISRUPTIONBUDGETS), Feed::new(&shared.store, &PODS));
    loop {
        tokio::select! {
            _ = budgets.batch() => (),
            _ = pods.batch() => (),
        }
        // Budgets are few: looking at each is cheaper than finding out which.
        let all: Queue = shared.store.list(&PODDISRUPTIONBUDGETS, None).0.iter().map(|budget| key(budget)).collect();
        for (ns, name) in all {
            sync(&shared, &ns, &name);
        }
    }
}

fn sync(shared: &Shared, ns: &str, name: &str) {
    let Some(budget) = shared.store.get(&PODDISRUPTIONBUDGETS, ns, name) else { return };
    let pods = shared.store.list(&PODS, Some(ns)).0;
    let chosen: Vec<_> =
        pods.iter().filter(|pod| selector::matches(&budget["spec"]["selector"], &pod["metadata"]["labels"])).collect();
    let active: Vec<_> = chosen.iter().filter(|pod| is_active(pod)).collect();
    let healthy = active.iter().filter(|pod| is_ready(pod)).count() as i64;
    let spec = &budget["spec"];
    let (expected, desired) = if spec["maxUnavailable"].is_null() {
        let expected = if spec["minAvailable"].is_string() { owners_size(shared, ns, &active) } else { active.len() as i64 };
        (expected, count_or_percent(&spec["minAvailable"], expected, Rounding::Up).unwrap_or(1))
    } else {
        let expected = owners_size(shared, ns, &active);
        let lost = count_or_percent(&spec["maxUnavailable"], expected, Rounding::Up).unwrap_or(0);
        (expected, (expected - lost).max(0))
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    // A budget that went meanwhile has no status to write.
    let _ = shared.store.update(&PODDISRUPTIONBUDGETS, ns, name, |budget| {
        let evicted = budget["status"]["disruptedPods"].clone();
        let generation = budget["metadata"]["generation"].clone();
        let conditions = budget["status"]["conditions"].clone();
        budget["status"] = json!({"observedGeneration": generation, "disruptionsAllowed": allowed, "currentHealthy": healthy,
            "desiredHealthy": desired, "expectedPods": expected});
        // What an eviction noted stays until its pod has gone.
        if let Some(evicted) = evicted.as_object() {
            let still = |name: &str| active.iter().any(|pod| pod["metadata"]["name"] == name);
            let rest: serde_json::Map<String, Value> =
                evicted.iter().filter(|(name, _)| still(name)).map(|(name, at)| (name.clone(), at.clone())).collect();
            if !rest.is_empty() {
                budget["status"]["disruptionsAllowed"] = json!((allowed - rest.len() as i64).max(0));
                budget["status"]["disruptedPods"] = Value::Object(rest);
            }
        }
        if !conditions.is_null() {
            budget["status"]["conditions"] = conditions;
        }
        let (status, reason) =
            if budget["status"]["disruptionsAllowed"] != 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        let condition = json!({"type": "DisruptionAllowed", "status": status, "reason": reason, "message": "",
            "observedGeneration": budget["metadata"]["generation"]});
        set_condition(budget, condition, Updates::No);
        Ok(())
    });
}

/// How many pods the owners of these pods want together.
fn owners_size(shared: &Shared, ns: &str, pods: &[&&std::sync::Arc<Value>]) -> i64 {
    let mut sets: Vec<&str> = pods.iter().filter_map(|pod| controller(pod)).filter_map(|owner| owner["name"].as_str()).collect();
    sets.sort_unstable();
    sets.dedup();
    let bare = pods.iter().filter(|pod| controller(pod).is_none()).count() as i64;
    let mut deployments = vec![];
    let mut sum = bare;
    for set in sets.into_iter().filter_map(|name| shared.store.get(&REPLICASETS, ns, name)) {
        match controller(&set).and_then(|owner| owner["name"].as_str()) {
            Some(deployment) => deployments.push(deployment.to_owned()),
            None => sum += int(&set["spec"]["replicas"], 1),
        }
    }
    deployments.sort_unstable();
    deployments.dedup();
    let sizes = deployments.iter().filter_map(|name| shared.store.get(&DEPLOYMENTS, ns, name));
    sum + sizes.map(|d| int(&d["spec"]["replicas"], 1)).sum::<i64>()
}
