//! An open WebSocket: the codec and its socket, polled by whoever waits for something of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Result as Decoded};

use super::boundary::Boundary;
use super::breach::{Closing, end_of};
use crate::protocol::stream::Stream;
use crate::protocol::{Awaited, End, Identity, Progress};
use crate::time::Moment;

/// What is read at once, in bytes: most messages fit, and thousands of connections that are only held stay small.
const PIECE: usize = 4 * 1024;
/// The longest message that is read, in bytes. Unlike a body, it is kept until it is whole.
const MESSAGE_MOST: usize = 16 * 1024 * 1024;
/// A message from which on the room that it took is given back, in bytes.
const BULKY: usize = 64 * 1024;
/// How many pongs wait to be written before no more is read: a peer that asks and does not listen is not heard out for ever.
const PONGS_MOST: u32 = 64;
/// How many frames are read before others have their turn: a flood on one connection makes nobody else late.
const FRAMES_MOST: u32 = 256;
/// How long a peer has to say goodbye in return.
const LINGER: Duration = Duration::from_secs(1);
/// How many connections of a worker may be waiting for that: what closes thousands a second has no descriptors for all of them.
const LINGERING_MOST: usize = 256;

thread_local! {
    /// Held by each connection of this worker that waits for its peer's goodbye.
    static LINGERING: Rc<()> = Rc::default();
}

/// The connection.
pub(super) struct Connection {
    stream: Stream,
    frames: WebSocketContext,
    traffic: Traffic,
    /// Who answers at the other end, as the handshake said.
    pub(super) identity: Identity,
    /// How it ended, once it has.
    over: Option<End>,
    /// No exchange has begun that sends anything.
    fresh: bool,
    /// An exchange is under way.
    busy: bool,
    /// Nobody holds it any more, and the peer has been told.
    left: bool,
    /// Something was sent, and what was waited for has not come.
    owes: bool,
    /// Messages came in this exchange that were not the one.
    passed_over: bool,
    /// There may be something to be flushed.
    unflushed: bool,
    /// Pongs that wait to be written.
    pongs: u32,
    /// Of this turn.
    frames_left: u32,
    /// A long message has come.
    bulky: bool,
    /// Messages that nobody waited for, and that no exchange has been told of.
    unasked: u32,
    /// Wakes the task that reads while there is no exchange.
    keeper: Option<Waker>,
}

/// What has passed through the socket.
#[derive(Default)]
struct Traffic {
    /// Since an exchange was last told.
    bytes_in: u64,
    bytes_out: u64,
    /// When bytes last came.
    came: Option<Moment>,
    /// When the first came of the message that is on its way.
    first: Option<Moment>,
    /// Where the last byte lies.
    boundary: Boundary,
    /// The peer takes no more. It may have said why before that, so that it is still read.
    deaf: bool,
}

impl Connection {
    /// Over `stream`, whose first bytes have come with the handshake.
    pub(super) fn new(stream: Stream, first: Vec<u8>, identity: Identity) -> Connection {
        let mut traffic = Traffic { bytes_in: first.len() as u64, ..Traffic::default() };
        traffic.boundary.pass(&first);
        Connection {
            stream,
            traffic,
            frames: WebSocketContext::from_partially_read(first, Role::Client, Some(config())),
            identity,
            over: None,
            fresh: true,
            busy: false,
            left: false,
            owes: false,
            passed_over: false,
            unflushed: false,
            pongs: 0,
            frames_left: FRAMES_MOST,
            bulky: false,
            unasked: 0,
            keeper: None,
        }
    }

    /// An exchange begins, which `sends` something or not, and reads from now on.
    pub(super) fn begin(&mut self, sends: bool) {
        if sends && std::mem::replace(&mut self.fresh, false) {
            // Who greets has not answered yet. One that was kept has been looked at by whoever asked whether it stands.
            let _ = self.stands();
        }
        (self.busy, self.passed_over) = (true, false);
        (self.traffic.came, self.traffic.first) = (None, None);
    }

