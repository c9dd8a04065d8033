//! What several parts read from or write into objects: owners, readiness of pods, conditions, counts that may be per cents.
//! Each question about an object is answered once, here, on its JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::selector::Selector;
use super::store::{metadata, seconds, text};
use crate::time::wall_now;

/// Namespace and name.
pub type Key = (String, String);

pub fn key(object: &Value) -> Key {
    (text(object, "namespace").to_owned(), text(object, "name").to_owned())
}

/// Whether somebody asked for its deletion.
pub fn is_leaving(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Whether a selector of an object's spec (a label selector, or a Service's map) chooses an object with these labels. One that says
/// nothing chooses nothing.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    Selector::of(selector).is_ok_and(|selector| !selector.is_empty() && selector.matches(labels))
}

/// The owner that controls it.
pub fn controller(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

/// Whether `owner` controls `object`.
pub fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    controller(object).is_some_and(|reference| reference["uid"] == owner["metadata"]["uid"])
}

/// The reference by which `owner` controls what it makes.
pub fn controlled_by(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    })
}

/// Takes the owner of that uid from an object.
pub fn disown(object: &mut Value, owner: &Value) {
    let metadata = metadata(object);
    if let Some(list) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        list.retain(|reference| reference["uid"] != *owner);
        if list.is_empty() {
            metadata.shift_remove("ownerReferences");
        }
    }
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// Whether a pod waits for its scheduling gates to be taken away.
pub fn is_gated(pod: &Value) -> bool {
    pod["spec"].get("schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty())
}

/// Whether a pod's Ready condition holds.
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

/// Whether a pod has ended, well or badly.
pub fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Whether a pod counts as one of its owner's replicas.
pub fn is_active(pod: &Value) -> bool {
    !is_leaving(pod) && !has_ended(pod)
}

/// After how long a pod that is ready has been so for `min_ready_s`: zero where it is available. `None` where it is not ready.
pub fn available_in(pod: &Value, min_ready_s: i64) -> Option<Duration> {
    let ready = condition(pod, "Ready").filter(|c| c["status"] == "True")?;
    let now_ms = wall_now().as_millisecond();
    let since_ms = millis(&ready["lastTransitionTime"]).unwrap_or(now_ms);
    let left_ms = if min_ready_s == 0 { 0 } else { (since_ms + min_ready_s * 1000 - now_ms).max(0) };
    Some(Duration::from_millis(left_ms as u64))
}

/// A time stamp of an object in ms of the epoch.
pub fn millis(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond())
}

/// An integer, or `default` where it is absent.
pub fn int(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}

/// Which way a share of a whole number is rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    Up,
    Down,
}

/// A count that may be written as a per cent of `total`: `2`, `"25%"`. `None` when absent or neither. Counts of the API have 32 bits: what
/// is more, or less, is the most, or the least, that they hold.
pub fn count_or_percent(value: &Value, total: i64, rounding: Rounding) -> Option<i64> {
    let count = match (value.as_i64(), value.as_str()) {
        (Some(count), _) => i128::from(count),
        (None, Some(text)) => match text.strip_suffix('%') {
            None => i128::from(text.parse::<i64>().ok()?),
            Some(percent) => {
                let share = i128::from(percent.parse::<i64>().ok()?) * i128::from(total);
                if rounding == Rounding::Up { (share + 99).div_euclid(100) } else { share.div_euclid(100) }
            }
        },
        (None, None) => return None,
    };
    Some(count.clamp(i32::MIN.into(), i32::MAX.into()) as i64)
}

/// Sets a condition in `object.status`: its time of transition moves only when its status does. With `updates`, the condition also
/// carries `lastUpdateTime`, and one that changes moves to the end, as Deployments have it.
pub fn set_condition(object: &mut Value, mut new: Value, updates: Updates) {
    let now = seconds(wall_now());
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let list = conditions.as_array_mut().expect("conditions were just made a list");
    let known = list.iter().position(|c| c["type"] == new["type"]);
    let same = |old: &Value, field: &str| old[field] == new[field];
    if let Some(i) = known {
        let old = &list[i];
        let seen = new["observedGeneration"].is_null() || same(old, "observedGeneration");
        if seen && same(old, "status") && same(old, "reason") && same(old, "message") {
            return;
        }
        if same(old, "status") {
            new["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
    }
    if new["lastTransitionTime"].is_null() {
        new["lastTransitionTime"] = json!(now);
    }
    match (known, updates) {
        (Some(i), Updates::No) => list[i] = new,
        (None, Updates::No) => list.push(new),
        (known, Updates::Yes) => {
            new["lastUpdateTime"] = json!(now);
            if let Some(i) = known {
                list.remove(i);
            }
            list.push(new);
        }
    }
}

/// Whether a kind's conditions carry `lastUpdateTime`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Updates {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cents_round_the_way_they_are_told() {
        let check = |value: Value, rounding, expected| assert_eq!(count_or_percent(&value, 5, rounding), expected, "{value}");
        check(json!("25%"), Rounding::Up, Some(2));
        check(json!("25%"), Rounding::Down, Some(1));
        check(json!(3), Rounding::Up, Some(3));
        check(json!("x"), Rounding::Up, None);
        check(json!("9223372036854775807%"), Rounding::Up, Some(2_147_483_647));
        check(json!("-9223372036854775808%"), Rounding::Down, Some(-2_147_483_648));
        check(json!(i64::MAX), Rounding::Up, Some(2_147_483_647));
        check(Value::Null, Rounding::Up, None);
    }

    #[test]
    fn a_conditions_transition_time_moves_only_with_its_status() {
        let mut object = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "A", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
        set_condition(&mut object, json!({"type": "Ready", "status": "True", "reason": "B"}), Updates::No);
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        set_condition(&mut object, json!({"type": "Ready", "status": "False", "reason": "B"}), Updates::No);
        assert_ne!(object["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
    }
}
