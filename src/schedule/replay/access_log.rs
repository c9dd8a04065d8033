//! A recording as an access log in the common or combined format, as Apache and nginx write it:
//! `host ident user [10/Oct/2026:13:55:36 -0700] "GET /a HTTP/1.1" status bytes ...`. Only when and what are read.

use super::recorded::{Line, Lines};

/// Whether a line looks like one of an access log.
pub(super) fn is_one(line: &str) -> bool {
    parts(line).is_some()
}

/// Every line that is not empty.
pub(super) fn lines(text: &str) -> Lines<'_> {
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    Box::new(numbered.map(|(number, line)| (number, read(line))))
}

fn read(line: &str) -> Result<Line, String> {
    let (time, request) =
        parts(line).ok_or("this is no line of an access log, which the first is: it has no [time] and \"request\"; take it out")?;
    let nanos = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time)
        .and_then(|broken| broken.to_timestamp())
        .ok()
        .and_then(|stamp| i64::try_from(stamp.as_nanosecond()).ok())
        .ok_or_else(|| format!("`{time}` is no time of an access log, as in 10/Oct/2026:13:55:36 -0700"))?;
    let mut words = request.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(path), version, None) if version.is_none_or(|version| version.starts_with("HTTP/")) => {
            Ok(Line { nanos, call: Some((method.to_owned(), unescaped(path))) })
        }
        _ => Err(format!("`{request}` is no request, as in GET /a HTTP/1.1: take the line out")),
    }
}

/// The time and the request of a line, as it is written there.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    Some((time, quoted(rest)?))
}

/// Up to the quote that ends it: one that a backslash stands before belongs to the text. What follows is another field, or nothing: where
/// it is neither, somebody has written quotes as they came, and nobody knows where the text ends.
fn quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    let rest = &text[end + 1..];
    (rest.is_empty() || rest.starts_with(' ')).then_some(&text[..end])
}

/// A path as it was asked for. Apache writes `\"`, `\\`, `\n` and `\xHH` for what would break its lines, nginx `\xHH` for all of that. What
/// cannot stand in a path as it is, is sent %-encoded.
fn unescaped(written: &str) -> String {
    let mut path = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, escape)) = rest.split_once('\\') {
        path.push_str(before);
        let hex = escape.strip_prefix('x').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let (byte, length) = match (hex, escape.bytes().next()) {
            (Some(byte), _) => (byte, 3),
            (None, Some(quoted @ (b'"' | b'\\'))) => (quoted, 1),
            (None, Some(letter)) => match b"b\x08t\x09n\x0av\x0bf\x0cr\x0d".chunks(2).find(|pair| pair[0] == letter) {
                Some(pair) => (pair[1], 1),
                // No escape of theirs: it stands for itself.
                None => (b'\\', 0),
            },
            (None, None) => (b'\\', 0),
        };
        match byte {
            b'!'..=b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        rest = &escape[length..];
    }
    path + rest
}
