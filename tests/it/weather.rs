//! Goal: whatever an API server does in the middle of a run, the run ends, heals, and claims nothing that it did not see; and claims all
//! the rest. How: a sandbox behind a gate that is shut, throttles, breaks connections, forgets, or talks nonsense, at moments that the
//! run's own recording shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::{Access, Cluster};
use squall::faults::Journal;
use squall::faults::heal::{Outcome, heal};
use squall::faults::journal::{ClusterLine, Entry};
use squall::recording::fact::{Fact, FaultStep, Gap};
use tokio::time::Instant;

use crate::command::{Running, Squall, file_says};
use crate::gate::{Fate, Gate};
use crate::shop::{Listener, RUN, Shop, act, is_step, manifests};

const PATIENCE: Duration = Duration::from_secs(120);
/// How long the weather is bad.
const STORM: Duration = Duration::from_secs(10);

/// A claim about what the cluster shows, for each of three phases, and one about what clients see in the second.
const PLAN: &str = "
plan: weather
claim: There are always two ready pods, and requests are answered.
cluster: {context: gate}
target: {url: 'http://payments.shop:8080/', workload: shop/deployment/payments}
phases: [{name: calm, for: 5s}, {name: storm, for: 20s}, {name: after, for: 5s}]
load: [{name: l, rate: 30/s, request: {get: /, timeout: 2s}}]
assert:
  - {name: calm-size, during: calm, threshold: {metric: shop/deployment/payments.ready_replicas, aggregate: min, at_least: 2}}
  - {name: storm-size, during: storm, threshold: {metric: shop/deployment/payments.ready_replicas, aggregate: min, at_least: 2}}
  - {name: after-size, during: after, threshold: {metric: shop/deployment/payments.ready_replicas, aggregate: min, at_least: 2}}
  - {name: storm-served, during: storm, slo: {available: 90%}}
";

/// A run under way, in its second phase.
struct Run {
    shop: Shop,
    gate: Gate,
    squall: Squall,
    running: Running,
}

/// What came of it.
struct Ended {
    gaps: Vec<Gap>,
    findings: Vec<Value>,
}

