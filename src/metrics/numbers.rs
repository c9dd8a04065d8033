//! From recorded facts to numbers. All of them come from the events and histograms of the recording, as the writer writes them, so that
//! the last ones are those of the report; nothing here is measured.

use std::sync::{Arc, Mutex, PoisonError};

use super::family::{self, Family};
use super::registry::{Labels, Registry, Value};
use crate::names::{Name, ObjectRef};
use crate::recording::attempts::Attempts;
use crate::recording::fact::{Event, Fact, FaultStep, GeneratorSample, Outcome, Reading, RunStarted, Tally};
use crate::recording::metric::{DESIRED_REPLICAS, EXISTS, READY_REPLICAS};
use crate::recording::sink::{Interval, Measure};
use crate::recording::tap::Tap;
use crate::time::{Offset, wall_now};

/// Causes that are told apart, for each load and phase.
const CAUSES: usize = 32;
/// Those who answer, and addresses, that are told apart, for each load.
const SERVERS: usize = 64;

/// The states of a fault, in the order in which it goes through them.
const STATES: [&str; 8] = ["planned", "targeted", "journalled", "injected", "effective", "healing", "healed", "failed"];

/// The numbers of a run, shared by who counts and who exports.
#[derive(Clone)]
pub struct Numbers(Arc<Mutex<Counted>>);

/// A copy of the numbers at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Since when counters count: wall time, for display.
    pub since: jiff::Timestamp,
    /// What the run is; absent while there is none yet.
    pub run: Option<Run>,
    /// Whether these are the last.
    pub ended: bool,
    /// In the order of the table; families without series are left out.
    pub families: Vec<(&'static Family, Vec<(Labels, Value)>)>,
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub run_id: String,
    pub plan: String,
    pub seed: u64,
    /// Of Squall.
    pub version: String,
}

struct Counted {
    since: jiff::Timestamp,
    run: Option<Run>,
    ended: bool,
    registry: Registry,
    /// Wall time of the run's zero, for display.
    zero: Option<jiff::Timestamp>,
    phases: Vec<Name>,
    /// Faults with what they are and the state that they are in.
    faults: Vec<(Name, String, &'static str)>,
}

impl Numbers {
    /// None yet.
    pub fn new() -> Numbers {
        Numbers(Arc::new(Mutex::new(Counted {
            since: wall_now(),
            run: None,
            ended: false,
            registry: Registry::default(),
            zero: None,
            phases: Vec::new(),
            faults: Vec::new(),
        })))
    }

    /// Who counts, for the recording's writer.
    pub fn tap(&self) -> Box<dyn Tap> {
        Box::new(self.clone())
    }

