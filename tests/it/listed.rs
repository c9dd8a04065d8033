//! Goal: what `squall list` and the README's tables show of loads runs as it is written there. How: the rows of a table as the loads of one
//! plan, run by the binary against a service that answers as each of them needs; what the plan says, what was recorded and what the
//! service was asked must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Mutex;

use flate2::write::GzEncoder;
use http::{Response, Version};
use http_body_util::Full;
use hyper::body::Bytes;
use squall::catalog;
use squall::plan::Plan;
use squall::recording::History;
use squall::recording::fact::Counts;
use squall::timeline::Timeline;

use crate::command::Squall;
use crate::fake_service::{Asked, FakeService, answer, header};

const SEED: u64 = 7;

/// The rows of a section: what each is called, and how a plan writes it.
fn rows(section: &str) -> Vec<(String, String)> {
    let found = catalog::sections().into_iter().find(|one| one.name == section);
    let entries = found.unwrap_or_else(|| panic!("nothing is listed as {section}")).entries;
    entries.into_iter().map(|entry| (entry.name, entry.example)).collect()
}

/// A row as a load of its own: its name is that of the row, and so is its path.
fn load(row: &str, says: &str) -> String {
    let name = row.replace(['.', '_'], "-");
    format!("- {{name: {name}, {}}}\n", says.replace("PATH", &format!("/{name}")))
}

/// A plan with two phases of two seconds.
fn plan(service: &FakeService, target: &str, before: &str, loads: &str) -> String {
    format!(
        "plan: p\nclaim: c\ntarget: {{url: \"{}\"{target}}}\nphases: [{{name: baseline, for: 2s}}, {{name: burst, for: 2s}}]\n{before}load:\n\
         {loads}assert: [{{name: answered, slo: {{available: 99%}}}}]\n",
        service.url()
    )
}

/// Runs it: every request of every load is due as the plan says, and answered well. Gives what became of each load.
fn run(squall: &Squall, text: &str) -> BTreeMap<String, Counts> {
    squall.file("plan.yaml", text);
    squall.run(&["run", "plan.yaml", "--seed", &SEED.to_string(), "--out", "run"]).found_nothing_wrong();
    let plan = Plan::read_text("plan.yaml", text, &squall.path("."), &[], &|_| None).unwrap_or_else(|why| panic!("{why}"));
    let planned = Timeline::of(&plan, SEED);
    let history = History::load(&squall.path("run")).expect("a recording");
    let (from, to) = history.whole();
    let counted = plan.loads.iter().map(|load| {
        let counts = history.counts(Some(&load.name), from, to);
        let causes: BTreeSet<&String> =
            history.windows.iter().filter(|(key, _)| key.load == load.name).flat_map(|(_, tally)| tally.causes.keys()).collect();
        assert!(counts.ok > 0 && counts.ok == counts.intended, "{}: {counts:?} {causes:?}", load.name);
        // Users and the later steps of flows come as answers do.
        if let Some(due) = planned.requests_in(Some(&load.name), planned.phases[0].start, planned.end)
            && load.flows.is_empty()
        {
            assert_eq!(counts.intended, due, "{}", load.name);
        }
        (load.name.to_string(), counts)
    });
    counted.collect()
}

/// What was asked for under this path, in the order in which it was answered.
fn asked(service: &FakeService, path: &str) -> Vec<Asked> {
    service.asked().into_iter().filter(|asked| asked.uri().path().starts_with(path)).collect()
}

fn obliging() -> FakeService {
    FakeService::start(|_| answer(200, &[], "ok"))
}

#[test]
fn every_arrival_process_runs_as_it_is_listed() {
    let (service, squall) = (obliging(), Squall::new());
    squall.file("traffic.csv", "time,method,path\n10.0,GET,/replay\n10.5,GET,/replay\n12.0,POST,/replay\n");
    let loads: String = rows("arrivals")
        .iter()
        .map(|(row, says)| match row.as_str() {
            // What is sent, too, is what was recorded.
            "replay" => load(row, &format!("{says}, request: {{timeout: 5s}}")),
            _ => load(row, &format!("{says}, rate: 25/s, request: {{get: PATH}}")),
        })
        .collect();
    let counts = run(&squall, &plan(&service, "", "", &loads));
    for (name, counts) in &counts {
        assert_eq!(asked(&service, &format!("/{name}")).len() as u64, counts.intended, "{name}");
    }
    assert_eq!((counts["constant"].intended, counts["replay"].intended), (100, 3));
}

