//! Goal: what the README shows is what is there. How: its plan is compared with the file that it names, its tables with the tables in
//! the sources (SQUALL_UPDATE_GOLDEN=1 rewrites those), its report with the plan's assertions.

use std::fs;
use std::path::Path;

use squall::catalog;
use squall::plan::{Plan, Steady};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("a README")
}

/// What stands between `<!-- KIND: NAME -->` and `<!-- end -->`, as a range of the text.
fn block(text: &str, kind: &str, name: &str) -> std::ops::Range<usize> {
    let start = format!("<!-- {kind}: {name} -->\n");
    let from = text.find(&start).unwrap_or_else(|| panic!("README.md has no `{}`", start.trim())) + start.len();
    from..from + text[from..].find("<!-- end -->").expect("a block of the README ends")
}

/// The text of a block without its fence.
fn unfenced<'a>(text: &'a str, kind: &str, name: &str) -> &'a str {
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
        "plans/retries-within-a-budget.yaml",
    ] {
        let shipped = fs::read_to_string(root().join(plan)).expect("the shipped plan");
        assert_eq!(value(unfenced(&readme(), "plan", plan)), value(&shipped), "{plan}");
    }
}

/// Goal: what it shows of loads can be copied into a plan. How: each is read as the load of one with two phases.
#[test]
fn the_loads_in_the_readme_are_loads() {
    let readme = readme();
    for name in ["users", "protocols", "transport", "answers"] {
        let load = unfenced(&readme, "load", name);
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: http://127.0.0.1/}}\nphases: [{{name: baseline, for: 9s}}, {{name: burst, for: 9s}}]\n{load}"
        );
        let plan = Plan::read_text("README.md", &text, &root().join("plans"), &[], &|_| None);
        plan.unwrap_or_else(|problems| panic!("{name}: {problems}"));
    }
}

/// Goal: what it shows of a target can be copied into a plan. How: it is read as that of one, with files made for it.
#[test]
fn the_target_in_the_readme_is_a_target() {
    let readme = readme();
    let target = unfenced(&readme, "target", "transport");
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
    let files = [("ca.pem", made.cert.pem()), ("client.pem", made.cert.pem()), ("client.key", made.signing_key.serialize_pem())];
    for (file, text) in files {
        fs::write(folder.path().join(file), text).expect("a file");
    }
    let text =
        format!("plan: p\nclaim: c\n{target}phases: [{{name: a, for: 9s}}]\nload: [{{name: l, rate: 1/s, request: {{get: /}}}}]\n");
    let plan =
        Plan::read_text("README.md", &text, folder.path(), &[], &|name| (name == "PROXY_PASSWORD").then(|| "hunter2".into()));
    plan.unwrap_or_else(|problems| panic!("{problems}"));
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

#[test]
fn the_tables_in_the_readme_are_those_of_the_sources() {
    let then = readme();
    let mut now = then.clone();
    for section in catalog::sections() {
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
