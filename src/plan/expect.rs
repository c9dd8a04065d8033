//! What a plan writes of the answer to a request: what it must be like, and what of it is kept.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::{Located, Pairs};
use super::written::Text;
use crate::answers::{JsonPath, Matcher, Pattern, SaveFrom, Statuses};

/// What a plan can say of answers, as it is listed: each key of a request with one line about it and what it looks like.
pub const ANSWERS: &[(&str, &str, &str)] = &[
    (
        "expect.status",
        "the statuses that are good, and no others; from 200 to 399 unless said otherwise",
        "expect: {status: [200, 404]}",
    ),
    (
        "expect.header",
        "what a header must be like: equal to a text, or `contains`, `regex`, `present`",
        "expect: {header: {content-type: {contains: json}, x-cache: hit}}",
    ),
    (
        "expect.body",
        "what the body must be like: a text in it, a regular expression, values found by JSONPath (RFC 9535)",
        "expect: {body: {contains: thanks, json: {$.order.state: open}}}",
    ),
    (
        "expect.message",
        "which message of a WebSocket is waited for, in the words of `expect.body`; what comes before it is passed over",
        "expect: {message: {json: {$.type: pong}}}",
    ),
    (
        "redirects",
        "how many redirects are followed, one after the other, within the same origin; none unless said otherwise",
        "redirects: 5",
    ),
    ("gzip", "the answer is asked for in gzip, and counted as it comes", "gzip: true"),
];

/// What an answer must be like. One that is not ends as failed, with a cause of its own; one whose status is bad to begin with ends as
/// ever, unless its status is named here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expect", extend("minProperties" = 1))]
pub(super) struct WrittenExpect {
    /// The statuses that are good, and no others: 200, 2xx, or a list of such. Unless said otherwise: 200 to 399.
    pub status: Option<Located<WrittenStatuses>>,
    /// What headers must be like, by their names: {content-type: {contains: json}}.
    #[serde(default)]
    pub header: Pairs<Located<String>, Located<WrittenMatcher>>,
    /// What the body must be like. At most 1 MiB of it is looked into.
    pub body: Option<Located<WrittenBodyChecks>>,
    /// Which message of a WebSocket is waited for: the first that is like this. What comes before it is passed over.
    pub message: Option<Located<WrittenBodyChecks>>,
}

/// All of what is said here must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BodyChecks", extend("minProperties" = 1))]
pub(super) struct WrittenBodyChecks {
    /// A text that stands somewhere in it.
    pub contains: Option<Text>,
    /// A regular expression that matches somewhere in it.
    pub regex: Option<WrittenPattern>,
    /// It is JSON, and so is what is found in it by path: {$.order.state: open}.
    #[serde(default)]
    pub json: Pairs<Located<WrittenJsonPath>, Located<WrittenMatcher>>,
}

/// `200`, `2xx`, or a list of them.
pub(super) struct WrittenStatuses(pub Vec<Statuses>);

/// One of them.
struct WrittenStatus(Statuses);

impl std::str::FromStr for WrittenStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<WrittenStatus, String> {
        let wrong = || format!("`{text}` is no status of an answer: write one as in 200, or a class as in 2xx");
        match text.as_bytes() {
            [class @ b'2'..=b'5', b'x' | b'X', b'x' | b'X'] => Ok(WrittenStatus(Statuses::Class(u16::from(class - b'0')))),
            [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9'] => text.parse().map(Statuses::One).map(WrittenStatus).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for WrittenStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for WrittenStatuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenStatuses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status as in 200 or 2xx, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenStatuses, E> {
                WrittenStatus::deserialize(text.into_deserializer()).map(|status| WrittenStatuses(vec![status.0]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<WrittenStatuses, A::Error> {
                let mut all = Vec::new();
                while let Some(WrittenStatus(status)) = list.next_element()? {
                    all.push(status);
                }
                if all.is_empty() { Err(de::Error::custom("no status would be good: name one")) } else { Ok(WrittenStatuses(all)) }
            }
        }
        // Numbers and words stand for themselves: as text, unless it is a list.
        deserializer.deserialize_str(Either)
    }
}

impl JsonSchema for WrittenStatuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = serde_json::json!({"anyOf": [
            {"type": "integer", "minimum": 200, "maximum": 999},
            {"type": "string", "pattern": "^([2-5][xX][xX]|[2-9][0-9][0-9])$"}
        ]});
        json_schema!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
    }
}

/// A text that a value is, or what it must be like.
pub(super) struct WrittenMatcher(pub Matcher);

