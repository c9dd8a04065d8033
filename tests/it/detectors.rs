//! Each detector has a recording that it must match, one that looks nearly like it and that it must not, and the first again with a gap in
//! each thing that it has to see, on which it must be silent: an explanation that rests on nothing is worse than none.

use std::collections::BTreeMap;

use squall::exit::Exit;
use squall::recording::fact::{AutoscalerSpec, Counts, Fact, Outcome, Part, PodSeen, ScalingPolicy, Tally};
use squall::report::{ExitInfo, FORMATS, Report, render};
use squall::verdict::detectors::{ALL, Detector, Scene, Sign};
use squall::verdict::{Finding, Over, Verdict, certificate, judge};

use crate::assertion_twins::claim;
use crate::story::{Answer, LOAD, Story, at, exponential_ms, name, not, object, ok};

const HPAS: &str = "watch horizontalpodautoscalers in shop";
const DEPLOYMENTS: &str = "watch deployments in shop";
const SCALED_OBJECTS: &str = "watch scaledobjects in shop";
const PODS: &str = "watch pods in shop";

const HPA: &str = "shop/hpa/checkout";
const CPU: &str = "resource cpu averageUtilization 80";
const IN_FLIGHT: &str = "pods in_flight averageValue 8";

/// A detector, what it must match and with which words, what it must not, and what hides it.
struct Twin {
    detector: &'static str,
    sick: fn() -> Story,
    says: &'static [&'static str],
    healthy: fn() -> Story,
    needs: &'static [&'static str],
}

