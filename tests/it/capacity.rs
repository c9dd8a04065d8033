//! Goal: a search for capacity finds what a service can take, says when nothing of the kind can be found, and leaves every probe behind
//! as a run like any other. How: the built binary against targets whose capacity is known by arithmetic.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use squall::time::Clock;

use crate::command::{Said, Squall, file_says, wait_until};
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::known_answers::reference_server::ReferenceServer;
use crate::known_answers::system::{Rule, Service, System};

const PATIENCE: Duration = Duration::from_secs(60);

/// A plan with one load, and what else it says of it, and the objective `in-time`.
fn plan(squall: &Squall, url: &str, load: &str, slo: &str) {
    let text = format!(
        "plan: shop\nclaim: c\ntarget: {{url: \"{url}\"}}\nphases: [{{name: usual, for: 10s}}]\n\
         load: [{{name: shoppers, rate: 150/s, request: {{get: /}}{load}}}]\nassert: [{{name: in-time, slo: {slo}}}]\n"
    );
    squall.file("plan.yaml", &text);
}

fn search(more: &[&str]) -> Vec<String> {
    let fixed = ["capacity", "plan.yaml", "--slo", "in-time", "--probe", "1s", "--out", "found", "--seed", "7"];
    fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn run(squall: &Squall, more: &[&str]) -> Said {
    let args = search(more);
    squall.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn found(squall: &Squall) -> Value {
    let text = fs::read_to_string(squall.path("found/capacity.json")).expect("a search writes what it found");
    serde_json::from_str(&text).expect("it is JSON")
}

/// Goal: the answer holds the capacity, and every step of it can be judged again. How: one server with a queue that takes 5 ms each, so
/// 200/s and no more. A rate beyond it by a tenth makes the last request of the confirming probe, 4 s long, wait for 400 ms, far
/// beyond what is allowed; and where this machine keeps the server from being punctual, the capacity is less. Coarse, since how the search gets
/// to any resolution is tested where it is pure.
#[test]
fn the_capacity_of_a_queue_lies_in_the_answer() {
    let squall = Squall::new();
    let one = Rule::Queue { workers: 1, room: usize::MAX, service: Service::Fixed(Duration::from_millis(5)) };
    let server = ReferenceServer::start(System::new(one, 1, 1), Clock::starting_in(Duration::ZERO));
    plan(&squall, &server.url(), "", "{p90: 250ms}");
    let said = run(&squall, &["--from", "140/s", "--to", "1000/s", "--resolution", "42%"]);
    said.expect(0).saying("verdict").saying("says nothing of availability");
    let found = found(&squall);
    let (low, high) = (found["capacity_rps"].as_f64().expect("a rate"), found["failed_rps"].as_f64().expect("a rate"));
    assert!((140.0..220.0).contains(&low) && high > low && high <= 400.0, "[{low}, {high}]");
    assert!(said.stdout.contains(&format!("capacity  {low}/s [{low}, {high}]: `in-time` held")), "{}", said.stdout);
    assert_eq!((&found["end"], &found["exit_code"]), (&Value::from("found"), &Value::from(0)));

    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);

    let probes = found["probes"].as_array().expect("probes");
    let csv = fs::read_to_string(squall.path("found/capacity.csv")).expect("a table");
    assert_eq!(csv.lines().count(), probes.len() + 1, "one check for each probe\n{csv}");
    for probe in probes {
        let folder = format!("found/{}", probe["folder"].as_str().expect("a folder"));
        let (verdict, code) = match probe["verdict"].as_str() {
            Some("pass") => ("PASS", 0),
            Some("fail") => ("FAIL", 1),
            _ => ("INCONCLUSIVE", 3),
        };
        squall.run(&["judge", &folder]).expect(code).saying(verdict);
        let findings = squall.run(&["judge", &folder, "--json"]).stdout;
        assert_eq!(serde_json::from_str::<Value>(&findings).expect("findings"), probe["findings"], "{folder}");
    }
    // Its plan is one to be run by hand.
    squall.run(&["check", "found/probe-01/plan.yaml"]).expect(0);
    // The confirming one is three times as long, and the last word on its rate.
    let last = probes.iter().rev().find(|probe| probe["rate_rps"] == found["capacity_rps"]).expect("it was tried");
    assert_eq!((&last["verdict"], &last["window_s"]), (&Value::from("pass"), &Value::from(3.0)));
}

#[test]
fn an_objective_that_no_rate_meets_is_1() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(20))));
    plan(&squall, &target.url(), "", "{p90: 1ms}");
    run(&squall, &["--from", "100/s"]).expect(1).saying("capacity  below 100/s: even at 100/s, the lowest rate");
    assert_eq!(found(&squall)["probes"].as_array().map(Vec::len), Some(1));
}

