//! A killed pod is gone by uid, missed by traffic, and replaced; and limits are met before anything is touched.

use serde_json::json;
use squall::recording::fact::{Fact, FaultStep};

use crate::shop::{Listener, Shop, act, is_step, steps};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_journalled_proven_and_healed_by_the_platform() {
    let shop = Shop::open(3).await;
    let (conducted, _stop) = shop.conduct(vec![act("kill", 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"}))]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");

    let journal = std::fs::read_to_string(shop.journal.path()).unwrap();
    let order: Vec<_> = ["intent", "applied", "healed"].iter().map(|word| journal.find(&format!("\"{word}\""))).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{journal}");
    let pods = shop.cluster.pods("shop", "app=payments").await.unwrap();
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
    let before = shop.cluster.pods("shop", "app=payments").await.unwrap();
    let (conducted, _stop) = shop.conduct(vec![
        act("last", 0.0, None, "pod_kill", json!({"pods": 1})),
        act("nobody", 0.0, None, "pod_kill", json!({"pods": 1, "on": "shop/deployment/paymets"})),
    ]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed());
    let why: Vec<String> = curtain.not_injected.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(why[0].contains("last ready pod is never taken"), "{why:?}");
    assert!(why[1].contains("found: shop/deployment/payments"), "{why:?}");
    let after = shop.cluster.pods("shop", "app=payments").await.unwrap();
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