const TWINS: [Twin; 31] = [
    Twin {
        detector: "metric-missing",
        sick: || unread(&[CPU], 30.0),
        says: &["shop/hpa/checkout stood still from 5s to 35s (30s)", "missing request for cpu in container app"],
        healthy: || unread(&[CPU], 1.0),
        needs: &[HPAS],
    },
    Twin {
        detector: "partial-metrics",
        sick: || partly(1, 6),
        says: &["asked for no fewer than 6 from 20s to 60s", "one of its 2 metrics", "queue is away"],
        healthy: || partly(2, 6),
        needs: &[HPAS],
    },
    Twin {
        detector: "two-autoscalers",
        sick: || {
            inactive(
                "AmbiguousSelector",
                "pods by selector app=checkout are controlled by multiple HPAs: [shop/checkout shop/other]",
            )
        },
        says: &["from 10s to 60s", "[shop/checkout shop/other]"],
        healthy: || inactive("InvalidSelector", "the HPA target's scale has an invalid selector"),
        needs: &[HPAS],
    },
    Twin {
        detector: "disabled",
        sick: || inactive("ScalingDisabled", "scaling is disabled since the replica count of the target is zero"),
        says: &["ScalingActive=False, ScalingDisabled"],
        healthy: || inactive("AmbiguousSelector", "two of them"),
        needs: &[HPAS],
    },
    Twin {
        detector: "unable",
        sick: || {
            let mut story = flat();
            scaler(&mut story, &[CPU], |_| {});
            condition(&mut story, 10.0, "AbleToScale", "False", "FailedGetScale", "deployments.apps \"checkout\" is forbidden");
            story
        },
        says: &["AbleToScale=False, FailedGetScale", "is forbidden"],
        healthy: || inactive("ScalingDisabled", "it is off"),
        needs: &[HPAS],
    },
    Twin {
        detector: "capped",
        sick: || limited("TooManyReplicas"),
        says: &["wanted more than its maxReplicas of 10 from 30s to 60s (30s)"],
        healthy: || limited("TooFewReplicas"),
        needs: &[HPAS],
    },
    Twin {
        detector: "no-room",
        sick: || unplaced(30.0),
        says: &["1 pod found no node", "shop/checkout-5d-x waited from 20s on for 30s", "0/3 nodes are available"],
        healthy: || unplaced(1.0),
        needs: &[PODS],
    },
    Twin {
        detector: "saturated",
        sick: || saturated(99.0),
        says: &["99% to 99% of its requests", "1.25 times as many", "2, 3, 4, 5 (at 22s, 30s, 38s)"],
        healthy: || saturated(180.0),
        needs: &[HPAS],
    },
    Twin {
        detector: "slow-metrics",
        sick: || answered(30.0, 31.0),
        says: &["rose from 50/s to 200/s at 20s", "above its target 10s later, at 30s", "asked for 4 another 1s later"],
        healthy: || answered(22.0, 23.0),
        needs: &[HPAS],
    },
    Twin {
        detector: "late-decision",
        sick: || answered(22.0, 32.0),
        says: &["read 2 times its target at 22s and 10s later, asked for 4", "looks every 1s"],
        healthy: || answered(22.0, 23.0),
        needs: &[HPAS, DEPLOYMENTS],
    },
    Twin {
        detector: "within-tolerance",
        sick: || tolerated(8.5),
        says: &["read 106% of its target, less than 10% above it, from 0s to 60s (60s)", "left it at 2: that is right for it"],
        healthy: || tolerated(9.5),
        needs: &[HPAS],
    },
    Twin {
        detector: "rate-limited",
        sick: || limited("ScaleUpLimit"),
        says: &["wanted more at 30s than its scale-up policies allow", "4 Pods in 15s, 100 Percent in 15s"],
        healthy: || limited("ScaleDownLimit"),
        needs: &[HPAS],
    },
    Twin {
        detector: "policies-only-limit",
        sick: || tripled(900),
        says: &["(3 at 23s)", "would have allowed 20 at the first", "900 Percent in 15s"],
        // Three are what half as many more, rounded up, come to: here it is the policy that holds.
        healthy: || tripled(50),
        needs: &[HPAS],
    },
    Twin {
        detector: "value-of-a-total",
        sick: || queued([300.0, 300.0, 290.0]),
        says: &["went 2, 4, 8 from 10s to 20s", "queue stayed at about 300, against a target of 100"],
        healthy: || queued([300.0, 160.0, 80.0]),
        needs: &[HPAS],
    },
    Twin {
        detector: "startup-cpu",
        sick: || started(flat()),
        says: &["asked for 4 instead of 2 at 26s, 6s after 2 new pods", "read 150% of cpu then, against a target of 80%"],
        healthy: || started(burst()),
        needs: &[HPAS, DEPLOYMENTS, PODS],
    },
    Twin {
        detector: "replicas-owned",
        sick: || {
            let mut story = wanting(6);
            for (t, n) in [(15.0, 2.0), (17.0, 6.0), (30.0, 2.0), (32.0, 6.0)] {
                story.reading("shop/deployment/checkout", "desired_replicas", t, n);
            }
            story
        },
        says: &["somebody else set the replicas of shop/deployment/checkout, 2 times", "2 at 15s, 2 at 30s"],
        healthy: || {
            let mut story = wanting(6);
            for (t, n) in [(15.0, 2), (17.0, 6), (30.0, 2), (32.0, 6)] {
                scale(&mut story, t, n);
            }
            story
        },
        needs: &[HPAS, DEPLOYMENTS],
    },
    Twin {
        detector: "unready-holds",
        sick: || idle(3),
        says: &["kept asking for 4 from 0s to 60s (60s)", "no more than 30% of its target", "1 of 4 pods were not ready"],
        healthy: || idle(4),
        needs: &[HPAS, DEPLOYMENTS],
    },
    Twin {
        detector: "none-ready",
        sick: || left(0),
        says: &["none of the 2 pods of shop/deployment/checkout was ready from 15s to 40s (25s)", "asked for 2 all that time"],
        healthy: || left(1),
        needs: &[HPAS, DEPLOYMENTS],
    },
    Twin {
        detector: "stabilized",
        sick: || stabilized(HPA, "ScaleDownStabilized"),
        says: &["held 6 replicas from 20s to 60s", "within 300s", "would have done from 19s on, so none went before about 319s"],
        healthy: || stabilized(HPA, "ReadyForNewScale"),
        needs: &[HPAS],
    },
    Twin {
        detector: "keda-cooldown",
        sick: || stabilized("shop/hpa/keda-hpa-checkout", "ScaleDownStabilized"),
        says: &["shop/hpa/keda-hpa-checkout held 6 replicas"],
        healthy: || stabilized(HPA, "ScaleDownStabilized"),
        needs: &[HPAS],
    },
    Twin {
        detector: "memory-kept",
        sick: || remembered(68.0),
        says: &["4 x 68% / 80% = 3.4, which is 4 when it is rounded up", "for 3 it would have to fall to 60%"],
        healthy: || remembered(50.0),
        needs: &[HPAS],
    },
    Twin {
        detector: "leaving-counted",
        sick: || leaving(true),
        says: &["went from 4 to 3 at 22s by queue, while 1 pod was told to go and still ready (shop/checkout-5d-a)"],
        healthy: || leaving(false),
        needs: &[HPAS, PODS],
    },
    Twin {
        detector: "keda-not-by-triggers",
        sick: || scaled("Fallback", "True", "FallbackExists"),
        says: &[
            "shop/scaledobject/checkout did not scale shop/deployment/checkout by its triggers",
            "Fallback=True, FallbackExists",
        ],
        healthy: || scaled("Fallback", "False", "NoFallbackFound"),
        needs: &[SCALED_OBJECTS],
    },
    Twin {
        detector: "keda-not-active",
        sick: || scaled("Active", "False", "ScalerNotActive"),
        says: &["shop/scaledobject/checkout saw nothing to wake shop/deployment/checkout for", "Active=False, ScalerNotActive"],
        healthy: || scaled("Active", "True", "ScalerActive"),
        needs: &[SCALED_OBJECTS],
    },
    Twin {
        detector: "keda-to-zero",
        sick: || to_zero(3),
        says: &["went from 3 replicas to none at 30.1s", "Deactivated apps/v1.Deployment shop/checkout from 3 to 0"],
        healthy: || to_zero(1),
        needs: &[DEPLOYMENTS],
    },
    Twin {
        detector: "keda-scaler-failed",
        sick: || asked_keda("KEDAScalerFailed"),
        says: &["KEDA could not ask its source from 20s on (2 times): connection refused", "was asked for 4 then and 4 at the end"],
        healthy: || asked_keda("KEDAScalersStarted"),
        needs: &[DEPLOYMENTS],
    },
    Twin {
        detector: "emptied-metric",
        sick: || emptied(0.0),
        says: &["rps fell from 12 to 0 in one reading at 30s, under 50/s as before", "went from 4 to 1 at 32s"],
        healthy: || emptied(3.0),
        needs: &[HPAS],
    },
    Twin {
        detector: "cold-start",
        sick: || cold(0),
        says: &[
            "came at 0s while shop/deployment/checkout had no replica",
            "asked for 3s later",
            "the first was ready after 6s",
            "300 of the 300",
        ],
        healthy: || cold(1),
        needs: &[DEPLOYMENTS],
    },
    Twin {
        detector: "no-drain",
        sick: || told_to_go(|t| (30.0..33.0).contains(&t)),
        says: &["150 of the 150 requests that broke off", "after 1 pod was told to go, from 30s on: shop/checkout-5d-a at 30s"],
        healthy: || told_to_go(|t| t >= 5.0),
        needs: &[PODS],
    },
    Twin {
        detector: "failing-probes",
        sick: || collapsing(30.0),
        says: &[
            "2 pods of shop/deployment/checkout stopped being ready or started anew",
            "shop/checkout-5d-a at 30s, shop/checkout-5d-b at 33s; 1 restart",
            "0 were left of 2",
            "Liveness probe failed",
        ],
        // In the first seconds of a burst it is the burst.
        healthy: || collapsing(21.0),
        needs: &[PODS, DEPLOYMENTS],
    },
    Twin {
        detector: "pinned",
        sick: || shared([25, 25, 0]),
        says: &[
            "shop/checkout-5d-c was ready at 8s and gave 0% of the answers in the 42s from 18s on",
            "33.3% would be its part of 3",
        ],
        healthy: || shared([17, 17, 16]),
        needs: &[PODS],
    },
];

