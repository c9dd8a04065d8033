//! Goal: every plan that is shipped reads with its manifests, names its schema, meets it, and explains itself within 80 columns. How: read `plans/`
//! and `tests/plans/` as they stand; `BLESS=1` writes the schema that is checked in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use squall::plan::{Plan, read_manifests};

fn environment(_: &str) -> Option<String> {
    None
}

fn plans() -> Vec<PathBuf> {
    let mut plans: Vec<PathBuf> = ["plans", "tests/plans", "tests/plans/good"]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("the folder of plans"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    plans.sort();
    assert!(plans.len() > 10, "{plans:?}");
    plans
}

#[test]
fn every_shipped_plan_is_read() {
    let mut wrong = Vec::new();
    for path in plans() {
        match Plan::read(&path, &[], &environment) {
            Err(problems) => wrong.push(problems.to_string()),
            Ok(plan) => {
                let again = Plan::read_recorded(&plan.source, &plan.params).unwrap_or_else(|problems| panic!("{problems}"));
                assert_eq!(again.claims, plan.claims, "{}: what is recorded judges as what was run", path.display());
                assert_eq!(again.loads, plan.loads, "{}", path.display());
                assert_eq!(BTreeMap::from_iter(again.params), plan.params, "{}", path.display());
                read_manifests(&plan).unwrap_or_else(|problems| panic!("{problems}"));
                // The plan in `good/` is the design's, and called as there.
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                assert!(
                    path.starts_with("tests/plans/good") || stem == Some(plan.name.as_str()),
                    "a plan is called as its file is"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(Path::new("plans").is_dir());
}

/// The schema as it is checked in, where the modelines of the shipped plans find it.
const SCHEMA: &str = "plans/plan.schema.json";

#[test]
fn the_schema_that_is_checked_in_is_the_one_that_the_types_make() {
    let made = format!("{}\n", serde_json::to_string_pretty(&squall::plan::schema()).expect("a schema is JSON"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(SCHEMA, &made).expect("the schema is written");
    }
    let kept = fs::read_to_string(SCHEMA).unwrap_or_default();
    let line = kept.lines().zip(made.lines()).take_while(|(kept, made)| kept == made).count() + 1;
    assert!(kept == made, "{SCHEMA}:{line} is not what the types make: run with BLESS=1 to write it");
}

#[test]
fn every_shipped_plan_names_the_schema_and_meets_it() {
    let validator = jsonschema::draft7::new(&squall::plan::schema()).expect("a schema of draft 7");
    for path in plans() {
        let text = fs::read_to_string(&path).expect("the plan");
        let modeline = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
        let modeline = modeline.unwrap_or_else(|| panic!("{}: the first line names no schema", path.display()));
        let schema = path.parent().expect("a folder").join(modeline);
        let same = fs::canonicalize(&schema).is_ok_and(|schema| fs::canonicalize(SCHEMA).is_ok_and(|known| known == schema));
        assert!(same, "{}: {} is not {SCHEMA}", path.display(), schema.display());
        let plan =
            squall::plan::manifest::read_one(&text, &path.display().to_string()).unwrap_or_else(|problems| panic!("{problems}"));
        let errors: Vec<String> = validator.iter_errors(&plan).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {}", path.display(), errors.join("; "));
    }
}

#[test]
fn what_the_schema_refuses_the_reader_refuses_too() {
    // The other way round does not hold: a schema cannot count requests.
    let validator = jsonschema::draft7::new(&squall::plan::schema()).expect("a schema of draft 7");
    let mut refused = 0;
    for entry in fs::read_dir("tests/plans/bad").expect("the folder of broken plans") {
        let path = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(plan) = squall::plan::manifest::read_one(&text, "bad") else { continue };
        if !validator.is_valid(&plan) {
            refused += 1;
            Plan::read(&path, &[], &environment).expect_err("the reader refuses it, too");
        }
    }
    assert!(refused >= 10, "the schema refuses only {refused} of the broken plans");
}

#[test]
fn every_shipped_plan_explains_itself_within_80_columns() {
    for path in plans() {
        let Ok(plan) = Plan::read(&path, &[], &environment) else { continue };
        let text = squall::plan::explain(&plan, &squall::timeline::Timeline::of(&plan, 7));
        for line in text.lines() {
            // A word that is longer than a line, such as a URL, cannot be broken.
            assert!(
                line.chars().count() <= 80 || line.split_whitespace().any(|word| word.len() > 60),
                "{}: {line}",
                path.display()
            );
        }
        for name in plan.phases.iter().map(|phase| phase.name.as_str()).chain(plan.claims.iter().map(|claim| claim.name.as_str())) {
            assert!(text.contains(name), "{}: {name} is not explained", path.display());
        }
    }
}

#[test]
fn the_plan_of_the_design_is_explained_in_full() {
    let plan =
        Plan::read(Path::new("tests/plans/good/shop.yaml"), &[], &environment).unwrap_or_else(|problems| panic!("{problems}"));
    let text = squall::plan::explain(&plan, &squall::timeline::Timeline::of(&plan, 7));
    let golden = "tests/plans/good/shop.txt";
    if std::env::var_os("BLESS").is_some() {
        fs::write(golden, &text).expect("the golden file is written");
    }
    assert_eq!(fs::read_to_string(golden).unwrap_or_default(), text, "run with BLESS=1 and review the difference");
}
