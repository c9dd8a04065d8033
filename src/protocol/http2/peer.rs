//! A connection without a socket, fed by a test or by the fuzzer.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::What;
use super::connection::Connection;
use super::frame::Head;
use super::incoming::Fault;
use super::notes::Listener;
use super::request::Template;
use super::streams::Slot;
use crate::answers::Wanted;
use crate::plan::{Request, Talk};
use crate::protocol::{Answer, Destination, End, Trust, outline};
use crate::time::{Moment, monotonic_now};
use crate::units::Span;
use crate::varying::Values;

/// The one request that is prepared, which has no values in it.
pub(super) fn first() -> What<'static> {
    What { request: 0, values: &NOTHING, ear: None, deadline: monotonic_now() + Duration::from_secs(1) }
}
static NOTHING: Values = Values::new();

/// A connection that has greeted and been greeted, with `requests` under way, on the streams 1, 3, 5, ...
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) slots: Vec<Slot>,
    /// Bytes that are no whole frame yet.
    rest: Vec<u8>,
    pub(super) fault: Option<Fault>,
}

impl Peer {
    pub(super) fn new(requests: usize, body: &[u8]) -> Peer {
        let mut peer = Peer::ungreeted(requests, body);
        peer.says(&settings(&[]));
        peer.written();
        peer
    }

    pub(super) fn ungreeted(requests: usize, body: &[u8]) -> Peer {
        let destination = Destination::read("http://shop/", Trust::default()).expect("a URL");
        let request = Request {
            method: if body.is_empty() { "GET" } else { "POST" }.into(),
            path: "/".into(),
            headers: Vec::new(),
            body: body.to_vec(),
            timeout: Span::from_secs(1),
            wanted: Wanted::default(),
            talk: Talk::Http,
        };
        let prepared = [request];
        let outlines = outline::all(&destination, &prepared, &[]).expect("an outline");
        let templates = Arc::from([Template::new(&destination, &outlines[0], &[]).expect("a request")]);
        let mut connection = Connection::new(templates, Listener::new("x-pod", Arc::default()));
        let slots: Vec<Slot> = (0..requests).map(|_| connection.link()).collect();
        slots.iter().for_each(|slot| connection.begin(*slot, first()));
        Peer { connection, slots, rest: Vec::new(), fault: None }
    }

    /// Bytes come, as the driver would hand them on.
    pub(super) fn says(&mut self, bytes: &[u8]) -> &mut Peer {
        self.rest.extend_from_slice(bytes);
        if self.fault.is_none() {
            match self.connection.receive(&self.rest) {
                Ok(taken) => drop(self.rest.drain(..taken)),
                Err(fault) => {
                    self.connection.die(fault.end, fault.end);
                    self.fault = Some(fault);
                }
            }
            self.connection.advance();
        }
        self
    }

    pub(super) fn done(&mut self, request: usize) -> Option<Result<Answer, End>> {
        match self.connection.poll_done(self.slots[request], &Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    /// What it wants to write, which the kernel takes.
    pub(super) fn written(&mut self) -> Vec<u8> {
        let bytes = self.connection.out.rest().to_vec();
        self.connection.wrote(bytes.len(), Moment::now());
        bytes
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::frame::settings(&mut bytes, settings);
    bytes
}

/// All that can be seen of a connection: what was wrong, how its requests ended, what is said back, and how many streams are left.
pub(super) type Seen = (Option<Fault>, Vec<Option<Result<Answer, End>>>, Vec<u8>, usize);

/// A peer that has been greeted and owes three answers.
pub(super) fn greeted() -> Peer {
    Peer::new(3, b"a body")
}

/// What comes of three requests whose peer says `bytes`, in pieces as long as `pieces` makes them.
pub(super) fn heard(mut peer: Peer, bytes: &[u8], pieces: &mut dyn FnMut(&[u8]) -> usize) -> Seen {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces(rest).clamp(1, rest.len()));
        peer.says(piece);
        rest = after;
    }
    let ends: Vec<_> = (0..3).map(|request| peer.done(request)).collect();
    let said = if peer.fault.is_none() { peer.written() } else { Vec::new() };
    (peer.fault, ends, said, peer.connection.streams.count())
}

/// Whatever is said, in whatever pieces: the same end of every request and the same words back.
#[cfg(fuzzing)]
pub(in crate::protocol) fn says_the_same(bytes: &[u8], piece: usize) {
    let seen = |peer: fn() -> Peer, piece: usize| heard(peer(), bytes, &mut |_| piece);
    assert_eq!(seen(greeted, bytes.len()), seen(greeted, piece));
    // Bodies are held back until the greeting has come: how much of them is on its way when a stream ends hangs on when that is heard.
    let but_said = |(fault, ends, _, streams): Seen| (fault, ends, streams);
    let ungreeted = || Peer::ungreeted(3, b"a body");
    assert_eq!(but_said(seen(ungreeted, bytes.len())), but_said(seen(ungreeted, piece)));
}

/// Header blocks, one after the other, as the answers to three requests.
#[cfg(fuzzing)]
pub(in crate::protocol) fn answered_with(blocks: [&[u8]; 3]) {
    use super::frame::{flag, kind};
    let frames =
        [1, 3, 5].map(|stream| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, blocks[stream as usize / 2]));
    heard(greeted(), &frames.concat(), &mut |rest| rest.len());
}
