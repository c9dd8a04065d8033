//! Runs of flows that wait for the moment of their next step, in the order of those moments, so that the worker's one precise timer wakes
//! them as it wakes users. There are no more than runs in flight.

use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::lane::Due;
use super::mailbox::Mailbox;
use crate::time::Offset;

/// Who waits on one lane.
#[derive(Default)]
pub(super) struct Pauses {
    waiting: RefCell<BinaryHeap<Reverse<Pause>>>,
    /// Numbers them, so that two of the same moment keep their order.
    counter: Cell<u64>,
    /// No step is begun any more.
    closed: Cell<bool>,
}

struct Pause {
    due: Due,
    number: u64,
    mailbox: Rc<Mailbox>,
}

impl Pauses {
    /// Waits until `due` is due, or nothing is begun any more; `None` then.
    pub(super) async fn until(&self, due: Due, mailbox: &Rc<Mailbox>) -> Option<Due> {
        if self.closed.get() {
            return None;
        }
        let number = self.counter.replace(self.counter.get() + 1);
        self.waiting.borrow_mut().push(Reverse(Pause { due, number, mailbox: mailbox.clone() }));
        let due = mailbox.take().await;
        (!self.closed.get()).then_some(due)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Offset> {
        self.waiting.borrow().peek().map(|Reverse(pause)| pause.due.at)
    }

    /// Wakes one whose step is due by `now`; whether there was one.
    pub(super) fn wake_one(&self, now: Offset) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.peek().is_none_or(|Reverse(pause)| pause.due.at > now) {
            return false;
        }
        waiting.pop().inspect(|Reverse(pause)| pause.mailbox.put(Due { taken: now, ..pause.due }));
        true
    }

    /// Lets nobody begin a step any more.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for Reverse(pause) in self.waiting.take() {
            pause.mailbox.put(pause.due);
        }
    }

    pub(super) fn are_closed(&self) -> bool {
        self.closed.get()
    }
}

impl PartialEq for Pause {
    fn eq(&self, other: &Pause) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pause {}

impl PartialOrd for Pause {
    fn partial_cmp(&self, other: &Pause) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pause {
    fn cmp(&self, other: &Pause) -> Ordering {
        (self.due.at, self.number).cmp(&(other.due.at, other.number))
    }
}
