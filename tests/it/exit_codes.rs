//! Goal: every way to end has its documented exit code and says what to do. How: run the binary into each of them.

use std::time::Duration;

use rustix::process::Signal;

use crate::command::{Squall, file_says, wait_until};
use crate::fake_target::{Dial, FakeTarget, Then, Timing};

#[test]
fn wrong_usage_is_2() {
    let squall = Squall::new();
    squall.run(&["frobnicate"]).expect(2);
    squall.run(&["run"]).expect(2);
    squall.run(&["run", "missing.yaml"]).expect(2).saying("missing.yaml");
    squall.run(&["load", "http://127.0.0.1:1/", "--rate", "50", "--for", "1s"]).expect(2).saying("50/s");
    squall.run(&["judge", "no-such-run"]).expect(2).saying("no-such-run");
    squall.run(&["report", "no-such-run", "--format", "json"]).expect(2).saying("no-such-run");
}

#[test]
fn help_and_version_are_answers() {
    let squall = Squall::new();
    squall.run(&["--help"]).expect(0).saying("Exit codes");
    squall.run(&["--version"]).expect(0).saying(env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_target_that_refuses_is_4() {
    let squall = Squall::new();
    // Port 1 of a loopback address that nothing else uses: refused at once.
    squall.run(&["load", "http://127.9.9.9:1/", "--rate", "400/s", "--for", "1s"]).expect(4).saying("127.9.9.9:1");
}

/// Goal: what this machine cannot send is refused before anything is made or sent. How: more connections to one address than TCP has
/// ports for, whatever the machine, once those count that are replaced when they grow old.
#[test]
fn a_machine_that_is_too_small_is_4() {
    let squall = Squall::new();
    let load = "load: [{name: l, users: 65000, request: {get: /}}]\n";
    squall.file(
        "plan.yaml",
        &format!("plan: p\nclaim: c\ntarget: {{url: 'http://127.9.9.9:1/'}}\nphases: [{{name: a, for: 60s}}]\n{load}"),
    );
    squall.run(&["check", "plan.yaml"]).expect(4).saying("local ports").saying("have fewer users");
    squall.run(&["check", "plan.yaml", "--explain"]).expect(4).saying("this machine").saying("a request costs a worker");
    squall.run(&["run", "plan.yaml", "--out", "run"]).expect(4).saying("this machine cannot send that");
    assert!(!squall.path("run").exists(), "no folder is left of what never began");
}

#[test]
fn a_run_folder_that_cannot_be_written_is_4() {
    let squall = Squall::new();
    squall.file("file", "");
    let target = healthy();
    squall.run(&["load", &url(&target), "--rate", "400/s", "--for", "1s", "--out", "file/run"]).expect(4).saying("--out");
}

#[test]
fn a_run_folder_in_use_is_never_overwritten() {
    let squall = Squall::new();
    std::fs::create_dir(squall.path("old")).expect("a folder can be made");
    squall.file("old/recording.jsonl", "precious");
    let target = healthy();
    squall.run(&["load", &url(&target), "--rate", "400/s", "--for", "1s", "--out", "old"]).expect(2).saying("never overwritten");
    assert!(file_says(&squall.path("old/recording.jsonl"), "precious"));
}

#[test]
fn a_healthy_target_is_0_and_a_sick_one_is_1() {
    let squall = Squall::new();
    let healthy = healthy();
    squall.run(&["load", &url(&healthy), "--rate", "400/s", "--for", "2s", "--out", "a"]).expect(0).saying("PASS");
    let sick = sick();
    squall.run(&["load", &url(&sick), "--rate", "400/s", "--for", "2s", "--out", "b"]).expect(1).saying("FAIL");
}

#[test]
fn a_promise_that_so_few_requests_can_never_prove_is_2() {
    let squall = Squall::new();
    let target = healthy();
    let said = squall.run(&["load", &url(&target), "--rate", "20/s", "--for", "2s", "--p99", "300ms", "--out", "a"]);
    said.expect(2).saying("--p99 300ms can never be decided: at most 40 requests are sent, and it needs 299");
}

#[test]
fn a_small_run_that_promised_nothing_runs_and_is_3() {
    let squall = Squall::new();
    let target = healthy();
    let said = squall.run(&["load", &url(&target), "--rate", "20/s", "--for", "1s", "--out", "a"]);
    said.expect(3).saying("nothing is asserted").saying("nothing was asserted, so nothing can pass");
    assert_eq!(target.seen().requests, 20);
}

#[test]
fn a_service_that_is_slow_and_keeps_its_promise_is_0() {
    // 400 requests are under way at once: with fewer connections some would wait for one, and their wait would grow to 1.7s here.
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_secs(1))));
    squall.run(&["load", &url(&target), "--rate", "400/s", "--for", "3s", "--p99", "2s", "--out", "a"]).expect(0).saying("PASS");
}

#[test]
fn a_signal_heals_reports_and_says_so_in_the_code() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let squall = Squall::new();
        let target = healthy();
        let running = squall.start(&["load", &url(&target), "--rate", "50/s", "--for", "60s", "--out", "run"]);
        let recording = squall.path("run/recording.jsonl");
        wait_until(Duration::from_secs(30), || file_says(&recording, "\"tally\"").then_some(())).expect("the load starts");
        running.signal(signal);
        running.wait(Duration::from_secs(30)).expect(code);
        assert!(file_says(&squall.path("run/run.json"), "\"interrupted\"") || file_says(&recording, "interrupted"));
        squall.run(&["report", "run", "--format", "summary-csv"]).expect(0).saying("run_id");
    }
}

fn healthy() -> FakeTarget {
    FakeTarget::start(Dial::good(Timing::AtOnce))
}

fn sick() -> FakeTarget {
    FakeTarget::start(Dial::says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", Then::Keep))
}

fn url(target: &FakeTarget) -> String {
    format!("http://{}/", target.address)
}
