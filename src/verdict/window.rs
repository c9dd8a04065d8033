//! The stretch of time that a claim speaks of, as it really happened; or why there is no such stretch to judge.

use std::time::Duration;

use super::Over;
use super::words::seconds;
use crate::names::{Anchor, Name};
use crate::recording::History;
use crate::recording::fact::Ending;
use crate::recording::history::FaultSeen;
use crate::time::Offset;

/// A stretch of a run that can be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub from: Offset,
    pub to: Offset,
}

/// Why a claim has no window, and the events that show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Blind {
    pub why: String,
    pub evidence: Vec<u64>,
    /// The window that was planned, as far as that is known.
    pub planned: Option<Window>,
}

impl Window {
    /// The window of `over`. A phase that did not finish, and a fault that was never proven, give none.
    pub fn of(over: &Over, history: &History) -> Result<Window, Blind> {
        Window::found(over, history).map_err(|blind| blind.planned(over, history))
    }

    fn found(over: &Over, history: &History) -> Result<Window, Blind> {
        match over {
            Over::Run => {
                for phase in &history.started.phases {
                    finished(&phase.name, history)?;
                }
                let (from, to) = history.whole();
                Ok(Window { from, to })
            }
            Over::Phase(name) => finished(name, history),
            Over::Between(start, end) => {
                for anchor in [start, end] {
                    if history.fault(&anchor.of).is_some() {
                        effective(&anchor.of, history)?;
                    }
                }
                let (from, to) = (resolve(start, history)?, resolve(end, history)?);
                if from >= to {
                    return Err(blind(format!(
                        "`{start}` came at {} and `{end}` at {}: the window between them is empty",
                        seconds(from.seconds()),
                        seconds(to.seconds())
                    )));
                }
                ran(to, history)?;
                Ok(Window { from, to })
            }
            Over::Fault(name) => {
                let fault = effective(name, history)?;
                let Some((_, from)) = fault.injected else {
                    return Err(blind(format!("fault {name} was proven effective but never recorded as injected")));
                };
                match fault.healed {
                    Some((_, to)) if to > from => ran(to, history).map(|()| Window { from, to }),
                    _ => Err(Blind {
                        evidence: fault.failures.iter().map(|failure| failure.seen.0).collect(),
                        ..blind(format!("fault {name} was never proven healed{}: its stretch has no end", fault.why_not()))
                    }),
                }
            }
        }
    }

    /// The window of `over` as it was planned; `None` where it hangs on a moment that only the run could tell.
    fn planned(over: &Over, history: &History) -> Option<Window> {
        let (first, last) = history.whole();
        let (from, to) = match over {
            Over::Run => (first, last),
            Over::Phase(name) => history.phase(name).map(|phase| (phase.start, phase.end))?,
            Over::Between(from, to) => (history.resolve(from).ok()?, history.resolve(to).ok()?),
            Over::Fault(name) => {
                let planned = history.fault(name)?.planned?;
                let from = planned.at?;
                (from, planned.duration_ns.map_or(last, |length| from + Duration::from_nanos(length)))
            }
        };
        (from < to).then_some(Window { from, to })
    }
}

impl Blind {
    /// The same, with the window that was planned.
    pub fn planned(self, over: &Over, history: &History) -> Blind {
        Blind { planned: Window::planned(over, history), ..self }
    }
}

/// Refuses a window that reaches beyond what was carried out.
pub fn ran(to: Offset, history: &History) -> Result<(), Blind> {
    let last = history.ran_until();
    if to <= last {
        return Ok(());
    }
    Err(blind(format!(
        "the window ends at {}, and {} at {}: run it again",
        seconds(to.seconds()),
        how_it_ended(history),
        seconds(last.seconds())
    )))
}

/// The fault `name`, when it was proven effective and stayed so. Otherwise nothing that depends on it can be decided.
pub fn effective(name: &Name, history: &History) -> Result<FaultSeen, Blind> {
    let Some(fault) = history.fault(name) else {
        return Err(blind(format!("the run had no fault {name}")));
    };
    let Some(why) = doubt(&fault) else { return Ok(fault) };
    let mut evidence: Vec<u64> = fault.failures.iter().map(|failure| failure.seen.0).collect();
    evidence.extend(fault.evidence.iter().map(|witness| witness.seen.0));
    evidence.extend(fault.injected.map(|(n, _)| n));
    Err(Blind { evidence, ..blind(format!("{why}; what happened without it says nothing about it")) })
}

/// Why it is not certain that a fault did what the plan asks for until its healing began: it was never proven, or a witness spoke against
/// it. What is seen once healing has begun speaks of that.
pub fn doubt(fault: &FaultSeen) -> Option<String> {
    if fault.effective.is_none() {
        return Some(why_not_effective(fault));
    }
    let healing = fault.healing.or(fault.healed).map_or(u64::MAX, |(n, _)| n);
    let against = fault.evidence.iter().filter(|e| !e.supports && e.seen.0 < healing).map(|e| e.says.as_str());
    let against: Vec<&str> = against.collect();
    (!against.is_empty()).then(|| format!("fault {} did not hold throughout: {}", fault.name, against.join("; ")))
}

/// Why a fault that was not proven effective was not.
fn why_not_effective(fault: &FaultSeen) -> String {
    let name = &fault.name;
    let against: Vec<&str> = fault.evidence.iter().filter(|e| !e.supports).map(|e| e.says.as_str()).collect();
    if fault.injected.is_none() {
        format!("fault {name} was never injected{}", fault.why_not())
    } else if let Some(failure) = fault.failures.first() {
        format!("fault {name} was never proven effective: during {}, {}", failure.during, failure.reason)
    } else if against.is_empty() {
        format!("fault {name} was never proven effective: {} of 2 witnesses", fault.evidence.len())
    } else {
        format!("fault {name} was never proven effective: {}", against.join("; "))
    }
}

fn finished(name: &Name, history: &History) -> Result<Window, Blind> {
    let Some(phase) = history.phase(name) else {
        return Err(blind(format!("the run had no phase {name}")));
    };
    let completed = phase.completed || history.ended.as_ref().is_some_and(|ended| ended.how == Ending::Completed);
    if !completed {
        return Err(blind(format!(
            "phase {name} did not finish ({} at {}, the phase ends at {}): run it again",
            how_it_ended(history),
            seconds(history.last_seen().seconds()),
            seconds(phase.end.seconds())
        )));
    }
    Ok(Window { from: phase.start, to: phase.end })
}

fn how_it_ended(history: &History) -> String {
    match history.ended.as_ref().map(|ended| &ended.how) {
        None => "the recording breaks off".to_owned(),
        Some(Ending::Completed) => "the run ended".to_owned(),
        Some(Ending::Interrupted { signal }) => format!("the run was interrupted by {signal}"),
        Some(Ending::Broken { reason }) => format!("the run broke off: {reason}"),
    }
}

fn resolve(anchor: &Anchor, history: &History) -> Result<Offset, Blind> {
    history.resolve(anchor).map_err(blind)
}

/// Blind for a reason that no event shows.
pub fn blind(why: String) -> Blind {
    Blind { why, evidence: Vec::new(), planned: None }
}
