//! A level through one phase: a [`Rate`], or a number of [`Users`]. Steady (`50/s`, `64`), or a ramp from the phase's start to its end
//! (`50/s -> 250/s`, `10 -> 64`); one for all phases, or one for each by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::{Located, Pairs};
use crate::names::Name;
use crate::units::{Rate, Users};

/// How high through one phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level<T> {
    Steady(T),
    /// Linear from the phase's start to its end.
    Ramp {
        from: T,
        to: T,
    },
}

/// The rate through one phase.
pub type PhaseRate = Level<Rate>;

/// The number of users through one phase.
pub type PhaseUsers = Level<Users>;

/// The level in each phase; a phase that is absent has none.
pub type Levels<T> = BTreeMap<Name, Level<T>>;

/// What can have a level.
pub trait Quantity: Copy + PartialOrd + FromStr<Err = String> + fmt::Display + for<'de> Deserialize<'de> {
    /// What a plan may write, for errors and editors.
    const EXPECTING: &'static str;
    /// One of it as text, without anchors; the schema's pattern is made from it.
    const PATTERN: &'static str;
    /// Whether it may also stand as a bare number.
    const BARE: bool;
    /// The schema's name of its level, and of a map of them.
    const NAMES: [&'static str; 2];

    /// As a number: per second, or a count.
    fn value(self) -> f64;
}

impl Quantity for Rate {
    const EXPECTING: &'static str = "a rate as in 50/s, or a ramp as in 50/s -> 250/s";
    const PATTERN: &'static str = "[0-9._]+ */ *(s|m|h)";
    const BARE: bool = false;
    const NAMES: [&'static str; 2] = ["PhaseRate", "Rates"];

    fn value(self) -> f64 {
        self.per_second()
    }
}

impl Quantity for Users {
    const EXPECTING: &'static str = "a number of users as in 64, or a ramp as in 10 -> 64";
    const PATTERN: &'static str = "[0-9_]+";
    const BARE: bool = true;
    const NAMES: [&'static str; 2] = ["PhaseUsers", "UsersByPhase"];

    fn value(self) -> f64 {
        f64::from(self.count())
    }
}

impl<T: Quantity> Level<T> {
    /// At the phase's start and at its end.
    pub fn ends(self) -> (T, T) {
        match self {
            Level::Steady(level) => (level, level),
            Level::Ramp { from, to } => (from, to),
        }
    }

    /// The mean over the phase, as a number.
    pub fn mean(self) -> f64 {
        let (from, to) = self.ends();
        (from.value() + to.value()) / 2.0
    }

    /// The highest of the phase.
    pub fn peak(self) -> T {
        let (from, to) = self.ends();
        if from > to { from } else { to }
    }
}

/// The highest of all phases, as a number.
pub fn peak<T: Quantity>(levels: &Levels<T>) -> f64 {
    levels.values().map(|level| level.peak().value()).fold(0.0, f64::max)
}

impl<T: Quantity> FromStr for Level<T> {
    type Err = String;

    /// `50/s`, or a ramp: `50/s -> 250/s`.
    fn from_str(text: &str) -> Result<Level<T>, String> {
        match text.split_once("->") {
            None => text.parse().map(Level::Steady),
            Some((from, to)) => Ok(Level::Ramp { from: from.trim().parse()?, to: to.trim().parse()? }),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Level<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Steady(level) => write!(f, "{level}"),
            Level::Ramp { from, to } => write!(f, "{from} -> {to}"),
        }
    }
}

impl<'de, T: Quantity> Deserialize<'de> for Level<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);
        impl<T: Quantity> Visitor<'_> for One<T> {
            type Value = Level<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTING)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Level<T>, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Level<T>, E> {
                T::deserialize(n.into_deserializer()).map(Level::Steady)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Level<T>, E> {
                T::deserialize(n.into_deserializer()).map(Level::Steady)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Level<T>, E> {
                T::deserialize(n.into_deserializer()).map(Level::Steady)
            }
        }
        deserializer.deserialize_any(One(PhantomData))
    }
}

impl<T: Quantity> JsonSchema for Level<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAMES[0].into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = T::PATTERN;
        let kind = if T::BARE { serde_json::json!(["integer", "string"]) } else { "string".into() };
        json_schema!({"type": kind, "description": T::EXPECTING, "minimum": 0, "pattern": format!(r"^{one}( *-> *{one})?$|\$\{{")})
    }
}

/// One level for all phases, or one for each by name, as a plan writes it.
pub(super) enum Written<T> {
    All(Level<T>),
    PerPhase(Pairs<Located<Name>, Located<Level<T>>>),
}

impl<'de, T: Quantity> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Quantity> Visitor<'de> for Either<T> {
            type Value = Written<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a map of them by phase", T::EXPECTING.replacen(", or", ",", 1))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Written<T>, E> {
                text.parse().map(Written::All).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Written<T>, E> {
                Level::deserialize(n.into_deserializer()).map(Written::All)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Written<T>, E> {
                Level::deserialize(n.into_deserializer()).map(Written::All)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Written<T>, E> {
                Level::deserialize(n.into_deserializer()).map(Written::All)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Written<T>, A::Error> {
                Pairs::deserialize(de::value::MapAccessDeserializer::new(map)).map(Written::PerPhase)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: Quantity> JsonSchema for Written<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAMES[1].into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Level<T>>();
        json_schema!({"anyOf": [one, {"type": "object", "additionalProperties": one, "description": "one by phase; a phase that is not named has none"}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_steady_or_a_ramp_and_prints_as_it_was_read() {
        for text in ["50/s", "50/s -> 250/s"] {
            assert_eq!(text.parse::<PhaseRate>().expect("a rate").to_string(), text);
        }
        for text in ["64", "10 -> 64"] {
            assert_eq!(text.parse::<PhaseUsers>().expect("users").to_string(), text);
        }
        assert_eq!("10 -> 64".parse::<PhaseUsers>().expect("users").peak().count(), 64);
        let error = "10/s -> 64".parse::<PhaseUsers>().expect_err("two kinds");
        assert_eq!(error, "`10/s` is no number of users: write a whole number, as in 64");
    }
}
