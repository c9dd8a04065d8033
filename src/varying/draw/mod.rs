//! Keys that are drawn: which item, which tenant, which size. Pure functions of seed and number of the request, so that every worker
//! draws for its own requests what one alone would have drawn for them, and a run is repeated by its seed.
//!
//! A distribution is one file with a `Spec`, one `mod` line and one row in the table below.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::kinds::{self, kinds};
use crate::schedule::random::split_mix;

mod uniform;
mod weighted;
mod zipf;

pub use weighted::{Picker, Weights};

kinds! {
    /// How keys are drawn.
    pub enum Draw as dyn Distribution {
        uniform::Spec => Uniform "uniform": "each of so many keys, numbers from 1, as often as any other" = "{of: 500}",
        zipf::Spec => Zipf "zipf": "few keys often and many seldom, as in caches: key k in proportion to 1 / k^skew" = "{of: 1000, skew: 1.1}",
        weighted::Spec => Weighted "weighted": "words, each in proportion to its weight" = "{small: 90, large: 10}",
    }
}

/// What every distribution knows of itself.
pub trait Distribution: Send + Sync {
    /// Why the spec, as it is written, can never be, and the way out.
    fn contradiction(&self) -> Option<String> {
        None
    }

    /// What follows from it, in words.
    fn describe(&self) -> String;

    /// The words that it draws; none where it draws numbers.
    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }

    /// The same, ready to be drawn from.
    fn sampler(&self) -> Box<dyn Sampler>;
}

/// A distribution with everything worked out that does not change from draw to draw.
pub trait Sampler: Send + Sync {
    /// Draws a key, and adds it as text to `out`.
    fn draw(&self, chance: &mut Chance, out: &mut Vec<u8>);
}

/// The random numbers behind one draw of one request.
pub struct Chance(u64);

impl Chance {
    /// Those of the request `number`, in what has this seed.
    pub fn of(seed: u64, number: u64) -> Chance {
        Chance(split_mix(seed ^ split_mix(number)))
    }

    /// 64 random bits. The sequence is that of SplitMix64.
    pub fn bits(&mut self) -> u64 {
        let bits = split_mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits
    }

    /// 53 random bits in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `n`, which is not 0. Some come up more often than others by one in 2^64 / n (Lemire, 2019, without the
    /// rejection): nobody lives to see it.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

impl<'de> Deserialize<'de> for Draw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Draw, D::Error> {
        kinds::read_value(deserializer)
    }
}

impl JsonSchema for Draw {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Draw".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        kinds::schema_of_map::<Draw>(generator)
    }
}

/// As a plan writes it, on one line.
impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            // JSON is YAML.
            Ok(value) => write!(f, "{value}"),
            Err(_) => f.write_str(kinds::Kind::key(self)),
        }
    }
}

#[cfg(test)]
mod tests;
