//! The numbers as an `ExportMetricsServiceRequest` in OTLP's JSON: the mapping of protobuf, with lower camel case and enums as numbers.
//! Format: opentelemetry.io/docs/specs/otlp, and `opentelemetry/proto/metrics/v1/metrics.proto`. 64-bit integers are strings.

use serde_json::{Value as Json, json};

use super::super::{BOUNDS, Family, Kind, Labels, Run, Snapshot, Value};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// The whole request, as of `now`.
pub(super) fn encode(snapshot: &Snapshot, run: &Run, now: jiff::Timestamp) -> Json {
    let times = Times { since: nanos(snapshot.since), now: nanos(now) };
    let metrics: Vec<Json> = snapshot.families.iter().map(|(family, series)| metric(family, series, &times)).collect();
    let resource = [
        ("service.name", "squall"),
        ("service.version", &run.version),
        ("service.instance.id", &run.run_id),
        ("squall.plan", &run.plan),
        ("squall.seed", &run.seed.to_string()),
    ];
    let resource: Vec<Json> = resource.iter().map(|(key, value)| attribute(key, value)).collect();
    json!({"resourceMetrics": [{
        "resource": {"attributes": resource},
        "scopeMetrics": [{"scope": {"name": "squall", "version": run.version}, "metrics": metrics}],
    }]})
}

/// Why not all was taken, in an answer that says that it was: points that were refused.
pub(super) fn refused(answer: &[u8]) -> Option<String> {
    // An answer in protobuf or none at all is a collector that has nothing to say.
    let answer: Json = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let points = partial.get("rejectedDataPoints")?;
    let points = points.as_u64().or_else(|| points.as_str()?.parse().ok())?;
    let why = partial.get("errorMessage").and_then(Json::as_str).filter(|why| !why.is_empty()).unwrap_or("it does not say why");
    let why: String = why.chars().filter(|c| !c.is_control()).take(200).collect();
    (points > 0).then(|| format!("it refused {points} numbers: {why}"))
}

struct Times {
    since: String,
    now: String,
}

fn nanos(time: jiff::Timestamp) -> String {
    time.as_nanosecond().max(0).to_string()
}

fn attribute(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}

fn metric(family: &Family, series: &[(Labels, Value)], times: &Times) -> Json {
    let points: Vec<Json> = series.iter().map(|(labels, value)| point(family, labels, value, times)).collect();
    let (key, data) = match family.kind {
        Kind::Counter => ("sum", json!({"dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true})),
        Kind::Gauge | Kind::Info => ("gauge", json!({"dataPoints": points})),
        Kind::Histogram => ("histogram", json!({"dataPoints": points, "aggregationTemporality": CUMULATIVE})),
    };
    json!({"name": family.name, "description": family.help, "unit": family.unit.ucum(), key: data})
}

fn point(family: &Family, labels: &Labels, value: &Value, times: &Times) -> Json {
    let attributes: Vec<Json> = family.labels.iter().zip(labels.iter()).map(|(key, value)| attribute(key, value)).collect();
    let mut point = json!({"attributes": attributes, "timeUnixNano": times.now});
    if matches!(family.kind, Kind::Counter | Kind::Histogram) {
        point["startTimeUnixNano"] = json!(times.since);
    }
    match value {
        Value::Count(count) => point["asInt"] = json!(count.to_string()),
        Value::Number(number) => point["asDouble"] = json!(number),
        Value::Spread(spread) => {
            point["count"] = json!(spread.count().to_string());
            point["sum"] = json!(spread.sum());
            point["bucketCounts"] = spread.buckets.iter().map(u64::to_string).collect();
            point["explicitBounds"] = json!(BOUNDS);
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use super::super::super::family::{CPU, LATENCY, RECEIVED};
    use super::super::super::registry::Registry;
    use super::*;

    #[test]
    fn a_request_as_the_specification_has_it() {
        let mut registry = Registry::default();
        registry.add(&RECEIVED, &["l", "p"], u64::MAX);
        registry.set(&CPU, &[], 0.25);
        let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        [80, 2_000_000, 120_000_000].iter().for_each(|us| histogram.record(*us).unwrap());
        registry.observe(&LATENCY, &["l", "p", "ok"], Some(&histogram));
        let since = jiff::Timestamp::from_second(10).unwrap();
        let snapshot = Snapshot { since, run: None, ended: false, families: registry.snapshot() };
        let run = Run { run_id: "r".into(), plan: "p \"q\"".into(), seed: 7, version: "0.1.0".into() };
        let request = encode(&snapshot, &run, jiff::Timestamp::from_second(12).unwrap());

        let resource = &request["resourceMetrics"][0];
        assert_eq!(resource["resource"]["attributes"][0], json!({"key": "service.name", "value": {"stringValue": "squall"}}));
        assert_eq!(resource["resource"]["attributes"][3], json!({"key": "squall.plan", "value": {"stringValue": "p \"q\""}}));
        let metrics = &resource["scopeMetrics"][0]["metrics"];
        let place = json!([{"key": "load", "value": {"stringValue": "l"}}, {"key": "phase", "value": {"stringValue": "p"}}]);
        assert_eq!(
            metrics[0],
            json!({
                "name": "squall_received_bytes_total", "description": RECEIVED.help, "unit": "By",
                "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
                    "attributes": place, "startTimeUnixNano": "10000000000", "timeUnixNano": "12000000000",
                    "asInt": "18446744073709551615",
                }]},
            })
        );
        let spread = &metrics[1]["histogram"]["dataPoints"][0];
        assert_eq!((&metrics[1]["unit"], &spread["count"]), (&json!("s"), &json!("3")));
        let (counts, bounds) = (spread["bucketCounts"].as_array().unwrap(), spread["explicitBounds"].as_array().unwrap());
        assert_eq!(counts.len(), bounds.len() + 1);
        assert_eq!((&counts[0], &counts[13], &counts[18]), (&json!("1"), &json!("1"), &json!("1")));
        let gauge = json!({"attributes": [], "timeUnixNano": "12000000000", "asDouble": 0.25});
        assert_eq!(metrics[2]["gauge"]["dataPoints"], json!([gauge]));
    }

    #[test]
    fn points_that_were_refused_are_told() {
        assert_eq!(refused(b""), None);
        assert_eq!(refused(b"{}"), None);
        assert_eq!(refused(br#"{"partialSuccess":{"errorMessage":"a hint"}}"#), None);
        let told = refused(br#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}"#);
        assert_eq!(told.as_deref(), Some("it refused 3 numbers: too old"));
        assert!(refused(br#"{"partialSuccess":{"rejectedDataPoints":1}}"#).is_some());
    }
}
