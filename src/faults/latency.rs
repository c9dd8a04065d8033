//! Delays what reaches the pods of a workload: an agent beside each pod, under a lease, that takes the way between clients and the
//! pod's port. It follows the autoscaler. Everything that heals it works without this process.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::evidence::{Evidence, Witness};
use super::hold::Released;
use super::preflight::{Findings, Ground, Refusal};
use super::probe::{Probe, median};
use super::{Error, Hold, Lasting, Scene, Targets, Undo, lease};
use crate::cluster::pod::EphemeralState;
use crate::cluster::{self, Cluster, Pod};
use crate::names::ObjectRef;
use crate::rights::{Right, Without};
use crate::time::{monotonic_now, wall_now};
use crate::units::Span;

mod admission;
mod arrivals;
mod chaos_mesh;
mod newcomers;
mod seat;

use arrivals::Arrivals;
use chaos_mesh::{Dose, Experiment};
use seat::{Board, Seat};

/// Where, and how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub on: ObjectRef,
    /// Added to each request's way in.
    pub add: Span,
    /// Each delay is drawn uniformly from `add - jitter` to `add + jitter`.
    #[serde(default)]
    pub jitter: Span,
    /// The pods' port; needed only where they declare several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What becomes of connections that are open when the fault begins and ends.
    #[serde(default)]
    pub existing_connections: ExistingConnections,
    /// Whether pods that appear while the fault is active are delayed too.
    #[serde(default)]
    pub new_pods: NewPods,
    /// Who delays.
    #[serde(default)]
    pub via: Via,
}

/// Who delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// An agent of Squall's own in each pod, on what clients send to its port.
    #[default]
    Agent,
    /// Chaos Mesh, where the cluster has it: on all that the pods send, whatever connections it belongs to.
    ChaosMesh,
}

/// What becomes of open connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExistingConnections {
    /// They are reset, so that clients with kept connections notice too.
    #[default]
    Reset,
    /// They stay as they are, undelayed.
    Leave,
}

/// What becomes of pods that appear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewPods {
    #[default]
    Join,
    LeaveOut,
}

/// The share of the asked delay that must be measured for the fault to count as effective.
const DOSE_LEAST: f64 = 0.8;
/// Pods that one fault follows at most.
const SEATS_MAX: usize = 256;
/// Between two probes of the victim.
const PROBE_EVERY: Duration = Duration::from_millis(400);
/// The probes that a statement rests on.
const PROBE_WINDOW: usize = 5;
/// Between looks while healing.
const LOOK: Duration = Duration::from_millis(150);
/// Between questions whose a pod is that the cluster did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long an agent is waited for whose deadline is far: longer than it lets connections live on that were to be left alone.
const DEADLINE_PATIENCE: Duration = Duration::from_secs(60);
/// How long after everything should have ended an agent is waited for.
const END_MARGIN: Duration = Duration::from_secs(10);
/// How long an API server that is away is waited for to tell whether an agent has ended: most take less to start again.
const AWAY_PATIENCE: Duration = Duration::from_secs(70);
/// How long the probe may take to be back where it was.
const BACK_TIMEOUT: Duration = Duration::from_secs(10);

impl super::Fault for Spec {
    fn on(&self) -> Option<&ObjectRef> {
        Some(&self.on)
    }

    fn lasting(&self) -> Lasting {
        Lasting::UntilHealed
    }

    fn reach(&self, ready: u32) -> u32 {
        ready
    }

