//! The class of a load's requests as a plan writes it: a name, or names with their weights.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::names::Name;
use crate::varying::Class;
use crate::varying::draw::Weights;

/// The header that tells it, unless said otherwise.
const HEADER: &str = "x-class";
/// The most classes of a load: each is counted apart, second by second.
const CLASSES_MOST: usize = 16;

/// As a plan writes it.
pub(super) struct WrittenClass(pub Class);

/// The long form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Long {
    /// The class of every request.
    name: Option<Name>,
    /// Classes in proportion to their weights, as in {critical: 10, default: 60, sheddable: 30}.
    weighted: Option<Weights<Name>>,
    /// The header that tells it; x-class unless said otherwise.
    header: Option<String>,
}

impl WrittenClass {
    /// Why it can never be, and the way out.
    pub fn contradiction(&self) -> Option<String> {
        let count = self.0.weights.names().count();
        if count > CLASSES_MOST {
            return Some(format!("{count} classes: at most {CLASSES_MOST}, since each is counted apart"));
        }
        self.0.weights.contradiction()
    }
}

impl<'de> Deserialize<'de> for WrittenClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenClass;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class as in critical, or {weighted: {critical: 10, default: 90}}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenClass, E> {
                let name = text.parse().map_err(E::custom)?;
                Ok(WrittenClass(Class { weights: Weights::one(name), header: HEADER.to_owned() }))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenClass, A::Error> {
                let Long { name, weighted, header } = Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let weights = match (name, weighted) {
                    (Some(name), None) => Weights::one(name),
                    (None, Some(weights)) => weights,
                    _ => return Err(de::Error::custom("a request is of one class: `name` for all of them, or `weighted`")),
                };
                Ok(WrittenClass(Class { weights, header: header.unwrap_or_else(|| HEADER.to_owned()) }))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenClass {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Class".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Name>(), generator.subschema_for::<Long>()]})
    }
}
