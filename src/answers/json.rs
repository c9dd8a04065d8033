//! JSON in the body of an answer, and the paths (RFC 9535) by which something in it is found.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use super::{Flaw, Matcher};

/// The longest path, in bytes.
const PATH_MOST: usize = 512;

/// A JSONPath, read once, with the text that it was written as.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    query: JpQuery,
}

impl PartialEq for JsonPath {
    fn eq(&self, other: &JsonPath) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<JsonPath, String> {
        if text.len() > PATH_MOST {
            return Err(format!("a JSONPath of {} bytes: at most {PATH_MOST}", text.len()));
        }
        let wrong = || format!("`{text}` is not a JSONPath: write one as in $.order.id or $.items[0].price");
        let query = parse_json_path(text).map_err(|_| wrong())?;
        Ok(JsonPath { text: text.to_owned(), query })
    }
}

impl JsonPath {
    /// Everything that it finds, in the order of the standard.
    fn find<'v>(&self, value: &'v Value) -> impl Iterator<Item = &'v Value> + use<'v> {
        // An error means that the path finds nothing that is a place in the value.
        js_path_process(&self.query, value).unwrap_or_default().into_iter().map(|found| found.val)
    }

    /// Whether something that it finds is as asked.
    pub(super) fn holds(&self, value: &Value, matcher: &Matcher) -> bool {
        let texts: Vec<(&Value, Cow<'_, str>)> = self.find(value).map(|found| (found, text(found))).collect();
        let same = |expected: &str| texts.iter().any(|(found, _)| is_number(found, expected));
        matcher.matches(texts.iter().map(|(_, text)| text.as_bytes()))
            || matches!(matcher, Matcher::Equals(expected) if same(expected))
    }

    /// The first thing that it finds and that is something: null is nothing.
    pub(super) fn first<'v>(&self, value: &'v Value) -> Option<Cow<'v, str>> {
        self.find(value).find(|found| !found.is_null()).map(text)
    }
}

/// A body, read as JSON once somebody asks for that.
pub(super) struct Body<'b> {
    pub(super) bytes: &'b [u8],
    value: OnceCell<Result<Value, Flaw>>,
}

impl Body<'_> {
    pub(super) fn new(bytes: &[u8]) -> Body<'_> {
        Body { bytes, value: OnceCell::new() }
    }

    pub(super) fn json(&self) -> Result<&Value, Flaw> {
        let value = self.value.get_or_init(|| serde_json::from_slice(self.bytes).map_err(|_| Flaw::NotJson));
        value.as_ref().map_err(|flaw| *flaw)
    }
}

/// A value as a text: a string is what it says, and all else is as JSON writes it.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Whether it is the number that `expected` writes, in whatever way: 7 and 7.0 are the same.
fn is_number(value: &Value, expected: &str) -> bool {
    value.as_f64().is_some_and(|number| expected.parse() == Ok(number))
}
