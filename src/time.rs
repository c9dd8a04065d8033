//! The one clock. Everything that happens in a run is stamped with an [`Offset`] from the moment the first phase starts, and
//! this file is the only place in the crate that asks what time it is (a test reads the sources and holds that).
//!
//! Waiting is not asking: timers of tokio and timerfd may be used anywhere, armed from [`Clock::instant`] or [`Offset::since`].

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point in a run: nanoseconds since the first phase started. Negative while the run is getting ready.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Offset(i64);

impl Offset {
    /// The start of the first phase.
    pub const ZERO: Offset = Offset(0);

    /// `nanos` nanoseconds after the start of the first phase.
    pub const fn from_nanos(nanos: i64) -> Offset {
        Offset(nanos)
    }

    /// `seconds` seconds after the start of the first phase, rounded to the nanosecond.
    pub fn from_secs_f64(seconds: f64) -> Offset {
        Offset((seconds * 1e9).round() as i64)
    }

    /// Nanoseconds since the start of the first phase.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the start of the first phase.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The whole second that this point lies in; window 0 starts at [`Offset::ZERO`].
    pub fn second(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// How long after `earlier` this point lies; zero when it lies before.
    pub fn since(self, earlier: Offset) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Add<Duration> for Offset {
    type Output = Offset;
    fn add(self, rhs: Duration) -> Offset {
        Offset(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Offset {
    type Output = Offset;
    fn sub(self, rhs: Duration) -> Offset {
        Offset(self.0.saturating_sub(nanos(rhs)))
    }
}

/// In whole nanoseconds, 292 years where it is longer. Several times per request: without the 128 bits of [`Duration::as_nanos`].
const fn nanos(duration: Duration) -> i64 {
    const SECOND: u64 = 1_000_000_000;
    if duration.as_secs() < i64::MAX as u64 / SECOND {
        (duration.as_secs() * SECOND + duration.subsec_nanos() as u64) as i64
    } else {
        i64::MAX
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.seconds())
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A moment of the same clock as [`Instant`]'s, in nanoseconds since the machine started. Requests are stamped with it: an `Instant` is
/// twice as large, and keeps seconds and nanoseconds apart, which costs a request more than all else that is done with its times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64);
        Moment(NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN))
    }

    /// Now, as both, and how far they may be apart: something may come between the two looks.
    fn with_instant() -> (Duration, Moment, Instant) {
        let before = Moment::now();
        let instant = Instant::now();
        (Duration::from_nanos(Moment::now().0.get().saturating_sub(before.0.get())), before, instant)
    }
}

/// The clock of one run: monotonic, shared by load, faults and observation, with the wall time of its zero for display only.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    /// The same, as nanoseconds of [`Moment`]s.
    zero_nanos: i64,
    zero_wall: jiff::Timestamp,
}

impl Clock {
    /// A clock whose zero, the start of the first phase, lies `lead` in the future: observers synchronise and connections are
    /// prepared in that time, and what they record carries negative offsets.
    pub fn starting_in(lead: Duration) -> Clock {
        // Of several looks, that during which nothing came between.
        let looks = (0..8).map(|_| Moment::with_instant());
        let (_, moment, instant) = looks.min_by_key(|(apart, ..)| *apart).expect("it looks");
        Clock { zero: instant + lead, zero_nanos: moment.0.get() as i64 + nanos(lead), zero_wall: wall_now() + lead }
    }

    /// Now, on this clock.
    pub fn now(&self) -> Offset {
        self.at(Moment::now())
    }

    /// The offset of a moment.
    pub fn at(&self, moment: Moment) -> Offset {
        Offset(moment.0.get() as i64 - self.zero_nanos)
    }

    /// The monotonic instant of `offset`, to arm timers with.
    pub fn instant(&self, offset: Offset) -> Instant {
        if offset.0 >= 0 {
            self.zero + Duration::from_nanos(offset.0 as u64)
        } else {
            self.zero - Duration::from_nanos(offset.0.unsigned_abs())
        }
    }

    /// The offset of a monotonic instant.
    pub fn offset(&self, instant: Instant) -> Offset {
        match instant.checked_duration_since(self.zero) {
            Some(after) => Offset(nanos(after)),
            None => Offset(-nanos(self.zero.duration_since(instant))),
        }
    }

    /// The wall time of `offset`, for display: never used in a judgement, since wall clocks jump.
    pub fn wall(&self, offset: Offset) -> jiff::Timestamp {
        let nanos = self.zero_wall.as_nanosecond() + i128::from(offset.0);
        jiff::Timestamp::from_nanosecond(nanos).unwrap_or(self.zero_wall)
    }
}

/// The wall time, for display, leases that must outlive this process, and API objects.
pub fn wall_now() -> jiff::Timestamp {
    jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// The monotonic time, for durations outside of a run (the sandbox's controllers, the demo workload).
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// Waits for a moment of [`monotonic_now`], or for ever.
pub async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// CPU time that this process has used: what an autoscaler on CPU sees.
pub fn process_cpu() -> Duration {
    cpu_time(rustix::time::ClockId::ProcessCPUTime)
}

/// CPU time that this thread has used, to spend a chosen amount of it.
pub fn thread_cpu() -> Duration {
    cpu_time(rustix::time::ClockId::ThreadCPUTime)
}

fn cpu_time(clock: rustix::time::ClockId) -> Duration {
    let spent = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_instants_are_of_one_clock() {
        let clock = Clock::starting_in(Duration::from_secs(60));
        let (apart, moment, instant) = (0..100).map(|_| Moment::with_instant()).min_by_key(|(apart, ..)| *apart).expect("looks");
        let differ = clock.at(moment).nanos().abs_diff(clock.offset(instant).nanos());
        assert!(u128::from(differ) <= apart.as_nanos() + 100_000, "{differ} ns, of looks {apart:?} apart");
    }

    #[test]
    fn a_clock_counts_backwards_before_its_zero() {
        let clock = Clock::starting_in(Duration::from_secs(60));
        let now = clock.now();
        assert!(now < Offset::ZERO && now >= Offset::from_secs_f64(-60.0), "{now}");
        assert_eq!(clock.offset(clock.instant(Offset::from_nanos(-5))), Offset::from_nanos(-5));
        assert_eq!(clock.offset(clock.instant(Offset::from_nanos(7))), Offset::from_nanos(7));
    }

    #[test]
    fn what_lasts_longer_than_can_be_told_lasts_for_ever() {
        assert_eq!(nanos(Duration::new(2, 7)), 2_000_000_007);
        let longest = Duration::from_nanos(i64::MAX as u64);
        assert_eq!(nanos(longest - Duration::from_secs(1)), i64::MAX - 1_000_000_000);
        assert_eq!((nanos(longest), nanos(Duration::MAX)), (i64::MAX, i64::MAX));
        assert_eq!(Offset::from_nanos(1) + Duration::MAX, Offset::from_nanos(i64::MAX));
    }

    #[test]
    fn seconds_before_zero_are_negative_windows() {
        assert_eq!(Offset::from_nanos(-1).second(), -1);
        assert_eq!(Offset::from_nanos(0).second(), 0);
        assert_eq!(Offset::from_nanos(999_999_999).second(), 0);
    }
}
