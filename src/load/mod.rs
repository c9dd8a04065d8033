//! The driver: traffic and protocol -> requests. Open: the schedule says when request n is due; a worker sends it then, or records
//! how late it was. Sending never waits for a reply, and what a bound refuses is `unsent`, never forgotten: every request that came
//! due ends in exactly one outcome. Closed: users each send when the answer before has come, and when they have thought.
//!
//! ```text
//! schedule ─shard─▶ worker: pacer ─due─▶ lane: idle connection │ new connection │ queue ─▶ seat: exchange ─▶ Ended
//! crowd    ─shard─▶    "      "   ─due─▶ user: a connection of its own ───────────────────▶      "             │
//!                                         recording ◀─Tally, Interval, GeneratorSample─ tally thread ◀─batches─┘
//! ```
//!
//! A worker is a thread with a single-threaded runtime and shares nothing with its siblings, so the way of a request holds no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::sync::{oneshot, watch};

use crate::names::Name;
use crate::plan;
use crate::protocol::{Destination, Identities, Reader, Wire};
use crate::recording::Sink;
use crate::recording::fact::Counts;
use crate::schedule::Traffic;
use crate::varying::template;

mod alarm;
mod bells;
mod client;
mod course;
mod dial;
mod gauges;
mod host;
mod lane;
mod log;
mod mailbox;
mod pacer;
mod pauses;
mod pool;
mod seat;
mod spacing;
mod tally;
mod timer;
mod users;
mod worker;

use client::Client;
use gauges::Gauges;
use tally::{Line, Tallying};
use worker::{Share, Worker};

/// Planned requests per second and worker: below it, precise pacing costs less than half of a core.
const RATE_PER_WORKER: f64 = 10_000.0;

/// Users without a pause per worker: so many keep one busy against a service that answers within a millisecond.
const USERS_PER_WORKER: f64 = 64.0;

/// How long requests in flight may still take when the run is stopped.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Batches that may wait for the tally thread: half a million requests. When even that is full, workers hold on to theirs.
const BATCHES: usize = 1_024;

/// What is to be sent, and where.
pub struct Job {
    pub destination: Destination,
    /// The response header that tells who answered.
    pub identity_header: String,
    /// Each load with what makes its requests come, in the order of the plan.
    pub loads: Vec<(plan::Load, Traffic)>,
    pub generator: plan::Generator,
}

/// Load that is being sent. Dropping it stops the load, as [`Running::stop`] does.
pub struct Running {
    stop: watch::Sender<bool>,
    summary: oneshot::Receiver<Summary>,
}

/// What became of it all.
#[derive(Clone, Debug)]
pub struct Summary {
    pub loads: Vec<(Name, Counts)>,
    /// Causes over all loads, as in [`Tally`](crate::recording::fact::Tally).
    pub causes: BTreeMap<String, u64>,
    /// What the generator itself added to each request that was sent, in microseconds.
    pub lateness: Histogram<u64>,
    pub workers: usize,
    /// CPU time of all workers, from their first moment to their last.
    pub cpu: Duration,
    /// A worker panicked, and this is what it said: the numbers are incomplete.
    pub broken: Option<String>,
}

