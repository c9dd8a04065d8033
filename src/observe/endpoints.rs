//! The endpoints of Services, each Service's slices joined: where traffic goes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Probe;
use crate::cluster::endpoints::{EndpointState, Slice};
use crate::names::ObjectRef;
use crate::recording::fact::Fact;

/// The slices of a namespace by name, and what was last told by Service.
#[derive(Default)]
pub(super) struct Endpoints {
    slices: BTreeMap<String, Slice>,
    told: BTreeMap<String, Fact>,
}

impl Probe for Endpoints {
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact> {
        let mut services: Vec<(String, String)> = self.slices.values().map(|s| (s.namespace.clone(), s.service.clone())).collect();
        self.slices = objects.iter().filter_map(Slice::read).map(|slice| (slice.name.clone(), slice)).collect();
        services.extend(self.slices.values().map(|s| (s.namespace.clone(), s.service.clone())));
        services.sort();
        services.dedup();
        services.into_iter().filter_map(|(namespace, service)| self.tell(&namespace, &service)).collect()
    }

    fn seen(&mut self, object: &Value) -> Vec<Fact> {
        let Some(slice) = Slice::read(object) else { return Vec::new() };
        let (namespace, service) = (slice.namespace.clone(), slice.service.clone());
        self.slices.insert(slice.name.clone(), slice);
        self.tell(&namespace, &service).into_iter().collect()
    }

    fn gone(&mut self, object: &Value) -> Vec<Fact> {
        let Some(slice) = Slice::read(object) else { return Vec::new() };
        self.slices.remove(&slice.name);
        self.tell(&slice.namespace, &slice.service).into_iter().collect()
    }
}

impl Endpoints {
    fn tell(&mut self, namespace: &str, service: &str) -> Option<Fact> {
        let names = |state: EndpointState| {
            let mut names: Vec<String> = self
                .slices
                .values()
                .filter(|slice| slice.service == service)
                .flat_map(|slice| &slice.endpoints)
                .filter(|endpoint| endpoint.state == state)
                .map(|endpoint| endpoint.name.clone())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        let fact = Fact::Endpoints {
            service: ObjectRef { namespace: namespace.to_owned(), kind: "service".into(), name: service.to_owned() },
            ready: names(EndpointState::Ready),
            not_ready: names(EndpointState::NotReady),
            terminating: names(EndpointState::Terminating),
        };
        if self.told.get(service) == Some(&fact) {
            return None;
        }
        self.told.insert(service.to_owned(), fact.clone());
        Some(fact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, endpoints: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": "web"}}, "endpoints": endpoints})
    }

    #[test]
    fn slices_of_one_service_are_joined_and_states_are_kept_apart() {
        let mut probe = Endpoints::default();
        let endpoint = |pod: &str, conditions: Value| json!({"addresses": ["127.0.0.1"], "conditions": conditions, "targetRef": {"name": pod}});
        probe.listed(vec![slice("web-1", json!([endpoint("a", json!({"ready": true}))]))]);
        let facts = probe.seen(&slice(
            "web-2",
            json!([
                endpoint("b", json!({"ready": false})),
                endpoint("c", json!({"ready": false, "serving": true, "terminating": true}))
            ]),
        ));
        let [Fact::Endpoints { ready, not_ready, terminating, .. }] = &facts[..] else { panic!("{facts:?}") };
        assert_eq!(
            (&ready[..], &not_ready[..], &terminating[..]),
            (&["a".to_owned()][..], &["b".to_owned()][..], &["c".to_owned()][..])
        );
        let facts = probe.gone(&slice("web-1", json!([])));
        let [Fact::Endpoints { ready, .. }] = &facts[..] else { panic!("{facts:?}") };
        assert!(ready.is_empty());
    }
}
