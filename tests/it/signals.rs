//! Goal: a signal at any moment heals, says so in the exit code and leaves nothing; a second one leaves at once, and `squall heal` finishes.
//! How: the built binary, signalled at moments that its own journal and recording show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use squall::sandbox::cleanup::{Scope, sweep};

use crate::command::{Running, Squall, file_says, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
const BOTH: [(Signal, i32); 2] = [(Signal::INT, 130), (Signal::TERM, 143)];
/// The plan with both faults: a kill at two seconds, a delay from four to nine.
const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plans/kill.yaml");

/// A run of the plan in a sandbox of its own, with its temporary files where they can be counted.
fn run(squall: &Squall) -> (Running, PathBuf) {
    let temporary = squall.path("tmp");
    std::fs::create_dir(&temporary).expect("a folder can be made");
    (squall.start_with(&["run", PLAN, "--out", "run", "--seed", "7"], &[("TMPDIR", &temporary)]), temporary)
}

#[track_caller]
fn until_says(file: &Path, words: &str) {
    wait_until(PATIENCE, || file_says(file, words).then_some(()))
        .unwrap_or_else(|| panic!("{} never said {words}: {}", file.display(), std::fs::read_to_string(file).unwrap_or_default()));
}

/// The journal is complete, the temporary folder empty, and no process of the run's sandbox is left.
#[track_caller]
fn nothing_is_left(squall: &Squall, temporary: &Path) {
    let journal = std::fs::read_to_string(squall.path("run/journal.jsonl")).expect("the run wrote its journal");
    assert!(journal.lines().last().is_some_and(|line| line.contains("closed")), "{journal}");
    assert_eq!(std::fs::read_dir(temporary).expect("it was made").count(), 0, "temporary files were left behind");
    let sandbox = journal.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of the journal");
        Some(line["entry"]["sandbox"]["id"].as_str()?.to_owned())
    });
    let id = sandbox.expect("the run had a sandbox");
    assert_eq!(sweep(&Scope::One { id, dir: temporary.join("none") }), vec![]);
}

#[test]
fn a_signal_while_the_sandbox_is_set_up_leaves_nothing() {
    for (signal, code) in BOTH {
        let squall = Squall::new();
        let (running, temporary) = run(&squall);
        until_says(&squall.path("run/journal.jsonl"), "\"sandbox\"");
        running.signal(signal);
        running.wait(PATIENCE).expect(code).saying("no request was sent");
        nothing_is_left(&squall, &temporary);
    }
}

/// The last case is `timeout`, which signals its child and then the child's whole group: what comes at once is no second wish. Two signals
/// of different kinds, since two of the same that come at once are one to begin with; either may be heard first.
#[test]
fn a_signal_under_a_delay_heals_it_even_when_two_come_at_once() {
    let cases: [(&[Signal], &[i32]); 3] =
        [(&[Signal::INT], &[130]), (&[Signal::TERM], &[143]), (&[Signal::TERM, Signal::INT], &[130, 143])];
    for (signals, codes) in cases {
        let squall = Squall::new();
        let (running, temporary) = run(&squall);
        let recording = squall.path("run/recording.jsonl");
        until_says(&recording, "{\"fault\":{\"fault\":\"slow-payments\",\"step\":\"effective\"}}");
        signals.iter().for_each(|signal| running.signal(*signal));
        let said = running.wait(PATIENCE);
        assert!(codes.contains(&said.code), "{signals:?}: {}\n{}", said.code, said.stderr);
        assert!(file_says(&recording, "{\"fault\":{\"fault\":\"slow-payments\",\"step\":\"healed\"}}"));
        nothing_is_left(&squall, &temporary);
    }
}

/// A sandbox that outlives the runs in it; it ends with the test.
struct Up(Option<Running>);

impl Up {
    fn start(squall: &Squall, kubeconfig: &Path) -> Up {
        let before = std::fs::read_to_string(kubeconfig).unwrap_or_default();
        let up = Up(Some(squall.start(&["sandbox", "up", "--kubeconfig", &kubeconfig.display().to_string()])));
        let is_new = || std::fs::read_to_string(kubeconfig).is_ok_and(|now| now.contains("contexts:") && now != before);
        wait_until(PATIENCE, || is_new().then_some(())).expect("the sandbox writes its kubeconfig");
        up
    }

    fn signal(&self, signal: Signal) {
        self.0.as_ref().expect("it runs").signal(signal);
    }

    #[track_caller]
    fn end(mut self) {
        self.signal(Signal::TERM);
        self.0.take().expect("it runs").wait(PATIENCE).expect(0);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Only where the test gave up before its end.
        if let Some(running) = self.0.take() {
            running.signal(Signal::CONT);
            running.signal(Signal::TERM);
            running.wait(PATIENCE);
        }
    }
}

/// Goal: who does not want to wait leaves at once, and healing is finished later. How: the cluster stands still (it is stopped), so that
/// healing cannot end; signals go on until the process is gone, since those within the first second are echoes of the first.
#[test]
fn a_second_signal_leaves_at_once_and_healing_later_finishes() {
    for (signal, code) in BOTH {
        let squall = Squall::new();
        let kubeconfig = squall.path("kubeconfig");
        let up = Up::start(&squall, &kubeconfig);
        let args = ["run", PLAN, "--cluster", "squall-sandbox", "--allow-faults", "--out", "run", "--seed", "7"];
        let mut running = squall.start_with(&args, &[("KUBECONFIG", &kubeconfig)]);
        until_says(&squall.path("run/recording.jsonl"), "{\"fault\":{\"fault\":\"slow-payments\",\"step\":\"effective\"}}");
        up.signal(Signal::STOP);
        running.signal(signal);
        // Far less than any of the calls to the cluster may take.
        let left = wait_until(Duration::from_secs(5), || {
            let ended = running.has_ended();
            if !ended {
                running.signal(signal);
            }
            ended.then_some(())
        });
        up.signal(Signal::CONT);
        assert!(left.is_some(), "it never left");
        running.wait(PATIENCE).expect(code).saying("run `squall heal run`");
        squall.run(&["heal", "run"]).expect(0).saying("run: healed").saying("fault slow-payments").saying("manifests");
        squall.run(&["heal", "run"]).expect(0).saying("nothing to heal");
        up.end();
    }
}

#[test]
fn a_kubeconfig_that_is_somebody_else_s_is_neither_written_over_nor_removed() {
    let squall = Squall::new();
    let theirs = squall.file("config", "apiVersion: v1\nkind: Config\n# mine\n");
    squall.run(&["sandbox", "up", "--kubeconfig", "config"]).expect(2).saying("not written over");
    assert!(file_says(&theirs, "# mine"));

    let own = squall.path("own");
    let up = Up::start(&squall, &own);
    squall.run(&["sandbox", "up", "--kubeconfig", "own"]).expect(2).saying("a sandbox that lives");
    // Killed, it leaves its file, and the next one takes its place.
    let left = std::fs::read_to_string(&own).expect("it is there");
    up.end();
    assert!(!own.exists(), "it goes with its sandbox");
    // Where no sandbox ever is: one of another test may have taken the block.
    let address = left.split_once("https://").and_then(|(_, rest)| rest.split_once(':')).expect("it names its server").0;
    std::fs::write(&own, left.replace(address, "127.251.0.1")).expect("a file can be written");
    let up = Up::start(&squall, &own);
    std::fs::write(&own, "replaced while it ran").expect("a file can be written");
    up.end();
    assert!(file_says(&own, "replaced while it ran"), "what somebody put there stays");
}
