//! The one way to register a kind of thing that a plan can name: a fault, an assertion. A kind is a file with a `Spec` and one
//! row in its folder's table; the table makes the enum, the parser, the schema, `squall list`, the README tables and the
//! conformance tests, so nothing can be registered undocumented or untested.

use std::fmt;
use std::marker::PhantomData;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// One row of a table: what people and tests may know of a kind without naming it.
#[derive(Clone, Copy)]
pub struct Row {
    /// The key that a plan writes: `pod_kill`.
    pub key: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A complete spec in YAML flow style, as it stands behind the key: `{pods: 1, grace: 0s}`. Tests read it.
    pub example: &'static str,
    /// The JSON Schema of the spec.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A set of kinds, one of which stands under its key in a plan's entry (`{name: x, at: y, pod_kill: {...}}`).
pub trait Kind: Sized {
    /// Every registered kind, in the order of the table.
    const ALL: &'static [Row];
    /// Their keys, in the same order.
    const KEYS: &'static [&'static str];

    /// Reads the spec that stands under `key`; `None` when no kind has that key.
    fn read<'de, D: serde::Deserializer<'de>>(key: &str, spec: D) -> Option<Result<Self, D::Error>>;

    /// The key of this one.
    fn key(&self) -> &'static str;
}

impl Row {
    /// Whether its name says all: nothing has to be given with it.
    pub fn is_word(&self) -> bool {
        self.example == "{}"
    }

    /// As the value of a key: `poisson`, or `{wave: {period: 60s}}`.
    pub fn as_value(&self) -> String {
        if self.is_word() { self.key.to_owned() } else { format!("{{{}: {}}}", self.key, self.example) }
    }
}

/// Reads a kind that stands as a value of its own, rather than beside the keys of an entry: a word (`poisson`) or a map of one key
/// (`{wave: {period: 60s}}`).
pub fn read_value<'de, K: Kind, D: Deserializer<'de>>(deserializer: D) -> Result<K, D::Error> {
    struct Either<K>(PhantomData<K>);
    impl<'de, K: Kind> Visitor<'de> for Either<K> {
        type Value = K;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "one of {}, as a word or as a map of one key", K::KEYS.join(", "))
        }
        fn visit_str<E: de::Error>(self, word: &str) -> Result<K, E> {
            let Some(row) = K::ALL.iter().find(|row| row.key == word) else { return Err(E::unknown_variant(word, K::KEYS)) };
            let nothing = de::value::MapDeserializer::<_, E>::new(std::iter::empty::<(&str, &str)>());
            let short = || E::custom(format!("`{word}` needs more than its name, as in {}", row.as_value()));
            K::read(word, nothing).expect("the word was found in the table").map_err(|_| short())
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<K, A::Error> {
            let none = || de::Error::custom(format!("none is named: write one of {}", K::KEYS.join(", ")));
            let Key(key, _): Key<K> = map.next_key()?.ok_or_else(none)?;
            let kind = map.next_value_seed(Spec::<K>(key, PhantomData))?;
            match map.next_key::<Key<K>>()? {
                None => Ok(kind),
                Some(Key(second, _)) => Err(de::Error::custom(format!("it is of one kind, not `{key}` and `{second}`"))),
            }
        }
    }

    /// A key of the table.
    struct Key<K>(&'static str, PhantomData<K>);
    impl<'de, K: Kind> de::Deserialize<'de> for Key<K> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let word = String::deserialize(deserializer)?;
            let known = K::KEYS.iter().find(|key| **key == word);
            known.map(|key| Key(key, PhantomData)).ok_or_else(|| de::Error::unknown_variant(&word, K::KEYS))
        }
    }

    /// What stands under it.
    struct Spec<K>(&'static str, PhantomData<K>);
    impl<'de, K: Kind> de::DeserializeSeed<'de> for Spec<K> {
        type Value = K;
        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K, D::Error> {
            K::read(self.0, deserializer).expect("the key was found in the table")
        }
    }

    deserializer.deserialize_any(Either(PhantomData))
}

/// The schema of what [`read_value`] reads: `map` is the schema of the map of one key, which is to be a definition of its own.
pub fn schema_of_value<K: Kind>(map: Schema) -> Schema {
    let words: Vec<&str> = K::ALL.iter().filter(|row| row.is_word()).map(|row| row.key).collect();
    json_schema!({"anyOf": [{"enum": words}, map]})
}

/// The schema of a map of one key, which is one of the table.
pub fn schema_of_map<K: Kind>(generator: &mut SchemaGenerator) -> Schema {
    let mut properties = serde_json::Map::new();
    for row in K::ALL {
        let spec = (row.schema)(generator);
        // Beside a $ref a description would be ignored in draft 7.
        properties.insert(row.key.to_owned(), serde_json::json!({"description": row.summary, "allOf": [spec]}));
    }
    json_schema!({"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1, "maxProperties": 1})
}

/// Makes the enum of a table. The `mod` lines stay outside, where rustfmt sees them.
///
/// ```text
/// kinds! {
///     /// What can be broken.
///     pub enum Spec as dyn Fault {
///         pod_kill::Spec => PodKill "pod_kill": "deletes pods and lets the platform replace them" = "{pods: 1, grace: 0s}",
///     }
/// }
/// ```
macro_rules! kinds {
    ($(#[$doc:meta])* pub enum $enum:ident as dyn $trait:path {
        $($spec:path => $variant:ident $key:literal: $summary:literal = $example:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub enum $enum {
            $(#[serde(rename = $key)] $variant($spec)),+
        }

        impl $crate::kinds::Kind for $enum {
            const ALL: &'static [$crate::kinds::Row] = &[$($crate::kinds::Row {
                key: $key,
                summary: $summary,
                example: $example,
                schema: |generator| generator.subschema_for::<$spec>(),
            }),+];

            const KEYS: &'static [&'static str] = &[$($key),+];

            fn read<'de, D: serde::Deserializer<'de>>(key: &str, spec: D) -> Option<Result<Self, D::Error>> {
                match key {
                    $($key => Some(serde::Deserialize::deserialize(spec).map($enum::$variant)),)+
                    _ => None,
                }
            }

            fn key(&self) -> &'static str {
                match self { $($enum::$variant(_) => $key),+ }
            }
        }

        impl std::ops::Deref for $enum {
            type Target = dyn $trait;
            fn deref(&self) -> &Self::Target {
                match self { $($enum::$variant(spec) => spec),+ }
            }
        }
    };
}

pub(crate) use kinds;
