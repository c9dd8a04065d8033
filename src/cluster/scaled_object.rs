//! ScaledObjects of KEDA: the live spec with KEDA's defaults filled in, as that of an autoscaler that wakes its workload from zero.
//! Defaults: KEDA's ScaledObject specification.

use serde_json::Value;

use super::autoscaler::{Behavior, sync_period};
use super::discovery::Resource;
use super::workload::conditions;
use super::{count, list, text, watch};
use crate::names::ObjectRef;
use crate::recording::fact::{AutoscalerSpec, Waking};
use crate::rights::Right;

/// Group and kind.
pub const KIND: (&str, &str) = ("keda.sh", "ScaledObject");
/// Asked where a plan names or brings one.
pub const WATCHED: &[Right] = &[Right::to(watch::VERBS, KIND.0, "scaledobjects")];

const MAX_DEFAULT: u32 = 100;
const POLLING_DEFAULT_S: u32 = 30;
const COOLDOWN_DEFAULT_S: u32 = 300;

/// Whether a kind of the cluster is this one.
pub fn is(resource: &Resource) -> bool {
    (resource.group.as_str(), resource.kind.as_str()) == KIND
}

/// The live spec in a ScaledObject.
pub fn spec(object: &ObjectRef, value: &Value) -> AutoscalerSpec {
    let number = |pointer: &str, default: u32| value.pointer(pointer).map_or(default, |_| count(value, pointer));
    let min = count(value, "/spec/minReplicaCount");
    let (sync_period_s, sync_period_source) = sync_period(value);
    let behavior = Behavior::read(value.pointer("/spec/advanced/horizontalPodAutoscalerConfig/behavior"));
    AutoscalerSpec {
        object: object.clone(),
        scales: ObjectRef {
            namespace: object.namespace.clone(),
            kind: text(value, "/spec/scaleTargetRef/kind").unwrap_or("Deployment").to_lowercase(),
            name: text(value, "/spec/scaleTargetRef/name").unwrap_or_default().to_owned(),
        },
        min_replicas: number("/spec/idleReplicaCount", min),
        max_replicas: number("/spec/maxReplicaCount", MAX_DEFAULT),
        metrics: list(value, "/spec/triggers").iter().map(trigger_line).collect(),
        scale_up: behavior.up,
        scale_down: behavior.down,
        sync_period_s,
        sync_period_source,
        tolerance: behavior.tolerance,
        waking: Some(Waking {
            polling_interval_s: number("/spec/pollingInterval", POLLING_DEFAULT_S).into(),
            cooldown_s: number("/spec/cooldownPeriod", COOLDOWN_DEFAULT_S).into(),
            first: min.max(1),
        }),
    }
}

/// `trigger prometheus threshold 5`, `trigger cron desiredReplicas 3`.
fn trigger_line(trigger: &Value) -> String {
    const TARGETS: [&str; 8] =
        ["threshold", "targetValue", "desiredReplicas", "lagThreshold", "queueLength", "value", "listLength", "messageCount"];
    let kind = text(trigger, "/type").unwrap_or("?");
    let target = TARGETS.iter().find_map(|key| Some((key, text(trigger, &format!("/metadata/{key}"))?)));
    target.map_or_else(|| format!("trigger {kind}"), |(key, value)| format!("trigger {kind} {key} {value}"))
}

/// What stands in the way of its scaling.
#[derive(Debug, PartialEq, Eq)]
pub enum Lack {
    /// It may come.
    Passing(String),
    /// No waiting cures it: what it asks for cannot be.
    Lasting(String),
}

/// Nothing once KEDA calls it ready.
pub fn lacks(value: &Value) -> Option<Lack> {
    const LASTING: [&str; 2] = ["no scaler found for type", "error parsing"];
    let ready = conditions(value).into_iter().find(|condition| condition.kind == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) if !ready.message.is_empty() => {
            let why = format!("it cannot act: {} ({})", ready.message, ready.reason);
            let lasts = ready.status == "False" && LASTING.iter().any(|words| ready.message.contains(words));
            Some(if lasts { Lack::Lasting(why) } else { Lack::Passing(why) })
        }
        _ => Some(Lack::Passing("its operator has not looked at it: does KEDA run in this cluster?".into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_keda_are_filled_in() {
        let object: ObjectRef = "shop/scaledobject/worker".parse().expect("an object");
        let plain = json!({"spec": {"scaleTargetRef": {"name": "worker"}, "triggers": [
            {"type": "prometheus", "metadata": {"threshold": "5"}}, {"type": "kafka", "metadata": {}}]}});
        let spec_of_plain = spec(&object, &plain);
        assert_eq!(spec_of_plain.scales.to_string(), "shop/deployment/worker");
        assert_eq!((spec_of_plain.min_replicas, spec_of_plain.max_replicas), (0, 100));
        assert_eq!(spec_of_plain.metrics, ["trigger prometheus threshold 5", "trigger kafka"]);
        assert_eq!(spec_of_plain.waking, Some(Waking { polling_interval_s: 30.0, cooldown_s: 300.0, first: 1 }));
        assert_eq!(spec_of_plain.scale_down.stabilization_window_s, 300);

        let full = json!({"spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "worker"}, "minReplicaCount": 3, "idleReplicaCount": 0,
            "maxReplicaCount": 8, "pollingInterval": 2, "cooldownPeriod": 4,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}}}}});
        let spec = spec(&object, &full);
        assert_eq!((spec.scales.kind.as_str(), spec.min_replicas, spec.max_replicas), ("statefulset", 0, 8));
        assert_eq!(spec.waking, Some(Waking { polling_interval_s: 2.0, cooldown_s: 4.0, first: 3 }));
        assert_eq!(spec.scale_up.select_policy, "Disabled");
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let with = |status: &str, message: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": message}]}});
        assert_eq!(lacks(&with("True", "m")), None);
        let never = Lack::Lasting("it cannot act: no scaler found for type: x (R)".into());
        assert_eq!(lacks(&with("False", "no scaler found for type: x")), Some(never));
        assert!(matches!(lacks(&with("False", "Target resource doesn't exist")), Some(Lack::Passing(_))));
        assert!(matches!(lacks(&json!({})), Some(Lack::Passing(why)) if why.contains("does KEDA run")));
    }
}
