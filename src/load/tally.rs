//! The tally: a thread that adds the workers' entries up into one [`Tally`] and a few histograms per second, phase and load, and
//! writes them to the recording about twice a second, with a [`Fact::Bound`] for each bound that was hit (requests refused because too
//! many were in flight; requests that had to wait for a connection). It also watches the generator itself, once a second. Memory is bounded by the
//! windows that are touched between two writes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Summary;
use super::course::Skip;
use super::gauges::Gauges;
use super::host::Steal;
use super::log::{Attempt, Batch, Ended, Opened, Role, Tried, Window, whole_micros};
use super::spacing::Spacings;
use crate::names::Name;
use crate::plan;
use crate::protocol::{Addresses, End, Identities, Identity, Steps};
use crate::recording::Sink;
use crate::recording::attempts::Attempts;
use crate::recording::fact::{Counts, Fact, Gap, GeneratorSample, Outcome, Part, Tally};
use crate::recording::sink::{Measure, Measured, Series};
use crate::recording::timings::{self, Timings};
use crate::schedule::Traffic;
use crate::time::{Offset, monotonic_now};

/// How often the recording is written.
const WRITE: Duration = Duration::from_millis(500);

/// What the tally needs to know of a load.
pub(super) struct Line {
    name: Name,
    phases: Vec<Name>,
    /// What is counted apart: one at least, which may be all of it.
    parts: Vec<Part>,
    /// Of each part, whether its requests come on the schedule: steps after a first one come after answers.
    on_schedule: Vec<bool>,
    /// Requests refused since too many were in flight.
    refused: Bound,
    /// Requests that had to wait for a connection.
    waited: Bound,
    /// Where there is a schedule that requests should be spaced as.
    spacing: Option<Spacings>,
    end: Offset,
}

/// A bound of ours, and what it has cost that nobody has been told yet.
struct Bound {
    limit: u64,
    cost: u64,
    told: bool,
}

impl Bound {
    fn at(limit: u32) -> Bound {
        Bound { limit: u64::from(limit), cost: 0, told: false }
    }

    /// That it was hit is told at once, what it cost from then on at the end: a run that lives on its bound is no news every second.
    fn is_news(&self) -> bool {
        !self.told
    }
}

impl Line {
    pub(super) fn new(load: &plan::Load, traffic: &Traffic) -> Line {
        Line {
            name: load.name.clone(),
            phases: traffic.phases().to_vec(),
            parts: load.parts(),
            on_schedule: load.parts_on_schedule(),
            refused: Bound::at(load.in_flight),
            waited: Bound::at(load.connections),
            spacing: matches!(traffic, Traffic::Open(_)).then(Spacings::default),
            end: traffic.end(),
        }
    }

    fn say_bounds(&mut self, sink: &Sink, when: impl Fn(&Bound) -> bool) {
        for (what, bound) in [("requests in flight", &mut self.refused), ("connections", &mut self.waited)] {
            if bound.cost > 0 && when(bound) {
                let lost = std::mem::take(&mut bound.cost);
                bound.told = true;
                sink.emit(Fact::Bound { what: format!("{what} of load {}", self.name), limit: bound.limit, lost });
            }
        }
    }
}

