//! What an `autoscaling/v2` object asks for, read from its JSON with the server's defaults filled in.
//! Anything that is not understood becomes a metric of its own kind that fails with a reason, never one that is left out.

use serde_json::Value;

use crate::sandbox::quantity;

/// The part of a HorizontalPodAutoscaler that decisions depend on.
#[derive(Clone, Debug)]
pub struct Spec {
    pub min: i32,
    pub max: i32,
    pub metrics: Vec<Metric>,
    /// `None` where the object has no `behavior` at all: the controller then uses its older, built-in limits.
    pub behavior: Option<Behavior>,
}

/// One entry of `spec.metrics`.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// CPU or memory of whole pods, or of one container of each.
    Resource { name: String, container: Option<String>, target: ResourceTarget },
    /// A number that each pod exposes; the target is its average over pods, in thousandths.
    Pods { name: String, average_milli: i64 },
    /// A number that comes from elsewhere, chosen by name and labels.
    External { name: String, selector: Value, target: ExternalTarget },
    /// A kind that nothing in the sandbox can answer: (type, metric name).
    Unserved { kind: String, name: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResourceTarget {
    /// Per cent of the request.
    Utilization(i64),
    /// Thousandths per pod.
    AverageMilli(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExternalTarget {
    /// Thousandths, whatever the number of pods.
    ValueMilli(i64),
    /// Thousandths per pod.
    AverageMilli(i64),
}

#[derive(Clone, Debug)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

#[derive(Clone, Debug)]
pub struct Rules {
    /// `None` for scale-down means the controller's own window.
    pub window_s: Option<i64>,
    pub select: Select,
    pub policies: Vec<Policy>,
    /// Overrides the controller's tolerance in this direction.
    pub tolerance: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub kind: PolicyKind,
    pub value: i32,
    pub period_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    Pods,
    Percent,
}

impl Spec {
    /// Reads `object.spec`.
    pub fn read(object: &Value) -> Spec {
        let spec = &object["spec"];
        let number = |value: &Value| value.as_i64().and_then(|n| i32::try_from(n).ok());
        let metrics = spec["metrics"].as_array().filter(|list| !list.is_empty());
        Spec {
            min: number(&spec["minReplicas"]).unwrap_or(1),
            max: number(&spec["maxReplicas"]).unwrap_or(1),
            metrics: match metrics {
                Some(list) => list.iter().map(Metric::read).collect(),
                // The server's default where no metric is given.
                None => {
                    vec![Metric::Resource { name: "cpu".into(), container: None, target: ResourceTarget::Utilization(80) }]
                }
            },
            behavior: spec.get("behavior").filter(|b| b.is_object()).map(|behavior| Behavior {
                up: Rules::read(&behavior["scaleUp"], Rules::default_up()),
                down: Rules::read(&behavior["scaleDown"], Rules::default_down()),
            }),
        }
    }
}

impl Metric {
    fn read(entry: &Value) -> Metric {
        let kind = entry["type"].as_str().unwrap_or_default();
        let resource = |source: &Value, container: Option<String>| {
            let target = &source["target"];
            let target = match target["averageUtilization"].as_i64() {
                Some(percent) => ResourceTarget::Utilization(percent.max(1)),
                None => ResourceTarget::AverageMilli(quantity_milli(&target["averageValue"]).max(1)),
            };
            Metric::Resource { name: source["name"].as_str().unwrap_or_default().to_owned(), container, target }
        };
        let named = |source: &str| entry[source]["metric"]["name"].as_str().unwrap_or_default().to_owned();
        match kind {
            "Resource" => resource(&entry["resource"], None),
            "ContainerResource" => {
                let source = &entry["containerResource"];
                resource(source, Some(source["container"].as_str().unwrap_or_default().to_owned()))
            }
            "Pods" => {
                Metric::Pods { name: named("pods"), average_milli: quantity_milli(&entry["pods"]["target"]["averageValue"]).max(1) }
            }
            "Object" => Metric::Unserved { kind: "Object".into(), name: named("object") },
            "External" => {
                let (source, target) = (&entry["external"], &entry["external"]["target"]);
                Metric::External {
                    name: named("external"),
                    selector: source["metric"].get("selector").cloned().unwrap_or_default(),
                    target: match target.get("averageValue") {
                        Some(average) => ExternalTarget::AverageMilli(quantity_milli(average).max(1)),
                        None => ExternalTarget::ValueMilli(quantity_milli(&target["value"]).max(1)),
                    },
                }
            }
            other => Metric::Unserved { kind: other.to_owned(), name: String::new() },
        }
    }
}

impl Rules {
    /// `max(4 pods, 100 %)` every 15 s, at once.
    fn default_up() -> Rules {
        let policy = |kind, value| Policy { kind, value, period_s: 15 };
        Rules {
            window_s: Some(0),
            select: Select::Max,
            policies: vec![policy(PolicyKind::Pods, 4), policy(PolicyKind::Percent, 100)],
            tolerance: None,
        }
    }

    /// Everything every 15 s, after the controller's window.
    fn default_down() -> Rules {
        let policies = vec![Policy { kind: PolicyKind::Percent, value: 100, period_s: 15 }];
        Rules { window_s: None, select: Select::Max, policies, tolerance: None }
    }

    fn read(rules: &Value, default: Rules) -> Rules {
        let policies = rules["policies"].as_array().filter(|list| !list.is_empty());
        Rules {
            window_s: rules["stabilizationWindowSeconds"].as_i64().or(default.window_s),
            select: match rules["selectPolicy"].as_str() {
                Some("Min") => Select::Min,
                Some("Disabled") => Select::Disabled,
                Some("Max") => Select::Max,
                _ => default.select,
            },
            policies: policies.map_or(default.policies, |list| {
                let read = |p: &Value| Policy {
                    kind: if p["type"] == "Percent" { PolicyKind::Percent } else { PolicyKind::Pods },
                    value: p["value"].as_i64().and_then(|v| i32::try_from(v).ok()).unwrap_or(0),
                    period_s: p["periodSeconds"].as_i64().unwrap_or(15),
                };
                list.iter().map(read).collect()
            }),
            tolerance: match &rules["tolerance"] {
                Value::Null => default.tolerance,
                value => Some(quantity_milli(value) as f64 / 1000.0),
            },
        }
    }
}

/// A quantity as JSON carries it: a string, or a number where the writer was lazy. 0 when it is neither.
fn quantity_milli(value: &Value) -> i64 {
    match value {
        Value::String(text) => quantity::milli(text).unwrap_or(0),
        Value::Number(number) => quantity::milli(&number.to_string()).unwrap_or(0),
        _ => 0,
    }
}
