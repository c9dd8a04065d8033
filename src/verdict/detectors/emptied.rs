//! A source that has no answer is not a source that says zero; where it is taken for one (`ignoreNullValues: "true"` of KEDA's Prometheus
//! scaler), an outage of the monitoring takes the service's replicas away.

use std::time::Duration;

use super::stretch::{at, moment};
use super::{Scene, Sign};
use crate::verdict::words::significant;

/// How long the load must have been the same, before and after.
const AROUND: Duration = Duration::from_secs(5);
/// The share of its target from which a metric does not become zero at once by itself.
const BUSY: f64 = 0.5;

pub fn look(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let gauge = scaler.only_gauge().filter(|gauge| matches!(gauge.source, "object" | "external" | "pods"))?;
    gauge.read.windows(2).find_map(|pair| {
        let (before, zero) = (&pair[0], &pair[1]);
        if zero.value != 0.0 || before.value < BUSY * gauge.target || !scene.is_flat(zero.from - AROUND, zero.from + AROUND) {
            return None;
        }
        let had = at(&scaler.wanted, zero.from)?;
        let fell = scaler.wanted.iter().find(|step| step.from > zero.from && step.value < had.value)?;
        let says = format!(
            "{} fell from {} to 0 in one reading at {}, under {}/s as before, and {} went from {} to {} at {}",
            gauge.name,
            gauge.words(before.value),
            moment(zero.from),
            significant(scene.due(zero.from - AROUND, zero.from + AROUND), 3),
            scaler.name(),
            had.value,
            fell.value,
            moment(fell.from)
        );
        let fix = "see whether its source was away then: no answer must be an error and not zero (KEDA: ignoreNullValues: \"false\", and a \
                   `fallback`)";
        Some(Sign::of(says, fix).shown_by(zero.n).shown_by(fell.n))
    })
}
