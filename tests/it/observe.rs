//! What the platform does becomes facts; what could not be seen becomes a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use squall::observe::{self, Scrape, Watchlist};
use squall::recording::Recording;
use squall::recording::fact::{Ending, Event, Fact, Reading, RunEnded};
use squall::recording::metric::{EXISTS, READY_REPLICAS};
use squall::time::{Clock, Offset};
use tokio::sync::mpsc;

use crate::scripted::{Reply, Scripted, list, not_scripted};
use crate::shop::{Listener, Shop, started};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_shows_in_every_probe() {
    let shop = Shop::open(1).await;
    let list = Watchlist {
        workload: Some(shop.named("deploy/payments").parse().unwrap()),
        autoscaler: Some(shop.named("hpa/payments").parse().unwrap()),
        ..Watchlist::default()
    };
    let mut listener = Listener::of(&shop);
    let mut observers = observe::start(shop.cluster.clone(), list, shop.sink.clone()).await.unwrap();
    observers.synced(Duration::from_secs(20)).await.unwrap();
    let reading = |object: String, metric: &str, value: f64| {
        Fact::Reading(Reading { object: object.parse().unwrap(), metric: metric.into(), value })
    };
    shop.cluster.scale(&shop.named("deployment/payments").parse().unwrap(), 2).await.unwrap();
    let two = reading(shop.named("deploy/payments"), READY_REPLICAS, 2.0);
    listener.event("two ready replicas, under the plan's own name", |fact| *fact == two).await;
    let pods = shop.pods().await;
    shop.cluster.delete_pod(&pods[0], squall::cluster::pod::Grace::Seconds(0)).await.unwrap();
    let uid = pods[0].uid.clone();
    listener.event("the deleted pod's last sight", |fact| matches!(fact, Fact::Pod(pod) if pod.uid == uid && pod.gone)).await;
    observers.stop().await;
    let absent = reading(shop.named("hpa/payments"), EXISTS, 0.0);
    let facts = shop.close().await;
    assert!(facts.contains(&absent), "an autoscaler that is not there is said not to be");
    assert!(
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::Endpoints { service, ready, .. } if service.name == "payments" && ready.len() == 2))
    );
    assert!(
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::ClusterEvent { reason, .. } if reason == "Killing" || reason == "SuccessfulCreate"))
    );
    // The run's clock began with the shop: that the probes began later is told, and nothing else.
    let gaps: Vec<&Fact> =
        facts.iter().filter(|fact| matches!(fact, Fact::Gap(gap) if !gap.reason.contains("first look"))).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
}

/// Pods are asked where they are, which another cluster's need not be reached at from here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pods_expose_shows_too() {
    let shop = Shop::sandboxed(1).await;
    let list = Watchlist {
        workload: Some("shop/deploy/payments".parse().unwrap()),
        scrape: Some(Scrape { every: Duration::from_millis(200) }),
        ..Watchlist::default()
    };
    let mut listener = Listener::of(&shop);
    let observers = observe::start(shop.cluster.clone(), list, shop.sink.clone()).await.unwrap();
    let is_gauge =
        |fact: &Fact| matches!(fact, Fact::Reading(r) if r.object.kind == "pod" && r.metric == "http_requests_in_flight");
    listener.event("a gauge of a pod", is_gauge).await;
    observers.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn probes_that_are_blind_when_the_run_ends_write_their_gap() {
    let down = Arc::new(AtomicBool::new(false));
    let broken = down.clone();
    let server = Scripted::start(move |asked| {
        if asked.path.contains("/namespaces/") && asked.watches() {
            let (send, lines) = mpsc::channel::<String>(1);
            let down = broken.clone();
            // The stream ends when the server goes down.
            tokio::spawn(async move {
                while !down.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                drop(send);
            });
            return if broken.load(Ordering::SeqCst) { Reply::Text(503, "away".into()) } else { Reply::Stream(lines) };
        }
        if asked.path.contains("/namespaces/") { list("10", vec![]) } else { not_scripted() }
    })
    .await;
    let cluster = server.connect().await;
    let dir = tempfile::tempdir().unwrap();
    // The probes begin before the run does.
    let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::from_secs(5)), started()).unwrap();
    let list = Watchlist { namespaces: ["shop".to_owned()].into(), ..Watchlist::default() };
    let mut observers = observe::start(cluster, list, sink.clone()).await.unwrap();
    observers.synced(Duration::from_secs(5)).await.unwrap();
    down.store(true, Ordering::SeqCst);
    // Longer than a watch may blink: each probe must have been blind for as long as that.
    let from = sink.clock().now();
    while sink.clock().now().since(from) < Duration::from_millis(900) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    observers.stop().await;
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
    let text = std::fs::read_to_string(dir.path().join("recording.jsonl")).unwrap();
    let mut sources: Vec<String> = text
        .lines()
        .filter_map(|line| match serde_json::from_str::<Event>(line).unwrap().fact {
            Fact::Gap(gap) => {
                assert!(gap.to.since(gap.from) >= Duration::from_millis(500), "{gap:?}");
                Some(gap.source)
            }
            _ => None,
        })
        .collect();
    sources.sort();
    assert_eq!(
        sources,
        [
            "watch deployments in shop",
            "watch endpointslices in shop",
            "watch events in shop",
            "watch horizontalpodautoscalers in shop",
            "watch pods in shop"
        ]
    );
}

#[tokio::test]
async fn what_happened_before_the_first_look_was_answered_is_a_gap() {
    // Goal: a run whose first list is slow has not seen its beginning. How: the pods' list is held back until the run has begun.
    let (answer, held) = mpsc::channel::<String>(1);
    let held = std::sync::Mutex::new(Some(held));
    let server = Scripted::start(move |asked| match asked.path.as_str() {
        path if !path.contains("/namespaces/") => not_scripted(),
        _ if asked.watches() => {
            let (send, lines) = mpsc::channel(1);
            tokio::spawn(async move { send.closed().await });
            Reply::Stream(lines)
        }
        path if path.contains("/pods") => held.lock().unwrap().take().map_or_else(|| list("10", vec![]), Reply::Stream),
        _ => list("10", vec![]),
    })
    .await;
    let cluster = server.connect().await;
    let dir = tempfile::tempdir().unwrap();
    let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::from_millis(500)), started()).unwrap();
    let watch = Watchlist { namespaces: ["shop".to_owned()].into(), ..Watchlist::default() };
    let mut observers = observe::start(cluster, watch, sink.clone()).await.unwrap();
    // The stretch that is not seen: the first tenth of a second of the run.
    tokio::time::sleep_until(sink.clock().instant(Offset::from_secs_f64(0.1)).into()).await;
    answer.send(r#"{"metadata": {"resourceVersion": "10"}, "items": []}"#.to_owned()).await.unwrap();
    drop(answer);
    observers.synced(Duration::from_secs(5)).await.unwrap();
    observers.stop().await;
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
    let text = std::fs::read_to_string(dir.path().join("recording.jsonl")).unwrap();
    let gaps: Vec<_> = text
        .lines()
        .filter_map(|line| match serde_json::from_str::<Event>(line).unwrap().fact {
            Fact::Gap(gap) => Some(gap),
            _ => None,
        })
        .filter(|gap| gap.source == "watch pods in shop")
        .collect();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.from == Offset::ZERO && gap.to >= Offset::from_secs_f64(0.1), "{gap:?}");
}
