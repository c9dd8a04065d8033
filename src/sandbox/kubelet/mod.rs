//! The kubelet of all nodes: runs every pod that is bound to one as processes, and answers for their logs, streams and use of resources.
//! One task per pod; the pod's object is its order book and its status.

mod environment;
mod log;
mod pod;
mod probe;
mod spawner;
mod status;
mod streams;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::pod::Worker;
use self::spawner::Spawner;
use self::streams::Streams;
use self::usage::{Sampler, Watched};
use super::address::Block;
use super::api::access::{AccessError, Attached, LogOptions, PodAccess, Usage};
use super::feed::{Feed, News};
use super::network::Network;
use super::objects::{Key, is_leaving, key};
use super::recorder::{Recorder, Spot};
use super::resource::PODS;
use super::store::{ChangeKind, DeleteOptions, Preconditions, Store, text};

/// A handle; all clones are one kubelet.
#[derive(Clone)]
pub struct Kubelet(Arc<Inner>);

/// What a kubelet is made of.
pub struct Setup {
    pub store: Arc<Store>,
    pub network: Network,
    pub block: Arc<Block>,
    /// Its folder: logs and sockets.
    pub dir: PathBuf,
    /// The sandbox's id, which every process carries in its environment.
    pub marker: String,
    /// What a command that begins with `squall` runs.
    pub squall: PathBuf,
    /// The first pause of a crash loop; it doubles from there.
    pub crash_backoff: Duration,
}

struct Inner {
    setup: Setup,
    recorder: Recorder,
    spawner: Spawner,
    /// By uid of the pod and container: what the API may ask for. Not by name: a pod that takes a dead one's name begins anew.
    streams: Mutex<HashMap<(String, String), Arc<Streams>>>,
    sampler: Arc<Mutex<Sampler>>,
    running: Mutex<HashMap<u32, Watched>>,
    stopping: watch::Sender<Option<Duration>>,
}

impl Kubelet {
    pub fn new(setup: Setup) -> std::io::Result<Kubelet> {
        let recorder = Recorder::new(&setup.store, "kubelet", Spot::NodeOfPod);
        Ok(Kubelet(Arc::new(Inner {
            recorder,
            spawner: Spawner::start()?,
            streams: Mutex::default(),
            sampler: Arc::default(),
            running: Mutex::default(),
            stopping: watch::Sender::new(None),
            setup,
        })))
    }

    /// Runs pods until it is [stopped](Kubelet::stop), and returns when the last process is gone.
    pub async fn run(self) {
        let mut feed = Feed::new(&self.0.setup.store, &PODS);
        let mut workers: JoinSet<String> = JoinSet::new();
        // By uid: a pod that takes a dead one's name is another pod.
        let mut orders: HashMap<String, watch::Sender<Option<Arc<Value>>>> = HashMap::new();
        let mut stopping = self.0.stopping.subscribe();
        loop {
            tokio::select! {
                news = feed.next() => match news {
                    News::Changed(change) if change.kind == ChangeKind::Deleted => {
                        if let Some(order) = orders.get(text(&change.object, "uid")) {
                            order.send_replace(None);
                        }
                    }
                    News::Changed(change) => self.order(change.object, &mut orders, &mut workers),
                    News::StartsOver => {
                        let there = self.0.setup.store.list(&PODS, None).0;
                        for (uid, order) in &orders {
                            if !there.iter().any(|pod| text(pod, "uid") == uid) {
                                order.send_replace(None);
                            }
                        }
                    }
                },
                Some(done) = workers.join_next() => match done {
                    Ok(uid) => { orders.remove(&uid); }
                    Err(error) if error.is_panic() => tracing::error!("a pod's worker panicked, its processes are dead: {error}"),
                    Err(_) => (),
                },
                _ = stopping.wait_for(Option::is_some) => break,
            }
        }
        while workers.join_next().await.is_some() {}
    }

