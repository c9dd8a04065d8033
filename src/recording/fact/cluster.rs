//! What a cluster shows of its objects.

use serde::{Deserialize, Serialize};

use crate::names::ObjectRef;

/// A pod's state as a watch delivered it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodSeen {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The controller that owns it, as far as the watch tells: a ReplicaSet's name.
    pub owner: Option<String>,
    pub phase: String,
    pub ready: bool,
    pub terminating: bool,
    /// True on the last sight of it.
    pub gone: bool,
    pub restarts: u32,
    pub ip: Option<String>,
    /// Why it waits or ended, where the kubelet says: `CrashLoopBackOff`, `OOMKilled`.
    pub reason: Option<String>,
}

/// The live spec of a HorizontalPodAutoscaler or of a ScaledObject, with the controller's constants as far as they can be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoscalerSpec {
    pub object: ObjectRef,
    /// What it scales.
    pub scales: ObjectRef,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// One line per metric, as `pods in_flight averageValue 8`.
    pub metrics: Vec<String>,
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
    /// The controller's sync period, and where that number comes from.
    pub sync_period_s: f64,
    pub sync_period_source: String,
    pub tolerance: f64,
    /// How a workload at rest is woken, by a ScaledObject. A HorizontalPodAutoscaler wakes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waking: Option<Waking>,
}

/// What KEDA's operator does itself: from rest to the first replicas, and back. Between them and the most it has an autoscaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waking {
    /// Between two looks at the triggers.
    pub polling_interval_s: f64,
    /// After the last activity, before the workload is put to rest.
    pub cooldown_s: f64,
    /// Replicas that it is woken to.
    pub first: u32,
}

/// One direction of `spec.behavior`, with the API's defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingRules {
    pub stabilization_window_s: u32,
    /// `Max`, `Min` or `Disabled`.
    pub select_policy: String,
    pub policies: Vec<ScalingPolicy>,
}

/// One policy: at most `value` pods or per cent in `period_s` seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// `Pods` or `Percent`.
    pub kind: String,
    pub value: u32,
    pub period_s: u32,
}
