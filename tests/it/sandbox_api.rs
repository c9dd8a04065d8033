//! Goal: clients cannot tell the sandbox's API server from a real one. How: the real `kube` client and the real `kubectl` drive it over
//! TLS, with a scripted node side in place of a kubelet. Recorded exchanges of a real server are replayed elsewhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service};
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::{Client, Discovery, ResourceExt as _};
use serde_json::{Value, json};
use squall::sandbox::api::access::{AccessError, Attached, ContainerUsage, LogOptions, PodAccess, Usage};
use squall::sandbox::api::tls::Identity;
use squall::sandbox::api::{Config, Server, ServiceAddresses, serve};
use squall::sandbox::resource::{DEPLOYMENTS, EVENTS, NODES, PODS};
use squall::sandbox::store::{HISTORY_MAX, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::kubectl::Kubectl;

/// No answer of a server on this machine takes this long; a test that waits longer has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// A node side that says fixed things: each log is two lines, and an attached container repeats its input in capitals until it ends.
struct ScriptedPods;

impl PodAccess for ScriptedPods {
    fn logs<'a>(
        &'a self,
        _: &'a str,
        pod: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, std::io::Result<Bytes>>, AccessError>> {
        Box::pin(async move {
            let mut lines = vec![format!("{pod}/{container} one\n"), "two\n".to_owned()];
            if let Some(tail) = options.tail_lines {
                lines.drain(..lines.len().saturating_sub(tail as usize));
            }
            let lines: Vec<_> = lines.into_iter().map(|line| Ok(Bytes::from(line))).collect();
            Ok(futures::stream::iter(lines).boxed())
        })
    }

    fn attach<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Attached, AccessError>> {
        Box::pin(async move {
            let (near, mut far) = tokio::io::duplex(4096);
            let (sender, output) = tokio::sync::mpsc::channel(16);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = far.read(&mut buffer).await {
                    let loud = String::from_utf8_lossy(&buffer[..n]).to_uppercase();
                    if sender.send(Ok(Bytes::from(loud))).await.is_err() {
                        break;
                    }
                }
            });
            let output = futures::stream::unfold(output, |mut output| async { output.recv().await.map(|chunk| (chunk, output)) });
            Ok(Attached { stdin: Some(Box::new(near)), output: output.boxed() })
        })
    }

    fn usage(&self, _: Duration) -> BoxFuture<'_, BTreeMap<(String, String), Usage>> {
        Box::pin(async {
            let container = ContainerUsage { name: "web".into(), cpu_nanocores: 12_000_000, memory_bytes: 5 << 20 };
            let usage = Usage { at_ms: 1_800_000_000_000, window_ms: 15_000, containers: vec![container] };
            BTreeMap::from([(("shop".to_owned(), "web-0".to_owned()), usage)])
        })
    }
}

pub struct Sandbox {
    pub store: Arc<Store>,
    server: Server,
    kubectl: Kubectl,
}

impl Sandbox {
    pub async fn start() -> Sandbox {
        // Another test of this process may have been first.
        _ = rustls::crypto::ring::default_provider().install_default();
        // Not 127.0.0.1: clients everywhere on this machine call from there, each with a port of its own.
        let address = Ipv4Addr::new(127, 16, 0, 1);
        let listener = TcpListener::bind((address, 0)).await.expect("loopback has a free port");
        let store = Store::new(7);
        let identity = Identity::new(address.into()).expect("a certificate can be made");
        let services = ServiceAddresses { first: Ipv4Addr::new(127, 16, 0, 10), last: Ipv4Addr::new(127, 16, 0, 250) };
        let config = Config { store: store.clone(), pods: Arc::new(ScriptedPods), identity, services };
        let server = serve(listener, config).expect("a bound listener can be served");
        let kubectl = Kubectl::of(&server.kubeconfig("sandbox").to_yaml());
        Sandbox { store, server, kubectl }
    }

    async fn client(&self) -> Client {
        let config = kube::config::Kubeconfig::from_yaml(&self.server.kubeconfig("sandbox").to_yaml()).expect("it is a kubeconfig");
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("it has what kube needs");
        config.default_retry = false;
        Client::try_from(config).expect("its certificate is one")
    }

    pub fn url(&self) -> String {
        self.server.kubeconfig("x").server
    }

    pub fn token(&self) -> String {
        self.server.kubeconfig("x").token
    }

