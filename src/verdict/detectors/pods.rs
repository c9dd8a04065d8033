//! The pods of a scene's workload, each with what was seen of it.

use std::collections::BTreeMap;

use super::Scene;
use crate::names::ObjectRef;
use crate::recording::fact::{Fact, PodSeen};
use crate::time::Offset;
use crate::verdict::level::hidden;
use crate::verdict::pods::belongs;

/// What was seen of one pod until the end of the window, the first time before it included.
pub struct Life<'a> {
    /// Event, moment and state, in order; never empty.
    pub sights: Vec<(u64, Offset, &'a PodSeen)>,
}

impl<'a> Scene<'a> {
    /// The pods of the workload, in the order in which they were first seen; `None` where pods were not watched throughout.
    pub(super) fn pods(&self) -> Option<Vec<Life<'a>>> {
        let workload = self.workload()?;
        let any = ObjectRef { namespace: workload.namespace.clone(), kind: "pod".to_owned(), name: String::new() };
        if self.from >= self.to || hidden(self.history, &[&any], self.from, self.to).is_some() {
            return None;
        }
        let mut order: BTreeMap<&str, usize> = BTreeMap::new();
        let mut lives: Vec<Life> = Vec::new();
        for event in self.history.events.iter().filter(|event| event.t_ns < self.to) {
            let Fact::Pod(pod) = &event.fact else { continue };
            if !belongs(&pod.namespace, &pod.name, workload) {
                continue;
            }
            let index = *order.entry(&pod.uid).or_insert_with(|| {
                lives.push(Life { sights: Vec::new() });
                lives.len() - 1
            });
            lives[index].sights.push((event.n, event.t_ns, pod));
        }
        // None at all is what is seen where nobody looks, too.
        (!lives.is_empty()).then_some(lives)
    }
}

impl<'a> Life<'a> {
    /// As it was seen last.
    pub fn last(&self) -> &'a PodSeen {
        self.sights.last().expect("a life has a sight").2
    }

    /// `shop/checkout-abc`.
    pub fn label(&self) -> String {
        let pod = self.last();
        format!("{}/{}", pod.namespace, pod.name)
    }

    /// As it was at `t`.
    pub fn at(&self, t: Offset) -> Option<&'a PodSeen> {
        let after = self.sights.partition_point(|(_, seen, _)| *seen <= t);
        self.sights.get(after.checked_sub(1)?).map(|(_, _, pod)| *pod)
    }

    /// The first time that it was seen to be so, at `from` or after it.
    pub fn first(&self, from: Offset, is_so: impl Fn(&PodSeen) -> bool) -> Option<(u64, Offset)> {
        self.sights.iter().find(|(_, t, pod)| *t >= from && is_so(pod)).map(|(n, t, _)| (*n, *t))
    }

    /// When it was first seen, where it was not ready then: it is younger than that moment, give or take a look.
    pub fn born(&self) -> Option<(u64, Offset)> {
        let (n, t, pod) = self.sights[0];
        (!pod.ready && !pod.terminating && !pod.gone).then_some((n, t))
    }

    /// When it became ready after it was born.
    pub fn ready(&self) -> Option<(u64, Offset)> {
        self.born()?;
        self.first(Offset::from_nanos(i64::MIN), |pod| pod.ready)
    }

    /// Whether it was ready and stayed from `from` until `to`.
    pub fn serves(&self, from: Offset, to: Offset) -> bool {
        let serves = |pod: &PodSeen| pod.ready && !pod.terminating && !pod.gone;
        self.at(from).is_some_and(serves)
            && self.sights.iter().filter(|(_, t, _)| *t > from && *t < to).all(|(_, _, pod)| serves(pod))
    }
}