/// The long form: one of its keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, extend("minProperties" = 1, "maxProperties" = 1))]
struct Long {
    /// Exactly this.
    equals: Option<Text>,
    /// Something with this in it.
    contains: Option<Text>,
    /// Something that this regular expression matches.
    regex: Option<WrittenPattern>,
    /// Anything (true), or nothing at all (false).
    present: Option<bool>,
}

impl<'de> Deserialize<'de> for WrittenMatcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenMatcher;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or one of {equals: ...}, {contains: ...}, {regex: ...}, {present: true}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenMatcher, E> {
                Ok(WrittenMatcher(Matcher::Equals(text.to_owned())))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenMatcher, A::Error> {
                let long = Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match long {
                    Long { equals: Some(text), contains: None, regex: None, present: None } => Ok(Matcher::Equals(text.0)),
                    Long { equals: None, contains: Some(text), regex: None, present: None } => Ok(Matcher::Contains(text.0)),
                    Long { equals: None, contains: None, regex: Some(pattern), present: None } => Ok(Matcher::Regex(pattern.0)),
                    Long { equals: None, contains: None, regex: None, present: Some(present) } => Ok(Matcher::Present(present)),
                    _ => Err(de::Error::custom("a value is looked at in one way: `equals`, `contains`, `regex` or `present`")),
                }
                .map(WrittenMatcher)
            }
        }
        // Numbers and words stand for themselves: as text, unless it is a map.
        deserializer.deserialize_str(Either)
    }
}

impl JsonSchema for WrittenMatcher {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matcher".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Text>(), generator.subschema_for::<Long>()]})
    }
}

/// A regular expression.
pub(super) struct WrittenPattern(pub Pattern);

impl<'de> Deserialize<'de> for WrittenPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(WrittenPattern).map_err(de::Error::custom)
    }
}

/// A path into JSON.
pub(super) struct WrittenJsonPath(pub JsonPath);

impl<'de> Deserialize<'de> for WrittenJsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(WrittenJsonPath).map_err(de::Error::custom)
    }
}

/// Their schemas: texts, of which an editor cannot tell more.
macro_rules! text {
    ($($name:ident: $description:literal)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $description})
            }
        }
    )*};
}

text! {
    WrittenPattern: "a regular expression, without look-around and back-references"
    WrittenJsonPath: "a JSONPath (RFC 9535), as in $.items[0].id"
}

/// Where a value is found that later steps use: one of its keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Save", extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct WrittenSave {
    /// The first value that this JSONPath finds in the body; null is none.
    json: Option<WrittenJsonPath>,
    /// The value of this header of the answer.
    header: Option<Located<String>>,
    /// What the first group of this regular expression, or all of it where it has none, finds in the body.
    regex: Option<WrittenPattern>,
}

impl WrittenSave {
    /// What is kept.
    ///
    /// # Errors
    /// Where it is not said in one way.
    pub fn from(self) -> Result<SaveFrom, &'static str> {
        match (self.json, self.header, self.regex) {
            (Some(path), None, None) => Ok(SaveFrom::Json(path.0)),
            (None, Some(name), None) => Ok(SaveFrom::Header(name.value.to_ascii_lowercase())),
            (None, None, Some(pattern)) => Ok(SaveFrom::Regex(pattern.0)),
            _ => Err("a value is found in one way: by `json`, `header` or `regex`"),
        }
    }

    /// The header that it names, and where.
    pub fn header(&self) -> Option<&Located<String>> {
        self.header.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is listed can be copied. How: each is read as part of a plan's request.
    #[test]
    fn every_example_is_read_in_its_place() {
        for (name, _, example) in ANSWERS {
            let of = if *name == "expect.message" { "protocol: websocket, request: {websocket: /" } else { "request: {get: /" };
            let text = format!(
                "plan: p\nclaim: c\ntarget: {{url: http://127.0.0.1/}}\nphases: [{{name: a, for: 9s}}]\n\
                 load: [{{name: l, rate: 1/s, {of}, {example}}}}}]\n"
            );
            crate::plan::Plan::read_recorded(&text, &Default::default()).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        }
    }

    #[test]
    fn statuses_are_numbers_and_classes() {
        let read = |text: &str| text.parse::<WrittenStatus>().map(|status| status.0);
        assert_eq!(read("404"), Ok(Statuses::One(404)));
        assert_eq!(read("2xx"), Ok(Statuses::Class(2)));
        for bad in ["", "20", "2000", "1xx", "6xx", "100", "xx2", "2x0", "ok"] {
            assert!(read(bad).is_err_and(|why| why.contains("write one as in 200")), "{bad}");
        }
    }
}
