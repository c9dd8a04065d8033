//! Leads every planned fault through its steps, each at its moment, and never returns before each is healed or known not to be.
//!
//! ```text
//! wait for its moment ─▶ targets ─▶ journal ─▶ inject ─▶ until its time is up, or the run ends ─▶ heal ─▶ prove
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::evidence::Evidence;
use super::journal::{Entry, Journal};
use super::scene::{Scene, seed_of};
use super::{Error, Fault, Lasting, Spec, Undo, blast, lease};
use crate::cluster::Cluster;
use crate::kinds::Kind;
use crate::names::{Moment, Name, ObjectRef, Shift};
use crate::recording::Sink;
use crate::recording::fact::{Fact, FaultStep};
use crate::time::{Offset, wall_now};
use crate::timeline::{FaultSlot, Start};

/// How long a fault that happens once is watched for its effect before it counts as not proven.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long choosing and applying may take in all; every call within has a deadline of its own.
const INJECT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long healing may take before it counts as not proven.
const HEAL_TIMEOUT: Duration = Duration::from_secs(90);

/// Where the faults happen.
#[derive(Clone)]
pub struct Stage {
    pub cluster: Cluster,
    pub sink: Sink,
    pub journal: Arc<Journal>,
    pub run: String,
    /// The run's seed.
    pub seed: u64,
    /// The workload of the plan's target.
    pub workload: Option<ObjectRef>,
    pub permission: blast::Permission,
    /// The image that holds `squall`, for clusters whose pods come from images; where one was named.
    pub agent_image: Option<String>,
    /// The end of the last phase: no fault outlives it.
    pub end: Offset,
}

/// One fault and its moment.
#[derive(Clone, Debug)]
pub struct Act {
    pub slot: FaultSlot,
    pub spec: Spec,
}

/// How it all ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curtain {
    /// Faults of which something may still be active, and why: exit code 6.
    pub may_be_active: Vec<(Name, String)>,
    /// Faults that could not be applied, and why; what hangs on them is inconclusive.
    pub not_injected: Vec<(Name, String)>,
}

impl Curtain {
    /// Whether nothing of any fault can be active any more.
    pub fn all_healed(&self) -> bool {
        self.may_be_active.is_empty()
    }
}

/// Runs every act and returns when all are over. When `stop` turns true (the run ends early, a signal), what has not begun never
/// begins, and what has is healed at once. An act that is being applied is applied first: half an injection cannot be healed.
pub async fn conduct(stage: Stage, acts: Vec<Act>, stop: watch::Receiver<bool>) -> Curtain {
    let moments = Moments(Arc::new(watch::channel(Known::default()).0));
    // Choosing and touching is one fault at a time, so that two cannot both take the last but one ready pod.
    let hands = Arc::new(Mutex::new(()));
    let mut tasks = JoinSet::new();
    for act in acts {
        let diary = Diary { fault: act.slot.fault.clone(), sink: stage.sink.clone(), journal: stage.journal.clone() };
        let lead = Lead { stage: stage.clone(), act, diary, moments: moments.clone(), hands: hands.clone(), stop: stop.clone() };
        tasks.spawn(lead.run());
    }
    let mut curtain = Curtain::default();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok((_, Ended::Fine)) => {}
            Ok((fault, Ended::NotInjected(why))) => curtain.not_injected.push((fault, why)),
            Ok((fault, Ended::MayBeActive(why))) => curtain.may_be_active.push((fault, why)),
            // A panic is a bug of ours; what it left is in the journal, and is not known to be gone.
            Err(panic) => {
                let name: Name = "unknown".parse().expect("a name of letters");
                curtain.may_be_active.push((name, format!("its task ended in a bug: {panic}")));
            }
        }
    }
    curtain.may_be_active.sort();
    curtain.not_injected.sort();
    curtain
}

#[derive(Debug, PartialEq)]
enum Ended {
    Fine,
    NotInjected(String),
    MayBeActive(String),
}

/// One fault on its way.
struct Lead {
    stage: Stage,
    act: Act,
    diary: Diary,
    moments: Moments,
    hands: Arc<Mutex<()>>,
    stop: watch::Receiver<bool>,
}

