//! Who applies a manifest with `spec.replicas` again takes the autoscaler's decision back. Field management says who owns the number.

use super::world::label;
use super::{Found, World};
use crate::cluster::{list, text};

/// Who writes it for the autoscaler, and who applies once and never again.
const HARMLESS: [&str; 3] = ["kube-controller-manager", "squall", "squall-sandbox"];

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        let mut owners: Vec<&str> = list(scaler.workload, "/metadata/managedFields")
            .iter()
            // A write through the scale subresource is one decision, as of a person; only a manifest comes again.
            .filter(|entry| text(entry, "/subresource").is_none() && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some())
            .filter_map(|entry| text(entry, "/manager"))
            .filter(|manager| !HARMLESS.contains(manager))
            .collect();
        owners.sort_unstable();
        owners.dedup();
        if !owners.is_empty() {
            found.push(Found::wrong(
                label(scaler.workload, ""),
                format!(
                    "{} owns its spec.replicas beside {}: whenever that is applied again, the replicas snap back",
                    owners.join(" and "),
                    scaler.label()
                ),
                "leave spec.replicas out of what is applied (with kubectl: `kubectl apply edit-last-applied`; Argo CD: ignoreDifferences)",
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

    fn owned_by(manager: &str, subresource: Option<&str>) -> Vec<Found> {
        told(look, |world| {
            let mut entry = json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
            if let Some(subresource) = subresource {
                entry["subresource"] = json!(subresource);
            }
            world.workloads[0]["metadata"]["managedFields"] = json!([entry]);
        })
    }

    #[test]
    fn only_who_applies_it_again_is_named() {
        assert!(owned_by("kube-controller-manager", Some("scale")).is_empty() && owned_by("squall", None).is_empty());
        assert!(owned_by("kubectl", Some("scale")).is_empty());
        let found = owned_by("argocd-controller", None);
        assert!(found[0].cause.contains("argocd-controller owns its spec.replicas beside shop/hpa/web"), "{found:?}");
    }
}
