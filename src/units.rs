//! Quantities as a plan writes them: a [`Span`] (`250ms`), a [`Rate`] (`50/s`), a [`Ratio`] (`99.9%`), a number of [`Users`] (`64`).
//! Units are mandatory, and an error proposes what was probably meant. Printing gives back what reading takes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `500us`, `250ms`, `1.5s`, `2m`, `1h30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

/// Events per second: `50/s`, `300/m`, `0.5/s`. Never negative.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(f64);

/// A share between 0 and 1, written in per cent: `99.9%`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Ratio(f64);

/// How many users there are at once: `64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Users(u32);

impl Span {
    pub const fn from_millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    pub const fn from_secs(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }

    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }

    pub fn millis(self) -> f64 {
        self.0.as_secs_f64() * 1e3
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Span {
        Span(duration)
    }
}

impl Rate {
    /// `per_second` events a second; `None` when negative or not finite.
    pub fn per_second_of(per_second: f64) -> Option<Rate> {
        (per_second.is_finite() && per_second >= 0.0).then_some(Rate(per_second))
    }

    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl Ratio {
    /// The share `fraction`; `None` outside 0 to 1.
    pub fn from_fraction(fraction: f64) -> Option<Ratio> {
        (0.0..=1.0).contains(&fraction).then_some(Ratio(fraction))
    }

    pub fn fraction(self) -> f64 {
        self.0
    }

    pub fn percent(self) -> f64 {
        // Undo the division that reading did, without its last-digit noise: 0.999 prints as 99.9, not 99.90000000000001.
        (self.0 * 1e14).round() / 1e12
    }
}

impl Users {
    pub const fn of(count: u32) -> Users {
        Users(count)
    }

    pub const fn count(self) -> u32 {
        self.0
    }
}

const SPAN_UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("`{text}` is not a length of time: write a number and a unit, as in 250ms, 1.5s, 2m or 1h30m");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            if rest.is_empty() {
                return Err(format!("`{text}` has no unit: write {number}ms or {number}s"));
            }
            let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let (_, scale) = SPAN_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(wrong)?;
            seconds += number * scale;
            rest = &rest[letters..];
        }
        Duration::try_from_secs_f64(seconds).map(Span).map_err(|_| wrong())
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("`{text}` is not a rate: write a number and a unit, as in 50/s or 300/m");
        let Some((number, unit)) = text.trim().split_once('/') else {
            return match text.trim().parse::<f64>() {
                Ok(number) => Err(format!("`{text}` has no unit: write {number}/s or {number}/m")),
                Err(_) => Err(wrong()),
            };
        };
        let number: f64 = number.trim().replace('_', "").parse().map_err(|_| wrong())?;
        let per_second = match unit.trim() {
            "s" => number,
            "m" => number / 60.0,
            "h" => number / 3600.0,
            _ => return Err(wrong()),
        };
        Rate::per_second_of(per_second).ok_or_else(|| format!("`{text}` is not a rate: it must be zero or more"))
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Ratio, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return Err(match text.trim().parse::<f64>() {
                Ok(number) => format!("`{text}` has no unit: write {number}%"),
                Err(_) => format!("`{text}` is not a share: write it in per cent, as in 99.9%"),
            });
        };
        let percent: f64 =
            number.trim().parse().map_err(|_| format!("`{text}` is not a share: write it in per cent, as in 99.9%"))?;
        Ratio::from_fraction(percent / 100.0).ok_or_else(|| format!("`{text}` is not a share: it must lie between 0% and 100%"))
    }
}

impl FromStr for Users {
    type Err = String;