impl Lead {
    async fn run(mut self) -> (Name, Ended) {
        let fault = self.act.slot.fault.clone();
        let ended = self.lead(&fault).await;
        self.moments.over(&fault);
        (fault, ended)
    }

    async fn lead(&mut self, name: &Name) -> Ended {
        match self.wait_for_start().await {
            Waited::Due => {}
            Waited::Stopped => return Ended::Fine,
            Waited::Never(why) => return self.not_injected("waiting for its moment", why),
        }
        let stage = self.stage.clone();
        let spec = self.act.spec.clone();
        let fault: &dyn Fault = &*spec;
        let evidence = Evidence::new(name.clone(), stage.sink.clone());
        let clock = stage.sink.clock();

        // Others may be at work for a minute: what is planned counts from when it is this one's turn.
        let hands = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Ended::Fine,
            hands = self.hands.clone().lock_owned() => hands,
        };
        let began = clock.now();
        let planned_end = match self.act.slot.length {
            Some(length) => (began + length.duration()).min(stage.end),
            None => stage.end,
        };
        let scene = Scene {
            fault: name.clone(),
            run: stage.run.clone(),
            cluster: stage.cluster.clone(),
            permission: stage.permission,
            seed: seed_of(stage.seed, name.as_str()),
            workload: stage.workload.clone(),
            agent_image: stage.agent_image.clone(),
            deadline: wall_now() + planned_end.since(began) + lease::DEADLINE_MARGIN,
            evidence: evidence.clone(),
            journal: stage.journal.clone(),
        };
        let targets = tokio::select! {
            biased;
            // Nothing is touched yet, so nothing is lost.
            () = stopped(&mut self.stop) => return Ended::Fine,
            targets = bounded(INJECT_TIMEOUT, fault.targets(&scene)) => targets,
        };
        let targets = match targets {
            Ok(targets) => targets,
            Err(error) => return self.not_injected("targeting", error.to_string()),
        };
        // Once more: from the journal on it is injected, and then healed.
        if *self.stop.borrow() {
            return Ended::Fine;
        }
        self.diary.step(FaultStep::Targeted { targets: targets.pods.iter().map(|pod| pod.label()).collect(), of: targets.of });
        let undos = fault.undo(&scene, &targets);
        let settling = fault.settling(&targets);
        if let Err(error) = self.journal_intent(undos.clone()).await {
            return self.not_injected("journalling", Error::Journal(error).to_string());
        }
        self.diary.step(FaultStep::Journalled);
        let injected = bounded(INJECT_TIMEOUT, fault.inject(&scene, targets)).await;
        drop(hands);
        let (hold, failed) = match injected {
            Ok(hold) => {
                self.diary.note(Entry::Applied { fault: name.clone() }).await;
                let at = self.diary.step(FaultStep::Injected);
                self.moments.happened(name, Moment::Injected, at);
                evidence.open();
                (Some(hold), None)
            }
            Err(error) => {
                self.diary.step(FaultStep::Failed { during: "injecting".into(), reason: error.to_string() });
                (None, Some(error.to_string()))
            }
        };
        let end = match fault.lasting() {
            Lasting::Once => clock.now() + EFFECT_TIMEOUT + settling,
            Lasting::UntilHealed => planned_end,
        };

