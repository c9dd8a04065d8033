//! Zipf keys: key k comes up in proportion to 1 / k^skew, as requests to caches and shops do. Drawn by rejection-inversion (Hörmann and
//! Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS 6(3), 1996): no table, so
//! that a thousand million keys cost what ten do, and little more than one random number for each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chance, Distribution, Sampler};
use crate::varying::template::write_number;

/// Beyond it nearly every draw is the first key.
const SKEW_MOST: f64 = 10.0;
/// Keys are worked out as floating-point numbers: up to here each has its own, with room to spare.
const KEYS_MOST: u64 = 1 << 40;
/// So many terms of the sum of all weights are added up one by one when a plan is explained; the rest is an integral.
const ADDED: u64 = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// How many keys there are: numbers from 1, the commonest first.
    #[schemars(range(min = 1))]
    of: u64,
    /// How uneven they are: 0 is not at all, 1 is what texts and caches are like.
    #[schemars(range(min = 0, max = 10))]
    skew: f64,
}

impl Distribution for Spec {
    fn contradiction(&self) -> Option<String> {
        if self.of == 0 || self.of > KEYS_MOST {
            return Some(format!("{} keys: it must be from 1 to {KEYS_MOST}", self.of));
        }
        let sensible = (0.0..=SKEW_MOST).contains(&self.skew);
        (!sensible).then(|| format!("keys cannot be skewed by {}: from 0 (not at all) to {SKEW_MOST}", self.skew))
    }

    fn describe(&self) -> String {
        let curve = Curve { skew: self.skew };
        let added = self.of.min(ADDED);
        let sum: f64 = (1..=added).map(|key| curve.height(key as f64)).sum();
        let rest = curve.area(self.of as f64 + 0.5) - curve.area(added as f64 + 0.5);
        let first = 100.0 / (sum + rest);
        format!("1 to {}, the commonest in {first:.2}% of the requests", self.of)
    }

    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(Zipf::new(self.of.max(1), self.skew))
    }
}

/// The weights as a curve: x^-skew, its integral from 1, and the inverse of that.
#[derive(Clone, Copy)]
struct Curve {
    skew: f64,
}

impl Curve {
    fn height(self, x: f64) -> f64 {
        x.powf(-self.skew)
    }

    /// (x^(1 - skew) - 1) / (1 - skew), or ln x where skew is 1, exact near 1 too.
    fn area(self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.skew) * log;
        log * if t.abs() < 1e-8 { 1.0 + t / 2.0 } else { t.exp_m1() / t }
    }

    fn at_area(self, area: f64) -> f64 {
        // Rounding may lead just below what has an inverse.
        let t = ((1.0 - self.skew) * area).max(-1.0);
        (area * if t.abs() < 1e-8 { 1.0 - t / 2.0 } else { t.ln_1p() / t }).exp()
    }
}

struct Zipf {
    of: u64,
    curve: Curve,
    /// Areas are drawn from here...
    least: f64,
    /// ... to there.
    most: f64,
    /// So close above a point its key is right without a further look.
    squeeze: f64,
}

impl Zipf {
    fn new(of: u64, skew: f64) -> Zipf {
        let curve = Curve { skew };
        Zipf {
            of,
            curve,
            least: curve.area(1.5) - 1.0,
            most: curve.area(of as f64 + 0.5),
            squeeze: 2.0 - curve.at_area(curve.area(2.5) - curve.height(2.0)),
        }
    }

    fn key(&self, chance: &mut Chance) -> u64 {
        loop {
            let area = self.most + chance.unit() * (self.least - self.most);
            let x = self.curve.at_area(area);
            let key = x.round().clamp(1.0, self.of as f64);
            if key - x <= self.squeeze || area >= self.curve.area(key + 0.5) - self.curve.height(key) {
                return key as u64;
            }
        }
    }
}

impl Sampler for Zipf {
    fn draw(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        write_number(self.key(chance), out);
    }
}
