//! Goal: what stands between a plan and a run that says something is found before, each with object, cause and fix, and nothing is changed in
//! finding it. How: sick and healthy objects in a sandbox and in manifests, a server that refuses, and a way on which all is overheard.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::{Access, Cluster};
use squall::sandbox::{Sandbox, SandboxConfig};

use crate::command::{Said, Squall};
use crate::eavesdropper::Eavesdropper;
use crate::scripted::{Reply, Scripted, list, not_scripted};
use crate::shop::manifests;

const REST: &str = "phases: [{name: all, for: 3s}]\nload: [{name: l, rate: 20/s, request: {get: /}}]\n";

/// A plan of `shop/deployment/payments`, wherever that is.
fn plan(more: &str) -> String {
    format!("plan: p\nclaim: c\ntarget: {{url: 'http://payments.shop:8080/', workload: shop/deployment/payments}}\n{REST}{more}")
}

/// What the doctor says of a plan in the cluster of a kubeconfig; as JSON, too.
fn doctor(text: &str, kubeconfig: &str, more: &[&str]) -> (Said, Value) {
    let squall = Squall::new();
    squall.file("p.yaml", text);
    let kubeconfig = squall.file("kubeconfig", kubeconfig);
    let run = |form: &[&str]| {
        let arguments = [&["doctor", "p.yaml", "--cluster", "current"], more, form].concat();
        squall.start_with(&arguments, &[("KUBECONFIG", &kubeconfig)]).wait(Duration::from_secs(120))
    };
    let page = run(&[]);
    let data = run(&["--json"]);
    assert_eq!(page.code, data.code, "{}{}{}", page.stdout, page.stderr, data.stderr);
    assert!(page.stdout.lines().all(|line| line.chars().count() <= 80), "{}", page.stdout);
    let data = serde_json::from_str(&data.stdout).unwrap_or_else(|error| panic!("{error}: {}", data.stdout));
    (page, data)
}

async fn beside(text: String, kubeconfig: String) -> (Said, Value) {
    tokio::task::spawn_blocking(move || doctor(&text, &kubeconfig, &[])).await.unwrap()
}

/// The checks that are in a state, by name.
fn checks<'a>(data: &'a Value, state: &str) -> Vec<&'a str> {
    let checks = data["checks"].as_array().expect("checks").iter();
    checks.filter(|check| check["state"] == state).map(|check| check["check"].as_str().expect("a name")).collect()
}

fn autoscaler(name: &str) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "payments"}, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_looked_at_and_nothing_in_it_is_changed() {
    let config = SandboxConfig { squall: env!("CARGO_BIN_EXE_squall").into(), ..SandboxConfig::default() };
    let sandbox = Sandbox::start(config).await.unwrap();
    let cluster = Cluster::connect(Access::Kubeconfig(sandbox.kubeconfig().to_owned())).await.unwrap();
    let prepared = cluster.prepare(manifests(1), "others").await.unwrap();
    cluster.apply(&prepared).await.unwrap();
    cluster.wait_ready(&prepared.objects(), Duration::from_secs(60)).await.unwrap();
    let kill = "faults: [{name: kill, at: all, pod_kill: {pods: 1}}]\n";

    let eavesdropper = Eavesdropper::before(sandbox.kubeconfig()).await;
    let (page, data) = beside(plan(kill), eavesdropper.kubeconfig()).await;
    page.expect(0).saying("all ").saying("not there");
    assert_eq!(checks(&data, "wrong"), Vec::<&str>::new());

    // Two autoscalers by a share of a request that the container does not have.
    let sick = cluster.prepare(vec![autoscaler("one"), autoscaler("two")], "others").await.unwrap();
    cluster.apply(&sick).await.unwrap();
    let (page, data) = beside(plan(kill), eavesdropper.kubeconfig()).await;
    page.expect(1).saying("fix");
    assert!(data.to_string().contains("container payments of shop/deployment/payments has no cpu request"), "{data:#}");
    let wrong = checks(&data, "wrong");
    assert!(wrong.contains(&"two-autoscalers") && wrong.contains(&"no-request"), "{data:#}");
    for (_, group, resource, verb, _) in eavesdropper.asked() {
        let asks = verb == "create" && group == "authorization.k8s.io";
        assert!(["get", "list"].contains(&verb.as_str()) || asks, "{verb} {resource}");
    }

    // Somebody who may do nothing: each permission is missing, and what cannot be seen is not said to be well.
    let owner = sandbox.kubeconfig().to_owned();
    let (page, data) = tokio::task::spawn_blocking(move || doctor(&plan(kill), &owner, &["--as", "nobody"])).await.unwrap();
    page.expect(4).saying("delete pods in shop").saying("squall rbac");
    assert!(checks(&data, "unknown").contains(&"autoscalers") && !checks(&data, "ok").contains(&"permission"), "{data:#}");

    // What a plan names and nobody has.
    let elsewhere = plan("").replace("deployment/payments", "deployment/paymets");
    let (page, _) = beside(elsewhere, sandbox.kubeconfig().to_owned()).await;
    page.expect(4).saying("shop/deployment/paymets").saying("correct the name");
    sandbox.stop().await;
}

