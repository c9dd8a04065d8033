//! What a killed run leaves ends by itself, and healing from the journal alone proves it.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use squall::cluster::pod::EphemeralState;
use squall::faults::Journal;
use squall::faults::heal::{Outcome, Sweep, heal};
use squall::faults::journal::{ClusterLine, Entry};
use squall::recording::fact::FaultStep;

use crate::command::Squall;
use crate::scripted::{Scripted, not_scripted};
use crate::shop::{Listener, RUN, Shop, act, is_step};

fn no_sandbox() -> Box<Sweep> {
    Box::new(|line| Box::pin(async move { Err(format!("{} is not expected here", line.id)) }))
}

fn line_of(server: &str, kubeconfig: String) -> ClusterLine {
    ClusterLine { server: server.to_owned(), context: None, kubeconfig: Some(kubeconfig), impersonation: None }
}

/// Copies a journal as a dead run would have left it: the copy is not locked.
fn left_behind(journal: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(journal, dir.path().join("journal.jsonl")).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_under_a_fault_is_healed_from_its_journal() {
    // Goal: heartbeats that stop are enough. How: abort the conductor's tasks, which is all that a SIGKILL leaves of them here, and heal
    // from a copy of the journal with a client of its own.
    let shop = Shop::open(2).await;
    shop.journal.write(Entry::RunStarted { run: RUN.into(), pid: 1, seed: 7 }).await.unwrap();
    let line = line_of(shop.cluster.server(), shop.place.kubeconfig().display().to_string());
    shop.journal.write(Entry::Cluster(line)).await.unwrap();
    let objects = shop.cluster.prepare(shop.manifests(2), RUN).await.unwrap().objects();
    shop.journal.write(Entry::Manifests { objects }).await.unwrap();

    let mut listener = Listener::of(&shop);
    let spec = json!({"on": shop.named("deployment/payments"), "add": "200ms"});
    let (conducted, _stop) = shop.conduct(vec![act("slow", 0.0, None, "latency", spec)]);
    listener.event("the injection", |fact| is_step(fact, "slow", &FaultStep::Injected)).await;
    let pods = shop.pods().await;
    assert!(pods.iter().all(|pod| pod.ephemeral.iter().any(|agent| agent.state == EphemeralState::Running)));
    conducted.abort();

    let dir = left_behind(shop.journal.path());
    let [report] = &heal(dir.path(), &*no_sandbox()).await.unwrap()[..] else { panic!("one run") };
    assert_eq!(report.outcome, Outcome::Healed, "{report:#?}");
    assert!(report.said.iter().any(|said| said.contains("agents reverted: 2")), "{report:#?}");
    let left = shop.pods().await;
    assert!(left.is_empty(), "the manifests are removed too: {left:?}");
    let [again] = &heal(dir.path(), &*no_sandbox()).await.unwrap()[..] else { panic!("one run") };
    assert_eq!(again.outcome, Outcome::Nothing);
    shop.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_from_any_moment_is_healed() {
    // Goal: whatever line was the last, healing ends in proof. How: cut the journal of a whole run after each of its lines.
    let shop = Shop::open(2).await;
    let line = line_of(shop.cluster.server(), shop.place.kubeconfig().display().to_string());
    shop.journal.write(Entry::RunStarted { run: RUN.into(), pid: 1, seed: 7 }).await.unwrap();
    shop.journal.write(Entry::Cluster(line)).await.unwrap();
    let spec = json!({"on": shop.named("deployment/payments"), "add": "100ms"});
    let (conducted, _stop) = shop.conduct(vec![
        act("kill", 0.0, None, "pod_kill", json!({"pods": 1, "grace": "0s"})),
        act("slow", 2.0, Some(2), "latency", spec),
    ]);
    let curtain = conducted.await.unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let whole = std::fs::read_to_string(shop.journal.path()).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert!(lines.len() >= 8, "{whole}");
    for count in 2..=lines.len() {
        let dir = tempfile::tempdir().unwrap();
        // A torn half of the next line behind it, as a crash leaves it.
        let torn = lines.get(count).map_or("", |line| &line[..line.len() / 2]);
        std::fs::write(dir.path().join("journal.jsonl"), lines[..count].concat() + torn).unwrap();
        let reports = tokio::time::timeout(Duration::from_secs(60), heal(dir.path(), &*no_sandbox())).await.unwrap().unwrap();
        assert_eq!(reports[0].outcome, Outcome::Healed, "cut after line {count}: {reports:#?}");
    }
    // And one that died before its first deletion: the pod is there, and nothing is waited for.
    let alive = shop.pods().await.remove(0);
    let intent = json!({"at": "2026-01-01T00:00:00Z", "entry": {"intent": {"fault": "kill", "kind": "pod_kill", "spec": {"pods": 1},
        "undos": [{"says": "wait", "detail": {"workload": shop.named("deployment/payments"), "pod": alive.name, "uid": alive.uid, "ready": 2}}]}}});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.jsonl"), format!("{}{}{intent}\n", lines[0], lines[1])).unwrap();
    let reports = tokio::time::timeout(Duration::from_secs(10), heal(dir.path(), &*no_sandbox())).await.unwrap().unwrap();
    assert_eq!(reports[0].outcome, Outcome::Healed, "{reports:#?}");
    shop.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_kubeconfig_went_is_healed_by_the_one_of_now_and_in_no_other_cluster() {
    // Goal: what the refusal advises works. How: the journal names a file that is gone; `squall heal` is called without any, with one
    // that leads elsewhere, and with one that leads there.
    let shop = Shop::open(1).await;
    let elsewhere = Scripted::start(|_| not_scripted()).await;
    let squall = Squall::new();
    let here = shop.place.kubeconfig().to_owned();
    let other = squall.file("other", &elsewhere.kubeconfig());
    let objects = shop.cluster.prepare(shop.manifests(1), RUN).await.unwrap().objects();
    let gone = squall.path("gone").display().to_string();
    let cluster = line_of(shop.cluster.server(), gone);
    std::fs::create_dir(squall.path("run")).unwrap();
    let journal = Journal::create(&squall.path("run")).unwrap();
    for entry in [Entry::RunStarted { run: RUN.into(), pid: 1, seed: 7 }, Entry::Cluster(cluster), Entry::Manifests { objects }] {
        journal.write_now(entry).unwrap();
    }
    drop(journal);
    let heal = |kubeconfig: &Path| {
        let running = squall.start_with(&["heal", "run"], &[("KUBECONFIG", kubeconfig)]);
        tokio::task::spawn_blocking(move || running.wait(Duration::from_secs(60)))
    };
    heal(&squall.path("gone")).await.unwrap().expect(6).saying("set KUBECONFIG");
    heal(&other).await.unwrap().expect(6).saying("leads to").saying("nothing is touched");
    assert_eq!(shop.pods().await.len(), 1);
    heal(&here).await.unwrap().expect(0).saying("run: healed");
    assert!(shop.pods().await.is_empty());
    shop.place.close().await;
}
