//! Goal: every format renders one and the same run, says the same, and does not change unless somebody means it to. How: a run
//! made here by arithmetic is rendered and compared byte for byte with `reports/sample/` (SQUALL_UPDATE_GOLDEN=1 rewrites it), read
//! back with readers that are not ours, and rendered again with hostile texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use quick_junit::TestCaseStatus;
use serde_json::Value;

use squall::exit::Exit;
use squall::kinds::Kind;
use squall::names::{Name, ObjectRef};
use squall::recording::fact::{
    AutoscalerSpec, Counts, Ending, Event, Fact, FaultLine, FaultStep, Gap, GeneratorSample, LoadLine, PhaseSpan, PodSeen, Reading,
    RunEnded, RunStarted, SCHEMA, ScalingRules, Tally,
};
use squall::recording::sink::{Interval, Measure, Series};
use squall::recording::{History, Outcome};
use squall::report::{self, ExitInfo, FORMATS, Format, Place, Report};
use squall::time::Offset;
use squall::verdict::certificate::{Certificate, Lateness};
use squall::verdict::detectors::Detected;
use squall::verdict::{Claim, Finding, Over, Verdict};

const PLAN: &str = "\
plan: burst-scales-out
claim: A five-fold burst is absorbed by scaling out, and one killed pod costs almost nothing.
cluster: sandbox
manifests: [stacks/shop.yaml]
target: {url: http://checkout.shop/, workload: shop/deployment/checkout, autoscaler: shop/hpa/checkout}
phases:
  - {name: baseline, for: 5s}
  - {name: burst, for: 10s}
  - {name: recovery, for: 5s}
load:
  - name: shoppers
    rate: {baseline: 50/s, burst: 250/s, recovery: 50/s}
    request: {get: /checkout, timeout: 2s}
faults:
  - {name: kill-one, at: burst + 3s, pod_kill: {pods: 1, grace: 0s}}
  - {name: slow-payments, at: burst + 5s, for: 4s, latency: {on: shop/deployment/payments, add: 200ms}}
assert:
  - {name: steady, during: baseline, slo: {available: 99.9%, p99: 300ms}}
  - {name: scales-out, during: burst, autoscaling: {reach: 4, within: auto, reversals: 1}}
  - {name: kill-is-absorbed, fault: kill-one, resilience: {failed: 0.5%, recover_within: 30s}}
  - {name: slow-is-absorbed, fault: slow-payments, resilience: {failed: 1%}}
";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn object(text: &str) -> ObjectRef {
    text.parse().expect("an object")
}

fn at(seconds: f64) -> Offset {
    Offset::from_secs_f64(seconds)
}

/// Facts and histograms of a run under way.
#[derive(Default)]
struct Sample {
    facts: Vec<(f64, Fact)>,
    intervals: Vec<Interval>,
}

impl Sample {
    fn fact(&mut self, t: f64, fact: Fact) {
        self.facts.push((t, fact));
    }

    fn fault(&mut self, t: f64, fault: &str, step: FaultStep) {
        self.fact(t, Fact::Fault { fault: name(fault), step });
    }

    fn reading(&mut self, t: f64, of: &str, metric: &str, value: f64) {
        self.fact(t, Fact::Reading(Reading { object: object(of), metric: metric.into(), value }));
    }

    fn pod(&mut self, t: f64, pod: &str, ready: bool, gone: bool) {
        self.fact(
            t,
            Fact::Pod(Box::new(PodSeen {
                namespace: "shop".into(),
                name: pod.into(),
                uid: format!("uid-{pod}"),
                owner: Some("checkout-7f9c".into()),
                phase: "Running".into(),
                ready,
                terminating: gone,
                gone,
                restarts: 0,
                ip: None,
                reason: None,
            })),
        );
    }

    /// One second of load: `failed` of `due` fail, the others are answered in about `millis`.
    fn second(&mut self, phase: &str, second: i64, due: u64, failed: u64, millis: u64) {
        let ok = due - failed;
        let counts = Counts { intended: due, sent: due, ok, failed, bytes_in: ok * 512, bytes_out: due * 96, ..Counts::default() };
        let causes = BTreeMap::from([("reset".to_owned(), failed)]).into_iter().filter(|(_, n)| *n > 0).collect();
        let served_by = BTreeMap::from([("checkout-a".to_owned(), ok / 2), ("checkout-b".to_owned(), ok - ok / 2)]);
        self.fact(
            second as f64 + 1.1,
            Fact::Tally(Box::new(Tally {
                load: name("shoppers"),
                phase: name(phase),
                part: Default::default(),
                second,
                counts,
                causes,
                served_by,
                redirects: 0,
                skipped: BTreeMap::new(),
                sent_to: BTreeMap::from([("127.16.1.1:8080".to_owned(), due)]),
                opened: if second % 5 == 0 { 16 } else { 0 },
                unopened: failed,
                attempts: None,
                retry_after: 0,
                messages: 0,
            })),
        );
        // A spread without chance: request n takes between 60% and 140% of `millis`, and every tenth three times as long.
        let micros = |n: u64| millis * 1000 * (60 + n * 80 / due) / 100 * if n % 10 == 9 { 3 } else { 1 };
        self.interval(phase, second, Outcome::Ok, Measure::Response, &mut (0..ok).map(|n| micros(n) + 120));
        self.interval(phase, second, Outcome::Ok, Measure::Service, &mut (0..ok).map(micros));
        self.interval(phase, second, Outcome::Failed, Measure::Response, &mut (0..failed).map(|_| 900));
        self.interval(phase, second, Outcome::Ok, Measure::Lateness, &mut (0..due).map(|n| 60 + n % 120));
        self.interval(phase, second, Outcome::Ok, Measure::FirstByte, &mut (0..ok).map(|n| micros(n) * 9 / 10));
        let fresh = if second % 5 == 0 { 16 } else { 0 };
        self.interval(phase, second, Outcome::Ok, Measure::Connect, &mut (0..fresh).map(|n| 150 + 10 * n));
        self.fact(
            second as f64 + 1.1,
            Fact::Generator(GeneratorSample {
                second,
                cpu: 0.02 + due as f64 / 5000.0,
                workers: Vec::new(),
                steal: Some(0.0),
                in_flight: due / 20,
                connections: 16,
                starved: None,
                window_us: 0,
            }),
        );
    }

