//! Workloads: whatever has a selector and a number of replicas (Deployment, ReplicaSet, StatefulSet, anything with a scale
//! subresource), and the pods that are theirs: those that they control themselves, or by a ReplicaSet that they control. Pods that hang on
//! something else in between (a ReplicationController, another kind's StatefulSet) are not found.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use super::call::Write;
use super::discovery::Resource;
use super::{Cluster, Error, Pod, count, list, text};
use crate::names::ObjectRef;
use crate::rights::Right;

/// Asked of a workload, or its scale subresource where that has its selector.
pub const VERBS: &[&str] = &["get"];
/// Asked to know which pods are a workload's.
pub const PODS: &[Right] = &[Right::to(&["list"], "", "pods"), Right::to(&["list"], "apps", "replicasets")];

/// A workload as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// As it was asked for.
    pub object: ObjectRef,
    pub uid: String,
    /// Its pods' label selector, in query form: `app=web,tier in (a,b)`.
    pub selector: String,
    /// `spec.replicas`.
    pub wanted: u32,
    /// `status.replicas`.
    pub replicas: u32,
    pub ready: u32,
    pub updated: u32,
    pub available: u32,
    /// Whether the controller has seen the latest spec.
    pub observed: bool,
    pub conditions: Vec<Condition>,
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// The conditions in an object's status.
pub fn conditions(object: &Value) -> Vec<Condition> {
    let word = |c: &Value, pointer: &str| text(c, pointer).unwrap_or_default().to_owned();
    list(object, "/status/conditions")
        .iter()
        .map(|c| Condition {
            kind: word(c, "/type"),
            status: word(c, "/status"),
            reason: word(c, "/reason"),
            message: word(c, "/message"),
        })
        .collect()
}

impl Workload {
    /// Reads a workload object; `None` where it has no name.
    pub fn read(object: &ObjectRef, value: &Value) -> Option<Workload> {
        Some(Workload {
            object: object.clone(),
            uid: text(value, "/metadata/uid")?.to_owned(),
            selector: selector(value.pointer("/spec/selector").unwrap_or(&Value::Null)),
            // The API's default is one; zero is written.
            wanted: value.pointer("/spec/replicas").map_or(1, |_| count(value, "/spec/replicas")),
            replicas: count(value, "/status/replicas"),
            ready: count(value, "/status/readyReplicas"),
            updated: value
                .pointer("/status/updatedReplicas")
                .map_or(count(value, "/status/replicas"), |_| count(value, "/status/updatedReplicas")),
            available: count(value, "/status/availableReplicas"),
            observed: value.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(0)
                >= value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
            conditions: conditions(value),
        })
    }
}

/// A label selector object in the form of the `labelSelector` query.
pub fn selector(selector: &Value) -> String {
    let mut terms: Vec<String> = Vec::new();
    let labels = selector.get("matchLabels").or(if selector.get("matchExpressions").is_none() { Some(selector) } else { None });
    if let Some(labels) = labels.and_then(Value::as_object) {
        terms.extend(labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))));
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key").unwrap_or_default();
        let values: Vec<&str> = list(expression, "/values").iter().filter_map(Value::as_str).collect();
        match text(expression, "/operator") {
            Some("In") => terms.push(format!("{key} in ({})", values.join(","))),
            Some("NotIn") => terms.push(format!("{key} notin ({})", values.join(","))),
            Some("Exists") => terms.push(key.to_owned()),
            Some("DoesNotExist") => terms.push(format!("!{key}")),
            _ => {}
        }
    }
    terms.join(",")
}

impl Cluster {
    /// The object that a plan names; where there is none, what there is instead.
    pub async fn object(&self, object: &ObjectRef) -> Result<(Resource, Value), Error> {
        let resource = self.resource_named(&object.kind).await?;
        match self.get(&resource.path(Some(&object.namespace), Some(&object.name))).await {
            Ok(value) => Ok((resource, value)),
            Err(Error::NotFound { .. }) => {
                let siblings = self.get(&resource.path(Some(&object.namespace), None)).await.unwrap_or_default();
                let mut found: Vec<String> = list(&siblings, "/items")
                    .iter()
                    .filter_map(|o| text(o, "/metadata/name"))
                    .map(|name| format!("{}/{}/{name}", object.namespace, object.kind))
                    .take(20)
                    .collect();
                if found.is_empty() {
                    found.push(format!("no {} at all in namespace {}", object.kind, object.namespace));
                }
                Err(Error::NotFound { what: object.to_string(), found })
            }
            Err(error) => Err(error),
        }
    }

