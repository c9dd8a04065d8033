//! Disruption budgets: how many pods of a selection may be taken away now, what the budget's status says of it, and eviction, which
//! asks first. The answer is computed from the pods as they are at that moment, so two evictions cannot both spend the last allowance.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::objects::controller;
use super::super::resource::{PODDISRUPTIONBUDGETS, PODS, of_kind};
use super::super::selector::Selector;
use super::super::store::{Store, StoreError, seconds, text};
use super::failure::Failure;
use crate::time::wall_now;

/// How a budget stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Pods that there should be.
    pub expected: i64,
    /// Pods that are ready and not being deleted.
    pub healthy: i64,
    /// Pods that must stay healthy.
    pub desired: i64,
}

impl Standing {
    pub fn of(store: &Store, budget: &Value) -> Standing {
        let ns = text(budget, "namespace");
        let spec = &budget["spec"];
        let selector = Selector::of(&spec["selector"]).unwrap_or_default();
        let pods: Vec<Arc<Value>> = match spec["selector"].is_object() {
            true => store.list(&PODS, Some(ns)).0.into_iter().filter(|pod| selector.matches(&pod["metadata"]["labels"])).collect(),
            false => vec![],
        };
        let healthy = pods.iter().filter(|pod| is_healthy(pod)).count() as i64;
        let (expected, desired) = match (spec.get("maxUnavailable"), spec.get("minAvailable")) {
            (Some(max), _) => {
                let expected = wanted(store, ns, &pods);
                (expected, (expected - share(max, expected)).max(0))
            }
            (None, Some(Value::String(percent))) => {
                let expected = wanted(store, ns, &pods);
                (expected, share(&json!(percent), expected))
            }
            (None, Some(min)) => (pods.len() as i64, min.as_i64().unwrap_or(1)),
            (None, None) => (pods.len() as i64, 1),
        };
        Standing { expected, healthy, desired }
    }

    /// Pods that may be taken away now.
    pub fn allowed(&self) -> i64 {
        if self.expected > 0 { (self.healthy - self.desired).max(0) } else { 0 }
    }
}

/// A number of pods, or a percentage of them, rounded up.
fn share(value: &Value, of: i64) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (of * percent + 99).div_euclid(100)
        }
        value => value.as_i64().unwrap_or(0),
    }
}

fn is_healthy(pod: &Value) -> bool {
    let ready = pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready && text(pod, "deletionTimestamp").is_empty()
}

/// What the controllers of the pods want to have, each counted once; a pod without one counts for itself.
fn wanted(store: &Store, ns: &str, pods: &[Arc<Value>]) -> i64 {
    let owner = |object: &Value| {
        let reference = controller(object)?;
        let word = |field: &str| reference[field].as_str().unwrap_or_default();
        let kind = of_kind(word("apiVersion"), word("kind")).filter(|kind| kind.subresource("scale").is_some())?;
        store.get(kind, ns, word("name"))
    };
    let mut seen = HashSet::new();
    let mut total = 0;
    for pod in pods {
        let Some(set) = owner(pod) else {
            total += 1;
            continue;
        };
        // A ReplicaSet may itself be somebody's.
        let controller = owner(&set).unwrap_or(set);
        if seen.insert(text(&controller, "uid").to_owned()) {
            total += controller["spec"]["replicas"].as_i64().unwrap_or(1);
        }
    }
    total
}

/// Refuses when a budget does not allow that `pod` is taken away.
pub fn check(store: &Store, pod: &Value) -> Result<(), Failure> {
    let running = matches!(pod["status"]["phase"].as_str(), Some("Running" | "Unknown"));
    if !running || !text(pod, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let (budgets, _) = store.list(&PODDISRUPTIONBUDGETS, Some(text(pod, "namespace")));
    let labels = &pod["metadata"]["labels"];
    let covers = |budget: &&Arc<Value>| {
        let selector = &budget["spec"]["selector"];
        selector.is_object() && Selector::of(selector).is_ok_and(|selector| selector.matches(labels))
    };
    let covering: Vec<&Arc<Value>> = budgets.iter().filter(covers).collect();
    let budget = match covering[..] {
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Failure::new(500, "InternalError", message));
        }
    };
    let standing = Standing::of(store, budget);
    // A pod that is not healthy may go while enough others are, or always, as the budget's policy says.
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let spare = if is_healthy(pod) { standing.allowed() > 0 } else { always || standing.healthy >= standing.desired };
    if spare {
        return Ok(());
    }
    let cause = format!(
        "The disruption budget {} needs {} healthy pods and has {} currently",
        text(budget, "name"),
        standing.desired,
        standing.healthy
    );
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let causes = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
    Err(Failure::new(429, "TooManyRequests", message).with(causes))
}

