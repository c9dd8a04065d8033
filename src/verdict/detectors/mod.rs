//! What is known to go wrong with Kubernetes under load and faults, looked for when a check has failed: one file for each detector, or for
//! a few that look at the same thing, and one row for each. A detector is a pure function of the recording; it says what it saw, with
//! moments, objects and numbers, and is silent where what it would have to see was not observed.
//!
//! What can be seen without any load is looked for by `squall doctor` (`gotchas/`).

use serde::{Deserialize, Serialize};

use super::certificate::integrity;
use super::{Claim, Finding, Verdict};
use crate::recording::History;
use crate::time::Offset;

mod capped;
mod cold_start;
mod drain;
mod emptied;
mod inactive;
mod keda;
mod leaving;
mod load;
mod memory;
mod partial;
mod pinned;
mod pods;
mod policies;
mod probes;
mod reaction;
mod saturated;
mod scaler;
mod scene;
mod stabilized;
mod startup;
mod stretch;
mod taken_back;
mod tolerance;
mod total;
mod unready;

pub use scene::Scene;

/// How a check that fails looks to whoever asks why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// Requests were not answered as asked.
    Lost,
    /// Requests took too long.
    Slow,
    /// There were too few replicas, or they came too late.
    TooFew,
    /// There were too many replicas, or they went too late.
    TooMany,
    /// The number of replicas went to and fro.
    Restless,
}

/// A row of the table.
pub struct Detector {
    pub name: &'static str,
    /// What it does to people, in one line.
    pub summary: &'static str,
    /// What it can be the cause of.
    pub explains: &'static [Symptom],
    /// `None` where it is not there, or where what would show it was not seen.
    pub look: fn(&Scene) -> Option<Sign>,
}

/// What a detector saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// What happened, to which objects, when, and with which numbers.
    pub says: String,
    /// What to do about it.
    pub fix: String,
    /// Numbers of events that show it.
    pub evidence: Vec<u64>,
}

/// A detector that matches a failed check. Serialised as it stands into `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// Its name in the table.
    pub detector: String,
    pub says: String,
    pub fix: String,
    /// Numbers of the events in the recording that show it, the most telling first; at most eight.
    pub evidence: Vec<u64>,
}

/// The most events that one detector points at.
const EVIDENCE: usize = 8;

/// Why there are too few replicas is why those that there are lose requests, and are slow.
const SHORT: &[Symptom] = &[Symptom::TooFew, Symptom::Slow, Symptom::Lost];
const ANY: &[Symptom] = &[Symptom::TooFew, Symptom::TooMany, Symptom::Restless, Symptom::Slow, Symptom::Lost];

