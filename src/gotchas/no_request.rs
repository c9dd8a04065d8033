//! A share of a request that is not there is unknown: one container without it, often one that somebody else put into the pod, stops the
//! autoscaler for good (`FailedGetResourceMetric`, "missing request for cpu").

use std::collections::BTreeSet;

use super::world::{containers, label, request};
use super::{Found, World};

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        for (resource, of, _) in scaler.utilizations() {
            let lacking: BTreeSet<&str> = scaler
                .pod_specs(world)
                .into_iter()
                .flat_map(containers)
                .filter_map(|container| Some((container, container["name"].as_str()?)))
                .filter(|(container, name)| of.is_none_or(|of| of == *name) && request(container, resource).is_none())
                .map(|(_, name)| name)
                .collect();
            for container in lacking {
                found.push(Found::wrong(
                    scaler.label(),
                    format!(
                        "it scales by {resource} as a share of the request, and container {container} of {} has no {resource} request: \
                         the metric stays unknown and nothing is scaled",
                        label(scaler.workload, "")
                    ),
                    format!("give {container} resources.requests.{resource}, or scale by a ContainerResource metric of the container that does the work"),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::json;

    #[test]
    fn an_injected_sidecar_without_a_request_is_named() {
        let sidecar = json!({"metadata": {"namespace": "shop", "name": "web-1", "labels": {"app": "web"}}, "spec": {
            "containers": [{"name": "web", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "setup"}]}});
        let found = told(look, |world| world.pods = Sight::Seen(vec![sidecar.clone()]));
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.cause.contains("container proxy of shop/deployment/web has no cpu request"), "{one:?}");
        // Of one container alone, the others' do not matter.
        let found = told(look, |world| {
            world.pods = Sight::Seen(vec![sidecar]);
            world.autoscalers[0]["spec"]["metrics"] = json!([{"type": "ContainerResource", "containerResource": {"name": "cpu",
                "container": "web", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        });
        assert_eq!(found, []);
    }

    #[test]
    fn a_value_needs_no_request() {
        let found = told(look, |world| {
            world.workloads[0]["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
            world.autoscalers[0]["spec"]["metrics"][0]["resource"]["target"] =
                json!({"type": "AverageValue", "averageValue": "80m"});
        });
        assert_eq!(found, []);
    }
}
