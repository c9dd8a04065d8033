//! What is expected of an answer: its status, its headers, its body.

use std::fmt;

use super::heard::Head;
use super::json::Body;
use super::matcher::contains;
use super::{Flaw, JsonPath, Matcher, Pattern};

/// What an answer must be like; whatever is not said here is as usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// The only ones that are good; where there is none, 200 to 399 are.
    pub statuses: Vec<Statuses>,
    /// By name, in lower case.
    pub headers: Vec<(String, Matcher)>,
    pub body: Option<BodyChecks>,
}

/// One status, or all that begin with a digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    One(u16),
    /// `2xx` is `Class(2)`.
    Class(u16),
}

/// What a body must be like, all of it together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BodyChecks {
    pub contains: Option<String>,
    pub regex: Option<Pattern>,
    pub json: Vec<(JsonPath, Matcher)>,
}

impl Statuses {
    pub fn has(self, status: u16) -> bool {
        match self {
            Statuses::One(one) => one == status,
            Statuses::Class(class) => status / 100 == class,
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statuses::One(status) => write!(f, "{status}"),
            Statuses::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Expect {
    /// Nothing is asked that is not asked of every answer.
    pub fn is_usual(&self) -> bool {
        self.statuses.is_empty() && self.headers.is_empty() && self.body.is_none()
    }

    /// Whether this status is among those that are named; `None` where none is.
    pub fn names(&self, status: u16) -> Option<bool> {
        (!self.statuses.is_empty()).then(|| self.statuses.iter().any(|statuses| statuses.has(status)))
    }

    pub(super) fn headers(&self, head: &Head<'_>) -> Result<(), Flaw> {
        let holds = |(name, matcher): &(String, Matcher)| matcher.matches(head.values(name));
        if self.headers.iter().all(holds) { Ok(()) } else { Err(Flaw::Header) }
    }

    pub(super) fn body(&self, body: &Body<'_>) -> Result<(), Flaw> {
        self.body.as_ref().map_or(Ok(()), |checks| checks.check(body))
    }

    /// In words, a line for each thing that is asked.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.statuses.is_empty() {
            let all: Vec<String> = self.statuses.iter().map(ToString::to_string).collect();
            lines.push(format!("status {}", all.join(" or ")));
        }
        lines.extend(self.headers.iter().map(|(name, matcher)| format!("header {name} {matcher}")));
        lines.extend(self.body.iter().flat_map(|body| body.describe("body")));
        lines
    }
}

impl BodyChecks {
    /// Whether all of it holds of these bytes.
    pub fn hold(&self, bytes: &[u8]) -> bool {
        self.check(&Body::new(bytes)).is_ok()
    }

    fn check(&self, body: &Body<'_>) -> Result<(), Flaw> {
        let holds = self.contains.iter().all(|text| contains(body.bytes, text.as_bytes()))
            && self.regex.iter().all(|pattern| pattern.is_in(body.bytes));
        if !holds {
            return Err(Flaw::Body);
        }
        for (path, matcher) in &self.json {
            if !path.holds(body.json()?, matcher)? {
                return Err(Flaw::Body);
            }
        }
        Ok(())
    }

    /// In words, a line for each thing that is asked of `what`.
    pub fn describe(&self, what: &str) -> Vec<String> {
        let contains = self.contains.iter().map(|text| format!("{what} contains `{text}`"));
        let matches = self.regex.iter().map(|pattern| format!("{what} matches `{pattern}`"));
        let finds = self.json.iter().map(|(path, matcher)| format!("{path} of the {what} {matcher}"));
        contains.chain(matches).chain(finds).collect()
    }
}
