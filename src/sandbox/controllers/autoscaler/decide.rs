//! One sync of a HorizontalPodAutoscaler as a function: readings in, a decision with its conditions and events out. It reads no clock and
//! writes nothing, so that recordings of the real controller can be replayed through it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::limits::Memory;
use super::replicas::{Calculator, Measure, PodView, Proposal, Sample, Tolerances, Tuning};
use super::spec::{ExternalTarget, Metric, ResourceTarget, Spec};
use crate::sandbox::quantity::from_milli;

/// What one sync knows.
pub struct Inputs<'a> {
    /// ms of the epoch.
    pub now_ms: i64,
    pub spec: &'a Spec,
    /// `spec.replicas` of the target's scale.
    pub current: i32,
    /// `status.replicas` of it.
    pub present: i32,
    /// The target's selector in text; `None` when it has none.
    pub selector: Option<&'a str>,
    /// `namespace/name` of every autoscaler whose selector matches these pods, this one included.
    pub claimants: &'a [String],
    /// The pods that the selector matches.
    pub pods: &'a [PodView],
    /// For each metric of the spec, in order: samples by pod name, or why there are none.
    pub readings: &'a [Reading],
    pub tuning: &'a Tuning,
}

/// One metric's samples by pod (an external one's value stands under its own name), or the metrics API's error.
pub type Reading = Result<BTreeMap<String, Sample>, String>;

/// What is to be done and said.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// What the target should have; the current number when nothing is to be done.
    pub desired: i32,
    /// Why it should be rescaled. `None`: it should not.
    pub rescale: Option<String>,
    /// Conditions to set, in this order; later ones override.
    pub conditions: Vec<Condition>,
    /// `status.currentMetrics`; `None` when it was not looked at.
    pub metrics: Option<Vec<Value>>,
    pub events: Vec<Warning>,
    /// Nothing could be computed: `status.desiredReplicas` stays as it was.
    pub failed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub kind: &'static str,
    pub holds: bool,
    pub reason: &'static str,
    pub message: String,
}

/// A warning event.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    pub reason: &'static str,
    pub message: String,
}

/// Decides. `memory` is that of this autoscaler; a rescale must be told to it when it has been carried out.
pub fn decide(inputs: &Inputs<'_>, memory: &mut Memory) -> Decision {
    let (spec, current) = (inputs.spec, inputs.current);
    let mut decision = Decision {
        desired: current,
        rescale: None,
        conditions: vec![condition(
            "AbleToScale",
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        )],
        metrics: None,
        events: vec![],
        failed: false,
    };
    memory.first_seen(inputs.now_ms, current);

    if current == 0 && spec.min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        decision.conditions.push(condition("ScalingActive", false, "ScalingDisabled", message));
        return decision;
    }
    if current > spec.max || current < spec.min {
        let (bound, word) =
            if current > spec.max { (spec.max, "above Spec.MaxReplicas") } else { (spec.min, "below Spec.MinReplicas") };
        decision.desired = bound;
        decision.rescale = Some(format!("Current number of replicas {word}"));
        return decision;
    }
    let Some((recommended, metric)) = recommend(inputs, &mut decision) else {
        decision.failed = true;
        return decision;
    };
    let limited = memory.limit(inputs.now_ms, spec, inputs.tuning, current, recommended);
    decision.conditions.push(condition("AbleToScale", true, limited.able.0, limited.able.1));
    decision.conditions.push(condition("ScalingLimited", limited.held, limited.limit.0, limited.limit.1));
    decision.desired = limited.replicas;
    if limited.replicas != current {
        decision.rescale = Some(match recommended.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".into(),
            std::cmp::Ordering::Equal => String::new(),
        });
    }
    decision
}

/// The condition that says a rescale was carried out.
pub fn rescaled(desired: i32) -> Condition {
    let message = format!("the HPA controller was able to update the target scale to {desired}");
    condition("AbleToScale", true, "SucceededRescale", &message)
}

/// The condition that says the target cannot be scaled.
pub fn no_scale(why: &str) -> Condition {
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    condition("AbleToScale", false, "FailedGetScale", &message)
}

