//! What KEDA's operator does after one look at the triggers, as a function: between zero (or the idle count) and the first replicas it
//! scales itself, the rest is the autoscaler's (`pkg/scaling/executor/scale_scaledobjects.go` of KEDA describes the rules).

use super::spec::Spec;

/// What one look found.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub spec: &'a Spec,
    /// `spec.replicas` of the target.
    pub current: i64,
    /// Whether a trigger is active.
    pub active: bool,
    /// Whether a trigger could not be read.
    pub failed: bool,
    /// ms of the epoch.
    pub now_ms: i64,
    pub created_ms: i64,
    /// When something was active last, where anything ever was.
    pub last_active_ms: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// From zero, or from the idle count.
    Activate(i64),
    /// It is active and has replicas: only the time is noted.
    Note,
    /// Some triggers are active, others fail.
    DoubtSome,
    /// None is active, and some fail: who knows.
    DoubtAll,
    /// The same where a fallback will stand for them: the target must not go to zero, where no autoscaler looks at it.
    AwaitFallback,
    /// To zero, or to the idle count.
    Deactivate(i64),
    /// Not yet.
    CoolDown,
    /// To the least that it may have.
    Raise(i64),
    Stay,
}

pub fn decide(seen: &Seen<'_>) -> Step {
    let Seen { spec, current, active, failed, .. } = *seen;
    if active {
        let rests = spec.idle.is_some() && current < spec.min;
        return match () {
            () if rests || current == 0 => Step::Activate(spec.first()),
            () if failed => Step::DoubtSome,
            () => Step::Note,
        };
    }
    let above_idle = spec.idle.is_some_and(|idle| current > idle);
    match spec.fallback {
        Some(fallback) if failed && fallback.replicas != 0 => Step::AwaitFallback,
        None if failed => Step::DoubtAll,
        _ if above_idle || (current > 0 && spec.min == 0) => match is_cool(seen) {
            true => Step::Deactivate(spec.rest()),
            false => Step::CoolDown,
        },
        _ if current < spec.min && spec.idle.is_none() => Step::Raise(spec.min),
        _ => Step::Stay,
    }
}

/// Whether nothing was active for long enough.
fn is_cool(seen: &Seen<'_>) -> bool {
    let (since, period) = match seen.last_active_ms {
        Some(last) => (last, seen.spec.cooldown),
        None => (seen.created_ms, seen.spec.initial_cooldown),
    };
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
    since.saturating_add(period_ms) < seen.now_ms
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Goal: each rule of the operator. How: a table of what is asked for and what was seen; times in seconds after the object was made, at 0.
    #[track_caller]
    fn check(spec: Value, current: i64, active: bool, failed: bool, last_active_s: Option<i64>, now_s: i64, expected: Step) {
        let spec = Spec::read(&json!({"spec": spec}));
        let last_active_ms = last_active_s.map(|s| s * 1000);
        let seen = Seen { spec: &spec, current, active, failed, now_ms: now_s * 1000, created_ms: 0, last_active_ms };
        assert_eq!(decide(&seen), expected, "{seen:?}");
    }

    #[test]
    fn it_scales_from_zero_and_back_and_leaves_the_rest_to_the_autoscaler() {
        let plain = || json!({"cooldownPeriod": 10});
        check(plain(), 0, true, false, None, 5, Step::Activate(1));
        check(json!({"minReplicaCount": 3}), 0, true, false, None, 5, Step::Activate(3));
        check(plain(), 4, true, false, Some(1), 5, Step::Note);
        check(plain(), 4, false, false, Some(1), 11, Step::CoolDown);
        check(plain(), 4, false, false, Some(1), 12, Step::Deactivate(0));
        check(plain(), 0, false, false, Some(1), 99, Step::Stay);
        check(json!({"minReplicaCount": 2}), 5, false, false, None, 5, Step::Stay);
        check(json!({"minReplicaCount": 2}), 1, false, false, None, 5, Step::Raise(2));
    }

    #[test]
    fn what_was_never_active_waits_for_the_initial_period_alone() {
        check(json!({"cooldownPeriod": 1}), 1, false, false, None, 1, Step::Deactivate(0));
        check(json!({"initialCooldownPeriod": 60}), 1, false, false, None, 60, Step::CoolDown);
        check(json!({"initialCooldownPeriod": 60}), 1, false, false, None, 61, Step::Deactivate(0));
    }

    #[test]
    fn an_idle_count_takes_the_place_of_zero() {
        let idle = || json!({"minReplicaCount": 3, "idleReplicaCount": 1, "cooldownPeriod": 10});
        check(idle(), 3, false, false, Some(1), 12, Step::Deactivate(1));
        check(idle(), 1, false, false, Some(1), 99, Step::Stay);
        check(idle(), 1, true, false, Some(1), 99, Step::Activate(3));
    }

    #[test]
    fn a_failure_is_no_reason_to_go_to_zero() {
        check(json!({}), 2, false, true, Some(1), 9999, Step::DoubtAll);
        check(json!({}), 2, true, true, Some(1), 9999, Step::DoubtSome);
        check(json!({}), 0, true, true, Some(1), 9999, Step::Activate(1));
        let with = |replicas: i64| json!({"fallback": {"failureThreshold": 3, "replicas": replicas}});
        check(with(4), 2, false, true, Some(1), 9999, Step::AwaitFallback);
        check(with(0), 2, false, true, Some(1), 9999, Step::Deactivate(0));
    }
}
