//! A demand that is cut off: by the autoscaler's maximum, or by the nodes.

use std::time::Duration;

use super::stretch::{at, length, moment};
use super::{Scene, Sign};
use crate::recording::fact::PodSeen;
use crate::time::Offset;
use crate::verdict::words::count;

/// A pod that is placed at once waits for a moment, too.
const WAITS_LEAST: Duration = Duration::from_secs(5);

pub fn at_most(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let held = scaler.held("ScalingLimited", true, Duration::ZERO).find(|held| held.reason == "TooManyReplicas")?;
    let most = scaler.spec.max_replicas;
    let says = format!(
        "{} wanted more than its maxReplicas of {most} {} ({})",
        scaler.name(),
        held.stretch.words(),
        length(held.stretch.length())
    );
    let step = at(&scaler.wanted, held.stretch.from).and_then(|step| step.n);
    Some(Sign::of(says, "raise maxReplicas, or send what they can carry").shown_by([held.n, scaler.seen]).shown_by(step))
}

pub fn no_room(scene: &Scene) -> Option<Sign> {
    let pods = scene.pods()?;
    let mut waiting = Vec::new();
    for life in &pods {
        let waits = |pod: &PodSeen| pod.phase == "Pending" && pod.reason.as_deref() == Some("Unschedulable");
        let Some((n, since)) = life.first(Offset::from_nanos(i64::MIN), waits) else { continue };
        let until = life.first(since, |pod| !waits(pod)).map_or(scene.to, |(_, t)| t);
        let waited = until.since(since.max(scene.from));
        if waited >= WAITS_LEAST {
            waiting.push((n, life, since, waited));
        }
    }
    let (_, longest, since, waited) = waiting.iter().max_by_key(|(n, _, _, waited)| (*waited, std::cmp::Reverse(*n)))?;
    let name = &longest.last().name;
    let why = scene.events(|object| object.name == *name).into_iter().find(|event| event.reason == "FailedScheduling");
    let says = format!(
        "{} found no node with room: {} waited from {} on for {}{}",
        count(waiting.len() as u64, "pod"),
        longest.label(),
        moment(*since),
        length(*waited),
        why.as_ref().map(|event| format!(": {}", event.message)).unwrap_or_default()
    );
    let fix = "see that nodes are added in time, ask for less per pod, or keep fewer replicas";
    Some(Sign::of(says, fix).shown_by(waiting.iter().map(|(n, ..)| *n)).shown_by(why.map(|event| event.n)))
}
