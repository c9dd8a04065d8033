//! An autoscaler does nothing while a metric is within its tolerance of the target (10% unless it says otherwise), so more than one number
//! of replicas is right for one load.

use serde_json::Value;

use super::world::label;
use super::{Found, World};
use crate::cluster::{count, list, text};
use crate::units::quantity;

/// `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        let rules = &scaler.hpa["spec"]["behavior"];
        let tolerance = |direction: &str| {
            let given = &rules[direction]["tolerance"];
            given.as_f64().or_else(|| quantity(given.as_str()?)).unwrap_or(TOLERANCE)
        };
        let (up, down) = (tolerance("scaleUp"), tolerance("scaleDown"));
        let replicas = f64::from(count(scaler.hpa, "/status/currentReplicas"));
        let current = list(scaler.hpa, "/status/currentMetrics");
        for (wanted, seen) in list(scaler.hpa, "/spec/metrics").iter().zip(current) {
            let Some((name, ratio)) = off(wanted, seen) else { continue };
            // The load of so many replicas at their target; on it, there is nothing to explain.
            let load = replicas * ratio;
            let (least, most) = ((load / (1.0 + up)).ceil(), (load / (1.0 - down)).floor());
            if ratio == 1.0 || ratio > 1.0 + up || ratio < 1.0 - down || replicas == 0.0 || least >= most {
                continue;
            }
            found.push(Found::note(
                scaler.label(),
                format!(
                    "{name} is at {:.0}% of its target, within the tolerance ({:.0}% below, {:.0}% above): {} may stay at anything from {least:.0} to \
                     {most:.0} replicas under this load",
                    ratio * 100.0,
                    down * 100.0,
                    up * 100.0,
                    label(scaler.workload, ""),
                ),
                "assert a range of replicas, or a load that lies clear of the edges; spec.behavior.*.tolerance narrows it from Kubernetes 1.35 on",
            ));
        }
    }
    found
}

/// A metric's name and its value as a share of its target.
fn off<'a>(wanted: &'a Value, seen: &Value) -> Option<(&'a str, f64)> {
    let kind =
        ["resource", "containerResource", "pods", "object", "external"].into_iter().find(|kind| wanted.get(kind).is_some())?;
    let (body, now) = (&wanted[kind], &seen.get(kind)?["current"]);
    let name = text(body, "/name").or(text(body, "/metric/name"))?;
    let number = |value: &Value| value.as_f64().or_else(|| quantity(value.as_str()?));
    let shares = ["averageUtilization", "averageValue", "value"];
    let (target, key) = shares.into_iter().find_map(|key| Some((number(&body["target"][key])?, key)))?;
    (target > 0.0).then_some((name, number(&now[key])? / target))
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use serde_json::json;

    fn at(utilization: u32, replicas: u32) -> Vec<Found> {
        told(look, |world| {
            world.autoscalers[0]["status"] = json!({"currentReplicas": replicas,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": utilization, "averageValue": "8m"}}}]});
        })
    }

    #[test]
    fn what_is_a_little_off_is_told_with_what_may_be() {
        assert!(at(80, 20).is_empty() && at(120, 20).is_empty() && at(20, 20).is_empty());
        assert!(at(84, 2).is_empty(), "two are the only right number");
        let found = at(84, 20);
        // 21 replicas' worth of load: 21 / 1.1 to 21 / 0.9.
        assert!(found[0].cause.contains("105% of its target") && found[0].cause.contains("from 20 to 23 replicas"), "{found:?}");
    }
}
