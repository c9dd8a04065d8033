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

/// Judges attempts per operation over `window` against `most`.
pub fn judge(draft: Draft, most: f64, window: &Window, history: &History, blame: Option<&str>) -> Finding {
    let pods = history.objects_with(DEPENDENCY_OPERATIONS);
    let (mut operations, mut attempts) = (0.0, 0.0);
    let mut evidence = Vec::new();
    for pod in &pods {
        let grown = |metric: &str| {
            let steps = steps(&history.series(pod, metric), window.from, window.to);
            (increase(&steps), steps.last().and_then(|step| step.n))
        };
        let (more, _) = grown(DEPENDENCY_OPERATIONS);
        let (sent, shown_by) = grown(DEPENDENCY_ATTEMPTS);
        operations += more;
        attempts += sent;
        if more > 0.0 {
            evidence.extend(shown_by.map(|n| (sent, n)));
        }
    }
    evidence.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let draft = draft.limit(most).samples(operations as u64).evidence(evidence.into_iter().map(|(_, n)| n));
    if pods.is_empty() {
        return draft.inconclusive(format!(
            "no pod exposed {DEPENDENCY_OPERATIONS} and {DEPENDENCY_ATTEMPTS}: annotate the pods with prometheus.io/port and count both"
        ));
    }
    let draft = if operations > 0.0 { draft.observed(attempts / operations) } else { draft };
    if let Some(blame) = blame {
        return draft.inconclusive(blame);
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
