//! Two autoscalers of one workload: the controller refuses both (`AmbiguousSelector`). A ScaledObject makes one of its own.

use super::world::{aims_at, keda_owner, label, scaler_label};
use super::{Found, World, name};

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &world.workloads {
        let hpas = world.autoscalers.iter().filter(|hpa| aims_at(hpa, "/spec/scaleTargetRef", workload));
        let mut all: Vec<String> = hpas.clone().map(scaler_label).collect();
        let events = world.scaled_objects.objects().iter().filter(|scaled| aims_at(scaled, "/spec/scaleTargetRef", workload));
        // Its own autoscaler stands for it where that is made already.
        let made = |scaled: &serde_json::Value| hpas.clone().any(|hpa| keda_owner(hpa) == Some(name(scaled)));
        all.extend(events.filter(|scaled| !made(scaled)).map(|scaled| label(scaled, "scaledobject")));
        if all.len() > 1 {
            found.push(Found::wrong(
                label(workload, ""),
                format!("{} autoscalers scale it ({}), so that none of them acts", all.len(), all.join(", ")),
                "keep one of them; what the others scale by becomes further metrics or triggers of it",
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hpa, told};
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::json;

    #[test]
    fn a_second_one_is_found_and_the_one_that_keda_made_is_none() {
        let scaled = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"scaleTargetRef": {"name": "web"}}});
        let mut made = hpa();
        made["metadata"] =
            json!({"namespace": "shop", "name": "keda-hpa-web", "ownerReferences": [{"kind": "ScaledObject", "name": "web"}]});
        let found = told(look, |world| {
            world.scaled_objects = Sight::Seen(vec![scaled.clone()]);
            world.autoscalers = vec![made.clone()];
        });
        assert_eq!(found, []);
        let found = told(look, |world| world.scaled_objects = Sight::Seen(vec![scaled.clone()]));
        assert!(found[0].cause.contains("shop/hpa/web, shop/scaledobject/web"), "{found:?}");
        let found = told(look, |world| {
            world.scaled_objects = Sight::Seen(vec![scaled]);
            world.autoscalers.push(made);
        });
        assert!(found[0].cause.contains("2 autoscalers"), "{found:?}");
    }
}
