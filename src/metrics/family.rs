//! The metrics that there are: the one table behind every exporter, `squall list` and the README. Names follow the conventions of
//! Prometheus (base units, `_seconds`, `_bytes`, `_ratio`, `_total`); they and their labels only ever grow.

/// Metrics of one name, told apart by their labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// The names of the labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence without a full stop.
    pub help: &'static str,
}

/// How a family's numbers behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from zero at the start of the run.
    Counter,
    /// Goes up and down; absent until it was first seen.
    Gauge,
    /// How often a duration was at most so long, by [`BOUNDS`].
    Histogram,
    /// Always 1: what it says is in its labels.
    Info,
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    None,
    Seconds,
    Bytes,
    Ratio,
}

/// Upper bounds of the buckets of every histogram, in seconds: one, two and a half, five, from a tenth of a millisecond to ten seconds,
/// and then half a minute and a whole one, beyond which few timeouts lie.
pub const BOUNDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

const PLACE: &[&str] = &["load", "phase"];
const OBJECT: &[&str] = &["namespace", "kind", "name"];

pub static RUN: Family = Family {
    name: "squall_run_info",
    kind: Kind::Info,
    unit: Unit::None,
    labels: &["run_id", "plan", "seed", "version"],
    help: "Which run this is",
};
pub static STARTED: Family = Family {
    name: "squall_run_start_time_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &[],
    help: "When the first phase starts, in seconds since 1970",
};
pub static ENDED: Family = Family {
    name: "squall_run_ended",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &[],
    help: "Whether the run is over and the numbers are its last: 1 then, 0 before",
};
pub static PHASE: Family = Family {
    name: "squall_phase_active",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &["phase"],
    help: "1 for the phase that is going on",
};
pub static INTENDED: Family = Family {
    name: "squall_requests_intended_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Requests that came due",
};
pub static SENT: Family = Family {
    name: "squall_requests_sent_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Requests whose first byte was sent",
};
pub static REQUESTS: Family = Family {
    name: "squall_requests_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "phase", "outcome"],
    help: "Requests that ended, by how: ok, rejected, failed, timed_out, unsent",
};
pub static CAUSES: Family = Family {
    name: "squall_request_causes_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "phase", "cause"],
    help: "Requests that did not end ok, by why; after the first 32 causes the others are _other",
};
pub static RETRY_AFTER: Family = Family {
    name: "squall_requests_retry_after_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Rejected requests whose answer said when to come again",
};
pub static SERVED: Family = Family {
    name: "squall_answers_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "served_by"],
    help: "Answers by who gave them, where answers say so; after the first 64 the others are _other",
};
pub static RECEIVED: Family =
    Family { name: "squall_received_bytes_total", kind: Kind::Counter, unit: Unit::Bytes, labels: PLACE, help: "Bytes of answers" };
pub static WRITTEN: Family =
    Family { name: "squall_sent_bytes_total", kind: Kind::Counter, unit: Unit::Bytes, labels: PLACE, help: "Bytes of requests" };
