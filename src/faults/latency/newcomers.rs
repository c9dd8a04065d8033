//! The pods that appear under a delay, sorted: those that are to be asked about, and those that were seen and are done with. A question
//! that the cluster does not answer is asked again; only a pod that stays unknown for long speaks against the fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{SEATS_MAX, can_take};
use crate::cluster::{Error, Pod};

/// How long whose a pod is may stay unknown before that counts: about as long as one call to the cluster may take.
const UNKNOWN_MAX: Duration = Duration::from_secs(10);

/// Who has appeared so far.
pub struct Newcomers {
    /// Pods that have their seat, or had one.
    known: BTreeSet<String>,
    /// Pods of which nothing more is asked: somebody else's, or without a seat.
    passed_by: BTreeSet<String>,
    /// By uid, with the moment of their appearance: whose they are is to be asked. No more than the cluster has of such pods.
    unknown: BTreeMap<String, (Instant, Pod)>,
}

impl Newcomers {
    pub fn beside(known: impl Iterator<Item = String>) -> Newcomers {
        Newcomers { known: known.collect(), passed_by: BTreeSet::new(), unknown: BTreeMap::new() }
    }

    /// A pod as it is now.
    pub fn seen(&mut self, object: &Value, now: Instant) {
        let Some(pod) = Pod::read(object) else { return };
        if !can_take(&pod) {
            self.unknown.remove(&pod.uid);
        } else if !self.known.contains(&pod.uid) && !self.passed_by.contains(&pod.uid) {
            let since = self.unknown.get(&pod.uid).map_or(now, |(since, _)| *since);
            self.unknown.insert(pod.uid.clone(), (since, pod));
        }
    }

    /// All pods that there are.
    pub fn listed(&mut self, objects: &[Value], now: Instant) {
        let there: BTreeSet<String> = objects.iter().filter_map(Pod::read).map(|pod| pod.uid).collect();
        self.unknown.retain(|uid, _| there.contains(uid));
        objects.iter().for_each(|object| self.seen(object, now));
    }

    pub fn gone(&mut self, object: &Value) {
        if let Some(pod) = Pod::read(object) {
            self.unknown.remove(&pod.uid);
        }
    }

    /// The pods to be asked about.
    pub fn unknown(&self) -> Vec<Pod> {
        self.unknown.values().map(|(_, pod)| pod.clone()).collect()
    }

    /// Takes the answer to a question about all that were unknown: which of them are the workload's.
    pub fn are_ours(&mut self, ours: &[Pod]) {
        for uid in std::mem::take(&mut self.unknown).into_keys().filter(|uid| ours.iter().all(|pod| pod.uid != *uid)) {
            self.pass_by(uid);
        }
    }

    /// Takes it that there was no answer. The names of those pods of which this has now to be said.
    pub fn unanswered(&mut self, error: &Error, now: Instant) -> Vec<String> {
        let lost = |since: &Instant| !error.is_passing() || now.duration_since(*since) >= UNKNOWN_MAX;
        let lost: Vec<Pod> = self.unknown.values().filter(|(since, _)| lost(since)).map(|(_, pod)| pod.clone()).collect();
        for pod in &lost {
            self.unknown.remove(&pod.uid);
            self.pass_by(pod.uid.clone());
        }
        lost.iter().map(Pod::label).collect()
    }

    /// Whether there is a seat for a pod; it is its own from now on.
    pub fn seat(&mut self, pod: &Pod) -> bool {
        let free = self.known.len() < SEATS_MAX;
        if free {
            self.known.insert(pod.uid.clone());
        } else {
            self.pass_by(pod.uid.clone());
        }
        free
    }

    fn pass_by(&mut self, uid: String) {
        // Bounded by forgetting: whoever is forgotten is asked about again.
        if self.passed_by.len() >= SEATS_MAX {
            self.passed_by.clear();
        }
        self.passed_by.insert(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str) -> Value {
        json!({"metadata": {"namespace": "s", "name": uid, "uid": uid}, "status": {"phase": "Running", "podIP": "127.16.1.1"}})
    }

    fn away() -> Error {
        Error::TimedOut { what: "GET replicasets".into(), after: Duration::from_secs(10) }
    }

    fn uids(newcomers: &Newcomers) -> Vec<String> {
        newcomers.unknown().into_iter().map(|pod| pod.uid).collect()
    }

    #[test]
    fn a_pod_that_could_not_be_asked_about_is_asked_about_again_and_counts_only_when_it_stays_unknown() {
        let began = Instant::now();
        let mut newcomers = Newcomers::beside(["a".to_owned()].into_iter());
        newcomers.listed(&[pod("a"), pod("b")], began);
        assert!(newcomers.unanswered(&away(), began).is_empty());
        assert_eq!(uids(&newcomers), ["b"], "no further sighting is needed");
        // Another sighting does not begin its time anew.
        newcomers.seen(&pod("b"), began + UNKNOWN_MAX);
        newcomers.seen(&pod("c"), began + UNKNOWN_MAX);
        assert_eq!(newcomers.unanswered(&away(), began + UNKNOWN_MAX), ["s/b"]);
        assert_eq!(uids(&newcomers), ["c"], "said once");
        let forbidden = Error::Forbidden { what: "GET replicasets".into(), why: "no".into() };
        assert_eq!(newcomers.unanswered(&forbidden, began), ["s/c"], "what does not pass is said at once");
    }

    #[test]
    fn a_pod_that_has_gone_is_not_asked_about() {
        let now = Instant::now();
        let mut newcomers = Newcomers::beside(std::iter::empty());
        newcomers.listed(&[pod("a"), pod("b"), pod("c")], now);
        newcomers.gone(&pod("a"));
        let mut leaving = pod("b");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        newcomers.seen(&leaving, now);
        assert_eq!(uids(&newcomers), ["c"]);
        newcomers.listed(&[], now);
        assert!(newcomers.unknown().is_empty());
    }

    #[test]
    fn a_pod_of_somebody_else_is_asked_about_once() {
        let now = Instant::now();
        let mut newcomers = Newcomers::beside(std::iter::empty());
        newcomers.listed(&[pod("ours"), pod("theirs")], now);
        let ours = Pod::read(&pod("ours")).unwrap();
        newcomers.are_ours(std::slice::from_ref(&ours));
        assert!(newcomers.seat(&ours));
        newcomers.listed(&[pod("ours"), pod("theirs")], now);
        assert!(newcomers.unknown().is_empty());
    }
}
