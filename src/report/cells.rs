//! The rules of every CSV that Squall writes: RFC 4180, UTF-8 without a byte order mark, `.` decimals, a header always, an empty
//! cell for what is missing, and no cell that a spreadsheet would run as a formula.

use std::fmt::Display;

use anyhow::Context;

use crate::report::words;

/// One table under way. Each row is as long as the header; the writer refuses any other.
pub struct Table {
    writer: csv::Writer<Vec<u8>>,
}

impl Table {
    /// A table with this header.
    pub fn new(header: &[&str]) -> anyhow::Result<Table> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        writer.write_record(header).context("write the header of a table")?;
        Ok(Table { writer })
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) -> anyhow::Result<()> {
        self.writer.write_record(cells).with_context(|| format!("write the row {cells:?}"))
    }

    /// The whole table.
    pub fn bytes(self) -> anyhow::Result<Vec<u8>> {
        self.writer.into_inner().context("finish a table")
    }
}

/// A number with as many digits as it has, empty when it is missing or not a number.
pub fn number(value: impl Into<Option<f64>>) -> String {
    match value.into() {
        Some(value) if value.is_finite() => {
            let value = (value * 1e6).round() / 1e6;
            format!("{}", if value == 0.0 { 0.0 } else { value })
        }
        _ => String::new(),
    }
}

/// A count or anything else that cannot be mistaken for a formula.
pub fn plain(value: impl Display) -> String {
    value.to_string()
}

/// The wall time `seconds` after `zero`, ISO 8601 in UTC with milliseconds; empty when `zero` is not a time.
pub fn time(zero: &str, seconds: f64) -> String {
    let Ok(zero) = zero.parse::<jiff::Timestamp>() else { return String::new() };
    match zero.checked_add(jiff::SignedDuration::from_nanos((seconds * 1e9).round() as i64)) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => String::new(),
    }
}

/// Free text: on one line, and with a `'` before what a spreadsheet would take for a formula.
pub fn text(value: &str) -> String {
    let value = words::clean(value);
    // Some spreadsheets trim a cell before they look at it.
    if value.trim_start().starts_with(['=', '+', '-', '@']) { format!("'{value}") } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_never_becomes_a_formula_and_numbers_keep_their_sign() {
        assert_eq!(text("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(text("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(text("-1"), "'-1");
        assert_eq!(text("\t=1"), "' =1");
        assert_eq!(number(-1.5), "-1.5");
    }

    #[test]
    fn times_are_iso_in_utc_with_milliseconds() {
        assert_eq!(time("2026-01-02T03:04:05.25Z", 1.5), "2026-01-02T03:04:06.750Z");
        assert_eq!(time("yesterday", 1.5), "");
    }

    #[test]
    fn what_is_missing_is_empty_and_never_zero() {
        assert_eq!(number(None), "");
        assert_eq!(number(f64::NAN), "");
        assert_eq!(number(f64::INFINITY), "");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(-0.0000001), "0");
    }
}
