//! The one adapter to Kubernetes: nothing else in the crate names `kube`. It reads by path and watches, writes only patches,
//! creations under server-side apply and deletions with a uid, never retries behind the caller's back, and gives every call a
//! deadline. The embedded sandbox is spoken to through this same client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::cluster::discovery::Catalogue;

pub mod address;
pub mod attach;
pub mod autoscaler;
mod call;
pub mod discovery;
pub mod endpoints;
pub mod error;
pub mod manifests;
pub mod pod;
pub mod ready;
mod review;
pub mod watch;
pub mod workload;

pub use error::Error;
pub use manifests::Applied;
pub use pod::Pod;
pub use workload::Workload;

/// How the cluster is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// The text of a kubeconfig, its current context.
    Kubeconfig(String),
    /// A context of `$KUBECONFIG` or `~/.kube/config`, the current one when `None`; inside of a pod, its service account.
    Context(Option<String>),
    /// A context of these kubeconfig files, written as `$KUBECONFIG` is: how a cluster is found again later.
    Files { kubeconfig: String, context: Option<String> },
}

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

/// What is said of a cluster behind a proxy.
const NO_PROXY: &str = "it leads to the API server through a proxy (its `proxy-url`, or HTTPS_PROXY), and no cluster is reached through one; \
                        leave both out where the server can be reached without";

/// Time for a connection to the API server to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Cluster {
    /// Finds the cluster and asks for its version, so that a cluster that cannot be reached is known before anything else happens.
    pub async fn connect(access: Access) -> Result<Cluster, Error> {
        // Only the first installation counts; a test or a library user may come here without main's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = match &access {
            Access::Kubeconfig(text) => {
                let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| Error::Config { why: e.to_string() })?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
            }
            Access::Files { kubeconfig, context } => {
                let merged = std::env::split_paths(kubeconfig)
                    .filter(|path| !path.as_os_str().is_empty())
                    .try_fold(Kubeconfig::default(), |merged, path| merged.merge(Kubeconfig::read_from(path)?))
                    .map_err(|e| Error::Config { why: e.to_string() })?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(merged, &options).await
            }
            Access::Context(context) => {
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                match Config::from_kubeconfig(&options).await {
                    Err(kubeconfig) if context.is_none() => match Config::incluster() {
                        Ok(config) => Ok(config),
                        Err(_) => Err(kubeconfig),
                    },
                    found => found,
                }
            }
        }
        .map_err(|e| Error::Config { why: e.to_string() })?;
        // A refused eviction is a finding: the client must not wait it out (kube retries 429, 503 and 504 fifteen times).
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // This process's own sandbox, and whatever else is on this machine, is behind no proxy.
        if config.cluster_url.host().is_some_and(is_loopback) {
            config.proxy_url = None;
        }
        // The client's own words would repeat who we are to the proxy.
        if config.proxy_url.is_some() {
            return Err(Error::Config { why: NO_PROXY.to_owned() });
        }
        let server: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
        let default_namespace: Arc<str> = config.default_namespace.as_str().into();
        let client = Client::try_from(config).map_err(|e| Error::Config { why: error::innermost(&e) })?;
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

/// Whether the host of a URL is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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
