//! Numbers as people read them: as many digits as carry meaning, the unit behind, nothing where nothing was measured.
//! Machine formats never pass through here.

/// `value` in `unit`, as a plan would write it: `312.4ms`, `99.98%`, `5 replicas`. `1` is the unit of a bare number.
pub fn value(value: f64, unit: &str) -> String {
    with_unit(&digits(value, places(value, unit)), unit)
}

/// [`value`], with enough digits to tell it from `limit`: a finding never reads `300ms` against a limit of `300ms` when it failed
/// by a hair.
pub fn value_beside(observed: f64, limit: Option<f64>, unit: &str) -> String {
    let mut shown = value(observed, unit);
    if let Some(limit) = limit.filter(|limit| *limit != observed) {
        let mut more = places(observed, unit);
        while shown == value(limit, unit) && more < 12 {
            more += 1;
            shown = with_unit(&digits(observed, more), unit);
        }
    }
    shown
}

/// A confidence interval without its unit: `[301, 325.5]`; one-sided where only one bound is known.
pub fn interval(low: Option<f64>, high: Option<f64>, unit: &str) -> Option<String> {
    let bound = |bound: f64| digits(bound, places(bound, unit));
    match (low, high) {
        (Some(low), Some(high)) => Some(format!("[{}, {}]", bound(low), bound(high))),
        (Some(low), None) => Some(format!("[{}, ..]", bound(low))),
        (None, Some(high)) => Some(format!("[.., {}]", bound(high))),
        (None, None) => None,
    }
}

/// A moment of the run: `31.2s`.
pub fn moment(seconds: f64) -> String {
    format!("{seconds:.1}s")
}

/// A count with its thousands apart: `18 400`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 pod`, `2 pods`.
pub fn plural(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `1 address`, `2 addresses`: of a noun whose plural has more than an s more.
pub fn plurals(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A measured number without its unit, or `-` where nothing was measured.
pub fn or_dash(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| digits(value, places(value, unit)))
}

/// Four significant digits, and for shares three places, since what matters of 99.98 % is the distance to 100.
fn places(value: f64, unit: &str) -> usize {
    if unit == "%" {
        return 3;
    }
    match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        v if v >= 1.0 || v == 0.0 => 3,
        _ => 4,
    }
}

fn digits(value: f64, places: usize) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn with_unit(number: &str, unit: &str) -> String {
    match unit {
        "" | "1" => number.to_owned(),
        "ms" | "s" | "%" | "us" => format!("{number}{unit}"),
        _ if number == "1" => format!("{number} {}", unit.strip_suffix('s').unwrap_or(unit)),
        _ => format!("{number} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_the_digits_that_mean_something() {
        for (number, unit, shown) in [
            (312.4449, "ms", "312.4ms"),
            (3.12345, "ms", "3.123ms"),
            (12_345.6, "ms", "12346ms"),
            (99.98, "%", "99.98%"),
            (100.0, "%", "100%"),
            (5.0, "replicas", "5 replicas"),
            (1.0, "replicas", "1 replica"),
            (0.9312, "1", "0.9312"),
            (0.0, "s", "0s"),
            (-0.00001, "s", "0s"),
            (f64::NAN, "s", "-s"),
        ] {
            assert_eq!(value(number, unit), shown, "{number} {unit}");
        }
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(999), "999");
        assert_eq!(interval(Some(301.0), Some(325.5), "ms").as_deref(), Some("[301, 325.5]"));
    }

    #[test]
    fn a_value_that_missed_by_a_hair_does_not_look_like_its_limit() {
        assert_eq!(value_beside(300.004, Some(300.0), "ms"), "300.004ms");
        assert_eq!(value_beside(300.0, Some(300.0), "ms"), "300ms");
        assert_eq!(value_beside(99.8999996, Some(99.9), "%"), "99.8999996%");
    }
}
