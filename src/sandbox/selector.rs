//! Which objects a label selector of an object's spec chooses. Text selectors of requests are the API's business, not this file's.

use serde_json::{Map, Value};

/// Whether `selector` (`matchLabels` and `matchExpressions`) chooses an object with these labels. An absent or empty one chooses all.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels[key].as_str();
    let by_labels = entries(&selector["matchLabels"]).all(|(key, value)| label(key) == value.as_str());
    let by_expressions = selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        let found = expression["key"].as_str().and_then(label);
        let listed = |value: &str| expression["values"].as_array().into_iter().flatten().any(|v| v == value);
        match expression["operator"].as_str() {
            Some("In") => found.is_some_and(listed),
            Some("NotIn") => !found.is_some_and(listed),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    });
    by_labels && by_expressions
}

/// Whether a Service's plain map of labels chooses an object with these labels. An empty one chooses none.
pub fn map_matches(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().is_some_and(|map| !map.is_empty());
    wanted && entries(selector).all(|(key, value)| labels[key].as_str() == value.as_str())
}

/// The selector as `status.selector` of a scale carries it: `app=web,tier in (a,b)`.
pub fn to_text(selector: &Value) -> String {
    let labels = entries(&selector["matchLabels"]).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(|expression| {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

fn entries(map: &Value) -> impl Iterator<Item = (&str, &Value)> {
    map.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_by_labels_and_expressions() {
        let labels = json!({"app": "web", "tier": "a"});
        let check = |selector: Value, expected: bool| assert_eq!(matches(&selector, &labels), expected, "{selector}");
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "api"}}), false);
        check(json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}), true);
        check(json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}), false);
        check(json!({"matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]}), true);
        check(Value::Null, true);
        assert!(!map_matches(&json!({}), &labels) && map_matches(&json!({"app": "web"}), &labels));
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}]});
        assert_eq!(to_text(&both), "app=web,tier in (a)");
    }
}
