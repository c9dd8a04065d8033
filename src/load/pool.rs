//! Connections that carry several requests at once, and which of them a place goes to: a new one as long as the plan allows another,
//! else the one with the fewest places on it. Balancers choose once per connection, so that few connections would be few pods.
//!
//! A connection is closed with the last place that lets go of it. One that has grown old or takes no new requests keeps the requests
//! that it carries, gets no others, and is closed after the last of them, whoever still rests on it; its successor opens beside it, so
//! that for that while there are more connections than the plan allows, at most twice as many.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::alarm::Alarm;
use super::dial::{Life, dial};
use super::gauges::Gauges;
use super::lane::Lane;
use super::log::Window;
use crate::protocol::{End, Link, Protocol, Wire};
use crate::time::Offset;
use crate::varying::Values;

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
        // Who rests on one that is of no use any more will find that out, and must not keep others from a successor until then.
        trunks.retain(|trunk| trunk.upgrade().is_some_and(|trunk| trunk.is_fit(wire) || !trunk.closed_at_rest(wire)));
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

/// Takes hold of one of `lane`'s shared connections for a request of `window`, with a link of one's own and what is known of the connection. `crowded` is true for
/// as long as none of those that the plan allows has room.
pub(super) async fn take(pool: &Pool, lane: &Rc<Lane>, window: Window, crowded: &mut bool) -> Result<(Hold, Link, Life), End> {
    let hold = loop {
        match pool.offer(&lane.wire, lane.connection_limit, lane.streams, &lane.gauges) {
            // It grew old while everybody on it rested.
            Offer::Take(hold) if hold.is_old(lane.clock.now()) => {
                hold.retire(&lane.wire);
                hold.rests(&lane.wire);
            }
            Offer::Take(hold) => break hold,
            Offer::Open(hold, trunk) => {
                // In a task of its own: others may wait for it when the first who wanted it has given up.
                let opener = lane.clone();
                hold.opened_by(lane.spawn(async move {
                    // Nor for longer than any of them would: somebody always comes who would wait for one that never opens.
                    let deadline = opener.clock.now() + opener.timeout;
                    // What many requests share has the values of none.
                    let values = Values::new();
                    let done = Alarm::new(&opener.alarms).race(deadline, pin!(dial(&opener, window, &values))).await;
                    let done = done.unwrap_or(Err(End::NoConnectionInTime));
                    if let Some(trunk) = trunk.upgrade() {
                        trunk.opened(done);
                    }
                }));
                break hold;
            }
            Offer::Wait(room) => {
                *crowded = true;
                room.notified().await;
                *crowded = false;
            }
        }
    };
    let (link, life) = poll_fn(|cx| hold.poll_link(&lane.wire, cx)).await?;
    Ok((hold, link, life))
}

/// A shared connection, from the moment when it is first wanted.
struct Trunk {
    state: RefCell<State>,
    holds: Cell<usize>,
    /// Those of the holds that have a request for it.
    busy: Cell<usize>,
    /// Requests that it has carried.
    carried: Cell<u32>,
    retired: Cell<bool>,
    closed: Cell<bool>,
    /// The task that opens it.
    opening: Cell<Option<AbortHandle>>,
    /// Who waits until it is open, by the number of their hold.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    /// Numbers the holds.
    counter: Cell<u64>,
    gauges: Arc<Gauges>,
    room: Rc<Notify>,
}

enum State {
    Opening,
    Open(Link, Life),
    Failed(End),
}

impl Trunk {
    fn new(gauges: Arc<Gauges>, room: Rc<Notify>) -> Trunk {
        gauges.more_connections();
        Trunk {
            state: RefCell::new(State::Opening),
            holds: Cell::new(0),
            busy: Cell::new(0),
            carried: Cell::new(0),
            retired: Cell::new(false),
            closed: Cell::new(false),
            opening: Cell::default(),
            waiting: RefCell::default(),
            counter: Cell::new(0),
            gauges,
            room,
        }
    }

