//! A pod's utilization is that of all its containers together: where idle sidecars hold much of the requests, a container that is at its
//! limit does not show.

use super::world::{containers, label, request};
use super::{Found, World};

/// A busy container must lift its pod's utilization to at least this, in percent, or it counts as hidden: 20 points below its own.
const SHOWS: f64 = 80.0;

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for scaler in world.scaled() {
        for (resource, of, target) in scaler.utilizations() {
            if of.is_some() {
                continue;
            }
            // The worst of its pods, which differ by what was put into them.
            let worst = scaler.pod_specs(world).into_iter().filter_map(|spec| {
                let all: Vec<(f64, &str)> = containers(spec)
                    .filter_map(|container| Some((request(container, resource)?, container["name"].as_str()?)))
                    .collect();
                let sum: f64 = all.iter().map(|(request, _)| request).sum();
                let (most, name) = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
                (sum > 0.0).then_some((100.0 * most / sum, name))
            });
            let Some((share, container)) = worst.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
            if share >= SHOWS {
                continue;
            }
            let workload = label(scaler.workload, "");
            let fix = format!("scale by a ContainerResource metric of {container}, or lower the target by as much");
            let cause = format!(
                "it scales by the {resource} of whole pods: when container {container} of {workload} uses all that it requests and the others \
                 rest, the pod shows {share:.0}%"
            );
            // Beyond its request a container may well go, but nobody promises it that.
            found.push(if share < target {
                Found::wrong(scaler.label(), format!("{cause}, below the target of {target:.0}%: nothing is scaled"), fix)
            } else {
                Found::note(scaler.label(), cause, fix)
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::super::tests::told;
    use super::*;
    use serde_json::json;

    fn with_sidecar(cpu: &str) -> Vec<Found> {
        told(look, |world| {
            let sidecar = json!({"name": "proxy", "resources": {"requests": {"cpu": cpu}}});
            world.workloads[0]["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
        })
    }

    #[test]
    fn a_sidecar_with_a_large_request_hides_a_busy_container() {
        assert_eq!(with_sidecar("10m"), [], "91% shows");
        let found = with_sidecar("100m");
        assert_eq!(found[0].weight, Weight::Wrong);
        assert!(found[0].cause.contains("the pod shows 50%, below the target of 80%"), "{found:?}");
        let found = told(look, |world| {
            world.autoscalers[0]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] = json!(40);
            let sidecar = json!({"name": "proxy", "resources": {"requests": {"cpu": "100m"}}});
            world.workloads[0]["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
        });
        assert_eq!(found[0].weight, Weight::Note);
    }
}
