//! What became of the requests: one row per load and phase, one per load over all phases, and the same over all loads.
//!
//! Latencies are in milliseconds. `latency` counts from the *intended* start, `service` from the actual send, `first_byte` from there to
//! the first byte of the answer. All are taken over the requests whose duration says something about the service: those that ended `ok` and those that `timed_out` (which took at
//! least their timeout). What was rejected or failed is counted beside them and never makes a percentile look better.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::names::Name;
use crate::recording::fact::{Fact, Lookup};
use crate::recording::history::Selection;
use crate::recording::sink::Measure;
use crate::recording::{History, Outcome};
use crate::report::AttemptsRow;
use crate::time::Offset;
use crate::verdict::statistics;

/// Stands in the place of a name where a row sums over all of them; no name of a plan starts so.
pub const ALL: &str = "_all";

/// Whose durations are in the percentiles.
pub const TIMED: &[Outcome] = &[Outcome::Ok, Outcome::TimedOut];

/// One load in one phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadRow {
    /// The load, or [`ALL`].
    pub name: String,
    /// The phase, or [`ALL`].
    pub phase: String,
    /// The class, where the row is of one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The step of a flow, where the row is of one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Requests that were due.
    pub intended: u64,
    pub sent: u64,
    pub ok: u64,
    pub rejected: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub unsent: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Seconds that the row covers: of a phase that a run did not finish, those that it ran.
    pub duration_s: f64,
    pub latency_ms: Quantiles,
    /// The two-sided 95% interval of the latency's p99. A finding has the one-sided bounds on which it is decided.
    pub p99_ci_low_ms: Option<f64>,
    pub p99_ci_high_ms: Option<f64>,
    /// How many independent requests the sample behind the p99 is worth: slow ones cluster.
    pub n_eff: Option<f64>,
    pub service_ms: Quantiles,
    /// From the actual send to the first byte of the answer.
    pub first_byte_ms: Quantiles,
    /// Actual send minus intended start: what the generator added.
    pub lateness_ms: Quantiles,
    /// Sends that came more than ten milliseconds after they were due.
    pub late_sends: u64,
    /// Why requests did not end `ok`.
    pub causes: BTreeMap<String, u64>,
    /// Redirects that were followed: more answers than requests.
    pub redirects: u64,
    /// Steps of flows that did not come due, since their run had ended before them, by why. They are no requests: no other number has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
    /// Answers by who gave them, where answers say so.
    pub served_by: BTreeMap<String, u64>,
    /// Requests that were sent, by the address that they went to.
    pub sent_to: BTreeMap<String, u64>,
    /// Messages that came back, where answers are made of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub messages: u64,
    /// What was tried for these requests, where their client tries more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<AttemptsRow>,
    /// Fresh connections, and what opening them took.
    pub connections: Connections,
    /// The most users at once, of a closed load: they wait for answers, and percentiles do not show what others would have met
    /// meanwhile. Absent for load on a schedule, and in sums over loads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// Of the plan, for tables; absent in sums over loads.
    #[serde(skip)]
    pub method: Option<String>,
    #[serde(skip)]
    pub path: Option<String>,
}

/// The connections that were opened for the requests of a row, or after them in place of those that had had their day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Connections {
    pub opened: u64,
    /// Those that could not be opened, or were given up before that.
    pub unopened: u64,
    /// How often the target's name was looked up meanwhile, for all loads together, and how often without an answer.
    pub lookups: u64,
    pub lookups_failed: u64,
    /// How long that took.
    pub dns_ms: Quantiles,
    /// Until TCP was open.
    pub connect_ms: Quantiles,
    /// From there until a proxy had opened the way.
    pub tunnel_ms: Quantiles,
    /// From there until TLS was agreed on.
    pub tls_ms: Quantiles,
    /// From there until a handshake had made a WebSocket of it.
    pub upgrade_ms: Quantiles,
}

