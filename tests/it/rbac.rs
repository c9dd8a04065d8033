//! Goal: what `squall rbac` grants is what a run asks for, nothing missing and nothing more. How: plans are run against a sandbox by a way on
//! which everything that is asked is written down, and that is held against the Roles that were printed for the same plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use squall::cluster::{Access, Cluster};
use squall::sandbox::{Sandbox, SandboxConfig};

use crate::command::{Said, Squall};
use crate::eavesdropper::{Attributes, Eavesdropper};
use crate::shop::manifests;
use crate::{scaled_objects, statefulsets};

fn squall(arguments: &[&str], kubeconfig: &Path) -> Said {
    Squall::new().start_with(arguments, &[("KUBECONFIG", kubeconfig)]).wait(Duration::from_secs(180))
}

/// The objects in a file of YAML.
fn objects(yaml: &str) -> Vec<Value> {
    yaml.split("---\n")
        .map(|document| serde_yaml::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}")))
        .collect()
}

/// What Roles grant; the name is empty for every object.
fn granted(objects: &[Value]) -> BTreeSet<Attributes> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for role in objects.iter().filter(|object| object["rules"].is_array()) {
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().unwrap() {
            let mut names = words(&rule["resourceNames"]);
            if names.is_empty() {
                names.push(String::new());
            }
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        for name in &names {
                            let one = (namespace.to_owned(), group.clone(), resource.clone(), verb.clone(), name.clone());
                            granted.insert(one);
                        }
                    }
                }
            }
        }
    }
    granted
}

/// Runs a plan, and holds what it asked for against what is granted to it; what of that hangs on who is first may be left out.
#[track_caller]
fn check(plan: &Path, kubeconfig: &Path, eavesdropper: &Eavesdropper, hangs_on_time: &[(&str, &str)]) {
    let plan = plan.to_str().unwrap();
    let yaml = squall(&["rbac", plan, "--cluster", "overheard"], kubeconfig).expect(0).stdout.clone();
    let granted = granted(&objects(&yaml));
    assert_eq!(eavesdropper.asked(), BTreeSet::new(), "nobody was asked for it");
    let said = squall(&["run", plan, "--cluster", "overheard", "--allow-faults", "--quiet"], kubeconfig);
    let Said { code, stdout, stderr } = &said;
    assert!([0, 1, 3].contains(code), "it ran, whatever became of it: {code}\n{stdout}\n{stderr}");
    let asked: BTreeSet<Attributes> = eavesdropper
        .asked()
        .into_iter()
        .map(|(namespace, group, resource, verb, name)| {
            let all = (namespace.clone(), group.clone(), resource.clone(), verb.clone(), String::new());
            if granted.contains(&all) { all } else { (namespace, group, resource, verb, name) }
        })
        .collect();
    // Every account may ask what it may do; and what is only a comment is done without.
    let free = |(_, group, resource, verb, _): &&Attributes| match (group.as_str(), resource.as_str(), verb.as_str()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews", "create") => true,
        ("", "nodes", "get") => yaml.contains("# kind: ClusterRole\n") && yaml.contains("#     resources: [\"nodes\"]\n"),
        _ => false,
    };
    let missing: Vec<_> = asked.difference(&granted).filter(|one| !free(one)).collect();
    assert!(missing.is_empty(), "{plan} asks for what it is not granted: {missing:#?}\n{yaml}");
    let more: Vec<_> = granted
        .difference(&asked)
        .filter(|(_, _, resource, verb, _)| !hangs_on_time.contains(&(resource.as_str(), verb.as_str())))
        .collect();
    assert!(more.is_empty(), "{plan} is granted what it does not ask for: {more:#?}\n{yaml}");
    assert!(!asked.is_empty());
}

async fn sandbox() -> (Sandbox, Cluster) {
    let config = SandboxConfig {
        squall: env!("CARGO_BIN_EXE_squall").into(),
        autoscaler_sync: Duration::from_millis(500),
        ..SandboxConfig::default()
    };
    let sandbox = Sandbox::start(config).await.unwrap();
    let cluster = Cluster::connect(Access::Kubeconfig(sandbox.kubeconfig().to_owned())).await.unwrap();
    (sandbox, cluster)
}

