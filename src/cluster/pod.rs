//! Pods: what is read of them, and the few things that may be done to one. Everything done to a pod names its uid, so that a
//! namesake is never hit.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::call::{Write, encode};
use super::mesh::Mesh;
use super::node::labels;
use super::{Cluster, Error, count, list, text};

/// A pod as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The controller that owns it: a ReplicaSet's or StatefulSet's name.
    pub owner: Option<String>,
    /// That controller's uid.
    pub owner_uid: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub phase: String,
    pub ready: bool,
    pub terminating: bool,
    /// Seconds between SIGTERM and SIGKILL, where a deletion asks for nothing else.
    pub grace_s: u32,
    pub restarts: u32,
    pub ip: Option<String>,
    /// The node that it runs on, once it has one.
    pub node: Option<String>,
    /// `linux` or `windows`, where the pod says itself which it needs.
    pub os: Option<String>,
    pub host_network: bool,
    /// The sidecar of a mesh that stands between it and its clients.
    pub mesh: Option<Mesh>,
    /// Why it waits or ended: `CrashLoopBackOff`, `OOMKilled`.
    pub reason: Option<String>,
    /// Why no node takes it, in the scheduler's words.
    pub unplaced: Option<String>,
    /// The container that `reason` is about, and what it says.
    pub trouble: Option<Trouble>,
    pub containers: Vec<String>,
    /// TCP ports that its containers declare.
    pub ports: Vec<u16>,
    /// `prometheus.io/port`, where annotated.
    pub metrics_port: Option<u16>,
    /// `prometheus.io/path`, where annotated.
    pub metrics_path: Option<String>,
    /// An HTTP path and port that the kubelet probes: cheap to ask, made for it.
    pub probe: Option<(u16, String)>,
    pub ephemeral: Vec<Ephemeral>,
}

/// A container that does not run as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub container: String,
    pub reason: String,
    pub message: String,
}

/// An ephemeral container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    pub name: String,
    pub state: EphemeralState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EphemeralState {
    /// Asked for, not yet seen by the kubelet or not yet started; reason and message are the kubelet's, and empty where it says nothing.
    Waiting {
        reason: String,
        message: String,
    },
    Running,
    Terminated {
        exit_code: i64,
        reason: String,
        message: String,
    },
}

/// A write that happens, or one that is only tried: admission and all, and nothing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Really {
    Yes,
    DryRun,
}

/// How a pod is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// What the pod itself asks for.
    Own,
    Seconds(u32),
}

impl Pod {
    /// Reads a pod object; `None` when it is none.
    pub fn read(object: &Value) -> Option<Pod> {
        let containers = list(object, "/spec/containers");
        let statuses = list(object, "/status/containerStatuses");
        let port_of = |value: &Value, container: &Value| -> Option<u16> {
            let number = match value {
                Value::String(name) => {
                    list(container, "/ports").iter().find(|p| text(p, "/name") == Some(name))?["containerPort"].as_u64()?
                }
                number => number.as_u64()?,
            };
            u16::try_from(number).ok()
        };
        let probe = containers.iter().find_map(|container| {
            ["/readinessProbe/httpGet", "/livenessProbe/httpGet"].iter().find_map(|pointer| {
                let get = container.pointer(pointer)?;
                Some((port_of(&get["port"], container)?, text(get, "/path").unwrap_or("/").to_owned()))
            })
        });
        let controller = list(object, "/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
        let trouble = list(object, "/status/initContainerStatuses").iter().chain(statuses).find_map(trouble_of);
        Some(Pod {
            namespace: text(object, "/metadata/namespace")?.to_owned(),
            name: text(object, "/metadata/name")?.to_owned(),
            uid: text(object, "/metadata/uid")?.to_owned(),
            owner: controller.and_then(|owner| text(owner, "/name")).map(str::to_owned),
            owner_uid: controller.and_then(|owner| text(owner, "/uid")).map(str::to_owned),
            labels: labels(object),
            phase: text(object, "/status/phase").unwrap_or("Unknown").to_owned(),
            ready: list(object, "/status/conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True"),
            terminating: object.pointer("/metadata/deletionTimestamp").is_some(),
            // The API's default.
            grace_s: object
                .pointer("/spec/terminationGracePeriodSeconds")
                .map_or(30, |_| count(object, "/spec/terminationGracePeriodSeconds")),
            restarts: statuses.iter().map(|s| count(s, "/restartCount")).sum(),
            ip: text(object, "/status/podIP").filter(|ip| !ip.is_empty()).map(str::to_owned),
            node: text(object, "/spec/nodeName").filter(|node| !node.is_empty()).map(str::to_owned),
            os: text(object, "/spec/os/name").or_else(|| text(object, "/spec/nodeSelector/kubernetes.io~1os")).map(str::to_owned),
            host_network: object.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)),
            mesh: Mesh::of(object),
            reason: trouble
                .as_ref()
                .map(|t: &Trouble| t.reason.clone())
                .or_else(|| text(object, "/status/reason").map(str::to_owned))
                .or_else(|| unscheduled(object, "/reason")),
            unplaced: unscheduled(object, "/message"),
            trouble,
            containers: containers.iter().filter_map(|c| text(c, "/name")).map(str::to_owned).collect(),
            ports: containers
                .iter()
                .flat_map(|c| list(c, "/ports"))
                .filter(|p| text(p, "/protocol").is_none_or(|protocol| protocol == "TCP"))
                .filter_map(|p| u16::try_from(p["containerPort"].as_u64()?).ok())
                .collect(),
            metrics_port: text(object, "/metadata/annotations/prometheus.io~1port").and_then(|p| p.parse().ok()),
            metrics_path: text(object, "/metadata/annotations/prometheus.io~1path").map(str::to_owned),
            probe,
            ephemeral: list(object, "/spec/ephemeralContainers")
                .iter()
                .filter_map(|c| text(c, "/name"))
                .map(|name| Ephemeral { name: name.to_owned(), state: ephemeral_state(object, name) })
                .collect(),
        })
    }

    /// Ready, and not on its way out: it counts as capacity.
    pub fn serves(&self) -> bool {
        self.ready && !self.terminating
    }

    /// `shop/checkout-abc`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

