//! The run second by second: what was offered, what came back, how many replicas stood there, what was broken. Values are of the
//! interval, never cumulative. A second that two phases share is two rows.

use std::collections::BTreeMap;

use crate::recording::History;
use crate::recording::fact::{Counts, Part, Tally};
use crate::recording::history::WindowKey;
use crate::recording::sink::Measure;
use crate::report::fault;
use crate::report::load::{ALL, TIMED};
use crate::report::scaling::{self, Replicas};
use crate::time::Offset;

/// One interval of one load, or of [`ALL`] loads.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondRow {
    /// The start of the interval, in seconds since the first phase started.
    pub t_s: f64,
    /// Its length: a second, or what of it lies in the phase.
    pub interval_s: f64,
    pub phase: String,
    pub load: String,
    pub counts: Counts,
    /// How often something was sent for these requests: more often than there are, where clients try again.
    pub attempts: u64,
    /// Of what was due in this interval, in milliseconds.
    pub latency_ms: Spread,
    pub lateness_p99_ms: Option<f64>,
    pub replicas_ready: Option<f64>,
    pub replicas_desired: Option<f64>,
    pub faults: Vec<String>,
    /// Requests due and not ended, over all loads; only in the row of all loads.
    pub in_flight: Option<u64>,
    /// The busiest load worker, as a share of one core; only in the row of all loads.
    pub generator_cpu: Option<f64>,
}

/// The few percentiles that a chart shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// Every second of every phase: first each load that was due something in the phase, then all of them.
pub fn rows(history: &History) -> Vec<SecondRow> {
    let replicas = Replicas::of(history);
    let faults = history.faults();
    let samples: BTreeMap<i64, (u64, f64)> =
        history.generator().map(|(_, sample)| (sample.second, (sample.in_flight, sample.cpu))).collect();
    let spreads = spreads(history);
    let seen_until = history.last_seen();
    let mut rows = Vec::new();
    for phase in &history.started.phases {
        let loads: Vec<&str> = history
            .started
            .loads
            .iter()
            .filter(|load| load.sends_in(&phase.name))
            .map(|load| load.name.as_str())
            .chain([ALL])
            .collect();
        let mut second = phase.start.second();
        while second * NANOS < phase.end.nanos().min(seen_until.nanos()) {
            let from = phase.start.nanos().max(second * NANOS);
            let to = phase.end.nanos().min((second + 1) * NANOS);
            for load in &loads {
                let (mut counts, mut attempts) = (Counts::default(), 0);
                for ((of, _, _), tally) in tallies(history, phase.name.as_str(), second) {
                    if *load == ALL || of == *load {
                        counts.add(&tally.counts);
                        attempts += tally.attempts_sent();
                    }
                }
                let spread = |what| spreads.get(&(phase.name.as_str(), second, what, *load)).copied().unwrap_or_default();
                let sample = (*load == ALL).then(|| samples.get(&second)).flatten();
                rows.push(SecondRow {
                    t_s: from as f64 / 1e9,
                    interval_s: (to - from) as f64 / 1e9,
                    phase: phase.name.to_string(),
                    load: (*load).to_owned(),
                    counts,
                    attempts,
                    latency_ms: spread(What::Latency),
                    lateness_p99_ms: spread(What::Lateness).p99,
                    replicas_ready: scaling::at(&replicas.ready, to),
                    replicas_desired: scaling::at(&replicas.desired, to),
                    faults: fault::active(&faults, Offset::from_nanos(from), Offset::from_nanos(to)),
                    in_flight: sample.map(|(in_flight, _)| *in_flight),
                    generator_cpu: sample.map(|(_, cpu)| *cpu),
                });
            }
            second += 1;
        }
    }
    rows
}

const NANOS: i64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Latency,
    Lateness,
}

/// The counts of one second of one phase, per load and part of it.
fn tallies<'a>(history: &'a History, phase: &'a str, second: i64) -> impl Iterator<Item = ((&'a str, &'a str, i64), &'a Tally)> {
    let phase = history.started.phases.iter().find(|span| span.name.as_str() == phase);
    let loads = phase.into_iter().flat_map(|phase| history.started.loads.iter().map(move |load| (load, phase)));
    loads.flat_map(move |(load, phase)| {
        let here = |second| WindowKey { load: load.name.clone(), phase: phase.name.clone(), second, part: Part::default() };
        let parts = history.windows.range(here(second)..here(second + 1));
        parts.map(move |(_, tally)| ((load.name.as_str(), phase.name.as_str(), second), tally))
    })
}

/// A phase, a second, what was measured, and a load.
type Key<'h> = (&'h str, i64, What, &'h str);

/// How values lay in each second of each phase: of each load, and of all of them. Histograms are looked at where they lie, second by second:
/// of a long run they are many.
fn spreads(history: &History) -> BTreeMap<Key<'_>, Spread> {
    let mut found: Vec<(Key<'_>, &[(u32, u32)])> = Vec::new();
    for (series, second, bars) in history.bars() {
        let what = match series.measure {
            Measure::Response if TIMED.contains(&series.outcome) => What::Latency,
            Measure::Lateness => What::Lateness,
            _ => continue,
        };
        found.push(((series.phase.as_str(), second, what, series.load.as_str()), bars));
    }
    found.sort_by_key(|(key, _)| *key);
    let mut spreads = BTreeMap::new();
    let mut spread = |(phase, second, what, _), load, of: &[(_, &[(u32, u32)])]| {
        spreads.insert((phase, second, what, load), Spread::of(of.iter().flat_map(|(_, bars)| bars.iter().copied())));
    };
    for all in found.chunk_by(|((phase, second, what, _), _), (next, _)| (phase, second, what) == (&next.0, &next.1, &next.2)) {
        all.chunk_by(|one, next| one.0 == next.0).for_each(|load| spread(load[0].0, load[0].0.3, load));
        spread(all[0].0, ALL, all);
    }
    spreads
}

impl Spread {
    /// Of histograms in microseconds, as `(value, count)`: the smallest value at or below which the share lies.
    fn of(bars: impl Iterator<Item = (u32, u32)>) -> Spread {
        let mut bars: Vec<(u32, u32)> = bars.collect();
        bars.sort_unstable();
        let n: u64 = bars.iter().map(|(_, count)| u64::from(*count)).sum();
        let at = |quantile: f64| {
            let rank = ((quantile * n as f64).ceil() as u64).max(1);
            let mut below = 0;
            bars.iter()
                .find(|(_, count)| {
                    below += u64::from(*count);
                    below >= rank
                })
                .map(|(value, _)| f64::from(*value) / 1e3)
        };
        Spread { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}
