//! The conditions of a ScaledObject and the words that KEDA gives with them. They carry no times, as KEDA's do not.

use serde_json::{Value, json};

/// Kind, status, reason, message.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(pub &'static str, pub &'static str, pub &'static str, pub String);

const KINDS: [&str; 4] = ["Ready", "Active", "Fallback", "Paused"];

pub fn ready() -> Condition {
    Condition("Ready", "True", "ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling".into())
}

pub fn check_failed(why: &str) -> Condition {
    Condition("Ready", "False", "ScaledObjectCheckFailed", why.to_owned())
}

pub fn some_fail() -> Condition {
    let message = "Some triggers defined in ScaledObject are not working correctly";
    Condition("Ready", "Unknown", "PartialTriggerError", message.into())
}

pub fn all_fail() -> Condition {
    Condition("Ready", "False", "TriggerError", "Triggers defined in ScaledObject are not working correctly".into())
}

pub fn active() -> Condition {
    Condition("Active", "True", "ScalerActive", "Scaling is performed because triggers are active".into())
}

pub fn not_active() -> Condition {
    Condition("Active", "False", "ScalerNotActive", "Scaling is not performed because triggers are not active".into())
}

pub fn cooling() -> Condition {
    Condition("Active", "False", "ScalerCooldown", "Scaler cooling down because triggers are not active".into())
}

pub fn unknown_activity() -> Condition {
    Condition("Active", "Unknown", "UnknownState", "ScaledObject check failed".into())
}

pub fn falls_back() -> Condition {
    let message = "At least one trigger is falling back on this scaled object";
    Condition("Fallback", "True", "FallbackExists", message.into())
}

pub fn no_fallback() -> Condition {
    Condition("Fallback", "False", "NoFallbackFound", "No fallbacks are active on this scaled object".into())
}

pub fn paused() -> Condition {
    Condition("Paused", "True", "ScaledObjectPaused", "ScaledObject is paused".into())
}

pub fn unpaused() -> Condition {
    Condition("Paused", "False", "ScaledObjectUnpaused", "pause annotation removed for ScaledObject".into())
}

/// Gives an object the four conditions, unknown, where it has none.
pub fn begin(object: &mut Value) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = KINDS.iter().map(|kind| json!({"type": kind, "status": "Unknown"})).collect();
    }
}

/// Sets one; whether its status became another.
pub fn set(object: &mut Value, condition: &Condition) -> bool {
    begin(object);
    let Condition(kind, status, reason, message) = condition;
    let new = json!({"type": kind, "status": status, "reason": reason, "message": message});
    let list = object["status"]["conditions"].as_array_mut().expect("it was just made a list");
    match list.iter_mut().find(|known| known["type"] == *kind) {
        Some(known) => std::mem::replace(known, new)["status"] != *status,
        None => {
            list.push(new);
            true
        }
    }
}
