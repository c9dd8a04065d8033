//! `metrics.k8s.io`: what pods and nodes use, as a metrics server tells `kubectl top`. Measured when somebody asks; a node uses what its
//! pods use, since all nodes are this machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::objects::key;
use super::super::resource::{NODES, PODS, Resource};
use super::super::store::{seconds, text};
use super::access::Usage;
use super::failure::Failure;
use super::objects::{filter, whole_list};
use super::reply::{self, Reply};
use super::request::{Form, Request, Target};
use super::table::{self, Columns};
use super::{Api, decode};

/// Over how long a metrics server averages by default.
const WINDOW: Duration = Duration::from_secs(15);

impl Api {
    /// The metrics of one object.
    pub(super) async fn metrics_of(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (form, name) = (request.form()?, target.name.as_deref().unwrap_or_default());
        let found = self.measured(target.seen, target.namespace.as_deref()).await;
        let Some(metrics) = found.into_iter().find(|metrics| text(metrics, "name") == name) else {
            let qualified = if target.seen.namespaced { format!("{}/{name}", target.ns()) } else { name.to_owned() };
            let message = format!("{}.{} \"{qualified}\" not found", target.seen.kind.to_lowercase(), target.seen.group);
            let details = json!({"name": qualified, "group": target.seen.group, "kind": target.seen.kind.to_lowercase()});
            return Err(Failure::new(404, "NotFound", message).with(details));
        };
        let include = request.query.get("includeObject").unwrap_or("Metadata");
        Ok(match form {
            Form::Whole => reply::json(200, &metrics),
            Form::Metadata => reply::json(200, &table::partial(&metrics)),
            Form::Table => reply::json(200, &table::table(target.seen, &[&metrics], json!({}), Columns::Told, include)),
        })
    }

    /// The metrics of all objects that the query selects.
    pub(super) async fn all_metrics(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (form, filter) = (request.form()?, filter(target, request)?);
        let found = self.measured(target.seen, target.namespace.as_deref()).await;
        let shown: Vec<&Value> = found.iter().filter(|metrics| filter.shows(metrics)).collect();
        let include = request.query.get("includeObject").unwrap_or("Metadata");
        Ok(match form {
            Form::Table => reply::json(200, &table::table(target.seen, &shown, json!({}), Columns::Told, include)),
            Form::Whole | Form::Metadata => reply::json(200, &whole_list(target.seen, json!({}), shown)),
        })
    }

    async fn measured(&self, seen: &'static Resource, namespace: Option<&str>) -> Vec<Value> {
        let usage = self.pods.usage(WINDOW).await;
        if seen.namespaced {
            let pods = self.store.list(&PODS, namespace).0;
            return pods.iter().filter_map(|pod| Some(pod_metrics(seen, pod, usage.get(&key(pod))?))).collect();
        }
        let pods = self.store.list(&PODS, None).0;
        self.store.list(&NODES, None).0.iter().map(|node| node_metrics(seen, node, &pods, &usage)).collect()
    }
}

fn pod_metrics(seen: &'static Resource, pod: &Value, usage: &Usage) -> Value {
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .map(|used| json!({"name": used.name, "usage": amounts(used.cpu_nanocores, used.memory_bytes)}))
        .collect();
    let mut metrics = head(seen, pod, usage.at_ms, usage.window_ms);
    metrics["containers"] = json!(containers);
    metrics
}

/// A node on which nothing runs uses nothing.
fn node_metrics(seen: &'static Resource, node: &Value, pods: &[Arc<Value>], usage: &BTreeMap<(String, String), Usage>) -> Value {
    let on_it = pods.iter().filter(|pod| pod["spec"]["nodeName"] == node["metadata"]["name"]);
    let used: Vec<&Usage> = on_it.filter_map(|pod| usage.get(&key(pod))).collect();
    let containers = || used.iter().flat_map(|usage| &usage.containers);
    let cpu = containers().map(|used| used.cpu_nanocores).sum::<u64>();
    let memory = containers().map(|used| used.memory_bytes).sum::<u64>();
    let now = || crate::time::wall_now().as_millisecond();
    let at_ms = used.iter().map(|usage| usage.at_ms).max().unwrap_or_else(now);
    let window_ms = used.iter().map(|usage| usage.window_ms).max().unwrap_or(WINDOW.as_millis() as i64);
    let mut metrics = head(seen, node, at_ms, window_ms);
    metrics["usage"] = amounts(cpu, memory);
    metrics
}

fn head(seen: &'static Resource, object: &Value, at_ms: i64, window_ms: i64) -> Value {
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut meta = decode::empty();
    for field in ["name", "namespace", "labels"] {
        if let Some(value) = object["metadata"].get(field) {
            meta[field] = value.clone();
        }
    }
    // The sandbox does not say when it was made, but when it was measured, as a metrics server does.
    meta["creationTimestamp"] = json!(seconds(crate::time::wall_now()));
    json!({"kind": seen.kind, "apiVersion": seen.api_version(), "metadata": meta, "timestamp": seconds(at),
        "window": format!("{}.{:03}s", window_ms / 1000, window_ms % 1000)})
}

fn amounts(cpu_nanocores: u64, memory_bytes: u64) -> Value {
    json!({"cpu": format!("{cpu_nanocores}n"), "memory": format!("{}Ki", memory_bytes / 1024)})
}
