//! HTTP/1.1 as a codec of our own over a bare stream: request bytes written once, answers parsed in place on a reused buffer,
//! bodies counted and, unless somebody listens, skipped. A library's client costs a sixth more CPU per request, and hides when the first byte left.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::encryption::Encryption;
use super::stream::{Stream, Way};
use super::{
    Afterwards, Answer, Destination, End, Identities, Identity, Outline, Progress, Protocol, Refusal, Scheme, Steps, What,
};
use crate::answers::{Heard, Hears, TooLong};
use crate::time::Moment;
use crate::varying::{Names, Values};

mod chunks;
pub(super) mod head;
mod request;

use chunks::Chunks;
use head::{Asked, Body, HEAD_LIMIT};
use request::Written;

/// What a connection's buffer starts with: most answers fit, and thousands of idle connections stay small.
const BUFFER: usize = 1024;
/// What it grows to for long bodies: fewer reads.
const BODY_BUFFER: usize = 64 * 1024;
/// The longest body that is read, in bytes: a longer one is an endless one.
const BODY_LIMIT: u64 = 256 * 1024 * 1024;

/// Requests, ready to be sent any number of times.
pub struct Http1 {
    requests: Vec<Prepared>,
    identity_header: String,
    identities: Arc<Identities>,
    way: Way,
    /// A proxy takes the requests themselves, and answers for itself where it does not hand them on.
    handed_on: bool,
    /// The head of the answer before, on whatever connection.
    memo: RefCell<Memo>,
}

/// A head as it came, and what was made of it: most servers begin most answers of a second with the same bytes.
struct Memo {
    bytes: Vec<u8>,
    asked: Asked,
    answer: Answer,
    body: Body,
}

/// The longest head that is remembered, in bytes.
const MEMO_MOST: usize = 1024;

impl Memo {
    fn none() -> Memo {
        let answer = Answer { end: End::Garbage, retry_after: None, identity: Identity::UNKNOWN, connection: Afterwards::Close };
        Memo { bytes: Vec::new(), asked: Asked::Other, answer, body: Body::UntilClose }
    }

    /// What `bytes` start with, where that is the same head as before.
    fn of(&self, bytes: &[u8], asked: Asked) -> Option<(Answer, Body, usize)> {
        self.begins(bytes, asked).then_some((self.answer, self.body, self.bytes.len()))
    }

    fn begins(&self, bytes: &[u8], asked: Asked) -> bool {
        !self.bytes.is_empty() && self.asked == asked && bytes.starts_with(&self.bytes)
    }

    fn keep(&mut self, bytes: &[u8], asked: Asked, answer: Answer, body: Body) {
        self.bytes.clear();
        if bytes.len() <= MEMO_MOST {
            self.bytes.extend_from_slice(bytes);
            (self.asked, self.answer, self.body) = (asked, answer, body);
        }
    }
}

/// One request, and what kind of answer it asks for.
struct Prepared {
    written: Written,
    asked: Asked,
    hears: Hears,
}

/// A connection and its buffer.
pub struct Link {
    stream: Stream,
    buffer: Vec<u8>,
    /// How much of the buffer holds what has come.
    filled: usize,
    /// The peer vanished without a proper goodbye, where the stream knows one.
    cut: bool,
    /// How far the exchange has come that is under way.
    stage: Stage,
    /// The request that is being sent, where each is another.
    out: Vec<u8>,
    /// Who answered last, so that the table of all is asked only when that changes.
    last: (Vec<u8>, Identity),
}

/// How an exchange begins.
#[derive(Clone, Copy)]
enum Stage {
    /// It has not begun.
    Rests,
    /// So many bytes of the request have been sent.
    Sends(usize),
    /// All of it has, and nothing has come yet.
    Waits,
    /// What came first stands in the buffer.
    Heard(Sent),
}

/// How sending went.
#[derive(Clone, Copy)]
enum Sent {
    Whole,
    /// The peer said something when it had taken so many bytes.
    Answered(usize),
    /// The peer hung up before it had all.
    Cut,
}

impl Sent {
    /// Why it went no further. A peer that does not want the rest may have said why before it hung up.
    fn not(error: &io::Error) -> Result<Sent, End> {
        match End::of_error(error) {
            End::Reset => Ok(Sent::Cut),
            end => Err(end),
        }
    }

