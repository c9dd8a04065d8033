//! Goal: what the README shows is what is there. How: its plan is compared with the file that it names, its tables with the tables in
//! the sources (SQUALL_UPDATE_GOLDEN=1 rewrites those), its report with the plan's assertions.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use http::{Response, Version};
use http_body_util::Full;
use hyper::body::Bytes;
use squall::plan::{Plan, Steady};
use squall::recording::History;
use squall::{catalog, cli};

use crate::command::Squall;
use crate::fake_service::{Asked, FakeService, answer, header};
use crate::tls::{self, Authority};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("a README")
}

/// What stands between `<!-- KIND: NAME -->` and `<!-- end -->`, as a range of the text.
fn block(text: &str, kind: &str, name: &str) -> std::ops::Range<usize> {
    let start = format!("<!-- {kind}: {name} -->\n");
    let from = text.find(&start).unwrap_or_else(|| panic!("README.md has no `{}`", start.trim())) + start.len();
    from..from + text[from..].find("<!-- end -->").expect("a block of the README ends")
}

/// The text of a block without its fence.
pub fn unfenced<'a>(text: &'a str, kind: &str, name: &str) -> &'a str {
    let block = &text[block(text, kind, name)];
    let (_, inner) = block.split_once('\n').expect("a fence");
    inner.rsplit_once("```").expect("the fence's end").0
}

const QUICKSTART: &str = "plans/quickstart.yaml";

#[test]
fn the_plans_in_the_readme_mean_what_the_shipped_ones_mean() {
    let value = |text: &str| serde_yaml::from_str::<serde_json::Value>(text).unwrap_or_else(|error| panic!("{error}"));
    for plan in [
        QUICKSTART,
        "plans/however-requests-arrive.yaml",
        "plans/requests-that-differ.yaml",
        "plans/every-address-gets-its-share.yaml",
        "plans/a-visit-in-steps.yaml",
        "plans/calls-are-answered.yaml",
        "plans/messages-are-answered.yaml",
        "plans/retries-within-a-budget.yaml",
    ] {
        let shipped = fs::read_to_string(root().join(plan)).expect("the shipped plan");
        assert_eq!(value(unfenced(&readme(), "plan", plan)), value(&shipped), "{plan}");
    }
}

/// Goal: what it shows of loads can be copied into a plan, and runs. How: each is run as the load of one with two phases, against a service
/// that answers as each of them needs, and what that was asked is what the load says.
#[test]
fn the_loads_in_the_readme_run() {
    let readme = readme();
    let order = fs::read(root().join("plans/recordings/order.json")).expect("what is sent");
    for name in ["users", "protocols", "transport", "answers"] {
        let (service, squall) = (FakeService::start(cart), Squall::new());
        fs::create_dir(squall.path("recordings")).expect("a folder");
        fs::write(squall.path("recordings/order.json"), &order).expect("a file");
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: baseline, for: 2s}}, {{name: burst, for: 2s}}]\n{}\
             assert: [{{name: answered, slo: {{available: 95%}}}}]\n",
            service.url(),
            unfenced(&readme, "load", name)
        );
        squall.file("plan.yaml", &text);
        squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]).found_nothing_wrong();
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let counts = history.counts(None, from, to);
        assert!(counts.ok > 0 && counts.ok == counts.intended, "{name}: {counts:?}");
        let asked = |path: &str| service.asked().into_iter().filter(|asked| asked.uri().path() == path).collect::<Vec<Asked>>();
        match name {
            "users" => assert!(!asked("/checkout").is_empty() && !asked("/status").is_empty()),
            "protocols" => {
                let spoken = |path: &str, version| asked(path).iter().all(|asked| asked.version() == version);
                assert!(asked("/checkout").len() == 800 && spoken("/checkout", Version::HTTP_2));
                assert!(asked("/orders").len() == 80 && spoken("/orders", Version::HTTP_11));
            }
            "transport" => assert!(asked("/orders").len() == 80 && asked("/orders").iter().all(|asked| *asked.body() == order)),
            _ => {
                let packed = asked("/basket");
                assert!(packed.len() == 80 && packed.iter().all(|asked| header(asked, "accept-encoding") == Some("gzip")));
            }
        }
    }
}