    /// The exchange is over.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        if let Some(keeper) = &self.keeper {
            keeper.wake_by_ref();
        }
    }

    /// Sends a message: what the socket does not take at once goes while the answer is waited for.
    pub(super) fn send(&mut self, frame: Frame, cx: &mut Context<'_>) {
        if self.over.is_some() {
            return;
        }
        (self.owes, self.unflushed) = (true, true);
        let sent = self.codec(cx, |frames, pipe| frames.write(pipe, Message::Frame(frame)));
        if let Err(error) = sent
            && !would_block(&error)
        {
            self.fail(&error);
        }
    }

    /// Whether it is good for another exchange whatever became of the last one.
    pub(super) fn owes_nothing(&self) -> bool {
        self.over.is_none() && !self.owes
    }

    /// Whether it is still good, as far as this side knows. What has come meanwhile is no answer to what is sent next.
    pub(super) fn stands(&mut self) -> bool {
        let keeper = self.keeper.clone().unwrap_or_else(|| Waker::noop().clone());
        // As if by the keeper, which is who is to be woken.
        let _ = self.poll_ignore(&mut Context::from_waker(&keeper));
        // What is still unread would be taken for the answer to what is sent next.
        self.over.is_none() && self.frames_left > 0
    }

    /// Waits for a message that is the one, and passes over those before it. What has happened is told to `progress` with every turn.
    pub(super) fn poll_answer(
        &mut self,
        is_it: impl Fn(&[u8]) -> bool,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        self.frames_left = FRAMES_MOST;
        let done = loop {
            match self.poll_message(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(end)) => break Poll::Ready(Err(end)),
                Poll::Ready(Ok(message)) => {
                    progress.messages = progress.messages.saturating_add(1);
                    if is_it(&message) {
                        break Poll::Ready(Ok(()));
                    }
                    (self.passed_over, self.traffic.first) = (true, None);
                }
            }
        };
        let Traffic { came, first, .. } = self.traffic;
        if done.is_ready() && self.over.is_none() {
            // What came with the handshake came before it was waited for.
            progress.last = Some(came.unwrap_or_else(Moment::now));
            progress.first = first.or(progress.last);
        }
        self.owes &= !matches!(done, Poll::Ready(Ok(())));
        progress.awaited = Some(match (self.traffic.boundary.is_inside(), self.passed_over) {
            (true, _) => Awaited::Part,
            (false, true) => Awaited::Others,
            (false, false) => Awaited::Nothing,
        });
        progress.messages = progress.messages.saturating_add(std::mem::take(&mut self.unasked));
        progress.bytes_in += std::mem::take(&mut self.traffic.bytes_in);
        progress.bytes_out += std::mem::take(&mut self.traffic.bytes_out);
        done
    }

    /// Reads on, and drops what comes; ready once it is over.
    fn poll_ignore(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.frames_left = FRAMES_MOST;
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(_) => self.unasked = self.unasked.saturating_add(1),
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Answers pings and notices ends for as long as there is no exchange; ready once it is over or nobody holds it.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.keeper.as_ref().is_none_or(|keeper| !keeper.will_wake(cx.waker())) {
            self.keeper = Some(cx.waker().clone());
        }
        match () {
            () if self.left || self.over.is_some() => Poll::Ready(()),
            () if self.busy => Poll::Pending,
            () => self.poll_ignore(cx),
        }
    }

    /// Writes what waits to be written, and reads until a message is whole.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        loop {
            if let Some(end) = self.over {
                return Poll::Ready(Err(end));
            }
            if self.unflushed {
                self.flush(cx);
            }
            if self.pongs >= PONGS_MOST {
                return Poll::Pending;
            }
            if self.frames_left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.frames_left -= 1;
            match self.codec(cx, |frames, pipe| frames.read(pipe)) {
                Ok(Message::Text(text)) => return self.whole(text.into()),
                Ok(Message::Binary(bytes)) => return self.whole(bytes),
                Ok(Message::Ping(_)) => {
                    (self.unflushed, self.pongs) = (true, self.pongs + 1);
                    self.traffic.first = None;
                }
                Ok(Message::Close(_)) => {
                    self.flush(cx);
                    self.over.get_or_insert(Closing::end_of(self.traffic.boundary.close_code()));
                }
                Ok(Message::Pong(_) | Message::Frame(_)) => self.traffic.first = None,
                Err(error) if would_block(&error) => {
                    self.shrink();
                    return Poll::Pending;
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    fn whole(&mut self, message: Bytes) -> Poll<Result<Bytes, End>> {
        self.bulky |= message.len() > BULKY;
        Poll::Ready(Ok(message))
    }

    /// Where a long message has come and nothing after it, its room is given back: the codec would keep it for as long as the connection
    /// lasts, and thousands are held.
    fn shrink(&mut self) {
        if self.bulky && !self.traffic.boundary.is_inside() && !self.unflushed && self.pongs == 0 && self.over.is_none() {
            self.frames = WebSocketContext::from_partially_read(Vec::new(), Role::Client, Some(config()));
            self.bulky = false;
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        match self.codec(cx, |frames, pipe| frames.flush(pipe)) {
            Ok(()) => (self.unflushed, self.pongs) = (false, 0),
            Err(error) if would_block(&error) => self.unflushed = true,
            Err(error) => self.fail(&error),
        }
    }

    /// It is over for this.
    fn fail(&mut self, error: &Error) {
        let end = match end_of(error) {
            Some(end) => end,
            None if self.traffic.deaf => End::Reset,
            None if self.traffic.boundary.is_inside() => End::MessageCut,
            None => End::ClosedUnanswered,
        };
        if matches!(end, End::WebSocketBroken(_) | End::MessageTooLarge) {
            self.say_goodbye(if end == End::MessageTooLarge { CloseCode::Size } else { CloseCode::Protocol });
        }
        self.over = Some(end);
    }

    /// Nobody holds it any more: the peer is told, as far as it takes that at once.
    pub(super) fn leave(&mut self) {
        if self.over.is_none() {
            self.say_goodbye(CloseCode::Normal);
        }
        self.left = true;
        self.rest();
    }

    fn say_goodbye(&mut self, code: CloseCode) {
        let farewell = CloseFrame { code, reason: Default::default() };
        self.unflushed = true;
        // What it does not take now goes while it is waited for, or nowhere.
        let _ = self.codec(&mut Context::from_waker(Waker::noop()), |frames, pipe| frames.close(pipe, Some(farewell)));
    }

    fn codec<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut Pipe<'_, '_>) -> Decoded<T>,
    ) -> Decoded<T> {
        let Connection { stream, frames, traffic, .. } = self;
        call(frames, &mut Pipe { stream, traffic, cx })
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(PIECE)
        // A message is one write.
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MOST))
        .max_frame_size(Some(MESSAGE_MOST))
}

