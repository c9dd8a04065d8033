//! A killed pod is gone by uid, missed by traffic, and replaced; and limits are met before anything is touched.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use squall::faults::{Curtain, conduct};
use squall::recording::Recording;
use squall::recording::fact::{Ending, Fact, FaultStep, RunEnded};
use squall::time::Clock;
use tokio::sync::{mpsc, watch};

use crate::scripted::{Reply, Scripted, list, not_scripted};
use crate::shop::{Listener, Shop, act, is_step, stage_of, started, steps};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_journalled_proven_and_healed_by_the_platform() {
    let shop = Shop::open(3).await;
    let (conducted, _stop) = shop.conduct(vec![act("kill", 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"}))]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");

    let journal = std::fs::read_to_string(shop.journal.path()).unwrap();
    let order: Vec<_> = ["intent", "applied", "healed"].iter().map(|word| journal.find(&format!("\"{word}\""))).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{journal}");
    let pods = shop.pods().await;
    assert_eq!(pods.iter().filter(|pod| pod.serves()).count(), 3, "{pods:#?}");

    let facts = shop.close().await;
    let steps = steps(&facts, "kill");
    assert_eq!(steps[..3], ["targeted", "journalled", "injected"], "{steps:?}");
    let at = |word: &str| steps.iter().position(|step| *step == word);
    assert!(at("effective") > at("injected") && at("effective") < at("healing"), "{steps:?}");
    assert_eq!(steps.last(), Some(&"healed"), "{steps:?}");
    let witnesses: Vec<&str> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Fault { step: FaultStep::Evidence { witness, supports: true, .. }, .. } => Some(witness.as_str()),
            _ => None,
        })
        .collect();
    assert!(witnesses.contains(&"mechanism") && witnesses.contains(&"victim"), "{witnesses:?}");
    let targeted = facts.iter().find_map(|fact| match fact {
        Fact::Fault { step: FaultStep::Targeted { targets, of }, .. } => Some((targets.len(), *of)),
        _ => None,
    });
    assert_eq!(targeted, Some((1, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_ready_pod_and_an_unknown_workload_are_refused_before_anything_is_touched() {
    let shop = Shop::open(1).await;
    let before = shop.pods().await;
    let (conducted, _stop) = shop.conduct(vec![
        act("last", 0.0, None, "pod_kill", json!({"pods": 1})),
        act("nobody", 0.0, None, "pod_kill", json!({"pods": 1, "on": shop.named("deployment/paymets")})),
    ]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed());
    let why: Vec<String> = curtain.not_injected.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(why[0].contains("last ready pod is never taken"), "{why:?}");
    assert!(why[1].contains(&format!("found: {}", shop.named("deployment/payments"))), "{why:?}");
    let after = shop.pods().await;
    assert_eq!(before[0].uid, after[0].uid);
    assert_eq!(std::fs::read_to_string(shop.journal.path()).unwrap(), "", "nothing was intended");
    let facts = shop.close().await;
    assert_eq!(steps(&facts, "last"), ["failed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_hangs_on_the_moment_of_another_and_never_begins_when_the_run_stops() {
    use squall::faults::Act;
    use squall::names::{Moment, Shift};
    use squall::timeline::Start;
    use squall::units::Span;
    let shop = Shop::open(3).await;
    let after = |name: &str, shift: Span| {
        let act = act(name, 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"}));
        let start = Start::After { fault: "first".parse().unwrap(), moment: Moment::Effective, shift: Shift::Later(shift) };
        Act { slot: squall::timeline::FaultSlot { start, ..act.slot }, spec: act.spec }
    };
    let mut listener = Listener::of(&shop);
    let (conducted, stop) = shop.conduct(vec![
        after("second", Span::from_millis(300)),
        after("never", Span::from_secs(60)),
        act("first", 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"})),
    ]);
    let first = listener.event("the first's effect", |fact| is_step(fact, "first", &FaultStep::Effective)).await;
    let second = listener.event("the second's injection", |fact| is_step(fact, "second", &FaultStep::Injected)).await;
    assert!(second.t_ns.since(first.t_ns).as_millis() >= 300, "{first:?} {second:?}");
    stop.send_replace(true);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let facts = shop.close().await;
    assert_eq!(steps(&facts, "second").last(), Some(&"healed"));
    assert!(steps(&facts, "never").is_empty());
}

/// A cluster of one deployment whose pods are told by `pods`, which is given how often they were asked for.
async fn scripted(pods: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Scripted {
    let asked_for = AtomicUsize::new(0);
    Scripted::start(move |asked| match asked.path.as_str() {
        _ if asked.watches() => {
            let (send, lines) = mpsc::channel(1);
            tokio::spawn(async move { send.closed().await });
            Reply::Stream(lines)
        }
        "/apis/apps/v1/namespaces/shop/deployments/payments" => Reply::Json(
            200,
            json!({"metadata": {"uid": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "payments"}}}}),
        ),
        "/apis/apps/v1/namespaces/shop/replicasets" => list(
            "1",
            vec![json!({"metadata": {"uid": "r", "name": "payments-1", "ownerReferences": [{"controller": true, "uid": "d"}]}})],
        ),
        path if path.starts_with("/api/v1/namespaces/shop/pods?") && asked.method == "GET" => {
            pods(asked_for.fetch_add(1, Ordering::SeqCst))
        }
        path if path.contains("/endpointslices") => list("1", vec![]),
        _ => not_scripted(),
    })
    .await
}

fn ready_pods(names: &[&str]) -> serde_json::Value {
    let pod = |name: &&str| {
        json!({"metadata": {"namespace": "shop", "name": name, "uid": name, "labels": {"app": "payments"},
                "ownerReferences": [{"controller": true, "name": "payments-1", "uid": "r"}]},
            "spec": {"containers": []}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    json!({"metadata": {"resourceVersion": "1"}, "items": names.iter().map(pod).collect::<Vec<_>>()})
}

/// Conducts one kill in a scripted cluster; `stop` is told when to stop it.
async fn one_kill(server: &Scripted, stop: impl Future<Output = ()> + Send + 'static) -> (Curtain, String) {
    let dir = tempfile::tempdir().unwrap();
    let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
    let stage = stage_of(server.connect().await, sink, dir.path());
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
        stopping.closed().await;
    });
    let act = act("kill", 0.0, None, "pod_kill", json!({"pods": 1}));
    let curtain = tokio::time::timeout(Duration::from_secs(30), conduct(stage, vec![act], stopped)).await.unwrap();
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
    (curtain, std::fs::read_to_string(dir.path().join("journal.jsonl")).unwrap())
}

#[track_caller]
fn nothing_was_deleted(server: &Scripted) {
    assert!(server.asked().iter().all(|asked| asked.method == "GET"), "{:#?}", server.asked());
}

#[tokio::test]
async fn a_pod_that_became_the_last_ready_one_meanwhile_is_not_taken() {
    // Goal: the limit holds when it is done, not when it was decided. How: the second look at the pods shows
    // only the one that this seed chooses.
    let server = scripted(|asked| Reply::Json(200, if asked == 0 { ready_pods(&["a", "b"]) } else { ready_pods(&["b"]) })).await;
    let (curtain, _) = one_kill(&server, std::future::pending()).await;
    assert!(curtain.all_healed(), "{curtain:?}");
    assert!(curtain.not_injected[0].1.contains("last ready pod is never taken"), "{curtain:?}");
    nothing_was_deleted(&server);
}

#[tokio::test]
async fn nothing_is_injected_after_the_run_has_stopped() {
    // Goal: a stop that comes while targets are chosen is heeded. How: the pods are told only after the stop.
    let (answer, held) = mpsc::channel::<String>(1);
    let held = Mutex::new(Some(held));
    let server =
        scripted(move |_| held.lock().unwrap().take().map_or_else(|| Reply::Json(200, ready_pods(&["a", "b"])), Reply::Stream))
            .await;
    let asked = server.log();
    let stop = async move {
        while !asked.lock().unwrap().iter().any(|asked| asked.path.contains("/pods?")) {
            tokio::task::yield_now().await;
        }
        tokio::spawn(async move {
            // Behind the stop, which is told in the meantime.
            tokio::task::yield_now().await;
            let _ = answer.send(ready_pods(&["a", "b"]).to_string()).await;
        });
    };
    let (curtain, journal) = one_kill(&server, stop).await;
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    nothing_was_deleted(&server);
    assert_eq!(journal, "", "nothing was intended either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_another_workload_with_the_same_labels_are_neither_counted_nor_touched() {
    let shop = Shop::open(1).await;
    let mut canary = shop.manifests(2).remove(0);
    let labels = json!({"app": "payments", "track": "canary"});
    canary["metadata"]["name"] = "canary".into();
    canary["spec"]["selector"]["matchLabels"] = labels.clone();
    canary["spec"]["template"]["metadata"]["labels"] = labels;
    let objects = shop.place.apply(vec![canary]).await;
    shop.cluster.wait_ready(&objects, Duration::from_secs(60)).await.unwrap();
    assert_eq!(shop.pods().await.len(), 3, "the selector matches all");
    let payments = shop.cluster.workload(&shop.named("deployment/payments").parse().unwrap()).await.unwrap();
    assert_eq!(shop.cluster.pods_of(&payments).await.unwrap().len(), 1);
    let (conducted, _stop) = shop.conduct(vec![act("last", 0.0, None, "pod_kill", json!({"pods": 1}))]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.not_injected[0].1.contains("last ready pod is never taken"), "{curtain:?}");
    shop.close().await;
}
