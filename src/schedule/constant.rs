//! Constant arrivals: evenly spaced at the rate of the moment. The n-th request is due where the integral of the rate reaches n,
//! so the first of a load is due at its start and no rounding accumulates.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::{Course, Profile};
use super::{Due, Process, Walk};
use crate::time::Offset;

/// Nothing can be said about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl Process for Spec {
    fn walk(&self, profile: &Arc<Profile>, _: u64) -> Walk {
        walk(Arc::clone(profile), 1)
    }

    fn due_before(&self, profile: &Profile, t: Offset) -> Option<u64> {
        Some(due_before(profile, 1, t))
    }
}

/// `at_once` requests wherever the integral of the rate reaches a multiple of it.
pub(super) fn walk(course: Arc<impl Course + 'static>, at_once: u64) -> Walk {
    let mut piece = 0;
    Box::new((0u64..).map_while(move |n| course.at((n - n % at_once) as f64, &mut piece).map(Due::at)))
}

/// How many of [`walk`] are due before `t`.
pub(super) fn due_before(course: &impl Course, at_once: u64, t: Offset) -> u64 {
    let due = |group: u64| course.at((group * at_once) as f64, &mut 0).map(|(due, _)| due);
    // The mass before `t` is right up to rounding, so the search has four candidates, not all of them.
    let guess = (course.before(t) / at_once as f64).floor() as u64;
    let mut group = guess.saturating_sub(2);
    while due(group).is_some_and(|due| due < t) {
        group += 1;
    }
    group.min((course.total() / at_once as f64).ceil() as u64) * at_once
}