#[test]
fn whatever_differs_from_request_to_request_does_so_as_it_is_listed() {
    let (service, squall) = (obliging(), Squall::new());
    let table: String = (0..100).map(|n| format!("{n},u{n}\n")).collect();
    squall.file("rows.csv", &format!("id,user\n{table}"));
    let mut loads = String::new();
    for (row, says) in rows("draws") {
        loads += &load(&row, &format!("{says}, rate: 20/s, request: {{get: \"PATH/{{{{item}}}}\"}}"));
    }
    for (row, says) in rows("varying") {
        loads += &load(&row, &format!("{says}, rate: 20/s, request: {{get: PATH}}"));
    }
    let mut feeds = String::new();
    for (row, _) in rows("feeds") {
        feeds += &format!("- {{name: {row}, file: rows.csv, order: {row}}}\n");
        loads += &load(&row, &format!("rate: 20/s, request: {{get: \"PATH/{{{{{row}.id}}}}/{{{{{row}.user}}}}\"}}"));
    }
    for (row, says) in rows("traces") {
        loads += &load(&row, &format!("rate: 20/s, request: {{post: PATH, body: \"{says}\"}}"));
    }
    run(&squall, &plan(&service, "", &format!("feeds:\n{feeds}"), &loads));

    let last = |asked: &Asked| asked.uri().path().rsplit('/').next().expect("a path has an end").to_owned();
    let keys = |name: &str| asked(&service, &format!("/{name}/")).iter().map(last).collect::<Vec<String>>();
    for (name, most) in [("uniform", 500), ("zipf", 1000)] {
        assert!(keys(name).iter().all(|key| key.parse::<u32>().is_ok_and(|key| (1..=most).contains(&key))), "{:?}", keys(name));
    }
    assert!(keys("zipf").iter().filter(|key| *key == "1").count() > 3, "the first key is asked for most: {:?}", keys("zipf"));
    assert_eq!(keys("weighted").into_iter().collect::<BTreeSet<String>>(), ["large", "small"].map(str::to_owned).into());
    assert_eq!(keys("unique").into_iter().collect::<BTreeSet<String>>().len(), 80, "each row once");
    let sequential: BTreeSet<String> = keys("sequential").into_iter().collect();
    assert_eq!(sequential, (0..80).map(|n| format!("u{n}")).collect());

    let classes: BTreeSet<String> = asked(&service, "/load-class")
        .iter()
        .map(|asked| header(asked, "x-class").expect("each request has one").to_owned())
        .collect();
    assert_eq!(classes, ["critical", "default", "sheddable"].map(str::to_owned).into());
    let traced = asked(&service, "/load-trace");
    let ids: BTreeSet<&str> = traced.iter().map(|asked| header(asked, "x-op-id").expect("each has one")).collect();
    assert_eq!(ids.len(), traced.len(), "no two are the same");
    let traces: Vec<&str> = traced.iter().map(|asked| header(asked, "traceparent").expect("each has one")).collect();
    assert!(traces.iter().all(|trace| trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-01")), "{traces:?}");
    for (name, begins) in [("op-id", "op-id-"), ("traceparent", "00-")] {
        let bodies: BTreeSet<Bytes> = asked(&service, &format!("/{name}")).iter().map(|asked| asked.body().clone()).collect();
        assert!(bodies.len() == 80 && bodies.iter().all(|body| body.starts_with(begins.as_bytes())), "{bodies:?}");
    }
}

/// What must be true of an answer in one of the table's rows, all at once; and five redirects to it, where there is to be one.
fn well(asked: &Asked) -> Response<Full<Bytes>> {
    let path = asked.uri().path();
    if let Some(rest) = path.strip_prefix("/redirects") {
        let been = rest.trim_start_matches('/').parse().unwrap_or(0);
        if been < 5 {
            return answer(302, &[("location", &format!("/redirects/{}", been + 1))], "");
        }
    }
    let body = r#"{"order": {"state": "open"}, "says": "thanks"}"#;
    let json = ("content-type", "application/json");
    match header(asked, "accept-encoding") {
        Some(coding) if coding.contains("gzip") => {
            let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(body.as_bytes()).expect("memory takes it");
            answer(200, &[json, ("content-encoding", "gzip")], packed.finish().expect("memory takes it"))
        }
        _ => answer(200, &[json, ("x-cache", "hit")], body),
    }
}

#[test]
fn answers_are_asked_for_and_looked_into_as_it_is_listed() {
    let (service, squall) = (FakeService::start(well), Squall::new());
    // Messages are those of WebSockets, whose plan is run elsewhere.
    let of_http = rows("answers").into_iter().filter(|(row, _)| row != "expect.message");
    let loads: String = of_http.map(|(row, says)| load(&row, &format!("rate: 20/s, request: {{get: PATH, {says}}}"))).collect();
    let counts = run(&squall, &plan(&service, "", "", &loads));
    assert_eq!(asked(&service, "/redirects/5").len() as u64, counts["redirects"].ok, "each is followed to its end");
    assert_eq!(asked(&service, "/gzip").iter().filter(|asked| header(asked, "accept-encoding").is_some()).count(), 80);
    assert_eq!(counts.values().map(|counts| counts.ok).sum::<u64>(), 20 * 4 * (rows("answers").len() as u64 - 1));

    // The twin: where nothing is as it should be, every row that looks into an answer sees it.
    let (service, squall) = (FakeService::start(|_| answer(201, &[("x-cache", "miss")], "no thank you")), Squall::new());
    squall.file("plan.yaml", &plan(&service, "", "", &loads));
    squall.run(&["run", "plan.yaml", "--out", "run"]).expect(1).saying("status 201").saying("header not as expected");
    let history = History::load(&squall.path("run")).expect("a recording");
    let (from, to) = history.whole();
    for (row, counts) in rows("answers")
        .iter()
        .map(|(row, _)| (row, history.counts(Some(&row.replace('.', "-").parse().expect("a name")), from, to)))
    {
        let looks = row.starts_with("expect.");
        assert_eq!((counts.failed, counts.ok), if looks { (counts.intended, 0) } else { (0, counts.intended) }, "{row}");
    }
}

#[test]
fn steps_follow_one_another_as_it_is_listed() {
    let said = |asked: &Asked| match asked.uri().path() {
        "/save" => answer(200, &[("etag", "e1")], r#"{"token": "t1", "csrf=": "c1"}"#.replace("\": \"c1", "\":\"c1")),
        path if path.contains("step-cookies") => answer(200, &[("set-cookie", "session=s1; Path=/")], "ok"),
        _ => answer(200, &[], "ok"),
    };
    let (service, squall) = (FakeService::start(said), Squall::new());
    let loads: String = rows("flows")
        .iter()
        .map(|(row, says)| match row.as_str() {
            "load.flow" | "load.flows" => load(row, &format!("{says}, rate: 10/s")),
            "step.save" => load(
                row,
                &format!("rate: 10/s, flow: [{{name: a, get: /save, {says}}}, {{name: b, get: \"PATH/{{{{token}}}}/{{{{etag}}}}/{{{{csrf}}}}\"}}]"),
            ),
            _ => load(row, &format!("rate: 10/s, flow: [{{name: a, get: PATH}}, {{name: b, get: PATH/again, {says}}}]")),
        })
        .collect();
    run(&squall, &plan(&service, "", "", &loads));
    // By the expression that is listed: what stands between the quotes after `csrf=`.
    let saved: BTreeSet<String> = asked(&service, "/step-save/").iter().map(|asked| asked.uri().path().to_owned()).collect();
    assert_eq!(saved.into_iter().map(|path| path.replace("%3A", ":")).collect::<Vec<_>>(), ["/step-save/t1/e1/:"]);
    let again = asked(&service, "/step-cookies/again");
    assert!(!again.is_empty() && again.iter().all(|asked| header(asked, "cookie") == Some("session=s1")));
    assert!(
        asked(&service, "/step-cookies")
            .iter()
            .filter(|asked| asked.uri().path() == "/step-cookies")
            .all(|asked| header(asked, "cookie").is_none())
    );
    assert!(!asked(&service, "/step-think/again").is_empty());
}

/// Turns away one request in ten, by its number, when it comes for the first time.
fn fickle() -> FakeService {
    let seen: Mutex<BTreeSet<String>> = Mutex::default();
    FakeService::start(move |asked| {
        let id = header(asked, "x-op-id").expect("each request has one");
        let number: u64 = id.rsplit('-').next().and_then(|number| number.parse().ok()).expect("its number");
        let first = seen.lock().expect("nobody panics while it is held").insert(id.to_owned());
        if number.is_multiple_of(10) && first { answer(503, &[("retry-after", "0")], "not now") } else { answer(200, &[], "ok") }
    })
}

#[test]
fn clients_do_on_their_own_account_what_is_listed() {
    let (service, squall) = (fickle(), Squall::new());
    let mut loads = String::new();
    let client =
        |row: &str, says: &str| load(row, &format!("rate: 20/s, trace: [op_id], client: {{{says}}}, request: {{get: PATH}}"));
    for (row, says) in rows("client") {
        loads += &match row.split_once('.') {
            Some(("client", "hedge")) => client(&row, &format!("retries: {{attempts: 2}}, {says}")),
            Some(("client", _)) => client(&row, &says),
            _ => client(&row, &format!("retries: {{attempts: 2, {says}}}")),
        };
    }
    for (row, _) in rows("jitters") {
        loads += &client(&row, &format!("retries: {{attempts: 2, backoff: {{base: 5ms, cap: 50ms, jitter: {row}}}}}"));
    }
    let counts = run(&squall, &plan(&service, "", "", &loads));
    let history = History::load(&squall.path("run")).expect("a recording");
    let (from, to) = history.whole();
    for (name, counts) in &counts {
        let attempts = history.attempts(Some(&name.parse().expect("a name")), from, to).expect("they were counted");
        // Hedges beside them, where a busy machine takes its time.
        assert_eq!((attempts.retries, attempts.rejected), (counts.ok / 10, counts.ok / 10), "{name}: {attempts:?}");
    }
}

#[test]
fn requests_come_by_the_models_that_are_listed() {
    let (service, squall) = (obliging(), Squall::new());
    let loads: String = rows("models").iter().map(|(row, says)| load(row, &format!("{says}, request: {{get: PATH}}"))).collect();
    let generator: Vec<String> = rows("generator").into_iter().map(|(_, says)| says).collect();
    let before = format!("generator: {{{}}}\n", generator.join(", "));
    let counts = run(&squall, &plan(&service, "", &before, &loads));
    // By the integral of the rate: 2 s at 50/s, and 2 s from there to 250/s.
    assert_eq!(counts["rate"].intended, 100 + 300);
    // One each second of each of ten, the first somewhere in its first.
    assert!((20..=40).contains(&counts["every"].intended), "{:?}", counts["every"]);
    let history = History::load(&squall.path("run")).expect("a recording");
    let in_phase = |phase: &str| {
        let windows = history.windows.iter().filter(|(key, _)| key.load.as_str() == "users" && key.phase.as_str() == phase);
        windows.map(|(_, tally)| tally.counts.intended).sum::<u64>()
    };
    // Thirty users in the mean after ten.
    assert!(in_phase("burst") > 2 * in_phase("baseline"), "{} after {}", in_phase("burst"), in_phase("baseline"));
    // Each worker is told from the other.
    assert!(
        history
            .generator()
            .all(|(_, sample)| sample.workers.len() == 2 && sample.workers.iter().all(|cpu| (0.0..=1.1).contains(cpu)))
    );
    let run: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("a report")).expect("JSON");
    for (name, _) in rows("certificate") {
        // What hangs on what happened: nothing was kept back, and not every kernel says what it took.
        let may_lack = ["unsent_by", "steal", "starved"].contains(&name.as_str());
        assert!(may_lack || !run["certificate"][&name].is_null(), "{name} is not certified: {}", run["certificate"]);
    }
}

#[test]
fn requests_get_there_as_it_is_listed() {
    let turns = Mutex::new(0);
    let service = FakeService::start(move |_| {
        let mut turn = turns.lock().expect("nobody panics while it is held");
        *turn += 1;
        answer(200, &[("x-served-by", if *turn % 4 == 0 { "b" } else { "a" })], "ok")
    });
    let squall = Squall::new();
    squall.file("payload.bin", "as it is, {{and}} no reference");
    let (mut loads, mut target) = (String::new(), String::new());
    for (row, says) in rows("transport") {
        match row.split_once('.').expect("a place and a key") {
            ("load", _) => loads += &load(&row, &format!("{says}, rate: 20/s, request: {{get: PATH}}")),
            ("request", _) => loads += &load(&row, &format!("rate: 20/s, request: {{post: PATH, {says}}}")),
            (_, "identity") => target = format!(", {says}"),
            // Certificates, proxies and names have tests of their own, with servers of theirs.
            _ => {}
        }
    }
    let counts = run(&squall, &plan(&service, &target, "", &loads));
    let bodies: BTreeSet<Bytes> = asked(&service, "/request-body").iter().map(|asked| asked.body().clone()).collect();
    assert_eq!(bodies, [Bytes::from("as it is, {{and}} no reference")].into());
    let streams = asked(&service, "/load-streams");
    assert!(!streams.is_empty() && streams.iter().all(|asked| asked.version() == Version::HTTP_2));
    assert!(asked(&service, "/load-rotate").iter().all(|asked| asked.version() == Version::HTTP_11));
    let history = History::load(&squall.path("run")).expect("a recording");
    let mut served: BTreeMap<String, u64> = BTreeMap::new();
    for (who, n) in history.windows.values().flat_map(|tally| &tally.served_by) {
        *served.entry(who.clone()).or_default() += n;
    }
    let all: u64 = counts.values().map(|counts| counts.ok).sum();
    assert_eq!(served, BTreeMap::from([("a".to_owned(), all - all / 4), ("b".to_owned(), all / 4)]));
}
