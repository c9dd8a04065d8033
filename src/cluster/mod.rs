//! The one adapter to Kubernetes: nothing else in the crate names `kube`. It reads by path and watches, writes only patches,
//! creations under server-side apply and deletions with a uid, never retries behind the caller's back, and gives every call a
//! deadline. The embedded sandbox is spoken to through this same client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kube::Client;
use serde_json::Value;

use crate::cluster::discovery::Catalogue;

pub mod access;
pub mod address;
pub mod attach;
pub mod autoscaler;
mod call;
mod client;
pub mod discovery;
pub mod endpoints;
pub mod error;
mod lines;
pub mod manifests;
pub mod mesh;
pub mod node;
pub mod pod;
pub mod ready;
mod review;
pub mod scaled_object;
pub mod watch;
pub mod workload;

pub use access::{Access, Impersonation};
pub use error::Error;
pub use manifests::Applied;
pub use node::Node;
pub use pod::Pod;
pub use workload::Workload;

/// What stands behind an API server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Squall's embedded cluster, whoever runs it: its pods are processes and its data plane takes agents in.
    Sandbox,
    Real,
}

/// How the sandbox's version ends, and no other's.
const SANDBOX_VERSION: &str = "+squall";

/// A cluster that has answered. Cheap to clone; every call has a deadline.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: Arc<str>,
    kind: Kind,
    default_namespace: Arc<str>,
    catalogue: Arc<Catalogue>,
    /// Cluster addresses of services, as they were last resolved: they do not change while a service lives.
    addresses: Arc<Mutex<HashMap<String, Vec<std::net::SocketAddr>>>>,
}

impl Cluster {
    /// Finds the cluster and asks for its version, so that a cluster that cannot be reached is known before anything else happens.
    pub async fn connect(access: Access) -> Result<Cluster, Error> {
        // Only the first installation counts; a test or a library user may come here without main's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = access.config().await?;
        let server: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
        let default_namespace: Arc<str> = config.default_namespace.as_str().into();
        let client = client::client(config).await?;
        let kind = Kind::Real;
        let mut cluster = Cluster { client, server, kind, default_namespace, catalogue: Arc::default(), addresses: Arc::default() };
        if cluster.version().await?.ends_with(SANDBOX_VERSION) {
            cluster.kind = Kind::Sandbox;
        }
        Ok(cluster)
    }

    /// The API server's address, for people.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether it is a sandbox.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where manifests without a namespace go.
    pub fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// The server's version, as `v1.36.0`.
    pub async fn version(&self) -> Result<String, Error> {
        let version = self.get("/version").await?;
        match version["gitVersion"].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Error::Unreadable {
                what: format!("/version of {}", self.server),
                why: "it holds no gitVersion: is this a Kubernetes API server?".into(),
            }),
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.server)
    }
}

/// The text at `pointer`, where there is one.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// The whole number at `pointer`, zero where there is none: how the API leaves out zeroes.
pub(crate) fn count(value: &Value, pointer: &str) -> u32 {
    value.pointer(pointer).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// The list at `pointer`, empty where there is none.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
