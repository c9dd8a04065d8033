//! In a consumer group one partition has one consumer: beyond the topic's partitions KEDA scales no further, or to consumers that rest.

use serde_json::Value;

use super::world::{MOST_DEFAULT, label};
use super::{Found, World, name};
use crate::cluster::{list, text};

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for (scaled, workload) in world.scaled_by_events() {
        let most = scaled["spec"]["maxReplicaCount"].as_u64().unwrap_or(MOST_DEFAULT);
        for trigger in list(scaled, "/spec/triggers").iter().filter(|trigger| trigger["type"] == "kafka") {
            let Some(topic) = text(trigger, "/metadata/topic") else { continue };
            let Some(partitions) = partitions(world, scaled, trigger, topic).filter(|partitions| *partitions < most) else {
                continue;
            };
            let idle = text(trigger, "/metadata/allowIdleConsumers") == Some("true");
            let what = if idle { "the rest have nothing to do" } else { "it stops there" };
            let found_here = Found::wrong(
                label(scaled, "scaledobject"),
                format!("it may scale {} to {most}, and topic {topic} has {partitions} partitions: {what}", label(workload, "")),
                format!("set maxReplicaCount to {partitions}, or give the topic more partitions"),
            );
            found.push(found_here);
        }
    }
    found
}

/// How many partitions are consumed: those that the trigger names, else those of the topic where an object says it.
fn partitions(world: &World, scaled: &Value, trigger: &Value, topic: &str) -> Option<u64> {
    if let Some(named) = text(trigger, "/metadata/partitionLimitation").filter(|named| !named.trim().is_empty()) {
        return named.split(',').map(|part| range(part.trim())).sum();
    }
    let is_it = |object: &&Value| text(object, "/spec/topicName").unwrap_or(name(object)) == topic;
    let mut topics = world.topics.objects().iter().filter(is_it);
    let here = topics.clone().find(|object| object["metadata"]["namespace"] == scaled["metadata"]["namespace"]);
    here.or_else(|| topics.next())?["spec"]["partitions"].as_u64()
}

/// `3` or `0-7`.
fn range(part: &str) -> Option<u64> {
    match part.split_once('-') {
        None => part.parse::<u64>().ok().map(|_| 1),
        Some((from, to)) => {
            let (from, to) = (from.trim().parse::<u64>().ok()?, to.trim().parse::<u64>().ok()?);
            to.checked_sub(from)?.checked_add(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;
    use crate::gotchas::Sight;
    use serde_json::json;

    fn of(most: u64, metadata: Value) -> Vec<Found> {
        let scaled = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": most,
            "triggers": [{"type": "kafka", "metadata": metadata}]}});
        let topic = json!({"metadata": {"namespace": "shop", "name": "orders"}, "spec": {"partitions": 6}});
        told(look, |world| {
            world.scaled_objects = Sight::Seen(vec![scaled]);
            world.topics = Sight::Seen(vec![topic]);
        })
    }

    #[test]
    fn more_consumers_than_partitions_are_found_where_both_are_known() {
        assert!(of(6, json!({"topic": "orders"})).is_empty() && of(60, json!({"topic": "unknown"})).is_empty());
        assert!(of(7, json!({"topic": "orders"}))[0].cause.contains("has 6 partitions: it stops there"));
        let found = of(7, json!({"topic": "orders", "partitionLimitation": "1,4-6", "allowIdleConsumers": "true"}));
        assert!(found[0].cause.contains("has 4 partitions: the rest have nothing to do"), "{found:?}");
        assert!(of(60, json!({"topic": "orders", "partitionLimitation": "x-y"})).is_empty());
    }
}