    /// A workload, now.
    pub async fn workload(&self, object: &ObjectRef) -> Result<Workload, Error> {
        let (resource, mut value) = self.object(object).await?;
        if value.pointer("/spec/selector").is_none() && resource.subresources.iter().any(|s| s == "scale") {
            // Other people's kinds say their selector in the scale subresource, as text.
            let scale = self.get(&format!("{}/scale", resource.path(Some(&object.namespace), Some(&object.name)))).await?;
            let mut workload = Workload::read(object, &value)
                .ok_or_else(|| Error::Unreadable { what: object.to_string(), why: "it has no uid".into() })?;
            workload.selector = text(&scale, "/status/selector").unwrap_or_default().to_owned();
            workload.wanted = count(&scale, "/spec/replicas");
            workload.replicas = count(&scale, "/status/replicas");
            return Ok(workload);
        }
        if resource.kind == "Pod" || value.pointer("/spec/selector").is_none() {
            return Err(Error::NotFound {
                what: format!("{object} as a workload (a {} has no selector and no scale)", resource.kind),
                found: vec!["use a deployment, statefulset or replicaset".into()],
            });
        }
        value["kind"] = resource.kind.into();
        Workload::read(object, &value).ok_or_else(|| Error::Unreadable { what: object.to_string(), why: "it has no uid".into() })
    }

    /// Every pod of a workload, whatever its state: those that match its selector and that it made, itself or by its replica sets. Labels
    /// alone may be somebody else's, too.
    pub async fn pods_of(&self, workload: &Workload) -> Result<Vec<Pod>, Error> {
        if workload.selector.is_empty() {
            // An empty selector would match every pod of the namespace.
            return Err(Error::NotFound { what: format!("a selector in {}", workload.object), found: Vec::new() });
        }
        self.owned(workload, self.pods(&workload.object.namespace, &workload.selector).await?).await
    }

    /// Of these pods, the ones that the workload made.
    pub async fn owned(&self, workload: &Workload, mut pods: Vec<Pod>) -> Result<Vec<Pod>, Error> {
        let mut makers: BTreeSet<String> = [workload.uid.clone()].into();
        let made_by = |makers: &BTreeSet<String>, pod: &Pod| pod.owner_uid.as_ref().is_some_and(|owner| makers.contains(owner));
        // Without an owner it is nobody's, which needs no question.
        pods.retain(|pod| pod.owner_uid.is_some());
        if !pods.iter().all(|pod| made_by(&makers, pod)) {
            makers = self.makers(&workload.object.namespace, &workload.uid).await?;
        }
        pods.retain(|pod| made_by(&makers, pod));
        Ok(pods)
    }

    /// The uids of whatever makes the pods of the workload of this uid: its own, and those of its replica sets.
    pub(super) async fn makers(&self, namespace: &str, uid: &str) -> Result<BTreeSet<String>, Error> {
        let sets = self.get(&format!("/apis/apps/v1/namespaces/{namespace}/replicasets")).await?;
        let owns = |set: &Value| list(set, "/metadata/ownerReferences").iter().any(|o| o["controller"] == true && o["uid"] == uid);
        let owned = list(&sets, "/items").iter().filter(|set| owns(set)).filter_map(|set| text(set, "/metadata/uid"));
        Ok(owned.chain([uid]).map(str::to_owned).collect())
    }

    /// Sets the number of replicas, as `kubectl scale` does.
    pub async fn scale(&self, object: &ObjectRef, replicas: u32) -> Result<(), Error> {
        let resource = self.resource_named(&object.kind).await?;
        let path = format!("{}/scale?fieldManager=squall", resource.path(Some(&object.namespace), Some(&object.name)));
        self.write(Method::PATCH, &path, Write::Merge, &json!({"spec": {"replicas": replicas}})).await.map(drop)
    }

    /// The services of a namespace whose selector matches this pod, by name.
    pub async fn services_of(&self, pod: &Pod) -> Result<Vec<Value>, Error> {
        let services = self.get(&format!("/api/v1/namespaces/{}/services", pod.namespace)).await?;
        Ok(list(&services, "/items")
            .iter()
            .filter(|service| {
                let Some(wanted) = service.pointer("/spec/selector").and_then(Value::as_object) else { return false };
                !wanted.is_empty() && wanted.iter().all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str())
            })
            .cloned()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_object_becomes_a_query() {
        let object = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "canary", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&object), "app=web,tier in (a,b),!canary");
        assert_eq!(selector(&json!({"app": "web"})), "app=web", "a Service's selector is bare");
        assert_eq!(selector(&json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]})), "x");
    }
}