    /// Why there was no whole answer, when reading says that it ended with `end`. The kernel tells of a reset once, and told whoever
    /// was sending; to reading, it then looks like a proper goodbye.
    fn why(&self, end: End) -> End {
        match (self, end) {
            (Sent::Cut, End::ClosedUnanswered | End::ClosedMidHead | End::ClosedMidBody) => End::Reset,
            _ => end,
        }
    }
}

impl Http1 {
    /// Prepares `requests` for `destination`.
    ///
    /// # Errors
    /// As [`Wire::new`](super::Wire::new).
    pub(super) fn new(
        destination: &Destination,
        requests: &[Outline<'_>],
        names: &Names,
        identity_header: &str,
        identities: Arc<Identities>,
    ) -> Result<Http1> {
        let proxied = destination.proxy.is_some();
        let way = match destination.scheme {
            // A proxy takes these requests as they are.
            Scheme::Http => Way { proxied, ..Way::default() },
            Scheme::Https => {
                let encryption = Encryption::new(&destination.host, &destination.tls, &[b"http/1.1"])?;
                Way { proxied, tunnel: destination.tunnel(), encryption: Some(encryption) }
            }
        };
        let prepared = |outline: &Outline<'_>| {
            let asked = if outline.request.method == "HEAD" { Asked::Head } else { Asked::Other };
            Ok(Prepared { written: request::write(destination, outline, names)?, asked, hears: outline.request.wanted.hears() })
        };
        Ok(Http1 {
            requests: requests.iter().map(prepared).collect::<Result<_>>()?,
            identity_header: identity_header.to_owned(),
            identities,
            handed_on: proxied && way.tunnel.is_none(),
            way,
            memo: RefCell::new(Memo::none()),
        })
    }
}

impl Protocol for Http1 {
    type Link = Link;

    async fn connect(&self, address: SocketAddr, _values: &Values, steps: &mut Steps) -> Result<Link, End> {
        Ok(Link::over(Stream::open(address, &self.way, steps).await?))
    }

    async fn exchange(&self, link: &mut Link, what: What<'_>, progress: &mut Progress) -> Result<Answer, End> {
        let request = &self.requests[what.request];
        let ear = what.ear.filter(|_| !request.hears.nothing());
        let mut heard = ear.map(|ear| {
            let mut heard = ear.take().unwrap_or_default();
            heard.clear();
            heard
        });
        // Where the exchange is given up, so is the connection, and its buffer with it.
        let mut out = Vec::new();
        let bytes = match &request.written {
            Written::Fixed(bytes) => bytes,
            Written::Varying(varying) => {
                out = std::mem::take(&mut link.out);
                varying.compose(what.values, &mut out);
                &out
            }
        };
        let done = self.exchange_bytes(link, bytes, request, heard.as_deref_mut(), progress).await;
        if let (Some(ear), Some(heard)) = (ear, heard) {
            ear.set(Some(heard));
        }
        if let Written::Varying(_) = request.written {
            link.out = out;
        }
        link.stage = Stage::Rests;
        done
    }

    fn is_plain(&self, request: usize) -> bool {
        let Prepared { written, hears, .. } = &self.requests[request];
        matches!(written, Written::Fixed(_)) && hears.nothing()
    }

    fn poll_plain(
        &self,
        cx: &mut Context<'_>,
        link: &mut Link,
        request: usize,
        progress: &mut Progress,
    ) -> Poll<Option<Result<Answer, End>>> {
        let Prepared { written: Written::Fixed(bytes), asked, .. } = &self.requests[request] else { return Poll::Ready(None) };
        let done = match ready!(link.poll_begin(cx, bytes, progress)) {
            Ok(_) => self.known(link, *asked).map(Ok),
            Err(end) => Some(Err(end)),
        };
        if done.is_some() {
            link.stage = Stage::Rests;
        }
        Poll::Ready(done)
    }

    fn stands(&self, link: &mut Link) -> bool {
        // Nothing is to be read from a healthy idle connection: an end, an error and unasked-for bytes are all bad. No system call
        // is made while the kernel has reported nothing.
        // In the middle of an exchange, something may well be there.
        !matches!(link.stage, Stage::Rests) || link.stream.is_quiet()
    }
}

