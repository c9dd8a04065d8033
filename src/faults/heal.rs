//! Finishes what a run left behind, from its journal alone: faults first, then manifests, each proven. It may be called at any time and
//! any number of times, and leaves a run alone that is alive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::journal::{self, ClusterLine, Entry, Journal, SandboxLine, Told};
use super::{Fault, Spec, Undo};
use crate::cluster::{Access, Applied, Cluster};
use crate::kinds::Kind;
use crate::names::Name;
use crate::time::monotonic_now;

/// How long removing a run's manifests may take.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long API servers that are away or have no time are waited for, over all runs that are healed at once.
const REACH_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const REACH_AGAIN: Duration = Duration::from_millis(500);

/// Sweeps away what is left of a dead embedded cluster: its processes, its folder. Says what it did, or what is left.
pub type Sweep = dyn Fn(SandboxLine) -> BoxFuture<'static, Result<String, String>> + Send + Sync;

/// What became of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The run's folder.
    pub run: PathBuf,
    /// What was done and proven, and what not, one sentence each.
    pub said: Vec<String>,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// It had cleaned up after itself.
    Nothing,
    /// Everything of it is proven gone now.
    Healed,
    /// It is alive and keeps its own leases: not touched.
    Alive,
    /// Something may still be there: exit code 6.
    NotProven,
}

/// Heals the run in `path`, or every run in the folders under `path`.
///
/// # Errors
/// When there is no journal at `path` nor below it, when the one at `path` is in use, or cannot be read.
pub async fn heal(path: &Path, sweep: &Sweep) -> Result<Vec<Report>, journal::Error> {
    let patience = monotonic_now() + REACH_TIMEOUT;
    if path.join(journal::FILE).exists() {
        return Ok(vec![heal_run(path, sweep, patience).await?]);
    }
    let unreadable = |source| journal::Error::File { path: path.to_owned(), doing: "read", source };
    let mut runs: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(unreadable)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|run| run.join(journal::FILE).exists())
        .collect();
    runs.sort();
    let mut reports = Vec::new();
    for run in runs {
        reports.push(match heal_run(&run, sweep, patience).await {
            Ok(report) => report,
            Err(error @ journal::Error::Alive { .. }) => Report { run, said: vec![error.to_string()], outcome: Outcome::Alive },
            Err(error) => Report { run, said: vec![error.to_string()], outcome: Outcome::NotProven },
        });
    }
    Ok(reports)
}

async fn heal_run(dir: &Path, sweep: &Sweep, patience: Instant) -> Result<Report, journal::Error> {
    let (journal, told) = Journal::open(dir)?;
    let journal = Arc::new(journal);
    let left = Left::of(&told);
    let mut healing = Healing { journal, said: Vec::new(), proven: told.unreadable.is_empty() };
    for line in &told.unreadable {
        healing
            .said
            .push(format!("line {line} of {} cannot be read: what it was about is not known", healing.journal.path().display()));
    }
    if left.closed && healing.proven {
        return Ok(Report { run: dir.to_owned(), said: vec!["nothing was left".into()], outcome: Outcome::Nothing });
    }
    healing.all(left, sweep, patience).await;
    if healing.proven {
        healing.note(Entry::Closed).await;
    }
    let outcome = if healing.proven { Outcome::Healed } else { Outcome::NotProven };
    Ok(Report { run: dir.to_owned(), said: healing.said, outcome })
}

/// What a journal says is not undone.
#[derive(Debug, Default, PartialEq)]
struct Left {
    run: String,
    cluster: Option<ClusterLine>,
    /// Those that were not stopped.
    sandboxes: Vec<SandboxLine>,
    /// Whether there ever was one: then what was in it went with it.
    sandboxed: bool,
    faults: BTreeMap<Name, Open>,
    /// In the order in which they were injected.
    order: Vec<Name>,
    manifests: Vec<Applied>,
    closed: bool,
}

#[derive(Debug, PartialEq)]
struct Open {
    kind: String,
    spec: serde_json::Value,
    undos: Vec<Undo>,
}

