//! Deployments and whatever else the plan names as a workload: replicas asked for, there, and ready; conditions when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Changes, Names, Probe, place};
use crate::cluster::Workload;
use crate::cluster::discovery::Resource;
use crate::cluster::workload::Condition;
use crate::names::ObjectRef;
use crate::recording::fact::Fact;
use crate::recording::metric::{DESIRED_REPLICAS, EXISTS, READY_REPLICAS, REPLICAS};

/// The workloads of one kind in one namespace.
pub(super) struct Workloads {
    resource: Resource,
    namespace: String,
    names: Arc<Names>,
    known: BTreeSet<ObjectRef>,
    readings: Changes,
    conditions: Conditions,
}

impl Workloads {
    pub(super) fn new(resource: Resource, namespace: &str, names: Arc<Names>) -> Workloads {
        Workloads {
            resource,
            namespace: namespace.to_owned(),
            names,
            known: BTreeSet::new(),
            readings: Changes::default(),
            conditions: Conditions::default(),
        }
    }

    fn absent(&mut self, object: &ObjectRef) -> Vec<Fact> {
        self.known.remove(object);
        let zero = [EXISTS, READY_REPLICAS, REPLICAS, DESIRED_REPLICAS];
        zero.iter().filter_map(|metric| self.readings.reading(object, metric, 0.0)).collect()
    }
}

impl Probe for Workloads {
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact> {
        let before = std::mem::take(&mut self.known);
        let mut facts: Vec<Fact> = objects.iter().flat_map(|object| self.seen(object)).collect();
        let wanted = self.names.wanted(&self.resource, &self.namespace);
        for missing in before.into_iter().chain(wanted).collect::<BTreeSet<_>>() {
            if !self.known.contains(&missing) {
                facts.extend(self.absent(&missing));
            }
        }
        facts
    }

    fn seen(&mut self, value: &Value) -> Vec<Fact> {
        let Some((namespace, name)) = place(value) else { return Vec::new() };
        let object = self.names.of(&self.resource, namespace, name);
        let Some(workload) = Workload::read(&object, value) else { return Vec::new() };
        self.known.insert(object.clone());
        let readings = [
            (EXISTS, 1.0),
            (DESIRED_REPLICAS, f64::from(workload.wanted)),
            (REPLICAS, f64::from(workload.replicas)),
            (READY_REPLICAS, f64::from(workload.ready)),
        ];
        let mut facts: Vec<Fact> =
            readings.iter().filter_map(|(metric, value)| self.readings.reading(&object, metric, *value)).collect();
        facts.extend(self.conditions.changed(&object, workload.conditions));
        facts
    }

    fn gone(&mut self, value: &Value) -> Vec<Fact> {
        let Some((namespace, name)) = place(value) else { return Vec::new() };
        let object = self.names.of(&self.resource, namespace, name);
        self.absent(&object)
    }
}

/// Conditions as they were last told.
#[derive(Default)]
pub(super) struct Conditions(BTreeMap<(ObjectRef, String), Condition>);

impl Conditions {
    pub(super) fn changed(&mut self, object: &ObjectRef, conditions: Vec<Condition>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for condition in conditions {
            let last = self.0.insert((object.clone(), condition.kind.clone()), condition.clone());
            // A message alone that changes is a counter in words, and would be told many times a second.
            if last.is_none_or(|last| last.status != condition.status || last.reason != condition.reason) {
                facts.push(Fact::Condition {
                    object: object.clone(),
                    condition: condition.kind,
                    status: condition.status,
                    reason: condition.reason,
                    message: condition.message,
                });
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::Reading;
    use serde_json::json;

    fn resource() -> Resource {
        Resource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            singular: "deployment".into(),
            short_names: vec!["deploy".into()],
            namespaced: true,
            subresources: vec![],
        }
    }

    fn deployment(ready: u32) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}, "spec": {"replicas": 3},
            "status": {"replicas": 3, "readyReplicas": ready}})
    }

    #[test]
    fn readings_carry_the_plan_s_own_name_and_are_told_once() {
        let named: ObjectRef = "shop/deploy/web".parse().unwrap();
        let names = Arc::new(Names(vec![(resource(), named.clone())]));
        let mut probe = Workloads::new(resource(), "shop", names);
        let facts = probe.listed(vec![]);
        assert!(
            facts.contains(&Fact::Reading(Reading { object: named.clone(), metric: EXISTS.into(), value: 0.0 })),
            "what the plan names and the cluster has not is said: {facts:?}"
        );
        let facts = probe.seen(&deployment(1));
        assert!(facts.contains(&Fact::Reading(Reading { object: named.clone(), metric: READY_REPLICAS.into(), value: 1.0 })));
        assert!(probe.seen(&deployment(1)).is_empty());
        let facts = probe.seen(&deployment(2));
        assert_eq!(facts, [Fact::Reading(Reading { object: named.clone(), metric: READY_REPLICAS.into(), value: 2.0 })]);
        let facts = probe.gone(&deployment(2));
        assert_eq!(facts.len(), 4, "{facts:?}");
    }

    #[test]
    fn an_object_that_the_plan_calls_by_two_names_is_there_once() {
        let called = |kind: &str| (resource(), format!("shop/{kind}/web").parse().unwrap());
        let names = Arc::new(Names(vec![called("deployment"), called("deploy")]));
        let mut probe = Workloads::new(resource(), "shop", names);
        let facts = probe.listed(vec![deployment(3)]);
        let lost = |fact: &&Fact| matches!(fact, Fact::Reading(reading) if reading.metric == EXISTS && reading.value == 0.0);
        assert_eq!(facts.iter().filter(lost).count(), 0, "{facts:?}");
    }
}
