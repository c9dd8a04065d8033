//! A recording read back: the only thing that verdicts and reports may look at. Reading forgives what a crash does (a torn last
//! line, a missing histogram log) and says so in [`History::torn`]; it refuses what it would misunderstand.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use crate::names::{Anchor, Moment, Name, Shift};
use crate::recording::fact::{Ending, Event, Fact, PhaseSpan, RunEnded, RunStarted, Tally};
use crate::recording::sink::{Interval, Series};
use crate::recording::{EVENTS_FILE, HISTOGRAMS_FILE, hlog};
use crate::time::Offset;

mod faults;
mod lines;
mod readings;
mod windows;

pub use faults::{EvidenceSeen, FailureSeen, FaultSeen};
pub use lines::Error;
pub use readings::{asker, is_scaled_object, same_object};
pub use windows::{Selection, WindowKey};

use windows::{Bars, add, merge};

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
        let events = lines::read(&path, &text, &mut torn, &mut unknown)?;

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
            merge(bars.entry((interval.series, interval.second)).or_default(), &interval.histogram);
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

    /// The phase `name`.
    pub fn phase(&self, name: &Name) -> Option<PhaseSeen> {
        let planned = self.started.phases.iter().find(|phase| phase.name == *name)?;
        let ended = self.events.iter().any(|event| matches!(&event.fact, Fact::PhaseEnded { phase } if phase == name));
        Some(PhaseSeen { start: planned.start, end: planned.end, completed: ended })
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::SCHEMA;

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
}
