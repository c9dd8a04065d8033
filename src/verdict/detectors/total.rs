//! A target of type `Value` is compared with a total. Where more replicas do not make that total smaller, the autoscaler multiplies, look
//! after look, until its maximum.

use super::scaler::Aim;
use super::stretch::{moment, path, rises};
use super::{Scene, Sign};

/// By how much a total may change and still be the same.
const SAME: f64 = 0.2;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| gauge.aim == Aim::Value && matches!(gauge.source, "object" | "external"))?;
    let decisions: Vec<_> = rises(&scaler.wanted).collect();
    let read: Vec<f64> = decisions
        .iter()
        .map(|(_, after)| gauge.read.iter().rfind(|step| step.from <= after.from).map(|step| step.value))
        .collect::<Option<_>>()?;
    let (_, above) = scaler.band();
    let highest = read.iter().copied().fold(0.0, f64::max);
    let is_same = |value: &f64| *value >= (1.0 - SAME) * highest && *value > above * gauge.target;
    let (first, last) = (decisions.first()?, decisions.last()?);
    if decisions.len() < 2 || !read.iter().all(is_same) {
        return None;
    }
    let sizes: Vec<f64> = std::iter::once(first.0.value).chain(decisions.iter().map(|(_, after)| after.value)).collect();
    let says = format!(
        "{} went {} from {} to {} while {} stayed at about {}, against a target of {} for all of it: more replicas do not make it smaller",
        scaler.name(),
        path(sizes),
        moment(first.1.from),
        moment(last.1.from),
        gauge.name,
        gauge.words(highest),
        gauge.words(gauge.target)
    );
    let fix = "give the target as averageValue, which is so much for each replica";
    Some(Sign::of(says, fix).shown_by(decisions.iter().filter_map(|(_, after)| after.n)).shown_by([scaler.seen]))
}
