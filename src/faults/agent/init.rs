//! What is asked of whoever is the first process of a container: to bury the dead of others. All else that an agent must do there it
//! does anywhere: signals that it does not listen for are kept from it, and it listens for those that end it.

use std::convert::Infallible;

use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Buries whoever dies as this process's child, for as long as it is polled. An agent has no children of its own, so they are
/// orphans: of somebody who looked into the container with a shell.
pub async fn bury() -> Infallible {
    if !getpid().is_init() {
        return std::future::pending().await;
    }
    let Ok(mut deaths) = signal(SignalKind::child()) else {
        return std::future::pending().await;
    };
    loop {
        // Several deaths may make one signal.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if deaths.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}
