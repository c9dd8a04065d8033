//! How a plan points at things: a [`Name`], a Kubernetes object ([`ObjectRef`]), and a moment ([`Anchor`], [`Part`]). No moment in
//! a plan is a wall clock: each is a phase or a fault, plus or minus a span.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::Span;

/// What a phase, load, fault or assertion is called: letters, digits, `-` and `_`, at most 63 of them, starting with a letter.
/// No dot, comma or space: names become parts of finding names, histogram tags and file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Name, String> {
        let starts_well = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        let holds = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if starts_well && holds && text.len() <= 63 {
            Ok(Name(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a name: use up to 63 letters, digits, `-` and `_`, starting with a letter"))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Kubernetes object, written `namespace/kind/name`, as in `shop/deployment/checkout` or `shop/hpa/checkout`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectRef {
    pub namespace: String,
    /// The kind as the plan wrote it, in lower case: a kind, a plural or a short name that discovery knows.
    pub kind: String,
    pub name: String,
}

impl FromStr for ObjectRef {
    type Err = String;
    fn from_str(text: &str) -> Result<ObjectRef, String> {
        let dns = |s: &str| {
            !s.is_empty() && s.len() <= 253 && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        };
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, kind, name] if dns(namespace) && dns(name) && dns(&kind.to_lowercase()) => {
                Ok(ObjectRef { namespace: namespace.into(), kind: kind.to_lowercase(), name: name.into() })
            }
            _ => Err(format!("`{text}` does not name an object: write namespace/kind/name, as in shop/deployment/checkout")),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

/// Which moment of a phase or a fault an [`Anchor`] means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A phase's start (also what a bare phase name means).
    Start,
    /// A phase's end.
    End,
    /// When a fault was applied (also what a bare fault name means).
    Injected,
    /// When evidence first proved the fault.
    Effective,
    /// When its healing was proven.
    Healed,
}

/// A moment in a plan: `burst`, `burst + 20s`, `burst.end - 5s`, `kill-one.effective + 5s`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// The phase or fault.
    pub of: Name,
    /// `None` where the plan wrote a bare name: its start or its injection.
    pub moment: Option<Moment>,
    pub shift: Shift,
}

/// How far from its moment an anchor lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shift {
    Later(Span),
    Earlier(Span),
}

impl FromStr for Anchor {
    type Err = String;
    fn from_str(text: &str) -> Result<Anchor, String> {
        let wrong =
            |why: String| format!("`{text}` is not a moment: {why}; write a phase or fault and an offset, as in burst + 20s");
        // A name may hold `-`, so only a sign with white space around it is arithmetic.
        let (base, shift) = if let Some((base, span)) = text.split_once(" + ").or_else(|| text.split_once('+')) {
            (base, Shift::Later(span.trim().parse().map_err(wrong)?))
        } else if let Some((base, span)) = text.split_once(" - ") {
            (base, Shift::Earlier(span.trim().parse().map_err(wrong)?))
        } else {
            (text, Shift::Later(Span::default()))
        };
        let (of, moment) = match base.trim().split_once('.') {
            None => (base.trim(), None),
            Some((of, moment)) => (
                of,
                Some(match moment {
                    "start" => Moment::Start,
                    "end" => Moment::End,
                    "injected" => Moment::Injected,
                    "effective" => Moment::Effective,
                    "healed" => Moment::Healed,
                    other => {
                        return Err(wrong(format!("there is no `.{other}`, only .start, .end, .injected, .effective and .healed")));
                    }
                }),
            ),
        };
        Ok(Anchor { of: of.parse().map_err(wrong)?, moment, shift })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.of)?;
        if let Some(moment) = self.moment {
            let word = match moment {
                Moment::Start => "start",
                Moment::End => "end",
                Moment::Injected => "injected",
                Moment::Effective => "effective",
                Moment::Healed => "healed",
            };
            write!(f, ".{word}")?;
        }
        match self.shift {
            Shift::Later(span) if span == Span::default() => Ok(()),
            Shift::Later(span) => write!(f, " + {span}"),
            Shift::Earlier(span) => write!(f, " - {span}"),
        }
    }
}

/// Serde and schema by way of `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ident, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $description})
            }
        }
    };
}

as_text!(Name, "letters, digits, - and _, starting with a letter");
as_text!(ObjectRef, "a Kubernetes object as namespace/kind/name, as in shop/deployment/checkout");
as_text!(Anchor, "a phase or fault plus or minus a span, as in burst + 20s or kill-one.effective + 5s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_print_as_they_were_read() {
        for text in ["burst", "burst + 20s", "burst.end - 5s", "kill-one.effective + 5s", "kill-one", "a-b - 1s"] {
            assert_eq!(text.parse::<Anchor>().unwrap_or_else(|e| panic!("{e}")).to_string(), text);
        }
        assert_eq!("burst+20s".parse::<Anchor>().unwrap().to_string(), "burst + 20s");
    }

    #[test]
    fn wrong_names_say_what_a_name_is() {
        for text in ["", "1st", "a b", "a.b", "a,b", "ü"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for text in ["checkout", "shop/checkout", "shop/deployment/", "a/b/c/d", "Shop/deployment/x"] {
            assert!(text.parse::<ObjectRef>().is_err(), "{text:?}");
        }
        for text in ["burst + 20", "burst.middle", "12:00", "+ 3s"] {
            assert!(text.parse::<Anchor>().is_err(), "{text:?}");
        }
    }
}
