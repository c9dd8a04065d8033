//! What the service says about itself, in Prometheus text. Every series is fixed beforehand, so its memory is too.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Every status that the service answers with.
const CODES: [u16; 6] = [200, 429, 500, 502, 503, 504];

/// The service's counters. Relaxed throughout: they are read for display, nothing is ordered by them.
#[derive(Default)]
pub struct Metrics {
    in_flight: AtomicU64,
    by_code: [AtomicU64; CODES.len()],
    by_bucket: [AtomicU64; BUCKETS.len()],
    duration_micros: AtomicU64,
    answered: AtomicU64,
    pub dependency_operations: AtomicU64,
    pub dependency_attempts: AtomicU64,
    pub dependency_reconnects: AtomicU64,
    pub retries_denied: AtomicU64,
}

/// A request being worked on or waiting to be; dropping it ends that.
pub struct InFlight(std::sync::Arc<Metrics>);

impl Metrics {
    pub fn begin(self: &std::sync::Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(std::sync::Arc::clone(self))
    }

    /// Counts one answer of the service proper; probes and scrapes are not its work.
    pub fn answered(&self, code: u16, took: Duration) {
        if let Some(slot) = CODES.iter().position(|known| *known == code) {
            self.by_code[slot].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(slot) = BUCKETS.iter().position(|bound| took.as_secs_f64() <= *bound) {
            self.by_bucket[slot].fetch_add(1, Ordering::Relaxed);
        }
        self.duration_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn answers(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// The exposition in Prometheus text format 0.0.4.
    pub fn text(&self, queued: usize, ready: bool) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut out = String::with_capacity(3072);
        let mut plain = |name: &str, kind: &str, help: &str, value: f64| {
            // Writing to a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        plain(
            "http_requests_in_flight",
            "gauge",
            "Requests accepted and not yet answered, waiting ones included.",
            read(&self.in_flight) as f64,
        );
        plain("queue_depth", "gauge", "Requests that wait for a worker.", queued as f64);
        plain("ready", "gauge", "Whether /readyz says so.", f64::from(u8::from(ready)));
        plain(
            "dependency_operations_total",
            "counter",
            "Calls that the service needed of its dependency.",
            read(&self.dependency_operations) as f64,
        );
        plain(
            "dependency_attempts_total",
            "counter",
            "Attempts that these calls took, retries included.",
            read(&self.dependency_attempts) as f64,
        );
        plain(
            "dependency_reconnects_total",
            "counter",
            "Attempts repeated on a new connection because a pooled one was stale.",
            read(&self.dependency_reconnects) as f64,
        );
        plain(
            "dependency_retries_denied_total",
            "counter",
            "Retries that the budget did not allow.",
            read(&self.retries_denied) as f64,
        );
        plain(
            "process_cpu_seconds_total",
            "counter",
            "CPU time that this process has used.",
            crate::time::process_cpu().as_secs_f64(),
        );

        out.push_str("# HELP http_requests_total Answers by status.\n# TYPE http_requests_total counter\n");
        for (code, count) in CODES.iter().zip(&self.by_code) {
            let _ = writeln!(out, "http_requests_total{{code=\"{code}\"}} {}", read(count));
        }
        let name = "http_request_duration_seconds";
        let _ = write!(out, "# HELP {name} From acceptance to answer.\n# TYPE {name} histogram\n");
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(&self.by_bucket) {
            below += read(count);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let all = read(&self.answered);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {all}");
        let _ = writeln!(out, "{name}_sum {}", read(&self.duration_micros) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count {all}");
        out
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn buckets_add_up_and_the_gauge_goes_back() {
        let metrics = Arc::new(Metrics::default());
        let waiting = metrics.begin();
        metrics.answered(200, Duration::from_millis(7));
        metrics.answered(503, Duration::from_millis(70));
        metrics.answered(504, Duration::from_secs(70));
        let text = metrics.text(3, true);
        for line in [
            "http_requests_in_flight 1\n",
            "queue_depth 3\n",
            "http_requests_total{code=\"200\"} 1\n",
            "http_request_duration_seconds_bucket{le=\"0.005\"} 0\n",
            "http_request_duration_seconds_bucket{le=\"0.01\"} 1\n",
            "http_request_duration_seconds_bucket{le=\"10\"} 2\n",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 3\n",
            "http_request_duration_seconds_sum 70.077\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        drop(waiting);
        assert!(metrics.text(0, true).contains("http_requests_in_flight 0\n"));
    }
}
