//! Waiting until a request is due, to tens of microseconds: a timerfd with the kernel's slack turned off. The runtime's own timers
//! are a millisecond coarse, which would be the largest part of the latency that is reported, and would send in bursts that the
//! plan never asked for.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A precise timer of the thread that made it.
pub(super) struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// Also turns off the timer slack of this thread, by which the kernel would bundle wake-ups up to 50 microseconds apart.
    ///
    /// # Errors
    /// When the kernel gives no timer, most likely for want of file descriptors.
    pub(super) fn new() -> io::Result<Pacer> {
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
            tracing::warn!(%error, "cannot turn off timer slack; requests will be up to 50 us later");
        }
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is open, since `timerfd_create` just returned it. The `OwnedFd` moves into the `AsyncFd` and is only
        // ever borrowed from there, so that it stays open, and the same one, for as long as it is registered.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Pacer { timer })
    }

    /// Waits `time`. May return early; the caller looks at the clock anyway.
    ///
    /// # Errors
    /// When the timer is broken, which only a bug can do.
    pub(super) async fn wait(&self, time: Duration) -> io::Result<()> {
        // Zero would switch the timer off.
        let time = time.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Setting it also forgets an expiry that nobody waited for, so that there is no need to read the descriptor.
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value: value })?;
        self.timer.readable().await?.clear_ready();
        Ok(())
    }
}
