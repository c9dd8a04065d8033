//! Poisson arrivals: what many users who know nothing of one another add up to. Exponential gaps of mean one in the rate's own
//! time, which the inverse of its integral bends to a rate that changes (Lewis and Shedler, 1979; Cinlar's time change).

use rand::Rng;
use rand_pcg::Pcg64Mcg;

use super::split_mix;

/// The running sum of exponential gaps.
pub(super) struct Positions {
    random: Pcg64Mcg,
    sum: f64,
}

impl Positions {
    pub(super) fn new(seed: u64) -> Positions {
        // Both halves of the state are derived here rather than by a seeding routine that another release may change.
        let (low, high) = (split_mix(seed), split_mix(split_mix(seed)));
        Positions { random: Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low)), sum: 0.0 }
    }

    pub(super) fn next(&mut self) -> f64 {
        // 53 random bits in (0, 1]: the logarithm is finite.
        let uniform = ((self.random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        self.sum -= uniform.ln();
        self.sum
    }
}
