//! A bound on a time: one that the plan states, or `auto`, derived from what the run recorded with its arithmetic shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::Span;

/// `auto`, or a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Within {
    #[default]
    Auto,
    Span(Span),
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Within::Auto => f.write_str("auto"),
            Within::Span(span) => span.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Within, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Within;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, or a length of time with its unit, as in 30s")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Within, E> {
                match text.trim() {
                    "auto" => Ok(Within::Auto),
                    text => text.parse().map(Within::Span).map_err(|why: String| E::custom(format!("{why}, or `auto`"))),
                }
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Within, E> {
                Err(E::custom(format!("`{n}` has no unit: write {n}ms or {n}s, or `auto`")))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Within, E> {
                Err(E::custom(format!("`{n}` has no unit: write {n}ms or {n}s, or `auto`")))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Within, E> {
                Err(E::custom(format!("`{n}` has no unit: write {n}ms or {n}s, or `auto`")))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Within {
    fn schema_name() -> Cow<'static, str> {
        "Within".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`auto`, or a length of time with its unit, as in 30s",
            "pattern": r"^(auto|([0-9.]+(ns|us|µs|ms|s|m|h))+)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_or_a_span_with_its_unit() {
        assert_eq!(serde_json::from_str::<Within>("\"auto\"").unwrap(), Within::Auto);
        assert_eq!(serde_json::from_str::<Within>("\"30s\"").unwrap().to_string(), "30s");
        let error = serde_json::from_str::<Within>("30").unwrap_err().to_string();
        assert!(error.contains("write 30ms or 30s, or `auto`"), "{error}");
    }
}
