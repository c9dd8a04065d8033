//! What is kept of an answer, to be sent with what follows.

use std::fmt;

use super::heard::Head;
use super::json::Body;
use super::{Flaw, JsonPath, Pattern};

/// The longest value that is kept, in bytes.
pub const SAVED_MOST: usize = 16 * 1024;

/// A value that later requests have under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Save {
    pub name: String,
    pub from: SaveFrom,
}

/// Where it is found.
#[derive(Clone, Debug, PartialEq)]
pub enum SaveFrom {
    /// The first value in a JSON body.
    Json(JsonPath),
    /// A header, by its name in lower case.
    Header(String),
    /// The first group of an expression, or all that it matches, in the body.
    Regex(Pattern),
}

impl SaveFrom {
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self, SaveFrom::Header(_))
    }
}

impl fmt::Display for SaveFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveFrom::Json(path) => write!(f, "{path} of the body"),
            SaveFrom::Header(name) => write!(f, "the header {name}"),
            SaveFrom::Regex(pattern) => write!(f, "what `{pattern}` finds in the body"),
        }
    }
}

impl Save {
    pub(super) fn find(&self, head: &Head<'_>, body: &Body<'_>, keep: impl FnOnce(&[u8])) -> Result<(), Flaw> {
        let keep = |value: &[u8]| {
            if value.len() > SAVED_MOST {
                return Err(Flaw::Unsendable);
            }
            keep(value);
            Ok(())
        };
        match &self.from {
            SaveFrom::Json(path) => keep(path.first(body.json()?)?.ok_or(Flaw::NothingToSave)?.as_bytes()),
            SaveFrom::Header(name) => keep(head.values(name).next().ok_or(Flaw::NothingToSave)?),
            SaveFrom::Regex(pattern) => keep(pattern.find(body.bytes).ok_or(Flaw::NothingToSave)?),
        }
    }
}