/// What the thread owns.
pub(super) struct Tallying {
    pub(super) sink: Sink,
    pub(super) lines: Vec<Line>,
    pub(super) identities: Arc<Identities>,
    pub(super) addresses: Addresses,
    pub(super) gauges: Vec<Arc<Gauges>>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// What came for a window since it was last written.
#[derive(Default)]
struct Sums {
    counts: Counts,
    ends: Few<End, u64>,
    /// Requests that had to wait for a connection.
    waited: u64,
    served_by: BTreeMap<Identity, u64>,
    /// As many as a name may stand for, which are more than a handful.
    sent_to: BTreeMap<Identity, u64>,
    opened: u64,
    unopened: u64,
    retry_after: u64,
    redirects: u64,
    skipped: Few<Skip, u64>,
    messages: u64,
    timings: Few<(Outcome, Measure), Timings>,
    /// Where the client tries more than once, and why attempts ended.
    attempts: Option<Box<Attempts>>,
    attempt_ends: Few<End, u64>,
    /// Of answers whose first byte was their last, which most are: both measures at once, until they are written.
    in_a_piece: Few<Outcome, Timings>,
}

impl Tallying {
    /// Adds up until every worker is done. A name that is there to be found, as [`Worker::run`](super::worker::Worker::run) is.
    #[inline(never)]
    pub(super) fn run(mut self, batches: &Receiver<Batch>, done: oneshot::Sender<Summary>) {
        let mut summary = Summary {
            loads: self.lines.iter().map(|line| (line.name.clone(), Counts::default())).collect(),
            causes: BTreeMap::new(),
            lateness: timings::histogram(),
            workers: self.threads.len(),
            cpu: Duration::ZERO,
            broken: None,
        };
        let mut windows: BTreeMap<Window, Sums> = BTreeMap::new();
        let mut watch = Watch { steal: Steal::new(), second: self.sink.clock().now().second() };
        let mut write_at = monotonic_now() + WRITE;
        loop {
            match batches.recv_timeout(until(write_at)) {
                Ok(batch) => fold(&mut windows, &mut self.lines, batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if until(write_at).is_zero() {
                self.write(&mut windows, &mut summary);
                write_at = monotonic_now() + WRITE;
            }
            watch.look(&self.sink, &self.gauges);
        }
        self.lines.iter_mut().filter_map(|line| line.spacing.as_mut()).for_each(Spacings::close);
        self.write(&mut windows, &mut summary);
        let sink = &self.sink;
        self.lines.iter_mut().for_each(|line| line.say_bounds(sink, |_| true));
        summary.broken = self.join();
        summary.cpu = self.gauges.iter().map(|gauge| gauge.spent()).sum();
        // Nobody may be waiting for it.
        let _ = done.send(summary);
    }

    fn write(&mut self, windows: &mut BTreeMap<Window, Sums>, summary: &mut Summary) {
        for (window, mut sums) in std::mem::take(windows) {
            let timings = sums.apart();
            if let Some(attempts) = &mut sums.attempts {
                attempts.causes = causes(&sums.attempt_ends);
            }
            let line = &mut self.lines[window.load as usize];
            let phase = &line.phases[window.phase as usize];
            let part = &line.parts[window.part as usize];
            let causes = causes(&sums.ends);
            line.refused.cost += *sums.ends.of(End::InFlightBound);
            line.waited.cost += sums.waited;
            let mut served_by: BTreeMap<String, u64> = BTreeMap::new();
            for (identity, count) in &sums.served_by {
                if let Some(name) = self.identities.name(*identity) {
                    *served_by.entry(name).or_default() += count;
                }
            }
            let mut sent_to: BTreeMap<String, u64> = BTreeMap::new();
            for (address, count) in &sums.sent_to {
                if let Some(name) = self.addresses.name(*address) {
                    *sent_to.entry(name).or_default() += count;
                }
            }
            summary.loads[window.load as usize].1.add(&sums.counts);
            causes.iter().for_each(|(cause, count)| *summary.causes.entry(cause.clone()).or_default() += count);
            self.sink.emit(Fact::Tally(Box::new(Tally {
                load: line.name.clone(),
                phase: phase.clone(),
                part: part.clone(),
                second: i64::from(window.second),
                counts: sums.counts,
                causes,
                served_by,
                sent_to,
                opened: sums.opened,
                unopened: sums.unopened,
                attempts: sums.attempts,
                retry_after: sums.retry_after,
                redirects: sums.redirects,
                skipped: sums.skipped.0.iter().map(|(why, count)| (why.words().to_owned(), *count)).collect(),
                messages: sums.messages,
            })));
            for ((outcome, measure), timings) in timings.0 {
                if measure == Measure::Lateness {
                    timings.fill(&mut summary.lateness);
                }
                let series = Series { load: line.name.clone(), phase: phase.clone(), part: part.clone(), outcome, measure };
                self.sink.record(Measured { series, second: i64::from(window.second), timings });
            }
        }
        let sink = &self.sink;
        for line in &mut self.lines {
            line.say_bounds(sink, Bound::is_news);
            let spaced = line.spacing.as_mut().into_iter().flat_map(|spacing| spacing.take(&line.name));
            spaced.for_each(|spacing| sink.emit(Fact::Spacing(Box::new(spacing))));
        }
    }

    /// Waits for the threads, which have nothing left to do; a panic among them is a gap in what the load can say.
    fn join(&mut self) -> Option<String> {
        let panics = self.threads.drain(..).filter_map(|thread| thread.join().err());
        let said = panics
            .map(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
            })
            .reduce(|all, one| format!("{all}; {one}"))?;
        let end = self.lines.iter().map(|line| line.end).max().unwrap_or(Offset::ZERO);
        let reason = format!("a load worker panicked: {said}; this is a bug in squall, please report it");
        self.sink.emit(Fact::Gap(Gap { source: "load".to_owned(), from: Offset::ZERO, to: end, reason: reason.clone() }));
        Some(reason)
    }
}

/// Why what ended so did not end `ok`.
fn causes(ends: &Few<End, u64>) -> BTreeMap<String, u64> {
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for (end, count) in &ends.0 {
        if let Some(cause) = end.cause() {
            *causes.entry(cause.into_owned()).or_default() += count;
        }
    }
    causes
}

fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(monotonic_now())
}

fn fold(windows: &mut BTreeMap<Window, Sums>, lines: &mut [Line], batch: Batch) {
    let Batch { intended, mut ended, opened, skipped, tried, back } = batch;
    for (window, count) in intended {
        windows.entry(window).or_default().counts.intended += count;
    }
    // Nearly all neighbours are of one window.
    for neighbours in ended.chunk_by(|one, next| one.window == next.window) {
        let window = neighbours[0].window;
        let sums = windows.entry(window).or_default();
        neighbours.chunk_by(Ended::is_like).for_each(|alike| sums.add(alike));
        let line = &mut lines[window.load as usize];
        if let Some(spacing) = line.spacing.as_mut().filter(|_| line.on_schedule[window.part as usize]) {
            for times in neighbours.iter().filter_map(|ended| ended.sent) {
                spacing.add(i64::from(window.second), times.due_us, times.lateness_us);
            }
        }
    }
    opened.iter().for_each(|opened| windows.entry(opened.window).or_default().open(opened));
    skipped.iter().for_each(|(window, why)| *windows.entry(*window).or_default().skipped.of(*why) += 1);
    tried.iter().for_each(|tried| windows.entry(tried.window).or_default().attempt(tried));
    ended.clear();
    // Where there are spares enough, or nobody to fill them, this one goes.
    let _ = back.try_send(ended);
}

impl Sums {
    /// Adds requests that ended alike: what they share is looked up once for all of them.
    fn add(&mut self, alike: &[Ended]) {
        let Some(&Ended { end, identity, to, .. }) = alike.first() else { return };
        let outcome = end.outcome();
        let count = alike.len() as u64;
        let sum = |of: fn(&Ended) -> u64| alike.iter().map(of).sum::<u64>();
        *match outcome {
            Outcome::Ok => &mut self.counts.ok,
            Outcome::Rejected => &mut self.counts.rejected,
            Outcome::Failed => &mut self.counts.failed,
            Outcome::TimedOut => &mut self.counts.timed_out,
            Outcome::Unsent => &mut self.counts.unsent,
        } += count;
        self.counts.bytes_in += sum(|ended| u64::from(ended.bytes_in));
        self.counts.bytes_out += sum(|ended| u64::from(ended.bytes_out));
        *self.ends.of(end) += count;
        self.waited += sum(|ended| u64::from(ended.waited));
        self.redirects += sum(|ended| u64::from(ended.hops));
        self.messages += sum(|ended| u64::from(ended.messages));
        if outcome == Outcome::Rejected {
            self.retry_after += sum(|ended| u64::from(ended.retry_after));
        }
        if identity != Identity::UNKNOWN {
            *self.served_by.entry(identity).or_default() += count;
        }
        // What was not sent by our own doing has no latency: there is nothing that it could be a latency of.
        if outcome != Outcome::Unsent {
            let responses = self.timings.of((outcome, Measure::Response));
            alike.iter().for_each(|ended| responses.record(ended.response_us));
        }
        let sent = sum(|ended| u64::from(ended.sent.is_some()));
        if sent == 0 {
            return;
        }
        self.counts.sent += sent;
        if to != Identity::UNKNOWN {
            *self.sent_to.entry(to).or_default() += sent;
        }
        let Sums { timings, in_a_piece, .. } = self;
        let times = || alike.iter().filter_map(|ended| ended.sent);
        let lateness = timings.of((Outcome::Ok, Measure::Lateness));
        times().for_each(|times| lateness.record(times.lateness_us));
        for times in times() {
            match times.first_byte_us.map(NonZeroU32::get) {
                Some(first_byte) if first_byte == times.service_us => in_a_piece.of(outcome).record(first_byte),
                first_byte => {
                    timings.of((outcome, Measure::Service)).record(times.service_us);
                    if let Some(first_byte) = first_byte {
                        timings.of((outcome, Measure::FirstByte)).record(first_byte);
                    }
                }
            }
        }
    }

