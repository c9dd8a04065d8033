//! Goal: the sandbox places pods as a real scheduler does, and says of those that it cannot place what a real one says. How: what happened to
//! two pods that fit nowhere on a real Kubernetes 1.36 is made to happen again and compared; and nodes with zones, little room, taints and
//! cordons are put before pods that mind them. Nothing is waited for but changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::{Access, Cluster};
use squall::sandbox::resource::{DEPLOYMENTS, ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES, STATEFULSETS};
use squall::sandbox::store::{ChangeKind, text, version_of};

use super::kubectl::Kubectl;
use super::readme::{readme, unfenced};
use super::recorded::{More, Recording, differences};
use super::sandbox::{World, is_ready};

const FIRST: &str = "sandbox";

/// A node of a zone with so many CPUs and more pods than any test makes.
fn node(name: &str, zone: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"capacity": {"cpu": cpu, "pods": "100"}}})
}

/// A world with these nodes instead of the one that it begins with.
async fn world(nodes: &[Value]) -> World {
    let world = World::start().await;
    let post = |body: Value| world.ask(reqwest::Method::POST, "/api/v1/nodes", "application/json", body);
    for node in nodes {
        post(node.clone()).await;
    }
    if !nodes.is_empty() {
        world.ask(reqwest::Method::DELETE, &format!("/api/v1/nodes/{FIRST}"), "application/json", json!({})).await;
    }
    let all = nodes.len();
    let is_up = |node: &Arc<Value>| !node["status"]["allocatable"]["memory"].is_null();
    let up =
        |w: &World| (w.sandbox.store().list(&NODES, None).0.iter().filter(|node| is_up(node)).count() == all.max(1)).then_some(());
    world.wait(&NODES, "its nodes", up).await;
    world
}

async fn patch_node(world: &World, name: &str, patch: Value) {
    world.ask(reqwest::Method::PATCH, &format!("/api/v1/nodes/{name}"), "application/merge-patch+json", patch).await;
}

fn pod(name: &str, cpu: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    pod["spec"]["containers"] =
        json!([{"name": "c", "image": "i:1", "command": ["sleep", "600"], "resources": {"requests": {"cpu": cpu}}}]);
    pod
}

