//! What became of each fault.

use super::{History, Seen};
use crate::names::Name;
use crate::recording::fact::{Fact, FaultLine, FaultStep};
use crate::recording::plain::plain;
use crate::time::Offset;

/// A fault as it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSeen {
    pub name: Name,
    /// Empty when the plan's line for it is missing from the recording.
    pub kind: String,
    pub targets: Vec<String>,
    /// Out of how many the targets were chosen.
    pub of: u64,
    pub journalled: Option<Seen>,
    pub injected: Option<Seen>,
    pub effective: Option<Seen>,
    pub healing: Option<Seen>,
    pub healed: Option<Seen>,
    pub evidence: Vec<EvidenceSeen>,
    pub failures: Vec<FailureSeen>,
    /// As it was planned.
    pub planned: Option<FaultLine>,
}

/// One witness of a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceSeen {
    pub seen: Seen,
    pub witness: String,
    pub says: String,
    pub supports: bool,
}

/// A step of a fault that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureSeen {
    pub seen: Seen,
    pub during: String,
    pub reason: String,
}

impl History {
    /// The fault `name`, when it was planned or did anything.
    pub fn fault(&self, name: &Name) -> Option<FaultSeen> {
        let planned = self.started.faults.iter().find(|line| line.name == *name).cloned();
        let mut seen = FaultSeen {
            name: name.clone(),
            kind: planned.as_ref().map(|line| line.kind.clone()).unwrap_or_default(),
            targets: Vec::new(),
            of: 0,
            journalled: None,
            injected: None,
            effective: None,
            healing: None,
            healed: None,
            evidence: Vec::new(),
            failures: Vec::new(),
            planned,
        };
        let mut acted = false;
        for event in &self.events {
            let Fact::Fault { fault, step } = &event.fact else { continue };
            if fault != name {
                continue;
            }
            acted = true;
            let at = (event.n, event.t_ns);
            match step {
                FaultStep::Targeted { targets, of } => {
                    seen.targets
                        .extend(targets.iter().filter(|target| !seen.targets.contains(target)).cloned().collect::<Vec<_>>());
                    seen.of = (*of).max(seen.of);
                }
                FaultStep::Journalled => _ = seen.journalled.get_or_insert(at),
                FaultStep::Injected => _ = seen.injected.get_or_insert(at),
                FaultStep::Evidence { witness, says, supports } => {
                    seen.evidence.push(EvidenceSeen { seen: at, witness: witness.clone(), says: plain(says), supports: *supports })
                }
                FaultStep::Effective => _ = seen.effective.get_or_insert(at),
                FaultStep::Healing => _ = seen.healing.get_or_insert(at),
                FaultStep::Healed => seen.healed = Some(at),
                FaultStep::Failed { during, reason } => {
                    seen.failures.push(FailureSeen { seen: at, during: during.clone(), reason: plain(reason) });
                }
            }
        }
        (acted || seen.planned.is_some()).then_some(seen)
    }

    /// Every planned fault, in the order of the plan.
    pub fn faults(&self) -> Vec<FaultSeen> {
        self.started.faults.iter().filter_map(|line| self.fault(&line.name)).collect()
    }
}

impl FaultSeen {
    /// `: during X, Y` for the first failure, or nothing.
    pub fn why_not(&self) -> String {
        self.failures.first().map(|failure| format!(": during {}, {}", failure.during, failure.reason)).unwrap_or_default()
    }

    /// From its injection until it was proven gone.
    pub fn stretch(&self) -> Option<(Offset, Option<Offset>)> {
        Some((self.injected?.1, self.healed.map(|(_, t)| t)))
    }
}
