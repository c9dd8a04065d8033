//! Where the last byte that came lies: between two messages, or inside of one. The codec knows, and does not tell; an end in the middle of
//! a message is another thing than one between two.

/// Follows a stream of frames (RFC 6455, section 5.2), well-formed or not.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// The head of the frame that has begun, as far as it has come.
    head: [u8; HEAD_MOST],
    have: usize,
    /// What is to come of what it holds.
    missing: u64,
    /// A message in pieces has begun.
    open: bool,
    /// The code of the first close, as far as it has come; `None` before one.
    code: Option<([u8; CODE], usize)>,
    /// What is missing is of that close.
    closing: bool,
}

/// The opcode of a close.
const CLOSE: u8 = 8;
/// How long the code of a close is, in bytes.
const CODE: usize = 2;
/// Two bytes, the length, and the mask that only clients have.
const HEAD_MOST: usize = 2 + 8 + 4;

impl Boundary {
    /// These have come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let taken = bytes.len().min(usize::try_from(self.missing).unwrap_or(usize::MAX));
                if let Some((code, have)) = self.code.as_mut().filter(|_| self.closing) {
                    let part = &bytes[..taken.min(CODE - *have)];
                    code[*have..*have + part.len()].copy_from_slice(part);
                    *have += part.len();
                }
                self.missing -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.head[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if let Some((is_final, opcode, length)) = self.frame() {
                // Control frames may stand between the pieces of a message.
                if opcode < 8 {
                    self.open = !is_final;
                }
                (self.have, self.missing) = (0, length);
                self.closing = opcode == CLOSE && self.code.is_none();
                if self.closing {
                    self.code = Some(Default::default());
                }
            }
        }
    }

    /// The code of the first close, where it has one: as it was sent, which the codec does not tell of those that it does not like.
    pub(super) fn close_code(&self) -> Option<u16> {
        self.code.filter(|(_, have)| *have == CODE).map(|(code, _)| u16::from_be_bytes(code))
    }

    /// Whether a part of something has come, and not all.
    pub(super) fn is_inside(&self) -> bool {
        self.have > 0 || self.missing > 0 || self.open
    }

    /// What the head says, once all of it has come: whether its frame is the last of its message, which one it is, and how much it holds.
    fn frame(&self) -> Option<(bool, u8, u64)> {
        let [first, second, ..] = self.head;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.have < 2 || self.have < 2 + extended + mask {
            return None;
        }
        let length = match extended {
            0 => u64::from(second & 0x7f),
            n => self.head[2..2 + n].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        Some((first & 0x80 != 0, first & 0x0f, length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inside(bytes: &[u8]) -> bool {
        let mut boundary = Boundary::default();
        boundary.pass(bytes);
        boundary.is_inside()
    }

    #[test]
    fn only_whole_messages_end_outside() {
        for (bytes, expected) in [
            (&b""[..], false),
            (b"\x81", true),
            (b"\x81\x00", false),
            (b"\x81\x02h", true),
            (b"\x81\x02hi", false),
            (b"\x01\x01h", true),
            (b"\x01\x01h\x89\x00", true),
            (b"\x01\x01h\x89\x00\x80\x01i", false),
            (b"\x82\x7e\x00", true),
            (b"\x82\x7e\x00\x00", false),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", true),
            (b"\x81\x82\0\0\0\0h", true),
            (b"\x81\x82\0\0\0\0hi", false),
        ] {
            assert_eq!(inside(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_code_of_the_first_close_is_told_however_it_comes() {
        for (bytes, expected) in [
            (&b"\x88\x00"[..], None),
            (b"\x88\x02\x03", None),
            (b"\x88\x02\x03\xf6", Some(1014)),
            (b"\x81\x02hi\x88\x05\x13\x88bye\x88\x02\x03\xe8", Some(5000)),
            (b"\x88\x00\x88\x02\x03\xe8", None),
        ] {
            for cut in 0..=bytes.len() {
                let mut boundary = Boundary::default();
                boundary.pass(&bytes[..cut]);
                boundary.pass(&bytes[cut..]);
                assert_eq!(boundary.close_code(), expected, "{bytes:?} at {cut}");
            }
        }
    }

    proptest! {
        /// It does not matter in which pieces bytes come, and no bytes panic.
        #[test]
        fn pieces_do_not_matter(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut boundary = Boundary::default();
            boundary.pass(before);
            boundary.pass(after);
            prop_assert_eq!(boundary.is_inside(), inside(&bytes));
        }

        /// Of whole messages, every proper part that does not end between two of them ends inside of one.
        #[test]
        fn parts_of_messages_end_inside(lengths in prop::collection::vec((0..300usize, 1..4usize), 1..5)) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (length, pieces) in lengths {
                for piece in 0..pieces {
                    let first = if piece == 0 { 2 } else { 0 } | if piece + 1 == pieces { 0x80 } else { 0 };
                    bytes.push(first);
                    match length {
                        0..126 => bytes.push(length as u8),
                        _ => bytes.extend([126, (length >> 8) as u8, length as u8]),
                    }
                    bytes.extend(std::iter::repeat_n(0x5a, length));
                }
                ends.push(bytes.len());
            }
            for cut in 0..=bytes.len() {
                prop_assert_eq!(inside(&bytes[..cut]), !ends.contains(&cut), "{} of {}", cut, bytes.len());
            }
        }
    }
}
