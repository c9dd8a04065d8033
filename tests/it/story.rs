//! Recordings made by hand: a run told second by second, as a builder, for tests of what reads recordings. No clock and no
//! randomness: the same story is the same recording, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use squall::names::{Name, ObjectRef};
use squall::recording::fact::{
    AutoscalerSpec, Counts, Ending, Event, Fact, FaultLine, FaultStep, Gap, GeneratorSample, LoadLine, Outcome, Part, PhaseSpan,
    PodSeen, Reading, RunEnded, RunStarted, SCHEMA, ScalingPolicy, ScalingRules, Tally,
};
use squall::recording::hlog::HlogWriter;
use squall::recording::sink::{Interval, Measure, Series};
use squall::recording::{EVENTS_FILE, HISTOGRAMS_FILE, History};
use squall::time::Offset;

/// The only load of a story.
pub const LOAD: &str = "shoppers";

/// A run in the making. Everything about Kubernetes is of namespace `shop` and called `checkout`.
pub struct Story {
    started: RunStarted,
    part: Part,
    facts: Vec<(Offset, Fact)>,
    intervals: BTreeMap<(Series, i64), Histogram<u64>>,
    ended: Option<RunEnded>,
}

/// What became of one request.
#[derive(Clone, Copy)]
pub struct Answer {
    pub outcome: Outcome,
    pub response_ms: f64,
    pub lateness_ms: f64,
}

/// Answered after so many milliseconds, sent a fifth of one late.
pub fn ok(response_ms: f64) -> Answer {
    Answer { outcome: Outcome::Ok, response_ms, lateness_ms: 0.2 }
}

/// Ended otherwise after so many milliseconds.
pub fn not(outcome: Outcome, response_ms: f64) -> Answer {
    Answer { outcome, ..ok(response_ms) }
}

/// The latency of request `i` of a service that takes `mean_ms` on average, exponentially: evenly through all quantiles, in an order
/// that spreads them (the golden ratio's).
pub fn exponential_ms(i: u64, mean_ms: f64) -> f64 {
    let u = (i as f64 * 0.618_033_988_749_895).fract();
    -mean_ms * (1.0 - u).max(1e-4).ln()
}

