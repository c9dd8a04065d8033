//! Numbers as a finding says them: few digits, always a unit, the same on every machine.

/// `x` with `digits` significant digits and without trailing zeros.
pub fn significant(x: f64, digits: i32) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let decimals = (digits - 1 - x.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share as per cent: `0.12%`.
pub fn percent(fraction: f64) -> String {
    // Shares near one need their distance from it to be seen: 99.98% is not 100%.
    let digits = if fraction > 0.99 && fraction < 1.0 { 5 } else { 3 };
    format!("{}%", significant(fraction * 100.0, digits))
}

/// Microseconds as a length of time: `45.1ms`, `1.2s`.
pub fn micros(us: u64) -> String {
    if us >= 1_000_000 { seconds(us as f64 / 1e6) } else { format!("{}ms", significant(us as f64 / 1e3, 3)) }
}

/// Seconds: `12.3s`.
pub fn seconds(s: f64) -> String {
    format!("{}s", significant((s * 1000.0).round() / 1000.0, if s.abs() >= 100.0 { 4 } else { 3 }))
}

/// A number with its noun: `1 request`, `2 requests`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_honest() {
        assert_eq!(percent(0.001234), "0.123%");
        assert_eq!(percent(0.99984), "99.984%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(micros(45_123), "45.1ms");
        assert_eq!(micros(1_240_000), "1.24s");
        assert_eq!(seconds(60.0), "60s");
        assert_eq!(seconds(123.44), "123.4s");
        assert_eq!(significant(1234.0, 3), "1234");
        assert_eq!(count(1, "request"), "1 request");
    }
}
