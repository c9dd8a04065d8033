//! Constant arrivals: evenly spaced at the rate of the moment. The n-th request is due where the integral of the rate reaches n,
//! so the first of a load is due at its start and no rounding accumulates.

use super::profile::Profile;
use crate::time::Offset;

/// 0, 1, 2, ...
pub(super) struct Positions {
    n: u64,
}

impl Positions {
    pub(super) fn new() -> Positions {
        Positions { n: 0 }
    }

    pub(super) fn next(&mut self) -> f64 {
        let position = self.n as f64;
        self.n += 1;
        position
    }
}

/// The number of the first request that is due at or after `t`; the number of all of them when there is none.
pub(super) fn first_due_at(profile: &Profile, t: Offset) -> u64 {
    let due = |n: u64| profile.due(n as f64, &mut 0).map(|(due, _)| due);
    // The mass before `t` is right up to rounding, so the search has four candidates, not all of them.
    let guess = profile.mass_before(t).floor() as u64;
    let mut n = guess.saturating_sub(2);
    while due(n).is_some_and(|due| due < t) {
        n += 1;
    }
    n.min(profile.whole_count())
}
