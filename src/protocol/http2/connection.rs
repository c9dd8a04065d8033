//! One connection as a state machine without a socket: requests are begun, bytes come in, bytes wait to go out, exchanges end. It does
//! nothing by itself, so that a test can feed it anything, in any pieces.
//!
//! ```text
//! begin ─▶ waits for the peer's limit of streams ─▶ HEADERS (and DATA, as the windows allow) ─▶ head ─▶ body ─▶ done
//!                                                                                 └─ cancel: RST_STREAM
//! ```
//!
//! Every queue has a bound: streams by those who hold a slot, bytes to the peer by [`Outgoing`], a header block and its frames by the
//! two limits in `incoming`, and frames that bring nothing by `IDLE_MOST` there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::frame::{self, Code, HEAD, Head, MOST, PAYLOAD_MOST, WINDOW, flag, kind, setting};
use super::incoming::{IDLE_PER_REQUEST, Incoming};
use super::notes::{Listener, Notes};
use super::outgoing::Outgoing;
use super::request::Template;
use super::streams::{Slot, Stream, Streams};
use crate::answers::Heard;
use crate::protocol::{Afterwards, Answer, End, Progress, What};
use crate::time::Moment;

/// What a client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No stream is begun with a higher number, so that those that are waiting still find one.
const LAST_BEGUN: u32 = MOST - (1 << 24);

/// All that is known of a connection.
pub(super) struct Connection {
    /// The requests that were prepared.
    pub(super) templates: Arc<[Template]>,
    pub(super) listener: Listener,
    pub(super) streams: Streams,
    /// Those that may not start yet, first come, first served.
    pub(super) waiting: VecDeque<Slot>,
    /// Those whose body is not yet all on its way; each sends a frame in turn.
    pub(super) bodies: VecDeque<(Slot, u32)>,
    pub(super) next_id: u32,
    pub(super) out: Outgoing,
    pub(super) incoming: Incoming,
    /// The peer has said its settings: whoever listens there speaks HTTP/2.
    pub(super) settled: bool,
    /// Streams that the peer takes at once.
    pub(super) concurrent: usize,
    /// What the peer takes of a body at first.
    pub(super) initial_window: i64,
    /// What the peer takes of all bodies.
    pub(super) window: i64,
    /// What the peer may still send of all bodies.
    pub(super) receive_window: i64,
    /// The peer takes no new streams.
    pub(super) going: Option<Code>,
    /// It has ended, and this is what becomes of requests that want it.
    over: Option<End>,
    /// The peer takes no bytes any more, but may have something to say.
    pub(super) deaf: bool,
    /// The kernel took less than it was given, last time.
    pub(super) blocked: bool,
    /// When the bytes that are being taken in were read, once somebody has asked.
    pub(super) read_at: Option<Moment>,
    links: usize,
    /// It is to end although there are links.
    leaving: bool,
    driver: Option<Waker>,
    /// The driver has been woken and has not come yet.
    kicked: bool,
    /// Whoever waits until it is open.
    opening: Option<Waker>,
}

