//! Server-side apply and the books that it needs: which manager owns which fields (`metadata.managedFields`). An apply owns what it
//! says, drops what it said before and no longer says, and conflicts where another manager owns a different value.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::resource::Resource;
use super::super::schema::{Keys, Shape};
use super::super::store::{metadata, seconds};
use super::decode::{elements, field};
use super::failure::Failure;
use crate::time::wall_now;

/// A set of fields: a tree keyed as `fieldsV1` is (`f:name`, `k:{"name":"web"}`, `v:"x"`). A leaf, an empty tree, owns its whole value.
#[derive(Clone, PartialEq, Default, Debug)]
struct FieldSet(BTreeMap<String, FieldSet>);

/// Who writes.
#[derive(Clone, Debug)]
pub struct Manager {
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
}

impl FieldSet {
    /// The fields that `value` says.
    fn of(shape: &Shape, value: &Value) -> FieldSet {
        match (shape, value) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(object)) => {
                FieldSet(object.iter().map(|(key, value)| (format!("f:{key}"), FieldSet::of(field(shape, key), value))).collect())
            }
            (Shape::List(inner, Keys::By(keys)), Value::Array(list)) => FieldSet(
                list.iter()
                    .map(|item| {
                        let mut set = FieldSet::of(inner, item);
                        set.0.insert(".".into(), FieldSet::default());
                        (item_key(keys, item), set)
                    })
                    .collect(),
            ),
            (Shape::List(_, Keys::Set), Value::Array(list)) => {
                FieldSet(list.iter().map(|item| (format!("v:{item}"), FieldSet::default())).collect())
            }
            _ => FieldSet::default(),
        }
    }

    /// The fields of `after` that differ from `before`.
    fn changed(shape: &Shape, before: &Value, after: &Value) -> FieldSet {
        let mut set = FieldSet::of(shape, after);
        set.drop_unchanged(shape, before, after);
        set
    }

    fn drop_unchanged(&mut self, shape: &Shape, before: &Value, after: &Value) {
        self.0.retain(|key, inner| {
            let (of, old) = step(shape, before, key);
            let (_, new) = step(shape, after, key);
            let Some(old) = old else { return true };
            if Some(old) == new {
                return false;
            }
            if !inner.0.is_empty() {
                inner.drop_unchanged(of, old, new.unwrap_or(&Value::Null));
                return !inner.0.is_empty();
            }
            true
        });
    }

    fn from_json(value: &Value) -> FieldSet {
        FieldSet(value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), FieldSet::from_json(value))).collect())
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(key, inner)| (key.clone(), inner.to_json())).collect::<Map<_, _>>())
    }

    /// Removes what `other` owns. Inner nodes that own nothing any more go, too.
    fn subtract(&mut self, other: &FieldSet) {
        self.0.retain(|key, inner| match other.0.get(key) {
            None => true,
            Some(theirs) if theirs.0.is_empty() || inner.0.is_empty() => false,
            Some(theirs) => {
                inner.subtract(theirs);
                inner.0.keys().any(|key| key != ".")
            }
        });
    }

    fn add(&mut self, other: &FieldSet) {
        for (key, theirs) in &other.0 {
            self.0.entry(key.clone()).or_default().add(theirs);
        }
    }

    /// The paths of leaves, as lists of steps.
    fn leaves(&self) -> Vec<Vec<String>> {
        let mut paths = vec![];
        for (key, inner) in self.0.iter().filter(|(key, _)| *key != ".") {
            let below = inner.leaves();
            if below.is_empty() {
                paths.push(vec![key.clone()]);
            }
            paths.extend(below.into_iter().map(|rest| [vec![key.clone()], rest].concat()));
        }
        paths
    }

    fn owns(&self, path: &[String]) -> bool {
        match path.split_first() {
            None => true,
            Some((step, rest)) => self.0.get(step).is_some_and(|inner| inner.0.is_empty() || inner.owns(rest)),
        }
    }
}

/// `k:{"containerPort":8080,"protocol":"TCP"}`.
fn item_key(keys: &[&str], item: &Value) -> String {
    let given = |key: &str| item.get(key).cloned().or_else(|| (key == "protocol").then(|| json!("TCP")));
    let sorted: BTreeMap<&str, Value> = keys.iter().filter_map(|key| given(key).map(|value| (*key, value))).collect();
    format!("k:{}", json!(sorted))
}

