//! Tables of the rules that no recording shows.

use super::*;
use crate::sandbox::controllers::autoscaler::replicas::Phase;

const TUNING: Tuning =
    Tuning { tolerance: 0.1, cpu_initialization_ms: 2000, initial_readiness_delay_ms: 2000, downscale_stabilization_ms: 300_000 };

/// One sync with `Pods` metrics (target 10 in flight), pods given as `name:value`, `name:?` for no sample, `name:pending`, `name:leaving`.
fn recommend_for(current: i32, pods: &str, spec: Value, memory: &mut Memory, now_ms: i64) -> Decision {
    let mut spec = spec;
    if spec["metrics"].is_null() {
        let pods = |name: &str| {
            json!({"type": "Pods", "pods": {"metric": {"name": name},
            "target": {"type": "AverageValue", "averageValue": "10"}}})
        };
        spec["metrics"] = json!([pods("http_requests_in_flight")]);
    }
    let spec = Spec::read(&json!({"spec": spec}));
    let mut samples = BTreeMap::new();
    let mut views = vec![];
    for pod in pods.split_whitespace() {
        let (name, what) = pod.split_once(':').expect("name:what");
        if let Ok(value) = what.parse::<f64>() {
            samples.insert(name.to_owned(), Sample { milli: (value * 1000.0) as i64, at_ms: now_ms, window_ms: 0 });
        }
        views.push(PodView {
            name: name.into(),
            deleted: what == "leaving",
            phase: if what == "pending" { Phase::Pending } else { Phase::Other },
            ready: Some((what != "pending", 0)),
            started_ms: Some(0),
            containers: vec![],
        });
    }
    let readings: Vec<Reading> = spec
        .metrics
        .iter()
        .map(|metric| match metric {
            Metric::Pods { name, .. } if name == "broken" => Err("no metrics returned from custom metrics API".to_owned()),
            Metric::External { name, .. } => {
                let milli = samples.values().map(|sample| sample.milli).sum();
                Ok(BTreeMap::from([(name.clone(), Sample { milli, at_ms: now_ms, window_ms: 0 })]))
            }
            _ => Ok(samples.clone()),
        })
        .collect();
    let inputs = Inputs {
        now_ms,
        spec: &spec,
        current,
        present: current,
        selector: Some("app=it"),
        claimants: &[],
        pods: &views,
        readings: &readings,
        tuning: &TUNING,
    };
    let decision = decide(&inputs, memory);
    if decision.rescale.is_some() {
        memory.rescaled(now_ms, &spec, current, decision.desired);
    }
    decision
}

#[track_caller]
fn check(current: i32, pods: &str, expected: i32, why: &str) {
    let at_once = json!({"minReplicas": 1, "maxReplicas": 20, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}});
    let decision = recommend_for(current, pods, at_once, &mut Memory::default(), 100_000);
    assert_eq!(decision.desired, expected, "{why}: {decision:?}");
}

#[test]
fn pods_that_do_not_count_are_taken_at_their_most_cautious() {
    check(2, "a:20 b:20", 4, "twice the target is twice the pods");
    check(2, "a:10.9 b:10.9", 2, "inside the tolerance of a tenth nothing is done");
    check(2, "a:11.1 b:11.1", 3, "outside it, rounded up");
    check(2, "a:5 b:5", 1, "half the target is half the pods");
    check(2, "a:30 b:?", 3, "a pod without a sample counts as idle on the way up");
    check(2, "a:2 b:?", 2, "and as at its target on the way down: 6 of 10 needs 1.2 pods");
    check(3, "a:30 b:pending c:pending", 3, "pending pods count as idle on the way up: 10 of 10");
    check(2, "a:15 b:pending", 2, "they must not turn the direction");
    check(2, "a:30 b:10 c:leaving", 4, "pods that are going away do not count");
    check(2, "a:leaving b:leaving", 2, "with no pod that counts, nothing is known");
}

