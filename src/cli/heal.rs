//! `squall heal`: finishes what a killed run left.

use std::path::PathBuf;

use futures::future::BoxFuture;

use crate::exit::{Exit, Failure};
use crate::faults::heal;
use crate::faults::journal::SandboxLine;
use crate::sandbox::cleanup::{self, Scope};

/// Where runs go when nobody says otherwise.
const ROOT: &str = "reports";

/// Which run.
#[derive(clap::Args)]
pub struct Args {
    /// The run's folder; every run under `reports/` that did not finish when absent.
    run: Option<PathBuf>,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let named = args.run.is_some();
    let place = args.run.unwrap_or_else(|| PathBuf::from(ROOT));
    if named && !place.is_dir() {
        let message =
            format!("there is no run in `{}`: name the folder of a run, or none to heal all under {ROOT}/", place.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let sweep =
        |sandbox: SandboxLine| -> BoxFuture<'static, Result<String, String>> { Box::pin(cleanup::finish(sandbox.id, sandbox.dir)) };
    // A machine on which nothing has run yet has no folder of runs, and nothing in it to heal.
    let healed = if place.exists() {
        let healing = heal::heal(&place, &sweep);
        super::runtime()?.block_on(healing).map_err(|error| Failure::new(Exit::Environment, error.to_string()))?
    } else {
        Vec::new()
    };
    if healed.is_empty() {
        super::print(&format!("no runs under {}/: nothing to heal\n", place.display()))?;
    }
    let mut exit = Exit::Pass;
    for run in healed {
        let outcome = match run.outcome {
            heal::Outcome::Nothing => "nothing to heal",
            heal::Outcome::Healed => "healed",
            heal::Outcome::Alive => "alive, left alone",
            heal::Outcome::NotProven => "NOT PROVEN HEALED",
        };
        let said: String = run.said.iter().map(|said| format!("  {said}\n")).collect();
        super::print(&format!("{}: {outcome}\n{said}", run.run.display()))?;
        if run.outcome == heal::Outcome::NotProven {
            exit = Exit::CleanupNotProven;
        }
    }
    // A sandbox that died before its run could write its name down is found by its marks.
    match swept() {
        Ok(None) => Ok(exit),
        Ok(Some(swept)) => super::print(&format!("elsewhere: {swept}\n")).map(|()| exit),
        Err(left) => Err(Failure::new(Exit::CleanupNotProven, left)),
    }
}

/// Ends and removes what dead sandboxes left, and says what that was, if there was anything; the error is what would not go.
fn swept() -> Result<Option<String>, String> {
    let remains = cleanup::sweep(&Scope::All);
    let processes = remains.iter().flat_map(|dead| dead.left.iter().map(|pid| format!("process {pid} of sandbox {}", dead.id)));
    let folders = remains.iter().filter_map(|dead| dead.folder_left.as_ref()).map(|dir| format!("folder {}", dir.display()));
    let left: Vec<String> = processes.chain(folders).collect();
    if !left.is_empty() {
        return Err(format!("could not be ended or removed: {}; do it by hand", left.join(", ")));
    }
    let ended: usize = remains.iter().map(|dead| dead.killed.len()).sum();
    let folders = remains.iter().filter(|dead| dead.folder.is_some()).count();
    let gone = format!("{ended} stray processes ended, {folders} temporary folders removed");
    Ok((!remains.is_empty()).then_some(gone))
}