    /// A copy. The writer waits for as long as it takes to make one, which is far less than what it has queued for.
    pub fn snapshot(&self) -> Snapshot {
        self.with(|counted| Snapshot {
            since: counted.since,
            run: counted.run.clone(),
            ended: counted.ended,
            families: counted.registry.snapshot(),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Counted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers::new()
    }
}

impl Tap for Numbers {
    fn event(&mut self, event: &Event) {
        self.with(|counted| counted.event(event.t_ns, &event.fact));
    }

    fn interval(&mut self, interval: &Interval) {
        self.with(|counted| counted.interval(interval));
    }
}

impl Counted {
    fn event(&mut self, t: Offset, fact: &Fact) {
        let registry = &mut self.registry;
        match fact {
            Fact::RunStarted(started) => self.started(started),
            Fact::PhaseStarted { phase } => registry.set(&family::PHASE, &[phase.as_str()], 1.0),
            Fact::PhaseEnded { phase } => registry.set(&family::PHASE, &[phase.as_str()], 0.0),
            Fact::Tally(tally) => count(registry, tally),
            Fact::Generator(sample) => watch(registry, sample),
            Fact::Fault { fault, step } => self.fault(t, fault, step),
            Fact::Reading(reading) => read(registry, reading),
            Fact::Gap(_) => registry.add(&family::GAPS, &[], 1),
            Fact::Bound { .. } => registry.add(&family::BOUNDS_HIT, &[], 1),
            Fact::RunEnded(_) => {
                registry.set(&family::ENDED, &[], 1.0);
                // One that was interrupted has no end of its own.
                self.phases.iter().for_each(|phase| registry.set(&family::PHASE, &[phase.as_str()], 0.0));
                self.ended = true;
            }
            Fact::Pod(_)
            | Fact::Endpoints { .. }
            | Fact::Autoscaler(_)
            | Fact::Condition { .. }
            | Fact::ClusterEvent { .. }
            | Fact::Lookup(_)
            | Fact::LeftBehind { .. }
            | Fact::Spacing(_) => {}
        }
    }

    fn interval(&mut self, interval: &Interval) {
        let series = &interval.series;
        let (load, phase) = (series.load.as_str(), series.phase.as_str());
        let histogram = Some(&interval.histogram);
        let outcome = series.outcome.as_str();
        match series.measure {
            Measure::Response => self.registry.observe(&family::LATENCY, &[load, phase, outcome], histogram),
            Measure::Service => self.registry.observe(&family::SERVICE, &[load, phase, outcome], histogram),
            Measure::Lateness => self.registry.observe(&family::LATENESS, &[load, phase], histogram),
            Measure::FirstByte => self.registry.observe(&family::FIRST_BYTE, &[load, phase, outcome], histogram),
            Measure::Attempt => self.registry.observe(&family::ATTEMPT_TIME, &[load, phase, outcome], histogram),
            Measure::Connect | Measure::Tunnel | Measure::Tls | Measure::Upgrade => {
                self.registry.observe(&family::STEP, &[load, phase, series.measure.as_str()], histogram);
            }
        }
    }

    /// Everything that the plan says will come is there from the start, at zero: who looks at the growth of a counter would miss its
    /// first step otherwise.
    fn started(&mut self, started: &RunStarted) {
        let run =
            Run { run_id: started.run_id.clone(), plan: started.plan.clone(), seed: started.seed, version: started.squall.clone() };
        let registry = &mut self.registry;
        registry.set(&family::RUN, &[&run.run_id, &run.plan, &run.seed.to_string(), &run.version], 1.0);
        self.zero = started.zero.parse().ok();
        if let Some(zero) = self.zero {
            registry.set(&family::STARTED, &[], seconds(zero));
        }
        registry.set(&family::ENDED, &[], 0.0);
        registry.add(&family::GAPS, &[], 0);
        registry.add(&family::BOUNDS_HIT, &[], 0);
        registry.add(&family::LEFT_OUT, &[], 0);
        for phase in &started.phases {
            registry.set(&family::PHASE, &[phase.name.as_str()], 0.0);
            for load in started.loads.iter().filter(|load| load.sends_in(&phase.name)) {
                let place = [load.name.as_str(), phase.name.as_str()];
                begin(registry, &place);
                if load.attempts.is_some() {
                    attempts(registry, &place, &Attempts::default());
                    registry.observe(&family::ATTEMPT_TIME, &[place[0], place[1], Outcome::Ok.as_str()], None);
                }
            }
        }
        for fault in &started.faults {
            self.faults.push((fault.name.clone(), fault.kind.clone(), STATES[0]));
            for state in STATES {
                let is = f64::from(u8::from(state == STATES[0]));
                self.registry.set(&family::FAULT, &[fault.name.as_str(), &fault.kind, state], is);
            }
        }
        self.phases = started.phases.iter().map(|phase| phase.name.clone()).collect();
        self.run = Some(run);
    }

    fn fault(&mut self, t: Offset, fault: &Name, step: &FaultStep) {
        let state = match step {
            FaultStep::Targeted { .. } => "targeted",
            FaultStep::Journalled => "journalled",
            FaultStep::Injected => "injected",
            FaultStep::Evidence { .. } => return,
            FaultStep::Effective => "effective",
            FaultStep::Healing => "healing",
            FaultStep::Healed => "healed",
            FaultStep::Failed { .. } => "failed",
        };
        let Some((name, kind, was)) = self.faults.iter_mut().find(|(name, ..)| name == fault) else { return };
        self.registry.set(&family::FAULT, &[name.as_str(), kind, was], 0.0);
        self.registry.set(&family::FAULT, &[name.as_str(), kind, state], 1.0);
        if let Some(zero) = self.zero {
            self.registry.set(&family::FAULT_ENTERED, &[name.as_str(), kind, state], seconds(zero) + t.seconds());
        }
        *was = state;
    }
}

fn seconds(time: jiff::Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}

/// The series of a load in a phase, at zero.
fn begin(registry: &mut Registry, place: &[&str; 2]) {
    for family in [&family::INTENDED, &family::SENT, &family::RETRY_AFTER, &family::RECEIVED, &family::WRITTEN] {
        registry.add(family, place, 0);
    }
    for outcome in Outcome::ALL {
        registry.add(&family::REQUESTS, &[place[0], place[1], outcome.as_str()], 0);
    }
    let ok = [place[0], place[1], Outcome::Ok.as_str()];
    registry.observe(&family::LATENCY, &ok, None);
    registry.observe(&family::SERVICE, &ok, None);
    registry.observe(&family::FIRST_BYTE, &ok, None);
    registry.observe(&family::LATENESS, place, None);
}

fn count(registry: &mut Registry, tally: &Tally) {
    let (load, phase, counts) = (tally.load.as_str(), tally.phase.as_str(), &tally.counts);
    let place = [load, phase];
    registry.add(&family::INTENDED, &place, counts.intended);
    registry.add(&family::SENT, &place, counts.sent);
    registry.add(&family::RETRY_AFTER, &place, tally.retry_after);
    registry.add(&family::RECEIVED, &place, counts.bytes_in);
    registry.add(&family::WRITTEN, &place, counts.bytes_out);
    if tally.messages > 0 {
        registry.add(&family::MESSAGES, &place, tally.messages);
    }
    for outcome in Outcome::ALL {
        registry.add(&family::REQUESTS, &[load, phase, outcome.as_str()], counts.of(outcome));
    }
    for (cause, count) in &tally.causes {
        registry.add_open(&family::CAUSES, &place, cause, CAUSES, *count);
    }
    for (server, count) in &tally.served_by {
        registry.add_open(&family::SERVED, &[load], server, SERVERS, *count);
    }
    for (address, count) in &tally.sent_to {
        registry.add_open(&family::SENT_TO, &[load], address, SERVERS, *count);
    }
    if let Some(tried) = &tally.attempts {
        attempts(registry, &place, tried);
    }
    registry.add(&family::OPENED, &[load, phase, "yes"], tally.opened);
    registry.add(&family::OPENED, &[load, phase, "no"], tally.unopened);
}

/// What a client that tries more than once did.
fn attempts(registry: &mut Registry, place: &[&str; 2], attempts: &Attempts) {
    registry.add(&family::ATTEMPTS_SENT, place, attempts.sent);
    registry.add(&family::ATTEMPTS_WITHHELD, place, attempts.withheld);
    for (outcome, count) in attempts.by_outcome() {
        registry.add(&family::ATTEMPTS, &[place[0], place[1], outcome], count);
    }
}

fn watch(registry: &mut Registry, sample: &GeneratorSample) {
    registry.set(&family::IN_FLIGHT, &[], sample.in_flight as f64);
    registry.set(&family::CONNECTIONS, &[], sample.connections as f64);
    registry.set(&family::CPU, &[], sample.cpu);
    registry.set(&family::WINDOW, &[], sample.window_us as f64 / 1e6);
    if let Some(steal) = sample.steal {
        registry.set(&family::STEAL, &[], steal);
    }
}

fn read(registry: &mut Registry, reading: &Reading) {
    let ObjectRef { namespace, kind, name } = &reading.object;
    let object = [namespace.as_str(), kind.as_str(), name.as_str()];
    match reading.metric.as_str() {
        READY_REPLICAS => registry.set(&family::READY, &object, reading.value),
        DESIRED_REPLICAS => registry.set(&family::DESIRED, &object, reading.value),
        // What is no more has no size, not the last one that it had.
        EXISTS if reading.value == 0.0 => {
            registry.forget(&family::READY, &object);
            registry.forget(&family::DESIRED, &object);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::recording::fact::{Counts, Ending, FaultLine, Gap, LoadLine, PhaseSpan, RunEnded, SCHEMA};
    use crate::recording::sink::Series;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn started() -> RunStarted {
        let phase = |text, from, to| PhaseSpan { name: name(text), start: Offset::from_nanos(from), end: Offset::from_nanos(to) };
        RunStarted {
            schema: SCHEMA.into(),
            run_id: "r1".into(),
            squall: "0.1.0".into(),
            plan: "p".into(),
            claim: String::new(),
            seed: 7,
            params: BTreeMap::new(),
            zero: "2026-11-23T12:00:00.500Z".into(),
            target: String::new(),
            workload: None,
            autoscaler: None,
            phases: vec![phase("calm", 0, 1_000_000_000), phase("burst", 1_000_000_000, 2_000_000_000)],
            loads: vec![LoadLine {
                name: name("shoppers"),
                method: "GET".into(),
                path: "/".into(),
                timeout_ns: 1,
                intended: [(name("calm"), 10), (name("burst"), 0)].into(),
                users: BTreeMap::new(),
                classes: Vec::new(),
                flows: Vec::new(),
                attempts: None,
            }],
            faults: vec![FaultLine { name: name("kill"), kind: "pod_kill".into(), at: None, duration_ns: None }],
            environment: BTreeMap::new(),
        }
    }

    fn after(facts: Vec<Fact>) -> BTreeMap<String, Value> {
        let numbers = Numbers::new();
        let mut tap = numbers.tap();
        let all = std::iter::once(Fact::RunStarted(Box::new(started()))).chain(facts);
        all.enumerate().for_each(|(n, fact)| tap.event(&Event { n: n as u64, t_ns: Offset::from_secs_f64(n as f64 * 1.5), fact }));
        let series = numbers.snapshot().families.into_iter().flat_map(|(family, series)| {
            series.into_iter().map(|(labels, value)| (format!("{} {}", family.name, labels.join(",")), value))
        });
        series.collect()
    }

    #[test]
    fn what_will_come_is_there_at_zero_and_nothing_else() {
        let series = after(vec![]);
        assert_eq!(series["squall_run_info r1,p,7,0.1.0"], Value::Number(1.0));
        assert_eq!(series["squall_run_start_time_seconds "], Value::Number(1_795_435_200.5));
        for outcome in Outcome::ALL {
            assert_eq!(series[&format!("squall_requests_total shoppers,calm,{}", outcome.as_str())], Value::Count(0));
        }
        assert!(!series.keys().any(|key| key.contains("shoppers,burst")), "nothing is sent there: {series:?}");
        assert!(!series.contains_key("squall_requests_in_flight "), "a gauge that nobody read is not zero");
    }

    #[test]
    fn a_tally_adds_up_and_keeps_its_causes() {
        let counts =
            Counts { intended: 9, sent: 8, ok: 5, failed: 3, unsent: 1, bytes_in: 100, bytes_out: 70, ..Counts::default() };
        let tally = Fact::Tally(Box::new(Tally {
            load: name("shoppers"),
            phase: name("calm"),
            part: Default::default(),
            second: 0,
            counts,
            causes: [("reset".to_owned(), 3), ("memory".to_owned(), 1)].into(),
            served_by: [("a \"pod\"".to_owned(), 5)].into(),
            retry_after: 0,
            redirects: 0,
            skipped: BTreeMap::new(),
            messages: 6,
            sent_to: [("127.0.0.2:80".to_owned(), 8)].into(),
            opened: 2,
            unopened: 1,
            attempts: None,
        }));
        let series = after(vec![tally.clone(), tally]);
        for (key, count) in [
            ("squall_requests_intended_total shoppers,calm", 18),
            ("squall_requests_sent_total shoppers,calm", 16),
            ("squall_requests_total shoppers,calm,ok", 10),
            ("squall_requests_total shoppers,calm,failed", 6),
            ("squall_requests_total shoppers,calm,unsent", 2),
            ("squall_request_causes_total shoppers,calm,reset", 6),
            ("squall_address_requests_total shoppers,127.0.0.2:80", 16),
            ("squall_connections_opened_total shoppers,calm,yes", 4),
            ("squall_connections_opened_total shoppers,calm,no", 2),
            ("squall_answers_total shoppers,a \"pod\"", 10),
            ("squall_messages_total shoppers,calm", 12),
            ("squall_received_bytes_total shoppers,calm", 200),
            ("squall_sent_bytes_total shoppers,calm", 140),
        ] {
            assert_eq!(series[key], Value::Count(count), "{key}");
        }
    }

    #[test]
    fn a_fault_is_in_one_state_and_a_phase_ends_with_the_run() {
        let step = |step| Fact::Fault { fault: name("kill"), step };
        let state = |series: &BTreeMap<String, Value>| -> Vec<String> {
            let on = series.iter().filter(|(key, value)| key.starts_with("squall_fault_state") && **value == Value::Number(1.0));
            on.map(|(key, _)| key.rsplit(',').next().unwrap().to_owned()).collect()
        };
        assert_eq!(state(&after(vec![])), ["planned"]);
        let mut facts = vec![Fact::PhaseStarted { phase: name("calm") }, step(FaultStep::Injected)];
        facts.push(step(FaultStep::Evidence { witness: "victim".into(), says: String::new(), supports: true }));
        let series = after(facts.clone());
        assert_eq!(state(&series), ["injected"]);
        assert_eq!(series["squall_fault_entered_time_seconds kill,pod_kill,injected"], Value::Number(1_795_435_203.5));
        assert!(!series.contains_key("squall_fault_entered_time_seconds kill,pod_kill,healed"));
        assert_eq!(series["squall_phase_active calm"], Value::Number(1.0));
        facts.extend([step(FaultStep::Effective), step(FaultStep::Healing), step(FaultStep::Healed)]);
        facts.push(Fact::RunEnded(RunEnded { how: Ending::Interrupted { signal: "SIGINT".into() }, lost_events: 0 }));
        let series = after(facts);
        assert_eq!(state(&series), ["healed"]);
        assert_eq!(series["squall_phase_active calm"], Value::Number(0.0));
        assert_eq!(series["squall_run_ended "], Value::Number(1.0));
    }

    #[test]
    fn sizes_are_as_observed_and_go_with_their_object() {
        let reading = |metric: &str, value| {
            Fact::Reading(Reading { object: "shop/deployment/checkout".parse().unwrap(), metric: metric.into(), value })
        };
        let mut facts = vec![reading(READY_REPLICAS, 2.0), reading(DESIRED_REPLICAS, 5.0), reading("queue_depth", 9.0)];
        let series = after(facts.clone());
        assert_eq!(series["squall_ready_replicas shop,deployment,checkout"], Value::Number(2.0));
        assert_eq!(series["squall_desired_replicas shop,deployment,checkout"], Value::Number(5.0));
        assert!(!series.values().any(|value| *value == Value::Number(9.0)), "what pods say of themselves is theirs to export");
        facts.push(reading(EXISTS, 0.0));
        facts.push(Fact::Gap(Gap { source: "x".into(), from: Offset::ZERO, to: Offset::ZERO, reason: String::new() }));
        let series = after(facts);
        assert!(!series.keys().any(|key| key.contains("checkout")), "{series:?}");
        assert_eq!(series["squall_gaps_total "], Value::Count(1));
    }

    #[test]
    fn each_measure_has_a_histogram_of_its_own() {
        let numbers = Numbers::new();
        let mut tap = numbers.tap();
        for (measure, us) in Measure::ALL.into_iter().zip([3_000, 2_000, 1_000, 1_500, 2_500, 500, 300, 400, 300]) {
            let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
            histogram.record(us).unwrap();
            let series = Series { load: name("l"), phase: name("p"), part: Default::default(), outcome: Outcome::Ok, measure };
            tap.interval(&Interval { series, second: 0, histogram });
        }
        let sums: Vec<(&str, f64)> = numbers
            .snapshot()
            .families
            .iter()
            .map(|(family, series)| match &series[..] {
                [(_, Value::Spread(spread))] => (family.name, (spread.sum() * 1e4).round()),
                steps if family.name == family::STEP.name => {
                    let names: Vec<&str> = steps.iter().filter_map(|(labels, _)| labels.last().map(String::as_str)).collect();
                    assert_eq!(names, ["connect", "tls", "tunnel", "upgrade"]);
                    let sums = steps.iter().map(|(_, value)| if let Value::Spread(spread) = value { spread.sum() } else { 0.0 });
                    (family.name, (sums.sum::<f64>() * 1e4).round())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("squall_latency_seconds", 30.0),
            ("squall_service_time_seconds", 20.0),
            ("squall_first_byte_seconds", 15.0),
            ("squall_attempt_time_seconds", 25.0),
            ("squall_lateness_seconds", 10.0),
            ("squall_connection_step_seconds", 15.0),
        ];
        assert_eq!(sums, expected);
    }
}
