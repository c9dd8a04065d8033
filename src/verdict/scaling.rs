//! `within: auto` for scaling out: how long an autoscaler of this very spec may take, with its arithmetic.
//!
//! ```text
//! metric + sync + actuation + pod ready + (decisions-1) x max(pod ready + metric + sync, policy period) + stabilization
//! ```
//! At the default sync period of 15 s the first three are the 100 s that Kubernetes' own end-to-end tests allow (two 30 s metric
//! windows, 15 s until a new pod has metrics, one sync, 10 s to act: `test/e2e/autoscaling/horizontal_pod_autoscaling_behavior.go`).
//! They are kept in proportion to the sync period, since a faster controller reads its metrics faster too.
//!
//! A workload at rest that a ScaledObject wakes is first looked at within a polling interval, and the autoscaler's turn comes when its first
//! replicas are there:
//! ```text
//! polling interval + actuation + pod ready, then the above where more than the first replicas are to be reached
//! ```

use std::time::Duration;

use super::pods::PodReady;
use super::words::{count, seconds};
use crate::recording::fact::{AutoscalerSpec, Waking};

/// Metric windows and the first metrics of a new pod, in sync periods: (30 + 30 + 15) / 15.
const METRIC_SYNCS: f64 = 5.0;
/// Ten seconds to act at a sync of 15.
const ACTUATION_S_PER_SYNC_S: f64 = 10.0 / 15.0;
/// A scheduler and a kubelet are not faster than this for a fast controller.
const ACTUATION_LEAST_S: f64 = 2.0;
/// More decisions than any real scale-out takes: where a policy never gets there, counting stops.
const DECISIONS_MOST: u32 = 1000;

/// A bound and how it was derived.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub within: Duration,
    pub source: String,
}

/// How long it may take from `start` to `reach` replicas; `Err` in words when the spec can never get there.
pub fn bound(spec: &AutoscalerSpec, start: u32, reach: u32, ready: PodReady) -> Result<Bound, String> {
    if reach > spec.max_replicas {
        return Err(format!(
            "{} allows at most {}, so {reach} can never be reached",
            spec.object,
            count(u64::from(spec.max_replicas), "replica")
        ));
    }
    let asleep = spec.waking.as_ref().filter(|waking| start < waking.first);
    let (awake, from) = match asleep {
        Some(waking) => (waking_terms(spec, waking, start, ready), waking.first),
        None => (Terms::default(), start),
    };
    let scaled = if asleep.is_some() && reach <= from { Terms::default() } else { scaling_terms(spec, from, reach, ready)? };
    let both = if awake.words.is_empty() || scaled.words.is_empty() { "" } else { ", then " };
    let total = awake.seconds + scaled.seconds;
    Ok(Bound {
        // A recording may claim any sync period at all; one that no duration holds bounds nothing.
        within: Duration::try_from_secs_f64(total).unwrap_or(Duration::MAX),
        source: format!("auto, from the live autoscaler: {}{both}{} = {}", awake.words, scaled.words, seconds(total)),
    })
}

/// A stretch of time, and what it is the sum of.
#[derive(Default)]
struct Terms {
    seconds: f64,
    words: String,
}

fn actuation_s(spec: &AutoscalerSpec) -> f64 {
    (ACTUATION_S_PER_SYNC_S * spec.sync_period_s).max(ACTUATION_LEAST_S)
}

/// From rest to the first replicas.
fn waking_terms(spec: &AutoscalerSpec, waking: &Waking, start: u32, ready: PodReady) -> Terms {
    let (polling, actuation) = (waking.polling_interval_s, actuation_s(spec));
    Terms {
        seconds: polling + actuation + ready.p95_s,
        words: format!(
            "woken from {start} to {} by polling interval {} + actuation {} + {}",
            waking.first,
            seconds(polling),
            seconds(actuation),
            ready.words()
        ),
    }
}

