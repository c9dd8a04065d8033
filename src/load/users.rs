//! The users of a closed load on one worker: who comes, who thinks, and until when. Each user is a task on its lane; those who think
//! stand in a queue by the moment of their next request, so that the worker's one precise timer wakes them.

use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::rc::Rc;
use std::time::Duration;

use super::lane::{Due, Lane};
use super::mailbox::Mailbox;
use super::seat::Seat;
use crate::protocol::End;
use crate::schedule::{Crowd, Stay};
use crate::time::Offset;

/// One load's users on one worker.
pub(super) struct Users {
    coming: Peekable<std::vec::IntoIter<Stay>>,
    room: Rc<Room>,
}

/// Where users are while they are there.
struct Room {
    lane: Rc<Lane>,
    crowd: Crowd,
    thinking: RefCell<BinaryHeap<Reverse<Thinker>>>,
    /// How many requests of each user have come due, in the order of this crowd's own users.
    begun: RefCell<Vec<u64>>,
    /// Numbers those who think, so that two of the same moment keep their order.
    counter: Cell<u64>,
    present: Cell<usize>,
    /// Nothing more is to be begun.
    closed: Cell<bool>,
}

/// A user: which one of all, and which of this crowd's own.
#[derive(Clone, Copy)]
struct Who {
    user: u64,
    place: usize,
}

/// A user between two requests.
struct Thinker {
    who: Who,
    until: Offset,
    number: u64,
    mailbox: Rc<Mailbox>,
}

impl Users {
    pub(super) fn new(lane: Rc<Lane>, crowd: Crowd) -> Users {
        let coming = crowd.stays().collect::<Vec<_>>().into_iter().peekable();
        let room = Room {
            lane,
            begun: RefCell::new(vec![0; crowd.peak() as usize]),
            crowd,
            thinking: RefCell::default(),
            counter: Cell::new(0),
            present: Cell::new(0),
            closed: Cell::new(false),
        };
        Users { coming, room: Rc::new(room) }
    }

    pub(super) fn lane(&self) -> &Rc<Lane> {
        &self.room.lane
    }

    /// When somebody comes or has thought enough.
    pub(super) fn next(&mut self) -> Option<Offset> {
        let comes = self.coming.peek().map(|stay| stay.from);
        let thought = self.room.thinking.borrow().peek().map(|Reverse(thinker)| thinker.until);
        comes.into_iter().chain(thought).min()
    }

    /// Lets one in who comes by `now`, or wakes one whose request is due.
    pub(super) fn serve_one(&mut self, now: Offset) {
        if let Some(stay) = self.coming.next_if(|stay| stay.from <= now) {
            let present = Present::new(&self.room);
            self.room.lane.spawn(there(present, stay));
            return;
        }
        let mut thinking = self.room.thinking.borrow_mut();
        if thinking.peek().is_some_and(|Reverse(thinker)| thinker.until <= now)
            && let Some(Reverse(thinker)) = thinking.pop()
        {
            thinker.mailbox.put(self.room.due(thinker.who, thinker.until, now));
        }
    }

    /// Whether nobody is there and nobody will come.
    pub(super) fn are_gone(&mut self) -> bool {
        self.coming.peek().is_none() && self.room.present.get() == 0
    }

    /// Lets nobody begin anything more. What is due by `now` is counted as refused; what is not yet due was never intended.
    pub(super) fn close(&mut self, now: Offset) {
        self.room.closed.set(true);
        self.coming = Vec::new().into_iter().peekable();
        for Reverse(thinker) in self.room.thinking.take() {
            if thinker.until <= now {
                self.room.lane.turn_away(self.room.due(thinker.who, thinker.until, now), End::Stopped);
            }
        }
    }
}

impl Room {
    /// A user's next request.
    fn due(&self, who: Who, at: Offset, taken: Offset) -> Due {
        let begun = &mut self.begun.borrow_mut()[who.place];
        let number = self.crowd.number(who.user, *begun);
        *begun += 1;
        self.lane.due(at, self.crowd.phase_at(at), number, taken)
    }

    /// Waits until the worker comes to what is due at `at`.
    async fn think(&self, who: Who, at: Offset, mailbox: &Rc<Mailbox>) -> Due {
        let number = self.counter.replace(self.counter.get() + 1);
        self.thinking.borrow_mut().push(Reverse(Thinker { who, until: at, number, mailbox: mailbox.clone() }));
        self.lane.bells.look.notify_one();
        mailbox.take().await
    }
}

/// A user's time there: request after request, each after the answer to the one before.
async fn there(present: Present, stay: Stay) {
    let room = &present.0;
    let lane = &room.lane;
    let who = Who { user: stay.user, place: room.crowd.place_of(stay.user) };
    let mut steps = room.crowd.steps(stay.user);
    let mut seat = Seat::new(lane);
    let mailbox = Rc::new(Mailbox::default());
    let mut now = lane.clock.now();
    let mut at = steps.first(stay.from);
    while at < stay.to && !room.closed.get() {
        let due = if at <= now { room.due(who, at, now) } else { room.think(who, at, &mailbox).await };
        if room.closed.get() {
            // It came due before that, and nobody was told yet.
            return lane.turn_away(due, End::Stopped);
        }
        if lane.supply.is_used_up(due.number) {
            // Nor will there be any for what this user would send next.
            return lane.turn_away(due, End::FeedUsedUp);
        }
        if due.at + lane.timeout_of(due.request) <= due.taken {
            lane.turn_away(due, End::GeneratorLate);
            now = due.taken;
        } else {
            lane.let_in(&due);
            now = seat.serve(due, due.taken).await;
        }
        at = steps.next(due.at, now);
        // Whoever leaves needs no new connection in place of one that has had its day; whoever stays is ready to send once it is there,
        // and does, even where the end has come meanwhile.
        if seat.is_worn() && at < stay.to && !room.closed.get() {
            let ready = seat.renew(now).await;
            if ready > now {
                (now, at) = (ready, at.max(ready.min(stay.to - Duration::from_nanos(1))));
            }
        }
        if seat.is_bare() {
            // A door that is closed answers at once: others must get their turn all the same.
            tokio::task::yield_now().await;
        }
    }
}

/// A user is there for as long as this lives.
struct Present(Rc<Room>);

impl Present {
    fn new(room: &Rc<Room>) -> Present {
        room.present.update(|n| n + 1);
        Present(room.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.present.update(|n| n - 1);
        if self.0.present.get() == 0 {
            self.0.lane.bells.look.notify_one();
        }
    }
}

impl PartialEq for Thinker {
    fn eq(&self, other: &Thinker) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Thinker {}

impl PartialOrd for Thinker {
    fn partial_cmp(&self, other: &Thinker) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Thinker {
    fn cmp(&self, other: &Thinker) -> Ordering {
        (self.until, self.number).cmp(&(other.until, other.number))
    }
}
