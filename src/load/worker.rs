//! A load worker: a thread with a runtime of its own that walks its share of every schedule and of every crowd of users, hands requests
//! to their lanes when they are due, and sees to it that all of them have ended before it does.

use std::iter::Peekable;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};

use super::STOP_GRACE;
use super::alarm::{Alarm, Alarms};
use super::bells::Bells;
use super::client::Client;
use super::course::Course;
use super::gauges::Gauges;
use super::host::waited_for_a_core;
use super::lane::{Lane, State};
use super::log::{Batch, Log};
use super::pacer::{Pacer, Window};
use super::users::Users;
use crate::plan::{self, Pacing, Rotation};
use crate::protocol::{Addresses, Reader, Wire};
use crate::schedule::{Arrival, Traffic};
use crate::time::{Clock, Offset, monotonic_now, thread_cpu};
use crate::varying::Supply;

/// How often entries go to the tally thread.
const HAND_OVER: Duration = Duration::from_millis(250);
/// How many requests are handed out before connections get a turn: after a stall many are due at once.
const BURST: usize = 64;
/// What is due within so little is waited for awake in any case: falling asleep and waking up costs more.
const BRIEF: Duration = Duration::from_micros(10);
/// How long a worker sleeps that waits for nothing but a bell.
const IDLE: Duration = Duration::from_secs(60);
/// How long after the last possible timeout a request that still has not ended is a bug, and cut.
const OVERDUE: Duration = Duration::from_secs(5);

/// What one worker is to do.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) clock: Clock,
    pub(super) addresses: Addresses,
    pub(super) pacing: Pacing,
    pub(super) lanes: Vec<(Share, Wire, Reader)>,
    pub(super) batches: SyncSender<Batch>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// One worker's share of a load.
pub(super) struct Share {
    load: usize,
    traffic: Traffic,
    timeout: Duration,
    connections: usize,
    streams: usize,
    in_flight: usize,
    rotation: Rotation,
    supply: Supply,
    course: Option<Course>,
    client: Option<Arc<Client>>,
}

impl Share {
    /// The share of worker `index` of `workers`; none when the load's bounds are too small to be shared by so many.
    pub(super) fn of(
        load: usize,
        planned: &plan::Load,
        traffic: &Traffic,
        client: Option<Arc<Client>>,
        (index, workers): (usize, usize),
    ) -> Option<Share> {
        let (connections, in_flight) = (planned.connections.max(1) as usize, planned.in_flight.max(1) as usize);
        let streams = planned.streams.max(1) as usize;
        let workers = workers.min(connections).min(in_flight);
        // Users keep what carries them: where they share connections, each worker needs a stream for each of its own.
        let abreast = planned.client.as_ref().map_or(1, plan::Client::abreast) as usize;
        let carries = |workers: usize| connections / workers * streams >= in_flight.div_ceil(workers) * abreast;
        let workers = match traffic {
            Traffic::Closed(_) if streams > 1 => (1..=workers).rev().find(|n| carries(*n)).unwrap_or(1),
            _ => workers,
        };
        let part = |whole: usize| whole / workers + usize::from(index < whole % workers);
        let (shard, shards) = (index as u64, workers as u64);
        (index < workers).then(|| Share {
            load,
            traffic: match traffic {
                Traffic::Open(schedule) => Traffic::Open(schedule.shard(shard, shards)),
                Traffic::Closed(crowd) => Traffic::Closed(crowd.shard(shard, shards)),
            },
            timeout: planned.requests().map(|request| request.timeout.duration()).max().unwrap_or_default(),
            // Users need as many as their clients have attempts on their way at once.
            connections: match traffic {
                Traffic::Closed(_) if streams == 1 => part(in_flight) * abreast,
                _ => part(connections),
            },
            streams,
            in_flight: part(in_flight),
            rotation: planned.rotation,
            supply: planned.varying.supply(&planned.name, traffic.seed()),
            course: Course::of(planned, traffic),
            client,
        })
    }
}

/// A lane, and what makes requests come on it.
enum Feed {
    Open { lane: Rc<Lane>, arrivals: Peekable<Box<dyn Iterator<Item = Arrival>>> },
    Closed(Users),
}

impl Feed {
    fn lane(&self) -> &Rc<Lane> {
        match self {
            Feed::Open { lane, .. } => lane,
            Feed::Closed(users) => users.lane(),
        }
    }

    /// When it is next to be seen to, as far as that is known.
    fn next(&mut self) -> Option<Offset> {
        let comes = match self {
            Feed::Open { arrivals, .. } => arrivals.peek().map(|arrival| arrival.due),
            Feed::Closed(users) => users.next(),
        };
        comes.into_iter().chain(self.lane().pauses().next()).min()
    }

