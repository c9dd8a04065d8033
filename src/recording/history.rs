//! A recording read back: the only thing that verdicts and reports may look at. Reading forgives what a crash does (a torn last
//! line, a missing histogram log) and says so in [`History::torn`]; it refuses what it would misunderstand.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::names::{Anchor, Moment, Name, ObjectRef, Shift};
use crate::recording::attempts::Attempts;
use crate::recording::fact::{
    AutoscalerSpec, Counts, Ending, Event, Fact, FaultLine, FaultStep, Gap, GeneratorSample, Outcome, Part, PhaseSpan, RunEnded,
    RunStarted, SCHEMA, Spacing, Tally,
};
use crate::recording::plain::plain;
use crate::recording::sink::{Interval, Measure, Series};
use crate::recording::{EVENTS_FILE, HISTOGRAMS_FILE, hlog};
use crate::time::Offset;

/// A recording read back.
///
/// Load is kept per *window*: one second of one phase. A window belongs to every stretch of time that it overlaps, so a phase is
/// always exact, and any other stretch is rounded outward to whole seconds (see [`History::rounds`]).
#[derive(Clone, Debug)]
pub struct History {
    pub started: RunStarted,
    /// How the run ended; absent when it was killed.
    pub ended: Option<RunEnded>,
    /// In the order of the file.
    pub events: Vec<Event>,
    /// Every line for the same window added up.
    pub windows: BTreeMap<WindowKey, Tally>,
    /// What a crash or a full disk left incomplete, in words. Nothing that rests on it can be decided.
    pub torn: Vec<String>,
    /// Kinds of facts that a newer Squall of the same major format wrote and this one does not know.
    pub unknown: Vec<String>,
    bars: BTreeMap<(Series, i64), Bars>,
}

/// One second of one phase of one load, or of a part of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WindowKey {
    pub load: Name,
    pub phase: Name,
    pub second: i64,
    pub part: Part,
}

/// Which requests: of one load or of all, of one class or of all, of one step of flows or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection<'a> {
    pub load: Option<&'a Name>,
    pub class: Option<&'a Name>,
    pub step: Option<&'a Name>,
}

impl<'a> From<Option<&'a Name>> for Selection<'a> {
    /// All requests of that load; of every load where it is `None`.
    fn from(load: Option<&'a Name>) -> Selection<'a> {
        Selection { load, ..Selection::default() }
    }
}

impl Selection<'_> {
    /// Whether the requests of a part of a load are among them.
    pub fn has(&self, load: &Name, part: &Part) -> bool {
        self.load.is_none_or(|one| one == load)
            && self.class.is_none_or(|class| part.class.as_ref() == Some(class))
            && self.step.is_none_or(|step| part.step.as_ref() == Some(step))
    }
}

/// A histogram without its empty buckets, as `(value in microseconds, count)` in rising order: hundreds of bytes where the whole
/// one has hundreds of kilobytes, and a run has one per second and series.
type Bars = Vec<(u64, u64)>;

/// An event's number and moment.
pub type Seen = (u64, Offset);

/// A phase as it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseSeen {
    pub start: Offset,
    pub end: Offset,
    /// False when the run ended before the phase did.
    pub completed: bool,
}

/// A fault as it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSeen {
    pub name: Name,
    /// Empty when the plan's line for it is missing from the recording.
    pub kind: String,
    pub targets: Vec<String>,
    /// Out of how many the targets were chosen.
    pub of: u64,
    pub journalled: Option<Seen>,
    pub injected: Option<Seen>,
    pub effective: Option<Seen>,
    pub healing: Option<Seen>,
    pub healed: Option<Seen>,
    pub evidence: Vec<EvidenceSeen>,
    pub failures: Vec<FailureSeen>,
    /// As it was planned.
    pub planned: Option<FaultLine>,
}

/// One witness of a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceSeen {
    pub seen: Seen,
    pub witness: String,
    pub says: String,
    pub supports: bool,
}

/// A step of a fault that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureSeen {
    pub seen: Seen,
    pub during: String,
    pub reason: String,
}

