//! Waiting until a request is due, to tens of microseconds: a timerfd with the kernel's slack turned off. The runtime's own timers
//! are a millisecond coarse, which would be the largest part of the latency that is reported, and would send in bursts that the
//! plan never asked for.
//!
//! A wake-up costs about 20 us of CPU, so precision has to be given up where the core has no room for it: the [`Window`] says how much
//! later than the first request that is due a wake-up may come, and so how many are sent together.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::plan::Pacing;
use crate::time::{monotonic_now, thread_cpu};

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

/// The widest that a window gets: at a millisecond the service sees bursts, and reports say so.
const WIDEST: Duration = Duration::from_millis(1);
/// The least that is worth having: below it a wake-up serves one request anyway.
const LEAST: Duration = Duration::from_micros(10);
/// The share of its core that a worker may use before adaptive pacing widens the window. Above four fifths the certificate calls it
/// saturated.
const CPU_MOST: f64 = 0.70;
/// The share below which the window narrows again. The gap keeps it from swinging.
const CPU_ROOM: f64 = 0.60;
/// How often the share is looked at: often enough to act within a burst, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(100);

/// How much later than the first request that is due a wake-up may come.
pub(super) struct Window {
    pacing: Pacing,
    width: Cell<Duration>,
    /// When the CPU was last looked at, and what had been used by then.
    looked: Cell<(Instant, Duration)>,
}

impl Window {
    /// The window of the thread that makes it.
    pub(super) fn new(pacing: Pacing) -> Window {
        let width = match pacing {
            Pacing::Precise | Pacing::Adaptive => Duration::ZERO,
            Pacing::Coarse => WIDEST,
        };
        Window { pacing, width: Cell::new(width), looked: Cell::new((monotonic_now(), thread_cpu())) }
    }

    pub(super) fn width(&self) -> Duration {
        self.width.get()
    }

    /// Fits the window to what the thread has used since the last look, where it is time for one; whether it changed.
    pub(super) fn adapt(&self, now: Instant) -> bool {
        let (then, before) = self.looked.get();
        let elapsed = now.saturating_duration_since(then);
        if self.pacing != Pacing::Adaptive || elapsed < LOOK {
            return false;
        }
        let spent = thread_cpu();
        self.looked.set((now, spent));
        let width = fitted(self.width.get(), spent.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64());
        self.width.replace(width) != width
    }
}

/// The next width after `width`, with which the thread used `cpu` of its core.
fn fitted(width: Duration, cpu: f64) -> Duration {
    if cpu > CPU_MOST {
        // In proportion to what is too much, so that a sudden burst is caught up with in a few looks.
        (width.max(LEAST).mul_f64(1.0 + 4.0 * (cpu - CPU_MOST))).min(WIDEST)
    } else if cpu < CPU_ROOM {
        Some(width.mul_f64(0.8)).filter(|narrower| *narrower >= LEAST).unwrap_or_default()
    } else {
        width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_widens_while_the_core_is_full_and_closes_when_there_is_room() {
        let mut width = Duration::ZERO;
        let mut looks = 0;
        while width < WIDEST {
            width = fitted(width, 0.95);
            looks += 1;
        }
        assert!((2..=10).contains(&looks), "a second is long: {looks}");
        assert_eq!(fitted(width, 0.65), width, "between the two it stays");
        let mut narrowing = 0;
        while width > Duration::ZERO {
            width = fitted(width, 0.3);
            narrowing += 1;
        }
        assert!((5..=30).contains(&narrowing), "{narrowing}");
    }

    #[test]
    fn only_adaptive_pacing_adapts() {
        for (pacing, width) in [(Pacing::Precise, Duration::ZERO), (Pacing::Coarse, WIDEST)] {
            let window = Window::new(pacing);
            assert!(!window.adapt(monotonic_now() + LOOK));
            assert_eq!(window.width(), width);
        }
        // Nothing but a moment of this thread's time lies between: no window is needed.
        let window = Window::new(Pacing::Adaptive);
        assert!(!window.adapt(monotonic_now() + 100 * LOOK));
        assert_eq!(window.width(), Duration::ZERO);
    }
}