    /// Sees to what is due by `now`, one request of it.
    fn serve_one(&mut self, now: Offset) {
        if self.lane().pauses().wake_one(now) {
            return;
        }
        match self {
            Feed::Open { lane, arrivals } => {
                if let Some(arrival) = arrivals.next_if(|arrival| arrival.due <= now) {
                    lane.take(&arrival, now);
                }
            }
            Feed::Closed(users) => users.serve_one(now),
        }
    }

    /// Whether nothing more will come of it.
    fn is_over(&mut self, now: Offset) -> bool {
        match self {
            // What runs of flows have before them comes due after their answers, until the load is over.
            Feed::Open { arrivals, .. } => arrivals.peek().is_none() && self.goes_on_until(now).is_none(),
            Feed::Closed(users) => users.are_gone(),
        }
    }

    /// Until when answers may yet make something come due at times that the schedule does not tell.
    fn goes_on_until(&self, now: Offset) -> Option<Offset> {
        let lane = self.lane();
        let end = lane.course.as_ref()?.end();
        (lane.in_flight() > 0 && now < end).then_some(end)
    }

    /// Begins nothing more. What is due is counted as refused; what is not yet due was never intended.
    fn close(&mut self, now: Offset) {
        match self {
            Feed::Open { lane, arrivals } => {
                while let Some(arrival) = arrivals.next_if(|arrival| arrival.due <= now) {
                    lane.refuse(&arrival);
                }
            }
            Feed::Closed(users) => users.close(now),
        }
        self.lane().pauses().close();
        self.lane().refuse_queued();
    }
}

