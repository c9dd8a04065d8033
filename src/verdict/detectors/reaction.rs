//! The time from a rise of the load to the autoscaler's answer, in its two parts: until the metric shows it, and until it is acted upon.

use std::time::Duration;

use super::load::Rise;
use super::scaler::Scaler;
use super::stretch::{at, length, moment, rises, stretches};
use super::{Scene, Sign};
use crate::time::Offset;
use crate::verdict::level::Step;
use crate::verdict::words::significant;

/// In looks of the autoscaler: a minute at the usual 15 s. The worst of a well-kept pipeline is 55 s (kubelet 10 s, metrics-server 15 s to
/// 30 s, one look: kubernetes/kubernetes#110317).
const METRIC_LOOKS: u32 = 4;
/// In looks of the autoscaler: one may just have been made.
const DECISION_LOOKS: u32 = 2;
/// What writing and watching it takes.
const DELIVERY: Duration = Duration::from_secs(1);

/// The answer to a rise of the load, as far as it came.
struct Answer<'a> {
    scaler: Scaler<'a>,
    rise: Rise,
    /// The first reading above what is tolerated.
    shown: Step,
    /// When more was asked for.
    acted: Option<Step>,
}

pub fn slow_metrics(scene: &Scene) -> Option<Sign> {
    let Answer { scaler, rise, shown, acted } = answer(scene)?;
    let took = shown.from.since(rise.at);
    if took <= scaler.syncs(METRIC_LOOKS) {
        return None;
    }
    let decided = acted.map(|step| format!("; it asked for {} another {} later", step.value, length(step.from.since(shown.from))));
    let says = format!(
        "the load rose from {}/s to {}/s at {}, and what {} reads was above its target {} later, at {}{}",
        significant(rise.before, 3),
        significant(rise.after, 3),
        moment(rise.at),
        scaler.name(),
        length(took),
        moment(shown.from),
        decided.unwrap_or_default()
    );
    let fix = "have metrics read more often (metrics-server's --metric-resolution is 60s where a chart does not set 15s; Prometheus' scrape \
               interval and the window of its query), or keep room for that long";
    Some(Sign::of(says, fix).shown_by(shown.n).shown_by(acted.and_then(|step| step.n)))
}

pub fn late_decision(scene: &Scene) -> Option<Sign> {
    let Answer { scaler, shown, acted, .. } = answer(scene)?;
    let until = acted.map_or(scene.to, |step| step.from);
    let took = until.since(shown.from);
    let allowed = scaler.syncs(DECISION_LOOKS).saturating_add(DELIVERY);
    let held = |kind, holds| {
        scaler.held(kind, holds, Duration::ZERO).any(|held| held.stretch.from < until && held.stretch.to > shown.from)
    };
    let is_held = held("ScalingLimited", true) || held("ScalingActive", false) || held("AbleToScale", false);
    if took <= allowed || is_held || scaler.spec.scale_up.stabilization_window_s > 0 {
        return None;
    }
    // Pods that are not ready count for nothing where more are to be added, so a high reading may be no reason to.
    let (ready, size, ratio) = (scene.ready()?, scene.size()?, scaler.ratio()?);
    let most = f64::from(scaler.spec.max_replicas);
    let (_, above) = scaler.band();
    let due = stretches(&[&ready, &size, &ratio, &scaler.wanted], |v| v[0] > 0.0 && v[0] >= v[1] && v[2] > above && v[3] < most);
    due.iter().any(|stretch| stretch.from <= shown.from && stretch.to >= until).then(|| {
        let says = format!(
            "{} read {} times its target at {} and {} later, {}; it looks every {}",
            scaler.name(),
            significant(shown.value, 3),
            moment(shown.from),
            length(took),
            acted.map_or("had asked for nothing more".to_owned(), |step| format!("asked for {}", step.value)),
            length(scaler.syncs(1))
        );
        let fix = "look at the controller manager: with many autoscalers it comes to each late \
                   (--concurrent-horizontal-pod-autoscaler-syncs, 5 by default)";
        Sign::of(says, fix).shown_by(shown.n).shown_by(acted.and_then(|step| step.n)).shown_by([scaler.seen])
    })
}

fn answer<'a>(scene: &Scene<'a>) -> Option<Answer<'a>> {
    let scaler = scene.scaler()?;
    let rise = scene.rise()?;
    let ratio = scaler.ratio()?;
    let (_, above) = scaler.band();
    // High already before it rose: whatever is read later is no answer to it.
    if at(&ratio, rise.at).is_none_or(|step| step.value > above) {
        return None;
    }
    let shown = *ratio.iter().find(|step| step.from > rise.at && step.value > above)?;
    let after = |t: Offset| rises(&scaler.wanted).map(|(_, after)| *after).find(|step| step.from > t);
    // Asked for before the metric showed anything: something else was the reason.
    let acted = after(rise.at);
    if acted.is_some_and(|step| step.from < shown.from) {
        return None;
    }
    Some(Answer { rise, shown, acted, scaler })
}
