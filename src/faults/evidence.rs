//! Evidence that a fault took effect. Witnesses tell what they saw; when two of different kinds agree, the fault is effective. What
//! nobody witnesses is not effective, and every assertion on it is inconclusive.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::names::Name;
use crate::recording::Sink;
use crate::recording::fact::{Fact, FaultStep};

/// Who saw it. Two of different kinds are needed, since each can be wrong in its own way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Witness {
    /// What does the damage: its counters, a pod's uid gone.
    Mechanism,
    /// What is damaged: a probe next to it, its endpoints.
    Victim,
}

/// How many kinds of witnesses must agree.
const WITNESSES_NEEDED: usize = 2;
/// Statements that are kept per fault; a bound, since pods come and go for as long as a run lasts. Several for each pod that one
/// fault can follow, so that none that matters is lost.
const STATEMENTS_MAX: usize = 1024;

impl Witness {
    fn as_str(self) -> &'static str {
        match self {
            Witness::Mechanism => "mechanism",
            Witness::Victim => "victim",
        }
    }
}

/// Where witnesses speak. Cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    fault: Name,
    sink: Sink,
    hearing: Arc<Mutex<Hearing>>,
    effective: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct Hearing {
    stage: Stage,
    pending: Vec<(Witness, String, bool)>,
    agree: BTreeSet<Witness>,
    told: usize,
    /// Statements beyond the bound.
    lost: u64,
}

#[derive(Default, PartialEq)]
enum Stage {
    /// The fault is not applied yet: what is told is kept for then.
    #[default]
    Early,
    Open,
    /// Healing has begun: what is seen now proves nothing about the effect.
    Closed,
}

impl Evidence {
    pub fn new(fault: Name, sink: Sink) -> Evidence {
        Evidence { fault, sink, hearing: Arc::default(), effective: Arc::new(watch::channel(false).0) }
    }

    /// A witness saw the effect.
    pub fn supports(&self, witness: Witness, says: impl Into<String>) {
        self.tell(witness, says.into(), true);
    }

    /// A witness looked and saw something else.
    pub fn contradicts(&self, witness: Witness, says: impl Into<String>) {
        self.tell(witness, says.into(), false);
    }

    /// The fault has been applied: from here on evidence counts.
    pub fn open(&self) {
        let pending = {
            let mut hearing = self.hearing.lock().expect("nobody panics while holding the evidence");
            hearing.stage = Stage::Open;
            std::mem::take(&mut hearing.pending)
        };
        for (witness, says, supports) in pending {
            self.tell(witness, says, supports);
        }
    }

    /// Healing begins.
    pub fn close(&self) {
        let mut hearing = self.hearing.lock().expect("nobody panics while holding the evidence");
        hearing.stage = Stage::Closed;
        if hearing.lost > 0 {
            let what = format!("statements about fault {}", self.fault);
            self.sink.emit(Fact::Bound { what, limit: STATEMENTS_MAX as u64, lost: hearing.lost });
        }
    }

    /// Resolves when the fault is proven effective.
    pub async fn effective(&self) {
        let mut effective = self.effective.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = effective.wait_for(|yes| *yes).await;
    }

    /// Whether it is proven effective by now.
    pub fn is_effective(&self) -> bool {
        *self.effective.borrow()
    }

    fn tell(&self, witness: Witness, says: String, supports: bool) {
        let mut hearing = self.hearing.lock().expect("nobody panics while holding the evidence");
        match hearing.stage {
            Stage::Early if hearing.pending.len() < STATEMENTS_MAX => hearing.pending.push((witness, says, supports)),
            Stage::Early => hearing.lost += 1,
            // What speaks against the effect may be known only at the end; it explains, and proves nothing.
            Stage::Closed if !supports => self.emit(FaultStep::Evidence { witness: witness.as_str().into(), says, supports }),
            Stage::Closed => {}
            Stage::Open => {
                if hearing.told < STATEMENTS_MAX {
                    hearing.told += 1;
                    self.emit(FaultStep::Evidence { witness: witness.as_str().into(), says, supports });
                } else {
                    hearing.lost += 1;
                }
                if supports && hearing.agree.insert(witness) && hearing.agree.len() == WITNESSES_NEEDED {
                    self.emit(FaultStep::Effective);
                    self.effective.send_replace(true);
                }
            }
        }
    }

    fn emit(&self, step: FaultStep) {
        self.sink.emit(Fact::Fault { fault: self.fault.clone(), step });
    }
}
