//! Weighted words: each comes up in proportion to its weight.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Chance, Distribution, Sampler};

/// The most words that one draw chooses among: more are a feed.
const WORDS_MOST: usize = 10_000;

/// Words with their weights, as a plan writes them: `{small: 90, large: 10}`.
pub type Spec = Weights<String>;

/// Names of some kind with their weights, in the order of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<N>(Vec<(N, u32)>);

impl<N> Weights<N> {
    /// What can be drawn, in the order of the plan.
    pub fn names(&self) -> impl Iterator<Item = &N> {
        self.0.iter().map(|(name, _)| name)
    }

    /// One alone.
    pub fn one(name: N) -> Weights<N> {
        Weights(vec![(name, 1)])
    }

    /// Each with its share of all.
    pub fn shares(&self) -> impl Iterator<Item = (&N, f64)> {
        let sum = self.sum().max(1) as f64;
        self.0.iter().map(move |(name, weight)| (name, f64::from(*weight) / sum))
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }

    /// Why nothing can be drawn of them, and the way out.
    pub fn contradiction(&self) -> Option<String> {
        if self.0.len() > WORDS_MOST {
            return Some(format!("{} words: at most {WORDS_MOST}; put more into a feed", self.0.len()));
        }
        (self.sum() == 0).then(|| "no word has a weight: give each one, as in {small: 90, large: 10}".to_owned())
    }

    /// Ready to be drawn from: an index into [`Weights::names`] each time.
    pub fn picker(&self) -> Picker {
        Picker::of(self.0.iter().map(|(_, weight)| *weight))
    }
}

/// Draws an index in proportion to weights.
#[derive(Clone, Debug)]
pub struct Picker {
    /// The weights of all up to this one, added up.
    bounds: Vec<u64>,
}

impl Picker {
    /// Draws among so many, by their weights.
    pub fn of(weights: impl Iterator<Item = u32>) -> Picker {
        let mut sum = 0;
        let bounds = weights.map(|weight| {
            sum += u64::from(weight);
            sum
        });
        Picker { bounds: bounds.collect() }
    }

    pub fn pick(&self, chance: &mut Chance) -> usize {
        let sum = self.bounds.last().copied().unwrap_or_default().max(1);
        let point = chance.below(sum);
        self.bounds.partition_point(|bound| *bound <= point)
    }
}

impl Distribution for Spec {
    fn contradiction(&self) -> Option<String> {
        Weights::contradiction(self)
    }

    fn describe(&self) -> String {
        let share = |(name, share): (&String, f64)| format!("{name} {:.3}%", share * 100.0);
        const SHOWN: usize = 8;
        let mut shares: Vec<String> = self.shares().take(SHOWN).map(share).collect();
        if self.0.len() > SHOWN {
            shares.push(format!("and {} more", self.0.len() - SHOWN));
        }
        shares.join(", ")
    }

    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.names().map(String::as_str))
    }

    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(Weighted { words: self.names().map(|word| word.clone().into_bytes()).collect(), picker: self.picker() })
    }
}

struct Weighted {
    words: Vec<Vec<u8>>,
    picker: Picker,
}

impl Sampler for Weighted {
    fn draw(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.words[self.picker.pick(chance)]);
    }
}

impl<'de, N: Deserialize<'de>> Deserialize<'de> for Weights<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Weights<N>, D::Error> {
        struct Map<N>(std::marker::PhantomData<N>);
        impl<'de, N: Deserialize<'de>> Visitor<'de> for Map<N> {
            type Value = Weights<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of weights, as in {small: 90, large: 10}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights<N>, A::Error> {
                let mut weights = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    weights.push(entry);
                }
                if weights.is_empty() { Err(de::Error::custom("nothing is given a weight")) } else { Ok(Weights(weights)) }
            }
        }
        deserializer.deserialize_map(Map(std::marker::PhantomData))
    }
}

impl<N: Serialize> Serialize for Weights<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, weight)| (name, weight)))
    }
}

impl<N> JsonSchema for Weights<N> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weights".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "names, each with its weight: a whole number; what counts is its share of all of them",
            "type": "object", "minProperties": 1,
            "additionalProperties": {"type": ["integer", "string"], "minimum": 0, "maximum": u32::MAX, "pattern": r"^[0-9_]+$|\$\{"}
        })
    }
}
