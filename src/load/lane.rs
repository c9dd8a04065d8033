//! One load on one worker: its connections, the queue of requests that wait for one, and the way of a request to them.
//!
//! ```text
//! due ─▶ idle connection? take the one that rested longest ─▶ exchange ─▶ next in the queue, or rest
//!     └▶ room for another? open one ────────────────────────────▲
//!     └▶ wait in the queue, first come, first served ───────────┘
//! ```
//!
//! Each connection is one task that is handed request after request; nothing is allocated per request. Taking the connection that
//! rested longest spreads load over all of them, as the connections of many users would. Where the protocol carries several requests
//! over one connection, each of these is a place on a connection that it shares with others (`pool`).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::alarm::Alarms;
use super::bells::Bells;
use super::client::Client;
use super::course::{Course, Skip};
use super::gauges::Gauges;
use super::log::{Ended, Log, Window, micros};
use super::mailbox::Mailbox;
use super::pauses::Pauses;
use super::pool::Pool;
use super::seat::Seat;
use crate::plan::Rotation;
use crate::protocol::{Addresses, End, Identity, Peer, Protocol, Reader, Wire};
use crate::schedule::Arrival;
use crate::time::{Clock, Offset};
use crate::varying::Supply;

/// The part of a load that one worker carries.
pub(super) struct Lane {
    pub(super) load: usize,
    pub(super) wire: Wire,
    pub(super) reader: Reader,
    /// What differs from request to request.
    pub(super) supply: Supply,
    /// Where it has flows.
    pub(super) course: Option<Course>,
    pub(super) clock: Clock,
    /// Of a request; of steps, the longest.
    pub(super) timeout: Duration,
    pub(super) addresses: Addresses,
    /// Which of them comes first: workers begin at different ones, so that few connections are spread too.
    pub(super) first_address: usize,
    pub(super) connection_limit: usize,
    /// Requests that one connection carries at once.
    pub(super) streams: usize,
    pub(super) in_flight_limit: usize,
    pub(super) rotation: Rotation,
    /// What is done for a request beyond sending it once.
    pub(super) client: Option<Arc<Client>>,
    pub(super) log: Rc<Log>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) alarms: Rc<Alarms>,
    pub(super) bells: Rc<Bells>,
    pub(super) state: State,
}

/// What changes while it runs. One thread: cells, no locks.
#[derive(Default)]
pub(super) struct State {
    /// Requests due and not ended.
    in_flight: Cell<usize>,
    /// Connections open or being opened, or places on shared ones.
    open: Cell<usize>,
    pool: Pool,
    /// Counts connections, for the address and the age of the next one.
    opened: Cell<usize>,
    idle: RefCell<VecDeque<Rc<Mailbox>>>,
    queue: RefCell<VecDeque<Due>>,
    /// Runs of flows between two steps.
    pauses: Pauses,
    tasks: RefCell<JoinSet<()>>,
    /// Seats with a connection that hedges have left.
    spares: RefCell<Vec<Seat>>,
    /// Nothing more is to be tried, and who waits to do so is told.
    closed: Cell<bool>,
    closing: Notify,
    /// What was in flight has been given up.
    cut: Cell<bool>,
    /// What a task said that panicked.
    panic: RefCell<Option<Panic>>,
}

/// What a thread or a task leaves that panicked.
type Panic = Box<dyn Any + Send>;

/// A request that came due.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Offset,
    pub(super) window: Window,
    /// Its number in the whole load, whatever the worker: what its values hang on.
    pub(super) number: u64,
    /// Which of the requests that the wire has prepared.
    pub(super) request: usize,
    /// When the worker came to it.
    pub(super) taken: Offset,
    /// It had to stand in the queue.
    pub(super) waited: bool,
}

impl Lane {
    /// Whether a request is the same each time, sent once, and nobody looks into its answer: such need nothing but a connection.
    pub(super) fn sends_plainly(&self, request: usize) -> bool {
        self.course.is_none()
            && self.client.is_none()
            && self.supply.is_empty()
            && self.reader.is_content(request)
            && self.wire.is_plain(request)
    }

    /// What is due on this lane, in a phase by its number: a request, or the first step of a flow.
    pub(super) fn due(&self, at: Offset, phase: usize, number: u64, taken: Offset) -> Due {
        let request = self.course.as_ref().map_or(0, |course| course.first(number));
        Due { at, window: self.window(phase, number, request, at), number, request, taken, waited: false }
    }

    fn window(&self, phase: usize, number: u64, request: usize, at: Offset) -> Window {
        let class = self.supply.part_of(number);
        let part = self.course.as_ref().map_or(class, |course| class * course.steps() + request);
        Window::new(self.load, phase, part, at)
    }

    /// How long a request may take from when it was due.
    pub(super) fn timeout_of(&self, request: usize) -> Duration {
        self.course.as_ref().map_or(self.timeout, |course| course.timeout(request))
    }

