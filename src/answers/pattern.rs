//! A regular expression over the bytes of an answer, compiled once. Matching takes time linear in what it looks at, whatever comes.

use std::fmt;

use regex::bytes::Regex;

/// A regular expression, with the text that it was written as.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        Regex::new(text).map(Pattern).map_err(|error| match error {
            // The crate draws the place in several lines; the last one says what is wrong.
            regex::Error::Syntax(said) => {
                let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("`{text}` is not a regular expression: {last}")
            }
            error => format!("`{text}` cannot be used as a regular expression: {error}"),
        })
    }
}

impl Pattern {
    /// Whether it matches anywhere in `text`.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// What its first group holds at the first place where it matches; all that it matches where it has no group.
    pub fn find<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        if self.0.captures_len() == 1 {
            return self.0.find(text).map(|found| found.as_bytes());
        }
        self.0.captures(text)?.get(1).map(|found| found.as_bytes())
    }
}
