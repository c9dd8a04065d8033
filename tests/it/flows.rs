//! Goal: requests in steps do what a visitor does, in both protocols and both models: what an answer says is sent with the steps after it,
//! each step is counted apart, and what a step that fails leaves out is counted too. How: plans run by the binary against a shop that knows
//! whom it has let in, the recordings read back, and what the shop was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use squall::plan::Plan;
use squall::recording::History;
use squall::recording::fact::Counts;
use squall::recording::sink::Measure;
use squall::recording::{Outcome, history::Selection};

use crate::command::{Squall, wait_until};
use crate::fake_service::{Asked, FakeService, answer, header};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/a-visit-in-steps.yaml");

/// A shop that sells only to whom it has let in, and who has looked at what is bought. `sells` says what it then says.
fn shop(sells: &'static str) -> impl Fn(&Asked) -> Response<Full<Bytes>> + Send + Sync + 'static {
    let visitors = AtomicU64::new(0);
    move |asked| {
        let path = asked.uri().path();
        let item = path.trim_start_matches("/items/").trim_end_matches("/buy");
        match (asked.method().as_str(), path) {
            ("POST", "/login") => {
                let number = visitors.fetch_add(1, Ordering::Relaxed);
                let cookie = format!("session={number}; Path=/items; HttpOnly");
                answer(200, &[("set-cookie", &cookie)], format!("{{\"token\": \"token of {number}\"}}"))
            }
            ("POST", path) if path.ends_with("/buy") => {
                let session = header(asked, "cookie").and_then(|cookie| cookie.strip_prefix("session=")).unwrap_or("none");
                let known = header(asked, "authorization") == Some(&format!("Bearer token of {session}"));
                let looked = header(asked, "if-match") == Some(&format!("\"of {item}\""));
                if known && looked { answer(303, &[("location", "/sold")], "") } else { answer(403, &[], "who are you?") }
            }
            ("GET", "/sold") => answer(200, &[], format!("{{\"state\": \"{sells}\"}}")),
            ("GET", _) => answer(200, &[("etag", &format!("\"of {item}\""))], "an item"),
            _ => answer(404, &[], "no such page"),
        }
    }
}

/// What became of each step: its requests, and how often it did not come due.
fn steps(folder: &Path) -> BTreeMap<String, (Counts, BTreeMap<String, u64>)> {
    let history = History::load(folder).expect("a recording");
    let mut steps: BTreeMap<String, (Counts, BTreeMap<String, u64>)> = BTreeMap::new();
    for (key, tally) in &history.windows {
        let step = key.part.step.as_ref().expect("each request is a step").to_string();
        let (counts, skipped) = steps.entry(step).or_default();
        counts.add(&tally.counts);
        tally.skipped.iter().for_each(|(why, n)| *skipped.entry(why.clone()).or_default() += n);
    }
    steps
}

fn asked_for(service: &FakeService, what: impl Fn(&str) -> bool) -> u64 {
    service.lines().iter().filter(|line| what(line)).count() as u64
}

fn report(squall: &Squall) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("a report")).expect("JSON")
}

