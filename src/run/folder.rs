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
    /// Names the run in every report: `<plan>-<UTC time>-<seed>`.
    pub run_id: String,
}

impl Folder {
    /// Makes the folder and proves that it can be written, so that a run never finds out at its end. A folder that already holds
    /// something is refused: a recording is never overwritten.
    pub fn create(plan: &Name, seed: u64, out: Option<&Path>) -> Result<Folder, Failure> {
        let stamp = wall_now().strftime("%Y%m%dT%H%M%SZ");
        let run_id = format!("{plan}-{stamp}-{seed:x}");
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