impl Left {
    fn of(told: &Told) -> Left {
        let mut left = Left::default();
        for line in &told.lines {
            left.closed = false;
            match line.entry.clone() {
                Entry::RunStarted { run, .. } => left.run = run,
                Entry::Sandbox(sandbox) => {
                    left.sandboxed = true;
                    left.sandboxes.push(sandbox);
                }
                Entry::SandboxStopped { id } => left.sandboxes.retain(|sandbox| sandbox.id != id),
                Entry::Cluster(cluster) => left.cluster = Some(cluster),
                Entry::Manifests { objects } => left.manifests.extend(objects),
                Entry::ManifestsRemoved => left.manifests.clear(),
                Entry::Intent { fault, kind, spec, undos } => {
                    left.order.push(fault.clone());
                    left.faults.insert(fault, Open { kind, spec, undos });
                }
                Entry::More { fault, undos } => {
                    if let Some(open) = left.faults.get_mut(&fault) {
                        open.undos.extend(undos);
                    }
                }
                Entry::Healed { fault, .. } => {
                    left.faults.remove(&fault);
                }
                Entry::Applied { .. } | Entry::HealingFailed { .. } => {}
                Entry::Closed => left.closed = true,
            }
        }
        left
    }
}

struct Healing {
    journal: Arc<Journal>,
    said: Vec<String>,
    proven: bool,
}

impl Healing {
    async fn all(&mut self, left: Left, sweep: &Sweep, patience: Instant) {
        for sandbox in left.sandboxes {
            let id = sandbox.id.clone();
            match sweep(sandbox).await {
                Ok(what) => {
                    self.said.push(format!("sandbox {id}: {what}"));
                    self.note(Entry::SandboxStopped { id }).await;
                }
                Err(why) => self.fail(format!("sandbox {id} is not proven gone: {why}")),
            }
        }
        if left.faults.is_empty() && left.manifests.is_empty() {
            return;
        }
        // What was in a sandbox has gone with it; the journal of such a run names no other cluster.
        if left.sandboxed && left.cluster.is_none() {
            if self.proven {
                for fault in left.faults.into_keys() {
                    self.said.push(format!("fault {fault}: gone with its sandbox"));
                    self.note(Entry::Healed { fault, proof: "its cluster is gone".into() }).await;
                }
                if !left.manifests.is_empty() {
                    self.note(Entry::ManifestsRemoved).await;
                }
            }
            return;
        }
        let cluster = match reach(left.cluster.as_ref(), patience).await {
            Ok((cluster, waited)) => {
                self.said.extend(waited);
                cluster
            }
            Err(why) => {
                for (fault, open) in &left.faults {
                    for undo in &open.undos {
                        self.said.push(format!("by hand, for fault {fault}: {}", undo.says));
                    }
                }
                return self.fail(why);
            }
        };
        let mut open = left.faults;
        for fault in left.order.iter().rev() {
            if let Some(open) = open.remove(fault) {
                self.fault(&cluster, fault, open).await;
            }
        }
        if !left.manifests.is_empty() {
            match cluster.remove(&left.manifests, &left.run, REMOVE_TIMEOUT).await {
                Ok(()) => {
                    self.said.push(format!("manifests: {} objects are gone", left.manifests.len()));
                    self.note(Entry::ManifestsRemoved).await;
                }
                Err(error) => self.fail(format!("manifests are not proven gone: {error}")),
            }
        }
    }

    async fn fault(&mut self, cluster: &Cluster, name: &Name, open: Open) {
        let spec = match Spec::read(&open.kind, open.spec) {
            Some(Ok(spec)) => spec,
            Some(Err(error)) => return self.fail(format!("fault {name}: its spec cannot be read: {error}")),
            None => return self.fail(format!("fault {name}: this version of squall knows no {}", open.kind)),
        };
        let fault: &dyn Fault = &*spec;
        match fault.heal(cluster, &open.undos).await {
            Ok(proof) => {
                self.said.push(format!("fault {name}: {proof}"));
                self.note(Entry::Healed { fault: name.clone(), proof }).await;
            }
            Err(error) if !error.may_be_active() => {
                self.said.push(format!("fault {name}: nothing of it is active, but {error}"));
                self.note(Entry::Healed { fault: name.clone(), proof: error.to_string() }).await;
            }
            Err(error) => {
                self.fail(format!("fault {name} is not proven gone: {error}"));
                self.note(Entry::HealingFailed { fault: name.clone(), reason: error.to_string() }).await;
            }
        }
    }

