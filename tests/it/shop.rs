//! A place with one small workload in it, a recording and a journal: what the tests of faults and observation share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::{Cluster, Kind as ClusterKind, Pod};
use squall::faults::blast::Permission;
use squall::faults::{Act, Curtain, Journal, Spec, Stage, conduct};
use squall::kinds::Kind;
use squall::recording::fact::{Ending, Event, Fact, FaultStep, RunEnded, RunStarted, SCHEMA};
use squall::recording::{Recording, Sink};
use squall::sandbox::{Sandbox, SandboxConfig};
use squall::time::{Clock, Offset};
use squall::timeline::{FaultSlot, Start};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::place::{Place, namespace};

pub use crate::place::RUN;

/// The run's end, far enough away for every test; a test that is done stops earlier.
const END_S: f64 = 120.0;

pub struct Shop {
    pub place: Place,
    pub cluster: Cluster,
    pub sink: Sink,
    pub journal: Arc<Journal>,
    pub dir: TempDir,
    recording: Recording,
}

impl Shop {
    /// A ready workload `payments` behind a Service, in whatever cluster tests are to use.
    pub async fn open(replicas: u32) -> Shop {
        Shop::at(Place::open().await, replicas).await
    }

    /// `shop/deployment/payments` in a sandbox, for what no other cluster can do.
    pub async fn sandboxed(replicas: u32) -> Shop {
        Shop::with(replicas, |config| config).await
    }

    /// The same in a sandbox of that kind.
    pub async fn with(replicas: u32, adjust: impl FnOnce(SandboxConfig) -> SandboxConfig) -> Shop {
        Shop::at(Place::sandboxed("shop", adjust).await, replicas).await
    }

    async fn at(place: Place, replicas: u32) -> Shop {
        let cluster = place.cluster.clone();
        let dir = tempfile::tempdir().unwrap();
        let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
        let journal = Arc::new(Journal::create(dir.path()).unwrap());
        let shop = Shop { place, cluster, sink, journal, dir, recording };
        let objects = shop.place.apply(shop.manifests(replicas)).await;
        shop.cluster.wait_ready(&objects, Duration::from_secs(60)).await.unwrap();
        shop
    }

    /// The shop's own manifests.
    pub fn manifests(&self, replicas: u32) -> Vec<Value> {
        manifests_in(&self.place.namespace, &self.place.image, replicas)
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.place.sandbox()
    }

    /// Something of the shop, as a plan names it: `deployment/payments`.
    pub fn named(&self, what: &str) -> String {
        format!("{}/{what}", self.place.namespace)
    }

    /// The pods that the workload's selector takes in.
    pub async fn pods(&self) -> Vec<Pod> {
        self.cluster.pods(&self.place.namespace, "app=payments").await.unwrap()
    }

    pub fn stage(&self) -> Stage {
        let is_sandbox = self.cluster.kind() == ClusterKind::Sandbox;
        Stage {
            cluster: self.cluster.clone(),
            sink: self.sink.clone(),
            journal: self.journal.clone(),
            run: RUN.into(),
            seed: 7,
            workload: Some(self.named("deployment/payments").parse().unwrap()),
            permission: if is_sandbox { Permission::Sandbox } else { Permission::Granted },
            agent_image: (!is_sandbox).then(|| self.place.image.clone()),
            end: Offset::from_secs_f64(END_S),
        }
    }

    /// Conducts faults in a task of its own; the sender stops them.
    pub fn conduct(&self, acts: Vec<Act>) -> (tokio::task::JoinHandle<Curtain>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        (tokio::spawn(conduct(self.stage(), acts, stopped)), stop)
    }

    /// Ends the recording and reads it back.
    pub async fn close(self) -> Vec<Fact> {
        let Shop { place, recording, dir, .. } = self;
        recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
        let facts = facts(dir.path());
        place.close().await;
        facts
    }
}

