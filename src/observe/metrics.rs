//! The Prometheus metrics of a workload's pods, read directly from each at an interval. A pod that does not answer is a gap in that
//! pod's readings; a pod that is going or not ready yet is asked, but its silence is no gap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::watch;

use super::exposition::{self, Sample};
use crate::cluster::error::innermost;
use crate::cluster::watch::{Scope, Sight, Watching};
use crate::cluster::{self, Cluster, Pod};
use crate::names::ObjectRef;
use crate::recording::Sink;
use crate::recording::fact::{Fact, Gap, Reading};
use crate::time::Offset;

/// How long one pod may take.
const TIMEOUT: Duration = Duration::from_millis(900);
/// Pods that are asked at once.
const AT_ONCE: usize = 16;
/// The largest answer that is read.
const BODY_MAX: usize = 4 << 20;
/// Series that are kept per pod; what comes on top is counted as a bound.
const SERIES_MAX: usize = 200;

/// Scrapes until told to stop.
pub(super) async fn run(cluster: Cluster, sink: Sink, workload: ObjectRef, every: Duration, mut stop: watch::Receiver<bool>) {
    let source = format!("scrape of pods in {}, {workload}", workload.namespace);
    let built = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
    let client = match built {
        Ok(client) => client,
        Err(error) => {
            let from = sink.clock().now();
            // An error means that the starter is gone: the gap ends here as well.
            let _ = stop.wait_for(|stop| *stop).await;
            let to = sink.clock().now();
            let reason = format!("no HTTP client can be made: {}", innermost(&error));
            return sink.emit_at(to, Fact::Gap(Gap { source, from, to, reason }));
        }
    };
    let mut scraper = Scraper { client, sink, blind: BTreeMap::new(), bounded: BTreeSet::new() };
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut listless: Option<(Offset, String)> = None;
    let mut roll: Option<Roll> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let now = scraper.sink.clock().now();
        if roll.is_none() {
            match Roll::open(&cluster, &workload).await {
                Ok(opened) => roll = Some(opened),
                // No workload, no pods: the watches say so, and there is nothing that was not read.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    listless.get_or_insert((now, error.to_string()));
                }
            }
        }
        if let Some(roll) = &mut roll {
            if let Some((from, reason)) = listless.take() {
                scraper.gap(source.clone(), from, now, reason);
            }
            for (from, to, reason) in roll.call() {
                let clock = scraper.sink.clock();
                scraper.gap(source.clone(), clock.offset(from), clock.offset(to), reason);
            }
            scraper.round(roll.pods.values().cloned().collect()).await;
        }
    }
    let now = scraper.sink.clock().now();
    let unseen = roll.and_then(|roll| roll.watching.blind()).map(|(from, reason)| (scraper.sink.clock().offset(from), reason));
    if let Some((from, reason)) = listless.or(unseen) {
        scraper.gap(source, from, now, reason);
    }
    for (uid, (from, label, reason)) in std::mem::take(&mut scraper.blind) {
        tracing::debug!(uid, "still blind at the end");
        scraper.gap(format!("scrape {label}"), from, now, reason);
    }
}

/// Who there is to be asked: the workload's pods, kept by a watch. A roll that is blind calls those it knew; their silence is told.
struct Roll {
    watching: Watching,
    pods: BTreeMap<String, Pod>,
}

impl Roll {
    async fn open(cluster: &Cluster, workload: &ObjectRef) -> Result<Roll, cluster::Error> {
        let selector = cluster.workload(workload).await?.selector;
        let pod = cluster.resource_of("v1", "Pod").await?;
        let scope = Scope { selector, ..Scope::namespace(&workload.namespace) };
        Ok(Roll { watching: cluster.watch(&pod, scope), pods: BTreeMap::new() })
    }

