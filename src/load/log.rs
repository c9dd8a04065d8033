//! What a worker writes down per request: one fixed-size entry in a vector, handed to the tally thread a few times a second.
//! Histograms, names and sums are made there, off the way of the requests.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::protocol::{End, Identity};
use crate::time::Offset;

/// How many entries are handed over at once at the latest.
const BATCH: usize = 8_192;

/// A window: one second of one phase of one load, by the intended start of its requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Window {
    pub(super) load: u32,
    pub(super) phase: u32,
    pub(super) second: i64,
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
    pub(super) retry_after: bool,
    /// All connections that its load may have were taken when it came due.
    pub(super) waited: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What only a request has that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From the actual send to the end.
    pub(super) service_us: u32,
    /// What the generator itself added before the send.
    pub(super) lateness_us: u32,
}

/// What travels to the tally thread.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Requests that came due, by window.
    pub(super) intended: Vec<(Window, u64)>,
    pub(super) ended: Vec<Ended>,
}

/// A worker's entries since the last batch.
pub(super) struct Log {
    batches: SyncSender<Batch>,
    batch: RefCell<Batch>,
    /// The window that came due last, and its count, before it becomes an entry of the batch: schedules walk windows in order.
    current: Cell<Option<(Window, u64)>>,
}

impl Log {
    pub(super) fn new(batches: SyncSender<Batch>) -> Log {
        Log { batches, batch: RefCell::default(), current: Cell::new(None) }
    }

    /// A request came due.
    pub(super) fn due(&self, window: Window) {
        match self.current.get() {
            Some((current, count)) if current == window => self.current.set(Some((current, count + 1))),
            other => {
                self.batch.borrow_mut().intended.extend(other);
                self.current.set(Some((window, 1)));
            }
        }
    }

    /// A request ended.
    pub(super) fn ended(&self, ended: Ended) {
        let mut batch = self.batch.borrow_mut();
        batch.ended.push(ended);
        if batch.ended.len() >= BATCH && batch.ended.len().is_multiple_of(BATCH) {
            drop(batch);
            self.hand_over();
        }
    }

    /// Hands over what there is, without waiting: when the tally is behind, entries stay here until the next time.
    pub(super) fn hand_over(&self) {
        let batch = self.take();
        if batch.ended.is_empty() && batch.intended.is_empty() {
            return;
        }
        match self.batches.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => *self.batch.borrow_mut() = batch,
        }
    }

    /// Hands over the rest and waits until there is room for it.
    pub(super) fn close(&self) {
        // An error means that the tally thread is gone, and with it everybody who could be told.
        let _ = self.batches.send(self.take());
    }

    fn take(&self) -> Batch {
        let mut batch = self.batch.borrow_mut();
        batch.intended.extend(self.current.take());
        let room = batch.ended.len();
        mem::replace(&mut *batch, Batch { intended: Vec::new(), ended: Vec::with_capacity(room) })
    }
}

/// Whole microseconds between two points, rounded; at least 1, which is the histograms' least.
pub(super) fn micros(from: Offset, to: Offset) -> u32 {
    u32::try_from((to.since(from).as_nanos() + 500) / 1_000).unwrap_or(u32::MAX).max(1)
}
