//! Where facts go in. A [`Sink`] is cheap to clone, stamps facts with the run's clock, never blocks, and is bounded: what finds no
//! room is counted, and the count is the last thing that the recording says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::names::Name;
use crate::recording::fact::{Event, Fact, Outcome, Part, RunEnded};
use crate::recording::timings::Timings;
use crate::time::{Clock, Offset};

/// How many facts may wait for the writer: a hundred times what a run produces in the time that a disk takes to answer. The queue has
/// room for all of them from the start.
const QUEUE: usize = 16_384;
/// How many events a live reader may lag behind before it misses some.
const LIVE: usize = 8_192;

/// What a histogram measures, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// From the intended start to the last byte: what a user waited.
    Response,
    /// From the actual send to the last byte: what the service took.
    Service,
    /// From the intended start to the actual send: what the generator added.
    Lateness,
    /// From the actual send to the first byte of the answer. Of one that timed out without any, to its end: it takes at least so long.
    FirstByte,
    /// Of each attempt, where a client tries more than once: from its actual send to its end, whatever became of its request.
    Attempt,
    /// Of a fresh connection: until TCP was open.
    Connect,
    /// Of a fresh connection: from there until a proxy had opened the way.
    Tunnel,
    /// Of a fresh connection: from there until TLS was agreed on.
    Tls,
    /// Of a fresh connection: from there until a handshake of HTTP had made a WebSocket of it.
    Upgrade,
}

impl Measure {
    pub const ALL: [Measure; 9] = [
        Measure::Response,
        Measure::Service,
        Measure::Lateness,
        Measure::FirstByte,
        Measure::Attempt,
        Measure::Connect,
        Measure::Tunnel,
        Measure::Tls,
        Measure::Upgrade,
    ];

    /// The name in tags and columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Response => "response",
            Measure::Service => "service",
            Measure::Lateness => "lateness",
            Measure::FirstByte => "first_byte",
            Measure::Attempt => "attempt",
            Measure::Connect => "connect",
            Measure::Tunnel => "tunnel",
            Measure::Tls => "tls",
            Measure::Upgrade => "upgrade",
        }
    }
}

/// The series that a histogram belongs to. Lateness is kept under [`Outcome::Ok`] for every request that was sent, and so are the steps
/// of connections, under the phase of the request for which, or after which, they were opened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Series {
    pub load: Name,
    pub phase: Name,
    pub part: Part,
    pub outcome: Outcome,
    pub measure: Measure,
}

/// One second of one series. Intervals of the same second and series add up.
#[derive(Clone, Debug)]
pub struct Interval {
    pub series: Series,
    pub second: i64,
    pub histogram: Histogram<u64>,
}

/// The same as it was measured, before it is written.
#[derive(Debug)]
pub struct Measured {
    pub series: Series,
    pub second: i64,
    pub timings: Timings,
}

/// What the writer takes off the queue.
pub(super) enum Entry {
    Fact(Offset, Box<Fact>),
    Measured(Box<Measured>),
    /// Write everything that came before, then this as the last event, seen then, say how it went, and stop.
    Close(Offset, Box<RunEnded>, SyncSender<Result<(), String>>),
}

/// The writing end of a recording.
#[derive(Clone)]
pub struct Sink {
    clock: Clock,
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Sink {
    /// A sink and the queue that a writer drains.
    pub(super) fn new(clock: Clock) -> (Sink, Receiver<Entry>) {
        let (queue, entries) = sync_channel(QUEUE);
        let (live, _) = broadcast::channel(LIVE);
        (Sink { clock, queue, lost: Arc::default(), live }, entries)
    }

    /// Records `fact` as seen now.
    pub fn emit(&self, fact: Fact) {
        self.emit_at(self.clock.now(), fact);
    }

    /// Records `fact` as seen at `t`. A reading that is no number is none: JSON has no word for it, and a line that cannot be read back
    /// would spoil the whole recording.
    pub fn emit_at(&self, t: Offset, fact: Fact) {
        if matches!(&fact, Fact::Reading(reading) if !reading.value.is_finite()) {
            return;
        }
        self.offer(Entry::Fact(t, Box::new(fact)));
    }

    /// Records one second of a series.
    pub fn record(&self, measured: Measured) {
        self.offer(Entry::Measured(Box::new(measured)));
    }

    /// The clock that stamps.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Every event from now on, in the order of the recording. A reader that lags too far is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }

    /// Facts and intervals that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Where live readers listen, and the count of what was lost: the writer's thread keeps these and not a whole sink, whose
    /// sending half of the queue would keep that thread waiting for itself for ever.
    pub(super) fn writer_parts(&self) -> (broadcast::Sender<Arc<Event>>, Arc<AtomicU64>) {
        (self.live.clone(), self.lost.clone())
    }

    /// The queue itself, for the writer's own farewell.
    pub(super) fn queue(&self) -> &SyncSender<Entry> {
        &self.queue
    }

    fn offer(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
