//! The head of an answer: its status line and the handful of headers that decide how long the body is, whether the connection
//! lives on, who answered and whether to come back later. Everything else is skipped.

use std::mem::MaybeUninit;

use crate::protocol::{Afterwards, End, RetryAfter};

/// The longest head that is read, in bytes.
pub(in crate::protocol) const HEAD_LIMIT: usize = 64 * 1024;
/// The most header lines.
const HEADERS: usize = 100;

/// What a head said.
#[derive(Debug, PartialEq)]
pub(in crate::protocol) struct Head<'a> {
    /// Bytes of the head itself.
    pub(in crate::protocol) length: usize,
    pub(in crate::protocol) status: u16,
    pub(in crate::protocol) body: Body,
    pub(in crate::protocol) connection: Afterwards,
    pub(in crate::protocol) retry_after: Option<RetryAfter>,
    /// The value of the identity header.
    pub(in crate::protocol) identity: Option<&'a [u8]>,
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Which request an answer belongs to, as far as its framing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Asked {
    Head,
    Other,
    /// To go on in another protocol.
    Upgrade,
}

impl Head<'_> {
    /// An answer before the answer (1xx), to be skipped.
    pub(in crate::protocol) fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads a head from the start of `bytes`; `None` when it is not all there yet.
pub(in crate::protocol) fn read<'a>(bytes: &'a [u8], asked: Asked, identity_header: &str) -> Result<Option<Head<'a>>, End> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(End::HeadTooLarge),
        Err(_) => return Err(End::Garbage),
    };
    let status = response.code.ok_or(End::Garbage)?;
    // 101 changes to a protocol that, as a rule, nobody asked for.
    if status < 100 || status == 101 && asked != Asked::Upgrade {
        return Err(End::Garbage);
    }

    let mut keep = response.version == Some(1);
    let mut content_length: Option<u64> = None;
    let mut coding: Option<Body> = None;
    let mut retry_after = None;
    let mut identity = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // The length sorts out nearly every header that is none of these.
        match header.name.len() {
            10 if is("connection") => {
                for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        keep = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") && response.version == Some(0) {
                        keep = true;
                    }
                }
            }
            11 if is("retry-after") => retry_after = Some(RetryAfter::read(header.value)),
            14 if is("content-length") => {
                let value = decimal(header.value).ok_or(End::Garbage)?;
                if content_length.is_some_and(|other| other != value) {
                    return Err(End::Garbage);
                }
                content_length = Some(value);
            }
            17 if is("transfer-encoding") => {
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                coding = Some(if last.eq_ignore_ascii_case(b"chunked") { Body::Chunked } else { Body::UntilClose });
            }
            _ => {}
        }
        if header.name.len() == identity_header.len() && is(identity_header) {
            identity = Some(header.value);
        }
    }

    let body = if asked == Asked::Head || matches!(status, 100..=199 | 204 | 304) {
        Body::Length(0)
    } else {
        match (coding, content_length) {
            (Some(coding), length) => {
                // Both at once is how answers are smuggled: the coding wins, and the connection ends with it.
                keep &= length.is_none();
                coding
            }
            (None, Some(length)) => Body::Length(length),
            (None, None) => Body::UntilClose,
        }
    };
    keep &= body != Body::UntilClose;
    let connection = if keep { Afterwards::Keep } else { Afterwards::Close };
    Ok(Some(Head { length, status, body, connection, retry_after, identity }))
}

/// Hands out the headers of a whole head, which has been read before: for what most answers are not looked at for.
pub(in crate::protocol) fn each(head: &[u8], mut header: impl FnMut(&[u8], &[u8])) {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut headers);
    if parsed.is_ok() {
        response.headers.iter().for_each(|one| header(one.name.as_bytes(), one.value));
    }
}