/// A distribution in milliseconds; all but `n` absent where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub n: u64,
    pub min: Option<f64>,
    pub p50: Option<f64>,
    pub p75: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub p9999: Option<f64>,
    pub max: Option<f64>,
    pub mean: Option<f64>,
    pub stddev: Option<f64>,
}

/// The rows of every load: its phases in their order, then [`ALL`] of them.
pub fn rows(history: &History) -> Vec<LoadRow> {
    let loads: Vec<Name> = history.loads().cloned().collect();
    loads.iter().flat_map(|load| phases(history, Some(load))).collect()
}

/// The rows over all loads.
pub fn totals(history: &History) -> Vec<LoadRow> {
    phases(history, Selection::default())
}

/// The rows of every class of every load that has classes, as [`rows`].
pub fn classes(history: &History) -> Vec<LoadRow> {
    let loads = history.started.loads.iter();
    let classes = loads
        .flat_map(|load| load.classes.iter().map(|class| Selection { load: Some(&load.name), class: Some(class), step: None }));
    classes.flat_map(|which| phases(history, which)).collect()
}

/// The rows of every step of every load that has flows, as [`rows`].
pub fn steps(history: &History) -> Vec<LoadRow> {
    let loads = history.started.loads.iter();
    let steps =
        loads.flat_map(|load| load.steps().map(|step| Selection { load: Some(&load.name), class: None, step: Some(&step.name) }));
    steps.flat_map(|which| phases(history, which)).collect()
}

fn phases<'a>(history: &'a History, which: impl Into<Selection<'a>>) -> Vec<LoadRow> {
    let which = which.into();
    let spans = history.started.phases.iter().map(|phase| (phase.name.as_str(), phase.start, phase.end));
    let (from, to) = history.whole();
    spans.chain([(ALL, from, to)]).map(|(phase, from, to)| row(history, which, phase, from, to)).collect()
}

