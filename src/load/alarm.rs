//! The time limits of what a worker's connections are doing. One alarm per connection, touched about once per timeout rather than once
//! per request: it is left to ring early, and only then set to the moment that really counts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::timer::Timer;
use crate::time::{Clock, Offset};

/// How long a worker sleeps in which no alarm is set.
const IDLE: Duration = Duration::from_secs(60);

/// The alarms of a worker that are set, by when they ring, over one timer of the kernel.
pub(super) struct Alarms {
    clock: Clock,
    timer: Timer,
    set: RefCell<BTreeMap<(Offset, u64), Rc<Bell>>>,
    /// Numbers them, so that two of the same moment are two.
    counter: Cell<u64>,
    /// There is one that rings before all others.
    sooner: Notify,
}

/// What a ringing alarm strikes.
#[derive(Default)]
struct Bell {
    struck: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Alarms {
    /// # Errors
    /// As [`Timer::new`].
    pub(super) fn new(clock: Clock) -> io::Result<Rc<Alarms>> {
        let (timer, set, counter, sooner) = (Timer::new()?, RefCell::default(), Cell::new(0), Notify::new());
        Ok(Rc::new(Alarms { clock, timer, set, counter, sooner }))
    }

    /// Rings them, for ever.
    pub(super) async fn ring(self: Rc<Alarms>) {
        loop {
            let now = self.clock.now();
            while let Some(bell) = self.struck_by(now) {
                bell.struck.set(true);
                if let Some(waker) = bell.waker.take() {
                    waker.wake();
                }
            }
            let next = self.set.borrow().first_key_value().map(|((at, _), _)| at.since(now));
            tokio::select! {
                () = self.timer.wait(next.unwrap_or(IDLE)) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// The first, where it rings by `now`. It is set no more.
    fn struck_by(&self, now: Offset) -> Option<Rc<Bell>> {
        let mut set = self.set.borrow_mut();
        let first = set.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Sets one, and returns its number.
    fn add(&self, at: Offset, bell: &Rc<Bell>) -> u64 {
        let number = self.counter.replace(self.counter.get() + 1);
        let mut set = self.set.borrow_mut();
        if set.first_key_value().is_none_or(|((first, _), _)| at < *first) {
            self.sooner.notify_one();
        }
        set.insert((at, number), bell.clone());
        number
    }
}

/// An alarm that can be used again and again, by one task at a time: see [`Alarm::moves`].
pub(super) struct Alarm {
    alarms: Rc<Alarms>,
    bell: Rc<Bell>,
    /// When it rings, or rang, and its number; `None` before it was ever set.
    set: Option<(Offset, u64)>,
    /// The bell knows whom to wake. Telling it each time that there is nothing to do yet would cost more than the rest of a request.
    told: bool,
}

impl Alarm {
    pub(super) fn new(alarms: &Rc<Alarms>) -> Alarm {
        Alarm { alarms: alarms.clone(), bell: Rc::default(), set: None, told: false }
    }

    /// Does `work` until `deadline`; `None` when that passed first. What is finished when the deadline passes counts as finished.
    /// It is pinned where it stands: as a value, it would be moved with each request.
    pub(super) fn race<'a, T>(
        &'a mut self,
        deadline: Offset,
        mut work: Pin<&'a mut (impl Future<Output = T> + 'a)>,
    ) -> impl Future<Output = Option<T>> + 'a {
        poll_fn(move |cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll_rings(cx, deadline).map(|()| None),
        })
    }

    /// Waits until `deadline`.
    pub(super) async fn rings(&mut self, deadline: Offset) {
        poll_fn(|cx| self.poll_rings(cx, deadline)).await;
    }

    /// Ready when `deadline` has passed. Whatever is to be done before that is tried first.
    pub(super) fn poll_rings(&mut self, cx: &mut Context<'_>, deadline: Offset) -> Poll<()> {
        match self.set {
            Some((at, _)) if at <= deadline && !self.bell.struck.get() => {}
            Some((at, _)) if at >= deadline && self.bell.struck.get() => return Poll::Ready(()),
            _ if deadline <= self.alarms.clock.now() => return Poll::Ready(()),
            _ => self.set(deadline),
        }
        if !self.told {
            self.bell.waker.set(Some(cx.waker().clone()));
            self.told = true;
        }
        Poll::Pending
    }

    /// Another task will use it: whom it knows to wake is not the one that waits next.
    pub(super) fn moves(&mut self) {
        self.told = false;
    }

    fn set(&mut self, deadline: Offset) {
        self.clear();
        self.bell.struck.set(false);
        self.set = Some((deadline, self.alarms.add(deadline, &self.bell)));
        // It is forgotten by a bell that was struck.
        self.told = false;
    }

    fn clear(&mut self) {
        if let Some(set) = self.set.take() {
            self.alarms.set.borrow_mut().remove(&set);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// Runs what uses alarms, with moments so many milliseconds from the zero of their clock, which is now.
    async fn with_alarms<F: Future>(test: impl FnOnce(Rc<Alarms>, fn(u64) -> Offset) -> F) -> F::Output {
        let run = async {
            let alarms = Alarms::new(Clock::starting_in(Duration::ZERO)).expect("a timer");
            spawn_local(alarms.clone().ring());
            test(alarms, |ms| Offset::ZERO + Duration::from_millis(ms)).await
        };
        LocalSet::new().run_until(run).await
    }

    /// Goal: an alarm that is set early enough for one request neither cuts the next one short nor lets it run on. Only lower bounds
    /// are checked against the clock, so that a busy machine cannot fail it.
    #[tokio::test]
    async fn an_alarm_serves_many_deadlines() {
        with_alarms(async |alarms, after| {
            let clock = alarms.clock;
            let mut alarm = Alarm::new(&alarms);
            let mut other = Alarm::new(&alarms);
            assert_eq!(alarm.race(after(10), pin!(other.rings(after(5)))).await, Some(()), "one rings after the other");
            assert_eq!(alarm.race(after(60_000), pin!(async { 1 })).await, Some(1));
            let slow = tokio::time::sleep_until(clock.instant(after(40)).into());
            assert_eq!(alarm.race(after(60_000), pin!(slow)).await, Some(()), "the old alarm at 10 ms must not end it");
            assert_eq!(
                alarm.race(after(80), pin!(std::future::pending::<()>())).await,
                None,
                "a later alarm is set back to the deadline"
            );
            assert!(clock.now() >= after(80));
            assert_eq!(alarm.race(after(50), pin!(std::future::pending::<()>())).await, None, "a deadline in the past has passed");
            assert_eq!(alarm.race(after(50), pin!(async { 2 })).await, Some(2), "what is finished counts as finished");
            drop((alarm, other));
            assert!(alarms.set.borrow().is_empty(), "what is gone rings no more");
        })
        .await;
    }

    /// Goal: each of many alarms rings, none before its moment, whatever the order in which they are set.
    #[tokio::test]
    async fn each_of_many_alarms_rings_and_none_too_soon() {
        with_alarms(async |alarms, after| {
            let clock = alarms.clock;
            let tasks: Vec<_> = (0..50_u64)
                .map(|n| {
                    let (alarms, at) = (alarms.clone(), after((n * 17) % 50));
                    spawn_local(async move {
                        Alarm::new(&alarms).rings(at).await;
                        assert!(clock.now() >= at);
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("it rings");
            }
            assert!(alarms.set.borrow().is_empty());
        })
        .await;
    }

    /// Goal: an alarm that another task uses wakes that one. How: a task waits with it for a moment, and another until it rings.
    #[tokio::test]
    async fn an_alarm_that_moves_wakes_who_has_it_now() {
        with_alarms(async |alarms, after| {
            let mut alarm = Alarm::new(&alarms);
            let first = spawn_local(async move {
                let done = alarm.race(after(200), pin!(tokio::task::yield_now())).await;
                alarm.moves();
                (done, alarm)
            });
            let (done, mut alarm) = first.await.expect("it ends");
            assert_eq!(done, Some(()));
            let second = spawn_local(async move { alarm.race(after(200), pin!(std::future::pending::<()>())).await });
            assert_eq!(tokio::time::timeout(Duration::from_secs(20), second).await.expect("it rings").expect("it ends"), None);
        })
        .await;
    }

    /// Goal: work that always has something to do is ended like any other. How: a peer that sends faster than it is read looks like
    /// this, and a load used to read on for ever.
    #[tokio::test]
    async fn an_alarm_ends_work_that_never_rests() {
        with_alarms(async |alarms, after| {
            let mut alarm = Alarm::new(&alarms);
            let busy = async {
                loop {
                    tokio::task::coop::consume_budget().await;
                }
            };
            let mut busy = pin!(busy);
            let watched = tokio::time::timeout(Duration::from_secs(20), alarm.race(after(20), busy.as_mut()));
            assert_eq!(watched.await, Ok(None));
        })
        .await;
    }
}