// Stories

fn told(before: u64, after: u64, mut answer: impl FnMut(f64, u64) -> Answer) -> Story {
    let mut story = Story::of("told", &[("calm", 20), ("burst", 40)]);
    story.traffic("calm", before, &mut answer).traffic("burst", after, answer);
    story
}

fn fine(_: f64, i: u64) -> Answer {
    ok(exponential_ms(i, 20.0))
}

fn flat() -> Story {
    told(50, 50, fine)
}

fn burst() -> Story {
    told(50, 200, fine)
}

/// An autoscaler of that name that looks every second, and by these metrics.
fn named(story: &mut Story, hpa: &str, metrics: &[&str], change: impl FnOnce(&mut AutoscalerSpec)) {
    let mut spec = Story::autoscaler_spec();
    spec.object = object(hpa);
    spec.metrics = metrics.iter().map(|line| (*line).to_owned()).collect();
    change(&mut spec);
    story.reading(hpa, "exists", -0.6, 1.0).fact(at(-0.5), Fact::Autoscaler(Box::new(spec)));
    story.reading(hpa, "desired_replicas", -0.5, 2.0);
    for metric in ["desired_replicas", "replicas", "ready_replicas"] {
        story.reading("shop/deployment/checkout", metric, -0.5, 2.0);
    }
}

