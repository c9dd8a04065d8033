//! HorizontalPodAutoscalers: the live spec with the API's defaults filled in, and the status as numbers.
//! Defaults: autoscaling/v2 API reference, `HPAScalingRules`; controller constants: kube-controller-manager's flags.

use serde_json::Value;

use super::workload::{Condition, conditions};
use super::{Cluster, Error, count, list, text};
use crate::names::ObjectRef;
use crate::recording::fact::{AutoscalerSpec, ScalingPolicy, ScalingRules};
use crate::units::{Span, quantity};

/// Where the embedded sandbox says how often its controller looks.
const SYNC_ANNOTATION: &str = "/metadata/annotations/sandbox.squall.dev~1autoscaler-sync";
/// `--horizontal-pod-autoscaler-sync-period`.
const SYNC_DEFAULT_S: f64 = 15.0;
/// `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE_DEFAULT: f64 = 0.1;

/// What an autoscaler says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscalerStatus {
    pub current_replicas: u32,
    pub desired_replicas: u32,
    /// Current values by metric: `in_flight`, `cpu.utilization`.
    pub metrics: Vec<(String, f64)>,
    pub conditions: Vec<Condition>,
}

impl AutoscalerStatus {
    pub fn read(value: &Value) -> AutoscalerStatus {
        AutoscalerStatus {
            current_replicas: count(value, "/status/currentReplicas"),
            desired_replicas: count(value, "/status/desiredReplicas"),
            metrics: list(value, "/status/currentMetrics").iter().flat_map(current).collect(),
            conditions: conditions(value),
        }
    }

    /// The condition of this kind.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }
}

/// The live spec in an autoscaler object.
pub fn spec(object: &ObjectRef, value: &Value) -> AutoscalerSpec {
    let target = |pointer: &str| text(value, pointer).unwrap_or_default();
    let metrics: Vec<String> = list(value, "/spec/metrics").iter().map(metric_line).collect();
    let (sync_period_s, sync_period_source) = sync_period(value);
    let behavior = Behavior::read(value.pointer("/spec/behavior"));
    AutoscalerSpec {
        object: object.clone(),
        scales: ObjectRef {
            namespace: object.namespace.clone(),
            kind: target("/spec/scaleTargetRef/kind").to_lowercase(),
            name: target("/spec/scaleTargetRef/name").to_owned(),
        },
        min_replicas: value.pointer("/spec/minReplicas").map_or(1, |_| count(value, "/spec/minReplicas")),
        max_replicas: count(value, "/spec/maxReplicas"),
        // The API's default when no metric is given.
        metrics: if metrics.is_empty() { vec!["resource cpu averageUtilization 80".into()] } else { metrics },
        scale_up: behavior.up,
        scale_down: behavior.down,
        sync_period_s,
        sync_period_source,
        tolerance: behavior.tolerance,
        waking: None,
    }
}

/// How often the controller looks at this object, and where that number comes from.
pub(super) fn sync_period(value: &Value) -> (f64, String) {
    match text(value, SYNC_ANNOTATION).and_then(|span| span.parse::<Span>().ok()) {
        Some(sync) => (sync.seconds(), "the sandbox's autoscaler".into()),
        None => (SYNC_DEFAULT_S, "kube-controller-manager default".into()),
    }
}

/// A `behavior` with the API's defaults filled in.
pub(super) struct Behavior {
    pub up: ScalingRules,
    pub down: ScalingRules,
    pub tolerance: f64,
}

impl Behavior {
    pub fn read(given: Option<&Value>) -> Behavior {
        let given = given.unwrap_or(&Value::Null);
        let tolerance = ["/scaleUp/tolerance", "/scaleDown/tolerance"]
            .iter()
            .find_map(|pointer| given.pointer(pointer))
            .and_then(|t| t.as_f64().or_else(|| quantity(t.as_str()?)));
        Behavior {
            up: rules(given.get("scaleUp"), 0, &[("Pods", 4, 15), ("Percent", 100, 15)]),
            down: rules(given.get("scaleDown"), 300, &[("Percent", 100, 15)]),
            tolerance: tolerance.unwrap_or(TOLERANCE_DEFAULT),
        }
    }
}

