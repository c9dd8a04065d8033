//! The objects that gotchas look at, as they were read: from the cluster, or from a plan's manifests where they are not there yet.

use serde_json::{Value, json};

use super::name;
use crate::cluster::{list, text};

/// What `maxReplicaCount` is where a ScaledObject does not say it.
pub const MOST_DEFAULT: u64 = 100;

/// Kinds of objects that may be hidden from whoever looks, or not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Pods,
    ScaledObjects,
    VerticalAutoscalers,
    Topics,
    Nodes,
    ApiServices,
}

impl Source {
    pub const ALL: [Source; 6] =
        [Source::Pods, Source::ScaledObjects, Source::VerticalAutoscalers, Source::Topics, Source::Nodes, Source::ApiServices];

    /// Group, plural and whether it lies in namespaces.
    pub fn resource(self) -> (&'static str, &'static str, bool) {
        match self {
            Source::Pods => ("", "pods", true),
            Source::ScaledObjects => ("keda.sh", "scaledobjects", true),
            Source::VerticalAutoscalers => ("autoscaling.k8s.io", "verticalpodautoscalers", true),
            Source::Topics => ("kafka.strimzi.io", "kafkatopics", true),
            Source::Nodes => ("", "nodes", false),
            Source::ApiServices => ("apiregistration.k8s.io", "apiservices", false),
        }
    }
}

/// What could be seen of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sight {
    /// Nobody looked, or the cluster serves no such kind: there are none.
    #[default]
    None,
    Seen(Vec<Value>),
    /// Why it is not known.
    Hidden(String),
}

impl Sight {
    pub fn objects(&self) -> &[Value] {
        match self {
            Sight::Seen(objects) => objects,
            Sight::None | Sight::Hidden(_) => &[],
        }
    }
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The workloads that a plan is about.
    pub workloads: Vec<Value>,
    /// Every HorizontalPodAutoscaler of their namespaces.
    pub autoscalers: Vec<Value>,
    /// Every ReplicaSet of their namespaces: who made a pod.
    pub replica_sets: Vec<Value>,
    pub pods: Sight,
    pub scaled_objects: Sight,
    pub vertical: Sight,
    pub topics: Sight,
    pub nodes: Sight,
    pub api_services: Sight,
}

/// An autoscaler and the workload that it scales. One that KEDA makes is called by its ScaledObject, which is what people change.
pub struct Autoscaler<'a> {
    pub hpa: &'a Value,
    pub workload: &'a Value,
}

impl World {
    pub fn seen(&self, source: Source) -> &Sight {
        match source {
            Source::Pods => &self.pods,
            Source::ScaledObjects => &self.scaled_objects,
            Source::VerticalAutoscalers => &self.vertical,
            Source::Topics => &self.topics,
            Source::Nodes => &self.nodes,
            Source::ApiServices => &self.api_services,
        }
    }

    pub fn sight(&mut self, source: Source) -> &mut Sight {
        match source {
            Source::Pods => &mut self.pods,
            Source::ScaledObjects => &mut self.scaled_objects,
            Source::VerticalAutoscalers => &mut self.vertical,
            Source::Topics => &mut self.topics,
            Source::Nodes => &mut self.nodes,
            Source::ApiServices => &mut self.api_services,
        }
    }

