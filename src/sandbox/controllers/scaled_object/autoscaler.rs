//! The HorizontalPodAutoscaler that is made of a ScaledObject, as KEDA makes it: it scales between one (or the least) and the most replicas
//! by the triggers' metrics, and belongs to the ScaledObject.

use serde_json::{Value, json};

use super::spec::{Spec, target_kind};
use super::trigger::{Target, Trigger};
use super::{NAME_LABEL, VERSION};
use crate::sandbox::defaults::{self, Stage, fill};
use crate::sandbox::objects::controlled_by;
use crate::sandbox::quantity::from_milli;
use crate::sandbox::resource::HPAS;
use crate::sandbox::store::text;

/// What it is to be.
pub fn wanted(object: &Value, spec: &Spec, triggers: &[Trigger]) -> Value {
    let name = text(object, "name");
    let mut labels = json!({
        "app.kubernetes.io/name": spec.hpa, "app.kubernetes.io/version": VERSION, "app.kubernetes.io/part-of": name,
        "app.kubernetes.io/managed-by": "keda-operator",
    });
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        labels[key] = value.clone();
    }
    let (version, kind) = target_kind(&object["spec"]["scaleTargetRef"]);
    let metrics: Vec<Value> = triggers.iter().map(|trigger| metric(trigger, name)).collect();
    let mut hpa = json!({
        "metadata": {
            "name": spec.hpa, "namespace": text(object, "namespace"), "labels": labels,
            "annotations": object["metadata"].get("annotations").cloned().unwrap_or_else(|| json!({})),
            "ownerReferences": [controlled_by(object)],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": version, "kind": kind, "name": spec.target},
            "minReplicas": spec.first(), "maxReplicas": spec.max, "metrics": metrics,
        },
    });
    if let Some(behavior) = object["spec"].pointer("/advanced/horizontalPodAutoscalerConfig/behavior") {
        hpa["spec"]["behavior"] = behavior.clone();
    }
    defaults::apply(&HPAS, &mut hpa, Stage::Changed);
    hpa
}

/// Brings one that is there to what it is to be. What others have noted on it stays.
pub fn adjust(hpa: &mut Value, wanted: &Value) {
    hpa["spec"] = wanted["spec"].clone();
    for notes in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][notes].as_object().into_iter().flatten() {
            fill(&mut hpa["metadata"], notes, json!({}));
            hpa["metadata"][notes][key] = value.clone();
        }
    }
}

fn metric(trigger: &Trigger, name: &str) -> Value {
    let target = match trigger.target {
        Target::AverageMilli(milli) => json!({"type": "AverageValue", "averageValue": from_milli(milli)}),
        Target::ValueMilli(milli) => json!({"type": "Value", "value": from_milli(milli)}),
    };
    let identity = json!({"name": trigger.metric, "selector": {"matchLabels": {NAME_LABEL: name}}});
    json!({"type": "External", "external": {"metric": identity, "target": target}})
}

#[cfg(test)]
mod tests {
    use super::super::spec::triggers;
    use super::*;

    #[test]
    fn it_scales_by_every_trigger_between_one_and_the_most_and_belongs_to_its_scaled_object() {
        let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"team": "a"}, "annotations": {"note": "x"}},
            "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 7, "triggers": [
                {"type": "prometheus", "metadata": {"serverAddress": "http://127.0.0.1:9090", "query": "q", "threshold": "2.5"}},
                {"type": "metrics-api", "metricType": "Value", "metadata": {"url": "http://127.0.0.1:1/x", "valueLocation": "a.b", "targetValue": "5"}}],
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3}}}}}});
        let (spec, triggers) = (Spec::read(&object), triggers(&object).expect("they are well"));
        let hpa = wanted(&object, &spec, &triggers);
        assert_eq!(hpa["metadata"]["name"], "keda-hpa-web");
        assert_eq!(hpa["metadata"]["ownerReferences"][0]["kind"], "ScaledObject");
        assert_eq!((&hpa["metadata"]["labels"]["team"], &hpa["metadata"]["annotations"]["note"]), (&json!("a"), &json!("x")));
        assert_eq!((&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]), (&json!(1), &json!(7)));
        assert_eq!(hpa["spec"]["scaleTargetRef"], json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}));
        let external = |name: &str, target: Value| {
            json!({"type": "External", "external": {"target": target,
                "metric": {"name": name, "selector": {"matchLabels": {"scaledobject.keda.sh/name": "web"}}}}})
        };
        let first = external("s0-prometheus", json!({"type": "AverageValue", "averageValue": "2500m"}));
        assert_eq!(hpa["spec"]["metrics"], json!([first, external("s1-metric-api-a-b", json!({"type": "Value", "value": "5"}))]));
        assert_eq!(hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 3);
        assert_eq!(hpa["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Max");

        let mut there = hpa.clone();
        there["metadata"]["annotations"]["sandbox.squall.dev/autoscaler-sync"] = json!("1s");
        there["spec"]["maxReplicas"] = json!(2);
        adjust(&mut there, &hpa);
        assert_eq!(there["spec"], hpa["spec"]);
        assert_eq!(there["metadata"]["annotations"]["sandbox.squall.dev/autoscaler-sync"], "1s");
    }
}