    fn order(
        &self,
        pod: Arc<Value>,
        orders: &mut HashMap<String, watch::Sender<Option<Arc<Value>>>>,
        workers: &mut JoinSet<String>,
    ) {
        if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
            return;
        }
        let uid = text(&pod, "uid").to_owned();
        if let Some(order) = orders.get(&uid) {
            order.send_replace(Some(pod));
            return;
        }
        if is_leaving(&pod) {
            // Nothing of it runs any more, or ever did: only a finalizer can still hold it.
            let (ns, name) = key(&pod);
            let demands = Preconditions { uid: Some(uid), ..Preconditions::default() };
            let now = DeleteOptions { grace_s: Some(0), demands, ..DeleteOptions::default() };
            // Already gone is as good.
            let _ = self.0.setup.store.begin_delete(&PODS, &ns, &name, &now);
            return;
        }
        let Some(ip) = self.0.setup.block.take_pod_ip() else {
            self.0.recorder.warning(&pod, "FailedCreatePodSandBox", "the sandbox's block has no free pod address left");
            return;
        };
        let (order, orders_of_pod) = watch::channel(Some(pod.clone()));
        orders.insert(uid.clone(), order);
        let worker = Worker::new(self.0.clone(), &pod, ip);
        workers.spawn(async move {
            worker.run(orders_of_pod).await;
            uid
        });
    }

    /// Ends all pods: SIGTERM, `grace`, SIGKILL. [`Kubelet::run`] returns when they are gone.
    pub fn stop(&self, grace: Duration) {
        self.0.stopping.send_replace(Some(grace));
    }

    /// Kills every process now, without waiting.
    pub fn kill_all(&self) {
        self.0.spawner.live().kill_all();
    }

    /// How many process groups are alive.
    pub fn processes(&self) -> usize {
        self.0.spawner.live().count()
    }

    pub fn network(&self) -> &Network {
        &self.0.setup.network
    }
}

impl Inner {
    fn streams_of(&self, uid: &str, container: &str) -> Arc<Streams> {
        lock(&self.streams).entry((uid.to_owned(), container.to_owned())).or_default().clone()
    }

    /// Those of the pod that has the name now.
    fn known_streams(&self, ns: &str, pod: &str, container: &str) -> Option<Arc<Streams>> {
        let pod = self.setup.store.get(&PODS, ns, pod)?;
        lock(&self.streams).get(&(text(&pod, "uid").to_owned(), container.to_owned())).cloned()
    }

    fn forget(&self, uid: &str, ip: Ipv4Addr) {
        lock(&self.streams).retain(|(of, _), _| of != uid);
        self.setup.network.forget(ip);
        self.setup.block.free_pod_ip(ip);
    }

    fn dir(&self) -> &Path {
        &self.setup.dir
    }
}

impl PodAccess for Kubelet {
    fn logs<'a>(
        &'a self,
        ns: &'a str,
        pod: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, std::io::Result<Bytes>>, AccessError>> {
        Box::pin(async move {
            let streams = self.0.known_streams(ns, pod, container);
            let log = streams.and_then(|streams| streams.log(options.previous));
            match log {
                Some(log) => log.read(options).map_err(|error| AccessError::Failed(format!("failed to read the log: {error}"))),
                None if options.previous => {
                    Err(AccessError::NotFound(format!("previous terminated container {container:?} in pod {pod:?} not found")))
                }
                None => {
                    let why = self.waits_for(ns, pod, container);
                    Err(AccessError::NotReady(format!("container {container:?} in pod {pod:?} is waiting to start: {why}")))
                }
            }
        })
    }

    fn attach<'a>(&'a self, ns: &'a str, pod: &'a str, container: &'a str) -> BoxFuture<'a, Result<Attached, AccessError>> {
        Box::pin(async move {
            let streams = self.0.known_streams(ns, pod, container);
            let attached = streams.and_then(|streams| streams.attach());
            attached.ok_or_else(|| AccessError::NotReady(format!("container {container} of pod {pod} is not running")))
        })
    }

    fn usage(&self, window: Duration) -> BoxFuture<'_, BTreeMap<Key, Usage>> {
        Box::pin(async move {
            let watched: Vec<Watched> = lock(&self.0.running).values().cloned().collect();
            let sampler = self.0.sampler.clone();
            // /proc is read off the runtime: it takes milliseconds on a machine with many processes.
            let sampled = tokio::task::spawn_blocking(move || lock(&sampler).sample(&watched, window)).await;
            sampled.unwrap_or_default()
        })
    }
}

impl Kubelet {
    fn waits_for(&self, ns: &str, pod: &str, container: &str) -> String {
        let pod = self.0.setup.store.get(&PODS, ns, pod);
        let statuses = ["containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses"];
        let found = pod.as_ref().and_then(|pod| {
            let all = statuses.iter().flat_map(|field| pod["status"][field].as_array().into_iter().flatten());
            all.filter(|s| s["name"] == container).find_map(|s| s["state"]["waiting"]["reason"].as_str().map(str::to_owned))
        });
        found.unwrap_or_else(|| "ContainerCreating".into())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