fn scaler(story: &mut Story, metrics: &[&str], change: impl FnOnce(&mut AutoscalerSpec)) {
    named(story, HPA, metrics, change);
}

/// The autoscaler asks for so many, and gets them.
fn scale(story: &mut Story, t: f64, n: u32) {
    story.reading(HPA, "desired_replicas", t, f64::from(n));
    for (metric, after) in [("desired_replicas", 0.1), ("replicas", 0.2), ("ready_replicas", 2.0)] {
        story.reading("shop/deployment/checkout", metric, t + after, f64::from(n));
    }
}

fn condition(story: &mut Story, t: f64, condition: &str, status: &str, reason: &str, message: &str) {
    let [condition, status, reason, message] = [condition, status, reason, message].map(str::to_owned);
    story.fact(at(t), Fact::Condition { object: object(HPA), condition, status, reason, message });
}

fn event(story: &mut Story, t: f64, of: &str, reason: &str, message: &str) {
    let [kind, reason, message] = ["Warning", reason, message].map(str::to_owned);
    story.fact(at(t), Fact::ClusterEvent { object: object(of), kind, reason, message, count: 1 });
}

/// A sight of a pod, ready unless `change` says otherwise.
fn sight(story: &mut Story, t: f64, pod: &str, change: impl FnOnce(&mut PodSeen)) {
    let mut seen = PodSeen {
        namespace: "shop".to_owned(),
        name: pod.to_owned(),
        uid: format!("uid-{pod}"),
        owner: Some("checkout-5d".to_owned()),
        phase: "Running".to_owned(),
        ready: true,
        terminating: false,
        gone: false,
        restarts: 0,
        ip: Some("127.16.1.1".to_owned()),
        reason: None,
    };
    change(&mut seen);
    story.fact(at(t), Fact::Pod(Box::new(seen)));
}

fn unread(metrics: &[&str], lasts: f64) -> Story {
    let mut story = burst();
    scaler(&mut story, metrics, |_| {});
    let why = "the HPA was unable to compute the replica count: missing request for cpu in container app of Pod checkout-5d-a";
    condition(&mut story, 5.0, "ScalingActive", "False", "FailedGetResourceMetric", why);
    condition(&mut story, 5.0 + lasts, "ScalingActive", "True", "ValidMetricFound", "it was");
    story
}

/// One or both of two metrics cannot be read.
fn partly(failed: u32, wanted: u32) -> Story {
    let mut story = flat();
    scaler(&mut story, &[CPU, "external queue averageValue 10"], |_| {});
    scale(&mut story, -0.2, wanted);
    condition(&mut story, 20.0, "ScalingActive", "False", "FailedGetExternalMetric", "queue is away");
    let says = format!("invalid metrics ({failed} invalid out of 2), first error is: queue is away");
    event(&mut story, 20.0, HPA, "FailedComputeMetricsReplicas", &says);
    story
}

fn inactive(reason: &str, message: &str) -> Story {
    let mut story = flat();
    scaler(&mut story, &[CPU], |_| {});
    condition(&mut story, 10.0, "ScalingActive", "False", reason, message);
    story
}

fn limited(reason: &str) -> Story {
    let mut story = burst();
    scaler(&mut story, &[CPU], |_| {});
    condition(&mut story, 30.0, "ScalingLimited", "True", reason, "as its reason says");
    story
}

fn unplaced(waits: f64) -> Story {
    let mut story = burst();
    sight(&mut story, -0.5, "checkout-5d-a", |_| {});
    sight(&mut story, 20.0, "checkout-5d-x", |pod| {
        (pod.phase, pod.ready, pod.reason) = ("Pending".to_owned(), false, Some("Unschedulable".to_owned()));
    });
    event(&mut story, 20.0, "shop/pod/checkout-5d-x", "FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.");
    sight(&mut story, 20.0 + waits, "checkout-5d-x", |pod| pod.ready = false);
    story
}

fn saturated(utilization: f64) -> Story {
    let mut story = burst();
    scaler(&mut story, &[CPU], |_| {});
    story.reading(HPA, "cpu.utilization", -0.4, 40.0).reading(HPA, "cpu.utilization", 21.5, utilization);
    for (t, n) in [(22.0, 3), (30.0, 4), (38.0, 5)] {
        scale(&mut story, t, n);
    }
    story
}