/// Goal: the shipped plan holds: what is bought was looked at by who was let in, and each step is counted as it was received, in the
/// recording, in every report, and when it is judged again.
#[test]
fn a_visit_goes_from_step_to_step_with_what_answers_say() {
    for protocol in ["http1", "http2"] {
        let service = FakeService::start(shop("sold"));
        let squall = Squall::new();
        let text = std::fs::read_to_string(PLAN).expect("the shipped plan");
        squall.file("plan.yaml", &text.replace("name: shoppers\n", &format!("name: shoppers\n    protocol: {protocol}\n")));
        let url = format!("url={}", service.url());
        squall.run(&["run", "plan.yaml", "--set", &url, "--seed", "7", "--out", "run"]).expect(0).saying("step").saying("buy");
        let steps = steps(&squall.path("run"));
        let runs = steps["browse"].0.intended + steps["login"].0.intended;
        let plan = Plan::read_text("plan.yaml", &text, Path::new("plans"), &[], &|_| None).unwrap_or_else(|why| panic!("{why}"));
        let planned = squall::timeline::Timeline::of(&plan, 7);
        assert_eq!(Some(runs), planned.requests_in(None, planned.phases[0].start, planned.end), "an arrival is a run");
        // Three in four browse; five standard deviations.
        let share = steps["browse"].0.intended as f64 / runs as f64;
        assert!((share - 0.75).abs() < 5.0 * (0.75f64 * 0.25 / runs as f64).sqrt(), "{share}");
        for step in ["login", "look", "buy"] {
            let (counts, skipped) = &steps[step];
            assert_eq!(counts.intended + skipped.values().sum::<u64>(), steps["login"].0.intended, "{step}");
            assert_eq!((counts.ok, counts.unsent), (counts.intended, 0), "{protocol}: {step}");
            assert!(skipped.keys().all(|why| why == "the load was over"), "{skipped:?}");
        }
        assert_eq!(steps["login"].0.ok, asked_for(&service, |line| line == "POST /login"));
        assert_eq!(steps["buy"].0.ok, asked_for(&service, |line| line.ends_with("/buy")));
        assert_eq!(steps["buy"].0.ok, asked_for(&service, |line| line == "GET /sold"), "a redirect is of its step");
        // Each visitor is let in once and buys once: no token and no cookie is another's.
        let sessions: BTreeSet<String> =
            service.asked().iter().filter_map(|asked| header(asked, "cookie").map(str::to_owned)).collect();
        assert!(sessions.len() as u64 >= steps["buy"].0.ok && sessions.len() as u64 <= steps["login"].0.ok);
        let bought: Vec<Asked> = service.asked().into_iter().filter(|asked| asked.uri().path().ends_with("/buy")).collect();
        let tokens: BTreeSet<&str> = bought.iter().filter_map(|asked| header(asked, "authorization")).collect();
        assert_eq!(tokens.len(), bought.len());

        let json = report(&squall);
        let rows = json["steps"].as_array().expect("rows of steps");
        let row = rows.iter().find(|row| row["step"] == "buy" && row["phase"] == "_all").expect("a row");
        assert_eq!((&row["ok"], &row["name"]), (&steps["buy"].0.ok.into(), &"shoppers".into()));
        let all = json["load"].as_array().expect("rows").iter().find(|row| row["phase"] == "_all").expect("a row");
        assert_eq!(all["intended"], steps.values().map(|(counts, _)| counts.intended).sum::<u64>());
        let summary = std::fs::read_to_string(squall.path("run/summary.csv")).expect("a summary");
        assert!(summary.lines().any(|line| line.contains(",/items/{{item}}/buy,POST,") && line.contains(",buy,")), "{summary}");
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let (load, buy) = ("shoppers".parse().expect("a name"), "buy".parse().expect("a name"));
        let which = Selection { load: Some(&load), step: Some(&buy), ..Selection::default() };
        assert_eq!(history.histogram(which, &[Outcome::Ok], Measure::Response, from, to).len(), steps["buy"].0.ok);
        squall.run(&["judge", "run"]).expect(0).saying("buying-works");
    }
}

/// Goal: the twin of the test above: a shop that sells nothing is seen in the step that buys, and in no other.
#[test]
fn a_step_that_fails_is_the_one_that_is_blamed() {
    let service = FakeService::start(shop("gone"));
    let squall = Squall::new();
    let url = format!("url={}", service.url());
    squall.run(&["run", PLAN, "--set", &url, "--seed", "7", "--out", "run"]).expect(1).saying("body not as expected");
    let steps = steps(&squall.path("run"));
    assert_eq!(steps["buy"].0.failed, steps["buy"].0.intended);
    assert!(["browse", "login", "look"].iter().all(|step| steps[*step].0.ok == steps[*step].0.intended), "{steps:?}");
    squall.run(&["judge", "run"]).expect(1).saying("of step buy");
}

