//! Doors for the fuzz targets (`tests/fuzz`) to the parsers in here that nobody else may call: each takes what a peer says, and panics where
//! something is untrue that must hold whatever that is. Built for them alone, with `--cfg fuzzing`.

use std::cell::Cell;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::grpc::messages::Messages;
use super::grpc::reflection::{Allowance, Told};
use super::http1::{Http1, Link};
use super::http2::peer;
use super::outline;
use super::stream::Stream;
use super::tunnel::Tunnel;
use super::websocket;
use super::{Destination, End, Identities, Progress, Protocol, RetryAfter, Trust, What};
use crate::answers::{Expect, Jar, Matcher, Save, SaveFrom, Wanted};
use crate::grpc::Descriptors;
use crate::plan::{Request, Talk};
use crate::proxy::Proxy;
use crate::units::Span;
use crate::varying::Values;

/// A whole answer of HTTP/1.1, head and body, over a connection; in one piece and in pieces of `piece` bytes, which must come to the same.
pub fn http1(bytes: &[u8], piece: usize) {
    thread_local! {
        static RUNTIME: (Runtime, Http1) = (runtime(), prepared());
    }
    RUNTIME.with(|(runtime, http1)| {
        let ended = |piece| {
            runtime.block_on(async {
                let exchange = async |stream| {
                    let (mut link, ear) = (Link::over(Stream::Plain(stream)), Cell::new(Some(Box::default())));
                    let what = What { ear: Some(&ear), ..What::plain(&NOTHING) };
                    let answer = http1.exchange(&mut link, what, &mut Progress::default()).await;
                    // Whether the connection lives on is another matter: what comes after an answer may come too late to be seen.
                    answer.map(|answer| (answer.end, answer.retry_after, answer.identity))
                };
                said(bytes, piece, exchange).await
            })
        };
        assert_eq!(ended(bytes.len()), ended(piece));
    });
}

/// What a proxy says that was asked for a tunnel, and what comes of the target after that.
pub fn tunnel(bytes: &[u8], piece: usize) {
    thread_local! {
        static RUNTIME: (Runtime, Tunnel) = {
            let proxy: Proxy = "http://a:b@proxy:3128".parse().expect("a proxy");
            (runtime(), Tunnel::to("shop:443", &proxy))
        };
    }
    RUNTIME.with(|(runtime, tunnel)| {
        let opened = |piece| {
            runtime.block_on(async {
                let open = async |mut stream: TcpStream| {
                    let opened = tunnel.open(&mut stream).await;
                    let mut rest = Vec::new();
                    if opened.is_ok() {
                        stream.read_to_end(&mut rest).await.expect("it ends");
                        assert!(bytes.ends_with(&rest));
                    }
                    (opened, rest)
                };
                said(bytes, piece, open).await
            })
        };
        assert_eq!(opened(bytes.len()), opened(piece));
    });
}

/// What a peer says on a connection of HTTP/2, after its settings and in place of them, in one piece and in pieces of `piece` bytes.
pub fn http2(bytes: &[u8], piece: usize) {
    peer::says_the_same(bytes, piece);
}

/// What a server says to who asks it for a WebSocket.
pub fn upgrade(bytes: &[u8], piece: usize) {
    websocket::peer::answers_the_handshake(bytes, piece);
}

/// What comes over a WebSocket, in one piece and in pieces of `piece` bytes.
pub fn websocket(bytes: &[u8], piece: usize) {
    thread_local!(static RUNTIME: Runtime = runtime());
    RUNTIME.with(|runtime| {
        let heard =
            |piece| runtime.block_on(said(bytes, piece, async |stream| websocket::peer::heard(Stream::Plain(stream)).await));
        assert_eq!(heard(bytes.len()), heard(piece));
    });
}

/// Header blocks that stand in one another's table.
pub fn hpack(blocks: [&[u8]; 3]) {
    peer::answered_with(blocks);
}

/// The messages in the body of a call, in one piece and in pieces of `piece` bytes.
pub fn grpc(bytes: &[u8], piece: usize) {
    let fed = |piece: usize| {
        let mut messages = Messages::default();
        let fed: Result<(), End> = bytes.chunks(piece.max(1)).try_for_each(|piece| messages.feed(piece));
        fed.map(|()| (messages.count(), messages.is_cut()))
    };
    assert_eq!(fed(bytes.len()), fed(piece));
}

/// The answer to a question of reflection, and what is made of the types in it.
pub fn reflection(bytes: &[u8]) {
    if let Ok(Told::Files(files)) = Allowance::default().read(bytes.to_vec().into()) {
        // Types of a server are taken as those of a file are.
        let _ = Descriptors::of(files);
    }
}

/// When to come again.
pub fn retry_after(bytes: &[u8]) {
    let read = RetryAfter::read(bytes);
    assert!(matches!(read, RetryAfter::Seconds(_) | RetryAfter::At(_) | RetryAfter::Unreadable), "{read:?}");
    RetryAfter::pushback(bytes);
}

/// Cookies that an answer sets, one a line, and what is sent of them.
pub fn cookies(bytes: &[u8]) {
    let mut jar = Jar::default();
    for cookie in bytes.split(|byte| *byte == b'\n') {
        jar.set(cookie, b"/a/b", std::time::SystemTime::UNIX_EPOCH);
    }
    let mut out = Vec::new();
    jar.write(b"/a/b/c?d", &mut out);
    assert!(!out.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
}

static NOTHING: Values = Values::new();

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A request to whose answer somebody listens.
fn prepared() -> Http1 {
    let expect = Expect { headers: vec![("via".into(), Matcher::Present(true))], ..Expect::default() };
    let all: SaveFrom = SaveFrom::Regex(".*".parse().expect("an expression"));
    let wanted = Wanted { expect, cookies: true, saves: vec![Save { name: "all".into(), from: all }], ..Wanted::default() };
    let request = Request {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: Span::from_secs(1),
        wanted,
        talk: Talk::Http,
    };
    let destination = Destination::read("http://shop/", Trust::default()).expect("a URL");
    let requests = [request];
    let outlines = outline::all(&destination, &requests, &[]).expect("an outline");
    Http1::new(&destination, &outlines, &[], "x-pod", Arc::new(Identities::default())).expect("a request")
}

/// What `hear` makes of a connection whose peer says `bytes` in pieces, each read before the next is said as far as one can tell, and then
/// hangs up.
async fn said<T>(bytes: &[u8], piece: usize, hear: impl AsyncFnOnce(TcpStream) -> T) -> T {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Without TCP, of which a machine has only so many ports.
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("two sockets");
    let stream = |socket| TcpStream::from_std(std::net::TcpStream::from(socket)).expect("it does not block");
    let (ours, mut theirs) = (stream(ours), stream(theirs));
    let speak = async {
        for piece in bytes.chunks(piece.max(1)) {
            // Who has heard enough is gone.
            if theirs.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        let _ = theirs.read_to_end(&mut Vec::new()).await;
    };
    tokio::join!(hear(ours), speak).0
}