/// The metric shows the burst at one moment, and the autoscaler answers it at another.
fn answered(shown: f64, acted: f64) -> Story {
    let mut story = burst();
    scaler(&mut story, &[IN_FLIGHT], |_| {});
    story.reading(HPA, "in_flight", -0.4, 4.0).reading(HPA, "in_flight", shown, 16.0);
    scale(&mut story, acted, 4);
    story
}

fn tolerated(in_flight: f64) -> Story {
    let mut story = burst();
    scaler(&mut story, &[IN_FLIGHT], |_| {});
    story.reading(HPA, "in_flight", -0.4, in_flight);
    story
}

/// From two to three, by a metric that asks for three, with a policy of so many per cent.
fn tripled(percent: u32) -> Story {
    let mut story = burst();
    scaler(&mut story, &[IN_FLIGHT], |spec| {
        spec.scale_up.policies = vec![ScalingPolicy { kind: "Percent".to_owned(), value: percent, period_s: 15 }];
    });
    story.reading(HPA, "in_flight", -0.4, 4.0).reading(HPA, "in_flight", 22.0, 11.0);
    scale(&mut story, 23.0, 3);
    story
}

/// Two decisions by a total, which was so much before, at the first, and at the second.
fn queued(totals: [f64; 3]) -> Story {
    let mut story = flat();
    scaler(&mut story, &["external queue value 100"], |_| {});
    for (t, total) in [-0.4, 9.0, 19.0].into_iter().zip(totals) {
        story.reading(HPA, "queue", t, total);
    }
    scale(&mut story, 10.0, 4);
    scale(&mut story, 20.0, 8);
    story
}

/// Two pods take the places of two others, and use much CPU while they start.
fn started(mut story: Story) -> Story {
    scaler(&mut story, &[CPU], |_| {});
    for pod in ["checkout-5d-a", "checkout-5d-b"] {
        sight(&mut story, -0.5, pod, |_| {});
    }
    for pod in ["checkout-6e-a", "checkout-6e-b"] {
        story.pod(pod, 20.0, 3.0);
    }
    story.reading(HPA, "cpu.utilization", -0.4, 50.0).reading(HPA, "cpu.utilization", 25.0, 150.0);
    scale(&mut story, 26.0, 4);
    story
}

fn wanting(replicas: u32) -> Story {
    let mut story = burst();
    scaler(&mut story, &[CPU], |_| {});
    scale(&mut story, -0.4, replicas);
    story
}

/// Four pods with little to do, of which so many are ready.
fn idle(ready: u32) -> Story {
    let mut story = flat();
    scaler(&mut story, &[CPU], |spec| spec.scale_down.stabilization_window_s = 5);
    story.reading(HPA, "cpu.utilization", -0.4, 24.0).reading(HPA, "desired_replicas", -0.4, 4.0);
    story.reading("shop/deployment/checkout", "replicas", -0.4, 4.0);
    story.reading("shop/deployment/checkout", "ready_replicas", -0.4, f64::from(ready));
    story
}

/// Two pods, of which for 25 seconds so many are ready.
fn left(ready: u32) -> Story {
    let mut story = burst();
    scaler(&mut story, &[CPU], |_| {});
    story.reading("shop/deployment/checkout", "ready_replicas", 15.0, f64::from(ready));
    story.reading("shop/deployment/checkout", "ready_replicas", 40.0, 2.0);
    story
}

fn stabilized(hpa: &str, reason: &str) -> Story {
    let mut story = flat();
    named(&mut story, hpa, &[CPU], |_| {});
    story.reading(hpa, "desired_replicas", -0.4, 6.0);
    story.reading(hpa, "cpu.utilization", -0.4, 80.0).reading(hpa, "cpu.utilization", 19.0, 20.0);
    let [condition, status, message] = ["AbleToScale", "True", "as its reason says"].map(str::to_owned);
    story.fact(at(20.0), Fact::Condition { object: object(hpa), condition, status, reason: reason.to_owned(), message });
    story
}

fn remembered(utilization: f64) -> Story {
    let mut story = flat();
    scaler(&mut story, &["resource memory averageUtilization 80"], |_| {});
    story.reading(HPA, "desired_replicas", -0.4, 4.0).reading(HPA, "memory.utilization", -0.4, utilization);
    story
}

