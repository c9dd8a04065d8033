//! Exchanges with a server that says anything at all once it has agreed: every one ends, and it does not matter in which pieces it came.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;
use crate::plan::Request;
use crate::protocol::{Trust, outline};
use crate::units::Span;

/// How an exchange ends that is answered with these pieces, each read before the next is sent as far as one can tell, and the connection
/// closed.
async fn exchanged(pieces: &[&[u8]]) -> Result<(Answer, u32), End> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let destination = Destination::read(&format!("http://{address}"), Trust::default()).expect("a URL").at(vec![address]);
    let expect = BodyChecks { contains: Some("y".into()), ..BodyChecks::default() };
    let request = Request {
        method: "WEBSOCKET".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: Span::from_secs(1),
        wanted: Default::default(),
        talk: Talk::WebSocket(Exchange { send: Some(Payload::Text("hello".into())), expect: Some(expect) }),
    };
    let requests = [request];
    let outlines = outline::all(&destination, &requests, &[]).expect("an outline");
    let websocket = WebSocket::new(&destination, &outlines, &[], "x-pod", Arc::default()).expect("an exchange");
    let client = async {
        let mut progress = Progress::default();
        let mut link = websocket.connect(address, &Values::default(), &mut Steps::default()).await?;
        let answer = websocket.exchange(&mut link, What::plain(&Values::default()), &mut progress).await?;
        Ok((answer, progress.messages))
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // What the client makes of an answer is its own affair: it may be gone before it has all.
        let _ = answer(&mut stream, pieces).await;
    };
    let both = LocalSet::new();
    let both = both.run_until(async { tokio::join!(client, server).0 });
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("an exchange ends when the connection does")
}

async fn answer(stream: &mut TcpStream, pieces: &[&[u8]]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut request).await?;
    }
    let request = String::from_utf8_lossy(&request);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let agreed = format!("HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(agreed.as_bytes()).await?;
    // Masked, with two bytes of head: the whole message, before anything is said to it.
    stream.read_exact(&mut [0; 2 + 4 + 5]).await?;
    for piece in pieces {
        stream.write_all(piece).await?;
        // Twice, so that the client has looked at what its socket has.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    stream.shutdown().await?;
    // Until the client has hung up: before that, a reset could overtake the answer.
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

fn ended(pieces: &[&[u8]]) -> Result<(Answer, u32), End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(exchanged(pieces))
}

/// Goal: who closes is quoted with the code that it sent, and with no other; a code that may not stand there is a mistake of its own.
#[test]
fn a_close_is_told_by_the_code_that_was_sent() {
    for (code, words) in [(1001u16, "closed: going away (1001)"), (1014, "closed: bad gateway (1014)"), (4401, "closed: 4401")] {
        let [a, b] = code.to_be_bytes();
        let end = ended(&[&[0x88, 2, a, b]]).expect_err("it is closed");
        assert_eq!(end.cause().as_deref(), Some(words));
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        let [a, b] = code.to_be_bytes();
        assert_eq!(ended(&[&[0x88, 2, a, b]]), Err(End::WebSocketBroken(Breach::BadControl)), "{code}");
    }
}

/// Goal: the room of a long message is given back, and what comes after it is not lost with it. How: one that nobody waits for, the one that is
/// waited for behind it, at once and later.
#[test]
fn what_follows_a_long_message_is_heard() {
    let long = [&[0x82, 127, 0, 0, 0, 0, 0, 2, 0, 0], &[b'x'; 128 * 1024][..]].concat();
    let together = [&long, &b"\x81\x01y"[..]].concat();
    let cases: [(&[&[u8]], u32); 4] =
        [(&[&together], 2), (&[&long, b"\x81\x01y"], 2), (&[&long, b"\x81", b"\x01y"], 2), (&[&long, &long, b"\x81\x01y"], 3)];
    for (pieces, expected) in cases {
        let (answer, messages) = ended(pieces).expect("it comes");
        assert_eq!((answer.end, messages), (End::Message, expected), "{} pieces", pieces.len());
    }
}

/// Frames with a few letters in them, well-formed for the most part, and what may come after them.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let first =
        prop_oneof![Just(0x81u8), Just(0x82), Just(0x01), Just(0x00), Just(0x80), Just(0x88), Just(0x89), Just(0x8a), any::<u8>()];
    let payload =
        prop_oneof!["[xy]{0,4}".prop_map(String::into_bytes), "[xz]{120,130}".prop_map(String::into_bytes), any::<Vec<u8>>()];
    let frame = (first, payload).prop_map(|(first, payload)| match payload.len() {
        n @ 0..126 => [&[first, n as u8], &payload[..]].concat(),
        n => [&[first, 126, (n >> 8) as u8, n as u8], &payload[..]].concat(),
    });
    (prop::collection::vec(frame, 0..6), prop::collection::vec(any::<u8>(), 0..4))
        .prop_map(|(frames, rest)| [frames.concat(), rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_hangs_and_pieces_do_not_matter(bytes in any_frames(), cuts in prop::collection::vec(1..30usize, 1..20)) {
        let mut pieces = Vec::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle does not end")));
            pieces.push(piece);
            rest = others;
        }
        prop_assert_eq!(ended(&[&bytes]), ended(&pieces), "{:?}", bytes);
    }
}
