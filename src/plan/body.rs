//! The body of a request, as a plan writes it: text, or a file whose bytes are sent as they are.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::Located;
use super::written::Text;

/// The largest file that is sent as a body, in bytes: every worker keeps it.
pub(super) const FILE_MOST: u64 = 16 << 20;

/// Text, or {file: payload.bin}.
pub(super) enum WrittenBody {
    Text(Text),
    File(Located<String>),
}

/// A body from a file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct FromFile {
    /// Relative to the plan's file, at most 16 MiB; its bytes are sent as they are, and {{...}} in it is no reference.
    file: Located<String>,
}

impl WrittenBody {
    /// What stands in the plan itself, where it does.
    pub fn text(&self) -> Option<&str> {
        match self {
            WrittenBody::Text(text) => Some(&text.0),
            WrittenBody::File(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for WrittenBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or {file: FILE}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenBody, E> {
                Ok(WrittenBody::Text(Text(text.to_owned())))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenBody, A::Error> {
                FromFile::deserialize(de::value::MapAccessDeserializer::new(map)).map(|from| WrittenBody::File(from.file))
            }
        }
        // Numbers and words stand for themselves: as text, unless it is a map.
        deserializer.deserialize_str(Either)
    }
}

impl JsonSchema for WrittenBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Body".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (text, file) = (generator.subschema_for::<Text>(), generator.subschema_for::<FromFile>());
        json_schema!({"anyOf": [text, file]})
    }
}
