//! A place for one connection, and the way of a request over it. Whoever has the seat, a task of an open load that is handed request
//! after request or a user of a closed one, is told when each has ended.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::alarm::Alarm;
use super::course::Skip;
use super::dial::{Life, Over, dial};
use super::lane::{Due, Lane};
use super::log::{Ended, Role, Times, Window, micros};
use super::mailbox::Mailbox;
use super::pool::{self, Hold};
use crate::answers::Jar;
use crate::protocol::{Afterwards, Answer, Awaited, Ear, End, Identity, Link, Next, Progress, Protocol, Reading, What, Wire};
use crate::recording::Outcome;
use crate::time::{Moment, Offset};
use crate::varying::Values;

mod effort;

use effort::Effort;

/// How long replacing an old connection may take before the place is given up.
const REPLACING: Duration = Duration::from_secs(1);

/// A place among the connections of a lane, taken for as long as this lives, and the connection on it, if there is one.
pub(super) struct Seat {
    lane: Rc<Lane>,
    held: Option<Held>,
    /// What has happened to a request that is still to be seen to its end.
    begun: Progress,
    /// In whose window a connection is to be opened in place of one that has grown old.
    worn: Option<Window>,
    alarm: Alarm,
    /// Of the request that is being sent.
    values: Values,
    /// What is heard of its answer, where somebody listens.
    ear: Ear,
    /// The cookies of the run that is under way.
    jar: Jar,
    /// Where it waits for the next step of a run.
    mailbox: Option<Rc<Mailbox>>,
    /// When another attempt is sent beside one, where clients do that.
    patience: Option<Alarm>,
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
    /// Whether it may carry a request at `now`, as far as this side can tell.
    fn is_good(&mut self, wire: &Wire, now: Offset) -> bool {
        if let Some(hold) = self.shared.as_ref().filter(|_| self.life.is_old(now)) {
            hold.retire(wire);
        }
        let retired = self.shared.as_ref().is_some_and(Hold::is_retired);
        !retired && !self.life.is_old(now) && wire.stands(&mut self.link)
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
            begun: Progress::default(),
            worn: None,
            alarm: Alarm::new(&lane.alarms),
            values: Values::new(),
            ear: Ear::default(),
            jar: Jar::default(),
            mailbox: None,
            patience: None,
        }
    }

    /// Hands it on to another task.
    pub(super) fn moves(&mut self) {
        self.alarm.moves();
    }

    /// Whether a connection on it is to be replaced.
    pub(super) fn is_worn(&self) -> bool {
        self.worn.is_some()
    }

    /// Whether there is no connection on it.
    pub(super) fn is_bare(&self) -> bool {
        self.held.is_none()
    }

    /// Sees a request, or the run of a flow, to its end, and returns when that was. `ready` is since when this seat could have sent it:
    /// what it waited before that was not for want of speed.
    pub(super) async fn serve(&mut self, due: Due, ready: Offset) -> Offset {
        if self.is_plain(due, ready)
            && let Some(ended) = self.plain(due, ready).await
        {
            return ended;
        }
        let lane = Rc::clone(&self.lane);
        let mut run = Run { lane: &lane, due, skips: Some(Skip::Stopped), _inside: Inside(&lane) };
        if !lane.supply.is_empty() {
            lane.supply.fill(due.number, &mut self.values);
        }
        self.jar.clear();
        let mut ready = ready;
        loop {
            let (done, outcome) = self.request(run.due, ready).await;
            if lane.course.is_none() {
                return done;
            }
            match self.next_step(&mut run, done, outcome).await {
                Ok(taken) => ready = taken,
                Err(ended) => return ended,
            }
        }
    }

    /// Waits for the step after one that ended so at `done`. Returns when it was taken or, where the run has none, when that was clear.
    async fn next_step(&mut self, run: &mut Run<'_>, done: Offset, outcome: Outcome) -> Result<Offset, Offset> {
        let Some(course) = &run.lane.course else { return Err(done) };
        let step = run.due.request + 1;
        if step >= course.end_of(run.due.request) {
            return Err(done);
        }
        if outcome != Outcome::Ok {
            run.skips = Some(Skip::Before);
            return Err(done);
        }
        let pause = course.pause(run.due.number, step);
        // An answer that is come to only when nothing is paced any more is followed by nothing.
        if course.phase_at((done + pause).max(run.lane.clock.now())).is_none() {
            run.skips = Some(course.silence_at(done + pause));
            return Err(done);
        }
        let ready = self.renew(done).await;
        let at = ready.max(done + pause);
        let Some(mut due) = run.lane.step(run.due, step, at) else {
            run.skips = Some(course.silence_at(at));
            return Err(ready);
        };
        if due.at > ready {
            let mailbox = self.mailbox.get_or_insert_default();
            run.lane.bells.look.notify_one();
            due = run.lane.pauses().until(due, mailbox).await.ok_or_else(|| run.lane.clock.now())?;
        } else if run.lane.pauses().are_closed() {
            return Err(ready);
        }
        run.lane.comes_due(due);
        run.due = due;
        if due.at + run.lane.timeout_of(step) <= due.taken {
            run.skips = None;
            run.lane.unsent(due, End::GeneratorLate);
            return Err(due.taken);
        }
        Ok(due.taken)
    }

    /// Sees a request to its end, and returns when that was, and how.
    async fn request(&mut self, due: Due, ready: Offset) -> (Offset, Outcome) {
        let Seat { lane, held, worn, alarm, values, ear, jar, begun, .. } = self;
        *worn = None;
        if lane.course.is_some() {
            lane.reader.prepare(due.request, jar, values);
        }
        if lane.client.is_some() {
            // In a box: of whoever sends once, no task is to be as large as that.
            let done = Box::pin(self.persist(due, ready)).await;
            return done;
        }
        let (done, (ended, outcome)) = {
            let mut ticket = Ticket::new(lane, due, ready);
            ticket.progress = std::mem::take(begun);
            let done = alarm.race(ticket.until, pin!(answered(lane, held, (values, ear, jar), &mut ticket))).await;
            (done, ticket.settle(done))
        };
        let good = self.is_kept(done);
        self.let_go(good, ended, due.window);
        (ended, outcome)
    }

    /// Whether a request is of the usual kind: the same each time, sent once, whose answer nobody looks into, over a connection of its
    /// own that is there.
    fn is_plain(&mut self, due: Due, ready: Offset) -> bool {
        let Seat { lane, held, .. } = self;
        lane.sends_plainly(due.request)
            && held.as_mut().is_some_and(|kept| kept.shared.is_none() && kept.is_good(&lane.wire, due.taken.max(ready)))
    }

    /// Sees such a request to its end, and returns when that was: all that [`Seat::serve`] does, without what only others need. `None`
    /// where its answer is not as simple as that after all: the request has [begun](Seat::begun) then, and goes on.
    async fn plain(&mut self, due: Due, ready: Offset) -> Option<Offset> {
        let Seat { lane, held, worn, alarm, begun, .. } = self;
        let Some(Held { link, life, .. }) = held else { unreachable!("it is there") };
        *worn = None;
        let (ended, good) = {
            let inside = Inside(lane);
            let mut ticket = Ticket::new(lane, due, ready);
            ticket.to = life.to;
            // All is written down where it is known, and little is handed on: answers that are moved about cost more than they say.
            let done = poll_fn(|cx| match lane.wire.poll_plain(cx, link, due.request, &mut ticket.progress) {
                Poll::Ready(Some(Ok(answer))) => {
                    Poll::Ready(Some((ticket.write(answer.end, Some(&answer)), answer.connection == Afterwards::Keep)))
                }
                Poll::Ready(Some(Err(end))) => Poll::Ready(Some((ticket.write(end, None), lane.wire.outlives(link)))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => alarm
                    .poll_rings(cx, ticket.until)
                    .map(|()| Some((ticket.write(ticket.out_of_time(), None), lane.wire.outlives(link)))),
            });
            match done.await {
                Some(done) => done,
                None => {
                    *begun = ticket.goes_on();
                    std::mem::forget(inside);
                    return None;
                }
            }
        };
        self.let_go(good, ended, due.window);
        Some(ended)
    }

    /// Whether the connection is as good as before after an exchange that ended so, or was given up.
    fn is_kept(&self, done: Option<Result<(Answer, End), End>>) -> bool {
        match done {
            Some(Ok((answer, _))) => answer.connection == Afterwards::Keep,
            _ => self.held.as_ref().is_some_and(|held| self.lane.wire.outlives(&held.link)),
        }
    }

    /// Keeps the connection for the next request where it is `good`, or closes it, after an exchange over it that ended at `now`.
    fn let_go(&mut self, good: bool, now: Offset, window: Window) {
        let Seat { lane, held, worn, .. } = self;
        *worn = (carried(&lane.wire, held, good, now) == Some(Over::Old)).then_some(window);
    }

    /// Replaces a connection that was seen to be old at `now`, on nobody's account, rather than with the next request waiting for it; returns
    /// when that was done. For whom another request will come, and none waits.
    pub(super) async fn renew(&mut self, now: Offset) -> Offset {
        let Seat { lane, held, worn, alarm, values, .. } = self;
        let Some(window) = worn.take() else { return now };
        *held =
            alarm.race(now + REPLACING, Box::pin(connect(lane, window, values, &mut false)).as_mut()).await.and_then(Result::ok);
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

/// What was let in: a request, or the run of a flow, at one of its steps. However its task ends, it ends once, and the steps that it has
/// no more are counted.
struct Run<'l> {
    lane: &'l Lane,
    /// The step that is under way, or was last.
    due: Due,
    /// Why those after it are skipped, where they have not been counted yet.
    skips: Option<Skip>,
    _inside: Inside<'l>,
}

/// What was let in has not left for as long as this lives.
struct Inside<'l>(&'l Lane);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.left();
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.skips {
            self.lane.skip_after(self.due, why);
        }
    }
}

