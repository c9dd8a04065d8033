//! What KEDA does beside the autoscaler that it makes: it takes the last step to zero itself, and it asks the sources.

use super::scaler::conditions;
use super::stabilized::KEDA;
use super::stretch::{at, length, moment};
use super::{Scene, Sign};
use crate::names::ObjectRef;
use crate::verdict::words::count;

pub fn to_zero(scene: &Scene) -> Option<Sign> {
    let asked = scene.asked()?;
    let told = events(scene, "KEDAScaleTargetDeactivated")?;
    let event = told.first()?;
    let (before, after) =
        asked.windows(2).map(|pair| (&pair[0], &pair[1])).find(|(before, after)| before.value > 1.0 && after.value == 0.0)?;
    let says = format!(
        "{} went from {} replicas to none at {}: KEDA deactivated it as its source had nothing for the cooldown, whatever scaleDown policies \
         say ({})",
        scene.workload()?,
        before.value,
        moment(after.from),
        event.message
    );
    let fix = "a longer cooldownPeriod, or minReplicaCount of one or more";
    Some(Sign::of(says, fix).shown_by(after.n).shown_by([event.n]))
}

pub fn scaler_failed(scene: &Scene) -> Option<Sign> {
    let told = events(scene, "KEDAScalerFailed")?;
    let (first, last) = (told.first()?, told.last()?);
    let asked = scene.asked()?;
    let (before, after) = (at(&asked, first.t)?, asked.last()?);
    let times: u64 = told.iter().map(|event| u64::from(event.count)).max()?;
    let says = format!(
        "KEDA could not ask its source from {} on ({}): {}; {} was asked for {} then and {} at the end",
        moment(first.t),
        count(times.max(told.len() as u64), "time"),
        last.message,
        scene.workload()?,
        before.value,
        after.value
    );
    let fix = "mend the source or its credentials; a `fallback` counts failures of metric sources only, and may be fewer replicas than there are";
    Some(Sign::of(says, fix).shown_by([first.n, last.n]).shown_by(after.n))
}

pub fn not_by_its_triggers(scene: &Scene) -> Option<Sign> {
    let object = scene.scaled_object()?;
    let held = conditions(scene, object).into_iter().rfind(|held| match held.kind {
        "Ready" => !held.holds,
        "Paused" | "Fallback" => held.holds,
        _ => false,
    })?;
    let status = if held.holds { "True" } else { "False" };
    let says = format!(
        "{object} did not scale {} by its triggers {} ({}): {}={status}, {}: {}",
        scene.workload()?,
        held.stretch.words(),
        length(held.stretch.length()),
        held.kind,
        held.reason,
        held.message
    );
    let fix = match held.kind {
        "Paused" => "take its `autoscaling.keda.sh/paused` annotations away",
        "Fallback" => "mend the source of the trigger that fails, or give `fallback` enough replicas",
        _ => "see to what it names: `kubectl describe` tells more of it",
    };
    Some(Sign::of(says, fix).shown_by([held.n]))
}

pub fn not_active(scene: &Scene) -> Option<Sign> {
    let object = scene.scaled_object()?;
    // As it was at the end.
    let held = conditions(scene, object).into_iter().rfind(|held| held.kind == "Active").filter(|held| !held.holds)?;
    let says = format!(
        "{object} saw nothing to wake {} for {} ({}): Active=False, {}: {}",
        scene.workload()?,
        held.stretch.words(),
        length(held.stretch.length()),
        held.reason,
        held.message
    );
    let fix = "ask the source of its triggers what they read, and set `activationThreshold` below that";
    Some(Sign::of(says, fix).shown_by([held.n]))
}

/// What KEDA wrote about the ScaledObject of the workload. By its name: KEDA's autoscaler carries it, or it is the workload's own.
fn events<'a>(scene: &Scene<'a>, reason: &str) -> Option<Vec<super::scene::Told<'a>>> {
    let workload = scene.workload()?;
    let scaler = scene.scaler();
    let of_scaler = scaler.as_ref().and_then(|scaler| scaler.spec.object.name.strip_prefix(KEDA)).unwrap_or(&workload.name);
    let is_its =
        |object: &ObjectRef| object.kind == "scaledobject" && object.namespace == workload.namespace && object.name == of_scaler;
    let mut told = scene.events(is_its);
    told.retain(|event| event.reason == reason);
    (!told.is_empty()).then_some(told)
}
