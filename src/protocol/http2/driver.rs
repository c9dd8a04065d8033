//! The task of a connection: it writes what has been queued and reads what has come, turn by turn. All requests that were begun since
//! its last turn leave in one write, and all answers that one read brings wake their exchanges before it reads again.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::frame::{self, Code};
use crate::protocol::End;
use crate::protocol::stream::Stream;
use crate::time::{Moment, monotonic_now};

/// What a connection's buffer starts with: the answers of a few streams, and thousands of connections stay small.
const BUFFER: usize = 4 * 1024;
/// What it grows to where there is much to read. It holds the longest frame that a peer may send.
const BUFFER_MOST: usize = 64 * 1024;

/// How often, and how much, is read before what waits is written: reads and writes of a task have one budget of the runtime's, and a peer
/// that always has more to say must not use up that of the writes.
const READS_MOST: usize = 16;
const READ_MOST: usize = 4 * BUFFER_MOST;

/// How many answers must be awaited on a connection for it to be busy. By Little's law each of them then takes at least as many times
/// what the server needs for one.
const MANY: usize = 16;
/// How long a busy connection lets answers gather: as long as a server needs for a few of them, and as long as waking up costs.
const NAP: Duration = Duration::from_micros(20);

thread_local! {
    /// When this thread last woke from a nap.
    static WOKE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets this thread rest for a moment, for all its connections together.
///
/// A server that sends each of many answers by itself wakes its client for each, and is woken for each request in return: both then
/// spend more on waking up than on anything else, and the client is taken for the bottleneck. The thread is put to sleep as a whole,
/// since sockets would wake it again. What comes due meanwhile is late by the rest of it and a wake-up, which its lateness says. An answer
/// that comes meanwhile is read by as much later, and is taken for that much slower: nobody saw when it came. Both happen only where so
/// many answers are awaited that each takes many times as long anyway.
fn nap() {
    let rested = WOKE.get().is_some_and(|woke| monotonic_now().duration_since(woke) < NAP);
    if !rested {
        std::thread::sleep(NAP);
        WOKE.set(Some(monotonic_now()));
    }
}

/// A connection and its socket.
struct Driver {
    connection: Rc<RefCell<Connection>>,
    stream: Stream,
    buffer: Vec<u8>,
    /// How much of the buffer holds frames that have not been taken in.
    filled: usize,
    /// A write has met a reset, and taken the news of it from whoever reads.
    reset: bool,
    /// Answers have come since it last wrote.
    heard: bool,
    /// It has waited for more to be written at once.
    gathered: bool,
}

/// What a turn of the driver comes to.
enum Turn {
    /// It waits for more to be written at once.
    Gathers,
    Ended,
}

/// Drives `connection` over `stream` until it ends or nobody holds a link to it.
pub(super) async fn drive(connection: Rc<RefCell<Connection>>, stream: Stream) {
    let _watch = Watch(connection.clone());
    let mut driver = Driver { connection, stream, buffer: vec![0; BUFFER], filled: 0, reset: false, heard: false, gathered: false };
    while let Turn::Gathers = poll_fn(|cx| driver.poll(cx)).await {
        nap();
        // Comes back once everything else that can go on has, and the kernel has been asked what else has come.
        tokio::task::yield_now().await;
    }
}

/// Ends a connection whose driver breaks for a mistake of ours: nobody would ever answer those who wait.
struct Watch(Rc<RefCell<Connection>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(mut connection) = self.0.try_borrow_mut()
        {
            connection.die(End::Bug, End::Bug);
        }
    }
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let connection = self.connection.clone();
        let mut connection = connection.borrow_mut();
        connection.driven(cx);
        if connection.is_deserted() {
            frame::goaway(&mut connection.out.bytes, Code::NoError);
            self.flush(&mut connection, cx);
            // What a peer does not take of a goodbye is not waited for.
            connection.die(End::Stopped, End::Stopped);
            return Poll::Ready(Turn::Ended);
        }
        loop {
            // One that does not take what it is answered is not read from: whatever else it says would only ask for more to be said.
            let (mut all_read, mut reads, mut room) = (false, READS_MOST, READ_MOST);
            while !connection.out.is_full() && !all_read {
                match self.read(&mut connection, cx) {
                    Poll::Ready(Reading::Ended) => return Poll::Ready(Turn::Ended),
                    Poll::Ready(Reading::GoesOn(n)) => {
                        self.heard = true;
                        (reads, room) = (reads - 1, room.saturating_sub(n));
                    }
                    Poll::Pending => all_read = true,
                }
                if !all_read && (reads == 0 || room == 0) {
                    // Goes on in a turn of its own.
                    cx.waker().wake_by_ref();
                    all_read = true;
                }
            }
            connection.advance();
            if self.may_gather(&connection) {
                connection.gathers();
                return Poll::Ready(Turn::Gathers);
            }
            self.flush(&mut connection, cx);
            connection.advance();
            let written = connection.blocked || connection.out.rest().is_empty();
            // Whoever rests must be woken by what comes, unless that is not to be read.
            if written && (all_read || connection.out.is_full()) {
                return Poll::Pending;
            }
        }
    }

    /// Whether to let more requests come before they are all written at once: where answers have just come, some requests are to be
    /// written for them, and many more answers are about to come. A request by itself goes out at once.
    fn may_gather(&mut self, connection: &Connection) -> bool {
        if connection.out.rest().is_empty() {
            return false;
        }
        let may = self.heard && !self.gathered && connection.awaited() >= MANY;
        (self.heard, self.gathered) = (may, may);
        may
    }

    /// Writes as much as the kernel takes.
    fn flush(&mut self, connection: &mut Connection, cx: &mut Context<'_>) {
        while !connection.out.rest().is_empty() {
            let now = Moment::now();
            match Pin::new(&mut self.stream).poll_write(cx, connection.out.rest()) {
                Poll::Ready(Ok(n)) if n > 0 => connection.wrote(n, now),
                // It may have said why before it hung up: that is still to be read.
                Poll::Ready(failed) => {
                    self.reset |= failed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
                    connection.deaf = true;
                    connection.out.give_up();
                }
                Poll::Pending => {
                    connection.blocked = true;
                    return;
                }
            }
        }
        connection.blocked = false;
        if !connection.deaf
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.reset |= error.kind() == std::io::ErrorKind::ConnectionReset;
            connection.deaf = true;
        }
    }

    /// Reads once, and takes in what came.
    fn read(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Reading> {
        let mut into = ReadBuf::new(&mut self.buffer[self.filled..]);
        let (unanswered, unfinished) = match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into)) {
            Ok(()) if into.filled().is_empty() && self.reset => (End::Reset, End::Reset),
            Ok(()) if into.filled().is_empty() => (End::ClosedUnanswered, End::ClosedMidBody),
            // Where a stream knows a proper goodbye, this is none: the peer has vanished.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => (End::ClosedUnanswered, End::ClosedMidBody),
            Err(error) => (End::of_error(&error), End::of_error(&error)),
            Ok(()) => {
                let n = into.filled().len();
                self.filled += n;
                return Poll::Ready(self.take_in(n, connection, cx));
            }
        };
        if unanswered == End::ClosedUnanswered {
            connection.cut_head();
        }
        // One that said why it would leave has left for that.
        match connection.going {
            Some(code) if code != Code::NoError => connection.die(End::GoneAway(code), End::GoneAway(code)),
            _ => connection.die(unanswered, unfinished),
        }
        Poll::Ready(Reading::Ended)
    }

    fn take_in(&mut self, n: usize, connection: &mut Connection, cx: &mut Context<'_>) -> Reading {
        let full = self.filled == self.buffer.len();
        match connection.receive(&self.buffer[..self.filled]) {
            Ok(taken) => {
                self.buffer.copy_within(taken..self.filled, 0);
                self.filled -= taken;
                if full && self.buffer.len() < BUFFER_MOST {
                    self.buffer.resize(self.buffer.len() * 4, 0);
                }
                Reading::GoesOn(n)
            }
            Err(fault) => {
                frame::goaway(&mut connection.out.bytes, fault.code);
                self.flush(connection, cx);
                connection.die(fault.end, fault.end);
                Reading::Ended
            }
        }
    }
}

/// What is left of a connection after a read.
enum Reading {
    /// So many bytes have come.
    GoesOn(usize),
    Ended,
}
