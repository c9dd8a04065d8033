//! The lines of a recording, read: what a crash cut off and what a newer Squall added is said, and what would be misunderstood is refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recording::EVENTS_FILE;
use crate::recording::fact::{Event, Fact, SCHEMA};

/// Why a folder is not a recording that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no recording at {}: name the folder of a run, the one that holds {EVENTS_FILE}", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not a recording: its first line is not the start of a run ({why})", path.display())]
    NotARecording { path: PathBuf, why: String },
    #[error(
        "the recording is in format `{found}`, this squall reads `{SCHEMA}`: use the squall that wrote it (version {written_by})"
    )]
    Format { found: String, written_by: String },
}

/// The events in the text of the file at `path`. Lines that cannot be read go to `torn` in words, kinds of facts that are new to us to
/// `unknown`.
pub(super) fn read(path: &Path, text: &[u8], torn: &mut Vec<String>, unknown: &mut Vec<String>) -> Result<Vec<Event>, Error> {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let not = |why: String| Error::NotARecording { path: path.to_owned(), why };
    let first: Value = serde_json::from_slice(first).map_err(|error| not(error.to_string()))?;
    let started = first.pointer("/fact/run_started").ok_or_else(|| not("it has no `run_started`".to_owned()))?;
    let found = started.pointer("/schema").and_then(Value::as_str).ok_or_else(|| not("it has no `schema`".to_owned()))?;
    // A minor version (v1.2) only adds; the part before its dot must be ours.
    if found != SCHEMA && !found.strip_prefix(SCHEMA).is_some_and(|minor| minor.starts_with('.')) {
        let written_by = started.pointer("/squall").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        return Err(Error::Format { found: found.to_owned(), written_by });
    }

    let mut events: Vec<Event> = Vec::new();
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let at = index + 1;
        let Some(line) = line.strip_suffix(b"\n") else {
            torn.push(format!("{EVENTS_FILE} ends in the middle of line {at}"));
            continue;
        };
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => {
                if event.n != index as u64 && torn.is_empty() {
                    torn.push(format!("{EVENTS_FILE} line {at} holds event {} where {index} belongs: lines are missing", event.n));
                }
                events.push(event);
            }
            Err(error) => match unknown_fact(line) {
                Some(kind) if index > 0 => {
                    if !unknown.contains(&kind) {
                        unknown.push(kind);
                    }
                }
                _ if index == 0 => return Err(not(error.to_string())),
                _ => torn.push(format!("{EVENTS_FILE} line {at} cannot be read: {error}")),
            },
        }
    }
    Ok(events)
}

/// The kind of a whole event that is new to us; `None` when the line is not an event, or is a broken one of a kind that we know.
fn unknown_fact(line: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get("n")?.as_u64()?;
    value.get("t_ns")?.as_i64()?;
    let kind = value.get("fact")?.as_object()?.keys().next()?.clone();
    // Serde names the variants that it knows when it meets one that it does not.
    let probe = serde_json::json!({ kind.as_str(): null });
    let error = serde_json::from_value::<Fact>(probe).err()?.to_string();
    error.starts_with("unknown variant").then_some(kind)
}
