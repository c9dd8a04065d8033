//! An autoscaler does nothing while its metric is within its tolerance of the target (10% unless it says otherwise).

use super::stretch::{at, length, longest, rises, stretches};
use super::{Scene, Sign};
use crate::verdict::words::percent;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let ratio = scaler.ratio()?;
    let most = f64::from(scaler.spec.max_replicas);
    let (below, above) = scaler.band();
    if rises(&scaler.wanted).next().is_some() {
        return None;
    }
    let stretch = longest(stretches(&[&ratio, &scaler.wanted], |v| v[0] > 1.0 && v[0] <= above && v[1] < most))?;
    if stretch.length() * 2 < scene.to.since(scene.from) {
        return None;
    }
    let (read, wanted) = (at(&ratio, stretch.from)?, at(&scaler.wanted, stretch.from)?);
    let load = read.value * wanted.value;
    let (least, most) = ((load / above).ceil(), (load / below).floor());
    let right = if least < most { format!("anything from {least} to {most} replicas is") } else { "that is".to_owned() };
    let says = format!(
        "{} read {} of its target, less than {} above it, {} ({}), and so left it at {}: {right} right for it \
         under this load",
        scaler.name(),
        percent(read.value),
        percent(scaler.spec.tolerance),
        stretch.words(),
        length(stretch.length()),
        wanted.value
    );
    let fix =
        "lower the target, or spec.behavior.scaleUp.tolerance from Kubernetes 1.35 on, or claim what this many replicas can do";
    Some(Sign::of(says, fix).shown_by(read.n).shown_by(wanted.n).shown_by([scaler.seen]))
}
