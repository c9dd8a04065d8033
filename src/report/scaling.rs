//! How the platform answered: every change of the number of replicas, wanted and ready, in the order in which it was seen.

use serde::Serialize;

use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::Fact;
use crate::recording::history::same_object;
use crate::recording::metric::{DESIRED_REPLICAS, READY_REPLICAS};

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScaleStep {
    /// Seconds since the first phase started.
    pub t_s: f64,
    /// The event that says so.
    pub event: u64,
    pub object: ObjectRef,
    pub metric: String,
    /// `None` for the first sight.
    pub from: Option<f64>,
    pub to: f64,
}

/// Every first sight and every change.
pub fn steps(history: &History) -> Vec<ScaleStep> {
    let mut last: Vec<(ObjectRef, String, f64)> = Vec::new();
    let mut steps = Vec::new();
    for event in &history.events {
        let Fact::Reading(reading) = &event.fact else { continue };
        if reading.metric != READY_REPLICAS && reading.metric != DESIRED_REPLICAS {
            continue;
        }
        let known = last.iter_mut().find(|(object, metric, _)| same_object(object, &reading.object) && *metric == reading.metric);
        let from = known.as_ref().map(|(_, _, value)| *value);
        match known {
            Some((_, _, value)) if *value == reading.value => continue,
            Some((_, _, value)) => *value = reading.value,
            None => last.push((reading.object.clone(), reading.metric.clone(), reading.value)),
        }
        steps.push(ScaleStep {
            t_s: event.t_ns.seconds(),
            event: event.n,
            object: reading.object.clone(),
            metric: reading.metric.clone(),
            from,
            to: reading.value,
        });
    }
    steps
}

/// The series of replicas that are ready and wanted of what is under test, as `(moment in nanoseconds, value)`.
pub struct Replicas {
    pub ready: Vec<(i64, f64)>,
    pub desired: Vec<(i64, f64)>,
}

impl Replicas {
    /// Of the workload and the autoscaler that the plan names.
    pub fn of(history: &History) -> Replicas {
        let (workload, autoscaler) = (&history.started.workload, &history.started.autoscaler);
        let series = |object: &Option<ObjectRef>, metric: &str| -> Vec<(i64, f64)> {
            let Some(object) = object else { return Vec::new() };
            history.series(object, metric).into_iter().map(|(_, t, value)| (t.nanos(), value)).collect()
        };
        // What the autoscaler asks for comes before what was written into the workload: it is the same wish, seen earlier.
        let desired = [autoscaler, workload]
            .into_iter()
            .map(|object| series(object, DESIRED_REPLICAS))
            .find(|series| !series.is_empty())
            .unwrap_or_default();
        Replicas { ready: series(workload, READY_REPLICAS), desired }
    }
}

/// The last value at or before `nanos`.
pub fn at(series: &[(i64, f64)], nanos: i64) -> Option<f64> {
    let after = series.partition_point(|(t, _)| *t <= nanos);
    after.checked_sub(1).map(|last| series[last].1)
}
