//! Waiting until a request is due, to some microseconds: a timer of the kernel's, with its slack turned off. A coarser one would be the
//! largest part of the latency that is reported, and would send in bursts that the plan never asked for. What is left is the way from
//! a timer to a thread that runs, which takes the kernel tens of microseconds: the timer is set so much earlier ([`Pacer::lead`]), and
//! who is awake too early looks around until it is time.
//!
//! A wake-up costs about 20 us of CPU, so precision has to be given up where the core has no room for it: first the time spent awake
//! before what is due, and then the [`Window`] says how much later than that a wake-up may come, and so how many are sent together.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::timer::Timer;
use crate::plan::Pacing;
use crate::time::{monotonic_now, thread_cpu};

/// The most that a timer is set early, and so what each wake-up may spend on waiting awake. Waking up takes longer than that only
/// where the core is busy with something else, of which more waiting would take even more.
const LEAD_MOST: Duration = Duration::from_micros(60);
/// By how much the lead changes with each wake-up: little enough to rest near the median, and some hundred of them are enough to find it.
const LEAD_STEP: Duration = Duration::from_nanos(500);

/// A precise timer of the thread that made it.
pub(super) struct Pacer {
    timer: Timer,
    /// How much earlier than it is due a wake-up is asked for.
    lead: Cell<Duration>,
}

impl Pacer {
    /// Also turns off the timer slack of this thread, by which the kernel would bundle wake-ups up to 50 microseconds apart.
    ///
    /// # Errors
    /// As [`Timer::new`].
    pub(super) fn new() -> io::Result<Pacer> {
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
            tracing::warn!(%error, "cannot turn off timer slack; requests will be up to 50 us later");
        }
        Ok(Pacer { timer: Timer::new()?, lead: Cell::new(Duration::ZERO) })
    }

    /// How much earlier than what is due the timer is to be set: what every other wake-up stays below, learned from those before.
    pub(super) fn lead(&self) -> Duration {
        self.lead.get()
    }

    /// Who asked to be woken for what is due in time is awake, `early` enough for it or not: the lead moves towards the median of what
    /// waking up takes.
    pub(super) fn woke(&self, early: bool) {
        let lead = self.lead.get();
        self.lead.set(if early { lead.saturating_sub(LEAD_STEP) } else { (lead + LEAD_STEP).min(LEAD_MOST) });
    }

    /// Waits `time`. May return early; the caller looks at the clock anyway.
    pub(super) async fn wait(&self, time: Duration) {
        self.timer.wait(time).await;
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

/// How much later than the first request that is due a wake-up may come, and how long before that one may wait awake.
pub(super) struct Window {
    pacing: Pacing,
    fit: Cell<Fit>,
    /// When the CPU was last looked at, and what had been used by then.
    looked: Cell<(Instant, Duration)>,
}

impl Window {
    /// The window of the thread that makes it.
    pub(super) fn new(pacing: Pacing) -> Window {
        let fit = match pacing {
            Pacing::Precise | Pacing::Adaptive => Fit { width: Duration::ZERO, lead: LEAD_MOST },
            Pacing::Coarse => Fit { width: WIDEST, lead: Duration::ZERO },
        };
        Window { pacing, fit: Cell::new(fit), looked: Cell::new((monotonic_now(), thread_cpu())) }
    }

    pub(super) fn width(&self) -> Duration {
        self.fit.get().width
    }

    /// The most that the timer is set early; nothing where there is a window.
    pub(super) fn lead(&self) -> Duration {
        self.fit.get().lead
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
        let fit = self.fit.get().after(spent.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64());
        self.fit.replace(fit).width != fit.width
    }
}

/// What precision costs, more of the one or of the other: a lead costs CPU, a width saves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fit {
    width: Duration,
    lead: Duration,
}

impl Fit {
    /// The next one after this, with which the thread used `cpu` of its core.
    fn after(self, cpu: f64) -> Fit {
        let Fit { width, lead } = self;
        if cpu > CPU_MOST && !lead.is_zero() {
            Fit { lead: Duration::ZERO, ..self }
        } else if cpu > CPU_MOST {
            // In proportion to what is too much, so that a sudden burst is caught up with in a few looks.
            Fit { width: width.max(LEAST).mul_f64(1.0 + 4.0 * (cpu - CPU_MOST)).min(WIDEST), ..self }
        } else if cpu < CPU_ROOM && !width.is_zero() {
            Fit { width: Some(width.mul_f64(0.8)).filter(|narrower| *narrower >= LEAST).unwrap_or_default(), ..self }
        } else if cpu < CPU_ROOM {
            // In steps: how much it costs hangs on the rate.
            Fit { lead: (lead + LEAST).min(LEAD_MOST), ..self }
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_widens_while_the_core_is_full_and_closes_when_there_is_room() {
        let precise = Fit { width: Duration::ZERO, lead: LEAD_MOST };
        let mut fit = precise.after(0.95);
        assert_eq!(fit, Fit { width: Duration::ZERO, lead: Duration::ZERO }, "waiting awake is what is given up first");
        let mut looks = 0;
        while fit.width < WIDEST {
            fit = fit.after(0.95);
            looks += 1;
        }
        assert!((2..=10).contains(&looks), "a second is long: {looks}");
        assert_eq!(fit.after(0.65), fit, "between the two it stays");
        let mut narrowing = 0;
        while fit.width > Duration::ZERO {
            fit = fit.after(0.3);
            assert_eq!(fit.lead, Duration::ZERO, "a window makes late, a lead early: both together are no use");
            narrowing += 1;
        }
        assert!((5..=30).contains(&narrowing), "{narrowing}");
        let looks = (1..).find(|_| {
            fit = fit.after(0.3);
            fit == precise
        });
        assert!(looks.is_some_and(|looks| (3..=10).contains(&looks)), "the way back has steps: {looks:?}");
    }

    /// Goal: a timer is set early by what waking up takes. How: wake-ups of a kind that takes 40 us, give or take 20.
    #[tokio::test]
    async fn the_lead_finds_the_median_of_wake_ups() {
        let pacer = Pacer::new().expect("a timer");
        let takes = |n: u64| Duration::from_micros(20 + (n * 7) % 41);
        for n in 0..1_000 {
            pacer.woke(takes(n) < pacer.lead());
        }
        assert!((35..=45).contains(&pacer.lead().as_micros()), "{:?}", pacer.lead());
        for _ in 0..1_000 {
            pacer.woke(false);
        }
        assert_eq!(pacer.lead(), LEAD_MOST, "of a busy core it does not ask for ever more");
        for _ in 0..1_000 {
            pacer.woke(true);
        }
        assert_eq!(pacer.lead(), Duration::ZERO);
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