/// A pod that is told to go, and goes on being ready or not, while a decision is made.
fn leaving(ready: bool) -> Story {
    let mut story = flat();
    scaler(&mut story, &["external queue averageValue 10"], |_| {});
    story.reading(HPA, "queue", -0.4, 10.0).reading(HPA, "desired_replicas", -0.4, 4.0);
    sight(&mut story, -0.5, "checkout-5d-a", |_| {});
    sight(&mut story, 20.0, "checkout-5d-a", |pod| (pod.terminating, pod.ready) = (true, ready));
    sight(&mut story, 30.0, "checkout-5d-a", |pod| (pod.gone, pod.ready) = (true, false));
    story.reading(HPA, "desired_replicas", 22.0, 3.0);
    story
}

fn to_zero(from: u32) -> Story {
    let mut story = flat();
    story.reading("shop/deployment/checkout", "desired_replicas", -0.5, f64::from(from));
    story.reading("shop/deployment/checkout", "desired_replicas", 30.1, 0.0);
    let says = format!("Deactivated apps/v1.Deployment shop/checkout from {from} to 0");
    event(&mut story, 30.0, "shop/scaledobject/checkout", "KEDAScaleTargetDeactivated", &says);
    story
}

fn scaled(condition: &str, status: &str, reason: &str) -> Story {
    let mut story = flat();
    scaler(&mut story, &[IN_FLIGHT], |_| {});
    let name = "shop/scaledobject/checkout";
    named(&mut story, name, &["trigger prometheus threshold 5"], |_| {});
    let [condition, status, reason, message] = [condition, status, reason, "as its reason says"].map(str::to_owned);
    story.fact(at(20.0), Fact::Condition { object: object(name), condition, status, reason, message });
    story
}

fn asked_keda(reason: &str) -> Story {
    let mut story = flat();
    story.reading("shop/deployment/checkout", "desired_replicas", -0.5, 4.0);
    for t in [20.0, 40.0] {
        event(&mut story, t, "shop/scaledobject/checkout", reason, "connection refused");
    }
    story
}

fn emptied(to: f64) -> Story {
    let mut story = flat();
    scaler(&mut story, &["external rps averageValue 10"], |_| {});
    scale(&mut story, -0.4, 4);
    story.reading(HPA, "rps", -0.4, 12.0).reading(HPA, "rps", 30.0, to);
    scale(&mut story, 32.0, 1);
    story
}

/// Six seconds in which every request is lost, from so many replicas on.
fn cold(replicas: u32) -> Story {
    let mut story = told(50, 50, |t, i| if t < 6.0 { not(Outcome::Failed, 1.0) } else { fine(t, i) });
    for (metric, t) in [("desired_replicas", 3.0), ("ready_replicas", 6.0)] {
        story.reading("shop/deployment/checkout", metric, -0.5, f64::from(replicas));
        story.reading("shop/deployment/checkout", metric, t, 1.0);
    }
    story
}

/// A pod is told to go at 30 s, and every second request is broken off while `breaks` says so.
fn told_to_go(breaks: impl Fn(f64) -> bool) -> Story {
    let mut story = told(100, 100, |t, i| if breaks(t) && i % 2 == 0 { not(Outcome::Failed, 1.0) } else { fine(t, i) });
    for pod in ["checkout-5d-a", "checkout-5d-b"] {
        sight(&mut story, -0.5, pod, |_| {});
    }
    sight(&mut story, 30.0, "checkout-5d-a", |pod| pod.terminating = true);
    sight(&mut story, 33.0, "checkout-5d-a", |pod| (pod.gone, pod.ready) = (true, false));
    story
}

/// Under a burst from 20 s on, two pods fall out one after the other.
fn collapsing(from: f64) -> Story {
    let mut story = burst();
    story.reading("shop/deployment/checkout", "ready_replicas", -0.5, 2.0);
    for pod in ["checkout-5d-a", "checkout-5d-b"] {
        sight(&mut story, -0.5, pod, |_| {});
    }
    event(&mut story, from - 0.1, "shop/pod/checkout-5d-a", "Unhealthy", "Liveness probe failed: no answer within 1s");
    sight(&mut story, from, "checkout-5d-a", |pod| pod.ready = false);
    story.reading("shop/deployment/checkout", "ready_replicas", from, 1.0);
    sight(&mut story, from + 3.0, "checkout-5d-b", |pod| (pod.ready, pod.restarts) = (false, 1));
    story.reading("shop/deployment/checkout", "ready_replicas", from + 3.0, 0.0);
    story
}