impl Http1 {
    /// Sends a request and reads the whole answer.
    async fn exchange_bytes(
        &self,
        link: &mut Link,
        request: &[u8],
        Prepared { asked, hears, .. }: &Prepared,
        mut heard: Option<&mut Heard>,
        progress: &mut Progress,
    ) -> Result<Answer, End> {
        let mut sent = poll_fn(|cx| link.poll_begin(cx, request, progress)).await?;
        if let (None, Some(answer)) = (&heard, self.known(link, *asked)) {
            return Ok(answer);
        }
        let mut heads = 0;
        loop {
            let head = self.head(link, *asked, progress).await;
            let (mut answer, body, length, interim) = head.map_err(|end| sent.why(end))?;
            let rest = link.filled - length;
            heads += length;
            if interim {
                // Without an end, they are as bad as a head without one.
                if heads > HEAD_LIMIT {
                    return Err(End::HeadTooLarge);
                }
                link.buffer.copy_within(length..link.filled, 0);
                link.filled = rest;
                // It was no answer yet: the peer still wants the rest of the request, if nothing else has come with it.
                if let (Sent::Answered(taken), 0) = (&sent, rest) {
                    sent = link.send(request, *taken, progress).await?;
                }
                continue;
            }
            if let Some(heard) = &mut heard {
                head::each(&link.buffer[..length], |name, value| heard.header(hears, name, value));
            }
            let mut keeps = Keeps(heard.filter(|_| hears.body()));
            let surplus = match body {
                Body::Length(n) => link.take(n, length, &mut keeps, progress).await,
                Body::Chunked => link.take_chunks(length, &mut keeps, progress).await,
                Body::UntilClose => link.take_all(length, &mut keeps, progress).await,
            };
            let surplus = match surplus {
                Err(Untaken::Enough) => true,
                Err(Untaken::Ended(end)) => return Err(sent.why(end)),
                Ok(surplus) => surplus,
            };
            // Bytes that nobody asked for would be taken for the answer to the next request.
            if surplus || !matches!(sent, Sent::Whole) {
                answer.connection = Afterwards::Close;
            }
            link.filled = 0;
            return Ok(answer);
        }
    }

    /// The answer in the buffer, where it is whole and begins as the one before: nearly every one, where bodies are short.
    fn known(&self, link: &Link, asked: Asked) -> Option<Answer> {
        let here = &link.buffer[..link.filled];
        let memo = self.memo.borrow();
        let whole = |n| (here.len() - memo.bytes.len()) as u64 == n;
        (memo.begins(here, asked) && matches!(memo.body, Body::Length(n) if whole(n))).then_some(memo.answer)
    }

    /// Reads until a whole head stands in the buffer: what it says, its body, its length and whether it is an interim one.
    async fn head(&self, link: &mut Link, asked: Asked, progress: &mut Progress) -> Result<(Answer, Body, usize, bool), End> {
        // Parsed at once, which is all that most answers need; after that only when the end of the head has come.
        let mut scanned = None;
        loop {
            let here = &link.buffer[..link.filled];
            if let Some((answer, body, length)) = self.memo.borrow().of(here, asked) {
                return Ok((answer, body, length, false));
            }
            let whole = !here.is_empty() && scanned.is_none_or(|from| head::find_end(here, from).is_ok());
            let head = if whole { head::read(here, asked, &self.identity_header)? } else { None };
            if let Some(head) = head {
                let identity = match head.identity {
                    None => Identity::UNKNOWN,
                    Some(name) if name == link.last.0 => link.last.1,
                    Some(name) => {
                        link.last = (name.to_vec(), self.identities.of(name));
                        link.last.1
                    }
                };
                let end = match head.status {
                    // It is the proxy's to say, and no server's (RFC 9110, section 15.5.8).
                    407 if self.handed_on => End::Proxy(Refusal::Status(407)),
                    status => End::Answered(status),
                };
                let answer = Answer { end, retry_after: head.retry_after, identity, connection: head.connection };
                if !head.is_interim() {
                    self.memo.borrow_mut().keep(&here[..head.length], asked, answer, head.body);
                }
                return Ok((answer, head.body, head.length, head.is_interim()));
            }
            scanned = match link.filled {
                0 => None,
                filled => head::find_end(&link.buffer[..filled], scanned.unwrap_or(0)).err().or(Some(0)),
            };
            if link.filled >= HEAD_LIMIT {
                return Err(self.no_head(link, asked, End::HeadTooLarge));
            }
            if link.filled == link.buffer.len() {
                link.buffer.resize((link.buffer.len() * 2).min(HEAD_LIMIT), 0);
            }
            if link.read(link.filled, progress).await? == 0 {
                return Err(match link.filled {
                    0 => End::ClosedUnanswered,
                    _ => self.no_head(link, asked, End::ClosedMidHead),
                });
            }
        }
    }