/// Why a folder is not a recording that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no recording at {}: name the folder of a run, the one that holds {EVENTS_FILE}", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not a recording: its first line is not the start of a run ({why})", path.display())]
    NotARecording { path: PathBuf, why: String },
    #[error(
        "the recording is in format `{found}`, this squall reads `{SCHEMA}`: use the squall that wrote it (version {written_by})"
    )]
    Format { found: String, written_by: String },
}

impl History {
    /// Reads the run's folder `dir`.
    ///
    /// # Errors
    /// When there is no recording, it cannot be read, or it is in another major format.
    pub fn load(dir: &Path) -> Result<History, Error> {
        let path = dir.join(EVENTS_FILE);
        let text = std::fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Missing(dir.to_owned()),
            _ => Error::Unreadable { path: path.clone(), source },
        })?;
        let mut torn = Vec::new();
        let mut unknown = Vec::new();
        let events = read_events(&path, &text, &mut torn, &mut unknown)?;

        let log = std::fs::read(dir.join(HISTOGRAMS_FILE)).unwrap_or_else(|error| {
            torn.push(format!("{HISTOGRAMS_FILE} cannot be read: {error}"));
            Vec::new()
        });
        let mut problems = Vec::new();
        let mut history = History::assemble(events, hlog::read(&log, &mut problems), torn, unknown)
            .ok_or_else(|| Error::NotARecording { path: dir.join(EVENTS_FILE), why: "it holds something else".to_owned() })?;
        history.torn.extend(problems);
        Ok(history)
    }

    /// A history from its parts; `None` when the first event is not the start of a run.
    pub fn assemble(
        events: Vec<Event>,
        intervals: impl IntoIterator<Item = Interval>,
        torn: Vec<String>,
        unknown: Vec<String>,
    ) -> Option<History> {
        let Some(Event { fact: Fact::RunStarted(started), .. }) = events.first() else { return None };
        let started = (**started).clone();
        let mut windows: BTreeMap<WindowKey, Tally> = BTreeMap::new();
        let mut ended = None;
        for event in &events {
            match &event.fact {
                Fact::Tally(tally) => {
                    let (load, phase, part) = (tally.load.clone(), tally.phase.clone(), tally.part.clone());
                    let key = WindowKey { load, phase, second: tally.second, part };
                    match windows.get_mut(&key) {
                        Some(sum) => add(sum, tally),
                        None => {
                            windows.insert(key, (**tally).clone());
                        }
                    }
                }
                Fact::RunEnded(end) => ended = Some(end.clone()),
                _ => {}
            }
        }
        let mut bars: BTreeMap<(Series, i64), Bars> = BTreeMap::new();
        for interval in intervals {
            let new = interval.histogram.iter_recorded().map(|bar| (bar.value_iterated_to(), bar.count_at_value()));
            merge(bars.entry((interval.series, interval.second)).or_default(), new.collect());
        }
        Some(History { started, ended, events, windows, torn, unknown, bars })
    }

    /// Loads that were planned, in the order of the plan.
    pub fn loads(&self) -> impl Iterator<Item = &Name> {
        self.started.loads.iter().map(|load| &load.name)
    }

    /// Loads whose users wait for answers before they send again: of one load, or of all.
    pub fn closed<'h>(&'h self, load: Option<&'h Name>) -> impl Iterator<Item = &'h Name> {
        let lines = self.started.loads.iter().filter(move |line| load.is_none_or(|load| *load == line.name));
        lines.filter(|line| line.is_closed()).map(|line| &line.name)
    }

    /// The stretch from the start of the first phase to the end of the last.
    pub fn whole(&self) -> (Offset, Offset) {
        let from = self.started.phases.first().map_or(Offset::ZERO, |phase| phase.start);
        let to = self.started.phases.last().map_or(Offset::ZERO, |phase| phase.end);
        (from, to)
    }

    /// The moment of the last event: where the recording ends, whether or not the run did.
    pub fn last_seen(&self) -> Offset {
        self.events.iter().map(|event| event.t_ns).max().unwrap_or(Offset::ZERO)
    }

    /// Until when a run did what it was to do: as long as it was recorded, when it completed; otherwise to the end of the last phase
    /// that ended, or of the last second in which a request was due. Healing and taking down are recorded after that.
    pub fn ran_until(&self) -> Offset {
        if self.ended.as_ref().is_some_and(|ended| ended.how == Ending::Completed) {
            return self.last_seen();
        }
        let over = |phase: &&PhaseSpan| self.phase(&phase.name).is_some_and(|seen| seen.completed);
        let phases = self.started.phases.iter().filter(over).map(|phase| phase.end);
        let due = self.windows.iter().filter(|(_, tally)| tally.counts.intended > 0);
        let seconds = due.map(|(key, _)| self.stretch(&key.phase, key.second).1);
        phases.chain(seconds).max().unwrap_or(Offset::ZERO).min(self.last_seen())
    }

    /// The windows of those requests that overlap `[from, to)`, in the order of load, phase and second. A load alone selects all of it, `None`
    /// every load.
    pub fn windows_in<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = (&'a WindowKey, &'a Tally)> {
        let which = which.into();
        self.windows
            .iter()
            .filter(move |(key, _)| which.has(&key.load, &key.part) && self.overlaps(&key.phase, key.second, from, to))
    }

    /// What was tried for the requests that were due in `[from, to)`: of loads whose client tries once, what was sent. `None` where the
    /// client of none of them tries more than once.
    pub fn attempts<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Option<Attempts> {
        let mut sum = Attempts::default();
        let mut any = false;
        for (_, tally) in self.windows_in(which, from, to) {
            any |= tally.attempts.is_some();
            sum.add(&tally.tried());
        }
        any.then_some(sum)
    }

    /// What happened to the requests that were due in `[from, to)`.
    pub fn counts<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Counts {
        let mut sum = Counts::default();
        self.windows_in(which, from, to).for_each(|(_, tally)| sum.add(&tally.counts));
        sum
    }

    /// Of the requests of loads on a schedule that were due in `[from, to)`, how many came due after an answer, and not by the schedule: the
    /// later steps of flows.
    pub fn after_answers(&self, from: Offset, to: Offset) -> u64 {
        let later = self.started.loads.iter().filter(|load| !load.is_closed()).flat_map(|load| {
            load.later_steps().map(|step| Selection { load: Some(&load.name), step: Some(&step.name), ..Selection::default() })
        });
        later.map(|which| self.counts(which, from, to).intended).sum()
    }

    /// The same per second, in order; a second in which nothing was due is absent.
    pub fn per_second<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Vec<(i64, Counts)> {
        let mut seconds: BTreeMap<i64, Counts> = BTreeMap::new();
        for (key, tally) in self.windows_in(which, from, to) {
            seconds.entry(key.second).or_default().add(&tally.counts);
        }
        seconds.into_iter().collect()
    }

    /// How often something was sent for the requests that were due in each second.
    pub fn attempts_per_second<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> BTreeMap<i64, u64> {
        let mut seconds: BTreeMap<i64, u64> = BTreeMap::new();
        for (key, tally) in self.windows_in(which, from, to) {
            *seconds.entry(key.second).or_default() += tally.attempts_sent();
        }
        seconds
    }

    /// Of requests that were due in `[from, to)`, the histogram of `measure` in microseconds.
    pub fn histogram<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        outcomes: &'a [Outcome],
        measure: Measure,
        from: Offset,
        to: Offset,
    ) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds that the crate allows");
        for (_, bars) in self.bars_in(which.into(), outcomes, measure, from, to) {
            bars.iter().for_each(|(value, count)| histogram.saturating_record_n(*value, *count));
        }
        histogram
    }

    /// Per second: how many of those values lie above `limit_us`, and how many there are. A value within the histogram's
    /// resolution (0.1%) of the limit counts as not above it.
    pub fn above_per_second<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        outcomes: &'a [Outcome],
        measure: Measure,
        limit_us: u64,
        from: Offset,
        to: Offset,
    ) -> BTreeMap<i64, (u64, u64)> {
        let scale: Histogram<u64> = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds that the crate allows");
        let limit = scale.highest_equivalent(limit_us.clamp(1, 3_600_000_000));
        let mut seconds: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (second, bars) in self.bars_in(which.into(), outcomes, measure, from, to) {
            let (above, all) = seconds.entry(second).or_default();
            for (value, count) in bars {
                *above += if *value > limit { *count } else { 0 };
                *all += *count;
            }
        }
        seconds
    }

    /// Whether `[from, to)` cuts a window that holds requests, so that it had to be rounded outward to whole seconds.
    pub fn rounds<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> bool {
        self.windows_in(which, from, to).any(|(key, _)| {
            let (start, end) = self.stretch(&key.phase, key.second);
            start < from || end > to
        })
    }

    /// The phase `name`.
    pub fn phase(&self, name: &Name) -> Option<PhaseSeen> {
        let planned = self.started.phases.iter().find(|phase| phase.name == *name)?;
        let ended = self.events.iter().any(|event| matches!(&event.fact, Fact::PhaseEnded { phase } if phase == name));
        Some(PhaseSeen { start: planned.start, end: planned.end, completed: ended })
    }

    /// The fault `name`, when it was planned or did anything.
    pub fn fault(&self, name: &Name) -> Option<FaultSeen> {
        let planned = self.started.faults.iter().find(|line| line.name == *name).cloned();
        let mut seen = FaultSeen {
            name: name.clone(),
            kind: planned.as_ref().map(|line| line.kind.clone()).unwrap_or_default(),
            targets: Vec::new(),
            of: 0,
            journalled: None,
            injected: None,
            effective: None,
            healing: None,
            healed: None,
            evidence: Vec::new(),
            failures: Vec::new(),
            planned,
        };
        let mut acted = false;
        for event in &self.events {
            let Fact::Fault { fault, step } = &event.fact else { continue };
            if fault != name {
                continue;
            }
            acted = true;
            let at = (event.n, event.t_ns);
            match step {
                FaultStep::Targeted { targets, of } => {
                    seen.targets
                        .extend(targets.iter().filter(|target| !seen.targets.contains(target)).cloned().collect::<Vec<_>>());
                    seen.of = (*of).max(seen.of);
                }
                FaultStep::Journalled => _ = seen.journalled.get_or_insert(at),
                FaultStep::Injected => _ = seen.injected.get_or_insert(at),
                FaultStep::Evidence { witness, says, supports } => {
                    seen.evidence.push(EvidenceSeen { seen: at, witness: witness.clone(), says: plain(says), supports: *supports })
                }
                FaultStep::Effective => _ = seen.effective.get_or_insert(at),
                FaultStep::Healing => _ = seen.healing.get_or_insert(at),
                FaultStep::Healed => seen.healed = Some(at),
                FaultStep::Failed { during, reason } => {
                    seen.failures.push(FailureSeen { seen: at, during: during.clone(), reason: plain(reason) });
                }
            }
        }
        (acted || seen.planned.is_some()).then_some(seen)
    }

    /// Every planned fault, in the order of the plan.
    pub fn faults(&self) -> Vec<FaultSeen> {
        self.started.faults.iter().filter_map(|line| self.fault(&line.name)).collect()
    }

    /// The readings of `metric` of `object`, in order: event, moment, value.
    pub fn series(&self, object: &ObjectRef, metric: &str) -> Vec<(u64, Offset, f64)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Reading(reading) if reading.metric == metric && same_object(&reading.object, object) => {
                    Some((event.n, event.t_ns, reading.value))
                }
                _ => None,
            })
            .collect()
    }

    /// Every object that has readings of `metric`, once each, in the order of their first.
    pub fn objects_with(&self, metric: &str) -> Vec<ObjectRef> {
        let mut objects: Vec<ObjectRef> = Vec::new();
        for event in &self.events {
            if let Fact::Reading(reading) = &event.fact
                && reading.metric == metric
                && !objects.contains(&reading.object)
            {
                objects.push(reading.object.clone());
            }
        }
        objects
    }

    /// The metrics that `object` has readings of, sorted.
    pub fn metrics_of(&self, object: &ObjectRef) -> Vec<String> {
        let mut metrics: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Reading(reading) if same_object(&reading.object, object) => Some(reading.metric.clone()),
                _ => None,
            })
            .collect();
        metrics.sort();
        metrics.dedup();
        metrics
    }

    /// Gaps that overlap `[from, to)`, with their events.
    pub fn gaps(&self, from: Offset, to: Offset) -> Vec<(u64, &Gap)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Gap(gap) if gap.from < to && gap.to > from => Some((event.n, gap)),
                _ => None,
            })
            .collect()
    }

    /// The live specs of an autoscaler, in the order in which they were seen.
    pub fn autoscaler(&self, object: &ObjectRef) -> Vec<(u64, Offset, &AutoscalerSpec)> {
        self.events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::Autoscaler(spec) if same_object(&spec.object, object) => Some((event.n, event.t_ns, &**spec)),
                _ => None,
            })
            .collect()
    }

    /// The generator's own samples, with their events.
    pub fn generator(&self) -> impl Iterator<Item = (u64, &GeneratorSample)> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::Generator(sample) => Some((event.n, sample)),
            _ => None,
        })
    }

    /// How requests were spaced, second by second.
    pub fn spacing(&self) -> impl Iterator<Item = &Spacing> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::Spacing(spacing) => Some(&**spacing),
            _ => None,
        })
    }

    /// The moment that `anchor` means, as it really happened.
    ///
    /// # Errors
    /// In words, when the phase or fault is unknown or never reached that moment.
    pub fn resolve(&self, anchor: &Anchor) -> Result<Offset, String> {
        let base = if let Some(phase) = self.started.phases.iter().find(|phase| phase.name == anchor.of) {
            match anchor.moment {
                None | Some(Moment::Start) => phase.start,
                Some(Moment::End) => phase.end,
                Some(_) => return Err(format!("`{anchor}` asks when a phase was injected, effective or healed; only faults are")),
            }
        } else if let Some(fault) = self.fault(&anchor.of) {
            let (seen, word) = match anchor.moment {
                None | Some(Moment::Injected | Moment::Start) => (fault.injected, "injected"),
                Some(Moment::Effective) => (fault.effective, "proven effective"),
                Some(Moment::Healed | Moment::End) => (fault.healed, "proven healed"),
            };
            seen.ok_or_else(|| format!("fault {} was never {word}{}", fault.name, fault.why_not()))?.1
        } else {
            return Err(format!("`{}` is neither a phase nor a fault of this run", anchor.of));
        };
        Ok(match anchor.shift {
            Shift::Later(span) => base + span.duration(),
            Shift::Earlier(span) => base - span.duration(),
        })
    }

    /// Every histogram as it was recorded, per series and second: its filled buckets as `(microseconds, count)` in rising order.
    /// For who goes through all of them once; a stretch of time is asked for by [`History::histogram`].
    pub fn bars(&self) -> impl Iterator<Item = (&Series, i64, &[(u64, u64)])> {
        self.bars.iter().map(|((series, second), bars)| (series, *second, bars.as_slice()))
    }

    fn bars_in<'a>(
        &'a self,
        which: Selection<'a>,
        outcomes: &'a [Outcome],
        measure: Measure,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = (i64, &'a Bars)> {
        self.bars
            .iter()
            .filter(move |((series, second), _)| {
                series.measure == measure
                    && outcomes.contains(&series.outcome)
                    && which.has(&series.load, &series.part)
                    && self.overlaps(&series.phase, *second, from, to)
            })
            .map(|((_, second), bars)| (*second, bars))
    }

    /// Whether the window of `phase` and `second` overlaps `[from, to)`.
    pub fn overlaps(&self, phase: &Name, second: i64, from: Offset, to: Offset) -> bool {
        let (start, end) = self.stretch(phase, second);
        start < to && end > from
    }

    /// The time that a window covers: its second, cut at the bounds of its phase.
    fn stretch(&self, phase: &Name, second: i64) -> (Offset, Offset) {
        let start = Offset::from_nanos(second.saturating_mul(1_000_000_000));
        let end = Offset::from_nanos(second.saturating_add(1).saturating_mul(1_000_000_000));
        match self.started.phases.iter().find(|planned| planned.name == *phase) {
            // A window that lies outside of its phase altogether is kept as it stands rather than turned inside out.
            Some(planned) if planned.start < end && planned.end > start => (start.max(planned.start), end.min(planned.end)),
            _ => (start, end),
        }
    }
}

