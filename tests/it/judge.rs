//! Stored recordings have known findings: this folder of a run, judged by its own plan, gives these findings and no others, today and a
//! year later. `SQUALL_REGENERATE=1 cargo test --test it judge` tells the stories anew and rewrites what is expected; review the diff.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use squall::exit::Exit;
use squall::kinds::Kind;
use squall::plan::Plan;
use squall::recording::fact::{AutoscalerSpec, Ending, Fact, FaultStep, Outcome, RunEnded};
use squall::recording::{EVENTS_FILE, HISTOGRAMS_FILE, History};
use squall::verdict::{Certificate, Finding, Spec, Verdict, certificate, judge, overall};

use crate::story::{self, Answer, Story, exponential_ms, not, ok};

/// What is expected of a recording, as it stands in its folder.
#[derive(serde::Serialize)]
struct Expected {
    verdict: Verdict,
    findings: Vec<Finding>,
    certificate: Certificate,
}

/// A stored recording: its folder, its plan from `phases:` on, and the story that made it.
struct Stored {
    folder: &'static str,
    plan: &'static str,
    story: fn(&mut Story),
    /// Whether the last line is torn off in the middle.
    torn: bool,
}

const STORED: [Stored; 17] = [
    Stored {
        folder: "healthy",
        plan: "\
phases: [{name: steady, for: 10s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
assert:
  - name: served
    during: steady
    slo: {available: 99%, p50: 100ms, p99: 300ms}
  - name: never-below-two
    threshold: {metric: shop/deployment/checkout.ready_replicas, aggregate: min, at_least: 2}
  - name: goodput
    threshold: {metric: client.goodput, aggregate: mean, at_least: 59}
",
        story: |story| _ = story.sizes(&[(-0.5, 2)]).traffic("steady", 60, |_, i| ok(exponential_ms(i, 20.0))),
        torn: false,
    },
    Stored {
        folder: "slow-and-failing",
        plan: "\
phases: [{name: steady, for: 10s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
assert:
  - name: served
    during: steady
    slo: {available: 99%, p50: 100ms, p99: 300ms}
  - name: never-below-two
    threshold: {metric: shop/deployment/checkout.ready_replicas, aggregate: min, at_least: 2}
",
        story: |story| {
            story.sizes(&[(-0.5, 2), (6.0, 1)]).traffic("steady", 60, |_, i| match i % 20 {
                0 => not(Outcome::Failed, 1.0),
                1 => not(Outcome::TimedOut, 2000.0),
                2 => ok(700.0),
                _ => ok(exponential_ms(i, 20.0)),
            });
        },
        torn: false,
    },
    Stored {
        folder: "starved",
        plan: "\
phases: [{name: steady, for: 12s}]
load: [{name: shoppers, rate: 12/s, request: {get: /checkout, timeout: 2s}}]
faults: [{name: kill-one, at: steady + 4s, pod_kill: {pods: 1, grace: 0s}}]
assert:
  - name: fast-after-the-kill
    during: {from: kill-one.effective + 2s, to: steady.end}
    slo: {p95: 500ms}
",
        // Planned for second 4, the kill came in second 8: less of the window was left than the plan could know.
        story: |story| {
            story.fault("kill-one", "pod_kill", 8.0, None).traffic("steady", 12, |_, i| ok(exponential_ms(i, 20.0)));
        },
        torn: false,
    },
    Stored {
        folder: "frozen-generator",
        plan: "\
phases: [{name: steady, for: 12s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
assert:
  - name: served
    during: steady
    slo: {available: 99%, p99: 300ms}
  - name: goodput
    threshold: {metric: client.goodput, aggregate: min, at_least: 50}
",
        story: |story| {
            story.traffic("steady", 60, |t, i| {
                let late_ms = if (5.0..7.0).contains(&t) { (7.0 - t) * 1e3 } else { 0.2 };
                Answer { lateness_ms: late_ms, ..ok(late_ms + exponential_ms(i, 20.0)) }
            });
        },
        torn: false,
    },
    Stored {
        folder: "torn",
        plan: "\
phases: [{name: early, for: 6s}, {name: late, for: 6s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
assert:
  - {name: early-served, during: early, slo: {available: 99%, p95: 300ms}}
  - {name: late-served, during: late, slo: {available: 99%, p95: 300ms}}
",
        story: |story| {
            story.traffic("early", 60, |_, i| ok(exponential_ms(i, 20.0))).traffic("late", 60, |_, i| ok(exponential_ms(i, 20.0)));
            story.cut(8.0);
        },
        torn: true,
    },
    Stored {
        folder: "scales-out",
        plan: BURST,
        story: |story| {
            burst(story);
            story.autoscaler().sizes(&[(-0.5, 1), (8.0, 3), (11.5, 5)]).pod("checkout-5d-b", 6.0, 2.0).pod(
                "checkout-5d-c",
                9.5,
                2.0,
            );
        },
        torn: false,
    },
    Stored {
        folder: "autoscaler-missing",
        plan: BURST,
        story: |story| {
            burst(story);
            story.reading("shop/hpa/checkout", "exists", -0.5, 0.0).reading(
                "shop/deployment/checkout",
                "ready_replicas",
                -0.5,
                1.0,
            );
        },
        torn: false,
    },
    Stored {
        folder: "at-its-maximum",
        plan: BURST,
        // What keeps it from five is told beside the finding.
        story: |story| {
            burst(story);
            let object = story::object("shop/hpa/checkout");
            let spec = AutoscalerSpec { max_replicas: 3, ..Story::autoscaler_spec() };
            story.reading("shop/hpa/checkout", "exists", -0.6, 1.0).fact(story::at(-0.5), Fact::Autoscaler(Box::new(spec)));
            story.sizes(&[(-0.5, 1), (8.0, 3)]);
            let [condition, status, reason] = ["ScalingLimited", "True", "TooManyReplicas"].map(str::to_owned);
            let message = "the desired replica count is more than the maximum replica count".to_owned();
            story.fact(story::at(9.0), Fact::Condition { object, condition, status, reason, message });
        },
        torn: false,
    },
    Stored {
        folder: "gap-while-scaling",
        plan: BURST,
        story: |story| {
            burst(story);
            story.autoscaler().sizes(&[(-0.5, 1)]).gap("watch deployments in shop", 7.0, 18.0);
        },
        torn: false,
    },
    Stored {
        folder: "kill-absorbed",
        plan: KILL,
        story: |story| {
            killed(story, |t, i| t < 9.5 && i % 5 == 0);
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
            calls(story, 3.0);
        },
        torn: false,
    },
    Stored {
        folder: "retry-storm",
        plan: KILL,
        story: |story| {
            killed(story, |_, i| i % 10 != 0);
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
            calls(story, 150.0);
        },
        torn: false,
    },
    Stored {
        folder: "lost-again",
        plan: KILL,
        // Three good seconds, and then it dies for good: five seconds before the bound.
        story: |story| {
            killed(story, |t, _| t >= 11.0);
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
            calls(story, 3.0);
        },
        torn: false,
    },
    Stored {
        folder: "trickle-after-the-kill",
        plan: "\
phases: [{name: steady, for: 10s}, {name: trickle, for: 14s}]
load: [{name: shoppers, rate: {steady: 60/s, trickle: 1/s}, request: {get: /checkout, timeout: 2s}}]
faults: [{name: kill-one, at: steady + 8300ms, pod_kill: {pods: 1, grace: 0s}}]
assert: [{name: absorbed, fault: kill-one, resilience: {recover_within: 8s}}]
",
        story: |story| {
            story.traffic("steady", 60, killed_at(8.3)).traffic("trickle", 1, killed_at(8.3));
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
        },
        torn: false,
    },
    Stored {
        folder: "silence-after-the-kill",
        plan: "\
phases: [{name: steady, for: 10s}, {name: silence, for: 14s}]
load: [{name: shoppers, rate: {steady: 60/s}, request: {get: /checkout, timeout: 2s}}]
faults: [{name: kill-one, at: steady + 8300ms, pod_kill: {pods: 1, grace: 0s}}]
assert: [{name: absorbed, fault: kill-one, resilience: {recover_within: 8s}}]
",
        story: |story| {
            story.traffic("steady", 60, killed_at(8.3));
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
        },
        torn: false,
    },
    Stored {
        folder: "interrupted-after-the-kill",
        plan: KILL,
        // Load stops in second 11; healing goes on until after the bound.
        story: |story| {
            killed(story, |_, i| i % 10 != 0);
            story.fault("kill-one", "pod_kill", 8.3, None).pod("checkout-5d-x", 8.5, 3.0);
            calls(story, 150.0);
            story.cut(11.0).ends(Some(RunEnded { how: Ending::Interrupted { signal: "SIGINT".to_owned() }, lost_events: 0 }));
            story.reading("shop/deployment/checkout", "ready_replicas", 20.0, 4.0);
        },
        torn: false,
    },
    Stored {
        folder: "fault-without-effect",
        plan: "\
phases: [{name: steady, for: 24s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
faults: [{name: slow-payments, at: steady + 8s, for: 5s, latency: {on: shop/deployment/payments, add: 200ms}}]
assert:
  - name: survived
    fault: slow-payments
    resilience: {failed: 2%, recover_within: 8s}
",
        story: |story| {
            killed(story, |_, _| false);
            story.idle_fault("slow-payments", "latency", 8.0, 5.0);
        },
        torn: false,
    },
    Stored {
        folder: "unbounded-queue",
        plan: "\
phases: [{name: calm, for: 6s}, {name: rush, for: 12s}, {name: after, for: 10s}]
load: [{name: shoppers, rate: {calm: 50/s, rush: 200/s, after: 50/s}, request: {get: /checkout, timeout: 2s}}]
assert:
  - name: sheds-load
    during: rush
    overload: {accepted_p99: 1s, rejected_p99: 50ms, retry_after: required, recover_within: 5s}
",
        story: |story| {
            story.traffic("calm", 50, |_, i| ok(exponential_ms(i, 20.0)));
            story.traffic("rush", 200, |t, _| match t - 6.0 {
                waits if waits < 2.0 => ok(waits * 1e3 + 10.0),
                _ => not(Outcome::TimedOut, 2000.0),
            });
            story.traffic("after", 50, |_, i| ok(exponential_ms(i, 20.0)));
        },
        torn: false,
    },
];