#[test]
fn several_metrics_take_the_most_and_a_broken_one_only_stops_shrinking() {
    let metric = |name: &str, target: &str| {
        json!({"type": "Pods", "pods": {"metric": {"name": name},
        "target": {"type": "AverageValue", "averageValue": target}}})
    };
    let with = |metrics: Value| {
        json!({"minReplicas": 1, "maxReplicas": 20, "metrics": metrics,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}})
    };
    let sync = |spec: Value, pods: &str| recommend_for(2, pods, spec, &mut Memory::default(), 100_000);

    let most = sync(with(json!([metric("low", "20"), metric("high", "5")])), "a:10 b:10");
    assert_eq!((most.desired, most.rescale.as_deref()), (4, Some("pods metric high above target")));

    let broken_up = sync(with(json!([metric("broken", "10"), metric("good", "5")])), "a:10 b:10");
    assert_eq!(broken_up.desired, 4, "growing goes on with the metric that works");
    assert_eq!(broken_up.events.len(), 1);

    let broken_down = sync(with(json!([metric("broken", "10"), metric("good", "100")])), "a:10 b:10");
    assert!(broken_down.failed && broken_down.desired == 2 && broken_down.rescale.is_none(), "{broken_down:?}");
    let last = broken_down.conditions.last().expect("a condition");
    assert_eq!((last.kind, last.holds, last.reason), ("ScalingActive", false, "FailedGetPodsMetric"));
    assert_eq!(
        broken_down.events.last().expect("an event").message,
        "invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value: unable to get metric broken: no \
         metrics returned from custom metrics API"
    );
}

#[test]
fn bounds_come_before_metrics_and_zero_switches_off() {
    let spec = json!({"minReplicas": 2, "maxReplicas": 4});
    let sync = |current| recommend_for(current, "a:10", spec.clone(), &mut Memory::default(), 0);
    assert_eq!(sync(9).rescale.as_deref(), Some("Current number of replicas above Spec.MaxReplicas"));
    assert_eq!((sync(9).desired, sync(1).desired), (4, 2));
    let off = sync(0);
    assert_eq!((off.desired, off.rescale.is_none()), (0, true));
    assert_eq!(off.conditions[1].reason, "ScalingDisabled");
}

#[test]
fn windows_hold_in_both_directions_until_they_have_passed() {
    let spec = json!({"minReplicas": 1, "maxReplicas": 20, "behavior": {
        "scaleUp": {"stabilizationWindowSeconds": 30}, "scaleDown": {"stabilizationWindowSeconds": 60}}});
    let mut memory = Memory::default();
    let mut sync = |s: i64, current, pods: &str| recommend_for(current, pods, spec.clone(), &mut memory, s * 1000);
    assert_eq!(sync(0, 2, "a:10 b:10").desired, 2);
    let held = sync(15, 2, "a:20 b:20");
    assert_eq!((held.desired, held.conditions[2].reason), (2, "ScaleUpStabilized"));
    assert_eq!(sync(31, 2, "a:20 b:20").desired, 4, "the lowest of the last 30 s is now 4");
    let held = sync(60, 4, "a:1 b:1 c:1 d:1");
    assert_eq!((held.desired, held.conditions[2].reason), (4, "ScaleDownStabilized"));
    assert_eq!(sync(92, 4, "a:1 b:1 c:1 d:1").desired, 1);
}

