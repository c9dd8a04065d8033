//! What was heard of an answer: the headers that somebody asked for and, where somebody did, its body. Buffers are used again for the
//! next answer, and what they hold is bounded whatever a peer sends.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::Flaw;

/// The longest body that is looked into, in bytes, before and after it is decoded: a longer one is a flaw. It also bounds what an answer
/// in gzip can make of a few bytes.
pub const BODY_MOST: usize = 1024 * 1024;
/// What a buffer keeps of its room from one answer to the next, in bytes: one long answer must not cost every connection as much.
const ROOM_KEPT: usize = 64 * 1024;
/// How many places of headers are.
const SPANS_KEPT: usize = 1024;

/// What is listened to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hears {
    /// Names in lower case, each once.
    headers: Vec<String>,
    body: bool,
}

/// The header that says how a body is coded.
const CODING: &str = "content-encoding";

impl Hears {
    /// These headers, and the body or not.
    pub fn new<'n>(headers: impl IntoIterator<Item = &'n str>, body: bool) -> Hears {
        let mut names: Vec<String> = headers.into_iter().chain(body.then_some(CODING)).map(str::to_ascii_lowercase).collect();
        names.sort();
        names.dedup();
        Hears { headers: names, body }
    }

    /// Nobody wants to know anything.
    pub fn nothing(&self) -> bool {
        self.headers.is_empty() && !self.body
    }

    /// Whether somebody wants the body.
    pub fn body(&self) -> bool {
        self.body
    }

    fn place_of(&self, name: &[u8]) -> Option<usize> {
        self.headers.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// A body is longer than what is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What was heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Values of headers, one after the other.
    values: Vec<u8>,
    /// Which of [`Hears::headers`] each is of, and where it lies.
    spans: Vec<(usize, usize, usize)>,
    body: Vec<u8>,
    /// More of it came than is kept.
    too_long: bool,
    decoded: Vec<u8>,
}

impl Heard {
    /// Forgets the answer before.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.too_long = false;
        self.spans.shrink_to(SPANS_KEPT);
        for buffer in [&mut self.values, &mut self.body, &mut self.decoded] {
            buffer.clear();
            buffer.shrink_to(ROOM_KEPT);
        }
    }

    /// A header came.
    pub fn header(&mut self, hears: &Hears, name: &[u8], value: &[u8]) {
        if let Some(place) = hears.place_of(name) {
            let start = self.values.len();
            self.values.extend_from_slice(value.trim_ascii());
            self.spans.push((place, start, self.values.len()));
        }
    }

    /// A piece of the body came.
    ///
    /// # Errors
    /// When it has become longer than what is looked into: no more of it is wanted. Whether that is a flaw of the answer is found by whoever
    /// looks into it, which nobody does where its status says enough.
    pub fn piece(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.body.len() + piece.len() > BODY_MOST {
            self.too_long = true;
            return Err(TooLong);
        }
        self.body.extend_from_slice(piece);
        Ok(())
    }

    /// The values of a header, as they were heard.
    pub fn values<'h>(&'h self, hears: &'h Hears, name: &str) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        Head { hears, values: &self.values, spans: &self.spans }.values(name)
    }

    /// The head and the body as the service meant it: decoded, where that is needed.
    pub(super) fn parts<'h>(&'h mut self, hears: &'h Hears) -> Result<(Head<'h>, &'h [u8]), Flaw> {
        let Heard { values, spans, body, too_long, decoded } = self;
        let head = Head { hears, values, spans };
        if !hears.body {
            return Ok((head, &[]));
        }
        if *too_long {
            return Err(Flaw::TooLong);
        }
        // Codings are listed in the order in which they were applied; an empty body has none.
        let mut codings = head.values(CODING).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let coding = codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        let is_gzip = |coding: &[u8]| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip");
        match coding {
            _ if body.is_empty() => Ok((head, &[])),
            None => Ok((head, body)),
            Some(coding) if is_gzip(coding) && codings.next().is_none() => {
                decode(body, decoded)?;
                Ok((head, decoded))
            }
            Some(_) => Err(Flaw::Coding),
        }
    }
}

fn decode(body: &[u8], decoded: &mut Vec<u8>) -> Result<(), Flaw> {
    decoded.clear();
    let most = BODY_MOST as u64;
    MultiGzDecoder::new(body).take(most + 1).read_to_end(decoded).map_err(|_| Flaw::NotGzip)?;
    if decoded.len() > BODY_MOST { Err(Flaw::TooLong) } else { Ok(()) }
}

/// The headers that were heard.
#[derive(Clone, Copy)]
pub(super) struct Head<'h> {
    hears: &'h Hears,
    values: &'h [u8],
    spans: &'h [(usize, usize, usize)],
}

impl<'h> Head<'h> {
    /// The values of a header, in the order in which they came.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let (place, values) = (self.hears.place_of(name.as_bytes()), self.values);
        self.spans.iter().filter(move |span| Some(span.0) == place).map(|(_, start, end)| &values[*start..*end])
    }
}