    fn rights(&self) -> &'static [Right] {
        const RIGHTS: &[Right] = &[
            Right::to(&["get", "list", "watch"], "", "pods"),
            // Not asked for where the workload makes its pods itself; else looking for them says that it is missing.
            Right::to(&["list"], "apps", "replicasets").without(Without::Possible),
            Right::to(&["patch"], "", "pods/ephemeralcontainers"),
            // A WebSocket is opened by a GET; from 1.35 on it must be allowed as what it is, too.
            Right::to(&["get"], "", "pods/attach"),
            Right::to(&["create"], "", "pods/attach").without(Without::ImpossibleFrom(35)),
            Right::to(&["get"], "", "pods/log").only("for the last words of agents that do not begin"),
            // The victim's probe goes through a Service, else through the API server.
            Right::to(&["list"], "", "services").without(Without::Possible),
            Right::to(&["get"], "", "pods/proxy").only("where Services cannot be reached from where Squall runs"),
            Right::to(&["get"], "", "namespaces").only("where admission cannot be tried by a dry run"),
            Right::to(&["get"], "", "nodes")
                .anywhere()
                .only("where pods do not show themselves that their nodes are Windows or virtual"),
        ];
        match self.via {
            Via::Agent => RIGHTS,
            Via::ChaosMesh => chaos_mesh::RIGHTS,
        }
    }

    fn contradiction(&self) -> Option<String> {
        if self.jitter > self.add {
            let (jitter, add) = (self.jitter, self.add);
            return Some(format!("a jitter of {jitter} on {add} would ask for negative delays: use at most {add}"));
        }
        (self.via == Via::ChaosMesh && self.existing_connections == ExistingConnections::Leave).then(|| {
            "Chaos Mesh delays what open connections carry, too: leave `existing_connections: leave` out, or `via: chaos-mesh`"
                .to_owned()
        })
    }

    fn preflight<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Result<Findings, Error>> {
        Box::pin(async move {
            let pods = ground.cluster.pods_of(&ground.workload).await?;
            Ok(self.look(ground, &pods).await)
        })
    }

    fn foresee(&self, pod: &Pod, labels: &BTreeMap<String, String>) -> Findings {
        match self.via {
            Via::Agent => admission::foresee(self, pod, labels),
            Via::ChaosMesh => {
                let refusals = pod.host_network.then(|| admission::on_the_nodes_network(pod)).into_iter().collect();
                Findings { refusals, ..Findings::default() }
            }
        }
    }

    fn targets<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<Targets, Error>> {
        Box::pin(async move {
            if let Some(why) = self.contradiction() {
                return Err(Error::Refused(why));
            }
            let workload = scene.admitted(Some(&self.on)).await?;
            let all = scene.cluster.pods_of(&workload).await?;
            let pods: Vec<Pod> = all.iter().filter(|pod| can_take(pod)).cloned().collect();
            if pods.is_empty() {
                return Err(Error::Refused(format!("{} has no running pod", self.on)));
            }
            if pods.len() > SEATS_MAX {
                return Err(Error::Refused(format!("{} has {} pods; one fault takes at most {SEATS_MAX}", self.on, pods.len())));
            }
            let ground =
                Ground { cluster: scene.cluster.clone(), workload: workload.clone(), agent_image: scene.agent_image.clone() };
            if let Some(refused) = self.look(&ground, &pods).await.refused() {
                return Err(refused);
            }
            // Two agents before one port would hide each other.
            if let Some(taken) =
                pods.iter().find(|p| p.ephemeral.iter().any(|e| ours(&e.name) && e.state == EphemeralState::Running))
            {
                return Err(Error::Refused(format!("pod {} is under another latency fault already", taken.label())));
            }
            let port = self.port_of(&pods[0]).map_err(|refusal| Error::Refused(refusal.to_string()))?;
            let probe = Probe::find(&scene.cluster, &pods, port).await;
            Ok(Targets { workload, of: all.len() as u64, pods, before: json!(Before { port, probe }) })
        })
    }

    fn undo(&self, scene: &Scene, targets: &Targets) -> Vec<Undo> {
        let before: Before = serde_json::from_value(targets.before.clone()).unwrap_or_default();
        let undo = |pod| match self.via {
            Via::Agent => self.seat(scene, pod, &before).undo(),
            Via::ChaosMesh => Experiment::of(scene, pod, &before).undo(),
        };
        targets.pods.iter().map(undo).collect()
    }

    fn inject<'a>(&'a self, scene: &'a Scene, targets: Targets) -> BoxFuture<'a, Result<Hold, Error>> {
        Box::pin(async move {
            let before: Before = serde_json::from_value(targets.before.clone())
                .map_err(|e| Error::Failed(format!("what was before cannot be read: {e}")))?;
            let arrivals = Arrivals::beside(&targets, self, scene).await?;
            let mut hold = Hold::new();
            if self.via == Via::ChaosMesh {
                let keeper = chaos_mesh::Keeper { spec: self.clone(), scene: scene.clone(), before: before.clone(), arrivals };
                let active = keeper.begin(&targets.pods, &hold.released()).await?;
                let least_ms = self.least_ms();
                let dose = Dose { cluster: scene.cluster.clone(), probe: before.probe.clone(), on: self.on.clone(), least_ms };
                hold.spawn(dose.run(scene.evidence.clone(), hold.released()));
                self.watch_victim(scene, before, &mut hold);
                let released = hold.released();
                hold.spawn(keeper.run(active, released));
                return Ok(hold);
            }
            let board = watch::channel(Board::default()).0;
            let keeper =
                Keeper { spec: self.clone(), scene: scene.clone(), before: before.clone(), board: board.clone(), arrivals };
            // Dropping those that were taken, where another cannot be, closes their input: they revert.
            let mut seats = JoinSet::new();
            let taking: Vec<_> = targets.pods.iter().map(|pod| keeper.begin(pod, &mut seats, hold.released())).collect();
            let mut taken = 0;
            for result in futures::future::join_all(taking).await {
                match result {
                    Ok(result) => taken += usize::from(result? == Begun::Active),
                    Err(_) => return Err(Error::Failed("a task that takes a pod in ended in a bug".into())),
                }
            }
            if taken == 0 {
                let gone = targets.pods.len();
                return Err(Error::Failed(format!("all {gone} pods of {} were gone before they could be delayed", self.on)));
            }
            let doses = Doses { asked_ms: self.add.millis(), on: self.on.clone() };
            hold.spawn(doses.run(board.subscribe(), scene.evidence.clone(), hold.released()));
            self.watch_victim(scene, before, &mut hold);
            let released = hold.released();
            hold.spawn(keeper.run(seats, released));
            Ok(hold)
        })
    }

    fn heal<'a>(&'a self, cluster: &'a Cluster, undos: &'a [Undo]) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            if self.via == Via::ChaosMesh {
                return chaos_mesh::heal(self, cluster, undos).await;
            }
            let seats: Vec<Seat> = undos
                .iter()
                .map(|undo| serde_json::from_value(undo.detail.clone()))
                .collect::<Result<_, _>>()
                .map_err(|e| Error::NotProven(format!("the journal's undo cannot be read: {e}")))?;
            let ends = futures::future::join_all(seats.iter().map(|seat| ended(cluster, seat))).await;
            let mut unclean = false;
            let (mut reverted, mut gone, mut never) = (0, 0, 0);
            for end in ends {
                match end? {
                    End::Reverted => reverted += 1,
                    End::PodGone => gone += 1,
                    End::NeverBegan => never += 1,
                    End::Died => unclean = true,
                }
            }
            if unclean {
                // It could not take its entry back: the data plane drops it when its time to live is over.
                tokio::time::sleep(lease::LEASE).await;
            }
            let mut proof = format!("agents reverted: {reverted}, pods gone: {gone}, never begun: {never}");
            let probe = seats.iter().find_map(|seat| seat.probe.clone()).filter(|_| reverted > 0 || unclean);
            if let Some(probe) = probe {
                match back(cluster, &probe, self.slow_ms(&probe)).await {
                    Ok(ms) => proof = format!("{proof}; {probe} takes {ms:.0}ms again ({:.0}ms before)", probe.before_ms),
                    // The mechanism is proven gone in each pod, so what is slow now is slow for another reason.
                    Err(now) if !unclean => proof = format!("{proof}; {probe} {now}, which the fault no longer explains"),
                    Err(now) => return Err(Error::NotProven(format!("an agent died without reverting, and {probe} {now}"))),
                }
            } else if unclean {
                proof = format!("{proof}; an agent died, and its lease is over");
            }
            Ok(proof)
        })
    }
}