    fn interval(&mut self, phase: &str, second: i64, outcome: Outcome, measure: Measure, micros: &mut dyn Iterator<Item = u64>) {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).expect("bounds");
        micros.for_each(|value| histogram.saturating_record(value));
        if !histogram.is_empty() {
            let series = Series { load: name("shoppers"), phase: name(phase), part: Default::default(), outcome, measure };
            self.intervals.push(Interval { series, second, histogram });
        }
    }

    /// In the order of time, numbered, as the writer would.
    fn history(mut self) -> History {
        self.facts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let events = self.facts.into_iter().enumerate().map(|(n, (t, fact))| Event { n: n as u64, t_ns: at(t), fact }).collect();
        History::assemble(events, self.intervals, Vec::new(), Vec::new()).expect("it starts with the start of a run")
    }
}

fn started() -> RunStarted {
    let phase = |text, from, to| PhaseSpan { name: name(text), start: at(from), end: at(to) };
    RunStarted {
        schema: SCHEMA.into(),
        run_id: "burst-scales-out-20260102T030405Z-2a".into(),
        squall: "0.1.0".into(),
        plan: "burst-scales-out".into(),
        claim: "A five-fold burst is absorbed by scaling out, and one killed pod costs almost nothing.".into(),
        seed: 42,
        params: BTreeMap::new(),
        zero: "2026-01-02T03:04:05Z".into(),
        target: "http://checkout.shop/".into(),
        workload: Some(object("shop/deployment/checkout")),
        autoscaler: Some(object("shop/hpa/checkout")),
        phases: vec![phase("baseline", 0.0, 5.0), phase("burst", 5.0, 15.0), phase("recovery", 15.0, 20.0)],
        loads: vec![LoadLine {
            name: name("shoppers"),
            method: "GET".into(),
            path: "/checkout".into(),
            timeout_ns: 2_000_000_000,
            intended: BTreeMap::from([(name("baseline"), 250), (name("burst"), 2500), (name("recovery"), 250)]),
            users: BTreeMap::new(),
            classes: Vec::new(),
            flows: Vec::new(),
            attempts: None,
        }],
        faults: vec![
            FaultLine { name: name("kill-one"), kind: "pod_kill".into(), at: Some(at(8.0)), duration_ns: None },
            FaultLine { name: name("slow-payments"), kind: "latency".into(), at: Some(at(10.0)), duration_ns: Some(4_000_000_000) },
        ],
        environment: BTreeMap::from([
            ("cores".to_owned(), "2".to_owned()),
            ("hostname".to_owned(), "runner-7".to_owned()),
            ("kernel".to_owned(), "6.1.0".to_owned()),
            ("memory_mib".to_owned(), "4096".to_owned()),
        ]),
    }
}

