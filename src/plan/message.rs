//! The message of a call as a plan writes it: any YAML that is JSON, every value with its place.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::Located;
use crate::grpc::{Entry, Json, Value};

/// A value of it.
pub(super) struct WrittenMessage(pub Value);

impl Located<WrittenMessage> {
    pub fn json(self) -> Json {
        Json { at: self.at, value: self.value.0 }
    }
}

impl<'de> Deserialize<'de> for WrittenMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message, as {field: value}")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Number(number.into()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Number(number.into()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
                let number =
                    serde_json::Number::from_f64(number).ok_or_else(|| E::custom("no message holds a number that large"))?;
                Ok(Value::Number(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Located<WrittenMessage>>()? {
                    items.push(item.json());
                }
                Ok(Value::List(items))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Located<String>, Located<WrittenMessage>>()? {
                    entries.push(Entry { at: key.at, key: key.value, value: value.json() });
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any).map(WrittenMessage)
    }
}

impl JsonSchema for WrittenMessage {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Message".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}
