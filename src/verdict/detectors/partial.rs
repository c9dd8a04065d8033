//! With several metrics the highest proposal counts, and one that cannot be read may have been the highest: so until it can, the
//! autoscaler adds, and takes nothing away (k8s 1.16 to 1.20 took away all the same).

use super::inactive::{UNREAD, failures};
use super::stretch::at;
use super::{Scene, Sign};

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let least = scaler.syncs(2);
    let held = scaler.held("ScalingActive", false, least).find(|held| held.reason.starts_with(UNREAD))?;
    let events = scene.events(|object| *object == scaler.spec.object);
    let partly = |message: &str| failures(message).is_some_and(|(failed, of)| failed < of);
    let told = events.iter().find(|event| partly(event.message))?;
    let (from, to) = (at(&scaler.wanted, held.stretch.from)?, scaler.wanted.iter().rfind(|step| step.from < held.stretch.to)?);
    let stays = from.value <= to.value && to.value > f64::from(scaler.spec.min_replicas);
    stays.then(|| {
        let says = format!(
            "{} asked for no fewer than {} {}, as one of its {} metrics could not be read: {}",
            scaler.name(),
            from.value,
            held.stretch.words(),
            scaler.spec.metrics.len(),
            held.message
        );
        Sign::of(says, "mend that metric, or take it out of the autoscaler's spec").shown_by([held.n, told.n]).shown_by(to.n)
    })
}