/// Twenty seconds in which the service scales out, loses a pod, and is slower than it promised; one fault is never proven.
fn sample() -> History {
    let mut run = Sample::default();
    run.fact(-1.0, Fact::RunStarted(Box::new(started())));
    let rules = ScalingRules { stabilization_window_s: 0, select_policy: "Max".into(), policies: Vec::new() };
    run.fact(
        -0.9,
        Fact::Autoscaler(Box::new(AutoscalerSpec {
            object: object("shop/horizontalpodautoscaler/checkout"),
            scales: object("shop/deployment/checkout"),
            min_replicas: 2,
            max_replicas: 6,
            metrics: vec!["pods http_requests_in_flight averageValue 8".into()],
            scale_up: rules.clone(),
            scale_down: rules,
            sync_period_s: 1.0,
            sync_period_source: "the sandbox's annotation".into(),
            tolerance: 0.1,
            waking: None,
        })),
    );
    run.reading(-0.8, "shop/deployment/checkout", "ready_replicas", 2.0);
    run.reading(-0.8, "shop/deployment/checkout", "desired_replicas", 2.0);
    run.reading(-0.8, "shop/hpa/checkout", "desired_replicas", 2.0);
    for (phase, from, to) in [("baseline", 0.0, 5.0), ("burst", 5.0, 15.0), ("recovery", 15.0, 20.0)] {
        run.fact(from, Fact::PhaseStarted { phase: name(phase) });
        run.fact(to, Fact::PhaseEnded { phase: name(phase) });
    }
    (0..5).for_each(|s| run.second("baseline", s, 50, 0, 110));
    (5..15).for_each(|s| run.second("burst", s, 250, if s == 8 { 3 } else { 0 }, if s < 9 { 160 } else { 90 }));
    (15..20).for_each(|s| run.second("recovery", s, 50, 0, 60));
    for (t, wanted) in [(6.2, 4.0), (7.2, 5.0), (18.0, 3.0)] {
        run.reading(t, "shop/hpa/checkout", "desired_replicas", wanted);
        run.reading(t + 0.01, "shop/deployment/checkout", "desired_replicas", wanted);
    }
    for (t, ready) in [(7.6, 3.0), (7.7, 4.0), (8.05, 3.0), (8.6, 4.0), (9.4, 5.0), (18.3, 3.0)] {
        run.reading(t, "shop/deployment/checkout", "ready_replicas", ready);
    }
    run.fault(8.0, "kill-one", FaultStep::Targeted { targets: vec!["shop/checkout-b".into()], of: 4 });
    run.fault(8.0, "kill-one", FaultStep::Journalled);
    run.fault(8.01, "kill-one", FaultStep::Injected);
    run.pod(8.04, "checkout-b", false, true);
    let says = |witness: &str, says: &str, supports| FaultStep::Evidence { witness: witness.into(), says: says.into(), supports };
    run.fault(8.05, "kill-one", says("mechanism", "the uid of shop/checkout-b is gone", true));
    run.fault(8.1, "kill-one", says("client", "3 connections to 127.16.1.3 were reset", true));
    run.fault(8.1, "kill-one", FaultStep::Effective);
    run.pod(9.39, "checkout-e", true, false);
    run.fault(9.4, "kill-one", FaultStep::Healed);
    run.fault(10.0, "slow-payments", FaultStep::Targeted { targets: vec!["shop/payments-a".into()], of: 1 });
    run.fault(10.0, "slow-payments", FaultStep::Journalled);
    run.fault(10.2, "slow-payments", FaultStep::Injected);
    run.fault(10.9, "slow-payments", says("mechanism", "the proxy delayed 412 chunks", true));
    run.fault(11.2, "slow-payments", says("victim", "a probe next to it took 0.4ms, as before", false));
    run.fault(14.0, "slow-payments", FaultStep::Healing);
    run.fault(14.2, "slow-payments", FaultStep::Healed);
    run.fact(
        12.5,
        Fact::Gap(Gap {
            source: "scrape shop/checkout-c".into(),
            from: at(11.5),
            to: at(12.5),
            reason: "timed out after 1s".into(),
        }),
    );
    run.fact(20.3, Fact::RunEnded(RunEnded { how: Ending::Completed, lost_events: 0 }));
    run.history()
}

/// The number of the event that `is` picks.
fn event(history: &History, is: impl Fn(&Fact) -> bool) -> u64 {
    history.events.iter().find(|event| is(&event.fact)).expect("the sample holds it").n
}

fn findings(history: &History) -> Vec<Finding> {
    let finding = |name: &str, kind: &str, verdict, line, window_s| Finding {
        name: name.into(),
        kind: kind.into(),
        verdict,
        claim: String::new(),
        reason: String::new(),
        observed: None,
        limit: None,
        limit_source: "the plan".into(),
        unit: "1".into(),
        ci_low: None,
        ci_high: None,
        n: 0,
        window_s,
        evidence: Vec::new(),
        notes: Vec::new(),
        detected: Vec::new(),
        line,
    };
    let scaler = event(history, |fact| matches!(fact, Fact::Autoscaler(_)));
    let gone = event(history, |fact| matches!(fact, Fact::Pod(pod) if pod.gone));
    let against = event(history, |fact| matches!(fact, Fact::Fault { step: FaultStep::Evidence { supports: false, .. }, .. }));
    let reached = event(history, |fact| matches!(fact, Fact::Reading(r) if r.metric == "ready_replicas" && r.value == 4.0));
    let slow = event(history, |fact| matches!(fact, Fact::Tally(tally) if tally.second == 4));
    vec![
        Finding {
            claim: "99.9% of requests end ok".into(),
            reason: "none of 250 requests ended otherwise, but a pass at 99.9% needs 2995 of them: run longer or ask for less"
                .into(),
            observed: Some(100.0),
            limit: Some(99.9),
            unit: "%".into(),
            ci_low: Some(98.809),
            ci_high: Some(100.0),
            n: 250,
            notes: vec!["intervals are exact binomial ones at 95%".into()],
            ..finding("steady.available", "slo", Verdict::Inconclusive, 18, [0.0, 5.0])
        },
        Finding {
            claim: "99% of requests answer within 300ms".into(),
            reason: "15 of 250 requests took longer than 300ms: 6%, at least 3.74% at 95% confidence, 1% allowed".into(),
            observed: Some(455.7),
            limit: Some(300.0),
            unit: "ms".into(),
            ci_low: Some(402.9),
            ci_high: Some(455.7),
            n: 250,
            evidence: vec![slow],
            detected: vec![Detected {
                detector: "within-tolerance".into(),
                says: "shop/hpa/checkout read 106% of its target, less than 10% above it, from 0s to 5s (5s), and so left it at 2: that is \
                       right for it under this load"
                    .into(),
                fix: "lower the target, or claim what this many replicas can do".into(),
                evidence: vec![scaler],
            }],
            ..finding("steady.p99", "slo", Verdict::Fail, 18, [0.0, 5.0])
        },
        Finding {
            claim: "4 replicas are ready in time".into(),
            reason: "4 replicas were ready 2.7s after the burst began, within 9s".into(),
            observed: Some(2.7),
            limit: Some(9.0),
            limit_source: "1s to be seen + 1s sync + 1 step of doubling + 5s to get ready + 1s slack".into(),
            unit: "s".into(),
            n: 1,
            evidence: vec![reached],
            ..finding("scales-out.reach", "autoscaling", Verdict::Pass, 19, [5.0, 15.0])
        },
        Finding {
            claim: "it turns around at most once".into(),
            reason: "it never turned around".into(),
            observed: Some(0.0),
            limit: Some(1.0),
            unit: "turns".into(),
            n: 4,
            ..finding("scales-out.reversals", "autoscaling", Verdict::Pass, 19, [5.0, 15.0])
        },
        Finding {
            claim: "at most 0.5% of requests fail for it".into(),
            reason: "3 of 1748 requests failed in its stretch (0.172%)".into(),
            observed: Some(0.1716),
            limit: Some(0.5),
            unit: "%".into(),
            ci_low: Some(0.0354),
            ci_high: Some(0.4429),
            n: 1748,
            evidence: vec![gone],
            ..finding("kill-is-absorbed.failed", "resilience", Verdict::Pass, 20, [8.01, 15.0])
        },
        Finding {
            claim: "service is as before within 30s".into(),
            reason: "the rate of failures was back at its baseline 1.4s after the kill".into(),
            observed: Some(1.39),
            limit: Some(30.0),
            unit: "s".into(),
            n: 1,
            ..finding("kill-is-absorbed.recover_within", "resilience", Verdict::Pass, 20, [8.01, 20.0])
        },
        Finding {
            claim: "at most 1% of requests fail for it".into(),
            reason: "fault slow-payments was never proven effective, so nothing follows from what was seen".into(),
            limit: Some(1.0),
            unit: "%".into(),
            evidence: vec![against],
            notes: vec!["one witness was for it and one against; two must agree".into()],
            ..finding("slow-is-absorbed.failed", "resilience", Verdict::Inconclusive, 21, [10.2, 15.0])
        },
    ]
}

