//! Scaling to zero and back, as KEDA's operator does it: it looks at a ScaledObject's triggers at every polling interval, wakes its target
//! from zero and puts it to rest after a cooldown. Between one replica and the most it leaves it to a HorizontalPodAutoscaler that it makes,
//! and answers that one's questions for external metrics.

mod autoscaler;
mod conditions;
mod fallback;
mod poll;
pub mod spec;
pub mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use self::conditions::Condition;
use self::fallback::Turned;
use self::poll::{Seen, Step};
use self::spec::{Paused, Spec, target_kind, target_resource};
use self::trigger::{Reading, Trigger};
use super::autoscaler::SYNC_ANNOTATION;
use super::{Queue, Shared, claim};
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, condition, int, is_controlled_by, is_leaving, key, millis};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{DEPLOYMENTS, HPAS, Resource, SCALEDOBJECTS, STATEFULSETS};
use crate::sandbox::store::{ChangeKind, Store, StoreError, metadata, seconds, text};
use crate::time::{monotonic_now, until, wall_now};

/// The label by which the autoscaler's metrics name their ScaledObject.
pub const NAME_LABEL: &str = "scaledobject.keda.sh/name";
/// The release of KEDA whose behaviour is shown.
const VERSION: &str = "2.18.0";
/// Holds a ScaledObject until its operator has let go of the target.
const FINALIZER: &str = "finalizer.keda.sh";

/// ScaledObjects whose triggers are read at the same time.
const POLLS_MAX: usize = 32;
/// Triggers of one ScaledObject that are read at the same time.
const TRIGGERS_AT_ONCE: usize = 8;

/// What the triggers of one ScaledObject came to, by metric.
type Readings = BTreeMap<String, Result<Reading, String>>;

/// What the operator and the autoscalers that it answers share.
pub struct Desk {
    recorder: Recorder,
    /// What was read last of the triggers that want that remembered, by ScaledObject and metric. Gone with its ScaledObject.
    last: Mutex<BTreeMap<Key, Readings>>,
}

