//! Events that the cluster itself writes about observed objects: `ScaledUp`, `Killing`, `FailedScheduling`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Names, Probe};
use crate::cluster::discovery::Resource;
use crate::names::ObjectRef;
use crate::recording::fact::Fact;

/// Events that are told per namespace; a cluster in trouble writes them without end.
const TOLD_MAX: usize = 5_000;

/// The events of one namespace.
pub(super) struct Events {
    names: Arc<Names>,
    kinds: Vec<Resource>,
    /// The count that was told last, by uid; what was there at the start is known and not told.
    told: BTreeMap<String, u32>,
    started: bool,
    /// Events beyond the bound.
    lost: u64,
}

impl Events {
    pub(super) fn new(names: Arc<Names>, workloads: &[Resource], scalers: &[Resource]) -> Events {
        let kinds = [workloads, scalers].concat();
        Events { names, kinds, told: BTreeMap::new(), started: false, lost: 0 }
    }

    fn tell(&mut self, event: &Value, silent: bool) -> Option<Fact> {
        let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let uid = word("/metadata/uid").to_owned();
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64);
        let count = number("/count").or(number("/series/count")).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        if self.told.get(&uid) == Some(&count) {
            return None;
        }
        if self.told.len() >= TOLD_MAX && !self.told.contains_key(&uid) {
            self.lost += 1;
            return (self.lost == 1).then(|| beyond(1));
        }
        self.told.insert(uid, count);
        if silent {
            return None;
        }
        let (kind, namespace, name) =
            (word("/involvedObject/kind"), word("/involvedObject/namespace"), word("/involvedObject/name"));
        let object = match self.kinds.iter().find(|resource| resource.kind == kind) {
            Some(resource) => self.names.of(resource, namespace, name),
            None => ObjectRef { namespace: namespace.to_owned(), kind: kind.to_lowercase(), name: name.to_owned() },
        };
        Some(Fact::ClusterEvent {
            object,
            kind: word("/type").to_owned(),
            reason: word("/reason").to_owned(),
            message: word("/message").to_owned(),
            count,
        })
    }
}

impl Probe for Events {
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact> {
        // What happened before the run is not part of it; what happened while the watch was blind is.
        let silent = !std::mem::replace(&mut self.started, true);
        objects.iter().filter_map(|event| self.tell(event, silent)).collect()
    }

    fn seen(&mut self, event: &Value) -> Vec<Fact> {
        self.tell(event, false).into_iter().collect()
    }

    fn gone(&mut self, _: &Value) -> Vec<Fact> {
        // Events expire; that says nothing about their objects.
        Vec::new()
    }

    fn end(&mut self) -> Vec<Fact> {
        // The first was told when it was lost.
        (self.lost > 1).then(|| beyond(self.lost - 1)).into_iter().collect()
    }
}

fn beyond(lost: u64) -> Fact {
    Fact::Bound { what: "events of one namespace".into(), limit: TOLD_MAX as u64, lost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_event_beyond_the_bound_is_counted() {
        let mut events = Events { names: Arc::default(), kinds: Vec::new(), told: BTreeMap::new(), started: true, lost: 0 };
        let mut facts: Vec<Fact> =
            (0..TOLD_MAX + 7).flat_map(|n| events.seen(&json!({"metadata": {"uid": n.to_string()}}))).collect();
        facts.extend(events.end());
        let lost = facts.iter().map(|fact| if let Fact::Bound { lost, .. } = fact { *lost } else { 0 });
        assert_eq!(lost.sum::<u64>(), 7);
    }

    #[test]
    fn what_happened_before_is_not_told_and_a_count_that_grows_is() {
        let event = |uid: &str, count: u32| {
            json!({"metadata": {"uid": uid}, "count": count, "type": "Normal", "reason": "Killing", "message": "m",
                "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1"}})
        };
        let mut probe = Events { names: Arc::default(), kinds: vec![], told: BTreeMap::new(), started: false, lost: 0 };
        assert!(probe.listed(vec![event("a", 1)]).is_empty());
        assert!(probe.seen(&event("a", 1)).is_empty());
        assert_eq!(probe.seen(&event("a", 2)).len(), 1);
        let facts = probe.listed(vec![event("a", 2), event("b", 1)]);
        let [Fact::ClusterEvent { object, reason, .. }] = &facts[..] else { panic!("{facts:?}") };
        assert_eq!((object.to_string().as_str(), reason.as_str()), ("shop/pod/web-1", "Killing"));
    }
}
