//! The HorizontalPodAutoscaler controller: at every sync it reads each autoscaler's metrics, [decides](decide::decide) as the real
//! controller does, scales the target and writes status and events. The sync period is the sandbox's; it is noted on the object.

pub mod decide;
pub mod limits;
mod metrics;
pub mod replicas;
pub mod spec;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use self::decide::{Condition, Inputs, Reading, decide, no_scale, no_update, rescaled};
use self::limits::Memory;
use self::replicas::{Phase, PodView, Requests, Tuning};
use self::spec::Spec;
use super::Shared;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, Updates, condition, is_leaving, key, millis, selects, set_condition};
use crate::sandbox::quantity;
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{DEPLOYMENTS, HPAS, PODS, REPLICASETS, Resource, STATEFULSETS};
use crate::sandbox::selector::Selector;
use crate::sandbox::store::{ChangeKind, StoreError, seconds, text};
use crate::time::{monotonic_now, until, wall_now};
use crate::units::Span;

/// Where the sync period is noted on each autoscaler, so that an observer can tell how long a reaction may take.
pub const SYNC_ANNOTATION: &str = "sandbox.squall.dev/autoscaler-sync";

const OUTDATED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// The controller's settings.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaling {
    /// Between two looks at an autoscaler; 15 s on a real cluster.
    pub sync: Duration,
    pub tuning: Tuning,
}

impl Autoscaling {
    /// The real controller's settings, with everything that is about starting pods scaled as the sync period is: 5 min of CPU
    /// initialization and 30 s of readiness delay at 15 s. The stabilization window is part of what users reason with and stays.
    pub fn with_sync(sync: Duration) -> Autoscaling {
        let sync_ms = i64::try_from(sync.as_millis()).unwrap_or(i64::MAX / 100);
        let tuning = Tuning {
            tolerance: 0.1,
            cpu_initialization_ms: sync_ms * 20,
            initial_readiness_delay_ms: sync_ms * 2,
            downscale_stabilization_ms: 300_000,
        };
        Autoscaling { sync, tuning }
    }

    /// The sync period, as it is noted.
    pub fn noted(&self) -> String {
        Span::from(self.sync).to_string()
    }
}

/// Autoscalers that read their metrics at the same time, as in the real controller: a pod that hangs delays only its own.
const SYNCS_MAX: usize = 5;

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "horizontal-pod-autoscaler", Spot::Nowhere);
    let mut autoscalers = Feed::new(&shared.store, &HPAS);
    let mut controller = Controller { shared, recorder, memories: HashMap::new(), selectors: BTreeMap::new() };
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut reading: BTreeSet<Key> = BTreeSet::new();
    let mut reads = FuturesUnordered::new();
    loop {
        let next = due.values().min().copied();
        tokio::select! {
            news = autoscalers.next() => match news {
                News::Changed(change) => {
                    let at = key(&change.object);
                    if change.kind == ChangeKind::Deleted {
                        due.remove(&at);
                        controller.forget(&at);
                    } else {
                        controller.note_sync(&change.object);
                        due.entry(at).or_insert_with(|| monotonic_now() + controller.shared.autoscaling.sync);
                    }
                }
                News::StartsOver => due.clear(),
            },
            () = until(next), if reads.len() < SYNCS_MAX => {
                let now = monotonic_now();
                for (at, planned) in due.iter_mut().filter(|(_, planned)| **planned <= now) {
                    if reads.len() == SYNCS_MAX {
                        break;
                    }
                    // From the plan, not from the end of the work, or the period would drift.
                    *planned = (*planned + controller.shared.autoscaling.sync).max(now);
                    if !reading.contains(at) && let Some(look) = controller.look(at) {
                        reading.insert(at.clone());
                        reads.push(look.read(controller.shared.clone()));
                    }
                }
            }
            Some((look, readings)) = reads.next() => {
                reading.remove(&look.at);
                controller.conclude(&look, &readings);
            }
        }
    }
}

/// What one sync has found, before its metrics are read.
struct Look {
    at: Key,
    autoscaler: Arc<Value>,
    spec: Spec,
    resource: &'static Resource,
    target: Arc<Value>,
    pods: Vec<Arc<Value>>,
}