        if hold.is_some() {
            self.while_active(fault.lasting(), &evidence, end).await;
        }
        evidence.close();
        self.diary.step(FaultStep::Healing);
        if let Some(hold) = hold {
            hold.release().await;
        }
        let healed = match self.all_undos(name, undos) {
            Ok(undos) => bounded(HEAL_TIMEOUT, fault.heal(&stage.cluster, &undos)).await,
            Err(error) => Err(error),
        };
        let (gone, ended) = self.diary.healed(healed, failed).await;
        if let Some(at) = gone {
            self.moments.happened(name, Moment::Healed, at);
        }
        ended
    }

    /// Waits until the fault's time is up.
    async fn while_active(&mut self, lasting: Lasting, evidence: &Evidence, end: Offset) {
        let clock = self.stage.sink.clock();
        let name = self.act.slot.fault.clone();
        let mut known = false;
        loop {
            let effective = async { if known { std::future::pending().await } else { evidence.effective().await } };
            tokio::select! {
                () = effective => {
                    known = true;
                    self.moments.happened(&name, Moment::Effective, clock.now());
                    if lasting == Lasting::Once {
                        return;
                    }
                }
                () = tokio::time::sleep_until(clock.instant(end).into()) => return,
                () = stopped(&mut self.stop) => return,
            }
        }
    }

    async fn wait_for_start(&mut self) -> Waited {
        let clock = self.stage.sink.clock();
        let start = match self.act.slot.start.clone() {
            Start::At(offset) => offset,
            Start::After { fault, moment, shift } => {
                let happened = tokio::select! {
                    happened = self.moments.wait(&fault, moment) => happened,
                    () = stopped(&mut self.stop) => return Waited::Stopped,
                };
                match (happened, shift) {
                    (None, _) => return Waited::Never(format!("fault {fault}, on which it hangs, never came to that moment")),
                    (Some(at), Shift::Later(span)) => at + span.duration(),
                    (Some(at), Shift::Earlier(span)) => at - span.duration(),
                }
            }
        };
        if start >= self.stage.end {
            return Waited::Never(format!("its moment, {start}, lies after the end of the last phase"));
        }
        tokio::select! {
            () = tokio::time::sleep_until(clock.instant(start).into()) => Waited::Due,
            () = stopped(&mut self.stop) => Waited::Stopped,
        }
    }

    async fn journal_intent(&self, undos: Vec<Undo>) -> std::io::Result<()> {
        let spec = serde_json::to_value(&self.act.spec).map_err(std::io::Error::other)?;
        // The table's enum is written as a one-key map; the journal keeps key and spec apart.
        let kind = self.act.spec.key();
        let spec = spec.get(kind).cloned().unwrap_or(spec);
        self.stage.journal.write(Entry::Intent { fault: self.act.slot.fault.clone(), kind: kind.to_owned(), spec, undos }).await
    }

    /// What was journalled for this fault so far, whoever journalled it.
    fn all_undos(&self, name: &Name, planned: Vec<Undo>) -> Result<Vec<Undo>, Error> {
        let more = self.stage.journal.more_of(name)?;
        Ok(planned.into_iter().chain(more).collect())
    }

    fn not_injected(&self, during: &str, reason: String) -> Ended {
        self.diary.step(FaultStep::Failed { during: during.into(), reason: reason.clone() });
        Ended::NotInjected(reason)
    }
}

/// Where the life of a fault is written: the recording for whoever judges, the journal for whoever heals.
struct Diary {
    fault: Name,
    sink: Sink,
    journal: Arc<Journal>,
}

impl Diary {
    fn step(&self, step: FaultStep) -> Offset {
        let at = self.sink.clock().now();
        self.sink.emit_at(at, Fact::Fault { fault: self.fault.clone(), step });
        at
    }

    /// Writes what has happened already: when the disk refuses, the undo stays in the journal, which errs on the safe side.
    async fn note(&self, entry: Entry) {
        if let Err(error) = self.journal.write(entry).await {
            tracing::warn!("the journal cannot be written: {error}");
        }
    }

    /// What healing came to: since when the fault is gone, if it is, and how its act ended.
    async fn healed(&self, healed: Result<String, Error>, failed: Option<String>) -> (Option<Offset>, Ended) {
        let fault = self.fault.clone();
        let proof = match healed {
            Ok(proof) => proof,
            Err(error) => {
                let reason = error.to_string();
                self.step(FaultStep::Failed { during: "healing".into(), reason: reason.clone() });
                if error.may_be_active() {
                    self.note(Entry::HealingFailed { fault, reason: reason.clone() }).await;
                    return (None, Ended::MayBeActive(reason));
                }
                // The fault is over; that the platform has not repaired what it broke is for the assertions to judge.
                format!("nothing of it is active; {reason}")
            }
        };
        tracing::info!(%fault, "healed: {proof}");
        self.note(Entry::Healed { fault, proof }).await;
        let at = self.step(FaultStep::Healed);
        (Some(at), failed.map_or(Ended::Fine, Ended::NotInjected))
    }
}

