//! Binds pods to nodes as a real scheduler does: of the nodes that may take a pod the one that suits it best. A pod that none may take stays
//! pending, says why in the words of a real scheduler, and is looked at again when something changes that may help it. Nobody is
//! preempted: pods of the sandbox have no priorities.

mod neighbours;
mod requirements;
mod room;
pub mod taints;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use self::neighbours::{Neighbourhood, minds_others};
use self::room::Amounts;
use super::Shared;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, Updates, controller, has_ended, int, is_gated, is_leaving, key, set_condition};
use crate::sandbox::recorder::{Recorder, Severity, Spot};
use crate::sandbox::resource::{NAMESPACES, NODES, PODS};
use crate::sandbox::store::{Change, ChangeKind, StoreError, text};

/// Pods that name another scheduler wait for that one.
const NAME: &str = "default-scheduler";
/// The label that says which zone a node lies in.
pub const ZONE: &str = "topology.kubernetes.io/zone";

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, NAME, Spot::Process(format!("{NAME}-{}", super::NODE)));
    let mut scheduler = Scheduler { shared: &shared, recorder, waiting: BTreeMap::new(), seen: 0 };
    let (mut pods, mut nodes) = (Feed::new(&shared.store, &PODS), Feed::new(&shared.store, &NODES));
    let mut namespaces = Feed::new(&shared.store, &NAMESPACES);
    loop {
        let mut due = BTreeSet::new();
        tokio::select! {
            batch = pods.batch() => batch.into_iter().for_each(|news| scheduler.hear_of_pod(news, &mut due)),
            batch = nodes.batch() => {
                if batch.iter().any(helps) {
                    due.extend(scheduler.waiting.keys().cloned());
                }
            }
            batch = namespaces.batch() => {
                // Terms of affinity choose namespaces by their labels. A new one has no pods yet that were chosen.
                if batch.iter().any(|news| matches!(news, News::StartsOver) || is_relabelling(news)) {
                    due.extend(scheduler.waiting.keys().cloned());
                }
            }
        }
        scheduler.place(due);
    }
}

/// Whether a node's change may make room: not one of its status alone that leaves what it has.
fn helps(news: &News) -> bool {
    let told = |node: &Value| {
        (node["spec"].clone(), node["metadata"]["labels"].clone(), node["status"]["allocatable"].clone(), taints::is_ready(node))
    };
    match news {
        News::Changed(change) => {
            change.previous.as_deref().map(told) != Some(told(&change.object)) || change.kind == ChangeKind::Deleted
        }
        News::StartsOver => true,
    }
}

/// Whether an object that was there before has other labels now.
fn is_relabelling(news: &News) -> bool {
    let News::Changed(Change { object, previous, .. }) = news else { return false };
    previous.as_ref().is_some_and(|before| before["metadata"]["labels"] != object["metadata"]["labels"])
}

struct Scheduler<'a> {
    shared: &'a Shared,
    recorder: Recorder,
    /// Pods without a node, by when they came: first come, first served.
    waiting: BTreeMap<Key, u64>,
    seen: u64,
}

/// A node and who is on it.
pub struct Place {
    pub node: Arc<Value>,
    pub pods: Vec<Arc<Value>>,
    has: Amounts,
    used: Amounts,
}

/// Why a node may not take a pod.
struct Refusal {
    reasons: Vec<String>,
    /// Whether it might if others were not there.
    is_taken: bool,
}

impl Refusal {
    /// Nothing that runs there stands in the way: the node itself does.
    fn of_node(reason: &str) -> Refusal {
        Refusal { reasons: vec![reason.to_owned()], is_taken: false }
    }

    fn of_others(reason: &str) -> Refusal {
        Refusal { reasons: vec![reason.to_owned()], is_taken: true }
    }
}

impl Place {
    fn of(node: Arc<Value>) -> Place {
        Place { has: room::allocatable(&node), node, pods: vec![], used: Amounts::new() }
    }

    fn take(&mut self, pod: Arc<Value>) {
        room::add(&mut self.used, &room::asked(&pod));
        self.pods.push(pod);
    }
}

