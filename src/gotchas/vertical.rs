//! A VerticalPodAutoscaler that acts on CPU or memory moves what a horizontal one by the same resource divides by: each undoes the other.

use serde_json::Value;

use super::world::{aims_at, containers, label};
use super::{Found, World};
use crate::cluster::{list, text};

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        let used: Vec<&str> = scaler.utilizations().into_iter().map(|(resource, ..)| resource).collect();
        for vertical in world.vertical.objects() {
            // It acts unless it says otherwise.
            let mode = text(vertical, "/spec/updatePolicy/updateMode").unwrap_or("Recreate");
            if mode == "Off" || !aims_at(vertical, "/spec/targetRef", scaler.workload) {
                continue;
            }
            let shared: Vec<&str> = used.iter().copied().filter(|resource| moves(vertical, scaler.workload, resource)).collect();
            if !shared.is_empty() {
                found.push(Found::wrong(
                    scaler.label(),
                    format!(
                        "it scales {} by {} as a share of requests, which {} moves (update mode {mode})",
                        label(scaler.workload, ""),
                        shared.join(" and "),
                        label(vertical, "vpa")
                    ),
                    "set the vertical one's updateMode to Off or take the resource out of its controlledResources, or scale by another metric",
                ));
            }
        }
    }
    found
}

/// Whether it sets a resource of any of the workload's containers, each by its own policy, else by that of all, else in any case.
fn moves(vertical: &Value, workload: &Value, resource: &str) -> bool {
    let policies = list(vertical, "/spec/resourcePolicy/containerPolicies");
    let of = |name: &str| policies.iter().find(|policy| policy["containerName"] == name);
    containers(&workload["spec"]["template"]["spec"]).any(|container| {
        let Some(policy) = of(container["name"].as_str().unwrap_or_default()).or_else(|| of("*")) else { return true };
        let controlled = policy["controlledResources"].as_array();
        policy["mode"] != "Off" && controlled.is_none_or(|controlled| controlled.iter().any(|word| *word == resource))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::json;

    fn beside(spec: Value) -> Vec<Found> {
        let mut vertical = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
        vertical["spec"]["targetRef"] = json!({"kind": "Deployment", "name": "web"});
        told(look, |world| world.vertical = Sight::Seen(vec![vertical]))
    }

    #[test]
    fn only_one_that_acts_on_the_same_resource_is_found() {
        let found = beside(json!({}));
        assert!(found[0].cause.contains("by cpu as a share of requests, which shop/vpa/web moves"), "{found:?}");
        assert!(beside(json!({"updatePolicy": {"updateMode": "Off"}})).is_empty());
        let of = |resource: &str| json!({"resourcePolicy": {"containerPolicies": [{"containerName": "*", "controlledResources": [resource]}]}});
        assert!(beside(of("memory")).is_empty());
        assert_eq!(beside(of("cpu")).len(), 1);
    }
}