    fn from_str(text: &str) -> Result<Users, String> {
        let number = text.trim().replace('_', "").parse();
        number.map(Users).map_err(|_| format!("`{text}` is no number of users: write a whole number, as in 64"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let whole = |unit: u128| nanos.is_multiple_of(unit);
        match nanos {
            0 => write!(f, "0s"),
            n if n >= 3_600_000_000_000 && whole(3_600_000_000_000) => write!(f, "{}h", n / 3_600_000_000_000),
            n if n >= 60_000_000_000 && whole(60_000_000_000) => write!(f, "{}m", n / 60_000_000_000),
            n if n >= 1_000_000_000 => write!(f, "{}s", n as f64 / 1e9),
            n if n >= 1_000_000 => write!(f, "{}ms", n as f64 / 1e6),
            n if n >= 1_000 => write!(f, "{}us", n as f64 / 1e3),
            n => write!(f, "{n}ns"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A Kubernetes quantity as a number: `37m`, `1500`, `2Gi`, `1e3`.
pub fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    for (suffix, scale) in SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            return number.parse::<f64>().ok().map(|n| n * scale);
        }
    }
    text.parse().ok()
}

/// Reading and writing as text, and the schema of that text, for a quantity that has `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ident, $expecting:literal, $pattern:literal, $bare:expr) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, n: i64) -> Result<$type, E> {
                        $bare(&n).map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, n: u64) -> Result<$type, E> {
                        $bare(&n).map_err(E::custom)
                    }
                    fn visit_f64<E: de::Error>(self, n: f64) -> Result<$type, E> {
                        $bare(&n).map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $expecting, "pattern": $pattern})
            }
        }
    };
}

/// What a bare number is for a quantity that needs a unit.
fn unitless<T>(number: &dyn fmt::Display, [first, second]: [&str; 2]) -> Result<T, String> {
    Err(if second.is_empty() {
        format!("`{number}` has no unit: write {number}{first}")
    } else {
        format!("`{number}` has no unit: write {number}{first} or {number}{second}")
    })
}

as_text!(Span, "a length of time with its unit, as in 250ms or 1.5s", r"^([0-9.]+(ns|us|µs|ms|s|m|h))+$", |n| unitless(
    n,
    ["ms", "s"]
));
as_text!(Rate, "a rate with its unit, as in 50/s or 300/m", r"^[0-9._]+ */ *(s|m|h)$", |n| unitless(n, ["/s", "/m"]));
as_text!(Ratio, "a share in per cent, as in 99.9%", r"^[0-9.]+ *%$", |n| unitless(n, ["%", ""]));
as_text!(Users, "a number of users, as in 64", r"^[0-9_]+$", |n: &dyn fmt::Display| n.to_string().parse());

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip<T: FromStr<Err = String> + fmt::Display>(text: &str) {
        assert_eq!(text.parse::<T>().unwrap_or_else(|e| panic!("{e}")).to_string(), text);
    }

    #[test]
    fn kubernetes_quantities_are_numbers() {
        for (text, number) in [("37m", 0.037), ("8", 8.0), ("1500m", 1.5), ("2Ki", 2048.0), ("1e3", 1000.0), ("3M", 3e6)] {
            assert_eq!(quantity(text), Some(number), "{text}");
        }
        assert_eq!(quantity("x"), None);
    }

    #[test]
    fn what_is_printed_is_what_was_read() {
        for text in ["0s", "250ms", "1.5s", "2m", "3h", "90s", "500us", "12ns", "200ms", "50ms"] {
            round_trip::<Span>(text);
        }
        assert_eq!("1h30m".parse::<Span>().unwrap().to_string(), "90m");
        for text in ["50/s", "0.5/s", "0/s"] {
            round_trip::<Rate>(text);
        }
        for text in ["99.9%", "0.5%", "100%", "0%", "99.99%"] {
            round_trip::<Ratio>(text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_answered_with_proposals() {
        assert_eq!("250".parse::<Span>().unwrap_err(), "`250` has no unit: write 250ms or 250s");
        assert_eq!("50".parse::<Rate>().unwrap_err(), "`50` has no unit: write 50/s or 50/m");
        assert_eq!("99.9".parse::<Ratio>().unwrap_err(), "`99.9` has no unit: write 99.9%");
        let error = serde_json::from_str::<Span>("250").unwrap_err().to_string();
        assert!(error.contains("write 250ms or 250s"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "1x", "-1s", "1s-", "1e400s", "nan", "inf s", "1..2s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        for text in ["-1/s", "nan/s", "inf/s", "5/x", "/s", ""] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
        for text in ["101%", "-1%", "nan%", "%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text:?}");
        }
    }
}
