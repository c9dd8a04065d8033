//! What a run stands on: the sandbox or a cluster, the manifests in it, the journal of how to take it all down. Whatever was set up
//! is taken down again, however the run ends.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::lookup::Lookups;
use super::preflight::preflight;
use super::{Audience, Order};
use crate::cluster::{Access, Applied, Cluster, scaled_object};
use crate::exit::{Exit, Failure};
use crate::faults::blast::Permission;
use crate::faults::journal::{ClusterLine, Entry, Journal, SandboxLine};
use crate::faults::{Act, Curtain, Stage, conduct};
use crate::names::ObjectRef;
use crate::observe::{self, Observers, Scrape, Watchlist};
use crate::plan::{self, ClusterChoice, Dns, Plan, Protocol};
use crate::protocol::{self, Destination};
use crate::recording::Sink;
use crate::recording::fact::Fact;
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::time::monotonic_now;
use crate::timeline::Timeline;

/// How long the manifests' workloads may take to become ready.
const READY: Duration = Duration::from_secs(120);
/// Between two readings of a pod's metrics: as often as windows are judged.
const SCRAPE: Duration = Duration::from_secs(1);
/// How long the target may take to accept one connection.
const KNOCK: Duration = Duration::from_secs(5);
/// How long a look at what the target's name stands for may take while the run goes on.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long removed manifests may take to go.
const GONE: Duration = Duration::from_secs(60);

/// What was set up so far.
pub struct World {
    journal: Arc<Journal>,
    run_id: String,
    sandbox: Option<Sandbox>,
    cluster: Option<Cluster>,
    applied: Vec<Applied>,
    /// Some fault is not proven healed: its journal stays open for `squall heal`.
    pub may_be_active: bool,
}

impl World {
    pub fn new(order: &Order) -> Result<World, Failure> {
        let journal = Arc::new(Journal::create(&order.folder.path).map_err(environment)?);
        let started = Entry::RunStarted { run: order.folder.run_id.clone(), pid: std::process::id(), seed: order.seed };
        journal.write_now(started).map_err(environment)?;
        Ok(World {
            journal,
            run_id: order.folder.run_id.clone(),
            sandbox: None,
            cluster: None,
            applied: Vec::new(),
            may_be_active: false,
        })
    }

    /// Starts the sandbox or connects to the cluster, applies the manifests and waits until they are ready.
    pub async fn set_up(&mut self, order: &Order, audience: &mut dyn Audience) -> Result<(), Failure> {
        let access = match &order.plan.cluster {
            ClusterChoice::None => return Ok(()),
            ClusterChoice::Context(context) => order.reach.to(context.clone()),
            ClusterChoice::Sandbox(options) => {
                audience.stage("starting the sandbox");
                let config = SandboxConfig {
                    keeper: std::env::current_exe().ok(),
                    autoscaler_sync: options.autoscaler_sync.duration(),
                    interpose: options.interpose,
                    seed: order.seed,
                    ..SandboxConfig::default()
                };
                let sandbox = Sandbox::start(config).await.map_err(environment)?;
                self.journal.write(Entry::Sandbox(line_of(&sandbox))).await.map_err(environment)?;
                let access = Access::Kubeconfig(sandbox.kubeconfig().to_owned());
                self.sandbox = Some(sandbox);
                access
            }
        };
        if !order.plan.faults.is_empty() && self.sandbox.is_none() && !order.allow_faults {
            return Err(Failure::new(
                Exit::Usage,
                "this plan breaks things in a cluster that is not the sandbox: say --allow-faults to let it",
            ));
        }
        let cluster = Cluster::connect(access.clone()).await.map_err(environment)?;
        self.cluster = Some(cluster.clone());
        if let Some(line) = ClusterLine::of(&access, &cluster) {
            self.journal.write(Entry::Cluster(line)).await.map_err(environment)?;
        }

        let manifests = plan::read_manifests(&order.plan).map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
        let manifests: Vec<serde_json::Value> = manifests.into_iter().map(|manifest| manifest.value).collect();
        if !manifests.is_empty() {
            audience.stage(&format!("applying {} manifests", manifests.len()));
            let prepared = cluster.prepare(manifests, &self.run_id).await.map_err(environment)?;
            self.journal.write(Entry::Manifests { objects: prepared.objects() }).await.map_err(environment)?;
            self.applied = prepared.objects();
            cluster.apply(&prepared).await.map_err(environment)?;
            audience.stage("waiting until what was applied is ready");
            cluster.wait_ready(&self.applied, READY).await.map_err(environment)?;
        }
        for object in order.plan.target.workload.iter() {
            cluster.workload(object).await.map_err(environment)?;
        }
        preflight(&cluster, order).await
    }

