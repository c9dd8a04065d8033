//! What the server fills in: every object that is stored goes through here, whoever made it, so that controllers and clients see the
//! same complete objects.

use serde_json::{Map, Value, json};

use super::objects::is_gated;
use super::resource::Resource;

/// What an object is when it is completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It also gets the status that it begins with.
    New,
    Changed,
}

/// Fills what is absent.
pub fn apply(resource: &'static Resource, object: &mut Value, stage: Stage) {
    match resource.kind {
        "Pod" => pod(object, stage),
        "Deployment" => deployment(&mut object["spec"]),
        "ReplicaSet" => {
            let spec = &mut object["spec"];
            fill(spec, "replicas", json!(1));
            template(spec);
            if stage == Stage::New {
                fill(object, "status", json!({"replicas": 0}));
            }
        }
        "StatefulSet" => {
            stateful_set(&mut object["spec"]);
            if stage == Stage::New {
                fill(object, "status", json!({"replicas": 0, "availableReplicas": 0}));
            }
        }
        "Job" => job(object, stage),
        "Service" => service(object, stage),
        "HorizontalPodAutoscaler" => autoscaler(object, stage),
        // All else that a ScaledObject leaves out is the operator's to know: its definition has one default.
        "ScaledObject" => {
            if let Some(fallback) = object["spec"].get_mut("fallback").filter(|fallback| fallback.is_object()) {
                fill(fallback, "behavior", json!("static"));
            }
        }
        "Namespace" if stage == Stage::New => {
            let name = object["metadata"]["name"].clone();
            fill(&mut object["metadata"], "labels", json!({}));
            fill(&mut object["metadata"]["labels"], "kubernetes.io/metadata.name", name);
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        "Secret" => secret(object),
        "PodDisruptionBudget" if stage == Stage::New => {
            let none = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
            fill(object, "status", none);
        }
        "Event" => {
            for (field, value) in [("reportingComponent", json!("")), ("reportingInstance", json!("")), ("eventTime", Value::Null)]
            {
                fill(object, field, value);
            }
            fill(object, "source", json!({}));
        }
        "EndpointSlice" => {
            for port in object["ports"].as_array_mut().into_iter().flatten() {
                fill(port, "name", json!(""));
                fill(port, "protocol", json!("TCP"));
            }
        }
        _ => {}
    }
    if stage == Stage::New && resource.kind == "Deployment" {
        fill(object, "status", json!({}));
    }
}

/// Sets `field` where it is absent or null.
pub fn fill(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if object.is_object() && object[field].is_null() {
        object[field] = value;
    }
}

fn deployment(spec: &mut Value) {
    fill(spec, "replicas", json!(1));
    template(spec);
    fill(spec, "strategy", json!({}));
    fill(&mut spec["strategy"], "type", json!("RollingUpdate"));
    if spec["strategy"]["type"] == "RollingUpdate" {
        fill(&mut spec["strategy"], "rollingUpdate", json!({}));
        fill(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", json!("25%"));
        fill(&mut spec["strategy"]["rollingUpdate"], "maxSurge", json!("25%"));
    }
    fill(spec, "revisionHistoryLimit", json!(10));
    fill(spec, "progressDeadlineSeconds", json!(600));
}

fn stateful_set(spec: &mut Value) {
    fill(spec, "podManagementPolicy", json!("OrderedReady"));
    fill(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    if strategy.get("type").is_none_or(Value::is_null) {
        strategy["type"] = json!("RollingUpdate");
        fill(strategy, "rollingUpdate", json!({}));
    }
    if strategy["type"] == "RollingUpdate" && strategy.get("rollingUpdate").is_some_and(Value::is_object) {
        fill(&mut strategy["rollingUpdate"], "partition", json!(0));
        fill(&mut strategy["rollingUpdate"], "maxUnavailable", json!(1));
    }
    fill(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for when in ["whenDeleted", "whenScaled"] {
        fill(&mut spec["persistentVolumeClaimRetentionPolicy"], when, json!("Retain"));
    }
    fill(spec, "replicas", json!(1));
    fill(spec, "revisionHistoryLimit", json!(10));
    template(spec);
}

/// Its selector and the labels by which it finds its pods hold its uid, which it has when it is stored.
fn job(object: &mut Value, stage: Stage) {
    let spec = &mut object["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        fill(spec, "completions", json!(1));
    }
    for (field, value) in [
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
    ] {
        fill(spec, field, value);
    }
    template(spec);
    let (uid, name) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    let spec = &mut object["spec"];
    if uid.is_string() && spec["manualSelector"] != true && spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {JOB_UID: uid}});
        let metadata = &mut spec["template"]["metadata"];
        fill(metadata, "labels", json!({}));
        for (label, value) in [(JOB_UID, &uid), (JOB_NAME, &name), ("controller-uid", &uid), ("job-name", &name)] {
            fill(&mut metadata["labels"], label, value.clone());
        }
    }
    if stage == Stage::New {
        fill(object, "status", json!({}));
        let labels = object["spec"]["template"]["metadata"].get("labels").cloned();
        let has_labels = object["metadata"]["labels"].as_object().is_some_and(|labels| !labels.is_empty());
        // A Job without labels takes those of its pods. Before it has a uid they are not all known yet.
        if let Some(labels) = labels.filter(|_| uid.is_string() && !has_labels) {
            object["metadata"]["labels"] = labels;
        }
    }
}

const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

fn template(spec: &mut Value) {
    if spec["template"]["spec"].is_object() {
        pod_spec(&mut spec["template"]["spec"]);
    }
}

fn pod_spec(spec: &mut Value) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for item in spec[list].as_array_mut().into_iter().flatten() {
            container(item);
        }
        if spec[list].is_null()
            && let Some(spec) = spec.as_object_mut()
        {
            spec.shift_remove(list);
        }
    }
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        fill(spec, field, value);
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        fill(spec, "serviceAccount", account);
    }
}

