//! `squall heal`: finishes what a killed run left.

use std::path::PathBuf;

use futures::future::BoxFuture;

use crate::exit::{Exit, Failure};
use crate::faults::heal;
use crate::faults::journal::SandboxLine;
use crate::sandbox::cleanup::{self, Scope};

/// Which run.
#[derive(clap::Args)]
pub struct Args {
    /// The run's folder; every run under `reports/` that did not finish when absent.
    run: Option<PathBuf>,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let place = args.run.unwrap_or_else(|| PathBuf::from("reports"));
    let sweep =
        |sandbox: SandboxLine| -> BoxFuture<'static, Result<String, String>> { Box::pin(cleanup::finish(sandbox.id, sandbox.dir)) };
    let healed = super::runtime()?
        .block_on(heal::heal(&place, &sweep))
        .map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
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
    match swept(&Scope::All) {
        Ok(_) => Ok(exit),
        Err(left) => Err(Failure::new(Exit::CleanupNotProven, left)),
    }
}

/// Ends and removes what dead sandboxes left; the error is what would not go.
fn swept(scope: &Scope) -> Result<String, String> {
    let remains = cleanup::sweep(scope);
    let left: Vec<String> =
        remains.iter().flat_map(|dead| dead.left.iter().map(|pid| format!("process {pid} of sandbox {}", dead.id))).collect();
    if !left.is_empty() {
        return Err(format!("could not be ended: {}; end them by hand", left.join(", ")));
    }
    let ended: usize = remains.iter().map(|dead| dead.killed.len()).sum();
    let folders = remains.iter().filter(|dead| dead.folder.is_some()).count();
    Ok(format!("the sandbox is gone ({ended} stray processes ended, {folders} folders removed)"))
}
