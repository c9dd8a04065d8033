//! Watching what the platform does. One file per probe; each turns what it sees into facts, stamped with the moment at which it arrived
//! here, and each stretch in which it was blind into a [`Gap`]: what was not seen is never taken for what did not happen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::discovery::Resource;
use crate::cluster::watch::{Missed, Scope, Sight, VERBS, Watching};
use crate::cluster::{self, Cluster, scaled_object};
use crate::names::ObjectRef;
use crate::recording::Sink;
use crate::recording::fact::{Fact, Gap, Reading};
use crate::recording::history::same_object;
use crate::rights::Right;
use crate::time::Offset;

mod autoscalers;
mod endpoints;
mod events;
pub mod exposition;
mod metrics;
mod pods;
mod workloads;

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct Watchlist {
    /// Whose pods, endpoints, workloads, autoscalers and events. The namespaces of the objects below are added.
    pub namespaces: BTreeSet<String>,
    /// The workload under test.
    pub workload: Option<ObjectRef>,
    pub autoscaler: Option<ObjectRef>,
    /// Other workloads that the plan names: what faults touch.
    pub others: Vec<ObjectRef>,
    /// Where there are ScaledObjects that nobody names: those of the manifests. Elsewhere they are watched where one is named.
    pub scaled_objects: BTreeSet<String>,
    /// Reads the Prometheus metrics of the named workloads' pods.
    pub scrape: Option<Scrape>,
}

/// Reading the metrics that pods expose.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Between two readings of one pod.
    pub every: Duration,
}

/// The probes at work.
pub struct Observers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// Probes that have not seen a complete state yet.
    pending: watch::Receiver<BTreeSet<String>>,
}

/// Asked in each namespace that is watched, beside the kinds of the workloads that a plan names.
pub const WATCHED: &[Right] = &[
    Right::to(VERBS, "", "pods"),
    Right::to(VERBS, "", "events"),
    Right::to(VERBS, "discovery.k8s.io", "endpointslices"),
    Right::to(VERBS, "apps", "deployments"),
    Right::to(VERBS, "autoscaling", "horizontalpodautoscalers"),
];

/// How long probes may take to write down what they still hold when they are stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts every probe. Fails only where the cluster does not know a kind that the plan names.
///
/// # Errors
/// When the cluster cannot be asked, or serves no such kind.
pub async fn start(cluster: Cluster, mut list: Watchlist, sink: Sink) -> Result<Observers, cluster::Error> {
    let named: Vec<ObjectRef> = list.workload.iter().chain(&list.autoscaler).chain(&list.others).cloned().collect();
    list.namespaces.extend(named.iter().map(|object| object.namespace.clone()));
    list.namespaces.extend(list.scaled_objects.iter().cloned());
    let mut names = Names::default();
    let mut kinds: Vec<Resource> = vec![cluster.resource_of("apps/v1", "Deployment").await?];
    let mut scraped = Vec::new();
    let autoscaler = cluster.resource_of("autoscaling/v2", "HorizontalPodAutoscaler").await?;
    for object in named {
        let resource = cluster.resource_named(&object.kind).await?;
        // What scales has no pods of its own.
        if scaled_object::is(&resource) {
            list.scaled_objects.insert(object.namespace.clone());
        } else if resource != autoscaler {
            if !kinds.contains(&resource) {
                kinds.push(resource.clone());
            }
            scraped.push(object.clone());
        }
        names.0.push((resource, object));
    }
    let scaled = match list.scaled_objects.is_empty() {
        true => None,
        false => Some(cluster.resource_named(&format!("scaledobjects.{}", scaled_object::KIND.0)).await?),
    };
    let scalers: Vec<Resource> = [Some(&autoscaler), scaled.as_ref()].into_iter().flatten().cloned().collect();
    let pod = cluster.resource_of("v1", "Pod").await?;
    let event = cluster.resource_of("v1", "Event").await?;
    let slice = cluster.resource_of("discovery.k8s.io/v1", "EndpointSlice").await?;

    let names = Arc::new(names);
    let (unsynced, pending) = watch::channel(BTreeSet::new());
    let mut starting =
        Starting { cluster: cluster.clone(), sink: sink.clone(), tasks: JoinSet::new(), stop: watch::channel(false).0, unsynced };
    for namespace in &list.namespaces {
        starting.watch(&pod, namespace, pods::Pods::default());
        starting.watch(&slice, namespace, endpoints::Endpoints::default());
        starting.watch(&event, namespace, events::Events::new(names.clone(), &kinds, &scalers));
        for kind in &kinds {
            let word = names.word(kind, namespace);
            starting.watch_called(&word, kind, namespace, workloads::Workloads::new(kind.clone(), namespace, names.clone()));
        }
        for scaler in &scalers {
            if scaler == &autoscaler || list.scaled_objects.contains(namespace) {
                let probe = autoscalers::Autoscalers::new(scaler.clone(), namespace, names.clone(), &kinds);
                let word = names.word(scaler, namespace);
                starting.watch_called(&word, scaler, namespace, probe);
            }
        }
    }
    if let Some(scrape) = &list.scrape {
        for object in scraped {
            let stop = starting.stop.subscribe();
            starting.tasks.spawn(metrics::run(cluster.clone(), sink.clone(), object, scrape.every, stop));
        }
    }
    Ok(Observers { tasks: starting.tasks, stop: starting.stop, pending })
}

