//! What pods use of their CPU to start counts as load where they are ready too early, or for longer than the controller leaves it out
//! (--horizontal-pod-autoscaler-cpu-initialization-period, 5 min, and --horizontal-pod-autoscaler-initial-readiness-delay, 30 s).

use std::time::Duration;

use super::stretch::{at, length, moment, rises};
use super::{Scene, Sign};
use crate::verdict::words::count;

/// The controller's own cpu-initialization-period: later, what a pod uses is not for its start.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// How long before the first of these pods the load must have been what it was after it.
const BEFORE: Duration = Duration::from_secs(5);

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| gauge.is_cpu())?;
    let (ratio, ready) = (gauge.ratio(), scene.ready()?);
    let (_, above) = scaler.band();
    let pods = scene.pods()?;
    let births: Vec<_> = pods.iter().filter_map(|life| life.born()).filter(|(_, t)| *t >= scene.from).collect();
    let (_, born) = *births.iter().min_by_key(|(_, t)| *t)?;
    let (before, after) = rises(&scaler.wanted).find(|(_, after)| after.from > born)?;
    let young: Vec<u64> = births.iter().filter(|(_, t)| *t < after.from).map(|(n, _)| *n).collect();
    let read = ratio.iter().rfind(|step| step.from <= after.from)?;
    // It was no reason for more before they came, nothing else was, and those that served before are there still.
    let unprovoked = at(&ratio, born).is_some_and(|step| step.value <= above)
        && before.from <= born
        && read.from > born
        && read.value > above
        && at(&ready, after.from)?.value >= at(&ready, born)?.value
        && scene.is_flat(born - BEFORE, after.from);
    (unprovoked && after.from.since(born) <= STARTS_WITHIN).then(|| {
        let says = format!(
            "{} asked for {} instead of {} at {}, {} after {} had begun to start, under a load that had not changed: it read {} of cpu then, \
             against a target of {}",
            scaler.name(),
            after.value,
            before.value,
            moment(after.from),
            length(after.from.since(born)),
            count(young.len() as u64, "new pod"),
            gauge.words(read.value * gauge.target),
            gauge.words(gauge.target)
        );
        let fix = "be ready only when starting is over (readiness and startup probes), give the start more CPU than the request, or give scaling \
                   up a stabilization window";
        Sign::of(says, fix).shown_by(after.n).shown_by(read.n).shown_by(young)
    })
}
