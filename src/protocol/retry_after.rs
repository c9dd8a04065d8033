//! When an answer says to come again: Retry-After, in seconds or as a date (RFC 9110, section 10.2.3), or the pushback of gRPC. It is
//! only read here; what it comes to, and whether anybody waits for it, is for who has a clock.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

/// What the field said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds after the answer.
    Seconds(u32),
    /// Not before this moment, in seconds since 1970 by the server's clock.
    At(i64),
    /// So many milliseconds after the answer, as gRPC says it.
    Milliseconds(u32),
    /// Not at all.
    Never,
    /// Something else.
    Unreadable,
}

/// The dates of HTTP: that of today, and two that a recipient must still read (RFC 9110, section 5.6.7).
const DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
/// No date of these is longer.
const DATE_MOST: usize = 40;

impl RetryAfter {
    /// Reads the field's value.
    pub(super) fn read(value: &[u8]) -> RetryAfter {
        let value = value.trim_ascii();
        if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
            let seconds = value.iter().fold(0_u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
            return RetryAfter::Seconds(seconds);
        }
        let date = |format: &&str| BrokenDownTime::parse(format, value).ok()?.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok();
        let read = if value.len() <= DATE_MOST { DATES.iter().find_map(date) } else { None };
        read.map_or(RetryAfter::Unreadable, |date| RetryAfter::At(date.timestamp().as_second()))
    }

    /// Reads what a gRPC server pushes back with (`grpc-retry-pushback-ms`): what is no number of milliseconds forbids to try again.
    pub(super) fn pushback(value: &[u8]) -> RetryAfter {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        number.map_or(RetryAfter::Never, RetryAfter::Milliseconds)
    }

    /// How long that is from `now` on, in seconds: none where that moment has passed, and `None` where it was not understood.
    pub fn seconds_from(self, now: Timestamp) -> Option<f64> {
        match self {
            RetryAfter::Seconds(seconds) => Some(f64::from(seconds)),
            RetryAfter::At(at) => Some((at as f64 - now.as_nanosecond() as f64 / 1e9).max(0.0)),
            RetryAfter::Milliseconds(milliseconds) => Some(f64::from(milliseconds) / 1e3),
            RetryAfter::Never => Some(f64::INFINITY),
            RetryAfter::Unreadable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_the_three_dates_of_http_are_read() {
        let date = RetryAfter::At(784_111_777);
        for (value, read) in [
            ("120", RetryAfter::Seconds(120)),
            (" 0 ", RetryAfter::Seconds(0)),
            ("99999999999999999999", RetryAfter::Seconds(u32::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", date),
            ("Sunday, 06-Nov-94 08:49:37 GMT", date),
            ("Sun Nov  6 08:49:37 1994", date),
            ("", RetryAfter::Unreadable),
            ("-1", RetryAfter::Unreadable),
            ("1.5", RetryAfter::Unreadable),
            ("soon", RetryAfter::Unreadable),
            ("Sun, 06 Nov 1994 08:49:37 CET", RetryAfter::Unreadable),
            ("Sun, 32 Nov 1994 08:49:37 GMT", RetryAfter::Unreadable),
        ] {
            assert_eq!(RetryAfter::read(value.as_bytes()), read, "{value:?}");
        }
    }

    #[test]
    fn a_moment_that_has_passed_is_no_wait() {
        let now = Timestamp::from_second(1_000).expect("a moment");
        assert_eq!(RetryAfter::Seconds(3).seconds_from(now), Some(3.0));
        assert_eq!(RetryAfter::At(1_002).seconds_from(now), Some(2.0));
        assert_eq!(RetryAfter::At(900).seconds_from(now), Some(0.0));
        assert_eq!(RetryAfter::Unreadable.seconds_from(now), None);
        assert_eq!(RetryAfter::pushback(b"1500").seconds_from(now), Some(1.5));
        assert_eq!(RetryAfter::pushback(b"-1").seconds_from(now), Some(f64::INFINITY));
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let wait = RetryAfter::read(&value).seconds_from(Timestamp::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| wait >= 0.0));
        }

        #[test]
        fn every_date_is_read_back(at in 0_i64..4_102_444_800) {
            let date = Timestamp::from_second(at).expect("a moment").to_zoned(TimeZone::UTC);
            prop_assert_eq!(RetryAfter::read(date.strftime(DATES[0]).to_string().as_bytes()), RetryAfter::At(at));
        }
    }
}
