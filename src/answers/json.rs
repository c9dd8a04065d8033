//! JSON in the body of an answer, and the paths (RFC 9535) by which something in it is found.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::fmt;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use serde_json::{Number, Value};

use self::walk::Walk;
use super::{Flaw, Matcher};

mod walk;

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
        if let Some(name) = walk::unknown_function(&query.segments) {
            return Err(format!("no function is called `{name}` in a JSONPath: there are length, count, match, search and value"));
        }
        Ok(JsonPath { text: text.to_owned(), query })
    }
}

impl JsonPath {
    /// Whether something that it finds is as asked.
    ///
    /// # Errors
    /// When it would have to look at too much.
    pub(super) fn holds(&self, value: &Value, matcher: &Matcher) -> Result<bool, Flaw> {
        let mut walk = Walk::through(value);
        let found = walk.find(&self.query)?;
        if let Matcher::Present(expected) = matcher {
            return Ok(found.is_empty() != *expected);
        }
        for one in found {
            let text = walk.text(one)?;
            let is_number =
                || matches!((one, matcher), (Value::Number(number), Matcher::Equals(expected)) if is_number(number, expected));
            if matcher.matches(std::iter::once(text.as_bytes())) || is_number() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first thing that it finds and that is something: null is nothing.
    ///
    /// # Errors
    /// When it would have to look at too much.
    pub(super) fn first<'v>(&self, value: &'v Value) -> Result<Option<Cow<'v, str>>, Flaw> {
        let mut walk = Walk::through(value);
        let found = walk.find(&self.query)?.into_iter().find(|found| !found.is_null());
        found.map(|found| walk.text(found)).transpose()
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

/// Whether it is the number that `expected` writes, in whatever way: 7 and 7.0 are the same.
fn is_number(number: &Number, expected: &str) -> bool {
    let whole = expected.parse::<i64>().map(Number::from).or_else(|_| expected.parse::<u64>().map(Number::from)).ok();
    let expected = whole.or_else(|| Number::from_f64(expected.parse().ok()?));
    expected.is_some_and(|expected| walk::numbers(number, &expected) == Some(Ordering::Equal))
}
