//! The certificate of the load generator's own error, for a run or any stretch of one. It decides whether numbers may be used: a
//! generator that was late, saturated or frozen says nothing about the service.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spacing::{self, Dispersion, Spaced};
use super::statistics::value_at;
use super::words::{count, micros, percent};
use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::{Ending, GeneratorSample, LIMITS, Outcome};
use crate::recording::sink::Measure;
use crate::time::Offset;

/// Less than this share of what was intended was sent: the load was not the planned one.
const ACHIEVED_LEAST: f64 = 0.99;
/// More than this share was refused by Squall's own limits. Not zero: one request at the edge of a bound proves nothing.
const UNSENT_MOST: f64 = 0.001;
/// The limit of ours that makes users leave.
const USED_UP: &str = "feed used up";
/// Lateness whose p99 may always be reached: what a kernel's scheduler does to any process on a machine that is in use.
const LATENESS_FLOOR: Duration = Duration::from_millis(10);
/// The share of the tightest latency limit that lateness may eat.
const LATENESS_SHARE: f64 = 0.1;
/// Where no latency is judged, lateness only blurs which second a request belongs to.
const LATENESS_WITHOUT_LIMIT: Duration = Duration::from_millis(100);
/// One request this late means that the generator stood still: no scheduler does that to a process that can run.
const STALL: Duration = Duration::from_secs(1);
/// The share of its time that a worker of a closed load may wait for a core: half of what makes a machine unusable to a person.
const STARVED_MOST: f64 = 0.3;
/// So many seconds without a word of the generator: one may be missed by a thread that is late by a moment.
const SILENT_MOST: i64 = 2;
/// A stall just before a window spills its backlog into it.
const STALL_REACH: Duration = Duration::from_secs(5);
/// The busiest worker's share of a core from which it is saturated.
const CPU_MOST: f64 = 0.8;

/// What is certified, by its name in `run.json`, with one line about each.
pub const CERTIFIED: &[(&str, &str)] = &[
    ("achieved_ratio", "requests that were sent, out of those that were planned"),
    ("lateness_ms", "from when a request was due to its actual send: p50, p99 and max"),
    (
        "added_dispersion",
        "the burstiness that the generator added to its schedule, by the index of dispersion in windows of 1, 10 and 100 ms",
    ),
    ("unsent_by", "requests that a limit of squall's own kept back, by the limit"),
    ("cpu", "the busiest worker's share of a core"),
    ("cpu_by_worker", "the same of each worker"),
    ("starved", "the share of its time in which a worker was ready to run and had no core"),
    ("steal", "the share of a core that the hypervisor took: for reading, no limit"),
    ("window_us", "by how much requests were sent late so that several went out together"),
];

/// How good the generator was over a stretch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// From the intended start of a request to its actual sending.
    pub lateness_ms: Lateness,
    /// Sent, or tried at a closed door, out of intended; absent when nothing was intended.
    pub achieved_ratio: Option<f64>,
    /// The busiest worker's share of a core: the 90th percentile of its seconds.
    pub cpu: Option<f64>,
    /// The same of each worker, in their order; absent in recordings that do not tell them apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_by_worker: Vec<f64>,
    /// The share of a core that the hypervisor took: the 90th percentile of its seconds. For reading, not a guard.
    pub steal: Option<f64>,
    /// The share of its time in which a load worker was ready to run and had no core: the 90th percentile of its seconds. It lengthens
    /// what users measure, who leave no lateness behind. Absent where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved: Option<f64>,
    /// By how much requests were sent late so that several went out together, in microseconds: the widest of its seconds. Zero where
    /// each had a wake-up of its own.
    #[serde(default)]
    pub window_us: u64,
    /// The burstiness that the generator added to the schedule of the load that it distorted most. Absent where nothing was sent on a
    /// schedule, or nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_dispersion: Option<Dispersion>,
    /// Requests that a limit of Squall's own kept back.
    pub unsent: u64,
    /// The same by the limit: `in-flight bound`, `local ports`, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unsent_by: BTreeMap<String, u64>,
    /// Whether numbers from this stretch may be used.
    pub valid: bool,
    /// Why not, each with what to do.
    pub reasons: Vec<String>,
}