    /// Counts what was tried for a request.
    fn attempt(&mut self, tried: &Tried) {
        let attempts = self.attempts.get_or_insert_default();
        match tried.what {
            Attempt::Withheld => attempts.withheld += 1,
            Attempt::HedgeWon => attempts.hedges_won += 1,
            Attempt::Ended { role, end, service_us } => {
                attempts.retries += u64::from(role == Role::Retry);
                attempts.hedges += u64::from(role == Role::Hedge);
                attempts.sent += u64::from(service_us.is_some());
                attempts.count(end.map(End::outcome));
                // How long one would have taken that was given up is not known.
                if let Some(end) = end {
                    *self.attempt_ends.of(end) += 1;
                    service_us.into_iter().for_each(|us| self.record(end.outcome(), Measure::Attempt, us));
                }
            }
        }
    }

    /// Counts a connection. What its steps took is known of those that went well.
    fn open(&mut self, opened: &Opened) {
        *if opened.open { &mut self.opened } else { &mut self.unopened } += 1;
        let Steps { connect, tunnel, tls, upgrade } = opened.steps;
        let steps = [(Measure::Connect, connect), (Measure::Tunnel, tunnel), (Measure::Tls, tls), (Measure::Upgrade, upgrade)];
        for (measure, took) in steps {
            if let Some(took) = took {
                self.record(Outcome::Ok, measure, whole_micros(took.as_nanos() as u64));
            }
        }
    }