pub static MESSAGES: Family = Family {
    name: "squall_messages_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Messages that came back, where answers are made of them (gRPC, WebSocket)",
};
pub static LATENCY: Family = Family {
    name: "squall_latency_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["load", "phase", "outcome"],
    help: "From the moment a request was due to its end: what a user waits",
};
pub static SERVICE: Family = Family {
    name: "squall_service_time_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["load", "phase", "outcome"],
    help: "From the actual send of a request to its end: what the service takes",
};
pub static FIRST_BYTE: Family = Family {
    name: "squall_first_byte_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["load", "phase", "outcome"],
    help: "From the actual send of a request to the first byte of its answer",
};
pub static ATTEMPTS: Family = Family {
    name: "squall_attempts_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "phase", "outcome"],
    help: "Attempts that ended, of loads whose client retries or hedges, by how: as requests do, or cancelled",
};
pub static ATTEMPTS_SENT: Family = Family {
    name: "squall_attempts_sent_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Attempts whose first byte was sent; by the requests that were sent, this is the amplification",
};
pub static ATTEMPTS_WITHHELD: Family = Family {
    name: "squall_attempts_withheld_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: PLACE,
    help: "Retries and hedges that their budget did not allow",
};
pub static ATTEMPT_TIME: Family = Family {
    name: "squall_attempt_time_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["load", "phase", "outcome"],
    help: "From the actual send of an attempt to its end",
};
pub static LATENESS: Family = Family {
    name: "squall_lateness_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: PLACE,
    help: "From the moment a request was due to its actual send: what the generator adds",
};
pub static OPENED: Family = Family {
    name: "squall_connections_opened_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "phase", "opened"],
    help: "Connections, by whether they could be opened: yes, no",
};
pub static STEP: Family = Family {
    name: "squall_connection_step_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["load", "phase", "step"],
    help: "What a step of opening a connection took: connect, tunnel (through a proxy), tls, upgrade (to a WebSocket)",
};
pub static SENT_TO: Family = Family {
    name: "squall_address_requests_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["load", "address"],
    help: "Requests that were sent, by the address that they went to; after the first 64 the others are _other",
};
pub static IN_FLIGHT: Family = Family {
    name: "squall_requests_in_flight",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &[],
    help: "Requests, and runs of flows, due and not ended, over all loads",
};
pub static CONNECTIONS: Family = Family {
    name: "squall_connections",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &[],
    help: "Connections open, over all loads",
};
pub static CPU: Family = Family {
    name: "squall_worker_cpu_ratio",
    kind: Kind::Gauge,
    unit: Unit::Ratio,
    labels: &[],
    help: "CPU of the busiest load worker, as a share of one core",
};
pub static STEAL: Family = Family {
    name: "squall_steal_ratio",
    kind: Kind::Gauge,
    unit: Unit::Ratio,
    labels: &[],
    help: "Time that the hypervisor took from this machine, as a share of one core",
};
pub static WINDOW: Family = Family {
    name: "squall_pacing_window_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &[],
    help: "By how much a request may be sent late so that several are sent together",
};
pub static FAULT: Family = Family {
    name: "squall_fault_state",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &["fault", "kind", "state"],
    help: "1 for the state that a fault is in; injected, effective and healing are those in which it acts",
};
pub static FAULT_ENTERED: Family = Family {
    name: "squall_fault_entered_time_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &["fault", "kind", "state"],
    help: "When a fault came to a state, in seconds since 1970: also of states too short to be scraped",
};
pub static READY: Family = Family {
    name: "squall_ready_replicas",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: OBJECT,
    help: "Pods that are ready, of each workload that is watched",
};
pub static DESIRED: Family = Family {
    name: "squall_desired_replicas",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: OBJECT,
    help: "Pods that a workload asks for, or that an autoscaler asks for it",
};
pub static GAPS: Family = Family {
    name: "squall_gaps_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &[],
    help: "Stretches in which something was not observed; the recording says what",
};
pub static BOUNDS_HIT: Family = Family {
    name: "squall_bounds_hit_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &[],
    help: "Times that the recording tells of a bound of squall's own that was hit",
};
pub static LEFT_OUT: Family = Family {
    name: "squall_series_left_out_total",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &[],
    help: "Numbers that are not here since there are too many series already",
};

/// Every family, in the order in which they are listed and exported.
pub static FAMILIES: [&Family; 36] = [
    &RUN,
    &STARTED,
    &ENDED,
    &PHASE,
    &INTENDED,
    &SENT,
    &REQUESTS,
    &CAUSES,
    &RETRY_AFTER,
    &SERVED,
    &RECEIVED,
    &WRITTEN,
    &MESSAGES,
    &LATENCY,
    &SERVICE,
    &FIRST_BYTE,
    &ATTEMPTS,
    &ATTEMPTS_SENT,
    &ATTEMPTS_WITHHELD,
    &ATTEMPT_TIME,
    &LATENESS,
    &OPENED,
    &STEP,
    &SENT_TO,
    &IN_FLIGHT,
    &CONNECTIONS,
    &CPU,
    &STEAL,
    &WINDOW,
    &FAULT,
    &FAULT_ENTERED,
    &READY,
    &DESIRED,
    &GAPS,
    &BOUNDS_HIT,
    &LEFT_OUT,
];

impl Family {
    /// The name with its labels, as in `squall_requests_total{load, phase, outcome}`.
    pub fn signature(&self) -> String {
        match self.labels {
            [] => self.name.to_owned(),
            labels => format!("{}{{{}}}", self.name, labels.join(", ")),
        }
    }
}

impl Kind {
    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

impl Unit {
    /// The word that ends the names of metrics in this unit.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Unit::None => None,
            Unit::Seconds => Some("seconds"),
            Unit::Bytes => Some("bytes"),
            Unit::Ratio => Some("ratio"),
        }
    }

    /// In the Unified Code for Units of Measure, as OpenTelemetry wants it.
    pub fn ucum(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Seconds => "s",
            Unit::Bytes => "By",
            Unit::Ratio => "1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions() {
        assert_eq!(FAMILIES.iter().map(|family| family.name).collect::<BTreeSet<_>>().len(), FAMILIES.len());
        for family in FAMILIES {
            let name = family.name;
            assert!(name.starts_with("squall_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), family.kind == Kind::Info, "{name}");
            if let Some(unit) = family.unit.suffix() {
                assert!(name.trim_end_matches("_total").ends_with(unit), "{name} does not say its unit, {unit}");
            }
            assert!(!["_bucket", "_count", "_sum", "_created"].iter().any(|taken| name.ends_with(taken)), "{name}");
            assert!(!family.labels.contains(&"le") && !family.labels.contains(&"job"), "{name}");
            assert!(!family.help.contains(['\\', '\n', '"']) && !family.help.ends_with('.'), "{name}: {}", family.help);
        }
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS.is_sorted_by(|one, next| one < next));
    }
}