/// Where faults happen in a cluster that a test scripts, for a minute.
pub fn stage_of(cluster: Cluster, sink: Sink, dir: &Path) -> Stage {
    Stage {
        cluster,
        sink,
        journal: Arc::new(Journal::create(dir).unwrap()),
        run: "r".into(),
        seed: 7,
        workload: Some("shop/deployment/payments".parse().unwrap()),
        permission: Permission::Granted,
        agent_image: None,
        end: Offset::from_secs_f64(60.0),
    }
}

/// Hears every event from the moment it is made.
pub struct Listener(tokio::sync::broadcast::Receiver<Arc<Event>>);

impl Listener {
    pub fn of(shop: &Shop) -> Listener {
        Listener(shop.sink.subscribe())
    }

    pub async fn event(&mut self, what: &str, like: impl Fn(&Fact) -> bool) -> Event {
        let mut heard = Vec::new();
        let waiting = async {
            loop {
                let event = self.0.recv().await.expect("the recording lives and keeps up");
                if like(&event.fact) {
                    return (*event).clone();
                }
                if !matches!(event.fact, Fact::Reading(_)) {
                    heard.push(event.fact.clone());
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(40), waiting).await {
            Ok(event) => event,
            Err(_) => panic!("{what} never came; heard: {heard:#?}"),
        }
    }
}

pub fn act(name: &str, at_s: f64, for_s: Option<u64>, kind: &str, spec: Value) -> Act {
    let spec = Spec::read(kind, spec).expect("a known kind").expect("a good spec");
    let slot = FaultSlot {
        fault: name.parse().unwrap(),
        start: Start::At(Offset::from_secs_f64(at_s)),
        length: for_s.map(squall::units::Span::from_secs),
    };
    Act { slot, spec }
}

/// The steps of one fault, in order, without what the evidence says.
pub fn steps(facts: &[Fact], name: &str) -> Vec<&'static str> {
    facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Fault { fault, step } if fault.as_str() == name => Some(match step {
                FaultStep::Targeted { .. } => "targeted",
                FaultStep::Journalled => "journalled",
                FaultStep::Injected => "injected",
                FaultStep::Evidence { supports: true, .. } => "evidence",
                FaultStep::Evidence { supports: false, .. } => "contradiction",
                FaultStep::Effective => "effective",
                FaultStep::Healing => "healing",
                FaultStep::Healed => "healed",
                FaultStep::Failed { .. } => "failed",
            }),
            _ => None,
        })
        .collect()
}

pub fn is_step(fact: &Fact, name: &str, wanted: &FaultStep) -> bool {
    matches!(fact, Fact::Fault { fault, step } if fault.as_str() == name && step == wanted)
}

/// What a recording holds.
pub fn facts(dir: &Path) -> Vec<Fact> {
    let text = std::fs::read_to_string(dir.join("recording.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap_or_else(|e| panic!("{line}: {e}")).fact).collect()
}

/// Those of a shop in the sandbox.
pub fn manifests(replicas: u32) -> Vec<Value> {
    manifests_in("shop", "squall", replicas)
}

fn manifests_in(place: &str, image: &str, replicas: u32) -> Vec<Value> {
    let labels = json!({"app": "payments"});
    vec![
        // Not in order, on purpose: the adapter sorts.
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "payments", "namespace": place},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels, "annotations": {"prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [{
                    "name": "payments", "image": image,
                    "command": ["squall", "workload", "--service-time", "2ms", "--workers", "8"],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1}}]}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "payments", "namespace": place},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]}}),
        namespace(place),
    ]
}

pub fn started() -> RunStarted {
    RunStarted {
        schema: SCHEMA.into(),
        run_id: RUN.into(),
        squall: "0".into(),
        plan: "p".into(),
        claim: "c".into(),
        seed: 7,
        params: Default::default(),
        zero: String::new(),
        target: String::new(),
        workload: None,
        autoscaler: None,
        phases: vec![],
        loads: vec![],
        faults: vec![],
        environment: Default::default(),
    }
}