fn plan(service: &FakeService, load: &str) -> String {
    format!(
        "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: all, for: 2s}}]\nload:\n{load}\
         assert: [{{name: answered, slo: {{available: 50%}}}}]\n",
        service.url()
    )
}

/// Goal: what is not there, and what cannot be sent, ends the run where it is, and what the run then has no more is counted by why.
#[test]
fn a_run_ends_with_a_step_that_fails_and_the_rest_is_counted() {
    for (said, cause) in [
        ("{\"token\": \"a\"}", None),
        ("{\"other\": 1}", Some("nothing found to save")),
        ("{\"token\": null}", Some("nothing found to save")),
        ("<html>", Some("body is not json")),
        ("{\"token\": \"a\\nx: y\"}", Some("saved value cannot be sent")),
    ] {
        let service = FakeService::start(move |asked| match asked.uri().path() {
            "/a" => answer(200, &[], said),
            _ => answer(200, &[], ""),
        });
        let squall = Squall::new();
        let load = "- name: l\n  rate: 20/s\n  flow:\n  - {name: a, get: /a, save: {token: {json: $.token}}}\n  \
                    - {name: b, get: /b, headers: {x-token: \"{{token}}\"}}\n  - {name: c, get: \"/c/{{token}}\"}\n";
        squall.file("plan.yaml", &plan(&service, load));
        squall.run(&["run", "plan.yaml", "--out", "run"]);
        let steps = steps(&squall.path("run"));
        let (a, b, c) = (&steps["a"], &steps["b"], &steps["c"]);
        assert_eq!(a.0.intended, 40, "{said}");
        match cause {
            None => assert_eq!((a.0.ok, b.0.ok, c.0.ok), (40, 40, 40), "{said}"),
            Some(cause) => {
                assert_eq!((a.0.failed, b.0.intended, c.0.intended), (40, 0, 0), "{said}");
                let skipped = BTreeMap::from([("a step before was not ok".to_owned(), 40)]);
                assert_eq!((&b.1, &c.1), (&skipped, &skipped), "{said}");
                assert!(service.lines().iter().all(|line| line == "GET /a"), "nothing is sent after it");
                let history = History::load(&squall.path("run")).expect("a recording");
                let causes: u64 = history.windows.values().filter_map(|tally| tally.causes.get(cause)).sum();
                assert_eq!(causes, 40, "{said}");
                let json = report(&squall);
                let row = json["totals"].as_array().expect("rows").iter().find(|row| row["phase"] == "_all").expect("a row");
                assert_eq!((&row["intended"], &row["skipped"]["a step before was not ok"]), (&40.into(), &80.into()));
                squall.run(&["report", "run"]).saying("80 steps of flows");
            }
        }
    }
}