/// Finds the end of a head (an empty line) in `bytes` at or after `from`: cheaper than parsing again with each byte that a slow
/// peer drips. `Err` holds where to go on looking.
pub(in crate::protocol) fn find_end(bytes: &[u8], from: usize) -> Result<(), usize> {
    let mut at = from;
    while let Some(line) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let feed = at + line;
        match bytes.get(feed + 1..) {
            Some([b'\n', ..] | [b'\r', b'\n', ..]) => return Ok(()),
            // Not enough to tell: come back to this very line feed.
            Some([] | [b'\r']) | None => return Err(feed),
            Some(_) => at = feed + 1,
        }
    }
    Err(bytes.len())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::http1::tests::spoilt;

    fn body_of(head: &str) -> Result<(Body, Afterwards), End> {
        read(head.as_bytes(), Asked::Other, "x-pod")
            .map(|head| head.expect("a whole head"))
            .map(|head| (head.body, head.connection))
    }

    #[test]
    fn the_end_of_the_body_is_found_as_the_standard_says() {
        use Afterwards::{Close, Keep};
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Body::Length(5), Keep))),
            ("HTTP/1.1 200\r\ncontent-length:5\r\n\r\n", Ok((Body::Length(5), Keep))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", Ok((Body::Length(5), Close))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: foo, Close\r\n\r\n", Ok((Body::Length(5), Close))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Body::Length(5), Close))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Ok((Body::Length(5), Keep))),
            ("HTTP/1.1 200 OK\r\n\r\n", Ok((Body::UntilClose, Close))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((Body::Chunked, Keep))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Ok((Body::Chunked, Keep))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Ok((Body::UntilClose, Close))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Ok((Body::Chunked, Close))),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Ok((Body::Length(0), Keep))),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok((Body::Length(0), Keep))),
            ("HTTP/1.1 100 Continue\r\n\r\n", Ok((Body::Length(0), Keep))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Ok((Body::Length(5), Keep))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Err(End::Garbage)),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Err(End::Garbage)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Err(End::Garbage)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Err(End::Garbage)),
            ("SSH-2.0-OpenSSH_9.9\r\n\r\n", Err(End::Garbage)),
            ("HTTP/2.0 200 OK\r\n\r\n", Err(End::Garbage)),
        ] {
            assert_eq!(body_of(head), expected, "{head:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let head =
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Asked::Head, "x-pod").expect("a head").expect("a whole one");
        assert_eq!(head.body, Body::Length(0));
    }

    #[test]
    fn identity_and_retry_after_are_read() {
        let bytes = b"HTTP/1.1 503 Busy\r\nX-Pod: checkout-1\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n";
        let head = read(bytes, Asked::Other, "x-pod").expect("a head").expect("a whole one");
        assert_eq!(
            (head.identity, head.retry_after, head.length),
            (Some(&b"checkout-1"[..]), Some(RetryAfter::Seconds(3)), bytes.len())
        );
    }

    #[test]
    fn too_many_headers_are_too_many() {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(read(head.as_bytes(), Asked::Other, "x-pod"), Err(End::HeadTooLarge));
    }

    proptest! {
        /// The end is found at the same byte as by the parser, wherever the head is cut.
        #[test]
        fn the_end_is_found_wherever_a_head_is_cut(cut in 0..40usize) {
            let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\nbody\n\n";
            let cut = cut.min(bytes.len());
            let found = match find_end(&bytes[..cut], 0) {
                Ok(()) => true,
                Err(from) => {
                    prop_assert_eq!(find_end(bytes, from), Ok(()));
                    false
                }
            };
            prop_assert_eq!(found, read(&bytes[..cut], Asked::Other, "x-pod").expect("well formed").is_some());
        }

        /// Whatever comes, a well-formed head with anything done to it included: what is said of its beginning is true of the whole, so
        /// that it does not matter in which pieces it came; and the end is found wherever the parser finds one, so that nobody waits
        /// for more of a head that is all there.
        #[test]
        fn no_input_panics_and_pieces_do_not_matter(
            bytes in prop_oneof![any::<Vec<u8>>(), spoilt(any_head())],
            asked in prop_oneof![Just(Asked::Head), Just(Asked::Other)],
            from in any::<prop::sample::Index>(),
        ) {
            let whole = read(&bytes, asked, "x-pod");
            if let Ok(Some(head)) = &whole {
                prop_assert!(head.length <= bytes.len());
            }
            for cut in 0..bytes.len() {
                match read(&bytes[..cut], asked, "x-pod") {
                    Ok(None) => {}
                    said => {
                        prop_assert_eq!(&said, &whole, "of {} bytes of {}", cut, bytes.len());
                        prop_assert!(said.is_err() || find_end(&bytes[..cut], 0).is_ok());
                    }
                }
            }
            // Found from the start or from where a search of a part left off.
            let from = from.index(bytes.len() + 1);
            if let Err(rest) = find_end(&bytes[..from], 0) {
                prop_assert!(rest <= from);
                prop_assert_eq!(find_end(&bytes, rest).is_ok(), find_end(&bytes, 0).is_ok());
            }
        }
    }

    /// Heads with the headers that are read, in any order, twice, and with values that need not be good ones.
    fn any_head() -> impl Strategy<Value = Vec<u8>> {
        let header = prop_oneof![
            "(Content-Length|content-length): ?[0-9]{0,21}",
            "Transfer-Encoding: (chunked|gzip|gzip, chunked|chunked, gzip|)",
            "Connection: (close|keep-alive|keep-alive, close|upgrade)",
            "Retry-After: [0-9]{1,3}",
            "X-Pod: [a-z]{0,8}",
            "[A-Za-z-]{1,12}:[ -~]{0,20}",
        ];
        ("HTTP/1\\.[01] [0-9]{3}( [A-Za-z ]{0,12})?", proptest::collection::vec(header, 0..8), "(\r\n|\n)", "[a-z]{0,9}").prop_map(
            |(line, headers, feed, body)| {
                let lines: String = std::iter::once(line).chain(headers).map(|line| line + &feed).collect();
                format!("{lines}{feed}{body}").into_bytes()
            },
        )
    }
}
