//! Connections that carry several requests at once, and which of them a place goes to: a new one as long as the plan allows another,
//! else the one with the fewest places on it. Balancers choose once per connection, so that few connections would be few pods.
//!
//! A connection is closed with the last place that lets go of it. One that has grown old or takes no new requests keeps those that it
//! has and gets no others; its successor opens beside it, so that for that while there are more connections than the plan allows, at
//! most twice as many.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::gauges::Gauges;
use super::lane::Lane;
use super::seat::dial;
use crate::protocol::{End, Link, Protocol, Wire};
use crate::time::Offset;

/// The shared connections of one lane.
#[derive(Default)]
pub(super) struct Pool {
    trunks: RefCell<Vec<Weak<Trunk>>>,
    /// Told whenever there may be room again.
    room: Rc<Notify>,
}

/// What a place is to do for a connection.
enum Offer {
    /// Take hold of one that is there, or about to be.
    Take(Hold),
    /// Open another: what is opened is to be told to the trunk.
    Open(Hold, Weak<Trunk>),
    /// Wait until there is room again.
    Wait(Rc<Notify>),
}

impl Pool {
    /// Finds a place, where at most `limit` connections are to carry `streams` requests each.
    fn offer(&self, wire: &Wire, limit: usize, streams: usize, gauges: &Arc<Gauges>) -> Offer {
        let mut trunks = self.trunks.borrow_mut();
        trunks.retain(|trunk| trunk.strong_count() > 0);
        let fit: Vec<Rc<Trunk>> = trunks.iter().filter_map(Weak::upgrade).filter(|trunk| trunk.is_fit(wire)).collect();
        if fit.len() < limit && trunks.len() < 2 * limit {
            let trunk = Rc::new(Trunk::new(gauges.clone(), self.room.clone()));
            let weak = Rc::downgrade(&trunk);
            trunks.push(weak.clone());
            return Offer::Open(Hold::on(trunk), weak);
        }
        match fit.into_iter().filter(|trunk| trunk.holds.get() < streams).min_by_key(|trunk| trunk.holds.get()) {
            Some(trunk) => Offer::Take(Hold::on(trunk)),
            None => Offer::Wait(self.room.clone()),
        }
    }
}

/// Takes hold of one of `lane`'s shared connections, with a link of one's own and the connection's date of expiry.
pub(super) async fn take(pool: &Pool, lane: &Rc<Lane>) -> Result<(Hold, Link, Option<Offset>), End> {
    let hold = loop {
        match pool.offer(&lane.wire, lane.connection_limit, lane.streams, &lane.gauges) {
            Offer::Take(hold) => break hold,
            Offer::Open(hold, trunk) => {
                // In a task of its own: others may wait for it when the first who wanted it has given up.
                let opener = lane.clone();
                hold.opened_by(lane.spawn(async move {
                    let done = dial(&opener).await;
                    if let Some(trunk) = trunk.upgrade() {
                        trunk.opened(done);
                    }
                }));
                break hold;
            }
            Offer::Wait(room) => room.notified().await,
        }
    };
    let (link, expires) = poll_fn(|cx| hold.poll_link(&lane.wire, cx)).await?;
    Ok((hold, link, expires))
}

/// A shared connection, from the moment when it is first wanted.
struct Trunk {
    state: RefCell<State>,
    holds: Cell<usize>,
    retired: Cell<bool>,
    /// The task that opens it.
    opening: Cell<Option<AbortHandle>>,
    waiting: RefCell<Vec<Waker>>,
    gauges: Arc<Gauges>,
    room: Rc<Notify>,
}

enum State {
    Opening,
    Open(Link, Option<Offset>),
    Failed(End),
}

impl Trunk {
    fn new(gauges: Arc<Gauges>, room: Rc<Notify>) -> Trunk {
        gauges.more_connections();
        Trunk {
            state: RefCell::new(State::Opening),
            holds: Cell::new(0),
            retired: Cell::new(false),
            opening: Cell::default(),
            waiting: RefCell::default(),
            gauges,
            room,
        }
    }

    /// Tells everybody on it how opening it went; `Ok` holds the first link and its date of expiry.
    pub(super) fn opened(&self, done: Result<(Link, Option<Offset>), End>) {
        *self.state.borrow_mut() = match done {
            Ok((link, expires)) => State::Open(link, expires),
            Err(end) => State::Failed(end),
        };
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn is_fit(&self, wire: &Wire) -> bool {
        !self.retired.get()
            && match &mut *self.state.borrow_mut() {
                State::Opening => true,
                State::Open(link, _) => wire.stands(link),
                State::Failed(_) => false,
            }
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        if let Some(task) = self.opening.take() {
            task.abort();
        }
        self.gauges.less_connections();
    }
}

/// A place's hold on a shared connection.
pub(super) struct Hold(Rc<Trunk>);

impl Hold {
    fn on(trunk: Rc<Trunk>) -> Hold {
        trunk.holds.update(|n| n + 1);
        Hold(trunk)
    }

