//! A Service chooses a pod for each connection, not for each request. Connections that are kept (gRPC, keep-alive) go on to the pods that
//! there were, and new ones have nothing to do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stretch::{length, moment};
use super::{Scene, Sign};
use crate::verdict::words::percent;

/// How long after a pod is ready its share is looked at: endpoints and balancers need a moment.
const SETTLES: Duration = Duration::from_secs(10);
/// For how long it must have been looked at.
const LOOK_LEAST: Duration = Duration::from_secs(10);
/// The share of its part that a pod must have had.
const FAIR_LEAST: f64 = 0.5;
/// Answers that a fair part must come to: of fewer, half may be chance.
const PART_LEAST: f64 = 50.0;
/// The share of answers that must say who gave them.
const NAMED_LEAST: f64 = 0.99;

pub fn look(scene: &Scene) -> Option<Sign> {
    let pods = scene.pods()?;
    let mut cold: Vec<String> = Vec::new();
    let mut evidence = Vec::new();
    for life in &pods {
        let Some((n, ready)) = life.ready().filter(|(_, t)| *t >= scene.from) else { continue };
        let from = ready + SETTLES;
        if from >= scene.to || scene.to.since(from) < LOOK_LEAST || !life.serves(from, scene.to) {
            continue;
        }
        let serving = pods.iter().filter(|other| other.serves(from, scene.to)).count();
        let (mut served, mut answered, mut opened): (BTreeMap<&str, u64>, u64, u64) = (BTreeMap::new(), 0, 0);
        for (_, tally) in scene.history.windows_in(None, from, scene.to) {
            answered += tally.counts.ok;
            opened += tally.opened;
            tally.served_by.iter().for_each(|(who, count)| *served.entry(who).or_default() += count);
        }
        let named: u64 = served.values().sum();
        let name = &life.last().name;
        // A name that is no pod's is somebody else's idea of who served.
        let known: u64 = pods.iter().filter_map(|life| served.get(life.last().name.as_str())).sum();
        let part = named as f64 / serving.max(1) as f64;
        let sound = answered > 0 && known as f64 >= NAMED_LEAST * answered as f64 && serving > 1 && part >= PART_LEAST;
        let has = served.get(name.as_str()).copied().unwrap_or(0);
        if sound && (has as f64) < FAIR_LEAST * part {
            let share = has as f64 / named as f64;
            cold.push(format!(
                    "{} was ready at {} and gave {} of the answers in the {} from {} on, where {} would be its part of {serving} ({opened} \
                     connections were opened then)",
                    life.label(),
                    moment(ready),
                    percent(share),
                    length(scene.to.since(from)),
                    moment(from),
                    percent(1.0 / serving as f64)
            ));
            evidence.push(n);
        }
    }
    let (first, others) = cold.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!("; and {} more like it", others.len()) };
    let fix = "balance requests and not connections (a proxy that speaks HTTP/2 or gRPC, clients that know the pods), or close connections now \
               and then; and see that the plan's own do not stay (`rotate` of the load)";
    Some(Sign::of(format!("{first}{more}"), fix).shown_by(evidence))
}