impl Scheduler<'_> {
    /// Notes what a pod's change means: it waits, or no longer, or makes others worth another look.
    fn hear_of_pod(&mut self, news: News, due: &mut BTreeSet<Key>) {
        let relabelled = is_relabelling(&news);
        let News::Changed(Change { kind, object, previous, .. }) = news else {
            self.waiting.clear();
            return;
        };
        let at = key(&object);
        if kind != ChangeKind::Deleted && waits(&object) {
            self.seen += 1;
            let seen = self.seen;
            self.waiting.entry(at.clone()).or_insert(seen);
            // What the scheduler itself has written is no news to it.
            let asks = |pod: &Value| (pod["spec"].clone(), pod["metadata"]["labels"].clone(), pod["metadata"]["uid"].clone());
            if previous.as_deref().map(asks) != Some(asks(&object)) {
                due.insert(at);
            }
            return;
        }
        self.waiting.remove(&at);
        let ran = previous.as_deref().is_some_and(|pod| is_bound(pod) && !has_ended(pod));
        let runs = kind != ChangeKind::Deleted && is_bound(&object) && !has_ended(&object);
        if ran && (!runs || relabelled) {
            // Who kept away from it, or was kept away by it, may not have to any more.
            due.extend(self.waiting.keys().cloned());
        } else if runs && !ran {
            let minds = |(ns, name): &&Key| self.shared.store.get(&PODS, ns, name).is_some_and(|pod| minds_others(&pod));
            due.extend(self.waiting.keys().filter(minds).cloned());
        }
    }

    /// Finds a node for each of these pods, the most urgent and then the first come first.
    fn place(&mut self, due: BTreeSet<Key>) {
        let store = &self.shared.store;
        let mut pods: Vec<Arc<Value>> =
            due.iter().filter_map(|(ns, name)| store.get(&PODS, ns, name)).filter(|pod| waits(pod)).collect();
        if pods.is_empty() {
            return;
        }
        pods.sort_by_key(|pod| (Reverse(int(&pod["spec"]["priority"], 0)), self.waiting.get(&key(pod)).copied()));
        let mut places = self.places();
        let namespaces = store.list(&NAMESPACES, None).0;
        for pod in pods {
            let neighbourhood = Neighbourhood { places: &places, namespaces: &namespaces };
            let looks: Vec<Result<usize, Refusal>> =
                (0..places.len()).map(|i| refusal(&pod, &places[i], &neighbourhood).map_or(Ok(i), Err)).collect();
            let may: Vec<usize> = looks.iter().filter_map(|look| look.as_ref().ok().copied()).collect();
            match may.into_iter().min_by_key(|i| misfit(&pod, &places[*i], &places)) {
                Some(i) => {
                    if let Some(bound) = self.bind(&pod, text(&places[i].node, "name")) {
                        places[i].take(bound);
                    }
                }
                None => {
                    let refusals: Vec<&Refusal> = looks.iter().filter_map(|look| look.as_ref().err()).collect();
                    self.leave_pending(&pod, &told(&pod, &refusals));
                }
            }
        }
    }

    /// All nodes with what is on them.
    fn places(&self) -> Vec<Place> {
        let store = &self.shared.store;
        let mut places: Vec<Place> = store.list(&NODES, None).0.into_iter().map(Place::of).collect();
        for pod in store.list(&PODS, None).0.into_iter().filter(|pod| is_bound(pod) && !has_ended(pod)) {
            if let Some(place) = places.iter_mut().find(|place| pod["spec"]["nodeName"] == place.node["metadata"]["name"]) {
                place.take(pod);
            }
        }
        places
    }

    fn bind(&self, pod: &Value, node: &str) -> Option<Arc<Value>> {
        let (ns, name) = key(pod);
        let bound = self.change(pod, |pod| {
            pod["spec"]["nodeName"] = json!(node);
            set_condition(pod, json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null}), Updates::No);
        })?;
        let message = format!("Successfully assigned {ns}/{name} to {node}");
        self.recorder.observe(pod, Severity::Normal, "Scheduled", &message, "Binding");
        Some(bound)
    }

    fn leave_pending(&self, pod: &Value, why: &str) {
        let condition = json!({"type": "PodScheduled", "observedGeneration": pod["metadata"]["generation"], "status": "False",
            "lastProbeTime": null, "lastTransitionTime": null, "reason": "Unschedulable", "message": why});
        if self.change(pod, |pod| set_condition(pod, condition, Updates::No)).is_some() {
            self.recorder.observe(pod, Severity::Warning, "FailedScheduling", why, "Scheduling");
        }
    }

    /// Changes this very pod, unless it went or was placed meanwhile.
    fn change(&self, pod: &Value, change: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let (ns, name) = key(pod);
        let changed = self.shared.store.update(&PODS, &ns, &name, |present| {
            if present["metadata"]["uid"] != pod["metadata"]["uid"] || !waits(present) {
                return Err(StoreError::Refused("it needs no node any more".into()));
            }
            change(present);
            Ok(())
        });
        changed.ok()
    }
}

fn waits(pod: &Value) -> bool {
    !is_bound(pod) && !is_leaving(pod) && !has_ended(pod) && !is_gated(pod) && pod["spec"]["schedulerName"] == NAME
}

