//! What is looked for in the answer to a request: whether it is as expected, what of it is kept for the requests that follow, where it
//! sends the client next. Pure functions of what was heard of an answer; nothing here sends, waits, or asks what time it is.
//!
//! ```text
//! plan:  Wanted ─hears─▶ Hears: which headers, and whether the body
//! run:   head and body of an answer ─▶ Heard (buffers that are used again) ─Wanted::judge─▶ as expected, values saved │ Flaw
//! ```
//!
//! Of an answer in which nothing is looked for, nothing is kept.

use std::borrow::Cow;

mod cookies;
mod expect;
mod heard;
mod json;
mod matcher;
mod pattern;
mod redirect;
mod save;

pub use cookies::Jar;
pub use expect::{BodyChecks, Expect, Statuses};
pub use heard::{BODY_MOST, Heard, Hears, TooLong};
pub use json::JsonPath;
pub use matcher::Matcher;
pub use pattern::Pattern;
pub use redirect::{Hop, Method as RedirectMethod, Origin};
pub use save::{SAVED_MOST, Save, SaveFrom};

/// What is wanted of the answer to one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub expect: Expect,
    /// How many redirects are followed, one after the other; none unless asked for.
    pub redirects: u32,
    /// It is asked for in gzip.
    pub gzip: bool,
    /// What is kept of it.
    pub saves: Vec<Save>,
    /// The cookies that it sets are kept.
    pub cookies: bool,
}

/// Why an answer that is one in its protocol is not as asked. A small closed set: nothing that a peer says becomes a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flaw {
    /// One of the good ones, and not among those that are expected.
    Status(u16),
    Header,
    Body,
    NotJson,
    /// Longer than what is kept of a body to look into it.
    TooLong,
    /// A path would have to look at too much of the body.
    TooBroad,
    /// Its body is in a coding that is not read here.
    Coding,
    NotGzip,
    /// There is nothing where something is to be kept.
    NothingToSave,
    /// What is to be kept is too long, or cannot stand where it is sent.
    Unsendable,
    /// A redirect to another origin.
    Elsewhere,
    /// A redirect that says nothing of where to.
    Nowhere,
    TooManyRedirects,
}

impl Flaw {
    /// The cause in the recording.
    pub fn words(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Flaw::Status(status) => return Cow::Owned(format!("status {status}")),
            Flaw::Header => "header not as expected",
            Flaw::Body => "body not as expected",
            Flaw::NotJson => "body is not json",
            Flaw::TooLong => "body too long to look into",
            Flaw::TooBroad => "jsonpath looks at too much",
            Flaw::Coding => "body in a coding other than gzip",
            Flaw::NotGzip => "body is not gzip",
            Flaw::NothingToSave => "nothing found to save",
            Flaw::Unsendable => "saved value cannot be sent",
            Flaw::Elsewhere => "redirect to another origin",
            Flaw::Nowhere => "redirect to nowhere",
            Flaw::TooManyRedirects => "too many redirects",
        })
    }
}

impl Wanted {
    /// What of an answer has to be heard.
    pub fn hears(&self) -> Hears {
        let mut headers: Vec<&str> = self.expect.headers.iter().map(|(name, _)| name.as_str()).collect();
        headers.extend(self.saves.iter().filter_map(|save| match &save.from {
            SaveFrom::Header(name) => Some(name.as_str()),
            SaveFrom::Json(_) | SaveFrom::Regex(_) => None,
        }));
        headers.extend((self.redirects > 0).then_some("location"));
        headers.extend(self.cookies.then_some("set-cookie"));
        Hears::new(headers, self.expect.body.is_some() || self.saves.iter().any(|save| save.from.is_in_body()))
    }

    /// Whether nothing is wanted but what its status says, and that as usual.
    pub fn is_status_alone(&self) -> bool {
        self.expect.is_usual() && self.redirects == 0 && self.saves.is_empty() && !self.cookies
    }

    /// Looks into an answer whose status is as expected. Each value that is found to save goes to `keep`, with its place in
    /// [`Wanted::saves`].
    ///
    /// # Errors
    /// The first thing that is not as asked.
    pub fn judge(&self, hears: &Hears, heard: &mut Heard, mut keep: impl FnMut(usize, &[u8])) -> Result<(), Flaw> {
        let (head, body) = heard.parts(hears)?;
        self.expect.headers(&head)?;
        let body = json::Body::new(body);
        self.expect.body(&body)?;
        for (place, save) in self.saves.iter().enumerate() {
            save.find(&head, &body, |value| keep(place, value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
