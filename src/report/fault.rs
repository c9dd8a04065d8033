//! What was broken: when it was injected, proven, healed, and who saw it.

use serde::Serialize;

use crate::recording::History;
use crate::recording::history::FaultSeen;
use crate::report::words;
use crate::time::Offset;
use crate::verdict;

/// One fault. Moments are seconds since the first phase started, `None` for what did not happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultRow {
    pub name: String,
    pub kind: String,
    pub targets: Vec<String>,
    /// Out of how many the targets were chosen.
    pub of: u64,
    pub planned_s: Option<f64>,
    pub injected_s: Option<f64>,
    pub effective_s: Option<f64>,
    pub healed_s: Option<f64>,
    /// What the witnesses said, in order.
    pub evidence: Vec<String>,
    /// At least two witnesses agreed that it took effect.
    pub proven: bool,
    /// Proven gone. A fault that was never injected has nothing to heal, and says so by `injected_s`.
    pub healed: bool,
    /// The steps that failed: `during heal: pod is gone`.
    pub failures: Vec<String>,
}

/// Every fault of the plan, in its order.
pub fn rows(history: &History) -> Vec<FaultRow> {
    history.faults().into_iter().map(row).collect()
}

/// Names of the faults that were active at some time in `[from, to)`: injected, and not yet proven healed.
pub fn active(faults: &[FaultSeen], from: Offset, to: Offset) -> Vec<String> {
    faults
        .iter()
        .filter(|fault| fault.stretch().is_some_and(|(start, end)| start < to && end.is_none_or(|end| end >= from)))
        .map(|fault| fault.name.to_string())
        .collect()
}

fn row(fault: FaultSeen) -> FaultRow {
    let seconds = |seen: Option<(u64, Offset)>| seen.map(|(_, t)| t.seconds());
    FaultRow {
        planned_s: fault.planned.as_ref().and_then(|line| line.at).map(Offset::seconds),
        injected_s: seconds(fault.injected),
        effective_s: seconds(fault.effective),
        healed_s: seconds(fault.healed),
        evidence: fault.evidence.iter().map(|e| words::witness(&e.witness, &e.says, e.supports)).collect(),
        proven: verdict::doubt(&fault).is_none(),
        healed: fault.healed.is_some(),
        failures: fault.failures.iter().map(|f| words::clean(&format!("during {}: {}", f.during, f.reason))).collect(),
        name: fault.name.to_string(),
        kind: fault.kind,
        targets: fault.targets,
        of: fault.of,
    }
}