/// Starts sending at the sink's clock: workers are ready when this returns. Everything is recorded through `sink`; the load ends
/// by itself when every request has ended, at the latest one timeout after the last was due.
///
/// # Errors
/// When the destination has no address, a request cannot be written, or the machine refuses a thread or a timer.
pub fn start(job: Job, sink: Sink) -> Result<Running> {
    ensure!(!job.destination.addresses.is_empty(), "`{}` has no address yet: resolve it first", job.destination.host);
    host::raise_descriptor_limit();
    let workers = workers(job.generator, job.loads.iter().map(|(_, traffic)| traffic));
    let identities = Arc::new(Identities::default());
    let lines = job.loads.iter().map(|(load, traffic)| Line::new(load, traffic)).collect();
    let client = |(load, traffic): &(plan::Load, Traffic)| {
        load.client.as_ref().map(|planned| Arc::new(Client::of(planned, &load.name, traffic.seed())))
    };
    let clients: Vec<Option<Arc<Client>>> = job.loads.iter().map(client).collect();
    let (batches, tallied) = sync_channel(BATCHES);
    let (stop, stopped) = watch::channel(false);

    let mut threads = Vec::new();
    let mut gauges = Vec::new();
    for index in 0..workers {
        let mut lanes = Vec::new();
        for (load, (planned, traffic)) in job.loads.iter().enumerate() {
            let client = clients[load].clone();
            if let Some(share) = Share::of(load, planned, traffic, client, (index, workers)) {
                let (header, requests) = (&job.identity_header, requests(planned, traffic));
                let names = planned.varying.names();
                let wire = Wire::new(&job.destination, planned.protocol, &requests, &names, header, identities.clone())
                    .with_context(|| format!("load `{}`", planned.name))?;
                let reader =
                    Reader::new(&job.destination, &requests, &names).with_context(|| format!("load `{}`", planned.name))?;
                lanes.push((share, wire, reader));
            }
        }
        let gauge = Arc::new(Gauges::default());
        gauges.push(gauge.clone());
        let worker = Worker {
            index,
            clock: sink.clock(),
            addresses: job.destination.addresses.clone(),
            pacing: job.generator.pacing,
            lanes,
            batches: batches.clone(),
            gauges: gauge,
            stopped: stopped.clone(),
        };
        let (ready, is_ready) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(move || worker.run(ready))
            .with_context(|| format!("cannot start load worker {index}"))?;
        threads.push(thread);
        match is_ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error).with_context(|| format!("cannot prepare load worker {index}")),
            Err(_) => bail!("load worker {index} is gone before it began: this is a bug in squall, please report it"),
        }
    }
    drop(batches);

    let (done, summary) = oneshot::channel();
    let addresses = job.destination.addresses;
    let tallying = Tallying { sink, lines, identities, addresses, gauges, threads };
    std::thread::Builder::new()
        .name("load-tally".to_owned())
        .spawn(move || tallying.run(&tallied, done))
        .context("cannot start the load's tally")?;
    Ok(Running { stop, summary })
}

impl Running {
    /// Sends nothing more. What is due is accounted for, what is in flight gets half a second to end, and what is not yet due was
    /// never intended.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until every request has ended and everything about it is in the sink. Can be called again after it was given up.
    pub async fn finished(&mut self) -> Summary {
        (&mut self.summary).await.expect("the tally ends with a summary, and this is asked once")
    }
}

/// The requests that a load sends, in the order of [`Schedule::requests`](crate::schedule::Schedule::requests): its own, or what its
/// schedule says with its own headers and, where the method takes one, its body.
fn requests(planned: &plan::Load, traffic: &Traffic) -> Vec<plan::Request> {
    if !planned.flows.is_empty() {
        return planned.requests().cloned().collect();
    }
    let own = &planned.request;
    let schedule = match traffic {
        Traffic::Open(schedule) if !schedule.requests().is_empty() => schedule,
        _ => return vec![own.clone()],
    };
    let takes_body = |method: &str| matches!(method, "POST" | "PUT" | "PATCH");
    let requests = schedule.requests().iter().map(|call| plan::Request {
        method: call.method.clone(),
        // What was recorded is what it is.
        path: template::escaped(&call.path),
        body: if takes_body(&call.method) { own.body.clone() } else { Vec::new() },
        ..own.clone()
    });
    requests.collect()
}

/// How many threads send: as the planned peak needs, at most one for each core, unless told.
pub fn workers<'t>(generator: plan::Generator, traffic: impl Iterator<Item = &'t Traffic>) -> usize {
    if let Some(told) = generator.workers {
        return told.max(1) as usize;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let needed: f64 = traffic.map(need).sum();
    (needed.ceil() as usize).clamp(1, cores)
}

/// How many workers a load keeps busy.
fn need(traffic: &Traffic) -> f64 {
    match traffic {
        Traffic::Open(schedule) => schedule.peak_rate() / RATE_PER_WORKER,
        Traffic::Closed(crowd) => {
            let users = crowd.peak() as f64;
            (users / USERS_PER_WORKER).min(users / crowd.rhythm().mean().seconds() / RATE_PER_WORKER)
        }
    }
}
