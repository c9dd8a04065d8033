//! The endpoints behind a Service: its EndpointSlices joined.

use serde_json::Value;

use super::{Cluster, Error, list, text};

/// What one EndpointSlice says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub namespace: String,
    /// The slice's own name.
    pub name: String,
    /// The Service it belongs to.
    pub service: String,
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's name, or the address where no pod stands behind it.
    pub name: String,
    pub uid: Option<String>,
    pub state: EndpointState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    Ready,
    NotReady,
    Terminating,
}

impl Slice {
    /// Reads an EndpointSlice; `None` when it belongs to no Service.
    pub fn read(object: &Value) -> Option<Slice> {
        Some(Slice {
            namespace: text(object, "/metadata/namespace")?.to_owned(),
            name: text(object, "/metadata/name")?.to_owned(),
            service: text(object, "/metadata/labels/kubernetes.io~1service-name")?.to_owned(),
            endpoints: list(object, "/endpoints").iter().filter_map(endpoint).collect(),
        })
    }
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    let address = list(value, "/addresses").first().and_then(Value::as_str);
    let name = text(value, "/targetRef/name").or(address)?.to_owned();
    // A condition that is absent means ready: discovery.k8s.io/v1, EndpointConditions.
    let state = if value.pointer("/conditions/terminating") == Some(&Value::Bool(true)) {
        EndpointState::Terminating
    } else if value.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
        EndpointState::NotReady
    } else {
        EndpointState::Ready
    };
    Some(Endpoint { name, uid: text(value, "/targetRef/uid").map(str::to_owned), state })
}

impl Cluster {
    /// The slices of a namespace, now.
    pub async fn slices(&self, namespace: &str) -> Result<Vec<Slice>, Error> {
        let answer = self.get(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")).await?;
        Ok(list(&answer, "/items").iter().filter_map(Slice::read).collect())
    }
}
