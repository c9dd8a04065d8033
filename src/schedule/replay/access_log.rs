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
            Ok(Line { nanos, call: Some((method.to_owned(), path.to_owned())) })
        }
        _ => Err(format!("`{request}` is no request, as in GET /a HTTP/1.1: take the line out")),
    }
}

/// The time and the request of a line.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, _) = rest.split_once('"')?;
    Some((time, request))
}
