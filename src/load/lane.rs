//! One load on one worker: its connections, the queue of requests that wait for one, and the way of a request through them.
//!
//! ```text
//! due ─▶ idle connection? take the one that rested longest ─▶ exchange ─▶ next in the queue, or rest
//!     └▶ room for another? open one ────────────────────────────▲
//!     └▶ wait in the queue, first come, first served ───────────┘
//! ```
//!
//! Each connection is one task that is handed request after request; nothing is allocated per request. Taking the connection that
//! rested longest spreads load over all of them, as the connections of many users would.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::gauges::Gauges;
use super::log::{Ended, Log, Times, Window, micros};
use crate::protocol::{Afterwards, Answer, End, Identity, Link, Progress, Protocol, Wire};
use crate::schedule::Arrival;
use crate::time::{Clock, Offset, monotonic_now};

/// How long replacing an old connection may take before the place is given up.
const REPLACING: Duration = Duration::from_secs(1);

/// The part of a load that one worker carries.
pub(super) struct Lane {
    pub(super) load: u32,
    pub(super) wire: Wire,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) connection_limit: usize,
    pub(super) in_flight_limit: usize,
    pub(super) connection_age: Option<Duration>,
    pub(super) log: Rc<Log>,
    pub(super) gauges: std::sync::Arc<Gauges>,
    /// Rung whenever the last request in flight ends.
    pub(super) idle_again: Rc<Notify>,
    pub(super) state: State,
}

/// What changes while it runs. One thread: cells, no locks.
#[derive(Default)]
pub(super) struct State {
    /// Requests due and not ended.
    in_flight: Cell<usize>,
    /// Connections open or being opened.
    open: Cell<usize>,
    /// Counts connections, for the address and the age of the next one.
    opened: Cell<usize>,
    idle: RefCell<VecDeque<Rc<Mailbox>>>,
    queue: RefCell<VecDeque<Due>>,
    tasks: RefCell<JoinSet<()>>,
}

/// A request that came due.
#[derive(Clone, Copy)]
struct Due {
    at: Offset,
    window: Window,
    /// Which of the requests that the wire has prepared.
    request: usize,
    /// When the worker came to it.
    taken: Offset,
    /// It had to stand in the queue.
    waited: bool,
}

impl Due {
    fn of(arrival: &Arrival, window: Window, now: Offset) -> Due {
        Due { at: arrival.due, window, request: arrival.request as usize, taken: now, waited: false }
    }
}

/// Where an idle connection waits for its next request.
#[derive(Default)]
struct Mailbox {
    request: Cell<Option<Due>>,
    waker: Cell<Option<Waker>>,
}

/// An open connection with its date of expiry.
struct Held {
    link: Link,
    expires: Option<Offset>,
}

impl Lane {
    /// The window that `arrival` counts in.
    pub(super) fn window(&self, arrival: &Arrival) -> Window {
        Window { load: self.load, phase: arrival.phase as u32, second: arrival.due.second() }
    }

    /// Takes a request that is due and gets it on its way. Never waits.
    pub(super) fn take(self: &Rc<Lane>, arrival: &Arrival, now: Offset) {
        let due = Due::of(arrival, self.window(arrival), now);
        self.log.due(due.window);
        if due.at + self.timeout <= now {
            return self.unsent(due, End::GeneratorLate);
        }
        if self.state.in_flight.get() >= self.in_flight_limit {
            return self.unsent(due, End::InFlightBound);
        }
        self.state.in_flight.update(|n| n + 1);
        self.gauges.more_in_flight();
        let rested = self.state.idle.borrow_mut().pop_front();
        if let Some(mailbox) = rested {
            mailbox.put(due);
        } else if self.state.open.get() < self.connection_limit {
            self.open(due);
        } else {
            self.state.queue.borrow_mut().push_back(Due { waited: true, ..due });
        }
    }