fn certificate() -> Certificate {
    Certificate {
        lateness_ms: Lateness { p50: 0.119, p99: 0.178, max: 0.179 },
        achieved_ratio: Some(1.0),
        cpu: Some(0.07),
        cpu_by_worker: vec![0.07],
        steal: Some(0.0),
        starved: None,
        window_us: 0,
        added_dispersion: None,
        unsent_by: BTreeMap::new(),
        unsent: 0,
        valid: true,
        reasons: Vec::new(),
    }
}

fn sample_report() -> Report {
    let history = sample();
    let findings = findings(&history);
    Report::of(&history, &findings, certificate(), ExitInfo::of(Exit::Fail, &findings, &certificate(), &history)).at(Place {
        plan_file: Some("plans/burst-scales-out.yaml".into()),
        plan_source: Some(PLAN.into()),
        folder: Some("reports/sample".into()),
    })
}

fn bytes(report: &Report, format: &Format) -> Vec<u8> {
    report::render(report, format).unwrap_or_else(|error| panic!("{}: {error:#}", format.name))
}

fn text(report: &Report, format: &str) -> String {
    String::from_utf8(bytes(report, report::format(format).expect("a format of this name"))).expect("formats are UTF-8")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn golden(file: &Path, now: &[u8]) {
    if std::env::var_os("SQUALL_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::create_dir_all(file.parent().expect("a golden file has a folder")).expect("the folder can be made");
        fs::write(file, now).expect("the golden file can be written");
    }
    let then = fs::read(file).unwrap_or_default();
    assert!(
        then == now,
        "{} is not what is rendered now; look at the difference, and if it is meant: SQUALL_UPDATE_GOLDEN=1 cargo test reports\n{}",
        file.display(),
        String::from_utf8_lossy(now)
    );
}

#[test]
fn the_sample_reports_are_what_is_rendered() {
    let report = sample_report();
    for format in FORMATS {
        golden(&root().join("reports/sample").join(format.file), &bytes(&report, format));
    }
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for format in FORMATS {
        assert_eq!(bytes(&sample_report(), format), bytes(&sample_report(), format), "{}", format.name);
    }
}

#[test]
fn run_json_has_every_key_of_its_contract() {
    let json: Value = serde_json::from_str(&text(&sample_report(), "json")).expect("run.json is JSON");
    let quantiles = ["p50", "p90", "p95", "p99", "p999", "max", "mean"];
    for (place, keys) in [
        (
            "",
            &["schema", "run_id", "plan", "seed", "verdict", "exit_code", "phases", "load", "faults", "findings", "certificate"][..],
        ),
        ("/phases/0", &["name", "start_s", "end_s"]),
        (
            "/load/0",
            &["name", "phase", "intended", "sent", "ok", "rejected", "failed", "timed_out", "unsent", "latency_ms", "service_ms"],
        ),
        ("/load/0/latency_ms", &quantiles),
        ("/load/0/service_ms", &quantiles),
        ("/faults/0", &["name", "kind", "targets", "injected_s", "effective_s", "healed_s", "evidence", "proven", "healed"]),
        (
            "/findings/0",
            &["name", "kind", "verdict", "reason", "observed", "limit", "unit", "ci_low", "ci_high", "n", "window_s", "line"],
        ),
        ("/certificate", &["lateness_ms", "achieved_ratio", "cpu", "valid", "reasons"]),
        ("/certificate/lateness_ms", &["p50", "p99", "max"]),
        ("/exit", &["code", "reason"]),
    ] {
        let at = json.pointer(place).unwrap_or_else(|| panic!("run.json has no {place}"));
        for key in keys {
            assert!(at.get(key).is_some(), "run.json has no {place}/{key}");
        }
    }
    assert_eq!(json["schema"], "squall.run.v1");
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["exit_code"], 1);
    assert_eq!(json["findings"][6]["observed"], Value::Null, "what was not measured is null, not zero");
    assert_eq!(json["faults"][1]["effective_s"], Value::Null);
}

