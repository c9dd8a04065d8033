//! A probe that waits in the queue of the requests fails when the queue is long: the pod is taken out or started anew, the others get its
//! load, and theirs fail next.

use std::time::Duration;

use super::stretch::{listed, moment};
use super::{Scene, Sign};
use crate::time::Offset;
use crate::verdict::words::count;

/// How long the load must have been the same before the first of them.
const BEFORE: Duration = Duration::from_secs(5);
/// One pod alone is a pod's own trouble, unless its kubelet says that a probe failed.
const PODS_LEAST: usize = 2;

pub fn look(scene: &Scene) -> Option<Sign> {
    let pods = scene.pods()?;
    let ready = scene.ready()?;
    // Those that stopped being ready, or started anew, and were not told to go.
    let mut fell: Vec<(u64, Offset, String)> = Vec::new();
    let mut restarts = 0;
    for life in &pods {
        let mut first = None;
        for pair in life.sights.windows(2) {
            let ((_, _, before), (n, t, after)) = (&pair[0], &pair[1]);
            if *t < scene.from || after.terminating || after.gone {
                continue;
            }
            let again = after.restarts.saturating_sub(before.restarts);
            restarts += again;
            if again > 0 || before.ready && !after.ready {
                first.get_or_insert((*n, *t, life.label()));
            }
        }
        fell.extend(first);
    }
    fell.sort_by_key(|(n, t, _)| (*t, *n));
    let ((_, first, _), (_, last, _)) = (fell.first()?, fell.last()?);
    let names: Vec<&str> = fell.iter().map(|(_, _, label)| label.rsplit('/').next().unwrap_or_default()).collect();
    let unhealthy = scene.events(|object| object.kind == "pod" && names.contains(&object.name.as_str()));
    let unhealthy = unhealthy.iter().find(|event| event.reason == "Unhealthy");
    let lowest = ready.iter().map(|step| step.value).fold(f64::MAX, f64::min);
    let at_first = super::stretch::at(&ready, *first).map_or(0.0, |step| step.value).max(ready.first()?.value);
    // A fault is reason enough.
    let broken = scene
        .history
        .faults()
        .iter()
        .filter_map(|fault| fault.stretch())
        .any(|(from, to)| from <= *last && to.is_none_or(|to| to + BEFORE >= *first));
    let shared = fell.len() >= PODS_LEAST || unhealthy.is_some();
    if broken
        || !shared
        || lowest >= at_first
        || !scene.is_flat((*first - BEFORE).max(scene.history.whole().0), (*last).max(*first + BEFORE))
    {
        return None;
    }
    let told: Vec<String> = fell.iter().map(|(_, t, label)| format!("{label} at {}", moment(*t))).collect();
    let says = format!(
        "{} of {} stopped being ready or started anew under a load that did not rise ({}; {}), and {} were left of {}{}",
        count(fell.len() as u64, "pod"),
        scene.workload()?,
        listed(&told, 4),
        count(u64::from(restarts), "restart"),
        lowest,
        at_first,
        unhealthy.map(|event| format!("; the kubelet said: {}", event.message.trim())).unwrap_or_default()
    );
    let fix = "answer probes apart from requests (another port, another pool), let liveness be about a deadlock and nothing else, and refuse what \
               is too much";
    Some(Sign::of(says, fix).shown_by(unhealthy.map(|event| event.n)).shown_by(fell.iter().map(|(n, ..)| *n)))
}
