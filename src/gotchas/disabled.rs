//! A workload that stands at zero is left alone by an autoscaler with a minimum above zero (`ScalingDisabled`): it stays at zero under any
//! load, unless KEDA wakes it.

use super::world::label;
use super::{Found, World};
use crate::cluster::{count, text};

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled().filter(|scaler| !scaler.is_keda_s()) {
        let condition = scaler.condition("ScalingActive");
        let said = condition.is_some_and(|c| c["status"] == "False" && c["reason"] == "ScalingDisabled");
        let zero = scaler.workload.pointer("/spec/replicas").and_then(serde_json::Value::as_u64) == Some(0);
        let least = scaler.hpa.pointer("/spec/minReplicas").map_or(1, |_| count(scaler.hpa, "/spec/minReplicas"));
        if said || (zero && least > 0) {
            let says = condition.filter(|_| said).and_then(|c| text(c, "/message"));
            found.push(Found::wrong(
                scaler.label(),
                format!(
                    "{} stands at zero replicas, which switches it off{}",
                    label(scaler.workload, ""),
                    says.map(|says| format!(": {says}")).unwrap_or_default()
                ),
                format!("scale {} to at least one replica, once", label(scaler.workload, "")),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use serde_json::json;

    #[test]
    fn zero_replicas_switch_it_off_unless_zero_is_its_minimum() {
        assert_eq!(told(look, |world| world.workloads[0]["spec"]["replicas"] = json!(0)).len(), 1);
        let found = told(look, |world| {
            world.workloads[0]["spec"]["replicas"] = json!(0);
            world.autoscalers[0]["spec"]["minReplicas"] = json!(0);
        });
        assert_eq!(found, []);
        let found = told(look, |world| {
            world.autoscalers[0]["status"]["conditions"] = json!([{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled", "message": "scaling is disabled since the replica count of the target is zero"}]);
        });
        assert!(found[0].cause.contains("since the replica count"), "{found:?}");
        let found = told(look, |world| {
            world.workloads[0]["spec"]["replicas"] = json!(0);
            world.autoscalers[0]["metadata"]["ownerReferences"] = json!([{"kind": "ScaledObject", "name": "web"}]);
        });
        assert_eq!(found, []);
    }
}