    /// Takes in what was seen since the last call; the stretches in which pods may have come that nobody asked.
    fn call(&mut self) -> Vec<(Instant, Instant, String)> {
        let mut blind = Vec::new();
        while let Some(sighting) = self.watching.ready() {
            match sighting.sight {
                Sight::Listed(objects) => {
                    self.pods = objects.iter().filter_map(Pod::read).map(|pod| (pod.uid.clone(), pod)).collect();
                }
                Sight::Seen(object) => self.pods.extend(Pod::read(&object).map(|pod| (pod.uid.clone(), pod))),
                Sight::Gone(object) => {
                    if let Some(pod) = Pod::read(&object) {
                        self.pods.remove(&pod.uid);
                    }
                }
                Sight::Blind { from, reason, .. } => blind.push((from, sighting.at, reason)),
            }
        }
        blind
    }
}

struct Scraper {
    client: reqwest::Client,
    sink: Sink,
    /// Pods that do not answer, by uid: since when, their label, and why.
    blind: BTreeMap<String, (Offset, String, String)>,
    /// Pods whose bound was told, by uid; those that went are forgotten.
    bounded: BTreeSet<String>,
}

impl Scraper {
    async fn round(&mut self, pods: Vec<Pod>) {
        let asked = pods.into_iter().filter(|pod| pod.phase == "Running" && pod.ip.is_some());
        let client = self.client.clone();
        let clock = self.sink.clock();
        let mut answers = futures::stream::iter(asked)
            .map(|pod| {
                let client = client.clone();
                async move {
                    let began = clock.now();
                    let answer = scrape(&client, &pod).await;
                    (pod, began, clock.now(), answer)
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut present = Vec::new();
        while let Some((pod, began, ended, answer)) = answers.next().await {
            present.push(pod.uid.clone());
            match answer {
                Ok(samples) => {
                    if let Some((from, label, reason)) = self.blind.remove(&pod.uid) {
                        self.gap(format!("scrape {label}"), from, ended, reason);
                    }
                    self.tell(&pod, ended, samples);
                }
                Err(reason) if pod.serves() => {
                    self.blind.entry(pod.uid.clone()).or_insert((began, pod.label(), reason));
                }
                Err(_) => {}
            }
        }
        self.bounded.retain(|uid| present.contains(uid));
        // A pod that went while it was not answering was not read to its end.
        let gone: Vec<String> = self.blind.keys().filter(|uid| !present.contains(uid)).cloned().collect();
        let now = self.sink.clock().now();
        for (from, label, reason) in gone.iter().filter_map(|uid| self.blind.remove(uid)).collect::<Vec<_>>() {
            self.gap(format!("scrape {label}"), from, now, reason);
        }
    }

    fn tell(&mut self, pod: &Pod, at: Offset, samples: Vec<Sample>) {
        let object = ObjectRef { namespace: pod.namespace.clone(), kind: "pod".into(), name: pod.name.clone() };
        let lost = samples.len().saturating_sub(SERIES_MAX);
        for sample in samples.into_iter().take(SERIES_MAX) {
            let reading = Reading { object: object.clone(), metric: sample.key(), value: sample.value };
            self.sink.emit_at(at, Fact::Reading(reading));
        }
        if lost > 0 && self.bounded.insert(pod.uid.clone()) {
            let what = format!("series of {object}");
            self.sink.emit_at(at, Fact::Bound { what, limit: SERIES_MAX as u64, lost: lost as u64 });
        }
    }

    fn gap(&self, source: String, from: Offset, to: Offset, reason: String) {
        self.sink.emit_at(to, Fact::Gap(Gap { source, from, to, reason }));
    }
}

async fn scrape(client: &reqwest::Client, pod: &Pod) -> Result<Vec<Sample>, String> {
    let (Some(ip), Some(port)) = (&pod.ip, pod.metrics_port.or(pod.ports.first().copied())) else {
        return Err("it declares no port".into());
    };
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    let url = format!("http://{host}:{port}{}", pod.metrics_path.as_deref().unwrap_or("/metrics"));
    let mut answer = client.get(&url).send().await.map_err(|error| format!("{url}: {}", innermost(&error)))?;
    if !answer.status().is_success() {
        return Err(format!("{url} answers {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| format!("{url}: {}", innermost(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_MAX {
            return Err(format!("{url} answers more than {BODY_MAX} bytes"));
        }
    }
    let text = String::from_utf8(body).map_err(|_| format!("{url} answers something that is not text"))?;
    exposition::read(&text).map_err(|error| format!("{url}: {error}"))
}