impl FaultSeen {
    /// `: during X, Y` for the first failure, or nothing.
    pub fn why_not(&self) -> String {
        self.failures.first().map(|failure| format!(": during {}, {}", failure.during, failure.reason)).unwrap_or_default()
    }

    /// From its injection until it was proven gone.
    pub fn stretch(&self) -> Option<(Offset, Option<Offset>)> {
        Some((self.injected?.1, self.healed.map(|(_, t)| t)))
    }
}

/// Whether two names mean the same object: `hpa` is what the API calls `HorizontalPodAutoscaler`.
pub fn same_object(a: &ObjectRef, b: &ObjectRef) -> bool {
    a.namespace == b.namespace && a.name == b.name && kind_of(&a.kind) == kind_of(&b.kind)
}

/// The kind behind a short name or plural, as `kubectl api-resources` lists them, of the kinds that readings are about.
fn kind_of(kind: &str) -> &str {
    match kind {
        "deploy" | "deployments" => "deployment",
        "hpa" | "horizontalpodautoscalers" => "horizontalpodautoscaler",
        "rs" | "replicasets" => "replicaset",
        "sts" | "statefulsets" => "statefulset",
        "ds" | "daemonsets" => "daemonset",
        "po" | "pods" => "pod",
        "svc" | "services" => "service",
        "no" | "nodes" => "node",
        other => other,
    }
}

