//! The chunked transfer coding (RFC 9112, section 7.1), decoded as it comes in pieces of any size. Only the frame is read; the
//! content is counted and handed on.

use crate::protocol::End;

/// The longest size of a chunk with its extension, and the longest trailer section, in bytes.
const EXTRAS: u32 = 16 * 1024;

/// Where in a chunked body we are.
pub(super) struct Chunks {
    state: State,
    /// Of the chunk: its size while it is read, then what of it is still to come.
    size: u64,
    /// Bytes of content so far.
    content: u64,
    /// Bytes of the size and the extension of the chunk, or of the trailer section.
    extras: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Extension,
    SizeLineFeed,
    Content,
    ContentReturn,
    ContentLineFeed,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks { state: State::SizeStart, size: 0, content: 0, extras: 0 }
    }

    pub(super) fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what has come and returns how much of it belongs to the body: less than all of it only when the body is done. Each piece of
    /// content goes to `content`.
    pub(super) fn feed<E: From<End>>(
        &mut self,
        bytes: &[u8],
        content_limit: u64,
        mut content: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let byte = bytes[at];
            at += 1;
            self.state = match (self.state, byte) {
                (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let digit = (byte as char).to_digit(16).expect("the pattern holds hexadecimal digits only");
                    if self.size >> 60 != 0 {
                        return Err(End::Garbage.into());
                    }
                    // Zeros in front change nothing, and need not end.
                    self.spend()?;
                    self.size = self.size << 4 | u64::from(digit);
                    State::Size
                }
                (State::Size, b';' | b' ' | b'\t') => State::Extension,
                (State::Size | State::Extension, b'\r') => State::SizeLineFeed,
                (State::Extension, b'\n') => return Err(End::Garbage.into()),
                (State::Extension, _) => {
                    self.spend()?;
                    State::Extension
                }
                (State::SizeLineFeed, b'\n') if self.size == 0 => State::TrailerStart,
                (State::SizeLineFeed, b'\n') => {
                    self.content = self.content.saturating_add(self.size);
                    if self.content > content_limit {
                        return Err(End::BodyTooLarge.into());
                    }
                    State::Content
                }
                (State::Content, _) => {
                    // All that is here of this chunk, not only the byte at hand.
                    let here = (bytes.len() - (at - 1)) as u64;
                    let taken = here.min(self.size);
                    self.size -= taken;
                    content(&bytes[at - 1..at - 1 + taken as usize])?;
                    at += taken as usize - 1;
                    if self.size == 0 { State::ContentReturn } else { State::Content }
                }
                (State::ContentReturn, b'\r') => State::ContentLineFeed,
                (State::ContentLineFeed, b'\n') => {
                    self.extras = 0;
                    State::SizeStart
                }
                (State::TrailerStart, b'\r') => State::LastLineFeed,
                (State::TrailerStart | State::Trailer, b'\n') => return Err(End::Garbage.into()),
                (State::Trailer, b'\r') => State::TrailerLineFeed,
                (State::TrailerStart | State::Trailer, _) => {
                    self.spend()?;
                    State::Trailer
                }
                (State::TrailerLineFeed, b'\n') => State::TrailerStart,
                (State::LastLineFeed, b'\n') => State::Done,
                _ => return Err(End::Garbage.into()),
            };
        }
        Ok(at)
    }

    fn spend(&mut self) -> Result<(), End> {
        self.extras += 1;
        if self.extras > EXTRAS { Err(End::HeadTooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::http1::tests::spoilt;

    const LIMIT: u64 = 1 << 20;

    fn whole(bytes: &[u8]) -> Result<Option<usize>, End> {
        let mut chunks = Chunks::new();
        let used = chunks.feed(bytes, LIMIT, |_| Ok::<_, End>(()))?;
        Ok(chunks.done().then_some(used))
    }

    #[test]
    fn bodies_end_where_they_say() {
        assert_eq!(whole(b"0\r\n\r\n"), Ok(Some(5)));
        assert_eq!(whole(b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1"), Ok(Some(15)));
        assert_eq!(whole(b"5;a=\"b\"\r\nhello\r\n0\r\nx: y\r\nz: w\r\n\r\n"), Ok(Some(33)));
        assert_eq!(whole(b"A\r\n0123456789\r\n0\r\n\r\n"), Ok(Some(20)));
        assert_eq!(whole(b"5\r\nhel"), Ok(None));
    }

    #[test]
    fn what_is_no_chunk_is_garbage() {
        for bytes in
            ["\r\n", "g\r\n", "5\nhello", "5\r\nhelloX", "5\r\nhello\r\n\r\n", "0\r\n\n", "ffffffffffffffffff\r\n", "-1\r\n"]
        {
            assert_eq!(whole(bytes.as_bytes()), Err(End::Garbage), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_body_of_padded_chunks_is_no_long_head() {
        // Padding of 10 bytes a chunk: after 2,000 chunks there was more of it than one chunk may have.
        let body = format!("{}0\r\n\r\n", "5 ;padding--\r\nhello\r\n".repeat(10_000));
        assert_eq!(whole(body.as_bytes()), Ok(Some(body.len())));
    }

    #[test]
    fn nothing_grows_without_bound() {
        assert_eq!(whole(b"fffffff\r\n"), Err(End::BodyTooLarge));
        assert_eq!(whole("0".repeat(20_000).as_bytes()), Err(End::HeadTooLarge));
        assert_eq!(whole(format!("5;{}", "x".repeat(20_000)).as_bytes()), Err(End::HeadTooLarge));
        assert_eq!(whole(format!("0\r\n{}", "x: y\r\n".repeat(10_000)).as_bytes()), Err(End::HeadTooLarge));
    }

    proptest! {
        /// However a body is cut into pieces, it ends at the same byte, and its content is the same.
        #[test]
        fn pieces_do_not_matter(sizes in proptest::collection::vec(1..300usize, 0..8), cuts in proptest::collection::vec(1..50usize, 1..40)) {
            let mut body = Vec::new();
            for size in &sizes {
                body.extend(format!("{size:x}\r\n").into_bytes());
                body.extend(vec![b'x'; *size]);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let length = body.len();
            body.extend(b"next");
            let mut chunks = Chunks::new();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            let mut content = Vec::new();
            while !chunks.done() {
                let end = (at + cuts.next().expect("a cycle does not end")).min(body.len());
                at += chunks.feed(&body[at..end], LIMIT, |piece| {
                    content.extend_from_slice(piece);
                    Ok::<_, End>(())
                }).expect("a well-formed body");
            }
            prop_assert_eq!(at, length);
            prop_assert_eq!(content, vec![b'x'; sizes.iter().sum()]);
        }

        /// Whatever comes, a well-formed body with anything done to it included, and however it is cut: the same end at the same byte.
        #[test]
        fn no_input_panics_and_pieces_do_not_matter(
            bytes in prop_oneof![any::<Vec<u8>>(), spoilt(any_body())],
            cuts in proptest::collection::vec(1..20usize, 1..20),
        ) {
            let mut at_once = Chunks::new();
            let expected = at_once.feed(&bytes, LIMIT, |_| Ok::<_, End>(()));
            prop_assert!(!matches!(expected, Ok(used) if used > bytes.len() || (used < bytes.len() && !at_once.done())));
            let mut chunks = Chunks::new();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            let mut got = Ok(());
            while at < bytes.len() && !chunks.done() && got.is_ok() {
                let end = (at + cuts.next().expect("a cycle does not end")).min(bytes.len());
                got = chunks.feed(&bytes[at..end], LIMIT, |_| Ok::<_, End>(())).map(|used| at += used);
            }
            prop_assert_eq!(got.map(|()| at), expected);
            prop_assert_eq!(chunks.done(), at_once.done());
        }
    }

    /// Chunks with extensions, trailers, and sizes that need not be true.
    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        let chunk = (0..40usize, 0..40usize, "(;[a-z]{0,5}(=\"[a-z]{0,5}\")?)?").prop_map(|(says, is, extension)| {
            let mut chunk = format!("{says:X}{extension}\r\n").into_bytes();
            chunk.extend(vec![b'x'; if is % 4 == 0 { is } else { says }]);
            chunk.extend(b"\r\n");
            chunk
        });
        (proptest::collection::vec(chunk, 0..5), "([a-z]{1,5}: [a-z]{0,5}\r\n){0,3}").prop_map(|(chunks, trailers)| {
            let mut body = chunks.concat();
            body.extend(format!("0\r\n{trailers}\r\nHTTP/1.1").into_bytes());
            body
        })
    }
}
