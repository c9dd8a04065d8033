//! What a gRPC load rests on: which method is called, what its messages look like, and the message that is sent. Pure: descriptors come
//! as bytes, and a message leaves as bytes; nothing here connects, waits or reads a file.
//!
//! ```text
//! plan: message as written ─by the method's descriptor─▶ Message (bytes, tag and text with names, bytes) ─with names─▶ Template
//! run:  Template + values ─write─▶ bytes of the message, in the stream's own buffer
//! ```

use std::fmt;
use std::sync::Arc;

mod descriptors;
mod json;
mod message;
mod scalar;
mod wire;

pub use descriptors::{Answers, DESCRIPTORS_MOST, Descriptors, Method};
pub use json::{Entry, Json, Value};
pub use wire::{Message, Template};

/// Calls of one method, as a plan says them.
#[derive(Clone)]
pub struct Call {
    pub method: MethodName,
    pub types: Types,
    /// As it is written; may hold secrets, so this type's `Debug` leaves it out.
    pub message: Json,
    /// What comes of it; `None` as long as the types of its messages are not known.
    pub known: Option<Arc<Known>>,
}

/// A call whose types are known.
#[derive(Clone, PartialEq)]
pub struct Known {
    pub message: Message,
    pub answers: Answers,
}

/// Where the types of messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Types {
    /// A FileDescriptorSet in that file, relative to the plan's.
    File(String),
    /// The server itself, asked before the first call.
    Reflection,
}

impl Call {
    /// Looks its method up, and puts its message into the method's terms.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn resolve(&self, descriptors: &Descriptors) -> Result<Arc<Known>, Vec<Wrong>> {
        let method = descriptors.method(&self.method).map_err(|wrong| vec![wrong])?;
        let message = Message::of(&self.message, &method)?;
        Ok(Arc::new(Known { message, answers: method.answers() }))
    }

    /// In words, as `shop.Checkout/Pay (unary)`.
    pub fn describe(&self) -> String {
        let kind = match self.known.as_ref().map(|known| known.answers) {
            Some(Answers::One) => "unary",
            Some(Answers::Stream) => "server streaming",
            None => "types unknown before the run",
        };
        format!("{} ({kind})", self.method)
    }
}

/// What comes of a call is no part of it: the same call has not been resolved where its types are out of reach.
impl PartialEq for Call {
    fn eq(&self, other: &Call) -> bool {
        let Call { method, types, message, known: _ } = self;
        (method, types, message) == (&other.method, &other.types, &other.message)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method.to_string()).field("types", &self.types).finish_non_exhaustive()
    }
}

/// A method by its full name, as in `shop.Checkout/Pay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName {
    /// With its package.
    pub service: String,
    pub method: String,
}

impl MethodName {
    /// As HTTP/2 calls it.
    pub fn path(&self) -> String {
        format!("/{self}")
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

impl std::str::FromStr for MethodName {
    type Err = String;

    fn from_str(text: &str) -> Result<MethodName, String> {
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let is_method = |service: &str, method: &str| service.split('.').all(word) && word(method);
        match text.split_once('/') {
            Some((service, method)) if is_method(service, method) => {
                Ok(MethodName { service: service.to_owned(), method: method.to_owned() })
            }
            _ => {
                let near = text.trim_start_matches('/').replacen('/', ".", 1);
                let near = near.rsplit_once('.').filter(|(service, method)| is_method(service, method));
                let near =
                    near.map_or_else(|| "package.Service/Method".to_owned(), |(service, method)| format!("{service}/{method}"));
                Err(format!("`{text}` is not a method: write `{near}`"))
            }
        }
    }
}

/// Something about a call that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub of: Part,
    /// Never repeats a value of the message, which may be a secret.
    pub message: Box<str>,
    pub help: Option<String>,
    /// What was written, and what could have been.
    pub choice: Option<(String, Vec<String>)>,
}

/// What of a call something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Descriptors,
    Method,
    /// The node of the message that stands there in the plan, and the way to it, as in `items[2].price`; empty for all of it.
    Message(u32, String),
}

impl Wrong {
    fn new(of: Part, message: impl Into<String>) -> Wrong {
        Wrong { of, message: message.into().into_boxed_str(), help: None, choice: None }
    }

    fn help(self, help: impl Into<String>) -> Wrong {
        Wrong { help: Some(help.into()), ..self }
    }

    fn among(self, word: &str, choices: impl IntoIterator<Item = String>) -> Wrong {
        Wrong { choice: Some((word.to_owned(), choices.into_iter().collect())), ..self }
    }
}

impl fmt::Display for Wrong {
    /// On a line, for who has no plan to point into.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Part::Message(_, path) if !path.is_empty() => write!(f, "message, at `{path}`: {}", self.message)?,
            Part::Message(..) => write!(f, "message: {}", self.message)?,
            Part::Descriptors | Part::Method => f.write_str(&self.message)?,
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        match &self.choice {
            Some((_, choices)) if !choices.is_empty() => write!(f, " (there are {})", choices.join(", ")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn methods_are_named_with_their_service() {
        let pay: MethodName = "shop.v1.Checkout/Pay".parse().expect("a method");
        assert_eq!(
            (pay.service.as_str(), pay.method.as_str(), pay.path().as_str()),
            ("shop.v1.Checkout", "Pay", "/shop.v1.Checkout/Pay")
        );
        for (written, says) in [
            ("shop.Checkout.Pay", "write `shop.Checkout/Pay`"),
            ("/shop.Checkout/Pay", "write `shop.Checkout/Pay`"),
            ("Pay", "write `package.Service/Method`"),
            ("shop.Checkout/Pay/now", "write `package.Service/Method`"),
            ("shop.Check out/Pay", "write `package.Service/Method`"),
            ("", "write `package.Service/Method`"),
        ] {
            let error = written.parse::<MethodName>().expect_err("no method");
            assert!(error.contains(says), "{written}: {error}");
        }
    }
}