/// A shop whose cart is a basket, in gzip for whoever takes it so.
fn cart(asked: &Asked) -> Response<Full<Bytes>> {
    match asked.uri().path() {
        "/cart" => answer(307, &[("location", "/basket")], ""),
        "/basket" => {
            let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(br#"{"items": [{"id": "17"}], "currency": "EUR"}"#).expect("memory takes it");
            let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
            answer(200, &headers, packed.finish().expect("memory takes it"))
        }
        _ => answer(200, &[], "ok"),
    }
}

/// Goal: whoever reads it sees what a run prints. How: it has every one of the plan's assertions, as passed.
#[test]
fn the_report_in_the_readme_is_of_that_plan() {
    let readme = readme();
    let report = unfenced(&readme, "report", QUICKSTART);
    let plan: serde_json::Value = serde_yaml::from_str(unfenced(&readme, "plan", QUICKSTART)).expect("a plan");
    assert!(report.starts_with(&format!("PASS  {}: ", plan["plan"].as_str().expect("a name"))), "{report}");
    for claim in plan["assert"].as_array().expect("assertions") {
        let name = claim["name"].as_str().expect("a name");
        let row = report.lines().any(|line| line.starts_with("PASS ") && line.contains(name));
        assert!(row, "the report in the README has no row for {name}");
    }
    let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in ["index of dispersion", "busiest worker at", "squall run plans/quickstart.yaml --seed"] {
        assert!(words.contains(told), "the report in the README does not say `{told}`, which a run does");
    }
    assert!(report.lines().all(|line| line.chars().count() <= 80));
}

/// Goal: the search that it shows is one of that plan, as it is printed. How: the objective is one of the plan's, its checks are the
/// table's columns, and the answer follows from the rows.
#[test]
fn the_search_in_the_readme_is_of_that_plan() {
    let readme = readme();
    let shown = unfenced(&readme, "capacity", QUICKSTART);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let (table, answer) = shown.split_once("\n\n").expect("a table, and below it the answer");
    let plan = Plan::read_text(QUICKSTART, unfenced(&readme, "plan", QUICKSTART), &root().join("plans"), &[], &|_| None);
    let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
    let objective =
        plan.claims.iter().find(|claim| answer.contains(&format!("`{}`", claim.name))).expect("an assertion of the plan");
    let steady = Steady::of(plan.clone(), Path::new(QUICKSTART), &objective.name).expect("a capacity can be asked of it");
    assert!(readme.contains(&format!("squall capacity {QUICKSTART} --slo {}", objective.name)));
    let rates = |verdict: &str| {
        let rows = table.lines().filter(|line| line.starts_with(verdict)).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.map(|row| row[2].parse::<f64>().expect("a rate")).collect::<Vec<f64>>()
    };
    assert_eq!(rates("PASS").first(), Some(&steady.own()), "it starts at the plan's own rate");
    let (low, high) = (rates("PASS").into_iter().fold(0.0, f64::max), rates("FAIL").into_iter().fold(f64::MAX, f64::min));
    assert!(answer.starts_with(&format!("capacity  {low}/s [{low}, {high}]: ")), "{answer}");
}

/// Goal: what it shows of commands that need no cluster is what they print. How: they are run; lines that it leaves out are `# ...`.
#[test]
fn what_the_readme_shows_of_a_cluster_is_what_is_printed() {
    let readme = readme();
    let plan = root().join(QUICKSTART);
    for command in ["rbac", "doctor"] {
        let shown = unfenced(&readme, command, QUICKSTART);
        let printed = Squall::new().run(&[command, plan.to_str().expect("a path is text")]).expect(0).stdout.clone();
        let mut lines = printed.lines();
        let mut skips = false;
        for line in shown.lines() {
            if line.trim() == "# ..." {
                skips = true;
                continue;
            }
            let found = if skips { lines.any(|printed| printed == line) } else { lines.next() == Some(line) };
            assert!(found, "`squall {command}` does not print `{line}` there:\n{printed}");
            skips = false;
        }
        assert!(skips || lines.next().is_none(), "`squall {command}` prints more:\n{printed}");
        assert!(readme.contains(&format!("squall {command} {QUICKSTART}")));
    }
}

#[test]
fn the_tables_in_the_readme_are_those_of_the_sources() {
    let then = readme();
    let mut now = then.clone();
    for section in std::iter::once(cli::commands()).chain(catalog::sections()) {
        let place = block(&now, "table", section.name);
        now.replace_range(place, &catalog::markdown(&section));
    }
    if std::env::var_os("SQUALL_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        // Written only when it differs: the other tests read it at the same time.
        if then != now {
            fs::write(root().join("README.md"), &now).expect("the README can be written");
        }
    } else {
        assert!(then == now, "the README's tables are behind the sources: SQUALL_UPDATE_GOLDEN=1 cargo test readme");
    }
}

/// Goal: the command lines that it shows for a URL are as people can type them. How: each is run for a second, with fewer requests,
/// against a service of the test's in the place of theirs.
#[test]
fn the_loads_on_the_command_line_run() {
    let readme = readme();
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("squall load http://")).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let (service, squall) = (FakeService::start(|_| answer(200, &[], "ok")), Squall::new());
        let typed = line.split(" # ").next().expect("a line has a beginning").replace("http://127.0.0.1:8080/", &service.url());
        let typed =
            typed.replace("http://127.0.0.1:4318", service.url().trim_end_matches('/')).replace("127.0.0.1:9464", "127.0.0.1:0");
        // As many as a p99 takes to be decided, and a limit that no busy machine misses.
        let typed = typed.replace("1000/s", "300/s").replace("300ms", "10s");
        let mut words: Vec<&str> = typed.split_whitespace().skip(1).collect();
        if let Some(at) = words.iter().position(|word| *word == "--for") {
            words[at + 1] = "1s";
        } else {
            words.extend(["--for", "1s"]);
        }
        if let Some(at) = words.iter().position(|word| *word == "--metrics-linger") {
            words[at + 1] = "1s";
        }
        squall.run(&words).found_nothing_wrong();
        assert!(service.asked().len() >= 100, "{line}: {} requests", service.asked().len());
    }
}

