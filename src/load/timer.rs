//! A timer of the kernel, to tens of microseconds: a timerfd. The runtime's own timers are a millisecond coarse, and cost something even
//! while they wait: with one of them set, the runtime and the kernel look at the clock whenever they look for what has come.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the runtime that it was made in.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// # Errors
    /// When the kernel gives none, most likely for want of file descriptors.
    pub(super) fn new() -> io::Result<Timer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is open, since `timerfd_create` just returned it. The `OwnedFd` moves into the `AsyncFd` and is only
        // ever borrowed from there, so that it stays open, and the same one, for as long as it is registered.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Timer(timer))
    }

    /// Waits `time`. May return early; the caller looks at the clock anyway.
    pub(super) async fn wait(&self, time: Duration) {
        // Zero would switch the timer off.
        let time = time.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Setting it also forgets an expiry that nobody waited for, so that there is no need to read the descriptor; where the runtime has
        // heard of that one already, one return is early.
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value: value })
            .expect("the kernel keeps a timer that it gave");
        self.0.readable().await.expect("the runtime goes on for as long as its tasks").clear_ready();
    }
}
