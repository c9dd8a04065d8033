//! A watch as a client sees it: one JSON line per change, bookmarks where it allows them, the error inside the stream when history has
//! passed it by. It pulls from the store only as fast as the client reads, so a slow client fills nothing.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch as signal};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::super::resource::Resource;
use super::super::selector::Selector;
use super::super::store::{Change, ChangeKind, WatchStream};
use super::failure::Failure;
use super::fields::FieldSelector;
use super::request::Form;
use super::table::{self, Columns};
use super::versions;

/// How often an idle watch tells how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// The longest that a watch lasts; clients begin again where they were.
pub const LASTS_MAX: Duration = Duration::from_secs(30 * 60);

/// Which objects a list or watch shows.
#[derive(Clone, Default, Debug)]
pub struct Filter {
    pub labels: Selector,
    pub fields: FieldSelector,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn shows(&self, object: &Value) -> bool {
        self.labels.matches(&object["metadata"]["labels"]) && self.fields.matches(object)
    }
}

/// How a watch is told.
pub struct Telling {
    /// The version in which objects are shown.
    pub seen: &'static Resource,
    pub filter: Filter,
    pub form: Form,
    /// What a table's rows carry besides their cells.
    pub include: String,
    pub bookmarks: Bookmarks,
    pub lasts: Duration,
}

/// Whether a watch says how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bookmarks {
    None,
    Now,
    /// Also one that marks the end of the objects that were there when the watch began.
    WithInitialEnd,
}

/// The lines of a watch. `initial` is told first, as additions.
pub fn lines(
    changes: WatchStream,
    initial: Vec<std::sync::Arc<Value>>,
    telling: Telling,
    permit: OwnedSemaphorePermit,
    stop: signal::Receiver<bool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let mut told = Told { telling, columns: Columns::Told, lines: VecDeque::new() };
    for object in initial {
        if told.telling.filter.shows(&object) {
            told.object("ADDED", &object);
        }
    }
    if told.telling.bookmarks == Bookmarks::WithInitialEnd {
        told.bookmark(changes.begins_at(), true);
    }
    let mut bookmarks = tokio::time::interval(BOOKMARK_EVERY);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    bookmarks.reset();
    let deadline = Box::pin(tokio::time::sleep(told.telling.lasts));
    let watch = Watch { changes, told, bookmarks, deadline, ended: false, stop, _permit: permit };
    futures::stream::unfold(watch, |mut watch| async { watch.line().await.map(|line| (Ok(line), watch)) })
}

struct Watch {
    changes: WatchStream,
    told: Told,
    bookmarks: Interval,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
    stop: signal::Receiver<bool>,
    /// Held while the watch lives: their number is bounded.
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.told.lines.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            let wants_bookmarks = self.told.telling.bookmarks != Bookmarks::None;
            tokio::select! {
                // Changes first: a deadline does not cut off what has happened before it.
                biased;
                change = self.changes.next() => match change {
                    Ok(change) => self.told.change(&change),
                    Err(gone) => {
                        self.told.error(&gone.into());
                        self.ended = true;
                    }
                },
                () = &mut self.deadline => {
                    self.ended = true;
                    if wants_bookmarks {
                        self.bookmark();
                    }
                }
                _ = self.stop.changed() => self.ended = true,
                _ = self.bookmarks.tick(), if wants_bookmarks => self.bookmark(),
            }
        }
    }

    fn bookmark(&mut self) {
        if let Some(version) = self.changes.caught_up() {
            self.told.bookmark(version, false);
        }
    }
}

/// What is to be sent.
struct Told {
    telling: Telling,
    columns: Columns,
    lines: VecDeque<Bytes>,
}

impl Told {
    /// A change as this client sees it: an object that comes into its selection is added, one that leaves it is deleted.
    fn change(&mut self, change: &Change) {
        let filter = &self.telling.filter;
        let shows = change.kind != ChangeKind::Deleted && filter.shows(&change.object);
        let showed = match change.kind {
            ChangeKind::Added => false,
            // Without a selection there is nothing to come into or to leave.
            ChangeKind::Modified | ChangeKind::Deleted => {
                filter.is_empty() || change.previous.as_ref().is_some_and(|object| filter.shows(object))
            }
        };
        match (showed, shows) {
            (false, true) => self.object("ADDED", &change.object),
            (true, true) => self.object("MODIFIED", &change.object),
            (true, false) => self.object("DELETED", &change.object),
            (false, false) => {}
        }
    }

    fn object(&mut self, kind: &str, object: &Value) {
        // Whole objects are serialised where they lie; the other forms are small.
        match self.telling.form {
            Form::Whole => self.push(kind, &versions::seen(self.telling.seen, object)),
            Form::Metadata => self.push(kind, &table::partial(object)),
            Form::Table => {
                let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let columns = std::mem::replace(&mut self.columns, Columns::Known);
                let row = table::table(self.telling.seen, &[object], version, columns, &self.telling.include);
                self.push(kind, &row);
            }
        }
    }

    fn bookmark(&mut self, version: u64, ends_initial: bool) {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let seen = self.telling.seen;
        let mark = match self.telling.form {
            Form::Whole => json!({"kind": seen.kind, "apiVersion": seen.api_version(), "metadata": metadata}),
            Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Table => table::table(seen, &[], metadata, Columns::Known, "None"),
        };
        self.push("BOOKMARK", &mark);
    }

    fn error(&mut self, failure: &Failure) {
        self.push("ERROR", &failure.status());
    }

    fn push(&mut self, kind: &str, object: &Value) {
        self.lines.push_back(Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")));
    }
}

/// A watch that fails at once, inside the stream, as a real server's does.
pub fn refused(failure: &Failure) -> Bytes {
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", failure.status()))
}
