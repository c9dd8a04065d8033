//! The rules of a ScaledObject: those of its definition and of KEDA's admission webhook that need nothing but the object. What its triggers
//! say of themselves is not looked at here: that is told in its status, as KEDA tells it.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::super::super::controllers::scaled_object::spec::{NAME_MAX, PAUSED_REPLICAS, hpa_name};
use super::{Cause, behavior, is_subdomain, not_negative};

/// What of KEDA the sandbox does not do, by the annotations that ask for it.
const OTHER_ANNOTATIONS: [&str; 4] = [
    "autoscaling.keda.sh/paused-scale-in",
    "autoscaling.keda.sh/paused-scale-out",
    "autoscaling.keda.sh/force-activation",
    "scaledobject.keda.sh/transfer-hpa-ownership",
];
const NOT_HERE: &str = "the sandbox's ScaledObjects do not have this: leave it out, or run this plan on a cluster";

pub fn check(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    annotations(object, causes);
    names(object, causes);
    if spec["scaleTargetRef"]["name"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("spec.scaleTargetRef.name", ""));
    }
    replicas(spec, causes);
    if spec["pollingInterval"].as_i64().is_some_and(|seconds| seconds < 1) {
        causes.push(Cause::invalid("spec.pollingInterval", &spec["pollingInterval"], "must be greater than zero"));
    }
    not_negative(spec, "spec", &["cooldownPeriod", "initialCooldownPeriod"], causes);
    triggers(spec, causes);
    fallback(spec, causes);
    let advanced = &spec["advanced"];
    if advanced.get("scalingModifiers").is_some_and(|modifiers| *modifiers != json!({})) {
        causes.push(Cause::forbidden("spec.advanced.scalingModifiers", NOT_HERE));
    }
    let config = &advanced["horizontalPodAutoscalerConfig"];
    behavior("spec.advanced.horizontalPodAutoscalerConfig.behavior", config.get("behavior").unwrap_or(&Value::Null), causes);
}

fn annotations(object: &Value, causes: &mut Vec<Cause>) {
    let annotations = &object["metadata"]["annotations"];
    for name in OTHER_ANNOTATIONS.iter().filter(|name| annotations.get(**name).is_some()) {
        causes.push(Cause::forbidden(format!("metadata.annotations[{name}]"), NOT_HERE));
    }
    if let Some(replicas) = annotations.get(PAUSED_REPLICAS)
        && replicas.as_str().and_then(|replicas| replicas.parse::<i32>().ok()).is_none_or(|replicas| replicas < 0)
    {
        let why = "must be a whole number of replicas, as in \"0\"";
        causes.push(Cause::invalid(format!("metadata.annotations[{PAUSED_REPLICAS}]"), replicas, why));
    }
}

/// Its name becomes a label, and that of its autoscaler.
fn names(object: &Value, causes: &mut Vec<Cause>) {
    let (name, hpa) = (object["metadata"]["name"].as_str().unwrap_or_default(), hpa_name(object));
    if name.len() > NAME_MAX {
        let why = format!(
            "must be no more than {NAME_MAX} characters because it is used as the \"scaledobject.keda.sh/name\" label value"
        );
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    } else if hpa.len() > NAME_MAX {
        let why = format!("must be no more than {NAME_MAX} characters; set it to a shorter name, or shorten the ScaledObject's");
        causes.push(Cause::invalid("spec.advanced.horizontalPodAutoscalerConfig.name", &json!(hpa), why));
    } else if !name.is_empty() && !is_subdomain(&hpa) {
        causes.push(Cause::invalid("spec.advanced.horizontalPodAutoscalerConfig.name", &json!(hpa), super::SUBDOMAIN));
    }
}

fn replicas(spec: &Value, causes: &mut Vec<Cause>) {
    not_negative(spec, "spec", &["minReplicaCount", "idleReplicaCount"], causes);
    let (min, max) = (spec["minReplicaCount"].as_i64().unwrap_or(0), spec["maxReplicaCount"].as_i64().unwrap_or(100));
    if max < 1 {
        causes.push(Cause::invalid("spec.maxReplicaCount", &json!(max), "must be greater than 0"));
    } else if min > max {
        let why = format!("MinReplicaCount={min} must be less than MaxReplicaCount={max}");
        causes.push(Cause::invalid("spec.minReplicaCount", &json!(min), why));
    }
    if let Some(idle) = spec["idleReplicaCount"].as_i64().filter(|idle| *idle >= min) {
        let why = format!("IdleReplicaCount={idle} must be less than MinReplicaCount={min}");
        causes.push(Cause::invalid("spec.idleReplicaCount", &json!(idle), why));
    }
}

fn triggers(spec: &Value, causes: &mut Vec<Cause>) {
    let list = spec["triggers"].as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        causes.push(Cause::required("spec.triggers", "no triggers defined in the ScaledObject"));
    }
    let mut names = HashSet::new();
    for (i, trigger) in list.iter().enumerate() {
        let at = format!("spec.triggers[{i}]");
        let kind = trigger["type"].as_str().unwrap_or_default();
        if kind.is_empty() {
            causes.push(Cause::required(format!("{at}.type"), ""));
        }
        if !trigger["metadata"].is_object() {
            causes.push(Cause::required(format!("{at}.metadata"), ""));
        }
        if let Some(name) = trigger["name"].as_str().filter(|name| !name.is_empty() && !names.insert(*name)) {
            causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
        }
        if trigger["useCachedMetrics"] == true && matches!(kind, "cpu" | "memory" | "cron") {
            let why = format!("property \"useCachedMetrics\" is not supported for \"{kind}\" scaler");
            causes.push(Cause::forbidden(format!("{at}.useCachedMetrics"), why));
        }
        let (metric, types) = (&trigger["metricType"], ["AverageValue", "Value"]);
        if !metric.is_null() && !types.iter().any(|known| metric == known) && !matches!(kind, "cpu" | "memory") {
            causes.push(Cause::unsupported(format!("{at}.metricType"), metric, &types));
        }
        if trigger.get("authenticationRef").is_some() {
            causes.push(Cause::forbidden(format!("{at}.authenticationRef"), NOT_HERE));
        }
    }
}

