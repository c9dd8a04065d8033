//! What a person sees while a run goes on, on stderr: on a terminal one line that moves, everywhere else a plain line for each
//! phase, fault, scaling step and gap, and a heartbeat twice a minute. It is fed with events and ticks; it waits for nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::names::{Name, ObjectRef};
use crate::recording::fact::{Counts, Event, Fact, FaultStep, PhaseSpan};
use crate::recording::history::{asker, same_object};
use crate::recording::metric::{DESIRED_REPLICAS, READY_REPLICAS};
use crate::report::{numbers, words};
use crate::time::Offset;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Display {
    /// One line that moves, and the plain lines above it.
    Line,
    /// Plain lines.
    Plain,
    /// Nothing.
    Quiet,
}

/// Times per second that the moving line is drawn, at most.
const FRAMES: u8 = 10;
/// Between two heartbeats of the plain display.
const HEARTBEAT_NANOS: i64 = 30_000_000_000;
/// Lines about scaling and gaps that a run may print; after them only phases and faults are told, and the recording has the rest.
const LINES: u32 = 200;
/// Seconds of counts that are kept to show the rate of the last whole one.
const SECONDS: usize = 8;

/// Live progress of one run.
pub struct Live {
    display: Display,
    out: Box<dyn Write + Send>,
    bar: ProgressBar,
    state: State,
    lines_left: u32,
    next_heartbeat: Offset,
}

/// What is known so far.
#[derive(Default)]
struct State {
    phases: Vec<PhaseSpan>,
    workload: Option<ObjectRef>,
    autoscaler: Option<ObjectRef>,
    total: Counts,
    seconds: BTreeMap<i64, Counts>,
    ready: Option<f64>,
    desired: Option<f64>,
    in_flight: Option<u64>,
    active: Vec<Name>,
    missed: u64,
}

impl Display {
    /// The moving line where a person watches a terminal that can draw it, plain lines elsewhere. CI systems that pretend to be
    /// terminals are not persons.
    pub fn detect() -> Display {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb && !set("CI") { Display::Line } else { Display::Plain }
    }
}

impl Live {
    /// Progress on stderr.
    pub fn new(display: Display) -> Live {
        Live::to(display, Box::new(anstream::stderr()))
    }

    /// Progress on `out`; the moving line, where there is one, stays on stderr.
    pub fn to(display: Display, out: Box<dyn Write + Send>) -> Live {
        let target = match display {
            Display::Line => ProgressDrawTarget::stderr_with_hz(FRAMES),
            Display::Plain | Display::Quiet => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:16.cyan} {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Live { display, out, bar, state: State::default(), lines_left: LINES, next_heartbeat: Offset::from_nanos(HEARTBEAT_NANOS) }
    }

    /// Takes in an event of the recording, in its order.
    pub fn event(&mut self, event: &Event) {
        let scaled = self.state.take(&event.fact);
        match &event.fact {
            Fact::RunStarted(run) => {
                self.say(event.t_ns, &format!("{} against {}", words::of(&event.fact), words::clean(&run.target)));
                self.bar.set_length(self.state.end().nanos().max(1) as u64);
            }
            Fact::PhaseStarted { .. } => self.say(event.t_ns, &words::of(&event.fact)),
            Fact::Fault { step, .. } => match step {
                FaultStep::Targeted { .. }
                | FaultStep::Injected
                | FaultStep::Effective
                | FaultStep::Healed
                | FaultStep::Failed { .. } => self.say(event.t_ns, &words::of(&event.fact)),
                FaultStep::Evidence { supports, .. } if !supports => self.say(event.t_ns, &words::of(&event.fact)),
                FaultStep::Journalled | FaultStep::Evidence { .. } | FaultStep::Healing => {}
            },
            Fact::Reading(_) => {
                if let Some(change) = scaled {
                    self.say_bounded(event.t_ns, &change);
                }
            }
            // The first is the one before the run.
            Fact::Lookup(lookup) if lookup.failed.is_some() || !lookup.addresses.is_empty() && event.t_ns > Offset::ZERO => {
                self.say_bounded(event.t_ns, &words::of(&event.fact));
            }
            Fact::Gap(_) | Fact::Bound { .. } => self.say_bounded(event.t_ns, &words::of(&event.fact)),
            Fact::LeftBehind { .. } | Fact::RunEnded(_) => self.say(event.t_ns, &words::of(&event.fact)),
            _ => {}
        }
    }

    /// The reader of events lagged and lost `events` of them: the lines are incomplete, the recording is not.
    pub fn missed(&mut self, events: u64) {
        self.state.missed += events;
    }

    /// Says what does not work and harms nothing but itself.
    pub fn warn(&mut self, words: &str) {
        self.print(&format!("warning: {}", words::clean(words)));
    }

    /// Lets time pass; to be called several times a second.
    pub fn tick(&mut self, now: Offset) {
        match self.display {
            Display::Quiet => {}
            Display::Line => {
                self.bar.set_position(now.nanos().clamp(0, self.state.end().nanos().max(1)) as u64);
                self.bar.set_message(self.state.line(now));
            }
            Display::Plain => {
                if now >= self.next_heartbeat {
                    let line = self.state.line(now);
                    self.say(now, &line);
                    while now >= self.next_heartbeat {
                        self.next_heartbeat = Offset::from_nanos(self.next_heartbeat.nanos() + HEARTBEAT_NANOS);
                    }
                }
            }
        }
    }

    /// Takes the moving line away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        // A closed stderr is nobody's failure.
        let _ = self.out.flush();
    }