/// The connection has carried what it was given by `now`, and is kept if it is `good` and has not had its day, of which it is told by what.
fn carried(wire: &Wire, held: &mut Option<Held>, good: bool, now: Offset) -> Option<Over> {
    let connection = held.as_mut()?;
    connection.rests(wire);
    let over = if good { connection.has_carried(now) } else { None };
    if let Some(hold) = connection.shared.as_ref().filter(|_| over.is_some()) {
        hold.retire(wire);
    }
    if !good || over.is_some() {
        *held = None;
    }
    over
}

/// Sees the request of `ticket` to an answer that leads nowhere else, and says what that comes to.
async fn answered(
    lane: &Rc<Lane>,
    held: &mut Option<Held>,
    (values, ear, jar): (&mut Values, &Ear, &mut Jar),
    ticket: &mut Ticket<'_>,
) -> Result<(Answer, End), End> {
    let (mut request, deadline) = (ticket.due.request, lane.clock.instant(ticket.until));
    loop {
        let what = What { request, values, ear: Some(ear), deadline };
        let answer = exchange(lane, held, what, ticket).await?;
        if lane.reader.listens(request) {
            // What looking into it takes is not the service's doing.
            ticket.progress.last.get_or_insert_with(Moment::now);
        }
        // What says more than a status, or less, has nothing in it that is looked for.
        let End::Answered(status) = answer.end else { return Ok((answer, answer.end)) };
        let now = || lane.clock.wall(lane.clock.now()).into();
        let reading = Reading { ear, values, jar, hops: ticket.hops, now: &now };
        match lane.reader.read(request, status, reading) {
            Next::Ends(end) => return Ok((answer, end)),
            Next::Leads(next) => {
                ticket.hops();
                request = next;
                carried(&lane.wire, held, answer.connection == Afterwards::Keep, lane.clock.now());
            }
        }
    }
}

