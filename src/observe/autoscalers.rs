//! Autoscalers: the live spec, what each asks for and reads, and its conditions. A ScaledObject says of the last only its conditions: what
//! comes of it is its workload's replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::workloads::Conditions;
use super::{Changes, Names, Probe, place};
use crate::cluster::autoscaler::{self, AutoscalerStatus};
use crate::cluster::discovery::Resource;
use crate::cluster::scaled_object;
use crate::names::ObjectRef;
use crate::recording::fact::{AutoscalerSpec, Fact};
use crate::recording::metric::{CURRENT_REPLICAS, DESIRED_REPLICAS, EXISTS};

/// The autoscalers of one namespace.
pub(super) struct Autoscalers {
    resource: Resource,
    namespace: String,
    names: Arc<Names>,
    /// Kinds that may be scaled, to call the scaled object as the plan does.
    workloads: Vec<Resource>,
    known: BTreeSet<ObjectRef>,
    specs: BTreeMap<ObjectRef, AutoscalerSpec>,
    readings: Changes,
    conditions: Conditions,
}

impl Autoscalers {
    pub(super) fn new(resource: Resource, namespace: &str, names: Arc<Names>, workloads: &[Resource]) -> Autoscalers {
        Autoscalers {
            resource,
            namespace: namespace.to_owned(),
            names,
            workloads: workloads.to_vec(),
            known: BTreeSet::new(),
            specs: BTreeMap::new(),
            readings: Changes::default(),
            conditions: Conditions::default(),
        }
    }
}

impl Probe for Autoscalers {
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact> {
        let before = std::mem::take(&mut self.known);
        let mut facts: Vec<Fact> = objects.iter().flat_map(|object| self.seen(object)).collect();
        let wanted = self.names.wanted(&self.resource, &self.namespace);
        for missing in before.into_iter().chain(wanted).collect::<BTreeSet<_>>() {
            if !self.known.contains(&missing) {
                facts.extend(self.readings.reading(&missing, EXISTS, 0.0));
            }
        }
        facts
    }

    fn seen(&mut self, value: &Value) -> Vec<Fact> {
        let Some((namespace, name)) = place(value) else { return Vec::new() };
        let object = self.names.of(&self.resource, namespace, name);
        self.known.insert(object.clone());
        let mut facts: Vec<Fact> = self.readings.reading(&object, EXISTS, 1.0).into_iter().collect();
        let event_driven = scaled_object::is(&self.resource);
        let mut spec = if event_driven { scaled_object::spec(&object, value) } else { autoscaler::spec(&object, value) };
        if let Some(kind) = self.workloads.iter().find(|kind| kind.singular == spec.scales.kind) {
            spec.scales = self.names.of(kind, namespace, &spec.scales.name);
        }
        if self.specs.get(&object) != Some(&spec) {
            self.specs.insert(object.clone(), spec.clone());
            facts.push(Fact::Autoscaler(Box::new(spec)));
        }
        let status = AutoscalerStatus::read(value);
        // Before its controller has looked, its zeroes are no wish for zero.
        if !event_driven && (!status.conditions.is_empty() || status.desired_replicas > 0) {
            facts.extend(self.readings.reading(&object, CURRENT_REPLICAS, f64::from(status.current_replicas)));
            facts.extend(self.readings.reading(&object, DESIRED_REPLICAS, f64::from(status.desired_replicas)));
        }
        for (metric, value) in &status.metrics {
            facts.extend(self.readings.reading(&object, metric, *value));
        }
        facts.extend(self.conditions.changed(&object, status.conditions));
        facts
    }

    fn gone(&mut self, value: &Value) -> Vec<Fact> {
        let Some((namespace, name)) = place(value) else { return Vec::new() };
        let object = self.names.of(&self.resource, namespace, name);
        self.known.remove(&object);
        self.specs.remove(&object);
        self.readings.reading(&object, EXISTS, 0.0).into_iter().collect()
    }
}
