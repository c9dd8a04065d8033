//! What was watched: readings of objects, autoscalers, gaps in the view, and the generator itself.

use super::History;
use crate::names::ObjectRef;
use crate::recording::fact::{AutoscalerSpec, Fact, Gap, GeneratorSample, Spacing};
use crate::time::Offset;

impl History {
    /// The readings of `metric` of `object`, in order: event, moment, value.
    pub fn series(&self, object: &ObjectRef, metric: &str) -> Vec<(u64, Offset, f64)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Reading(reading) if reading.metric == metric && same_object(&reading.object, object) => {
                    Some((event.n, event.t_ns, reading.value))
                }
                _ => None,
            })
            .collect()
    }

    /// Every object that has readings of `metric`, once each, in the order of their first.
    pub fn objects_with(&self, metric: &str) -> Vec<ObjectRef> {
        let mut objects: Vec<ObjectRef> = Vec::new();
        for event in &self.events {
            if let Fact::Reading(reading) = &event.fact
                && reading.metric == metric
                && !objects.contains(&reading.object)
            {
                objects.push(reading.object.clone());
            }
        }
        objects
    }

    /// The metrics that `object` has readings of, sorted.
    pub fn metrics_of(&self, object: &ObjectRef) -> Vec<String> {
        let mut metrics: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Reading(reading) if same_object(&reading.object, object) => Some(reading.metric.clone()),
                _ => None,
            })
            .collect();
        metrics.sort();
        metrics.dedup();
        metrics
    }

    /// Gaps that overlap `[from, to)`, with their events.
    pub fn gaps(&self, from: Offset, to: Offset) -> Vec<(u64, &Gap)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Gap(gap) if gap.from < to && gap.to > from => Some((event.n, gap)),
                _ => None,
            })
            .collect()
    }

    /// The live specs of an autoscaler, in the order in which they were seen.
    pub fn autoscaler(&self, object: &ObjectRef) -> Vec<(u64, Offset, &AutoscalerSpec)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Autoscaler(spec) if same_object(&spec.object, object) => Some((event.n, event.t_ns, &**spec)),
                _ => None,
            })
            .collect()
    }

    /// The generator's own samples, with their events.
    pub fn generator(&self) -> impl Iterator<Item = (u64, &GeneratorSample)> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::Generator(sample) => Some((event.n, sample)),
            _ => None,
        })
    }

    /// How requests were spaced, second by second.
    pub fn spacing(&self) -> impl Iterator<Item = &Spacing> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::Spacing(spacing) => Some(&**spacing),
            _ => None,
        })
    }
}

/// Whether two names mean the same object: `hpa` is what the API calls `HorizontalPodAutoscaler`.
pub fn same_object(a: &ObjectRef, b: &ObjectRef) -> bool {
    a.namespace == b.namespace && a.name == b.name && kind_of(&a.kind) == kind_of(&b.kind)
}

/// Who says how many replicas are wanted: the autoscaler, or its workload where that is a ScaledObject, which scales by itself and by way of
/// an autoscaler of its own, so that only the sum of both is seen.
pub fn asker<'a>(autoscaler: &'a ObjectRef, workload: Option<&'a ObjectRef>) -> &'a ObjectRef {
    if is_scaled_object(autoscaler) { workload.unwrap_or(autoscaler) } else { autoscaler }
}

/// Whether it is one of KEDA's.
pub fn is_scaled_object(object: &ObjectRef) -> bool {
    kind_of(&object.kind) == "scaledobject"
}

/// The kind behind a short name or plural, as `kubectl api-resources` lists them, of the kinds that readings are about.
fn kind_of(kind: &str) -> &str {
    match kind {
        "deploy" | "deployments" => "deployment",
        "hpa" | "horizontalpodautoscalers" => "horizontalpodautoscaler",
        "rs" | "replicasets" => "replicaset",
        "sts" | "statefulsets" => "statefulset",
        "ds" | "daemonsets" => "daemonset",
        "po" | "pods" => "pod",
        "svc" | "services" => "service",
        "no" | "nodes" => "node",
        "so" | "scaledobjects" => "scaledobject",
        // Of other kinds the plural: theirs, too, end in an `s`.
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_and_kinds_mean_the_same_object() {
        let a: ObjectRef = "shop/hpa/checkout".parse().expect("an object");
        let b: ObjectRef = "shop/horizontalpodautoscaler/checkout".parse().expect("an object");
        let c: ObjectRef = "shop/deployment/checkout".parse().expect("an object");
        assert!(same_object(&a, &b) && !same_object(&a, &c));
        let scaled: ObjectRef = "shop/so/checkout".parse().expect("an object");
        assert!(same_object(&scaled, &"shop/scaledobject/checkout".parse().expect("an object")));
        assert_eq!([asker(&a, Some(&c)), asker(&scaled, Some(&c)), asker(&scaled, None)], [&a, &c, &scaled]);
        let one: ObjectRef = "shop/rollout/checkout".parse().expect("an object");
        assert!(same_object(&one, &"shop/rollouts/checkout".parse().expect("an object")) && !same_object(&one, &c));
    }
}
