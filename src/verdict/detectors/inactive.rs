//! Autoscalers that do nothing, and say why in a condition.

use std::time::Duration;

use super::scaler::{Held, Scaler};
use super::stretch::length;
use super::{Scene, Sign};

/// Looks of the autoscaler that a condition must outlast: at its first look it has read nothing yet.
const LOOKS: u32 = 2;

/// The reasons of a metric that could not be read: `FailedGetResourceMetric`, `FailedGetPodsMetric`, ...
pub const UNREAD: &str = "FailedGet";
/// That of a target which could not be read, which starts like them.
const NO_TARGET: &str = "FailedGetScale";

pub fn metric_missing(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let least = scaler.syncs(LOOKS);
    let held = longest(scaler.held("ScalingActive", false, least).filter(|held| held.reason.starts_with(UNREAD)))?;
    let events = scene.events(|object| *object == scaler.spec.object);
    // Of several metrics others may be read.
    let all_failed = || events.iter().filter_map(|event| failures(event.message)).any(|(failed, of)| failed == of);
    if scaler.spec.metrics.len() > 1 && !all_failed() {
        return None;
    }
    let fix = if held.message.contains("missing request") {
        "give every container of its pods a request for it, sidecars included"
    } else {
        "see that the metrics API serves it for these pods (`kubectl get --raw /apis/metrics.k8s.io/v1beta1/...`), or correct its name"
    };
    Some(stands_still(&scaler, held, fix))
}

pub fn ambiguous(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let held = longest(scaler.held("ScalingActive", false, Duration::ZERO).filter(|held| held.reason == "AmbiguousSelector"))?;
    Some(stands_still(&scaler, held, "leave one autoscaler for these pods; beside a ScaledObject, which makes its own, none"))
}

pub fn switched_off(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let held = longest(scaler.held("ScalingActive", false, Duration::ZERO).filter(|held| held.reason == "ScalingDisabled"))?;
    Some(stands_still(
        &scaler,
        held,
        format!("scale {} to one or more: from there on the autoscaler scales it", scaler.spec.scales),
    ))
}

pub fn unable(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let known = ["AmbiguousSelector", "ScalingDisabled"];
    let not_known = |held: &&Held| held.reason == NO_TARGET || !held.reason.starts_with(UNREAD) && !known.contains(&held.reason);
    let least = scaler.syncs(LOOKS);
    let held =
        longest(scaler.held("ScalingActive", false, least).chain(scaler.held("AbleToScale", false, least)).filter(not_known))?;
    Some(stands_still(&scaler, held, format!("see to what it names: `kubectl describe` tells more of {}", scaler.spec.object)))
}

/// `(1 invalid out of 2)` in what the controller says when metrics fail.
pub fn failures(message: &str) -> Option<(u32, u32)> {
    let (_, rest) = message.split_once('(')?;
    let (failed, rest) = rest.split_once(" invalid out of ")?;
    Some((failed.parse().ok()?, rest.split_once(')')?.0.parse().ok()?))
}

fn longest<'s, 'a: 's>(held: impl Iterator<Item = &'s Held<'a>>) -> Option<&'s Held<'a>> {
    held.reduce(|longest, next| if next.stretch.length() > longest.stretch.length() { next } else { longest })
}

fn stands_still(scaler: &Scaler, held: &Held, fix: impl Into<String>) -> Sign {
    let says = format!(
        "{} stood still {} ({}): {}=False, {}: {}",
        scaler.name(),
        held.stretch.words(),
        length(held.stretch.length()),
        held.kind,
        held.reason,
        held.message
    );
    Sign::of(says, fix).shown_by([held.n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_metrics_failed_is_read_from_the_controller_s_words() {
        assert_eq!(failures("invalid metrics (1 invalid out of 2), first error is: x"), Some((1, 2)));
        assert_eq!(failures("failed to get cpu utilization (x)"), None);
        assert_eq!(failures("invalid metrics (-1 invalid out of many)"), None);
    }
}
