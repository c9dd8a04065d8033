//! `spec.behavior.scaleUp.policies` limit how fast replicas may come. They never make an autoscaler ask for more than its metric says.

use std::time::Duration;

use super::stretch::{listed, moment, path, rises};
use super::{Scene, Sign};
use crate::recording::fact::{ScalingPolicy, ScalingRules};
use crate::verdict::words::significant;

pub fn rate_limited(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let held: Vec<_> = scaler.held("ScalingLimited", true, Duration::ZERO).filter(|held| held.reason == "ScaleUpLimit").collect();
    let first = held.first()?;
    let says = format!(
        "{} wanted more at {} than its scale-up policies allow ({}), {} in all",
        scaler.name(),
        moment(first.stretch.from),
        words(&scaler.spec.scale_up),
        if held.len() == 1 { "once".to_owned() } else { format!("{} times", held.len()) }
    );
    let fix = "allow more per period in spec.behavior.scaleUp.policies, or start from more replicas";
    Some(Sign::of(says, fix).shown_by(held.iter().map(|held| held.n).take(3)).shown_by([scaler.seen]))
}

pub fn only_limit(scene: &Scene) -> Option<Sign> {
    let scaler = scene.scaler()?;
    let rules = &scaler.spec.scale_up;
    let ratio = scaler.ratio()?;
    let limited = scaler.held("ScalingLimited", true, Duration::ZERO).any(|held| held.reason == "ScaleUpLimit");
    let decisions: Vec<_> = rises(&scaler.wanted).collect();
    if is_default(rules) || limited || decisions.is_empty() || rules.stabilization_window_s > 0 {
        return None;
    }
    let mut asked = Vec::new();
    for (before, after) in &decisions {
        // Decided on what it had read; its own word of that may come with the decision.
        let read = ratio.iter().rfind(|step| step.from <= after.from)?;
        let by_metric = (before.value * read.value).ceil();
        let allowed = allowed(rules, before.value)?;
        if (by_metric - after.value).abs() > 1.0 || after.value >= allowed {
            return None;
        }
        asked.push((after, allowed));
    }
    let (first, most) = asked.first()?;
    let says = format!(
        "{} asked for what its metric says and no more ({} at {}), though its policies would have allowed {} at the first of these steps ({})",
        scaler.name(),
        path(asked.iter().map(|(step, _)| step.value)),
        listed(&asked.iter().map(|(step, _)| moment(step.from)).collect::<Vec<_>>(), 6),
        significant(*most, 9),
        words(rules)
    );
    let fix = "policies only hold back: for more at a time lower the target, or scale on what is not bounded by the pods there are";
    Some(Sign::of(says, fix).shown_by(first.n).shown_by(asked.iter().filter_map(|(step, _)| step.n)).shown_by([scaler.seen]))
}

/// How many replicas one decision may come to, from `size`.
fn allowed(rules: &ScalingRules, size: f64) -> Option<f64> {
    let to = |policy: &ScalingPolicy| match policy.kind.as_str() {
        "Percent" => (size * (1.0 + f64::from(policy.value) / 100.0)).ceil(),
        _ => size + f64::from(policy.value),
    };
    let all = rules.policies.iter().map(to);
    match rules.select_policy.as_str() {
        "Disabled" => None,
        "Min" => all.min_by(f64::total_cmp),
        _ => all.max_by(f64::total_cmp),
    }
}

/// Doubling, or four more, every 15 s (autoscaling/v2, `HPAScalingRules`).
fn is_default(rules: &ScalingRules) -> bool {
    let known: Vec<_> = rules.policies.iter().map(|policy| (policy.kind.as_str(), policy.value, policy.period_s)).collect();
    rules.select_policy == "Max"
        && (known == [("Pods", 4, 15), ("Percent", 100, 15)] || known == [("Percent", 100, 15), ("Pods", 4, 15)])
}

/// `4 Pods or 100 Percent in 15s`.
fn words(rules: &ScalingRules) -> String {
    let one = |policy: &ScalingPolicy| format!("{} {} in {}s", policy.value, policy.kind, policy.period_s);
    let all: Vec<String> = rules.policies.iter().map(one).collect();
    format!("{} of {}", rules.select_policy, listed(&all, 4))
}
