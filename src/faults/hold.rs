//! The hold on a fault that is active: the tasks that keep its leases alive and gather its evidence. Letting go is what heals.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long tasks may take to let go before they are dropped; leases end by themselves in any case.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The hold on an active fault. Dropping it lets go at once.
pub struct Hold {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Resolves when the hold is let go of.
#[derive(Clone)]
pub struct Released(watch::Receiver<bool>);

impl Released {
    /// Waits for it. Cancel-safe.
    pub async fn wait(&mut self) {
        // An error means that the hold was dropped, which lets go as well.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

impl Hold {
    pub fn new() -> Hold {
        Hold { stop: watch::channel(false).0, tasks: JoinSet::new() }
    }

    /// What tells a task that it must let go.
    pub fn released(&self) -> Released {
        Released(self.stop.subscribe())
    }

    /// Adds a task that ends soon after [`Released::wait`] resolves.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Lets go, and waits a bounded time for the tasks to do so in good order.
    pub async fn release(mut self) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(RELEASE_TIMEOUT, all).await.is_err() {
            tracing::warn!("the hold on a fault was not let go of in {RELEASE_TIMEOUT:?}; it is dropped");
        }
    }
}

impl Default for Hold {
    fn default() -> Hold {
        Hold::new()
    }
}