impl Look {
    async fn read(self, shared: Shared) -> (Look, Vec<Reading>) {
        // A target at zero switches it off: it asks nobody.
        if self.target["spec"]["replicas"] == 0 && self.spec.min != 0 {
            return (self, vec![]);
        }
        let readings = metrics::read(&shared, &self.at.0, &self.spec, &self.pods).await;
        (self, readings)
    }
}

struct Controller {
    shared: Shared,
    recorder: Recorder,
    memories: HashMap<Key, Memory>,
    /// The selector that each autoscaler's target had at its last sync.
    selectors: BTreeMap<Key, Value>,
}

impl Controller {
    fn forget(&mut self, at: &Key) {
        self.memories.remove(at);
        self.selectors.remove(at);
    }

    fn note_sync(&self, autoscaler: &Value) {
        let (ns, name) = key(autoscaler);
        let sync = self.shared.autoscaling.noted();
        if autoscaler["metadata"]["annotations"][SYNC_ANNOTATION] == json!(sync) {
            return;
        }
        // An autoscaler that went meanwhile needs no note.
        let _ = self.shared.store.update(&HPAS, &ns, &name, |autoscaler| {
            autoscaler["metadata"]["annotations"][SYNC_ANNOTATION] = json!(sync);
            Ok(())
        });
    }

    /// The first half of a sync: finds the target and its pods, or says why it cannot.
    fn look(&mut self, at: &Key) -> Option<Look> {
        let (ns, name) = at;
        let autoscaler = self.shared.store.get(&HPAS, ns, name).filter(|a| !is_leaving(a))?;
        let (resource, target) = match self.target(ns, &autoscaler) {
            Ok(target) => target,
            Err(why) => {
                self.recorder.warning(&autoscaler, "FailedGetScale", &why);
                self.write(at, &[no_scale(&why)], |_| ());
                return None;
            }
        };
        let chooses = target["spec"]["selector"].clone();
        let pods = self.shared.store.list(&PODS, Some(ns)).0;
        let pods = pods.into_iter().filter(|pod| selects(&chooses, &pod["metadata"]["labels"])).collect();
        self.selectors.insert(at.clone(), chooses);
        Some(Look { at: at.clone(), spec: Spec::read(&autoscaler), autoscaler, resource, target, pods })
    }

