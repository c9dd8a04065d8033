//! Poisson arrivals: what many users who know nothing of one another add up to. Exponential gaps of mean one in the rate's own
//! time, which the inverse of its integral bends to a rate that changes (Lewis and Shedler, 1979; Cinlar's time change).

use rand_pcg::Pcg64Mcg;

use super::{generator, uniform};

/// The running sum of exponential gaps.
pub(super) struct Positions {
    random: Pcg64Mcg,
    sum: f64,
}

impl Positions {
    pub(super) fn new(seed: u64) -> Positions {
        Positions { random: generator(seed), sum: 0.0 }
    }

    pub(super) fn next(&mut self) -> f64 {
        self.sum -= uniform(&mut self.random).ln();
        self.sum
    }
}
