//! What is known to keep autoscalers from doing what people expect, seen on the objects alone, before any load: one file and one row each.
//! A gotcha is a pure function of the objects that were read, and names the object, the cause and the fix.

use serde_json::Value;

mod capped;
mod diluted;
mod disabled;
mod empty_answers;
mod external_metrics;
mod no_request;
mod partitions;
mod replicas_owned;
mod strangers;
mod two_autoscalers;
mod vertical;
mod within_tolerance;
mod world;

pub use world::{Autoscaler, Sight, Source, World};

/// A row of the table.
pub struct Gotcha {
    pub name: &'static str,
    /// What it does to people, in one line.
    pub summary: &'static str,
    /// What it looks at that may be hidden: where it is, nothing is known.
    pub needs: &'static [Source],
    pub look: fn(&World) -> Vec<Found>,
}

/// One that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub weight: Weight,
    /// `shop/hpa/checkout`.
    pub object: String,
    pub cause: String,
    pub fix: String,
}

/// What it means for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It does what it does whatever the load is.
    Wrong,
    /// It may be meant so; whoever reads a verdict should know it.
    Note,
}

/// Every gotcha, in the order in which they are told.
pub const ALL: &[Gotcha] = &[
    Gotcha {
        name: "no-request",
        summary: "a container has no request, so its share of one cannot be known, and the autoscaler stands still",
        needs: &[],
        look: no_request::look,
    },
    Gotcha {
        name: "strangers",
        summary: "the workload's selector takes in other pods, whose metrics are averaged in",
        needs: &[Source::Pods],
        look: strangers::look,
    },
    Gotcha {
        name: "two-autoscalers",
        summary: "two autoscalers scale one workload, and neither acts",
        needs: &[Source::ScaledObjects],
        look: two_autoscalers::look,
    },
    Gotcha {
        name: "diluted",
        summary: "the requests of sidecars hide how busy the container is that does the work",
        needs: &[],
        look: diluted::look,
    },
    Gotcha {
        name: "within-tolerance",
        summary: "the metric is off its target, and so little that nothing happens",
        needs: &[],
        look: within_tolerance::look,
    },
    Gotcha {
        name: "replicas-owned",
        summary: "somebody beside the autoscaler sets the number of replicas, and takes it back",
        needs: &[],
        look: replicas_owned::look,
    },
    Gotcha {
        name: "vertical",
        summary: "a VerticalPodAutoscaler moves the requests that the horizontal one divides by",
        needs: &[Source::VerticalAutoscalers],
        look: vertical::look,
    },
    Gotcha {
        name: "capped",
        summary: "the most replicas are reached already, or there is no room for them",
        needs: &[Source::Nodes],
        look: capped::look,
    },
    Gotcha {
        name: "external-metrics",
        summary: "external metrics are served by nobody, or by another than the scaler's",
        needs: &[Source::ApiServices, Source::ScaledObjects],
        look: external_metrics::look,
    },
    Gotcha {
        name: "partitions",
        summary: "more consumers than the topic has partitions: the last ones have nothing to do, or never come",
        needs: &[Source::ScaledObjects, Source::Topics],
        look: partitions::look,
    },
    Gotcha {
        name: "empty-answers",
        summary: "an answer of Prometheus without a value counts as zero: lost series look like no load",
        needs: &[Source::ScaledObjects],
        look: empty_answers::look,
    },
    Gotcha {
        name: "disabled",
        summary: "the workload stands at zero replicas, which switches its autoscaler off",
        needs: &[],
        look: disabled::look,
    },
];

impl Found {
    fn wrong(object: String, cause: String, fix: impl Into<String>) -> Found {
        Found { weight: Weight::Wrong, object, cause, fix: fix.into() }
    }

    fn note(object: String, cause: String, fix: impl Into<String>) -> Found {
        Found { weight: Weight::Note, object, cause, fix: fix.into() }
    }
}

/// `name` of an object's metadata.
fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A deployment `shop/web` of one container that asks for `cpu`.
    pub fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "d"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "100m"}}}]}}}})
    }

    /// An autoscaler of it, by CPU at 80%.
    pub fn hpa() -> Value {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"minReplicas": 1, "maxReplicas": 6, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}})
    }

    /// Both, and nothing else in the cluster.
    pub fn world() -> World {
        World { workloads: vec![deployment()], autoscalers: vec![hpa()], ..World::default() }
    }

    /// What one gotcha says of a world, after a change to it.
    pub fn told(look: fn(&World) -> Vec<Found>, change: impl FnOnce(&mut World)) -> Vec<Found> {
        let mut world = world();
        change(&mut world);
        look(&world)
    }

    #[test]
    fn a_healthy_world_has_none_of_them() {
        for gotcha in ALL {
            assert_eq!((gotcha.look)(&world()), [], "{}", gotcha.name);
            assert_eq!((gotcha.look)(&World::default()), [], "{}", gotcha.name);
        }
    }
}
