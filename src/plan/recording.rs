//! What a replay was recorded as: the file that a plan names beside itself, read when the plan is to be run.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::assemble::Desk;
use super::check::reason;
use super::tree::Id;
use super::{Arrivals, beside};
use crate::schedule::{FILE_MOST, Replayed};

/// The arrivals with the recording that they need, where they need one and it can be read now; `None` when it is no good, which has
/// been reported.
pub(super) fn read(desk: &mut Desk<'_>, at: Id, arrivals: Arrivals, what: Replayed) -> Option<Arrivals> {
    let Some(replay) = arrivals.replays() else { return Some(arrivals) };
    let Some(path) = desk.beside(replay.file()) else { return Some(arrivals) };
    let file = desk.tree.entries(at).first().and_then(|(_, spec)| desk.tree.get(*spec, "file")).unwrap_or(at);
    let shown = path.display();
    let text = match text(&path) {
        Ok(text) => text,
        Err(error) => {
            let help = (error.kind() == std::io::ErrorKind::NotFound).then(|| beside(&path)).flatten();
            desk.wrong(file, format!("cannot read the recording `{shown}`: {}", reason(&error))).help = help;
            return None;
        }
    };
    if text.len() as u64 > FILE_MOST {
        desk.wrong(file, format!("the recording `{shown}` is larger than {} MiB", FILE_MOST >> 20)).help =
            Some("replay a part of it".into());
        return None;
    }
    match replay.with(&text, what) {
        Ok(arrivals) => Some(arrivals),
        Err(lines) => {
            for line in lines {
                desk.wrong(file, format!("the recording `{shown}`: {line}"));
            }
            None
        }
    }
}

/// The file as text; a byte more than is allowed where it is larger.
fn text(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_MOST + 1).read_to_end(&mut bytes)?;
    // Bytes that are no text stand in the names of browsers, which are not read; in a path they are refused.
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