#[test]
fn policies_choose_their_most_their_least_or_nothing() {
    let with = |direction: &str, rules: Value| {
        let mut spec = json!({"minReplicas": 1, "maxReplicas": 100,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}, "scaleUp": {}}});
        for (key, value) in rules.as_object().expect("rules") {
            spec["behavior"][direction][key] = value.clone();
        }
        spec
    };
    let policies =
        json!([{"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]);
    let ten_busy = "a:100 b:100 c:100 d:100 e:100 f:100 g:100 h:100 i:100 j:100";
    let ten_idle = "a:0 b:0 c:0 d:0 e:0 f:0 g:0 h:0 i:0 j:0";
    for (direction, pods, select, expected) in [
        ("scaleUp", ten_busy, "Max", 15),
        ("scaleUp", ten_busy, "Min", 12),
        ("scaleUp", ten_busy, "Disabled", 10),
        ("scaleDown", ten_idle, "Max", 5),
        ("scaleDown", ten_idle, "Min", 8),
        ("scaleDown", ten_idle, "Disabled", 10),
    ] {
        let spec = with(direction, json!({"policies": policies, "selectPolicy": select}));
        let mut memory = Memory::default();
        let decision = recommend_for(10, pods, spec.clone(), &mut memory, 0);
        assert_eq!(decision.desired, expected, "{direction} {select}");
        if expected != 10 {
            let again = recommend_for(decision.desired, pods, spec, &mut memory, 30_000);
            assert_eq!(again.desired, decision.desired, "{direction} {select}: the period has not passed");
        }
    }
}

#[test]
fn without_behavior_growth_is_doubling_or_four() {
    let spec = json!({"minReplicas": 1, "maxReplicas": 100});
    let sync = |current, pods: &str| recommend_for(current, pods, spec.clone(), &mut Memory::default(), 0);
    assert_eq!(sync(1, "a:1000").desired, 4);
    let doubled = sync(3, "a:1000 b:1000 c:1000");
    assert_eq!((doubled.desired, doubled.conditions[3].reason), (6, "ScaleUpLimit"));
}

#[test]
fn an_objects_own_tolerance_overrides_the_controllers() {
    let spec = json!({"minReplicas": 1, "maxReplicas": 100, "behavior": {"scaleUp": {"tolerance": "0.5"}}});
    assert_eq!(recommend_for(2, "a:14 b:14", spec, &mut Memory::default(), 0).desired, 2);
}

/// `GetExternalPerPodMetricReplicas` and `GetExternalMetricReplicas` of replica_calculator.go. The value is the sum over the pods' numbers.
#[test]
fn an_external_metric_asks_for_its_value_by_its_target_and_pods_that_are_not_ready_count_only_where_the_target_is_a_value() {
    let labels = json!({"matchLabels": {"scaledobject.keda.sh/name": "web"}});
    let scale = |current: i32, pods: &str, target: Value| {
        let metric =
            json!({"type": "External", "external": {"metric": {"name": "s0-prometheus", "selector": labels}, "target": target}});
        let spec = json!({"minReplicas": 1, "maxReplicas": 20, "metrics": [metric], "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}});
        recommend_for(current, pods, spec, &mut Memory::default(), 100_000)
    };
    let average = json!({"type": "AverageValue", "averageValue": "10"});
    let value = json!({"type": "Value", "value": "10"});
    for (current, pods, target, expected) in [
        (2, "a:15 b:10", &average, 3),
        (2, "a:11 b:10.9", &average, 2),
        (2, "a:3 b:2", &average, 1),
        (2, "a:25 b:pending", &average, 3),
        (2, "a:15 b:10", &value, 5),
        (2, "a:25 b:pending", &value, 3),
        (2, "a:5 b:5.5", &value, 2),
    ] {
        let decision = scale(current, pods, target.clone());
        assert_eq!(decision.desired, expected, "{pods} against {target}: {decision:?}");
    }
    let decision = scale(2, "a:15 b:10", average);
    let name = "external metric s0-prometheus(&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: web,},\
                MatchExpressions:[]LabelSelectorRequirement{},}) above target";
    assert_eq!(decision.rescale.as_deref(), Some(name));
    let status = json!({"type": "External", "external": {"metric": {"name": "s0-prometheus", "selector": labels}, "current": {"averageValue": "12500m"}}});
    assert_eq!(decision.metrics, Some(vec![status]));
    let decision = scale(2, "a:15 b:10", value);
    assert_eq!(decision.metrics.expect("it was computed")[0]["external"]["current"], json!({"value": "25"}));
}