fn read_events(path: &Path, text: &[u8], torn: &mut Vec<String>, unknown: &mut Vec<String>) -> Result<Vec<Event>, Error> {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let not = |why: String| Error::NotARecording { path: path.to_owned(), why };
    let first: Value = serde_json::from_slice(first).map_err(|error| not(error.to_string()))?;
    let started = first.pointer("/fact/run_started").ok_or_else(|| not("it has no `run_started`".to_owned()))?;
    let found = started.pointer("/schema").and_then(Value::as_str).ok_or_else(|| not("it has no `schema`".to_owned()))?;
    // A minor version (v1.2) only adds; the part before its dot must be ours.
    if found != SCHEMA && !found.strip_prefix(SCHEMA).is_some_and(|minor| minor.starts_with('.')) {
        let written_by = started.pointer("/squall").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        return Err(Error::Format { found: found.to_owned(), written_by });
    }

    let mut events: Vec<Event> = Vec::new();
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let at = index + 1;
        let Some(line) = line.strip_suffix(b"\n") else {
            torn.push(format!("{EVENTS_FILE} ends in the middle of line {at}"));
            continue;
        };
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => {
                if event.n != index as u64 && torn.is_empty() {
                    torn.push(format!("{EVENTS_FILE} line {at} holds event {} where {index} belongs: lines are missing", event.n));
                }
                events.push(event);
            }
            Err(error) => match unknown_fact(line) {
                Some(kind) if index > 0 => {
                    if !unknown.contains(&kind) {
                        unknown.push(kind);
                    }
                }
                _ if index == 0 => return Err(not(error.to_string())),
                _ => torn.push(format!("{EVENTS_FILE} line {at} cannot be read: {error}")),
            },
        }
    }
    Ok(events)
}

