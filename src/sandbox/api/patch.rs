//! The patches of the Kubernetes API: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch, which knows from the
//! schema which lists are merged by a key and obeys `$patch`, `$setElementOrder`, `$deleteFromPrimitiveList` and `$retainKeys`.

use serde_json::{Map, Value, json};

use super::super::schema::{Keys, Shape};
use super::decode::{elements, field};
use super::failure::Failure;

/// Which patch a content type means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub fn of(content_type: &str) -> Result<PatchKind, Failure> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(PatchKind::Json),
            "application/merge-patch+json" => Ok(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
            "application/apply-patch+yaml" => Ok(PatchKind::Apply),
            _ => Err(Failure::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with(json!({}))),
        }
    }
}

/// `object` after a JSON patch.
pub fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &patch).map_err(|_| {
        let message = "the server rejected our request due to an error in our request";
        Failure::new(422, "Invalid", message).with(json!({}))
    })
}

/// `object` after a merge patch.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    if !patch.is_object() {
        return Err(Failure::bad_request("error decoding patch: a merge patch is an object"));
    }
    json_patch::merge(object, patch);
    Ok(())
}

/// `object`, which has the shape `shape`, after a strategic merge patch.
pub fn strategic(shape: &Shape, object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Value::Object(patch) = patch else {
        return Err(Failure::bad_request("error decoding patch: a strategic merge patch is an object"));
    };
    merge_object(shape, object, patch)
}

fn merge_object(shape: &Shape, object: &mut Value, patch: &Map<String, Value>) -> Result<(), Failure> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *object = Value::Object(patch.iter().filter(|(key, _)| !key.starts_with('$')).map(clone_pair).collect());
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Null;
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Failure::bad_request(format!("unknown patch type found: {other}"))),
    }
    if !object.is_object() {
        *object = json!({});
    }
    let target = object.as_object_mut().expect("just made an object");
    for (key, change) in patch {
        if let Some(of) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(list)), Some(gone)) = (target.get_mut(of), change.as_array()) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        let inner = field(shape, key);
        match change {
            Value::Null => {
                target.shift_remove(key);
            }
            Value::Object(change) => {
                let mut value = target.get(key).cloned().unwrap_or(Value::Null);
                merge_object(inner, &mut value, change)?;
                match value {
                    Value::Null => target.shift_remove(key),
                    value => target.insert(key.clone(), value),
                };
            }
            Value::Array(change) => {
                let order = patch.get(&format!("$setElementOrder/{key}")).and_then(Value::as_array);
                let before = target.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                target.insert(key.clone(), Value::Array(merge_list(inner, before, change, order)?));
            }
            change => {
                target.insert(key.clone(), change.clone());
            }
        }
    }
    // An order may come without a change of the list itself.
    for (key, order) in patch.iter().filter_map(|(key, order)| key.strip_prefix("$setElementOrder/").map(|key| (key, order))) {
        if !patch.contains_key(key)
            && let (Some(Value::Array(list)), Some(order)) = (target.get_mut(key), order.as_array())
        {
            sort(elements(field(shape, key)).0, list, order);
        }
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|key, _| kept.iter().any(|kept| kept == key));
    }
    Ok(())
}

