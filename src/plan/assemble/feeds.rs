//! The feeds of a plan: rows from files beside it, read when the plan is to be run.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::super::beside;
use super::super::check::reason;
use super::super::tree::Id;
use super::super::written::WrittenFeed;
use super::{Desk, Located, unique};
use crate::varying::feed::{FILE_MOST, Feed, Table};

/// Those that could be read; every reason why one could not has been reported.
pub(super) struct Feeds {
    pub feeds: Vec<Arc<Feed>>,
    /// Every feed that is written down was understood and read.
    pub whole: bool,
}

pub(super) fn read(desk: &mut Desk<'_>, written: Option<Vec<Located<WrittenFeed>>>) -> Feeds {
    let written = written.unwrap_or_default();
    unique(desk, "feed", written.iter().map(|feed| &feed.value.name));
    let mut whole = written.len() == desk.count("feeds");
    let mut feeds = Vec::new();
    for Located { value: written, .. } in written {
        let name = written.name.value.as_str().to_owned();
        let table = match desk.beside(&written.file.value) {
            None => None,
            Some(path) => match table(desk, written.file.at, &path) {
                Some(table) => Some(table),
                None => {
                    whole = false;
                    continue;
                }
            },
        };
        feeds.push(Arc::new(Feed { name, file: written.file.value, order: written.order, table }));
    }
    Feeds { feeds, whole }
}

fn table(desk: &mut Desk<'_>, at: Id, path: &Path) -> Option<Table> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // A byte more than is allowed, where it is larger.
    let read = fs::File::open(path).and_then(|file| file.take(FILE_MOST + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let help = (error.kind() == std::io::ErrorKind::NotFound).then(|| beside(path)).flatten();
        desk.wrong(at, format!("cannot read the feed `{shown}`: {}", reason(&error))).help = help;
        return None;
    }
    if bytes.len() as u64 > FILE_MOST {
        desk.wrong(at, format!("the feed `{shown}` is larger than {} MiB", FILE_MOST >> 20)).help =
            Some("give it fewer rows or columns; `order: sequential` begins again after the last row".into());
        return None;
    }
    let Ok(text) = String::from_utf8(bytes) else {
        desk.wrong(at, format!("cannot read the feed `{shown}`: it is not UTF-8 text"));
        return None;
    };
    match Table::read(&path.to_string_lossy(), &text) {
        Ok(table) => Some(table),
        Err(lines) => {
            for line in lines {
                desk.wrong(at, format!("the feed `{shown}`: {line}"));
            }
            None
        }
    }
}
