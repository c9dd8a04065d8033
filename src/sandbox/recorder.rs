//! Events as controllers and kubelets write them: what happened to which object, counted instead of repeated.
//! The memory of what was said is bounded; beyond it an event starts a new count.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::resource::EVENTS;
use super::store::{Store, seconds, text};
use crate::time::wall_now;

/// Distinct events whose counts are continued.
const REMEMBERED_MAX: usize = 1024;

/// One component's pen.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<Store>,
    component: &'static str,
    host: Option<String>,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    names: HashMap<String, (String, String)>,
    order: VecDeque<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Normal,
    Warning,
}

impl Recorder {
    /// For a component such as `replicaset-controller`; `host` is the node, for what runs on one.
    pub fn new(store: &Arc<Store>, component: &'static str, host: Option<&str>) -> Recorder {
        Recorder { store: store.clone(), component, host: host.map(str::to_owned), said: Arc::default() }
    }

    pub fn normal(&self, about: &Value, reason: &str, message: &str) {
        self.record(about, None, Severity::Normal, reason, message);
    }

    pub fn warning(&self, about: &Value, reason: &str, message: &str) {
        self.record(about, None, Severity::Warning, reason, message);
    }

    /// Says that `reason` happened to an object, or to the part of it that `field` names.
    pub fn record(&self, about: &Value, field: Option<&str>, severity: Severity, reason: &str, message: &str) {
        let now = wall_now();
        let time = seconds(now);
        let uid = text(about, "uid");
        let identity = [uid, reason, message, field.unwrap_or_default()].join("\n");
        let known = self.lock().names.get(&identity).cloned();
        if let Some((ns, name)) = known {
            let counted = self.store.update(&EVENTS, &ns, &name, |event| {
                event["count"] = json!(event["count"].as_i64().unwrap_or(1) + 1);
                event["lastTimestamp"] = json!(time);
                Ok(())
            });
            if counted.is_ok() {
                return;
            }
        }
        let namespace = Some(text(about, "namespace")).filter(|ns| !ns.is_empty()).unwrap_or("default").to_owned();
        let mut involved = json!({
            "kind": about["kind"], "namespace": text(about, "namespace"), "name": text(about, "name"), "uid": uid,
            "apiVersion": about["apiVersion"], "resourceVersion": text(about, "resourceVersion"),
        });
        if let Some(field) = field {
            involved["fieldPath"] = json!(field);
        }
        let mut source = json!({"component": self.component});
        if let Some(host) = &self.host {
            source["host"] = json!(host);
        }
        let name = format!("{}.{:x}", text(about, "name"), now.as_nanosecond());
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason, "message": message, "source": source,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1,
            "type": if severity == Severity::Normal { "Normal" } else { "Warning" },
            "eventTime": null,
            "reportingComponent": self.component, "reportingInstance": self.host.as_deref().unwrap_or_default(),
        });
        // An event that cannot be stored (its namespace is going) is not worth failing for.
        if self.store.create(&EVENTS, event).is_ok() {
            self.lock().remember(identity, (namespace, name));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn remember(&mut self, identity: String, at: (String, String)) {
        if self.names.insert(identity.clone(), at).is_some() {
            return;
        }
        self.order.push_back(identity);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }
}
