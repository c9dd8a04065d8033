//! How the tasks of a worker call it: one thread, no locks.

use std::cell::Cell;

use tokio::sync::Notify;

use crate::time::Offset;

/// A worker's bells.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// Rung whenever the last request in flight of a lane ends.
    pub(super) idle_again: Notify,
    /// Rung when the worker should see what is due: earlier than it meant to, or because nothing more will come.
    pub(super) look: Notify,
    /// What the worker waits for, if it waits longer than for that: whoever is awake by then calls it, which costs no wake-up.
    waited_for: Cell<Option<Offset>>,
}

impl Bells {
    /// The worker sleeps past `due`, unless somebody is awake by then.
    pub(super) fn wait_for(&self, due: Option<Offset>) {
        self.waited_for.set(due);
    }

    /// Somebody is awake at `now`.
    pub(super) fn awake(&self, now: Offset) {
        if self.waited_for.get().is_some_and(|due| due <= now) {
            self.waited_for.set(None);
            self.look.notify_one();
        }
    }
}