    /// Where the load goes: the target's name resolved, and somebody there who opens the door; and how the name is looked up from then on,
    /// where it is one.
    pub async fn destination(&self, plan: &Plan, audience: &mut dyn Audience) -> Result<(Destination, Option<Lookups>), Failure> {
        let destination = Destination::read(&plan.target.url, plan.target.tls.clone())
            .map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))?
            .through(plan.target.proxy.clone());
        let begun = monotonic_now();
        let (host, port) = destination.door();
        let (host, name) = (host.to_owned(), destination.door_name().to_owned());
        let said = plan.target.resolved(&host, port);
        let destination = match (&self.cluster, said) {
            (_, Some(addresses)) => destination.at(addresses.to_vec()),
            (Some(cluster), None) => {
                let addresses = cluster.resolve(&host, port).await.map_err(environment)?;
                destination.at(addresses)
            }
            (None, None) => destination.resolved().await.map_err(environment)?,
        };
        let found = destination.addresses.now();
        let is_name = said.is_none() && host.parse::<IpAddr>().is_err();
        let lookups = is_name.then(|| Lookups {
            host: name.clone(),
            every: match plan.target.dns {
                Dns::Once => None,
                Dns::Every(span) => Some(span.duration()),
            },
            patience: LOOKUP,
            addresses: destination.addresses.clone(),
            shut: Vec::new(),
            first: (monotonic_now() - begun, found.clone()),
        });
        let tunnelled = plan.loads.iter().any(|load| load.protocol != Protocol::Http1);
        let (open, refusals) = knock(&plan.target.url, &destination, tunnelled).await?;
        if self.cluster.is_some() {
            // What a cluster has behind a name comes and goes during the run.
            return Ok((destination, lookups));
        }
        // Whoever knows several addresses of a service goes to the next when one is shut, as with `localhost` of two families.
        for why in refusals {
            audience.stage(&format!("{why}; requests go to the other addresses of {name}"));
        }
        let shut = found.into_iter().filter(|address| !open.contains(address)).collect();
        destination.addresses.set(open);
        Ok((destination, lookups.map(|lookups| Lookups { shut, ..lookups })))
    }

    /// What a host at a port stands for by now, asked of whoever was asked before the run.
    pub fn look_up(&self, host: &str, port: u16) -> impl Future<Output = Result<Vec<SocketAddr>, String>> + Send + use<> {
        let (cluster, host) = (self.cluster.clone(), host.to_owned());
        async move {
            match cluster {
                Some(cluster) => cluster.look_up(&host, port).await.map_err(|error| error.to_string()),
                None => protocol::look_up(&host, port).await.map_err(|error| error.to_string()),
            }
        }
    }

    /// Starts to watch what the plan names, where there is a cluster.
    pub async fn observe(&self, plan: &Plan, sink: &Sink) -> Result<Option<Observers>, Failure> {
        let Some(cluster) = self.cluster.clone() else {
            return Ok(None);
        };
        let target = plan.target.workload.as_ref();
        let mut others: Vec<ObjectRef> = plan.faults.iter().filter_map(|fault| fault.spec.on()).cloned().collect();
        others.extend(plan.claims.iter().flat_map(|claim| claim.spec.objects()));
        others.retain(|object| Some(object) != target);
        others.sort();
        others.dedup();
        let list = Watchlist {
            namespaces: self.applied.iter().filter_map(|object| object.namespace.clone()).collect(),
            workload: target.cloned(),
            autoscaler: plan.target.autoscaler.clone(),
            others,
            scaled_objects: {
                let scaled = self.applied.iter().filter(|object| object.kind == scaled_object::KIND.1);
                scaled.filter_map(|object| object.namespace.clone()).collect()
            },
            scrape: Some(Scrape { every: SCRAPE }),
        };
        observe::start(cluster, list, sink.clone()).await.map(Some).map_err(environment)
    }

    /// The plan's faults, each at its moment until `stop` turns true; `None` when there are none.
    pub fn faults(
        &self,
        order: &Order,
        timeline: &Timeline,
        sink: &Sink,
        stop: watch::Receiver<bool>,
    ) -> Result<Option<impl Future<Output = Curtain> + use<>>, Failure> {
        if order.plan.faults.is_empty() {
            return Ok(None);
        }
        let Some(cluster) = self.cluster.clone() else {
            return Err(Failure::new(Exit::Usage, "faults need a cluster: name one, as in `cluster: sandbox`"));
        };
        let permission = match (&self.sandbox, order.allow_faults) {
            (Some(_), _) => Permission::Sandbox,
            (None, true) => Permission::Granted,
            (None, false) => Permission::Withheld,
        };
        let stage = Stage {
            cluster,
            sink: sink.clone(),
            journal: self.journal.clone(),
            run: self.run_id.clone(),
            seed: order.seed,
            workload: order.plan.target.workload.clone(),
            permission,
            agent_image: order.agent_image.clone(),
            end: timeline.end,
        };
        let acts = order
            .plan
            .faults
            .iter()
            .zip(&timeline.faults)
            .map(|(fault, slot)| Act { slot: slot.clone(), spec: fault.spec.clone() });
        Ok(Some(conduct(stage, acts.collect(), stop)))
    }

    /// Takes everything down, and records what could not be proven gone.
    pub async fn take_down(&mut self, sink: &Sink, audience: &mut dyn Audience) {
        if self.sandbox.is_some() || !self.applied.is_empty() {
            audience.stage("taking down what was set up");
        }
        for (what, reason) in self.dismantle().await {
            sink.emit(Fact::LeftBehind { what, reason });
        }
    }

    /// Takes everything down after a failure before there was a recording. What is left then outranks the failure.
    pub async fn abandon(&mut self, failure: Failure) -> Failure {
        let mut left = self.dismantle().await;
        if self.may_be_active {
            left.push(("a fault".to_owned(), "it was not proven healed".to_owned()));
        }
        if left.is_empty() {
            return failure;
        }
        let left = words(left);
        Failure::new(
            Exit::CleanupNotProven,
            format!("{failure}\nand not everything could be taken down: {left}; run `squall heal`"),
        )
    }

    /// Takes everything down after the last of several runs, whose recordings are closed.
    pub async fn strike(&mut self, audience: &mut dyn Audience) -> Result<(), Failure> {
        if self.sandbox.is_some() || !self.applied.is_empty() {
            audience.stage("taking down what was set up");
        }
        let left = words(self.dismantle().await);
        match left.is_empty() {
            true => Ok(()),
            false => {
                Err(Failure::new(Exit::CleanupNotProven, format!("not everything could be taken down: {left}; run `squall heal`")))
            }
        }
    }

    /// What could not be taken down, and why.
    async fn dismantle(&mut self) -> Vec<(String, String)> {
        let mut left = Vec::new();
        if let Some(sandbox) = self.sandbox.take() {
            // The manifests go with their cluster.
            self.applied.clear();
            self.cluster = None;
            let id = sandbox.id().to_owned();
            sandbox.stop().await;
            self.note(Entry::SandboxStopped { id }).await;
        }
        if let (Some(cluster), false) = (&self.cluster, self.applied.is_empty()) {
            match cluster.remove(&self.applied, &self.run_id, GONE).await {
                Ok(()) => {
                    self.applied.clear();
                    self.note(Entry::ManifestsRemoved).await;
                }
                Err(error) => left.push(("manifests".to_owned(), error.to_string())),
            }
        }
        if left.is_empty() && !self.may_be_active {
            self.note(Entry::Closed).await;
        }
        left
    }

    /// Writes down what is done already. Where the disk refuses, `squall heal` will find nothing left to do, which is harmless.
    async fn note(&self, entry: Entry) {
        if let Err(error) = self.journal.write(entry).await {
            tracing::warn!("{} cannot be written: {error}", self.journal.path().display());
        }
    }
}

