//! Goal: a delay comes into the pods of a cluster that is no sandbox, or is refused before anything is touched, with the object, the cause and
//! the way out. How: a scripted server that differs from a healthy one in one thing; and a sandbox behind a gate that says that it is none.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::{Access, Cluster};
use squall::faults::preflight::{Findings, Ground};
use squall::faults::{Fault, Spec, Stage, conduct};
use squall::kinds::Kind;
use squall::recording::Recording;
use squall::recording::fact::{Ending, Fact, FaultStep, RunEnded};
use squall::sandbox::resource::{NAMESPACES, NODES};
use squall::time::Clock;
use tokio::sync::{mpsc, watch};

use crate::command::{Said, Squall};
use crate::gate::{Fate, Gate};
use crate::scripted::{Reply, Scripted, list, not_scripted, status};
use crate::shop::{Listener, Shop, act, is_step, stage_of, started};

const PATIENCE: Duration = Duration::from_secs(120);
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const IMAGE: &str = "registry.example/squall:1";

/// What a scripted cluster has, and how it answers a patch.
#[derive(Clone)]
pub struct Ward {
    pod: Value,
    node: Value,
    labels: Value,
    patch: Option<(u16, &'static str, &'static str)>,
    image: Option<&'static str>,
}

/// One of whom nothing is wrong.
pub fn healthy() -> Ward {
    let pod = json!({"metadata": {"namespace": "shop", "name": "payments-1-a", "uid": "a", "labels": {"app": "payments"},
            "ownerReferences": [{"controller": true, "name": "payments-1", "uid": "r"}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}});
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}});
    Ward { pod, node, labels: json!({}), patch: None, image: Some(IMAGE) }
}

impl Ward {
    /// A server that has this and the workload of it.
    pub fn answer(&self, asked: &crate::scripted::Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path) {
            _ if asked.watches() => {
                let (send, lines) = mpsc::channel(1);
                tokio::spawn(async move { send.closed().await });
                Reply::Stream(lines)
            }
            (_, "/apis/apps/v1/namespaces/shop/deployments/payments") => Reply::Json(
                200,
                json!({"metadata": {"uid": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "payments"}}}}),
            ),
            (_, "/apis/apps/v1/namespaces/shop/replicasets") => list(
                "1",
                vec![
                    json!({"metadata": {"uid": "r", "name": "payments-1", "ownerReferences": [{"controller": true, "uid": "d"}]}}),
                ],
            ),
            ("GET", "/api/v1/namespaces/shop/pods") => list("1", vec![self.pod.clone()]),
            ("GET", "/api/v1/namespaces/shop/pods/payments-1-a") => Reply::Json(200, self.pod.clone()),
            ("GET", "/api/v1/namespaces/shop/services") => list("1", vec![]),
            ("GET", "/api/v1/namespaces/shop") => Reply::Json(200, json!({"metadata": {"name": "shop", "labels": self.labels}})),
            ("GET", "/api/v1/nodes/n1") if self.node.is_null() => status(403, "Forbidden", "nodes \"n1\" is forbidden: no"),
            ("GET", "/api/v1/nodes/n1") => Reply::Json(200, self.node.clone()),
            ("PATCH", _) => match self.patch {
                Some((code, reason, message)) => status(code, reason, message),
                None => Reply::Json(200, self.pod.clone()),
            },
            (_, path) if path.contains("/proxy/") => Reply::Text(200, "ok".into()),
            _ => not_scripted(),
        }
    }

    /// What is found in it; nothing was changed in finding it.
    async fn look(&self) -> Findings {
        self.found(json!({"on": "shop/deployment/payments", "add": "100ms"})).await
    }

    async fn found(&self, spec: Value) -> Findings {
        let ward = self.clone();
        let server = Scripted::start(move |asked| ward.answer(asked)).await;
        let spec = Spec::read("latency", spec).unwrap().unwrap();
        let cluster = server.connect().await;
        let workload = cluster.workload(&"shop/deployment/payments".parse().unwrap()).await.unwrap();
        let ground = Ground { cluster, workload, agent_image: self.image.map(str::to_owned) };
        let fault: &dyn Fault = &*spec;
        let findings = fault.preflight(&ground).await.unwrap();
        for asked in server.asked() {
            assert!(asked.method == "GET" || asked.path.contains("dryRun=All"), "{asked:#?}");
        }
        findings
    }
}

