//! The folder of one run: `reports/<run-id>/`, or what `--out` names. All of a run is in it, and nothing of another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::names::Name;
use crate::time::wall_now;

/// A run's own folder, made new.
pub struct Folder {
    pub path: PathBuf,
    /// Names the run in every report, and labels what it makes in a cluster: `<plan>-<UTC time>-<seed>`.
    pub run_id: String,
}

impl Folder {
    /// Makes the folder and proves that it can be written, so that a run never finds out at its end. A folder that already holds
    /// something is refused: a recording is never overwritten.
    pub fn create(plan: &Name, seed: u64, out: Option<&Path>) -> Result<Folder, Failure> {
        let run_id = run_id(plan, seed, wall_now());
        let path = out.map_or_else(|| Path::new("reports").join(&run_id), Path::to_owned);
        let refuse = |what: &str, error: io::Error| {
            Failure::new(
                Exit::Environment,
                format!("failed to {what} the run folder `{}`: {error}; name a writable place with --out", path.display()),
            )
        };
        fs::create_dir_all(&path).map_err(|error| refuse("create", error))?;
        if fs::read_dir(&path).map_err(|error| refuse("read", error))?.next().is_some() {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "`{}` already holds files, and a recording is never overwritten: name a new folder with --out",
                    path.display()
                ),
            ));
        }
        Ok(Folder { path, run_id })
    }

    /// The folder of one run of several, within this one.
    pub fn within(&self, name: &str) -> Result<Folder, Failure> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(|error| {
            let message = format!("failed to create the folder `{}`: {error}; name a writable place with --out", path.display());
            Failure::new(Exit::Environment, message)
        })?;
        Ok(Folder { path, run_id: format!("{}-{name}", self.run_id) })
    }

    /// Writes `text` to a file of this folder.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|error| {
            Failure::new(
                Exit::Environment,
                format!("failed to write `{}`: {error}; name a writable place with --out", path.display()),
            )
        })
    }
}

/// The longest value that a label may have.
const LABEL_MAX: usize = 63;

/// Names a run. A long plan name is cut, so that the whole can label what the run makes.
fn run_id(plan: &Name, seed: u64, at: jiff::Timestamp) -> String {
    let end = format!("-{}-{seed:x}", at.strftime("%Y%m%dT%H%M%SZ"));
    let plan = plan.as_str();
    // Names are ASCII.
    format!("{}{end}", &plan[..plan.len().min(LABEL_MAX - end.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_name_fits_into_a_label_whatever_the_plan_is_called() {
        let at: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(run_id(&"kill".parse().unwrap(), 255, at), "kill-20261123T120000Z-ff");
        let long: Name = "p".repeat(63).parse().unwrap();
        let id = run_id(&long, u64::MAX, at);
        assert_eq!(id.len(), LABEL_MAX);
        assert!(id.ends_with("-20261123T120000Z-ffffffffffffffff") && id.starts_with("ppp"), "{id}");
    }
}