/// Every detector, in the order in which they are told.
pub const ALL: &[Detector] = &[
    Detector {
        name: "metric-missing",
        summary: "the autoscaler cannot read its metric, and stands still",
        explains: &[Symptom::TooFew, Symptom::TooMany, Symptom::Slow, Symptom::Lost],
        look: inactive::metric_missing,
    },
    Detector {
        name: "partial-metrics",
        summary: "one of several metrics cannot be read, and until it can the autoscaler takes nothing away",
        explains: &[Symptom::TooMany],
        look: partial::look,
    },
    Detector {
        name: "two-autoscalers",
        summary: "several autoscalers scale the same pods, and none of them acts",
        explains: ANY,
        look: inactive::ambiguous,
    },
    Detector {
        name: "disabled",
        summary: "the workload stands at zero replicas, which switches its autoscaler off",
        explains: SHORT,
        look: inactive::switched_off,
    },
    Detector {
        name: "unable",
        summary: "the autoscaler cannot act for a reason that it names itself",
        explains: ANY,
        look: inactive::unable,
    },
    Detector {
        name: "capped",
        summary: "the autoscaler wants more replicas than its maximum",
        explains: SHORT,
        look: capped::at_most,
    },
    Detector { name: "no-room", summary: "pods wait for a node that has room for them", explains: SHORT, look: capped::no_room },
    Detector {
        name: "saturated",
        summary: "a CPU at its limit asks for little more at a time, however great the burst is",
        explains: SHORT,
        look: saturated::look,
    },
    Detector {
        name: "slow-metrics",
        summary: "the metric follows the load late: it is read and averaged on its way to the autoscaler",
        explains: SHORT,
        look: reaction::slow_metrics,
    },
    Detector {
        name: "late-decision",
        summary: "the autoscaler sees its metric above the target, is held by nothing, and takes its time",
        explains: SHORT,
        look: reaction::late_decision,
    },
    Detector {
        name: "within-tolerance",
        summary: "the metric is above its target, and so little that the autoscaler does nothing",
        explains: SHORT,
        look: tolerance::look,
    },
    Detector {
        name: "rate-limited",
        summary: "scale-up policies let replicas come more slowly than the metric asks for",
        explains: SHORT,
        look: policies::rate_limited,
    },
    Detector {
        name: "policies-only-limit",
        summary: "scale-up policies allow more than the metric asks for, and that makes nothing faster",
        explains: SHORT,
        look: policies::only_limit,
    },
    Detector {
        name: "value-of-a-total",
        summary: "more replicas do not make a total smaller, so a target for it is never met",
        explains: &[Symptom::TooMany, Symptom::Restless],
        look: total::look,
    },
    Detector {
        name: "startup-cpu",
        summary: "what pods use to start is taken for load",
        explains: &[Symptom::TooMany, Symptom::Restless],
        look: startup::look,
    },
    Detector {
        name: "replicas-owned",
        summary: "somebody beside the autoscaler sets the number of replicas, and takes it back",
        explains: ANY,
        look: taken_back::look,
    },
    Detector {
        name: "unready-holds",
        summary: "pods that are not ready count as busy, so nothing is taken away while there are any",
        explains: &[Symptom::TooMany],
        look: unready::holds,
    },
    Detector {
        name: "none-ready",
        summary: "without a single ready pod there is nothing to multiply, and nothing is added",
        explains: SHORT,
        look: unready::none,
    },
    Detector {
        name: "stabilized",
        summary: "the autoscaler holds the most that it wanted of late before it takes replicas away",
        explains: &[Symptom::TooMany],
        look: stabilized::look,
    },
    Detector {
        name: "keda-cooldown",
        summary: "KEDA's cooldown is for the last replica alone: before that the autoscaler's own window counts",
        explains: &[Symptom::TooMany],
        look: stabilized::keda_cooldown,
    },
    Detector {
        name: "memory-kept",
        summary: "memory that is not given back, rounded up, keeps every replica",
        explains: &[Symptom::TooMany],
        look: memory::look,
    },
    Detector {
        name: "leaving-counted",
        summary: "pods on their way out are counted while a decision is made",
        explains: &[Symptom::TooFew, Symptom::TooMany, Symptom::Restless],
        look: leaving::look,
    },
    Detector {
        name: "keda-not-by-triggers",
        summary: "a ScaledObject is paused, fell back or is not ready, and scales by something else than its triggers",
        explains: ANY,
        look: keda::not_by_its_triggers,
    },
    Detector {
        name: "keda-not-active",
        summary: "none of a ScaledObject's triggers reads as much as would wake the workload",
        explains: SHORT,
        look: keda::not_active,
    },
    Detector {
        name: "keda-to-zero",
        summary: "KEDA takes a workload from many replicas to none in one step",
        explains: SHORT,
        look: keda::to_zero,
    },
    Detector {
        name: "keda-scaler-failed",
        summary: "KEDA cannot ask its source, and what it scales stays or falls back",
        explains: &[Symptom::TooFew, Symptom::TooMany, Symptom::Slow, Symptom::Lost],
        look: keda::scaler_failed,
    },
    Detector {
        name: "emptied-metric",
        summary: "a metric became zero in one reading while the load went on, and replicas went with it",
        explains: SHORT,
        look: emptied::look,
    },
    Detector {
        name: "cold-start",
        summary: "requests came while there was no replica, and were lost until the first was ready",
        explains: &[Symptom::Lost, Symptom::TooFew],
        look: cold_start::look,
    },
    Detector {
        name: "no-drain",
        summary: "requests still come to pods that have been told to go, and break there",
        explains: &[Symptom::Lost],
        look: drain::look,
    },
    Detector {
        name: "failing-probes",
        summary: "probes fail or pods restart under a load that did not rise, and the rest carry more",
        explains: SHORT,
        look: probes::look,
    },
    Detector {
        name: "pinned",
        summary: "connections that are kept do not find new pods",
        explains: &[Symptom::Slow, Symptom::Lost],
        look: pinned::look,
    },
];

/// Adds to each failed finding of `claim` what explains it.
pub(super) fn explain(claim: &Claim, history: &History, mut findings: Vec<Finding>) -> Vec<Finding> {
    let failed = |finding: &&mut Finding| finding.verdict == Verdict::Fail;
    for finding in findings.iter_mut().filter(failed) {
        let check = finding.name.rsplit('.').next().unwrap_or_default();
        let symptoms = claim.spec.symptoms(check);
        let [from, to] = finding.window_s.map(Offset::from_secs_f64);
        let scene = Scene::of(history, &claim.spec.objects(), from, to);
        finding.detected = detect(&scene, symptoms);
    }
    findings
}

/// What is seen in a scene that can be the cause of any of these symptoms; of whatever there is, where they are none. Nothing, where the
/// recording itself is not whole.
fn detect(scene: &Scene, symptoms: &[Symptom]) -> Vec<Detected> {
    if !integrity(scene.history).is_empty() {
        return Vec::new();
    }
    let explains = |detector: &&Detector| symptoms.is_empty() || detector.explains.iter().any(|s| symptoms.contains(s));
    let told = |detector: &Detector| {
        let sign = (detector.look)(scene)?;
        Some(Detected {
            detector: detector.name.to_owned(),
            says: sign.says,
            fix: sign.fix,
            evidence: sign.evidence.into_iter().take(EVIDENCE).collect(),
        })
    };
    ALL.iter().filter(explains).filter_map(told).collect()
}

impl Sign {
    fn of(says: String, fix: impl Into<String>) -> Sign {
        Sign { says, fix: fix.into(), evidence: Vec::new() }
    }

    /// Points at these events, each once.
    fn shown_by(mut self, events: impl IntoIterator<Item = u64>) -> Sign {
        for n in events {
            if !self.evidence.contains(&n) {
                self.evidence.push(n);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_detector_has_a_name_of_its_own_and_something_to_explain() {
        assert_eq!(ALL.iter().map(|detector| detector.name).collect::<BTreeSet<_>>().len(), ALL.len());
        for detector in ALL {
            assert!(!detector.explains.is_empty(), "{}", detector.name);
            assert!(!detector.summary.ends_with('.') && detector.summary.len() > 20, "{}", detector.name);
        }
    }
}
