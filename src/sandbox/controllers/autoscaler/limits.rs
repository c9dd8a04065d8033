//! How fast a recommendation may become replicas: stabilization windows, rate policies, and the clamps of minimum and maximum, with and
//! without a `behavior` (kubernetes/pkg/controller/podautoscaler/horizontal.go describes the rules). Pure, but for [`Memory`].

use super::replicas::Tuning;
use super::spec::{Behavior, Policy, PolicyKind, Rules, Select, Spec};

/// What the controller remembers of one autoscaler between syncs. Times are ms of the epoch.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    recommendations: Vec<(i64, i32)>,
    ups: Vec<(i64, i32)>,
    downs: Vec<(i64, i32)>,
}

/// A number of replicas, and what to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    pub replicas: i32,
    /// Reason and message for AbleToScale.
    pub able: (&'static str, &'static str),
    /// Whether a limit held it, with reason and message, for ScalingLimited.
    pub held: bool,
    pub limit: (&'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) =
    ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation");
const DOWN_STABILIZED: (&str, &str) =
    ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation");
const IN_RANGE: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const UP_LIMIT: (&str, &str) = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

impl Memory {
    /// The first sight of an autoscaler: its target's size counts as a recommendation.
    pub fn first_seen(&mut self, now_ms: i64, current: i32) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now_ms, current));
        }
    }

    /// A rescale that was carried out: rate policies count it.
    pub fn rescaled(&mut self, now_ms: i64, spec: &Spec, from: i32, to: i32) {
        let Some(behavior) = &spec.behavior else { return };
        let (events, rules, change) =
            if to > from { (&mut self.ups, &behavior.up, to - from) } else { (&mut self.downs, &behavior.down, from - to) };
        let longest_ms = rules.policies.iter().map(|p| p.period_s * 1000).max().unwrap_or(0);
        events.retain(|(at, _)| *at >= now_ms - longest_ms);
        events.push((now_ms, change));
    }

    /// Holds a recommendation to what the autoscaler's rules allow now.
    pub fn limit(&mut self, now_ms: i64, spec: &Spec, tuning: &Tuning, current: i32, recommended: i32) -> Limited {
        match &spec.behavior {
            None => self.built_in(now_ms, spec, tuning, current, recommended),
            Some(behavior) => self.by_behavior(now_ms, spec, tuning, behavior, current, recommended),
        }
    }

    fn built_in(&mut self, now_ms: i64, spec: &Spec, tuning: &Tuning, current: i32, recommended: i32) -> Limited {
        let cutoff = now_ms - tuning.downscale_stabilization_ms;
        self.recommendations.retain(|(at, _)| *at >= cutoff);
        let stable = self.recommendations.iter().map(|(_, replicas)| *replicas).fold(recommended, i32::max);
        self.recommendations.push((now_ms, recommended));

        // Doubling, or four: a guard against a bogus reading.
        let up_limit = current.saturating_mul(2).max(4);
        let (most, most_why) = if spec.max > up_limit { (up_limit, UP_LIMIT) } else { (spec.max, TOO_MANY) };
        let (replicas, limit) = if stable < spec.min {
            (spec.min, TOO_FEW)
        } else if stable > most {
            (most, most_why)
        } else {
            (stable, IN_RANGE)
        };
        let able = if stable == recommended { READY } else { DOWN_STABILIZED };
        Limited { replicas, able, held: replicas != stable, limit }
    }

    fn by_behavior(
        &mut self,
        now_ms: i64,
        spec: &Spec,
        tuning: &Tuning,
        behavior: &Behavior,
        current: i32,
        recommended: i32,
    ) -> Limited {
        let up_window_ms = behavior.up.window_s.unwrap_or(0) * 1000;
        let down_window_ms = behavior.down.window_s.map_or(tuning.downscale_stabilization_ms, |s| s * 1000);
        let (mut lowest, mut highest) = (recommended, recommended);
        for (at, replicas) in &self.recommendations {
            if *at > now_ms - up_window_ms {
                lowest = lowest.min(*replicas);
            }
            if *at > now_ms - down_window_ms {
                highest = highest.max(*replicas);
            }
        }
        let stable = current.max(lowest).min(highest);
        let oldest_useful = now_ms - up_window_ms.max(down_window_ms);
        self.recommendations.retain(|(at, _)| *at >= oldest_useful);
        self.recommendations.push((now_ms, recommended));
        let able = if stable == recommended {
            READY
        } else if recommended >= current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        };

        let (replicas, limit) = if stable > current {
            let rate = self.up_limit(now_ms, current, &behavior.up).max(current);
            let (most, why) = if spec.max > rate { (rate, UP_LIMIT) } else { (spec.max, TOO_MANY) };
            if stable > most { (most, why) } else { (stable, IN_RANGE) }
        } else if stable < current {
            let rate = self.down_limit(now_ms, current, &behavior.down).min(current);
            let (least, why) = if spec.min < rate { (rate, DOWN_LIMIT) } else { (spec.min, TOO_FEW) };
            if stable < least { (least, why) } else { (stable, IN_RANGE) }
        } else {
            (stable, IN_RANGE)
        };
        Limited { replicas, able, held: replicas != stable, limit }
    }

    fn up_limit(&self, now_ms: i64, current: i32, rules: &Rules) -> i32 {
        let proposed = |policy: &Policy| {
            let start = self.at_period_start(now_ms, current, policy);
            match policy.kind {
                PolicyKind::Pods => start.saturating_add(policy.value),
                // Rounded up, or one pod could never grow by half.
                PolicyKind::Percent => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            }
        };
        let limits = rules.policies.iter().map(proposed);
        match rules.select {
            Select::Disabled => Some(current),
            Select::Max => limits.max(),
            Select::Min => limits.min(),
        }
        .unwrap_or(current)
    }

    fn down_limit(&self, now_ms: i64, current: i32, rules: &Rules) -> i32 {
        let proposed = |policy: &Policy| {
            let start = self.at_period_start(now_ms, current, policy);
            match policy.kind {
                PolicyKind::Pods => start.saturating_sub(policy.value),
                PolicyKind::Percent => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        };
        let limits = rules.policies.iter().map(proposed);
        match rules.select {
            Select::Disabled => Some(current),
            // The largest change is the smallest number that is left.
            Select::Max => limits.min(),
            Select::Min => limits.max(),
        }
        .unwrap_or(current)
    }

    fn at_period_start(&self, now_ms: i64, current: i32, policy: &Policy) -> i32 {
        let within = |events: &[(i64, i32)]| -> i32 {
            let cutoff = now_ms - policy.period_s * 1000;
            events.iter().filter(|(at, _)| *at > cutoff).map(|(_, change)| *change).sum()
        };
        current - within(&self.ups) + within(&self.downs)
    }
}