const BURST: &str = "\
phases: [{name: calm, for: 4s}, {name: burst, for: 16s}]
load: [{name: shoppers, rate: {calm: 20/s, burst: 60/s}, request: {get: /checkout, timeout: 2s}}]
assert:
  - name: scales-out
    during: burst
    autoscaling: {reach: 5, within: auto, reversals: 1, at_most: 6}
  - name: one-is-there
    during: burst
    threshold: {metric: shop/deployment/checkout.ready_replicas, aggregate: min, at_least: 1}
";

const KILL: &str = "\
phases: [{name: steady, for: 24s}]
load: [{name: shoppers, rate: 60/s, request: {get: /checkout, timeout: 2s}}]
faults: [{name: kill-one, at: steady + 8300ms, pod_kill: {pods: 1, grace: 0s}}]
assert:
  - name: absorbed
    fault: kill-one
    resilience: {failed: 5%, recover_within: 8s, retry_amplification: 1.2}
";

fn burst(story: &mut Story) {
    story.traffic("calm", 20, |_, i| ok(exponential_ms(i, 20.0))).traffic("burst", 60, |_, i| ok(exponential_ms(i, 20.0)));
}

fn killed(story: &mut Story, lost: impl Fn(f64, u64) -> bool) {
    story.traffic(
        "steady",
        60,
        |t, i| {
            if t >= 8.3 && lost(t, i) { not(Outcome::Failed, 1.0) } else { ok(exponential_ms(i, 20.0)) }
        },
    );
}