impl Spec {
    async fn look(&self, ground: &Ground, pods: &[Pod]) -> Findings {
        match self.via {
            Via::Agent => admission::look(self, ground, pods).await,
            Via::ChaosMesh => chaos_mesh::look(ground, pods).await,
        }
    }

    /// Has the victim's side looked at for as long as the hold is held.
    fn watch_victim(&self, scene: &Scene, before: Before, hold: &mut Hold) {
        match before.probe {
            Some(probe) => {
                let victim = Victim { cluster: scene.cluster.clone(), slow_ms: self.slow_ms(&probe), probe };
                hold.spawn(victim.run(scene.evidence.clone(), hold.released()));
            }
            None => {
                let why = format!("no way was found on which {} answers HTTP from here", self.on);
                scene.evidence.contradicts(Witness::Victim, why);
            }
        }
    }

    /// The port that is meant on this pod.
    fn port_of(&self, pod: &Pod) -> Result<u16, Refusal> {
        let unclear = |cause: String, fix: &str| Refusal { object: format!("pod {}", pod.label()), cause, fix: fix.to_owned() };
        match (self.port, &pod.ports[..]) {
            (Some(port), _) => Ok(port),
            (None, [port]) => Ok(*port),
            (None, []) => Err(unclear("it declares no port".into(), "write `port:`")),
            (None, ports) => Err(unclear(format!("it declares the ports {ports:?}"), "say which with `port:`")),
        }
    }