/// What the autoscaler takes.
fn scaling_terms(spec: &AutoscalerSpec, start: u32, reach: u32, ready: PodReady) -> Result<Terms, String> {
    let by_policy = policy_decisions(spec, start, reach)?;
    let by_saturation = saturation_decisions(spec, start, reach);
    let decisions = by_policy.count.max(by_saturation.map_or(0, |(count, _)| count)).max(1);

    let sync = spec.sync_period_s;
    let metric = METRIC_SYNCS * sync;
    let actuation = actuation_s(spec);
    let stabilization = f64::from(spec.scale_up.stabilization_window_s);
    let each = (ready.p95_s + metric + sync).max(by_policy.period_s);
    let total = metric + sync + actuation + ready.p95_s + f64::from(decisions - 1) * each + stabilization;

    let why = match by_saturation {
        Some((count, target)) if count > by_policy.count => {
            format!("a saturated CPU at a target of {target}% asks for at most {:.2} times as many each time", 100.0 / target)
        }
        _ => format!("its scale-up policies from {start} to {reach}"),
    };
    let further = match decisions {
        1 => String::new(),
        n => format!(
            " + {} of the {n} ({why}) x {} (the longer of pod ready + metric + sync and a policy's period of {})",
            count(u64::from(n - 1), "further decision"),
            seconds(each),
            seconds(by_policy.period_s)
        ),
    };
    Ok(Terms {
        seconds: total,
        words: format!(
            "metric {} (5 syncs of {}, {}) + sync {} + actuation {} + {}{further} + stabilization {}",
            seconds(metric),
            seconds(sync),
            spec.sync_period_source,
            seconds(sync),
            seconds(actuation),
            ready.words(),
            seconds(stabilization)
        ),
    })
}

struct Decisions {
    count: u32,
    /// The longest period among the policies that were used.
    period_s: f64,
}

