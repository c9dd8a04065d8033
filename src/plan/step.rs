//! A step of a flow as it is written: all the keys of a request, and a few of its own beside them.

use std::fmt;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::expect::WrittenSave;
use super::located::{Located, Pairs};
use super::written::{WrittenRequest, WrittenThink, keys_of};
use crate::names::Name;

/// One of several ways.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Flow")]
pub(super) struct WrittenFlow {
    /// How often it is taken, beside the weights of the others; 1 unless said otherwise.
    #[schemars(range(min = 1, max = 1000000))]
    pub weight: Option<Located<u32>>,
    /// What is sent, one after the other.
    #[schemars(length(min = 1))]
    pub steps: Located<Vec<Located<WrittenStep>>>,
}

/// A request of a flow.
pub(super) struct WrittenStep {
    pub own: Own,
    pub request: WrittenRequest,
}

/// What a step has beside the keys of a request.
#[derive(JsonSchema)]
pub(super) struct Own {
    /// What reports and assertions call the step; no other step of the load has that name.
    pub name: Located<Name>,
    /// How long after the answer to the step before it this one is due: 500ms, {exponential: 500ms} or {uniform: [200ms, 800ms]}. Unless
    /// said otherwise: at once.
    pub think: Option<Located<WrittenThink>>,
    /// What later steps of the flow have as {{name}}, by that name; as in {token: {json: $.token}}. Where there is nothing to save, the
    /// step has failed.
    #[serde(default)]
    pub save: Pairs<Located<Name>, Located<WrittenSave>>,
}

const OWN: [&str; 3] = ["name", "think", "save"];

/// Every key that a step may have, for whoever misspells one.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let request = keys_of::<WrittenRequest>().into_iter().map(|key| &*key.leak());
    OWN.into_iter().chain(request).collect()
});

impl<'de> Deserialize<'de> for WrittenStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = WrittenStep;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WrittenStep, A::Error> {
                let mut apart = Apart { map, name: None, think: None, save: None };
                let request = WrittenRequest::deserialize(de::value::MapAccessDeserializer::new(&mut apart))?;
                let name = apart.name.ok_or_else(|| de::Error::missing_field("name"))?;
                Ok(WrittenStep { own: Own { name, think: apart.think, save: apart.save.unwrap_or_default() }, request })
            }
        }
        deserializer.deserialize_map(Both)
    }
}

/// A map whose entries for a step are taken out on the way, so that the request sees only its own.
struct Apart<A> {
    map: A,
    name: Option<Located<Name>>,
    think: Option<Located<WrittenThink>>,
    save: Option<Pairs<Located<Name>, Located<WrittenSave>>>,
}

/// A key, and whose it is.
enum Key<T> {
    Own(&'static str),
    Request(T),
}

struct KeySeed<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<S> {
    type Value = Key<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if let Some(own) = OWN.into_iter().find(|own| *own == key) {
            return Ok(Key::Own(own));
        }
        if !KEYS.contains(&key.as_str()) {
            return Err(de::Error::unknown_field(&key, &KEYS));
        }
        self.0.deserialize(key.into_deserializer()).map(Key::Request)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for &mut Apart<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        // A seed can be used once: own entries are read before it is needed.
        let mut seed = Some(seed);
        loop {
            let Some(key) = self.map.next_key_seed(KeySeed(Lent(&mut seed)))? else { return Ok(None) };
            match key {
                Key::Request(key) => return Ok(Some(key)),
                Key::Own("name") => self.name = Some(self.map.next_value()?),
                Key::Own("think") => self.think = Some(self.map.next_value()?),
                Key::Own(_) => self.save = Some(self.map.next_value()?),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A seed that is used where it is needed, and stays where it is not.
struct Lent<'s, S>(&'s mut Option<S>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Lent<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let seed = self.0.take().ok_or_else(|| de::Error::custom("a key is read once"))?;
        seed.deserialize(deserializer)
    }
}

impl JsonSchema for WrittenStep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut schema, own) = (WrittenRequest::json_schema(generator), Own::json_schema(generator));
        let own = own.get("properties").and_then(|properties| properties.as_object()).cloned().unwrap_or_default();
        if let Some(properties) = schema.get_mut("properties").and_then(|properties| properties.as_object_mut()) {
            properties.extend(own);
        }
        schema.insert(
            "description".to_owned(),
            "One request of a flow: exactly one method with its path, and what goes with it.".into(),
        );
        schema.insert("required".to_owned(), serde_json::json!(["name"]));
        // A step without a method is none: no recording says what it sends.
        if let Some(ways) = schema.get_mut("oneOf").and_then(|ways| ways.as_array_mut()) {
            ways.retain(|way| way.get("not").is_none());
        }
        schema
    }
}
