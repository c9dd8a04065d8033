//! The handshake (RFC 6455, section 4): a GET that asks for a WebSocket, and what must stand in the answer of one who agrees.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Breach;
use crate::protocol::http1::head::{self, Asked, HEAD_LIMIT};
use crate::protocol::stream::Stream;
use crate::protocol::{Destination, End, Outline, Progress, RetryAfter};
use crate::target;
use crate::time::Moment;
use crate::varying::{Form, Names, Template, Values};

/// What is read at once: most heads fit.
const PIECE: usize = 1024;
/// The header that names the subprotocols on offer, and the one that was chosen.
const SUBPROTOCOL: &str = "sec-websocket-protocol";

/// Counts the handshakes of this process, each of which has a key of its own.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The question, ready to be asked any number of times.
pub(super) struct Upgrade {
    /// All before the key.
    head: Template,
    /// The subprotocols on offer.
    offered: Template,
}

/// The answer.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// It is a WebSocket now, whose first bytes may have come already.
    Yes { identity: Option<Vec<u8>>, rest: Vec<u8> },
    /// An answer of HTTP. What else it has to say is not read.
    No { status: u16, retry_after: Option<RetryAfter>, identity: Option<Vec<u8>> },
}

impl Upgrade {
    pub(super) fn new(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Upgrade> {
        let mut head = Template::default();
        head.push_text(b"GET ");
        head.push(outline.path.clone());
        head.push_text(b" HTTP/1.1\r\n");
        if !outline.gives("host") {
            head.push_text(format!("Host: {}\r\n", destination.authority()).as_bytes());
        }
        if !outline.gives("user-agent") {
            head.push_text(concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
        }
        head.push_text(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        let mut offered = Template::default();
        for (name, value) in &outline.request.headers {
            target::header(name, value).map_err(|why| anyhow!(why))?;
            ensure!(!name.eq_ignore_ascii_case("sec-websocket-key"), "`{name}` is the handshake's own affair: leave it out");
            head.push_text(format!("{name}: ").as_bytes());
            let value = Template::new(value, Form::Header, names);
            if name.eq_ignore_ascii_case(SUBPROTOCOL) {
                offered = value.clone();
            }
            head.push(value);
            head.push_text(b"\r\n");
        }
        head.push_text(b"Sec-WebSocket-Key: ");
        Ok(Upgrade { head, offered })
    }

    /// Asks over `stream`. What has happened is told to `progress`.
    ///
    /// # Errors
    /// Why there was no whole answer, or none that can be one.
    pub(super) async fn ask(
        &self,
        stream: &mut Stream,
        values: &Values,
        identity_header: &str,
        progress: &mut Progress,
    ) -> Result<Said, End> {
        let lost = |error: std::io::Error| End::of_error(&error);
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        let (key, mut request, mut offered) = (key(number), Vec::new(), Vec::new());
        self.head.render(values, &mut request);
        request.extend_from_slice(key.as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
        self.offered.render(values, &mut offered);
        progress.sent = Some(Moment::now());
        stream.write_all(&request).await.map_err(lost)?;
        progress.bytes_out += request.len() as u64;
        stream.flush().await.map_err(lost)?;

        let accept = derive_accept_key(key.as_bytes());
        let (mut said, mut scanned, mut heads) = (Vec::new(), 0, 0);
        loop {
            said.reserve(PIECE);
            let n = match stream.read_buf(&mut said).await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                read => read.map_err(lost)?,
            };
            progress.came(n);
            let ended = n == 0 || heads + said.len() >= HEAD_LIMIT;
            // Parsed at once, and then when the end of a head has come, or none ever will.
            while scanned == 0 || ended || head::find_end(&said, scanned).is_ok() {
                match read(&said, &accept, &offered, identity_header)? {
                    Some(Told::Interim(length)) => {
                        heads += length;
                        said.drain(..length);
                        scanned = 0;
                    }
                    Some(Told::Whole(said)) => return Ok(said),
                    None if n == 0 && said.is_empty() => return Err(End::ClosedUnanswered),
                    None if n == 0 => return Err(End::ClosedMidHead),
                    None if ended => return Err(End::HeadTooLarge),
                    None => break,
                }
            }
            scanned = head::find_end(&said, scanned).err().unwrap_or(scanned);
        }
    }
}

/// What the beginning of an answer is.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// An answer before the answer, of that length.
    Interim(usize),
    Whole(Said),
}

/// Reads a head from the start of `bytes`; `None` when it is not all there yet.
pub(super) fn read(bytes: &[u8], accept: &str, offered: &[u8], identity_header: &str) -> Result<Option<Told>, End> {
    let Some(head) = head::read(bytes, Asked::Upgrade, identity_header)? else { return Ok(None) };
    let identity = head.identity.map(<[u8]>::to_vec);
    Ok(Some(match head.status {
        101 => {
            agreed(&bytes[..head.length], accept, offered).map_err(End::WebSocketBroken)?;
            Told::Whole(Said::Yes { identity, rest: bytes[head.length..].to_vec() })
        }
        100..=199 => Told::Interim(head.length),
        status => Told::Whole(Said::No { status, retry_after: head.retry_after, identity }),
    }))
}

/// Whether a head with status 101 agrees to what was asked for (RFC 6455, section 4.1).
fn agreed(head: &[u8], accept: &str, offered: &[u8]) -> Result<(), Breach> {
    let (mut websocket, mut upgrade, mut accepted, mut unoffered) = (false, false, false, None);
    head::each(head, |name, value| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("upgrade") {
            websocket |= has(value, b"websocket");
        } else if is("connection") {
            upgrade |= has(value, b"upgrade");
        } else if is("sec-websocket-accept") {
            accepted = value.trim_ascii() == accept.as_bytes();
        } else if is("sec-websocket-extensions") && !value.trim_ascii().is_empty() {
            unoffered = unoffered.or(Some(Breach::UnofferedExtension));
        } else if is(SUBPROTOCOL) && !items(offered).any(|one| one == value.trim_ascii()) {
            unoffered = unoffered.or(Some(Breach::UnofferedSubprotocol));
        }
    });
    match unoffered {
        _ if !websocket || !upgrade => Err(Breach::NoWebSocket),
        _ if !accepted => Err(Breach::WrongAccept),
        Some(breach) => Err(breach),
        None => Ok(()),
    }
}

/// What stands in a list.
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn has(list: &[u8], word: &[u8]) -> bool {
    items(list).any(|item| item.eq_ignore_ascii_case(word))
}

/// The key of the handshake of this number: 16 bytes that differ from those of the others, so that nothing on the way answers one with
/// what it has heard for another. That is all that they are for; they need not be secret, and the run does not hang on them.
fn key(number: u64) -> String {
    // The finalizer of SplitMix64, which maps no two numbers to one.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let first = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    let bytes = [first, mix(first)].map(u64::to_be_bytes);
    STANDARD.encode(bytes.as_flattened())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Exchange, Request, Talk};
    use crate::protocol::{Trust, outline};
    use crate::proxy::Proxy;
    use crate::units::Span;