/// The rows of a CSV by a reader that is not ours; it refuses rows of unequal length.
fn rows(report: &Report, format: &str) -> Vec<BTreeMap<String, String>> {
    let text = text(report, format);
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    assert_eq!(header.iter().collect::<BTreeSet<_>>().len(), header.len(), "columns of {format} have names of their own");
    reader
        .records()
        .map(|row| {
            let row = row.unwrap_or_else(|error| panic!("{format}: {error}"));
            header.iter().map(str::to_owned).zip(row.iter().map(str::to_owned)).collect()
        })
        .collect()
}

#[test]
fn tables_are_rectangular_and_their_columns_only_ever_grow_at_the_end() {
    let starts = [
        ("summary-csv", "run_id,plan,scenario,phase,endpoint,method,start_time,duration_s,offered_rps,requests,ok,failed,"),
        ("timeseries-csv", "run_id,time,t_s,interval_s,phase,endpoint,offered_rps,sent_rps,ok_rps,error_rps,in_flight,"),
        ("assertions-csv", "run_id,id,name,kind,phase,endpoint,metric,op,threshold,unit,observed,ci_low,ci_high,baseline,"),
    ];
    for (format, start) in starts {
        assert!(text(&sample_report(), format).starts_with(start), "{format} must start with {start}");
    }
    assert_eq!(rows(&sample_report(), "summary-csv").len(), 8, "one load and all loads, in three phases and in all");
    assert_eq!(rows(&sample_report(), "timeseries-csv").len(), 40, "twenty seconds of one load and of all");
    assert_eq!(rows(&sample_report(), "assertions-csv").len(), 7);
    let first = &rows(&sample_report(), "timeseries-csv")[0];
    assert_eq!((first["time"].as_str(), first["t_s"].as_str()), ("2026-01-02T03:04:05.000Z", "0"));
    let at_the_kill = &rows(&sample_report(), "timeseries-csv")[16];
    assert_eq!((at_the_kill["t_s"].as_str(), at_the_kill["fault_ids"].as_str()), ("8", "kill-one"));
    assert_eq!(at_the_kill["error_rps"], "3");
}

#[test]
fn no_two_reports_disagree() {
    let report = sample_report();
    let json: Value = serde_json::from_str(&text(&report, "json")).expect("JSON");
    let summary = rows(&report, "summary-csv");
    for (row, load) in summary.iter().zip(json["load"].as_array().expect("an array")) {
        assert_eq!(row["phase"], load["phase"].as_str().expect("a name"));
        for (column, key) in [("requests", "sent"), ("ok", "ok"), ("failed", "failed"), ("dropped", "unsent")] {
            assert_eq!(row[column], load[key].to_string(), "{column}");
        }
        assert_eq!(row["latency_p99_ms"], load["latency_ms"]["p99"].to_string());
    }
    let xml = quick_junit::Report::deserialize_from_str(&text(&report, "junit")).expect("JUnit");
    let cases: BTreeMap<&str, &TestCaseStatus> =
        xml.test_suites.iter().flat_map(|suite| &suite.test_cases).map(|case| (case.name.as_str(), &case.status)).collect();
    let terminal = text(&report, "terminal");
    for (row, finding) in rows(&report, "assertions-csv").iter().zip(json["findings"].as_array().expect("an array")) {
        let (id, verdict) = (finding["name"].as_str().expect("a name"), finding["verdict"].as_str().expect("a verdict"));
        assert_eq!((row["id"].as_str(), row["verdict"].as_str()), (id, verdict));
        let as_case = match cases[id] {
            TestCaseStatus::Success { .. } => "pass",
            TestCaseStatus::NonSuccess { .. } => "fail",
            TestCaseStatus::Skipped { .. } => "inconclusive",
        };
        assert_eq!(as_case, verdict, "{id}");
        let shown =
            terminal.lines().any(|line| line.starts_with(&verdict.to_uppercase()) && line.contains(&id[..id.find('.').unwrap()]));
        assert!(shown, "{id} is {verdict} and the terminal does not say so");
    }
    // The percentiles of a second and of a phase come by two ways; where the phase is that second they must meet.
    let seconds = rows(&report, "timeseries-csv");
    let sum: f64 = seconds.iter().filter(|row| row["scenario"] == "_all").map(|row| row["ok_rps"].parse::<f64>().unwrap()).sum();
    assert_eq!(sum, json["load"][3]["ok"].as_f64().expect("a number"));
}

