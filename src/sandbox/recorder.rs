//! Events as controllers and kubelets write them: what happened to which object, counted instead of repeated, and put together where too
//! much of a kind happens to one object.
//! The memory of what was said is bounded; beyond it an event starts a new count.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::resource::EVENTS;
use super::store::{Store, seconds, text};
use crate::time::{monotonic_now, wall_now};

/// Distinct events whose counts are continued, and objects whose events are put together.
const REMEMBERED_MAX: usize = 1024;
/// So many different messages of one reason about one object within [`ALIKE_WITHIN`] are put together into one event, as client-go's
/// `EventAggregator` does it.
const ALIKE_MAX: usize = 10;
const ALIKE_WITHIN: Duration = Duration::from_secs(600);
/// How such an event begins.
const COMBINED: &str = "(combined from similar events): ";

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
    alike: HashMap<String, Alike>,
    alike_order: VecDeque<String>,
}

/// What was said lately of one object, for one reason.
struct Alike {
    messages: BTreeSet<String>,
    last: Instant,
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
        let alike = [uid, severity.word(), reason].join("\n");
        let is_one_of_many = self.lock().is_one_of_many(&alike, message);
        let (identity, message) = match is_one_of_many {
            true => (alike, format!("{COMBINED}{message}")),
            false => ([uid, reason, message, field.unwrap_or_default()].join("\n"), message.to_owned()),
        };
        let known = self.lock().names.get(&identity).cloned();
        if let Some((ns, name)) = known {
            let counted = self.store.update(&EVENTS, &ns, &name, |event| {
                event["count"] = json!(event["count"].as_i64().unwrap_or(1) + 1);
                event["lastTimestamp"] = json!(time);
                event["message"] = json!(message);
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
            "reportingComponent": if is_one_of_many { "" } else { self.component },
            "reportingInstance": host.filter(|_| !is_one_of_many).unwrap_or_default(),
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
    /// Whether enough different things were said of this object for this reason that they become one event.
    fn is_one_of_many(&mut self, alike: &str, message: &str) -> bool {
        let now = monotonic_now();
        if !self.alike.contains_key(alike) {
            self.alike.insert(alike.to_owned(), Alike { messages: BTreeSet::new(), last: now });
            self.alike_order.push_back(alike.to_owned());
            if self.alike_order.len() > REMEMBERED_MAX
                && let Some(oldest) = self.alike_order.pop_front()
            {
                self.alike.remove(&oldest);
            }
        }
        let Some(known) = self.alike.get_mut(alike) else { return false };
        if now.duration_since(known.last) > ALIKE_WITHIN {
            known.messages.clear();
        }
        known.last = now;
        known.messages.insert(message.to_owned());
        if known.messages.len() < ALIKE_MAX {
            return false;
        }
        // One makes room for the next: the set stays one below the bound.
        known.messages.pop_first();
        true
    }

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

#[cfg(test)]
mod tests {
    use super::super::resource::CONFIGMAPS;
    use super::*;

    #[test]
    fn the_tenth_of_a_kind_and_all_after_it_are_one_event() {
        let store = Store::new(7);
        let about = store.create(&CONFIGMAPS, json!({"metadata": {"name": "web", "namespace": "default"}})).unwrap();
        let recorder = Recorder::new(&store, "deployment-controller", Spot::Nowhere);
        for n in 1..=12 {
            recorder.normal(&about, "ScalingReplicaSet", &format!("Scaled to {n}"));
        }
        recorder.normal(&about, "Other", "Scaled to 13");
        let said = |event: &Value| {
            let word = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            (word("message"), event["count"].as_i64().unwrap_or_default(), word("reportingComponent"))
        };
        let mut events: Vec<_> = store.list(&EVENTS, None).0;
        events.sort_by_key(|event| text(event, "name").to_owned());
        assert_eq!(events.len(), 11);
        assert_eq!(said(&events[8]), ("Scaled to 9".into(), 1, "deployment-controller".into()));
        // As recorded of a Deployment that was scaled often: the last message, how many, and no reporting component.
        assert_eq!(said(&events[9]), ("(combined from similar events): Scaled to 12".into(), 3, String::new()));
        assert_eq!(said(&events[10]).0, "Scaled to 13");
    }
}
