//! One pod's agent: put there, spoken to, listened to. A seat is what the journal keeps of it; a taken one is alive.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{ExistingConnections, Probe, Spec};
use crate::cluster::attach::Attached;
use crate::cluster::pod::{EphemeralState, LogOf, Really};
use crate::cluster::{Cluster, Pod};
use crate::faults::agent::evidence::{Counters, Line};
use crate::faults::evidence::{Evidence, Witness};
use crate::faults::hold::Released;
use crate::faults::{Error, Undo, lease};
use crate::time::monotonic_now;

/// How long an agent's container may take to run, image included.
const START_TIMEOUT: Duration = Duration::from_secs(45);
/// Why a container waits that will not start by being waited for: its image cannot be had, or it cannot be made.
const HOPELESS: [&str; 8] = [
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
];
/// How long a running agent may take to say that it is active.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(8);
/// Between looks at a container that starts.
const LOOK: Duration = Duration::from_millis(75);
/// How long the agent may take to say that it has reverted; what it does not say, its container's end does.
const REVERT_TIMEOUT: Duration = Duration::from_secs(3);

/// An agent's place in a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
    pub image: String,
    pub port: u16,
    pub seed: u64,
    pub deadline: jiff::Timestamp,
    /// The way to prove that it is as before.
    pub probe: Option<Probe>,
}

/// An agent that is active, and the line to it.
pub(super) struct Taken {
    seat: Seat,
    line: Attached,
}

/// What the agents counted, by the uid of their pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(BTreeMap<String, Counters>);

/// Delayed pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    pub all: u64,
    /// Without those of probes.
    pub of_clients: u64,
}

impl Board {
    /// Delayed pieces, and the mean of their delays in milliseconds.
    pub fn dose(&self) -> (Pieces, f64) {
        let all: u64 = self.0.values().map(|c| c.chunks).sum();
        let of_clients = self.0.values().map(Counters::of_clients).sum();
        let weighted: f64 = self.0.values().map(|c| c.delay_ms_mean * c.chunks as f64).sum();
        (Pieces { all, of_clients }, if all == 0 { 0.0 } else { weighted / all as f64 })
    }

    /// Agents that delayed clients.
    pub fn seats(&self) -> usize {
        self.0.values().filter(|c| c.of_clients() > 0).count()
    }
}