fn deployment(replicas: i64, cpu: &str, spec: Value) -> Value {
    let mut template = pod("web", cpu, spec);
    template["metadata"] = json!({"labels": {"app": "web"}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

/// Where a pod is; empty while it waits.
fn place(world: &World, pod: &str) -> String {
    world.get(&PODS, pod).and_then(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// Waits until a pod is placed, and says where.
async fn placed(world: &World, pod: &str) -> String {
    world.wait(&PODS, &format!("a node for {pod}"), |w| Some(place(w, pod)).filter(|node| !node.is_empty())).await
}

/// Waits until a pod has a reason to wait, and tells it.
async fn pending(world: &World, pod: &str) -> String {
    let why = |w: &World| {
        let pod = w.get(&PODS, pod)?;
        let scheduled = pod["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "PodScheduled")?.clone();
        (scheduled["status"] == "False" && scheduled["reason"] == "Unschedulable")
            .then(|| scheduled["message"].as_str().unwrap_or_default().to_owned())
    };
    world.wait(&PODS, &format!("why {pod} waits"), why).await
}

/// How many pods are on each node.
fn spread(world: &World) -> BTreeMap<String, usize> {
    let mut nodes = BTreeMap::new();
    for pod in world.all(&PODS) {
        *nodes.entry(pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    nodes
}

fn counted<const N: usize>(nodes: [(&str, usize); N]) -> BTreeMap<String, usize> {
    nodes.into_iter().map(|(node, n)| (node.to_owned(), n)).collect()
}

/// An object without what differs from cluster to cluster.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    let hash = object["metadata"]["labels"]["pod-template-hash"].as_str().map(str::to_owned);
    for field in ["name", "namespace"] {
        object["metadata"][field] = json!("-");
        if object["involvedObject"].is_object() {
            object["involvedObject"][field] = json!("-");
        }
    }
    for field in ["eventTime", "reportingInstance"] {
        if object[field].is_string() {
            object[field] = json!("-");
        }
    }
    if object["spec"]["containers"].is_array() {
        object["spec"]["containers"][0]["command"] = json!("-");
    }
    let text = object.to_string();
    serde_json::from_str(&hash.map_or(text.clone(), |hash| text.replace(&hash, "-"))).expect("it is still JSON")
}

#[track_caller]
fn compare(what: &str, expected: &Value, got: &Value) {
    let found: Vec<String> = differences(&plain(expected), &plain(got), More::Allowed).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what} differs from the recorded one:\n{}\nours: {got:#}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_fit_nowhere_go_the_way_of_the_recorded_ones() {
    let world = world(&[]).await;
    // The recorded node was smaller than what the pods ask for.
    let small = json!({"status": {"allocatable": {"cpu": "2"}}});
    world.ask(reqwest::Method::PATCH, &format!("/api/v1/nodes/{FIRST}/status"), "application/merge-patch+json", small).await;
    let from = world.sandbox.store().version();
    let recording = Recording::read("watch-unschedulable");
    let theirs = recording.watched("pods");
    let first = &theirs[0]["object"];
    let mut wanted = deployment(2, "64", json!({}));
    wanted["metadata"]["name"] = json!("big");
    wanted["spec"]["selector"]["matchLabels"]["app"] = json!("big");
    wanted["spec"]["template"]["metadata"]["labels"]["app"] = json!("big");
    wanted["spec"]["template"]["spec"] = first["spec"].clone();
    for given in ["tolerations", "priority", "preemptionPolicy", "serviceAccount", "serviceAccountName"] {
        wanted["spec"]["template"]["spec"].as_object_mut().expect("a spec is an object").remove(given);
    }
    world.create(&DEPLOYMENTS, wanted).await;
    let refused = |w: &World| {
        let of = |e: &&Arc<Value>| e["reason"] == "FailedScheduling";
        let events = w.all(&EVENTS);
        (events.iter().filter(of).count() == 2).then(|| events.iter().filter(of).cloned().collect::<Vec<_>>())
    };
    let ours = world.wait(&EVENTS, "two refusals", refused).await;
    let told: Vec<Value> =
        recording.watched("events").into_iter().filter(|e| e["object"]["reason"] == "FailedScheduling").collect();
    for (theirs, ours) in told.iter().zip(&ours) {
        compare("the event", &theirs["object"], ours);
    }
    world.delete("/apis/apps/v1/namespaces/default/deployments/big", None).await;
    world.wait(&PODS, "the end of the pods", |w| w.all(&PODS).is_empty().then_some(())).await;

    // Each pod: made, refused, marked, gone, and nothing between.
    let history = world.history(&PODS, from).await;
    let kinds = |kind: &str| match kind {
        "ADDED" => ChangeKind::Added,
        "MODIFIED" => ChangeKind::Modified,
        _ => ChangeKind::Deleted,
    };
    let name = text(first, "name");
    let steps: Vec<&Value> = theirs.iter().filter(|event| text(&event["object"], "name") == name).collect();
    for event in &ours {
        let pod = event["involvedObject"]["name"].as_str().expect("it is about a pod");
        let mine: Vec<_> = history.iter().filter(|change| text(&change.object, "name") == pod).collect();
        assert_eq!(mine.len(), steps.len(), "{mine:#?}");
        for (theirs, ours) in steps.iter().zip(&mine) {
            assert_eq!(ours.kind, kinds(theirs["type"].as_str().expect("it has a type")));
            compare("a pod", &theirs["object"], &ours.object);
        }
        // The event is about the pod as it was before, and comes after the pod says so itself.
        assert_eq!(event["involvedObject"]["resourceVersion"], mine[0].object["metadata"]["resourceVersion"]);
        assert!(version_of(event) > mine[1].version);
    }
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_room_is_placed_when_there_is_some_and_not_asked_before() {
    let world = world(&[node("small", "east", "1")]).await;
    world.create(&PODS, pod("one", "600m", json!({}))).await;
    assert_eq!(placed(&world, "one").await, "small");
    world.create(&PODS, pod("two", "600m", json!({}))).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No \
        preemption victims found for incoming pod.";
    assert_eq!(pending(&world, "two").await, why);
    // It stands behind nobody who fits, and what helps it not is no reason to try again.
    for name in ["three", "four"] {
        world.create(&PODS, pod(name, "100m", json!({}))).await;
        assert_eq!(placed(&world, name).await, "small");
    }
    let refusals = |w: &World| {
        let about = |e: &&Arc<Value>| e["reason"] == "FailedScheduling" && e["involvedObject"]["name"] == "two";
        w.all(&EVENTS).iter().filter(about).map(|e| e["series"]["count"].as_i64().unwrap_or(1)).sum::<i64>()
    };
    world.wait(&EVENTS, "its refusal", |w| (refusals(w) > 0).then_some(())).await;
    assert_eq!(refusals(&world), 1);
    // A pod that goes makes room only for what fits then: this one does not.
    world.delete("/api/v1/namespaces/default/pods/three", Some(0)).await;
    world.wait(&EVENTS, "another refusal", |w| (refusals(w) == 2).then_some(())).await;
    world.delete("/api/v1/namespaces/default/pods/one", Some(0)).await;
    assert_eq!(placed(&world, "two").await, "small");
    let two = world.get(&PODS, "two").expect("it is there");
    let scheduled = two["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PodScheduled").unwrap();
    assert_eq!((&scheduled["status"], scheduled.get("reason"), scheduled.get("message")), (&json!("True"), None, None));
    let said =
        |w: &World| w.events().iter().any(|e| e == "Pod Scheduled: Successfully assigned default/two to small").then_some(());
    world.wait(&EVENTS, "that it was placed", said).await;
    // So does a node that grows, and one that comes.
    world.create(&PODS, pod("big", "3", json!({}))).await;
    let why = pending(&world, "big").await;
    assert!(why.ends_with("1 Preemption is not helpful for scheduling."), "{why}");
    let more = json!({"status": {"allocatable": {"cpu": "4"}}});
    world.ask(reqwest::Method::PATCH, "/api/v1/nodes/small/status", "application/merge-patch+json", more).await;
    assert_eq!(placed(&world, "big").await, "small");
    world.create(&PODS, pod("bigger", "8", json!({}))).await;
    pending(&world, "bigger").await;
    world.ask(reqwest::Method::POST, "/api/v1/nodes", "application/json", node("large", "west", "16")).await;
    assert_eq!(placed(&world, "bigger").await, "large");
    let ready = |w: &World| w.get(&PODS, "bigger").filter(|pod| is_ready(pod));
    world.wait(&PODS, "it to run there", ready).await;
    let started = world
        .all(&EVENTS)
        .iter()
        .any(|e| e["reason"] == "Started" && e["involvedObject"]["name"] == "bigger" && e["source"]["host"] == "large");
    assert!(started, "{:#?}", world.events());
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_that_may_not_take_a_pod_says_why() {
    let mut tainted = node("tainted", "east", "4");
    tainted["spec"] = json!({"taints": [{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]});
    let world = world(&[node("a-east", "east", "1"), node("b-west", "west", "4"), tainted]).await;
    let west = json!({"nodeSelector": {"topology.kubernetes.io/zone": "west"}});
    let not_east = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["east"]}]}]}}}});
    let batch = json!({"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "batch", "effect": "NoSchedule"}],
        "nodeSelector": {"kubernetes.io/hostname": "tainted"}});
    for (name, spec, node) in
        [("by-label", west.clone(), "b-west"), ("by-affinity", not_east, "b-west"), ("tolerant", batch, "tainted")]
    {
        world.create(&PODS, pod(name, "1", spec)).await;
        assert_eq!(placed(&world, name).await, node, "{name}");
    }
    let kubectl = Kubectl::of(world.sandbox.kubeconfig());
    patch_node(&world, "b-west", json!({"spec": {"unschedulable": true}})).await;
    let tainted = |w: &World| {
        w.sandbox
            .store()
            .get(&NODES, "", "b-west")
            .filter(|node| node["spec"]["taints"][0]["key"] == "node.kubernetes.io/unschedulable")
    };
    world.wait(&NODES, "the taint of the cordoned", tainted).await;
    world.create(&PODS, pod("greedy", "2", json!({}))).await;
    assert_eq!(
        pending(&world, "greedy").await,
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to \
         deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    world.create(&PODS, pod("picky", "1", json!({"nodeSelector": {"disk": "ssd"}}))).await;
    let why = pending(&world, "picky").await;
    let nodes = "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) \
        were unschedulable.";
    assert!(why.starts_with(nodes), "{why}");
    if let Some((out, err, ok)) = kubectl.run(&["uncordon", "b-west"], "").await {
        assert!(ok && out.contains("uncordoned"), "{out}{err}");
    } else {
        patch_node(&world, "b-west", json!({"spec": {"unschedulable": null}})).await;
    }
    assert_eq!(placed(&world, "greedy").await, "b-west");
    patch_node(&world, "a-east", json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    assert_eq!(placed(&world, "picky").await, "a-east");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_spread_over_zones_and_their_endpoints_say_which() {
    let world = world(&[node("a", "east", "8"), node("b", "east", "8"), node("c", "west", "8")]).await;
    world
        .create(&SERVICES, json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]}}))
        .await;
    let hard = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    world.create(&DEPLOYMENTS, deployment(4, "100m", hard)).await;
    let all = |w: &World, n: usize| (w.all(&PODS).iter().filter(|pod| is_ready(pod)).count() == n).then_some(());
    world.wait(&PODS, "four pods", |w| all(w, 4)).await;
    assert_eq!(spread(&world), counted([("a", 1), ("b", 1), ("c", 2)]));
    let zones = |w: &World| {
        let slices = w.all(&ENDPOINTSLICES);
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let mut zones: Vec<&str> = endpoints.filter_map(|endpoint| endpoint["zone"].as_str()).collect();
        zones.sort_unstable();
        (zones == ["east", "east", "west", "west"]).then_some(())
    };
    world.wait(&ENDPOINTSLICES, "endpoints of both zones", zones).await;
    // With one zone closed, the other may be ahead by one only.
    patch_node(&world, "c", json!({"spec": {"unschedulable": true}})).await;
    world.merge("/apis/apps/v1/namespaces/default/deployments/web/scale", json!({"spec": {"replicas": 6}})).await;
    let waits =
        |w: &World| w.all(&PODS).iter().find(|pod| pod["spec"]["nodeName"].is_null()).map(|pod| text(pod, "name").to_owned());
    world.wait(&PODS, "five pods", |w| all(w, 5)).await;
    let sixth = world.wait(&PODS, "one that waits", waits).await;
    let why = pending(&world, &sixth).await;
    assert!(why.contains("1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints."), "{why}");
    patch_node(&world, "c", json!({"spec": {"unschedulable": null}})).await;
    assert_eq!(placed(&world, &sixth).await, "c");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_keep_apart_wait_for_a_node_of_their_own() {
    let world = world(&[node("a", "east", "8"), node("b", "west", "8")]).await;
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}});
    let mut set = deployment(3, "100m", apart);
    set["kind"] = json!("StatefulSet");
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    world.create(&STATEFULSETS, set).await;
    let why = pending(&world, "web-2").await;
    assert!(why.starts_with("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."), "{why}");
    assert_ne!(placed(&world, "web-0").await, placed(&world, "web-1").await);
    world.ask(reqwest::Method::POST, "/api/v1/nodes", "application/json", node("c", "west", "8")).await;
    assert_eq!(placed(&world, "web-2").await, "c");
    world.sandbox.stop().await;
}

