//! How the tasks of a worker call it: one thread, no locks.

use tokio::sync::Notify;

/// A worker's bells.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// Rung whenever the last request in flight of a lane ends.
    pub(super) idle_again: Notify,
    /// Rung when the worker should see what is due: earlier than it meant to, or because nothing more will come.
    pub(super) look: Notify,
}