/// Sends a request of `ticket` over the connection at hand or a fresh one, and reads the answer.
///
/// A connection kept alive can be closed by its peer at any moment, and grow old while it rests. Found so before the send, it is replaced;
/// found closed after it, the request has failed. Many HTTP clients would quietly send it once more (RFC 9110, section 9.2.2
/// allows it), but then a pod that is killed with requests in its hands would seem to have cost nothing.
async fn exchange(lane: &Rc<Lane>, held: &mut Option<Held>, what: What<'_>, ticket: &mut Ticket<'_>) -> Result<Answer, End> {
    let mut again = false;
    loop {
        if held.as_mut().is_some_and(|kept| kept.is_good(&lane.wire, ticket.due.taken.max(ticket.ready))) {
            if let Some(hold) = held.as_ref().and_then(|kept| kept.shared.as_ref()) {
                hold.works();
            }
        } else {
            // In a box: it happens once in the life of a connection, and would make every request's state several times as large.
            Box::pin(connected(lane, held, what.values, ticket)).await?;
        }
        let Some(Held { link, life, .. }) = held else { unreachable!("it is connected") };
        ticket.to = life.to;
        match lane.wire.exchange(link, what, &mut ticket.progress).await {
            // It waited for its turn on a connection whose peer takes no more: this, too, is found before the send.
            Err(End::GoneAway(_)) if !again && ticket.progress.bytes_out == 0 => (again, *held) = (true, None),
            done => return done,
        }
    }
}

