//! What a detector may look at: the recording within the window of the failed finding, and of that only what was really watched. Each
//! question is answered with `None` where a gap, or a beginning that came too late, leaves it open.

use super::scaler::Scaler;
use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::{AutoscalerSpec, Fact};
use crate::recording::history::{is_scaled_object, same_object};
use crate::recording::metric::{DESIRED_REPLICAS, READY_REPLICAS, REPLICAS};
use crate::time::Offset;
use crate::verdict::level::{Step, hidden, steps};

/// A window of a recording, and the workload and autoscaler that it is about.
pub struct Scene<'a> {
    pub(super) history: &'a History,
    pub(super) from: Offset,
    pub(super) to: Offset,
    workload: Option<ObjectRef>,
    /// The autoscaler's specs that held in the window, with the event and moment of each.
    specs: Vec<(u64, Offset, &'a AutoscalerSpec)>,
}

/// An event that the cluster itself wrote.
pub(super) struct Told<'a> {
    pub n: u64,
    pub t: Offset,
    pub reason: &'a str,
    pub message: &'a str,
    pub count: u32,
}

impl<'a> Scene<'a> {
    /// The stretch `[from, to)` of `history`; about the autoscaler or workload among the objects that a claim names, and where it names
    /// none about the target's.
    pub fn of(history: &'a History, named: &[ObjectRef], from: Offset, to: Offset) -> Scene<'a> {
        let target = [&history.started.autoscaler, &history.started.workload].into_iter().flatten();
        // A pod is one of many: what it is about is the workload.
        let named: Vec<&ObjectRef> = named.iter().filter(|object| !matches!(object.kind.as_str(), "pod" | "pods" | "po")).collect();
        let candidates = if named.is_empty() { target.collect() } else { named };
        let autoscaler = candidates.iter().find_map(|object| autoscaler_of(history, object));
        let mut specs = autoscaler.map(|object| history.autoscaler(object)).unwrap_or_default();
        specs.retain(|(_, t, _)| *t < to);
        let before = specs.iter().rposition(|(_, t, _)| *t <= from).unwrap_or(0);
        specs.drain(..before);
        // Without an autoscaler it is whatever is no autoscaler.
        let scaled = specs.last().map(|(_, _, spec)| spec.scales.clone());
        let is_autoscaler =
            |object: &ObjectRef| history.started.autoscaler.as_ref().is_some_and(|autoscaler| same_object(object, autoscaler));
        let workload = scaled.or_else(|| candidates.into_iter().find(|object| !is_autoscaler(object)).cloned());
        Scene { history, from, to, workload, specs }
    }

    /// The autoscaler, where it was watched throughout and nobody changed it meanwhile.
    pub(super) fn scaler(&self) -> Option<Scaler<'a>> {
        let [(seen, _, spec)] = self.specs[..] else { return None };
        let wanted = self.watched(&spec.object, DESIRED_REPLICAS)?;
        Some(Scaler::of(self, seen, spec, wanted))
    }

    /// The ScaledObject that scales the workload, where one does and was watched.
    pub(super) fn scaled_object(&self) -> Option<&'a ObjectRef> {
        let workload = self.workload()?;
        let spec = specs(self.history).find(|spec| is_scaled_object(&spec.object) && same_object(&spec.scales, workload))?;
        hidden(self.history, &[&spec.object], self.from, self.to).is_none().then_some(&spec.object)
    }

    /// The workload's name.
    pub(super) fn workload(&self) -> Option<&ObjectRef> {
        self.workload.as_ref()
    }

    /// How many of its pods were ready.
    pub(super) fn ready(&self) -> Option<Vec<Step>> {
        self.watched(self.workload()?, READY_REPLICAS)
    }

    /// How many pods it had, ready or not.
    pub(super) fn size(&self) -> Option<Vec<Step>> {
        self.watched(self.workload()?, REPLICAS)
    }

    /// How many pods it was asked for, by whomever.
    pub(super) fn asked(&self) -> Option<Vec<Step>> {
        self.watched(self.workload()?, DESIRED_REPLICAS)
    }

    /// What the cluster wrote in the window about objects that `concerns` knows.
    pub(super) fn events(&self, concerns: impl Fn(&ObjectRef) -> bool) -> Vec<Told<'a>> {
        let told = |event: &'a crate::recording::Event| match &event.fact {
            Fact::ClusterEvent { object, reason, message, count, .. } if concerns(object) => {
                Some(Told { n: event.n, t: event.t_ns, reason, message, count: *count })
            }
            _ => None,
        };
        self.history.events.iter().filter(|event| event.t_ns >= self.from && event.t_ns < self.to).filter_map(told).collect()
    }

    /// A series that is known from the window's first moment on, of an object that was watched throughout.
    fn watched(&self, object: &ObjectRef, metric: &str) -> Option<Vec<Step>> {
        if self.from >= self.to || hidden(self.history, &[object], self.from, self.to).is_some() {
            return None;
        }
        let steps = steps(&self.history.series(object, metric), self.from, self.to);
        steps.first().filter(|first| first.from == self.from)?;
        Some(steps)
    }
}

/// The autoscaler that an object is, or by which it is scaled. That of a ScaledObject is the one that it has made: it counts replicas.
fn autoscaler_of<'a>(history: &'a History, object: &ObjectRef) -> Option<&'a ObjectRef> {
    let is_it = |spec: &&AutoscalerSpec| same_object(&spec.object, object) || same_object(&spec.scales, object);
    let found = specs(history).find(is_it)?;
    if !is_scaled_object(&found.object) {
        return Some(&found.object);
    }
    let made = specs(history).find(|spec| same_object(&spec.scales, &found.scales) && !is_scaled_object(&spec.object));
    Some(&made.unwrap_or(found).object)
}

fn specs(history: &History) -> impl Iterator<Item = &AutoscalerSpec> {
    history.events.iter().filter_map(|event| match &event.fact {
        Fact::Autoscaler(spec) => Some(&**spec),
        _ => None,
    })
}
