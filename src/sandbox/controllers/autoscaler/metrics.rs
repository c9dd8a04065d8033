//! What a metrics server and metrics adapters do for a real autoscaler: CPU and memory from the pods' processes, numbers that pods expose on
//! `/metrics`, and what the triggers of a ScaledObject read. A pod that does not answer has no sample, which is for the decision to judge.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::decide::{Reading, selector_in_words};
use super::replicas::Sample;
use super::spec::{Metric, Spec};
use crate::sandbox::api::access::{ContainerUsage, PodAccess as _, Usage};
use crate::sandbox::controllers::{Shared, scaled_object};
use crate::sandbox::network::get::{Get, get};
use crate::sandbox::objects::{Key, is_leaving, key};
use crate::sandbox::store::text;
use crate::time::wall_now;

/// Pods scraped at the same time.
const SCRAPES_MAX: usize = 32;
/// How much of a page of metrics is read.
const PAGE_MAX: usize = 4 << 20;

/// One reading for each metric of the spec, in order.
pub async fn read(shared: &Shared, ns: &str, spec: &Spec, pods: &[Arc<Value>]) -> Vec<Reading> {
    let wants_usage = spec.metrics.iter().any(|m| matches!(m, Metric::Resource { .. }));
    let usage = if wants_usage { shared.kubelet.usage(shared.autoscaling.sync).await } else { BTreeMap::new() };
    let scrapes = spec.metrics.iter().any(|m| matches!(m, Metric::Pods { .. }));
    let pages = if scrapes { scrape(shared, pods).await } else { vec![] };
    let mut readings = vec![];
    for metric in &spec.metrics {
        readings.push(match metric {
            Metric::Resource { name, container, .. } => resource(name, container.as_deref(), pods, &usage),
            Metric::Pods { name, .. } => {
                let at_ms = wall_now().as_millisecond();
                let values = pages.iter().filter_map(|(pod, page)| Some((pod.clone(), gauge(page, name)?)));
                let milli = |value: f64| (value * 1000.0).round() as i64;
                found(values.map(|(pod, value)| (pod, Sample { milli: milli(value), at_ms, window_ms: 0 }))).ok_or_else(|| {
                    "unable to fetch metrics from custom metrics API: no metrics returned from custom metrics API".to_owned()
                })
            }
            Metric::External { name, selector, .. } => external(shared, ns, name, selector).await,
            Metric::Unserved { kind, name } => {
                Err(format!("unable to get metric {name}: {kind} metrics are not served by the sandbox"))
            }
        });
    }
    readings
}

/// What the ScaledObject that the selector names reads. Nobody else serves external metrics here.
async fn external(shared: &Shared, ns: &str, name: &str, selector: &Value) -> Reading {
    let answer = match selector["matchLabels"][scaled_object::NAME_LABEL].as_str() {
        Some(scaled) => scaled_object::metric(shared, ns, scaled, name).await,
        None => Err(format!("the server could not find the requested resource (get {name}.external.metrics.k8s.io)")),
    };
    let milli = answer.map_err(|why| {
        let selector = selector_in_words(selector);
        format!("unable to get external metric {ns}/{name}/{selector}: unable to fetch metrics from external metrics API: {why}")
    })?;
    Ok(BTreeMap::from([(name.to_owned(), Sample { milli, at_ms: wall_now().as_millisecond(), window_ms: 0 })]))
}

fn found(samples: impl Iterator<Item = (String, Sample)>) -> Option<BTreeMap<String, Sample>> {
    let samples: BTreeMap<String, Sample> = samples.collect();
    (!samples.is_empty()).then_some(samples)
}

/// One resource of pods, or of one container of each. A container that a pod does not have is an error and no idle one.
fn resource(name: &str, container: Option<&str>, pods: &[Arc<Value>], usage: &BTreeMap<Key, Usage>) -> Reading {
    let mut samples = BTreeMap::new();
    for pod in pods {
        let Some(used) = usage.get(&key(pod)) else { continue };
        let mut declared = pod["spec"]["containers"].as_array().into_iter().flatten();
        if let Some(container) = container.filter(|container| !declared.any(|c| c["name"] == *container)) {
            let (ns, pod) = key(pod);
            return Err(format!("container {container} not present in metrics for pod {ns}/{pod}"));
        }
        samples.extend(sample(name, container, used).map(|sample| (text(pod, "name").to_owned(), sample)));
    }
    found(samples.into_iter()).ok_or_else(|| "no metrics returned from resource metrics API".to_owned())
}

