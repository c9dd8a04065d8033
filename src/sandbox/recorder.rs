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
    spot: Spot,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    names: HashMap<String, (String, String)>,
    order: VecDeque<String>,
}

/// Where a component is, as its events tell it.
#[derive(Clone, Debug)]
pub enum Spot {
    Nowhere,
    /// On the node of the pod that it tells of.
    NodeOfPod,
    /// In a process of this name.
    Process(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Normal,
    Warning,
}

impl Recorder {
    /// For a component such as `replicaset-controller`.
    pub fn new(store: &Arc<Store>, component: &'static str, spot: Spot) -> Recorder {
        Recorder { store: store.clone(), component, spot, said: Arc::default() }
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
        let mut involved = involved(about);
        if let Some(field) = field {
            involved["fieldPath"] = json!(field);
        }
        let host = match self.spot {
            Spot::NodeOfPod => about["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()),
            Spot::Nowhere | Spot::Process(_) => None,
        };
        let mut source = json!({"component": self.component});
        if let Some(host) = host {
            source["host"] = json!(host);
        }
        let event = json!({
            "involvedObject": involved,
            "reason": reason, "message": message, "source": source,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1, "type": severity.word(), "eventTime": null,
            "reportingComponent": self.component, "reportingInstance": host.unwrap_or_default(),
        });
        self.write(about, now, identity, event);
    }

    /// Says in the newer style of events, with a time of microseconds, what a component did (`Binding`), so that `reason` came of it. What is
    /// said again of the same version of an object makes a series.
    pub fn observe(&self, about: &Value, severity: Severity, reason: &str, message: &str, action: &str) {
        let now = wall_now();
        let time = format!("{:.6}", jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now));
        let identity = [text(about, "uid"), reason, message, text(about, "resourceVersion")].join("\n");
        let known = self.lock().names.get(&identity).cloned();
        if let Some((ns, name)) = known {
            let counted = self.store.update(&EVENTS, &ns, &name, |event| {
                let count = event.pointer("/series/count").and_then(Value::as_i64).unwrap_or(1) + 1;
                event["series"] = json!({"count": count, "lastObservedTime": time});
                Ok(())
            });
            if counted.is_ok() {
                return;
            }
        }
        let instance = if let Spot::Process(name) = &self.spot { name.as_str() } else { "" };
        let event = json!({
            "involvedObject": involved(about),
            "reason": reason, "message": message, "source": {},
            "firstTimestamp": null, "lastTimestamp": null, "type": severity.word(), "eventTime": time, "action": action,
            "reportingComponent": self.component, "reportingInstance": instance,
        });
        self.write(about, now, identity, event);
    }

    fn write(&self, about: &Value, now: jiff::Timestamp, identity: String, mut event: Value) {
        let namespace = Some(text(about, "namespace")).filter(|ns| !ns.is_empty()).unwrap_or("default").to_owned();
        let name = format!("{}.{:x}", text(about, "name"), now.as_nanosecond());
        event["metadata"] = json!({"name": name, "namespace": namespace});
        // An event that cannot be stored (its namespace is going) is not worth failing for.
        if self.store.create(&EVENTS, event).is_ok() {
            self.lock().remember(identity, (namespace, name));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

fn involved(about: &Value) -> Value {
    json!({
        "kind": about["kind"], "namespace": text(about, "namespace"), "name": text(about, "name"), "uid": text(about, "uid"),
        "apiVersion": about["apiVersion"], "resourceVersion": text(about, "resourceVersion"),
    })
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