/// The fewest decisions that the scale-up policies allow: each may add what the chosen policy gives.
fn policy_decisions(spec: &AutoscalerSpec, start: u32, reach: u32) -> Result<Decisions, String> {
    let rules = &spec.scale_up;
    let stuck = |why: &str| Err(format!("{}: {why}, so {reach} can never be reached from {start}", spec.object));
    if reach > start && rules.select_policy == "Disabled" {
        return stuck("scaling up is disabled");
    }
    let mut size = start;
    let mut decisions = Decisions { count: 0, period_s: 0.0 };
    while size < reach && decisions.count < DECISIONS_MOST {
        let grown = rules.policies.iter().map(|policy| {
            let to = match policy.kind.as_str() {
                "Percent" => (f64::from(size) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as u32,
                _ => size.saturating_add(policy.value),
            };
            (to, policy.period_s)
        });
        let chosen = if rules.select_policy == "Min" { grown.min_by_key(|(to, _)| *to) } else { grown.max_by_key(|(to, _)| *to) };
        // A workload at zero is woken to one whatever the policies say; without policies nothing limits a decision.
        let (to, period_s) = chosen.unwrap_or((reach, 0));
        let to = to.max(u32::from(size == 0));
        if to <= size {
            return stuck("its scale-up policies add nothing");
        }
        size = to;
        decisions.count += 1;
        decisions.period_s = decisions.period_s.max(f64::from(period_s));
    }
    Ok(decisions)
}

/// A saturated CPU shows at most 100%, so each decision multiplies by at most 100/target; `None` for other metrics.
fn saturation_decisions(spec: &AutoscalerSpec, start: u32, reach: u32) -> Option<(u32, f64)> {
    let target = spec.metrics.iter().find_map(|line| {
        let mut words = line.split_whitespace();
        let cpu = matches!(words.next(), Some("resource" | "containerResource"))
            && words.next().is_some_and(|name| name.ends_with("cpu"));
        (cpu && words.next() == Some("averageUtilization")).then(|| words.next().and_then(|value| value.parse::<f64>().ok()))?
    })?;
    if target >= 100.0 || spec.metrics.len() > 1 {
        return None;
    }
    let (mut size, mut count) = (start.max(1), 0);
    while size < reach && count < DECISIONS_MOST {
        size = (f64::from(size) * 100.0 / target - 1e-9).ceil().max(f64::from(size) + 1.0) as u32;
        count += 1;
    }
    Some((count, target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::{ScalingPolicy, ScalingRules};

    fn spec(metric: &str) -> AutoscalerSpec {
        let policy = |kind: &str, value, period_s| ScalingPolicy { kind: kind.into(), value, period_s };
        let rules = ScalingRules {
            stabilization_window_s: 0,
            select_policy: "Max".into(),
            policies: vec![policy("Pods", 4, 15), policy("Percent", 100, 15)],
        };
        AutoscalerSpec {
            object: "shop/hpa/checkout".parse().unwrap(),
            scales: "shop/deployment/checkout".parse().unwrap(),
            min_replicas: 1,
            max_replicas: 100,
            metrics: vec![metric.into()],
            scale_up: rules.clone(),
            scale_down: rules,
            sync_period_s: 15.0,
            sync_period_source: "kube-controller-manager default".into(),
            tolerance: 0.1,
            waking: None,
        }
    }

    const READY: PodReady = PodReady { p95_s: 12.0, pods: 3 };

    /// The step counts of the literature: default policies, and a CPU that saturates at its limit.
    #[test]
    fn decisions_are_those_of_the_algorithm() {
        let by_policy = |from, to| policy_decisions(&spec("pods x averageValue 8"), from, to).ok().unwrap().count;
        assert_eq!([by_policy(1, 10), by_policy(1, 50), by_policy(2, 20), by_policy(10, 100)], [2, 5, 3, 4]);
        let at = |target| {
            move |from, to| saturation_decisions(&spec(&format!("resource cpu averageUtilization {target}")), from, to).unwrap().0
        };
        assert_eq!([at(75)(1, 10), at(75)(2, 20), at(75)(3, 100)], [6, 7, 12]);
        assert_eq!([at(50)(1, 10), at(50)(2, 20), at(50)(3, 100)], [4, 4, 6]);
    }

    #[test]
    fn one_decision_of_a_default_controller_is_a_hundred_seconds_and_the_pods() {
        let bound = bound(&spec("pods x averageValue 8"), 1, 5, READY).unwrap();
        assert_eq!(bound.within, Duration::from_secs(112), "{}", bound.source);
        assert!(bound.source.contains("metric 75s") && bound.source.contains("= 112s"), "{}", bound.source);
    }

    #[test]
    fn further_decisions_wait_for_pods_and_metrics() {
        let bound = bound(&spec("resource cpu averageUtilization 75"), 3, 9, READY).unwrap();
        // 3 -> 4 -> 6 -> 8 -> 11: four decisions.
        assert_eq!(bound.within, Duration::from_secs(100 + 12 + 3 * (12 + 75 + 15)), "{}", bound.source);
    }

    /// The rows of the literature for scaling from zero: a polling interval, ten seconds to act and the pod; then the autoscaler's turn.
    #[test]
    fn what_rests_is_woken_within_a_polling_interval_and_scaled_from_there() {
        let mut scaled = spec("trigger prometheus threshold 5");
        scaled.waking = Some(Waking { polling_interval_s: 30.0, cooldown_s: 300.0, first: 1 });
        let of = |start, reach| bound(&scaled, start, reach, READY).expect("it can be reached");
        assert_eq!(of(0, 1).within, Duration::from_secs(30 + 10 + 12), "{}", of(0, 1).source);
        assert_eq!(of(0, 5).within, Duration::from_secs(30 + 10 + 12 + 112), "{}", of(0, 5).source);
        assert_eq!(of(1, 5).within, Duration::from_secs(112), "{}", of(1, 5).source);
        let source = of(0, 5).source;
        assert!(source.contains("woken from 0 to 1 by polling interval 30s") && source.contains(", then metric 75s"), "{source}");
        let mut idle = scaled.clone();
        idle.waking = Some(Waking { polling_interval_s: 30.0, cooldown_s: 300.0, first: 3 });
        assert_eq!(bound(&idle, 0, 2, READY).expect("it can be reached").within, Duration::from_secs(52));
    }

    #[test]
    fn what_can_never_be_reached_is_said() {
        let mut small = spec("pods x averageValue 8");
        small.max_replicas = 4;
        assert!(bound(&small, 1, 5, READY).unwrap_err().contains("at most 4 replicas"));
        let mut disabled = spec("pods x averageValue 8");
        disabled.scale_up.select_policy = "Disabled".into();
        assert!(bound(&disabled, 1, 5, READY).unwrap_err().contains("disabled"));
    }
}
