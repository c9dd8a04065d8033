//! All that is done for one request by a client that tries more than once: attempts one after the other, and hedges beside each.
//!
//! ```text
//! try: attempt ────────────────────────▶ ok: the request is answered, and whatever else is out is given up
//!        └ after ▶ hedge ──────────────▶ bad: the others go on; when all of them are over, so is the try
//! over ─▶ retry? wait, still in flight, with the connection kept ─▶ try …   else the request ends as its last attempt did
//! ```
//!
//! A request's timeout is that of all its attempts together, so that nothing here lasts longer than a request that is sent once. When
//! the load is stopped nothing more is begun, and who waits ends at once, as the last attempt did.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::{Seat, Ticket, answered};
use crate::load::alarm::Alarm;
use crate::load::client::{Client, Failure, Hedge, Next};
use crate::load::lane::{Due, Lane};
use crate::load::log::{Attempt, Ended, Role, Times, micros};
use crate::protocol::{End, Identity, RetryAfter};
use crate::recording::Outcome;
use crate::time::Offset;

/// A request and what has been done for it. However its task ends, dropped in the middle included, the request ends exactly once.
pub(super) struct Effort<'l> {
    lane: &'l Lane,
    due: Due,
    book: RefCell<Book>,
}

/// What is known of the attempts so far.
#[derive(Default)]
struct Book {
    /// The last one that ended by itself.
    last: Option<(Ended, Option<RetryAfter>, Offset)>,
    /// When the last one was sent that was, and where to.
    sent: Option<(Offset, Identity)>,
    /// Of the first one that was sent: what comes later is the client's doing.
    lateness_us: Option<u32>,
    bytes_in: u32,
    bytes_out: u32,
    answered: bool,
    settled: bool,
}

impl Seat {
    /// Sees a request to its end that may take several attempts, and returns when that was, and how.
    pub(super) async fn persist(&mut self, due: Due, ready: Offset) -> (Offset, Outcome) {
        let lane = self.lane.clone();
        let client = lane.client.as_deref().expect("only where there is such a client");
        client.begins();
        let effort = Effort { lane: &lane, due, book: RefCell::default() };
        let deadline = due.at + lane.timeout_of(due.request);
        let mut waits = client.retries.as_ref().map(|retries| (retries, retries.waits(due.number, due.request)));
        let (mut role, mut ready) = (Role::First, ready);
        loop {
            let until = until(client, deadline, &lane);
            match &client.hedge {
                None => self.attempt(&effort, role, ready, until).await,
                Some(hedge) => self.hedged(client, hedge, &effort, (role, ready, until)).await,
            }
            let (Some((retries, waits)), Some(failure)) = (&mut waits, effort.failure()) else { break };
            if lane.is_closed() {
                break;
            }
            match retries.after(failure, waits, deadline, lane.clock) {
                Next::Over => break,
                Next::Withheld => {
                    lane.log.tried(due.window, Attempt::Withheld);
                    break;
                }
                Next::Retry(wait) => {
                    if wait > Duration::ZERO && self.alarm.race(failure.at + wait, pin!(lane.closed())).await.is_some() {
                        break;
                    }
                    (role, ready) = (Role::Retry, lane.clock.now());
                }
            }
        }
        effort.settle()
    }

    /// One attempt, over the connection at hand or a fresh one.
    async fn attempt(&mut self, effort: &Effort<'_>, role: Role, ready: Offset, until: Offset) {
        let Seat { lane, held, worn, alarm, values, ear, jar, .. } = self;
        // The connection that an attempt before this one wore out has been replaced, or will be.
        *worn = None;
        if lane.course.is_some() {
            lane.reader.prepare(effort.due.request, jar, values);
        }
        let (done, (ended, _)) = {
            let mut ticket = Ticket::new(lane, effort.due, ready);
            (ticket.until, ticket.effort) = (until, Some((effort, role)));
            let done = alarm.race(until, pin!(answered(lane, held, (values, ear, jar), &mut ticket))).await;
            (done, ticket.settle(done))
        };
        let good = self.is_kept(done);
        self.let_go(good, ended, effort.due.window);
    }

    /// An attempt, and others beside it for as long as none has been answered well.
    async fn hedged(
        &mut self,
        client: &Client,
        hedge: &Hedge,
        effort: &Effort<'_>,
        (role, ready, until_first): (Role, Offset, Offset),
    ) {
        let lane = effort.lane;
        let began = lane.clock.now();
        let mut patience = self.patience.take().unwrap_or_else(|| Alarm::new(&lane.alarms));
        let spares = self.lane.clone();
        let mut beside: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        let mut first_over = false;
        {
            let mut first = pin!(self.attempt(effort, role, ready, until_first));
            let mut hedges = 0;
            loop {
                let next = (hedges < hedge.max && !lane.is_closed()).then(|| began + hedge.after * (hedges + 1));
                let over = poll_fn(|cx| {
                    if !first_over {
                        first_over = first.as_mut().poll(cx).is_ready();
                    }
                    // Of two that are answered at once, one is the first.
                    beside.retain_mut(|other| effort.is_answered() || other.as_mut().poll(cx).is_pending());
                    if effort.is_answered() || first_over && beside.is_empty() { Poll::Ready(()) } else { Poll::Pending }
                });
                let Some(at) = next else {
                    over.await;
                    break;
                };
                if patience.race(at, pin!(over)).await.is_some() {
                    break;
                }
                hedges += 1;
                if lane.is_closed() {
                    continue;
                }
                match spares.spare() {
                    Some(seat) if !hedge.allows_one() => {
                        lane.log.tried(effort.due.window, Attempt::Withheld);
                        hedges = hedge.max;
                        spares.give_back(seat);
                    }
                    Some(seat) => {
                        let now = lane.clock.now();
                        beside.push(Box::pin(seat.hedge(
                            effort,
                            now,
                            until(client, effort.due.at + lane.timeout_of(effort.due.request), lane),
                        )));
                    }
                    // All connections that the plan allows are taken.
                    None => effort.no_room(),
                }
            }
        }
        if !beside.is_empty() {
            // Their seats go with them.
            drop(beside);
            spares.has_room();
        }
        if !first_over {
            let good = self.is_kept(None);
            self.let_go(good, lane.clock.now(), effort.due.window);
        }
        self.patience = Some(patience);
    }

