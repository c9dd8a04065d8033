//! A load worker: a thread with a runtime of its own that walks its share of every schedule, hands requests to their lanes when they
//! are due, and sees to it that all of them have ended before it does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};

use super::STOP_GRACE;
use super::gauges::Gauges;
use super::lane::{Lane, State};
use super::log::{Batch, Log};
use super::pacer::Pacer;
use crate::plan;
use crate::protocol::Wire;
use crate::schedule::{Arrival, Schedule};
use crate::time::{Clock, Offset, monotonic_now, thread_cpu};

/// How often entries go to the tally thread.
const HAND_OVER: Duration = Duration::from_millis(250);
/// How many requests are handed out before connections get a turn: after a stall many are due at once.
const BURST: usize = 64;
/// How long after the last possible timeout a request that still has not ended is a bug, and cut.
const OVERDUE: Duration = Duration::from_secs(5);

/// What one worker is to do.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) connection_age: Option<Duration>,
    pub(super) lanes: Vec<(Share, Wire)>,
    pub(super) batches: SyncSender<Batch>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// One worker's share of a load.
pub(super) struct Share {
    load: usize,
    schedule: Schedule,
    timeout: Duration,
    connections: usize,
    in_flight: usize,
}

impl Share {
    /// The share of worker `index` of `workers`; none when the load's bounds are too small to be shared by so many.
    pub(super) fn of(load: usize, planned: &plan::Load, schedule: &Schedule, index: usize, workers: usize) -> Option<Share> {
        let (connections, in_flight) = (planned.connections.max(1) as usize, planned.in_flight.max(1) as usize);
        let workers = workers.min(connections).min(in_flight);
        let part = |whole: usize| whole / workers + usize::from(index < whole % workers);
        (index < workers).then(|| Share {
            load,
            schedule: schedule.shard(index as u64, workers as u64),
            timeout: planned.request.timeout.duration(),
            connections: part(connections),
            in_flight: part(in_flight),
        })
    }
}

/// A lane and what is next for it.
struct Feed {
    lane: Rc<Lane>,
    arrivals: Box<dyn Iterator<Item = Arrival>>,
    next: Option<Arrival>,
}

impl Worker {
    /// Works until every request has ended. Says on `ready` whether it could begin.
    pub(super) fn run(self, ready: SyncSender<Result<()>>) {
        let prepared = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .context("cannot start a runtime")
            .and_then(|runtime| {
                let _inside = runtime.enter();
                let pacer = Pacer::new().context("cannot make a timer")?;
                Ok((runtime, pacer))
            });
        // Nobody listens only when the start was given up.
        match prepared {
            Ok((runtime, pacer)) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(self.work(pacer));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    }

    async fn work(mut self, pacer: Pacer) {
        let log = Rc::new(Log::new(self.batches.clone()));
        let idle_again = Rc::new(Notify::new());
        let mut feeds: Vec<Feed> =
            std::mem::take(&mut self.lanes).into_iter().map(|(share, wire)| self.feed(share, wire, &log, &idle_again)).collect();
        let clerk = tokio::task::spawn_local(hand_over(log.clone(), self.gauges.clone()));

        let stopped = self.pace(&pacer, &mut feeds).await;
        if stopped {
            let now = self.clock.now();
            for feed in &mut feeds {
                while let Some(arrival) = feed.next.filter(|arrival| arrival.due <= now) {
                    feed.lane.refuse(&arrival);
                    feed.next = feed.arrivals.next();
                }
                feed.lane.refuse_queued();
            }
        }
        self.drain(&feeds, &idle_again, stopped).await;

        clerk.abort();
        for feed in &feeds {
            feed.lane.refuse_queued();
            feed.lane.cut().await;
        }
        log.close();
    }

    fn feed(&self, share: Share, wire: Wire, log: &Rc<Log>, idle_again: &Rc<Notify>) -> Feed {
        // Workers start at different addresses, so that few connections are spread too.
        let mut addresses = self.addresses.clone();
        let turn = self.index % addresses.len();
        addresses.rotate_left(turn);
        let mut arrivals: Box<dyn Iterator<Item = Arrival>> = Box::new(share.schedule.arrivals());
        let lane = Rc::new(Lane {
            load: share.load as u32,
            wire,
            clock: self.clock,
            timeout: share.timeout,
            addresses,
            connection_limit: share.connections,
            in_flight_limit: share.in_flight,
            connection_age: self.connection_age,
            log: log.clone(),
            gauges: self.gauges.clone(),
            idle_again: idle_again.clone(),
            state: State::default(),
        });
        let next = arrivals.next();
        Feed { lane, arrivals, next }
    }

    /// Hands out requests when they are due until there are no more or the run is stopped; whether it was stopped.
    async fn pace(&mut self, pacer: &Pacer, feeds: &mut [Feed]) -> bool {
        let mut stop = self.stopped.clone();
        loop {
            let mut now = self.clock.now();
            let mut handed_out = 0;
            let wait = loop {
                let Some(feed) = earliest(feeds) else { return false };
                let arrival = feed.next.expect("the earliest feed has a next one");
                if arrival.due > now {
                    now = self.clock.now();
                    if arrival.due > now {
                        break arrival.due.since(now);
                    }
                }
                feed.lane.take(&arrival, now);
                feed.next = feed.arrivals.next();
                handed_out += 1;
                if handed_out % BURST == 0 {
                    if *stop.borrow() {
                        return true;
                    }
                    tokio::task::yield_now().await;
                    now = self.clock.now();
                }
            };
            tokio::select! {
                biased;
                waited = pacer.wait(wait) => waited.expect("the kernel keeps a timer that it gave"),
                // An error means that whoever could stop the run has dropped it, which stops it.
                _ = stop.wait_for(|stop| *stop) => return true,
            }
        }
    }

    /// Waits until nothing is in flight; when stopped, only for the grace.
    async fn drain(&self, feeds: &[Feed], idle_again: &Notify, stopped: bool) {
        let longest = feeds.iter().map(|feed| feed.lane.timeout).max().unwrap_or_default();
        let patience = if stopped { STOP_GRACE } else { longest + OVERDUE };
        let end = monotonic_now() + patience;
        let mut stop = self.stopped.clone();
        let mut stopping = stopped;
        let mut end = tokio::time::Instant::from_std(end);
        while feeds.iter().any(|feed| feed.lane.in_flight() > 0) {
            tokio::select! {
                () = idle_again.notified() => {}
                () = tokio::time::sleep_until(end) => return,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    feeds.iter().for_each(|feed| feed.lane.refuse_queued());
                    end = end.min(tokio::time::Instant::from_std(monotonic_now() + STOP_GRACE));
                }
            }
        }
    }
}

fn earliest(feeds: &mut [Feed]) -> Option<&mut Feed> {
    let due = |feed: &Feed| feed.next.map(|arrival| arrival.due);
    feeds.iter_mut().filter(|feed| feed.next.is_some()).min_by_key(|feed| due(feed).unwrap_or(Offset::ZERO))
}

/// Hands over entries again and again, and looks at the processor time of this thread about once a second.
async fn hand_over(log: Rc<Log>, gauges: Arc<Gauges>) {
    let mut looked = (monotonic_now(), thread_cpu());
    loop {
        tokio::time::sleep(HAND_OVER).await;
        log.hand_over();
        let now = monotonic_now();
        let elapsed = now.duration_since(looked.0);
        if elapsed >= 3 * HAND_OVER {
            let spent = thread_cpu();
            gauges.set_cpu(spent.saturating_sub(looked.1).as_secs_f64() / elapsed.as_secs_f64());
            looked = (now, spent);
        }
    }
}
