//! Goal: the sandbox behaves as a cluster: what is declared runs, is balanced, scaled, replaced and ended, and nothing outlives it.
//! How: real sandboxes side by side, objects made through their API, pods that are small Python servers, waits on conditions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::{Value, json};
use squall::sandbox::resource::{CONFIGMAPS, DEPLOYMENTS, ENDPOINTSLICES, EVENTS, HPAS, PODS, REPLICASETS, Resource, SERVICES};
use squall::sandbox::store::Change;
use squall::sandbox::{Sandbox, SandboxConfig, cleanup};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::command::wait_until;

/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Answers with its pod's name; `/metrics` shows what the file $GAUGE holds.
const SERVER: &str = "
import http.server, os, socketserver
class S(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = os.environ['POD_NAME'].encode()
        if self.path == '/metrics':
            body = b'# TYPE load gauge\\nload ' + open(os.environ['GAUGE'], 'rb').read() + b'\\n'
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): print('asked', self.path, flush=True)
class T(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
T((os.environ['POD_IP'], 8080), S).serve_forever()
";

/// Who asks.
pub enum Who {
    /// Whoever has the sandbox's token.
    Owner,
    Nobody,
}

pub struct World {
    pub sandbox: Sandbox,
    http: reqwest::Client,
    token: String,
}

impl World {
    pub async fn start() -> World {
        World::with(SandboxConfig { autoscaler_sync: Duration::from_millis(300), ..SandboxConfig::default() }).await
    }

    /// One whose node takes no pods: all stay pending, which is enough where only objects count.
    pub async fn without_room() -> World {
        World::with(SandboxConfig { pods_max: 0, ..SandboxConfig::default() }).await
    }

    pub async fn with(config: SandboxConfig) -> World {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = SandboxConfig { crash_backoff: Duration::from_millis(300), ..config };
        let sandbox = Sandbox::start(config).await.unwrap();
        let field = |name: &str| {
            let text = sandbox.kubeconfig();
            let from = text.find(name).unwrap() + name.len();
            text[from..].lines().next().unwrap().trim().to_owned()
        };
        let (token, authority) = (field("token:"), field("certificate-authority-data:"));
        let pem = base64(&authority);
        let http = reqwest::Client::builder()
            .add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        World { sandbox, http, token }
    }

    pub async fn ask(&self, method: reqwest::Method, path: &str, kind: &str, body: Value) -> Value {
        let (status, answer) = self.answer(method, path, kind, body).await;
        assert!((200..300).contains(&status), "{path}: {status}: {answer}");
        answer
    }

    /// The status of an answer, too, whatever it is.
    pub async fn answer(&self, method: reqwest::Method, path: &str, kind: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.sandbox.api_url());
        let request = self.http.request(method, url).bearer_auth(&self.token).header("content-type", kind);
        let response = request.body(body.to_string()).send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A request as yet without a body; with the token, or as somebody who shows nothing.
    pub fn request(&self, method: reqwest::Method, path: &str, who: Who) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.sandbox.api_url()));
        match who {
            Who::Owner => request.bearer_auth(&self.token),
            Who::Nobody => request,
        }
    }

    pub async fn create(&self, resource: &'static Resource, object: Value) -> Value {
        let group = if resource.group.is_empty() { "api".into() } else { format!("apis/{}", resource.group) };
        let path = format!("/{group}/{}/namespaces/default/{}", resource.version, resource.plural);
        self.ask(reqwest::Method::POST, &path, "application/json", object).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Value {
        self.ask(reqwest::Method::PATCH, path, "application/merge-patch+json", patch).await
    }

    pub async fn delete(&self, path: &str, grace_s: Option<i64>) {
        self.delete_as(path, json!({"gracePeriodSeconds": grace_s})).await;
    }

    pub async fn delete_as(&self, path: &str, mut options: Value) {
        (options["apiVersion"], options["kind"]) = (json!("v1"), json!("DeleteOptions"));
        self.ask(reqwest::Method::DELETE, path, "application/json", options).await;
    }

    pub async fn log(&self, pod: &str, query: &str) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/log{query}");
        match self.ask(reqwest::Method::GET, &path, "application/json", Value::Null).await {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// What a pod has said, once it has said something: it may be ready before that.
    pub async fn said(&self, pod: &str) -> String {
        let said = async {
            loop {
                let log = self.log(pod, "").await;
                if !log.is_empty() {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), said).await.unwrap_or_else(|_| panic!("{pod} says nothing"))
    }

    pub fn all(&self, resource: &'static Resource) -> Vec<Arc<Value>> {
        self.sandbox.store().list(resource, Some("default")).0
    }

    pub fn get(&self, resource: &'static Resource, name: &str) -> Option<Arc<Value>> {
        self.sandbox.store().get(resource, "default", name)
    }

    /// Everything that happened to the objects of a kind since `from`.
    pub async fn history(&self, resource: &'static Resource, from: u64) -> Vec<Change> {
        let mut watch =
            self.sandbox.store().watch(resource, Some("default"), Some(from)).expect("history reaches back to the test");
        let mut changes = vec![];
        while watch.caught_up().is_none() {
            changes.push(watch.next().await.expect("history is still there"));
        }
        changes
    }

    /// Waits until `found` finds something, looking again whenever an object of `resource` changes.
    #[track_caller]
    pub fn wait<T>(
        &self,
        resource: &'static Resource,
        what: &str,
        mut found: impl FnMut(&World) -> Option<T>,
    ) -> impl Future<Output = T> {
        let what = what.to_owned();
        async move {
            let mut changes = self.sandbox.store().watch(resource, None, None).unwrap();
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(found) = found(self) {
                    return found;
                }
                let change = tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), changes.next()).await;
                assert!(
                    change.is_ok(),
                    "{what} did not happen; {} are:\n{:#?}\nevents: {:#?}",
                    resource.plural,
                    self.all(resource),
                    self.events()
                );
            }
        }
    }

    pub async fn ready_pods(&self, count: usize) -> Vec<String> {
        self.wait(&PODS, &format!("{count} ready pods"), |w| {
            let all = w.all(&PODS);
            let ready: Vec<String> = all.iter().filter(|pod| is_ready(pod)).map(|pod| name(pod)).collect();
            (ready.len() == count && all.len() == count).then_some(ready)
        })
        .await
    }

    pub fn events(&self) -> Vec<String> {
        let line = |e: &Arc<Value>| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text(&e["involvedObject"]["kind"]), text(&e["reason"]), text(&e["message"]))
        };
        self.all(&EVENTS).iter().map(line).collect()
    }

    /// The address of the service `web`, once somebody listens there.
    pub async fn service(&self) -> SocketAddr {
        let service = self.get(&SERVICES, "web").unwrap();
        let ip = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        let address = SocketAddr::new(ip, 8080);
        let deadline = Instant::now() + PATIENCE;
        while ask_pod(address).await.is_none() {
            assert!(Instant::now() < deadline, "nobody listens on {address}");
            tokio::task::yield_now().await;
        }
        address
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<u8> = text.bytes().filter(|c| *c != b'=').collect();
    let groups = bits.chunks(4).map(|g| g.iter().fold((0u32, 0), |(n, k), c| (n << 6 | u32::from(value(*c)), k + 6)));
    groups.flat_map(|(n, k)| (0..k / 8).map(move |i| (n >> (k - 8 * (i + 1))) as u8)).collect()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// One request on a connection of its own: the pod that answered.
async fn ask_pod(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).filter(|body| !body.is_empty())
}