    fn seat(&self, scene: &Scene, pod: &Pod, before: &Before) -> Seat {
        Seat {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            container: format!("squall-{:08x}", super::scene::seed_of(0, &format!("{}/{}", scene.run, scene.fault)) as u32),
            // Without one the fault was refused before it came to a seat.
            image: admission::image(&scene.cluster, scene.agent_image.as_deref()).unwrap_or_default(),
            port: before.port,
            seed: super::scene::seed_of(scene.seed, &pod.name),
            deadline: scene.deadline,
            probe: before.probe.clone(),
        }
    }

    /// From here on a probe counts as delayed.
    fn slow_ms(&self, probe: &Probe) -> f64 {
        probe.before_ms + DOSE_LEAST * self.least_ms()
    }

    /// What most delays are at least: the lowest of them, and half the mean where that is lower still.
    fn least_ms(&self) -> f64 {
        (self.add.millis() - self.jitter.millis()).max(self.add.millis() / 2.0)
    }
}

/// The fingerprint of how things are before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Before {
    port: u16,
    probe: Option<Probe>,
}

fn ours(container: &str) -> bool {
    container.starts_with("squall-")
}

fn can_take(pod: &Pod) -> bool {
    pod.phase == "Running" && !pod.terminating && pod.ip.is_some()
}

/// Keeps the seats that are taken, and takes those of pods that appear.
struct Keeper {
    spec: Spec,
    scene: Scene,
    before: Before,
    board: watch::Sender<Board>,
    arrivals: Arrivals,
}

/// What came of a pod that was to be delayed from the beginning.
#[derive(PartialEq)]
enum Begun {
    Active,
    /// It was killed or scaled away in the meantime: nothing to delay there any more.
    Gone,
}

