//! The load of a scene as it was due, whatever became of it.

use std::time::Duration;

use super::Scene;
use crate::time::Offset;

/// Two rates differ by more than this share, and by more than chance does, before the load has changed.
const CHANGE: f64 = 0.2;
/// Standard deviations of a count that chance does not exceed.
const CHANCE: f64 = 3.0;
/// How long a rate is looked at before and after a change, and from when on to when the load is steady.
const LOOK: Duration = Duration::from_secs(5);

/// The load went up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rise {
    pub at: Offset,
    /// Requests due per second before it, and after.
    pub before: f64,
    pub after: f64,
}

impl Scene<'_> {
    /// Requests that were due per second.
    pub(super) fn due(&self, from: Offset, to: Offset) -> f64 {
        let length = to.since(from).as_secs_f64();
        if length > 0.0 { self.history.counts(None, from, to).intended as f64 / length } else { 0.0 }
    }

    /// The first time in the window at which more load came, of one phase after another: all else is a slope.
    pub(super) fn rise(&self) -> Option<Rise> {
        let (first, last) = self.history.whole();
        let starts = self.history.started.phases.iter().map(|phase| phase.start);
        starts.filter(|start| *start >= self.from && *start < self.to && *start > first).find_map(|at| {
            let (from, to) = ((at - LOOK).max(first), (at + LOOK).min(last));
            let (before, after) = (self.due(from, at), self.due(at, to));
            let noise = before / at.since(from).as_secs_f64() + after / to.since(at).as_secs_f64();
            (after - before > CHANGE * after && after - before > CHANCE * noise.sqrt()).then_some(Rise { at, before, after })
        })
    }

    /// Whether there was load in `[from, to)`, and as much of it all the time.
    pub(super) fn is_flat(&self, from: Offset, to: Offset) -> bool {
        // Seconds that the stretch cuts belong to what was before and after it, too.
        let (first, last) = (from.second() + 1, to.second());
        let mut counts = vec![0.0; usize::try_from(last - first).unwrap_or(0).min(100_000)];
        for (second, seen) in self.history.per_second(None, from, to) {
            if let Some(count) = usize::try_from(second - first).ok().and_then(|index| counts.get_mut(index)) {
                *count = seen.intended as f64;
            }
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let size = (LOOK.as_secs() as usize).min(counts.len().div_ceil(2)).max(1);
        let is_same = |look: &[f64]| {
            let (seen, expected) = (look.iter().sum::<f64>(), mean * look.len() as f64);
            (seen - expected).abs() <= (CHANGE * expected).max(CHANCE * expected.sqrt())
        };
        // Of no second at all the mean is no number, and of no load zero.
        mean > 0.0 && counts.chunks(size).all(is_same)
    }
}
