//! Goal: no answer, however bad and however cut, hangs or crashes an exchange, and how it is cut changes nothing about how it ends, nor
//! does whether it goes by the plain way. How: answers that are arbitrary, or well formed and then spoilt, go over real connections, in one
//! piece and in many, for the first time and after one that was the same.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::answers::Wanted;
use crate::plan::{Request, Talk};
use crate::protocol::{Trust, outline};
use crate::units::Span;
use crate::varying::Values;

/// What is the same however an answer is cut. Not whether the connection lives on: what comes after an answer may come too late to
/// be seen.
type Ended = Result<(u16, bool, Identity), End>;

/// `bytes` with up to three things done to them that a broken peer does.
pub(super) fn spoilt(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoil = (0..5u8, any::<prop::sample::Index>(), any::<u8>(), 1..20usize);
    (bytes, prop::collection::vec(spoil, 0..4)).prop_map(|(mut bytes, spoils)| {
        for (what, at, byte, length) in spoils {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            match what {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just("HTTP/1.1 200 OK\r\nX-Pod: a\r\nContent-Length: 5\r\n\r\nhello"),
        Just("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"),
        Just("HTTP/1.0 200 OK\r\n\r\nuntil the end"),
        Just("HTTP/1.1 204 No Content\r\n\r\n"),
        Just(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        ),
    ];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..100),
        8 => spoilt(good.prop_map(|answer| answer.as_bytes().to_vec())),
    ]
}

/// How requests begin.
#[derive(Clone, Copy)]
enum Begun {
    AtOnce,
    /// As far as possible by the plain way.
    Plainly,
}

/// How two requests end, one after the other, each over a connection of its own, that are answered with these pieces, each read before the
/// next is sent as far as one can tell, and the connection closed.
async fn exchanged(pieces: &[&[u8]], begun: Begun) -> [Ended; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let destination = Destination::read(&format!("http://{address}"), Trust::default()).expect("a URL").at(vec![address]);
    let request = Request {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: Span::from_secs(1),
        wanted: Wanted::default(),
        talk: Talk::Http,
    };
    let requests = [request];
    let outlines = outline::all(&destination, &requests, &[]).expect("an outline");
    let http1 = Http1::new(&destination, &outlines, &[], "x-pod", Arc::new(Identities::default())).expect("a request");
    let client = async || {
        let mut link = http1.connect(address, &Values::default(), &mut Steps::default()).await.expect("somebody listens");
        let mut progress = Progress::default();
        if let Begun::Plainly = begun
            && let Some(done) = poll_fn(|cx| http1.poll_plain(cx, &mut link, 0, &mut progress)).await
        {
            return done;
        }
        assert!(matches!(begun, Begun::AtOnce) || http1.stands(&mut link), "what has come of the answer is no fault");
        http1.exchange(&mut link, What::plain(&Values::default()), &mut progress).await
    };
    let server = async || {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // What the client makes of an answer is its own affair: it may be gone before it has all.
        let _ = answer(&mut stream, pieces).await;
    };
    let ended = async || {
        let both = async { tokio::join!(client(), server()).0 };
        let answer =
            tokio::time::timeout(Duration::from_secs(20), both).await.expect("an exchange ends when the connection does")?;
        let End::Answered(status) = answer.end else { panic!("{answer:?}: HTTP answers with a status") };
        Ok((status, answer.retry_after.is_some(), answer.identity))
    };
    [ended().await, ended().await]
}

async fn answer(stream: &mut TcpStream, pieces: &[&[u8]]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    for piece in pieces {
        stream.write_all(piece).await?;
        // Twice, so that the client has looked at what its socket has.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    stream.shutdown().await?;
    // Until the client has hung up: before that, a reset could overtake the answer.
    stream.read_to_end(&mut request).await.map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_hangs_and_pieces_do_not_matter(bytes in any_answer(), cuts in prop::collection::vec(1..30usize, 1..20)) {
        let mut pieces = Vec::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle does not end")));
            pieces.push(piece);
            rest = others;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (whole, cut, plain, plain_cut) = runtime.block_on(async {
            let whole: &[&[u8]] = &[&bytes];
            (
                exchanged(whole, Begun::AtOnce).await,
                exchanged(&pieces, Begun::AtOnce).await,
                exchanged(whole, Begun::Plainly).await,
                exchanged(&pieces, Begun::Plainly).await,
            )
        });
        for ended in [whole[1], cut[0], cut[1], plain[0], plain[1], plain_cut[0], plain_cut[1]] {
            prop_assert_eq!(ended, whole[0], "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