fn container(container: &mut Value) {
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        fill(port, "protocol", json!("TCP"));
    }
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        if let Some(field) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            fill(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            if let Some(get) = probe.get_mut("httpGet").filter(|get| get.is_object()) {
                fill(get, "path", json!("/"));
                fill(get, "scheme", json!("HTTP"));
            }
            for (field, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)] {
                // A zero means "the default", as in a real server.
                if probe[field] == json!(0) {
                    probe[field] = Value::Null;
                }
                fill(probe, field, json!(value));
            }
        }
    }
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map_or("latest", |(_, tag)| tag);
    let pull = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    // What is requested defaults to what is limited.
    if let Some(limits) = container["resources"].get("limits").and_then(Value::as_object).cloned() {
        fill(&mut container["resources"], "requests", json!({}));
        for (name, quantity) in limits {
            fill(&mut container["resources"]["requests"], &name, quantity);
        }
    }
    for (field, value) in [
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!(pull)),
    ] {
        fill(container, field, value);
    }
    // Looking at absent fields must not leave nulls behind; and a list of nothing is left out, as a real server does it.
    if let Some(container) = container.as_object_mut() {
        container.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    }
}

fn pod(object: &mut Value, stage: Stage) {
    let spec = &mut object["spec"];
    pod_spec(spec);
    fill(spec, "enableServiceLinks", json!(true));
    if stage != Stage::New {
        return;
    }
    fill(spec, "serviceAccountName", json!("default"));
    fill(spec, "serviceAccount", json!("default"));
    fill(spec, "priority", json!(0));
    fill(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    fill(spec, "tolerations", json!([]));
    for condition in ["not-ready", "unreachable"] {
        let key = format!("node.kubernetes.io/{condition}");
        if let Some(list) = spec["tolerations"].as_array_mut()
            && !list.iter().any(|toleration| toleration["key"] == key.as_str())
        {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    let class = quality_of_service(spec);
    fill(object, "status", json!({}));
    fill(&mut object["status"], "phase", json!("Pending"));
    fill(&mut object["status"], "qosClass", json!(class));
    if is_gated(object) {
        let condition = json!({"type": "PodScheduled", "observedGeneration": 1, "status": "False", "lastProbeTime": null,
            "lastTransitionTime": null, "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"});
        fill(&mut object["status"], "conditions", json!([condition]));
    }
}

/// Guaranteed when every container limits cpu and memory to what it requests, best effort when none asks for anything.
fn quality_of_service(spec: &Value) -> &'static str {
    let lists = ["initContainers", "containers"];
    let containers: Vec<&Value> = lists.iter().filter_map(|list| spec.get(*list)).filter_map(Value::as_array).flatten().collect();
    let resources = |c: &Value, of: &str, name: &str| c["resources"].get(of).and_then(|r| r.get(name)).cloned();
    let asks = |c: &&Value| ["limits", "requests"].iter().any(|of| ["cpu", "memory"].iter().any(|n| resources(c, of, n).is_some()));
    let exact = |c: &&Value| {
        ["cpu", "memory"]
            .iter()
            .all(|n| resources(c, "limits", n).is_some() && resources(c, "limits", n) == resources(c, "requests", n))
    };
    match () {
        () if !containers.iter().any(asks) => "BestEffort",
        () if containers.iter().all(exact) => "Guaranteed",
        () => "Burstable",
    }
}

fn service(object: &mut Value, stage: Stage) {
    let spec = &mut object["spec"];
    fill(spec, "type", json!("ClusterIP"));
    fill(spec, "sessionAffinity", json!("None"));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        fill(port, "targetPort", number.clone());
        // Clients in Go say nothing by zero.
        if port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = number;
        }
    }
    if spec["type"] != "ExternalName" {
        fill(spec, "internalTrafficPolicy", json!("Cluster"));
        fill(spec, "ipFamilies", json!(["IPv4"]));
        fill(spec, "ipFamilyPolicy", json!("SingleStack"));
    }
    if stage == Stage::New {
        fill(object, "status", json!({}));
        fill(&mut object["status"], "loadBalancer", json!({}));
    }
}

