//! The streams of one connection: a fixed slot for each that may be open, found by the number that its stream has on the wire.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;
use std::time::Instant;

use super::notes::Notes;
use super::request::Frames;
use crate::answers::Heard;
use crate::protocol::grpc::Messages;
use crate::protocol::{Answer, End, Progress};

/// A place among the streams of a connection.
pub(super) type Slot = u32;

/// One exchange, from the moment it is begun until somebody has taken its result.
#[derive(Default)]
pub(super) struct Stream {
    /// Its number on the wire; 0 while it has none.
    pub(super) id: u32,
    /// Which of the requests that were prepared it carries.
    pub(super) request: usize,
    /// Its frames, where they are not the same for every request; kept for the next.
    pub(super) own: Option<Box<Frames>>,
    /// What is heard of its answer, where somebody listens.
    pub(super) heard: Option<Box<Heard>>,
    /// What the head of its answer said.
    pub(super) head: Option<Notes>,
    /// Bytes of the answer's body.
    pub(super) body_in: u64,
    /// The messages in it, where it answers a call.
    pub(super) messages: Messages,
    /// When it is given up, where its request says so.
    pub(super) deadline: Option<Instant>,
    /// What the peer still takes of the request's body.
    pub(super) window: i64,
    /// How much of the request's body is on its way.
    pub(super) body_out: usize,
    /// Its body waits for the peer to widen its window.
    pub(super) parked: bool,
    /// It waited for the peer's limits before it could start.
    pub(super) held: bool,
    pub(super) progress: Progress,
    pub(super) done: Option<Result<Answer, End>>,
    pub(super) waker: Option<Waker>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<Slot>,
    open: HashMap<u32, Slot, BuildHasherDefault<Spread>>,
}

impl Streams {
    /// A slot of one's own, to be given back.
    pub(super) fn take(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::default());
            self.slots.len() as Slot - 1
        })
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        *self.at(slot) = Stream::default();
        self.free.push(slot);
    }

    pub(super) fn at(&mut self, slot: Slot) -> &mut Stream {
        &mut self.slots[slot as usize]
    }

    /// The open stream of that number.
    pub(super) fn find(&self, id: u32) -> Option<Slot> {
        self.open.get(&id).copied()
    }

    /// Whether `slot` still holds the open stream `id`, and not a later one.
    pub(super) fn holds(&self, slot: Slot, id: u32) -> bool {
        let stream = &self.slots[slot as usize];
        stream.id == id && stream.done.is_none()
    }

    pub(super) fn open(&mut self, slot: Slot, id: u32) -> &mut Stream {
        self.open.insert(id, slot);
        let stream = self.at(slot);
        stream.id = id;
        stream
    }

    /// Nothing more is expected on the stream of `slot`.
    pub(super) fn close(&mut self, slot: Slot) {
        let id = std::mem::take(&mut self.at(slot).id);
        self.open.remove(&id);
    }

    /// Streams open now.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The slots of all open streams.
    pub(super) fn all(&self) -> Vec<Slot> {
        self.open.values().copied().collect()
    }
}

/// Stream numbers are our own and go up by two: one multiplication spreads them (Fibonacci hashing).
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
