//! Typed values out of a located tree, all problems at once. Types are read by their derived `Deserialize`; an error names the
//! node that is to blame, that node is left out, and reading starts over, until what is left can be read or nothing is.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::{Problem, nearest};
use super::tree::{Id, Meaning, Tree, Value};

/// The newtype names by which [`Located`] and [`NodeId`] ask this reader for more than serde's model has.
const LOCATED: &str = "$squall::Located";
const NODE: &str = "$squall::NodeId";

/// A value and the node it was read from.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub at: Id,
}

impl<T> std::ops::Deref for Located<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pair<T> {
            type Value = Located<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Located<T>, A::Error> {
                let missing = || de::Error::custom("a located value is read from a located tree");
                let at = pair.next_element()?.ok_or_else(missing)?;
                let value = pair.next_element()?.ok_or_else(missing)?;
                Ok(Located { value, at })
            }
        }
        deserializer.deserialize_newtype_struct(LOCATED, Pair(PhantomData))
    }
}

/// A node itself, to be read later by somebody who knows its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeId(pub Id);

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = NodeId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node of a located tree")
            }
            fn visit_u32<E: de::Error>(self, id: u32) -> Result<NodeId, E> {
                Ok(NodeId(id))
            }
        }
        deserializer.deserialize_newtype_struct(NODE, Number)
    }
}

/// A map in the order in which it was written.
#[derive(Clone, Debug)]
pub(super) struct Pairs<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Pairs<K, V> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for All<K, V> {
            type Value = Pairs<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs<K, V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(All(PhantomData))
    }
}

impl<K: schemars::JsonSchema, V: schemars::JsonSchema> schemars::JsonSchema for Pairs<K, V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("MapOf{}", V::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<std::collections::BTreeMap<String, V>>()
    }
}

/// What could not be read.
#[derive(Debug)]
pub(super) struct Error {
    /// Attached by the innermost node on the way out.
    at: Option<Id>,
    what: What,
}

#[derive(Debug)]
enum What {
    UnknownKey { key: String, known: &'static [&'static str] },
    Missing { key: &'static str },
    Wrong { message: String },
}

impl Error {
    fn at(mut self, id: Id) -> Error {
        self.at.get_or_insert(id);
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            What::Missing { key } => write!(f, "`{key}` is missing"),
            What::Wrong { message } => f.write_str(message),
        }
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error { at: None, what: What::Wrong { message: message.to_string() } }
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Error {
        Error { at: None, what: What::UnknownKey { key: key.to_owned(), known } }
    }
    fn missing_field(key: &'static str) -> Error {
        Error { at: None, what: What::Missing { key } }
    }
    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Error {
        let all: Vec<String> = known.iter().map(|k| format!("`{k}`")).collect();
        let near = nearest(word, known.iter().copied()).map(|near| format!(": did you mean `{near}`?"));
        Error::custom(format!("`{word}` is none of {}{}", all.join(", "), near.unwrap_or_default()))
    }
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        Error::custom(format!("expected {}, found {}", in_words(expected), shown(found)))
    }
    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        let (expected, range) = (in_words(expected), range(expected).unwrap_or_default());
        Error::custom(format!("expected {expected}{range}, found {}", shown(found)))
    }
    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Error {
        Error::custom(format!("expected {expected}, found {length} values"))
    }
}

fn shown(found: de::Unexpected<'_>) -> String {
    use de::Unexpected::*;
    match found {
        Bool(b) => format!("`{b}`"),
        Unsigned(n) => format!("the number {n}"),
        Signed(n) => format!("the number {n}"),
        Float(n) => format!("the number {n}"),
        Str(text) => format!("the text `{text}`"),
        Unit | Option => "nothing".into(),
        Seq => "a list".into(),
        Map => "a map".into(),
        other => other.to_string(),
    }
}

fn in_words(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" | "a borrowed string" => "text".into(),
        "a sequence" => "a list".into(),
        // serde's derive names the Rust type, which a plan's author has never heard of.
        rust if rust.starts_with("struct ") => "a map".into(),
        other => other.to_owned(),
    }
}

/// From where to where a whole number goes, for one that lies beyond.
fn range(expected: &dyn de::Expected) -> Option<String> {
    let most = match expected.to_string().as_str() {
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" => u64::MAX,
        _ => return None,
    };
    Some(format!(" from 0 to {most}"))
}