fn trouble_of(status: &Value) -> Option<Trouble> {
    let container = text(status, "/name")?.to_owned();
    let message = |state: &Value| text(state, "/message").unwrap_or_default().to_owned();
    if let Some(waiting) = status.pointer("/state/waiting") {
        let reason = text(waiting, "/reason").unwrap_or_default();
        // Every container waits like this before it first starts.
        if !reason.is_empty() && reason != "ContainerCreating" && reason != "PodInitializing" {
            // In back-off, why it ended is in the last state, and the message only tells of the back-off.
            let ended = status.pointer("/lastState/terminated").map(|last| {
                let says = Some(message(last)).filter(|says| !says.is_empty()).map(|says| format!(": {says}"));
                let reason = text(last, "/reason").unwrap_or("?");
                format!("it ended with {reason}, exit code {}{}", last["exitCode"], says.unwrap_or_default())
            });
            return Some(Trouble { container, reason: reason.to_owned(), message: ended.unwrap_or_else(|| message(waiting)) });
        }
    }
    let ended = status.pointer("/state/terminated")?;
    let reason = text(ended, "/reason").unwrap_or("Terminated").to_owned();
    (reason != "Completed").then(|| Trouble {
        container,
        reason,
        message: format!("exit code {} {}", ended["exitCode"], message(ended)),
    })
}

/// What its condition says of a pod that has no node.
fn unscheduled(object: &Value, field: &str) -> Option<String> {
    let condition = list(object, "/status/conditions").iter().find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
    text(condition, field).map(str::to_owned)
}

fn ephemeral_state(object: &Value, name: &str) -> EphemeralState {
    let status = list(object, "/status/ephemeralContainerStatuses").iter().find(|s| text(s, "/name") == Some(name));
    let state = status.map(|status| &status["state"]).unwrap_or(&Value::Null);
    let word = |pointer: &str| text(state, pointer).unwrap_or_default().to_owned();
    if let Some(ended) = state.get("terminated") {
        return EphemeralState::Terminated {
            exit_code: ended["exitCode"].as_i64().unwrap_or(-1),
            reason: word("/terminated/reason"),
            message: word("/terminated/message"),
        };
    }
    if state.get("running").is_some() {
        return EphemeralState::Running;
    }
    EphemeralState::Waiting { reason: word("/waiting/reason"), message: word("/waiting/message") }
}

impl Cluster {
    /// The pod of this name, whatever its uid.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Pod, Error> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let object = self.get(&path).await.map_err(|error| match error {
            Error::NotFound { .. } => Error::NotFound { what: format!("pod {namespace}/{name}"), found: Vec::new() },
            other => other,
        })?;
        Pod::read(&object).ok_or_else(|| Error::Unreadable { what: format!("GET {path}"), why: "it is not a pod".into() })
    }

    /// The pods of a namespace that match a label selector.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, Error> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", encode(selector));
        Ok(list(&self.get(&path).await?, "/items").iter().filter_map(Pod::read).collect())
    }

    /// Deletes exactly this pod; a namesake with another uid is a [`Error::Conflict`], an absent one [`Error::NotFound`].
    pub async fn delete_pod(&self, pod: &Pod, grace: Grace) -> Result<(), Error> {
        let options = deletion(&pod.uid, grace);
        self.write(Method::DELETE, &pod.path(), Write::Json, &options).await.map(drop)
    }

    /// Asks the eviction API, which honours disruption budgets: a refusal is [`Error::Budget`], and is not tried again.
    pub async fn evict_pod(&self, pod: &Pod, grace: Grace) -> Result<(), Error> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": deletion(&pod.uid, grace),
        });
        self.write(Method::POST, &format!("{}/eviction", pod.path()), Write::Json, &eviction).await.map(drop)
    }

    /// Adds an ephemeral container to a pod, or asks whether it would be let in. It can never be removed from it again, only end.
    pub async fn add_ephemeral_container(&self, pod: &Pod, container: Value, really: Really) -> Result<(), Error> {
        // The uid makes the server refuse a namesake.
        let patch = json!({"metadata": {"uid": pod.uid}, "spec": {"ephemeralContainers": [container]}});
        let dry = match really {
            Really::Yes => "",
            Really::DryRun => "&dryRun=All",
        };
        let path = format!("{}/ephemeralcontainers?fieldManager=squall{dry}", pod.path());
        self.write(Method::PATCH, &path, Write::Strategic, &patch).await.map(drop)
    }

    /// The last `lines` of a container's log.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str, lines: u32, which: LogOf) -> Result<String, Error> {
        let previous = match which {
            LogOf::Current => "",
            LogOf::Previous => "&previous=true",
        };
        self.get_text(&format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={}&tailLines={lines}{previous}",
            encode(container)
        ))
        .await
    }

    /// One GET to a pod's port by way of the API server, for wherever pods cannot be reached directly.
    pub async fn get_through_proxy(&self, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String, Error> {
        self.get_text(&format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")).await
    }
}

/// Which run of a container a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOf {
    Current,
    Previous,
}

pub(super) fn deletion(uid: &str, grace: Grace) -> Value {
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    if let Grace::Seconds(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    options
}