    /// The connection is opened by `task`, and not any more once nobody wants it.
    pub(super) fn opened_by(&self, task: AbortHandle) {
        self.0.opening.set(Some(task));
    }

    /// Ready once the connection is open, with a link of one's own and its date of expiry.
    pub(super) fn poll_link(&self, wire: &Wire, cx: &Context<'_>) -> Poll<Result<(Link, Option<Offset>), End>> {
        match &*self.0.state.borrow() {
            State::Opening => {
                self.0.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
            State::Open(link, expires) => {
                let link = wire.beside(link).expect("only protocols that share connections have a pool");
                Poll::Ready(Ok((link, *expires)))
            }
            State::Failed(end) => Poll::Ready(Err(*end)),
        }
    }

    /// Nobody else is to come on it.
    pub(super) fn retire(&self) {
        self.0.retired.set(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.retired.get()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.update(|n| n - 1);
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Request};
    use crate::protocol::{Destination, Trust};
    use crate::units::Span;

    fn wire() -> Wire {
        let destination = Destination::read("http://shop/", Trust::default()).expect("a URL");
        let request =
            Request { method: "GET".into(), path: "/".into(), headers: vec![], body: vec![], timeout: Span::from_secs(1) };
        Wire::new(&destination, plan::Protocol::Http2, &[request], "x-pod", Arc::default()).expect("a request")
    }

    /// What two connections with two places each offer.
    fn ask(pool: &Pool, wire: &Wire, gauges: &Arc<Gauges>) -> (&'static str, Option<Hold>) {
        match pool.offer(wire, 2, 2, gauges) {
            Offer::Open(hold, _) => ("open", Some(hold)),
            Offer::Take(hold) => ("take", Some(hold)),
            Offer::Wait(_) => ("wait", None),
        }
    }

    #[test]
    fn connections_are_opened_before_they_are_shared_and_old_ones_make_room_for_as_many_more() {
        let (pool, wire, gauges) = (Pool::default(), wire(), Arc::default());
        let ask = || ask(&pool, &wire, &gauges);
        let holds: Vec<(&str, Option<Hold>)> = (0..5).map(|_| ask()).collect();
        let said: Vec<&str> = holds.iter().map(|(said, _)| *said).collect();
        assert_eq!((said, gauges.connections()), (vec!["open", "open", "take", "take", "wait"], 2));
        let on = |n: usize| holds[n].1.as_ref().expect("it has one");
        assert!(!Rc::ptr_eq(&on(2).0, &on(3).0), "the one with fewer places comes first");

        // Each that is old has a successor, while it keeps those that it has; but not more than as many again.
        on(0).retire();
        on(1).retire();
        let successors: Vec<(&str, Option<Hold>)> = (0..4).map(|_| ask()).collect();
        let said: Vec<&str> = successors.iter().map(|(said, _)| *said).collect();
        assert_eq!((said, gauges.connections()), (vec!["open", "open", "take", "take"], 4));
        successors.iter().for_each(|(_, hold)| hold.as_ref().expect("it has one").retire());
        assert_eq!(ask().0, "wait");

        // A connection is gone with the last place on it.
        drop(successors);
        assert_eq!(gauges.connections(), 2);
        let (said, next) = ask();
        assert_eq!((said, gauges.connections()), ("open", 3));
        drop((holds, next));
        assert_eq!(gauges.connections(), 0);
    }

    #[test]
    fn who_waits_for_a_connection_is_told_how_opening_it_went() {
        let (pool, wire, gauges) = (Pool::default(), wire(), Arc::default());
        let Offer::Open(first, trunk) = pool.offer(&wire, 1, 8, &gauges) else { panic!("there is none yet") };
        let Offer::Take(second) = pool.offer(&wire, 1, 8, &gauges) else { panic!("it is about to be open") };
        let cx = Context::from_waker(Waker::noop());
        assert!(first.poll_link(&wire, &cx).is_pending() && second.poll_link(&wire, &cx).is_pending());
        trunk.upgrade().expect("two want it").opened(Err(End::ConnectionRefused));
        for hold in [&first, &second] {
            assert!(matches!(hold.poll_link(&wire, &cx), Poll::Ready(Err(End::ConnectionRefused))));
        }
        assert!(matches!(pool.offer(&wire, 1, 8, &gauges), Offer::Open(..)), "whoever comes next tries again");
    }
}