fn row(history: &History, which: Selection<'_>, phase: &str, from: Offset, to: Offset) -> LoadRow {
    let counts = history.counts(which, from, to);
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    let mut served_by: BTreeMap<String, u64> = BTreeMap::new();
    let mut sent_to: BTreeMap<String, u64> = BTreeMap::new();
    let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
    let (mut opened, mut unopened, mut redirects, mut messages) = (0, 0, 0, 0);
    for (_, tally) in history.windows_in(which, from, to) {
        tally.causes.iter().for_each(|(cause, n)| *causes.entry(cause.clone()).or_default() += n);
        tally.served_by.iter().for_each(|(who, n)| *served_by.entry(who.clone()).or_default() += n);
        tally.sent_to.iter().for_each(|(address, n)| *sent_to.entry(address.clone()).or_default() += n);
        tally.skipped.iter().for_each(|(why, n)| *skipped.entry(why.clone()).or_default() += n);
        redirects += tally.redirects;
        opened += tally.opened;
        unopened += tally.unopened;
        messages += tally.messages;
    }
    let lookups: Vec<&Lookup> = lookups(history, from, to).collect();
    let lookups_failed = lookups.iter().filter(|lookup| lookup.failed.is_some()).count() as u64;
    let mut dns = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds that the crate allows");
    lookups.iter().filter(|lookup| lookup.failed.is_none()).for_each(|lookup| dns.saturating_record(lookup.took_us.max(1)));
    let step = |measure| Quantiles::of(&history.histogram(which, &[Outcome::Ok], measure, from, to));
    let lateness = history.histogram(which, &[Outcome::Ok], Measure::Lateness, from, to);
    let latency = history.histogram(which, TIMED, Measure::Response, from, to);
    let p99 = statistics::quantile(&latency, 0.99, 1.0).and_then(|plain| {
        let above = history.above_per_second(which, TIMED, Measure::Response, plain.value, from, to);
        let clustering = statistics::overdispersion(above.values().copied());
        Some((statistics::quantile(&latency, 0.99, clustering)?, latency.len() as f64 / clustering))
    });
    let load = which.load;
    let line = load.and_then(|load| history.started.loads.iter().find(|line| line.name == *load));
    let planned = |name: &Name| line.and_then(|line| line.steps().find(|step| step.name == *name));
    let planned_step = which.step.and_then(planned);
    LoadRow {
        name: load.map_or(ALL, Name::as_str).to_owned(),
        phase: phase.to_owned(),
        class: which.class.map(|class| class.as_str().to_owned()),
        step: which.step.map(|step| step.as_str().to_owned()),
        intended: counts.intended,
        sent: counts.sent,
        ok: counts.ok,
        rejected: counts.rejected,
        failed: counts.failed,
        timed_out: counts.timed_out,
        unsent: counts.unsent,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        duration_s: to.min(history.ran_until()).since(from).as_secs_f64(),
        latency_ms: Quantiles::of(&latency),
        p99_ci_low_ms: p99.map(|(interval, _)| interval.low as f64 / 1e3),
        p99_ci_high_ms: p99.map(|(interval, _)| interval.high as f64 / 1e3),
        n_eff: p99.map(|(_, worth)| (worth * 10.0).round() / 10.0),
        service_ms: Quantiles::of(&history.histogram(which, TIMED, Measure::Service, from, to)),
        first_byte_ms: Quantiles::of(&history.histogram(which, TIMED, Measure::FirstByte, from, to)),
        late_sends: lateness.len() - lateness.count_between(0, 10_000),
        lateness_ms: Quantiles::of(&lateness),
        causes,
        redirects,
        skipped,
        served_by,
        sent_to,
        messages,
        attempts: AttemptsRow::of(history, which, counts.sent, from, to),
        connections: Connections {
            opened,
            unopened,
            lookups: lookups.len() as u64,
            lookups_failed,
            dns_ms: Quantiles::of(&dns),
            connect_ms: step(Measure::Connect),
            tunnel_ms: step(Measure::Tunnel),
            tls_ms: step(Measure::Tls),
            upgrade_ms: step(Measure::Upgrade),
        },
        users: line.and_then(|line| match phase {
            ALL => line.users.keys().filter_map(|phase| line.most_users_in(phase)).max(),
            phase => line.users.keys().find(|name| name.as_str() == phase).and_then(|phase| line.most_users_in(phase)),
        }),
        method: planned_step.map(|step| step.method.clone()).or_else(|| line.map(|line| line.method.clone())),
        path: planned_step.map(|step| step.path.clone()).or_else(|| line.map(|line| line.path.clone())),
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The looks at what the target's name stands for from `from` to `to`. What is before or after the run belongs to its first or last phase.
fn lookups(history: &History, from: Offset, to: Offset) -> impl Iterator<Item = &Lookup> {
    let (begin, end) = history.whole();
    history.events.iter().filter_map(move |event| match &event.fact {
        Fact::Lookup(lookup) if (event.t_ns >= from || from == begin) && (event.t_ns < to || to == end) => Some(lookup),
        _ => None,
    })
}

impl Connections {
    /// Whether any was to be opened, as far as the recording tells.
    pub fn any(&self) -> bool {
        self.opened + self.unopened > 0
    }
}

impl LoadRow {
    /// Requests that ended other than `ok`, by the service's doing or in its silence.
    pub fn bad(&self) -> u64 {
        self.rejected + self.failed + self.timed_out
    }

    /// Requests that the service had its chance at: also those that found its door closed, which were never sent.
    pub fn tried(&self) -> u64 {
        self.ok + self.bad()
    }
}

impl Quantiles {
    /// Of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Quantiles {
        if histogram.is_empty() {
            return Quantiles::default();
        }
        let ms = |micros: f64| Some((micros).round() / 1e3);
        let at = |quantile: f64| ms(statistics::value_at(histogram, quantile) as f64);
        Quantiles {
            n: histogram.len(),
            min: ms(histogram.min() as f64),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: ms(histogram.max() as f64),
            mean: ms(histogram.mean()),
            stddev: ms(histogram.stdev()),
        }
    }
}