    /// An attempt beside others, on a seat that is nobody's afterwards.
    async fn hedge(mut self, effort: &Effort<'_>, ready: Offset, until: Offset) {
        if !self.lane.supply.is_empty() {
            self.lane.supply.fill(effort.due.number, &mut self.values);
        }
        self.jar.clear();
        self.attempt(effort, Role::Hedge, ready, until).await;
        self.lane.clone().give_back(self);
    }
}

/// When an attempt is over that begins now.
fn until(client: &Client, deadline: Offset, lane: &Lane) -> Offset {
    client.attempt_timeout().map_or(deadline, |timeout| deadline.min(lane.clock.now() + timeout))
}

impl Effort<'_> {
    /// An attempt has ended, or was given up.
    pub(super) fn ended(&self, role: Role, ended: Ended, retry_after: Option<RetryAfter>, now: Offset) {
        let mut book = self.book.borrow_mut();
        let service_us = ended.sent.map(|times| times.service_us);
        book.bytes_in = book.bytes_in.saturating_add(ended.bytes_in);
        book.bytes_out = book.bytes_out.saturating_add(ended.bytes_out);
        if let Some(times) = ended.sent {
            book.lateness_us.get_or_insert(times.lateness_us);
            // Of those that are given up once one was answered, none is where the request went.
            if !book.answered {
                book.sent = Some((now - Duration::from_micros(u64::from(times.service_us)), ended.to));
            }
        }
        let log = &self.lane.log;
        if book.answered {
            return log.tried(self.due.window, Attempt::Ended { role, end: None, service_us });
        }
        log.tried(self.due.window, Attempt::Ended { role, end: Some(ended.end), service_us });
        book.answered = ended.end.outcome() == Outcome::Ok;
        if book.answered && role == Role::Hedge {
            log.tried(self.due.window, Attempt::HedgeWon);
        }
        // What kept an attempt back here is not how a request ended that had been sent before.
        let sent_before = book.last.is_some_and(|(last, ..)| last.sent.is_some());
        if !(sent_before && ended.end.outcome() == Outcome::Unsent) {
            book.last = Some((ended, retry_after, now));
        }
    }

    /// There is no connection for a hedge.
    fn no_room(&self) {
        let end = Some(End::ConnectionBound);
        self.lane.log.tried(self.due.window, Attempt::Ended { role: Role::Hedge, end, service_us: None });
    }

    fn is_answered(&self) -> bool {
        self.book.borrow().answered
    }

    /// How the last attempt ended, if badly.
    fn failure(&self) -> Option<Failure> {
        let book = self.book.borrow();
        let (ended, retry_after, at) = book.last.as_ref().filter(|_| !book.answered)?;
        Some(Failure { end: ended.end, retry_after: *retry_after, at: *at })
    }

    /// Writes down how the request ended, and returns when, and how.
    fn settle(self) -> (Offset, Outcome) {
        self.write()
    }

    fn write(&self) -> (Offset, Outcome) {
        let mut book = self.book.borrow_mut();
        book.settled = true;
        let Some((ended, _, at)) = book.last else {
            // It was dropped before anything was tried.
            let now = self.lane.clock.now();
            self.lane.unsent(Due { taken: now, ..self.due }, End::Stopped);
            return (now, Outcome::Unsent);
        };
        let (lateness_us, due_us) = (book.lateness_us, super::due_us(self.due));
        // What was sent once was sent, though a later attempt never was; how long the service took over that one is not known.
        let before =
            || book.sent.map(|(sent, _)| Times { service_us: micros(sent, at), lateness_us: 0, due_us, first_byte_us: None });
        let sent = ended.sent.or_else(before);
        self.lane.log.ended(Ended {
            sent: sent.map(|times| Times { lateness_us: lateness_us.unwrap_or(times.lateness_us), ..times }),
            to: book.sent.map_or(ended.to, |(_, to)| to),
            bytes_in: book.bytes_in,
            bytes_out: book.bytes_out,
            ..ended
        });
        (at, ended.end.outcome())
    }
}

impl Drop for Effort<'_> {
    fn drop(&mut self) {
        if !self.book.borrow().settled {
            self.write();
        }
    }
}