/// The kind of a whole event that is new to us; `None` when the line is not an event, or is a broken one of a kind that we know.
fn unknown_fact(line: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get("n")?.as_u64()?;
    value.get("t_ns")?.as_i64()?;
    let kind = value.get("fact")?.as_object()?.keys().next()?.clone();
    // Serde names the variants that it knows when it meets one that it does not.
    let probe = serde_json::json!({ kind.as_str(): null });
    let error = serde_json::from_value::<Fact>(probe).err()?.to_string();
    error.starts_with("unknown variant").then_some(kind)
}

fn add(sum: &mut Tally, more: &Tally) {
    sum.counts.add(&more.counts);
    for (cause, count) in &more.causes {
        *sum.causes.entry(cause.clone()).or_default() += count;
    }
    for (who, count) in &more.served_by {
        *sum.served_by.entry(who.clone()).or_default() += count;
    }
    for (address, count) in &more.sent_to {
        *sum.sent_to.entry(address.clone()).or_default() += count;
    }
    sum.retry_after += more.retry_after;
    sum.redirects += more.redirects;
    for (why, count) in &more.skipped {
        *sum.skipped.entry(why.clone()).or_default() += count;
    }
    sum.opened += more.opened;
    sum.unopened += more.unopened;
    sum.messages += more.messages;
    if let Some(more) = &more.attempts {
        sum.attempts.get_or_insert_default().add(more);
    }
}

