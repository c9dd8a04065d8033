//! Applying manifests and taking them away again. What existed before is never changed and never deleted: every object of a run carries
//! its run's label, and only what carries it is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Write;
use super::discovery::Resource;
use super::pod::{Grace, deletion};
use super::workload::selector;
use super::{Cluster, Error, Pod, list, text};
use crate::time::monotonic_now;

/// Asked of each object by its name: whether it is there, to make it (an apply is a patch), to take it away.
pub const VERBS: &[&str] = &["get", "patch", "delete"];
/// Asked beside that, of its kind: an apply that makes an object creates it.
pub const VERBS_OF_KIND: &[&str] = &["create"];
/// Asked of a namespace that is there already, which is left alone.
pub const VERBS_OF_NAMESPACE: &[&str] = &["get"];

/// The label that says which run made an object.
pub const RUN_LABEL: &str = "squall.dev/run";
/// The field manager of every write.
const MANAGER: &str = "squall";
/// What must exist before others refer to it, first to last; anything else comes after.
const ORDER: [&str; 14] = [
    "CustomResourceDefinition",
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "Service",
    "PodDisruptionBudget",
];
/// Between looks at whether something is gone.
const LOOK: Duration = Duration::from_millis(200);

/// An object that a run made, or is about to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub api_version: String,
    pub kind: String,
    /// Absent for what has no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    /// The selector of its pods, where it has any: they must be gone too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.to_lowercase();
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{kind}/{}", self.name),
            None => write!(f, "{kind}/{}", self.name),
        }
    }
}

/// Manifests that were looked at and may be applied.
#[derive(Clone, Debug)]
pub struct Prepared {
    run: String,
    /// In the order of application.
    objects: Vec<(Applied, Value)>,
    /// Namespaces that exist already: left as they are.
    pub left_alone: Vec<String>,
}

impl Prepared {
    /// What will be made, in order: to be journalled before it is.
    pub fn objects(&self) -> Vec<Applied> {
        self.objects.iter().map(|(object, _)| object.clone()).collect()
    }
}

/// How far an object is on its way out.
#[derive(PartialEq)]
enum Going {
    Unknown,
    /// The uid that was deleted, and those of what made its pods, and of the pods that it had.
    Deleted {
        uid: String,
        family: BTreeSet<String>,
    },
    Gone,
}

impl Cluster {
    /// Sorts the manifests, looks for each object, and refuses all when one exists that this run did not make. Writes nothing.
    pub async fn prepare(&self, manifests: Vec<Value>, run: &str) -> Result<Prepared, Error> {
        let mut sorted = flatten(manifests);
        sorted.sort_by_key(|object| {
            let kind = text(object, "/kind").unwrap_or_default();
            ORDER.iter().position(|k| *k == kind).unwrap_or(ORDER.len())
        });
        let defined: Vec<String> = sorted
            .iter()
            .filter(|o| text(o, "/kind") == Some("CustomResourceDefinition"))
            .filter_map(|o| text(o, "/spec/names/kind"))
            .map(str::to_owned)
            .collect();
        let (mut objects, mut not_ours, mut left_alone) = (Vec::new(), Vec::new(), Vec::new());
        for mut manifest in sorted {
            let applied = self.identify(&manifest, &defined).await?;
            label(&mut manifest, run);
            let found = self.existing(&applied).await?;
            if found.is_some() && !ours(&found, run) {
                // A namespace is only a place: one that is there already is used, and stays.
                if applied.kind == "Namespace" {
                    left_alone.push(applied.name.clone());
                    continue;
                }
                let by = found.as_ref().and_then(|o| o.pointer("/metadata/labels")).and_then(|l| text(l, "/squall.dev~1run"));
                not_ours.push(
                    by.map_or(applied.to_string(), |by| format!("{applied} (left by run {by}: `squall heal {by}` removes it)")),
                );
            }
            objects.push((applied, manifest));
        }
        if !not_ours.is_empty() {
            return Err(Error::NotOurs { objects: not_ours });
        }
        Ok(Prepared { run: run.to_owned(), objects, left_alone })
    }

