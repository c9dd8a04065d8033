//! Goal: the verdict tells a sound service from a broken one, and either from a run that proves nothing. How: each plan of
//! `tests/plans/` runs through the built binary as a user would run it. A broken twin must fail for its own reason, named in its
//! finding; its healthy sibling must pass; what was starved, frozen or ineffective must be inconclusive.
//!
//! Runs take turns, two at once, and those of retries without a bound alone: on two cores they would make each other's generators late, and
//! the certificate would rightly say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest plan takes 23 s, preparing and cleaning up some more.
const AT_MOST: Duration = Duration::from_secs(120);

/// Room for runs side by side.
static ROOM: (Mutex<u32>, Condvar) = (Mutex::new(2), Condvar::new());
/// Plans that leave no room beside them: what they set off takes a core by itself.
const ALONE: [&str; 2] = ["naive-retries", "budgeted-retries"];

/// The room that a run has, until it is dropped.
struct Turn(u32);

impl Turn {
    /// Waits for as much as `plan` needs.
    fn of(plan: &str) -> Turn {
        let needs = if ALONE.contains(&plan) { 2 } else { 1 };
        // A test that failed has left nothing half done behind its lock.
        let mut room = ROOM.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *room < needs {
            room = ROOM.1.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
        *room -= needs;
        Turn(needs)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *ROOM.0.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        ROOM.1.notify_all();
    }
}

/// A run that is under way, in a folder of its own.
struct Running {
    squall: Child,
    folder: tempfile::TempDir,
    _turn: Turn,
}

/// A run that has ended.
struct Ran {
    exit: Option<i32>,
    run: Value,
    said: String,
}

impl Running {
    fn start(plan: &str) -> Running {
        let turn = Turn::of(plan);
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let temporary = folder.path().join("tmp");
        fs::create_dir(&temporary).expect("a folder can be made");
        let said = fs::File::create(folder.path().join("said")).expect("a file can be made");
        let squall = Command::new(env!("CARGO_BIN_EXE_squall"))
            .args(["run", "--quiet", "--seed", "7", "--out"])
            .arg(folder.path().join("run"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(plan).with_extension("yaml"))
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a handle can be doubled"))
            .stderr(said)
            .spawn()
            .expect("squall starts");
        Running { squall, folder, _turn: turn }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap_or_default()
    }

    /// Waits until the recording holds a fact that `is` what is waited for.
    fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + AT_MOST;
        loop {
            let recording = fs::read_to_string(self.path("run/recording.jsonl")).unwrap_or_default();
            // The last line may be half written.
            if recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|event| is(&event["fact"])) {
                return;
            }
            if let Ok(Some(status)) = self.squall.try_wait() {
                panic!("the run ended ({status}) before {what}:\n{}", self.said());
            }
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) -> Ran {
        let deadline = Instant::now() + AT_MOST;
        let status = loop {
            if let Some(status) = self.squall.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "the run does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        };
        let run = fs::read_to_string(self.path("run/run.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
        let left: Vec<_> = fs::read_dir(self.path("tmp")).expect("it was made").flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "temporary files were left behind: {left:?}\n{}", self.said());
        Ran { exit: status.code(), run: run.unwrap_or(Value::Null), said: self.said() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that gave up must not leave a run behind; one that has ended is not touched.
        let _ = self.squall.kill();
        let _ = self.squall.wait();
    }
}

impl Ran {
    #[track_caller]
    fn ends(&self, verdict: &str, exit: i32) -> &Ran {
        let findings = serde_json::to_string_pretty(&self.run["findings"]).unwrap_or_default();
        let certificate = &self.run["certificate"];
        assert_eq!(self.exit, Some(exit), "{}\nfindings: {findings}\ncertificate: {certificate}", self.said);
        assert_eq!(self.run["verdict"], verdict, "{findings}");
        assert_eq!(self.run["exit_code"], exit, "run.json and the shell say the same");
        self
    }

    /// The finding `name` has `verdict`, and its reason names each of `words`.
    #[track_caller]
    fn because(&self, name: &str, verdict: &str, words: &[&str]) -> &Ran {
        let findings = self.run["findings"].as_array().expect("run.json has findings");
        let names: Vec<&str> = findings.iter().filter_map(|finding| finding["name"].as_str()).collect();
        let finding = findings
            .iter()
            .find(|finding| finding["name"] == name)
            .unwrap_or_else(|| panic!("there is no finding {name}, only {names:?}"));
        assert_eq!(finding["verdict"], verdict, "{finding:#}");
        let reason = finding["reason"].as_str().expect("a finding has a reason");
        for word in words {
            assert!(reason.contains(word), "the reason of {name} does not name {word:?}: {reason}");
        }
        self
    }
}

fn run(plan: &str) -> Ran {
    Running::start(plan).end()
}

#[test]
fn without_an_autoscaler_nothing_scales_and_the_finding_says_that_there_is_none() {
    run("hpa-missing").ends("fail", 1).because("scales-out.reach", "fail", &["shop/hpa/checkout"]);
}

#[test]
fn with_an_autoscaler_it_scales() {
    run("hpa-present").ends("pass", 0).because("scales-out.reach", "pass", &[]);
}

#[test]
fn an_unbounded_queue_answers_too_late() {
    run("unbounded-queue").ends("fail", 1).because("sheds-load.accepted_p99", "fail", &["1s"]);
}

#[test]
fn a_bounded_queue_answers_what_it_accepts() {
    run("bounded-queue").ends("pass", 0).because("sheds-load.accepted_p99", "pass", &[]);
}

#[test]
fn naive_retries_keep_the_outage_going() {
    run("naive-retries").ends("fail", 1).because("outage-ends.recover_within", "fail", &[]);
}

#[test]
fn budgeted_retries_let_the_outage_end() {
    run("budgeted-retries").ends("pass", 0).because("outage-ends.recover_within", "pass", &[]);
}

#[test]
fn ready_before_it_is_ready_costs_requests() {
    run("ready-too-early").ends("fail", 1).because("new-pods-serve.available", "fail", &["status 500"]);
}

#[test]
fn ready_when_it_is_ready_costs_none() {
    run("ready-when-ready").ends("pass", 0).because("new-pods-serve.available", "pass", &[]);
}

#[test]
fn too_few_requests_prove_nothing() {
    run("starved").ends("inconclusive", 3).because("fast.p95", "inconclusive", &["59"]);
}

#[test]
fn enough_requests_prove_it() {
    run("fed").ends("pass", 0).because("fast-after-the-kill.p95", "pass", &[]);
}

/// The generator stands still for two seconds in the middle of what is judged: what it measured then says nothing about the service.
#[test]
fn a_frozen_generator_proves_nothing() {
    let mut running = Running::start("fed");
    running.until("the eighth second", |fact| fact["tally"]["second"].as_i64().is_some_and(|second| second >= 7));
    let squall = rustix::process::Pid::from_child(&running.squall);
    rustix::process::kill_process(squall, rustix::process::Signal::STOP).expect("it lives");
    // Not a wait for something: the two seconds are the stimulus.
    std::thread::sleep(Duration::from_secs(2));
    rustix::process::kill_process(squall, rustix::process::Signal::CONT).expect("it lives");
    let ran = running.end();
    ran.ends("inconclusive", 3).because("fast-after-the-kill.p95", "inconclusive", &["stood still"]);
    assert_eq!(ran.run["certificate"]["valid"], false, "{}", ran.run["certificate"]);
}

#[test]
fn a_fault_without_effect_proves_nothing() {
    let ran = run("latency-ineffective");
    ran.ends("inconclusive", 3).because("slowness-is-survived.failed", "inconclusive", &["slow-payments", "never proven"]);
    assert_eq!(ran.run["faults"][0]["proven"], false, "{}", ran.run["faults"]);
    assert_eq!(ran.run["faults"][0]["healed"], true, "{}", ran.run["faults"]);
}

#[test]
fn a_fault_with_effect_can_be_survived() {
    let ran = run("latency-effective");
    ran.ends("pass", 0).because("slowness-is-survived.failed", "pass", &[]);
    assert_eq!(ran.run["faults"][0]["proven"], true, "{}", ran.run["faults"]);
}