/// A `behavior` is completed where it is given, and left out where it is not, as the real server does.
fn autoscaler(object: &mut Value, stage: Stage) {
    let spec = &mut object["spec"];
    fill(spec, "minReplicas", json!(1));
    if spec.get("metrics").is_none_or(|metrics| metrics.as_array().is_none_or(Vec::is_empty)) {
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        spec["metrics"] = json!([cpu]);
    }
    if spec.get("behavior").is_some_and(Value::is_object) {
        let up = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]);
        let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        fill(&mut spec["behavior"], "scaleUp", json!({"stabilizationWindowSeconds": 0}));
        fill(&mut spec["behavior"], "scaleDown", json!({}));
        for (direction, policies) in [("scaleUp", up), ("scaleDown", down)] {
            let rules = &mut spec["behavior"][direction];
            if direction == "scaleUp" {
                fill(rules, "stabilizationWindowSeconds", json!(0));
            }
            fill(rules, "selectPolicy", json!("Max"));
            fill(rules, "policies", policies);
        }
    }
    if stage == Stage::New {
        fill(object, "status", json!({"desiredReplicas": 0, "currentMetrics": null}));
    }
}

/// `stringData` is a convenience for writers only.
fn secret(object: &mut Value) {
    fill(object, "type", json!("Opaque"));
    if let Some(plain) = object.as_object_mut().and_then(|object| object.shift_remove("stringData")) {
        fill(object, "data", json!({}));
        for (key, value) in plain.as_object().into_iter().flatten() {
            object["data"][key] = json!(super::base64::encode(value.as_str().unwrap_or_default().as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resource::{DEPLOYMENTS, HPAS, PODS};
    use super::*;

    #[test]
    fn a_deployment_is_completed_as_a_real_server_completes_it() {
        let mut object = json!({"spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "web", "image": "a/b", "ports": [{"containerPort": 1}], "readinessProbe": {"httpGet": {"port": 1}}}]}}}});
        apply(&DEPLOYMENTS, &mut object, Stage::New);
        let spec = &object["spec"];
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["readinessProbe"]["httpGet"], json!({"port": 1, "path": "/", "scheme": "HTTP"}));
        assert!(!container.as_object().unwrap().contains_key("env"), "{container}");
        let mut again = object.clone();
        apply(&DEPLOYMENTS, &mut again, Stage::Changed);
        assert_eq!(object, again, "defaults are filled once");
    }

    #[test]
    fn a_behavior_is_completed_only_where_it_is_given() {
        let mut without = json!({"spec": {"maxReplicas": 3}});
        apply(&HPAS, &mut without, Stage::New);
        assert!(without["spec"].get("behavior").is_none());
        let mut with = json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}}}});
        apply(&HPAS, &mut with, Stage::New);
        assert_eq!(with["spec"]["behavior"]["scaleUp"]["policies"].as_array().unwrap().len(), 2);
        assert_eq!(with["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Max");
    }

    #[test]
    fn a_pod_begins_pending_with_its_class() {
        let cases = [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        ];
        for (resources, class) in cases {
            let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "a:1", "resources": resources}]}});
            apply(&PODS, &mut pod, Stage::New);
            assert_eq!((&pod["status"]["phase"], &pod["status"]["qosClass"]), (&json!("Pending"), &json!(class)));
            assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        }
    }
}
