//! What keeps pods off a node although there is room: its taints, and which pods bear them.

use serde_json::Value;

use crate::sandbox::objects::condition;

/// What a node that nobody may be placed on has, where it has no taint that says so.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Whether a pod bears a taint of this key, value and effect.
pub fn tolerates(pod: &Value, key: &str, value: &str, effect: &str) -> bool {
    toleration(pod, key, value, effect).is_some()
}

/// The toleration by which a pod bears a taint.
pub fn toleration<'a>(pod: &'a Value, key: &str, value: &str, effect: &str) -> Option<&'a Value> {
    let list = pod["spec"]["tolerations"].as_array().into_iter().flatten();
    list.into_iter().find(|toleration| {
        let word = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
        let same = word("key") == key || (word("key").is_empty() && word("operator") == "Exists");
        let bears = match word("operator") {
            "" | "Equal" => word("value") == value,
            "Exists" => true,
            _ => false,
        };
        same && bears && (word("effect").is_empty() || word("effect") == effect)
    })
}

/// The taints of a node with these effects that a pod does not bear.
pub fn untolerated<'a>(pod: &'a Value, node: &'a Value, effects: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.filter(move |taint| {
        let word = |field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default();
        effects.contains(&word("effect")) && !tolerates(pod, word("key"), word("value"), word("effect"))
    })
}

/// Whether a node says that it is well; one that has not said so yet takes nobody.
pub fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_taint_is_borne_by_key_value_and_effect() {
        let check = |toleration: Value, expected: bool| {
            let pod = json!({"spec": {"tolerations": [toleration]}});
            assert_eq!(tolerates(&pod, "dedicated", "gpu", "NoSchedule"), expected, "{pod}");
        };
        check(json!({"key": "dedicated", "value": "gpu"}), true);
        check(json!({"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}), true);
        check(json!({"key": "dedicated", "operator": "Exists"}), true);
        check(json!({"operator": "Exists"}), true);
        check(json!({"key": "dedicated", "value": "cpu"}), false);
        check(json!({"key": "dedicated", "value": "gpu", "effect": "NoExecute"}), false);
        check(json!({"key": "other", "operator": "Exists"}), false);
    }
}
