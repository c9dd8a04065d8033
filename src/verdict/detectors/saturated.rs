//! A CPU that is at its limit shows about 100% however great the load is, so each decision asks for at most 100/target times as many
//! replicas, and the next has to wait for the new pods and for what they measure (`verdict/scaling.rs` has the arithmetic).

use super::stretch::{at, listed, moment, path, rises};
use super::{Scene, Sign};
use crate::verdict::words::significant;

/// Per cent of the requests that a CPU at its limit shows, where requests and limits are the same.
const FULL: (f64, f64) = (85.0, 115.0);

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| gauge.is_cpu() && gauge.aim == super::scaler::Aim::Utilization)?;
    if gauge.target >= FULL.0 || gauge.read.iter().any(|step| step.value > FULL.1) {
        return None;
    }
    let decisions: Vec<_> = rises(&scaler.wanted).collect();
    // What it read when it decided: the reading of before that moment.
    let reading = |t| gauge.read.iter().rfind(|step| step.from <= t).or_else(|| at(&gauge.read, t));
    let read: Vec<_> = decisions.iter().map(|(_, after)| reading(after.from)).collect::<Option<_>>()?;
    if decisions.len() < 2 || read.iter().any(|step| step.value < FULL.0) {
        return None;
    }
    let most = 100.0 / gauge.target;
    let lowest = read.iter().map(|step| step.value).fold(f64::MAX, f64::min);
    let highest = read.iter().map(|step| step.value).fold(0.0, f64::max);
    let sizes: Vec<f64> =
        decisions.iter().take(1).map(|(before, _)| before.value).chain(decisions.iter().map(|d| d.1.value)).collect();
    let times: Vec<String> = decisions.iter().map(|(_, after)| moment(after.from)).collect();
    let says = format!(
        "cpu stood at {} to {} of its requests, as one at its limit does, whenever {} decided: at a target of {} it asks for {} times as \
         many at most, and so went {} (at {})",
        gauge.words(lowest),
        gauge.words(highest),
        scaler.name(),
        gauge.words(gauge.target),
        significant(most, 3),
        path(sizes),
        listed(&times, 6)
    );
    let fix = "lower the target (at 50% each decision doubles), let limits be above requests, or scale on requests or concurrency";
    let sign = Sign::of(says, fix).shown_by(read.iter().filter_map(|step| step.n).take(3));
    Some(sign.shown_by(decisions.iter().filter_map(|(_, after)| after.n)))
}
