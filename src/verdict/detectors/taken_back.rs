//! The number of replicas has one owner. Where a manifest states it too, whoever applies that manifest takes back what the autoscaler did.

use std::time::Duration;

use super::stretch::{listed, moment};
use super::{Scene, Sign};
use crate::verdict::level::Step;
use crate::verdict::words::significant;

/// What writing and watching takes, either way.
const DELIVERY: Duration = Duration::from_secs(2);
/// Once may be a person.
const TIMES_LEAST: usize = 2;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let asked = scene.asked()?;
    let reach = scaler.syncs(1).saturating_add(DELIVERY);
    // What the autoscaler asked for at about that moment: it writes the workload first, and its own status then.
    let by_scaler = |step: &Step| {
        let about = |wanted: &&Step| wanted.from <= step.from + reach && wanted.to >= step.from - reach;
        scaler.wanted.iter().filter(about).any(|wanted| wanted.value == step.value)
    };
    let foreign: Vec<&Step> = asked.iter().skip(1).filter(|step| !by_scaler(step)).collect();
    if foreign.len() < TIMES_LEAST {
        return None;
    }
    let told: Vec<String> = foreign.iter().map(|step| format!("{} at {}", significant(step.value, 9), moment(step.from))).collect();
    let says = format!(
        "somebody else set the replicas of {}, {} times, to what {} had not asked for: {}",
        scaler.spec.scales,
        foreign.len(),
        scaler.name(),
        listed(&told, 5)
    );
    let fix = "take `replicas` out of the manifest that is applied, or let whatever applies it ignore that field";
    Some(Sign::of(says, fix).shown_by(foreign.iter().filter_map(|step| step.n)))
}