    /// Counts a request that came due when nothing was sent any more.
    pub(super) fn refuse(&self, arrival: &Arrival) {
        let now = self.clock.now();
        let due = Due::of(arrival, self.window(arrival), now);
        self.log.due(due.window);
        self.unsent(due, End::Stopped);
    }

    /// Gives up what waits for a connection.
    pub(super) fn refuse_queued(&self) {
        while let Some(due) = self.next_queued() {
            self.leave(due, End::Stopped);
        }
    }

    /// Gives up what is in flight: every request then ends where it stands.
    pub(super) async fn cut(&self) {
        let mut tasks = self.state.tasks.take();
        tasks.shutdown().await;
    }

    /// Requests due and not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.get()
    }

    fn open(self: &Rc<Lane>, first: Due) {
        let mut tasks = self.state.tasks.borrow_mut();
        // Tasks that ended leave a handle behind until somebody asks.
        while tasks.try_join_next().is_some() {}
        let place = Place::new(self);
        tasks.spawn_local(Rc::clone(self).connection(place, first));
    }

    /// The life of one place for a connection: request after request until there is neither a connection nor a request.
    async fn connection(self: Rc<Lane>, _place: Place, first: Due) {
        let mailbox = Rc::new(Mailbox::default());
        let mut alarm = Alarm::new(self.clock.instant(first.at + self.timeout));
        let mut held: Option<Held> = None;
        let mut due = first;
        let mut ready = first.taken;
        loop {
            let mut ticket = Ticket::new(&self, due, ready);
            let deadline = self.clock.instant(due.at + self.timeout);
            let done = alarm.race(deadline, self.exchange(&mut held, &mut ticket)).await;
            ready = ticket.settle(done);
            if !matches!(done, Some(Ok(Answer { connection: Afterwards::Keep, .. }))) {
                held = None;
            } else if held.as_ref().is_some_and(|held| held.expires.is_some_and(|expires| ready >= expires)) {
                held = None;
                // Replaced now, on nobody's account, rather than with the next request waiting for it.
                if self.state.queue.borrow().is_empty() {
                    let deadline = self.clock.instant(ready + REPLACING);
                    held = alarm.race(deadline, self.connect()).await.and_then(Result::ok);
                    ready = self.clock.now();
                }
            }
            due = loop {
                match self.next_queued() {
                    // It was never sent, and by nobody's fault but that of our own bound.
                    Some(late) if late.at + self.timeout <= ready => self.leave(late, End::ConnectionBound),
                    Some(next) => break next,
                    None if held.is_none() => return,
                    None => {
                        self.state.idle.borrow_mut().push_back(mailbox.clone());
                        let next = mailbox.take().await;
                        ready = next.taken;
                        break next;
                    }
                }
            };
        }
    }

    /// Sends the request of `ticket` over the connection at hand or a fresh one, and reads the answer.
    ///
    /// A connection kept alive can be closed by its peer at any moment. Found closed before the send, it is replaced; found
    /// closed after it, the request has failed. Many HTTP clients would quietly send it once more (RFC 9110, section 9.2.2
    /// allows it), but then a pod that is killed with requests in its hands would seem to have cost nothing.
    async fn exchange(&self, held: &mut Option<Held>, ticket: &mut Ticket<'_>) -> Result<Answer, End> {
        if let Some(kept) = held {
            if self.wire.stands(&mut kept.link) {
                return self.wire.exchange(&mut kept.link, ticket.due.request, &mut ticket.progress).await;
            }
            *held = None;
        }
        let fresh = held.insert(self.connect().await?);
        ticket.ready = self.clock.now();
        self.wire.exchange(&mut fresh.link, ticket.due.request, &mut ticket.progress).await
    }

    async fn connect(&self) -> Result<Held, End> {
        let number = self.state.opened.get();
        self.state.opened.set(number + 1);
        let link = self.wire.connect(self.addresses[number % self.addresses.len()]).await?;
        // Ages are spread between 75 and 125 per cent, by the golden ratio, so that connections do not all end at once.
        let spread = 0.75 + 0.5 * (number as f64 * 0.618_033_988_749_895).fract();
        Ok(Held { link, expires: self.connection_age.map(|age| self.clock.now() + age.mul_f64(spread)) })
    }

    fn next_queued(&self) -> Option<Due> {
        self.state.queue.borrow_mut().pop_front()
    }

    /// Ends a request that was let in but not sent.
    fn leave(&self, due: Due, end: End) {
        self.unsent(due, end);
        self.left();
    }

    fn left(&self) {
        self.state.in_flight.update(|n| n - 1);
        self.gauges.less_in_flight();
        if self.state.in_flight.get() == 0 {
            self.idle_again.notify_one();
        }
    }

    fn unsent(&self, due: Due, end: End) {
        self.log.ended(Ended {
            window: due.window,
            end,
            sent: None,
            response_us: micros(due.at, due.taken),
            identity: Identity::UNKNOWN,
            retry_after: false,
            waited: due.waited,
            bytes_in: 0,
            bytes_out: 0,
        });
    }
}

