//! How much of each resource a pod asks for, and how much of it a node has for pods.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sandbox::quantity::nano;

/// By resource, in billionths of its unit.
pub type Amounts = BTreeMap<String, i128>;

/// What the scheduler looks at when it asks whether a resource could be had on an empty node.
const OF_NODES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// The resource that is counted in pods.
const PODS: &str = "pods";

/// What a pod asks for: its containers together, or the greediest of its init containers, which run one by one before them (none stays:
/// sidecars are refused before they get here); or what it says for itself as a whole.
pub fn asked(pod: &Value) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| read(container.pointer("/resources/requests").unwrap_or(&Value::Null));
    let list = |field: &str| spec.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut sum = Amounts::new();
    for container in list("containers") {
        add(&mut sum, &of(container));
    }
    for container in list("initContainers") {
        for (resource, amount) in of(container) {
            let most = sum.entry(resource).or_default();
            *most = (*most).max(amount);
        }
    }
    sum.extend(of(spec));
    add(&mut sum, &read(spec.get("overhead").unwrap_or(&Value::Null)));
    sum
}

/// What a node has for pods.
pub fn allocatable(node: &Value) -> Amounts {
    read(node.pointer("/status/allocatable").unwrap_or(&Value::Null))
}

pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        *sum.entry(resource.clone()).or_default() += amount;
    }
}

/// What a node lacks for a pod, in the words of a real scheduler, and whether it would be enough if the node were empty.
pub fn lacks(asked: &Amounts, has: &Amounts, used: &Amounts, pods: usize) -> (Vec<String>, bool) {
    let of = |amounts: &Amounts, resource: &str| amounts.get(resource).copied().unwrap_or(0);
    let mut reasons = vec![];
    if (pods as i128 + 1) * 1_000_000_000 > of(has, PODS) {
        reasons.push("Too many pods".to_owned());
    }
    let mut enough_when_empty = true;
    for (resource, amount) in asked.iter().filter(|(resource, amount)| **amount > 0 && *resource != PODS) {
        if *amount > of(has, resource) - of(used, resource) {
            reasons.push(format!("Insufficient {resource}"));
            enough_when_empty &= !OF_NODES.contains(&resource.as_str()) || *amount <= of(has, resource);
        }
    }
    (reasons, enough_when_empty)
}

/// How much of cpu and memory a node has left, as a share of what it has, from 0 to 1000.
pub fn share_left(asked: &Amounts, has: &Amounts, used: &Amounts) -> i64 {
    let of = |amounts: &Amounts, resource: &str| amounts.get(resource).copied().unwrap_or(0);
    let left = |resource: &str| {
        let (all, taken) = (of(has, resource), of(used, resource) + of(asked, resource));
        if all <= 0 { 0 } else { ((all - taken).max(0) * 1000 / all) as i64 }
    };
    (left("cpu") + left("memory")) / 2
}

fn read(quantities: &Value) -> Amounts {
    let all = quantities.as_object().into_iter().flatten();
    all.filter_map(|(resource, quantity)| Some((resource.clone(), nano(quantity.as_str()?)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_its_containers_together_or_for_the_greediest_of_those_before_them() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}});
        let cpu = |spec: Value| asked(&json!({"spec": spec}))["cpu"];
        assert_eq!(cpu(json!({"containers": [container("1"), container("500m")]})), 1_500_000_000);
        let with_init = json!({"initContainers": [container("2"), container("1")], "containers": [container("1")]});
        assert_eq!(cpu(with_init), 2_000_000_000);
        let whole = json!({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "250m"}});
        assert_eq!(cpu(whole), 3_250_000_000);
        assert!(asked(&json!({"spec": {"containers": [{}]}})).is_empty());
    }

    #[test]
    fn what_a_node_lacks_is_said_and_whether_others_stand_in_the_way() {
        let amounts = |cpu: i128, pods: i128| Amounts::from([("cpu".to_owned(), cpu), ("pods".to_owned(), pods * 1_000_000_000)]);
        let of = |cpu: i128, used: i128, pods: usize| lacks(&amounts(cpu, 0), &amounts(4, 2), &amounts(used, 0), pods);
        assert_eq!(of(4, 0, 0), (vec![], true));
        assert_eq!(of(3, 2, 1), (vec!["Insufficient cpu".to_owned()], true));
        assert_eq!(of(5, 0, 2), (vec!["Too many pods".to_owned(), "Insufficient cpu".to_owned()], false));
    }
}