/// Keeps the status of every budget true, until the store's watchers are dropped with the server.
pub async fn run(store: Arc<Store>) {
    loop {
        // Gone, or the beginning: everything is looked at again.
        let (Ok(mut pods), Ok(mut budgets)) = (store.watch(&PODS, None, None), store.watch(&PODDISRUPTIONBUDGETS, None, None))
        else {
            continue;
        };
        loop {
            let changed = tokio::select! {
                change = pods.next() => change,
                change = budgets.next() => change,
            };
            let Ok(change) = changed else { break };
            refresh(&store, text(&change.object, "namespace"));
        }
    }
}

fn refresh(store: &Store, ns: &str) {
    for budget in store.list(&PODDISRUPTIONBUDGETS, Some(ns)).0 {
        let standing = Standing::of(store, &budget);
        let written = store.update(&PODDISRUPTIONBUDGETS, ns, text(&budget, "name"), |budget| {
            set_status(budget, standing);
            Ok(())
        });
        match written {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, "the status of a disruption budget could not be written"),
        }
    }
}

fn set_status(budget: &mut Value, standing: Standing) {
    let generation = budget["metadata"]["generation"].clone();
    let (status, reason) = if standing.allowed() > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = &budget["status"]["conditions"][0];
    let since = match old["status"] == status {
        true => old["lastTransitionTime"].clone(),
        false => json!(seconds(wall_now())),
    };
    budget["status"] = json!({
        "observedGeneration": generation,
        "disruptionsAllowed": standing.allowed(),
        "currentHealthy": standing.healthy,
        "desiredHealthy": standing.desired,
        "expectedPods": standing.expected,
        "conditions": [{"type": "DisruptionAllowed", "status": status, "observedGeneration": generation,
            "lastTransitionTime": since, "reason": reason, "message": ""}],
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn budget(spec: Value) -> Value {
        let mut budget =
            json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
        json_patch::merge(&mut budget, &json!({"spec": spec}));
        budget
    }

    #[test]
    fn a_budget_allows_what_it_can_spare() {
        for (spec, allowed) in [
            (json!({"minAvailable": 2}), 0),
            (json!({"minAvailable": 1}), 1),
            (json!({"maxUnavailable": 1}), 1),
            (json!({"maxUnavailable": "50%"}), 1),
            (json!({"minAvailable": "51%"}), 0),
            (json!({"maxUnavailable": 0}), 0),
        ] {
            let store = Store::new(1);
            for name in ["a", "b"] {
                store.create(&PODS, pod(name, "True")).unwrap();
            }
            let made = store.create(&PODDISRUPTIONBUDGETS, budget(spec.clone())).unwrap();
            assert_eq!(Standing::of(&store, &made).allowed(), allowed, "{spec}");
            let verdict = check(&store, &store.get(&PODS, "default", "a").unwrap());
            assert_eq!(verdict.is_ok(), allowed > 0, "{spec}");
        }
    }

    #[test]
    fn a_pod_that_is_not_ready_does_not_count_and_may_go_only_while_enough_are() {
        let store = Store::new(1);
        store.create(&PODS, pod("a", "True")).unwrap();
        let sick = store.create(&PODS, pod("b", "False")).unwrap();
        store.create(&PODDISRUPTIONBUDGETS, budget(json!({"minAvailable": 1}))).unwrap();
        assert!(check(&store, &sick).is_ok());
        let failure = check(&store, &store.get(&PODS, "default", "a").unwrap()).unwrap_err();
        assert_eq!((failure.code, &failure.status()["details"]["causes"][0]["reason"]), (429, &json!("DisruptionBudget")));
    }
}
