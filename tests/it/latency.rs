//! Latency is proven by its agents and by a victim, follows the autoscaler, survives the death of pods, and is gone after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use squall::cluster::{Access, Cluster};
use squall::faults::{Stage, conduct, lease};
use squall::recording::fact::{Fact, FaultStep};
use squall::sandbox::SandboxConfig;
use squall::verdict::{self, Over, Verdict};
use tokio::sync::watch;

use crate::assertion_twins::claim;
use crate::gate::{Fate, Gate};
use crate::shop::{Listener, Shop, act, is_step, steps};
use crate::story::{Story, exponential_ms, ok};

/// Somebody who uses the service all the time, on a new connection for each request, until dropped.
struct Client(tokio::task::JoinHandle<()>);

impl Client {
    async fn of(shop: &Shop) -> Client {
        let address = shop.cluster.resolve("payments.shop", 8080).await.unwrap()[0];
        Client(tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
            loop {
                let _ = client.get(format!("http://{address}/")).send().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The median time of GETs through the Service, each on a connection of its own.
async fn through_service(shop: &Shop) -> Duration {
    let address = shop.cluster.resolve("payments.shop", 8080).await.unwrap()[0];
    let mut took = Vec::new();
    for _ in 0..7 {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let began = tokio::time::Instant::now();
        client.get(format!("http://{address}/")).send().await.unwrap();
        took.push(began.elapsed());
    }
    took.sort();
    took[3]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_is_felt_proven_followed_and_gone() {
    let shop = Shop::sandboxed(2).await;
    let before = through_service(&shop).await;
    assert!(before < Duration::from_millis(100), "{before:?}");
    let client = Client::of(&shop).await;
    let mut listener = Listener::of(&shop);
    let spec = json!({"on": "shop/deployment/payments", "add": "200ms", "jitter": "50ms"});
    let (conducted, stop) = shop.conduct(vec![act("slow", 0.0, None, "latency", spec)]);
    listener.event("the effect", |fact| is_step(fact, "slow", &FaultStep::Effective)).await;
    let during = through_service(&shop).await;
    assert!(during > before + Duration::from_millis(140), "{during:?}, {before:?} before");

    // It follows the autoscaler: a pod that appears gets an agent of its own, journalled first.
    shop.cluster.scale(&"shop/deployment/payments".parse().unwrap(), 3).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let pods = shop.cluster.pods("shop", "app=payments").await.unwrap();
        if pods.iter().filter(|pod| pod.serves() && !pod.ephemeral.is_empty()).count() == 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{pods:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(std::fs::read_to_string(shop.journal.path()).unwrap().contains("\"more\""));
    // And a pod that dies under it is no obstacle to its healing.
    let victim = shop.cluster.pods("shop", "app=payments").await.unwrap().remove(0);
    shop.cluster.delete_pod(&victim, squall::cluster::pod::Grace::Seconds(0)).await.unwrap();

    drop(client);
    stop.send_replace(true);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    let after = through_service(&shop).await;
    assert!(after < Duration::from_millis(100), "{after:?}");
    let facts = shop.close().await;
    let steps = steps(&facts, "slow");
    assert_eq!(steps[..3], ["targeted", "journalled", "injected"], "{steps:?}");
    assert_eq!(steps[steps.len() - 2..], ["healing", "healed"], "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_that_has_no_effect_is_never_called_effective_and_still_heals() {
    let shop = Shop::with(1, |config| SandboxConfig { interpose: false, ..config }).await;
    let spec = json!({"on": "shop/deployment/payments", "add": "200ms"});
    // Long enough for both witnesses to have spoken, where others have the cores.
    let (conducted, _stop) = shop.conduct(vec![act("slow", 0.0, Some(10), "latency", spec)]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let facts = shop.close().await;
    let steps = steps(&facts, "slow");
    assert!(!steps.contains(&"effective") && steps.contains(&"injected"), "{steps:?}");
    assert_eq!(steps.last(), Some(&"healed"));
    let said: Vec<&String> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Fault { step: FaultStep::Evidence { says, supports: false, .. }, .. } => Some(says),
            _ => None,
        })
        .collect();
    assert!(said.iter().any(|says| says.contains("no traffic")), "why is said: {said:?}");
}

/// Goal: a delay that nobody felt but the one who looks for it is not proven. How: no client at all; the fault's own probe and the
/// kubelet's are delayed, and both witnesses could rest on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_that_only_probes_felt_is_never_called_effective() {
    let shop = Shop::open(1).await;
    let spec = json!({"on": shop.named("deployment/payments"), "add": "100ms", "existing_connections": "leave"});
    let (conducted, _stop) = shop.conduct(vec![act("slow", 0.0, Some(4), "latency", spec)]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let facts = shop.close().await;
    assert!(!steps(&facts, "slow").contains(&"effective"), "{:?}", steps(&facts, "slow"));
    let only_probes = facts.iter().any(|fact| {
        matches!(fact, Fact::Fault { step: FaultStep::Evidence { says, supports: false, .. }, .. } if says.contains("only probes"))
    });
    assert!(only_probes, "why is said: {facts:#?}");
}

/// Goal: connections that are left alone hold up healing, and do not make it unproven. How: one that stays open throughout. The agent lets
/// it live until its deadline, twenty seconds after the fault's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_that_leaves_connections_alone_is_proven_gone() {
    let shop = Shop::sandboxed(1).await;
    let mut listener = Listener::of(&shop);
    let spec = json!({"on": "shop/deployment/payments", "add": "100ms", "existing_connections": "leave"});
    let (conducted, _stop) = shop.conduct(vec![act("slow", 0.0, Some(2), "latency", spec)]);
    listener.event("the injection", |fact| is_step(fact, "slow", &FaultStep::Injected)).await;
    let address = shop.cluster.resolve("payments.shop", 8080).await.unwrap()[0];
    let kept = tokio::net::TcpStream::connect(address).await.unwrap();
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    drop(kept);
    assert_eq!(steps(&shop.close().await, "slow").last(), Some(&"healed"));
}

/// Goal: a pod that is delayed already stays so while another one's agent takes its time to start. How: the first look at one of two pods is
/// answered later than a lease lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_taken_keeps_its_delay_while_another_takes_longer_than_a_lease() {
    let shop = Shop::sandboxed(2).await;
    let mut listener = Listener::of(&shop);
    let gate = Gate::before(shop.sandbox()).await;
    let pods = shop.cluster.pods("shop", "app=payments").await.unwrap();
    let (slow, looked) = (format!("/api/v1/namespaces/shop/pods/{}", pods[1].name), AtomicBool::new(false));
    gate.rule(move |came| match came.path == slow && !looked.swap(true, Ordering::SeqCst) {
        true => Fate::Late(lease::LEASE + Duration::from_millis(1500)),
        false => Fate::Pass,
    });
    let cluster = Cluster::connect(Access::Kubeconfig(gate.kubeconfig())).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let spec = json!({"on": "shop/deployment/payments", "add": "200ms"});
    let stage = Stage { cluster, ..shop.stage() };
    let conducted = tokio::spawn(conduct(stage, vec![act("slow", 0.0, None, "latency", spec)], stopped));
    listener.event("the injection", |fact| is_step(fact, "slow", &FaultStep::Injected)).await;
    let said = |fact: &Fact| matches!(fact, Fact::Fault { step: FaultStep::Evidence { .. }, .. });
    let first = listener.event("a first witness", said).await;
    stop.send_replace(true);
    assert!(conducted.await.unwrap().all_healed());
    let Fact::Fault { step: FaultStep::Evidence { supports, says, .. }, .. } = first.fact else { unreachable!("it was asked for") };
    assert!(supports, "an agent that ended while others began is told of at once: {says}");
    shop.close().await;
}

/// Goal: "while the fault was proven active" holds for the whole window. How: a fault that was proven, whose agent then ended early, in a
/// told run that otherwise passes.
#[test]
fn a_delay_that_ended_early_decides_nothing() {
    let judged = |says: Option<f64>| {
        let mut story = Story::of("told", &[("all", 60)]);
        story.traffic("all", 100, |_, i| ok(exponential_ms(i, 20.0)));
        story.fault("slow", "latency", 20.0, Some(10.0));
        if let Some(t) = says {
            let says = "the agent in pod shop/payments-a ended early: its connection was closed".to_owned();
            story.step("slow", t, FaultStep::Evidence { witness: "mechanism".to_owned(), says, supports: false });
        }
        let history = story.history();
        let over = Over::Fault("slow".parse().unwrap());
        let findings = verdict::judge(&[claim(over, "resilience", r#"{"failed": "5%"}"#)], &history);
        (findings[0].verdict, findings[0].reason.clone(), verdict::unproven(&history))
    };
    assert_eq!(judged(None).0, Verdict::Pass);
    let (verdict, reason, unproven) = judged(Some(22.0));
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("did not hold throughout: the agent in pod shop/payments-a ended early"), "{reason}");
    assert_eq!(unproven.len(), 1, "the run as a whole is no pass either");
    assert_eq!(judged(Some(30.05)).0, Verdict::Pass, "once healing has begun it may end");
}