/// The condition that says a rescale was refused.
pub fn no_update(why: &str) -> Condition {
    let message = format!("the HPA controller was unable to update the target scale: {why}");
    condition("AbleToScale", false, "FailedUpdateScale", &message)
}

/// The most that any metric asks for, and that metric in words. `None` after saying why when it cannot be known: when no metric could be
/// computed, or when one could not and the others would shrink the target.
fn recommend(inputs: &Inputs<'_>, decision: &mut Decision) -> Option<(i32, String)> {
    let refuse = |decision: &mut Decision, reason: &'static str, condition_reason, message: String| {
        decision.conditions.push(condition("ScalingActive", false, condition_reason, &message));
        decision.events.push(Warning { reason, message: message.clone() });
        decision.events.push(Warning { reason: "FailedComputeMetricsReplicas", message });
        None
    };
    if inputs.selector.is_none_or(str::is_empty) {
        return refuse(decision, "SelectorRequired", "InvalidSelector", "the HPA target's scale is missing a selector".into());
    }
    if inputs.claimants.len() > 1 {
        let selector = inputs.selector.unwrap_or_default();
        let claimants = inputs.claimants.join(" ");
        let message = format!("pods by selector {selector} are controlled by multiple HPAs: [{claimants}]");
        return refuse(decision, "AmbiguousSelector", "AmbiguousSelector", message);
    }

    let tolerance = |rules: Option<f64>| rules.unwrap_or(inputs.tuning.tolerance);
    let behavior = inputs.spec.behavior.as_ref();
    let calculator = Calculator {
        now_ms: inputs.now_ms,
        pods: inputs.pods,
        current: inputs.current,
        present: inputs.present,
        tuning: inputs.tuning,
        tolerances: Tolerances {
            up: tolerance(behavior.and_then(|b| b.up.tolerance)),
            down: tolerance(behavior.and_then(|b| b.down.tolerance)),
        },
    };
    let mut best: Option<(i32, String)> = None;
    let mut statuses = vec![];
    let mut invalid = 0;
    let mut first: Option<(Condition, String)> = None;
    for (metric, reading) in inputs.spec.metrics.iter().zip(inputs.readings) {
        match propose(metric, reading, &calculator) {
            Ok((proposal, name)) => {
                statuses.push(status_of(metric, &proposal));
                if best.as_ref().is_none_or(|(replicas, _)| *replicas == 0 || proposal.replicas > *replicas) {
                    best = Some((proposal.replicas, name));
                }
            }
            Err(failure) => {
                statuses.push(json!({"type": ""}));
                invalid += 1;
                decision.events.push(Warning { reason: failure.reason, message: failure.message.clone() });
                let message = format!("the HPA was unable to compute the replica count: {}", failure.message);
                first.get_or_insert((condition("ScalingActive", false, failure.reason, &message), failure.wrapped));
            }
        }
    }
    decision.metrics = Some(statuses);
    if let Some((failed, why)) = first
        && best.as_ref().is_none_or(|(replicas, _)| *replicas < inputs.current)
    {
        let message = format!("invalid metrics ({invalid} invalid out of {}), first error is: {why}", inputs.spec.metrics.len());
        decision.conditions.push(failed);
        decision.events.push(Warning { reason: "FailedComputeMetricsReplicas", message });
        return None;
    }
    let (replicas, metric) = best?;
    let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
    decision.conditions.push(condition("ScalingActive", true, "ValidMetricFound", &message));
    Some((replicas, metric))
}

struct Failure {
    reason: &'static str,
    /// What the event and the condition say.
    message: String,
    /// The same with what was asked around it.
    wrapped: String,
}