    /// Tells everybody on it how opening it went; `Ok` holds the first link and what is known of the connection.
    pub(super) fn opened(&self, done: Result<(Link, Life), End>) {
        *self.state.borrow_mut() = match done {
            Ok((link, life)) => State::Open(link, life),
            Err(end) => State::Failed(end),
        };
        self.waiting.take().into_values().for_each(Waker::wake);
    }

    fn is_fit(&self, wire: &Wire) -> bool {
        !self.retired.get()
            && match &mut *self.state.borrow_mut() {
                State::Opening => true,
                State::Open(link, _) => wire.stands(link),
                State::Failed(_) => false,
            }
    }

    /// Closes it unless it carries a request, and says whether it did.
    fn closed_at_rest(&self, wire: &Wire) -> bool {
        let rests = self.busy.get() == 0;
        if rests && !self.closed.replace(true) {
            if let State::Open(link, _) = &*self.state.borrow() {
                wire.close(link);
            }
            self.gauges.less_connections();
        }
        rests
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        if let Some(task) = self.opening.take() {
            task.abort();
        }
        if !self.closed.get() {
            self.gauges.less_connections();
        }
    }
}

/// A place's hold on a shared connection. It is taken for a request.
pub(super) struct Hold {
    trunk: Rc<Trunk>,
    number: u64,
    busy: Cell<bool>,
}

impl Hold {
    fn on(trunk: Rc<Trunk>) -> Hold {
        trunk.holds.update(|n| n + 1);
        trunk.busy.update(|n| n + 1);
        let number = trunk.counter.replace(trunk.counter.get() + 1);
        Hold { trunk, number, busy: Cell::new(true) }
    }

    /// There is a request for it again.
    pub(super) fn works(&self) {
        if !self.busy.replace(true) {
            self.trunk.busy.update(|n| n + 1);
        }
    }

    /// There is none for it until further notice.
    pub(super) fn rests(&self, wire: &Wire) {
        if self.busy.replace(false) {
            self.trunk.busy.update(|n| n - 1);
            self.close_if_retired(wire);
        }
    }

    fn close_if_retired(&self, wire: &Wire) {
        if self.trunk.retired.get() && self.trunk.closed_at_rest(wire) {
            self.trunk.room.notify_waiters();
        }
    }

    /// The connection is opened by `task`, and not any more once nobody wants it.
    pub(super) fn opened_by(&self, task: AbortHandle) {
        self.trunk.opening.set(Some(task));
    }

    /// Ready once the connection is open, with a link of one's own and what is known of it.
    pub(super) fn poll_link(&self, wire: &Wire, cx: &Context<'_>) -> Poll<Result<(Link, Life), End>> {
        match &*self.trunk.state.borrow() {
            State::Opening => {
                self.trunk.waiting.borrow_mut().insert(self.number, cx.waker().clone());
                Poll::Pending
            }
            State::Open(link, life) => {
                let link = wire.beside(link).expect("only protocols that share connections have a pool");
                Poll::Ready(Ok((link, *life)))
            }
            State::Failed(end) => Poll::Ready(Err(*end)),
        }
    }

    /// It has carried a request, and so many in all.
    pub(super) fn counts_one(&self) -> u32 {
        self.trunk.carried.update(|n| n.saturating_add(1));
        self.trunk.carried.get()
    }

    /// Nobody else is to come on it.
    pub(super) fn retire(&self, wire: &Wire) {
        self.trunk.retired.set(true);
        self.close_if_retired(wire);
    }

    /// Whether the connection, if it is open, has grown old by `now`.
    fn is_old(&self, now: Offset) -> bool {
        matches!(&*self.trunk.state.borrow(), State::Open(_, life) if life.is_old(now))
    }

