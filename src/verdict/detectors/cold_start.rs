//! From zero replicas the first requests wait for a look at the source, for a pod, and for whatever holds them meanwhile; and are lost
//! where that does not hold them long enough. `pollingInterval` counts at zero, and hardly anywhere else.

use std::time::Duration;

use super::stretch::{length, moment, stretches};
use super::{Scene, Sign};
use crate::recording::fact::Counts;
use crate::time::Offset;
use crate::verdict::words::count;

/// Requests go astray for a moment after a pod is ready, too.
const AFTER: Duration = Duration::from_secs(2);
/// The share of what was lost that must lie there.
const MOST: f64 = 0.8;

pub fn look(scene: &Scene) -> Option<Sign> {
    let (ready, asked) = (scene.ready()?, scene.asked()?);
    let cold: Vec<_> = stretches(&[&ready], |v| v[0] == 0.0)
        .into_iter()
        .filter(|cold| {
            stretches(&[&ready, &asked], |v| v[0] == 0.0 && v[1] == 0.0).iter().any(|s| s.from < cold.to && s.to > cold.from)
        })
        .filter(|cold| scene.due(cold.from, cold.to) > 0.0)
        .collect();
    let first = cold.first()?;
    let lost = |from: Offset, to: Offset| bad(&scene.history.counts(None, from, to));
    let (all, there) = (lost(scene.from, scene.to), cold.iter().map(|s| lost(s.from, (s.to + AFTER).min(scene.to))).sum::<u64>());
    if all == 0 || (there as f64) < MOST * all as f64 {
        return None;
    }
    let came = scene.history.per_second(None, first.from, first.to).into_iter().find(|(_, counts)| counts.intended > 0)?.0;
    let came = Offset::from_nanos(came.saturating_mul(1_000_000_000)).max(first.from);
    let woken = asked.iter().find(|step| step.from > came && step.value > 0.0);
    let says = format!(
        "requests came at {} while {} had no replica; {}{}, and {} of the {} that were not answered fall into that time",
        moment(came),
        scene.workload()?,
        match woken {
            Some(step) => format!("one was asked for {} later", length(step.from.since(came))),
            None => "none was asked for".to_owned(),
        },
        if first.to < scene.to {
            format!(" and the first was ready after {}", length(first.to.since(came)))
        } else {
            String::new()
        },
        there,
        count(all, "request")
    );
    let fix = "keep one replica, hold requests for longer than a pod needs to start, or look at the source more often (KEDA: pollingInterval)";
    let ready_at = ready.iter().find(|step| step.from >= first.to).and_then(|step| step.n);
    Some(Sign::of(says, fix).shown_by(woken.and_then(|step| step.n)).shown_by(ready_at))
}

fn bad(counts: &Counts) -> u64 {
    counts.failed + counts.rejected + counts.timed_out
}
