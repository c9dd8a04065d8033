//! Kubernetes quantities (`250m`, `64Mi`, `1.5`), read exactly into thousandths and written the way the API server writes them.
//! Nothing here rounds silently: like the real server, a reading finer than a thousandth is rounded up.

/// `text` in thousandths: `250m` is 250, `1.5` is 1500, `64Mi` is 67108864000. `None` when it is not a quantity.
pub fn milli(text: &str) -> Option<i64> {
    i64::try_from(div_up(read(text)?.nano, 1_000_000)).ok()
}

/// `text` in billionths, to compare with others. `None` when it is not a quantity.
pub fn nano(text: &str) -> Option<i128> {
    read(text).map(|read| read.nano)
}

/// The one way in which a server writes this quantity, so that equal ones are equal texts: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is
/// `1Gi`. The family of its suffix stays. `None` when it is not a quantity.
pub fn canonical(text: &str) -> Option<String> {
    Some(read(text)?.written())
}

/// What all of them are together, in the family of the first: `50m` and `0.5` are `550m`. `None` when there are none, or one is no
/// quantity.
pub fn sum<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let first = read(texts.next()?)?;
    let nano = texts.try_fold(first.nano, |sum, text| sum.checked_add(read(text)?.nano))?;
    Some(Read { nano, ..first }.written())
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// Each is 1024 times the one before.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

struct Read {
    nano: i128,
    family: Family,
}

impl Read {
    fn written(&self) -> String {
        let Read { nano, family } = *self;
        if family == Family::Binary && nano % NANO == 0 && (nano / NANO).abs() >= 1024 {
            let (mut number, mut step) = (nano / NANO, 0);
            while number % 1024 == 0 && step + 1 < BINARY.len() {
                number /= 1024;
                step += 1;
            }
            return format!("{number}{}", BINARY[step]);
        }
        if nano == 0 {
            return "0".into();
        }
        let (mut number, mut power) = (nano, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        match (family, power) {
            (_, 0) => number.to_string(),
            (Family::Exponent, power) => format!("{number}e{power}"),
            (_, power) => format!("{number}{}", DECIMAL.iter().find(|(_, of)| *of == power).map_or("", |(suffix, _)| suffix)),
        }
    }
}

/// How a quantity is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

fn read(text: &str) -> Option<Read> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let decimal = DECIMAL.iter().find(|(of, _)| *of == suffix);
    let binary = BINARY.iter().position(|of| *of == suffix);
    let (family, power, factor) = match (decimal, binary) {
        (Some((_, power)), _) => (Family::Decimal, *power, 1),
        (None, Some(step)) => (Family::Binary, 0, 1i128 << (10 * step)),
        (None, None) => (Family::Exponent, suffix.strip_prefix(['e', 'E'])?.parse().ok()?, 1),
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<i128>().ok()?.checked_mul(factor)?;
    // In billionths: nine places further left, less those that the fraction has.
    let places = power.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scale = 10i128.checked_pow(places.unsigned_abs())?;
    let nano = if places >= 0 { value.checked_mul(scale)? } else { div_up(value, scale) };
    Some(Read { nano: sign * nano, family })
}

/// Divides, and rounds away from zero.
fn div_up(value: i128, by: i128) -> i128 {
    value / by + (value % by).signum()
}

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
            ("5e-3", 5),
            ("0.30000000000000004", 301),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "1..2", "--1", "1e", "1 m", "1e99", "\u{661}"] {
            assert_eq!(milli(text), None, "{text:?}");
        }
    }

    #[test]
    fn equal_quantities_are_written_as_equal_texts() {
        for (text, expected) in [
            ("1", "1"),
            ("1.0", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("0", "0"),
            ("0Mi", "0"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("1E4", "10e3"),
            ("2E", "2E"),
            ("-1000m", "-1"),
            ("0.1n", "1n"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(canonical("lots"), None);
    }

    #[test]
    fn quantities_are_written_as_the_server_writes_them() {
        for (value, expected) in [(53, "53m"), (2000, "2"), (0, "0"), (5_000_000, "5k"), (1500, "1500m")] {
            assert_eq!(from_milli(value), expected);
        }
    }
}
