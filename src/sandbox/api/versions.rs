//! Objects in an older version of their kind. They are kept in the newer one, and seen through the older one: what that has no words for is
//! not shown, and stays as it was when somebody writes through it.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::super::resource::Resource;

/// A kept object as the version `seen` shows it.
pub fn seen<'a>(seen: &'static Resource, object: &'a Value) -> Cow<'a, Value> {
    if seen.kept_as.is_none() {
        return Cow::Borrowed(object);
    }
    // The only older version that is served is that of autoscalers: it knows one metric.
    let (spec, status) = (&object["spec"], &object["status"]);
    let target =
        list(spec, "metrics").find(|metric| is_cpu_utilization(metric)).map(|m| &m["resource"]["target"]["averageUtilization"]);
    let cpu = list(status, "currentMetrics").find(|metric| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu");
    let current = cpu.map(|metric| &metric["resource"]["current"]["averageUtilization"]);
    let mut shown =
        json!({"kind": object["kind"], "apiVersion": seen.api_version(), "metadata": object["metadata"], "spec": {}, "status": {}});
    for (part, fields) in [
        ("spec", &["scaleTargetRef", "minReplicas", "maxReplicas"][..]),
        ("status", &["observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"]),
    ] {
        for field in fields {
            put(&mut shown[part], field, object[part].get(*field));
        }
    }
    put(&mut shown["spec"], "targetCPUUtilizationPercentage", target);
    put(&mut shown["status"], "currentCPUUtilizationPercentage", current);
    Cow::Owned(shown)
}

/// What is to be kept of an object that a client wrote in the version `seen`, over `before`, if it was there.
pub fn kept(seen: &'static Resource, before: Option<&Value>, object: Value) -> Value {
    if seen.kept_as.is_none() {
        return object;
    }
    let mut kept = object;
    let before = before.unwrap_or(&Value::Null);
    if !kept["apiVersion"].is_null() {
        kept["apiVersion"] = json!(seen.kept().api_version());
    }
    if let Some(spec) = kept.get_mut("spec").and_then(Value::as_object_mut) {
        let target = spec.shift_remove("targetCPUUtilizationPercentage");
        let target = target.map(|percent| {
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
        });
        let others = list(&before["spec"], "metrics").filter(|metric| !is_cpu_utilization(metric)).cloned();
        let metrics: Vec<Value> = target.into_iter().chain(others).collect();
        if !metrics.is_empty() {
            spec.insert("metrics".into(), json!(metrics));
        }
        if let Some(behavior) = before["spec"].get("behavior") {
            spec.insert("behavior".into(), behavior.clone());
        }
    }
    put(&mut kept, "status", before.get("status"));
    kept
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && metric["resource"]["target"]["type"] == "Utilization"
}

fn list<'a>(part: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    part.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Sets a field, or takes it away.
fn put(into: &mut Value, field: &str, value: Option<&Value>) {
    let Some(into) = into.as_object_mut() else { return };
    match value.filter(|value| !value.is_null()) {
        Some(value) => into.insert(field.to_owned(), value.clone()),
        None => into.shift_remove(field),
    };
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::{HPAS, HPAS_V1};
    use super::*;

    #[test]
    fn what_an_older_version_cannot_say_stays_as_it_was() {
        let cpu = |percent: i64| {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
        };
        let target = json!({"type": "AverageValue", "averageValue": "5"});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "in_flight"}, "target": target}});
        let live = json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [pods, cpu(50)], "behavior": {"scaleUp": {}}},
            "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 70, "averageValue": "7m"}}}]}});
        let shown = seen(&HPAS_V1, &live).into_owned();
        let expected = json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 5,
                "targetCPUUtilizationPercentage": 50},
            "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 70}});
        assert_eq!(shown, expected);
        let mut wanted = shown.clone();
        wanted["spec"]["maxReplicas"] = json!(9);
        wanted["spec"]["targetCPUUtilizationPercentage"] = json!(60);
        let mut after = live.clone();
        after["spec"]["maxReplicas"] = json!(9);
        after["spec"]["metrics"] = json!([cpu(60), pods]);
        assert_eq!(kept(&HPAS_V1, Some(&live), wanted), after);
        assert_eq!(*seen(&HPAS, &live), live);
        assert_eq!(kept(&HPAS, None, live.clone()), live);
    }
}
