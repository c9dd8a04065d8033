//! What a ScaledObject asks for, read from its JSON with KEDA's defaults filled in. What is wrong with it was refused before it was stored.

use std::time::Duration;

use serde_json::Value;

use super::trigger::{Target, Trigger};
use crate::sandbox::objects::int;
use crate::sandbox::resource::{DEPLOYMENTS, Resource, STATEFULSETS};
use crate::sandbox::store::text;

/// Switches scaling off, or holds the target at a number of replicas.
pub const PAUSED: &str = "autoscaling.keda.sh/paused";
pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";

const MAX_DEFAULT: i64 = 100;
const POLLING_DEFAULT_S: i64 = 30;
const COOLDOWN_DEFAULT_S: i64 = 300;
/// What labels and the names of autoscalers hold at most.
pub const NAME_MAX: usize = 63;

#[derive(Clone, Debug)]
pub struct Spec {
    /// The name of what is scaled.
    pub target: String,
    /// Zero where the object says nothing.
    pub min: i64,
    pub max: i64,
    pub idle: Option<i64>,
    /// Between two looks at the triggers.
    pub polling: Duration,
    /// After the last activity, before the target goes to zero or to its idle count.
    pub cooldown: Duration,
    /// The same after the object was made, where nothing was ever active.
    pub initial_cooldown: Duration,
    pub fallback: Option<Fallback>,
    pub restores: bool,
    pub paused: Option<Paused>,
    /// The autoscaler that is made of it.
    pub hpa: String,
}

/// What stands for a trigger that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fallback {
    /// More failures in a row than this.
    pub threshold: i64,
    pub replicas: i64,
    pub behavior: FallbackBehavior,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FallbackBehavior {
    Static,
    Current,
    CurrentIfHigher,
    CurrentIfLower,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paused {
    /// At the size that it has.
    AsItIs,
    At(i64),
}

impl Spec {
    pub fn read(object: &Value) -> Spec {
        let spec = &object["spec"];
        let seconds = |field: &str, default: i64| Duration::from_secs(int(&spec[field], default).max(0) as u64);
        let min = int(&spec["minReplicaCount"], 0);
        Spec {
            target: spec["scaleTargetRef"]["name"].as_str().unwrap_or_default().to_owned(),
            min,
            max: int(&spec["maxReplicaCount"], MAX_DEFAULT),
            idle: spec["idleReplicaCount"].as_i64(),
            polling: seconds("pollingInterval", POLLING_DEFAULT_S).max(Duration::from_secs(1)),
            cooldown: seconds("cooldownPeriod", COOLDOWN_DEFAULT_S),
            initial_cooldown: seconds("initialCooldownPeriod", 0),
            fallback: spec.get("fallback").filter(|fallback| fallback.is_object()).map(|fallback| Fallback {
                threshold: int(&fallback["failureThreshold"], 0),
                replicas: int(&fallback["replicas"], 0),
                behavior: match fallback["behavior"].as_str() {
                    Some("currentReplicas") => FallbackBehavior::Current,
                    Some("currentReplicasIfHigher") => FallbackBehavior::CurrentIfHigher,
                    Some("currentReplicasIfLower") => FallbackBehavior::CurrentIfLower,
                    _ => FallbackBehavior::Static,
                },
            }),
            restores: spec["advanced"]["restoreToOriginalReplicaCount"] == true,
            paused: paused(object),
            hpa: hpa_name(object),
        }
    }

    /// What the triggers come to when something is active and the target stands at zero, or at its idle count.
    pub fn first(&self) -> i64 {
        self.min.max(1)
    }

    /// What they come to when nothing is.
    pub fn rest(&self) -> i64 {
        self.idle.unwrap_or(self.min)
    }
}

fn paused(object: &Value) -> Option<Paused> {
    let annotation = |name: &str| object["metadata"]["annotations"][name].as_str();
    if let Some(replicas) = annotation(PAUSED_REPLICAS).and_then(|replicas| replicas.parse().ok()) {
        return Some(Paused::At(replicas));
    }
    // Whatever is no word for "no" pauses.
    let says_no = |word: &str| matches!(word, "0" | "f" | "F" | "false" | "False" | "FALSE");
    annotation(PAUSED).filter(|word| !says_no(word)).map(|_| Paused::AsItIs)
}

/// `keda-hpa-NAME`, unless the object names another.
pub fn hpa_name(object: &Value) -> String {
    let named = object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"].as_str().filter(|name| !name.is_empty());
    named.map_or_else(|| format!("keda-hpa-{}", text(object, "name")), str::to_owned)
}

/// Group and version, kind: what a target reference means, with what it leaves out filled in.
pub fn target_kind(reference: &Value) -> (&str, &str) {
    let word = |field: &str, default: &'static str| match reference[field].as_str() {
        None | Some("") => default,
        Some(word) => word,
    };
    (word("apiVersion", "apps/v1"), word("kind", "Deployment"))
}

