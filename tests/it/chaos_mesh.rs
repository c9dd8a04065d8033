//! Goal: a delay by Chaos Mesh counts when its victim feels it, and is over when it no longer does, whatever Chaos Mesh says of itself. How: a
//! scripted cluster that has it, which injects, pretends to, or does not take back what it did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use squall::faults::{Curtain, Stage, conduct};
use squall::recording::Recording;
use squall::recording::fact::{Ending, RunEnded};
use squall::time::Clock;
use tokio::sync::watch;

use crate::real_pods::healthy;
use crate::scripted::{Asked, Reply, Scripted, status};
use crate::shop::{act, facts, stage_of, started, steps};

const GROUP: &str = "/apis/chaos-mesh.org/v1alpha1";
/// What is delayed takes so long, which is more than is asked.
const SLOW: Duration = Duration::from_millis(150);

/// What becomes of its experiments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// They delay, and no more once they are gone.
    Honest,
    /// They say that they delay.
    Pretending,
    /// They are gone, and the delay is not.
    Leaking,
    /// They say that they delay, while everything is slow.
    Excused,
    /// They delay, and their pod goes before they do.
    Orphaned,
    /// They come to be only after it was said that they cannot be made.
    Belated,
}

/// One experiment as the server has it: the object, how often it is not seen although it was made, and how often it was looked at since it was
/// seen and since it was deleted.
#[derive(Clone, Default)]
struct Kept {
    object: Value,
    hidden: usize,
    looks: usize,
    leaving: Option<usize>,
}

type Experiments = Arc<Mutex<BTreeMap<String, Kept>>>;

fn experiments(asked: &Asked, manners: Manners, all: &Experiments) -> Reply {
    let path = asked.path.split('?').next().unwrap_or_default();
    if path == GROUP {
        let resource = json!({"name": "networkchaos", "singularName": "networkchaos", "namespaced": true, "kind": "NetworkChaos", "verbs": ["get"]});
        return Reply::Json(200, json!({"resources": [resource]}));
    }
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut all = all.lock().unwrap();
    let gone = || status(404, "NotFound", "networkchaos not found");
    match asked.method.as_str() {
        "PATCH" => {
            let mut object = asked.body.clone();
            object["metadata"]["uid"] = name.as_str().into();
            let hidden = if manners == Manners::Belated { 3 } else { 0 };
            all.insert(name, Kept { object: object.clone(), hidden, ..Kept::default() });
            match manners {
                Manners::Belated => status(504, "Timeout", "the server was too slow"),
                _ => Reply::Json(201, object),
            }
        }
        "DELETE" => match all.get_mut(&name) {
            // A finalizer keeps it until it has recovered.
            Some(kept) => {
                kept.leaving.get_or_insert(0);
                Reply::Json(200, json!({}))
            }
            None => gone(),
        },
        _ => {
            let Some(kept) = all.get_mut(&name) else { return gone() };
            if kept.hidden > 0 {
                kept.hidden -= 1;
                return gone();
            }
            if let Some(looks) = &mut kept.leaving {
                *looks += 1;
                if *looks > 2 {
                    // It is remembered that there was one.
                    kept.looks = 0;
                    return gone();
                }
            }
            kept.looks += 1;
            let mut object = kept.object.clone();
            let injected = kept.looks > 2;
            let phase = if injected { "Injected" } else { "Not Injected" };
            object["status"] = json!({
                "conditions": [{"type": "AllInjected", "status": "True"}, {"type": "AllRecovered", "status": "True"}],
                "experiment": {"desiredPhase": "Run", "containerRecords": [{"id": "shop/payments-1-a", "selectorKey": ".", "phase": phase,
                    "injectedCount": u64::from(injected), "recoveredCount": 0}]}});
            Reply::Json(200, object)
        }
    }
}

/// Whether any of them has been deleted.
fn leaving(all: &Experiments) -> bool {
    all.lock().unwrap().values().any(|kept| kept.leaving.is_some())
}