/// What one step of a field set leads to.
fn step<'a, 'v>(shape: &'a Shape, value: &'v Value, key: &str) -> (&'a Shape, Option<&'v Value>) {
    if let Some(name) = key.strip_prefix("f:") {
        return (field(shape, name), value.get(name));
    }
    let (keys, inner) = elements(shape);
    let found = value.as_array().and_then(|list| {
        list.iter().find(|item| match keys {
            Keys::By(keys) => item_key(keys, item) == key,
            _ => format!("v:{item}") == key,
        })
    });
    (inner, found)
}

fn at_path<'v>(shape: &Shape, value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let (mut shape, mut value) = (shape, value);
    for key in path {
        let (inner, found) = step(shape, value, key);
        (shape, value) = (inner, found?);
    }
    Some(value)
}

fn remove_path(shape: &Shape, value: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    if let Some(name) = key.strip_prefix("f:") {
        let Some(object) = value.as_object_mut() else { return };
        if rest.is_empty() {
            object.shift_remove(name);
        } else if let Some(inner) = object.get_mut(name) {
            remove_path(field(shape, name), inner, rest);
            if inner.as_object().is_some_and(Map::is_empty) {
                object.shift_remove(name);
            }
        }
        return;
    }
    let (keys, inner) = elements(shape);
    let Some(list) = value.as_array_mut() else { return };
    let is_it = |item: &Value| match keys {
        Keys::By(keys) => item_key(keys, item) == *key,
        _ => format!("v:{item}") == *key,
    };
    let removes_item =
        rest.is_empty() || matches!(keys, Keys::By(keys) if rest.len() == 1 && keys.iter().any(|k| rest[0] == format!("f:{k}")));
    if removes_item {
        list.retain(|item| !is_it(item));
    } else if let Some(item) = list.iter_mut().find(|item| is_it(item)) {
        remove_path(inner, item, rest);
    }
}

/// `.spec.template.spec.containers[name="web"].image`: how a conflict names a field.
fn printed(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if let Some(name) = step.strip_prefix("f:") {
            text += &format!(".{name}");
        } else if let Some(keys) = step.strip_prefix("k:") {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let told: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            text += &format!("[{}]", told.join(","));
        } else {
            text += &format!("[={}]", step.trim_start_matches("v:"));
        }
    }
    text
}

