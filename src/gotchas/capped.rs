//! A demand beyond `maxReplicas` is cut off; and where the nodes have no room for so many, pods stay Pending and the rest never comes.

use serde_json::Value;

use super::world::{containers, label, request};
use super::{Autoscaler, Found, World};
use crate::cluster::{count, list};
use crate::units::quantity;

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        let most = count(scaler.hpa, "/spec/maxReplicas");
        if scaler.condition("ScalingLimited").is_some_and(|c| c["status"] == "True" && c["reason"] == "TooManyReplicas") {
            found.push(Found::wrong(
                scaler.label(),
                format!("it wants more than its {most} replicas already, before any load of the plan"),
                "raise maxReplicas (of a ScaledObject, maxReplicaCount), or look at what it scales by: it may be off",
            ));
        }
        let Some((room, short)) = room(world, &scaler) else { continue };
        if room < u64::from(most) {
            found.push(Found::wrong(
                scaler.label(),
                format!(
                    "its {most} replicas do not fit: by their requests ({short}) the nodes that take pods hold {room} of {}, were they empty",
                    label(scaler.workload, "")
                ),
                format!("lower maxReplicas to what fits, ask for less, or see that nodes are added; assert no more than {room}"),
            ));
        }
    }
    found
}

/// How many pods the nodes hold, each node for itself, and by which requests. `None` where no node is known, or nothing is requested.
fn room(world: &World, scaler: &Autoscaler<'_>) -> Option<(u64, String)> {
    let taking = |node: &&Value| {
        let barred = |taint: &Value| taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute";
        node["spec"]["unschedulable"] != true && !list(node, "/spec/taints").iter().any(barred)
    };
    let template = &scaler.workload["spec"]["template"]["spec"];
    let asked: Vec<(&str, f64)> = ["cpu", "memory"]
        .into_iter()
        .map(|resource| (resource, containers(template).filter_map(|c| request(c, resource)).sum::<f64>()))
        .filter(|(_, sum)| *sum > 0.0)
        .collect();
    // Who tolerates taints goes where others do not: that is not known from here.
    if world.nodes.objects().is_empty() || asked.is_empty() || !list(template, "/tolerations").is_empty() {
        return None;
    }
    let holds = |node: &Value| {
        let each = asked.iter().map(|(resource, asked)| {
            let there = node["status"]["allocatable"].get(*resource).and_then(|q| q.as_f64().or_else(|| quantity(q.as_str()?)));
            // Half a millionth of play: quantities are decimals.
            there.map_or(u64::MAX, |there| (there / asked + 5e-7).floor() as u64)
        });
        let pods = node["status"]["allocatable"]["pods"].as_str().and_then(quantity).map_or(u64::MAX, |pods| pods as u64);
        each.chain([pods]).min().unwrap_or(u64::MAX)
    };
    let room = world.nodes.objects().iter().filter(taking).map(holds).fold(0u64, u64::saturating_add);
    let words: Vec<String> = asked.iter().map(|(resource, asked)| amount(resource, *asked)).collect();
    Some((room, words.join(", ")))
}

fn amount(resource: &str, asked: f64) -> String {
    match resource {
        "memory" => format!("memory {:.0}Mi", asked / 1_048_576.0),
        resource => format!("{resource} {:.0}m", asked * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::json;

    fn on(nodes: &[(&str, bool)]) -> Vec<Found> {
        let node = |(cpu, cordoned): &(&str, bool)| json!({"spec": {"unschedulable": cordoned}, "status": {"allocatable": {"cpu": cpu, "pods": "110"}}});
        told(look, |world| world.nodes = Sight::Seen(nodes.iter().map(node).collect()))
    }

    #[test]
    fn what_fits_is_counted_node_by_node() {
        assert_eq!(on(&[("600m", false)]), [], "six of 100m");
        // 5 and a half on each of two is five on each.
        assert_eq!(on(&[("550m", false), ("550m", false)]), []);
        let found = on(&[("350m", false), ("290m", false), ("8", true)]);
        assert!(found[0].cause.contains("its 6 replicas do not fit") && found[0].cause.contains("hold 5 of"), "{found:?}");
    }

    #[test]
    fn one_at_its_limit_is_told() {
        let found = told(look, |world| {
            world.autoscalers[0]["status"]["conditions"] =
                json!([{"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas"}]);
        });
        assert!(found[0].cause.contains("wants more than its 6 replicas"), "{found:?}");
    }
}