    /// Why what has come is no whole head, when no more of it will be read: because of `end`, unless it could never have become one,
    /// which is not looked at with every piece.
    fn no_head(&self, link: &Link, asked: Asked, end: End) -> End {
        head::read(&link.buffer[..link.filled], asked, &self.identity_header).err().unwrap_or(end)
    }
}

impl Link {
    pub(super) fn over(stream: Stream) -> Link {
        Link {
            stream,
            buffer: vec![0; BUFFER],
            filled: 0,
            cut: false,
            stage: Stage::Rests,
            out: Vec::new(),
            last: (Vec::new(), Identity::UNKNOWN),
        }
    }

    /// Sends `request` and reads what comes first. Nearly every request is taken whole at once, and nearly every answer comes in one piece.
    fn poll_begin(&mut self, cx: &mut Context<'_>, request: &[u8], progress: &mut Progress) -> Poll<Result<Sent, End>> {
        // Whoever comes back here was told, most likely, that something has come.
        let told = matches!(self.stage, Stage::Waits);
        loop {
            self.stage = match self.stage {
                Stage::Rests => {
                    progress.sent.get_or_insert_with(Moment::now);
                    self.filled = 0;
                    match self.stream.try_send(request) {
                        Some(Ok(n)) => {
                            progress.bytes_out += n as u64;
                            if n == request.len() { Stage::Waits } else { Stage::Sends(n) }
                        }
                        Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => Stage::Heard(Sent::not(&error)?),
                        _ => Stage::Sends(0),
                    }
                }
                Stage::Sends(mut at) => match self.poll_send(cx, request, &mut at, progress)? {
                    Poll::Ready(Sent::Whole) => Stage::Waits,
                    Poll::Ready(sent) => Stage::Heard(sent),
                    Poll::Pending => {
                        self.stage = Stage::Sends(at);
                        return Poll::Pending;
                    }
                },
                Stage::Waits => match ready!(if told { self.poll_come(cx, progress) } else { self.poll_fill(cx, 0, progress) })? {
                    0 => return Poll::Ready(Err(End::ClosedUnanswered)),
                    _ => Stage::Heard(Sent::Whole),
                },
                Stage::Heard(sent) => return Poll::Ready(Ok(sent)),
            };
        }
    }

