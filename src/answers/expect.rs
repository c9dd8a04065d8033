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
        let Some(checks) = &self.body else { return Ok(()) };
        let holds = checks.contains.iter().all(|text| contains(body.bytes, text.as_bytes()))
            && checks.regex.iter().all(|pattern| pattern.is_in(body.bytes));
        if !holds {
            return Err(Flaw::Body);
        }
        for (path, matcher) in &checks.json {
            if !path.holds(body.json()?, matcher) {
                return Err(Flaw::Body);
            }
        }
        Ok(())
    }

    /// In words, a line for each thing that is asked.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.statuses.is_empty() {
            let all: Vec<String> = self.statuses.iter().map(ToString::to_string).collect();
            lines.push(format!("status {}", all.join(" or ")));
        }
        lines.extend(self.headers.iter().map(|(name, matcher)| format!("header {name} {matcher}")));
        if let Some(body) = &self.body {
            lines.extend(body.contains.iter().map(|text| format!("body contains `{text}`")));
            lines.extend(body.regex.iter().map(|pattern| format!("body matches `{pattern}`")));
            lines.extend(body.json.iter().map(|(path, matcher)| format!("{path} of the body {matcher}")));
        }
        lines
    }
}