/// Somebody else's objects, ready.
async fn stand(cluster: &Cluster, objects: Vec<Value>) {
    let prepared = cluster.prepare(objects, "granter").await.unwrap();
    cluster.apply(&prepared).await.unwrap();
    cluster.wait_ready(&prepared.objects(), Duration::from_secs(60)).await.unwrap();
}

/// A way of its own for each run, and the file that leads there.
async fn overheard(sandbox: &Sandbox, folder: &Path) -> (Eavesdropper, PathBuf) {
    let eavesdropper = Eavesdropper::before(sandbox.kubeconfig()).await;
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, eavesdropper.kubeconfig()).unwrap();
    (eavesdropper, kubeconfig)
}

/// Runs a plan beside the runtime, which has the sandbox and the way to it.
async fn beside(plan: PathBuf, kubeconfig: PathBuf, eavesdropper: Eavesdropper, late: &'static [(&'static str, &'static str)]) {
    tokio::task::spawn_blocking(move || check(&plan, &kubeconfig, &eavesdropper, late)).await.unwrap();
}

/// The manifests' namespaces are made by whoever grants: Roles need somewhere to lie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_with_manifests_and_both_faults_asks_for_what_it_is_granted() {
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/kill.yaml");
    brings_its_namespace(plan, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_kills_a_pod_of_a_stateful_set_asks_for_what_it_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("set.yaml"), statefulsets::SET).unwrap();
    let plan = folder.path().join("plan.yaml");
    std::fs::write(&plan, statefulsets::PLAN.replace("LEAST", "2")).unwrap();
    // The last words of a pod are for one that does not start.
    brings_its_namespace(plan, &[("pods/log", "get")]).await;
}

/// Goal: one that brings a ScaledObject is granted to watch it, too. How: a worker that nothing wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_brings_a_scaled_object_asks_for_what_it_is_granted() {
    let queue = scaled_objects::queue();
    let url = queue.url().trim_end_matches('/').to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("worker.yaml"), scaled_objects::worker(&url, "1000")).unwrap();
    let plan = folder.path().join("plan.yaml");
    std::fs::write(&plan, scaled_objects::plan(&url)).unwrap();
    // The last words of a pod are for one that does not start.
    brings_its_namespace(plan, &[("pods/log", "get")]).await;
}