    fn say_bounded(&mut self, t: Offset, text: &str) {
        match self.lines_left {
            0 => {}
            1 => {
                self.lines_left = 0;
                self.say(t, "further scaling steps and gaps are in the recording only");
            }
            _ => {
                self.lines_left -= 1;
                self.say(t, text);
            }
        }
    }

    fn say(&mut self, t: Offset, text: &str) {
        self.print(&format!("t={:<8} {text}", numbers::moment(t.seconds())));
    }

    fn print(&mut self, line: &str) {
        if self.display == Display::Quiet {
            return;
        }
        let out = &mut self.out;
        // A closed stderr is nobody's failure.
        self.bar.suspend(|| _ = writeln!(out, "{line}"));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    /// Learns from a fact; gives back a change of scale in words.
    fn take(&mut self, fact: &Fact) -> Option<String> {
        match fact {
            Fact::RunStarted(run) => {
                self.phases.clone_from(&run.phases);
                self.workload.clone_from(&run.workload);
                self.autoscaler.clone_from(&run.autoscaler);
            }
            Fact::Tally(tally) => {
                self.total.add(&tally.counts);
                self.seconds.entry(tally.second).or_default().add(&tally.counts);
                while self.seconds.len() > SECONDS {
                    self.seconds.pop_first();
                }
            }
            Fact::Generator(sample) => self.in_flight = Some(sample.in_flight),
            Fact::Fault { fault, step } => match step {
                FaultStep::Injected if !self.active.contains(fault) => self.active.push(fault.clone()),
                FaultStep::Healed => self.active.retain(|active| active != fault),
                _ => {}
            },
            Fact::Reading(reading) => {
                let of = |object: &Option<ObjectRef>| object.as_ref().is_some_and(|object| same_object(object, &reading.object));
                let workload = self.workload.as_ref();
                let asker = self.autoscaler.as_ref().map(|autoscaler| asker(autoscaler, workload)).or(workload);
                // What an autoscaler asks for is told once, not again when the workload is told.
                let (known, what) = match reading.metric.as_str() {
                    READY_REPLICAS if of(&self.workload) => (&mut self.ready, "ready"),
                    DESIRED_REPLICAS if asker.is_some_and(|asker| same_object(asker, &reading.object)) => {
                        (&mut self.desired, "wanted")
                    }
                    _ => return None,
                };
                let before = known.replace(reading.value);
                let to = numbers::value(reading.value, "1");
                return match before {
                    None => Some(format!("scale {to} {what}")),
                    Some(before) if before != reading.value => {
                        Some(format!("scale {} -> {to} {what}", numbers::value(before, "1")))
                    }
                    Some(_) => None,
                };
            }
            _ => {}
        }
        None
    }

    fn end(&self) -> Offset {
        self.phases.last().map_or(Offset::ZERO, |phase| phase.end)
    }

    /// `burst 31s of 60s  250/s  5 000 ok, 3 not ok  4 of 5 ready  kill-one active`.
    fn line(&self, now: Offset) -> String {
        let mut parts = Vec::new();
        match self.phases.iter().find(|phase| phase.start <= now && now < phase.end) {
            Some(phase) => parts.push(format!(
                "{} {}s of {}",
                phase.name,
                now.since(phase.start).as_secs(),
                numbers::value(phase.end.since(phase.start).as_secs_f64(), "s")
            )),
            None if now < Offset::ZERO || self.phases.is_empty() => parts.push("getting ready".to_owned()),
            None => parts.push("winding down".to_owned()),
        }
        // The last second that is over and told of, which takes up to a second: a later one would show half a rate.
        if let Some((_, last)) = self.seconds.range(..now.second() - 1).next_back() {
            parts.push(format!("{}/s", last.sent));
        }
        let bad = self.total.rejected + self.total.failed + self.total.timed_out;
        if self.total.ended() > 0 {
            parts.push(format!("{} ok, {} not ok", numbers::count(self.total.ok), numbers::count(bad)));
        }
        if self.total.unsent > 0 {
            parts.push(format!("{} unsent", numbers::count(self.total.unsent)));
        }
        if let Some(in_flight) = self.in_flight {
            parts.push(format!("{in_flight} in flight"));
        }
        match (self.ready, self.desired) {
            (Some(ready), Some(desired)) => {
                parts.push(format!("{} of {} ready", numbers::value(ready, "1"), numbers::value(desired, "1")));
            }
            (Some(ready), None) => parts.push(format!("{} ready", numbers::value(ready, "1"))),
            _ => {}
        }
        if !self.active.is_empty() {
            let names: Vec<&str> = self.active.iter().map(Name::as_str).collect();
            parts.push(format!("active: {}", names.join(", ")));
        }
        if self.missed > 0 {
            parts.push(format!("{} not shown", numbers::plural(self.missed, "event")));
        }
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::{Gap, Reading, RunEnded, RunStarted, Tally};
    use std::sync::{Arc, Mutex};

    /// A place to write that can be read while it is written to.
    #[derive(Clone, Default)]
    struct Pad(Arc<Mutex<Vec<u8>>>);

    impl Write for Pad {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn at(seconds: f64) -> Offset {
        Offset::from_secs_f64(seconds)
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn started() -> Fact {
        let phase = |text, from, to| PhaseSpan { name: name(text), start: at(from), end: at(to) };
        Fact::RunStarted(Box::new(RunStarted {
            schema: String::new(),
            run_id: "r1".into(),
            squall: String::new(),
            plan: "p".into(),
            claim: String::new(),
            seed: 7,
            params: BTreeMap::new(),
            zero: String::new(),
            target: "http://x/\x1b[2J".into(),
            workload: Some("shop/deployment/checkout".parse().unwrap()),
            autoscaler: Some("shop/hpa/checkout".parse().unwrap()),
            phases: vec![phase("baseline", 0.0, 40.0), phase("burst", 40.0, 100.0)],
            loads: vec![],
            faults: vec![],
            environment: BTreeMap::new(),
        }))
    }

    fn tally(second: i64, ok: u64) -> Fact {
        let counts = Counts { intended: ok + 1, sent: ok + 1, ok, failed: 1, ..Counts::default() };
        Fact::Tally(Box::new(Tally {
            load: name("l"),
            phase: name("baseline"),
            part: Default::default(),
            second,
            counts,
            causes: BTreeMap::new(),
            served_by: BTreeMap::new(),
            retry_after: 0,
            redirects: 0,
            skipped: BTreeMap::new(),
            messages: 0,
            sent_to: BTreeMap::new(),
            opened: 0,
            unopened: 0,
            attempts: None,
        }))
    }

    fn reading(object: &str, metric: &str, value: f64) -> Fact {
        Fact::Reading(Reading { object: object.parse().unwrap(), metric: metric.into(), value })
    }

    fn told(display: Display, facts: Vec<(f64, Fact)>, ticks: &[f64]) -> String {
        let pad = Pad::default();
        let mut live = Live::to(display, Box::new(pad.clone()));
        for (n, (t, fact)) in facts.into_iter().enumerate() {
            live.event(&Event { n: n as u64, t_ns: at(t), fact });
        }
        ticks.iter().for_each(|t| live.tick(at(*t)));
        drop(live);
        let bytes = pad.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn without_a_terminal_each_turn_of_the_run_is_one_line() {
        let fault = |step| Fact::Fault { fault: name("kill"), step };
        let facts = vec![
            (-1.0, started()),
            (0.0, Fact::PhaseStarted { phase: name("baseline") }),
            (0.1, reading("shop/deployment/checkout", READY_REPLICAS, 2.0)),
            (1.0, tally(0, 49)),
            (1.1, reading("shop/deployment/checkout", READY_REPLICAS, 2.0)),
            (2.0, fault(FaultStep::Journalled)),
            (2.0, fault(FaultStep::Injected)),
            (2.5, fault(FaultStep::Effective)),
            (3.0, reading("shop/horizontalpodautoscaler/checkout", DESIRED_REPLICAS, 4.0)),
            (3.1, reading("shop/deployment/checkout", DESIRED_REPLICAS, 4.0)),
            (4.0, reading("shop/deployment/checkout", READY_REPLICAS, 3.0)),
            (5.0, Fact::Gap(Gap { source: "watch pods".into(), from: at(4.0), to: at(5.0), reason: "closed\nearly".into() })),
            (6.0, Fact::RunEnded(RunEnded { how: crate::recording::fact::Ending::Completed, lost_events: 0 })),
        ];
        assert_eq!(
            told(Display::Plain, facts.clone(), &[]),
            "t=-1.0s    run r1 of p starts, seed 7 against http://x/[2J\n\
             t=0.0s     phase baseline starts\n\
             t=0.1s     scale 2 ready\n\
             t=2.0s     fault kill is injected\n\
             t=2.5s     fault kill is proven effective\n\
             t=3.0s     scale 4 wanted\n\
             t=4.0s     scale 2 -> 3 ready\n\
             t=5.0s     nothing was seen of `watch pods` from 4.0s to 5.0s: closed early\n\
             t=6.0s     run completed\n"
        );
        assert_eq!(told(Display::Quiet, facts, &[1.0, 31.0]), "");
    }

    #[test]
    fn a_heartbeat_comes_every_thirty_seconds_however_often_time_passes() {
        let ticks: Vec<f64> = (0..650).map(|n| f64::from(n) / 10.0).collect();
        let text = told(Display::Plain, vec![(-1.0, started()), (1.0, tally(0, 49))], &ticks);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["t=30.0s    baseline 30s of 40s  50/s  49 ok, 1 not ok", "t=60.0s    burst 20s of 60s  50/s  49 ok, 1 not ok"]
        );
    }

    #[test]
    fn a_flood_of_gaps_does_not_become_a_flood_of_lines() {
        let gap = |n: u32| Fact::Gap(Gap { source: format!("scrape {n}"), from: at(1.0), to: at(2.0), reason: String::new() });
        let mut facts: Vec<(f64, Fact)> = vec![(-1.0, started())];
        facts.extend((0..10_000).map(|n| (f64::from(n), gap(n))));
        facts.push((1e5, Fact::PhaseStarted { phase: name("burst") }));
        let text = told(Display::Plain, facts, &[]);
        assert_eq!(text.lines().count() as u32, 1 + LINES + 1);
        assert!(text.ends_with("phase burst starts\n"));
    }
}
