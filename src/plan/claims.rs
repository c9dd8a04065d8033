//! Judging an old run by a new plan: the plan's assertions, held against what the recording knows of phases, faults and loads.

use std::fs;
use std::path::Path;

use super::assemble::{self, Source};
use super::check::reason;
use super::params::Environment;
use super::problem::{Problem, Problems, proposal};
use super::{Plan, read_text};
use crate::names::{Anchor, Name};
use crate::recording::fact::RunStarted;
use crate::verdict::{Claim, Need, Over};

impl Plan {
    /// The assertions of the plan at `path`, to judge a recorded run by. The plan is checked as any other, though without the
    /// environment and its manifests; every phase, fault and load that an assertion names must be in the recording.
    pub fn read_claims(path: &Path, sets: &[(String, String)], run: &RunStarted) -> Result<Vec<Claim>, Problems> {
        let file = path.display().to_string();
        let text = read_text(path, &file)?;
        let source = Source { file: &file, text: &text, folder: None, sets, environment: Environment::Recorded, cluster: None };
        let plan = assemble::read(&source)?;
        let problems: Vec<Problem> = plan.claims.iter().flat_map(|claim| strangers(claim, run, &text)).collect();
        if problems.is_empty() { Ok(plan.claims) } else { Err(Problems::new(&file, &text, problems)) }
    }
}

/// What a claim names that the recorded run did not have.
fn strangers(claim: &Claim, run: &RunStarted, text: &str) -> Vec<Problem> {
    let phases: Vec<&str> = run.phases.iter().map(|phase| phase.name.as_str()).collect();
    let faults: Vec<&str> = run.faults.iter().map(|fault| fault.name.as_str()).collect();
    let loads: Vec<&str> = run.loads.iter().map(|load| load.name.as_str()).collect();
    let classes: Vec<&str> = run.loads.iter().flat_map(|load| &load.classes).map(Name::as_str).collect();
    let steps: Vec<&str> = run.loads.iter().flat_map(|load| load.steps()).map(|step| step.name.as_str()).collect();
    let mut found = Vec::new();
    let mut known = |what: &str, name: &Name, among: &[&str]| {
        if !among.contains(&name.as_str()) {
            let message = format!("the recorded run has no {what} `{name}`, which `{}` speaks of", claim.name);
            found.push(Problem::at(line(text, claim.line), message).maybe_help(proposal(name.as_str(), among.iter().copied())));
        }
    };
    let either: Vec<&str> = phases.iter().chain(&faults).copied().collect();
    let mut moment = |anchor: &Anchor| known("phase or fault", &anchor.of, &either);
    match &claim.over {
        Over::Run => {}
        Over::Between(from, to) => {
            moment(from);
            moment(to);
        }
        Over::Phase(name) => known("phase", name, &phases),
        Over::Fault(name) => known("fault", name, &faults),
    }
    for need in claim.spec.needs() {
        match need {
            Need::Load(name) => known("load", &name, &loads),
            Need::Class(name) => known("class", &name, &classes),
            Need::Step(name) => known("step", &name, &steps),
            _ => {}
        }
    }
    found
}

/// The text of a line, as bytes of the whole.
fn line(text: &str, number: u32) -> std::ops::Range<usize> {
    let mut start = 0;
    for (n, line) in text.split_inclusive('\n').enumerate() {
        if n + 1 == number as usize {
            let indent = line.len() - line.trim_start().len();
            return start + indent..start + line.trim_end().len();
        }
        start += line.len();
    }
    start..start
}

/// The manifests of a plan, read; for those who apply them. The error names file, line and reason.
pub fn read_manifests(plan: &Plan) -> Result<Vec<super::manifest::Manifest>, Problems> {
    let mut all = Vec::new();
    for path in &plan.manifests {
        let file = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| Problems::new(&file, "", vec![Problem::nowhere(format!("failed to read it: {}", reason(&error)))]))?;
        all.extend(super::manifest::read(&text, &file)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::SHOP;
    use crate::recording::fact::{FaultLine, LoadLine, PhaseSpan, SCHEMA};
    use crate::time::Offset;

    /// A run of the design's plan, with phases of other lengths.
    fn run() -> RunStarted {
        let name = |name: &str| name.parse::<Name>().unwrap();
        let phase = |n: i64, phase: &str| PhaseSpan {
            name: name(phase),
            start: Offset::from_nanos(n * 1_000_000_000),
            end: Offset::from_nanos((n + 1) * 1_000_000_000),
        };
        RunStarted {
            schema: SCHEMA.into(),
            run_id: "r".into(),
            squall: "0".into(),
            plan: "p".into(),
            claim: "c".into(),
            seed: 1,
            params: Default::default(),
            zero: String::new(),
            target: String::new(),
            workload: None,
            autoscaler: None,
            phases: vec![phase(0, "baseline"), phase(1, "burst")],
            loads: vec![LoadLine {
                name: name("shoppers"),
                method: "GET".into(),
                path: "/".into(),
                timeout_ns: 1,
                intended: Default::default(),
                users: Default::default(),
                classes: Vec::new(),
                flows: Vec::new(),
                attempts: None,
            }],
            faults: vec![FaultLine { name: name("kill-one"), kind: "pod_kill".into(), at: None, duration_ns: None }],
            environment: Default::default(),
        }
    }

    fn read(assert: &str) -> Result<Vec<Claim>, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.yaml");
        let plan = SHOP.split("assert:").next().unwrap();
        fs::write(&path, format!("{plan}assert:\n{assert}")).unwrap();
        Plan::read_claims(&path, &[], &run())
    }

    #[test]
    fn a_new_plan_judges_an_old_run_where_the_names_are_the_same() {
        let claims = read("- {name: a, during: burst, slo: {p99: 1s}}\n- {name: b, fault: kill-one, resilience: {failed: 1%}}\n");
        assert_eq!(claims.unwrap_or_else(|problems| panic!("{problems}")).len(), 2);
    }

    #[test]
    fn what_the_recorded_run_did_not_have_is_named() {
        let problems =
            read("- {name: a, during: recovery, slo: {p99: 1s}}\n- {name: b, fault: slow-payments, resilience: {failed: 1%}}\n");
        let lines = problems.unwrap_err().lines();
        assert!(lines[0].contains("the recorded run has no phase `recovery`, which `a` speaks of"), "{lines:?}");
        assert!(lines[1].contains("the recorded run has no fault `slow-payments`"), "{lines:?}");
    }
}