/// The resource that is scaled, of those that the sandbox has and that KEDA scales.
pub fn target_resource(object: &Value) -> Result<&'static Resource, String> {
    match target_kind(&object["spec"]["scaleTargetRef"]) {
        ("apps/v1", "Deployment") => Ok(&DEPLOYMENTS),
        ("apps/v1", "StatefulSet") => Ok(&STATEFULSETS),
        (version, kind) => Err(format!(
            "no matches for kind {kind:?} in version {version:?}: the sandbox scales Deployments and StatefulSets of apps/v1"
        )),
    }
}

/// The triggers in order, or why one of them cannot be one.
pub fn triggers(object: &Value) -> Result<Vec<Trigger>, String> {
    let list = object["spec"]["triggers"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().enumerate().map(|(index, trigger)| Trigger::read(index, trigger)).collect()
}

impl Fallback {
    /// The number that makes an autoscaler ask for the fallback's replicas; `None` where the target is no average over pods.
    pub fn value(self, target: Target, current: i64) -> Option<i64> {
        let Target::AverageMilli(each) = target else { return None };
        let replicas = match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::Current => current,
            FallbackBehavior::CurrentIfHigher => current.max(self.replicas),
            FallbackBehavior::CurrentIfLower => current.min(self.replicas),
        };
        Some(each.saturating_mul(replicas))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_as_in_keda() {
        let spec = Spec::read(&json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"name": "web"}}}));
        assert_eq!((spec.min, spec.max, spec.idle), (0, 100, None));
        assert_eq!([spec.polling, spec.cooldown, spec.initial_cooldown].map(|span| span.as_secs()), [30, 300, 0]);
        assert_eq!((spec.first(), spec.rest(), spec.hpa.as_str()), (1, 0, "keda-hpa-web"));
        assert_eq!(target_kind(&json!({})), ("apps/v1", "Deployment"));
        assert!(target_resource(&json!({"spec": {"scaleTargetRef": {"kind": "Rollout"}}})).is_err());
    }

    #[test]
    fn annotations_pause_unless_they_say_no() {
        let with = |name: &str, word: &str| Spec::read(&json!({"metadata": {"annotations": {name: word}}})).paused;
        assert_eq!(with(PAUSED, "true"), Some(Paused::AsItIs));
        assert_eq!(with(PAUSED, "please"), Some(Paused::AsItIs));
        assert_eq!(with(PAUSED, "false"), None);
        assert_eq!(with(PAUSED_REPLICAS, "0"), Some(Paused::At(0)));
    }

    #[test]
    fn a_fallback_stands_for_its_replicas_by_the_targets_average() {
        let fallback = |behavior| Fallback { threshold: 3, replicas: 4, behavior };
        let of = |behavior, current| fallback(behavior).value(Target::AverageMilli(500), current);
        assert_eq!(of(FallbackBehavior::Static, 7), Some(2000));
        assert_eq!(of(FallbackBehavior::Current, 7), Some(3500));
        assert_eq!(of(FallbackBehavior::CurrentIfHigher, 7), Some(3500));
        assert_eq!(of(FallbackBehavior::CurrentIfHigher, 2), Some(2000));
        assert_eq!(of(FallbackBehavior::CurrentIfLower, 7), Some(2000));
        assert_eq!(fallback(FallbackBehavior::Static).value(Target::ValueMilli(500), 7), None);
    }
}
