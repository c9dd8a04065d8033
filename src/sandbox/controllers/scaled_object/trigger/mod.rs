//! What a ScaledObject scales by: one file for each type of trigger. A trigger that the sandbox does not have, or whose metadata is wrong,
//! cannot be made, and says why. All that a trigger reads is bounded in size and time.

mod ask;
mod cron;
mod metadata;
mod metrics_api;
mod prometheus;
mod schedule;

use serde_json::Value;

use self::cron::Cron;
use self::metadata::Metadata;
use self::metrics_api::MetricsApi;
use self::prometheus::Prometheus;
use crate::sandbox::controllers::Shared;

/// The types that the sandbox has.
pub const TYPES: [&str; 3] = ["cron", "metrics-api", "prometheus"];

/// Metrics are numbers of at most this size, in thousandths: replicas are computed of them.
const MILLI_MAX: f64 = 1e15;

#[derive(Clone, Debug)]
pub struct Trigger {
    /// What events call it: its own name, or that of its kind.
    pub name: String,
    pub kind: String,
    /// The metric that the autoscaler asks for: `s0-prometheus`.
    pub metric: String,
    pub target: Target,
    /// Whether the autoscaler is answered with what the operator read last.
    pub cached: bool,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Thousandths per pod.
    AverageMilli(i64),
    /// Thousandths in all.
    ValueMilli(i64),
}

/// What a trigger came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub milli: i64,
    /// Whether there is work: a target at zero is woken.
    pub active: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Cron(Cron),
    MetricsApi(MetricsApi),
    Prometheus(Prometheus),
}

impl Trigger {
    /// Reads the trigger at `index` of a ScaledObject.
    pub fn read(index: usize, trigger: &Value) -> Result<Trigger, String> {
        let kind = trigger["type"].as_str().unwrap_or_default();
        let metadata = Metadata(&trigger["metadata"]);
        let parsed = |source: Result<Source, String>| {
            source.map_err(|why| format!("error parsing {kind} metadata of trigger {index}: {why}"))
        };
        let source = match kind {
            "cron" => parsed(Cron::read(&metadata).map(Source::Cron))?,
            "metrics-api" => parsed(MetricsApi::read(&metadata).map(Source::MetricsApi))?,
            "prometheus" => parsed(Prometheus::read(&metadata).map(Source::Prometheus))?,
            other => return Err(format!("no scaler found for type: {other}; the sandbox has {}", TYPES.join(", "))),
        };
        let (called, metric, milli) = match &source {
            Source::Cron(cron) => ("cronScaler", cron.metric(), 1000),
            Source::MetricsApi(api) => ("metricsAPIScaler", api.metric(), api.target_milli),
            Source::Prometheus(prometheus) => ("prometheusScaler", "prometheus".to_owned(), prometheus.threshold_milli),
        };
        let named = trigger["name"].as_str().filter(|name| !name.is_empty());
        Ok(Trigger {
            name: named.unwrap_or(called).to_owned(),
            kind: kind.to_owned(),
            metric: format!("s{index}-{}", normal(&metric)),
            target: if trigger["metricType"] == "Value" { Target::ValueMilli(milli) } else { Target::AverageMilli(milli) },
            cached: trigger["useCachedMetrics"] == true,
            source,
        })
    }

    /// Reads it now. Service names without a namespace are looked for in `ns`.
    pub async fn ask(&self, shared: &Shared, ns: &str) -> Result<Reading, String> {
        match &self.source {
            Source::Cron(cron) => cron.at(crate::time::wall_now()),
            Source::MetricsApi(api) => api.ask(shared, ns).await,
            Source::Prometheus(prometheus) => prometheus.ask(shared, ns).await,
        }
    }
}

/// A name as metrics may have it.
fn normal(name: &str) -> String {
    name.replace(['/', '.', ':', '%', '(', ')'], "-")
}

/// A number in thousandths. What is too large to compute with is as large as it may be.
fn milli(value: f64) -> i64 {
    (value * 1000.0).clamp(-MILLI_MAX, MILLI_MAX) as i64
}

/// A target of zero or less would ask for pods without end.
fn target_milli(metadata: &Metadata<'_>, field: &str) -> Result<i64, String> {
    let value = metadata.number(field)?.ok_or_else(|| metadata::missing(field))?;
    match milli(value) {
        milli if milli > 0 => Ok(milli),
        _ => Err(format!("{field} is {value}, and must be 0.001 or more")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: &str, metadata: Value) -> Result<Trigger, String> {
        Trigger::read(2, &json!({"type": kind, "metadata": metadata}))
    }

    #[test]
    fn a_trigger_has_the_names_and_the_target_that_keda_gives_it() {
        let cron = json!({"timezone": "Europe/London", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "4"});
        let cron = read("cron", cron).expect("it is well");
        assert_eq!((cron.name.as_str(), cron.metric.as_str()), ("cronScaler", "s2-cron-Europe-London-08xxx-018xxx"));
        assert_eq!(cron.target, Target::AverageMilli(1000));
        let api = json!({"url": "http://127.0.0.1:80/jobs", "valueLocation": "queue.0.depth", "targetValue": "2.5"});
        let api = Trigger::read(0, &json!({"type": "metrics-api", "name": "jobs", "metricType": "Value", "metadata": api}))
            .expect("it is well");
        assert_eq!((api.name.as_str(), api.metric.as_str()), ("jobs", "s0-metric-api-queue-0-depth"));
        assert_eq!(api.target, Target::ValueMilli(2500));
    }

    #[test]
    fn what_the_sandbox_does_not_have_and_what_is_wrong_is_said() {
        let why = |kind: &str, metadata: Value| read(kind, metadata).expect_err("it is refused");
        assert_eq!(why("kafka", json!({})), "no scaler found for type: kafka; the sandbox has cron, metrics-api, prometheus");
        assert!(
            why("prometheus", json!({"query": "q", "threshold": "1"})).contains("missing required parameter \"serverAddress\"")
        );
        let server = "http://127.0.0.1:9090";
        assert!(why("prometheus", json!({"serverAddress": server, "query": "q", "threshold": "0"})).contains("threshold is 0"));
        assert!(why("prometheus", json!({"serverAddress": server, "query": "q", "threshold": "many"})).contains("threshold"));
        assert!(why("prometheus", json!({"serverAddress": "https://x", "query": "q", "threshold": "1"})).contains("http"));
    }
}