    /// The second half: decides, scales, and says so.
    fn conclude(&mut self, look: &Look, readings: &[Reading]) {
        let Look { at, autoscaler, spec, resource, target, pods } = look;
        let (ns, name) = at;
        let present = self.shared.store.get(&HPAS, ns, name);
        if present.is_none_or(|present| present["metadata"]["uid"] != autoscaler["metadata"]["uid"]) {
            return;
        }
        let current = target["spec"]["replicas"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(1);
        let present = target["status"]["replicas"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        let claimants = self.claimants(at, pods);
        let views: Vec<PodView> = pods.iter().map(|pod| view(pod)).collect();
        let words = Selector::of(&target["spec"]["selector"]).unwrap_or_default().to_string();

        let now = wall_now();
        let memory = self.memories.entry(at.clone()).or_default();
        let tuning = self.shared.autoscaling.tuning;
        let inputs = Inputs {
            now_ms: now.as_millisecond(),
            spec,
            current,
            present,
            selector: Some(&words),
            claimants: &claimants,
            pods: &views,
            readings,
            tuning: &tuning,
        };
        let decision = decide(&inputs, memory);
        for warning in &decision.events {
            self.recorder.warning(autoscaler, warning.reason, &warning.message);
        }
        let mut conditions = decision.conditions.clone();
        let (mut scaled_at, mut failed) = (None, decision.failed);
        if let Some(reason) = &decision.rescale {
            let desired = decision.desired;
            // Somebody may have scaled it while the metrics were read: what was decided is then about another size.
            let scaled = self.shared.store.update(resource, ns, text(target, "name"), |present| {
                if present["spec"]["replicas"] != target["spec"]["replicas"] {
                    return Err(StoreError::Conflict { resource, name: text(target, "name").into(), why: OUTDATED.into() });
                }
                present["spec"]["replicas"] = json!(desired);
                Ok(())
            });
            match scaled {
                Ok(_) => {
                    memory.rescaled(now.as_millisecond(), spec, current, desired);
                    conditions.push(rescaled(desired));
                    scaled_at = Some(seconds(now));
                    self.recorder.normal(autoscaler, "SuccessfulRescale", &format!("New size: {desired}; reason: {reason}"));
                }
                Err(error) => {
                    let message = format!("New size: {desired}; reason: {reason}; error: {error}");
                    self.recorder.warning(autoscaler, "FailedRescale", &message);
                    conditions.push(no_update(&error.to_string()));
                    failed = true;
                }
            }
        }
        self.write(at, &conditions, |status| {
            status["currentReplicas"] = json!(current);
            if !failed {
                status["desiredReplicas"] = json!(decision.desired);
            } else if status["desiredReplicas"].is_null() {
                status["desiredReplicas"] = json!(0);
            }
            status["currentMetrics"] = json!(decision.metrics);
            if let Some(time) = &scaled_at {
                status["lastScaleTime"] = json!(time);
            }
        });
    }

    fn target(&self, ns: &str, autoscaler: &Value) -> Result<(&'static Resource, Arc<Value>), String> {
        let reference = &autoscaler["spec"]["scaleTargetRef"];
        let field = |name: &str| reference[name].as_str().unwrap_or_default();
        let resource = match field("kind") {
            "Deployment" => &DEPLOYMENTS,
            "ReplicaSet" => &REPLICASETS,
            "StatefulSet" => &STATEFULSETS,
            kind => {
                let group = field("apiVersion").split_once('/').map_or("", |(group, _)| group);
                return Err(format!("no matches for kind {kind:?} in group {group:?}"));
            }
        };
        let name = field("name");
        let found = self.shared.store.get(resource, ns, name);
        found.map(|target| (resource, target)).ok_or_else(|| format!("{} {name:?} not found", resource.qualified()))
    }

    /// Every autoscaler of the namespace whose target's selector chooses one of these pods.
    fn claimants(&self, at: &Key, pods: &[Arc<Value>]) -> Vec<String> {
        let claims = |chooses: &Value| pods.iter().any(|pod| selects(chooses, &pod["metadata"]["labels"]));
        let others = self.selectors.iter().filter(|(other, chooses)| other.0 == at.0 && claims(chooses));
        others.map(|((ns, name), _)| format!("{ns}/{name}")).collect()
    }

    fn write(&self, (ns, name): &Key, conditions: &[Condition], fill: impl FnOnce(&mut Value)) {
        // An autoscaler that went meanwhile has no status to write.
        let _ = self.shared.store.update(&HPAS, ns, name, |autoscaler| {
            if !autoscaler["status"].is_object() {
                autoscaler["status"] = json!({});
            }
            fill(&mut autoscaler["status"]);
            for c in conditions {
                let status = if c.holds { "True" } else { "False" };
                let condition = json!({"type": c.kind, "status": status, "lastTransitionTime": null, "reason": c.reason,
                    "message": c.message});
                set_condition(autoscaler, condition, Updates::No);
            }
            Ok(())
        });
    }
}

fn view(pod: &Value) -> PodView {
    let requests = |c: &Value, of: &str| c["resources"]["requests"][of].as_str().and_then(quantity::milli);
    PodView {
        name: text(pod, "name").to_owned(),
        deleted: is_leaving(pod),
        phase: match pod["status"]["phase"].as_str() {
            Some("Running" | "Succeeded") => Phase::Other,
            Some("Failed") => Phase::Failed,
            _ => Phase::Pending,
        },
        ready: condition(pod, "Ready").map(|c| (c["status"] == "True", millis(&c["lastTransitionTime"]).unwrap_or_default())),
        started_ms: millis(&pod["status"]["startTime"]),
        containers: pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| Requests {
                container: c["name"].as_str().unwrap_or_default().to_owned(),
                cpu: requests(c, "cpu"),
                memory: requests(c, "memory"),
            })
            .collect(),
    }
}