/// One thing is different, and it is refused for that, in these words.
async fn refused(change: impl FnOnce(&mut Ward), object: &str, words: &[&str]) {
    let mut ward = healthy();
    change(&mut ward);
    let findings = ward.look().await;
    let [refusal] = &findings.refusals[..] else { panic!("{words:?}: {findings:#?}") };
    assert_eq!(refusal.object, object, "{refusal}");
    assert!(!refusal.fix.is_empty());
    for word in words {
        assert!(refusal.to_string().contains(word), "`{word}` is not in: {refusal}");
    }
}

fn merged(into: &mut Value, more: Value) {
    json_patch::merge(into, &more);
}

#[tokio::test]
async fn what_would_keep_an_agent_out_is_found_without_touching_anything() {
    let well = healthy().look().await;
    assert!(well.refusals.is_empty() && well.unknown.is_empty() && well.fine.is_some(), "{well:#?}");
    // Whoever may not see nodes is refused nothing for it.
    let unseen = Ward { node: Value::Null, ..healthy() }.look().await;
    assert!(unseen.refusals.is_empty() && unseen.unknown.is_empty() && unseen.fine.is_some(), "{unseen:#?}");

    let pod = "pod shop/payments-1-a";
    refused(|w| w.image = None, "shop/deployment/payments", &["no image is named", "--agent-image", "SQUALL_AGENT_IMAGE"]).await;
    refused(|w| merged(&mut w.pod, json!({"spec": {"hostNetwork": true}})), pod, &["hostNetwork"]).await;
    let os = |os: &str| json!({"metadata": {"labels": {"kubernetes.io/os": os}}});
    refused(|w| merged(&mut w.node, os("windows")), pod, &["node n1 (windows)", "Linux"]).await;
    let compute = json!({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "fargate"}}});
    refused(|w| merged(&mut w.node, compute), pod, &["Fargate (node n1)", "NET_ADMIN"]).await;
    let own = json!({"metadata": {"labels": {"eks.amazonaws.com/fargate-profile": "p"}}});
    refused(
        |w| {
            merged(&mut w.pod, own);
            w.node = Value::Null;
        },
        pod,
        &["Fargate"],
    )
    .await;
    let taint = json!({"spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]}});
    refused(|w| merged(&mut w.node, taint), pod, &["a virtual node of azure"]).await;
    let mesh = json!({"spec": {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}});
    refused(|w| merged(&mut w.pod, mesh), pod, &["istio-proxy", "excludeInboundPorts: \"8080\""]).await;
    let two = json!({"spec": {"containers": [{"name": "web", "ports": [{"containerPort": 80}, {"containerPort": 81}]}]}});
    refused(|w| merged(&mut w.pod, two), pod, &["[80, 81]", "`port:`"]).await;

    // What admission says is said in its own words.
    let security = "pods \"payments-1-a\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities (container \
                    \"squall-dry-run\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)";
    refused(|w| w.patch = Some((403, "Forbidden", security)), pod, &[security, "kubectl label namespace shop", ENFORCE]).await;
    let right = "pods \"payments-1-a\" is forbidden: User \"ann\" cannot patch resource \"pods/ephemeralcontainers\" in API group \"\" in \
                 the namespace \"shop\"";
    refused(|w| w.patch = Some((403, "Forbidden", right)), pod, &[right, "squall rbac"]).await;
    let webhook =
        "admission webhook \"validate.kyverno.svc\" denied the request: policy Pod/shop/payments-1-a: no capabilities here";
    refused(|w| w.patch = Some((400, "BadRequest", webhook)), pod, &[webhook, "squall-*"]).await;

    // A webhook that cannot be tried leaves the labels to look at, and where they say nothing, nothing is known.
    let untried = "admission webhook \"old.example\" does not support dry run";
    let label = |level: &str| json!({ENFORCE: level});
    let labelled = |w: &mut Ward, level: &str| {
        w.patch = Some((400, "BadRequest", untried));
        w.labels = label(level);
    };
    refused(|w| labelled(w, "restricted"), "namespace shop", &["enforce=restricted forbids NET_ADMIN"]).await;
    let mut ward = healthy();
    labelled(&mut ward, "privileged");
    let findings = ward.look().await;
    assert!(findings.refusals.is_empty() && findings.unknown[0].contains(untried), "{findings:#?}");
    // What passes refuses nobody, whatever the label says.
    for (code, reason) in [(500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests")] {
        let mut ward = Ward { patch: Some((code, reason, "failed calling webhook: timeout")), ..healthy() };
        ward.labels = label("restricted");
        let findings = ward.look().await;
        assert!(findings.refusals.is_empty() && findings.unknown[0].contains("failed calling webhook"), "{code}: {findings:#?}");
    }
}

/// Goal: a port that is not declared may be listened on all the same. How: a plan that names one beside those that the pod declares.
#[tokio::test]
async fn a_port_that_pods_do_not_declare_is_only_doubted() {
    let findings = healthy().found(json!({"on": "shop/deployment/payments", "add": "100ms", "port": 9090})).await;
    assert!(findings.refusals.is_empty() && findings.fine.is_some(), "{findings:#?}");
    assert!(findings.unknown[0].contains("port 9090 of pod shop/payments-1-a"), "{findings:#?}");
}

/// Goal: a permission that is missing is named before anything is sent, and not found out by a container that nobody can attach to. How: a server
/// that grants everything but that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_stops_a_run_before_it_begins() {
    let ward = healthy();
    let server = Scripted::start(move |asked| match asked.path.as_str() {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let wanted = &asked.body["spec"]["resourceAttributes"];
            Reply::Json(201, json!({"status": {"allowed": wanted["subresource"] != "attach" || wanted["verb"] != "create"}}))
        }
        _ => ward.answer(asked),
    })
    .await;
    let (said, at) = squall(server.kubeconfig(), RUN, &[("SQUALL_AGENT_IMAGE", IMAGE)]).await;
    said.expect(4).saying("fault slow-payments: create pods/attach in shop: not granted; grant it: `squall rbac`");
    assert!(!said.stderr.contains("list pods"), "what is granted is not missing: {}", said.stderr);
    assert!(!at.path("run/recording.jsonl").exists(), "nothing was sent");
    for asked in server.asked() {
        let trial = asked.path.contains("dryRun=All") || asked.path.ends_with("selfsubjectaccessreviews");
        assert!(asked.method == "GET" || trial, "{asked:#?}");
    }
}

