//! When a connection of a load has had its day: the words of a plan for it, and what they come to.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::Located;
use crate::units::Span;

/// How old a connection grows before it is replaced where the plan does not say. A client that keeps its connections for ever hides every
/// scale-out, since balancers choose once per connection.
const USUAL_AGE: Span = Span::from_secs(5);
/// The least age that makes sense: below it, more time goes into opening connections than into using them.
const AGE_LEAST: Span = Span::from_millis(10);

/// When a connection is replaced, give or take a quarter: by its age, by how many requests it has carried, or by whatever comes first.
/// Where it says nothing, connections are kept for as long as the peer keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub age: Option<Span>,
    pub requests: Option<u32>,
}

impl Rotation {
    /// Connections are kept.
    pub const NEVER: Rotation = Rotation { age: None, requests: None };
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { age: Some(USUAL_AGE), requests: None }
    }
}

impl fmt::Display for Rotation {
    /// As what follows "each replaced".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.age, self.requests) {
            (None, None) => f.write_str("never"),
            (Some(age), None) => write!(f, "after about {age}"),
            (None, Some(requests)) => write!(f, "after about {requests} requests"),
            (Some(age), Some(requests)) => write!(f, "after about {age} or {requests} requests"),
        }
    }
}

/// `never`, or {age: 5s, requests: 1000}.
pub(super) enum WrittenRotation {
    Never,
    When(When),
}

/// What a connection is replaced after.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, extend("minProperties" = 1))]
pub(super) struct When {
    /// How old a connection grows, give or take a quarter.
    age: Option<Located<Span>>,
    /// How many requests a connection carries, give or take a quarter.
    #[schemars(range(min = 1, max = 1000000000))]
    requests: Option<Located<u32>>,
}

/// The most requests after which a connection can be asked to be replaced.
const REQUESTS_MOST: u32 = 1_000_000_000;

impl WrittenRotation {
    /// What it comes to, and what is wrong with it.
    pub(super) fn rotation(&self) -> Result<Rotation, String> {
        let WrittenRotation::When(When { age, requests }) = self else { return Ok(Rotation::NEVER) };
        if let Some(age) = age.as_ref().filter(|age| age.value < AGE_LEAST) {
            return Err(format!("a connection cannot be replaced after {}: at least {AGE_LEAST}", age.value));
        }
        if let Some(requests) = requests.as_ref().filter(|requests| !(1..=REQUESTS_MOST).contains(&requests.value)) {
            return Err(format!("a connection cannot be replaced after {} requests: from 1 to {REQUESTS_MOST}", requests.value));
        }
        if age.is_none() && requests.is_none() {
            return Err("this says not when: write {age: 5s}, {requests: 1000}, both, or never".into());
        }
        Ok(Rotation { age: age.as_ref().map(|age| age.value), requests: requests.as_ref().map(|requests| requests.value) })
    }
}

impl<'de> Deserialize<'de> for WrittenRotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenRotation;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("never, or {age: 5s, requests: 1000} with either or both")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenRotation, E> {
                match word {
                    "never" => Ok(WrittenRotation::Never),
                    _ => Err(E::custom(format!("`{word}` is not when a connection is replaced: write never, or {{age: {word}}}"))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenRotation, A::Error> {
                When::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenRotation::When)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenRotation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rotation".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let when = generator.subschema_for::<When>();
        json_schema!({"anyOf": [{"enum": ["never"]}, when]})
    }
}