/// `None` for a resource that is not measured, and when nothing of what was asked for runs.
fn sample(resource: &str, container: Option<&str>, usage: &Usage) -> Option<Sample> {
    let of = |used: &ContainerUsage| match resource {
        "memory" => Some(used.memory_bytes as i64 * 1000),
        // Each container rounds up, as the metrics client does.
        "cpu" => Some((used.cpu_nanocores as i64 + 999_999) / 1_000_000),
        _ => None,
    };
    let mut chosen = usage.containers.iter().filter(|c| container.is_none_or(|name| name == c.name)).peekable();
    chosen.peek()?;
    let milli = chosen.map(of).sum::<Option<i64>>()?;
    Some(Sample { milli, at_ms: usage.at_ms, window_ms: usage.window_ms })
}

/// The metrics pages of all pods that run, by pod name.
async fn scrape(shared: &Shared, pods: &[Arc<Value>]) -> Vec<(String, String)> {
    // A pod that hangs must not cost its autoscaler the next sync.
    let timeout = (shared.autoscaling.sync / 2).clamp(Duration::from_millis(250), Duration::from_secs(10));
    let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running" && !is_leaving(pod));
    let asks = running.filter_map(|pod| {
        let annotation = |name: &str| pod["metadata"]["annotations"][name].as_str();
        let port = match annotation("prometheus.io/port") {
            Some(port) => port.parse().ok()?,
            None => u16::try_from(pod["spec"]["containers"][0]["ports"][0]["containerPort"].as_i64()?).ok()?,
        };
        let ip: Ipv4Addr = pod["status"]["podIP"].as_str()?.parse().ok()?;
        let path = annotation("prometheus.io/path").unwrap_or("/metrics").to_owned();
        let network = shared.kubelet.network().clone();
        let name = text(pod, "name").to_owned();
        let scrape: BoxFuture<'static, Option<(String, String)>> = Box::pin(async move {
            let ask = Get { ip, port, path, headers: vec![], timeout, body_max: PAGE_MAX, agent: "squall-sandbox-metrics" };
            match get(&network, ask).await {
                Ok(answer) if answer.status == 200 => Some((name, answer.body)),
                Ok(answer) => {
                    tracing::debug!("metrics of pod {name}: status {}", answer.status);
                    None
                }
                Err(error) => {
                    tracing::debug!("metrics of pod {name}: {error}");
                    None
                }
            }
        });
        Some(scrape)
    });
    let asks: Vec<_> = asks.collect();
    futures::stream::iter(asks).buffer_unordered(SCRAPES_MAX).filter_map(std::future::ready).collect().await
}

/// The sum of a gauge's series on a page of Prometheus text; `None` when it has none.
fn gauge(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix(name)?;
        let rest = match rest.chars().next()? {
            '{' => &rest[end_of_labels(rest)?..],
            ' ' | '\t' => rest,
            // A longer name that begins the same way.
            _ => return None,
        };
        rest.split_whitespace().next()?.parse::<f64>().ok().filter(|value| value.is_finite())
    });
    values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or(0.0) + value))
}

/// Where a label set ends: after the first `}` outside of quotes.
fn end_of_labels(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(i + 1),
            _ => (),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gauge_is_the_sum_of_its_series_and_not_of_its_namesakes() {
        let page = "# TYPE in_flight gauge\nin_flight{path=\"/a}b\",x=\"\\\"\"} 2\nin_flight{path=\"/c\"} 1.5 1700000000\n\
                    in_flight_total 99\nother 7\n";
        assert_eq!(gauge(page, "in_flight"), Some(3.5));
        assert_eq!(gauge(page, "other"), Some(7.0));
        assert_eq!(gauge(page, "missing"), None);
        assert_eq!(gauge("in_flight NaN\n", "in_flight"), None);
    }

    #[test]
    fn what_is_not_measured_has_no_sample_and_a_container_that_is_not_there_is_an_error() {
        let pod = |name: &str| {
            Arc::new(
                json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            )
        };
        let used = |name: &str| ContainerUsage { name: name.into(), cpu_nanocores: 1, memory_bytes: 5 };
        let usage = |containers| Usage { at_ms: 1, window_ms: 1, containers };
        let all = BTreeMap::from([
            (("shop".to_owned(), "p".to_owned()), usage(vec![used("a"), used("b")])),
            (("shop".to_owned(), "q".to_owned()), usage(vec![used("a")])),
        ]);
        let pods = [pod("p"), pod("q"), pod("pending")];
        let told = |name: &str, container: Option<&str>| {
            let samples = resource(name, container, &pods, &all)?;
            Ok(samples.into_iter().map(|(pod, sample)| format!("{pod} {}", sample.milli)).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(told("cpu", None), Ok("p 2, q 1".to_owned()));
        assert_eq!(told("memory", Some("b")), Ok("p 5000".to_owned()), "q's is not running");
        let none: Result<String, String> = Err("no metrics returned from resource metrics API".into());
        assert_eq!(told("gpu", None), none);
        let typo: Result<String, String> = Err("container typo not present in metrics for pod shop/p".into());
        assert_eq!(told("cpu", Some("typo")), typo);
    }
}
