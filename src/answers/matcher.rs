//! What a text in an answer must be like: the value of a header, or of something in a JSON body.

use std::fmt;

use super::Pattern;

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Matcher {
    Equals(String),
    Contains(String),
    Regex(Pattern),
    /// There is one, or there is none.
    Present(bool),
}

impl Matcher {
    /// Whether one of the values that there are is as asked.
    pub fn matches<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            Matcher::Equals(text) => values.any(|value| value == text.as_bytes()),
            Matcher::Contains(text) => values.any(|value| contains(value, text.as_bytes())),
            Matcher::Regex(pattern) => values.any(|value| pattern.is_in(value)),
            Matcher::Present(expected) => values.next().is_some() == *expected,
        }
    }
}

/// Whether `part` stands somewhere in `whole`. An empty one does everywhere.
pub(super) fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matcher::Equals(text) => write!(f, "is `{text}`"),
            Matcher::Contains(text) => write!(f, "contains `{text}`"),
            Matcher::Regex(pattern) => write!(f, "matches `{pattern}`"),
            Matcher::Present(true) => f.write_str("is there"),
            Matcher::Present(false) => f.write_str("is not there"),
        }
    }
}
