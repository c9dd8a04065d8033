//! The time-to-event engine: when did something first hold, counted from when it was due to start; against a bound, with the
//! resolution of what saw it, and with respect for windows that ended too early to tell.

use std::time::Duration;

use super::Verdict;
use super::words::seconds;

/// What was seen of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// It came, so long after the start.
    After(Duration),
    /// It did not come while this long was watched.
    NotWithin(Duration),
}

/// The verdict, and why in words that follow "five ready replicas".
pub fn decide(seen: Seen, bound: Duration, resolution: Duration) -> (Verdict, String) {
    let limit = seconds(bound.as_secs_f64());
    match seen {
        Seen::After(after) => {
            let took = seconds(after.as_secs_f64());
            if after.abs_diff(bound) < resolution {
                let why = format!(
                    "came after {took}, as close to the bound of {limit} as can be seen (to {}): ask for a little more or less",
                    seconds(resolution.as_secs_f64())
                );
                (Verdict::Inconclusive, why)
            } else if after <= bound {
                (Verdict::Pass, format!("came after {took}, within {limit}"))
            } else {
                (Verdict::Fail, format!("came after {took}, later than {limit}"))
            }
        }
        Seen::NotWithin(watched) => {
            let length = seconds(watched.as_secs_f64());
            if watched >= bound {
                (Verdict::Fail, format!("did not come within {limit}, nor in the {length} that were watched"))
            } else {
                let why = format!(
                    "had not come when the window ended after {length}, and {limit} are allowed: make the window at least {limit} long"
                );
                (Verdict::Inconclusive, why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_late_never_and_too_short_to_tell() {
        let s = Duration::from_secs;
        let of = |seen| decide(seen, s(30), s(1)).0;
        assert_eq!(of(Seen::After(s(12))), Verdict::Pass);
        assert_eq!(of(Seen::After(s(29))), Verdict::Pass);
        assert_eq!(of(Seen::After(s(30))), Verdict::Inconclusive);
        assert_eq!(of(Seen::After(s(31))), Verdict::Fail);
        assert_eq!(of(Seen::NotWithin(s(30))), Verdict::Fail);
        assert_eq!(of(Seen::NotWithin(s(29))), Verdict::Inconclusive);
    }
}