    /// A step of the run of `due`, at a moment of its own; `None` where the load sends nothing then.
    pub(super) fn step(&self, due: Due, request: usize, at: Offset) -> Option<Due> {
        let phase = self.course.as_ref()?.phase_at(at)?;
        Some(Due { at, window: self.window(phase, due.number, request, at), request, taken: at, waited: false, ..due })
    }

    /// A step of a run that was let in comes due.
    pub(super) fn comes_due(&self, due: Due) {
        self.log.due(due.window);
    }

    /// Counts the steps after `due` that its run has no more.
    pub(super) fn skip_after(&self, due: Due, why: Skip) {
        let Some(course) = &self.course else { return };
        for request in due.request + 1..course.end_of(due.request) {
            let part = due.window.part + (request - due.request) as u16;
            self.log.skipped(Window { part, ..due.window }, why);
        }
    }

    /// Where runs wait for their next step.
    pub(super) fn pauses(&self) -> &Pauses {
        &self.state.pauses
    }

    /// Lets a request, or the run of a flow, in: it is in flight until [`Lane::left`].
    pub(super) fn let_in(&self, due: &Due) {
        self.log.due(due.window);
        self.state.in_flight.update(|n| n + 1);
        self.gauges.more_in_flight();
    }

    /// Takes a request that is due and gets it on its way. Never waits.
    pub(super) fn take(self: &Rc<Lane>, arrival: &Arrival, now: Offset) {
        let due = self.arrived(arrival, now);
        if self.supply.is_used_up(due.number) {
            return self.turn_away(due, End::FeedUsedUp);
        }
        if due.at + self.timeout_of(due.request) <= now {
            return self.turn_away(due, End::GeneratorLate);
        }
        if self.state.in_flight.get() >= self.in_flight_limit {
            return self.turn_away(due, End::InFlightBound);
        }
        self.let_in(&due);
        let rested = self.state.idle.borrow_mut().pop_front();
        if let Some(mailbox) = rested {
            mailbox.put(due);
        } else if let Some(seat) = self.take_spare() {
            self.spawn(Rc::clone(self).connection(seat, due, due.taken));
        } else if self.state.open.get() < self.connection_limit * self.streams {
            self.open(due);
        } else {
            self.state.queue.borrow_mut().push_back(Due { waited: true, ..due });
        }
    }

    fn arrived(&self, arrival: &Arrival, now: Offset) -> Due {
        let due = self.due(arrival.due, arrival.phase, arrival.n, now);
        // What a recording sends is no flow.
        if self.course.is_some() { due } else { Due { request: arrival.request as usize, ..due } }
    }

    /// Counts a request that came due when nothing was sent any more.
    pub(super) fn refuse(&self, arrival: &Arrival) {
        self.turn_away(self.arrived(arrival, self.clock.now()), End::Stopped);
    }

    /// Gives up what waits for a connection, or to be tried again.
    pub(super) fn refuse_queued(&self) {
        self.state.closed.set(true);
        self.state.closing.notify_waiters();
        while let Some(due) = self.next_queued() {
            self.leave(due, End::Stopped);
        }
    }