/// What is left, for a person.
fn words(left: Vec<(String, String)>) -> String {
    let left: Vec<String> = left.into_iter().map(|(what, reason)| format!("{what}: {reason}")).collect();
    left.join("; ")
}

/// The addresses that take connections, and why the others do not. When none does, a run would only say so expensively.
async fn knock(url: &str, destination: &Destination, tunnelled: bool) -> Result<(Vec<SocketAddr>, Vec<String>), Failure> {
    let knocks = destination.addresses.now().into_iter().map(|address| async move {
        match tokio::time::timeout(KNOCK, destination.knock(address, tunnelled)).await {
            Ok(Ok(())) => Ok(address),
            Ok(Err(why)) => Err(format!("{address}: {why}")),
            Err(_) => Err(format!("{address}: no answer within {}s", KNOCK.as_secs())),
        }
    });
    let (mut open, mut refusals) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(knocks).await {
        match answer {
            Ok(address) => open.push(address),
            Err(why) => refusals.push(why),
        }
    }
    if !open.is_empty() {
        return Ok((open, refusals));
    }
    let message =
        format!("the target `{url}` takes no connections ({}); check that it runs and that the URL is right", refusals.join("; "));
    Err(Failure::new(Exit::Environment, message))
}

fn line_of(sandbox: &Sandbox) -> SandboxLine {
    SandboxLine { id: sandbox.id().to_owned(), dir: sandbox.dir().to_owned(), api: sandbox.api_url() }
}

fn environment(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Environment, format!("{:#}", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Trust;

    #[tokio::test]
    async fn a_door_that_is_shut_is_told_from_one_that_is_open() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let open_address = open.local_addr().expect("a bound socket has an address");
        // An address of loopback on which nothing listens.
        let shut_address: SocketAddr = "127.9.9.9:1".parse().expect("an address");
        let destination = Destination::read("http://shop.test/", Trust::default()).expect("a URL");
        let both = destination.clone().at(vec![shut_address, open_address]);
        let (found, refusals) = knock("http://shop.test/", &both, false).await.expect("one is open");
        assert_eq!(found, [open_address]);
        assert_eq!(refusals, [format!("{shut_address}: connection refused")]);
        let failure = knock("http://shop.test/", &destination.at(vec![shut_address]), false).await.expect_err("none is open");
        assert_eq!(failure.exit, Exit::Environment);
    }
}
