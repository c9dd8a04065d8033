//! A cluster has one server of `external.metrics.k8s.io`: where it is away, or is another than the scaler's own (KEDA beside an adapter), the
//! autoscaler has no metric.

use serde_json::Value;

use super::world::label;
use super::{Found, Sight, World, name};
use crate::cluster::{list, text};

const GROUP: &str = "external.metrics.k8s.io";

pub fn look(world: &World) -> Vec<Found> {
    let Sight::Seen(services) = &world.api_services else { return Vec::new() };
    let external = |hpa: &Value| list(hpa, "/spec/metrics").iter().any(|metric| metric["type"] == "External");
    let by_metric = world.scaled().filter(|scaler| external(scaler.hpa)).map(|scaler| (scaler.label(), scaler.is_keda_s()));
    let by_metric: Vec<(String, bool)> = by_metric.collect();
    let by_event = world.scaled_by_events().map(|(scaled, _)| (label(scaled, "scaledobject"), true));
    let by_event: Vec<(String, bool)> = by_event.filter(|one| !by_metric.contains(one)).collect();
    let mut found = Vec::new();
    for (object, keda) in by_metric.into_iter().chain(by_event) {
        let server = services.iter().find(|service| service["spec"]["group"] == GROUP);
        let Some(server) = server else {
            found.push(Found::wrong(
                object,
                format!("it scales by external metrics, and no APIService serves {GROUP}"),
                "install what serves them (KEDA, prometheus-adapter), or scale by metrics of pods",
            ));
            continue;
        };
        let backend = text(server, "/spec/service/name").unwrap_or_default();
        let away = list(server, "/status/conditions").iter().find(|c| c["type"] == "Available" && c["status"] != "True");
        if let Some(away) = away {
            found.push(Found::wrong(
                object,
                format!("{} is not available: {}", name(server), text(away, "/message").unwrap_or("it does not say why")),
                format!(
                    "look at the pods behind the service {backend} in {}",
                    text(server, "/spec/service/namespace").unwrap_or_default()
                ),
            ));
        } else if keda && !backend.contains("keda") {
            found.push(Found::wrong(
                object,
                format!("KEDA made its autoscaler, and {} leads to {backend}: KEDA is never asked for its metrics", name(server)),
                "a cluster has room for one server of external metrics: remove the other, or move its metrics into triggers of KEDA",
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

    fn served_by(services: Vec<Value>, keda: bool) -> Vec<Found> {
        told(look, |world| {
            world.api_services = Sight::Seen(services);
            world.autoscalers[0]["spec"]["metrics"] = json!([{"type": "External", "external": {"metric": {"name": "lag"}}}]);
            if keda {
                world.autoscalers[0]["metadata"]["ownerReferences"] = json!([{"kind": "ScaledObject", "name": "web"}]);
            }
        })
    }

    fn service(backend: &str, available: &str) -> Value {
        json!({"metadata": {"name": "v1beta1.external.metrics.k8s.io"}, "spec": {"group": GROUP, "service": {"name": backend, "namespace": "m"}},
            "status": {"conditions": [{"type": "Available", "status": available, "message": "no endpoints"}]}})
    }

    #[test]
    fn there_must_be_one_that_answers_and_is_the_scaler_s_own() {
        assert!(served_by(vec![service("keda-operator-metrics-apiserver", "True")], true).is_empty());
        assert!(served_by(vec![service("prometheus-adapter", "True")], false).is_empty());
        assert!(served_by(vec![service("prometheus-adapter", "True")], true)[0].cause.contains("leads to prometheus-adapter"));
        assert!(served_by(vec![service("keda", "False")], true)[0].cause.contains("no endpoints"));
        assert!(served_by(vec![], false)[0].cause.contains("no APIService serves"));
    }
}
