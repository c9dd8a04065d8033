//! The search for the highest rate at which an objective holds: which rate is tried next and when it is over, how long a probe takes,
//! and what the whole comes to. Pure: it sends nothing and waits for nothing, and knows of a probe only what its verdict was.

mod found;
mod search;

pub use found::{Capacity, Check, End, Probe, SCHEMA};
pub use search::{Doubt, Length, Outcome, Scope, Seen, Step, Tried, next};

use std::time::Duration;

use crate::units::{Ratio, Span};

/// A probe is at least so long, unless said otherwise: a service that is a tenth beyond its capacity falls a second behind in it.
pub const PROBE: Span = Span::from_secs(10);

/// Rates nearer to each other than this are one, unless said otherwise.
pub const RESOLUTION: &str = "5%";

/// The finest resolution that is taken: rates that are nearer than this are told apart by no probe that anybody waits for.
pub const RESOLUTION_LEAST: f64 = 0.01;

/// How many times the least sample a probe takes: with no more than the least, a single slow request would leave it undecided.
const SAMPLES: f64 = 3.0;

/// How many times as long a second look takes: when the first left a rate undecided, and when a rate is confirmed.
pub const LONGER: u32 = 3;

/// How long a probe's load runs before its window opens, and how long the window is, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub warm_up: Span,
    pub window: Span,
}

impl Size {
    /// Of a probe at `rate` requests per second whose objective needs `samples` of them, at least `least` long.
    ///
    /// The warm-up is a quarter of the window, and at least a second: connections are opened in it, caches and compilers warm up, and
    /// queues get to where this rate leads them. What they do on the way is no property of the rate.
    pub fn of(rate: f64, samples: u64, least: Span, length: Length) -> Size {
        let needed = SAMPLES * samples as f64 / rate;
        let short = needed.max(least.seconds()).ceil().max(1.0) as u64;
        let window = match length {
            Length::Short => short,
            Length::Long => short.saturating_mul(LONGER.into()),
        };
        Size { warm_up: Span::from_secs(short.div_ceil(4)), window: Span::from_secs(window) }
    }

    pub fn whole(self) -> Duration {
        self.warm_up.duration().saturating_add(self.window.duration())
    }

    /// How long the service is left alone after such a probe. After one that it could not take as long as that was: probes at most double
    /// a rate that held, so no queue grew faster in it than it drains without load.
    pub fn pause(self, seen: Seen) -> Duration {
        match seen {
            Seen::Passed | Seen::Undecided(Doubt::Evidence) => PAUSE,
            Seen::Failed | Seen::Undecided(Doubt::Generator) => self.whole().max(PAUSE),
        }
    }
}

/// The least time between two probes.
const PAUSE: Duration = Duration::from_millis(500);

/// How near two rates must be to be one, as the command line takes it.
pub fn resolution(text: &str) -> Result<f64, String> {
    let fraction = text.parse::<Ratio>()?.fraction();
    if (RESOLUTION_LEAST..1.0).contains(&fraction) {
        return Ok(fraction);
    }
    Err(format!("`{text}`: no probe tells rates apart so; from {}% to 99%", RESOLUTION_LEAST * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_as_long_as_its_samples_need_and_never_shorter_than_asked() {
        let size = |rate, length| Size::of(rate, 299, PROBE, length);
        // 897 requests at 50/s.
        assert_eq!(size(50.0, Length::Short), Size { warm_up: Span::from_secs(5), window: Span::from_secs(18) });
        assert_eq!(size(5_000.0, Length::Short), Size { warm_up: Span::from_secs(3), window: Span::from_secs(10) });
        assert_eq!(size(5_000.0, Length::Long), Size { warm_up: Span::from_secs(3), window: Span::from_secs(30) });
        assert_eq!(Size::of(1e6, 1, Span::from_millis(1), Length::Short).window, Span::from_secs(1));
    }

    #[test]
    fn a_queue_has_as_long_to_drain_as_it_had_to_grow() {
        let size = Size::of(100.0, 29, PROBE, Length::Short);
        assert_eq!(size.pause(Seen::Failed), Duration::from_secs(13));
        assert!(size.pause(Seen::Passed) < Duration::from_secs(1));
    }

    #[test]
    fn a_resolution_is_a_share_that_a_probe_can_tell() {
        assert_eq!(resolution("5%"), Ok(0.05));
        assert!(resolution("0.1%").is_err() && resolution("100%").is_err());
        assert!(resolution("5").unwrap_err().contains("write 5%"));
    }
}
