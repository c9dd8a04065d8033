//! Before an autoscaler takes replicas away it holds the highest number that it wanted within its stabilization window, 300 s unless it
//! says otherwise.

use std::time::Duration;

use super::scaler::Scaler;
use super::stretch::{at, length, moment, stretches};
use super::{Scene, Sign};

/// What KEDA calls the autoscaler of a ScaledObject.
pub const KEDA: &str = "keda-hpa-";

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let fix = "give scaling down a shorter stabilizationWindowSeconds, or look for fewer replicas later";
    if is_keda(&scaler) { None } else { held(&scaler, fix) }
}

pub fn keda_cooldown(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let fix = "cooldownPeriod is about the step to zero alone: set advanced.horizontalPodAutoscalerConfig.behavior.scaleDown in the \
               ScaledObject";
    if is_keda(&scaler) { held(&scaler, fix) } else { None }
}

pub fn is_keda(scaler: &Scaler) -> bool {
    scaler.spec.object.name.starts_with(KEDA)
}

fn held(scaler: &Scaler, fix: &str) -> Option<Sign> {
    let least = scaler.syncs(2);
    let held = scaler.held("AbleToScale", true, least).filter(|held| held.reason == "ScaleDownStabilized").last()?;
    let window = Duration::from_secs(u64::from(scaler.spec.scale_down.stabilization_window_s));
    let wanted = at(&scaler.wanted, held.stretch.from)?;
    let (below, _) = scaler.band();
    // Since when fewer would have done, where the readings tell; the condition came with the first look after that.
    let low = scaler.ratio().and_then(|ratio| {
        let low =
            stretches(&[&ratio], |v| v[0] < below).into_iter().find(|s| s.from <= held.stretch.from && s.to > held.stretch.from);
        low.map(|stretch| stretch.from)
    });
    let since = low.unwrap_or(held.stretch.from);
    let says = format!(
        "{} held {} replicas {} ({}): ScaleDownStabilized, the most that it wanted within {}; fewer would have done from {} on, so none went \
         before about {}",
        scaler.name(),
        wanted.value,
        held.stretch.words(),
        length(held.stretch.length()),
        length(window),
        moment(since),
        moment(since + window)
    );
    Some(Sign::of(says, fix).shown_by([held.n, scaler.seen]).shown_by(wanted.n))
}
