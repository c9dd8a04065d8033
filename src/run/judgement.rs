//! From a recorded run to its verdict: findings, exit code and report, all derived from the run's folder and from nothing else, so
//! that judging again gives the same. Findings rest on the recording alone; whether a fault may still be active, on the journal too,
//! since healing may come after the recording.

use std::fs;
use std::path::Path;

use super::Interrupt;
use crate::exit::{Exit, Failure};
use crate::faults::journal;
use crate::plan::{Plan, Problems};
use crate::recording::fact::{Ending, Fact};
use crate::recording::history::FaultSeen;
use crate::recording::{History, history};
use crate::report::{ExitInfo, Place, Report};
use crate::verdict::{self, Certificate, Claim, Finding};

/// The plan as it was run, beside its recording.
pub const PLAN_FILE: &str = "plan.yaml";

/// A run with its verdict.
pub struct Judged {
    pub history: History,
    pub findings: Vec<Finding>,
    pub exit: Exit,
    pub report: Report,
    /// Why not every report lies in the run's folder, where one could not be written.
    pub unsaved: Option<String>,
}

/// Judges the run in `run` by its own plan, or by the assertions of `plan`.
pub fn judge(run: &Path, plan: Option<&Path>, sets: &[(String, String)]) -> Result<Judged, Failure> {
    let history = open(run)?;
    let invalid = |problems: Problems| Failure::new(Exit::Usage, problems.to_string());
    let file = plan.map_or_else(|| run.join(PLAN_FILE), Path::to_owned);
    let source = fs::read_to_string(&file).map_err(|error| {
        Failure::new(Exit::Usage, format!("failed to read `{}`: {error}; name the plan with --plan", file.display()))
    })?;
    let claims = match plan {
        None => Plan::read_recorded(&source, &history.started.params).map_err(invalid)?.claims,
        Some(plan) => Plan::read_claims(plan, sets, &history.started).map_err(invalid)?,
    };
    Ok(judge_history(
        run,
        history,
        &claims,
        Place { plan_file: Some(file.display().to_string()), plan_source: Some(source), folder: None },
    ))
}

/// Reads a recording back.
pub fn open(run: &Path) -> Result<History, Failure> {
    History::load(run).map_err(|error| {
        let ended_early = matches!(error, history::Error::Missing(_)) && run.join(PLAN_FILE).is_file();
        let message = if ended_early {
            format!(
                "the run in `{}` ended while it was getting ready, before its first request: nothing was recorded, so nothing can be \
                 judged; run it again (and `squall heal {}` if it was killed)",
                run.display(),
                run.display()
            )
        } else {
            format!("{error:#}")
        };
        Failure::new(Exit::Usage, message)
    })
}

/// Judges what was recorded in `run`. `place` says where the plan's text is, for a reader.
pub fn judge_history(run: &Path, history: History, claims: &[Claim], place: Place) -> Judged {
    let findings = verdict::judge(claims, &history);
    let certificate = verdict::certificate(claims, &history);
    let cleanup = Cleanup::of(run, &history);
    let exit = exit_of(&history, &findings, &certificate, cleanup);
    let mut info = ExitInfo::of(exit, &findings, &certificate, &history);
    if cleanup == Cleanup::ByJournal {
        info.reason.push_str("; what its recording shows as left behind has been healed, as its journal proves");
    }
    let report = Report::of(&history, &findings, certificate, info).at(Place { folder: Some(run.display().to_string()), ..place });
    Judged { history, findings, exit, report, unsaved: None }
}

/// Whether all that a run did is undone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cleanup {
    /// As its recording shows.
    Proven,
    /// As only its journal shows: where `squall heal` came after the recording's last line.
    ByJournal,
    NotProven,
}

impl Cleanup {
    fn of(run: &Path, history: &History) -> Cleanup {
        // Where the queue was full, either step may be missing from the recording.
        let began = |fault: &FaultSeen| fault.journalled.is_some() || fault.injected.is_some();
        let unhealed = history.faults().iter().any(|fault| began(fault) && fault.healed.is_none());
        let left = history.events.iter().any(|event| matches!(event.fact, Fact::LeftBehind { .. }));
        // A run without a journal, or with one that cannot be read, has nothing to set against its recording.
        let closed = || fs::read(run.join(journal::FILE)).is_ok_and(|bytes| journal::read(&bytes).is_closed());
        match unhealed || left {
            false => Cleanup::Proven,
            true if closed() => Cleanup::ByJournal,
            true => Cleanup::NotProven,
        }
    }
}

/// The exit code that a recording comes to. Precedence is [`Exit::or_worse`].
fn exit_of(history: &History, findings: &[Finding], certificate: &Certificate, cleanup: Cleanup) -> Exit {
    let mut exit = Exit::of(verdict::overall(findings, certificate, history));
    let (from, to) = history.whole();
    let counts = history.counts(None, from, to);
    // A door that was closed on every request has had its chance: that is a failure, and not nothing.
    if counts.ended() == counts.unsent {
        exit = exit.or_worse(Exit::NothingRan);
    }
    exit = match history.ended.as_ref().map(|ended| &ended.how) {
        Some(Ending::Completed) => exit,
        Some(Ending::Interrupted { signal }) if signal != Interrupt::Sigint.name() => exit.or_worse(Exit::Terminated),
        Some(Ending::Interrupted { .. }) => exit.or_worse(Exit::Interrupted),
        Some(Ending::Broken { .. }) => exit.or_worse(Exit::Environment),
        None => exit.or_worse(Exit::Inconclusive),
    };
    if cleanup == Cleanup::NotProven { exit.or_worse(Exit::CleanupNotProven) } else { exit }
}