    fn record(&mut self, outcome: Outcome, measure: Measure, micros: u32) {
        self.timings.of((outcome, measure)).record(micros);
    }

    /// What came of each measure apart.
    fn apart(&mut self) -> Few<(Outcome, Measure), Timings> {
        for (outcome, both) in std::mem::take(&mut self.in_a_piece).0 {
            for measure in [Measure::Service, Measure::FirstByte] {
                self.timings.of((outcome, measure)).add(&both);
            }
        }
        std::mem::take(&mut self.timings)
    }
}

/// A handful of values by key, in the order in which the keys came: for so few, looking at each is faster than a tree.
#[derive(Debug)]
struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<K: Copy + PartialEq, V: Default> Few<K, V> {
    fn of(&mut self, key: K) -> &mut V {
        let index = self.0.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.0.push((key, V::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }
}

/// The generator watching itself.
struct Watch {
    steal: Steal,
    /// The second that is going on.
    second: i64,
}

impl Watch {
    fn look(&mut self, sink: &Sink, gauges: &[Arc<Gauges>]) {
        let now = sink.clock().now().second();
        if now <= self.second {
            return;
        }
        let steal = self.steal.share();
        let second = std::mem::replace(&mut self.second, now);
        if second < 0 {
            return;
        }
        let workers: Vec<f64> = gauges.iter().map(|gauge| gauge.cpu()).collect();
        sink.emit(Fact::Generator(GeneratorSample {
            second,
            cpu: workers.iter().copied().fold(0.0, f64::max),
            workers,
            steal,
            in_flight: gauges.iter().map(|gauge| gauge.in_flight()).sum(),
            connections: gauges.iter().map(|gauge| gauge.connections()).sum(),
            starved: gauges.iter().filter_map(|gauge| gauge.starved()).reduce(f64::max),
            window_us: gauges.iter().map(|gauge| gauge.window()).max().unwrap_or_default().as_micros() as u64,
        }));
    }
}