fn server(replicas: i64) -> Value {
    deployment(
        replicas,
        json!({
            "name": "web", "image": "none", "command": ["python3", "-c", SERVER], "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            "env": [{"name": "GAUGE", "value": "/dev/null"}],
        }),
    )
}

fn deployment(replicas: i64, container: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]}}},
    })
}

fn web_service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": "http"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_ready_pods_behind_a_balanced_address_and_nothing_is_left_after() {
    let begun = Instant::now();
    let world = World::start().await;
    world.create(&SERVICES, web_service()).await;
    world.create(&DEPLOYMENTS, server(3)).await;
    world.wait(&PODS, "the first ready pod", |w| w.all(&PODS).iter().any(|p| is_ready(p)).then_some(())).await;
    let first = begun.elapsed();
    world.ready_pods(3).await;
    let address = world.service().await;
    world
        .wait(&ENDPOINTSLICES, "three endpoints", |w| {
            let slices = w.all(&ENDPOINTSLICES);
            let ready = |e: &&Value| e["conditions"]["ready"] == true;
            let endpoints = slices.iter().flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
            (endpoints.filter(ready).count() == 3).then_some(())
        })
        .await;
    // 60 fair choices among 3 leave one of them out with a probability of 3 * (2/3)^60 < 1e-10.
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..60 {
        *seen.entry(ask_pod(address).await.expect("an answer")).or_default() += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let pod = world.all(&PODS)[0].clone();
    assert!(world.log(&name(&pod), "?tailLines=1").await.starts_with("asked /"));
    let conditions: Vec<&str> =
        pod["status"]["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(conditions, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
    let events = world.events();
    for wanted in [
        "Pod Scheduled: Successfully assigned default/web-",
        "Pod Started: Container started",
        "ReplicaSet SuccessfulCreate: Created pod: web-",
        "Deployment ScalingReplicaSet: Scaled up replica set web-",
    ] {
        assert!(events.iter().any(|e| e.starts_with(wanted)), "{wanted} in {events:#?}");
    }

    let (id, dir, api) = (world.sandbox.id().to_owned(), world.sandbox.dir().to_owned(), world.sandbox.api_url());
    assert_eq!(world.sandbox.processes(), 3);
    world.sandbox.stop().await;
    assert!(!dir.exists());
    assert_eq!(cleanup::sweep(&cleanup::Scope::One { id, dir }), vec![]);
    let host: SocketAddr = api.strip_prefix("https://").unwrap().parse().unwrap();
    assert!(TcpStream::connect(host).await.is_err() && TcpStream::connect(address).await.is_err());
    println!("start to first ready pod: {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_replaces_every_pod_without_a_failed_request() {
    let world = World::start().await;
    world.create(&SERVICES, web_service()).await;
    world.create(&DEPLOYMENTS, server(3)).await;
    let before = world.ready_pods(3).await;
    let address = world.service().await;
    world.merge(WEB, json!({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}})).await;
    let (mut asked, mut failed) = (0, 0);
    let deployment = {
        let finished = world.wait(&DEPLOYMENTS, "the rollout", |w| {
            let d = w.get(&DEPLOYMENTS, "web").unwrap();
            let s = &d["status"];
            let done = s["observedGeneration"] == d["metadata"]["generation"] && s["updatedReplicas"] == 3 && s["replicas"] == 3;
            (done && s["availableReplicas"] == 3).then_some(d)
        });
        let mut finished = std::pin::pin!(finished);
        loop {
            tokio::select! {
                done = &mut finished => break done,
                answer = ask_pod(address) => {
                    asked += 1;
                    // A server that dies in the middle of an answer is the server's affair; there are few of those.
                    failed += u32::from(answer.is_none());
                }
            }
        }
    };
    let after = world.ready_pods(3).await;
    assert!(before.iter().all(|pod| !after.contains(pod)));
    assert!(asked > 10 && failed <= 3, "{failed} of {asked} failed");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    let progress = deployment["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Progressing").unwrap();
    assert_eq!(progress["reason"], "NewReplicaSetAvailable");
    assert_eq!(world.all(&REPLICASETS).len(), 2);
    world.sandbox.stop().await;
}

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_for_an_owner_that_is_gone_goes_too() {
    // How: owners deleted in the middle of making 30 pods, again and again; and objects that name an owner that never was.
    let world = World::without_room().await;
    for i in 0..10 {
        let (name, labels) = (format!("web-{i}"), json!({"app": format!("web-{i}")}));
        let mut many = deployment(30, json!({"name": "c", "image": "i", "command": ["sleep", "600"]}));
        many["metadata"]["name"] = json!(name);
        many["spec"]["selector"]["matchLabels"] = labels.clone();
        many["spec"]["template"]["metadata"]["labels"] = labels.clone();
        world.create(&DEPLOYMENTS, many).await;
        let made = |w: &World| w.all(&PODS).iter().any(|pod| pod["metadata"]["labels"]["app"] == labels["app"]).then_some(());
        world.wait(&PODS, "a first pod", made).await;
        world.delete(&format!("/apis/apps/v1/namespaces/default/deployments/{name}"), None).await;
    }
    let of_nobody =
        |kind: &str, api: &str| json!([{"apiVersion": api, "kind": kind, "name": "gone", "uid": "of-nobody", "controller": true}]);
    let pod = json!({"metadata": {"name": "late", "ownerReferences": of_nobody("ReplicaSet", "apps/v1")},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.create(&PODS, pod).await;
    let map = json!({"metadata": {"name": "late", "ownerReferences": of_nobody("Deployment", "apps/v1")}});
    world.create(&CONFIGMAPS, map).await;
    for resource in [&REPLICASETS, &PODS, &CONFIGMAPS] {
        world.wait(resource, "the end of all that is owned", |w| w.all(resource).is_empty().then_some(())).await;
    }
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_adopted_and_a_relabelled_pod_is_let_go_and_replaced() {
    let world = World::without_room().await;
    let web = || deployment(2, json!({"name": "c", "image": "i", "command": ["sleep", "600"]}));
    let settled = |w: &World| {
        let deployment = w.get(&DEPLOYMENTS, "web")?;
        (deployment["status"]["updatedReplicas"] == 2 && w.all(&PODS).len() == 2).then_some(())
    };
    world.create(&DEPLOYMENTS, web()).await;
    world.wait(&DEPLOYMENTS, "two pods", settled).await;
    let pods = |w: &World| w.all(&PODS).iter().map(|pod| name(pod)).collect::<Vec<_>>();
    let before = pods(&world);
    world.delete_as(WEB, json!({"propagationPolicy": "Orphan"})).await;
    world.wait(&DEPLOYMENTS, "the end of the owner", |w| w.all(&DEPLOYMENTS).is_empty().then_some(())).await;
    assert!(world.all(&REPLICASETS)[0]["metadata"]["ownerReferences"].is_null());
    world.create(&DEPLOYMENTS, web()).await;
    world.wait(&DEPLOYMENTS, "the adopted pods", settled).await;
    assert_eq!((world.all(&REPLICASETS).len(), pods(&world)), (1, before.clone()));

    let pod = format!("/api/v1/namespaces/default/pods/{}", before[0]);
    world.merge(&pod, json!({"metadata": {"labels": {"app": "debug"}}})).await;
    world.wait(&PODS, "a replacement", |w| (w.all(&PODS).len() == 3).then_some(())).await;
    assert!(world.get(&PODS, &before[0]).unwrap()["metadata"]["ownerReferences"].is_null());
    world.merge(&pod, json!({"metadata": {"labels": {"app": "web"}}})).await;
    world.wait(&PODS, "two pods again", |w| (w.all(&PODS).len() == 2).then_some(())).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_waits_for_all_that_is_owned() {
    let world = World::without_room().await;
    world.create(&DEPLOYMENTS, deployment(2, json!({"name": "c", "image": "i", "command": ["sleep", "600"]}))).await;
    world.wait(&PODS, "two pods", |w| (w.all(&PODS).len() == 2).then_some(())).await;
    let held = format!("/api/v1/namespaces/default/pods/{}", name(&world.all(&PODS)[0]));
    world.merge(&held, json!({"metadata": {"finalizers": ["test.squall.dev/hold"]}})).await;
    world.delete_as(WEB, json!({"propagationPolicy": "Foreground"})).await;
    world.wait(&PODS, "one pod to go", |w| (w.all(&PODS).len() == 1).then_some(())).await;
    for resource in [&DEPLOYMENTS, &REPLICASETS] {
        let waits = world.all(resource);
        assert_eq!(waits[0]["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{waits:#?}");
    }
    world.merge(&held, json!({"metadata": {"finalizers": null}})).await;
    world.wait(&DEPLOYMENTS, "the end", |w| w.all(&DEPLOYMENTS).is_empty().then_some(())).await;
    assert!(world.all(&REPLICASETS).is_empty() && world.all(&PODS).is_empty());
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_spares_what_another_owner_keeps() {
    let world = World::without_room().await;
    let config = |name: &str, owners: Value| json!({"metadata": {"name": name, "ownerReferences": owners}});
    let mut owners = vec![];
    for name in ["one", "other"] {
        let made = world.create(&CONFIGMAPS, config(name, json!([]))).await;
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]}));
    }
    let shared = world.create(&CONFIGMAPS, config("shared", json!(owners))).await;
    world.create(&CONFIGMAPS, config("own", json!([owners[0]]))).await;
    world.delete_as("/api/v1/namespaces/default/configmaps/one", json!({"propagationPolicy": "Foreground"})).await;
    world.wait(&CONFIGMAPS, "the owner's end", |w| w.get(&CONFIGMAPS, "one").is_none().then_some(())).await;
    assert!(world.get(&CONFIGMAPS, "own").is_none());
    let spared = world.get(&CONFIGMAPS, "shared").expect("its other owner lives");
    assert_eq!(spared["metadata"]["uid"], shared["metadata"]["uid"]);
    assert!(spared["metadata"]["deletionTimestamp"].is_null(), "{spared:#}");
    assert_eq!(spared["metadata"]["ownerReferences"], json!([owners[1]]));
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_to_a_revision_that_is_broken_is_late_again() {
    let world = World::start().await;
    let sleep = |port: Value| json!({"name": "c", "image": "i", "command": ["sleep", "600"], "readinessProbe": port});
    // Nothing listens on port 1.
    let (good, broken) = (sleep(Value::Null), sleep(json!({"tcpSocket": {"port": 1}, "periodSeconds": 1})));
    let mut web = deployment(1, good.clone());
    web["spec"]["progressDeadlineSeconds"] = json!(1);
    world.create(&DEPLOYMENTS, web).await;
    // The second time, the broken one's ReplicaSet is there already.
    for _ in 0..2 {
        for (container, reason) in [(&good, "NewReplicaSetAvailable"), (&broken, "ProgressDeadlineExceeded")] {
            world.merge(WEB, json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await;
            let said = |w: &World| {
                let web = w.get(&DEPLOYMENTS, "web")?;
                let observed = web["status"]["observedGeneration"] == web["metadata"]["generation"];
                let conditions = web["status"]["conditions"].as_array()?;
                (observed && conditions.iter().any(|c| c["type"] == "Progressing" && c["reason"] == reason)).then_some(())
            };
            world.wait(&DEPLOYMENTS, reason, said).await;
        }
    }
    assert_eq!(world.all(&REPLICASETS).len(), 2);
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pod_is_replaced_and_gets_no_more_connections() {
    let world = World::start().await;
    world.create(&SERVICES, web_service()).await;
    world.create(&DEPLOYMENTS, server(2)).await;
    let before = world.ready_pods(2).await;
    let address = world.service().await;
    world.delete(&format!("/api/v1/namespaces/default/pods/{}", before[0]), Some(0)).await;
    let after = world.ready_pods(2).await;
    assert!(after.contains(&before[1]) && !after.contains(&before[0]));
    for _ in 0..20 {
        let answered = ask_pod(address).await.expect("an answer");
        assert!(after.contains(&answered), "{answered}");
    }
    // With its own grace it stays until its process has ended, not ready but serving.
    world.delete(&format!("/api/v1/namespaces/default/pods/{}", after[0]), None).await;
    let marked = world.get(&PODS, &after[0]);
    assert!(marked.is_none_or(|pod| pod["metadata"]["deletionGracePeriodSeconds"] == 5));
    world.ready_pods(2).await;
    assert!(world.events().iter().any(|e| e == "Pod Killing: Stopping container web"));
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_goes_both_ways_and_a_service_without_pods_refuses() {
    let world = World::start().await;
    world.create(&SERVICES, web_service()).await;
    world.create(&DEPLOYMENTS, server(1)).await;
    world.ready_pods(1).await;
    let address = world.service().await;
    let scale = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    world.merge(scale, json!({"spec": {"replicas": 4}})).await;
    world.ready_pods(4).await;
    world.merge(scale, json!({"spec": {"replicas": 0}})).await;
    world.wait(&PODS, "no pods", |w| w.all(&PODS).is_empty().then_some(())).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => break,
            _ => assert!(Instant::now() < deadline, "the service still accepts"),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(world.sandbox.processes(), 0);
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autoscaler_follows_what_pods_expose() {
    let world = World::start().await;
    let gauge = world.sandbox.dir().join("gauge");
    std::fs::write(&gauge, "10").unwrap();
    let mut web = server(1);
    web["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!(gauge.to_str().unwrap());
    world.create(&DEPLOYMENTS, web).await;
    world.ready_pods(1).await;
    world.create(&HPAS, json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": "load"}, "target": {"type": "AverageValue", "averageValue": "10"}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}}}}))
        .await;
    let steady = world.wait(&HPAS, "a first sync", |w| w.get(&HPAS, "web").filter(|h| h["status"]["desiredReplicas"] == 1)).await;
    assert_eq!(steady["metadata"]["annotations"]["sandbox.squall.dev/autoscaler-sync"], "300ms");
    assert_eq!(steady["status"]["currentMetrics"][0]["pods"]["current"]["averageValue"], "10");
    std::fs::write(&gauge, "25").unwrap();
    world.ready_pods(3).await;
    std::fs::write(&gauge, "1").unwrap();
    world.ready_pods(1).await;
    let hpa = world.wait(&HPAS, "the last sync", |w| w.get(&HPAS, "web").filter(|h| h["status"]["currentReplicas"] == 1)).await;
    let conditions = hpa["status"]["conditions"].as_array().unwrap();
    let kinds: Vec<&str> = conditions.iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["AbleToScale", "ScalingActive", "ScalingLimited"]);
    let events = world.events();
    for wanted in ["New size: 3; reason: pods metric load above target", "New size: 1; reason: All metrics below target"] {
        assert!(events.iter().any(|e| e.contains(wanted)), "{wanted} in {events:#?}");
    }
    world.sandbox.stop().await;
}

/// A gauge that nobody can read before the writer that this gives has written: a FIFO, once a scrape waits for it.
async fn hanging(gauge: &std::path::Path) -> std::fs::File {
    use std::os::unix::fs::OpenOptionsExt;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        // Refused until somebody has opened it to read.
        if let Ok(writer) = std::fs::File::options().write(true).custom_flags(flags).open(gauge) {
            return writer;
        }
        assert!(Instant::now() < deadline, "nobody reads {}", gauge.display());
        tokio::task::yield_now().await;
    }
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

/// `web` and its autoscaler under another name, on a gauge.
fn scaled(name: &str, gauge: &std::path::Path) -> (Value, Value) {
    let mut web = server(1);
    web["metadata"]["name"] = json!(name);
    web["spec"]["selector"]["matchLabels"] = json!({"app": name});
    web["spec"]["template"]["metadata"]["labels"] = json!({"app": name});
    web["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!(gauge.to_str().unwrap());
    let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 3,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": "load"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]}});
    (web, hpa)
}

// Both: a scrape may take half of the period, 2 s, in which everything else here has to happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_changes_while_metrics_are_read_is_not_overwritten() {
    let world = World::with(SandboxConfig { autoscaler_sync: Duration::from_secs(4), ..SandboxConfig::default() }).await;
    let gauge = world.sandbox.dir().join("gauge");
    fifo(&gauge);
    let (web, hpa) = scaled("web", &gauge);
    world.create(&DEPLOYMENTS, web).await;
    world.ready_pods(1).await;
    world.create(&HPAS, hpa).await;
    let mut writer = hanging(&gauge).await;
    world.merge(&format!("{WEB}/scale"), json!({"spec": {"replicas": 2}})).await;
    std::io::Write::write_all(&mut writer, b"25").unwrap();
    drop(writer);
    let refused = |w: &World| {
        let hpa = w.get(&HPAS, "web")?;
        let conditions = hpa["status"]["conditions"].as_array()?;
        conditions.iter().any(|c| c["status"] == "False" && c["reason"] == "FailedUpdateScale").then_some(())
    };
    world.wait(&HPAS, "a refusal", refused).await;
    assert_eq!(world.get(&DEPLOYMENTS, "web").unwrap()["spec"]["replicas"], 2);
    let events = world.events();
    assert!(events.iter().any(|e| e.contains("FailedRescale: New size: 3; reason: pods metric load above target")), "{events:#?}");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_hangs_delays_no_autoscaler_but_its_own() {
    let world = World::with(SandboxConfig { autoscaler_sync: Duration::from_secs(4), ..SandboxConfig::default() }).await;
    let (hangs, answers) = (world.sandbox.dir().join("hangs"), world.sandbox.dir().join("answers"));
    fifo(&hangs);
    std::fs::write(&answers, "10").unwrap();
    let mut autoscalers = vec![];
    for (name, gauge) in [("a-hangs", &hangs), ("b-answers", &answers)] {
        let (web, hpa) = scaled(name, gauge);
        world.create(&DEPLOYMENTS, web).await;
        autoscalers.push(hpa);
    }
    world.ready_pods(2).await;
    for hpa in autoscalers {
        world.create(&HPAS, hpa).await;
    }
    let _writer = hanging(&hangs).await;
    let synced = |w: &World, name: &str| w.get(&HPAS, name).is_some_and(|hpa| !hpa["status"]["conditions"].is_null());
    world.wait(&HPAS, "a sync", |w| synced(w, "b-answers").then_some(())).await;
    assert!(!synced(&world, "a-hangs"), "it was waited for");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autoscaler_sees_burnt_cpu_and_a_request_that_is_a_number() {
    let world = World::start().await;
    let burn = json!({"name": "burn", "image": "none", "command": ["python3", "-c", "while True: pass"],
        "resources": {"requests": {"cpu": 0.1}}});
    world.create(&DEPLOYMENTS, deployment(1, burn)).await;
    world.create(&HPAS, json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}))
        .await;
    world.ready_pods(2).await;
    assert!(
        world
            .events()
            .iter()
            .any(|e| e.contains("New size: 2; reason: cpu resource utilization (percentage of request) above target"))
    );
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_fail_say_so_in_status_events_and_logs() {
    let world = World::start().await;
    let pod = |name: &str, container: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}});
    world.create(&PODS, pod("exits", json!({"name": "c", "image": "i", "command": ["sh", "-c", "echo run; exit 3"]}))).await;
    world.create(&PODS, pod("absent", json!({"name": "c", "image": "i", "command": ["no-such-command"]}))).await;
    world.create(&PODS, pod("image", json!({"name": "c", "image": "nginx:1"}))).await;
    let state = |w: &World, pod: &str| w.get(&PODS, pod).map(|p| p["status"]["containerStatuses"][0].clone()).unwrap_or_default();
    let exits = world
        .wait(&PODS, "a crash loop", |w| {
            let s = state(w, "exits");
            (s["state"]["waiting"]["reason"] == "CrashLoopBackOff" && s["restartCount"] == 2).then_some(s)
        })
        .await;
    assert_eq!(exits["lastState"]["terminated"]["exitCode"], 3);
    assert!(
        exits["state"]["waiting"]["message"]
            .as_str()
            .unwrap()
            .starts_with("back-off 600ms restarting failed container=c pod=exits_default(")
    );
    assert_eq!(world.log("exits", "?previous=true").await, "run\n");
    let absent = world
        .wait(&PODS, "a start error", |w| {
            let s = state(w, "absent");
            (s["lastState"]["terminated"]["reason"] == "StartError").then_some(s)
        })
        .await;
    assert!(absent["lastState"]["terminated"]["message"].as_str().unwrap().contains("executable file not found in $PATH"));
    let image = world
        .wait(&PODS, "a refusal", |w| Some(state(w, "image")).filter(|s| s["state"]["waiting"]["reason"] == "ErrImageNeverPull"))
        .await;
    assert!(image["state"]["waiting"]["message"].as_str().unwrap().contains("give container \"c\" a command"));
    let events = world.events();
    for wanted in [
        "Pod BackOff: Back-off restarting failed container c in pod exits_default(",
        "Pod Failed: Error: exec: \"no-such-command\"",
    ] {
        assert!(events.iter().any(|e| e.starts_with(wanted)), "{wanted} in {events:#?}");
    }
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_wait_for_the_init_container_before_them() {
    let world = World::start().await;
    let container = |name: &str| json!({"name": name, "image": "i", "command": ["sleep", "600"]});
    let spec = json!({"initContainers": [container("first")], "containers": [container("second")]});
    world.create(&PODS, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let status = world
        .wait(&PODS, "the init container's start", |w| {
            let status = w.get(&PODS, "p")?["status"].clone();
            status["initContainerStatuses"][0]["state"]["running"].is_object().then_some(status)
        })
        .await;
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    world.sandbox.stop().await;
}

/// An agent as a script: asks to be put before port 8080 of its pod by way of $VIA, and holds on until its input ends.
const AGENT: &str = "
import os, socket, sys, json
s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SQUALL_INTERPOSE'])
def ask(m):
    s.sendall((json.dumps(m) + '\\n').encode()); print(s.recv(4096).decode().strip(), flush=True)
ask({'set': {'port': 8080, 'via': os.environ['VIA'], 'ttl_ms': 30000, 'existing': 'reset'}})
sys.stdin.read()
ask({'clear': {'port': 8080}})
";

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_agent_interposes_itself_until_its_attachment_ends() {
    let world = World::start().await;
    world.create(&SERVICES, web_service()).await;
    world.create(&DEPLOYMENTS, server(1)).await;
    let pod = world.ready_pods(1).await.remove(0);
    let address = world.service().await;
    // What the agent puts before the pod: a listener that says its own name.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let via = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nagent").await;
            });
        }
    });
    let mut established = TcpStream::connect(address).await.unwrap();
    established.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 64];
    assert!(established.read(&mut some).await.unwrap() > 0);

    let path = format!("/api/v1/namespaces/default/pods/{pod}/ephemeralcontainers");
    let agent = json!({"name": "agent", "image": "i", "command": ["python3", "-c", AGENT], "stdin": true, "stdinOnce": true,
        "env": [{"name": "VIA", "value": via.to_string()}]});
    let patch = json!({"spec": {"ephemeralContainers": [agent]}});
    world.ask(reqwest::Method::PATCH, &path, "application/strategic-merge-patch+json", patch).await;
    let deadline = Instant::now() + PATIENCE;
    while ask_pod(address).await.as_deref() != Some("agent") {
        assert!(Instant::now() < deadline, "not interposed: {:#?}", world.get(&PODS, &pod));
    }
    // The connection from before was reset: reading what is left of its answer ends in an error.
    let mut rest = vec![];
    assert_eq!(established.read_to_end(&mut rest).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    // Its input ends with the attachment: it clears up and ends.
    let attached = world.sandbox.pods().attach("default", &pod, "agent").await.unwrap();
    drop(attached);
    while ask_pod(address).await.as_deref() != Some(pod.as_str()) {
        assert!(Instant::now() < deadline, "still interposed");
    }
    world
        .wait(&PODS, "the agent's end", |w| {
            let pod = w.get(&PODS, &pod).unwrap();
            (pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0).then_some(())
        })
        .await;
    assert!(world.log(&pod, "?container=agent").await.contains(r#"{"ok":true,"table":[{"port":8080"#));
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_side_by_side_share_nothing() {
    let (one, two) = (World::start().await, World::start().await);
    assert_ne!(one.sandbox.api_url(), two.sandbox.api_url());
    one.create(&DEPLOYMENTS, server(1)).await;
    two.create(&DEPLOYMENTS, server(1)).await;
    let pods = (one.ready_pods(1).await, two.ready_pods(1).await);
    let ip = |w: &World, pod: &str| w.get(&PODS, pod).unwrap()["status"]["podIP"].clone();
    assert_ne!(ip(&one, &pods.0[0]), ip(&two, &pods.1[0]));
    one.sandbox.stop().await;
    assert!(is_ready(&two.get(&PODS, &pods.1[0]).unwrap()));
    // Dropped instead of stopped, it ends as well.
    let (id, dir) = (two.sandbox.id().to_owned(), two.sandbox.dir().to_owned());
    drop(two);
    assert!(!dir.exists());
    assert_eq!(cleanup::sweep(&cleanup::Scope::One { id, dir }), vec![]);
}

/// Goal: an orderly end leaves no more than `kill -9` does. How: a pod's background process in a session of its own, which no signal to the
/// pod's group reaches.
#[tokio::test(flavor = "multi_thread")]
async fn what_left_its_process_group_ends_with_the_sandbox_too() {
    for stopped in [true, false] {
        let world = World::start().await;
        let strays = json!({"name": "c", "image": "i", "command": ["sh", "-c", "setsid sleep 600 & exec sleep 600"]});
        world.create(&DEPLOYMENTS, deployment(1, strays)).await;
        world.ready_pods(1).await;
        let id = world.sandbox.id().to_owned();
        let leads = |pid: &Pid| session_of(*pid) == Some(pid.as_raw_pid());
        let strayed = || Some(processes_of(&id)).filter(|found| found.len() == 2 && found.iter().any(|(pid, _)| leads(pid)));
        let handles = wait_until(PATIENCE, strayed).expect("two processes, one of them in a session of its own");
        if stopped {
            world.sandbox.stop().await;
        } else {
            drop(world);
        }
        assert!(all_end(handles).await, "something of sandbox {id} lives on; stopped: {stopped}");
    }
}

/// The session that a process belongs to, as the kernel tells it; 0 where its leader lives outside of this process namespace, as on a
/// machine that runs each job in one of its own.
fn session_of(pid: Pid) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// The processes that carry a sandbox's id, or, as its keeper, are told it; with handles that stay theirs.
fn processes_of(id: &str) -> Vec<(Pid, OwnedFd)> {
    let tells = |pid: &str, file: &str| {
        std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| bytes.windows(id.len()).any(|part| part == id.as_bytes()))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Some((Pid::from_raw(name.parse().ok()?)?, name)));
    pids.filter(|(_, name)| tells(name, "environ") || tells(name, "cmdline"))
        .filter_map(|(pid, _)| Some((pid, rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?)))
        .collect()
}

/// Whether all of them have ended before patience has.
async fn all_end(handles: Vec<(Pid, OwnedFd)>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let ended = tokio::task::spawn_blocking(move || {
        handles.iter().all(|(_, handle)| {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
            let mut wait = [rustix::event::PollFd::new(handle, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut wait, Some(&left)).is_ok_and(|ended| ended == 1)
        })
    });
    ended.await.unwrap()
}

/// The holder of the next tests, when they have started this test in a process of its own; nothing otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_there_to_be_killed() {
    let Ok(path) = std::env::var("SQUALL_TEST_HOLDER") else { return };
    let keeper = std::env::var_os("SQUALL_TEST_KEEPER").map(Into::into);
    let world = World::with(SandboxConfig { keeper, ..SandboxConfig::default() }).await;
    let sleep = json!({"name": "c", "image": "i", "command": ["sh", "-c", "sleep 600 & exec sleep 600"]});
    world.create(&DEPLOYMENTS, deployment(2, sleep)).await;
    world.ready_pods(2).await;
    let mut report = UnixStream::connect(path).await.unwrap();
    let line = format!("{} {}\n", world.sandbox.id(), world.sandbox.dir().display());
    report.write_all(line.as_bytes()).await.unwrap();
    std::future::pending::<()>().await;
}

/// A holder in a process of its own, and its sandbox's id and folder.
async fn holder(keeper: Option<&str>) -> (tokio::process::Child, String, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sandbox::a_holder_that_is_there_to_be_killed", "--nocapture"]);
    command.env("SQUALL_TEST_HOLDER", &socket).envs(keeper.map(|keeper| ("SQUALL_TEST_KEEPER", keeper)));
    let holder = command.kill_on_drop(true).spawn().unwrap();
    let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("the holder reports").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    let (id, folder) = line.trim().split_once(' ').unwrap();
    (holder, id.to_owned(), folder.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_of_the_holder_the_pods_die_and_the_sweep_finds_the_rest() {
    let (mut holder, id, folder) = holder(None).await;
    let scope = cleanup::Scope::One { id: id.clone(), dir: folder.clone() };
    assert_eq!(cleanup::sweep(&scope), vec![], "it lives");
    assert!(cleanup::finish(id.clone(), folder.clone()).await.is_err());

    holder.kill().await.unwrap();
    // The two pods die with their parent thread; what they had started in the background does not, and is swept.
    // Or has been: a `squall heal` of another test sweeps whatever is dead.
    let said = cleanup::finish(id.clone(), folder.clone()).await.unwrap();
    assert!(said.contains("its folder is gone") || said.contains("nothing was left"), "{said}");
    assert!(!folder.exists());
    assert_eq!(cleanup::sweep(&scope), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_of_the_holder_all_that_its_pods_have_started_dies_by_itself() {
    let (mut holder, id, folder) = holder(Some(env!("CARGO_BIN_EXE_squall"))).await;
    // The processes of two pods, with one more in the background of each, which may be a moment later, and the keeper.
    let found = wait_until(PATIENCE, || Some(processes_of(&id)).filter(|found| found.len() == 5));
    let handles = found.unwrap_or_else(|| panic!("processes of sandbox {id}: {:?}", processes_of(&id)));
    holder.kill().await.unwrap();
    assert!(all_end(handles).await, "something of sandbox {id} lives on");
    assert!(!folder.exists());
}