/// Goal: an image that cannot be had is told in the kubelet's words, and is no fault that may be active. How: a pod whose new container waits,
/// and first for a reason that may pass.
#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_told_by_the_kubelet_and_undone() {
    const WORDS: &str = "Back-off pulling image \"registry.example/squall:1\": ErrImagePull: not found";
    let ward = healthy();
    let added: Arc<Mutex<Option<Value>>> = Arc::default();
    let (seen, looks) = (added.clone(), AtomicUsize::new(0));
    let server = Scripted::start(move |asked| {
        if asked.method == "PATCH" && !asked.path.contains("dryRun") {
            *seen.lock().unwrap() = Some(asked.body["spec"]["ephemeralContainers"][0].clone());
        }
        let mut ward = ward.clone();
        if let Some(container) = &*seen.lock().unwrap() {
            let (reason, message) = match looks.fetch_add(1, Ordering::SeqCst) {
                0..3 => ("ErrImagePull", "not found"),
                _ => ("ImagePullBackOff", WORDS),
            };
            let waiting = json!({"waiting": {"reason": reason, "message": message}});
            merged(
                &mut ward.pod,
                json!({"spec": {"ephemeralContainers": [container]},
                "status": {"ephemeralContainerStatuses": [{"name": container["name"], "state": waiting}]}}),
            );
        }
        ward.answer(asked)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
    let stage = Stage { agent_image: Some(IMAGE.into()), ..stage_of(server.connect().await, sink, dir.path()) };
    let slow = act("slow", 0.0, None, "latency", json!({"on": "shop/deployment/payments", "add": "100ms"}));
    let (_stop, stopped) = watch::channel(false);
    let curtain = tokio::time::timeout(PATIENCE, conduct(stage, vec![slow], stopped)).await.unwrap();
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let (_, why) = &curtain.not_injected[0];
    for word in ["payments-1-a", IMAGE, "ImagePullBackOff", WORDS, "it has touched nothing"] {
        assert!(why.contains(word), "`{word}` is not in: {why}");
    }
    let container = added.lock().unwrap().clone().expect("it was asked for");
    assert_eq!((&container["image"], &container["stdinOnce"]), (&IMAGE.into(), &true.into()), "{container:#}");
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
}

/// A sandbox behind a gate at which it takes itself for a real cluster.
async fn real(shop: &Shop) -> Gate {
    let gate = Gate::before(shop.sandbox()).await;
    gate.rule(|came| match came.path.as_str() {
        "/version" => Fate::Answered(200, json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"}).to_string()),
        _ => Fate::Pass,
    });
    gate
}

fn label(shop: &Shop, level: Option<&str>) {
    let change = |namespace: &mut Value| {
        namespace["metadata"]["labels"][ENFORCE] = level.map_or("privileged", |level| level).into();
        Ok(())
    };
    shop.sandbox().store().update(&NAMESPACES, "", "shop", change).expect("the namespace is there");
}

const PLAN: &str = "
plan: slow
claim: A slow service still answers.
cluster: {context: gate}
target: {url: 'http://payments.shop:8080/', workload: shop/deployment/payments}
phases: [{name: all, for: 10s}]
load: [{name: l, rate: 20/s, request: {get: /, timeout: 2s}}]
faults: [{name: slow-payments, at: all + 1s, for: 6s, latency: {on: shop/deployment/payments, add: 150ms}}]
assert: [{name: served, fault: slow-payments, slo: {available: 90%}}]
";

const RUN: &[&str] = &["run", "p.yaml", "--cluster", "current", "--allow-faults", "--out", "run"];

/// The built binary in the cluster of a kubeconfig.
async fn squall(
    kubeconfig: String,
    command: &'static [&'static str],
    more: &'static [(&'static str, &'static str)],
) -> (Said, Squall) {
    tokio::task::spawn_blocking(move || {
        let squall = Squall::new();
        squall.file("p.yaml", PLAN);
        let kubeconfig = squall.file("kubeconfig", &kubeconfig);
        let mut variables: Vec<(&str, &Path)> = vec![("KUBECONFIG", &kubeconfig)];
        variables.extend(more.iter().map(|(name, value)| (*name, Path::new(*value))));
        let said = squall.start_with(command, &variables).wait(PATIENCE);
        (said, squall)
    })
    .await
    .unwrap()
}

/// The patches of ephemeral containers that were no trials.
fn in_earnest(gate: &Gate) -> usize {
    let patches = |came: &&crate::gate::Came| came.path.contains("/ephemeralcontainers") && !came.path.contains("dryRun=All");
    gate.came().iter().filter(patches).count()
}

/// Goal: what a run does in a sandbox it does in a real cluster, by the same calls. How: a sandbox that says that it is none; without an image,
/// where pod security forbids it, and then with all that is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_delays_the_pods_of_a_real_cluster_or_sends_nothing() {
    let shop = Shop::sandboxed(1).await;
    let gate = real(&shop).await;
    let (said, at) = squall(gate.kubeconfig(), RUN, &[]).await;
    said.expect(4).saying("fault slow-payments: shop/deployment/payments: its pods come from images, and no image is named");
    assert!(!at.path("run/recording.jsonl").exists(), "nothing was sent");

    label(&shop, Some("baseline"));
    let (said, at) = squall(gate.kubeconfig(), RUN, &[("SQUALL_AGENT_IMAGE", IMAGE)]).await;
    said.expect(4)
        .saying("violates PodSecurity \"baseline:latest\": non-default capabilities")
        .saying("kubectl label namespace shop");
    assert!(!at.path("run/recording.jsonl").exists(), "nothing was sent");
    assert_eq!(in_earnest(&gate), 0);

    label(&shop, None);
    let (said, at) = squall(gate.kubeconfig(), RUN, &[("SQUALL_AGENT_IMAGE", IMAGE)]).await;
    said.found_nothing_wrong();
    let recording = std::fs::read_to_string(at.path("run/recording.jsonl")).unwrap();
    for step in ["effective", "healed"] {
        assert!(recording.contains(&format!("\"step\":\"{step}\"")), "{step} is not in {recording}");
    }
    let pods = shop.sandbox().store().list(&squall::sandbox::resource::PODS, Some("shop")).0;
    let containers: Vec<&Value> =
        pods.iter().flat_map(|pod| pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten()).collect();
    assert!(containers.len() == 1 && containers[0]["image"] == IMAGE, "{containers:#?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tries_the_agent_and_leaves_nothing() {
    let shop = Shop::sandboxed(2).await;
    let gate = real(&shop).await;
    let (said, _) = squall(gate.kubeconfig(), &["doctor", "p.yaml", "--agent-image", IMAGE], &[]).await;
    said.expect(0).saying("2 pods of shop/deployment/payments would take an agent in");
    let (said, _) = squall(gate.kubeconfig(), &["doctor", "p.yaml"], &[]).await;
    said.expect(4).saying("WRONG: admission").saying("no image is named");
    label(&shop, Some("restricted"));
    let (said, _) = squall(gate.kubeconfig(), &["doctor", "p.yaml", "--agent-image", IMAGE, "--json"], &[]).await;
    let data: Value = serde_json::from_str(&said.expect(4).stdout).unwrap();
    let checks = data["checks"].as_array().unwrap();
    let wrong: Vec<&Value> = checks.iter().filter(|check| check["state"] == "wrong").collect();
    let [wrong] = &wrong[..] else { panic!("{data:#}") };
    assert_eq!(wrong["check"], "admission");
    assert!(wrong["object"].as_str().unwrap().ends_with(", and 1 more of shop/deployment/payments"), "{wrong:#}");
    let cause = wrong["cause"].as_str().unwrap();
    assert!(cause.contains("violates PodSecurity \"restricted:latest\"") && cause.contains("NET_ADMIN"), "{cause}");
    assert_eq!(in_earnest(&gate), 0);
    let pods = shop.cluster.pods("shop", "app=payments").await.unwrap();
    assert!(pods.iter().all(|pod| pod.ephemeral.is_empty()), "{pods:#?}");
    shop.close().await;
}

/// Goal: what appears under a delay and could not carry an agent gets none, and that counts against the fault. How: the one node turns virtual
/// before a pod is added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_appears_where_no_agent_works_is_left_alone_and_said_so() {
    let shop = Shop::sandboxed(1).await;
    let mut listener = Listener::of(&shop);
    let spec = json!({"on": "shop/deployment/payments", "add": "50ms"});
    let (conducted, stop) = shop.conduct(vec![act("slow", 0.0, None, "latency", spec)]);
    listener.event("the injection", |fact| is_step(fact, "slow", &FaultStep::Injected)).await;
    let turn = |node: &mut Value| {
        node["metadata"]["labels"]["type"] = "virtual-kubelet".into();
        Ok(())
    };
    shop.sandbox().store().update(&NODES, "", "sandbox", turn).expect("the node is there");
    shop.cluster.scale(&"shop/deployment/payments".parse().unwrap(), 2).await.unwrap();
    let against = |fact: &Fact| matches!(fact, Fact::Fault { step: FaultStep::Evidence { supports: false, says, .. }, .. } if says.contains("a virtual node"));
    listener.event("a witness against it", against).await;
    stop.send_replace(true);
    let curtain = tokio::time::timeout(PATIENCE, conducted).await.unwrap().unwrap();
    assert!(curtain.all_healed(), "{curtain:?}");
    let pods = shop.cluster.pods("shop", "app=payments").await.unwrap();
    assert_eq!(pods.iter().filter(|pod| !pod.ephemeral.is_empty()).count(), 1, "{pods:#?}");
    shop.close().await;
}

