//! The messages in a body, as its bytes come in whatever pieces: each has five bytes before it, whether it is compressed and how long it
//! is. They are counted and thrown away.

use crate::protocol::End;

/// Bytes before each message.
const PREFIX: usize = 5;
/// The longest message that is read, in bytes: a longer one is an endless one.
pub(super) const MESSAGE_MOST: u32 = 256 * 1024 * 1024;

/// What is known between two pieces of a body.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(in crate::protocol) struct Messages {
    /// Whole ones.
    count: u32,
    /// The prefix of the next, as far as it has come.
    prefix: [u8; PREFIX],
    come: u8,
    /// What is still to come of the one after its prefix.
    rest: u32,
}

impl Messages {
    /// Takes in the next piece. Nothing may be compressed, since no call says that it reads what is.
    ///
    /// # Errors
    /// When what comes are no messages, or one that cannot be read or is too long.
    pub(in crate::protocol) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let here = bytes.len().min(self.rest as usize);
                bytes = &bytes[here..];
                self.rest -= here as u32;
            } else {
                let come = usize::from(self.come);
                let here = bytes.len().min(PREFIX - come);
                self.prefix[come..come + here].copy_from_slice(&bytes[..here]);
                bytes = &bytes[here..];
                self.come += here as u8;
                if usize::from(self.come) < PREFIX {
                    return Ok(());
                }
                let [compressed, length @ ..] = self.prefix;
                match compressed {
                    0 => {}
                    1 => return Err(End::MessageCompressed),
                    _ => return Err(End::MessageMalformed),
                }
                self.rest = u32::from_be_bytes(length);
                if self.rest > MESSAGE_MOST {
                    return Err(End::MessageTooLarge);
                }
            }
            if self.rest == 0 {
                self.count = self.count.saturating_add(1);
                self.come = 0;
            }
        }
        Ok(())
    }

    /// Whole messages so far.
    pub(in crate::protocol) fn count(&self) -> u32 {
        self.count
    }

    /// One has begun and not ended.
    pub(in crate::protocol) fn is_cut(&self) -> bool {
        self.come > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of `length` bytes, which look like prefixes themselves.
    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(std::iter::repeat_n([1, 255, 0], length).flatten().take(length));
        bytes
    }

    proptest! {
        /// Goal: messages are counted the same however their bytes are cut, and one that is not whole is known as such.
        #[test]
        fn messages_are_counted_however_they_come(
            lengths in prop::collection::vec(prop_oneof![0usize..3, 0usize..300], 0..6),
            cuts in prop::collection::vec(1usize..40, 1..20),
            lost in 0usize..12,
        ) {
            let whole: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let kept = whole.len().saturating_sub(lost);
            let (mut messages, mut at) = (Messages::default(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(kept);
                messages.feed(&whole[at..end]).expect("messages");
                at = end;
                if at == kept {
                    break;
                }
            }
            let ends: Vec<usize> = lengths.iter().scan(0, |at, length| { *at += PREFIX + length; Some(*at) }).collect();
            prop_assert_eq!(messages.count() as usize, ends.iter().filter(|end| **end <= kept).count());
            prop_assert_eq!(messages.is_cut(), kept > 0 && !ends.contains(&kept));
        }

        /// Goal: no bytes at all are too much for it.
        #[test]
        fn whatever_comes_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut messages = Messages::default();
            let fed = bytes.chunks(7).try_for_each(|piece| messages.feed(piece));
            prop_assert!(matches!(fed, Ok(()) | Err(End::MessageMalformed | End::MessageCompressed | End::MessageTooLarge)));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_at_its_prefix() {
        let feed = |bytes: &[u8]| Messages::default().feed(bytes);
        assert_eq!(feed(b"\x01\0\0\0\0"), Err(End::MessageCompressed));
        assert_eq!(feed(b"\x02\0\0\0\0"), Err(End::MessageMalformed));
        assert_eq!(feed(b"HTTP/1.1"), Err(End::MessageMalformed));
        assert_eq!(feed(b"\0\xff\xff\xff\xff"), Err(End::MessageTooLarge));
        assert_eq!(feed(b"\0\x10\0\0\0"), Ok(()));
        assert_eq!(feed(b"\0\x10\0\0\x01"), Err(End::MessageTooLarge));
    }
}