    /// Applies what was prepared, by server-side apply, in order.
    pub async fn apply(&self, prepared: &Prepared) -> Result<(), Error> {
        for (object, manifest) in &prepared.objects {
            let resource = self.resource_of(&object.api_version, &object.kind).await?;
            let path = format!(
                "{}?fieldManager={MANAGER}&fieldValidation=Strict",
                resource.path(object.namespace.as_deref(), Some(&object.name))
            );
            // Not forced: where somebody else took a field meanwhile, the conflict is the answer.
            let made = self.write(Method::PATCH, &path, Write::Apply, manifest).await?;
            if !ours(&Some(made), &prepared.run) {
                return Err(Error::NotOurs { objects: vec![object.to_string()] });
            }
        }
        Ok(())
    }

    /// Removes the objects that `run` made, in reverse order, and waits until they and their pods are gone. What is gone already, or is
    /// not this run's, is left; so it may be called any number of times.
    pub async fn remove(&self, objects: &[Applied], run: &str, within: Duration) -> Result<(), Error> {
        let deadline = monotonic_now() + within;
        // Other objects first and namespaces last, each wave gone before the next: a namespace takes its whole content with it.
        let (namespaces, others): (Vec<&Applied>, Vec<&Applied>) = objects.iter().rev().partition(|o| o.kind == "Namespace");
        for wave in [others, namespaces] {
            let mut going: BTreeMap<usize, Going> = BTreeMap::new();
            loop {
                let (mut left, mut pause) = (Vec::new(), LOOK);
                for (index, object) in wave.iter().enumerate() {
                    match self.usher(object, run, going.entry(index).or_insert(Going::Unknown)).await {
                        Ok(there) => left.extend(there),
                        // What cannot be seen right now counts as there; it is looked at again.
                        Err(error) if error.is_passing() => {
                            pause = error.pause(pause);
                            left.push(format!("{object} ({error})"));
                        }
                        Err(error) => return Err(error),
                    }
                }
                if left.is_empty() {
                    break;
                }
                if monotonic_now() >= deadline {
                    return Err(Error::NotGone { objects: left, after: within });
                }
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Takes an object one step further on its way out; what of it is still there.
    async fn usher(&self, object: &Applied, run: &str, going: &mut Going) -> Result<Vec<String>, Error> {
        if *going == Going::Gone {
            return Ok(Vec::new());
        }
        let found = self.existing(object).await?;
        let uid = found.as_ref().and_then(|o| text(o, "/metadata/uid"));
        if *going == Going::Unknown {
            let Some(uid) = uid.filter(|_| ours(&found, run)) else {
                *going = Going::Gone;
                return Ok(Vec::new());
            };
            // Before, since afterwards nothing says any more whose they were.
            let family = self.family(object, uid).await?;
            self.delete(object, uid).await?;
            *going = Going::Deleted { uid: uid.to_owned(), family };
            return Ok(vec![object.to_string()]);
        }
        let left = match (uid, &*going, &object.pods, &object.namespace) {
            (Some(uid), Going::Deleted { uid: deleted, .. }, ..) if uid == deleted => vec![object.to_string()],
            (_, Going::Deleted { family, .. }, Some(pods), Some(namespace)) => {
                // Labels alone may be somebody else's, too.
                let is_left = |pod: &Pod| family.contains(&pod.uid) || pod.owner_uid.as_ref().is_some_and(|o| family.contains(o));
                let pods = self.pods(namespace, pods).await?;
                pods.iter().filter(|pod| is_left(pod)).map(|pod| format!("pod {}", pod.label())).collect()
            }
            _ => Vec::new(),
        };
        if left.is_empty() {
            *going = Going::Gone;
        }
        Ok(left)
    }

    /// The uids of what makes an object's pods, and of the pods that it has; none where it has no pods.
    async fn family(&self, object: &Applied, uid: &str) -> Result<BTreeSet<String>, Error> {
        let (Some(pods), Some(namespace)) = (&object.pods, &object.namespace) else { return Ok(BTreeSet::new()) };
        let mut family = self.makers(namespace, uid).await?;
        let pods = self.pods(namespace, pods).await?;
        let own = pods.into_iter().filter(|pod| pod.owner_uid.as_ref().is_some_and(|owner| family.contains(owner)));
        let own: Vec<String> = own.map(|pod| pod.uid).collect();
        family.extend(own);
        Ok(family)
    }

    async fn delete(&self, object: &Applied, uid: &str) -> Result<(), Error> {
        let resource = self.resource_of(&object.api_version, &object.kind).await?;
        let mut options = deletion(uid, Grace::Own);
        options["propagationPolicy"] = json!("Background");
        match self
            .write(Method::DELETE, &resource.path(object.namespace.as_deref(), Some(&object.name)), Write::Json, &options)
            .await
        {
            // Gone, or replaced by a namesake that is not ours: both are what was wanted.
            Ok(_) | Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An object as it is now, if it is there.
    pub async fn existing(&self, object: &Applied) -> Result<Option<Value>, Error> {
        let resource = match self.resource_of(&object.api_version, &object.kind).await {
            Ok(resource) => resource,
            // A kind that its own definition is about to bring.
            Err(Error::UnknownKind { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.get(&resource.path(object.namespace.as_deref(), Some(&object.name))).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn identify(&self, manifest: &Value, defined: &[String]) -> Result<Applied, Error> {
        let field = |pointer: &str| {
            text(manifest, pointer).map(str::to_owned).ok_or_else(|| Error::Manifest {
                why: format!("it has no `{}`: {}", pointer.trim_start_matches('/').replace('/', "."), excerpt(manifest)),
            })
        };
        let (api_version, kind, name) = (field("/apiVersion")?, field("/kind")?, field("/metadata/name")?);
        let namespaced = match self.resource_of(&api_version, &kind).await {
            Ok(Resource { namespaced, .. }) => namespaced,
            Err(Error::UnknownKind { .. }) if defined.contains(&kind) => text(manifest, "/metadata/namespace").is_some(),
            Err(error) => return Err(error),
        };
        let namespace = namespaced.then(|| text(manifest, "/metadata/namespace").unwrap_or(&self.default_namespace).to_owned());
        let pods = pods_of(manifest);
        Ok(Applied { api_version, kind, namespace, name, pods })
    }
}

/// The selector of the pods that a manifest's object makes; `None` where it makes none.
pub fn pods_of(manifest: &Value) -> Option<String> {
    manifest.pointer("/spec/template")?;
    let is_job = text(manifest, "/kind") == Some("Job") && text(manifest, "/apiVersion")?.starts_with("batch/");
    match manifest.pointer("/spec/selector") {
        Some(given) => Some(selector(given)).filter(|selector| !selector.is_empty()),
        // Its selector is made with its uid; this label has been on its pods for as long as there have been Jobs.
        None if is_job => Some(format!("job-name={}", text(manifest, "/metadata/name")?)),
        None => None,
    }
}

fn excerpt(manifest: &Value) -> String {
    manifest.to_string().chars().take(80).collect()
}

fn ours(object: &Option<Value>, run: &str) -> bool {
    object.as_ref().and_then(|o| o.pointer("/metadata/labels")).and_then(|l| l.get(RUN_LABEL)).and_then(Value::as_str) == Some(run)
}

fn label(manifest: &mut Value, run: &str) {
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[RUN_LABEL] = run.into();
    let managed = BTreeMap::from([("app.kubernetes.io/managed-by", MANAGER)]);
    for (key, value) in managed {
        if labels.get(key).is_none() {
            labels[key] = value.into();
        }
    }
}

/// `kind: List` unrolled, empty documents left out.
fn flatten(manifests: Vec<Value>) -> Vec<Value> {
    manifests
        .into_iter()
        .flat_map(|manifest| match text(&manifest, "/kind") {
            Some("List") => flatten(list(&manifest, "/items").to_vec()),
            _ if manifest.is_null() => Vec::new(),
            _ => vec![manifest],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_unrolled_and_labels_are_added_not_replaced() {
        let mut objects = flatten(vec![
            Value::Null,
            json!({"kind": "List", "items": [{"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}}]}),
        ]);
        assert_eq!(objects.len(), 1);
        label(&mut objects[0], "r1");
        assert_eq!(
            objects[0]["metadata"]["labels"],
            json!({"x": "y", "squall.dev/run": "r1", "app.kubernetes.io/managed-by": "squall"})
        );
        assert!(ours(&Some(objects[0].clone()), "r1") && !ours(&Some(objects[0].clone()), "r2") && !ours(&None, "r1"));
    }
}