    /// That of the standard's example, and what it is answered.
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn upgrade(url: &str, headers: &[(&str, &str)], names: &[String]) -> Upgrade {
        let proxy: Proxy = "http://a:b@proxy:3128".parse().expect("a proxy");
        let destination = Destination::read(url, Trust::default()).expect("a URL").through(Some(proxy));
        let request = Request {
            method: "WEBSOCKET".into(),
            path: "/live?u={{user}}".into(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: Vec::new(),
            timeout: Span::from_secs(1),
            wanted: Default::default(),
            talk: Talk::WebSocket(Exchange::default()),
        };
        let requests = [request];
        let outlines = outline::all(&destination, &requests, names).expect("an outline");
        Upgrade::new(&destination, &outlines[0], names).expect("a handshake")
    }

    #[test]
    fn what_is_asked_is_whole_and_has_the_values_of_whoever_asks() {
        let names = ["user".to_owned()];
        let upgrade =
            upgrade("http://shop:81/api", &[("x-user", "{{user}}"), ("Sec-WebSocket-Protocol", "chat, {{user}}")], &names);
        let mut values = Values::default();
        values.push(|out| out.extend_from_slice(b"ann"));
        let (mut head, mut offered) = (Vec::new(), Vec::new());
        upgrade.head.render(&values, &mut head);
        upgrade.offered.render(&values, &mut offered);
        let agent = concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n");
        let fixed = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        // A proxy hands on bytes: it is told nothing here.
        assert_eq!(
            String::from_utf8_lossy(&head),
            format!(
                "GET /api/live?u=ann HTTP/1.1\r\nHost: shop:81\r\n{agent}{fixed}x-user: ann\r\nSec-WebSocket-Protocol: chat, ann\r\n\
                 Sec-WebSocket-Key: "
            )
        );
        assert_eq!(offered, b"chat, ann");
    }

    #[test]
    fn no_two_handshakes_have_one_key_of_sixteen_bytes() {
        let keys: std::collections::BTreeSet<String> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)));
    }

    #[test]
    fn only_who_agrees_to_what_was_asked_for_agrees() {
        let accept = format!("Sec-WebSocket-Accept: {ACCEPT}");
        for (lines, expected) in [
            (vec!["Upgrade: websocket", "Connection: Upgrade", &accept], Ok(())),
            (vec!["upgrade: WebSocket", "connection: keep-alive, upgrade", &accept, "Sec-WebSocket-Protocol: b"], Ok(())),
            (vec!["Upgrade: websocket", "Connection: Upgrade", &accept, "Sec-WebSocket-Extensions:"], Ok(())),
            (vec!["Connection: Upgrade", &accept], Err(Breach::NoWebSocket)),
            (vec!["Upgrade: h2c", "Connection: Upgrade", &accept], Err(Breach::NoWebSocket)),
            (vec!["Upgrade: websocket", &accept], Err(Breach::NoWebSocket)),
            (vec!["Upgrade: websocket", "Connection: Upgrade"], Err(Breach::WrongAccept)),
            (vec!["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: abc"], Err(Breach::WrongAccept)),
            (
                vec!["Upgrade: websocket", "Connection: Upgrade", &accept, "Sec-WebSocket-Extensions: permessage-deflate"],
                Err(Breach::UnofferedExtension),
            ),
            (
                vec!["Upgrade: websocket", "Connection: Upgrade", &accept, "Sec-WebSocket-Protocol: c"],
                Err(Breach::UnofferedSubprotocol),
            ),
        ] {
            let head = format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n\r\n", lines.join("\r\n"));
            assert_eq!(agreed(head.as_bytes(), ACCEPT, b"a, b"), expected, "{head}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_what_it_says() {
        let read = |text: &str| read(text.as_bytes(), ACCEPT, b"", "x-pod");
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nX-Pod: a-1\r\nContent-Length: 9\r\n\r\n";
        let no = Said::No { status: 503, retry_after: Some(RetryAfter::Seconds(3)), identity: Some(b"a-1".to_vec()) };
        assert_eq!(read(busy), Ok(Some(Told::Whole(no))));
        let no = Said::No { status: 200, retry_after: None, identity: None };
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nhello"), Ok(Some(Told::Whole(no))));
        assert_eq!(read("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 1"), Ok(Some(Told::Interim(28))));
        assert_eq!(read("HTTP/1.1 503 Bu"), Ok(None));
        assert_eq!(read("SSH-2.0-OpenSSH_9.9\r\n"), Err(End::Garbage));
    }

    proptest! {
        /// Whatever comes: no panic, what is said of a beginning is said of the whole, and not a byte after the head is lost.
        #[test]
        fn no_answer_panics_and_pieces_do_not_matter(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Upgrade: websocket".to_owned()), Just("Connection: Upgrade".to_owned()),
                    Just(format!("Sec-WebSocket-Accept: {ACCEPT}")), "Sec-WebSocket-Protocol: [a-c, ]{0,4}",
                    "Sec-WebSocket-Extensions: [a-z]{0,3}", "X-Pod: [a-z]{0,4}", "[A-Za-z-]{1,9}:[ -~]{0,9}",
                ],
                0..7,
            ),
            status in "(101|100|[1-9][0-9]{2})",
            rest in any::<Vec<u8>>(),
        ) {
            let head = format!("HTTP/1.1 {status} x\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
            let bytes = [head.as_bytes(), &rest].concat();
            let whole = read(&bytes, ACCEPT, b"a, b", "x-pod");
            if let Ok(Some(Told::Whole(Said::Yes { rest: left, .. }))) = &whole {
                prop_assert_eq!(left, &rest);
            }
            for cut in 0..head.len() {
                let said = read(&bytes[..cut], ACCEPT, b"a, b", "x-pod");
                prop_assert!(matches!(said, Ok(None)) || said == whole, "{said:?} of {cut} bytes, {whole:?} of all");
            }
        }

        #[test]
        fn no_input_panics(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes, ACCEPT, b"", "x-pod");
            let _ = agreed(&bytes, ACCEPT, &bytes);
        }
    }
}