    /// Gives up what is in flight: every request then ends where it stands.
    pub(super) async fn cut(&self) {
        self.state.cut.set(true);
        // They keep this lane, as this lane keeps them.
        drop(self.state.spares.take());
        let mut tasks = self.state.tasks.take();
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            self.note(ended);
        }
    }

    /// Whether what was in flight has been given up.
    pub(super) fn is_cut(&self) -> bool {
        self.state.cut.get()
    }

    /// Tasks that have not ended.
    pub(super) fn tasks(&self) -> usize {
        self.state.tasks.borrow().len()
    }

    /// What a task said that panicked: nothing that this lane measured can be trusted then.
    pub(super) fn panic(&self) -> Option<Panic> {
        self.state.panic.take()
    }

    fn note(&self, ended: Result<(), JoinError>) {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            self.state.panic.replace(Some(panic));
        }
    }

    /// Requests due and not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.get()
    }

    fn open(self: &Rc<Lane>, first: Due) {
        self.spawn(Rc::clone(self).connection(Seat::new(self), first, first.taken));
    }

    /// Starts a task that ends with this lane.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let mut tasks = self.state.tasks.borrow_mut();
        // Tasks that ended leave a handle behind until somebody asks.
        while let Some(ended) = tasks.try_join_next() {
            self.note(ended);
        }
        tasks.spawn_local(task)
    }

    /// The life of one seat, free since `ready`: request after request until there is neither a connection nor a request.
    async fn connection(self: Rc<Lane>, mut seat: Seat, first: Due, mut ready: Offset) {
        let mailbox = Rc::new(Mailbox::default());
        let mut due = first;
        loop {
            ready = seat.serve(due, ready).await;
            if self.nobody_waits() {
                ready = seat.renew(ready).await;
            }
            due = match self.next_in_time(ready) {
                Some(next) => next,
                None if seat.is_bare() => return,
                None => {
                    self.state.idle.borrow_mut().push_back(mailbox.clone());
                    let next = mailbox.take().await;
                    ready = next.taken;
                    next
                }
            };
        }
    }

    /// Whether nothing more is to be tried for any request.
    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Ends when nothing more is to be tried.
    pub(super) async fn closed(&self) {
        if !self.is_closed() {
            self.state.closing.notified().await;
        }
    }

    /// A seat for an attempt beside others; none where all connections that the plan allows are taken.
    pub(super) fn spare(self: &Rc<Lane>) -> Option<Seat> {
        self.take_spare().or_else(|| (self.state.open.get() < self.connection_limit * self.streams).then(|| Seat::new(self)))
    }

    fn take_spare(&self) -> Option<Seat> {
        self.state.spares.borrow_mut().pop()
    }

    /// Such a seat is free again: whoever waits for a connection or comes next finds its own, if it still has one.
    pub(super) fn give_back(self: &Rc<Lane>, mut seat: Seat) {
        if seat.is_bare() || self.is_closed() {
            drop(seat);
            return self.has_room();
        }
        seat.moves();
        let now = self.clock.now();
        match self.next_in_time(now) {
            Some(next) => drop(self.spawn(Rc::clone(self).connection(seat, next, now))),
            None => self.state.spares.borrow_mut().push(seat),
        }
    }

    /// Seats are gone that nobody took over: as many of those who wait for a connection open one.
    pub(super) fn has_room(self: &Rc<Lane>) {
        while self.state.open.get() < self.connection_limit * self.streams {
            let now = self.clock.now();
            let Some(next) = self.next_in_time(now) else { break };
            self.spawn(Rc::clone(self).connection(Seat::new(self), next, now));
        }
    }

    /// A connection is open or being opened, or a place on a shared one, which counts itself.
    pub(super) fn more_open(&self) {
        self.state.open.update(|n| n + 1);
        if self.streams == 1 {
            self.gauges.more_connections();
        }
    }

    pub(super) fn less_open(&self) {
        self.state.open.update(|n| n - 1);
        if self.streams == 1 {
            self.gauges.less_connections();
        }
    }

    /// The connections that are shared, where they are.
    pub(super) fn pool(&self) -> Option<&Pool> {
        (self.streams > 1).then_some(&self.state.pool)
    }

    /// Which connection the next one is, and where it goes.
    pub(super) fn next_address(&self) -> (usize, Option<Peer>) {
        let number = self.state.opened.get();
        self.state.opened.set(number + 1);
        (number, self.addresses.turn(number + self.first_address))
    }

    /// Whether no request waits for a connection.
    pub(super) fn nobody_waits(&self) -> bool {
        self.state.queue.borrow().is_empty()
    }

    /// The next of the queue that has time left at `now`. The others were never sent, and by nobody's fault but that of our own bound.
    fn next_in_time(&self, now: Offset) -> Option<Due> {
        loop {
            let next = self.next_queued()?;
            if next.at + self.timeout_of(next.request) > now {
                return Some(next);
            }
            self.leave(next, End::ConnectionBound);
        }
    }

    fn next_queued(&self) -> Option<Due> {
        self.state.queue.borrow_mut().pop_front()
    }

    /// Ends a request that is not let in.
    pub(super) fn turn_away(&self, due: Due, end: End) {
        self.log.due(due.window);
        self.unsent(due, end);
    }

    /// Ends a request that was let in but not sent.
    fn leave(&self, due: Due, end: End) {
        self.unsent(due, end);
        self.left();
    }

    /// A request that was let in has ended.
    pub(super) fn left(&self) {
        self.state.in_flight.update(|n| n - 1);
        self.gauges.less_in_flight();
        if self.state.in_flight.get() == 0 {
            self.bells.idle_again.notify_one();
            if self.course.is_some() {
                // The worker paces what is due after an answer, too, and may leave when nothing is.
                self.bells.look.notify_one();
            }
        }
    }

    /// Ends a request that came due and was not sent, and with it the run that it is of.
    pub(super) fn unsent(&self, due: Due, end: End) {
        self.skip_after(due, if end == End::Stopped { Skip::Stopped } else { Skip::Before });
        self.log.ended(Ended {
            window: due.window,
            end,
            sent: None,
            response_us: micros(due.at, due.taken),
            identity: Identity::UNKNOWN,
            to: Identity::UNKNOWN,
            retry_after: false,
            waited: due.waited,
            hops: 0,
            bytes_in: 0,
            bytes_out: 0,
            messages: 0,
        });
    }
}