impl Desk {
    pub fn new(store: &Arc<Store>) -> Desk {
        Desk { recorder: Recorder::new(store, "keda-operator", Spot::Nowhere), last: Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<Key, Readings>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub async fn run(shared: Shared) {
    let feed = |resource| Feed::new(&shared.store, resource);
    let (mut own, mut hpas) = (feed(&SCALEDOBJECTS), feed(&HPAS));
    let (mut deployments, mut stateful_sets) = (feed(&DEPLOYMENTS), feed(&STATEFULSETS));
    let mut operator = Operator { shared: shared.clone(), loops: BTreeMap::new() };
    let mut polls = FuturesUnordered::new();
    loop {
        let mut queue = Queue::new();
        let next = operator.loops.values().map(|watch| watch.due).min();
        tokio::select! {
            batch = own.batch() => super::queue_own(&mut queue, batch),
            batch = hpas.batch() => claim::queue_owners(&mut queue, &shared.store, batch, &SCALEDOBJECTS),
            batch = deployments.batch() => queue_scalers(&mut queue, &shared.store, batch),
            batch = stateful_sets.batch() => queue_scalers(&mut queue, &shared.store, batch),
            () = until(next), if polls.len() < POLLS_MAX => {
                let room = POLLS_MAX - polls.len();
                for poll in operator.due(room) {
                    polls.push(poll.read(shared.clone()));
                }
            }
            Some((poll, readings)) = polls.next() => operator.conclude(&poll, &readings),
        }
        for at in queue {
            operator.reconcile(&at);
        }
    }
}

/// Queues the ScaledObjects of targets that came or went.
fn queue_scalers(queue: &mut Queue, store: &Store, batch: impl IntoIterator<Item = News>) {
    for news in batch {
        let News::Changed(change) = news else { continue };
        if change.kind == ChangeKind::Modified {
            continue;
        }
        let (ns, name) = key(&change.object);
        let aims = |scaled: &Value| scaled["spec"]["scaleTargetRef"]["name"] == name.as_str();
        let scalers = store.list(&SCALEDOBJECTS, Some(&ns)).0.into_iter().filter(|scaled| aims(scaled));
        queue.extend(scalers.map(|scaled| key(&scaled)));
    }
}

/// What is known of a ScaledObject whose triggers are looked at.
struct Watch {
    uid: Value,
    generation: Value,
    spec: Spec,
    resource: &'static Resource,
    triggers: Arc<Vec<Trigger>>,
    due: Instant,
    /// Whether its triggers are being read now.
    reading: bool,
}

/// One look at the triggers of one ScaledObject.
struct Poll {
    at: Key,
    uid: Value,
    generation: Value,
    triggers: Arc<Vec<Trigger>>,
}

impl Poll {
    async fn read(self, shared: Shared) -> (Poll, Vec<Result<Reading, String>>) {
        let ns = self.at.0.clone();
        let asks = self.triggers.iter().map(|trigger| trigger.ask(&shared, &ns));
        let asks: Vec<_> = asks.collect();
        let readings = futures::stream::iter(asks).buffered(TRIGGERS_AT_ONCE).collect().await;
        (self, readings)
    }
}

struct Operator {
    shared: Shared,
    loops: BTreeMap<Key, Watch>,
}

impl Operator {
    /// Brings everything that hangs on a ScaledObject to what it says.
    fn reconcile(&mut self, at: &Key) {
        let Some(object) = self.store().get(&SCALEDOBJECTS, &at.0, &at.1) else {
            self.loops.remove(at);
            self.desk().last().remove(at);
            return;
        };
        if is_leaving(&object) {
            return self.finalize(at, &object);
        }
        // One that went meanwhile needs nothing more.
        let sync = self.shared.autoscaling.noted();
        let Some(object) = self.change(at, |object| begin(object, &sync)) else { return };
        let was_ready = condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
        match self.tend(at, &object) {
            Ok(()) => {
                // What its triggers come to is the loop's to say; of its form there is nothing to say against it any more.
                let doubtful = condition(&object, "Ready")
                    .is_some_and(|ready| matches!(ready["reason"].as_str(), Some("TriggerError" | "PartialTriggerError")));
                if !was_ready && !doubtful {
                    self.desk().recorder.normal(&object, "ScaledObjectReady", "ScaledObject is ready for scaling");
                    self.set(at, &[conditions::ready()]);
                }
            }
            Err(why) => {
                self.loops.remove(at);
                let failed = conditions::check_failed(&why);
                if condition(&object, "Ready").is_none_or(|ready| ready["message"] != why.as_str()) {
                    self.desk().recorder.warning(&object, "ScaledObjectCheckFailed", &why);
                }
                self.set(at, &[failed, conditions::unknown_activity()]);
            }
        }
        if object["spec"].get("fallback").is_none() {
            self.set(at, &[conditions::no_fallback()]);
        }
    }

    /// The checks and steps of a reconciliation, or what is wrong in the words that KEDA leads it in with.
    fn tend(&mut self, at: &Key, object: &Value) -> Result<(), String> {
        let spec = Spec::read(object);
        let target = self.target(object);
        if let Some(paused) = spec.paused {
            return self.pause(at, object, &spec, paused, target);
        }
        let is_paused = condition(object, "Paused").is_some_and(|paused| paused["status"] == "True");
        if is_paused {
            self.desk().recorder.normal(object, "ScaledObjectUnpaused", "ScaledObject is unpaused");
            self.change(at, |object| {
                object["status"].as_object_mut().into_iter().for_each(|status| drop(status.shift_remove("pausedReplicaCount")));
                conditions::set(object, &conditions::unpaused());
            });
        }
        let (resource, found) = target?;
        let triggers = spec::triggers(object).map_err(|why| {
            if condition(object, "Ready").is_none_or(|ready| !ready["message"].as_str().unwrap_or_default().ends_with(&why)) {
                self.desk().recorder.warning(object, "KEDAScalerFailed", &why);
            }
            format!("failed to ensure HPA is correctly created for ScaledObject: {why}")
        })?;
        self.note(at, resource, &found, &triggers);
        self.ensure_hpa(at, object, &spec, &triggers)
            .map_err(|why| format!("failed to ensure HPA is correctly created for ScaledObject: {why}"))?;
        self.watch(at, object, spec, resource, triggers);
        Ok(())
    }

    /// What is scaled.
    fn target(&self, object: &Value) -> Result<(&'static Resource, Arc<Value>), String> {
        let wrong = |why: String| format!("ScaledObject doesn't have correct scaleTargetRef specification: {why}");
        let resource = target_resource(object).map_err(wrong)?;
        let name = object["spec"]["scaleTargetRef"]["name"].as_str().unwrap_or_default();
        let found = self.store().get(resource, text(object, "namespace"), name);
        let found =
            found.ok_or_else(|| wrong(format!("Target resource doesn't exist: {} {name:?} not found", resource.qualified())))?;
        Ok((resource, found))
    }

    /// Stops to scale, and leaves the target at its size or at the one that is asked for.
    fn pause(
        &mut self,
        at: &Key,
        object: &Value,
        spec: &Spec,
        paused: Paused,
        target: Result<(&'static Resource, Arc<Value>), String>,
    ) -> Result<(), String> {
        if let Paused::At(replicas) = paused {
            let (resource, _) = target?;
            self.scale(resource, &at.0, &spec.target, replicas)
                .map_err(|error| format!("error scaling target to paused replicas count {replicas}: {error}"))?;
        }
        self.stop(at, object);
        let made = object["status"]["hpaName"].as_str().unwrap_or(&spec.hpa).to_owned();
        self.remove_hpa(object, &made);
        if condition(object, "Paused").is_none_or(|known| known["status"] != "True") {
            self.desk().recorder.normal(object, "ScaledObjectPaused", "ScaledObject is paused");
        }
        self.change(at, |object| {
            if let Paused::At(replicas) = paused {
                object["status"]["pausedReplicaCount"] = json!(replicas);
            }
            conditions::set(object, &conditions::paused());
        });
        Ok(())
    }

    /// Writes what was found out about the target and the triggers.
    fn note(&self, at: &Key, resource: &'static Resource, target: &Value, triggers: &[Trigger]) {
        let metrics: Vec<&str> = triggers.iter().map(|trigger| trigger.metric.as_str()).collect();
        let mut kinds: Vec<&str> = triggers.iter().map(|trigger| trigger.kind.as_str()).collect();
        kinds.dedup();
        self.change(at, |object| {
            let (version, kind) = target_kind(&object["spec"]["scaleTargetRef"]);
            let (named, version) = (format!("{version}.{kind}"), version.to_owned());
            let version = version.split_once('/').map_or(version.as_str(), |(_, version)| version);
            let of = json!({"group": resource.group, "version": version, "kind": resource.kind, "resource": resource.plural});
            let status = &mut object["status"];
            status["scaleTargetKind"] = json!(named);
            status["scaleTargetGVKR"] = of;
            if status["originalReplicaCount"].is_null() {
                status["originalReplicaCount"] = json!(int(&target["spec"]["replicas"], 1));
            }
            status["externalMetricNames"] = json!(metrics);
            status["triggersTypes"] = json!(kinds.join(","));
            status["authenticationsTypes"] = json!("");
            if let Some(health) = status.get_mut("health").and_then(Value::as_object_mut) {
                health.retain(|metric, _| metrics.contains(&metric.as_str()));
            }
        });
    }

    /// Makes the autoscaler, or brings it to what it is to be.
    fn ensure_hpa(&self, at: &Key, object: &Value, spec: &Spec, triggers: &[Trigger]) -> Result<(), String> {
        if let Some(before) = object["status"]["hpaName"].as_str().filter(|before| *before != spec.hpa) {
            self.remove_hpa(object, before);
        }
        let wanted = autoscaler::wanted(object, spec, triggers);
        let name = &spec.hpa;
        let made = match self.store().get(&HPAS, &at.0, name) {
            None => self.store().create(&HPAS, wanted),
            Some(found) if !is_controlled_by(&found, object) => {
                let why = format!("{} {name:?} is there already and is not this ScaledObject's", HPAS.qualified());
                return Err(why);
            }
            Some(_) => self.store().update(&HPAS, &at.0, name, |hpa| {
                autoscaler::adjust(hpa, &wanted);
                Ok(())
            }),
        };
        made.map_err(|error| error.to_string())?;
        self.change(at, |object| object["status"]["hpaName"] = json!(name));
        Ok(())
    }

    fn remove_hpa(&self, object: &Value, name: &str) {
        let ns = text(object, "namespace");
        if self.store().get(&HPAS, ns, name).is_some_and(|hpa| is_controlled_by(&hpa, object)) {
            // Already gone is as good.
            let _ = self.store().delete(&HPAS, ns, name);
        }
    }

    /// Begins to look at the triggers, at once; again where the object asks for something else.
    fn watch(&mut self, at: &Key, object: &Value, spec: Spec, resource: &'static Resource, triggers: Vec<Trigger>) {
        let (uid, generation) = (object["metadata"]["uid"].clone(), object["metadata"]["generation"].clone());
        let known = self.loops.get(at).filter(|known| known.uid == uid);
        if known.is_some_and(|known| known.generation == generation) {
            return;
        }
        for trigger in &triggers {
            self.desk().recorder.normal(object, "KEDAScalersStarted", &format!("Scaler {} is built", trigger.kind));
        }
        if known.is_none() {
            self.desk().recorder.normal(object, "KEDAScalersStarted", "Started scalers watch");
        }
        self.desk().last().remove(at);
        let (triggers, due) = (Arc::new(triggers), monotonic_now());
        self.loops.insert(at.clone(), Watch { uid, generation, spec, resource, triggers, due, reading: false });
    }

    fn stop(&mut self, at: &Key, object: &Value) {
        self.desk().last().remove(at);
        if self.loops.remove(at).is_some() {
            self.desk().recorder.normal(object, "KEDAScalersStopped", "Stopped scalers watch");
        }
    }

    /// Lets go of what belonged to an object that is to go.
    fn finalize(&mut self, at: &Key, object: &Value) {
        let finalizers = object["metadata"]["finalizers"].as_array();
        if !finalizers.is_some_and(|list| list.iter().any(|finalizer| finalizer == FINALIZER)) {
            return;
        }
        self.stop(at, object);
        let spec = Spec::read(object);
        let original = object["status"]["originalReplicaCount"].as_i64();
        if let (true, Some(original), Ok((resource, _))) = (spec.restores, original, self.target(object)) {
            // The autoscaler goes with its owner; until then it must not take this back.
            self.remove_hpa(object, object["status"]["hpaName"].as_str().unwrap_or(&spec.hpa));
            if let Err(error) = self.scale(resource, &at.0, &spec.target, original) {
                tracing::debug!(%error, "a ScaledObject's target could not be given its replicas back");
            }
        }
        self.desk().recorder.warning(object, "ScaledObjectDeleted", "ScaledObject was deleted");
        // Already gone is as good.
        let _ = self.store().update(&SCALEDOBJECTS, &at.0, &at.1, |object| {
            if let Some(list) = metadata(object).get_mut("finalizers").and_then(Value::as_array_mut) {
                list.retain(|finalizer| finalizer != FINALIZER);
            }
            Ok(())
        });
    }

    /// The looks that are due, `room` of them at most.
    fn due(&mut self, room: usize) -> Vec<Poll> {
        let now = monotonic_now();
        let mut polls = vec![];
        for (at, watch) in self.loops.iter_mut().filter(|(_, watch)| watch.due <= now) {
            if polls.len() == room {
                break;
            }
            // From the plan, not from the end of the work, or the interval would drift.
            watch.due = (watch.due + watch.spec.polling).max(now);
            if !watch.reading {
                watch.reading = true;
                let (uid, generation) = (watch.uid.clone(), watch.generation.clone());
                polls.push(Poll { at: at.clone(), uid, generation, triggers: watch.triggers.clone() });
            }
        }
        polls
    }

    /// Does what a look at the triggers asks for.
    fn conclude(&mut self, poll: &Poll, readings: &[Result<Reading, String>]) {
        let at = &poll.at;
        let same = |watch: &&mut Watch| watch.uid == poll.uid && watch.generation == poll.generation;
        let Some(watch) = self.loops.get_mut(at).filter(same) else { return };
        watch.reading = false;
        let (spec, resource) = (watch.spec.clone(), watch.resource);
        let Some(object) = self.store().get(&SCALEDOBJECTS, &at.0, &at.1).filter(|object| !is_leaving(object)) else { return };
        self.remember(at, poll, readings);
        for why in readings.iter().filter_map(|reading| reading.as_ref().err()) {
            self.desk().recorder.warning(&object, "KEDAScalerFailed", why);
        }
        let Some(target) = self.store().get(resource, &at.0, &spec.target) else { return };
        let awake = poll.triggers.iter().zip(readings).filter(|(_, reading)| reading.as_ref().is_ok_and(|reading| reading.active));
        let awake: BTreeSet<&str> = awake.map(|(trigger, _)| trigger.name.as_str()).collect();
        let now = wall_now();
        let seen = Seen {
            spec: &spec,
            current: int(&target["spec"]["replicas"], 1),
            active: !awake.is_empty(),
            failed: readings.iter().any(Result::is_err),
            now_ms: now.as_millisecond(),
            created_ms: millis(&object["metadata"]["creationTimestamp"]).unwrap_or(0),
            last_active_ms: millis(&object["status"]["lastActiveTime"]),
        };
        let step = poll::decide(&seen);
        let done = self.take(step, &seen, &object, resource, &awake.into_iter().collect::<Vec<_>>().join(";"));
        let (active, failed) = (seen.active, seen.failed);
        self.change(at, |object| {
            if active && done && matches!(step, Step::Activate(_) | Step::Note) {
                object["status"]["lastActiveTime"] = json!(seconds(now));
            }
            for condition in conclusions(object, step, done, active, failed) {
                conditions::set(object, &condition);
            }
        });
    }

    fn remember(&self, at: &Key, poll: &Poll, readings: &[Result<Reading, String>]) {
        let cached = poll.triggers.iter().zip(readings).filter(|(trigger, _)| trigger.cached);
        let cached: Readings = cached.map(|(trigger, reading)| (trigger.metric.clone(), reading.clone())).collect();
        if !cached.is_empty() {
            self.desk().last().insert(at.clone(), cached);
        }
    }

    /// Scales, where a step asks for it; whether that went well.
    fn take(&self, step: Step, seen: &Seen<'_>, object: &Value, resource: &'static Resource, awake: &str) -> bool {
        let (Step::Activate(replicas) | Step::Deactivate(replicas) | Step::Raise(replicas)) = step else { return true };
        let ns = text(object, "namespace");
        let kind = object["status"]["scaleTargetKind"].as_str().unwrap_or_default();
        let what = format!("{kind} {ns}/{} from {} to {replicas}", seen.spec.target, seen.current);
        let done = self.scale(resource, ns, &seen.spec.target, replicas);
        let recorder = &self.desk().recorder;
        match (step, &done) {
            (Step::Activate(_), Ok(())) => {
                recorder.normal(object, "KEDAScaleTargetActivated", &format!("Scaled {what}, triggered by {awake}"));
            }
            (Step::Activate(_), Err(_)) => {
                recorder.warning(object, "KEDAScaleTargetActivationFailed", &format!("Failed to scale {what}"));
            }
            (Step::Deactivate(_), Ok(())) => recorder.normal(object, "KEDAScaleTargetDeactivated", &format!("Deactivated {what}")),
            (Step::Deactivate(_), Err(_)) => {
                recorder.warning(object, "KEDAScaleTargetDeactivationFailed", &format!("Failed to deactivate {what}"));
            }
            _ => {}
        }
        done.is_ok()
    }

    fn scale(&self, resource: &'static Resource, ns: &str, name: &str, replicas: i64) -> Result<(), StoreError> {
        self.store().update(resource, ns, name, |target| {
            target["spec"]["replicas"] = json!(replicas);
            Ok(())
        })?;
        Ok(())
    }

    fn set(&self, at: &Key, all: &[Condition]) {
        self.change(at, |object| {
            for condition in all {
                conditions::set(object, condition);
            }
        });
    }

    /// Changes a ScaledObject; `None` where it is gone.
    fn change(&self, (ns, name): &Key, change: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let changed = self.store().update(&SCALEDOBJECTS, ns, name, |object| {
            change(object);
            Ok(())
        });
        changed.ok()
    }

    fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    fn desk(&self) -> &Desk {
        &self.shared.scaled
    }
}

/// What the operator adds to every ScaledObject. How often autoscalers look is the sandbox's own note, for observers.
fn begin(object: &mut Value, sync: &str) {
    conditions::begin(object);
    let name = text(object, "name").to_owned();
    let metadata = metadata(object);
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut().filter(|list| !list.iter().any(|finalizer| finalizer == FINALIZER)) {
        list.push(json!(FINALIZER));
    }
    metadata.entry("labels").or_insert_with(|| json!({}))[NAME_LABEL] = json!(name);
    metadata.entry("annotations").or_insert_with(|| json!({}))[SYNC_ANNOTATION] = json!(sync);
}

/// The conditions that a look at the triggers leads to.
fn conclusions(object: &Value, step: Step, done: bool, active: bool, failed: bool) -> Vec<Condition> {
    let status = |kind: &str| condition(object, kind).and_then(|known| known["status"].as_str()).unwrap_or("Unknown");
    let ready = match step {
        Step::DoubtSome if status("Ready") != "Unknown" => Some(conditions::some_fail()),
        Step::DoubtAll => Some(conditions::all_fail()),
        _ if !failed && status("Ready") != "True" => Some(conditions::ready()),
        _ => None,
    };
    let activity = match step {
        Step::CoolDown => Some(conditions::cooling()),
        Step::Deactivate(_) if done => Some(conditions::not_active()),
        _ if status("Active") == "Unknown" || (status("Active") == "True") != active => {
            Some(if active { conditions::active() } else { conditions::not_active() })
        }
        _ => None,
    };
    ready.into_iter().chain(activity).collect()
}

/// The value of a metric that an autoscaler asks for, in thousandths: what a trigger reads now (or read last, where it says so), or what
/// stands for one that fails too often.
pub async fn metric(shared: &Shared, ns: &str, name: &str, metric: &str) -> Result<i64, String> {
    let unknown = |why: String| format!("rpc error: code = Unknown desc = error when getting metric values {why}");
    let object = shared.store.get(&SCALEDOBJECTS, ns, name);
    let object = object.ok_or_else(|| unknown(format!("{} {name:?} not found", SCALEDOBJECTS.qualified())))?;
    let triggers = spec::triggers(&object).map_err(unknown)?;
    let trigger = triggers.iter().find(|trigger| trigger.metric == metric);
    let trigger = trigger.ok_or_else(|| unknown(format!("no matching metrics found for {metric}")))?;
    let at = key(&object);
    let last = shared.scaled.last().get(&at).and_then(|last| last.get(metric)).cloned();
    let reading = match last.filter(|_| trigger.cached) {
        Some(last) => last,
        None => trigger.ask(shared, ns).await,
    };
    let milli = settled(shared, &object, trigger, reading.as_ref().ok().map(|reading| reading.milli));
    milli.ok_or_else(|| unknown(format!("metric:{metric} encountered error")))
}

/// An answer after its failures were counted, where the ScaledObject has a fallback.
fn settled(shared: &Shared, object: &Value, trigger: &Trigger, read: Option<i64>) -> Option<i64> {
    let spec = Spec::read(object);
    let fallback = spec.fallback.filter(|fallback| fallback.value(trigger.target, 0).is_some());
    let Some(fallback) = fallback else { return read };
    let (ns, name) = key(object);
    let target = target_resource(object).ok().and_then(|resource| shared.store.get(resource, &ns, &spec.target));
    let current = target.map_or(0, |target| int(&target["spec"]["replicas"], 1));
    let mut settled = None;
    // One that went meanwhile has nothing to fall back to.
    let _ = shared.store.update(&SCALEDOBJECTS, &ns, &name, |object| {
        settled = Some(fallback::settle(object, fallback, &trigger.metric, trigger.target, read, current));
        Ok(())
    });
    let settled = settled?;
    let recorder = &shared.scaled.recorder;
    match settled.turned {
        Some(Turned::On) => recorder.normal(object, "ScaledObjectFallbackActivated", "ScaledObject fallback is active"),
        Some(Turned::Off) => {
            recorder.normal(object, "ScaledObjectFallbackDeactivated", "ScaledObject fallback is no longer active");
        }
        None => {}
    }
    settled.milli
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(
        step: Step,
        active: bool,
        failed: bool,
        ready: &str,
        was_active: &str,
    ) -> Vec<(&'static str, &'static str, &'static str)> {
        let object =
            json!({"status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "Active", "status": was_active}]}});
        let all = conclusions(&object, step, true, active, failed);
        all.iter().map(|condition| (condition.0, condition.1, condition.2)).collect()
    }

    #[test]
    fn conditions_follow_from_what_was_seen() {
        assert_eq!(
            said(Step::Activate(1), true, false, "Unknown", "Unknown"),
            [("Ready", "True", "ScaledObjectReady"), ("Active", "True", "ScalerActive")]
        );
        assert_eq!(said(Step::Note, true, false, "True", "True"), []);
        assert_eq!(said(Step::CoolDown, false, false, "True", "True"), [("Active", "False", "ScalerCooldown")]);
        assert_eq!(said(Step::Deactivate(0), false, false, "True", "False"), [("Active", "False", "ScalerNotActive")]);
        assert_eq!(
            said(Step::DoubtAll, false, true, "True", "True"),
            [("Ready", "False", "TriggerError"), ("Active", "False", "ScalerNotActive")]
        );
        assert_eq!(said(Step::DoubtSome, true, true, "True", "True"), [("Ready", "Unknown", "PartialTriggerError")]);
        assert_eq!(said(Step::Note, true, false, "Unknown", "True"), [("Ready", "True", "ScaledObjectReady")]);
    }
}