fn rules(given: Option<&Value>, stabilization_s: u32, policies: &[(&str, u32, u32)]) -> ScalingRules {
    let given = given.unwrap_or(&Value::Null);
    let written: Vec<ScalingPolicy> = list(given, "/policies")
        .iter()
        .map(|p| ScalingPolicy {
            kind: text(p, "/type").unwrap_or_default().to_owned(),
            value: count(p, "/value"),
            period_s: count(p, "/periodSeconds"),
        })
        .collect();
    ScalingRules {
        stabilization_window_s: given
            .pointer("/stabilizationWindowSeconds")
            .map_or(stabilization_s, |_| count(given, "/stabilizationWindowSeconds")),
        select_policy: text(given, "/selectPolicy").unwrap_or("Max").to_owned(),
        policies: if written.is_empty() {
            policies
                .iter()
                .map(|(kind, value, period_s)| ScalingPolicy { kind: (*kind).into(), value: *value, period_s: *period_s })
                .collect()
        } else {
            written
        },
    }
}

/// The body of a metric source, which stands under its type's name in lower camel case.
fn source(metric: &Value) -> (&str, &Value) {
    for kind in ["resource", "containerResource", "pods", "object", "external"] {
        if let Some(body) = metric.get(kind) {
            return (kind, body);
        }
    }
    ("unknown", &Value::Null)
}

fn metric_name(body: &Value) -> String {
    let name = text(body, "/metric/name").or(text(body, "/name")).unwrap_or("?");
    text(body, "/container").map_or(name.to_owned(), |container| format!("{container}.{name}"))
}

fn metric_line(metric: &Value) -> String {
    let (kind, body) = source(metric);
    let target = &body["target"];
    for (key, word) in [("averageUtilization", "averageUtilization"), ("averageValue", "averageValue"), ("value", "value")] {
        match &target[key] {
            Value::Null => {}
            Value::String(quantity) => return format!("{kind} {} {word} {quantity}", metric_name(body)),
            number => return format!("{kind} {} {word} {number}", metric_name(body)),
        }
    }
    format!("{kind} {}", metric_name(body))
}

fn current(metric: &Value) -> Vec<(String, f64)> {
    let (_, body) = source(metric);
    let name = metric_name(body);
    let value = |key: &str| {
        let v = &body["current"][key];
        v.as_f64().or_else(|| quantity(v.as_str()?))
    };
    let mut out = Vec::new();
    if let Some(utilization) = value("averageUtilization") {
        out.push((format!("{name}.utilization"), utilization));
    }
    if let Some(value) = value("averageValue").or_else(|| value("value")) {
        out.push((name, value));
    }
    out
}

impl Cluster {
    /// An autoscaler's live spec and status.
    pub async fn autoscaler(&self, object: &ObjectRef) -> Result<(AutoscalerSpec, AutoscalerStatus), Error> {
        let (_, value) = self.object(object).await?;
        Ok((spec(object, &value), AutoscalerStatus::read(&value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_api_are_filled_in() {
        let object: ObjectRef = "shop/hpa/checkout".parse().unwrap();
        let spec = spec(
            &object,
            &json!({"spec": {"maxReplicas": 6, "scaleTargetRef": {"kind": "Deployment", "name": "checkout"},
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "in_flight"}, "target": {"type": "AverageValue", "averageValue": "8"}}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}}),
        );
        assert_eq!(spec.metrics, ["pods in_flight averageValue 8"]);
        assert_eq!((spec.min_replicas, spec.max_replicas), (1, 6));
        assert_eq!(spec.scale_up.stabilization_window_s, 0);
        assert_eq!(spec.scale_up.policies.len(), 2);
        assert_eq!(spec.scale_down.stabilization_window_s, 5);
        assert_eq!(spec.scale_down.policies, [ScalingPolicy { kind: "Percent".into(), value: 100, period_s: 15 }]);
        assert_eq!(spec.scales.to_string(), "shop/deployment/checkout");
        assert_eq!((spec.sync_period_s, spec.sync_period_source.as_str()), (15.0, "kube-controller-manager default"));
    }

    #[test]
    fn the_sandbox_says_how_often_it_looks() {
        let value = json!({"metadata": {"annotations": {"sandbox.squall.dev/autoscaler-sync": "500ms"}}});
        let spec = spec(&"shop/hpa/x".parse().unwrap(), &value);
        assert_eq!(spec.sync_period_s, 0.5);
        assert_ne!(spec.sync_period_source, "kube-controller-manager default");
    }
}
