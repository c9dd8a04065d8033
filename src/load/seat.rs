//! A place for one connection, and the way of a request over it. Whoever has the seat, a task of an open load that is handed request
//! after request or a user of a closed one, is told when each has ended.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use super::alarm::Alarm;
use super::dial::{Life, Over, dial};
use super::lane::{Due, Lane};
use super::log::{Ended, Times, Window, micros};
use super::pool::{self, Hold};
use crate::protocol::{Afterwards, Answer, End, Identity, Link, Progress, Protocol, What, Wire};
use crate::recording::Outcome;
use crate::time::{Offset, monotonic_now};
use crate::varying::Values;

/// How long replacing an old connection may take before the place is given up.
const REPLACING: Duration = Duration::from_secs(1);

/// A place among the connections of a lane, taken for as long as this lives, and the connection on it, if there is one.
pub(super) struct Seat {
    lane: Rc<Lane>,
    held: Option<Held>,
    /// In whose window a connection is to be opened in place of one that has grown old.
    worn: Option<Window>,
    alarm: Alarm,
    /// Of the request that is being sent.
    values: Values,
}

/// An open connection, or a place on one, with what is known of it.
struct Held {
    link: Link,
    life: Life,
    /// Requests that it has carried, where it is not shared.
    carried: u32,
    /// Where it is shared.
    shared: Option<Hold>,
}

impl Held {
    /// Somebody who shares the connection has seen that it has grown old.
    fn is_retired(&self) -> bool {
        self.shared.as_ref().is_some_and(Hold::is_retired)
    }

    /// It has carried a request more, which ended at `now`: whether it has had its day, and by what.
    fn has_carried(&mut self, now: Offset) -> Option<Over> {
        let carried = match &self.shared {
            Some(hold) => hold.counts_one(),
            None => {
                self.carried = self.carried.saturating_add(1);
                self.carried
            }
        };
        self.life.over(now, carried)
    }

    /// Its request has ended.
    fn rests(&self, wire: &Wire) {
        if let Some(hold) = &self.shared {
            hold.rests(wire);
        }
    }
}

impl Seat {
    pub(super) fn new(lane: &Rc<Lane>) -> Seat {
        lane.more_open();
        Seat {
            lane: lane.clone(),
            held: None,
            worn: None,
            alarm: Alarm::new(monotonic_now() + lane.timeout),
            values: Values::new(),
        }
    }

    /// Whether there is no connection on it.
    pub(super) fn is_bare(&self) -> bool {
        self.held.is_none()
    }

    /// Sees a request to its end, and returns when that was. `ready` is since when this seat could have sent it: what it waited before
    /// that was not for want of speed.
    pub(super) async fn serve(&mut self, due: Due, ready: Offset) -> Offset {
        let Seat { lane, held, worn, alarm, values } = self;
        *worn = None;
        if !lane.supply.is_empty() {
            lane.supply.fill(due.number, values);
        }
        let mut ticket = Ticket::new(lane, due, ready);
        let deadline = lane.clock.instant(due.at + lane.timeout);
        let done = alarm.race(deadline, exchange(lane, held, values, &mut ticket)).await;
        let ready = ticket.settle(done);
        if let Some(held) = held {
            held.rests(&lane.wire);
        }
        lane.bells.awake(ready);
        let good = match done {
            Some(Ok(answer)) => answer.connection == Afterwards::Keep,
            _ => held.as_ref().is_some_and(|held| lane.wire.outlives(&held.link)),
        };
        if !good {
            *held = None;
        } else if let Some(over) = held.as_mut().and_then(|held| held.has_carried(ready)) {
            held.take().and_then(|held| held.shared).inspect(|hold| hold.retire(&lane.wire));
            *worn = (over == Over::Old).then_some(due.window);
        }
        ready
    }

    /// Replaces a connection that was seen to be old at `now`, on nobody's account, rather than with the next request waiting for it; returns
    /// when that was done. For whom another request will come, and none waits.
    pub(super) async fn renew(&mut self, now: Offset) -> Offset {
        let Seat { lane, held, worn, alarm, .. } = self;
        let Some(window) = worn.take() else { return now };
        let deadline = lane.clock.instant(now + REPLACING);
        *held = alarm.race(deadline, connect(lane, window, &mut false)).await.and_then(Result::ok);
        if let Some(held) = held {
            held.rests(&lane.wire);
        }
        lane.clock.now()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lane.less_open();
    }
}

/// Sends the request of `ticket` over the connection at hand or a fresh one, and reads the answer.
///
/// A connection kept alive can be closed by its peer at any moment. Found closed before the send, it is replaced; found
/// closed after it, the request has failed. Many HTTP clients would quietly send it once more (RFC 9110, section 9.2.2
/// allows it), but then a pod that is killed with requests in its hands would seem to have cost nothing.
async fn exchange(lane: &Rc<Lane>, held: &mut Option<Held>, values: &Values, ticket: &mut Ticket<'_>) -> Result<Answer, End> {
    match exchange_once(lane, held, values, ticket).await {
        // It waited for its turn on a connection whose peer takes no more: this, too, is found before the send.
        Err(End::GoneAway(_)) if held.is_some() && ticket.progress.bytes_out == 0 => {
            *held = None;
            exchange_once(lane, held, values, ticket).await
        }
        done => done,
    }
}

