//! Memory that a process does not give back does not fall with the load, and what is left of the gain is lost to rounding up.

use super::stretch::{at, length, longest, stretches};
use super::{Scene, Sign};
use crate::verdict::words::significant;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| gauge.is_memory())?;
    let ratio = gauge.ratio();
    let least = f64::from(scaler.spec.min_replicas);
    let stays = |v: &[f64]| v[0] < 1.0 && v[1] > least && (v[0] * v[1]).ceil() >= v[1];
    let stretch = longest(stretches(&[&ratio, &scaler.wanted], stays))?;
    let (read, wanted) = (at(&ratio, stretch.from)?, at(&scaler.wanted, stretch.from)?);
    if stretch.length() * 2 < scene.to.since(scene.from) || wanted.to < stretch.to {
        return None;
    }
    let size = wanted.value;
    let says = format!(
        "{} stayed at {size} {} ({}) with memory at {} of a target of {}: {size} x {} / {} = {}, which is {size} when it is rounded up; for {} \
         it would have to fall to {}",
        scaler.name(),
        stretch.words(),
        length(stretch.length()),
        gauge.words(read.value * gauge.target),
        gauge.words(gauge.target),
        gauge.words(read.value * gauge.target),
        gauge.words(gauge.target),
        significant(read.value * size, 3),
        size - 1.0,
        gauge.words(gauge.target * (size - 1.0) / size)
    );
    let fix = "scale on what falls with the load (CPU, requests, concurrency); heaps seldom give back what they have taken";
    Some(Sign::of(says, fix).shown_by(read.n).shown_by(wanted.n).shown_by([scaler.seen]))
}