impl Observers {
    /// Waits until every watch has seen a complete state.
    ///
    /// # Errors
    /// Which have not, when `within` is over.
    pub async fn synced(&mut self, within: Duration) -> Result<(), String> {
        if tokio::time::timeout(within, self.pending.wait_for(BTreeSet::is_empty)).await.is_ok() {
            return Ok(());
        }
        let missing: Vec<String> = self.pending.borrow().iter().cloned().collect();
        Err(format!("after {}s nothing was seen yet by: {}", within.as_secs_f64(), missing.join(", ")))
    }

    /// Stops every probe; those that are blind write their gap.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("probes did not stop within {STOP_TIMEOUT:?}; they are dropped");
        }
    }
}

/// A probe that lives on a watch: sees objects, tells facts.
trait Probe: Send + 'static {
    /// The complete state; what was known and is not in it has gone.
    fn listed(&mut self, objects: Vec<Value>) -> Vec<Fact>;
    /// Added or changed.
    fn seen(&mut self, object: &Value) -> Vec<Fact>;
    /// Deleted.
    fn gone(&mut self, object: &Value) -> Vec<Fact>;
    /// What is left to be told when nothing more will be seen.
    fn end(&mut self) -> Vec<Fact> {
        Vec::new()
    }
}

struct Starting {
    cluster: Cluster,
    sink: Sink,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    unsynced: watch::Sender<BTreeSet<String>>,
}

impl Starting {
    fn watch(&mut self, resource: &Resource, namespace: &str, probe: impl Probe) {
        self.watch_called(&resource.plural, resource, namespace, probe);
    }

    /// Watches a kind that is called so: whoever judges knows it by what its gaps and the plan's objects have in common.
    fn watch_called(&mut self, word: &str, resource: &Resource, namespace: &str, probe: impl Probe) {
        let source = format!("watch {word} in {namespace}");
        self.unsynced.send_modify(|pending| {
            pending.insert(source.clone());
        });
        let watching = self.cluster.watch(resource, Scope::namespace(namespace));
        self.tasks.spawn(observe(watching, source, probe, self.sink.clone(), self.stop.subscribe(), self.unsynced.clone()));
    }
}