async fn brings_its_namespace(plan: PathBuf, late: &'static [(&'static str, &'static str)]) {
    let (sandbox, cluster) = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let (eavesdropper, kubeconfig) = overheard(&sandbox, folder.path()).await;
    let yaml = squall(&["rbac", plan.to_str().unwrap()], &kubeconfig).expect(0).stdout.clone();
    let namespaces: Vec<Value> = objects(&yaml).into_iter().filter(|object| object["kind"] == "Namespace").collect();
    assert_eq!(namespaces.len(), 1, "{yaml}");
    let anywhere = yaml.lines().filter(|line| line.contains("ClusterRole") && !line.starts_with('#'));
    assert_eq!(anywhere.count(), 0, "nothing that is needed lies in no namespace: {yaml}");
    stand(&cluster, namespaces).await;
    beside(plan, kubeconfig, eavesdropper, late).await;
    for app in ["app=checkout", "app=store"] {
        assert!(cluster.pods("shop", app).await.unwrap().is_empty(), "and everything of it is gone");
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_only_looks_and_one_with_an_autoscaler_ask_for_what_they_are_granted() {
    let (sandbox, cluster) = sandbox().await;
    stand(&cluster, manifests(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let looks = write(
        "looks.yaml",
        &format!(
            "plan: looks\nclaim: c\ncluster: {{context: x}}\ntarget: {{url: 'http://payments.shop:8080/', workload: shop/deploy/payments}}\n{REST}"
        ),
    );
    let (eavesdropper, kubeconfig) = overheard(&sandbox, folder.path()).await;
    // Whether its Service is without an address is not known beforehand, but its pods are seen anyway.
    beside(looks, kubeconfig, eavesdropper, &[]).await;

    let stack = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: payments, namespace: shop}\nspec:\n  \
                 scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: payments}\n  maxReplicas: 2\n  metrics:\n  - type: Pods\n    \
                 pods: {metric: {name: http_requests_in_flight}, target: {type: AverageValue, averageValue: '8'}}\n";
    write("hpa.yaml", stack);
    let scales = write(
        "scales.yaml",
        &format!(
            "plan: scales\nclaim: c\ncluster: {{context: x}}\nmanifests: [hpa.yaml]\ntarget: {{url: 'http://payments.shop:8080/', \
             workload: shop/deployment/payments, autoscaler: shop/hpa/payments}}\n{REST}"
        ),
    );
    let (eavesdropper, kubeconfig) = overheard(&sandbox, folder.path()).await;
    beside(scales, kubeconfig, eavesdropper, &[]).await;
    sandbox.stop().await;
}

/// What is printed for a plan.
fn printed(text: &str, arguments: &[&str]) -> Said {
    let squall = Squall::new();
    squall.file("p.yaml", text);
    squall.run(&[&["rbac", "p.yaml"], arguments].concat())
}

const REST: &str = "phases: [{name: all, for: 3s}]\nload: [{name: l, rate: 20/s, request: {get: /}}]\n";

#[test]
fn what_can_only_be_known_with_a_cluster_is_refused_with_the_way_out() {
    let plan = |kind: &str| {
        format!(
            "plan: p\nclaim: c\ncluster: {{context: x}}\ntarget: {{url: 'http://10.0.0.1/', workload: shop/{kind}/web}}\n{REST}"
        )
    };
    let refused = printed(&plan("rollout"), &[]);
    refused.expect(2).saying("shop/rollouts.argoproj.io/web");
    assert_eq!(refused.stdout, "");
    let yaml = printed(&plan("rollouts.argoproj.io"), &["--namespace", "ops"]).expect(0).stdout.clone();
    let granted = granted(&objects(&yaml));
    let of = |resource: &str, verb: &str, name: &str| {
        (String::from("shop"), String::from("argoproj.io"), resource.to_owned(), verb.to_owned(), name.to_owned())
    };
    for wanted in [of("rollouts", "get", "web"), of("rollouts/scale", "get", "web"), of("rollouts", "watch", "")] {
        assert!(granted.contains(&wanted), "{wanted:?} is not in {yaml}");
    }
    assert!(yaml.contains("namespace: \"ops\"") && !yaml.contains("services"), "{yaml}");
}

#[test]
fn a_delay_by_chaos_mesh_needs_its_experiments_and_no_containers_in_pods() {
    let plan = |via: &str| {
        format!(
            "plan: p\nclaim: c\ncluster: {{context: x}}\ntarget: {{url: 'http://10.0.0.1/', workload: shop/deployment/web}}\n{REST}\
             faults: [{{name: slow, at: all, for: 2s, latency: {{on: shop/deployment/web, add: 10ms, via: {via}}}}}]\n"
        )
    };
    let granted = |via: &str| granted(&objects(&printed(&plan(via), &[]).expect(0).stdout));
    let has = |via: &str, group: &str, resource: &str, verb: &str| {
        granted(via).iter().any(|(_, g, r, v, _)| (g.as_str(), r.as_str(), v.as_str()) == (group, resource, verb))
    };
    for verb in ["get", "create", "patch", "delete"] {
        assert!(has("chaos-mesh", "chaos-mesh.org", "networkchaos", verb) && !has("agent", "chaos-mesh.org", "networkchaos", verb));
    }
    assert!(has("agent", "", "pods/ephemeralcontainers", "patch") && !has("chaos-mesh", "", "pods/ephemeralcontainers", "patch"));
}

#[test]
fn a_plan_without_a_cluster_needs_nothing() {
    let said = printed(&format!("plan: p\nclaim: c\ntarget: {{url: 'http://10.0.0.1/'}}\n{REST}"), &[]);
    said.expect(0).saying("needs no permission");
    assert_eq!(said.stdout, "");
}

#[test]
fn what_is_needed_is_explained_with_the_plan() {
    let squall = Squall::new();
    squall.file(
        "p.yaml",
        &format!("plan: p\nclaim: c\ncluster: {{context: x}}\ntarget: {{url: 'http://a.shop/', workload: shop/deploy/a}}\n{REST}"),
    );
    squall.run(&["check", "p.yaml", "--explain"]).expect(0).saying("list,watch endpointslices.discovery.k8s.io (observation)");
}