/// Conducts one delay for four seconds; how it ended, its steps, and what the server was asked.
async fn one_delay(manners: Option<Manners>) -> (Curtain, Vec<&'static str>, Vec<Asked>) {
    let all = Experiments::default();
    let ward = healthy();
    let server = Scripted::start(move |asked| match manners {
        Some(manners) if asked.path.starts_with(GROUP) => experiments(asked, manners, &all),
        Some(Manners::Orphaned) if asked.path.contains("/pods/payments-1-a") && leaving(&all) => {
            status(404, "NotFound", "pods \"payments-1-a\" not found")
        }
        Some(Manners::Excused) if asked.path == "/version" => {
            let version = json!({"gitVersion": "v1.36.0", "major": "1", "minor": "36"});
            Reply::Late(if all.lock().unwrap().is_empty() { Duration::ZERO } else { SLOW }, version.to_string())
        }
        Some(manners) if asked.path.contains("/proxy/") => {
            let all = all.lock().unwrap();
            let delays = |kept: &Kept| match manners {
                Manners::Honest | Manners::Orphaned => kept.looks > 2 && kept.leaving.is_none_or(|looks| looks < 2),
                Manners::Pretending | Manners::Belated => false,
                Manners::Leaking => true,
                Manners::Excused => kept.leaving.is_none(),
            };
            Reply::Late(if all.values().any(delays) { SLOW } else { Duration::ZERO }, "ok".into())
        }
        _ => ward.answer(asked),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
    let stage: Stage = stage_of(server.connect().await, sink, dir.path());
    let spec = json!({"on": "shop/deployment/payments", "add": "100ms", "jitter": "10ms", "via": "chaos-mesh"});
    let (_stop, stopped) = watch::channel(false);
    let conducted = conduct(stage, vec![act("slow", 0.0, Some(4), "latency", spec)], stopped);
    let curtain = tokio::time::timeout(Duration::from_secs(90), conducted).await.unwrap();
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
    (curtain, steps(&facts(dir.path()), "slow"), server.asked())
}

#[tokio::test]
async fn a_delay_by_chaos_mesh_is_felt_proven_and_gone() {
    let (curtain, steps, asked) = one_delay(Some(Manners::Honest)).await;
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    assert!(steps.contains(&"effective"), "{steps:?}");
    assert_eq!(steps.last(), Some(&"healed"), "{steps:?}");
    let made: Vec<&Asked> = asked.iter().filter(|asked| asked.method == "PATCH").collect();
    let [made] = &made[..] else { panic!("{made:#?}") };
    let spec = &made.body["spec"];
    assert_eq!((&spec["action"], &spec["mode"]), (&"delay".into(), &"all".into()));
    assert_eq!(spec["selector"], json!({"pods": {"shop": ["payments-1-a"]}}));
    assert_eq!(spec["delay"], json!({"latency": "100ms", "jitter": "10ms", "correlation": "0"}));
    // Its lease: four seconds, and the margin of every fault.
    let lease: u64 = spec["duration"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).expect("whole seconds");
    assert!((10..=24).contains(&lease), "{spec}");
    assert!(asked.iter().any(|asked| asked.method == "DELETE" && asked.path.starts_with(GROUP)));
    assert!(asked.iter().all(|asked| !asked.path.contains("ephemeralcontainers")), "no agent of ours");
}

#[tokio::test]
async fn what_chaos_mesh_says_of_itself_proves_nothing() {
    let (curtain, steps, _) = one_delay(Some(Manners::Pretending)).await;
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    assert!(steps.contains(&"injected") && !steps.contains(&"effective"), "{steps:?}");
}

/// Goal: a slow machine or API server does not prove a delay, however slow the victim is. How: a control that is as slow.
#[tokio::test]
async fn what_is_slow_with_everything_else_is_no_delay_by_chaos_mesh() {
    let (curtain, steps, _) = one_delay(Some(Manners::Excused)).await;
    assert!(curtain.all_healed() && curtain.not_injected.is_empty(), "{curtain:?}");
    assert!(steps.contains(&"evidence") && !steps.contains(&"effective"), "the victim feels it, nothing proves it: {steps:?}");
}

#[tokio::test]
async fn a_delay_of_pods_that_are_all_gone_is_gone_with_them() {
    let (curtain, steps, _) = one_delay(Some(Manners::Orphaned)).await;
    assert!(curtain.all_healed() && steps.contains(&"effective"), "{curtain:?} {steps:?}");
    assert_eq!(steps.last(), Some(&"healed"), "{steps:?}");
}

/// Goal: what a server does after it said that it could not is taken away, too. How: an experiment that is seen only some looks after the patch
/// that made it was refused.
#[tokio::test]
async fn an_experiment_that_comes_to_be_late_is_taken_away() {
    let (curtain, steps, asked) = one_delay(Some(Manners::Belated)).await;
    assert!(curtain.all_healed() && curtain.not_injected.len() == 1, "{curtain:?}");
    assert_eq!(steps.last(), Some(&"healed"), "{steps:?}");
    assert!(asked.iter().any(|asked| asked.method == "DELETE" && asked.path.starts_with(GROUP)), "{asked:#?}");
}

#[tokio::test]
async fn a_delay_that_chaos_mesh_did_not_take_back_is_not_said_to_be_gone() {
    let (curtain, steps, _) = one_delay(Some(Manners::Leaking)).await;
    assert!(!curtain.all_healed() && !steps.contains(&"healed"), "{curtain:?} {steps:?}");
    assert!(curtain.may_be_active[0].1.contains("1 experiments of Chaos Mesh are gone, and GET"), "{curtain:?}");
}

#[tokio::test]
async fn where_chaos_mesh_is_not_it_is_said_before_anything_is_touched() {
    let (curtain, _, asked) = one_delay(None).await;
    assert!(curtain.all_healed(), "{curtain:?}");
    let why = &curtain.not_injected[0].1;
    assert!(why.contains("serves no NetworkChaos of chaos-mesh.org/v1alpha1") && why.contains("leave `via` out"), "{why}");
    assert!(asked.iter().all(|asked| asked.method == "GET"), "{asked:#?}");
}
