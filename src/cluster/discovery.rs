//! Which kinds the cluster serves, and where: asked of the cluster, group by group as needed, and kept. Short names (`hpa`, `deploy`)
//! are the cluster's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use serde_json::Value;

use super::{Cluster, Error, list, text};

/// A kind as the cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub namespaced: bool,
    /// `scale`, `status`, `ephemeralcontainers`.
    pub subresources: Vec<String>,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of the collection, or of one object in it.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let (true, Some(namespace)) = (self.namespaced, namespace) {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.plural);
        name.map_or(path.clone(), |name| format!("{path}/{name}"))
    }

    fn is_called(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        self.kind.to_lowercase() == word
            || self.plural == word
            || self.singular == word
            || self.short_names.contains(&word)
            || format!("{}.{}", self.plural, self.group) == word
    }
}

/// What was asked so far, by `apiVersion`.
#[derive(Default)]
pub(super) struct Catalogue {
    groups: Mutex<HashMap<String, Arc<Vec<Resource>>>>,
}

/// Where nearly every word of a plan is found, in the order in which an ambiguous word is read: `events` is core's.
const USUAL: [&str; 3] = ["v1", "apps/v1", "autoscaling/v2"];
/// Questions to the server at once.
const AT_ONCE: usize = 8;

impl Cluster {
    /// The kind that a plan calls `word`: a kind, a plural or a short name, in any case.
    pub async fn resource_named(&self, word: &str) -> Result<Resource, Error> {
        for api_version in USUAL {
            match self.resources(api_version).await {
                Ok(resources) => {
                    if let Some(found) = resources.iter().find(|resource| resource.is_called(word)) {
                        return Ok(found.clone());
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let groups = self.get("/apis").await?;
        let preferred: Vec<String> =
            list(&groups, "/groups").iter().filter_map(|g| text(g, "/preferredVersion/groupVersion")).map(str::to_owned).collect();
        // A group whose own server is away (metrics, often) must not hide the others: only what was found counts.
        let all: Vec<Arc<Vec<Resource>>> = futures::stream::iter(preferred)
            .map(|api_version| async move { self.resources(&api_version).await })
            .buffered(AT_ONCE)
            .filter_map(|found| async move { found.ok() })
            .collect()
            .await;
        if let Some(found) = all.iter().flat_map(|resources| resources.iter()).find(|resource| resource.is_called(word)) {
            return Ok(found.clone());
        }
        let mut found: Vec<String> = Vec::new();
        for resource in all.iter().flat_map(|resources| resources.iter()) {
            if resource.subresources.iter().any(|s| s == "scale") {
                found.push(resource.singular.clone());
            }
        }
        for usual in ["deployment", "statefulset", "replicaset", "hpa", "pod", "service"] {
            if !found.iter().any(|f| f == usual) {
                found.push(usual.to_owned());
            }
        }
        found.sort();
        found.dedup();
        Err(Error::UnknownKind { word: word.to_owned(), found })
    }

    /// The kind of a manifest.
    pub async fn resource_of(&self, api_version: &str, kind: &str) -> Result<Resource, Error> {
        for attempt in 0..2 {
            match self.resources(api_version).await {
                Ok(resources) => {
                    if let Some(found) = resources.iter().find(|resource| resource.kind == kind) {
                        return Ok(found.clone());
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            // A definition that was applied a moment ago may bring the kind.
            if attempt == 0 {
                self.catalogue.groups.lock().expect("nobody panics while holding the catalogue").remove(api_version);
            }
        }
        let known = self.resources(api_version).await.map(|r| r.iter().map(|r| r.kind.clone()).collect()).unwrap_or_default();
        Err(Error::UnknownKind { word: format!("{kind} of {api_version}"), found: known })
    }

    async fn resources(&self, api_version: &str) -> Result<Arc<Vec<Resource>>, Error> {
        let known = self.catalogue.groups.lock().expect("nobody panics while holding the catalogue").get(api_version).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        let answer = self.get(&format!("{root}/{api_version}")).await?;
        let resources = Arc::new(read(api_version, &answer));
        self.catalogue
            .groups
            .lock()
            .expect("nobody panics while holding the catalogue")
            .insert(api_version.to_owned(), resources.clone());
        Ok(resources)
    }
}

/// Reads an `APIResourceList`; rows named `pods/log` are subresources.
fn read(api_version: &str, answer: &Value) -> Vec<Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let rows = list(answer, "/resources");
    let name = |row: &Value| text(row, "/name").unwrap_or_default().to_owned();
    rows.iter()
        .filter(|row| !name(row).contains('/'))
        .map(|row| {
            let plural = name(row);
            let kind = text(row, "/kind").unwrap_or_default().to_owned();
            let singular = match text(row, "/singularName") {
                Some(singular) if !singular.is_empty() => singular.to_owned(),
                _ => kind.to_lowercase(),
            };
            let prefix = format!("{plural}/");
            Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                kind,
                singular,
                short_names: list(row, "/shortNames").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                namespaced: row["namespaced"].as_bool().unwrap_or(false),
                subresources: rows.iter().filter_map(|r| name(r).strip_prefix(&prefix).map(str::to_owned)).collect(),
                plural,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_is_known_by_all_its_names() {
        let answer = json!({"resources": [
            {"name": "horizontalpodautoscalers", "singularName": "horizontalpodautoscaler", "namespaced": true,
             "kind": "HorizontalPodAutoscaler", "shortNames": ["hpa"]},
            {"name": "horizontalpodautoscalers/status", "namespaced": true, "kind": "HorizontalPodAutoscaler"}]});
        let [resource] = &read("autoscaling/v2", &answer)[..] else { panic!("one kind") };
        for word in ["hpa", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscalers.autoscaling"] {
            assert!(resource.is_called(word), "{word}");
        }
        assert!(!resource.is_called("vpa"));
        assert_eq!(resource.subresources, ["status"]);
        assert_eq!(resource.path(Some("shop"), Some("x")), "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/x");
    }
}