pub fn at(seconds: f64) -> Offset {
    Offset::from_secs_f64(seconds)
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

impl Story {
    /// A run of phases of whole seconds, one after the other.
    pub fn of(plan: &str, phases: &[(&str, u64)]) -> Story {
        let mut start = Offset::ZERO;
        let phases: Vec<PhaseSpan> = phases
            .iter()
            .map(|(phase, seconds)| {
                let span = PhaseSpan { name: name(phase), start, end: start + Duration::from_secs(*seconds) };
                start = span.end;
                span
            })
            .collect();
        let mut story = Story {
            started: RunStarted {
                schema: SCHEMA.to_owned(),
                run_id: format!("{plan}-told"),
                squall: "0.1.0".to_owned(),
                plan: plan.to_owned(),
                claim: "told, not run".to_owned(),
                seed: 1,
                params: BTreeMap::new(),
                zero: "2026-11-23T12:00:00Z".to_owned(),
                target: "http://checkout.shop:8080/".to_owned(),
                workload: Some(object("shop/deployment/checkout")),
                autoscaler: Some(object("shop/hpa/checkout")),
                phases: phases.clone(),
                loads: vec![LoadLine {
                    name: name(LOAD),
                    method: "GET".to_owned(),
                    path: "/checkout".to_owned(),
                    timeout_ns: 2_000_000_000,
                    intended: BTreeMap::new(),
                    users: BTreeMap::new(),
                    classes: Vec::new(),
                    flows: Vec::new(),
                    attempts: None,
                }],
                faults: Vec::new(),
                environment: BTreeMap::new(),
            },
            part: Part::default(),
            facts: Vec::new(),
            intervals: BTreeMap::new(),
            ended: Some(RunEnded { how: Ending::Completed, lost_events: 0 }),
        };
        for phase in phases {
            story.fact(phase.start, Fact::PhaseStarted { phase: phase.name.clone() });
            story.fact(phase.end, Fact::PhaseEnded { phase: phase.name });
        }
        story
    }

    /// What was told is the doing of so many users in each phase, who wait for answers: nobody planned how much they send.
    pub fn by_users(&mut self, users: u32) -> &mut Story {
        let load = &mut self.started.loads[0];
        load.users = self.started.phases.iter().map(|phase| (phase.name.clone(), [users; 2])).collect();
        load.intended.clear();
        self
    }

    /// One more request of the second `second` of `phase` that a limit of squall's own kept back.
    pub fn kept_back(&mut self, phase: &str, second: i64, limit: &str) -> &mut Story {
        let mut tally = self.tally(phase, second);
        tally.counts = Counts { intended: 1, unsent: 1, ..Counts::default() };
        tally.causes = BTreeMap::from([(limit.to_owned(), 1)]);
        self.fact(at(second as f64 + 1.0), Fact::Tally(Box::new(tally)))
    }

    pub fn fact(&mut self, t: Offset, fact: Fact) -> &mut Story {
        self.facts.push((t, fact));
        self
    }

    /// What is told from here on is of requests of this class.
    pub fn class(&mut self, class: &str) -> &mut Story {
        self.part = Part { class: Some(name(class)), step: None };
        self.started.loads[0].classes.push(name(class));
        self
    }

    /// `rate` requests in each second of `phase`; `answer` says what became of number `i` of the phase, due at `t` seconds.
    pub fn traffic(&mut self, phase: &str, rate: u64, answer: impl FnMut(f64, u64) -> Answer) -> &mut Story {
        self.ramp(phase, |_| rate, answer)
    }

    /// The same with a rate for each second, counted from the start of the phase.
    pub fn ramp(&mut self, phase: &str, rate: impl Fn(i64) -> u64, mut answer: impl FnMut(f64, u64) -> Answer) -> &mut Story {
        let span = self.started.phases.iter().find(|span| span.name.as_str() == phase).expect("a phase of the story").clone();
        let mut i = 0;
        for second in span.start.second()..span.end.second() {
            let mut tally = self.tally(phase, second);
            let rate = rate(second - span.start.second());
            for k in 0..rate {
                let told = answer(second as f64 + k as f64 / rate as f64, i);
                i += 1;
                self.count(&mut tally, told);
            }
            self.fact(at(second as f64 + 1.0), Fact::Tally(Box::new(tally)));
            let sample = GeneratorSample {
                second,
                cpu: 0.1,
                workers: Vec::new(),
                steal: Some(0.0),
                in_flight: 4,
                connections: 16,
                starved: None,
                window_us: 0,
            };
            self.fact(at(second as f64 + 1.0), Fact::Generator(sample));
        }
        *self.started.loads[0].intended.entry(name(phase)).or_default() += i;
        self
    }

    /// Nothing yet.
    fn tally(&self, phase: &str, second: i64) -> Tally {
        Tally {
            load: name(LOAD),
            phase: name(phase),
            part: self.part.clone(),
            second,
            counts: Counts::default(),
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
        }
    }

    fn count(&mut self, tally: &mut Tally, told: Answer) {
        let counts = &mut tally.counts;
        counts.intended += 1;
        match told.outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::Rejected => {
                counts.rejected += 1;
                tally.retry_after += 1;
                *tally.causes.entry("status 503".to_owned()).or_default() += 1;
            }
            Outcome::Failed => {
                counts.failed += 1;
                *tally.causes.entry("reset".to_owned()).or_default() += 1;
            }
            Outcome::TimedOut => {
                counts.timed_out += 1;
                *tally.causes.entry("timeout".to_owned()).or_default() += 1;
            }
            Outcome::Unsent => {
                counts.unsent += 1;
                return;
            }
        }
        counts.sent += 1;
        let (second, phase) = (tally.second, tally.phase.clone());
        let mut record = |outcome, measure, ms: f64| {
            let series = Series { load: name(LOAD), phase: phase.clone(), part: tally.part.clone(), outcome, measure };
            let fresh = || Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds");
            self.intervals.entry((series, second)).or_insert_with(fresh).saturating_record((ms * 1e3).round() as u64);
        };
        record(told.outcome, Measure::Response, told.response_ms);
        record(Outcome::Ok, Measure::Lateness, told.lateness_ms);
    }

    /// A fault that takes effect a tenth of a second after it is injected and is gone a tenth after its healing began.
    pub fn fault(&mut self, fault: &str, kind: &str, injected: f64, lasts: Option<f64>) -> &mut Story {
        self.planned(fault, kind, injected, lasts);
        let healing = injected + lasts.unwrap_or(1.0);
        self.step(fault, injected, FaultStep::Injected);
        for (witness, says) in [("mechanism", "what was asked for was done"), ("victim", "its neighbour felt it")] {
            let evidence = FaultStep::Evidence { witness: witness.to_owned(), says: says.to_owned(), supports: true };
            self.step(fault, injected + 0.1, evidence);
        }
        self.step(fault, injected + 0.1, FaultStep::Effective);
        self.step(fault, healing, FaultStep::Healing);
        self.step(fault, healing + 0.1, FaultStep::Healed)
    }

    /// A fault that was asked for and did nothing.
    pub fn idle_fault(&mut self, fault: &str, kind: &str, injected: f64, lasts: f64) -> &mut Story {
        self.planned(fault, kind, injected, Some(lasts));
        self.step(fault, injected, FaultStep::Injected);
        let says = "answers take 4ms, as before: 200ms were asked for".to_owned();
        self.step(fault, injected + 1.0, FaultStep::Evidence { witness: "victim".to_owned(), says, supports: false });
        self.step(fault, injected + lasts, FaultStep::Healing);
        self.step(fault, injected + lasts + 0.1, FaultStep::Healed)
    }

    fn planned(&mut self, fault: &str, kind: &str, injected: f64, lasts: Option<f64>) {
        self.started.faults.push(FaultLine {
            name: name(fault),
            kind: kind.to_owned(),
            at: Some(at(injected)),
            duration_ns: lasts.map(|seconds| (seconds * 1e9) as u64),
        });
        let targets = FaultStep::Targeted { targets: vec!["shop/checkout-a".to_owned()], of: 5 };
        self.step(fault, injected - 0.2, targets);
        self.step(fault, injected - 0.1, FaultStep::Journalled);
    }

    pub fn step(&mut self, fault: &str, t: f64, step: FaultStep) -> &mut Story {
        self.fact(at(t), Fact::Fault { fault: name(fault), step })
    }

    pub fn reading(&mut self, of: &str, metric: &str, t: f64, value: f64) -> &mut Story {
        self.fact(at(t), Fact::Reading(Reading { object: object(of), metric: metric.to_owned(), value }))
    }

    /// The workload's ready replicas, and what the autoscaler asked for a second before.
    pub fn sizes(&mut self, sizes: &[(f64, u32)]) -> &mut Story {
        for (t, size) in sizes {
            self.reading("shop/hpa/checkout", "desired_replicas", t - 1.0, f64::from(*size));
            self.reading("shop/deployment/checkout", "replicas", t - 0.9, f64::from(*size));
            self.reading("shop/deployment/checkout", "ready_replicas", *t, f64::from(*size));
        }
        self
    }

    /// A pod that takes `ready_s` to become ready.
    pub fn pod(&mut self, pod: &str, born: f64, ready_s: f64) -> &mut Story {
        let seen = |ready| {
            Fact::Pod(Box::new(PodSeen {
                namespace: "shop".to_owned(),
                name: pod.to_owned(),
                uid: format!("uid-{pod}"),
                owner: Some("checkout-5d".to_owned()),
                phase: "Running".to_owned(),
                ready,
                terminating: false,
                gone: false,
                restarts: 0,
                ip: Some("127.16.1.1".to_owned()),
                reason: None,
            }))
        };
        self.fact(at(born), seen(false)).fact(at(born + ready_s), seen(true))
    }

    /// An autoscaler with the API's default behaviour that looks every second, up to ten replicas.
    pub fn autoscaler_spec() -> AutoscalerSpec {
        let policy = |kind: &str, value| ScalingPolicy { kind: kind.to_owned(), value, period_s: 15 };
        AutoscalerSpec {
            object: object("shop/hpa/checkout"),
            scales: object("shop/deployment/checkout"),
            min_replicas: 1,
            max_replicas: 10,
            metrics: vec!["pods http_requests_in_flight averageValue 8".to_owned()],
            scale_up: ScalingRules {
                stabilization_window_s: 0,
                select_policy: "Max".to_owned(),
                policies: vec![policy("Pods", 4), policy("Percent", 100)],
            },
            scale_down: ScalingRules {
                stabilization_window_s: 300,
                select_policy: "Max".to_owned(),
                policies: vec![policy("Percent", 100)],
            },
            sync_period_s: 1.0,
            sync_period_source: "the sandbox's autoscaler".to_owned(),
            tolerance: 0.1,
            waking: None,
        }
    }

    /// The same, as it is seen at the start.
    pub fn autoscaler(&mut self) -> &mut Story {
        let spec = Fact::Autoscaler(Box::new(Story::autoscaler_spec()));
        self.reading("shop/hpa/checkout", "exists", -0.6, 1.0).fact(at(-0.5), spec)
    }

    /// A stretch in which `source` saw nothing.
    pub fn gap(&mut self, source: &str, from: f64, to: f64) -> &mut Story {
        let reason = "the watch broke: connection reset".to_owned();
        self.fact(at(to), Fact::Gap(Gap { source: source.to_owned(), from: at(from), to: at(to), reason }))
    }

    /// How the run ended; `None` for one that was killed.
    pub fn ends(&mut self, ended: Option<RunEnded>) -> &mut Story {
        self.ended = ended;
        self
    }

    /// An autoscaler whose spec somebody changes.
    pub fn autoscaler_changes(&mut self, t: f64, max_replicas: u32) -> &mut Story {
        let spec = self.facts.iter().find_map(|(_, fact)| match fact {
            Fact::Autoscaler(spec) => Some((**spec).clone()),
            _ => None,
        });
        let spec = AutoscalerSpec { max_replicas, ..spec.expect("an autoscaler of the story") };
        self.fact(at(t), Fact::Autoscaler(Box::new(spec)))
    }

    /// What a killed run leaves: nothing after `t` seconds.
    pub fn cut(&mut self, t: f64) -> &mut Story {
        self.facts.retain(|(seen, _)| *seen <= at(t));
        self.intervals.retain(|(_, second), _| at(*second as f64 + 1.0) <= at(t));
        self.ends(None)
    }

    /// Without the facts that found no room in the queue.
    pub fn without(&mut self, lost: impl Fn(&Fact) -> bool) -> &mut Story {
        self.facts.retain(|(_, fact)| !lost(fact));
        self
    }

    fn events(&self) -> Vec<Event> {
        let mut facts = self.facts.clone();
        facts.sort_by_key(|(t, _)| *t);
        let last = facts.last().map_or(Offset::ZERO, |(t, _)| *t) + Duration::from_secs(1);
        let first = std::iter::once((at(-1.0), Fact::RunStarted(Box::new(self.started.clone()))));
        let end = self.ended.iter().map(|ended| (last, Fact::RunEnded(ended.clone())));
        let all = first.chain(facts).chain(end);
        all.enumerate().map(|(n, (t_ns, fact))| Event { n: n as u64, t_ns, fact }).collect()
    }

    /// The histograms that the story's requests left.
    pub fn intervals(&self) -> impl Iterator<Item = Interval> {
        let one = |((series, second), histogram): (&(Series, i64), &Histogram<u64>)| Interval {
            series: series.clone(),
            second: *second,
            histogram: histogram.clone(),
        };
        self.intervals.iter().map(one)
    }

    /// The story as a reader of recordings gets it, without a disk.
    pub fn history(&self) -> History {
        History::assemble(self.events(), self.intervals(), Vec::new(), Vec::new()).expect("a story starts with its start")
    }

    /// The story as a run's folder.
    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).expect("the folder can be made");
        let lines: Vec<String> =
            self.events().iter().map(|event| serde_json::to_string(event).expect("events serialise") + "\n").collect();
        std::fs::write(dir.join(EVENTS_FILE), lines.concat()).expect("events can be written");
        let mut log = Vec::new();
        let zero = self.started.zero.parse().expect("a time");
        let mut writer = HlogWriter::begin(&mut log, zero).expect("memory can be written");
        self.intervals().for_each(|interval| writer.append(&interval).expect("memory can be written"));
        drop(writer);
        std::fs::write(dir.join(HISTOGRAMS_FILE), log).expect("histograms can be written");
    }
}