/// A service of which nothing is left from a moment on.
fn killed_at(killed: f64) -> impl Fn(f64, u64) -> Answer {
    move |t, i| if t >= killed { not(Outcome::Failed, 1.0) } else { ok(exponential_ms(i, 20.0)) }
}

/// What a pod counts: 60 operations a second, and from the kill on so many attempts a second on top.
fn calls(story: &mut Story, retries: f64) {
    for second in 0..24 {
        let operations = f64::from(second) * 60.0;
        let attempts = operations + f64::from((second - 8).max(0)) * retries;
        story.reading("shop/pod/checkout-5d-a", "dependency_operations_total", f64::from(second), operations);
        story.reading("shop/pod/checkout-5d-a", "dependency_attempts_total", f64::from(second), attempts);
    }
}

impl Stored {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(self.folder)
    }

    fn plan_text(&self) -> String {
        format!(
            "plan: {}\nclaim: A recording that was told, to be judged.\ncluster: sandbox\n\
             target: {{url: \"http://checkout.shop:8080/\", workload: shop/deployment/checkout, autoscaler: shop/hpa/checkout}}\n{}",
            self.folder, self.plan
        )
    }

    fn tell(&self) -> Story {
        let plan = Plan::read_recorded(&self.plan_text(), &BTreeMap::new())
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", self.folder));
        let phases: Vec<(&str, u64)> =
            plan.phases.iter().map(|phase| (phase.name.as_str(), phase.length.duration().as_secs())).collect();
        let mut story = Story::of(self.folder, &phases);
        (self.story)(&mut story);
        story
    }

    fn write(&self) {
        let folder = self.path();
        self.tell().write(&folder);
        std::fs::write(folder.join("plan.yaml"), self.plan_text()).expect("the plan can be written");
        if self.torn {
            for (file, off) in [(EVENTS_FILE, 40), (HISTOGRAMS_FILE, 20)] {
                let bytes = std::fs::read(folder.join(file)).expect("was just written");
                std::fs::write(folder.join(file), &bytes[..bytes.len() - off]).expect("can be written again");
            }
        }
    }
}

