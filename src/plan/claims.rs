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
        let source = Source { file: &file, text: &text, folder: None, sets, environment: Environment::Recorded };
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
        if let Need::Load(name) = need {
            known("load", &name, &loads);
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