    fn fail(&mut self, why: String) {
        self.said.push(why);
        self.proven = false;
    }

    async fn note(&mut self, entry: Entry) {
        if let Err(error) = self.journal.write(entry).await {
            self.said.push(format!("the journal cannot be written ({error}); healing again is harmless"));
        }
    }
}

/// Connects to the cluster that a journal names, and makes sure that it is the same: by the kubeconfig that the run used, and where that
/// leads there no more, by the one of now. A server that is away is waited for until `patience` is over; how long that took is said.
async fn reach(line: Option<&ClusterLine>, patience: Instant) -> Result<(Cluster, Option<String>), String> {
    let line = line.ok_or("the journal names no cluster, so nothing can be looked at")?;
    let began = monotonic_now();
    let mut tries = 0;
    loop {
        tries += 1;
        let (why, pause) = match found(line).await {
            Ok(cluster) => {
                let waited = (tries > 1).then(|| {
                    format!("the API server was away: it answered at try {tries}, after {:.1}s", began.elapsed().as_secs_f64())
                });
                return Ok((cluster, waited));
            }
            Err(lost) => lost,
        };
        match pause {
            Some(pause) if monotonic_now() + pause < patience => tokio::time::sleep(pause).await,
            _ => {
                return Err(format!(
                    "the run was in the cluster at {}, which is not reached in {}, {:.1}s ({why}): nothing is touched; set KUBECONFIG to a \
                     file that leads there",
                    line.server,
                    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") },
                    began.elapsed().as_secs_f64(),
                ));
            }
        }
    }
}

/// One try: the cluster, or why not, and how long to wait where waiting may help.
async fn found(line: &ClusterLine) -> Result<Cluster, (String, Option<Duration>)> {
    let context = line.context.clone();
    let then = line.kubeconfig.clone().map(|kubeconfig| Access::Files { kubeconfig, context: context.clone() });
    let (mut why, mut pause) = (Vec::new(), None);
    for access in then.into_iter().chain([Access::Context(context)]) {
        let access = match &line.impersonation {
            Some(who) => Access::As(who.clone(), Box::new(access)),
            None => access,
        };
        match Cluster::connect(access).await {
            Ok(cluster) if cluster.server() == line.server => return Ok(cluster),
            Ok(cluster) => why.push(format!("the kubeconfig leads to {}", cluster.server())),
            Err(error) => {
                if error.is_passing() {
                    pause = Some(error.pause(REACH_AGAIN));
                }
                why.push(error.to_string());
            }
        }
    }
    why.dedup();
    Err((why.join("; "), pause))
}

impl ClusterLine {
    /// How `cluster`, which was found by `access`, is found again. `None` for one that only this process can find.
    pub fn of(access: &Access, cluster: &Cluster) -> Option<ClusterLine> {
        let server = cluster.server().to_owned();
        let line = |context: &Option<String>, kubeconfig: Option<&str>| ClusterLine {
            server,
            context: context.clone(),
            kubeconfig: kubeconfig.map(absolute),
            impersonation: None,
        };
        match access {
            Access::Kubeconfig(_) => None,
            Access::Context(context) => {
                let kubeconfig = std::env::var("KUBECONFIG").ok().filter(|value| !value.is_empty());
                Some(line(context, kubeconfig.as_deref()))
            }
            Access::Files { kubeconfig, context } => Some(line(context, Some(kubeconfig))),
            Access::As(who, through) => {
                let line = ClusterLine::of(through, cluster)?;
                Some(ClusterLine { impersonation: Some(who.clone()), ..line })
            }
        }
    }
}

