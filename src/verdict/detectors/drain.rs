//! A pod is told to go and taken out of its Service at the same time, so requests come to it for a while after SIGTERM. One that stops at
//! once, or closes what is open, breaks them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stretch::{listed, moment};
use super::{Scene, Sign};
use crate::recording::fact::{Fact, Tally};
use crate::verdict::words::count;

/// How long after a pod was told to go what breaks is put down to that.
const REACH: Duration = Duration::from_secs(10);
/// The share of what broke that must lie there, and of the window that this may be: what is everywhere shows nothing.
const MOST: (f64, f64) = (0.8, 0.5);
/// Fewer may be anything.
const LEAST: u64 = 3;

pub fn look(scene: &Scene) -> Option<Sign> {
    let pods = scene.pods()?;
    // One that is gone at once was killed: nobody told it to go.
    let told: Vec<_> = pods
        .iter()
        .filter_map(|life| {
            let (n, t) = life.first(scene.from, |pod| pod.terminating && !pod.gone)?;
            let before = life.sights.iter().rfind(|(_, seen, _)| *seen < t)?.2;
            (before.ready && !before.terminating).then_some((n, t, life))
        })
        .collect();
    let (_, first, _) = told.iter().min_by_key(|(_, t, _)| *t)?;
    let near: BTreeSet<i64> = told.iter().flat_map(|(_, t, _)| t.second()..=(*t + REACH).second()).collect();
    let (from, to) = (scene.from.second(), (scene.to - Duration::from_nanos(1)).second());
    let seconds = (to - from + 1) as f64;
    let covered = near.iter().filter(|second| (from..=to).contains(second)).count() as f64;
    let (mut all, mut there) = (0, 0);
    let mut worst: Option<(u64, u64)> = None;
    for event in &scene.history.events {
        let Fact::Tally(tally) = &event.fact else { continue };
        if !scene.history.overlaps(&tally.phase, tally.second, scene.from, scene.to) {
            continue;
        }
        let broken = broken(tally);
        all += broken;
        if near.contains(&tally.second) {
            there += broken;
            worst = worst.filter(|(most, _)| *most >= broken).or(Some((broken, event.n)));
        }
    }
    if there < LEAST || (there as f64) < MOST.0 * all as f64 || covered > MOST.1 * seconds {
        return None;
    }
    let names: Vec<String> = told.iter().map(|(_, t, life)| format!("{} at {}", life.label(), moment(*t))).collect();
    let says = format!(
        "{there} of the {} that broke off or were refused fall into the {} s after {} told to go, from {} on: {}",
        count(all, "request"),
        REACH.as_secs(),
        if told.len() == 1 { "1 pod was".to_owned() } else { format!("{} were", count(told.len() as u64, "pod")) },
        moment(*first),
        listed(&names, 3)
    );
    let fix = "go on serving after SIGTERM until endpoints are gone everywhere (a preStop sleep of some seconds), then drain what is open, within \
               terminationGracePeriodSeconds";
    Some(Sign::of(says, fix).shown_by(worst.map(|(_, n)| n)).shown_by(told.iter().map(|(n, ..)| *n)))
}

/// Requests that something between client and service broke: connections that end, and what proxies say when theirs do.
fn broken(tally: &Tally) -> u64 {
    let is_so = |cause: &str| {
        ["connection refused", "reset", "connection broken", "status 502", "status 503", "status 504"].contains(&cause)
            || cause.starts_with("closed ")
    };
    tally.causes.iter().filter(|(cause, _)| is_so(cause)).map(|(_, n)| n).sum()
}