enum Waited {
    Due,
    Stopped,
    Never(String),
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone is a conductor that is gone: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::NotProven(format!("it was not done within {}s", limit.as_secs()))))
}

/// The moments that came, for faults that hang on others.
#[derive(Clone)]
struct Moments(Arc<watch::Sender<Known>>);

#[derive(Default)]
struct Known {
    at: BTreeMap<(Name, &'static str), Offset>,
    over: BTreeSet<Name>,
}

fn word(moment: Moment) -> &'static str {
    match moment {
        Moment::Start | Moment::Injected => "injected",
        Moment::Effective => "effective",
        Moment::End | Moment::Healed => "healed",
    }
}

impl Moments {
    fn happened(&self, fault: &Name, moment: Moment, at: Offset) {
        self.0.send_modify(|known| {
            known.at.insert((fault.clone(), word(moment)), at);
        });
    }

    fn over(&self, fault: &Name) {
        self.0.send_modify(|known| {
            known.over.insert(fault.clone());
        });
    }

    /// When it happens; `None` when the fault is over without it.
    async fn wait(&self, fault: &Name, moment: Moment) -> Option<Offset> {
        let key = (fault.clone(), word(moment));
        let mut known = self.0.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let known = known.wait_for(|known| known.at.contains_key(&key) || known.over.contains(fault)).await.ok()?;
        known.at.get(&key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::{Ending, RunEnded, RunStarted};
    use crate::recording::{History, Recording};

    /// Goal: a service that does not recover is the assertions' to fail, and no fault that may be active. How: what is written down
    /// after each end that healing can come to, read back from the recording and the journal.
    #[tokio::test]
    async fn a_platform_that_repairs_nothing_is_no_active_fault() {
        async fn check(healed: Result<String, Error>, failed: Option<&str>, ended: Ended, gone: bool) {
            let dir = tempfile::tempdir().unwrap();
            let clock = crate::time::Clock::starting_in(Duration::ZERO);
            let (sink, recording) = Recording::create(dir.path(), clock, RunStarted::of_nothing()).unwrap();
            let journal = Arc::new(Journal::create(dir.path()).unwrap());
            let fault: Name = "kill".parse().unwrap();
            let failures = usize::from(healed.is_err());
            let diary = Diary { fault: fault.clone(), sink, journal: journal.clone() };
            let (at, got) = diary.healed(healed, failed.map(str::to_owned)).await;
            recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
            let seen = History::load(dir.path()).unwrap().fault(&fault).unwrap();
            let written = std::fs::read_to_string(journal.path()).unwrap();
            assert_eq!((got, at.is_some(), seen.healed.is_some()), (ended, gone, gone), "{seen:?}");
            assert_eq!(seen.failures.len(), failures, "what went wrong is told in any case: {seen:?}");
            assert_eq!(written.contains("\"healed\""), gone, "{written}");
        }
        let broken = || Error::NotRecovered("0 of 2 pods are ready".into());
        check(Ok("2 ready".into()), None, Ended::Fine, true).await;
        check(Err(broken()), None, Ended::Fine, true).await;
        check(Err(broken()), Some("refused"), Ended::NotInjected("refused".into()), true).await;
        check(Err(Error::NotProven("it runs".into())), None, Ended::MayBeActive("it runs".into()), false).await;
    }

    #[tokio::test]
    async fn a_fault_that_hangs_on_one_that_failed_is_told_so() {
        let moments = Moments(Arc::new(watch::channel(Known::default()).0));
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        moments.happened(&a, Moment::Injected, Offset::from_nanos(5));
        moments.over(&a);
        assert_eq!(moments.wait(&a, Moment::Start).await, Some(Offset::from_nanos(5)));
        assert_eq!(moments.wait(&a, Moment::Effective).await, None);
        let waiting = tokio::spawn({
            let (moments, b) = (moments.clone(), b.clone());
            async move { moments.wait(&b, Moment::Healed).await }
        });
        moments.happened(&b, Moment::Healed, Offset::from_nanos(9));
        assert_eq!(waiting.await.unwrap(), Some(Offset::from_nanos(9)));
    }
}