#[test]
fn junit_names_are_unique_stable_and_free_of_numbers() {
    let xml = quick_junit::Report::deserialize_from_str(&text(&sample_report(), "junit")).expect("JUnit");
    let cases: Vec<_> = xml.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert_eq!(cases.len(), 7 + 4);
    let failed = cases.iter().find(|case| case.name.as_str() == "steady.p99").expect("the case");
    assert_eq!(failed.classname.as_ref().map(|c| c.as_str()), Some("burst-scales-out.steady.baseline"));
    assert_eq!(failed.extra.get("file").map(|f| f.as_str()), Some("plans/burst-scales-out.yaml"));
    assert_eq!(failed.extra.get("line").map(|l| l.as_str()), Some("18"));
    match &failed.status {
        TestCaseStatus::NonSuccess { ty, message, .. } => {
            assert_eq!(ty.as_ref().map(|t| t.as_str()), Some("slo"));
            assert!(message.as_ref().is_some_and(|m| m.as_str().starts_with("15 of 250 requests")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((xml.tests, xml.failures, xml.skipped, xml.errors), (11, 1, 2, 1));
}

/// What a hostile or careless world can put into texts: every format must survive it.
fn hostile() -> Report {
    let nasty = "=HYPERLINK(\"http://x\")\u{1b}[2J\u{0}\r\n]]><script>&amp;,\"quoted\"\u{202e}\u{7f} 日本語";
    let long = "a-name-as-long-as-a-name-may-be-which-is-sixty-three-letters-ab";
    let mut run = Sample::default();
    let mut start = started();
    start.claim = nasty.into();
    start.target = nasty.into();
    start.plan = long.into();
    start.phases = vec![PhaseSpan { name: name(long), start: at(0.0), end: at(1.5) }];
    start.loads[0].path = format!("/{nasty}");
    start.loads[0].intended = BTreeMap::from([(name(long), 10)]);
    start.zero = "not a time".into();
    run.fact(-1.0, Fact::RunStarted(Box::new(start)));
    run.second(long, 0, 10, 3, 1);
    run.fault(0.5, "kill-one", FaultStep::Failed { during: "inject".into(), reason: nasty.into() });
    run.fact(0.6, Fact::LeftBehind { what: nasty.into(), reason: nasty.into() });
    let history = run.history();
    let mut findings = findings(&sample());
    for finding in &mut findings {
        finding.name = format!("{long}.{}", finding.name.rsplit('.').next().unwrap());
        finding.reason = nasty.repeat(5_000);
        finding.claim = nasty.into();
        finding.observed = Some(f64::NAN);
        finding.ci_high = Some(f64::INFINITY);
        finding.evidence = vec![0, 1, 2, 99_999];
        finding.notes = vec![nasty.into()];
        finding.line = 999_999;
    }
    Report::of(&history, &findings, certificate(), ExitInfo::of(Exit::CleanupNotProven, &findings, &certificate(), &history)).at(
        Place {
            plan_file: Some("plans/it's a plan.yaml".into()),
            plan_source: Some(nasty.into()),
            folder: Some(format!("reports/{long}")),
        },
    )
}

#[test]
fn hostile_texts_break_no_format() {
    let report = hostile();
    for row in rows(&report, "assertions-csv") {
        assert!(row["message"].starts_with("'="), "a formula is disarmed: {:?}", &row["message"][..20]);
        assert_eq!((row["observed"].as_str(), row["ci_high"].as_str()), ("", ""));
    }
    rows(&report, "summary-csv").iter().for_each(|row| assert_eq!(row["start_time"], ""));
    rows(&report, "timeseries-csv");
    let xml = text(&report, "junit");
    assert!(!xml.contains(['\u{0}', '\u{1b}']) && xml.len() < 2_000_000);
    let json: Value = serde_json::from_str(&text(&report, "json")).expect("JSON");
    assert_eq!(json["exit_code"], 6);
    assert_eq!(json["findings"][0]["observed"], Value::Null);
    let terminal = text(&report, "terminal");
    assert!(terminal.starts_with("CLEANUP NOT PROVEN"), "{}", &terminal[..200]);
    assert!(terminal.contains("squall heal reports/"));
    assert!(terminal.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(terminal.contains("squall run 'plans/it'\\''s a plan.yaml' --seed 42"));
}

#[test]
fn the_page_fits_eighty_columns_and_needs_no_colour() {
    let verbatim =
        |line: &str| ["  now  ", "  plan  ", "  files  ", "  judge  ", "  again  "].iter().any(|label| line.starts_with(label));
    for report in [sample_report(), hostile()] {
        for line in text(&report, "terminal").lines().filter(|line| !verbatim(line)) {
            let columns: usize = line.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
            assert!(columns <= 80, "{columns} columns: {line}");
            assert_eq!(line.trim_end(), line, "no line ends in spaces");
        }
    }
}

/// The verdict counts and the tables count; both must look at the same requests in the same way.
#[test]
fn a_finding_and_the_table_give_the_same_percentile() {
    let slo = squall::verdict::Spec::read("slo", serde_json::json!({"p99": "300ms", "available": "99%"}))
        .expect("a kind")
        .expect("a spec");
    let history = sample();
    for phase in ["baseline", "burst", "recovery"] {
        let claim = Claim { name: name("x"), over: Over::Phase(name(phase)), spec: slo.clone(), line: 1 };
        let findings = squall::verdict::judge(&[claim], &history);
        let report = Report::of(&history, &findings, certificate(), ExitInfo::of(Exit::Fail, &findings, &certificate(), &history));
        let row = report.load.iter().find(|row| row.phase == phase).expect("a row per phase");
        let p99 = findings.iter().find(|finding| finding.name == "x.p99").expect("the check");
        assert_eq!(p99.observed, row.latency_ms.p99, "{phase}");
        let available = findings.iter().find(|finding| finding.name == "x.available").expect("the check");
        assert_eq!(available.n, row.sent, "{phase}");
    }
}

/// Goal: a share of bad requests is a share. Method: one half was answered, the other found the door closed and was never sent.
#[test]
fn requests_that_found_the_door_closed_are_in_the_error_rate() {
    let mut run = Sample::default();
    run.fact(-1.0, Fact::RunStarted(Box::new(started())));
    run.second("baseline", 0, 50, 0, 100);
    let counts = Counts { intended: 50, failed: 50, ..Counts::default() };
    let causes = BTreeMap::from([("connection refused".to_owned(), 50)]);
    let (load, phase) = (name("shoppers"), name("baseline"));
    run.fact(
        2.1,
        Fact::Tally(Box::new(Tally {
            load,
            phase,
            part: Default::default(),
            second: 1,
            counts,
            causes,
            served_by: BTreeMap::new(),
            redirects: 0,
            skipped: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            opened: 0,
            unopened: 0,
            attempts: None,
            retry_after: 0,
            messages: 0,
        })),
    );
    let report = Report::of(&run.history(), &[], certificate(), ExitInfo { exit: Exit::Fail, reason: String::new() });
    let row = &rows(&report, "summary-csv")[0];
    assert_eq!((row["requests"].as_str(), row["failed"].as_str(), row["error_rate"].as_str()), ("50", "50", "0.5"));
}

/// Five seconds of the burst were sent, and healing took until second 19: rates are of the seconds that were.
#[test]
fn the_rows_of_a_run_that_broke_off_cover_what_was_run() {
    let mut run = Sample::default();
    run.fact(-1.0, Fact::RunStarted(Box::new(started())));
    run.fact(5.0, Fact::PhaseEnded { phase: name("baseline") });
    (0..5).for_each(|s| run.second("baseline", s, 50, 0, 110));
    (5..10).for_each(|s| run.second("burst", s, 250, 0, 110));
    run.fact(19.0, Fact::RunEnded(RunEnded { how: Ending::Interrupted { signal: "SIGINT".into() }, lost_events: 0 }));
    let report = Report::of(&run.history(), &[], certificate(), ExitInfo { exit: Exit::Interrupted, reason: String::new() });
    let rows = rows(&report, "summary-csv");
    let of = |column: &str| rows.iter().take(4).map(|row| row[column].clone()).collect::<Vec<_>>();
    assert_eq!(of("duration_s"), ["5", "5", "0", "10"]);
    assert_eq!(of("offered_rps"), ["50", "250", "", "150"]);
}

#[test]
fn facts_that_only_a_newer_squall_knows_are_named() {
    let history = sample();
    let history = History::assemble(history.events, Vec::new(), Vec::new(), vec!["comet".into()]).expect("it has its start");
    let report = Report::of(&history, &[], certificate(), ExitInfo { exit: Exit::Fail, reason: String::new() });
    assert!(text(&report, "terminal").contains("holds facts that only a newer squall knows: comet"));
    let json: Value = serde_json::from_str(&text(&report, "json")).expect("JSON");
    assert_eq!(json["unknown"], serde_json::json!(["comet"]));
}

#[test]
fn each_test_suite_names_the_host_that_it_ran_on() {
    let xml = text(&sample_report(), "junit");
    let suites = xml.matches("<testsuite ").count();
    assert_eq!(xml.matches("hostname=\"runner-7\"").count(), suites, "{xml}");
}

/// All checks passed on numbers that may not be used: the report says so and is no pass.
#[test]
fn an_invalid_certificate_is_the_reason_of_the_verdict_and_an_error_in_junit() {
    let mut findings = findings(&sample());
    findings.retain(|finding| finding.verdict == Verdict::Pass);
    let bad = Certificate { valid: false, reasons: vec!["the generator stood still".into()], ..certificate() };
    let report = Report::of(&proven(), &findings, bad.clone(), ExitInfo::of(Exit::Inconclusive, &findings, &bad, &proven()));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    let terminal = text(&report, "terminal").replace("\n      ", " ");
    assert!(terminal.contains("certificate is not valid: the generator stood still"), "{terminal}");
    let xml = quick_junit::Report::deserialize_from_str(&text(&report, "junit")).expect("JUnit");
    assert_eq!((xml.errors, xml.failures), (1, 0));
}

/// A run that was killed before anything happened still has every report, and none of them says that it passed.
#[test]
fn a_run_in_which_nothing_happened_renders_and_never_passes() {
    for phases in [started().phases, Vec::new()] {
        let mut run = Sample::default();
        run.fact(-1.0, Fact::RunStarted(Box::new(RunStarted { phases, loads: Vec::new(), faults: Vec::new(), ..started() })));
        let history = run.history();
        let report = Report::of(&history, &[], certificate(), ExitInfo::of(Exit::NothingRan, &[], &certificate(), &history));
        for format in FORMATS {
            assert!(!bytes(&report, format).is_empty(), "{}", format.name);
        }
        assert_eq!(report.verdict, Verdict::Inconclusive);
        assert!(text(&report, "terminal").starts_with("INCONCLUSIVE  burst-scales-out: nothing ran"));
        let xml = quick_junit::Report::deserialize_from_str(&text(&report, "junit")).expect("JUnit");
        assert!(xml.errors > 0, "a run that was killed is an error of the tool, never green");
    }
}

#[test]
fn a_name_that_does_not_fit_breaks_where_a_reader_would() {
    let mut findings = findings(&sample());
    for finding in &mut findings {
        (finding.observed, finding.ci_low, finding.ci_high) = (Some(123_456.7), Some(123_402.9), Some(123_455.7));
        (finding.limit_source, finding.n) = ("the plan".into(), 123_456);
    }
    let exit = |findings: &[Finding]| ExitInfo::of(Exit::Fail, findings, &certificate(), &sample());
    let page = text(&Report::of(&sample(), &findings, certificate(), exit(&findings)), "terminal");
    assert!(page.contains(" kill-is-absorbed ") && page.contains("\n              .recover_within"), "{page}");
    findings[5].name = "what-a-very-long-name-somebody-chose-for-this.recover_within".into();
    let page = text(&Report::of(&sample(), &findings, certificate(), exit(&findings)), "terminal");
    assert!(page.contains("what-a-very-long-name- ") && page.contains("\n              somebody-chose-for-this "), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
}

/// The sample, with `slow-payments` proven after all.
fn proven() -> History {
    let mut history = sample();
    let seen = event(&history, |fact| matches!(fact, Fact::Fault { step: FaultStep::Evidence { supports: false, .. }, .. }));
    let effective = Fact::Fault { fault: name("slow-payments"), step: FaultStep::Effective };
    history.events.iter_mut().filter(|event| event.n == seen).for_each(|event| event.fact = effective.clone());
    history
}

#[test]
fn a_fault_that_was_never_proven_is_no_pass_even_when_no_assertion_names_it() {
    let mut findings = findings(&sample());
    findings.retain(|finding| finding.verdict == Verdict::Pass);
    assert_eq!(squall::verdict::overall(&findings, &certificate(), &proven()), Verdict::Pass);
    assert_eq!(squall::verdict::overall(&findings, &certificate(), &sample()), Verdict::Inconclusive);
    let exit = ExitInfo::of(Exit::Inconclusive, &findings, &certificate(), &sample());
    let report = Report::of(&sample(), &findings, certificate(), exit);
    let why = "fault slow-payments was never proven effective: a probe next to it took 0.4ms, as before";
    assert_eq!(report.exit.reason, format!("all 4 checks passed, but {why}"));
    assert!(text(&report, "terminal").starts_with("INCONCLUSIVE  burst-scales-out: all 4 checks passed, but fault slow-payments"));
    let xml = quick_junit::Report::deserialize_from_str(&text(&report, "junit")).expect("JUnit");
    assert_eq!((xml.errors, xml.failures), (1, 0), "a CI system that reads only this file sees it too");
    let json: Value = serde_json::from_str(&text(&report, "json")).expect("JSON");
    assert_eq!((&json["verdict"], &json["unproven"]), (&"inconclusive".into(), &serde_json::json!([why])));
}

#[test]
fn a_fault_that_did_not_hold_is_called_so_in_every_report() {
    // The witness that speaks against it in the sample does so after it was proven.
    let mut history = sample();
    let effective = Fact::Fault { fault: name("slow-payments"), step: FaultStep::Effective };
    history.events.push(Event { n: history.events.len() as u64, t_ns: at(10.95), fact: effective });
    let findings = findings(&history);
    let report =
        Report::of(&history, &findings, certificate(), ExitInfo::of(Exit::Inconclusive, &findings, &certificate(), &history));
    assert!(text(&report, "terminal").contains("DID NOT HOLD, healed"), "{}", text(&report, "terminal"));
    let json: Value = serde_json::from_str(&text(&report, "json")).expect("JSON");
    let row = json["faults"].as_array().expect("faults").iter().find(|row| row["name"] == "slow-payments").expect("it has a row");
    assert_eq!(row["proven"], false, "{row}");
}

#[test]
fn an_interrupted_run_is_no_pass_even_when_every_check_passed() {
    let mut findings = findings(&sample());
    findings.retain(|finding| finding.verdict == Verdict::Pass);
    let of = |exit| ExitInfo::of(exit, &findings, &certificate(), &proven());
    let verdict = |exit| Report::of(&proven(), &findings, certificate(), of(exit)).verdict;
    assert_eq!(verdict(Exit::Pass), Verdict::Pass);
    assert_eq!(verdict(Exit::Interrupted), Verdict::Inconclusive);
    assert_eq!(verdict(Exit::CleanupNotProven), Verdict::Inconclusive);
}

#[test]
fn a_report_that_cannot_be_written_names_itself_and_what_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let formats: Vec<&Format> = FORMATS.iter().collect();
    // A directory stands in the place of the last report: not even root can replace it by a file.
    fs::create_dir_all(folder.path().join("junit.xml")).expect("a directory in the way");
    let error = report::write(&sample_report(), folder.path(), &formats).expect_err("it cannot be written");
    assert!(error.file.ends_with("junit.xml"));
    assert_eq!(error.saved.len(), FORMATS.len() - 1);
    let text = error.to_string();
    assert!(text.contains("junit.xml") && text.contains("saved were") && text.contains("summary.csv"), "{text}");
    fs::remove_dir(folder.path().join("junit.xml")).expect("out of the way");
    let saved = report::write(&sample_report(), folder.path(), &formats).expect("now it can");
    assert_eq!(saved.len(), FORMATS.len());
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), FORMATS.len(), "nothing is left beside the reports");
}