    pub fn http(&self) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(self.server.kubeconfig("x").authority_pem.as_bytes()).expect("it is PEM");
        reqwest::Client::builder().tls_certs_only([authority]).build().expect("a client can be made")
    }

    async fn kubectl(&self, arguments: &[&str], stdin: &str) -> Option<(String, String, bool)> {
        self.kubectl.run(arguments, stdin).await
    }
}

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: squall
        command: [squall, workload]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}}
        resources: {requests: {cpu: 100m}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 5
  metrics: [{type: Pods, pods: {metric: {name: http_requests_in_flight}, target: {type: AverageValue, averageValue: '5'}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {a: '1'}
";

/// What a controller and a kubelet would have made of the Deployment: two ready pods, counted.
fn roll_out(store: &Store) {
    for i in 0..2 {
        let pod = json!({
            "metadata": {"name": format!("web-{i}"), "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 5, "containers": [{"name": "web", "image": "squall"}]},
            "status": {"phase": "Running", "podIP": format!("127.16.1.{i}"),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "image": "squall", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
        });
        store.create(&PODS, pod).expect("its namespace exists");
    }
    let counted = |object: &mut Value| {
        object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 2, "updatedReplicas": 2,
            "readyReplicas": 2, "availableReplicas": 2});
        Ok(())
    };
    store.update(&DEPLOYMENTS, "shop", "web", counted).expect("it was applied before");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_reads_scales_and_deletes() {
    let sandbox = Sandbox::start().await;
    let Some((out, err, ok)) = sandbox.kubectl(&["apply", "-f", "-"], MANIFESTS).await else {
        return;
    };
    assert!(ok, "{out}{err}");
    assert_eq!(out.lines().filter(|line| line.ends_with(" created")).count(), 5, "{out}");
    roll_out(&sandbox.store);
    sandbox.store.create(&NODES, json!({"metadata": {"name": "node1"}})).unwrap();
    let event = json!({"metadata": {"name": "web-0.1", "namespace": "shop"}, "reason": "Started", "message": "Started container web",
        "type": "Normal", "count": 1, "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-0",
        "uid": sandbox.store.get(&PODS, "shop", "web-0").unwrap()["metadata"]["uid"]}});
    sandbox.store.create(&EVENTS, event).unwrap();

    // Each: the arguments, and words that must stand in the output.
    let table: &[(&[&str], &[&str])] = &[
        (
            &["apply", "-n", "shop", "-f", "-"],
            &["deployment.apps/web unchanged", "horizontalpodautoscaler.autoscaling/web unchanged"],
        ),
        (&["apply", "--server-side", "--force-conflicts", "-f", "-"], &["deployment.apps/web serverside-applied"]),
        (&["apply", "--server-side", "-f", "-"], &["configmap/settings serverside-applied"]),
        (
            &["get", "pods,deploy,hpa", "-A"],
            &["web-0", "1/1", "Running", "deployment.apps/web", "2/2", "<unknown>/5", "Deployment/web"],
        ),
        (&["get", "pods,svc,no", "-A", "-o", "wide"], &["127.16.1.0", "node1", "127.16.0.10", "80/TCP", "app=web"]),
        (&["get", "events", "-n", "shop"], &["Started", "pod/web-0", "Started container web"]),
        (&["describe", "pod", "web-0", "-n", "shop"], &["Node:", "Running", "Started container web"]),
        (
            &["describe", "deploy,svc,hpa", "-n", "shop"],
            &["2 desired | 2 updated", "127.16.0.10", "\"http_requests_in_flight\" on pods"],
        ),
        (&["describe", "ns", "shop"], &["Active"]),
        (&["rollout", "status", "deploy/web", "-n", "shop", "--timeout=20s"], &["successfully rolled out"]),
        (&["logs", "web-0", "-n", "shop"], &["web-0/web one", "two"]),
        (&["logs", "web-0", "-n", "shop", "--tail", "1"], &["two"]),
        (&["scale", "deploy/web", "-n", "shop", "--replicas=3"], &["scaled"]),
        (&["get", "deploy", "web", "-n", "shop", "-o", "jsonpath={.spec.replicas} {.metadata.generation}"], &["3 2"]),
        (&["patch", "deploy", "web", "-n", "shop", "-p", "{\"spec\":{\"paused\":true}}"], &["patched"]),
        (&["label", "pod", "web-0", "-n", "shop", "tier=a"], &["labeled"]),
        (&["get", "pods", "-n", "shop", "-l", "tier in (a)", "-o", "name"], &["pod/web-0"]),
        (
            &["get", "pods", "-n", "shop", "--field-selector", "status.phase=Running", "--chunk-size=1", "-o", "name"],
            &["pod/web-0", "pod/web-1"],
        ),
        (&["api-resources"], &["deployments", "hpa", "autoscaling/v2"]),
        (&["explain", "deployment.spec.strategy"], &["rollingUpdate"]),
        (&["delete", "pod", "web-1", "-n", "shop", "--grace-period=0", "--force"], &["force deleted"]),
        (&["delete", "ns", "shop", "--wait=false"], &["deleted"]),
    ];
    for (arguments, words) in table {
        let (out, err, ok) = sandbox.kubectl(arguments, MANIFESTS).await.expect("it was there a moment ago");
        assert!(ok, "{arguments:?}: {out}{err}");
        for word in *words {
            assert!(out.contains(word), "{arguments:?} lacks {word}:\n{out}{err}");
        }
    }
    let (_, err, ok) =
        sandbox.kubectl(&["apply", "-f", "-"], "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}\nspec: {}\n").await.unwrap();
    assert!(!ok && err.contains("is invalid") && err.contains("spec.containers: Required value"), "{err}");
    let wrong = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicass: 1}\n";
    let (_, err, ok) = sandbox.kubectl(&["apply", "-f", "-"], wrong).await.unwrap();
    assert!(!ok && err.contains("unknown field \"spec.replicass\""), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_a_table_as_it_changes() {
    let sandbox = Sandbox::start().await;
    let Some((_, err, ok)) = sandbox.kubectl(&["apply", "-f", "-"], MANIFESTS).await else {
        return;
    };
    assert!(ok, "{err}");
    let mut kubectl = sandbox.kubectl.follow(&["get", "deploy", "-n", "shop", "-w"], Stdio::null());
    let mut seen = vec![];
    // kubectl prints the list, and then watches from the list's version on: no change is missed.
    while !seen.last().is_some_and(|line: &String| line.contains("2/2")) {
        let line = kubectl.line().await;
        if line.contains("0/2") {
            roll_out(&sandbox.store);
        }
        seen.push(line);
    }
    assert!(seen[0].starts_with("NAME") && seen.iter().filter(|line| line.starts_with("NAME")).count() == 1, "{seen:#?}");
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"v": value}})).expect("it is a ConfigMap")
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_reads_and_writes_typed_objects() {
    let sandbox = Sandbox::start().await;
    let client = sandbox.client().await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
    let discovery = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    assert!(discovery.has_group("autoscaling") && discovery.has_group("policy"));
    assert!(Discovery::new(client.clone()).run().await.unwrap().has_group("apps"));

    let namespaces: Api<Namespace> = Api::all(client.clone());
    let shop = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let again = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(matches!(&again, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists"), "{again}");
    let mut changed = made.clone();
    changed.data = config_map("a", "2").data;
    maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    let stale = maps.replace("a", &PostParams::default(), &changed).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(status) if status.reason == "Conflict"), "{stale}");
    let apply = PatchParams::apply("squall").force();
    let applied = maps.patch("b", &apply, &Patch::Apply(&config_map("b", "1"))).await;
    // A typed object does not say its kind, which an apply must: kube adds neither.
    let with_kind = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"v": "3"}});
    let applied = applied.and(maps.patch("b", &apply, &Patch::Apply(&with_kind)).await).unwrap();
    assert_eq!(applied.managed_fields()[0].manager.as_deref(), Some("squall"));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("dry", "1")).await.unwrap();
    assert!(maps.get_opt("dry").await.unwrap().is_none());

    for i in 0..7 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{i}"), "1")).await.unwrap();
    }
    let mut names = vec![];
    let mut page = ListParams::default().limit(4);
    loop {
        let list = maps.list(&page).await.unwrap();
        names.extend(list.items.iter().map(kube::ResourceExt::name_any));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names.len(), 9, "{names:?}");
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().fields("metadata.name!=a")).await.unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);

    let deployment: Deployment =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "squall"}]}}}}))
        .unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "shop");
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let scale =
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 4}}))).await.unwrap();
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(4));
    let status = json!({"status": {"replicas": 4, "observedGeneration": 2}, "spec": {"replicas": 9}});
    let after = deployments.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!((after.spec.unwrap().replicas, after.status.unwrap().replicas), (Some(4), Some(4)), "a status is written alone");
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), "shop");
    let service = services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("127.16.0.10"));
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "shop");
    let nonsense =
        json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
    let refused = autoscalers.create(&PostParams::default(), &serde_json::from_value(nonsense).unwrap()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 422), "{refused}");
    let events: Api<Event> = Api::all(client.clone());
    assert!(events.list(&ListParams::default()).await.unwrap().items.is_empty());

    // The namespace takes everything with it.
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let mut ends = sandbox.store.watch(&squall::sandbox::resource::NAMESPACES, None, None).unwrap();
    let gone = async {
        while sandbox.store.get(&squall::sandbox::resource::NAMESPACES, "", "shop").is_some() {
            ends.next().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("a namespace without pods ends soon");
    assert!(sandbox.store.get(&DEPLOYMENTS, "shop", "web").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_watches_with_selection_bookmarks_and_a_history_that_ends() {
    let sandbox = Sandbox::start().await;
    let client = sandbox.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let labelled = |name: &str, tier: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"tier": tier}}})).unwrap()
    };
    let from = sandbox.store.version();
    let parameters = WatchParams::default().labels("tier=a").timeout(20);
    let mut watch = maps.watch(&parameters, &from.to_string()).await.unwrap().boxed();
    maps.create(&PostParams::default(), &labelled("x", "a")).await.unwrap();
    maps.create(&PostParams::default(), &labelled("y", "b")).await.unwrap();
    let relabel = |tier: &str| Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    maps.patch("x", &PatchParams::default(), &relabel("b")).await.unwrap();
    maps.patch("y", &PatchParams::default(), &relabel("a")).await.unwrap();
    maps.delete("y", &DeleteParams::default()).await.unwrap();
    let mut seen = vec![];
    let four = async {
        while seen.len() < 4 {
            seen.push(match watch.try_next().await.unwrap().unwrap() {
                WatchEvent::Added(map) => format!("added {}", map.name_any()),
                WatchEvent::Modified(map) => format!("modified {}", map.name_any()),
                WatchEvent::Deleted(map) => format!("deleted {}", map.name_any()),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => panic!("{status:?}"),
            });
        }
    };
    tokio::time::timeout(SOON, four).await.expect("changes are told soon");
    assert_eq!(seen, ["added x", "deleted x", "added y", "deleted y"]);

    // A version that history has left behind: 410 inside the stream, from which a watcher lists again.
    for i in 0..=HISTORY_MAX {
        let bump = |object: &mut Value| {
            object["data"] = json!({"i": i.to_string()});
            Ok(())
        };
        sandbox.store.update(&squall::sandbox::resource::CONFIGMAPS, "default", "x", bump).unwrap();
    }
    let mut late = maps.watch(&WatchParams::default(), &from.to_string()).await.unwrap().boxed();
    let first = late.try_next().await.unwrap();
    assert!(matches!(&first, Some(WatchEvent::Error(status)) if status.code == 410 && status.reason == "Expired"), "{first:?}");

    // kube's own watcher, both ways of beginning.
    for config in [kube::runtime::watcher::Config::default(), kube::runtime::watcher::Config::default().streaming_lists()] {
        let mut watcher = kube::runtime::watcher(maps.clone(), config).boxed();
        let mut named = vec![];
        let begins = async {
            loop {
                match watcher.try_next().await.unwrap().unwrap() {
                    kube::runtime::watcher::Event::InitApply(map) => named.push(map.name_any()),
                    kube::runtime::watcher::Event::InitDone => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, begins).await.expect("a watcher begins soon");
        assert_eq!(named, ["x"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_reaches_into_pods_and_evicts_them() {
    let sandbox = Sandbox::start().await;
    let client = sandbox.client().await;
    sandbox.store.create(&squall::sandbox::resource::NAMESPACES, json!({"metadata": {"name": "shop"}})).unwrap();
    let pod = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "web", "image": "squall"}]}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    sandbox.store.create(&PODS, pod).unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
    assert_eq!(pods.logs("web", &LogParams::default()).await.unwrap(), "web/web one\ntwo\n");
    let mut lines = pods.log_stream("web", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("two"));

    let extra = json!({"spec": {"ephemeralContainers": [{"name": "agent", "image": "squall", "command": ["squall", "agent"], "stdin": true,
        "targetContainerName": "web"}]}});
    let with = pods.patch_ephemeral_containers("web", &PatchParams::default(), &Patch::Strategic(&extra)).await.unwrap();
    assert_eq!(with.spec.unwrap().ephemeral_containers.unwrap()[0].name, "agent");
    let attach =
        AttachParams { container: Some("agent".into()), stdin: true, stdout: true, stderr: false, ..AttachParams::default() };
    let mut attached = pods.attach("web", &attach).await.unwrap();
    let (mut input, mut output) = (attached.stdin().unwrap(), attached.stdout().unwrap());
    let mut heard = [0; 5];
    let talk = async {
        input.write_all(b"beat\n").await.unwrap();
        input.flush().await.unwrap();
        output.read_exact(&mut heard).await.unwrap();
        // The end of its input ends the container, and that ends the stream.
        input.shutdown().await.unwrap();
        assert_eq!(output.read(&mut [0; 8]).await.unwrap_or(0), 0);
    };
    tokio::time::timeout(SOON, talk).await.expect("an attached container answers soon");
    assert_eq!(&heard, b"BEAT\n");

    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let kind = kube::core::GroupVersionKind::gvk("policy", "v1", "PodDisruptionBudget");
    let (budgets, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let budgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &budgets);
    budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    let refused = pods.evict("web", &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = &refused else { panic!("{refused}") };
    let cause = &status.details.as_ref().expect("it says why").causes[0];
    assert_eq!((status.code, cause.reason.as_str()), (429, "DisruptionBudget"));
    budgets.delete("web", &DeleteParams::default()).await.unwrap();
    pods.evict("web", &EvictParams::default()).await.unwrap();
    assert_eq!(pods.get("web").await.unwrap().metadata.deletion_grace_period_seconds, Some(30));
    let no_shell = pods.exec("web", ["ls"], &AttachParams::default()).await;
    assert!(no_shell.is_err(), "exec is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_opens_it_and_what_it_cannot_read_it_refuses() {
    let sandbox = Sandbox::start().await;
    let (http, url) = (sandbox.http(), sandbox.url());
    let get = |path: &str| http.get(format!("{url}{path}"));
    let nodes = "/api/v1/nodes";
    for (asked, status, reason) in [
        // Who shows nothing is somebody who may nothing; who shows something wrong is nobody.
        (get(nodes), 403, "Forbidden"),
        (get("/api"), 403, "Forbidden"),
        (get(nodes).header("impersonate-user", "squall-sandbox"), 403, "Forbidden"),
        (get(nodes).bearer_auth("wrong"), 401, "Unauthorized"),
    ] {
        let reply = asked.send().await.unwrap();
        assert_eq!(reply.status(), status);
        assert_eq!(reply.json::<Value>().await.unwrap()["reason"], reason);
    }
    assert_eq!(get("/readyz").send().await.unwrap().status(), 200);
    assert!(
        reqwest::Client::builder().tls_certs_only([]).build().unwrap().get(&url).send().await.is_err(),
        "it trusts nobody else"
    );
    let protobuf = "application/vnd.kubernetes.protobuf";
    let reply = get(nodes).bearer_auth(sandbox.token()).header("accept", protobuf).send().await.unwrap();
    assert_eq!(reply.status(), 406);
    let reply =
        get(nodes).bearer_auth(sandbox.token()).header("accept", format!("{protobuf},application/json")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let post = |kind: &'static str, body: Vec<u8>| {
        http.post(format!("{url}/api/v1/namespaces")).bearer_auth(sandbox.token()).header("content-type", kind).body(body).send()
    };
    assert_eq!(post("application/cbor", b"\xd9\xd9\xf7".to_vec()).await.unwrap().status(), 415);
    assert_eq!(post(protobuf, b"k8s".to_vec()).await.unwrap().status(), 400);
    assert_eq!(post("application/yaml", b"metadata:\n  name: from-yaml\n".to_vec()).await.unwrap().status(), 201);
    // The bound is 3 MiB: one byte more is too much, whatever it says.
    let reply = post("application/json", vec![b' '; (3 << 20) + 1]).await.unwrap();
    assert_eq!(reply.status(), 413);
    for method in [reqwest::Method::PUT, reqwest::Method::PATCH, reqwest::Method::POST] {
        let path = if method == reqwest::Method::POST { "/api/v1/nodes/a" } else { "/api/v1/nodes" };
        let reply = http.request(method, format!("{url}{path}")).bearer_auth(sandbox.token()).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), reply.json::<Value>().await.unwrap()["reason"].clone()),
            (405, json!("MethodNotAllowed"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_ends_its_watches_and_frees_its_port() {
    let mut taken = Vec::new();
    // A port that is free again may be given to another test before it is asked for here, though hardly three times.
    for _ in 0..3 {
        let sandbox = Sandbox::start().await;
        let maps: Api<ConfigMap> = Api::default_namespaced(sandbox.client().await);
        let mut watch = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        let address = sandbox.server.address();
        tokio::time::timeout(SOON, sandbox.server.stop()).await.expect("a server stops soon");
        let ended = tokio::time::timeout(SOON, async { while let Some(Ok(_)) = watch.next().await {} }).await;
        ended.expect("a watch ends with its server");
        match TcpListener::bind(address).await {
            Ok(_) => return,
            Err(error) => taken.push(format!("{address}: {error}")),
        }
    }
    panic!("no port was free again: {taken:?}");
}

/// Whatever is sent, the answer is a Status that says what is wrong, and the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_with_a_status() {
    let sandbox = Sandbox::start().await;
    let http = sandbox.http();
    let deployment = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "squall"}]}}}});
    sandbox.store.create(&DEPLOYMENTS, deployment).unwrap();
    let bodies = [
        "",
        "[]",
        "\"x\"",
        "1",
        "null",
        "{",
        "{\"metadata\": []}",
        "{\"metadata\": {\"name\": 1}}",
        "{\"metadata\": {\"name\": \"a/b\"}}",
        "{\"metadata\": {\"labels\": {\"a\": 1}}}",
        "{\"spec\": []}",
        "{\"spec\": {\"containers\": [null], \"ports\": [null], \"metrics\": [null]}}",
        "{\"spec\": {\"template\": null, \"selector\": {\"matchExpressions\": [null]}}}",
        "{\"spec\": {\"behavior\": {\"scaleUp\": 1}, \"template\": {\"spec\": {\"containers\": {}}}}}",
        "{\"kind\": \"Nothing\", \"apiVersion\": \"v1\"}",
    ];
    let check = async |method: reqwest::Method, path: &str, kind: &str, body: &str| {
        let ask = http.request(method.clone(), format!("{}{path}", sandbox.url())).bearer_auth(sandbox.token());
        let reply = ask.header("content-type", kind).body(body.to_owned()).send().await.expect("it answers");
        let code = reply.status().as_u16();
        let status: Value = reply.json().await.expect("it answers in JSON");
        assert!((400..500).contains(&code), "{method} {path} {kind} {body}: {status}");
        assert_eq!((status["kind"].as_str(), status["code"].as_u64()), (Some("Status"), Some(code.into())), "{status}");
        assert!(!status["message"].as_str().unwrap_or_default().is_empty(), "{status}");
    };
    for resource in squall::sandbox::resource::RESOURCES {
        let base =
            if resource.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", resource.group, resource.version) };
        let ns = if resource.namespaced { "/namespaces/default" } else { "" };
        for body in bodies {
            check(reqwest::Method::POST, &format!("{base}{ns}/{}", resource.plural), "application/json", body).await;
        }
    }
    let web = "/apis/apps/v1/namespaces/default/deployments/web";
    for kind in ["merge-patch", "strategic-merge-patch", "json-patch"] {
        for body in [
            "[]x",
            "\"x\"",
            "1",
            "{\"spec\": 1}",
            "{\"spec\": {\"replicas\": -1}}",
            "[{\"op\": \"add\", \"path\": \"/spec\", \"value\": []}]",
        ] {
            check(reqwest::Method::PATCH, web, &format!("application/{kind}+json"), body).await;
        }
    }
    for body in bodies.iter().filter(|body| !body.contains("behavior")) {
        check(reqwest::Method::PUT, web, "application/json", body).await;
        check(
            reqwest::Method::PUT,
            &format!("{web}/scale"),
            "application/json",
            if *body == "null" { "[]" } else { "{\"spec\": 1}" },
        )
        .await;
    }
    for query in [
        "labelSelector=a in",
        "fieldSelector=x",
        "limit=x",
        "resourceVersion=x&watch=1",
        "continue=7b",
        "watch=1&sendInitialEvents=1",
    ] {
        check(reqwest::Method::GET, &format!("/api/v1/pods?{query}"), "application/json", "").await;
    }
    assert!(sandbox.store.get(&DEPLOYMENTS, "default", "web").is_some());
}
