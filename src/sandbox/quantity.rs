//! Kubernetes quantities (`250m`, `64Mi`, `1.5`), read exactly into thousandths and written the way the API server writes them.
//! Nothing here rounds silently: like the real server, a reading finer than a thousandth is rounded up.

/// `text` in thousandths: `250m` is 250, `1.5` is 1500, `64Mi` is 67108864000. `None` when it is not a quantity.
pub fn milli(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANO,
        "k" => NANO * 1_000,
        "M" => NANO * 1_000_000,
        "G" => NANO * 1_000_000_000,
        "T" => NANO * 1_000_000_000_000,
        "P" => NANO * 1_000_000_000_000_000,
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            NANO.checked_mul(10i128.checked_pow(exponent)?)?
        }
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = whole.bytes().chain(fraction.bytes()).all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 12 || !digits_only {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let nanos = whole.checked_mul(scale)?.checked_add(part.checked_mul(scale)? / 10i128.pow(fraction.len() as u32))?;
    let milli = i64::try_from((nanos + 999_999) / 1_000_000).ok()?;
    Some(if negative { -milli } else { milli })
}

const NANO: i128 = 1_000_000_000;

/// Thousandths as a quantity in its shortest decimal form: 53 is `53m`, 2000 is `2`, 5000000 is `5k`.
pub fn from_milli(milli: i64) -> String {
    if milli == 0 {
        return "0".into();
    }
    let (mut number, mut step) = (milli, 0);
    const SUFFIXES: [&str; 6] = ["m", "", "k", "M", "G", "T"];
    while number % 1000 == 0 && step + 1 < SUFFIXES.len() {
        number /= 1000;
        step += 1;
    }
    format!("{number}{}", SUFFIXES[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly_and_round_up() {
        for (text, expected) in [
            ("250m", 250),
            ("1.5", 1500),
            ("2", 2000),
            ("64Mi", (64 << 20) * 1000),
            ("1e3", 1_000_000),
            ("0", 0),
            ("50694033n", 51),
            ("-5", -5000),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "1..2", "--1"] {
            assert_eq!(milli(text), None, "{text:?}");
        }
    }

    #[test]
    fn quantities_are_written_as_the_server_writes_them() {
        for (value, expected) in [(53, "53m"), (2000, "2"), (0, "0"), (5_000_000, "5k"), (1500, "1500m")] {
            assert_eq!(from_milli(value), expected);
        }
    }
}
