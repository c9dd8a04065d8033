//! Poisson arrivals: what many users who know nothing of one another add up to. Exponential gaps of mean one in the rate's own
//! time, which the inverse of its integral bends to a rate that changes (Lewis and Shedler, 1979; Cinlar's time change).

use std::sync::Arc;

use rand_pcg::Pcg64Mcg;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::{Course, Profile};
use super::random;
use super::{Due, Process, Walk};
use crate::time::Offset;

/// Nothing can be said about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl Process for Spec {
    fn walk(&self, profile: &Arc<Profile>, seed: u64) -> Walk {
        walk(Arc::clone(profile), seed)
    }

    fn is_drawn(&self) -> bool {
        true
    }
}

/// Exponential gaps of mean one in the mass of `course`.
pub(super) fn walk(course: Arc<impl Course + 'static>, seed: u64) -> Walk {
    let mut gaps = Gaps::new(seed);
    let (mut mass, mut piece, mut last) = (0.0, 0, Offset::from_nanos(i64::MIN));
    Box::new(std::iter::from_fn(move || {
        mass += gaps.draw();
        let (due, phase) = course.at(mass, &mut piece)?;
        // An inverse that is found by approximation may be a nanosecond off, which would turn two close ones around.
        last = last.max(due);
        Some(Due::at((last, phase)))
    }))
}

/// The fewest and the most of a Poisson count of this mean, but for one in fifteen thousand: four standard deviations, which are four
/// roots of the mean, and two more, without which small counts would lie outside far more often.
pub(super) fn spread(mean: f64) -> (u64, u64) {
    ((mean - 4.0 * mean.sqrt()).max(0.0) as u64, (mean + 4.0 * mean.sqrt()).ceil() as u64 + if mean > 0.0 { 2 } else { 0 })
}

/// The most that chance chooses of `count` requests when each is chosen with the probability `share`, but for the same odds: the count of
/// a binomial lies nearer to its mean than a Poisson's.
pub fn most_chosen(count: u64, share: f64) -> u64 {
    if share >= 1.0 || count == u64::MAX { count } else { count.min(spread(count as f64 * share).1) }
}

/// Exponential gaps of mean one.
pub(super) struct Gaps {
    random: Pcg64Mcg,
}

impl Gaps {
    pub(super) fn new(seed: u64) -> Gaps {
        Gaps { random: random::generator(seed) }
    }

    pub(super) fn draw(&mut self) -> f64 {
        -random::uniform(&mut self.random).ln()
    }
}