/// A third pod comes, and they give so many answers a second.
fn shared(answers: [u64; 3]) -> Story {
    let mut story = flat();
    for pod in ["checkout-5d-a", "checkout-5d-b"] {
        sight(&mut story, -0.5, pod, |_| {});
    }
    story.pod("checkout-5d-c", 5.0, 3.0);
    for second in 0..60 {
        let phase = if second < 20 { "calm" } else { "burst" };
        let pods = ["checkout-5d-a", "checkout-5d-b", "checkout-5d-c"].map(str::to_owned);
        let tally = Tally {
            load: name(LOAD),
            phase: name(phase),
            part: Part::default(),
            second,
            counts: Counts::default(),
            causes: BTreeMap::new(),
            served_by: pods.into_iter().zip(answers).filter(|(_, n)| *n > 0).collect(),
            retry_after: 0,
            redirects: 0,
            skipped: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            opened: 0,
            unopened: 0,
            messages: 0,
            attempts: None,
        };
        story.fact(at(second as f64 + 1.0), Fact::Tally(Box::new(tally)));
    }
    story
}

// What is held against them

fn detector(name: &str) -> &'static Detector {
    ALL.iter().find(|detector| detector.name == name).unwrap_or_else(|| panic!("there is no detector {name}"))
}

fn look(detector: &Detector, story: &Story) -> Option<Sign> {
    let history = story.history();
    let sign = (detector.look)(&Scene::of(&history, &[], at(0.0), at(60.0)));
    if let Some(sign) = &sign {
        assert!(!sign.evidence.is_empty() && !sign.fix.is_empty(), "{}: {sign:#?}", detector.name);
        assert!(sign.evidence.iter().all(|n| *n < history.events.len() as u64), "{}: {sign:#?}", detector.name);
    }
    sign
}

/// Goal: no detector is decoration, and none speaks without having seen. How: the twins above; every detector has them.
#[test]
fn each_matches_its_case_and_neither_its_healthy_twin_nor_what_was_not_seen() {
    for known in ALL {
        assert!(TWINS.iter().any(|twin| twin.detector == known.name), "{} has no twins", known.name);
    }
    for twin in &TWINS {
        let detector = detector(twin.detector);
        let sign = look(detector, &(twin.sick)()).unwrap_or_else(|| panic!("{} does not see its case", twin.detector));
        for words in twin.says {
            assert!(sign.says.contains(words), "{}: no {words:?} in {sign:#?}", twin.detector);
        }
        assert_eq!(look(detector, &(twin.healthy)()), None, "{} sees what is healthy", twin.detector);
        assert!(!twin.needs.is_empty(), "{} needs nothing", twin.detector);
        for source in twin.needs {
            let mut starved = (twin.sick)();
            starved.gap(source, 5.0, 55.0);
            assert_eq!(look(detector, &starved), None, "{} did not see {source}", twin.detector);
        }
    }
}

/// Goal: where all is well, and where nothing was watched, nothing is explained. How: a burst that is answered as it should be.
#[test]
fn a_healthy_run_and_one_that_nobody_watched_have_none_of_them() {
    let mut healthy = burst();
    scaler(&mut healthy, &[IN_FLIGHT], |_| {});
    for pod in ["checkout-5d-a", "checkout-5d-b"] {
        sight(&mut healthy, -0.5, pod, |_| {});
    }
    condition(&mut healthy, -0.4, "ScalingActive", "True", "ValidMetricFound", "it was");
    condition(&mut healthy, -0.4, "AbleToScale", "True", "ReadyForNewScale", "it is");
    condition(&mut healthy, -0.4, "ScalingLimited", "False", "DesiredWithinRange", "it is");
    for (t, in_flight) in [(-0.4, 6.0), (22.0, 16.0), (26.0, 7.5)] {
        healthy.reading(HPA, "in_flight", t, in_flight);
    }
    scale(&mut healthy, 22.5, 4);
    healthy.pod("checkout-5d-c", 23.0, 1.5).pod("checkout-5d-d", 23.0, 1.5);
    for detector in ALL {
        assert_eq!(look(detector, &healthy), None, "{}", detector.name);
        assert_eq!(look(detector, &burst()), None, "{}", detector.name);
    }
}

