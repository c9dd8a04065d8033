//! The numbers as a page: Prometheus text 0.0.4, or OpenMetrics 1.0 for who asks for that.
//! Formats: prometheus.io/docs/instrumenting/exposition_formats, and the OpenMetrics 1.0 specification.

use std::fmt::Write;

use super::family::{BOUNDS, Family, Kind};
use super::numbers::Snapshot;
use super::registry::{Labels, Spread, Value};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What `Accept` asks for: OpenMetrics where it is wanted at least as much as plain text, and plain text where nothing is said.
    pub fn accepted(accept: &str) -> Format {
        let weight = |media: &str| {
            let ranges = accept.split(',').filter(|range| range.split(';').next().is_some_and(|kind| kind.trim() == media));
            let weights = ranges.map(|range| {
                let q = range.split(';').find_map(|option| option.trim().strip_prefix("q="));
                q.map_or(1.0, |q| q.trim().parse::<f64>().unwrap_or(0.0))
            });
            weights.fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The whole page.
pub fn render(snapshot: &Snapshot, format: Format) -> String {
    let mut page = String::with_capacity(1 << 14);
    for (family, series) in &snapshot.families {
        describe(&mut page, family, format);
        for (labels, value) in series {
            match value {
                Value::Count(count) => line(&mut page, family, "", labels, None, *count),
                Value::Number(number) => line(&mut page, family, "", labels, None, *number),
                Value::Spread(spread) => distribution(&mut page, family, labels, spread, format),
            }
        }
    }
    if format == Format::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page
}

/// OpenMetrics calls a family without the suffix that its samples have; Prometheus text knows neither that nor infos.
fn describe(page: &mut String, family: &Family, format: Format) {
    let (name, kind) = match (format, family.kind) {
        (Format::OpenMetrics, Kind::Counter) => (family.name.trim_end_matches("_total"), family.kind.as_str()),
        (Format::OpenMetrics, Kind::Info) => (family.name.trim_end_matches("_info"), family.kind.as_str()),
        (Format::Prometheus, Kind::Info) => (family.name, Kind::Gauge.as_str()),
        _ => (family.name, family.kind.as_str()),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "# HELP {name} {}.", family.help);
    let _ = writeln!(page, "# TYPE {name} {kind}");
    if let (Format::OpenMetrics, Some(unit)) = (format, family.unit.suffix()) {
        let _ = writeln!(page, "# UNIT {name} {unit}");
    }
}

fn distribution(page: &mut String, family: &Family, labels: &Labels, spread: &Spread, format: Format) {
    let mut below = 0;
    for (index, count) in spread.buckets.iter().enumerate() {
        below += count;
        let bound = match (BOUNDS.get(index), format) {
            (None, _) => "+Inf".to_owned(),
            (Some(bound), Format::Prometheus) => bound.to_string(),
            // `1.0`, where Rust and Prometheus write `1`: bounds are told apart as text.
            (Some(bound), Format::OpenMetrics) => format!("{bound:?}"),
        };
        line(page, family, "_bucket", labels, Some(&bound), below);
    }
    line(page, family, "_sum", labels, None, spread.sum());
    line(page, family, "_count", labels, None, below);
}

fn line(page: &mut String, family: &Family, suffix: &str, labels: &Labels, bound: Option<&str>, value: impl std::fmt::Display) {
    page.push_str(family.name);
    page.push_str(suffix);
    let own = family.labels.iter().copied().zip(labels.iter().map(String::as_str));
    let mut before = "{";
    for (name, value) in own.chain(bound.map(|bound| ("le", bound))) {
        let _ = write!(page, "{before}{name}=\"{}\"", escaped(value));
        before = ",";
    }
    if before == "," {
        page.push('}');
    }
    let _ = writeln!(page, " {value}");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::family::{CPU, LATENESS, REQUESTS, RUN};
    use super::super::registry::Registry;
    use super::*;
    use hdrhistogram::Histogram;

    fn snapshot() -> Snapshot {
        let mut registry = Registry::default();
        registry.set(&RUN, &["r", "a \\ \"b\"\nc", "7", "0.1.0"], 1.0);
        registry.add(&REQUESTS, &["l", "p", "ok"], 3);
        registry.set(&CPU, &[], 0.25);
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        [150, 2_000_000, 120_000_000].iter().for_each(|us| histogram.record(*us).unwrap());
        registry.observe(&LATENESS, &["l", "p"], Some(&histogram));
        Snapshot { since: jiff::Timestamp::UNIX_EPOCH, run: None, ended: false, families: registry.snapshot() }
    }

    #[test]
    fn a_page_in_prometheus_text() {
        let page = render(&snapshot(), Format::Prometheus);
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(
            lines[..8],
            [
                "# HELP squall_run_info Which run this is.",
                "# TYPE squall_run_info gauge",
                "squall_run_info{run_id=\"r\",plan=\"a \\\\ \\\"b\\\"\\nc\",seed=\"7\",version=\"0.1.0\"} 1",
                "# HELP squall_requests_total Requests that ended, by how: ok, rejected, failed, timed_out, unsent.",
                "# TYPE squall_requests_total counter",
                "squall_requests_total{load=\"l\",phase=\"p\",outcome=\"ok\"} 3",
                "# HELP squall_lateness_seconds From the moment a request was due to its actual send: what the generator adds.",
                "# TYPE squall_lateness_seconds histogram",
            ]
        );
        for line in [
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"0.0001\"} 0",
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"0.00025\"} 1",
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"1\"} 1",
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"2.5\"} 2",
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"+Inf\"} 3",
            "squall_lateness_seconds_count{load=\"l\",phase=\"p\"} 3",
            "squall_worker_cpu_ratio 0.25",
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("EOF") && page.ends_with('\n'));
    }

    #[test]
    fn a_page_in_openmetrics() {
        let page = render(&snapshot(), Format::OpenMetrics);
        for line in [
            "# TYPE squall_run info",
            "# TYPE squall_requests counter",
            "squall_requests_total{load=\"l\",phase=\"p\",outcome=\"ok\"} 3",
            "# UNIT squall_lateness_seconds seconds",
            "squall_lateness_seconds_bucket{load=\"l\",phase=\"p\",le=\"1.0\"} 1",
            "# UNIT squall_worker_cpu_ratio ratio",
        ] {
            assert!(page.lines().any(|known| known == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("\n# EOF\n"));
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html", Format::Prometheus),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Prometheus),
            // What a Prometheus of today sends.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