fn merge_list(shape: &Shape, before: Vec<Value>, change: &[Value], order: Option<&Vec<Value>>) -> Result<Vec<Value>, Failure> {
    let (keys, inner) = elements(shape);
    let mut list = match keys {
        Keys::Atomic => return Ok(change.iter().filter(|item| item.get("$patch").is_none()).cloned().collect()),
        Keys::Set => {
            let mut list = before;
            for item in change {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
            list
        }
        Keys::By(keys) => {
            let key = keys[0];
            let replaced = change.iter().any(|item| item.get("$patch").is_some_and(|p| p == "replace") && item.get(key).is_none());
            let mut list = if replaced { vec![] } else { before };
            let known: Vec<Value> = list.iter().filter_map(|item| item.get(key).cloned()).collect();
            for item in change {
                let Value::Object(patch) = item else {
                    return Err(Failure::bad_request(format!("error decoding patch: an element keyed by {key} is an object")));
                };
                let Some(name) = patch.get(key) else {
                    if patch.contains_key("$patch") {
                        continue;
                    }
                    let message = format!("map: {item} does not contain declared merge key: {key}");
                    return Err(Failure::bad_request(message));
                };
                let at = list.iter().position(|old| old.get(key) == Some(name));
                if patch.get("$patch").is_some_and(|p| p == "delete") {
                    list.retain(|old| old.get(key) != Some(name));
                } else if let Some(at) = at {
                    merge_object(inner, &mut list[at], patch)?;
                } else {
                    let mut fresh = json!({});
                    merge_object(inner, &mut fresh, patch)?;
                    list.push(fresh);
                }
            }
            if order.is_none() {
                list = interleaved(key, list, change, &known);
            }
            list
        }
    };
    if let Some(order) = order {
        sort(keys, &mut list, order);
    }
    Ok(list)
}

/// A merged list in the order of a real server, where the patch says none: what the patch names in its order, the rest in the order in which
/// it was known, and where these two do not say which of two is first, the patch's: what is new comes before what was there.
fn interleaved(key: &str, list: Vec<Value>, change: &[Value], known: &[Value]) -> Vec<Value> {
    let name = |item: &Value| item.get(key).cloned().unwrap_or(Value::Null);
    let patched = |item: &Value| change.iter().position(|changed| name(changed) == name(item));
    let was = |item: &Value| known.iter().position(|known| *known == name(item));
    let (mut named, rest): (Vec<Value>, Vec<Value>) = list.into_iter().partition(|item| patched(item).is_some());
    named.sort_by_key(patched);
    let (mut named, mut all) = (named.into_iter().peekable(), Vec::new());
    for item in rest {
        let first = |next: &Value| was(next).is_none_or(|next| was(&item).is_none_or(|item| next < item));
        while let Some(next) = named.next_if(first) {
            all.push(next);
        }
        all.push(item);
    }
    all.extend(named);
    all
}

/// Puts the elements that `order` names in that order; the others stay behind what they followed.
fn sort(keys: &Keys, list: &mut [Value], order: &[Value]) {
    let identity = |item: &Value| match keys {
        Keys::By(keys) => item.get(keys[0]).cloned().unwrap_or(Value::Null),
        _ => item.clone(),
    };
    let wanted: Vec<Value> = order.iter().map(identity).collect();
    let mut place = -1i64;
    let mut placed: Vec<(i64, Value)> = vec![];
    for item in list.iter() {
        if let Some(at) = wanted.iter().position(|wanted| *wanted == identity(item)) {
            place = at as i64;
        }
        placed.push((place, item.clone()));
    }
    placed.sort_by_key(|(place, _)| *place);
    for (slot, (_, item)) in list.iter_mut().zip(placed) {
        *slot = item;
    }
}

fn clone_pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &'static str, mut object: Value, patch: Value, expected: Value) {
        strategic(&Shape::Struct(kind), &mut object, &patch).unwrap_or_else(|e| panic!("{}", e.message));
        assert_eq!(object, expected);
    }

    #[test]
    fn a_strategic_patch_merges_keyed_lists_and_obeys_its_directives() {
        let pod = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p", "q"]}, {"name": "b"}]});
        check(
            "PodSpec",
            pod.clone(),
            json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}], "args": ["r"]}]}),
            json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}],
                "args": ["r"]}, {"name": "b"}]}),
        );
        check(
            "PodSpec",
            pod.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check(
            "PodSpec",
            pod.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "args": null, "env": null}]}),
            json!({"containers": [{"name": "b"}, {"name": "a", "image": "1"}]}),
        );
        check(
            "PodSpec",
            pod,
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!({"containers": [{"name": "c"}]}),
        );
        check(
            "ObjectMeta",
            json!({"finalizers": ["a", "b"], "labels": {"x": "1"}}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"x": null, "y": "2"}}),
            json!({"finalizers": ["b", "c"], "labels": {"y": "2"}}),
        );
        check(
            "DeploymentStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
            json!({"$retainKeys": ["type"], "type": "Recreate"}),
            json!({"type": "Recreate"}),
        );
    }

    #[test]
    fn what_a_strategic_patch_adds_comes_before_what_was_there() {
        let named = |names: &[&str]| json!({"containers": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
        for (before, patch, after) in [
            (&["a", "b"][..], &["c"][..], &["c", "a", "b"][..]),
            (&["a", "b"], &["b", "c"], &["a", "b", "c"]),
            (&["a", "b"], &["c", "b"], &["c", "a", "b"]),
            (&["a", "b"], &["a"], &["a", "b"]),
            (&[], &["c", "d"], &["c", "d"]),
        ] {
            check("PodSpec", named(before), named(patch), named(after));
        }
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let mut spec = json!({"containers": []});
        let patch = json!({"containers": [{"image": "x"}]});
        let failure = strategic(&Shape::Struct("PodSpec"), &mut spec, &patch).unwrap_err();
        assert!(failure.message.ends_with("does not contain declared merge key: name"), "{}", failure.message);
    }
}