/// What judging the folder gives, as it is stored.
fn judged(folder: &Path) -> (String, Vec<Finding>) {
    let history = History::load(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let text = std::fs::read_to_string(folder.join("plan.yaml")).expect("a run's folder holds its plan");
    let plan =
        Plan::read_recorded(&text, &history.started.params).unwrap_or_else(|problems| panic!("{}: {problems:?}", folder.display()));
    let findings = judge(&plan.claims, &history);
    let certificate = certificate(&plan.claims, &history);
    let expected = Expected { verdict: overall(&findings, &certificate, &history), findings: findings.clone(), certificate };
    (serde_json::to_string_pretty(&expected).expect("findings serialise") + "\n", findings)
}

#[test]
fn stored_recordings_have_their_expected_findings() {
    let regenerate = std::env::var_os("SQUALL_REGENERATE").is_some();
    for stored in &STORED {
        let folder = stored.path();
        if regenerate {
            stored.write();
        }
        let (found, _) = judged(&folder);
        let expected = folder.join("findings.json");
        if regenerate {
            std::fs::write(&expected, &found).expect("findings can be written");
        }
        let expected = std::fs::read_to_string(&expected).expect("each recording has its expected findings");
        assert!(found == expected, "{} was judged otherwise than before:\n{found}", stored.folder);
    }
}

/// Goal: judging is a pure function of the recording. Method: twice from disk, and once from the story that never saw one.
#[test]
fn judging_again_gives_the_same_bytes() {
    for stored in STORED.iter().filter(|stored| !stored.torn) {
        let (first, from_disk) = judged(&stored.path());
        let (second, _) = judged(&stored.path());
        assert_eq!(first, second, "{}", stored.folder);
        let plan = Plan::read_recorded(&stored.plan_text(), &BTreeMap::new()).expect("was read before");
        assert_eq!(judge(&plan.claims, &stored.tell().history()), from_disk, "{}", stored.folder);
    }
}

#[test]
fn every_kind_has_a_recording_that_passes_one_that_fails_and_one_that_is_inconclusive() {
    let mut seen: BTreeSet<(String, Verdict)> = BTreeSet::new();
    for stored in &STORED {
        let (_, findings) = judged(&stored.path());
        seen.extend(findings.into_iter().map(|finding| (finding.kind, finding.verdict)));
    }
    for row in Spec::ALL {
        for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
            assert!(seen.contains(&(row.key.to_owned(), verdict)), "no stored recording in which `{}` ends in {verdict}", row.key);
        }
    }
}

/// A recording is evidence: what a finding points at is there, and lies within what the recording holds.
#[test]
fn evidence_points_at_events_that_exist() {
    for stored in &STORED {
        let history = History::load(&stored.path()).expect("was read before");
        let (_, findings) = judged(&stored.path());
        for finding in findings {
            for n in finding.evidence.iter().chain(finding.detected.iter().flat_map(|detected| &detected.evidence)) {
                let event = history.events.iter().find(|event| event.n == *n);
                let event =
                    event.unwrap_or_else(|| panic!("{}: {} points at event {n}, which is not there", stored.folder, finding.name));
                assert!(!matches!(event.fact, Fact::RunStarted(_)), "{}: {}", stored.folder, finding.name);
            }
            if finding.verdict == Verdict::Fail {
                assert!(!finding.evidence.is_empty(), "{}: {} fails without evidence", stored.folder, finding.name);
            }
        }
    }
}

