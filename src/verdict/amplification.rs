//! Retry amplification: how many times a service asked its dependency for each thing that it wanted, from the counters that its
//! pods expose. One means no retries; k tiers that each try n times make it n^k.

use super::draft::Draft;
use super::level::{increase, steps};
use super::window::Window;
use super::words::significant;
use super::{Finding, Verdict};
use crate::recording::History;
use crate::recording::metric::{DEPENDENCY_ATTEMPTS, DEPENDENCY_OPERATIONS};

/// Fewer operations than this make a ratio of noise, and of a retry budget's floor.
const OPERATIONS_LEAST: f64 = 100.0;
/// Attempts per operation from which retries are worth a remark: twice the 20% of a usual retry budget, and then some.
const REMARKABLE: f64 = 1.5;

/// What the pods counted over a window.
struct Calls {
    operations: f64,
    attempts: f64,
    /// The last reading of each pod that called at all, those with most attempts first.
    shown_by: Vec<u64>,
}

/// The calls over `window`; `None` when no pod counts them.
fn calls(window: &Window, history: &History) -> Option<Calls> {
    let pods = history.objects_with(DEPENDENCY_OPERATIONS);
    let mut calls = Calls { operations: 0.0, attempts: 0.0, shown_by: Vec::new() };
    let mut shown_by = Vec::new();
    for pod in &pods {
        let grown = |metric: &str| {
            let steps = steps(&history.series(pod, metric), window.from, window.to);
            (increase(&steps), steps.last().and_then(|step| step.n))
        };
        let (operations, _) = grown(DEPENDENCY_OPERATIONS);
        let (attempts, last) = grown(DEPENDENCY_ATTEMPTS);
        calls.operations += operations;
        calls.attempts += attempts;
        if operations > 0.0 {
            shown_by.extend(last.map(|n| (attempts, n)));
        }
    }
    shown_by.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    calls.shown_by = shown_by.into_iter().map(|(_, n)| n).collect();
    (!pods.is_empty()).then_some(calls)
}

/// What retries did in a window where something else went wrong, for whoever looks for its cause; `None` when they did nothing.
pub fn remark(window: &Window, history: &History) -> Option<String> {
    let calls = calls(window, history)?;
    let value = calls.attempts / calls.operations;
    (calls.operations >= OPERATIONS_LEAST && value >= REMARKABLE).then(|| {
        format!(
            "retries called the dependency {} times for each operation ({} for {}): they keep the overload alive; give them a budget",
            significant(value, 3),
            significant(calls.attempts, 6),
            significant(calls.operations, 6)
        )
    })
}

/// Judges attempts per operation over `window` against `most`.
pub fn judge(draft: Draft, most: f64, window: &Window, history: &History) -> Finding {
    let draft = draft.limit(most);
    let Some(Calls { operations, attempts, shown_by }) = calls(window, history) else {
        return draft.inconclusive(format!(
            "no pod exposed {DEPENDENCY_OPERATIONS} and {DEPENDENCY_ATTEMPTS}: annotate the pods with prometheus.io/port and count both"
        ));
    };
    let draft = draft.samples(operations as u64).evidence(shown_by);
    let draft = if operations > 0.0 { draft.observed(attempts / operations) } else { draft };
    if operations < OPERATIONS_LEAST {
        return draft.inconclusive(format!(
            "only {operations:.0} operations were counted in the window, {OPERATIONS_LEAST} are needed: make it longer or the rate higher"
        ));
    }
    let value = attempts / operations;
    let said = format!("{} attempts for {} operations", significant(attempts, 6), significant(operations, 6));
    if value <= most {
        draft.end(Verdict::Pass, format!("{said}: {} per operation, at most {most} allowed", significant(value, 3)))
    } else {
        draft.end(
            Verdict::Fail,
            format!(
                "{said}: retries multiply the load by {}, at most {most} allowed; give retries a budget",
                significant(value, 3)
            ),
        )
    }
}