fn propose(metric: &Metric, reading: &Reading, calculator: &Calculator<'_>) -> Result<(Proposal, String), Failure> {
    match metric {
        Metric::Resource { name, container, target } => {
            let what = if container.is_some() { " container" } else { "" };
            let (noun, label) = match target {
                ResourceTarget::Utilization(_) => {
                    ("utilization", format!("{name}{what} resource utilization (percentage of request)"))
                }
                ResourceTarget::AverageMilli(_) => ("usage", format!("{name}{what} resource")),
            };
            let proposal = match reading {
                Ok(samples) => calculator.resource(name, container.as_deref(), *target, samples),
                Err(why) => Err(format!("unable to get metrics for resource {name}: {why}")),
            };
            proposal.map(|p| (p, label)).map_err(|why| {
                let message = format!("failed to get {name}{what} {noun}: {why}");
                let reason = if container.is_some() { "FailedGetContainerResourceMetric" } else { "FailedGetResourceMetric" };
                Failure { reason, wrapped: format!("failed to get {name}{what} resource metric value: {message}"), message }
            })
        }
        Metric::Pods { name, average_milli } => {
            let proposal = match reading {
                Ok(samples) => calculator.plain(samples, *average_milli, Measure::Other),
                Err(why) => Err(format!("unable to get metric {name}: {why}")),
            };
            proposal.map(|p| (p, format!("pods metric {name}"))).map_err(|message| Failure {
                reason: "FailedGetPodsMetric",
                wrapped: format!("failed to get pods metric value: {message}"),
                message,
            })
        }
        Metric::External { name, selector, target } => match reading {
            Ok(samples) => {
                let proposal = calculator.external(samples.values().map(|sample| sample.milli).sum(), *target);
                Ok((proposal, format!("external metric {name}({})", selector_in_words(selector))))
            }
            Err(why) => Err(Failure {
                reason: "FailedGetExternalMetric",
                wrapped: format!("failed to get {name} external metric value: failed to get {name} external metric: {why}"),
                message: why.clone(),
            }),
        },
        Metric::Unserved { kind, .. } => {
            let why = reading.as_ref().err().cloned().unwrap_or_default();
            Err(match kind.as_str() {
                "Object" => Failure {
                    reason: "FailedGetObjectMetric",
                    wrapped: format!("failed to get object metric value: {why}"),
                    message: why,
                },
                other => {
                    let message = format!("unknown metric source type {other:?}");
                    Failure { reason: "InvalidMetricSourceType", wrapped: message.clone(), message }
                }
            })
        }
    }
}

fn status_of(metric: &Metric, proposal: &Proposal) -> Value {
    let average = from_milli(proposal.average_milli);
    let current = match proposal.utilization {
        Some(percent) => json!({"averageValue": average, "averageUtilization": percent}),
        None => json!({"averageValue": average}),
    };
    match metric {
        Metric::Resource { name, container: None, .. } => {
            json!({"type": "Resource", "resource": {"name": name, "current": current}})
        }
        Metric::Resource { name, container: Some(container), .. } => {
            json!({"type": "ContainerResource", "containerResource": {"name": name, "container": container, "current": current}})
        }
        Metric::Pods { name, .. } => json!({"type": "Pods", "pods": {"metric": {"name": name}, "current": current}}),
        Metric::External { name, selector, target } => {
            let mut metric = json!({"name": name});
            if !selector.is_null() {
                metric["selector"] = selector.clone();
            }
            let current = match target {
                ExternalTarget::AverageMilli(_) => current,
                ExternalTarget::ValueMilli(_) => json!({"value": average}),
            };
            json!({"type": "External", "external": {"metric": metric, "current": current}})
        }
        Metric::Unserved { kind, .. } => json!({"type": kind}),
    }
}

/// A label selector as the real controller prints it, keys in order; `nil` where there is none.
pub fn selector_in_words(selector: &Value) -> String {
    if selector.is_null() {
        return "nil".to_owned();
    }
    let labels: BTreeMap<&String, &Value> = selector["matchLabels"].as_object().into_iter().flatten().collect();
    let labels: String = labels.iter().map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default())).collect();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(|one| {
        let word = |field: &str| one[field].as_str().unwrap_or_default();
        let values: Vec<&str> = one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},", word("key"), word("operator"), values.join(" "))
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn condition(kind: &'static str, holds: bool, reason: &'static str, message: &str) -> Condition {
    Condition { kind, holds, reason, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