/// The parts of an object that are nobody's field.
fn owned_part(object: &Value, manager: &Manager) -> Value {
    let mut owned = object.clone();
    if let Some(object) = owned.as_object_mut() {
        object.shift_remove("apiVersion");
        object.shift_remove("kind");
        // What the server writes into the status by itself belongs to nobody.
        if manager.subresource != "status" {
            object.shift_remove("status");
        }
    }
    let meta = metadata(&mut owned);
    meta.retain(|key, _| matches!(key.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences" | "generateName"));
    if meta.is_empty()
        && let Some(object) = owned.as_object_mut()
    {
        object.shift_remove("metadata");
    }
    owned
}

fn entries(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

fn set_entries(object: &mut Value, entries: Vec<Value>) {
    let meta = metadata(object);
    match entries.is_empty() {
        true => meta.shift_remove("managedFields"),
        false => meta.insert("managedFields".into(), Value::Array(entries)),
    };
}

fn is_of(entry: &Value, manager: &Manager, operation: &str) -> bool {
    entry["manager"] == manager.name.as_str()
        && entry["operation"] == operation
        && entry.get("subresource").and_then(Value::as_str).unwrap_or_default() == manager.subresource
}

fn entry(resource: &'static Resource, manager: &Manager, operation: &str, fields: &FieldSet) -> Value {
    let mut entry = json!({"manager": manager.name, "operation": operation, "apiVersion": resource.api_version(),
        "time": seconds(wall_now()), "fieldsType": "FieldsV1", "fieldsV1": fields.to_json()});
    if !manager.subresource.is_empty() {
        entry["subresource"] = json!(manager.subresource);
    }
    entry
}

/// Books what an ordinary write changed: `after` belongs to `manager` where it differs from `before`. A client that sends
/// `managedFields: []` clears the books, as on a real server.
pub fn book_update(resource: &'static Resource, before: &Value, after: &mut Value, manager: &Manager) {
    let cleared = after["metadata"].get("managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let old = if cleared { vec![] } else { entries(before) };
    let shape = Shape::Struct(resource.kind);
    let changed = FieldSet::changed(&shape, &owned_part(before, manager), &owned_part(after, manager));
    let gone = FieldSet::changed(&shape, &owned_part(after, manager), &owned_part(before, manager));
    if changed.0.is_empty() && gone.0.is_empty() {
        return set_entries(after, old);
    }
    let mut mine = changed.clone();
    let mut kept = vec![];
    for old in old {
        let mut fields = FieldSet::from_json(&old["fieldsV1"]);
        if is_of(&old, manager, "Update") {
            fields.subtract(&gone);
            mine.add(&fields);
            continue;
        }
        let theirs = fields.clone();
        fields.subtract(&changed);
        fields.subtract(&removed_only(&gone, &shape, &owned_part(after, manager)));
        if fields == theirs {
            kept.push(old);
        } else if !fields.0.is_empty() {
            let mut old = old;
            old["fieldsV1"] = fields.to_json();
            kept.push(old);
        }
    }
    if !mine.0.is_empty() {
        kept.push(entry(resource, manager, "Update", &mine));
    }
    set_entries(after, kept);
}

/// Those fields of `set` that `after` no longer has.
fn removed_only(set: &FieldSet, shape: &Shape, after: &Value) -> FieldSet {
    let mut removed = FieldSet::default();
    for path in set.leaves().into_iter().filter(|path| at_path(shape, after, path).is_none()) {
        let mut node = &mut removed;
        for step in path {
            node = node.0.entry(step).or_default();
        }
    }
    removed
}

/// `live` after `manager` applied `wanted`. Without `force`, fields that others own with another value are a conflict.
pub fn apply(resource: &'static Resource, live: &Value, wanted: &Value, manager: &Manager, force: bool) -> Result<Value, Failure> {
    let shape = Shape::Struct(resource.kind);
    let said = owned_part(wanted, manager);
    let set = FieldSet::of(&shape, &said);
    let mine = |entry: &Value| is_of(entry, manager, "Apply");

    let mut conflicts = vec![];
    let mut kept = vec![];
    for mut old in entries(live).into_iter().filter(|entry| !mine(entry)) {
        let mut fields = FieldSet::from_json(&old["fieldsV1"]);
        let mut lost = vec![];
        for path in set.leaves() {
            let same = at_path(&shape, live, &path) == at_path(&shape, &said, &path);
            if fields.owns(&path) && !same {
                conflicts.push((old["manager"].as_str().unwrap_or_default().to_owned(), old["apiVersion"].clone(), path.clone()));
                lost.push(path);
            }
        }
        for path in &lost {
            let mut one = FieldSet::default();
            let mut node = &mut one;
            for step in path {
                node = node.0.entry(step.clone()).or_default();
            }
            fields.subtract(&one);
        }
        if !fields.0.is_empty() {
            old["fieldsV1"] = fields.to_json();
            kept.push(old);
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }

    let mut after = live.clone();
    let before_mine = entries(live).iter().find(|entry| mine(entry)).map(|entry| FieldSet::from_json(&entry["fieldsV1"]));
    for path in before_mine.map(|fields| fields.leaves()).unwrap_or_default() {
        let owned_by_others = kept.iter().any(|entry| FieldSet::from_json(&entry["fieldsV1"]).owns(&path));
        if !set.owns(&path) && !owned_by_others {
            remove_path(&shape, &mut after, &path);
        }
    }
    merge(&shape, &mut after, &said);
    kept.insert(0, entry(resource, manager, "Apply", &set));
    // The same apply twice is no change: its entry keeps its time.
    if let Some(old) = entries(live).into_iter().find(|entry| mine(entry))
        && old["fieldsV1"] == kept[0]["fieldsV1"]
    {
        kept[0] = old;
    }
    set_entries(&mut after, kept);
    Ok(after)
}

fn conflict(conflicts: &[(String, Value, Vec<String>)]) -> Failure {
    let with =
        |manager: &str, version: &Value| format!("conflict with \"{manager}\" using {}", version.as_str().unwrap_or_default());
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, version, path)| {
            json!({"reason": "FieldManagerConflict", "message": with(manager, version), "field": printed(path)})
        })
        .collect();
    let first = &conflicts[0];
    let message = match conflicts {
        [(manager, version, path)] => {
            format!("Apply failed with 1 conflict: {}: {}", with(manager, version), printed(path))
        }
        _ if conflicts.iter().all(|(manager, version, _)| *manager == first.0 && *version == first.1) => {
            let fields: Vec<String> = conflicts.iter().map(|(_, _, path)| format!("\n- {}", printed(path))).collect();
            format!(
                "Apply failed with {} conflicts: conflicts with \"{}\" using {}:{}",
                conflicts.len(),
                first.0,
                first.1.as_str().unwrap_or_default(),
                fields.concat()
            )
        }
        _ => {
            let told: Vec<String> = conflicts
                .iter()
                .map(|(manager, version, path)| format!("\n{}:\n- {}", with(manager, version), printed(path)))
                .collect();
            format!("Apply failed with {} conflicts:{}", conflicts.len(), told.concat())
        }
    };
    Failure::new(409, "Conflict", message).with(json!({"causes": causes}))
}

/// Lays `said` over `value`: objects and keyed lists are merged, everything else is replaced.
fn merge(shape: &Shape, value: &mut Value, said: &Value) {
    match (shape, said) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(said)) => {
            if !value.is_object() {
                *value = json!({});
            }
            for (key, said) in said {
                merge(field(shape, key), &mut value[key], said);
            }
        }
        (Shape::List(inner, keys @ (Keys::By(_) | Keys::Set)), Value::Array(said)) => {
            if !value.is_array() {
                *value = json!([]);
            }
            let Some(list) = value.as_array_mut() else { return };
            for said in said {
                let found = list.iter_mut().find(|item| match keys {
                    Keys::By(keys) => item_key(keys, item) == item_key(keys, said),
                    _ => *item == said,
                });
                match found {
                    Some(item) => merge(inner, item, said),
                    None => list.push(said.clone()),
                }
            }
        }
        (_, said) => *value = said.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::DEPLOYMENTS;
    use super::*;

    fn manager(name: &str) -> Manager {
        Manager { name: name.into(), subresource: String::new() }
    }

    #[test]
    fn an_apply_owns_what_it_says_and_drops_what_it_no_longer_says() {
        let wanted = json!({"metadata": {"name": "web", "labels": {"a": "1", "b": "2"}},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "1", "ports": [{"containerPort": 80}]}]}}}});
        let made = apply(&DEPLOYMENTS, &json!({}), &wanted, &manager("squall"), false).unwrap();
        let less = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "2"}]}}}});
        let after = apply(&DEPLOYMENTS, &made, &less, &manager("squall"), false).unwrap();
        assert_eq!(after["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(after["spec"]["template"]["spec"]["containers"][0]["image"], "2");
        assert!(after["spec"]["template"]["spec"]["containers"][0].get("ports").is_none_or(|p| p == &json!([])), "{after}");
        let again = apply(&DEPLOYMENTS, &after, &less, &manager("squall"), false).unwrap();
        assert_eq!(after, again, "the same apply twice changes nothing");
    }

    #[test]
    fn another_managers_value_is_a_conflict_and_the_same_value_is_shared() {
        let mut live = json!({"spec": {"replicas": 3}});
        book_update(&DEPLOYMENTS, &json!({}), &mut live, &manager("unknown"));
        let wanted = json!({"spec": {"replicas": 2}});
        let failure = apply(&DEPLOYMENTS, &live, &wanted, &manager("squall"), false).unwrap_err();
        assert_eq!(failure.message, "Apply failed with 1 conflict: conflict with \"unknown\" using apps/v1: .spec.replicas");
        let forced = apply(&DEPLOYMENTS, &live, &wanted, &manager("squall"), true).unwrap();
        assert_eq!(forced["spec"]["replicas"], 2);
        assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1, "{forced}");
        let shared = apply(&DEPLOYMENTS, &live, &json!({"spec": {"replicas": 3}}), &manager("squall"), false).unwrap();
        assert_eq!(shared["metadata"]["managedFields"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn an_update_takes_over_what_it_changes() {
        let applied =
            apply(&DEPLOYMENTS, &json!({}), &json!({"spec": {"replicas": 2, "paused": true}}), &manager("squall"), false).unwrap();
        let mut after = applied.clone();
        after["spec"]["replicas"] = json!(5);
        book_update(&DEPLOYMENTS, &applied, &mut after, &manager("kubectl"));
        let books = after["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(books[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(books[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    }
}
