//! Nodes, as far as a pod's surroundings hang on them, and the labels of namespaces.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Cluster, Error, list, text};

/// A node as the API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Key and value of each taint.
    pub taints: BTreeMap<String, String>,
    /// `linux`, `windows`; empty where it is not said.
    pub os: String,
}

impl Node {
    pub fn read(object: &Value) -> Node {
        let labels = labels(object);
        let os = text(object, "/status/nodeInfo/operatingSystem").filter(|os| !os.is_empty()).map(str::to_owned);
        let taint = |taint: &Value| Some((text(taint, "/key")?.to_owned(), text(taint, "/value").unwrap_or_default().to_owned()));
        Node {
            name: text(object, "/metadata/name").unwrap_or_default().to_owned(),
            os: os.or_else(|| labels.get("kubernetes.io/os").cloned()).unwrap_or_default(),
            taints: list(object, "/spec/taints").iter().filter_map(taint).collect(),
            labels,
        }
    }
}

/// The labels of an object.
pub(super) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl Cluster {
    /// A node. Whoever may do no more than work in a namespace may not see it.
    pub async fn node(&self, name: &str) -> Result<Node, Error> {
        Ok(Node::read(&self.get(&format!("/api/v1/nodes/{name}")).await?))
    }

    /// The labels of a namespace.
    pub async fn labels_of_namespace(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        Ok(labels(&self.get(&format!("/api/v1/namespaces/{name}")).await?))
    }
}