/// Goal: a user goes from run to run, each with cookies of its own, and leaves out what comes when the load is over; a run that cannot begin
/// leaves out all of its steps. How: one user and a feed of few rows, each used once.
#[test]
fn users_run_flows_one_after_the_other() {
    let service = FakeService::start(|asked| match asked.uri().path() {
        path if path.starts_with("/in/") => {
            let id = &path["/in/".len()..];
            answer(200, &[("set-cookie", &format!("id={id}")), ("set-cookie", &format!("only{id}=1"))], "")
        }
        _ => answer(200, &[("set-cookie", "seen=2; Path=/")], ""),
    });
    let squall = Squall::new();
    squall.file("a.jsonl", "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    let load = "- name: l\n  users: 1\n  flow:\n  - {name: a, get: \"/in/{{a.id}}\"}\n  - {name: b, think: 10ms, get: \"/b/{{a.id}}\"}\n  \
                - {name: c, get: \"/in/c\"}\n";
    let text = plan(&service, load).replace("load:", "feeds: [{name: a, file: a.jsonl, order: unique}]\nload:");
    squall.file("plan.yaml", &text);
    squall.run(&["run", "plan.yaml", "--out", "run"]).saying("feed used up");
    let cookies: Vec<String> = service
        .asked()
        .iter()
        .map(|asked| format!("{} {}", asked.uri().path(), header(asked, "cookie").unwrap_or("none")))
        .collect();
    // What is set for the path of a request is not for another one (RFC 6265, section 5.1.4).
    assert_eq!(
        cookies,
        [
            "/in/1 none",
            "/b/1 none",
            "/in/c id=1; only1=1; seen=2",
            "/in/2 none",
            "/b/2 none",
            "/in/c id=2; only2=1; seen=2",
            "/in/3 none",
            "/b/3 none",
            "/in/c id=3; only3=1; seen=2",
        ]
    );
    let steps = steps(&squall.path("run"));
    assert_eq!((steps["a"].0.ok, steps["a"].0.unsent), (3, 1));
    for step in ["b", "c"] {
        assert_eq!((steps[step].0.ok, steps[step].0.intended), (3, 3));
        assert_eq!(steps[step].1, BTreeMap::from([("a step before was not ok".to_owned(), 1)]));
    }
}

/// Goal: a step counts from when it is due: neither its pause nor the steps before it are in its latency, and no step begins after the end
/// of the load. How: pauses that are longer than any answer takes, in both models.
#[test]
fn a_step_is_due_after_its_pause_and_not_after_the_end() {
    for model in ["rate: 20/s", "users: 5"] {
        let service = FakeService::start(|_| answer(200, &[], ""));
        let squall = Squall::new();
        let load = format!(
            "- name: l\n  {model}\n  flow: [{{name: a, get: /a}}, {{name: b, get: /b, think: 800ms}}, {{name: c, get: /c, think: 800ms}}]\n"
        );
        squall.file("plan.yaml", &plan(&service, &load));
        squall.run(&["run", "plan.yaml", "--out", "run"]);
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let (load, c) = ("l".parse().expect("a name"), "c".parse().expect("a name"));
        let which = Selection { load: Some(&load), step: Some(&c), ..Selection::default() };
        let latency = history.histogram(which, &[Outcome::Ok], Measure::Response, from, to);
        assert!(!latency.is_empty() && latency.value_at_quantile(0.5) < 800_000, "{model}: {}", latency.value_at_quantile(0.5));
        let steps = steps(&squall.path("run"));
        assert_eq!(steps["a"].1, BTreeMap::new());
        for step in ["b", "c"] {
            let (counts, skipped) = &steps[step];
            let over = skipped.get("the load was over").copied().unwrap_or_default();
            assert!(over > 0 && skipped.len() == 1, "{model}: {skipped:?}");
            assert_eq!(counts.intended + over, steps["a"].0.intended, "{model}: {step}");
        }
        // A schedule of 2s: what begins in its last 800ms has no second step, and in its last 1.6s no third one.
        if model.starts_with("rate") {
            assert!(steps["b"].0.intended <= 24 && steps["c"].0.intended <= 8, "{steps:?}");
        }
    }
}

/// Goal: the in-flight bound is one of runs: those on top are not begun, and none of their steps is forgotten. How: one run at a time, of
/// which each takes longer than it is to the next.
#[test]
fn runs_beyond_the_bound_are_not_begun_and_their_steps_are_counted() {
    let service = FakeService::start(|_| answer(200, &[], ""));
    let squall = Squall::new();
    let load = "- {name: l, rate: 20/s, in_flight: 1, flow: [{name: a, get: /a}, {name: b, get: /b, think: 300ms}]}\n";
    squall.file("plan.yaml", &plan(&service, load));
    squall.run(&["run", "plan.yaml", "--out", "run"]).expect(3).saying("in-flight bound");
    let steps = steps(&squall.path("run"));
    let (a, b) = (&steps["a"], &steps["b"]);
    assert_eq!((a.0.intended, a.0.unsent + a.0.ok), (40, 40));
    // Runs of 300ms and more, one at a time, within two seconds; those that begin in its last 300ms end with their first step.
    assert!((1..=6).contains(&b.0.ok), "{steps:?}");
    assert_eq!(b.0.intended + b.1.values().sum::<u64>(), 40);
    assert_eq!(b.1["a step before was not ok"], a.0.unsent);
}

/// Goal: a load that is stopped begins no step more, and says of each run what it did not do.
#[test]
fn a_run_that_is_stopped_counts_the_steps_that_it_had_before_it() {
    let service = FakeService::start(|_| answer(200, &[], ""));
    let squall = Squall::new();
    let load = "- {name: l, rate: 20/s, flow: [{name: a, get: /a}, {name: b, get: /b, think: 50s}]}\n";
    squall.file("plan.yaml", &plan(&service, load).replace("for: 2s", "for: 60s"));
    let running = squall.start(&["run", "plan.yaml", "--out", "run"]);
    wait_until(Duration::from_secs(60), || (service.lines().len() >= 10).then_some(())).expect("ten requests");
    running.signal(rustix::process::Signal::INT);
    running.wait(Duration::from_secs(60)).expect(130);
    let steps = steps(&squall.path("run"));
    let stopped = BTreeMap::from([("stopped".to_owned(), steps["a"].0.intended)]);
    assert!(steps["a"].0.ok >= 10);
    assert_eq!((steps["b"].0.intended, &steps["b"].1), (0, &stopped));
}

/// Goal: which way a run goes is its seed's doing, whoever sends it.
#[test]
fn flows_are_chosen_by_the_seed_however_many_send() {
    let asked = |workers: u32| {
        let service = FakeService::start(|_| answer(200, &[], ""));
        let squall = Squall::new();
        let load = "- name: l\n  rate: 100/s\n  draw: {item: {uniform: {of: 1000}}}\n  flows:\n  \
                    - {weight: 1, steps: [{name: a, get: \"/a/{{item}}\"}]}\n  - {steps: [{name: b, get: \"/b/{{item}}\"}]}\n";
        squall.file("plan.yaml", &format!("generator: {{workers: {workers}}}\n{}", plan(&service, load)));
        squall.run(&["run", "plan.yaml", "--seed", "3", "--out", "run"]).expect(0);
        let mut lines = service.lines();
        lines.sort();
        lines
    };
    let (one, three) = (asked(1), asked(3));
    assert_eq!(one, three);
    assert!(one.iter().any(|line| line.starts_with("GET /a/")) && one.iter().any(|line| line.starts_with("GET /b/")));
}

/// Goal: whoever logs in does so with a secret, which shows nowhere. How: a step's body and a header from the environment, and what is said of
/// the plan.
#[test]
fn a_step_may_carry_a_secret() {
    let squall = Squall::new();
    squall.file(
        "plan.yaml",
        "plan: p\nclaim: c\ntarget: {url: \"http://127.0.0.1:1/\"}\nphases: [{name: a, for: 1s}]\nload:\n\
         - name: l\n  rate: 1/s\n  flow:\n  - {name: login, post: /login, headers: {x-key: \"${KEY}\"}, body: '{\"pw\": \"${PW}\"}'}\n\
         - name: m\n  rate: 1/s\n  flows: [{weight: 1, steps: [{name: in, post: /login, body: \"${PW}\"}]}, {weight: 2, steps: [{name: look, get: /}]}]\n",
    );
    let variables = [("PW", Path::new("hunter2")), ("KEY", Path::new("hunter3"))];
    let said = squall.start_with(&["check", "--explain", "plan.yaml"], &variables).wait(Duration::from_secs(60));
    said.expect(0);
    assert!(!said.stdout.contains("hunter") && !said.stderr.contains("hunter"), "{}", said.stdout);
}