/// How: a server that grants everything but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_missing_permission_is_named_and_one_that_is_needed_at_times_is_a_note() {
    let server = Scripted::start(|asked| match asked.path.as_str() {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let wanted = &asked.body["spec"]["resourceAttributes"];
            let refused = (wanted["verb"] == "patch" && wanted["subresource"] == "ephemeralcontainers") || wanted["subresource"] == "proxy";
            Reply::Json(201, json!({"status": {"allowed": !refused}}))
        }
        "/apis/apps/v1/namespaces/shop/deployments/payments" => Reply::Json(
            200,
            json!({"metadata": {"uid": "d", "name": "payments", "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}}),
        ),
        path if path.contains("/namespaces/shop/") => list("1", vec![]),
        _ => not_scripted(),
    })
    .await;
    let slow = "faults: [{name: slow, at: all, for: 2s, latency: {on: shop/deployment/payments, add: 10ms}}]\n";
    let (page, data) = beside(plan(slow), server.kubeconfig()).await;
    page.expect(4).saying("patch pods/ephemeralcontainers in shop").saying("needed by slow");
    assert_eq!((checks(&data, "wrong"), checks(&data, "note")), (vec!["permission"], vec!["permission"]), "{data:#}");
}

#[test]
fn a_cluster_that_is_not_there_is_said_to_be_so() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (page, data) = doctor(&plan(""), &crate::scripted::kubeconfig(address), &[]);
    page.expect(4).saying("cannot be reached");
    assert_eq!(checks(&data, "wrong"), ["reachable"]);
}

/// Goal: a plan whose cluster is made with it is looked at by its manifests. How: a shipped one, which is well, and one that is not.
#[test]
fn manifests_are_looked_at_before_they_are_anywhere() {
    let squall = Squall::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/quickstart.yaml");
    squall.run(&["doctor", shipped.to_str().unwrap()]).expect(0).saying("no-request");

    let mut sick: Vec<Value> = manifests(1);
    sick.push(autoscaler("one"));
    squall.file("sick.yaml", &json!({"apiVersion": "v1", "kind": "List", "items": sick}).to_string());
    squall.file(
        "p.yaml",
        &format!("plan: p\nclaim: c\ncluster: sandbox\nmanifests: [sick.yaml]\ntarget: {{url: 'http://payments.shop:8080/', workload: shop/deployment/payments}}\n{REST}"),
    );
    squall.run(&["doctor", "p.yaml"]).expect(1).saying("WRONG: no-request").saying("shop/hpa/one");
}

/// Goal: pods that will not take an agent in are found where they are only written down. How: a delay on a workload of manifests whose namespace
/// forbids it, or whose pods use their node's network; and their twin.
#[test]
fn a_delay_that_manifests_make_impossible_is_found_in_them() {
    let squall = Squall::new();
    let fault = "faults: [{name: slow, at: all, for: 2s, latency: {on: shop/deployment/payments, add: 10ms}}]\n";
    squall.file(
        "p.yaml",
        &format!("plan: p\nclaim: c\ncluster: sandbox\nmanifests: [m.yaml]\ntarget: {{url: 'http://payments.shop:8080/', workload: shop/deployment/payments}}\n{REST}{fault}"),
    );
    let look = |change: &dyn Fn(&mut Value)| {
        let mut items = manifests(1);
        items.iter_mut().for_each(change);
        squall.file("m.yaml", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
        squall.run(&["doctor", "p.yaml"])
    };
    look(&|_| {}).expect(0);
    let labelled = look(&|object| {
        if object["kind"] == "Namespace" {
            object["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        }
    });
    // Not wrong: an account may be exempt, which no manifest says.
    labelled
        .expect(3)
        .saying("UNKNOWN: admission")
        .saying("namespace shop")
        .saying("forbids")
        .saying("NET_ADMIN")
        .saying("unless the account is exempt");
    let shared = look(&|object| {
        if object["kind"] == "Deployment" {
            object["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
        }
    });
    shared.expect(4).saying("WRONG: admission").saying("pod shop/payments").saying("hostNetwork");
}