/// Goal: an autoscaler that somebody changed in the middle, and objects of somebody else, explain nothing.
#[test]
fn only_what_the_claim_is_about_and_what_stayed_the_same_explains_it() {
    let at_most = detector("capped");
    let mut changed = limited("TooManyReplicas");
    changed.autoscaler_changes(40.0, 20);
    assert_eq!(look(at_most, &changed), None);
    let history = limited("TooManyReplicas").history();
    let of = |named: &[&str]| {
        let named: Vec<_> = named.iter().map(|name| object(name)).collect();
        (at_most.look)(&Scene::of(&history, &named, at(0.0), at(60.0))).is_some()
    };
    assert!(of(&["shop/deployment/checkout"]) && of(&["shop/hpa/checkout"]) && of(&["shop/pod/checkout-5d-a"]));
    assert!(!of(&["shop/deployment/payments"]), "its autoscaler is another");
    let before = (at_most.look)(&Scene::of(&history, &[], at(0.0), at(20.0)));
    assert_eq!(before, None, "it came after the window");
}

/// A run of an autoscaler at its maximum, with a pod that is told to go badly: too few replicas, and lost requests.
fn troubled() -> Story {
    let mut story = told(100, 100, |t, i| match i % 2 {
        0 if (30.0..33.0).contains(&t) => not(Outcome::Failed, 1.0),
        _ => ok(exponential_ms(i, 200.0)),
    });
    scaler(&mut story, &[CPU], |_| {});
    condition(&mut story, 25.0, "ScalingLimited", "True", "TooManyReplicas", "the desired replica count is more than the maximum");
    sight(&mut story, -0.5, "checkout-5d-a", |_| {});
    sight(&mut story, 30.0, "checkout-5d-a", |pod| pod.terminating = true);
    story
}

fn judged(story: &Story, key: &str, spec: &str) -> Vec<Finding> {
    judge(&[claim(Over::Run, key, spec)], &story.history())
}

fn names(finding: &Finding) -> Vec<&str> {
    finding.detected.iter().map(|detected| detected.detector.as_str()).collect()
}

/// Goal: what failed is explained by what can be its cause, what did not fail by nothing, and what is not whole by nothing either.
#[test]
fn a_failed_check_has_the_detectors_that_can_be_its_cause() {
    let slo = judged(&troubled(), "slo", r#"{"available": "99.9%", "p50": "100ms", "p95": "3s"}"#);
    let of: Vec<(Verdict, Vec<&str>)> = slo.iter().map(|finding| (finding.verdict, names(finding))).collect();
    assert_eq!(of[0], (Verdict::Fail, vec!["capped", "no-drain"]), "{slo:#?}");
    assert_eq!(of[1], (Verdict::Fail, vec!["capped"]), "a pod that breaks requests makes none slow");
    assert_eq!(of[2], (Verdict::Pass, vec![]), "what holds needs no cause");
    let sizes = judged(&troubled(), "autoscaling", r#"{"reach": 11, "within": "auto", "at_most": 1}"#);
    let of: Vec<(Verdict, Vec<&str>)> = sizes.iter().map(|finding| (finding.verdict, names(finding))).collect();
    assert_eq!(of, [(Verdict::Fail, vec!["capped"]), (Verdict::Fail, vec![])], "{sizes:#?}");
    let few = judged(
        &troubled(),
        "threshold",
        r#"{"metric": "shop/deployment/checkout.ready_replicas", "aggregate": "min", "at_least": 3}"#,
    );
    assert_eq!(names(&few[0]), ["capped"]);
    let mut killed = troubled();
    killed.cut(50.0);
    assert!(judged(&killed, "slo", r#"{"available": "99.9%"}"#).iter().all(|finding| finding.detected.is_empty()));
}

/// Goal: whoever reads any report sees which detector matched and what it saw. How: every format, of one run.
#[test]
fn every_report_tells_what_was_detected() {
    let history = troubled().history();
    let claims = [claim(Over::Run, "slo", r#"{"available": "99.9%"}"#)];
    let findings = judge(&claims, &history);
    let certificate = certificate(&claims, &history);
    let exit = ExitInfo::of(Exit::Fail, &findings, &certificate, &history);
    let report = Report::of(&history, &findings, certificate, exit);
    for format in FORMATS.iter().filter(|format| ["terminal", "json", "assertions-csv", "junit"].contains(&format.name)) {
        let text = String::from_utf8(render(&report, format).expect("it renders")).expect("text");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["capped", "no-drain", "wanted more than its maxReplicas of 10 from 25s to 60s (35s)"] {
            assert!(text.contains(words), "{}: no {words:?} in {text}", format.name);
        }
    }
    let first = &report.findings[0].detected[0];
    let shown: Vec<u64> = report.evidence_of(&first.evidence).map(|row| row.event).collect();
    assert_eq!(shown, first.evidence, "each event that it points at is in the report, in words");
}
