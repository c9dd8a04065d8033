//! What a worker writes down per request: one fixed-size entry in a vector, handed to the tally thread many times a second.
//! Histograms, names and sums are made there, off the way of the requests. Vectors go to the tally and come back empty, so that
//! nothing is allocated once there are enough of them.

use std::cell::{Cell, RefCell};
use std::mem;
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::course::Skip;
use crate::protocol::{End, Identity, Steps};
use crate::time::Offset;

/// How many entries are handed over at once: few enough to stay in a processor's cache, and to be added up before the next ones come.
const BATCH: usize = 512;
/// How many empty vectors wait to be filled again; more are not needed while the tally keeps up.
const SPARES: usize = 8;

/// A window: one second of one phase of one part of one load, by the intended start of its requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Window {
    pub(super) load: u16,
    pub(super) phase: u16,
    pub(super) part: u16,
    pub(super) second: i32,
}

impl Window {
    /// Loads, phases and parts are bounded by the size of a plan, seconds by the length of a run: all fit by far.
    pub(super) fn new(load: usize, phase: usize, part: usize, due: Offset) -> Window {
        Window { load: load as u16, phase: phase as u16, part: part as u16, second: due.second() as i32 }
    }
}

/// One request that ended. Times are in microseconds and absent for what was not sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) window: Window,
    pub(super) end: End,
    pub(super) sent: Option<Times>,
    /// From the intended start to the end, in microseconds.
    pub(super) response_us: u32,
    pub(super) identity: Identity,
    /// The address that it was sent to.
    pub(super) to: Identity,
    pub(super) retry_after: bool,
    /// All connections that its load may have were taken when it came due.
    pub(super) waited: bool,
    /// Redirects that were followed; a plan allows no more than fit.
    pub(super) hops: u8,
    pub(super) bytes_in: u32,
    pub(super) bytes_out: u32,
    /// Messages that came back, where answers are made of them.
    pub(super) messages: u32,
}

impl Ended {
    /// Whether `other` ended for the same reason, after going to the same place and being answered by the same one.
    pub(super) fn is_like(&self, other: &Ended) -> bool {
        (self.end, self.identity, self.to) == (other.end, other.identity, other.to)
    }
}

/// What only a request has that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From the actual send to the end.
    pub(super) service_us: u32,
    /// What the generator itself added before the send.
    pub(super) lateness_us: u32,
    /// When it was due, from the start of its window's second.
    pub(super) due_us: u32,
    /// From the actual send to the first byte of an answer; of one that timed out without any, to its end.
    pub(super) first_byte_us: Option<NonZeroU32>,
}

/// What a client that tries more than once did for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub(super) window: Window,
    pub(super) what: Attempt,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Attempt {
    /// How one ended; given up, since another was answered, where that is `None`. With its time from the actual send, if it was sent.
    Ended { role: Role, end: Option<End>, service_us: Option<u32> },
    /// One that the budget did not allow.
    Withheld,
    /// A hedge has answered the request.
    HedgeWon,
}

/// What an attempt is to its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    First,
    Retry,
    Hedge,
}

/// A connection that was opened, or was to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) window: Window,
    pub(super) steps: Steps,
    pub(super) open: bool,
}

/// What travels to the tally thread.
#[derive(Debug)]
pub(super) struct Batch {
    /// Requests that came due, by window.
    pub(super) intended: Vec<(Window, u64)>,
    pub(super) ended: Vec<Ended>,
    pub(super) opened: Vec<Opened>,
    /// Steps that did not come due, each in its window of the moment when that was clear, and why.
    pub(super) skipped: Vec<(Window, Skip)>,
    pub(super) tried: Vec<Tried>,
    /// Where the vector goes when it has been read.
    pub(super) back: SyncSender<Vec<Ended>>,
}

