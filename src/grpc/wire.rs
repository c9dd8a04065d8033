//! A message in the wire format of protocol buffers, in pieces: bytes that are always the same, and the texts that differ from call to
//! call, whose lengths stand before them and before every message around them.

use crate::varying::{self, Form, Names, Values};

/// A message whose texts have names in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pieces: Vec<Piece<String>>,
}

/// A message, taken apart once for the whole run.
pub struct Template {
    pieces: Vec<Piece<varying::Template>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece<T> {
    Fixed(Vec<u8>),
    /// A field of text: its tag, and what it says.
    Text(u32, T),
    /// A field that is a message: its tag, and what is in it.
    Nested(u32, Vec<Piece<T>>),
}

impl Message {
    /// Adds fields in the wire format.
    pub(super) fn push_fixed(&mut self, bytes: &[u8]) {
        push_fixed(&mut self.pieces, bytes);
    }

    /// Adds a field of text with names in it.
    pub(super) fn push_text(&mut self, number: u32, text: &str) {
        self.pieces.push(Piece::Text(tag(number), text.to_owned()));
    }

    /// Adds a field that is a message.
    pub(super) fn push_nested(&mut self, number: u32, message: Message) {
        match &message.pieces[..] {
            [] => self.push_fixed(&nested(tag(number), &[])),
            [Piece::Fixed(bytes)] => self.push_fixed(&nested(tag(number), bytes)),
            _ => self.pieces.push(Piece::Nested(tag(number), message.pieces)),
        }
    }

    /// With the places of `names` in its texts found.
    pub fn template(&self, names: &Names) -> Template {
        Template { pieces: named(&self.pieces, names) }
    }
}

/// A field that is a message, in the wire format.
fn nested(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 10);
    varint(u64::from(tag), &mut out);
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn named(pieces: &[Piece<String>], names: &Names) -> Vec<Piece<varying::Template>> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Fixed(bytes) => push_fixed(&mut out, bytes),
            Piece::Text(tag, text) => {
                let template = varying::Template::new(text, Form::Body, names);
                match template.fixed() {
                    Some(text) => push_fixed(&mut out, &nested(*tag, text)),
                    None => out.push(Piece::Text(*tag, template)),
                }
            }
            Piece::Nested(tag, pieces) => match &named(pieces, names)[..] {
                [] => push_fixed(&mut out, &nested(*tag, &[])),
                [Piece::Fixed(bytes)] => push_fixed(&mut out, &nested(*tag, bytes)),
                pieces => out.push(Piece::Nested(*tag, pieces.to_vec())),
            },
        }
    }
    out
}

fn push_fixed<T>(pieces: &mut Vec<Piece<T>>, bytes: &[u8]) {
    match pieces.last_mut() {
        Some(Piece::Fixed(last)) => last.extend_from_slice(bytes),
        _ if bytes.is_empty() => {}
        _ => pieces.push(Piece::Fixed(bytes.to_vec())),
    }
}

impl Template {
    /// Whether it is the same whatever the values.
    pub fn is_fixed(&self) -> bool {
        matches!(&self.pieces[..], [] | [Piece::Fixed(_)])
    }

    /// How many bytes [`Template::write`] writes.
    pub fn length(&self, values: &Values) -> usize {
        length(&self.pieces, values)
    }

    /// Adds the message with `values` in it to `out`.
    pub fn write(&self, values: &Values, out: &mut Vec<u8>) {
        write(&self.pieces, values, out);
    }
}

fn length(pieces: &[Piece<varying::Template>], values: &Values) -> usize {
    let length = |piece: &Piece<varying::Template>| {
        let (tag, inner) = match piece {
            Piece::Fixed(bytes) => return bytes.len(),
            Piece::Text(tag, text) => (tag, text.length(values)),
            Piece::Nested(tag, pieces) => (tag, length(pieces, values)),
        };
        varint_length(u64::from(*tag)) + varint_length(inner as u64) + inner
    };
    pieces.iter().map(length).sum()
}

fn write(pieces: &[Piece<varying::Template>], values: &Values, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Fixed(bytes) => out.extend_from_slice(bytes),
            Piece::Text(tag, text) => {
                varint(u64::from(*tag), out);
                varint(text.length(values) as u64, out);
                text.render(values, out);
            }
            Piece::Nested(tag, pieces) => {
                varint(u64::from(*tag), out);
                varint(length(pieces, values) as u64, out);
                write(pieces, values, out);
            }
        }
    }
}

/// The tag of a field that has its length before it.
fn tag(number: u32) -> u32 {
    const LENGTH_DELIMITED: u32 = 2;
    number << 3 | LENGTH_DELIMITED
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_take_as_many_bytes_as_they_are_said_to(value: u64) {
            let mut out = Vec::new();
            varint(value, &mut out);
            prop_assert_eq!(out.len(), varint_length(value));
        }

        /// A text with a value in it is the field that the same text without one is, however deep it stands.
        #[test]
        fn values_make_the_bytes_that_texts_make(before in "[a-z]{0,200}", value in ".{0,200}", depth in 0u32..5, number in 1u32..5000) {
            let mut values = Values::new();
            values.push(|out| out.extend_from_slice(value.as_bytes()));
            let message = |text: &str| {
                let mut message = Message::default();
                message.push_fixed(b"\x08\x01");
                message.push_text(number, text);
                (0..depth).fold(message, |inner, depth| {
                    let mut outer = Message::default();
                    outer.push_nested(depth + 1, inner);
                    outer.push_fixed(b"\x10\x02");
                    outer
                })
            };
            let varying = message(&format!("{before}{{{{v}}}}")).template(&["v".to_owned()]);
            let fixed = message(&varying::template::escaped(&format!("{before}{value}"))).template(&[]);
            prop_assert!(!varying.is_fixed() && fixed.is_fixed());
            let (mut one, mut other) = (Vec::new(), Vec::new());
            varying.write(&values, &mut one);
            fixed.write(&Values::new(), &mut other);
            prop_assert_eq!(varying.length(&values), one.len());
            prop_assert_eq!(one, other);
        }
    }
}