/// Goal: what the generator cannot send says nothing of the service. How: it may have one request in flight, and each takes 8 ms: 125/s
/// and no more, while at 70/s it has 6 ms to spare.
#[test]
fn a_generator_that_cannot_keep_up_is_the_limit_and_3() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(8))));
    plan(&squall, &target.url(), ", in_flight: 1", "{p50: 1s}");
    let said = run(&squall, &["--from", "70/s", "--to", "139/s", "--resolution", "99%"]);
    said.expect(3).saying("this machine is the limit").saying("never sent because a limit of squall's own was reached");
    let found = found(&squall);
    let limited = found["probes"].as_array().expect("probes").iter().filter(|probe| probe["limited"] == true).count();
    assert!(limited >= 2 && found["failed_rps"].is_null() && found["end"] == "inconclusive", "{found}");
}

#[test]
fn a_signal_ends_the_search_with_whole_recordings_and_what_was_known() {
    let ends_with = |signal, code| {
        let squall = Squall::new();
        let target = FakeTarget::start(Dial::good(Timing::AtOnce));
        plan(&squall, &target.url(), "", "{p90: 100ms}");
        let args = search(&["--from", "100/s", "--to", "100/s"]);
        let running = squall.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        // In the second probe: the first, good or bad, is done.
        let recording = squall.path("found/probe-02/recording.jsonl");
        wait_until(PATIENCE, || file_says(&recording, "\"tally\"").then_some(())).expect("there is a second probe");
        running.signal(signal);
        running.wait(PATIENCE).expect(code).saying("probe 2 was interrupted by SIG");
        assert!(file_says(&recording, "\"run_ended\""), "the recording is whole");
        assert_eq!(found(&squall)["end"], "interrupted");
        squall.run(&["heal", "found"]).expect(0).saying("nothing to heal");
    };
    std::thread::scope(|both| {
        both.spawn(|| ends_with(Signal::INT, 130));
        both.spawn(|| ends_with(Signal::TERM, 143));
    });
}

/// Goal: probes share one sandbox, set up once and taken down at the end. How: the journal of the search; its probes have none.
#[test]
fn probes_in_the_sandbox_share_one() {
    let squall = Squall::new();
    let stack = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/stacks/bounded.yaml");
    // Two pods with two workers of 40 ms each: 100/s.
    let text = format!(
        "plan: shop\nclaim: c\ncluster: sandbox\nmanifests: [\"{}\"]\n\
         target: {{url: \"http://checkout.shop:8080/\", workload: shop/deployment/checkout}}\nphases: [{{name: usual, for: 30s}}]\n\
         load: [{{name: shoppers, rate: 40/s, request: {{get: /checkout}}}}]\n\
         faults: [{{name: kill, at: usual + 5s, pod_kill: {{pods: 1}}}}]\nassert: [{{name: in-time, slo: {{p50: 300ms}}}}]\n",
        stack.display()
    );
    squall.file("plan.yaml", &text);
    let said = run(&squall, &["--from", "40/s", "--to", "40/s"]);
    said.expect(0).saying("left out are kill").saying("capacity  at least 40/s: `in-time` held, in a probe of 3s");
    let journal = fs::read_to_string(squall.path("found/journal.jsonl")).expect("the search has a journal");
    assert_eq!(journal.matches("\"sandbox\":").count(), 1, "{journal}");
    assert!(journal.lines().last().is_some_and(|line| line.contains("closed")), "{journal}");
    assert!(!squall.path("found/probe-02/journal.jsonl").exists());
    assert!(file_says(&squall.path("found/probe-02/recording.jsonl"), "ready_replicas"), "each probe is watched");
}

#[test]
fn what_cannot_be_searched_is_2_and_says_what_to_do() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    plan(&squall, &target.url(), "", "{p90: 100ms}");
    squall.run(&["capacity", "plan.yaml", "--slo", "in-tme"]).expect(2).saying("did you mean `in-time`?");
    run(&squall, &["--from", "9/s", "--to", "3/s"]).expect(2).saying("--from 9/s is more than --to 3/s");
    run(&squall, &["--from", "50"]).expect(2).saying("write 50/s");
    run(&squall, &["--resolution", "0.1%"]).expect(2).saying("from 1% to 99%");
    let closed = fs::read_to_string(squall.path("plan.yaml")).expect("the plan").replace("rate: 150/s", "users: 5");
    squall.file("plan.yaml", &closed);
    run(&squall, &[]).expect(2).saying("`shoppers` has users who wait for answers").saying("give it a `rate`");
    assert_eq!(target.seen().requests, 0);
}