impl Connection {
    /// One that is about to greet its peer.
    pub(super) fn new(templates: Arc<[Template]>, listener: Listener) -> Connection {
        let mut out = Outgoing::default();
        out.bytes.extend_from_slice(PREFACE);
        // Bodies are thrown away as they come: the peer may send as much as it likes.
        frame::settings(&mut out.bytes, &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, MOST)]);
        frame::window_update(&mut out.bytes, 0, MOST - WINDOW as u32);
        Connection {
            templates,
            listener,
            streams: Streams::default(),
            waiting: VecDeque::new(),
            bodies: VecDeque::new(),
            next_id: 1,
            out,
            incoming: Incoming::default(),
            settled: false,
            concurrent: usize::MAX,
            initial_window: WINDOW,
            window: WINDOW,
            receive_window: i64::from(MOST),
            going: None,
            over: None,
            deaf: false,
            blocked: false,
            read_at: None,
            links: 0,
            leaving: false,
            driver: None,
            kicked: false,
            opening: None,
        }
    }

    /// Ready once the peer has said its settings, since only then is it known how many streams it takes.
    pub(super) fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Result<(), End>> {
        match (self.over, self.going) {
            (Some(end), _) => Poll::Ready(Err(end)),
            (None, Some(code)) => Poll::Ready(Err(End::GoneAway(code))),
            (None, None) if self.settled => Poll::Ready(Ok(())),
            (None, None) => {
                self.opening = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// It takes new requests, as far as is known here.
    pub(super) fn stands(&self) -> bool {
        self.over.is_none() && self.going.is_none() && !self.leaving && !self.deaf && self.next_id < LAST_BEGUN
    }

    /// Nobody wants it any more.
    pub(super) fn is_deserted(&self) -> bool {
        self.links == 0 || self.leaving
    }

    /// Ends it: none of those who hold a link has an exchange on it.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.kick();
    }

    /// A slot for one exchange after the other.
    pub(super) fn link(&mut self) -> Slot {
        self.links += 1;
        self.streams.take()
    }

    pub(super) fn unlink(&mut self, slot: Slot) {
        self.links -= 1;
        self.streams.give_back(slot);
        if self.links == 0 {
            self.kick();
        }
    }

    /// Begins the exchange of `slot`, at once or as soon as the peer's limits allow: with what it sends.
    pub(super) fn begin(&mut self, slot: Slot, what: What<'_>) {
        let starts = self.waiting.is_empty() && self.has_room();
        let stream = self.streams.at(slot);
        let heard = what.ear.map(|ear| {
            let mut heard = ear.take().unwrap_or_default();
            heard.clear();
            heard
        });
        // The one who waits is mostly the one of last time.
        let (waker, own) = (stream.waker.take(), stream.own.take());
        *stream = Stream { request: what.request, deadline: Some(what.deadline), waker, own, heard, ..Stream::default() };
        self.templates[what.request].compose(what.values, &mut stream.own);
        match (self.over, self.going) {
            (Some(end), _) => stream.done = Some(Err(end)),
            (None, Some(code)) => stream.done = Some(Err(End::GoneAway(code))),
            (None, None) if starts => self.start(slot),
            (None, None) => {
                stream.held = true;
                self.waiting.push_back(slot);
            }
        }
        self.kick();
    }

    /// How the exchange of `slot` ended.
    pub(super) fn poll_done(&mut self, slot: Slot, cx: &Context<'_>) -> Poll<Result<Answer, End>> {
        let stream = self.streams.at(slot);
        if let Some(done) = stream.done.take() {
            return Poll::Ready(done);
        }
        if !stream.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            stream.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn progress(&mut self, slot: Slot) -> Progress {
        let stream = self.streams.at(slot);
        Progress { messages: stream.messages.count(), ..stream.progress }
    }

    /// What was heard of the answer on `slot`, where somebody listens.
    pub(super) fn heard(&mut self, slot: Slot) -> Option<Box<Heard>> {
        self.streams.at(slot).heard.take()
    }

    /// Nobody waits for the exchange of `slot` any more.
    pub(super) fn cancel(&mut self, slot: Slot) {
        let id = self.streams.at(slot).id;
        if id == 0 {
            self.waiting.retain(|waiting| *waiting != slot);
        } else {
            frame::rst_stream(&mut self.out.bytes, id, Code::Cancel);
            self.close(slot);
            self.kick();
        }
    }

    /// Nothing more is expected on the stream of `slot`, nor sent.
    fn close(&mut self, slot: Slot) {
        let stream = self.streams.at(slot);
        let id = stream.id;
        if stream.body_out < self.templates[stream.request].frames(&stream.own).body.len() {
            self.bodies.retain(|body| *body != (slot, id));
        }
        self.streams.close(slot);
    }

    /// Lets in what has room by now, and queues what the windows take of bodies.
    pub(super) fn advance(&mut self) {
        while !self.waiting.is_empty() && self.stands_for_the_waiting() && self.has_room() {
            let slot = self.waiting.pop_front().expect("it is not empty");
            self.start(slot);
        }
        while self.window > 0
            && self.out.takes_requests()
            && let Some((slot, id)) = self.bodies.pop_front()
        {
            self.send_body(slot, id);
        }
    }

    fn stands_for_the_waiting(&self) -> bool {
        self.over.is_none() && self.going.is_none() && !self.deaf
    }

    fn has_room(&self) -> bool {
        self.streams.count() < self.concurrent && self.out.takes_requests()
    }

    fn start(&mut self, slot: Slot) {
        let id = self.next_id;
        self.next_id += 2;
        self.incoming.idle = self.incoming.idle.saturating_sub(IDLE_PER_REQUEST);
        let window = self.initial_window;
        let stream = self.streams.open(slot, id);
        stream.window = window;
        let frames = self.templates[stream.request].frames(&stream.own);
        self.out.departs(frames.length(), slot, id);
        frames.write(&mut self.out.bytes, id, stream.deadline);
        if !frames.body.is_empty() {
            self.bodies.push_back((slot, id));
        }
    }

    /// Queues one frame of a body, or parks it until its window opens.
    fn send_body(&mut self, slot: Slot, id: u32) {
        if !self.streams.holds(slot, id) {
            return;
        }
        let stream = self.streams.at(slot);
        let body = &self.templates[stream.request].frames(&stream.own).body;
        let rest = body.len() - stream.body_out;
        let room = self.window.min(stream.window).max(0) as usize;
        let length = rest.min(room).min(PAYLOAD_MOST);
        if length == 0 {
            stream.parked = true;
            return;
        }
        let flags = if length == rest { flag::END_STREAM } else { 0 };
        let part = &body[stream.body_out..stream.body_out + length];
        self.out.departs(HEAD + length, slot, id);
        Head { length, kind: kind::DATA, flags, stream: id }.write(&mut self.out.bytes);
        self.out.bytes.extend_from_slice(part);
        stream.body_out += length;
        stream.window -= length as i64;
        self.window -= length as i64;
        self.incoming.idle = 0;
        if length < rest {
            self.bodies.push_back((slot, id));
        }
    }

    /// A window that was shut may have opened.
    pub(super) fn unpark(&mut self, slot: Slot) {
        let stream = self.streams.at(slot);
        if stream.parked && stream.window > 0 {
            stream.parked = false;
            let id = stream.id;
            self.bodies.push_back((slot, id));
        }
    }

    /// The kernel took `n` bytes at `now`.
    pub(super) fn wrote(&mut self, n: usize, now: Moment) {
        self.out.wrote(n);
        while let Some(departure) = self.out.departed() {
            if self.streams.holds(departure.slot, departure.id) {
                let stream = self.streams.at(departure.slot);
                let progress = &mut stream.progress;
                if progress.sent.is_none() {
                    progress.sent = Some(now);
                    progress.held = (stream.held || self.blocked).then_some(now);
                }
                progress.bytes_out += u64::from(departure.length);
            }
        }
    }

    /// When the bytes that are being taken in were read: one look at the clock for all the answers that they bring.
    pub(super) fn read_at(&mut self) -> Moment {
        *self.read_at.get_or_insert_with(Moment::now)
    }

    /// The whole answer has come.
    pub(super) fn finish(&mut self, slot: Slot) {
        let now = self.read_at();
        let stream = self.streams.at(slot);
        stream.progress.last = Some(now);
        let notes = stream.head.unwrap_or_default();
        let template = &self.templates[stream.request];
        let bodiless = template.asks_head || matches!(notes.status, Some(204 | 304));
        let whole = bodiless || notes.content_length.is_none_or(|length| length == stream.body_in);
        if stream.body_out < template.frames(&stream.own).body.len() {
            // The peer has answered without the rest of the request, and is told that none will come.
            let id = stream.id;
            frame::rst_stream(&mut self.out.bytes, id, Code::Cancel);
        }
        let status = notes.status.unwrap_or_default();
        let ended = match template.call {
            _ if !whole => Err(End::Garbage),
            None => Ok(End::Answered(status)),
            // Of an answer that is none to a call, too, it is known who gave it and when they say to come again.
            Some(answers) => Ok(notes.call.end(status, &stream.messages, answers).map_or_else(|end| end, End::Called)),
        };
        self.incoming.idle = 0;
        let answer = ended.map(|end| self.answer(end, notes));
        self.end(slot, answer);
    }

    /// As much of an answer has come as anybody looks into, and the peer is told to keep the rest.
    pub(super) fn has_enough(&mut self, slot: Slot) {
        let now = self.read_at();
        let stream = self.streams.at(slot);
        stream.progress.last = Some(now);
        let (id, notes) = (stream.id, stream.head.unwrap_or_default());
        frame::rst_stream(&mut self.out.bytes, id, Code::Cancel);
        let answer = self.answer(End::Answered(notes.status.unwrap_or_default()), notes);
        self.end(slot, Ok(answer));
    }

    fn answer(&self, end: End, notes: Notes) -> Answer {
        let connection = if self.stands() { Afterwards::Keep } else { Afterwards::Close };
        Answer { end, retry_after: notes.call.pushback.or(notes.retry_after), identity: notes.identity, connection }
    }

    /// Ends one stream that cannot go on, and tells the peer.
    pub(super) fn reset(&mut self, slot: Slot, end: End, code: Code) {
        let id = self.streams.at(slot).id;
        frame::rst_stream(&mut self.out.bytes, id, code);
        self.end(slot, Err(end));
    }

    /// Ends one stream.
    pub(super) fn end(&mut self, slot: Slot, done: Result<Answer, End>) {
        self.close(slot);
        let stream = self.streams.at(slot);
        stream.done = Some(done);
        if let Some(waker) = &stream.waker {
            waker.wake_by_ref();
        }
    }

    /// The peer takes no new streams, and has not looked at those above `last`.
    pub(super) fn go_away(&mut self, last: u32, code: Code) {
        self.going = Some(code);
        let unseen: Vec<Slot> = self.streams.all().into_iter().filter(|slot| self.streams.at(*slot).id > last).collect();
        for slot in unseen.into_iter().chain(std::mem::take(&mut self.waiting)) {
            self.end(slot, Err(End::GoneAway(code)));
        }
        self.opened();
    }

    /// Everything on it ends. `unanswered` is for those that have heard nothing, `unfinished` for those whose answer had begun.
    pub(super) fn die(&mut self, unanswered: End, unfinished: End) {
        self.over = Some(unanswered);
        self.bodies.clear();
        for slot in self.streams.all() {
            let end = if self.streams.at(slot).head.is_some() { unfinished } else { unanswered };
            self.end(slot, Err(end));
        }
        for slot in std::mem::take(&mut self.waiting) {
            self.end(slot, Err(unanswered));
        }
        self.out.give_up();
        self.opened();
    }

    /// Whoever waited until it is open can look again.
    pub(super) fn opened(&mut self) {
        if let Some(waker) = self.opening.take() {
            waker.wake();
        }
    }

    /// The driver comes, and wants to be woken by `cx` from now on.
    pub(super) fn driven(&mut self, cx: &Context<'_>) {
        self.kicked = false;
        if !self.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
    }

    /// The driver comes back by itself.
    pub(super) fn gathers(&mut self) {
        self.kicked = true;
    }

    /// Requests that the peer has and whose answers are still to come.
    pub(super) fn awaited(&self) -> usize {
        self.streams.count().saturating_sub(self.out.departing())
    }

    /// There is something to be written. However many say so in one turn, the driver comes once, after all of them.
    fn kick(&mut self) {
        if !self.kicked
            && let Some(driver) = &self.driver
        {
            self.kicked = true;
            driver.wake_by_ref();
        }
    }
}
