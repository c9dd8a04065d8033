//! Reports on disk. Each is written beside its place, flushed, and then moved there, so that nobody ever reads half of one; one
//! that cannot be written is an error that names it and what was saved before it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::report::{Format, Report};

/// A report that could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// The file that is not there.
    pub file: PathBuf,
    /// The files that are.
    pub saved: Vec<PathBuf>,
    pub source: anyhow::Error,
}

/// Writes `formats` of `report` into `folder`, which is made if need be, and gives back where they are.
pub fn write(report: &Report, folder: &Path, formats: &[&Format]) -> Result<Vec<PathBuf>, WriteError> {
    let mut saved = Vec::new();
    for format in formats {
        let file = folder.join(format.file);
        match write_to(report, format, &file) {
            Ok(()) => saved.push(file),
            Err(source) => return Err(WriteError { file, saved, source }),
        }
    }
    Ok(saved)
}

/// Writes one format of `report` to `file`.
pub fn write_to(report: &Report, format: &Format, file: &Path) -> anyhow::Result<()> {
    let bytes = (format.render)(report)?;
    Ok(replace(file, &bytes)?)
}

/// Puts `bytes` in the place of `file`, all or nothing.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".squall-").suffix(".partial");
    #[cfg(unix)]
    {
        // A temporary file is private by default; a report is to be read by whoever may read the folder, as the umask says.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let saved: Vec<String> = self.saved.iter().map(|file| file.display().to_string()).collect();
        let saved = if saved.is_empty() { "no report was saved".to_owned() } else { format!("saved were {}", saved.join(", ")) };
        write!(
            f,
            "failed to write {}: {:#}; {saved}; make room or choose another folder, then `squall report` writes it from the recording",
            self.file.display(),
            self.source,
        )
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deep/er/x.csv");
        replace(&file, b"one").expect("written");
        replace(&file, b"two").expect("replaced");
        assert_eq!(fs::read(&file).expect("read back"), b"two");
        assert_eq!(fs::read_dir(file.parent().expect("it has one")).expect("listed").count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        // A directory stands where the file should go, so the last step fails even for root.
        let taken = folder.path().join("run.json");
        fs::create_dir(&taken).expect("a directory in the way");
        assert!(replace(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "no partial file is left");
        let below_a_file = folder.path().join("file");
        fs::write(&below_a_file, b"").expect("a file in the way");
        assert!(replace(&below_a_file.join("run.json"), b"x").is_err());
    }
}