impl Seat {
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.pod)
    }

    /// What the journal must hold before this seat is taken.
    pub fn undo(&self) -> Undo {
        Undo {
            says: format!(
                "the agent in container {} of pod {} stops delaying by itself {}s after this process, and is gone by {} at the latest; deleting the pod ends it at once",
                self.container,
                self.label(),
                lease::LEASE.as_secs(),
                self.deadline
            ),
            detail: json!(self),
        }
    }

    /// Whether the pod is gone or going, so that there is nothing to be disturbed.
    pub async fn is_vacant(&self, cluster: &Cluster) -> bool {
        match cluster.pod(&self.namespace, &self.pod).await {
            Ok(pod) => pod.uid != self.uid || pod.terminating,
            Err(error) => error.is_not_found(),
        }
    }

    /// Puts the agent there, attaches to it, and returns when it says that traffic comes its way.
    pub async fn take(&self, cluster: &Cluster, pod: &Pod, spec: &Spec) -> Result<Taken, Error> {
        cluster.add_ephemeral_container(pod, self.container(spec), Really::Yes).await?;
        self.wait_running(cluster).await?;
        let mut line = cluster.attach(pod, &self.container).await?;
        let patience = monotonic_now() + ACTIVE_TIMEOUT;
        let mut beat = tokio::time::interval(lease::HEARTBEAT);
        loop {
            tokio::select! {
                // It touches nothing before the first one.
                _ = beat.tick() => if let Err(error) = line.say("beat").await {
                    return Err(self.failed(cluster, &format!("it does not listen: {error}")).await);
                },
                heard = line.hear() => match heard.map(|text| serde_json::from_str::<Line>(&text)) {
                    // It counts only while it is active.
                    Some(Ok(Line::Active { .. } | Line::Evidence(_))) => break,
                    Some(Ok(Line::Reverted { reason, .. })) => {
                        return Err(self.failed(cluster, &format!("it reverted at once: {reason}")).await);
                    }
                    // Anything else, a torn line among it, is not what is waited for.
                    Some(_) => {}
                    None => return Err(self.failed(cluster, "it ended").await),
                },
                () = tokio::time::sleep_until(patience.into()) => {
                    return Err(self.failed(cluster, &format!("it was not active within {}s", ACTIVE_TIMEOUT.as_secs())).await);
                }
            }
        }
        Ok(Taken { seat: self.clone(), line })
    }

    async fn wait_running(&self, cluster: &Cluster) -> Result<(), Error> {
        let began = monotonic_now();
        loop {
            let (why, pause) = match cluster.pod(&self.namespace, &self.pod).await {
                Ok(pod) if pod.uid != self.uid => return Err(Error::Failed(format!("pod {} was replaced", self.label()))),
                Ok(pod) => match pod.ephemeral.iter().find(|e| e.name == self.container).map(|e| &e.state) {
                    Some(EphemeralState::Running) => return Ok(()),
                    Some(EphemeralState::Terminated { exit_code, reason, .. }) => {
                        return Err(self.failed(cluster, &format!("it ended at once ({reason}, exit code {exit_code})")).await);
                    }
                    Some(EphemeralState::Waiting { reason, message }) if !reason.is_empty() => {
                        let says = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
                        if HOPELESS.contains(&reason.as_str()) {
                            return Err(self.not_started(&says));
                        }
                        (says, LOOK)
                    }
                    Some(EphemeralState::Waiting { .. }) | None => ("the kubelet has not started it".into(), LOOK),
                },
                // It is there already: a look that fails is no reason to leave it alone without its heartbeats.
                Err(error) if error.is_passing() => (error.to_string(), error.pause(LOOK)),
                Err(error) => return Err(error.into()),
            };
            if began.elapsed() >= START_TIMEOUT {
                return Err(self.not_started(&format!("not within {}s: {why}", START_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// An error with the kubelet's words.
    fn not_started(&self, says: &str) -> Error {
        Error::Failed(format!(
            "the agent did not start in pod {} (image {}): {says}; it has touched nothing, and should its image come after all, it ends \
             by itself",
            self.label(),
            self.image
        ))
    }

    /// An error with the agent's own last words: from its log, or, where that may not be read, as the kubelet repeats them.
    async fn failed(&self, cluster: &Cluster, why: &str) -> Error {
        let log = cluster.log(&self.namespace, &self.pod, &self.container, 3, LogOf::Current).await.unwrap_or_default();
        let mut words = log.trim().replace('\n', " / ");
        if words.is_empty()
            && let Ok(pod) = cluster.pod(&self.namespace, &self.pod).await
            && let Some(EphemeralState::Terminated { message, .. }) =
                pod.ephemeral.into_iter().find(|e| e.name == self.container).map(|e| e.state)
        {
            words = message.trim().replace('\n', " / ");
        }
        Error::Failed(format!(
            "the agent in pod {} did not begin: {why}{}",
            self.label(),
            if words.is_empty() { String::new() } else { format!("; its last words: {words}") }
        ))
    }

    /// The container that carries it.
    pub fn container(&self, spec: &Spec) -> Value {
        let existing = match spec.existing_connections {
            ExistingConnections::Reset => "reset",
            ExistingConnections::Leave => "leave",
        };
        json!({
            "name": self.container,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["squall", "agent", "latency",
                "--port", self.port.to_string(),
                "--add", spec.add.to_string(),
                "--jitter", spec.jitter.to_string(),
                "--seed", self.seed.to_string(),
                "--deadline", self.deadline.to_string(),
                "--lease", format!("{}s", lease::LEASE.as_secs()),
                "--existing", existing,
                "--name", self.container],
            // Once: when the harness goes, the input ends, and the agent with it.
            "stdin": true,
            "stdinOnce": true,
            // The address that its proxy listens on.
            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            // Whoever may not read its log still sees how it ended.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}, "runAsUser": 0, "runAsNonRoot": false, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "seccompProfile": {"type": "RuntimeDefault"},
            },
        })
    }
}

impl Taken {
    /// Keeps the agent's lease alive and its counters on the board, until released or until its pod is gone.
    pub async fn keep(mut self, cluster: Cluster, board: watch::Sender<Board>, evidence: Evidence, mut released: Released) {
        let mut beat = tokio::time::interval(lease::HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                _ = beat.tick() => {
                    // A connection that takes nothing in for a whole lease is dead.
                    match tokio::time::timeout(lease::LEASE, self.line.say("beat")).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => break error.to_string(),
                        Err(_) => break "the connection is stuck".into(),
                    }
                }
                heard = self.line.hear() => match heard {
                    None => break "its connection was closed".to_owned(),
                    Some(text) => if let Some(reason) = self.note(&text, &board) { break reason },
                },
                () = released.wait() => {
                    self.let_go(&board).await;
                    return;
                }
            }
        };
        // A pod that is killed or scaled away takes its agent with it, and that is no failure of the fault.
        if !self.seat.is_vacant(&cluster).await {
            evidence.contradicts(Witness::Mechanism, format!("the agent in pod {} ended early: {ended}", self.seat.label()));
        }
    }

    async fn let_go(&mut self, board: &watch::Sender<Board>) {
        self.line.close_input().await;
        let last_words = async {
            while let Some(text) = self.line.hear().await {
                if self.note(&text, board).is_some() {
                    return;
                }
            }
        };
        if tokio::time::timeout(REVERT_TIMEOUT, last_words).await.is_err() {
            tracing::debug!(pod = %self.seat.label(), "the agent did not say that it reverted; its container's end will tell");
        }
    }

    /// Takes a line in; why the agent ended, when it says so.
    fn note(&self, text: &str, board: &watch::Sender<Board>) -> Option<String> {
        match serde_json::from_str::<Line>(text) {
            Ok(Line::Evidence(counters)) => {
                board.send_modify(|board| {
                    board.0.insert(self.seat.uid.clone(), counters);
                });
                None
            }
            Ok(Line::Reverted { reason, counters, .. }) => {
                board.send_modify(|board| {
                    board.0.insert(self.seat.uid.clone(), counters);
                });
                Some(reason)
            }
            Ok(_) | Err(_) => None,
        }
    }
}