fn merge(into: &mut Bars, new: Bars) {
    if into.is_empty() {
        *into = new;
        return;
    }
    let mut sum: BTreeMap<u64, u64> = into.drain(..).collect();
    for (value, count) in new {
        *sum.entry(value).or_default() += count;
    }
    into.extend(sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(schema: &str) -> String {
        format!(
            r#"{{"n":0,"t_ns":-1000,"fact":{{"run_started":{{"schema":"{schema}","run_id":"r","squall":"9.9.9","plan":"p","claim":"c","seed":1,"params":{{}},"zero":"","target":"http://x/","workload":null,"autoscaler":null,"phases":[{{"name":"base","start":0,"end":2500000000}},{{"name":"burst","start":2500000000,"end":5000000000}}],"loads":[],"faults":[{{"name":"kill","kind":"pod_kill","at":3000000000,"duration_ns":null}}],"environment":{{}}}}}}}}"#
        )
    }

    fn tally(n: u64, phase: &str, second: i64, ok: u64) -> String {
        format!(
            r#"{{"n":{n},"t_ns":0,"fact":{{"tally":{{"load":"l","phase":"{phase}","second":{second},"intended":{ok},"sent":{ok},"ok":{ok},"rejected":0,"failed":0,"timed_out":0,"unsent":0,"bytes_in":0,"bytes_out":0}}}}}}"#
        )
    }

    fn folder(lines: &[String], tail: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(EVENTS_FILE), lines.join("\n") + "\n" + tail).unwrap();
        std::fs::write(dir.path().join(HISTOGRAMS_FILE), "").unwrap();
        dir
    }

    fn at(seconds: f64) -> Offset {
        Offset::from_secs_f64(seconds)
    }

    #[test]
    fn a_torn_last_line_is_said_and_the_rest_is_read() {
        let dir = folder(&[started(SCHEMA), tally(1, "base", 0, 10)], "{\"n\":2,\"t_");
        std::fs::remove_file(dir.path().join(HISTOGRAMS_FILE)).unwrap();
        let history = History::load(dir.path()).unwrap();
        assert_eq!(history.counts(None, at(0.0), at(9.0)).ok, 10);
        assert!(history.torn[0].contains("ends in the middle of line 3"), "{:?}", history.torn);
        assert!(history.torn[1].contains("latency.hlog cannot be read"), "{:?}", history.torn);
    }

    #[test]
    fn missing_lines_are_noticed() {
        let dir = folder(&[started(SCHEMA), tally(4, "base", 0, 10)], "");
        let history = History::load(dir.path()).unwrap();
        assert!(history.torn[0].contains("event 4 where 1 belongs"), "{:?}", history.torn);
        // A line of a newer kind has its number too, and excuses none that is missing.
        let new = r#"{"n":1,"t_ns":5,"fact":{"comet":{"tail":3}}}"#.to_owned();
        let whole = History::load(folder(&[started(SCHEMA), new.clone(), tally(2, "base", 0, 10)], "").path()).unwrap();
        assert_eq!(whole.torn, Vec::<String>::new());
        let holed = History::load(folder(&[started(SCHEMA), new, tally(4, "base", 0, 10)], "").path()).unwrap();
        assert!(holed.torn[0].contains("event 4 where 2 belongs"), "{:?}", holed.torn);
    }

    /// Interrupted in the middle of second 3; healing took until second 20.
    #[test]
    fn what_was_carried_out_ends_with_the_load_and_not_with_the_healing() {
        let end = |how: &str| format!(r#"{{"n":4,"t_ns":20000000000,"fact":{{"run_ended":{{"how":{how},"lost_events":0}}}}}}"#);
        let load = [tally(1, "base", 2, 10), tally(2, "burst", 2, 100), tally(3, "burst", 3, 50)];
        let of = |how| History::load(folder(&[&[started(SCHEMA)], &load[..], &[end(how)]].concat(), "").path()).unwrap();
        assert_eq!(of(r#"{"interrupted":{"signal":"SIGINT"}}"#).ran_until(), at(4.0));
        assert_eq!(of(r#""completed""#).ran_until(), at(20.0));
    }

    #[test]
    fn another_major_format_is_refused_and_a_newer_minor_one_is_read() {
        let error = History::load(folder(&[started("squall.recording.v2")], "").path()).unwrap_err().to_string();
        assert!(error.contains("`squall.recording.v2`") && error.contains("version 9.9.9"), "{error}");
        let new = r#"{"n":1,"t_ns":5,"fact":{"comet":{"tail":3}}}"#.to_owned();
        let broken = r#"{"n":2,"t_ns":5,"fact":{"gap":{"tail":3}}}"#.to_owned();
        let history = History::load(folder(&[started("squall.recording.v1.4"), new, broken], "").path()).unwrap();
        assert_eq!(history.unknown, ["comet"]);
        assert_eq!(history.torn.len(), 1, "a broken line of a known kind is not new: {:?}", history.torn);
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(History::load(dir.path()).unwrap_err().to_string().contains("no recording at"));
        std::fs::write(dir.path().join(EVENTS_FILE), "hello\n").unwrap();
        assert!(History::load(dir.path()).unwrap_err().to_string().contains("is not a recording"));
    }

    /// Second 2 is shared by both phases: [2, 2.5) is base, [2.5, 3) is burst.
    #[test]
    fn phases_are_exact_and_other_stretches_round_outward() {
        let lines = [started(SCHEMA), tally(1, "base", 2, 10), tally(2, "burst", 2, 100), tally(3, "burst", 3, 1000)];
        let history = History::load(folder(&lines, "").path()).unwrap();
        assert_eq!(history.counts(None, at(0.0), at(2.5)).ok, 10);
        assert_eq!(history.counts(None, at(2.5), at(5.0)).ok, 1100);
        assert!(!history.rounds(None, at(2.5), at(5.0)));
        assert_eq!(history.counts(None, at(2.7), at(3.1)).ok, 1100);
        assert!(history.rounds(None, at(2.7), at(3.1)));
        assert_eq!(
            history.per_second(None, at(0.0), at(5.0)).iter().map(|(s, c)| (*s, c.ok)).collect::<Vec<_>>(),
            [(2, 110), (3, 1000)]
        );
    }

    #[test]
    fn anchors_mean_what_happened() {
        let injected = r#"{"n":1,"t_ns":3100000000,"fact":{"fault":{"fault":"kill","step":"injected"}}}"#.to_owned();
        let history = History::load(folder(&[started(SCHEMA), injected], "").path()).unwrap();
        assert_eq!(history.resolve(&"burst + 1s".parse().unwrap()), Ok(at(3.5)));
        assert_eq!(history.resolve(&"burst.end - 1s".parse().unwrap()), Ok(at(4.0)));
        assert_eq!(history.resolve(&"kill + 1s".parse().unwrap()), Ok(at(4.1)));
        let error = history.resolve(&"kill.effective".parse().unwrap()).unwrap_err();
        assert!(error.contains("never proven effective"), "{error}");
    }

    #[test]
    fn short_names_and_kinds_mean_the_same_object() {
        let a: ObjectRef = "shop/hpa/checkout".parse().unwrap();
        let b: ObjectRef = "shop/horizontalpodautoscaler/checkout".parse().unwrap();
        let c: ObjectRef = "shop/deployment/checkout".parse().unwrap();
        assert!(same_object(&a, &b) && !same_object(&a, &c));
    }
}
