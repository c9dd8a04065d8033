//! The one node that everything runs on: a virtual one, always ready, with room for as many pods as the sandbox is told to bear.

use serde_json::json;

use super::Shared;
use crate::sandbox::resource::NODES;
use crate::sandbox::store::seconds;
use crate::time::wall_now;

/// Its name.
pub const NODE: &str = "sandbox";

/// Makes the node's object.
pub fn register(shared: &Shared) {
    let now = seconds(wall_now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": reason,
            "message": message})
    };
    let capacity = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": shared.pods_max.to_string()});
    let address = shared.block.api().to_string();
    let node = json!({
        "metadata": {"name": NODE, "labels": {
            "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": std::env::consts::ARCH,
            "topology.kubernetes.io/zone": "sandbox-a",
        }},
        "spec": {},
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": NODE}],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "nodeInfo": {
                "kubeletVersion": concat!("v1.36.0+squall.", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
                "containerRuntimeVersion": "processes://1", "operatingSystem": "linux", "osImage": "Squall sandbox",
                "architecture": std::env::consts::ARCH, "kernelVersion": "", "machineID": "", "systemUUID": "", "bootID": "",
            },
        },
    });
    if let Err(error) = shared.store.create(&NODES, node) {
        tracing::warn!("failed to register the sandbox's node: {error}");
    }
}
