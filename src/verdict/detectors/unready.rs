//! What pods that are not ready do to an autoscaler: where it would take replicas away they count as if they were at their target, and
//! where none is ready there is nothing to multiply.

use super::stretch::{at, length, longest, stretches};
use super::{Scene, Sign};
use crate::verdict::words::percent;

/// Looks of the autoscaler that something must outlast.
const LOOKS: u32 = 2;

pub fn holds(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let (ratio, ready, size) = (scaler.ratio()?, scene.ready()?, scene.size()?);
    let (below, _) = scaler.band();
    let least = f64::from(scaler.spec.min_replicas);
    // For as long as it could not be the stabilization window, which holds what was wanted before.
    let window = std::time::Duration::from_secs(u64::from(scaler.spec.scale_down.stabilization_window_s));
    let allowed = window.saturating_add(scaler.syncs(LOOKS));
    let first = longest(stretches(&[&ratio, &ready, &size, &scaler.wanted], |v| v[0] < below && v[1] < v[2] && v[3] > least))?;
    let wanted = at(&scaler.wanted, first.from)?;
    let stays = wanted.to >= first.to;
    (first.length() > allowed && stays).then(|| {
        let (ready, size) = (at(&ready, first.from), at(&size, first.from));
        let says = format!(
            "{} kept asking for {} {} ({}), though it read no more than {} of its target: {} of {} pods were not ready, and count as busy",
            scaler.name(),
            wanted.value,
            first.words(),
            length(first.length()),
            percent(at(&ratio, first.from).map_or(0.0, |step| step.value)),
            size.map_or(0.0, |step| step.value) - ready.map_or(0.0, |step| step.value),
            size.map_or(0.0, |step| step.value)
        );
        let fix = "see why these pods are not ready (no node, a failing probe), or remove them";
        Sign::of(says, fix).shown_by(ready.and_then(|step| step.n)).shown_by(wanted.n)
    })
}

pub fn none(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let (ready, size) = (scene.ready()?, scene.size()?);
    let most = f64::from(scaler.spec.max_replicas);
    let found = longest(stretches(&[&ready, &size, &scaler.wanted], |v| v[0] == 0.0 && v[1] > 0.0 && v[2] > 0.0 && v[2] < most))?;
    let wanted = at(&scaler.wanted, found.from)?;
    let stays = wanted.to >= found.to;
    (found.length() > scaler.syncs(LOOKS) && stays && scene.due(found.from, found.to) > 0.0).then(|| {
        let says = format!(
            "none of the {} pods of {} was ready {} ({}), and {} asked for {} all that time: what none uses, multiplied, is none",
            at(&size, found.from).map_or(0.0, |step| step.value),
            scaler.spec.scales,
            found.words(),
            length(found.length()),
            scaler.name(),
            wanted.value
        );
        let fix =
            "see why none is ready: under overload a readiness probe that waits in the same queue takes all of them out at once";
        Sign::of(says, fix).shown_by(at(&ready, found.from).and_then(|step| step.n)).shown_by(wanted.n)
    })
}