impl Keeper {
    /// Takes the seat of a pod and keeps it, from the moment that it is taken: others may take longer than its lease. What came of taking it is
    /// told as soon as it is known.
    fn begin(&self, pod: &Pod, seats: &mut JoinSet<()>, released: Released) -> oneshot::Receiver<Result<Begun, Error>> {
        let seat = self.spec.seat(&self.scene, pod, &self.before);
        let (scene, spec, board, pod) = (self.scene.clone(), self.spec.clone(), self.board.clone(), pod.clone());
        let (tell, told) = oneshot::channel();
        seats.spawn(async move {
            // Nobody listens any more where another seat could not be taken.
            match seat.take(&scene.cluster, &pod, &spec).await {
                Ok(live) => {
                    let _ = tell.send(Ok(Begun::Active));
                    live.keep(scene.cluster.clone(), board, scene.evidence.clone(), released).await;
                }
                Err(_) if seat.is_vacant(&scene.cluster).await => drop(tell.send(Ok(Begun::Gone))),
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        told
    }

    async fn run(mut self, mut seats: JoinSet<()>, mut released: Released) {
        loop {
            let pods = tokio::select! {
                pods = self.arrivals.next() => pods,
                Some(_) = seats.join_next(), if !seats.is_empty() => continue,
                () = released.wait() => break,
            };
            match pods {
                Some(pods) => self.join(pods, &mut seats, &released).await,
                None => break,
            }
        }
        released.wait().await;
        while seats.join_next().await.is_some() {}
    }

    /// Takes the seats of the pods that appeared.
    async fn join(&self, pods: Vec<Pod>, seats: &mut JoinSet<()>, released: &Released) {
        for pod in pods {
            if let Some(refusal) = admission::newcomer(&self.scene.cluster, &pod, self.before.port).await {
                let why = format!("a new pod is not delayed: {refusal}");
                self.scene.evidence.contradicts(Witness::Mechanism, why);
                continue;
            }
            let seat = self.spec.seat(&self.scene, &pod, &self.before);
            let label = pod.label();
            // Write-ahead holds for pods that join, too.
            if let Err(error) = self.scene.journal_more(vec![seat.undo()]).await {
                self.scene.evidence.contradicts(Witness::Mechanism, format!("pod {label} was left out: {error}"));
                continue;
            }
            let (scene, spec, board, mut released) = (self.scene.clone(), self.spec.clone(), self.board.clone(), released.clone());
            seats.spawn(async move {
                let taken = tokio::select! {
                    taken = arrivals::soon(&label, lease::LEASE, &scene.evidence, seat.take(&scene.cluster, &pod, &spec)) => taken,
                    // What was begun ends by its lease.
                    () = released.wait() => return,
                };
                match taken {
                    Ok(live) => live.keep(scene.cluster.clone(), board, scene.evidence.clone(), released).await,
                    Err(_) if seat.is_vacant(&scene.cluster).await => {}
                    Err(error) => {
                        scene.evidence.contradicts(Witness::Mechanism, format!("new pod {label} is not delayed: {error}"))
                    }
                }
            });
        }
    }
}

/// The mechanism's own counters, held against what was asked.
struct Doses {
    asked_ms: f64,
    on: ObjectRef,
}

impl Doses {
    async fn run(self, mut board: watch::Receiver<Board>, evidence: Evidence, mut released: Released) {
        let mut said = false;
        loop {
            tokio::select! {
                changed = board.changed() => if changed.is_err() { return },
                () = released.wait() => break,
            }
            let (chunks, mean) = board.borrow_and_update().dose();
            // What only probes of ours or the kubelet's met is not yet felt by anybody who uses the service.
            if !said && chunks.of_clients > 0 && mean >= DOSE_LEAST * self.asked_ms {
                said = true;
                let seats = board.borrow().seats();
                evidence.supports(
                    Witness::Mechanism,
                    format!(
                        "agents in {seats} pods delayed {} pieces of clients by {mean:.0}ms in the mean, {:.0}ms were asked",
                        chunks.of_clients, self.asked_ms
                    ),
                );
            }
        }
        let (chunks, mean) = board.borrow().dose();
        if !said {
            let what = if chunks.all == 0 {
                format!("no traffic of {} came through the agents", self.on)
            } else if chunks.of_clients == 0 {
                format!("no traffic of clients of {} came through the agents, only probes", self.on)
            } else {
                format!("agents delayed {} pieces by only {mean:.0}ms in the mean, {:.0}ms were asked", chunks.all, self.asked_ms)
            };
            evidence.contradicts(Witness::Mechanism, what);
        }
    }
}

/// The victim's side: a probe along the clients' way, timed from here.
struct Victim {
    cluster: Cluster,
    probe: Probe,
    slow_ms: f64,
}

impl Victim {
    async fn run(self, evidence: Evidence, mut released: Released) {
        let mut took: Vec<f64> = Vec::new();
        let mut said = false;
        loop {
            let ms = tokio::select! {
                ms = self.probe.once(&self.cluster) => ms,
                () = released.wait() => break,
            };
            if let Some(ms) = ms {
                if took.len() == PROBE_WINDOW {
                    took.remove(0);
                }
                took.push(ms);
            }
            let slow = took.iter().filter(|ms| **ms >= self.slow_ms).count();
            // Most of several: one slow answer may be anybody's fault.
            if !said && slow >= 3 && slow * 2 > took.len() {
                said = true;
                let now = median(&mut took.clone());
                evidence.supports(
                    Witness::Victim,
                    format!("{} takes {now:.0}ms (median of {}), {:.0}ms before", self.probe, took.len(), self.probe.before_ms),
                );
            }
            tokio::select! {
                () = tokio::time::sleep(PROBE_EVERY) => {}
                () = released.wait() => break,
            }
        }
        if !said {
            let now = median(&mut took);
            let what = if took.is_empty() { "was never answered".to_owned() } else { format!("takes {now:.0}ms") };
            evidence.contradicts(Witness::Victim, format!("{} {what}, {:.0}ms before", self.probe, self.probe.before_ms));
        }
    }
}

/// How an agent ended.
enum End {
    /// By itself and in good order: it took its entry back.
    Reverted,
    /// Its pod is no more, and everything in it.
    PodGone,
    NeverBegan,
    /// It could not take back what it did.
    Died,
}

/// Waits until an agent has ended.
async fn ended(cluster: &Cluster, seat: &Seat) -> Result<End, Error> {
    // Without its heartbeats it stops within a lease, and connections that were to be left alone may keep it until its deadline; the rest
    // is the cluster's time to tell. Reckoned once: what is left of the deadline shrinks while the waiting grows.
    let left = Duration::try_from(seat.deadline.duration_since(wall_now())).unwrap_or_default();
    let limit = lease::LEASE.max(left.min(DEADLINE_PATIENCE)) + END_MARGIN;
    let began = monotonic_now();
    loop {
        let (mut bound, mut pause) = (limit, LOOK);
        let running = match cluster.pod(&seat.namespace, &seat.pod).await {
            Ok(pod) if pod.uid != seat.uid => return Ok(End::PodGone),
            Ok(pod) if pod.phase == "Succeeded" || pod.phase == "Failed" => return Ok(End::PodGone),
            Ok(pod) => match pod.ephemeral.iter().find(|e| e.name == seat.container).map(|e| e.state.clone()) {
                None => return Ok(End::NeverBegan),
                Some(EphemeralState::Terminated { exit_code: 0, .. }) => return Ok(End::Reverted),
                Some(EphemeralState::Terminated { .. }) => return Ok(End::Died),
                // Nobody has spoken to it, since that is done only once it runs; and it touches nothing before it is spoken to. Should
                // its image come after all, it ends by itself.
                Some(EphemeralState::Waiting { .. }) => return Ok(End::NeverBegan),
                Some(EphemeralState::Running) => "still runs".to_owned(),
            },
            Err(cluster::Error::NotFound { .. }) => return Ok(End::PodGone),
            Err(error) if error.is_passing() => {
                (bound, pause) = (limit.max(AWAY_PATIENCE), error.pause(LOOK));
                format!("is not seen ({error})")
            }
            Err(error) => {
                return Err(Error::NotProven(format!("whether the agent in {} ended is not known: {error}", seat.label())));
            }
        };
        if began.elapsed() >= bound {
            return Err(Error::NotProven(format!(
                "the agent in container {} of pod {} {running}; it ends by itself by {}, and deleting the pod ends it at once",
                seat.container,
                seat.label(),
                seat.deadline
            )));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Waits until the probe is as fast as it was; the time it takes, or what it does instead.
async fn back(cluster: &Cluster, probe: &Probe, slow_ms: f64) -> Result<f64, String> {
    let began = monotonic_now();
    let mut last = None;
    loop {
        match probe.once(cluster).await {
            Some(ms) if ms < slow_ms => return Ok(ms),
            other => last = other.or(last),
        }
        if began.elapsed() >= BACK_TIMEOUT {
            return Err(last.map_or("is not answered".into(), |ms| format!("takes {ms:.0}ms ({:.0}ms before)", probe.before_ms)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn spec(json: Value) -> Result<Spec, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn what_is_not_said_is_safe() {
        let spec = spec(json!({"on": "shop/deployment/payments", "add": "200ms"})).unwrap();
        assert_eq!((spec.existing_connections, spec.new_pods), (ExistingConnections::Reset, NewPods::Join));
        assert!(super::tests::spec(json!({"on": "shop/deployment/payments", "add": "200ms", "ad": 1})).is_err());
    }

    #[test]
    fn what_cannot_be_had_together_is_refused() {
        let check = |json: Value| crate::faults::Fault::contradiction(&spec(json).unwrap());
        let whole = |via: &str, existing: &str| {
            check(json!({"on": "s/deployment/p", "add": "20ms", "jitter": "20ms", "via": via, "existing_connections": existing}))
        };
        assert_eq!((whole("agent", "leave"), whole("chaos-mesh", "reset")), (None, None));
        assert!(whole("chaos-mesh", "leave").unwrap().contains("open connections"));
        assert!(check(json!({"on": "s/deployment/p", "add": "20ms", "jitter": "21ms"})).unwrap().contains("at most 20ms"));
    }

    #[test]
    fn the_port_must_be_clear() {
        let object = |ports: &[u16]| {
            let ports: Vec<Value> = ports.iter().map(|p| json!({"containerPort": p})).collect();
            Pod::read(&json!({"metadata": {"namespace": "s", "name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c", "ports": ports}]}}))
                .unwrap()
        };
        let mut spec = spec(json!({"on": "shop/deployment/payments", "add": "200ms"})).unwrap();
        assert_eq!(spec.port_of(&object(&[8080])).unwrap(), 8080);
        assert!(spec.port_of(&object(&[])).unwrap_err().to_string().contains("`port:`"));
        assert!(spec.port_of(&object(&[80, 81])).unwrap_err().to_string().contains("[80, 81]"));
        spec.port = Some(81);
        assert_eq!(spec.port_of(&object(&[80, 81])).unwrap(), 81);
        assert_eq!(spec.port_of(&object(&[])).unwrap(), 81);
    }
}