fn is_bound(pod: &Value) -> bool {
    pod["spec"].get("nodeName").and_then(Value::as_str).is_some_and(|node| !node.is_empty())
}

/// Why a node may not take a pod: the first reason, in the order in which a real scheduler asks.
fn refusal(pod: &Value, place: &Place, neighbourhood: &Neighbourhood<'_>) -> Option<Refusal> {
    let node = &place.node;
    if node["spec"]["unschedulable"] == true && !taints::tolerates(pod, taints::UNSCHEDULABLE, "", "NoSchedule") {
        return Some(Refusal::of_node("node(s) were unschedulable"));
    }
    let untolerated = taints::untolerated(pod, node, &["NoSchedule", "NoExecute"]).next().is_some();
    if untolerated || !taints::is_ready(node) {
        return Some(Refusal::of_node("node(s) had untolerated taint(s)"));
    }
    if !requirements::chooses(pod, node) {
        return Some(Refusal::of_node("node(s) didn't match Pod's node affinity/selector"));
    }
    let (reasons, enough_when_empty) = room::lacks(&room::asked(pod), &place.has, &place.used, place.pods.len());
    if !reasons.is_empty() {
        return Some(Refusal { reasons, is_taken: enough_when_empty });
    }
    match neighbourhood.refusal(pod, place) {
        Some(reason @ (neighbours::NO_LABEL | neighbours::NO_FRIEND)) => Some(Refusal::of_node(reason)),
        Some(reason) => Some(Refusal::of_others(reason)),
        None => None,
    }
}

/// How badly a node suits a pod, among those that may take it: taints that it had rather not have, what it prefers, others like it in the same
/// zone and on the same node, and how full it is.
fn misfit(pod: &Value, place: &Place, places: &[Place]) -> impl Ord {
    let owner = controller(pod).map(|owner| &owner["uid"]);
    let alike = |place: &Place| {
        let same =
            |other: &&Arc<Value>| owner.is_some() && controller(other).map(|owner| &owner["uid"]) == owner && !is_leaving(other);
        place.pods.iter().filter(same).count()
    };
    let zone = |place: &Place| place.node["metadata"]["labels"].get(ZONE).cloned();
    let in_zone: usize = places.iter().filter(|other| zone(other) == zone(place)).map(alike).sum();
    (
        taints::untolerated(pod, &place.node, &["PreferNoSchedule"]).count(),
        Reverse(requirements::preference(pod, &place.node)),
        in_zone,
        alike(place),
        Reverse(room::share_left(&room::asked(pod), &place.has, &place.used)),
        place.pods.len(),
    )
}

/// The refusals of all nodes in one sentence, as a real scheduler words it, with what it says of preemption and of claims.
fn told(pod: &Value, refusals: &[&Refusal]) -> String {
    let all = refusals.len();
    if all == 0 {
        return "no nodes available to schedule pods".into();
    }
    let counted = |reasons: &mut dyn Iterator<Item = &str>| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
        let mut lines: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        lines.sort();
        lines.join(", ")
    };
    let why = counted(&mut refusals.iter().flat_map(|refusal| refusal.reasons.iter().map(String::as_str)));
    let preemption = if pod["spec"]["preemptionPolicy"] == "Never" {
        "not eligible due to preemptionPolicy=Never.".to_owned()
    } else {
        let word = |refusal: &&Refusal| match refusal.is_taken {
            true => "No preemption victims found for incoming pod",
            false => "Preemption is not helpful for scheduling",
        };
        format!("0/{all} nodes are available: {}.", counted(&mut refusals.iter().map(word)))
    };
    format!("0/{all} nodes are available: {why}. no new claims to deallocate, preemption: {preemption}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_and_told_as_a_real_scheduler_tells_them() {
        let node = Refusal::of_node("node(s) had untolerated taint(s)");
        let full = Refusal { reasons: vec!["Insufficient cpu".into(), "Insufficient memory".into()], is_taken: true };
        let small = Refusal { reasons: vec!["Insufficient cpu".into()], is_taken: false };
        let check = |refusals: &[&Refusal], expected: &str| assert_eq!(told(&json!({"spec": {}}), refusals), expected);
        check(&[], "no nodes available to schedule pods");
        // Recorded.
        check(
            &[&small],
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption \
             is not helpful for scheduling.",
        );
        check(
            &[&node, &full, &small],
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to \
             deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful \
             for scheduling.",
        );
        let proud = json!({"spec": {"preemptionPolicy": "Never"}});
        assert!(told(&proud, &[&full]).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
    }
}