/// A worker's entries since the last batch.
pub(super) struct Log {
    batches: SyncSender<Batch>,
    ended: RefCell<Vec<Ended>>,
    /// There are far fewer of these: their vectors are not kept.
    opened: RefCell<Vec<Opened>>,
    skipped: RefCell<Vec<(Window, Skip)>>,
    /// Only of clients that try more than once.
    tried: RefCell<Vec<Tried>>,
    intended: RefCell<Vec<(Window, u64)>>,
    /// The window that came due last, and its count, before it becomes an entry of the batch: schedules walk windows in order.
    current: Cell<Window>,
    count: Cell<u64>,
    spares: Receiver<Vec<Ended>>,
    back: SyncSender<Vec<Ended>>,
}

impl Log {
    pub(super) fn new(batches: SyncSender<Batch>) -> Log {
        let (back, spares) = sync_channel(SPARES);
        Log {
            batches,
            ended: RefCell::new(Vec::with_capacity(BATCH)),
            opened: RefCell::default(),
            skipped: RefCell::default(),
            tried: RefCell::default(),
            intended: RefCell::default(),
            current: Cell::new(Window::new(0, 0, 0, Offset::ZERO)),
            count: Cell::new(0),
            spares,
            back,
        }
    }

    /// A request came due.
    pub(super) fn due(&self, window: Window) {
        if self.current.get() != window {
            let counted = self.counted();
            self.intended.borrow_mut().extend(counted);
            self.current.set(window);
        }
        self.count.update(|n| n + 1);
    }

    /// What came due in the window that is walked, and has not been counted yet.
    fn counted(&self) -> Option<(Window, u64)> {
        let count = self.count.replace(0);
        (count > 0).then(|| (self.current.get(), count))
    }

    /// A request ended.
    pub(super) fn ended(&self, ended: Ended) {
        let mut batch = self.ended.borrow_mut();
        batch.push(ended);
        if batch.len() >= BATCH && batch.len().is_multiple_of(BATCH) {
            drop(batch);
            self.hand_over();
        }
    }

    /// A connection was opened, or could not be.
    pub(super) fn opened(&self, opened: Opened) {
        self.opened.borrow_mut().push(opened);
    }

    /// A step will not come due.
    pub(super) fn skipped(&self, window: Window, why: Skip) {
        self.skipped.borrow_mut().push((window, why));
    }

    /// A client did something more for a request than to send it.
    pub(super) fn tried(&self, window: Window, what: Attempt) {
        self.tried.borrow_mut().push(Tried { window, what });
    }

    /// Hands over what there is, without waiting: when the tally is behind, entries stay here until the next time.
    pub(super) fn hand_over(&self) {
        let batch = self.take();
        let other = [batch.intended.len(), batch.opened.len(), batch.skipped.len(), batch.tried.len()];
        if batch.ended.is_empty() && other == [0; 4] {
            self.ended.replace(batch.ended);
            return;
        }
        match self.batches.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.ended.replace(batch.ended);
                self.intended.replace(batch.intended);
                self.opened.replace(batch.opened);
                self.skipped.replace(batch.skipped);
                self.tried.replace(batch.tried);
            }
        }
    }

    /// Hands over the rest and waits until there is room for it.
    pub(super) fn close(&self) {
        // An error means that the tally thread is gone, and with it everybody who could be told.
        let _ = self.batches.send(self.take());
    }

    fn take(&self) -> Batch {
        let mut intended = self.intended.take();
        intended.extend(self.counted());
        let empty = self.spares.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let ended = mem::replace(&mut *self.ended.borrow_mut(), empty);
        let (opened, skipped, tried) = (self.opened.take(), self.skipped.take(), self.tried.take());
        Batch { intended, ended, opened, skipped, tried, back: self.back.clone() }
    }
}

/// Whole microseconds between two points, rounded; at least 1, which is the histograms' least.
pub(super) fn micros(from: Offset, to: Offset) -> u32 {
    whole_micros(to.nanos().saturating_sub(from.nanos()).max(0) as u64)
}

/// The same of nanoseconds.
pub(super) fn whole_micros(nanos: u64) -> u32 {
    (nanos.saturating_add(500) / 1_000).clamp(1, u64::from(u32::MAX)) as u32
}