    pub(super) fn is_retired(&self) -> bool {
        self.trunk.retired.get()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.trunk.holds.update(|n| n - 1);
        self.trunk.waiting.borrow_mut().remove(&self.number);
        if self.busy.get() {
            self.trunk.busy.update(|n| n - 1);
        }
        self.trunk.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Wanted;
    use crate::plan::{self, Request, Talk};
    use crate::protocol::{Destination, Trust};
    use crate::units::Span;

    fn wire() -> Wire {
        let destination = Destination::read("http://shop/", Trust::default()).expect("a URL");
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            headers: vec![],
            body: vec![],
            timeout: Span::from_secs(1),
            wanted: Wanted::default(),
            talk: Talk::Http,
        };
        Wire::new(&destination, plan::Protocol::Http2, &[request], &[], "x-pod", Arc::default()).expect("a request")
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
        assert!(!Rc::ptr_eq(&on(2).trunk, &on(3).trunk), "the one with fewer places comes first");

        // Each that is old has a successor, while it keeps those that it has; but not more than as many again.
        on(0).retire(&wire);
        on(1).retire(&wire);
        let successors: Vec<(&str, Option<Hold>)> = (0..4).map(|_| ask()).collect();
        let said: Vec<&str> = successors.iter().map(|(said, _)| *said).collect();
        assert_eq!((said, gauges.connections()), (vec!["open", "open", "take", "take"], 4));
        successors.iter().for_each(|(_, hold)| hold.as_ref().expect("it has one").retire(&wire));
        assert_eq!(ask().0, "wait");

        // A connection is gone with the last place on it.
        drop(successors);
        assert_eq!(gauges.connections(), 2);
        let (said, next) = ask();
        assert_eq!((said, gauges.connections()), ("open", 3));
        drop((holds, next));
        assert_eq!(gauges.connections(), 0);
    }

    /// Goal: who rests on an old connection, as a user who thinks for longer than connections live, keeps nobody from a new one.
    #[test]
    fn an_old_connection_is_closed_with_its_last_request_whoever_rests_on_it() {
        let (pool, wire, gauges) = (Pool::default(), wire(), Arc::default());
        let mut resting = Vec::new();
        for _ in 0..5 {
            let generation: Vec<(&str, Option<Hold>)> = (0..4).map(|_| ask(&pool, &wire, &gauges)).collect();
            let said: Vec<&str> = generation.iter().map(|(said, _)| *said).collect();
            assert_eq!((said, gauges.connections()), (vec!["open", "open", "take", "take"], 2));
            let holds: Vec<Hold> = generation.into_iter().filter_map(|(_, hold)| hold).collect();
            holds[..2].iter().for_each(|hold| hold.retire(&wire));
            holds[..3].iter().for_each(|hold| hold.rests(&wire));
            assert_eq!(gauges.connections(), 1, "one of the old ones still carries a request");
            holds[3].rests(&wire);
            assert_eq!(gauges.connections(), 0);
            resting.extend(holds);
        }
        drop(resting);
        assert_eq!(gauges.connections(), 0, "each is counted out once");
    }

    #[test]
    fn who_waits_for_a_connection_is_told_how_opening_it_went() {
        let (pool, wire, gauges) = (Pool::default(), wire(), Arc::default());
        let Offer::Open(first, trunk) = pool.offer(&wire, 1, 8, &gauges) else { panic!("there is none yet") };
        let Offer::Take(second) = pool.offer(&wire, 1, 8, &gauges) else { panic!("it is about to be open") };
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(first.poll_link(&wire, &cx).is_pending() && second.poll_link(&wire, &cx).is_pending());
        }
        let Offer::Take(third) = pool.offer(&wire, 1, 8, &gauges) else { panic!("it is about to be open") };
        assert!(third.poll_link(&wire, &cx).is_pending());
        drop(third);
        assert_eq!(first.trunk.waiting.borrow().len(), 2, "one for each who waits, and none for who has given up");
        trunk.upgrade().expect("two want it").opened(Err(End::ConnectionRefused));
        for hold in [&first, &second] {
            assert!(matches!(hold.poll_link(&wire, &cx), Poll::Ready(Err(End::ConnectionRefused))));
        }
        assert!(matches!(pool.offer(&wire, 1, 8, &gauges), Offer::Open(..)), "whoever comes next tries again");
    }
}
