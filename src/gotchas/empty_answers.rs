//! KEDA takes an answer of Prometheus without a value for zero, unless its trigger says `ignoreNullValues: "false"`: where the series are lost
//! (an exporter that is away, a scrape that fails), the workload is scaled in, or to zero, under load.

use super::world::label;
use super::{Found, World};
use crate::cluster::{list, text};

/// What Go reads as no.
const NO: [&str; 6] = ["0", "f", "F", "false", "False", "FALSE"];

pub fn look(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    for (scaled, workload) in world.scaled_by_events() {
        let lenient = list(scaled, "/spec/triggers").iter().find(|trigger| {
            trigger["type"] == "prometheus" && !text(trigger, "/metadata/ignoreNullValues").is_some_and(|word| NO.contains(&word))
        });
        if let Some(trigger) = lenient {
            let query = text(trigger, "/metadata/query").unwrap_or("?");
            found.push(Found::note(
                label(scaled, "scaledobject"),
                format!(
                    "where the query `{query}` has no result it counts as zero, and {} is scaled in: lost series look like no load",
                    label(workload, "")
                ),
                "say ignoreNullValues: \"false\" and a fallback, where no result means that something is broken",
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::told;
    use super::*;
    use crate::gotchas::Sight;

    #[test]
    fn a_trigger_that_takes_nothing_for_zero_is_a_note_and_one_that_does_not_is_none() {
        let of = |metadata: serde_json::Value| {
            let scaled = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"scaleTargetRef": {"name": "web"},
                "triggers": [{"type": "cron", "metadata": {}}, {"type": "prometheus", "metadata": metadata}]}});
            told(look, |world| world.scaled_objects = Sight::Seen(vec![scaled]))
        };
        assert!(of(json!({"query": "sum(lag)"}))[0].cause.contains("`sum(lag)` has no result"));
        assert_eq!(of(json!({"query": "q", "ignoreNullValues": "true"})).len(), 1);
        assert_eq!(of(json!({"query": "q", "ignoreNullValues": "false"})), []);
    }
}
