//! An autoscaler reads the pods that its workload's selector takes in, whoever made them: those of a Job or of another Deployment with the
//! same labels are averaged in.

use std::collections::BTreeSet;

use super::world::{label, matches};
use super::{Found, World, name};
use crate::cluster::{list, text};

/// Strangers that are named.
const NAMED: usize = 3;

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        let workload = scaler.workload;
        let mut strangers: Vec<String> = match text(workload, "/metadata/uid") {
            Some(uid) => {
                let mut makers: BTreeSet<&str> = [uid].into();
                let sets = world.replica_sets.iter().filter(|set| owner(set) == Some(uid));
                makers.extend(sets.filter_map(|set| text(set, "/metadata/uid")));
                let pods = world.pods_of(workload).filter(|pod| owner(pod).is_none_or(|owner| !makers.contains(owner)));
                pods.map(|pod| format!("pod {}", name(pod))).collect()
            }
            // Not there yet: what will be there beside it.
            None => Vec::new(),
        };
        let others = world.workloads.iter().filter(|other| {
            !std::ptr::eq(*other, workload)
                && other["metadata"]["namespace"] == workload["metadata"]["namespace"]
                && matches(&workload["spec"]["selector"], &other["spec"]["template"]["metadata"]["labels"])
        });
        strangers.extend(others.map(|other| format!("those of {}", label(other, ""))));
        if strangers.is_empty() {
            continue;
        }
        let all = strangers.len();
        let more = if all > NAMED { format!(" and {} more", all - NAMED) } else { String::new() };
        strangers.truncate(NAMED);
        found.push(Found::wrong(
            scaler.label(),
            format!(
                "the selector of {} also takes in pods that it did not make ({}{more}): their metrics are averaged in",
                label(workload, ""),
                strangers.join(", ")
            ),
            "give the workload's pods a label that no other pods have, and select by it (a selector cannot be changed: make the workload anew)",
        ));
    }
    found
}

/// The uid of what controls an object.
fn owner(object: &serde_json::Value) -> Option<&str> {
    list(object, "/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true).and_then(|owner| text(owner, "/uid"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deployment, told};
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::{Value, json};

    fn pod(name: &str, owner: &str) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"},
            "ownerReferences": [{"controller": true, "uid": owner}]}, "spec": {"containers": []}})
    }

    #[test]
    fn pods_of_somebody_else_are_named_and_one_s_own_are_not() {
        let set = json!({"metadata": {"uid": "r", "ownerReferences": [{"controller": true, "uid": "d"}]}});
        let found = told(look, |world| {
            world.replica_sets = vec![set.clone()];
            world.pods = Sight::Seen(vec![pod("web-1", "r")]);
        });
        assert_eq!(found, []);
        let found = told(look, |world| {
            world.replica_sets = vec![set];
            world.pods = Sight::Seen(vec![pod("web-1", "r"), pod("migrate-x", "job")]);
        });
        assert!(found.len() == 1 && found[0].cause.contains("(pod migrate-x)"), "{found:?}");
    }

    #[test]
    fn a_workload_beside_it_with_the_same_labels_is_named() {
        let mut canary = deployment();
        canary["metadata"] = json!({"namespace": "shop", "name": "canary"});
        let found = told(look, |world| world.workloads.push(canary));
        assert!(found[0].cause.contains("those of shop/deployment/canary"), "{found:?}");
    }
}