    /// Sends `request` from byte `at` on. What the peer says meanwhile lies at the start of the buffer, which must be empty.
    async fn send(&mut self, request: &[u8], mut at: usize, progress: &mut Progress) -> Result<Sent, End> {
        poll_fn(|cx| self.poll_send(cx, request, &mut at, progress)).await
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        request: &[u8],
        at: &mut usize,
        progress: &mut Progress,
    ) -> Poll<Result<Sent, End>> {
        loop {
            let step = if *at < request.len() {
                Pin::new(&mut self.stream).poll_write(cx, &request[*at..])
            } else {
                Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0)
            };
            match step {
                Poll::Ready(Ok(_)) if *at == request.len() => return Poll::Ready(Ok(Sent::Whole)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Reset)),
                Poll::Ready(Ok(n)) => {
                    *at += n;
                    progress.bytes_out += n as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Sent::not(&error)),
                Poll::Pending => break,
            }
        }
        // It takes no more for now: if it answers already, the rest of the request may not interest it.
        ready!(self.poll_fill(cx, 0, progress))?;
        Poll::Ready(Ok(Sent::Answered(*at)))
    }

    /// Reads into the buffer from `at` on; 0 is the end of the stream.
    async fn read(&mut self, at: usize, progress: &mut Progress) -> Result<usize, End> {
        poll_fn(|cx| self.poll_fill(cx, at, progress)).await
    }

    /// As [`Link::poll_fill`], of what has come already.
    fn poll_come(&mut self, cx: &mut Context<'_>, progress: &mut Progress) -> Poll<Result<usize, End>> {
        match self.stream.try_take(&mut self.buffer) {
            Some(Ok(n)) => {
                self.filled = n;
                progress.came(n);
                Poll::Ready(Ok(n))
            }
            Some(Err(error)) => Poll::Ready(Err(End::of_error(&error))),
            None => self.poll_fill(cx, 0, progress),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, at: usize, progress: &mut Progress) -> Poll<Result<usize, End>> {
        let mut into = ReadBuf::new(&mut self.buffer[at..]);
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into)) {
            Ok(()) => {
                let n = into.filled().len();
                self.filled = at + n;
                progress.came(n);
                Ok(n)
            }
            // Where a stream knows a proper goodbye, this is none.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.cut = true;
                self.filled = at;
                progress.came(0);
                Ok(0)
            }
            Err(error) => Err(End::of_error(&error)),
        })
    }

    /// Takes in a body of `n` bytes that starts at `start` of the buffer; whether more came than that.
    async fn take(&mut self, n: u64, start: usize, keeps: &mut Keeps<'_>, progress: &mut Progress) -> Result<bool, Untaken> {
        if n > BODY_LIMIT {
            return Err(End::BodyTooLarge.into());
        }
        let mut start = start;
        let mut here = (self.filled - start) as u64;
        let mut missing = n;
        while here < missing {
            keeps.piece(&self.buffer[start..self.filled])?;
            start = 0;
            missing -= here;
            self.widen(missing);
            here = self.read(0, progress).await? as u64;
            if here == 0 {
                return Err(End::ClosedMidBody.into());
            }
        }
        keeps.piece(&self.buffer[start..start + missing as usize])?;
        Ok(here > missing)
    }

    async fn take_chunks(&mut self, start: usize, keeps: &mut Keeps<'_>, progress: &mut Progress) -> Result<bool, Untaken> {
        let mut chunks = Chunks::new();
        let mut start = start;
        loop {
            let used = chunks.feed(&self.buffer[start..self.filled], BODY_LIMIT, |piece| keeps.piece(piece))?;
            if chunks.done() {
                return Ok(start + used < self.filled);
            }
            start = 0;
            if self.read(0, progress).await? == 0 {
                return Err(End::ClosedMidBody.into());
            }
        }
    }

    async fn take_all(&mut self, start: usize, keeps: &mut Keeps<'_>, progress: &mut Progress) -> Result<bool, Untaken> {
        let mut start = start;
        let mut length = (self.filled - start) as u64;
        loop {
            if length > BODY_LIMIT {
                return Err(End::BodyTooLarge.into());
            }
            keeps.piece(&self.buffer[start..self.filled])?;
            start = 0;
            self.widen(BODY_BUFFER as u64);
            match self.read(0, progress).await? as u64 {
                // A stream that can say goodbye and did not was cut: the body may be a part of one.
                0 if self.cut => return Err(End::ClosedMidBody.into()),
                0 => return Ok(false),
                n => length += n,
            }
        }
    }

    /// Makes room for a long body.
    fn widen(&mut self, missing: u64) {
        if missing > self.buffer.len() as u64 && self.buffer.len() < BODY_BUFFER {
            self.buffer.resize(BODY_BUFFER, 0);
        }
    }
}

/// Why a body was not taken in to its end.
enum Untaken {
    /// It is longer than what is looked into. Whether that is a flaw, its status tells first.
    Enough,
    Ended(End),
}

impl From<End> for Untaken {
    fn from(end: End) -> Untaken {
        Untaken::Ended(end)
    }
}

/// Whoever keeps the body of an answer, where somebody does.
struct Keeps<'h>(Option<&'h mut Heard>);

impl Keeps<'_> {
    fn piece(&mut self, piece: &[u8]) -> Result<(), Untaken> {
        match &mut self.0 {
            None => Ok(()),
            Some(heard) => heard.piece(piece).map_err(|TooLong| Untaken::Enough),
        }
    }
}

#[cfg(test)]
mod tests;