    /// The autoscalers of the plan's workloads.
    pub fn scaled(&self) -> impl Iterator<Item = Autoscaler<'_>> {
        self.autoscalers.iter().filter_map(|hpa| {
            let workload = self.workloads.iter().find(|workload| aims_at(hpa, "/spec/scaleTargetRef", workload))?;
            Some(Autoscaler { hpa, workload })
        })
    }

    /// Adds the autoscalers that KEDA is yet to make of ScaledObjects.
    pub fn foresee(&mut self) {
        let made = |scaled: &Value| {
            self.autoscalers.iter().any(|hpa| {
                hpa["metadata"]["namespace"] == scaled["metadata"]["namespace"] && keda_owner(hpa) == text(scaled, "/metadata/name")
            })
        };
        let missing = self.scaled_objects.objects().iter().filter(|scaled| !made(scaled));
        let missing: Vec<Value> = missing.map(to_be_made).collect();
        self.autoscalers.extend(missing);
    }

    /// The ScaledObjects of the plan's workloads.
    pub fn scaled_by_events(&self) -> impl Iterator<Item = (&Value, &Value)> {
        self.scaled_objects.objects().iter().filter_map(|scaled| {
            let workload = self.workloads.iter().find(|workload| aims_at(scaled, "/spec/scaleTargetRef", workload))?;
            Some((scaled, workload))
        })
    }

    /// The pods that a workload's selector takes in.
    pub fn pods_of<'a>(&'a self, workload: &'a Value) -> impl Iterator<Item = &'a Value> {
        self.pods.objects().iter().filter(move |pod| {
            pod["metadata"]["namespace"] == workload["metadata"]["namespace"]
                && matches(&workload["spec"]["selector"], &pod["metadata"]["labels"])
        })
    }
}

impl Autoscaler<'_> {
    /// `shop/hpa/web`.
    pub fn label(&self) -> String {
        scaler_label(self.hpa)
    }

    /// Whether KEDA makes it.
    pub fn is_keda_s(&self) -> bool {
        keda_owner(self.hpa).is_some()
    }

    /// The resource metrics that are shares of requests: the resource, its one container where it is of one, and the target in percent.
    pub fn utilizations(&self) -> Vec<(&str, Option<&str>, f64)> {
        list(self.hpa, "/spec/metrics")
            .iter()
            .filter_map(|metric| {
                let (body, container) = match text(metric, "/type")? {
                    "Resource" => (&metric["resource"], None),
                    "ContainerResource" => (&metric["containerResource"], text(metric, "/containerResource/container")),
                    _ => return None,
                };
                Some((text(body, "/name")?, container, body["target"]["averageUtilization"].as_f64()?))
            })
            .collect()
    }

    /// The pod specs to look at: what runs, into which others may have put containers, else the template.
    pub fn pod_specs<'a>(&'a self, world: &'a World) -> Vec<&'a Value> {
        let live: Vec<&Value> = world.pods_of(self.workload).map(|pod| &pod["spec"]).collect();
        if live.is_empty() { vec![&self.workload["spec"]["template"]["spec"]] } else { live }
    }

    /// The condition of this kind.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        list(self.hpa, "/status/conditions").iter().find(|condition| condition["type"] == kind)
    }
}

/// The containers that live as long as their pod: sidecars among them.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = list(spec, "/initContainers").iter().filter(|container| container["restartPolicy"] == "Always");
    list(spec, "/containers").iter().chain(sidecars)
}

/// What a container asks for of a resource. A limit alone is a request of as much: the API server fills it in.
pub fn request(container: &Value, resource: &str) -> Option<f64> {
    let resources = &container["resources"];
    let given = resources["requests"].get(resource).or_else(|| resources["limits"].get(resource))?;
    given.as_f64().or_else(|| crate::units::quantity(given.as_str()?))
}

/// Whether the reference at `pointer` in an object means this workload.
pub fn aims_at(object: &Value, pointer: &str, workload: &Value) -> bool {
    let Some(target) = object.pointer(pointer) else { return false };
    // A ScaledObject that says no kind means a Deployment.
    let kind = text(target, "/kind").unwrap_or("Deployment");
    object["metadata"]["namespace"] == workload["metadata"]["namespace"]
        && target["name"] == workload["metadata"]["name"]
        && workload["kind"] == kind
}

/// The ScaledObject of which KEDA made an autoscaler.
pub fn keda_owner(hpa: &Value) -> Option<&str> {
    list(hpa, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["kind"] == "ScaledObject")
        .and_then(|owner| text(owner, "/name"))
}

/// `shop/hpa/web`, or `shop/scaledobject/web` where KEDA makes it.
pub fn scaler_label(hpa: &Value) -> String {
    match (keda_owner(hpa), text(hpa, "/metadata/namespace")) {
        (Some(owner), Some(namespace)) => format!("{namespace}/scaledobject/{owner}"),
        (Some(owner), None) => format!("scaledobject/{owner}"),
        (None, _) => label(hpa, "hpa"),
    }
}

