//! Goal: requests differ as their plan says, on the other side of the wire. How: small plans, and the shipped one, run by the built
//! binary against a server in this process that keeps what it was asked; what it must have been asked is worked out from the plan and the
//! seed without sending anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use squall::plan::Plan;
use squall::recording::History;
use squall::timeline::Timeline;
use squall::varying::{Form, Template, Values};

use crate::command::Squall;
use crate::fake_target::{Dial, FakeTarget, Timing};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/requests-that-differ.yaml");

fn plan(url: &str, rest: &str) -> String {
    format!(
        "plan: p\nclaim: c\ntarget: {{url: \"{url}\"}}\nphases: [{{name: a, for: 2s}}]\n{rest}assert: [{{name: answered, slo: {{available: 50%}}}}]\n"
    )
}

/// The paths that a plan's first load asks for with this seed, by the numbers of its requests.
fn expected(text: &str, folder: &Path, seed: u64, requests: u64) -> Vec<String> {
    let plan = Plan::read_text("p.yaml", text, folder, &[], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let timeline = Timeline::of(&plan, seed);
    let load = &plan.loads[0];
    let (names, supply) = (load.varying.names(), load.varying.supply(&load.name, timeline.traffic[0].1.seed()));
    let template = Template::new(&load.request.path, Form::Path, &names);
    let mut values = Values::new();
    let path = |number| {
        supply.fill(number, &mut values);
        let mut out = Vec::new();
        template.render(&values, &mut out);
        String::from_utf8(out).expect("a path is text")
    };
    (0..requests).map(path).collect()
}

/// The paths that were asked for.
fn asked(target: &FakeTarget) -> Vec<String> {
    let path = |line: &String| line.split(' ').nth(1).expect("a path").to_owned();
    target.seen().lines.iter().map(path).collect()
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths
}

/// Goal: what is received is what was drawn, request by request, however many workers draw. How: the keys of each number, worked out
/// here; and the share of the commonest key by the definition of the distribution.
#[test]
fn the_keys_that_arrive_are_those_of_the_seed_whoever_sends_them() {
    for workers in [1, 3] {
        let squall = Squall::new();
        let target = FakeTarget::start(Dial::good(Timing::AtOnce));
        let text = plan(
            &target.url(),
            &format!(
                "generator: {{workers: {workers}}}\nload:\n- name: l\n  rate: 1000/s\n  \
                 draw: {{tenant: {{zipf: {{of: 100, skew: 1.1}}}}, size: {{weighted: {{small: 90, \"very large\": 10}}}}, unused: {{uniform: {{of: 3}}}}}}\n  \
                 request: {{post: \"/t/{{{{tenant}}}}?size={{{{size}}}}\", headers: {{x-tenant: \"{{{{ tenant }}}}\"}}, body: \"{{{{tenant}}}} {{{{size}}}}\"}}\n"
            ),
        );
        squall.file("plan.yaml", &text);
        squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]).expect(0);
        let paths = sorted(asked(&target));
        assert_eq!(paths, sorted(expected(&text, Path::new(""), 7, 2_000)));
        let share = |start: &str| paths.iter().filter(|path| path.starts_with(start)).count() as f64 / 2_000.0;
        let sum: f64 = (1..=100).map(|key| f64::from(key).powf(-1.1)).sum();
        // Five standard deviations.
        assert!((share("/t/1?") - 1.0 / sum).abs() < 0.05, "{}", share("/t/1?"));
        assert!(paths.iter().any(|path| path.ends_with("?size=very%20large")), "a blank is encoded in a path");
        // One value has one name within a request, wherever it stands.
        let first = target.seen().request;
        let tenant = first.split("/t/").nth(1).and_then(|rest| rest.split('?').next()).expect("a tenant");
        let size = if first.contains("small") { "small" } else { "very large" };
        assert!(
            first.contains(&format!("x-tenant: {tenant}\r\n")) && first.ends_with(&format!("\r\n\r\n{tenant} {size}")),
            "{first}"
        );
    }
}

/// Goal: users draw and take rows as a schedule does. How: one user, whose requests come one after the other.
#[test]
fn users_take_rows_one_after_the_other_and_leave_when_there_are_no_more() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    squall.file("a.jsonl", "{\"id\":1}\n{\"id\":\"b c\"}\n{\"id\":3}\n");
    let text = plan(
        &target.url(),
        "feeds: [{name: a, file: a.jsonl, order: unique}]\nload: [{name: l, users: 1, request: {get: \"/{{a.id}}\"}}]\n",
    );
    squall.file("plan.yaml", &text);
    squall.run(&["run", "plan.yaml", "--out", "run"]).saying("feed used up");
    assert_eq!(asked(&target), ["/1", "/b%20c", "/3"]);
    let history = History::load(&squall.path("run")).expect("a recording");
    let causes: BTreeMap<&str, u64> =
        history.windows.values().flat_map(|tally| tally.causes.iter().map(|(cause, n)| (cause.as_str(), *n))).collect();
    assert_eq!(causes, BTreeMap::from([("feed used up", 1)]));
}