/// Milliseconds; zero when nothing was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lateness {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Certificate {
    /// The certificate of the whole run, given the tightest latency limit that anything in it is held to.
    pub fn of_run(history: &History, tightest: Option<Duration>) -> Certificate {
        let (from, to) = history.whole();
        let mut certificate = Certificate::over(history, from, to, tightest);
        if let Some(Ending::Interrupted { signal }) = history.ended.as_ref().map(|ended| &ended.how) {
            certificate.reject(format!("the run was interrupted by {signal}"));
        }
        if let Some(Ending::Broken { reason }) = history.ended.as_ref().map(|ended| &ended.how) {
            certificate.reject(format!("the run broke off: {reason}"));
        }
        certificate
    }

    /// The certificate of `[from, to)`.
    pub fn over(history: &History, from: Offset, to: Offset, tightest: Option<Duration>) -> Certificate {
        let counts = history.counts(None, from, to);
        // What a frozen or killed generator never even counted is still missing from the schedule.
        let planned: u64 = history
            .started
            .phases
            .iter()
            .filter(|phase| phase.start >= from && phase.end <= to)
            .flat_map(|phase| history.started.loads.iter().filter_map(|load| load.intended.get(&phase.name)))
            .sum();
        // Nobody planned how much users send: what they sent is added to what the schedules hold.
        let by_users: u64 = history.closed(None).map(|load| history.counts(Some(load), from, to).intended).sum();
        // A schedule holds the runs of flows: their later steps come due as answers do.
        let intended = counts.intended.max(planned + by_users + history.after_answers(from, to));
        let lateness = history.histogram(None, &[Outcome::Ok], Measure::Lateness, from, to);
        let late_before = history.histogram(None, &[Outcome::Ok], Measure::Lateness, from - STALL_REACH, to).max();
        let samples: Vec<_> =
            history.generator().map(|(_, sample)| sample).filter(|sample| in_window(sample.second, from, to)).collect();

        // A request that found the door closed was tried as much as one that was sent: that is the service's doing.
        let tried = counts.ended() - counts.unsent;
        let ms = |us: u64| us as f64 / 1e3;
        let mut certificate = Certificate {
            lateness_ms: Lateness {
                p50: ms(value_at(&lateness, 0.5)),
                p99: ms(value_at(&lateness, 0.99)),
                max: ms(lateness.max()),
            },
            achieved_ratio: (intended > 0).then(|| tried as f64 / intended as f64),
            cpu: ninetieth(samples.iter().map(|sample| sample.cpu)),
            cpu_by_worker: by_worker(&samples),
            steal: ninetieth(samples.iter().filter_map(|sample| sample.steal)),
            starved: ninetieth(samples.iter().filter_map(|sample| sample.starved)),
            window_us: samples.iter().map(|sample| sample.window_us).max().unwrap_or_default(),
            added_dispersion: None,
            unsent: counts.unsent,
            unsent_by: unsent_by(history, from, to),
            valid: true,
            reasons: Vec::new(),
        };
        integrity(history).into_iter().for_each(|reason| certificate.reject(reason));

        let unsent_share = counts.unsent as f64 / intended.max(1) as f64;
        if unsent_share > UNSENT_MOST {
            certificate.reject(format!(
                "{} of {intended} ({}) were never sent because a limit of squall's own was reached: {}",
                count(counts.unsent, "request"),
                percent(unsent_share),
                ways_out(&certificate.unsent_by)
            ));
        }
        for (load, second) in left_early(history, from, to) {
            let way_out = LIMITS.iter().find(|(limit, _)| *limit == USED_UP).map_or("", |(_, way_out)| way_out);
            certificate.reject(format!(
                "users of load {load} left from {second} s on, since each row of a feed is used once and there were none left for them: what \
                 came after was not the planned load ({USED_UP}: {way_out})"
            ));
        }
        // What the limit kept back is not held against the generator twice.
        let held = (tried + counts.unsent) as f64 / intended.max(1) as f64;
        if intended > 0 && held < ACHIEVED_LEAST {
            certificate.reject(format!(
                "only {} of {intended} intended requests ({}) were sent: the generator was too slow or stood still; give it \
                 more CPU or lower the rate",
                tried,
                percent(tried as f64 / intended as f64)
            ));
        }
        let unended = counts.intended.saturating_sub(counts.ended());
        if unended as f64 > UNSENT_MOST * counts.intended as f64 {
            certificate.reject(format!(
                "how {} of {} ended was never recorded: the run broke off before they did",
                count(unended, "request"),
                counts.intended
            ));
        }
        if lateness.len() < counts.sent - counts.sent / 1000 {
            certificate.reject(format!(
                "lateness was recorded for {} of {}: latency.hlog is incomplete",
                lateness.len(),
                count(counts.sent, "sent request")
            ));
        }
        if late_before >= STALL.as_micros() as u64 {
            certificate.reject(format!(
                "the generator stood still: a request was sent {} late; the process was stopped or the machine was out of CPU, \
                 run it again",
                micros(late_before)
            ));
        }
        if let Some(silent) = silence(history, &samples, from, to) {
            certificate.reject(format!(
                "the generator stood still: it says nothing of itself for {silent} s; the process was stopped or the machine was out of \
                 CPU, run it again"
            ));
        }
        if let Some(starved) = certificate.starved.filter(|starved| by_users > 0 && *starved > STARVED_MOST) {
            certificate.reject(format!(
                "a load worker was kept from a core for {} of its time, more than {}: what users measured is in part this machine's doing; \
                 give the generator more CPU",
                percent(starved),
                percent(STARVED_MOST)
            ));
        }
        let allowed = match tightest {
            Some(limit) => LATENESS_FLOOR.max(limit.mul_f64(LATENESS_SHARE)),
            None => LATENESS_WITHOUT_LIMIT,
        };
        let p99 = value_at(&lateness, 0.99);
        if u128::from(p99) > allowed.as_micros() {
            certificate.reject(format!(
                "1% of the requests were sent more than {} late, {} is the most that these limits allow: give the generator \
                 more CPU or lower the rate",
                micros(p99),
                micros(allowed.as_micros() as u64)
            ));
        }
        if let Some(Spaced { load, added, limit }) = spacing::worst(history, from, to, allowed) {
            certificate.added_dispersion = Some(added);
            if added.in_100ms > limit {
                certificate.reject(format!(
                    "load {load} was sent in bursts that its schedule does not have: in windows of 100ms the index of dispersion is {:.1} \
                     higher than planned, {limit:.1} is the most; the generator stood still and caught up: give it more CPU, or lower the \
                     rate",
                    added.in_100ms
                ));
            }
        }
        if let Some(cpu) = certificate.cpu.filter(|cpu| *cpu > CPU_MOST) {
            certificate.reject(format!(
                "the busiest load worker used {} of its core, more than {}: give the generator more CPU, lower the rate or have fewer users",
                percent(cpu),
                percent(CPU_MOST)
            ));
        }
        certificate
    }

    /// The reasons as one sentence, when the certificate is not valid.
    pub fn blame(&self) -> Option<String> {
        (!self.valid).then(|| self.reasons.join("; "))
    }

    fn reject(&mut self, reason: String) {
        self.valid = false;
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Why nothing in this recording can be trusted: it is torn, it lost events, or it never ended.
pub fn integrity(history: &History) -> Vec<String> {
    let mut reasons = history.torn.clone();
    match &history.ended {
        None => reasons.push("the run was killed: the recording has no end".to_owned()),
        Some(ended) if ended.lost_events > 0 => reasons.push(format!(
            "{} found no room in the recording's queue: the machine was overloaded, run it again with less on it",
            count(ended.lost_events, "event")
        )),
        Some(_) => {}
    }
    reasons
}

/// The loads of users whom a feed of theirs had no row left for, by the end of `[from, to)` in which they were to be there, and in which
/// second of the run the first of them left. Each of them leaves one unsent request behind and is missing from then on: of how much is
/// missing that number says nothing.
fn left_early(history: &History, from: Offset, to: Offset) -> Vec<(&Name, i64)> {
    let during: Vec<&Name> =
        history.started.phases.iter().filter(|phase| phase.start < to && phase.end > from).map(|phase| &phase.name).collect();
    let lines = history.started.loads.iter().filter(|line| line.is_closed() && during.iter().any(|phase| line.sends_in(phase)));
    let first = |load| {
        let windows = history.windows_in(Some(load), history.whole().0, to);
        windows.filter(|(_, tally)| tally.causes.contains_key(USED_UP)).map(|(key, _)| key.second).min()
    };
    lines.filter_map(|line| Some((&line.name, first(&line.name)?))).collect()
}

/// What was never sent, by the limit that kept it back.
fn unsent_by(history: &History, from: Offset, to: Offset) -> BTreeMap<String, u64> {
    let mut by = BTreeMap::new();
    for (_, tally) in history.windows_in(None, from, to) {
        for (cause, n) in tally.causes.iter().filter(|(cause, _)| LIMITS.iter().any(|(limit, _)| limit == cause)) {
            *by.entry(cause.clone()).or_default() += n;
        }
    }
    by
}

/// The limits that were reached, the worst first, each with what to do about it.
fn ways_out(unsent_by: &BTreeMap<String, u64>) -> String {
    let mut by: Vec<(&String, &u64)> = unsent_by.iter().collect();
    by.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let way_out = |cause: &str| LIMITS.iter().find(|(limit, _)| *limit == cause).map_or("", |(_, way_out)| way_out);
    let words: Vec<String> = by.into_iter().map(|(cause, n)| format!("{n} x {cause} ({})", way_out(cause))).collect();
    if words.is_empty() { "which one was not recorded".to_owned() } else { words.join(", ") }
}

/// The longest time of the window, in whole seconds, in which the generator did not say how it was, where that is too long: it does so
/// each second while there is anything to send, and users who send nothing while it stands still leave no other trace of it.
fn silence(history: &History, samples: &[&GeneratorSample], from: Offset, to: Offset) -> Option<i64> {
    let mut seconds: Vec<i64> = samples.iter().map(|sample| sample.second).collect();
    // Users are there until their phase ends, and so is the generator; a schedule may have been done before.
    let users_until = history
        .started
        .phases
        .iter()
        .filter(|phase| phase.start < to && phase.end > from)
        .filter(|phase| history.started.loads.iter().any(|load| load.is_closed() && load.sends_in(&phase.name)))
        .map(|phase| phase.end.min(to).min(history.ran_until()))
        .max();
    if users_until.is_some() || !seconds.is_empty() {
        seconds.insert(0, from.second().max(0) - 1);
    }
    // The second that was going on at the end is spoken of after it, if anybody is still there.
    seconds.extend(users_until.map(|end| end.second() - 1).filter(|last| seconds.last() < Some(last)));
    let gaps = seconds.windows(2).map(|pair| pair[1] - pair[0] - 1);
    gaps.max().filter(|missing| *missing >= SILENT_MOST)
}

fn in_window(second: i64, from: Offset, to: Offset) -> bool {
    let start = Offset::from_nanos(second.saturating_mul(1_000_000_000));
    start < to && start + Duration::from_secs(1) > from
}

/// The 90th percentile of the seconds of each worker.
fn by_worker(samples: &[&GeneratorSample]) -> Vec<f64> {
    let workers = samples.iter().map(|sample| sample.workers.len()).max().unwrap_or_default();
    (0..workers).filter_map(|nth| ninetieth(samples.iter().filter_map(|sample| sample.workers.get(nth).copied()))).collect()
}

fn ninetieth(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * 0.9).ceil() as usize;
    values.get(rank.checked_sub(1)?).copied()
}
