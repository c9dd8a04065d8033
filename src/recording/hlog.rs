//! `latency.hlog`: histograms per second and series, in the interval log format of HdrHistogram (version 1.3, tags, deflated), so
//! that existing plotters open it. Values are microseconds, times are seconds since the run's zero, `Interval_Max` is in ms.
//! A tag is `<load>.<phase>.<outcome>.<measure>`: names hold no dots. Of a part of a load, `.class=<class>` and `.step=<step>` follow.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::recording::fact::{Outcome, Part};
use crate::recording::sink::{Interval, Measure, Series};

/// Appends intervals to a log.
pub struct HlogWriter<W: Write> {
    out: W,
    serializer: V2DeflateSerializer,
    bytes: Vec<u8>,
}

impl<W: Write> HlogWriter<W> {
    /// Writes the header; `zero` is the wall time of the run's zero.
    ///
    /// # Errors
    /// What writing gives.
    pub fn begin(mut out: W, zero: jiff::Timestamp) -> io::Result<HlogWriter<W>> {
        writeln!(out, "#[Histogram log format version 1.3]")?;
        writeln!(out, "#[StartTime: {:.3} (seconds since epoch), {zero}]", zero.as_millisecond() as f64 / 1e3)?;
        writeln!(out, "#[MaxValueDivisor: 1000.0]")?;
        writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")?;
        Ok(HlogWriter { out, serializer: V2DeflateSerializer::new(), bytes: Vec::new() })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// What writing gives.
    pub fn append(&mut self, interval: &Interval) -> io::Result<()> {
        self.bytes.clear();
        self.serializer
            .serialize(&interval.histogram, &mut self.bytes)
            .map_err(|error| io::Error::other(format!("histogram does not serialise: {error}")))?;
        writeln!(
            self.out,
            "Tag={},{:.3},1.000,{:.3},{}",
            tag(&interval.series),
            interval.second as f64,
            interval.histogram.max() as f64 / 1e3,
            STANDARD.encode(&self.bytes)
        )
    }

    /// Hands everything to the writer below.
    ///
    /// # Errors
    /// What writing gives.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer below.
    pub fn get_ref(&self) -> &W {
        &self.out
    }
}

/// The tag of a series.
pub fn tag(series: &Series) -> String {
    let class = series.part.class.as_ref().map(|class| format!(".class={class}")).unwrap_or_default();
    let step = series.part.step.as_ref().map(|step| format!(".step={step}")).unwrap_or_default();
    format!("{}.{}.{}.{}{class}{step}", series.load, series.phase, series.outcome.as_str(), series.measure.as_str())
}

/// Reads a log line by line, as it is asked for: a whole histogram takes hundreds of kilobytes, and a log of an hour has a hundred
/// thousand. What cannot be read is said in `problems`, by line, and the rest is read all the same.
pub fn read<'l>(log: &'l [u8], problems: &'l mut Vec<String>) -> impl Iterator<Item = Interval> + use<'l> {
    let mut deserializer = Deserializer::new();
    log.split_inclusive(|byte| *byte == b'\n').enumerate().filter_map(move |(index, line)| {
        let at = index + 1;
        let Some(line) = line.strip_suffix(b"\n") else {
            problems.push(format!("latency.hlog ends in the middle of line {at}"));
            return None;
        };
        if line.is_empty() || line[0] == b'#' || line[0] == b'"' {
            return None;
        }
        read_line(line, &mut deserializer)
            .map_err(|why| problems.push(format!("latency.hlog line {at} cannot be read: {why}")))
            .ok()
    })
}

fn read_line(line: &[u8], deserializer: &mut Deserializer) -> Result<Interval, String> {
    let text = str::from_utf8(line).map_err(|_| "it is not text".to_owned())?.trim_end_matches('\r');
    let mut fields = text.splitn(5, ',');
    let mut field = |name: &str| fields.next().ok_or_else(|| format!("it has no {name}"));
    let series = read_tag(field("tag")?.strip_prefix("Tag=").ok_or("it has no tag")?)?;
    let start: f64 = field("start")?.parse().map_err(|_| "its start is not a number".to_owned())?;
    field("length")?;
    field("maximum")?;
    let bytes = STANDARD.decode(field("histogram")?).map_err(|error| format!("its histogram is not base64: {error}"))?;
    let histogram: Histogram<u64> =
        deserializer.deserialize(&mut &bytes[..]).map_err(|error| format!("its histogram is broken: {error}"))?;
    Ok(Interval { series, second: start.floor() as i64, histogram })
}

fn read_tag(tag: &str) -> Result<Series, String> {
    let wrong = || format!("`{tag}` is not load.phase.outcome.measure");
    let fields: Vec<&str> = tag.split('.').collect();
    let [load, phase, outcome, measure, ref apart @ ..] = fields[..] else { return Err(wrong()) };
    let mut part = Part::default();
    for field in apart {
        let (place, name) = match field.split_once('=') {
            Some(("class", name)) => (&mut part.class, name),
            Some(("step", name)) => (&mut part.step, name),
            _ => return Err(wrong()),
        };
        if place.is_some() {
            return Err(wrong());
        }
        *place = Some(name.parse().map_err(|_| wrong())?);
    }
    Ok(Series {
        part,
        load: load.parse().map_err(|_| wrong())?,
        phase: phase.parse().map_err(|_| wrong())?,
        outcome: Outcome::ALL.into_iter().find(|known| known.as_str() == outcome).ok_or_else(wrong)?,
        measure: Measure::ALL.into_iter().find(|known| known.as_str() == measure).ok_or_else(wrong)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use proptest::prelude::*;

    fn interval(second: i64, values: &[u64]) -> Interval {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.saturating_record(*value));
        let series = Series {
            load: "shoppers".parse().unwrap(),
            phase: "burst".parse().unwrap(),
            part: Part::default(),
            outcome: Outcome::TimedOut,
            measure: Measure::Response,
        };
        Interval { series, second, histogram }
    }

    fn log(intervals: &[Interval]) -> Vec<u8> {
        let mut log = HlogWriter::begin(Vec::new(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        intervals.iter().for_each(|interval| log.append(interval).unwrap());
        log.out
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = log(&[interval(0, &[10, 20_000]), interval(7, &[]), interval(-1, &[5])]);
        let mut problems = Vec::new();
        let read: Vec<Interval> = read(&bytes, &mut problems).collect();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(read.iter().map(|i| i.second).collect::<Vec<_>>(), [0, 7, -1]);
        assert_eq!(read[0].histogram, interval(0, &[10, 20_000]).histogram);
        assert_eq!(read[0].series, interval(0, &[]).series);
    }

    #[test]
    fn a_part_of_a_load_has_a_tag_of_its_own() {
        let mut one = interval(0, &[10]);
        one.series.part.class = Some("critical".parse().unwrap());
        assert_eq!(tag(&one.series), "shoppers.burst.timed_out.response.class=critical");
        let bytes = log(&[one.clone()]);
        let read: Vec<Interval> = read(&bytes, &mut Vec::new()).collect();
        assert_eq!(read[0].series, one.series);
        one.series.part.step = Some("login".parse().expect("a name"));
        assert_eq!(tag(&one.series), "shoppers.burst.timed_out.response.class=critical.step=login");
        assert_eq!(read_tag(&tag(&one.series)), Ok(one.series.clone()));
        for bad in [
            "a.b.ok.response.step=a.step=b",
            "a.b.ok.response.critical",
            "a.b.ok.response.class=",
            "a.b.ok.response.class=a.class=b",
        ] {
            assert!(read_tag(bad).is_err(), "{bad}");
        }
    }

    /// Goal: other people's tools open the file. Method: the histogram crate's own reader, a port of the Java one.
    #[test]
    fn another_reader_of_the_format_understands_it() {
        let bytes = log(&[interval(3, &[1500])]);
        let entries: Vec<LogEntry> = IntervalLogIterator::new(&bytes).map(|entry| entry.unwrap()).collect();
        let [LogEntry::StartTime(_), LogEntry::Interval(one)] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(one.tag().unwrap().as_str(), "shoppers.burst.timed_out.response");
        assert_eq!(one.start_timestamp().as_secs(), 3);
        assert_eq!(one.max(), 1.5);
    }

    #[test]
    fn a_torn_or_broken_line_costs_only_itself() {
        let mut bytes = log(&[interval(0, &[10]), interval(1, &[20]), interval(2, &[30])]);
        bytes.truncate(bytes.len() - 9);
        let text = String::from_utf8(bytes).unwrap().replace(",1.000,1.000,", ",1.000,1.000,0.020,%%");
        let mut problems = Vec::new();
        let intervals: Vec<Interval> = read(text.as_bytes(), &mut problems).collect();
        assert_eq!(intervals.iter().map(|i| i.second).collect::<Vec<_>>(), [0]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].contains("ends in the middle of line 7"), "{problems:?}");
    }

    proptest! {
        /// Goal: no file stops the program. How: any bytes, and logs of which some bytes are others, as a bad disk leaves them.
        #[test]
        fn any_bytes_are_read_or_said_to_be_unreadable(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut problems = Vec::new();
            let _ = read(&bytes, &mut problems).count();
        }

        #[test]
        fn a_log_with_bad_bytes_is_read_or_said_to_be_unreadable(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
            let mut bytes = log(&[interval(0, &[10, 20_000]), interval(7, &[3])]);
            for (at, byte) in changes {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            let mut problems = Vec::new();
            let read = read(&bytes, &mut problems).count();
            prop_assert!(read + problems.len() <= bytes.split(|byte| *byte == b'\n').count());
        }
    }
}