/// Goal: a namespace's pod security holds for the pods of its controllers, too. How: a workload grows, and cannot until the label is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_makes_no_pod_that_a_namespace_forbids() {
    let shop = Shop::sandboxed(1).await;
    label(&shop, Some("restricted"));
    let payments = "shop/deployment/payments".parse().unwrap();
    shop.cluster.scale(&payments, 2).await.unwrap();
    let told = async {
        loop {
            let (events, _) = shop.sandbox().store().list(&squall::sandbox::resource::EVENTS, Some("shop"));
            if let Some(event) = events.iter().find(|event| event["reason"] == "FailedCreate") {
                return event.to_string();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let event = tokio::time::timeout(PATIENCE, told).await.expect("it is told");
    for word in
        ["is forbidden: violates PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false", "seccompProfile"]
    {
        assert!(event.contains(word), "`{word}` is not in {event}");
    }
    assert_eq!(shop.cluster.pods("shop", "app=payments").await.unwrap().len(), 1);
    label(&shop, None);
    let grown = async {
        while shop.cluster.pods("shop", "app=payments").await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, grown).await.expect("it grows once it may");
    shop.close().await;
}

/// A sandbox that is spoken to as one needs no image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_needs_no_image_and_a_real_cluster_does() {
    let shop = Shop::sandboxed(1).await;
    let gate = real(&shop).await;
    let spec = Spec::read("latency", json!({"on": "shop/deployment/payments", "add": "100ms"})).unwrap().unwrap();
    let fault: &dyn Fault = &*spec;
    for (access, refusals) in [(shop.sandbox().kubeconfig().to_owned(), 0), (gate.kubeconfig(), 1)] {
        let cluster = Cluster::connect(Access::Kubeconfig(access)).await.unwrap();
        let workload = cluster.workload(&"shop/deployment/payments".parse().unwrap()).await.unwrap();
        let findings = fault.preflight(&Ground { cluster, workload, agent_image: None }).await.unwrap();
        assert_eq!(findings.refusals.len(), refusals, "{findings:#?}");
    }
    shop.close().await;
}