/// Puts a fresh connection in the place of the one at hand.
async fn connected(lane: &Rc<Lane>, held: &mut Option<Held>, values: &Values, ticket: &mut Ticket<'_>) -> Result<(), End> {
    *held = None;
    *held = Some(connect(lane, ticket.due.window, values, &mut ticket.crowded).await?);
    if ticket.hops == 0 {
        ticket.ready = lane.clock.now();
    }
    Ok(())
}

async fn connect(lane: &Rc<Lane>, window: Window, values: &Values, crowded: &mut bool) -> Result<Held, End> {
    if let Some(pool) = lane.pool() {
        let (hold, link, life) = pool::take(pool, lane, window, crowded).await?;
        return Ok(Held { link, life, carried: 0, shared: Some(hold) });
    }
    let (link, life) = dial(lane, window, values).await?;
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
    /// What happened to it before it was led to where it is now, where it was.
    before: Option<Box<Progress>>,
    /// How many redirects were followed.
    hops: u32,
    /// When it is given up.
    until: Offset,
    /// Of which it is one attempt, where its client tries more than once.
    effort: Option<(&'a Effort<'a>, Role)>,
    settled: bool,
}

impl<'a> Ticket<'a> {
    fn new(lane: &'a Lane, due: Due, ready: Offset) -> Ticket<'a> {
        Ticket {
            lane,
            due,
            ready,
            crowded: false,
            to: Identity::UNKNOWN,
            progress: Progress::default(),
            before: None,
            hops: 0,
            until: due.at + lane.timeout_of(due.request),
            effort: None,
            settled: false,
        }
    }

    /// Its request goes on with another ticket, after all that this one has seen.
    fn goes_on(mut self) -> Progress {
        self.settled = true;
        self.progress
    }

    /// A redirect is followed: what happens next happens to the same request.
    fn hops(&mut self) {
        self.before = Some(Box::new(self.whole()));
        self.progress = Progress::default();
        self.hops += 1;
    }

    /// What has happened to it in all: it was sent with its first byte, and is answered by the last answer.
    fn whole(&self) -> Progress {
        let Some(before) = &self.before else { return self.progress };
        let Progress { sent, held, bytes_out, bytes_in, .. } = **before;
        let (bytes_out, bytes_in) = (bytes_out + self.progress.bytes_out, bytes_in + self.progress.bytes_in);
        Progress { sent, held, bytes_out, bytes_in, ..self.progress }
    }

    /// Writes down how it ended, and returns when, and what it counts as.
    fn settle(&mut self, done: Option<Result<(Answer, End), End>>) -> (Offset, Outcome) {
        let (end, answer) = match done {
            Some(Ok((answer, end))) => (end, Some(answer)),
            Some(Err(end)) => (end, None),
            None => (self.out_of_time(), None),
        };
        (self.write(end, answer.as_ref()), end.outcome())
    }

    /// How it ends when its time is up.
    fn out_of_time(&self) -> End {
        // Who stood in the queue for most of that is not late for want of a connection that opens.
        let queued = self.due.waited && self.ready.since(self.due.at) > self.until.since(self.ready);
        out_of_time(&self.whole(), self.crowded || queued)
    }

    fn write(&mut self, end: End, answer: Option<&Answer>) -> Offset {
        self.settled = true;
        let led;
        let progress = match self.before {
            None => &self.progress,
            Some(_) => {
                led = self.whole();
                &led
            }
        };
        let clock = &self.lane.clock;
        // Of a whole answer whose last byte's moment is known, that is the end.
        let now = clock.at(progress.last.filter(|_| answer.is_some()).unwrap_or_else(Moment::now));
        let sent = progress.sent.filter(|_| progress.is_out()).map(|sent| {
            let sent = clock.at(sent);
            // Sent minus due, less the time in which there was no connection to send on, or none that took it.
            let ready = progress.held.map_or(self.ready, |held| clock.at(held).max(self.ready));
            let blocked = ready.since(self.due.taken);
            let first_byte = match progress.first {
                // Of an answer that came in one piece, it came with the last.
                Some(first) if answer.is_some() && progress.last == Some(first) => Some(now),
                Some(first) => Some(clock.at(first)),
                // It takes at least so long.
                None => (end.outcome() == Outcome::TimedOut).then_some(now),
            };
            Times {
                service_us: micros(sent, now),
                lateness_us: micros(self.due.at, sent - blocked),
                due_us: due_us(self.due),
                first_byte_us: first_byte.and_then(|first| NonZeroU32::new(micros(sent, first))),
            }
        });
        let ended = Ended {
            window: self.due.window,
            end,
            sent,
            response_us: micros(self.due.at, now),
            identity: answer.map_or(Identity::UNKNOWN, |answer| answer.identity),
            to: self.to,
            retry_after: answer.is_some_and(|answer| answer.retry_after.is_some()),
            waited: self.due.waited,
            hops: self.hops as u8,
            bytes_in: fitted(progress.bytes_in),
            bytes_out: fitted(progress.bytes_out),
            messages: progress.messages,
        };
        match self.effort {
            None => self.lane.log.ended(ended),
            Some((effort, role)) => effort.ended(role, ended, answer.and_then(|answer| answer.retry_after), now),
        }
        now
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let end = match () {
                () if std::thread::panicking() => End::Bug,
                () if self.whole().is_out() => End::StoppedInFlight,
                () => End::Stopped,
            };
            self.write(end, None);
        }
    }
}

/// Microseconds from the start of its second to when it was due.
fn due_us(due: Due) -> u32 {
    (due.at.nanos().rem_euclid(1_000_000_000) / 1_000) as u32
}

/// What becomes of a request whose time is up.
fn out_of_time(progress: &Progress, crowded: bool) -> End {
    match progress {
        Progress { awaited: Some(Awaited::Nothing), .. } => End::NoAnswerInTime,
        Progress { awaited: Some(Awaited::Others), .. } => End::NoneAsExpectedInTime,
        Progress { awaited: Some(Awaited::Part), .. } => End::AnswerUnfinishedInTime,
        // Nobody's fault but that of our own bound.
        Progress { bytes_out: 0, .. } if crowded => End::ConnectionBound,
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