async fn exchange_once(lane: &Rc<Lane>, held: &mut Option<Held>, values: &Values, ticket: &mut Ticket<'_>) -> Result<Answer, End> {
    let deadline = lane.clock.instant(ticket.due.at + lane.timeout);
    let what = What { request: ticket.due.request, values, deadline };
    if let Some(kept) = held {
        if lane.wire.stands(&mut kept.link) && !kept.is_retired() {
            if let Some(hold) = &kept.shared {
                hold.works();
            }
            ticket.to = kept.life.to;
            return lane.wire.exchange(&mut kept.link, what, &mut ticket.progress).await;
        }
        *held = None;
    }
    let fresh = held.insert(connect(lane, ticket.due.window, &mut ticket.crowded).await?);
    ticket.ready = lane.clock.now();
    ticket.to = fresh.life.to;
    lane.wire.exchange(&mut fresh.link, what, &mut ticket.progress).await
}

async fn connect(lane: &Rc<Lane>, window: Window, crowded: &mut bool) -> Result<Held, End> {
    if let Some(pool) = lane.pool() {
        let (hold, link, life) = pool::take(pool, lane, window, crowded).await?;
        return Ok(Held { link, life, carried: 0, shared: Some(hold) });
    }
    let (link, life) = dial(lane, window).await?;
    Ok(Held { link, life, carried: 0, shared: None })
}

/// A request on its way. However its task ends, dropped in the middle included, the request ends exactly once.
struct Ticket<'a> {
    lane: &'a Lane,
    due: Due,
    /// When there was a connection for it: waiting for one is not the generator's lateness.
    ready: Offset,
    /// It waits for room on one of the connections that the plan allows.
    crowded: bool,
    /// The address of the connection that it was given.
    to: Identity,
    progress: Progress,
    settled: bool,
}

impl Ticket<'_> {
    fn new(lane: &Lane, due: Due, ready: Offset) -> Ticket<'_> {
        Ticket { lane, due, ready, crowded: false, to: Identity::UNKNOWN, progress: Progress::default(), settled: false }
    }

    /// Writes down how it ended, and returns when.
    fn settle(mut self, done: Option<Result<Answer, End>>) -> Offset {
        let (end, answer) = match done {
            Some(Ok(answer)) => (answer.end, Some(answer)),
            Some(Err(end)) => (end, None),
            None => (out_of_time(&self.progress, self.crowded), None),
        };
        self.write(end, answer)
    }

    fn write(&mut self, end: End, answer: Option<Answer>) -> Offset {
        self.settled = true;
        let clock = self.lane.clock;
        // Of a whole answer whose last byte's moment is known, that is the end.
        let now = clock.offset(self.progress.last.filter(|_| answer.is_some()).unwrap_or_else(monotonic_now));
        let sent = self.progress.sent.filter(|_| self.progress.bytes_out > 0).map(|sent| {
            let sent = clock.offset(sent);
            // Sent minus due, less the time in which there was no connection to send on, or none that took it.
            let ready = self.progress.held.map_or(self.ready, |held| clock.offset(held).max(self.ready));
            let blocked = ready.since(self.due.taken);
            let due_us = (self.due.at.nanos().rem_euclid(1_000_000_000) / 1_000) as u32;
            let first_byte = match self.progress.first {
                Some(first) => Some(clock.offset(first)),
                // It takes at least so long.
                None => (end.outcome() == Outcome::TimedOut).then_some(now),
            };
            Times {
                service_us: micros(sent, now),
                lateness_us: micros(self.due.at, sent - blocked),
                due_us,
                first_byte_us: first_byte.and_then(|first| NonZeroU32::new(micros(sent, first))),
            }
        });
        self.lane.log.ended(Ended {
            window: self.due.window,
            end,
            sent,
            response_us: micros(self.due.at, now),
            identity: answer.map_or(Identity::UNKNOWN, |answer| answer.identity),
            to: self.to,
            retry_after: answer.is_some_and(|answer| answer.retry_after),
            waited: self.due.waited,
            bytes_in: fitted(self.progress.bytes_in),
            bytes_out: fitted(self.progress.bytes_out),
            messages: self.progress.messages,
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

/// What becomes of a request whose time is up.
fn out_of_time(progress: &Progress, crowded: bool) -> End {
    match progress {
        // Nobody's fault but that of our own bound.
        _ if crowded => End::ConnectionBound,
        Progress { bytes_out: 0, .. } => End::NoConnectionInTime,
        Progress { bytes_in: 0, .. } => End::NoAnswerInTime,
        _ => End::AnswerUnfinishedInTime,
    }
}

/// Bytes of one request: bodies are bounded far below what fits.
fn fitted(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_time_is_up_is_told_what_it_waited_for() {
        let progress = |bytes_out, bytes_in| Progress { bytes_out, bytes_in, ..Progress::default() };
        assert_eq!(out_of_time(&progress(0, 0), true), End::ConnectionBound, "our own bound is not the service's fault");
        assert_eq!(out_of_time(&progress(0, 0), false), End::NoConnectionInTime);
        assert_eq!(out_of_time(&progress(1, 0), false), End::NoAnswerInTime);
        assert_eq!(out_of_time(&progress(1, 1), false), End::AnswerUnfinishedInTime);
    }
}