impl Worker {
    /// Works until every request has ended. Says on `ready` whether it could begin. A name that is there to be found: `ci/instructions`
    /// counts what goes on in it.
    #[inline(never)]
    pub(super) fn run(self, ready: SyncSender<Result<()>>) {
        let prepared = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .context("cannot start a runtime")
            .and_then(|runtime| {
                let _inside = runtime.enter();
                let timers = Pacer::new().and_then(|pacer| Ok((pacer, Alarms::new(self.clock)?)));
                Ok((runtime, timers.context("cannot make a timer")?))
            });
        // Nobody listens only when the start was given up.
        match prepared {
            Ok((runtime, (pacer, alarms))) => {
                let _ = ready.send(Ok(()));
                let gauges = self.gauges.clone();
                runtime.block_on(self.work(pacer, alarms));
                gauges.set_spent(thread_cpu());
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    }

    async fn work(mut self, pacer: Pacer, alarms: Rc<Alarms>) {
        let log = Rc::new(Log::new(self.batches.clone()));
        let bells = Rc::new(Bells::default());
        let mut feeds: Vec<Feed> = std::mem::take(&mut self.lanes)
            .into_iter()
            .map(|(share, wire, reader)| self.feed(share, (wire, reader), (&log, &bells, &alarms)))
            .collect();
        let clerk = tokio::task::spawn_local(hand_over(log.clone(), self.gauges.clone(), self.clock, Alarm::new(&alarms)));
        let ringer = tokio::task::spawn_local(alarms.ring());

        let stopped = self.pace(&pacer, &mut feeds, &bells).await;
        if stopped {
            let now = self.clock.now();
            feeds.iter_mut().for_each(|feed| feed.close(now));
            // Whoever was handed a request just before gets a turn to account for it: the runtime looks around every 61 turns.
            let tasks: usize = feeds.iter().map(|feed| feed.lane().tasks()).sum();
            for _ in 0..=tasks / 32 {
                tokio::task::yield_now().await;
            }
        }
        self.drain(&feeds, &bells.idle_again, stopped).await;

        clerk.abort();
        for feed in &feeds {
            feed.lane().refuse_queued();
            feed.lane().cut().await;
        }
        ringer.abort();
        if let Err(error) = ringer.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        log.close();
        if let Some(panic) = feeds.iter().find_map(|feed| feed.lane().panic()) {
            std::panic::resume_unwind(panic);
        }
    }

    fn feed(
        &self,
        share: Share,
        (wire, reader): (Wire, Reader),
        (log, bells, alarms): (&Rc<Log>, &Rc<Bells>, &Rc<Alarms>),
    ) -> Feed {
        let lane = Rc::new(Lane {
            load: share.load,
            wire,
            reader,
            supply: share.supply,
            course: share.course,
            clock: self.clock,
            timeout: share.timeout,
            addresses: self.addresses.clone(),
            first_address: self.index,
            connection_limit: share.connections,
            streams: share.streams,
            in_flight_limit: share.in_flight,
            rotation: share.rotation,
            client: share.client,
            log: log.clone(),
            gauges: self.gauges.clone(),
            bells: bells.clone(),
            alarms: alarms.clone(),
            state: State::default(),
        });
        match share.traffic {
            Traffic::Open(schedule) => {
                let arrivals: Box<dyn Iterator<Item = Arrival>> = Box::new(schedule.arrivals());
                Feed::Open { lane, arrivals: arrivals.peekable() }
            }
            Traffic::Closed(crowd) => Feed::Closed(Users::new(lane, crowd)),
        }
    }

    /// Sees to requests when they are due until no more will come or the run is stopped; whether it was stopped.
    async fn pace(&mut self, pacer: &Pacer, feeds: &mut [Feed], bells: &Bells) -> bool {
        let mut stop = self.stopped.clone();
        let window = Window::new(self.pacing);
        self.gauges.set_window(window.width());
        let mut woken_for = None;
        loop {
            let mut now = self.clock.now();
            let mut seen_to = 0;
            let next = loop {
                let Some((due, feed)) = earliest(feeds) else { break None };
                if due > now {
                    now = self.clock.now();
                    if due > now {
                        break Some(due);
                    }
                }
                feed.serve_one(now);
                seen_to += 1;
                if seen_to % BURST == 0 {
                    if is_over(&stop) {
                        return true;
                    }
                    tokio::task::yield_now().await;
                    now = self.clock.now();
                }
            };
            if next.is_none() && feeds.iter_mut().all(|feed| feed.is_over(now)) {
                return false;
            }
            if window.adapt(self.clock.instant(now)) {
                self.gauges.set_window(window.width());
            }
            let idle = feeds.iter().filter_map(|feed| feed.goes_on_until(now)).map(|end| end.since(now)).min().unwrap_or(IDLE);
            let (wait, width) = (next.map_or(idle, |due| due.since(now)), next.map_or(Duration::ZERO, |_| window.width()));
            let lead = if next.is_some() { pacer.lead().min(window.lead()) } else { Duration::ZERO };
            // Awake already: the timer rang early for it, or it is not worth falling asleep.
            if !lead.is_zero() && wait <= if woken_for == next { lead } else { lead.min(BRIEF) } {
                if is_over(&stop) {
                    return true;
                }
                // Whatever comes meanwhile is seen to.
                tokio::task::yield_now().await;
                continue;
            }
            // For what is due sooner than that no timer can be early.
            let early = if wait > lead { lead } else { Duration::ZERO };
            let sleep = wait + width - early;
            tokio::select! {
                biased;
                () = pacer.wait(sleep) => {
                    woken_for = next;
                    let woken = self.clock.now();
                    // It may have been an earlier timer's ring that was heard late, and a lead that was cut short says nothing.
                    if let Some(due) = next && width.is_zero() && early == pacer.lead() && woken >= now + sleep {
                        pacer.woke(woken < due);
                    }
                }
                () = bells.look.notified() => {}
                // An error means that whoever could stop the run has dropped it, which stops it.
                _ = stop.wait_for(|stop| *stop) => return true,
            }
        }
    }

    /// Waits until nothing is in flight; when stopped, only for the grace.
    async fn drain(&self, feeds: &[Feed], idle_again: &Notify, stopped: bool) {
        let longest = feeds.iter().map(|feed| feed.lane().timeout).max().unwrap_or_default();
        let patience = if stopped { STOP_GRACE } else { longest + OVERDUE };
        let end = monotonic_now() + patience;
        let mut stop = self.stopped.clone();
        let mut stopping = stopped;
        let mut end = tokio::time::Instant::from_std(end);
        while feeds.iter().any(|feed| feed.lane().in_flight() > 0) {
            tokio::select! {
                () = idle_again.notified() => {}
                () = tokio::time::sleep_until(end) => return,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    feeds.iter().for_each(|feed| feed.lane().refuse_queued());
                    end = end.min(tokio::time::Instant::from_std(monotonic_now() + STOP_GRACE));
                }
            }
        }
    }
}

/// Whether the run is stopped, or nobody is left who could do that, which stops it as well.
fn is_over(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// The feed that is next to be seen to, and when.
fn earliest(feeds: &mut [Feed]) -> Option<(Offset, &mut Feed)> {
    feeds.iter_mut().filter_map(|feed| Some((feed.next()?, feed))).min_by_key(|(due, _)| *due)
}

/// Hands over entries again and again, and looks about once a second at the processor time of this thread, and at what it waited for.
async fn hand_over(log: Rc<Log>, gauges: Arc<Gauges>, clock: Clock, mut alarm: Alarm) {
    let look = || (monotonic_now(), thread_cpu(), waited_for_a_core());
    let mut last = look();
    loop {
        alarm.rings(clock.now() + HAND_OVER).await;
        log.hand_over();
        let elapsed = monotonic_now().duration_since(last.0);
        if elapsed >= 3 * HAND_OVER {
            let (now, spent, waited) = look();
            let share = |time: Duration| time.as_secs_f64() / elapsed.as_secs_f64();
            gauges.set_cpu(share(spent.saturating_sub(last.1)));
            gauges.set_starved(waited.zip(last.2).map(|(waited, before)| share(waited.saturating_sub(before))));
            last = (now, spent, waited);
        }
    }
}