async fn observe(
    mut watching: Watching,
    source: String,
    mut probe: impl Probe,
    sink: Sink,
    mut stop: watch::Receiver<bool>,
    unsynced: watch::Sender<BTreeSet<String>>,
) {
    let clock = sink.clock();
    let gap = |from: Instant, to: Instant, reason: String| {
        let gap = Gap { source: source.clone(), from: clock.offset(from), to: clock.offset(to), reason };
        sink.emit_at(gap.to, Fact::Gap(gap.clone()));
    };
    // What happens from offset zero on is of the run, and what is not seen of it must be said, the first look included.
    let zero = clock.instant(Offset::ZERO);
    let (mut listed, mut told) = (false, false);
    loop {
        let sighting = tokio::select! {
            biased;
            sighting = watching.next() => sighting,
            // An error means that the starter is gone: stop as well.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(sighting) = sighting else { break };
        let mut first = false;
        let facts = match sighting.sight {
            Sight::Listed(objects) => {
                first = !std::mem::replace(&mut listed, true);
                if first && !told && sighting.at > zero {
                    gap(zero, sighting.at, FIRST_LOOK.into());
                }
                probe.listed(objects)
            }
            Sight::Seen(object) => probe.seen(&object),
            Sight::Gone(object) => probe.gone(&object),
            Sight::Blind { from, reason, missed } => {
                let reason = match missed {
                    Missed::Lost => reason,
                    Missed::Late => format!("{reason}; what happened meanwhile was told afterwards"),
                };
                gap(from, sighting.at, reason);
                told = true;
                continue;
            }
        };
        let at = clock.offset(sighting.at);
        for fact in facts {
            sink.emit_at(at, fact);
        }
        if first {
            unsynced.send_modify(|pending| {
                pending.remove(&source);
            });
        }
    }
    let now = crate::time::monotonic_now();
    match watching.blind() {
        Some((from, reason)) => gap(from, now, reason),
        None if !listed && now > zero => gap(zero, now, FIRST_LOOK.into()),
        None => {}
    }
    probe.end().into_iter().for_each(|fact| sink.emit(fact));
}

/// Why nothing was seen before the first complete state.
const FIRST_LOOK: &str = "the first look was not answered yet";

/// How the plan calls objects: a reading is about the object as the plan wrote it, whatever alias it used.
#[derive(Default)]
struct Names(Vec<(Resource, ObjectRef)>);

impl Names {
    fn of(&self, resource: &Resource, namespace: &str, name: &str) -> ObjectRef {
        let known = self
            .0
            .iter()
            .find(|(r, o)| r.group == resource.group && r.kind == resource.kind && o.namespace == namespace && o.name == name);
        known.map_or_else(
            || ObjectRef { namespace: namespace.to_owned(), kind: resource.singular.clone(), name: name.to_owned() },
            |(_, object)| object.clone(),
        )
    }

    /// What a kind is called: its plural, or where the plan uses a short name that only the cluster knows, that.
    fn word(&self, resource: &Resource, namespace: &str) -> String {
        let is_strange = |object: &ObjectRef| !same_object(object, &ObjectRef { kind: resource.plural.clone(), ..object.clone() });
        let strange = self.written(resource, namespace).find(|object| is_strange(object));
        strange.map_or_else(|| resource.plural.clone(), |object| object.kind.clone())
    }

    /// The objects of this kind and namespace that the plan names, whether they exist or not: each once, as [`Names::of`] calls it, though
    /// the plan may call it `sts` here and `statefulset` there.
    fn wanted(&self, resource: &Resource, namespace: &str) -> BTreeSet<ObjectRef> {
        self.written(resource, namespace).map(|object| self.of(resource, namespace, &object.name)).collect()
    }

    fn written<'a>(&'a self, resource: &Resource, namespace: &str) -> impl Iterator<Item = &'a ObjectRef> {
        let is_so =
            move |r: &Resource, o: &ObjectRef| r.group == resource.group && r.kind == resource.kind && o.namespace == namespace;
        self.0.iter().filter(move |(r, o)| is_so(r, o)).map(|(_, object)| object)
    }
}

/// Readings that are written when they change.
#[derive(Default)]
struct Changes(std::collections::BTreeMap<(ObjectRef, String), f64>);

impl Changes {
    /// A reading, where it is another than the last.
    fn reading(&mut self, object: &ObjectRef, metric: &str, value: f64) -> Option<Fact> {
        let key = (object.clone(), metric.to_owned());
        if self.0.get(&key) == Some(&value) {
            return None;
        }
        self.0.insert(key, value);
        Some(Fact::Reading(Reading { object: object.clone(), metric: metric.to_owned(), value }))
    }
}

fn place(object: &Value) -> Option<(&str, &str)> {
    Some((object.pointer("/metadata/namespace")?.as_str()?, object.pointer("/metadata/name")?.as_str()?))
}
