//! Which nodes a pod may run on by their labels and names: `nodeSelector` and the required part of `nodeAffinity`; and how much it prefers
//! one to another.

use serde_json::Value;

use crate::sandbox::store::text;

/// Whether a node is among those that a pod asks for.
pub fn chooses(pod: &Value, node: &Value) -> bool {
    let spec = &pod["spec"];
    let labels = &node["metadata"]["labels"];
    let selector = spec.get("nodeSelector").and_then(Value::as_object);
    if !selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    match spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms") {
        None => true,
        Some(terms) => terms.as_array().into_iter().flatten().any(|term| term_holds(term, node)),
    }
}

/// The sum of the weights of what a pod prefers and a node has.
pub fn preference(pod: &Value, node: &Value) -> i64 {
    let preferred = pod["spec"].pointer("/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    let terms = preferred.and_then(Value::as_array).into_iter().flatten();
    terms.filter(|term| term_holds(&term["preference"], node)).filter_map(|term| term["weight"].as_i64()).sum()
}

/// All of a term's expressions hold; one that says nothing chooses nothing.
fn term_holds(term: &Value, node: &Value) -> bool {
    let list = |field: &str| term.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    let name = text(node, "name");
    !(labels.is_empty() && fields.is_empty())
        && labels
            .iter()
            .all(|one| holds(one, node["metadata"]["labels"].get(one["key"].as_str().unwrap_or_default()).and_then(Value::as_str)))
        && fields.iter().all(|one| holds(one, (one["key"] == "metadata.name").then_some(name)))
}

fn holds(expression: &Value, has: Option<&str>) -> bool {
    let mut values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = |text: &str| text.parse::<i64>().ok();
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => has.is_some_and(|has| values.any(|value| value == has)),
        "NotIn" => !has.is_some_and(|has| values.any(|value| value == has)),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => has.and_then(number).zip(values.next().and_then(number)).is_some_and(|(has, than)| has > than),
        "Lt" => has.and_then(number).zip(values.next().and_then(number)).is_some_and(|(has, than)| has < than),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_chosen_by_its_labels_its_name_and_numbers_in_them() {
        let node = json!({"metadata": {"name": "a", "labels": {"zone": "east", "cores": "8"}}});
        let check = |spec: Value, expected: bool| assert_eq!(chooses(&json!({"spec": spec}), &node), expected, "{spec}");
        let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let one = |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
        check(json!({}), true);
        check(json!({"nodeSelector": {"zone": "east"}}), true);
        check(json!({"nodeSelector": {"zone": "east", "disk": "ssd"}}), false);
        check(required(json!([{"matchExpressions": [one("zone", "In", json!(["west", "east"]))]}])), true);
        check(required(json!([{"matchExpressions": [one("zone", "NotIn", json!(["east"]))]}])), false);
        check(required(json!([{"matchExpressions": [one("zone", "Exists", json!([])), one("disk", "Exists", json!([]))]}])), false);
        // Terms are alternatives; the expressions of one are not.
        check(
            required(
                json!([{"matchExpressions": [one("disk", "Exists", json!([]))]}, {"matchFields": [one("metadata.name", "In", json!(["a"]))]}]),
            ),
            true,
        );
        check(required(json!([{"matchExpressions": [one("cores", "Gt", json!(["4"]))]}])), true);
        check(required(json!([{"matchExpressions": [one("cores", "Lt", json!(["8"]))]}])), false);
        check(required(json!([{}])), false);
        check(required(json!([])), false);
    }
}