impl Run {
    async fn in_the_storm() -> Run {
        let shop = Shop::sandboxed(2).await;
        let gate = Gate::before(shop.sandbox()).await;
        let squall = Squall::new();
        let plan = squall.file("weather.yaml", PLAN);
        let kubeconfig = squall.file("kubeconfig", &gate.kubeconfig());
        let mut running = squall.start_with(&["run", plan.to_str().unwrap(), "--out", "run"], &[("KUBECONFIG", &kubeconfig)]);
        let recording = squall.path("run/recording.jsonl");
        let began = || file_says(&recording, r#""phase_started":{"phase":"storm"}"#);
        while !began() {
            if running.has_ended() {
                let said = running.wait(PATIENCE);
                panic!("it ended before the storm: exit {}\n{}\n{}", said.code, said.stdout, said.stderr);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Run { shop, gate, squall, running }
    }

    async fn end(self) -> Ended {
        let Run { shop, gate, squall, running } = self;
        let said = tokio::task::spawn_blocking(move || running.wait(PATIENCE)).await.unwrap();
        assert!([0, 1, 3].contains(&said.code), "exit {}:\n{}\n{}", said.code, said.stdout, said.stderr);
        let read = |file: &str| std::fs::read_to_string(squall.path(file)).unwrap();
        let gaps = read("run/recording.jsonl").lines().filter_map(gap).collect();
        let summary: Value = serde_json::from_str(&read("run/run.json")).unwrap();
        let findings = summary["findings"].as_array().unwrap().clone();
        assert!(read("run/journal.jsonl").lines().last().unwrap().contains("closed"), "it took everything down");
        drop(gate);
        shop.close().await;
        Ended { gaps, findings }
    }
}

fn gap(line: &str) -> Option<Gap> {
    serde_json::from_value(serde_json::from_str::<Value>(line).unwrap()["fact"]["gap"].clone()).ok()
}

impl Ended {
    #[track_caller]
    fn finding(&self, name: &str) -> (&str, &str) {
        let is_it = |finding: &&Value| finding["name"].as_str().is_some_and(|known| known.starts_with(name));
        let found = self.findings.iter().find(is_it).unwrap_or_else(|| panic!("no {name} in {:#?}", self.findings));
        (found["verdict"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }

    /// What was not seen is said, and nothing is claimed of it.
    #[track_caller]
    fn is_blind(&self, name: &str) {
        let (verdict, reason) = self.finding(name);
        assert_eq!(verdict, "inconclusive", "{name}: {reason}\n{:#?}", self.gaps);
        // A machine that was too busy to send says that first.
        let hidden = |gap: &Gap| gap.source == "watch deployments in shop" && gap.to.since(gap.from) > Duration::from_secs(2);
        assert!(self.gaps.iter().any(hidden), "{name}: {reason}\n{:#?}", self.gaps);
    }

    /// It was seen, and holds; a machine that was too busy to send may say so.
    #[track_caller]
    fn is_seen(&self, name: &str) {
        let (verdict, reason) = self.finding(name);
        assert!(verdict != "fail" && !reason.contains("was blind for"), "{name} is {verdict}: {reason}\n{:#?}", self.gaps);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_for_ten_seconds_hides_those_ten_seconds_and_no_others() {
    let mut run = Run::in_the_storm().await;
    run.gate.stop().await;
    // The length of the outage is what is tested.
    tokio::time::sleep(STORM).await;
    run.gate.start().await;
    let ended = run.end().await;
    ended.is_seen("calm-size");
    ended.is_blind("storm-size");
    ended.is_seen("after-size");
    ended.is_seen("storm-served");
    let longest = ended.gaps.iter().filter(|gap| gap.source == "watch deployments in shop").map(|gap| gap.to.since(gap.from)).max();
    // As long as the outage, and one wait between two tries: not much more.
    assert!(longest.is_some_and(|longest| longest >= STORM && longest < STORM + Duration::from_secs(6)), "{:#?}", ended.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_behind_a_stopped_server_is_told_late_or_not_known_and_never_a_pass() {
    let mut run = Run::in_the_storm().await;
    run.gate.stop().await;
    // By another way into the same cluster.
    let payments = "shop/deployment/payments".parse().unwrap();
    run.shop.cluster.scale(&payments, 1).await.unwrap();
    let ready = async |wanted: u32| {
        while run.shop.cluster.workload(&payments).await.unwrap().ready != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready(1)).await.expect("it shrinks");
    run.shop.cluster.scale(&payments, 2).await.unwrap();
    tokio::time::timeout(PATIENCE, ready(2)).await.expect("it grows again");
    run.gate.start().await;
    let ended = run.end().await;
    let (verdict, reason) = ended.finding("storm-size");
    assert_ne!(verdict, "pass", "{reason}\n{:#?}", ended.gaps);
    ended.is_seen("calm-size");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_throttles_is_asked_no_sooner_than_it_wants() {
    let mut run = Run::in_the_storm().await;
    let from = Instant::now();
    run.gate.rule(|_| Fate::Refused(429, Some(2)));
    // Streams that are open are not throttled: they break off.
    run.gate.stop().await;
    run.gate.start().await;
    tokio::time::sleep(STORM).await;
    let to = Instant::now();
    run.gate.open();
    let came = run.gate.came();
    let throttled: Vec<_> = came.iter().filter(|came| came.at > from && came.at < to && came.watches()).collect();
    assert!(!throttled.is_empty());
    for pair in throttled.iter().flat_map(|a| throttled.iter().map(move |b| (a, b))) {
        // One watch, since no other has the same path; the versions in the queries stay while nothing is told.
        let (a, b) = pair;
        let apart = b.at.saturating_duration_since(a.at);
        let is_same = a.path == b.path && b.at > a.at;
        assert!(!is_same || apart >= Duration::from_millis(1990), "{} was asked again after {apart:?}", a.path);
    }
    let ended = run.end().await;
    ended.is_seen("calm-size");
    ended.is_blind("storm-size");
    ended.is_seen("after-size");
    ended.is_seen("storm-served");
    assert!(ended.gaps.iter().any(|gap| gap.reason.contains("throttled by the API server for 2s")), "{:#?}", ended.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_cut_every_second_are_taken_up_and_nothing_is_hidden() {
    let mut run = Run::in_the_storm().await;
    run.gate.rule(|came| if came.watches() { Fate::Cut(Duration::from_secs(1)) } else { Fate::Pass });
    run.gate.stop().await;
    run.gate.start().await;
    tokio::time::sleep(STORM).await;
    run.gate.open();
    let ended = run.end().await;
    for name in ["calm-size", "storm-size", "after-size", "storm-served"] {
        ended.is_seen(name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_in_the_middle_is_read_afresh() {
    let mut run = Run::in_the_storm().await;
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
        "code": 410, "message": "too old resource version: 7 (9000)"}});
    let ends = Arc::new(AtomicUsize::new(0));
    let counted = ends.clone();
    run.gate.rule(move |came| match came.watches() && came.path.contains("/deployments") {
        // The first goes on for longer than may stay unseen, and is told then that it missed something.
        true if counted.fetch_add(1, Ordering::SeqCst) == 0 => Fate::Ends(Duration::from_secs(4), gone.clone()),
        _ => Fate::Pass,
    });
    let from = Instant::now();
    run.gate.stop().await;
    run.gate.start().await;
    run.gate.until("a fresh list", from, |came| came.path.contains("/deployments") && !came.watches()).await;
    let ended = run.end().await;
    ended.is_seen("calm-size");
    ended.is_blind("storm-size");
    ended.is_seen("after-size");
    ended.is_seen("storm-served");
    let lost: Vec<&Gap> = ended.gaps.iter().filter(|gap| gap.reason.contains("too old resource version")).collect();
    assert!(!lost.is_empty() && lost.iter().all(|gap| gap.source == "watch deployments in shop"), "{:#?}", ended.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_and_never_answers_some_is_not_waited_for_without_end() {
    let mut run = Run::in_the_storm().await;
    let hung = Arc::new(AtomicUsize::new(0));
    let counted = hung.clone();
    run.gate.rule(move |came| match came.path.contains("/deployments") && counted.fetch_add(1, Ordering::SeqCst) == 0 {
        true => Fate::Hangs,
        false => Fate::Late(Duration::from_millis(700)),
    });
    run.gate.stop().await;
    let from = Instant::now();
    run.gate.start().await;
    run.gate.until("another try", from, |came| came.path.contains("/deployments") && came.at > from + Duration::from_secs(5)).await;
    let ended = run.end().await;
    ended.is_seen("calm-size");
    ended.is_blind("storm-size");
    ended.is_seen("after-size");
    ended.is_seen("storm-served");
    assert!(ended.gaps.iter().any(|gap| gap.reason.contains("not answered within 10s")), "{:#?}", ended.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_about_one_kind_hides_that_kind_alone() {
    let mut run = Run::in_the_storm().await;
    let from = Instant::now();
    run.gate.rule(|came| match came.path.contains("/pods") {
        true => Fate::Answered(200, "<html>Sign in to continue</html>\n".into()),
        false => Fate::Pass,
    });
    run.gate.stop().await;
    run.gate.start().await;
    run.gate.until("a list of pods", from, |came| came.path.contains("/pods?") && !came.watches()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.gate.open();
    let ended = run.end().await;
    for name in ["calm-size", "storm-size", "after-size", "storm-served"] {
        ended.is_seen(name);
    }
    let nonsense: Vec<&Gap> = ended.gaps.iter().filter(|gap| gap.reason.contains("<html>")).collect();
    assert!(!nonsense.is_empty() && nonsense.iter().all(|gap| gap.source.contains("pods in shop")), "{:#?}", ended.gaps);
}

/// A shop whose own client goes through a gate.
async fn gated(replicas: u32) -> (Shop, Gate) {
    let mut shop = Shop::sandboxed(replicas).await;
    let gate = Gate::before(shop.sandbox()).await;
    shop.cluster = Cluster::connect(Access::Kubeconfig(gate.kubeconfig())).await.unwrap();
    (shop, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_whose_server_is_away_at_once_is_proven_and_over_when_it_is_back() {
    let (shop, mut gate) = gated(3).await;
    let mut listener = Listener::of(&shop);
    let (conducted, _stop) = shop.conduct(vec![act("kill", 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"}))]);
    listener.event("the injection", |fact| is_step(fact, "kill", &FaultStep::Injected)).await;
    gate.stop().await;
    tokio::time::sleep(STORM).await;
    gate.start().await;
    let curtain = tokio::time::timeout(PATIENCE, conducted).await.unwrap().unwrap();
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    let facts = shop.close().await;
    assert!(facts.iter().any(|fact| is_step(fact, "kill", &FaultStep::Effective)), "{facts:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_whose_server_goes_away_does_not_count_and_is_proven_gone() {
    let (shop, mut gate) = gated(2).await;
    let mut listener = Listener::of(&shop);
    let spec = json!({"on": "shop/deployment/payments", "add": "100ms"});
    let (conducted, stop) = shop.conduct(vec![act("slow", 0.0, None, "latency", spec)]);
    listener.event("the injection", |fact| is_step(fact, "slow", &FaultStep::Injected)).await;
    gate.stop().await;
    // The agents lost whoever kept their lease, and are not what was asked for any more.
    let against = |fact: &Fact| matches!(fact, Fact::Fault { step: FaultStep::Evidence { supports: false, says, .. }, .. } if says.contains("ended early"));
    listener.event("a witness against it", against).await;
    stop.send_replace(true);
    tokio::time::sleep(STORM).await;
    gate.start().await;
    let curtain = tokio::time::timeout(PATIENCE, conducted).await.unwrap().unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healing_waits_for_a_server_that_starts_again_and_says_so() {
    let (shop, mut gate) = gated(1).await;
    let kubeconfig = shop.dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, gate.kubeconfig()).unwrap();
    let objects = shop.cluster.prepare(manifests(1), RUN).await.unwrap().objects();
    let line = ClusterLine {
        server: shop.cluster.server().to_owned(),
        context: None,
        kubeconfig: Some(kubeconfig.display().to_string()),
        impersonation: None,
    };
    let left = tempfile::tempdir().unwrap();
    let journal = Journal::create(left.path()).unwrap();
    for entry in [Entry::RunStarted { run: RUN.into(), pid: 1, seed: 7 }, Entry::Cluster(line), Entry::Manifests { objects }] {
        journal.write_now(entry).unwrap();
    }
    drop(journal);
    gate.stop().await;
    let place = left.path().to_owned();
    let healing = tokio::spawn(async move {
        heal(&place, &|line| Box::pin(async move { Err(format!("{} is not expected here", line.id)) })).await.unwrap()
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    // It comes up as servers do: some things fail for a while.
    let first = AtomicUsize::new(0);
    gate.rule(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => Fate::Refused(503, None),
        3 => Fate::Refused(429, Some(1)),
        5 => Fate::Cut(Duration::ZERO),
        _ => Fate::Pass,
    });
    gate.start().await;
    let reports = tokio::time::timeout(PATIENCE, healing).await.unwrap().unwrap();
    assert_eq!(reports[0].outcome, Outcome::Healed, "{reports:#?}");
    assert!(reports[0].said.iter().any(|said| said.contains("the API server was away")), "{reports:#?}");
    gate.open();
    assert!(shop.cluster.pods("shop", "app=payments").await.unwrap().is_empty());
    shop.close().await;
}
