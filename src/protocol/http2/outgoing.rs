//! What is on its way to the peer: bytes in the order in which they were queued, and a note of where each request's lie, so that the
//! moment at which the kernel took its first one is known of each, however many travel in one write.

use std::collections::VecDeque;

use super::streams::Slot;

/// How many bytes may be queued before no more of requests is added: a peer that does not read is not written to.
const REQUESTS_MOST: usize = 128 * 1024;
/// How many may be queued before nothing is read any more that would only ask for more to be said. What is above the other mark is
/// for that alone: a peer that writes before it reads on is heard, however much of requests waits for it.
const QUEUE_MOST: usize = 256 * 1024;
/// How many written bytes are kept in front of the others before they are dropped.
const WRITTEN_MOST: usize = 64 * 1024;

/// The queue.
#[derive(Default)]
pub(super) struct Outgoing {
    /// What is queued, from `at` on.
    pub(super) bytes: Vec<u8>,
    at: usize,
    /// How many bytes went before the first of `bytes`.
    before: u64,
    departures: VecDeque<Departure>,
}

/// Bytes that belong to a request.
#[derive(Clone, Copy)]
pub(super) struct Departure {
    /// The place of the first, counted from the connection's start.
    start: u64,
    pub(super) length: u32,
    pub(super) slot: Slot,
    pub(super) id: u32,
}

impl Outgoing {
    /// What is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn takes_requests(&self) -> bool {
        self.rest().len() < REQUESTS_MOST
    }

    pub(super) fn is_full(&self) -> bool {
        self.rest().len() >= QUEUE_MOST
    }

    /// The `length` bytes queued next belong to the stream `id` in `slot`.
    pub(super) fn departs(&mut self, length: usize, slot: Slot, id: u32) {
        let start = self.before + self.bytes.len() as u64;
        self.departures.push_back(Departure { start, length: length as u32, slot, id });
    }

    /// The kernel took `n` more bytes.
    pub(super) fn wrote(&mut self, n: usize) {
        self.at += n;
        if self.at == self.bytes.len() || self.at > WRITTEN_MOST {
            self.before += self.at as u64;
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }

    /// The next request's bytes of which the kernel has taken at least one.
    pub(super) fn departed(&mut self) -> Option<Departure> {
        let written = self.before + self.at as u64;
        self.departures.pop_front_if(|departure| departure.start < written)
    }

    /// How many pieces of requests are still to be written.
    pub(super) fn departing(&self) -> usize {
        self.departures.len()
    }

    /// Forgets all of it: there is nobody to take it any more.
    pub(super) fn give_up(&mut self) {
        self.departures.clear();
        self.wrote(self.rest().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_departs_with_its_first_byte() {
        let mut out = Outgoing::default();
        out.bytes.extend(b"preface");
        for (slot, text) in [(0, "one"), (1, "two")] {
            out.departs(text.len(), slot, slot + 1);
            out.bytes.extend(text.bytes());
        }
        let mut gone = |n: usize| {
            out.wrote(n);
            std::iter::from_fn(|| out.departed()).map(|departure| departure.slot).collect::<Vec<_>>()
        };
        assert!(gone(7).is_empty(), "the preface alone");
        assert_eq!(gone(1), [0]);
        assert!(gone(2).is_empty());
        assert_eq!(gone(3), [1]);
        assert_eq!(out.rest(), b"");
        out.departs(1, 7, 8);
        out.bytes.push(b'x');
        assert!(out.departed().is_none(), "places go on counting from the connection's start");
        out.wrote(1);
        assert_eq!(out.departed().map(|departure| departure.slot), Some(7));
    }
}