fn fallback(spec: &Value, causes: &mut Vec<Cause>) {
    let Some(fallback) = spec.get("fallback").filter(|fallback| fallback.is_object()) else { return };
    for field in ["failureThreshold", "replicas"] {
        if fallback[field].is_null() {
            causes.push(Cause::required(format!("spec.fallback.{field}"), ""));
        }
    }
    not_negative(fallback, "spec.fallback", &["failureThreshold", "replicas"], causes);
    let behaviors = ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"];
    if !behaviors.iter().any(|known| fallback["behavior"] == *known) {
        causes.push(Cause::unsupported("spec.fallback.behavior", &fallback["behavior"], &behaviors));
    }
    let average = |trigger: &Value| trigger["metricType"].is_null() || trigger["metricType"] == "AverageValue";
    let mut triggers = spec["triggers"].as_array().into_iter().flatten();
    if !triggers.any(|trigger| trigger["type"] != "cpu" && trigger["type"] != "memory" && average(trigger)) {
        let why =
            "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the fallback to be enabled";
        causes.push(Cause::forbidden("spec.fallback", why));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::defaults;
    use super::super::super::super::resource::SCALEDOBJECTS;
    use super::super::created;
    use super::*;

    #[track_caller]
    fn refused(mut object: Value, expected: &[&str]) {
        defaults::apply(&SCALEDOBJECTS, &mut object, defaults::Stage::New);
        let told: Vec<String> = created(&SCALEDOBJECTS, &object).iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} should start with {expected}");
        }
    }

    fn cron() -> Value {
        json!({"type": "cron", "metadata": {}})
    }

    #[test]
    fn a_plain_one_is_taken_and_everything_that_is_wrong_is_told_at_once() {
        let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        refused(named("web", json!({"scaleTargetRef": {"name": "web"}, "triggers": [cron()]})), &[]);
        refused(
            named("web", json!({})),
            &["spec.scaleTargetRef.name: Required", "spec.triggers: Required value: no triggers defined"],
        );
        let wrong = json!({"scaleTargetRef": {"name": "web"}, "minReplicaCount": 5, "maxReplicaCount": 2, "idleReplicaCount": 5, "pollingInterval": 0,
            "triggers": [{"name": "a", "type": "cron", "metadata": {}, "useCachedMetrics": true},
                {"name": "a", "metadata": {}, "metricType": "Utilization", "authenticationRef": {"name": "x"}}],
            "fallback": {"replicas": -1}, "advanced": {"scalingModifiers": {"formula": "a"},
                "horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 9999}}}}});
        refused(
            named("web", wrong),
            &[
                "spec.minReplicaCount: Invalid value: 5: MinReplicaCount=5 must be less than MaxReplicaCount=2",
                "spec.idleReplicaCount: Invalid value: 5: IdleReplicaCount=5 must be less than MinReplicaCount=5",
                "spec.pollingInterval: Invalid value: 0",
                "spec.triggers[0].useCachedMetrics: Forbidden",
                "spec.triggers[1].type: Required",
                "spec.triggers[1].name: Duplicate value: \"a\"",
                "spec.triggers[1].metricType: Unsupported value: \"Utilization\"",
                "spec.triggers[1].authenticationRef: Forbidden: the sandbox's ScaledObjects do not have this",
                "spec.fallback.failureThreshold: Required",
                "spec.fallback.replicas: Invalid value: -1",
                "spec.advanced.scalingModifiers: Forbidden",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 9999",
            ],
        );
        let long = "a".repeat(60);
        let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": [cron()]});
        refused(named(&long, spec), &["spec.advanced.horizontalPodAutoscalerConfig.name: Invalid value"]);
    }

    #[test]
    fn annotations_that_ask_for_more_than_there_is_are_refused() {
        let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": [cron()]});
        let with = |name: &str, word: &str| json!({"metadata": {"name": "web", "annotations": {name: word}}, "spec": spec});
        refused(with(PAUSED_REPLICAS, "2"), &[]);
        refused(
            with(PAUSED_REPLICAS, "two"),
            &["metadata.annotations[autoscaling.keda.sh/paused-replicas]: Invalid value: \"two\""],
        );
        refused(
            with("autoscaling.keda.sh/force-activation", "true"),
            &["metadata.annotations[autoscaling.keda.sh/force-activation]: Forbidden"],
        );
    }

    #[test]
    fn a_fallback_needs_a_trigger_that_it_can_stand_for() {
        let mut trigger = cron();
        trigger["metricType"] = json!("Value");
        let spec =
            json!({"scaleTargetRef": {"name": "web"}, "triggers": [trigger], "fallback": {"failureThreshold": 1, "replicas": 1}});
        refused(json!({"metadata": {"name": "web"}, "spec": spec}), &["spec.fallback: Forbidden: at least one trigger"]);
    }
}