/// A request on its way. However its task ends, dropped in the middle included, the request ends exactly once.
struct Ticket<'a> {
    lane: &'a Lane,
    due: Due,
    /// When there was a connection for it: waiting for one is not the generator's lateness.
    ready: Offset,
    progress: Progress,
    settled: bool,
}

impl Ticket<'_> {
    fn new(lane: &Lane, due: Due, ready: Offset) -> Ticket<'_> {
        Ticket { lane, due, ready, progress: Progress::default(), settled: false }
    }

    /// Writes down how it ended, and returns when.
    fn settle(mut self, done: Option<Result<Answer, End>>) -> Offset {
        let (end, answer) = match done {
            Some(Ok(answer)) => (End::Answered(answer.status), Some(answer)),
            Some(Err(end)) => (end, None),
            None if self.progress.bytes_out == 0 => (End::NoConnectionInTime, None),
            None if self.progress.bytes_in == 0 => (End::NoAnswerInTime, None),
            None => (End::AnswerUnfinishedInTime, None),
        };
        self.write(end, answer)
    }

    fn write(&mut self, end: End, answer: Option<Answer>) -> Offset {
        self.settled = true;
        let clock = self.lane.clock;
        let now = clock.offset(monotonic_now());
        let sent = self.progress.sent.filter(|_| self.progress.bytes_out > 0).map(|sent| {
            let sent = clock.offset(sent);
            // Sent minus due, less the time in which there was no connection to send on.
            let blocked = self.ready.since(self.due.taken);
            Times { service_us: micros(sent, now), lateness_us: micros(self.due.at, sent - blocked) }
        });
        self.lane.log.ended(Ended {
            window: self.due.window,
            end,
            sent,
            response_us: micros(self.due.at, now),
            identity: answer.map_or(Identity::UNKNOWN, |answer| answer.identity),
            retry_after: answer.is_some_and(|answer| answer.retry_after),
            waited: self.due.waited,
            bytes_in: self.progress.bytes_in,
            bytes_out: self.progress.bytes_out,
        });
        self.lane.left();
        now
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let end = match () {
                () if std::thread::panicking() => End::Bug,
                () if self.progress.bytes_out > 0 => End::StoppedInFlight,
                () => End::Stopped,
            };
            self.write(end, None);
        }
    }
}

/// A place among the connections, taken for as long as this lives.
struct Place(Rc<Lane>);

impl Place {
    fn new(lane: &Rc<Lane>) -> Place {
        lane.state.open.update(|n| n + 1);
        lane.gauges.more_connections();
        Place(lane.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.open.update(|n| n - 1);
        self.0.gauges.less_connections();
    }
}

impl Mailbox {
    fn put(&self, due: Due) {
        self.request.set(Some(due));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn take(&self) -> Due {
        poll_fn(|cx| match self.request.take() {
            Some(due) => Poll::Ready(due),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}
