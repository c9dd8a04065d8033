//! The health of a ScaledObject's triggers: failures in a row, counted whenever the autoscaler asks, and what stands for a trigger that
//! failed too often (`pkg/fallback` of KEDA describes the rules). Pure.

use serde_json::{Value, json};

use super::conditions::{self, falls_back, no_fallback};
use super::spec::Fallback;
use super::trigger::Target;
use crate::sandbox::objects::int;

/// What was made of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The number for the autoscaler, in thousandths, or none.
    pub milli: Option<i64>,
    /// Whether falling back began or ended with this.
    pub turned: Option<Turned>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turned {
    On,
    Off,
}

/// Counts what reading a metric came to, and falls back where it is time. `read` is in thousandths.
pub fn settle(object: &mut Value, fallback: Fallback, metric: &str, target: Target, read: Option<i64>, current: i64) -> Settled {
    conditions::begin(object);
    if !object["status"]["health"].is_object() {
        object["status"]["health"] = json!({});
    }
    let health = &mut object["status"]["health"];
    let failures = match read {
        Some(_) => 0,
        None => int(&health[metric]["numberOfFailures"], 0).saturating_add(1).min(i64::from(i32::MAX)),
    };
    let word = if read.is_some() { "Happy" } else { "Failing" };
    health[metric] = json!({"numberOfFailures": failures, "status": word});
    let too_often = |one: &Value| one["status"] == "Failing" && int(&one["numberOfFailures"], 0) > fallback.threshold;
    let falls = health.as_object().is_some_and(|all| all.values().any(too_often));
    let was = crate::sandbox::objects::condition(object, "Fallback").is_some_and(|known| known["status"] == "True");
    conditions::set(object, &if falls { falls_back() } else { no_fallback() });
    let milli = read.or_else(|| fallback.value(target, current).filter(|_| failures > fallback.threshold));
    let turned = match (was, falls) {
        (false, true) => Some(Turned::On),
        (true, false) => Some(Turned::Off),
        _ => None,
    };
    Settled { milli, turned }
}

#[cfg(test)]
mod tests {
    use super::super::spec::FallbackBehavior;
    use super::*;

    #[test]
    fn it_falls_back_after_more_failures_in_a_row_than_its_threshold_and_recovers_at_once() {
        let fallback = Fallback { threshold: 2, replicas: 3, behavior: FallbackBehavior::Static };
        let mut object = json!({});
        let mut ask =
            |metric: &str, read: Option<i64>| settle(&mut object, fallback, metric, Target::AverageMilli(10_000), read, 1);
        let none = Settled { milli: None, turned: None };
        assert_eq!(ask("a", Some(7)), Settled { milli: Some(7), turned: None });
        assert_eq!([ask("a", None), ask("a", None)], [none.clone(), none.clone()]);
        assert_eq!(ask("a", None), Settled { milli: Some(30_000), turned: Some(Turned::On) });
        // Another trigger's answer does not end it, nor does its own first failure add to the count.
        assert_eq!(ask("b", Some(1)), Settled { milli: Some(1), turned: None });
        assert_eq!(ask("b", None), none);
        assert_eq!(ask("a", Some(8)), Settled { milli: Some(8), turned: Some(Turned::Off) });
        assert_eq!(object["status"]["health"]["a"], json!({"numberOfFailures": 0, "status": "Happy"}));
        assert_eq!(object["status"]["health"]["b"], json!({"numberOfFailures": 1, "status": "Failing"}));
        let condition = crate::sandbox::objects::condition(&object, "Fallback").expect("it was set");
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("NoFallbackFound")));
    }

    #[test]
    fn a_target_that_is_no_average_has_nothing_to_fall_back_to() {
        let fallback = Fallback { threshold: 0, replicas: 3, behavior: FallbackBehavior::Static };
        assert_eq!(settle(&mut json!({}), fallback, "a", Target::ValueMilli(10), None, 1).milli, None);
    }
}
