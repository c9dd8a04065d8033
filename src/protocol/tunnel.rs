//! The way through a proxy: it is asked to connect to the target (CONNECT, RFC 9110, section 9.3.6), and from then on its connection is one
//! to the target. Of what comes after its answer, nothing is read here: that is the target's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::End;
use crate::proxy::Proxy;

/// The longest answer that is read, in bytes.
const ANSWER_MOST: usize = 16 * 1024;
/// The most headers that it may have.
const HEADERS: usize = 64;

/// Why a proxy did not open the way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// It takes no connections.
    Unreachable,
    /// It said no, with this status.
    Status(u16),
    /// It hung up before it had answered.
    Closed,
    /// What it said is no answer in HTTP.
    Garbage,
}

/// What a proxy is asked for.
#[derive(Clone)]
pub(super) struct Tunnel {
    request: Vec<u8>,
}

impl Tunnel {
    /// To `authority`, a host and a port.
    pub(super) fn to(authority: &str, proxy: &Proxy) -> Tunnel {
        let agent = concat!("squall/", env!("CARGO_PKG_VERSION"));
        let known = proxy.authorization().map(|known| format!("Proxy-Authorization: {known}\r\n")).unwrap_or_default();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n{known}\r\n");
        Tunnel { request: request.into_bytes() }
    }

    /// Asks for it over `stream`, and returns once the way is open.
    pub(super) async fn open(&self, stream: &mut TcpStream) -> Result<(), End> {
        let lost = |error: std::io::Error| match End::of_error(&error) {
            End::Reset => End::Proxy(Refusal::Closed),
            end => end,
        };
        stream.write_all(&self.request).await.map_err(lost)?;
        let mut said: Vec<u8> = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            // Looked at before it is taken: a target that speaks first may have spoken already.
            let n = stream.peek(&mut buffer).await.map_err(lost)?;
            if n == 0 {
                return Err(End::Proxy(Refusal::Closed));
            }
            let before = said.len();
            said.extend_from_slice(&buffer[..n]);
            let answer = answer(&said).map_err(End::Proxy)?;
            let taken = answer.map_or(n, |(_, length)| length - before);
            stream.read_exact(&mut buffer[..taken]).await.map_err(lost)?;
            match answer {
                Some((200..=299, _)) => return Ok(()),
                // It is still at it.
                Some((100..=199, _)) => said.clear(),
                Some((status, _)) => return Err(End::Proxy(Refusal::Status(status))),
                None if said.len() >= ANSWER_MOST => return Err(End::Proxy(Refusal::Garbage)),
                None => {}
            }
        }
    }
}

/// The status of an answer and the length of its head, once all of that is there.
fn answer(said: &[u8]) -> Result<Option<(u16, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(said) {
        Ok(httparse::Status::Complete(length)) => Ok(response.code.map(|status| (status, length))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Refusal::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    /// How asking ends when the proxy says `pieces`, and what comes of the target after that.
    async fn asked(pieces: &[&[u8]]) -> (Result<(), End>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let proxy: Proxy = "http://a:b@proxy:3128".parse().expect("a proxy");
        let client = async {
            let mut stream = TcpStream::connect(address).await.expect("somebody listens");
            let opened = Tunnel::to("shop:443", &proxy).open(&mut stream).await;
            let mut rest = Vec::new();
            if opened.is_ok() {
                stream.read_to_end(&mut rest).await.expect("it ends");
            }
            (opened, rest)
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a TCP socket");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            let request = String::from_utf8(request).expect("text");
            assert!(request.starts_with("CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n"), "{request}");
            assert!(request.contains("\r\nProxy-Authorization: Basic YTpi\r\n"), "{request}");
            for piece in pieces {
                // A client that has heard enough is gone.
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let _ = stream.shutdown().await;
            // Until the client has hung up: before that, a reset could overtake the answer.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        tokio::join!(client, server).0
    }

    #[tokio::test]
    async fn the_way_is_open_after_a_good_answer_and_not_a_byte_of_the_target_s_is_lost() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\nhello", "y".repeat(5_000));
        for pieces in [
            &[&b"HTTP/1.1 200 Connection established\r\n\r\nhello"[..]][..],
            &[b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n", b"hello"],
            &[b"HTTP/1.1 2", b"00 OK\r", b"\n\r\nhel", b"lo"],
            &[b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"],
            &[long.as_bytes()],
        ] {
            assert_eq!(asked(pieces).await, (Ok(()), b"hello".to_vec()), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn who_does_not_open_it_is_told_apart() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(ANSWER_MOST));
        for (said, refusal) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"[..], Refusal::Status(407)),
            (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", Refusal::Status(502)),
            (b"HTTP/1.1 302 Found\r\n\r\n", Refusal::Status(302)),
            (b"SSH-2.0-OpenSSH_9.9\r\n", Refusal::Garbage),
            (b"HTTP/1.1 200", Refusal::Closed),
            (b"", Refusal::Closed),
            (endless.as_bytes(), Refusal::Garbage),
        ] {
            assert_eq!(asked(&[said]).await.0, Err(End::Proxy(refusal)), "{:?}", String::from_utf8_lossy(said));
        }
    }

    proptest! {
        /// Whatever a proxy says, in whatever pieces: it ends, and what is said of the beginning is true of the whole.
        #[test]
        fn no_answer_panics_and_pieces_do_not_matter(bytes in prop_oneof![any::<Vec<u8>>(), "HTTP/1.[01] [0-9]{3}( ok)?\r\n(a: b\r\n){0,3}(\r\n)?x?".prop_map(String::into_bytes)]) {
            let whole = answer(&bytes);
            if let Ok(Some((_, length))) = whole {
                prop_assert!(length <= bytes.len());
            }
            for cut in 0..bytes.len() {
                let part = answer(&bytes[..cut]);
                prop_assert!(part == Ok(None) || part == whole, "of {} bytes of {}", cut, bytes.len());
            }
        }
    }
}
