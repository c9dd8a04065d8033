//! A recording as CSV: `time`, and beside it `method` and `path` where what was sent is recorded, too. A first line that names the
//! columns may put them in any order; without it they are time; time and path; or time, method and path.

use super::recorded::{Line, Lines};

/// Where the columns stand.
struct Columns {
    time: usize,
    method: Option<usize>,
    path: Option<usize>,
    count: usize,
}

/// Every line that holds something.
pub(super) fn lines(text: &str) -> Lines<'_> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes())
        .into_records();
    let mut columns: Option<Columns> = None;
    let mut over = false;
    Box::new(std::iter::from_fn(move || {
        while !over {
            let record = match reader.next()? {
                Ok(record) => record,
                Err(error) => {
                    over = true;
                    return Some((error.position().map_or(1, csv::Position::line), Err(error.to_string())));
                }
            };
            let line = record.position().map_or(1, |position| first_line(text, position));
            let known = match &columns {
                Some(known) => known,
                None => {
                    let named = record.iter().any(|cell| cell.eq_ignore_ascii_case("time"));
                    match if named { by_name(&record) } else { by_count(record.len()) } {
                        Ok(found) => columns.insert(found),
                        // Without columns no line can be read.
                        Err(why) => {
                            over = true;
                            return Some((line, Err(why)));
                        }
                    };
                    if named {
                        continue;
                    }
                    columns.as_ref()?
                }
            };
            return Some((line, known.read(&record)));
        }
        None
    }))
}

/// The line on which a record begins. The reader counts from the end of the record before, and skips what is empty or a comment.
fn first_line(text: &str, position: &csv::Position) -> u64 {
    let rest = text.get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.split('\n').take_while(|line| line.trim_end_matches('\r').is_empty() || line.starts_with('#'));
    position.line() + skipped.count() as u64
}

const NAMES: &str = "time, method and path are";

fn by_name(header: &csv::StringRecord) -> Result<Columns, String> {
    let mut columns = Columns { time: 0, method: None, path: None, count: header.len() };
    let mut time = None;
    for (index, name) in header.iter().enumerate() {
        let column = match name.to_ascii_lowercase().as_str() {
            "time" => &mut time,
            "method" => &mut columns.method,
            "path" => &mut columns.path,
            _ => return Err(format!("`{name}` is no column here: {NAMES}")),
        };
        if column.replace(index).is_some() {
            return Err(format!("there are two columns `{name}`"));
        }
    }
    if columns.method.is_some() && columns.path.is_none() {
        return Err("a method without a path says not what was sent: add a column `path`".to_owned());
    }
    columns.time = time.ok_or_else(|| format!("no column is called time: {NAMES}"))?;
    Ok(columns)
}

fn by_count(count: usize) -> Result<Columns, String> {
    match count {
        1 => Ok(Columns { time: 0, method: None, path: None, count }),
        2 => Ok(Columns { time: 0, method: None, path: Some(1), count }),
        3 => Ok(Columns { time: 0, method: Some(1), path: Some(2), count }),
        _ => Err(format!("{count} columns: time, method and path are read; name the columns in the first line")),
    }
}

impl Columns {
    fn read(&self, record: &csv::StringRecord) -> Result<Line, String> {
        if record.len() != self.count {
            return Err(format!("{} columns, and the first line has {}", record.len(), self.count));
        }
        let nanos = nanos(&record[self.time])?;
        let method = self.method.map_or("GET", |method| &record[method]).to_owned();
        Ok(Line { nanos, call: self.path.map(|path| (method, record[path].to_owned())) })
    }
}

/// Seconds, or a time stamp, as nanoseconds.
fn nanos(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no time: write seconds, as in 12.5, or a time stamp, as in 2026-11-26T04:00:00.5Z");
    if text.contains('T') || text.contains(' ') {
        let stamp: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        return i64::try_from(stamp.as_nanosecond()).map_err(|_| wrong());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    // What is beyond nanoseconds is cut off.
    let fraction = format!("{:0<9}", &fraction[..fraction.len().min(9)]);
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let fraction: i64 = fraction.parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(fraction)).ok_or_else(wrong)
}
