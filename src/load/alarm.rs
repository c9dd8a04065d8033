//! The time limit of what a connection is doing. One timer per connection, touched about once per timeout rather than once per
//! request: it is left to ring early, and only then set to the moment that really counts.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// A timer that can be used again and again, by one task at a time: see [`Alarm::moves`].
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it rings.
    set: Instant,
    /// It knows whom to wake. Telling it each time that there is nothing to do yet would cost more than the rest of a request.
    told: bool,
}

impl Alarm {
    pub(super) fn new(deadline: Instant) -> Alarm {
        Alarm { sleep: Box::pin(tokio::time::sleep_until(deadline.into())), set: deadline, told: false }
    }

    /// Does `work` until `deadline`; `None` when that passed first. What is finished when the deadline passes counts as finished.
    /// It is pinned where it stands: as a value, it would be moved with each request.
    pub(super) fn race<'a, T>(
        &'a mut self,
        deadline: Instant,
        mut work: Pin<&'a mut (impl Future<Output = T> + 'a)>,
    ) -> impl Future<Output = Option<T>> + 'a {
        if self.set > deadline {
            self.set(deadline);
        }
        poll_fn(move |cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if self.told && !self.sleep.is_elapsed() {
                return Poll::Pending;
            }
            // Outside of the task's budget: work that never runs out of bytes to read uses that up each time, and the runtime would then
            // say of every timer that it has not rung.
            while pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_ready() {
                if self.set >= deadline {
                    return Poll::Ready(None);
                }
                self.set(deadline);
            }
            self.told = true;
            Poll::Pending
        })
    }

    /// Another task will use it: whom it knows to wake is not the one that waits next.
    pub(super) fn moves(&mut self) {
        self.told = false;
    }

    fn set(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline.into());
        self.set = deadline;
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::monotonic_now;

    /// Goal: an alarm that is set early enough for one request neither cuts the next one short nor lets it run on. Only lower bounds
    /// are checked against the clock, so that a busy machine cannot fail it.
    #[tokio::test]
    async fn an_alarm_serves_many_deadlines() {
        let start = monotonic_now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let mut alarm = Alarm::new(after(10));
        assert_eq!(alarm.race(after(60_000), pin!(async { 1 })).await, Some(1));
        let slow = tokio::time::sleep_until(after(40).into());
        assert_eq!(alarm.race(after(60_000), pin!(slow)).await, Some(()), "the old alarm at 10 ms must not end it");
        assert_eq!(
            alarm.race(after(80), pin!(std::future::pending::<()>())).await,
            None,
            "a later alarm is set back to the deadline"
        );
        assert!(monotonic_now() >= after(80));
        assert_eq!(alarm.race(after(50), pin!(std::future::pending::<()>())).await, None, "a deadline in the past has passed");
        assert_eq!(alarm.race(after(50), pin!(async { 2 })).await, Some(2), "what is finished counts as finished");
    }

    /// Goal: an alarm that another task uses wakes that one. How: a task waits with it for a moment, and another until it rings.
    #[tokio::test]
    async fn an_alarm_that_moves_wakes_who_has_it_now() {
        let rings = monotonic_now() + Duration::from_millis(200);
        let mut alarm = Alarm::new(rings);
        let first = tokio::spawn(async move {
            let done = alarm.race(rings, pin!(tokio::task::yield_now())).await;
            alarm.moves();
            (done, alarm)
        });
        let (done, mut alarm) = first.await.expect("it ends");
        assert_eq!(done, Some(()));
        let second = tokio::spawn(async move { alarm.race(rings, pin!(std::future::pending::<()>())).await });
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), second).await.expect("it rings").expect("it ends"), None);
    }

    /// Goal: work that always has something to do is ended like any other. How: a peer that sends faster than it is read looks like
    /// this, and a load used to read on for ever.
    #[tokio::test]
    async fn an_alarm_ends_work_that_never_rests() {
        let start = monotonic_now();
        let mut alarm = Alarm::new(start + Duration::from_millis(20));
        let busy = async {
            loop {
                tokio::task::coop::consume_budget().await;
            }
        };
        let mut busy = pin!(busy);
        let watched = tokio::time::timeout(Duration::from_secs(20), alarm.race(start + Duration::from_millis(20), busy.as_mut()));
        assert_eq!(watched.await, Ok(None));
    }
}
