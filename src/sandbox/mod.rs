//! The embedded cluster: an API server that speaks Kubernetes, controllers, an autoscaler, pods as processes, service addresses.
//! Nothing here knows that it is not a real cluster's part, and nothing outside talks to it but through its API.

mod address;
pub mod api;
pub mod base64;
pub mod cleanup;
pub mod controllers;
pub mod defaults;
mod feed;
pub mod keeper;
pub mod kubeconfig;
mod kubelet;
mod network;
mod objects;
mod pod_security;
pub mod quantity;
mod recorder;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use self::address::Block;
use self::api::tls::Identity;
use self::controllers::{Autoscaling, Desk, Shared};
use self::keeper::Keeper;
use self::kubelet::{Kubelet, Setup};
use self::network::{Honours, Network};
use self::store::Store;

/// How a sandbox is to be.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// What people call it: the name of its context in the kubeconfig.
    pub name: String,
    /// What a pod's command that begins with `squall` runs.
    pub squall: PathBuf,
    /// The `squall` that [ends what is left](keeper) when this process is killed; without one that is left to `squall heal`.
    pub keeper: Option<PathBuf>,
    /// Between two looks at an autoscaler: 15 s on a real cluster.
    pub autoscaler_sync: Duration,
    /// Whether fault agents may interpose themselves. Switched off, they are told that they did and have no effect.
    pub interpose: bool,
    /// Uids, generated names and the balancers' choices follow from it.
    pub seed: u64,
    /// The first pause of a crash loop, and before a Job replaces a pod that failed; it doubles: 10 s on a real cluster.
    pub crash_backoff: Duration,
    /// Pods that a node bears which does not say how many; more stay pending and say so.
    pub pods_max: usize,
    /// Between SIGTERM and SIGKILL when the sandbox stops.
    pub stop_grace: Duration,
}

impl Default for SandboxConfig {
    fn default() -> SandboxConfig {
        SandboxConfig {
            name: "squall-sandbox".into(),
            squall: std::env::current_exe().unwrap_or_else(|_| "squall".into()),
            keeper: None,
            autoscaler_sync: Duration::from_secs(15),
            interpose: true,
            seed: 1,
            crash_backoff: Duration::from_secs(10),
            pods_max: 250,
            stop_grace: Duration::from_millis(500),
        }
    }
}

/// A running cluster. [`Sandbox::stop`] ends it in order; dropping it kills its pods and removes its folder.
pub struct Sandbox {
    id: String,
    dir: PathBuf,
    kubeconfig: String,
    server: Option<api::Server>,
    kubelet: Kubelet,
    kubelet_task: JoinHandle<()>,
    tasks: JoinSet<()>,
    store: Arc<Store>,
    block: Arc<Block>,
    stop_grace: Duration,
    /// Last, so that it goes last.
    _keeper: Option<Keeper>,
}

impl Sandbox {
    /// Claims an address block and starts everything. Must be called within a runtime with I/O and time.
    pub async fn start(config: SandboxConfig) -> anyhow::Result<Sandbox> {
        raise_descriptor_limit();
        let (block, listener) = Block::claim((std::process::id() % 200) as u8)?;
        let listener = TcpListener::from_std(listener).context("failed to listen on the sandbox's API address")?;
        let block = Arc::new(block);
        let id = cleanup::new_id(block.api());
        let dir = cleanup::make_dir(&id, &config.name)?;

        let keeper = config.keeper.as_deref().and_then(|squall| match Keeper::start(squall, &id, &dir) {
            Ok(keeper) => Some(keeper),
            Err(error) => {
                tracing::warn!("sandbox {id} has no keeper: {error}");
                None
            }
        });

        let store = Store::new(config.seed);
        let network = Network::new(if config.interpose { Honours::Interposition } else { Honours::Nothing });
        let setup = Setup {
            store: store.clone(),
            network: network.clone(),
            block: block.clone(),
            dir: dir.clone(),
            marker: id.clone(),
            squall: config.squall,
            crash_backoff: config.crash_backoff,
        };
        let started = Kubelet::new(setup).context("failed to start the thread that starts pods").and_then(|kubelet| {
            let (first, last) = block.services();
            let server = api::serve(
                listener,
                api::Config {
                    store: store.clone(),
                    pods: Arc::new(kubelet.clone()),
                    identity: Identity::new(block.api().into())?,
                    services: api::ServiceAddresses { first, last },
                },
            )
            .context("failed to start the sandbox's API server")?;
            Ok((kubelet, server))
        });
        let (kubelet, server) = match started {
            Ok(started) => started,
            Err(error) => {
                cleanup::remove_dir(&dir);
                return Err(error);
            }
        };
        let mut tasks = JoinSet::new();
        let shared = Shared {
            store: store.clone(),
            block: block.clone(),
            kubelet: kubelet.clone(),
            pods_max: config.pods_max,
            autoscaling: Autoscaling::with_sync(config.autoscaler_sync),
            crash_backoff: config.crash_backoff,
            scaled: Arc::new(Desk::new(&store)),
        };
        controllers::start(&shared, &mut tasks);
        tasks.spawn(network::balancer::run(store.clone(), network, config.seed));
        let kubelet_task = tokio::spawn(kubelet.clone().run());
        Ok(Sandbox {
            kubeconfig: server.kubeconfig(&config.name).to_yaml(),
            id,
            dir,
            server: Some(server),
            kubelet,
            kubelet_task,
            tasks,
            store,
            block,
            stop_grace: config.stop_grace,
            _keeper: keeper,
        })
    }

    /// The file by which every client finds it, in YAML.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// What tells this sandbox from all others: every process of its pods carries it in `SQUALL_SANDBOX`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As [`Sandbox::id`]: what [`cleanup::sweep`] looks for.
    pub fn marker(&self) -> &str {
        &self.id
    }

    /// Its folder: logs and sockets. It goes with the sandbox.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its addresses, as `127.16.0.0/16`.
    pub fn block(&self) -> String {
        self.block.to_string()
    }

    /// Where its API listens, as `https://127.16.0.1:6443`.
    pub fn api_url(&self) -> String {
        self.server.as_ref().map(|server| format!("https://{}", server.address())).unwrap_or_default()
    }

    /// Its objects, for tests that look past the API.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Logs and streams of its pods, for tests that look past the API.
    pub fn pods(&self) -> &dyn api::access::PodAccess {
        &self.kubelet
    }

    /// How many processes of pods are alive.
    pub fn processes(&self) -> usize {
        self.kubelet.processes()
    }

    /// Ends it: no new pods, SIGTERM to all, a short grace, SIGKILL; then the API, the addresses and the folder.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.kubelet.stop(self.stop_grace);
        // A process that SIGKILL does not end within seconds hangs in the kernel: nobody can do more.
        let patience = self.stop_grace + Duration::from_secs(5);
        if tokio::time::timeout(patience, &mut self.kubelet_task).await.is_err() {
            tracing::warn!("{} pods of sandbox {} did not end in time", self.kubelet.processes(), self.id);
        }
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kubelet_task.abort();
        self.kubelet.kill_all();
        // What has left the groups that were killed is found by its mark.
        cleanup::end_all(&self.id);
        cleanup::remove_dir(&self.dir);
    }
}

/// Each connection through a Service takes two descriptors: as many as this user may have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Limit::Nofile);
    if limit.current != limit.maximum {
        // With less, the balancers refuse sooner.
        let _ = setrlimit(Limit::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// What Kubernetes calls this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