/// The autoscaler that KEDA will make of a ScaledObject, as far as gotchas look at it.
fn to_be_made(scaled: &Value) -> Value {
    let (spec, name) = (&scaled["spec"], text(scaled, "/metadata/name").unwrap_or_default());
    let external = json!({"type": "External", "external": {}});
    let mut target = spec["scaleTargetRef"].clone();
    if target["kind"].is_null() {
        target["kind"] = json!("Deployment");
    }
    json!({
        "metadata": {"name": format!("keda-hpa-{name}"), "namespace": scaled["metadata"]["namespace"],
            "ownerReferences": [{"kind": "ScaledObject", "name": name}]},
        "spec": {
            "scaleTargetRef": target, "minReplicas": spec["minReplicaCount"].as_u64().unwrap_or(0).max(1),
            "maxReplicas": spec["maxReplicaCount"].as_u64().unwrap_or(MOST_DEFAULT),
            "metrics": list(scaled, "/spec/triggers").iter().map(|_| external.clone()).collect::<Vec<_>>(),
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    })
}

/// `shop/hpa/web`.
pub fn label(object: &Value, kind: &str) -> String {
    let kind = if kind.is_empty() { text(object, "/kind").unwrap_or("object").to_lowercase() } else { kind.to_owned() };
    match text(object, "/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{kind}/{}", name(object)),
        None => format!("{kind}/{}", name(object)),
    }
}

/// Whether a label selector takes in these labels; an empty one takes in nothing here, as no workload may have it.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let by_label = selector["matchLabels"].as_object();
    let by_expression = list(selector, "/matchExpressions");
    if by_label.is_none_or(serde_json::Map::is_empty) && by_expression.is_empty() {
        return false;
    }
    by_label.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
        && by_expression.iter().all(|expression| {
            let label = labels.get(text(expression, "/key").unwrap_or_default());
            let among = label.is_some_and(|label| list(expression, "/values").contains(label));
            match text(expression, "/operator") {
                Some("In") => among,
                Some("NotIn") => !among,
                Some("Exists") => label.is_some(),
                Some("DoesNotExist") => label.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::world;
    use super::*;

    #[test]
    fn an_autoscaler_that_keda_is_yet_to_make_is_foreseen_once() {
        let scaled = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 7,
            "triggers": [{"type": "cron", "metadata": {}}]}});
        let mut world = World { autoscalers: vec![], scaled_objects: Sight::Seen(vec![scaled]), ..world() };
        world.foresee();
        world.foresee();
        let [scaler] = &world.scaled().collect::<Vec<_>>()[..] else { panic!("one: {:?}", world.autoscalers) };
        assert!(scaler.is_keda_s());
        assert_eq!(scaler.label(), "shop/scaledobject/web");
        assert_eq!((&scaler.hpa["spec"]["minReplicas"], &scaler.hpa["spec"]["maxReplicas"]), (&json!(1), &json!(7)));
    }

    #[test]
    fn selectors_take_in_what_they_say() {
        let labels = json!({"app": "web", "tier": "a"});
        let says = |selector: Value| matches(&selector, &labels);
        assert!(says(json!({"matchLabels": {"app": "web"}})));
        assert!(!says(json!({"matchLabels": {"app": "web", "x": "y"}})));
        let by = |operator: &str, values: &[&str]| {
            says(json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}))
        };
        assert!(by("In", &["a", "b"]) && !by("NotIn", &["a"]) && by("Exists", &[]) && !by("DoesNotExist", &[]));
        assert!(!says(json!({})));
    }

    #[test]
    fn a_limit_is_a_request_of_as_much() {
        assert_eq!(request(&json!({"resources": {"limits": {"cpu": "2"}}}), "cpu"), Some(2.0));
        assert_eq!(request(&json!({"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "500m"}}}), "cpu"), Some(0.5));
        assert_eq!(request(&json!({}), "cpu"), None);
    }
}