/// Goal: healing that comes after the recording counts, and is told. Method: a run that was interrupted under a fault, judged with each
/// journal that it could have.
#[test]
fn a_run_that_was_healed_afterwards_is_no_longer_exit_6() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = STORED.iter().find(|stored| stored.folder == "kill-absorbed").expect("it is stored");
    let mut story = stored.tell();
    story.cut(9.0).ends(Some(RunEnded { how: Ending::Interrupted { signal: "SIGINT".to_owned() }, lost_events: 0 }));
    story.write(folder.path());
    std::fs::write(folder.path().join("plan.yaml"), stored.plan_text()).expect("the plan can be written");
    let exit = |journal: Option<&str>| {
        let file = folder.path().join("journal.jsonl");
        match journal {
            Some(text) => std::fs::write(file, text).expect("a journal can be written"),
            None => assert!(!file.exists()),
        }
        let judged = squall::run::judge(folder.path(), None, &[]).unwrap_or_else(|failure| panic!("{failure}"));
        (judged.exit, judged.report.exit.reason)
    };
    let line = |entry: &str| format!("{{\"at\":\"2026-11-23T12:00:00Z\",\"entry\":{entry}}}\n");
    let closed = line(r#"{"healed":{"fault":"kill-one","proof":"its pod is back"}}"#) + &line("\"closed\"");
    assert_eq!(exit(None).0, Exit::CleanupNotProven);
    assert_eq!(exit(Some(&line(r#"{"applied":{"fault":"kill-one"}}"#))).0, Exit::CleanupNotProven);
    assert_eq!(exit(Some(&format!("{closed}{}", line(r#"{"applied":{"fault":"kill-one"}}"#)))).0, Exit::CleanupNotProven);
    let (healed, why) = exit(Some(&closed));
    assert_eq!(healed, Exit::Interrupted);
    assert!(why.ends_with("has been healed, as its journal proves"), "{why}");
}

#[test]
fn a_fault_whose_journalling_found_no_room_in_the_recording_is_exit_6_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = STORED.iter().find(|stored| stored.folder == "kill-absorbed").expect("it is stored");
    let mut story = stored.tell();
    story.cut(9.0).without(|fact| matches!(fact, Fact::Fault { step: FaultStep::Journalled, .. }));
    story.write(folder.path());
    std::fs::write(folder.path().join("plan.yaml"), stored.plan_text()).expect("the plan can be written");
    let judged = squall::run::judge(folder.path(), None, &[]).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(judged.exit, Exit::CleanupNotProven);
}

#[test]
fn a_check_without_a_window_is_in_the_phase_that_it_was_planned_for() {
    let stored = STORED.iter().find(|stored| stored.folder == "torn").expect("it is stored");
    let judged = squall::run::judge(&stored.path(), None, &[]).unwrap_or_else(|failure| panic!("{failure}"));
    let phases: Vec<&str> = judged.findings.iter().map(|finding| judged.report.phase_of(finding)).collect();
    assert_eq!(phases, ["early", "early", "late", "late"]);
}

/// Goal: no verdict rests on half a run, and no history, however strange, makes judging panic. Method: every stored recording, cut off
/// after every seventh event, and again with every seventh event missing.
#[test]
fn what_is_left_of_a_recording_decides_nothing_and_breaks_nothing() {
    for stored in &STORED {
        let history = History::load(&stored.path()).expect("was read before");
        let plan = Plan::read_recorded(&stored.plan_text(), &BTreeMap::new()).expect("was read before");
        for cut in (1..history.events.len() - 1).step_by(7) {
            let prefix = history.events[..cut].to_vec();
            let prefix = History::assemble(prefix, stored.tell().intervals(), Vec::new(), Vec::new()).expect("it keeps its start");
            for finding in judge(&plan.claims, &prefix) {
                assert_eq!(finding.verdict, Verdict::Inconclusive, "{} cut after {cut} events: {finding:#?}", stored.folder);
            }
            let mut holed = history.events.clone();
            holed.remove(cut);
            let holed = History::assemble(holed, Vec::new(), Vec::new(), Vec::new()).expect("it keeps its start");
            judge(&plan.claims, &holed);
            certificate(&plan.claims, &holed);
        }
    }
}
