//! Goal: what is shipped can be used. How: every plan of `plans/` and `tests/plans/` is read and checked as `squall check` would, with
//! its manifests, and names the schema for editors.

use std::fs;
use std::path::{Path, PathBuf};

use squall::plan::{Plan, read_manifests};

fn shipped() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut plans: Vec<PathBuf> = ["plans", "tests/plans"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("the folder is there"))
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    plans.sort();
    assert!(plans.len() >= 10, "this looks at the wrong place: {plans:?}");
    plans
}

#[test]
fn every_shipped_plan_is_valid_with_its_manifests() {
    let mut problems = Vec::new();
    for path in shipped() {
        match Plan::read(&path, &[], &|_| None) {
            Err(found) => problems.push(format!("{}:\n{}", path.display(), found.lines().join("\n"))),
            Ok(plan) => {
                let stem = path.file_stem().expect("a plan has a name").to_string_lossy();
                assert_eq!(plan.name.as_str(), stem, "a plan is called as its file is");
                if let Err(found) = read_manifests(&plan) {
                    problems.push(format!("{}:\n{}", path.display(), found.lines().join("\n")));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn every_shipped_plan_names_its_schema_for_editors() {
    for path in shipped() {
        let text = fs::read_to_string(&path).expect("a plan can be read");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# yaml-language-server: $schema=") && first.ends_with("plan.schema.json"),
            "{}: {first}",
            path.display()
        );
    }
}
