//! Retry amplification: how many times a service asked its dependency for each thing that it wanted, from the counters that its
//! pods expose. One means no retries; k tiers that each try n times make it n^k.

use super::draft::Draft;
use super::level::{GAP_SHORT_S, gaps, increase, steps};
use super::pods;
use super::window::Window;
use super::words::{seconds, significant};
use super::{Finding, Verdict};
use crate::recording::History;
use crate::recording::metric::{DEPENDENCY_ATTEMPTS, DEPENDENCY_OPERATIONS};

/// Fewer operations than this make a ratio of noise, and of a retry budget's floor.
const OPERATIONS_LEAST: f64 = 100.0;
/// Attempts per operation from which retries are worth a remark: twice the 20% of a usual retry budget, and then some.
const REMARKABLE: f64 = 1.5;

/// What the pods of the target's workload counted over a window.
struct Calls {
    operations: f64,
    attempts: f64,
    /// The last reading of each pod that called at all, those with most attempts first.
    shown_by: Vec<u64>,
    /// What hides a part of it, and the event that says so.
    hidden: Option<(String, u64)>,
}

/// The calls over `window`; `None` when no pod counts them.
fn calls(window: &Window, history: &History) -> Option<Calls> {
    let pods = pods::of(history, history.started.workload.as_ref(), DEPENDENCY_OPERATIONS);
    let (mut operations, mut attempts, mut counted) = (0.0, 0.0, false);
    let mut shown_by = Vec::new();
    let mut unread = None;
    for pod in &pods {
        let grown = |metric: &str| {
            let readings = history.series(pod, metric);
            let steps = steps(&readings, window.from, window.to);
            (increase(&steps), steps.last().and_then(|step| step.n), readings)
        };
        let (wanted, _, readings) = grown(DEPENDENCY_OPERATIONS);
        let (tried, last, _) = grown(DEPENDENCY_ATTEMPTS);
        counted |= !readings.is_empty();
        operations += wanted;
        attempts += tried;
        if wanted > 0.0 {
            shown_by.extend(last.map(|n| (tried, n)));
        }
        // A counter tells later what it counted while nobody looked; what comes after its last reading stays hidden.
        let read_until = readings.iter().rfind(|(_, t, _)| *t < window.to).map_or(window.from, |(_, t, _)| *t);
        // Nor can a pod that is gone count any more.
        let until = pods::gone(history, pod).map_or(window.to, |gone| gone.min(window.to).max(read_until));
        let gaps = gaps(history, &[pod], read_until, until);
        if let Some((n, gap, length)) = gaps.into_iter().find(|(_, _, length)| *length > GAP_SHORT_S) {
            let why = format!(
                "{} was blind for {} and nothing was read after it ({}): what was counted then is not known",
                gap.source,
                seconds(length),
                gap.reason
            );
            unread.get_or_insert((why, n));
        }
    }
    shown_by.sort_by(|a: &(f64, u64), b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    counted.then(|| Calls { operations, attempts, shown_by: shown_by.into_iter().map(|(_, n)| n).collect(), hidden: unread })
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
    let Some(Calls { operations, attempts, shown_by, hidden }) = calls(window, history) else {
        return draft.inconclusive(format!(
            "no pod exposed {DEPENDENCY_OPERATIONS} and {DEPENDENCY_ATTEMPTS}: annotate the pods with prometheus.io/port and count both"
        ));
    };
    let draft = draft.samples(operations as u64).evidence(shown_by);
    let draft = if operations > 0.0 { draft.observed(attempts / operations) } else { draft };
    // What was hidden may have been better or worse than what was seen: neither is decided.
    if let Some((why, event)) = hidden {
        return draft.evidence([event]).inconclusive(why);
    }
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