#[test]
fn rows_come_in_their_order_and_are_drawn_by_the_seed() {
    for order in ["sequential", "random"] {
        let squall = Squall::new();
        let target = FakeTarget::start(Dial::good(Timing::AtOnce));
        let rows: String = (0..30).map(|n| format!("{n},u{n}@x\n")).collect();
        squall.file("accounts.csv", &format!("id,email\n{rows}"));
        let load = "load: [{name: l, rate: 50/s, request: {get: \"/{{accounts.id}}/{{accounts.email}}\"}}]\n";
        let text = plan(&target.url(), &format!("feeds: [{{name: accounts, file: accounts.csv, order: {order}}}]\n{load}"));
        squall.file("plan.yaml", &text);
        squall.run(&["run", "plan.yaml", "--seed", "3", "--out", "run"]).expect(0);
        let paths = sorted(asked(&target));
        assert_eq!(paths, sorted(expected(&text, &squall.path("."), 3, 100)));
        // The columns of a request are of one row.
        for path in &paths {
            let (id, email) = path[1..].split_once('/').expect("two columns");
            assert_eq!(email, format!("u{id}@x"));
        }
        if order == "sequential" {
            let counts = |id: u32| paths.iter().filter(|path| path.starts_with(&format!("/{id}/"))).count();
            assert_eq!([0, 9, 10, 29].map(counts), [4, 4, 3, 3], "100 requests go three times round 30 rows, and 10 further");
        }
    }
}

/// Goal: the shipped plan holds; its classes are counted apart as they were received, and together are the load.
#[test]
fn classes_are_told_counted_apart_and_judged() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let url = format!("url={}", target.url());
    let ran = squall.run(&["run", PLAN, "--set", &url, "--seed", "7", "--out", "run"]);
    ran.expect(0).saying("critical").saying("sheddable");
    let history = History::load(&squall.path("run")).expect("a recording");
    let mut recorded: BTreeMap<String, u64> = BTreeMap::new();
    for (key, tally) in history.windows.iter().filter(|(key, _)| key.load.as_str() == "shoppers") {
        *recorded.entry(key.part.class.as_ref().expect("each has one").to_string()).or_default() += tally.counts.ok;
    }
    let asked = asked(&target);
    let received = |class: &str| asked.iter().filter(|path| path.ends_with(&format!("class={class}"))).count() as u64;
    for class in ["critical", "default", "sheddable"] {
        assert_eq!(recorded[class], received(class), "{class}");
    }
    let (from, to) = history.whole();
    assert_eq!(recorded.values().sum::<u64>(), history.counts(Some(&"shoppers".parse().expect("a name")), from, to).ok);
    let summary = std::fs::read_to_string(squall.path("run/summary.csv")).expect("a summary");
    assert!(summary.lines().any(|line| line.contains(",shoppers,") && line.contains(",critical,")), "{summary}");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("a report")).expect("JSON");
    let rows = json["classes"].as_array().expect("rows of classes");
    let row = rows.iter().find(|row| row["class"] == "critical" && row["phase"] == "_all").expect("a row");
    assert_eq!(row["ok"], recorded["critical"]);
    squall.run(&["judge", "run"]).expect(0).saying("critical");
}

/// Goal: each request can be found again, by a name that no other has. How: names in the path, where the server keeps all of them.
#[test]
fn no_two_requests_of_a_run_have_the_same_name() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let load = |name: &str| {
        format!(
            "- {{name: {name}, rate: 100/s, trace: [op_id, traceparent], request: {{get: \"/{{{{op_id}}}}/{{{{traceparent}}}}\"}}}}\n"
        )
    };
    squall.file("plan.yaml", &plan(&target.url(), &format!("load:\n{}{}", load("a"), load("b"))));
    squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]).expect(0);
    let asked = asked(&target);
    assert_eq!(asked.len(), 400);
    let ids = |n: usize| asked.iter().map(|path| path.split('/').nth(n).expect("an id")).collect::<BTreeSet<&str>>();
    assert_eq!((ids(1).len(), ids(2).len()), (400, 400));
    let first = target.seen().request;
    let path: Vec<&str> = first.split([' ', '/']).collect();
    assert!(first.contains(&format!("x-op-id: {}\r\n", path[2])), "{first}");
    assert!(first.contains(&format!("traceparent: {}\r\n", path[3])), "{first}");
}