/// What keeps a pod off its node changes here without a pod that comes or goes, so nothing but the change itself can bring it there.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_off_a_node_is_placed_when_pods_or_namespaces_get_other_labels() {
    let world = world(&[node("only", "east", "8")]).await;
    let avoids = |app: &str, more: Value| {
        let mut term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}});
        json_patch::merge(&mut term, &more);
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    world.create(&PODS, pod("web", "100m", json!({}))).await;
    placed(&world, "web").await;
    world.create(&PODS, pod("shy", "100m", avoids("web", json!({})))).await;
    let why = pending(&world, "shy").await;
    assert!(why.starts_with("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."), "{why}");
    world.merge("/api/v1/namespaces/default/pods/web", labels(json!({"app": "api"}))).await;
    assert_eq!(placed(&world, "shy").await, "only");

    // Whom it avoids, and who avoids it, is a matter of its namespace's labels, too.
    let of_team = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
    world.merge("/api/v1/namespaces/default", labels(json!({"team": "one"}))).await;
    world.create(&PODS, pod("guard", "100m", avoids("guest", of_team("one")))).await;
    placed(&world, "guard").await;
    world.create(&PODS, pod("guest", "100m", json!({}))).await;
    let why = pending(&world, "guest").await;
    assert!(why.starts_with("0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."), "{why}");
    world.create(&PODS, pod("picky", "100m", avoids("shy", of_team("one")))).await;
    pending(&world, "picky").await;
    world.merge("/api/v1/namespaces/default", labels(json!({"team": "two"}))).await;
    assert_eq!((placed(&world, "guest").await.as_str(), placed(&world, "picky").await.as_str()), ("only", "only"));
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_drained_tainted_or_gone_lose_their_pods_to_others() {
    let world = world(&[node("a", "east", "8"), node("b", "west", "8")]).await;
    world.create(&DEPLOYMENTS, deployment(2, "100m", json!({}))).await;
    let on = |w: &World, nodes: BTreeMap<String, usize>| {
        (spread(w) == nodes && w.all(&PODS).iter().all(|pod| is_ready(pod))).then_some(())
    };
    // Alike pods part as long as they can.
    world.wait(&PODS, "a pod on each", |w| on(w, counted([("a", 1), ("b", 1)]))).await;
    patch_node(&world, "b", json!({"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}})).await;
    world.wait(&PODS, "both on the other", |w| on(w, counted([("a", 2)]))).await;
    let said = |w: &World| {
        w.events().iter().any(|e| e.starts_with("Pod TaintManagerEviction: Marking for deletion Pod default/web-")).then_some(())
    };
    world.wait(&EVENTS, "why", said).await;
    // Who bears it for a while stays for that while.
    let bears = json!({"tolerations": [{"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],
        "nodeSelector": {"kubernetes.io/hostname": "b"}});
    world.create(&PODS, pod("patient", "100m", bears)).await;
    assert_eq!(placed(&world, "patient").await, "b");
    world.wait(&PODS, "its end", |w| w.get(&PODS, "patient").is_none().then_some(())).await;
    patch_node(&world, "b", json!({"spec": {"taints": null}})).await;

    let kubectl = Kubectl::of(world.sandbox.kubeconfig());
    if let Some((out, err, ok)) = kubectl.run(&["drain", "a", "--timeout=30s"], "").await {
        assert!(ok && out.contains("node/a drained"), "{out}{err}");
        world.wait(&PODS, "both on the other", |w| on(w, counted([("b", 2)]))).await;
        let (out, err, ok) = kubectl.run(&["get", "nodes", "-L", "topology.kubernetes.io/zone"], "").await.expect("it was there");
        assert!(ok && out.contains("Ready,SchedulingDisabled") && out.contains("west"), "{out}{err}");
        let (out, err, ok) = kubectl.run(&["describe", "node", "b"], "").await.expect("it was there");
        assert!(ok && out.contains("web-") && out.contains("200m (2%)"), "{out}{err}");
        let (out, err, ok) = kubectl.run(&["uncordon", "a"], "").await.expect("it was there");
        assert!(ok, "{out}{err}");
    }
    world.ask(reqwest::Method::DELETE, "/api/v1/nodes/b", "application/json", json!({})).await;
    world.wait(&PODS, "both on the one that is left", |w| on(w, counted([("a", 2)]))).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_pod_is_nobodys_until_its_gates_are_gone() {
    let world = world(&[]).await;
    world.create(&PODS, pod("later", "1", json!({"schedulingGates": [{"name": "a.b/c"}]}))).await;
    // One that came after it is placed, so it was passed by.
    world.create(&PODS, pod("now", "1", json!({}))).await;
    placed(&world, "now").await;
    let later = world.get(&PODS, "later").expect("it is there");
    let scheduled = &later["status"]["conditions"][0];
    assert_eq!((&scheduled["reason"], place(&world, "later")), (&json!("SchedulingGated"), String::new()));
    let path = "/api/v1/namespaces/default/pods/later";
    let more = json!({"spec": {"schedulingGates": [{"name": "a.b/c"}, {"name": "d"}]}});
    let (status, said) = world.answer(reqwest::Method::PATCH, path, "application/merge-patch+json", more).await;
    assert!(status == 422 && said["message"].as_str().is_some_and(|m| m.contains("only deletion is allowed")), "{status} {said}");
    world.merge(path, json!({"spec": {"schedulingGates": null}})).await;
    assert_eq!(placed(&world, "later").await, FIRST);
    world.sandbox.stop().await;
}

/// Goal: a plan brings its nodes as it brings its workloads, and says what keeps a pod from every node. How: as a run applies manifests, waits for
/// them and takes them down.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_bring_nodes_and_what_they_lack_is_told() {
    let world = World::start().await;
    let cluster = Cluster::connect(Access::Kubeconfig(world.sandbox.kubeconfig().to_owned())).await.unwrap();
    let west = json!({"nodeSelector": {"topology.kubernetes.io/zone": "west"}});
    let mut web = deployment(1, "1", west);
    web["metadata"]["namespace"] = json!("default");
    let prepared = cluster.prepare(vec![web.clone()], "without").await.unwrap();
    cluster.apply(&prepared).await.unwrap();
    let why = cluster.wait_ready(&prepared.objects(), Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(
        why.contains("is Unschedulable (0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        "{why}"
    );
    cluster.remove(&prepared.objects(), "without", Duration::from_secs(30)).await.unwrap();

    let node: Value = serde_yaml::from_str(unfenced(&readme(), "manifest", "node")).expect("the README's node is one");
    web["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
    let prepared = cluster.prepare(vec![node, web], "with").await.unwrap();
    cluster.apply(&prepared).await.unwrap();
    cluster.wait_ready(&prepared.objects(), Duration::from_secs(30)).await.unwrap();
    assert_eq!(spread(&world), counted([("west-1", 1)]));
    let node = world.sandbox.store().get(&NODES, "", "west-1").expect("it is there");
    let told = ["cpu", "memory", "pods", "ephemeral-storage"].map(|resource| node["status"]["allocatable"][resource].clone());
    assert_eq!(told, ["4", "8Gi", "20", "256Gi"].map(|amount| json!(amount)));
    cluster.remove(&prepared.objects(), "with", Duration::from_secs(30)).await.unwrap();
    assert!(world.sandbox.store().get(&NODES, "", "west-1").is_none());
    world.sandbox.stop().await;
}