/// Keeps a connection for as long as somebody holds it, whenever no exchange does, and then waits a little until the peer has said
/// goodbye as well, where not too many do so.
pub(super) async fn keep(connection: Rc<RefCell<Connection>>) {
    let _watch = Watch(connection.clone());
    poll_fn(|cx| connection.borrow_mut().poll_kept(cx)).await;
    let place = LINGERING.with(Rc::clone);
    if connection.borrow().left && Rc::strong_count(&place) <= LINGERING_MOST + 1 {
        let gone = poll_fn(|cx| connection.borrow_mut().poll_ignore(cx));
        // Who says nothing is left without an answer.
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}

/// Ends a connection whose keeper breaks for a mistake of ours.
struct Watch(Rc<RefCell<Connection>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(mut connection) = self.0.try_borrow_mut()
        {
            connection.over.get_or_insert(End::Bug);
        }
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// The socket as the codec wants it: what would wait is an error, and whoever polls is woken.
struct Pipe<'p, 'c> {
    stream: &'p mut Stream,
    traffic: &'p mut Traffic,
    cx: &'p mut Context<'c>,
}

fn blocking<T>(step: Poll<io::Result<T>>) -> io::Result<T> {
    match step {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Pipe<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut into = ReadBuf::new(into);
        match blocking(Pin::new(&mut *self.stream).poll_read(self.cx, &mut into)) {
            Ok(()) => {}
            // Where a stream knows a proper goodbye, this is none: the peer has vanished.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            Err(error) => return Err(error),
        }
        let n = into.filled().len();
        if n > 0 {
            let now = Moment::now();
            self.traffic.bytes_in += n as u64;
            self.traffic.came = Some(now);
            self.traffic.first.get_or_insert(now);
            self.traffic.boundary.pass(into.filled());
        }
        Ok(n)
    }
}

impl io::Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.traffic.deaf {
            return Ok(bytes.len());
        }
        match blocking(Pin::new(&mut *self.stream).poll_write(self.cx, bytes)) {
            Ok(n) => {
                self.traffic.bytes_out += n as u64;
                Ok(n)
            }
            Err(error) if End::of_error(&error) == End::Reset => {
                self.traffic.deaf = true;
                Ok(bytes.len())
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.traffic.deaf {
            return Ok(());
        }
        blocking(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// Goal: however many connections are left at once, only so many wait for a peer that never says goodbye.
    #[tokio::test]
    async fn only_so_many_wait_for_a_goodbye() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let left = async {
            let mut peers = Vec::new();
            for _ in 0..LINGERING_MOST + 20 {
                let stream = TcpStream::connect(address).await.expect("it listens");
                peers.push(listener.accept().await.expect("a connection"));
                let connection = Rc::new(RefCell::new(Connection::new(Stream::Plain(stream), Vec::new(), Identity::UNKNOWN)));
                spawn_local(keep(connection.clone()));
                yield_now().await;
                connection.borrow_mut().leave();
            }
            yield_now().await;
            let lingering = LINGERING.with(Rc::strong_count) - 1;
            assert!((1..=LINGERING_MOST).contains(&lingering), "{lingering} wait");
        };
        LocalSet::new().run_until(left).await;
    }
}
