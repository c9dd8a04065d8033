//! For metrics that are not of pods, an autoscaler divides by the pods that there are: those that have been told to go and are still
//! ready, and those of a rollout that are one too many, included.

use super::stretch::moment;
use super::{Scene, Sign};
use crate::verdict::words::count;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| matches!(gauge.source, "object" | "external"))?;
    let pods = scene.pods()?;
    scaler.wanted.windows(2).find_map(|pair| {
        let (before, after) = (&pair[0], &pair[1]);
        let leaving: Vec<_> = pods
            .iter()
            .filter(|life| life.at(after.from).is_some_and(|pod| pod.terminating && pod.ready && !pod.gone))
            .collect();
        let named = leaving.first()?;
        let says = format!(
            "{} went from {} to {} at {} by {}, while {} told to go and still ready ({}{}): they are counted among those that share it",
            scaler.name(),
            before.value,
            after.value,
            moment(after.from),
            gauge.name,
            if leaving.len() == 1 { "1 pod was".to_owned() } else { format!("{} were", count(leaving.len() as u64, "pod")) },
            named.label(),
            if leaving.len() > 1 { ", ..." } else { "" }
        );
        let fix = "keep terminationGracePeriodSeconds as short as draining allows, and stop being ready when told to go";
        let sights = leaving.iter().filter_map(|life| life.sights.iter().rfind(|(_, t, _)| *t <= after.from)).map(|(n, ..)| *n);
        Some(Sign::of(says, fix).shown_by(after.n).shown_by(sights))
    })
}
