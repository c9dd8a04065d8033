//! Goal: what a plan says of how requests arrive is what the service sees. How: the shipped plan of all shapes, and small ones of one
//! shape each, run by the built binary against a server in this process that keeps what it was asked.

use squall::plan::Plan;
use squall::recording::History;
use squall::time::Offset;
use squall::timeline::Timeline;

use crate::command::Squall;
use crate::fake_target::{Dial, FakeTarget, Timing};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/however-requests-arrive.yaml");

/// How many requests of a load were intended in each second of a run that intended any.
fn intended(squall: &Squall, run: &str, load: &str) -> Vec<(i64, u64)> {
    let history = History::load(&squall.path(run)).expect("a recording");
    let windows = history.windows.iter().filter(|(key, _)| key.load.as_str() == load);
    windows.map(|(key, tally)| (key.second, tally.counts.intended)).filter(|(_, intended)| *intended > 0).collect()
}

#[test]
fn the_plan_of_all_shapes_holds_against_a_service_that_answers() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let url = format!("url={}", target.url());
    squall.run(&["run", PLAN, "--set", &url, "--seed", "7", "--out", "run"]).expect(0).saying("PASS");
    // Four herds of fifty, in the seconds of 0, 2.5, 5 and 7.5 s.
    assert_eq!(intended(&squall, "run", "herd"), [(0, 50), (2, 50), (5, 50), (7, 50)]);
    // The others as their schedules have it, second by second.
    let text = std::fs::read_to_string(PLAN).expect("the shipped plan");
    let folder = std::path::Path::new(PLAN).parent().expect("its folder");
    let plan = Plan::read_text(PLAN, &text, folder, &[], &|_| None).unwrap_or_else(|why| panic!("{why}"));
    let planned = Timeline::of(&plan, 7);
    let second = |n: i64| Offset::from_nanos(n * 1_000_000_000);
    for load in ["tide", "crowds", "mixed"] {
        let name = load.parse().expect("a name");
        let due = (0..10).map(|n| (n, planned.requests_in(Some(&name), second(n), second(n + 1)).expect("it is on a schedule")));
        assert_eq!(intended(&squall, "run", load), due.filter(|(_, due)| *due > 0).collect::<Vec<_>>(), "{load}");
    }
    // What was recorded, with its methods and queries.
    let lines = target.seen().lines;
    let recorded =
        std::fs::read_to_string(PLAN.replace("however-requests-arrive.yaml", "recordings/monday.csv")).expect("the recording");
    for (written, line) in
        [("POST,/checkout", "POST /checkout "), ("GET,/cart?item=2", "GET /cart?item=2 "), ("GET,/catalog", "GET /catalog ")]
    {
        let (sent, known) = (lines.iter().filter(|seen| seen.starts_with(line)).count(), recorded.matches(written).count());
        assert_eq!(sent, known, "{line}");
    }
    // Judged again without the recording of Monday, by the plan that the run's folder keeps.
    squall.run(&["judge", "run"]).expect(0).saying("PASS");
}

/// A plan of one load.
fn plan(url: &str, load: &str) -> String {
    format!(
        "plan: p\nclaim: c\ntarget: {{url: \"{url}\"}}\nphases: [{{name: a, for: 2s}}]\nload:\n- name: l\n{load}\
         assert: [{{name: answered, slo: {{available: 50%}}}}]\n"
    )
}

#[test]
fn a_replay_sends_what_was_recorded_in_its_order() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let log: String = ["GET /a?b=c", "DELETE /b", "PUT /c", "GET /a?b=c", "POST /d"]
        .iter()
        .map(|request| format!("10.0.0.1 - - [10/Oct/2026:13:55:36 -0700] \"{request} HTTP/1.1\" 200 23 \"-\" \"x\"\n"))
        .collect();
    squall.file("access.log", &log);
    // One connection keeps what is sent in order on the other side, too.
    let load = "  arrivals: {replay: {file: access.log}}\n  connections: 1\n  request: {headers: {x-a: b}, body: hello}\n";
    squall.file("plan.yaml", &plan(&target.url(), load));
    squall.run(&["check", "plan.yaml", "--explain"]).expect(0).saying("4 different requests").saying("5 requests over 0.800s");
    squall.run(&["run", "plan.yaml", "--out", "run"]).expect(0).saying("REPLAY access.log");
    let seen = target.seen();
    let lines = ["GET /a?b=c", "DELETE /b", "PUT /c", "GET /a?b=c", "POST /d"].map(|request| format!("{request} HTTP/1.1"));
    assert_eq!(seen.lines, lines);
    assert!(seen.request.contains("x-a: b") && !seen.request.contains("hello"), "a GET has no body: {}", seen.request);
}

#[test]
fn a_method_in_the_plan_replays_the_times_alone() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    squall.file("traffic.csv", "time,path\n0,/a\n1,/b\n1.5,/c\n1.5,/a\n2,/b\n3,/a\n");
    squall.file("plan.yaml", &plan(&target.url(), "  arrivals: {replay: {file: traffic.csv, warp: 3}}\n  request: {get: /only}\n"));
    squall.run(&["run", "plan.yaml", "--out", "run"]).expect(0);
    assert_eq!(target.seen().lines, ["GET /only HTTP/1.1"; 6]);
}

#[test]
fn a_recording_that_is_no_good_is_named_with_its_lines_before_anything_runs() {
    let squall = Squall::new();
    squall.file("plan.yaml", &plan("http://127.0.0.1:1/", "  arrivals: {replay: {file: trafic.csv}}\n  request: {timeout: 1s}\n"));
    squall.file("traffic.csv", "time,path\n0,/a\nnoon,/b\n1,c\n");
    squall
        .run(&["check", "plan.yaml"])
        .expect(2)
        .saying("cannot read the recording `trafic.csv`: there is no such file")
        .saying("traffic.csv")
        .saying("1 problem");
    squall.file("plan.yaml", &plan("http://127.0.0.1:1/", "  arrivals: {replay: {file: traffic.csv}}\n"));
    let said = squall.run(&["check", "plan.yaml"]);
    said.expect(2).saying("the recording `traffic.csv`: line 3: `noon` is no time").saying("line 4: `c` is not a path: write /c");
    squall.file("traffic.csv", "0\n1\n");
    squall.run(&["check", "plan.yaml"]).expect(2).saying("says when something was sent, and not what");
}

#[test]
fn a_url_can_be_loaded_in_herds() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let args = ["load", &target.url(), "--rate", "100/s", "--for", "4s", "--arrivals", "herd: {of: 150}", "--out", "run"];
    squall.run(&args).expect(0);
    assert_eq!(intended(&squall, "run", "requests"), [(0, 150), (1, 150), (3, 150)]);
    squall
        .run(&["load", &target.url(), "--rate", "1/s", "--for", "1s", "--arrivals", "hred: {of: 5}"])
        .expect(2)
        .saying("did you mean `herd`?");
    let replay = ["load", &target.url(), "--rate", "1/s", "--for", "1s", "--arrivals", "replay: {file: a.csv}"];
    squall.run(&replay).expect(2).saying("put it into a plan");
}
