//! The Prometheus text format, read into gauges and counters: labels with escapes, exemplars, time stamps, OpenMetrics' additions.
//! Histograms' buckets and summaries' quantiles are left out (Squall keeps its own histograms); their `_sum` and `_count` stay.
//! Format: prometheus.io/docs/instrumenting/exposition_formats, and the OpenMetrics 1.0 specification.

use std::collections::BTreeMap;
use std::fmt;

/// One sample of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    /// By name, so that the same series is written the same way whatever order its labels came in.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Where a text is not in the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl Sample {
    /// The series: its name, and its labels where it has any, as in `http_requests_total{code="200"}`.
    pub fn key(&self) -> String {
        if self.labels.is_empty() {
            return self.name.clone();
        }
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")))
            .collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

/// Reads a whole page.
///
/// # Errors
/// The first place that is not in the format; a page that is wrong in one place is not believed in others.
pub fn read(text: &str) -> Result<Vec<Sample>, Error> {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut samples = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some(comment) = line.trim_start().strip_prefix('#') {
            let mut words = comment.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(family), Some(kind)) => {
                    families.insert(family.to_owned(), kind.to_owned());
                }
                (Some("EOF"), None, None) => break,
                _ => {}
            }
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let sample = Reader { line, at: 0 }.sample().map_err(|(at, what)| Error {
            line: index + 1,
            column: line[..at].chars().count() + 1,
            what,
        })?;
        // A number that is none says nothing about the service, and the recording has no word for infinity.
        if !sample.value.is_finite() || is_distribution(&sample, &families) {
            continue;
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// Buckets and quantiles: many series for one fact.
fn is_distribution(sample: &Sample, families: &BTreeMap<String, String>) -> bool {
    let kind = |family: &str| families.get(family).map(String::as_str);
    let bucket_of = sample.name.strip_suffix("_bucket");
    let bucket = bucket_of.is_some_and(|family| matches!(kind(family), Some("histogram" | "gaugehistogram")))
        || (bucket_of.is_some() && sample.labels.contains_key("le"));
    let quantile = kind(&sample.name) == Some("summary") && sample.labels.contains_key("quantile");
    let created = sample.name.ends_with("_created") && kind(sample.name.trim_end_matches("_created")).is_some();
    bucket || quantile || created
}

/// One line, read from left to right.
struct Reader<'a> {
    line: &'a str,
    at: usize,
}

type Failure = (usize, String);

impl Reader<'_> {
    fn sample(mut self) -> Result<Sample, Failure> {
        self.blanks();
        let name = self.name("a metric's name")?;
        self.blanks();
        let mut labels = BTreeMap::new();
        if self.take('{') {
            self.labels(&mut labels)?;
        }
        self.blanks();
        let value = self.number()?;
        // A time stamp may follow; the moment at which it was read is what counts. So may an exemplar, after `#`.
        self.blanks();
        if !self.rest().is_empty() && !self.rest().starts_with('#') {
            let at = self.at;
            let stamp = self.word();
            if stamp.parse::<f64>().is_err() {
                return Err((at, format!("`{stamp}` is not a time stamp")));
            }
            self.blanks();
        }
        if !self.rest().is_empty() && !self.rest().starts_with('#') {
            return Err((self.at, format!("`{}` does not belong here", self.rest())));
        }
        Ok(Sample { name, labels, value })
    }

    fn labels(&mut self, labels: &mut BTreeMap<String, String>) -> Result<(), Failure> {
        loop {
            self.blanks();
            if self.take('}') {
                return Ok(());
            }
            let at = self.at;
            let name = self.name("a label's name")?;
            self.blanks();
            if !self.take('=') {
                return Err((self.at, format!("label {name} has no `=`")));
            }
            self.blanks();
            let value = self.quoted(&name)?;
            if labels.insert(name.clone(), value).is_some() {
                return Err((at, format!("label {name} is there twice")));
            }
            self.blanks();
            // A comma may also stand before the closing brace.
            if !self.take(',') && !self.rest().starts_with('}') {
                return Err((self.at, "a comma or `}` is missing between labels".into()));
            }
        }
    }

    fn quoted(&mut self, label: &str) -> Result<String, Failure> {
        if !self.take('"') {
            return Err((self.at, format!("the value of label {label} is not in quotes")));
        }
        let begin = self.at;
        let mut value = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = begin + offset + 1;
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    // Unknown escapes are kept as they are, as Prometheus does.
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err((begin, format!("the value of label {label} does not end")))
    }

    fn name(&mut self, what: &str) -> Result<String, Failure> {
        let length = self
            .rest()
            .char_indices()
            .find(|(index, c)| !(c.is_ascii_alphabetic() || *c == '_' || *c == ':' || (*index > 0 && c.is_ascii_digit())))
            .map_or(self.rest().len(), |(index, _)| index);
        if length == 0 {
            return Err((self.at, format!("{what} is missing")));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(name)
    }

    fn number(&mut self) -> Result<f64, Failure> {
        let at = self.at;
        let word = self.word();
        let value = match word.to_ascii_lowercase().as_str() {
            "" => return Err((at, "the value is missing".into())),
            "nan" => f64::NAN,
            "inf" | "+inf" => f64::INFINITY,
            "-inf" => f64::NEG_INFINITY,
            text => text.parse().map_err(|_| (at, format!("`{word}` is not a number")))?,
        };
        Ok(value)
    }

    fn word(&mut self) -> String {
        let length = self.rest().find([' ', '\t']).unwrap_or(self.rest().len());
        let word = self.rest()[..length].to_owned();
        self.at += length;
        word
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn rest(&self) -> &str {
        &self.line[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Sample {
        read(line).unwrap_or_else(|e| panic!("{e}")).pop().expect("one sample")
    }

    #[test]
    fn labels_may_hold_anything_that_is_quoted() {
        let sample = one(r#"http_requests_total{path="/a,b}\"\\ \n", code="200",} 1.5e3 1395066363000"#);
        assert_eq!(sample.value, 1500.0);
        assert_eq!(sample.labels["path"], "/a,b}\"\\ \n");
        assert_eq!(sample.key(), r#"http_requests_total{code="200",path="/a,b}\"\\ \n"}"#);
    }

    #[test]
    fn exemplars_time_stamps_comments_and_odd_numbers_are_taken() {
        assert_eq!(one("x_total 17 # {trace_id=\"a b\"} 0.67 1.5").value, 17.0);
        assert_eq!(one("  x\t-3 \t 12").value, -3.0);
        assert!(read("x NaN\nx +Inf\nx -Inf\n\n# HELP x y\n# EOF\nnot read at all !").unwrap().is_empty());
        assert_eq!(one("x 1\r").value, 1.0);
    }

    #[test]
    fn buckets_and_quantiles_are_left_out_and_sums_stay() {
        let text = "# TYPE d histogram\nd_bucket{le=\"1\"} 3\nd_bucket{le=\"+Inf\"} 4\nd_sum 5\nd_count 4\n\
            # TYPE q summary\nq{quantile=\"0.5\"} 1\nq_sum 2\nq_count 1\n# TYPE ice_bucket gauge\nice_bucket 7\n";
        let names: Vec<String> = read(text).unwrap().iter().map(Sample::key).collect();
        assert_eq!(names, ["d_sum", "d_count", "q_sum", "q_count", "ice_bucket"]);
    }

    #[test]
    fn an_error_says_where() {
        for (text, line, column) in [
            ("x 1\ny", 2, 2),
            ("x{a=b} 1", 1, 5),
            ("x{a=\"b} 1", 1, 6),
            ("x{a=\"b\" c=\"d\"} 1", 1, 9),
            ("x{a=\"1\",a=\"2\"} 1", 1, 9),
            ("x one", 1, 3),
            ("x 1 2 3", 1, 7),
            ("<html>", 1, 1),
            ("9x 1", 1, 1),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        }
    }

    proptest! {
        /// Goal: a broken exporter never takes the run down. Feed anything.
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[ -~\n\\{\\}\"\\\\=,#]{0,80}") {
            let _ = read(&text);
        }

        /// Goal: what is written by the rules comes back. Any label value, escaped as the format says.
        #[test]
        fn any_label_value_comes_back(value in "\\PC*") {
            let sample = Sample { name: "x".into(), labels: [("l".to_owned(), value)].into(), value: 2.0 };
            prop_assert_eq!(read(&format!("{} 2\n", sample.key())).unwrap(), vec![sample]);
        }
    }
}