/// What has been left out of a tree so far, and why nobody needs to hear of the consequences.
#[derive(Default)]
pub(super) struct LeftOut {
    nodes: HashSet<Id>,
    /// What an unknown key was taken for: its absence has been reported already.
    meant: HashMap<Id, String>,
}

/// Reads `T` from the node, leaving out whatever cannot be read; `None` when nothing is left of it.
pub(super) fn read<'t, T: Deserialize<'t>>(
    tree: &'t Tree,
    id: Id,
    left_out: &mut LeftOut,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    read_with(tree, id, left_out, problems, |node| T::deserialize(node))
}

/// As [`read`], with a reader of one's own.
pub(super) fn read_with<'t, T>(
    tree: &'t Tree,
    id: Id,
    left_out: &mut LeftOut,
    problems: &mut Vec<Problem>,
    mut reader: impl FnMut(At<'t, '_>) -> Result<T, Error>,
) -> Option<T> {
    loop {
        let error = match reader(At { tree, id, left_out }) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.at.unwrap_or(id);
        if !left_out.is_consequence(tree, at, &error.what) {
            problems.push(problem(tree, at, &error.what));
        }
        if let What::UnknownKey { key, known } = &error.what
            && let Some(near) = nearest(key, known.iter().copied())
        {
            left_out.meant.insert(at, near.to_owned());
        }
        if at == id || !left_out.nodes.insert(at) {
            return None;
        }
    }
}

impl LeftOut {
    /// Whether the node was left out: what depends on it is not worth a word.
    pub fn has(&self, id: Id) -> bool {
        self.nodes.contains(&id)
    }

    /// Leaves out a node about which everything has been said.
    pub fn leave_out(&mut self, id: Id) {
        self.nodes.insert(id);
    }

    /// Leaves out an entry whose key is unknown, and was probably meant to be another.
    pub fn leave_out_key(&mut self, key: Id, meant: Option<&str>) {
        self.nodes.insert(key);
        if let Some(meant) = meant {
            self.meant.insert(key, meant.to_owned());
        }
    }

    /// Whether all that hangs below a node was read.
    pub fn nothing_below(&self, tree: &Tree, id: Id) -> bool {
        let read = |id: &Id| !self.has(*id) && self.nothing_below(tree, *id);
        tree.entries(id).iter().all(|(key, value)| !self.has(*key) && read(value)) && tree.items(id).iter().all(read)
    }

    fn entry(&self, key: Id, value: Id) -> bool {
        self.nodes.contains(&key) || self.nodes.contains(&value)
    }

    /// Whether the error would not be there but for what has been left out.
    fn is_consequence(&self, tree: &Tree, at: Id, what: &What) -> bool {
        match what {
            What::UnknownKey { .. } => false,
            What::Missing { key: missing } => tree.entries(at).iter().any(|(key, value)| {
                self.entry(*key, *value)
                    && (tree.key(*key) == *missing || self.meant.get(key).is_some_and(|meant| meant == missing))
            }),
            What::Wrong { .. } => {
                tree.entries(at).iter().any(|(key, value)| self.entry(*key, *value))
                    || tree.items(at).iter().any(|item| self.nodes.contains(item))
            }
        }
    }
}

fn problem(tree: &Tree, at: Id, what: &What) -> Problem {
    let span = tree.span(at);
    match what {
        What::UnknownKey { key, known } => {
            let problem = Problem::at(span, format!("unknown key `{key}`"));
            match nearest(key, known.iter().copied()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("the keys here are {}", known.join(", "))),
            }
        }
        What::Missing { key } => Problem::at(span, format!("`{key}` is missing")),
        What::Wrong { message } => Problem::at(span, message.clone()),
    }
}

/// A node as a deserializer.
#[derive(Clone, Copy)]
pub(super) struct At<'t, 'l> {
    tree: &'t Tree,
    id: Id,
    left_out: &'l LeftOut,
}

impl<'t> At<'t, '_> {
    fn text(&self) -> Option<&'t str> {
        self.tree.scalar(self.id).filter(|scalar| scalar.meaning() != Meaning::Nothing).map(|scalar| scalar.text.as_str())
    }
}

macro_rules! any {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.deserialize_any(visitor)
        }
    )*};
}

macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text() {
                // What was written, whatever it would mean elsewhere: `NO` is Norway, `010` has its zero.
                Some(text) => visitor.visit_borrowed_str(text).map_err(|error: Error| error.at(self.id)),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.tree.node(self.id).value {
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Nothing => visitor.visit_unit(),
                Meaning::Bool(value) => visitor.visit_bool(value),
                Meaning::Unsigned(value) => visitor.visit_u64(value),
                Meaning::Signed(value) => visitor.visit_i64(value),
                Meaning::Float(value) => visitor.visit_f64(value),
                Meaning::Text => visitor.visit_borrowed_str(&scalar.text),
            },
            Value::List(items) => visitor.visit_seq(Items { at: self, items: items.iter() }),
            Value::Map(entries) => visitor.visit_map(Entries { at: self, entries: entries.iter(), value: None }),
        }
        .map_err(|error: Error| error.at(self.id))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tree.scalar(self.id).map(|scalar| scalar.meaning()) {
            // A key without a value was meant to have one: reading it as "absent" would hide that.
            Some(Meaning::Nothing) => {
                Err(<Error as de::Error>::custom("nothing is given here: write a value, or leave out the key").at(self.id))
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            LOCATED => visitor.visit_seq(Pair { at: self, next: 0 }),
            NODE => visitor.visit_u32(self.id),
            _ => visitor.visit_newtype_struct(self).map_err(|error: Error| error.at(self.id)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let wrong = |found: &str| {
            let all: Vec<String> = variants.iter().map(|k| format!("`{k}`")).collect();
            <Error as de::Error>::custom(format!("expected one of {}, found {found}", all.join(", "))).at(self.id)
        };
        match &self.tree.node(self.id).value {
            Value::Scalar(_) => match self.text() {
                Some(text) => visitor.visit_enum(text.into_deserializer()).map_err(|error: Error| error.at(self.id)),
                None => Err(wrong("nothing")),
            },
            Value::Map(entries) => match entries[..] {
                [(key, value)] => visitor.visit_enum(Variant { at: self, key, value }).map_err(|error: Error| error.at(self.id)),
                _ => Err(wrong(&format!("a map with {} keys", entries.len()))),
            },
            Value::List(_) => Err(wrong("a list")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.tree.node(self.id).value {
            // serde would fill the fields in their order, which nobody means.
            Value::List(_) => Err(<Error as de::Error>::invalid_type(de::Unexpected::Seq, &visitor).at(self.id)),
            _ => self.deserialize_any(visitor),
        }
    }

    any! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_unit
        deserialize_seq deserialize_map deserialize_bytes deserialize_byte_buf
    }
    text! { deserialize_char deserialize_str deserialize_string deserialize_identifier }
}

struct Items<'t, 'l> {
    at: At<'t, 'l>,
    items: std::slice::Iter<'t, Id>,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let left_out = self.at.left_out;
        match self.items.find(|id| !left_out.nodes.contains(id)) {
            Some(id) => seed.deserialize(At { id: *id, ..self.at }).map(Some).map_err(|error| error.at(*id)),
            None => Ok(None),
        }
    }
}

struct Entries<'t, 'l> {
    at: At<'t, 'l>,
    entries: std::slice::Iter<'t, (Id, Id)>,
    value: Option<Id>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let left_out = self.at.left_out;
        let Some((key, value)) = self.entries.find(|(key, value)| !left_out.entry(*key, *value)) else { return Ok(None) };
        self.value = Some(*value);
        seed.deserialize(At { id: *key, ..self.at }).map(Some).map_err(|error| error.at(*key))
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let id = self.value.take().expect("serde asks for a value once, after its key");
        seed.deserialize(At { id, ..self.at }).map_err(|error| error.at(id))
    }
}

/// A node's number, then its value.
struct Pair<'t, 'l> {
    at: At<'t, 'l>,
    next: u8,
}

impl<'de> de::SeqAccess<'de> for Pair<'de, '_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(self.at.id.into_deserializer()).map(Some),
            2 => seed.deserialize(self.at).map(Some).map_err(|error| error.at(self.at.id)),
            _ => Ok(None),
        }
    }
}

/// `{variant: content}`.
struct Variant<'t, 'l> {
    at: At<'t, 'l>,
    key: Id,
    value: Id,
}

impl<'de, 'l> de::EnumAccess<'de> for Variant<'de, 'l> {
    type Error = Error;
    type Variant = At<'de, 'l>;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, At<'de, 'l>), Error> {
        let key = At { id: self.key, ..self.at };
        let variant = seed.deserialize(key).map_err(|error| error.at(self.key))?;
        Ok((variant, At { id: self.value, ..self.at }))
    }
}

impl<'de> de::VariantAccess<'de> for At<'de, '_> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Err(<Error as de::Error>::custom("this takes no value").at(self.id))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self).map_err(|error| error.at(self.id))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
