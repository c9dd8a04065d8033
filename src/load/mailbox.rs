//! Where a task that has nothing to do waits for its next request.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::lane::Due;

/// Holds at most one request, for one task.
#[derive(Default)]
pub(super) struct Mailbox {
    request: Cell<Option<Due>>,
    waker: Cell<Option<Waker>>,
}

impl Mailbox {
    pub(super) fn put(&self, due: Due) {
        self.request.set(Some(due));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) async fn take(&self) -> Due {
        poll_fn(|cx| match self.request.take() {
            Some(due) => Poll::Ready(due),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}