/// A list of files as `$KUBECONFIG` holds it, each found from wherever healing is called.
fn absolute(files: &str) -> String {
    let each = std::env::split_paths(files).map(|file| std::path::absolute(&file).unwrap_or(file));
    std::env::join_paths(each).ok().and_then(|joined| joined.into_string().ok()).unwrap_or_else(|| files.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sandbox(id: &str) -> Entry {
        Entry::Sandbox(SandboxLine { id: id.into(), dir: "/tmp/x".into(), api: "https://127.16.0.1:6443".into() })
    }

    fn intent(fault: &str) -> Entry {
        let undo = Undo { says: "wait".into(), detail: json!({}) };
        Entry::Intent { fault: fault.parse().unwrap(), kind: "pod_kill".into(), spec: json!({"pods": 1}), undos: vec![undo] }
    }

    fn written(entries: &[Entry]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path()).unwrap();
        entries.iter().for_each(|entry| journal.write_now(entry.clone()).unwrap());
        dir
    }

    fn sweeps() -> Box<Sweep> {
        Box::new(|line| Box::pin(async move { if line.id == "stuck" { Err("pid 7 lives".into()) } else { Ok("swept".into()) } }))
    }

    #[tokio::test]
    async fn what_was_in_a_dead_sandbox_is_gone_with_it_and_healing_twice_does_nothing() {
        let dir = written(&[Entry::RunStarted { run: "r".into(), pid: 1, seed: 1 }, sandbox("a"), intent("kill")]);
        let [report] = &heal(dir.path(), &*sweeps()).await.unwrap()[..] else { panic!("one run") };
        assert_eq!(report.outcome, Outcome::Healed, "{report:?}");
        assert!(report.said.iter().any(|said| said.contains("fault kill: gone with its sandbox")), "{report:?}");
        let [again] = &heal(dir.path(), &*sweeps()).await.unwrap()[..] else { panic!("one run") };
        assert_eq!(again.outcome, Outcome::Nothing);
    }

    #[tokio::test]
    async fn a_run_that_died_between_its_sandbox_s_end_and_its_own_is_healed() {
        let dir = written(&[sandbox("stuck"), intent("kill"), Entry::SandboxStopped { id: "stuck".into() }]);
        let [report] = &heal(dir.path(), &*sweeps()).await.unwrap()[..] else { panic!("one run") };
        assert_eq!(report.outcome, Outcome::Healed, "{report:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_swept_or_reached_is_not_proven() {
        let stuck = written(&[sandbox("stuck"), intent("kill")]);
        let nowhere = written(&[
            intent("kill"),
            Entry::Cluster(ClusterLine {
                server: "https://x".into(),
                context: None,
                kubeconfig: Some("/nowhere/at/all".into()),
                impersonation: None,
            }),
        ]);
        for dir in [stuck, nowhere] {
            let [report] = &heal(dir.path(), &*sweeps()).await.unwrap()[..] else { panic!("one run") };
            assert_eq!(report.outcome, Outcome::NotProven, "{report:?}");
            let [again] = &heal(dir.path(), &*sweeps()).await.unwrap()[..] else { panic!("one run") };
            assert_eq!(again.outcome, Outcome::NotProven, "it stays open until it is proven");
        }
    }

    #[test]
    fn a_kubeconfig_is_found_again_from_anywhere() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("a/config::/etc/k"), format!("{0}/a/config::/etc/k", here.display()));
    }

    #[tokio::test]
    async fn a_live_run_is_left_alone_and_the_others_are_healed() {
        let root = tempfile::tempdir().unwrap();
        for run in ["a", "b"] {
            std::fs::create_dir(root.path().join(run)).unwrap();
        }
        let alive = Journal::create(&root.path().join("a")).unwrap();
        alive.write_now(Entry::RunStarted { run: "a".into(), pid: 4711, seed: 1 }).unwrap();
        Journal::create(&root.path().join("b")).unwrap().write_now(sandbox("s")).unwrap();
        let reports = heal(root.path(), &*sweeps()).await.unwrap();
        assert_eq!(reports.iter().map(|r| r.outcome).collect::<Vec<_>>(), [Outcome::Alive, Outcome::Healed]);
        assert!(reports[0].said[0].contains("4711"), "{reports:?}");
        assert!(heal(&root.path().join("a"), &*sweeps()).await.is_err(), "a named run that lives is an error");
    }
}