/// Goal: what a command line says of connections, threads and pacing is what is done. How: all of it at once, over TLS to a stranger.
#[test]
fn a_command_line_says_how_it_sends() {
    let authority = Authority::new("nobody's");
    let server = authority.server("localhost", tls::Good::Now);
    let target = tls::serving(tls::acceptor(&server, "localhost", None, tls::BOTH));
    let squall = Squall::new();
    let url = format!("https://localhost:{}/", target.address.port());
    let flags = ["--insecure", "--connections", "3", "--workers", "2", "--pacing", "coarse", "--rate", "200/s", "--for", "2s"];
    squall.run(&[&["load", &url, "--available", "50%", "--out", "run"], &flags[..]].concat()).found_nothing_wrong();
    let seen = target.seen();
    assert!(seen.requests == 400 && seen.others.iter().all(|others| *others < 3), "{} requests", seen.requests);
    let run: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(squall.path("run/run.json")).expect("a report")).expect("JSON");
    let certificate = &run["certificate"];
    assert_eq!(certificate["window_us"], 1000, "coarse: those that are due within a millisecond together");
    assert_eq!(certificate["cpu_by_worker"].as_array().map(Vec::len), Some(2), "{certificate}");
    // Without it, a stranger is no one to send to.
    squall.run(&["load", &url, "--rate", "10/s", "--for", "1s"]).expect(4).saying("insecure");
}
