//! Goal: a StatefulSet in the sandbox does what one of a real Kubernetes does: pods with names that stay, in order, revision by revision.
//! How: sets are made, scaled, updated and robbed of pods; what happened to their pods is read off the store's history, by the same rules
//! for sets that keep order and for `Parallel` ones, which break them; and `kubectl` and plans drive them as they drive any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use squall::sandbox::resource::{
    CONTROLLERREVISIONS, ENDPOINTSLICES, EVENTS, HPAS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS, SERVICES, STATEFULSETS,
};
use squall::sandbox::store::{Change, ChangeKind, text};

use super::command::Squall;
use super::kubectl::Kubectl;
use super::sandbox::{World, is_ready};

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

fn set(replicas: i64, spec: Value) -> Value {
    let container = json!({"name": "db", "image": "i:1", "command": ["/bin/sh", "-c", "echo $HOSTNAME; exec sleep 600"]});
    let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec});
    set["spec"]["replicas"] = json!(replicas);
    set["spec"]["serviceName"] = json!("db");
    set["spec"]["selector"] = json!({"matchLabels": {"app": "db"}});
    let pod = json!({"terminationGracePeriodSeconds": 1, "containers": [container]});
    set["spec"]["template"] = json!({"metadata": {"labels": {"app": "db"}}, "spec": pod});
    set
}

/// The same set, or another kind of owner, under a name of its own.
fn called(name: &str, mut set: Value) -> Value {
    set["metadata"]["name"] = json!(name);
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        set.pointer_mut(labels).expect("it chooses its pods")["app"] = json!(name);
    }
    set
}

async fn change(world: &World, spec: Value) {
    world.merge(&format!("{SETS}/db"), json!({"spec": spec})).await;
}

/// A template that differs from the one before it in a word.
fn version(word: &str) -> Value {
    json!({"template": {"metadata": {"annotations": {"version": word}}}})
}

fn status(world: &World) -> Value {
    world.get(&STATEFULSETS, "db").map(|set| set["status"].clone()).unwrap_or_default()
}

/// Waits until so many pods are ready, and the set's status has come to rest: `settled` says on what.
async fn settled(world: &World, what: &str, settled: impl Fn(&Value) -> bool) -> Value {
    world
        .wait(&STATEFULSETS, what, |w| {
            let set = w.get(&STATEFULSETS, "db")?;
            let observed = set["status"]["observedGeneration"] == set["metadata"]["generation"];
            (observed && settled(&set["status"])).then(|| set["status"].clone())
        })
        .await
}

/// Deletes a pod, and waits for another of its name to be ready.
async fn replaced(world: &World, name: &str, grace: Option<i64>) {
    let old = world.get(&PODS, name).expect("it is there");
    world.delete(&format!("/api/v1/namespaces/default/pods/{name}"), grace).await;
    let again = |w: &World| w.get(&PODS, name).filter(|pod| is_ready(pod) && pod["metadata"]["uid"] != old["metadata"]["uid"]);
    world.wait(&PODS, "its replacement", again).await;
}

/// The version that each pod runs.
fn versions(world: &World) -> BTreeMap<String, String> {
    let word = |pod: &Value| pod["metadata"]["annotations"]["version"].as_str().unwrap_or("-").to_owned();
    world.all(&PODS).iter().map(|pod| (text(pod, "name").to_owned(), word(pod))).collect()
}

/// Pods that were made while one with a lower number was not ready, as far as a history tells.
fn made_too_early(history: &[Change]) -> Vec<String> {
    let mut up: BTreeMap<String, bool> = BTreeMap::new();
    let mut early = vec![];
    for change in history {
        let name = text(&change.object, "name").to_owned();
        match change.kind {
            ChangeKind::Added => {
                if up.iter().any(|(other, ready)| *other < name && !ready) {
                    early.push(name.clone());
                }
                up.insert(name, false);
            }
            ChangeKind::Modified => drop(up.insert(name, is_ready(&change.object))),
            ChangeKind::Deleted => drop(up.remove(&name)),
        }
    }
    early
}

/// Pods that were asked to go while another was still going.
fn ended_together(history: &[Change]) -> Vec<String> {
    let leaves = |pod: &Value| !text(pod, "deletionTimestamp").is_empty();
    let mut going: Vec<String> = vec![];
    let mut together = vec![];
    for change in history {
        let name = text(&change.object, "name").to_owned();
        if change.kind == ChangeKind::Deleted {
            going.retain(|other| *other != name);
        } else if leaves(&change.object) && !going.contains(&name) {
            if !going.is_empty() {
                together.push(name.clone());
            }
            going.push(name);
        }
    }
    together
}

/// In which order pods went.
fn ends(history: &[Change]) -> Vec<&str> {
    history.iter().filter(|change| change.kind == ChangeKind::Deleted).map(|change| text(&change.object, "name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_in_order_with_names_of_their_own_and_go_in_reverse() {
    let world = World::start().await;
    let from = world.sandbox.store().version();
    let headless =
        json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}});
    world.create(&SERVICES, headless).await;
    let made = world.create(&STATEFULSETS, set(3, json!({}))).await;
    for (field, value) in [
        ("podManagementPolicy", json!("OrderedReady")),
        ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})),
        ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
        ("revisionHistoryLimit", json!(10)),
    ] {
        assert_eq!(made["spec"][field], value, "{field}");
    }
    assert_eq!(made["status"], json!({"replicas": 0, "availableReplicas": 0}));
    let up = settled(&world, "three pods", |s| s["readyReplicas"] == 3).await;
    let history = world.history(&PODS, from).await;
    assert_eq!(made_too_early(&history), Vec::<String>::new());

    let revision = up["updateRevision"].as_str().expect("it has one").to_owned();
    let expected = json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
        "currentRevision": revision, "updateRevision": revision, "collisionCount": 0, "availableReplicas": 3});
    assert_eq!(up, expected);
    for (number, pod) in world.all(&PODS).iter().enumerate() {
        let name = format!("db-{number}");
        let labels = json!({"app": "db", "controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": number.to_string()});
        assert_eq!((text(pod, "name"), text(pod, "generateName"), &pod["metadata"]["labels"]), (name.as_str(), "db-", &labels));
        assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!(name), &json!("db")));
        assert_eq!(world.said(&name).await.trim(), name, "its own process knows the name, too");
    }
    let named = |w: &World| {
        let slices = w.all(&ENDPOINTSLICES);
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let mut names: Vec<&str> = endpoints.filter_map(|endpoint| endpoint["hostname"].as_str()).collect();
        names.sort_unstable();
        (names == ["db-0", "db-1", "db-2"]).then_some(())
    };
    world.wait(&ENDPOINTSLICES, "endpoints that are called as the pods are", named).await;
    let revisions = world.all(&CONTROLLERREVISIONS);
    let [only] = &revisions[..] else { panic!("{revisions:#?}") };
    assert_eq!((text(only, "name"), &only["revision"]), (revision.as_str(), &json!(1)));
    assert_eq!(only["data"]["spec"]["template"]["$patch"], "replace");

    let before = world.sandbox.store().version();
    change(&world, json!({"replicas": 0})).await;
    settled(&world, "no pods", |s| s["replicas"] == 0).await;
    let history = world.history(&PODS, before).await;
    assert_eq!((ends(&history), ended_together(&history)), (vec!["db-2", "db-1", "db-0"], vec![]));
    let said: Vec<String> = world.events().into_iter().filter(|line| line.starts_with("StatefulSet ")).collect();
    let line = |reason: &str, verb: &str, n: usize| format!("StatefulSet {reason}: {verb} Pod db-{n} in StatefulSet db successful");
    let created = (0..3).map(|n| line("SuccessfulCreate", "create", n));
    let all: Vec<String> = created.chain((0..3).rev().map(|n| line("SuccessfulDelete", "delete", n))).collect();
    let mut sorted = (said.clone(), all);
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    assert!(
        world
            .all(&EVENTS)
            .iter()
            .filter(|e| e["involvedObject"]["kind"] == "StatefulSet")
            .all(|e| e["source"]["component"] == "statefulset-controller")
    );
    world.sandbox.stop().await;
}

/// The rules of the test before this are rules: a set that does not keep order breaks both.
#[tokio::test(flavor = "multi_thread")]
async fn a_parallel_set_waits_for_nobody() {
    // Without room no pod is ever ready: one by one, the second would never come.
    let world = World::without_room().await;
    let from = world.sandbox.store().version();
    world.create(&STATEFULSETS, set(3, json!({"podManagementPolicy": "Parallel"}))).await;
    settled(&world, "three pods", |s| s["replicas"] == 3).await;
    assert_eq!(made_too_early(&world.history(&PODS, from).await), ["db-1", "db-2"]);
    world.create(&STATEFULSETS, called("one", set(3, json!({})))).await;
    let counted = |w: &World| w.get(&STATEFULSETS, "one").filter(|set| set["status"]["replicas"] == 1);
    world.wait(&STATEFULSETS, "its first pod", counted).await;
    assert!(world.get(&PODS, "one-1").is_none());
    world.sandbox.stop().await;

    let world = World::start().await;
    world.create(&STATEFULSETS, set(3, json!({"podManagementPolicy": "Parallel"}))).await;
    settled(&world, "three ready pods", |s| s["readyReplicas"] == 3).await;
    let before = world.sandbox.store().version();
    change(&world, json!({"replicas": 1})).await;
    settled(&world, "one pod", |s| s["replicas"] == 1).await;
    assert_eq!(ended_together(&world.history(&PODS, before).await), ["db-1"]);
    assert_eq!(text(&world.all(&PODS)[0], "name"), "db-0");
    world.sandbox.stop().await;
}

/// The most memory that this process has held so far, in GiB.
fn peak_gib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.expect("it is a number of KiB") >> 20
}

/// Goal: a set may ask for more than anybody can have. How: two billion, of which one pod is made, or none. A word for each of them would be
/// 15 GiB; half of that leaves more room than all other tests of this process fill.
#[tokio::test(flavor = "multi_thread")]
async fn two_billion_pods_may_be_asked_for() {
    const MANY: i64 = 2_000_000_000;
    let world = World::without_room().await;
    world.create(&STATEFULSETS, set(1, json!({}))).await;
    settled(&world, "its first pod", |s| s["replicas"] == 1).await;
    world.merge(&format!("{SETS}/db/scale"), json!({"spec": {"replicas": MANY}})).await;
    settled(&world, "another look", |s| s["replicas"] == 1 && s["observedGeneration"] == 2).await;
    // One that waits for nobody stops where it is stopped.
    let enforce = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    world.merge("/api/v1/namespaces/default", enforce).await;
    world.create(&STATEFULSETS, called("all", set(MANY, json!({"podManagementPolicy": "Parallel"})))).await;
    let seen = |w: &World| w.get(&STATEFULSETS, "all").filter(|set| set["status"]["observedGeneration"] == 1);
    world.wait(&STATEFULSETS, "the end of a look", seen).await;
    let refusals: Vec<String> =
        world.events().into_iter().filter(|event| event.starts_with("StatefulSet FailedCreate: ")).collect();
    let [only] = &refusals[..] else { panic!("{refusals:#?}") };
    assert!(only.contains("create Pod all-0 in StatefulSet all failed error: "), "{only}");
    assert_eq!(world.all(&PODS).iter().map(|pod| text(pod, "name").to_owned()).collect::<Vec<_>>(), ["db-0"]);
    assert!(peak_gib() < 7, "{} GiB", peak_gib());
    world.sandbox.stop().await;
}

/// As a real controller's burst: 500 are made and told, and the rest by the next look, which those that were made bring about.
#[tokio::test(flavor = "multi_thread")]
async fn one_look_makes_no_more_pods_than_a_burst() {
    let world = World::without_room().await;
    let parallel = set(520, json!({"podManagementPolicy": "Parallel"}));
    let mut replicas = called("web", set(520, json!({})));
    replicas["kind"] = json!("ReplicaSet");
    replicas["spec"].as_object_mut().expect("a spec is an object").remove("serviceName");
    for (resource, owner) in [(&STATEFULSETS, parallel), (&REPLICASETS, replicas)] {
        let (name, from) = (text(&owner, "name").to_owned(), world.sandbox.store().version());
        world.create(resource, owner).await;
        let all = |w: &World| w.get(resource, &name).filter(|owner| owner["status"]["replicas"] == 520);
        world.wait(resource, "all its pods", all).await;
        let told = world.history(resource, from).await;
        let mut counts: Vec<i64> = told.iter().filter_map(|change| change.object["status"]["replicas"].as_i64()).collect();
        counts.dedup();
        assert_eq!(counts, [0, 500, 520], "{}", resource.kind);
    }
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_comes_back_under_its_name_and_begins_anew() {
    let world = World::start().await;
    world.create(&STATEFULSETS, set(2, json!({}))).await;
    settled(&world, "two pods", |s| s["readyReplicas"] == 2).await;
    for grace in [Some(0), None] {
        let from = world.sandbox.store().version();
        replaced(&world, "db-0", grace).await;
        let history = world.history(&PODS, from).await;
        let at = |kind| history.iter().find(|change| change.kind == kind).map(|change| change.version);
        assert!(at(ChangeKind::Deleted) < at(ChangeKind::Added), "never two of one name");
        settled(&world, "two pods again", |s| s["readyReplicas"] == 2 && s["replicas"] == 2).await;
        // The old one's process may end after the new one has begun: what it leaves behind is not the new one's.
        assert_eq!(world.said("db-0").await, "db-0\n");
    }
    // A label that somebody took is given back; a pod of another name is nobody's, whatever its labels say.
    let labels = json!({"metadata": {"labels": {"apps.kubernetes.io/pod-index": null}}});
    world.merge("/api/v1/namespaces/default/pods/db-1", labels).await;
    let given = |w: &World| w.get(&PODS, "db-1").filter(|pod| pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1");
    world.wait(&PODS, "its label", given).await;
    let mut stranger = json!({"metadata": {"name": "debug", "labels": {"app": "db"}}});
    stranger["spec"] = set(1, json!({}))["spec"]["template"]["spec"].clone();
    world.create(&PODS, stranger).await;
    change(&world, json!({"replicas": 3})).await;
    settled(&world, "a third pod", |s| s["readyReplicas"] == 3).await;
    assert!(world.get(&PODS, "debug").expect("it is left alone")["metadata"]["ownerReferences"].is_null());
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_pods_from_the_last_down_to_its_partition() {
    let world = World::start().await;
    let mut first = set(3, json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}));
    first["spec"]["template"]["metadata"]["annotations"] = json!({"version": "one"});
    world.create(&STATEFULSETS, first).await;
    let old = settled(&world, "three pods", |s| s["readyReplicas"] == 3).await;
    change(&world, version("two")).await;
    let held = settled(&world, "one updated pod", |s| s["updatedReplicas"] == 1 && s["readyReplicas"] == 3).await;
    let words = |list: [&str; 3]| (0..3).map(|n| (format!("db-{n}"), list[n].to_owned())).collect::<BTreeMap<_, _>>();
    assert_eq!(versions(&world), words(["one", "one", "two"]));
    assert_eq!((&held["currentReplicas"], &held["currentRevision"]), (&json!(2), &old["currentRevision"]));
    assert_ne!(held["updateRevision"], held["currentRevision"]);
    // What the partition holds back stays back, even when it is made anew.
    replaced(&world, "db-0", Some(0)).await;
    settled(&world, "three pods again", |s| s["readyReplicas"] == 3).await;
    assert_eq!(versions(&world), words(["one", "one", "two"]));

    let from = world.sandbox.store().version();
    change(&world, json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}})).await;
    let done = settled(&world, "the end of the update", |s| s["currentRevision"] == s["updateRevision"]).await;
    assert_eq!((&done["currentReplicas"], &done["updatedReplicas"]), (&json!(3), &json!(3)));
    assert_eq!(versions(&world), words(["two", "two", "two"]));
    let history = world.history(&PODS, from).await;
    assert_eq!((ends(&history), ended_together(&history)), (vec!["db-1", "db-0"], vec![]));

    // A template that comes back is its old revision under a new number.
    change(&world, version("one")).await;
    let back = settled(&world, "the way back", |s| s["currentRevision"] == s["updateRevision"] && s["readyReplicas"] == 3).await;
    assert_eq!(back["updateRevision"], old["updateRevision"]);
    let mut numbers: Vec<i64> = world.all(&CONTROLLERREVISIONS).iter().filter_map(|r| r["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    change(&world, json!({"revisionHistoryLimit": 0})).await;
    world.wait(&CONTROLLERREVISIONS, "the end of the old one", |w| (w.all(&CONTROLLERREVISIONS).len() == 1).then_some(())).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_delete_an_update_takes_what_somebody_else_has_taken() {
    let world = World::start().await;
    world.create(&STATEFULSETS, set(2, json!({"updateStrategy": {"type": "OnDelete"}}))).await;
    settled(&world, "two pods", |s| s["readyReplicas"] == 2).await;
    let from = world.sandbox.store().version();
    change(&world, version("two")).await;
    settled(&world, "a new revision", |s| s["updateRevision"] != s["currentRevision"]).await;
    world.delete("/api/v1/namespaces/default/pods/db-1", Some(0)).await;
    settled(&world, "one updated pod", |s| s["updatedReplicas"] == 1 && s["readyReplicas"] == 2).await;
    assert_eq!(ends(&world.history(&PODS, from).await), ["db-1"]);
    let words: Vec<String> = versions(&world).into_values().collect();
    assert_eq!(words, ["-", "two"]);
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_updated_at_once_where_several_may_be_missing() {
    let world = World::start().await;
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}});
    world.create(&STATEFULSETS, set(4, json!({"updateStrategy": rolling, "podManagementPolicy": "Parallel"}))).await;
    settled(&world, "four pods", |s| s["readyReplicas"] == 4).await;
    let from = world.sandbox.store().version();
    change(&world, version("two")).await;
    settled(&world, "the end of the update", |s| s["currentRevision"] == s["updateRevision"] && s["updatedReplicas"] == 4).await;
    let history = world.history(&PODS, from).await;
    assert!(!ended_together(&history).is_empty());
    let mut gone = std::collections::BTreeSet::new();
    for change in &history {
        let name = text(&change.object, "name").to_owned();
        if is_ready(&change.object) {
            gone.remove(&name)
        } else {
            gone.insert(name)
        };
        assert!(gone.len() <= 2, "{gone:?}");
    }
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_do_is_refused_with_the_field_and_the_reason() {
    let world = World::without_room().await;
    let refused = async |method: reqwest::Method, path: &str, body: Value| -> (u16, String) {
        let kind = if method == reqwest::Method::POST { "application/json" } else { "application/merge-patch+json" };
        let (status, answer) = world.answer(method, path, kind, body).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]});
    for (spec, wanted) in [
        (claims, "spec.volumeClaimTemplates: Forbidden: the sandbox has no PersistentVolumeClaims"),
        (
            json!({"podManagementPolicy": "Any"}),
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
        ),
        (json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {}}}), "only allowed for updateStrategy 'RollingUpdate'"),
        (
            json!({"updateStrategy": {"rollingUpdate": {"partition": -1}}}),
            "partition: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        let (status, said) = refused(reqwest::Method::POST, SETS, set(1, spec)).await;
        assert!(
            status == 422 && said.starts_with("StatefulSet.apps \"db\" is invalid: ") && said.contains(wanted),
            "{status} {said}"
        );
    }
    world.create(&STATEFULSETS, set(1, json!({}))).await;
    let (status, said) = refused(reqwest::Method::PATCH, &format!("{SETS}/db"), json!({"spec": {"serviceName": "other"}})).await;
    let wanted = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
        'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    assert!(status == 422 && said.ends_with(wanted), "{status} {said}");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_and_a_budget_know_it() {
    let world = World::start().await;
    world.create(&STATEFULSETS, set(1, json!({}))).await;
    let budget = json!({"metadata": {"name": "db"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "db"}}}});
    world.create(&PODDISRUPTIONBUDGETS, budget).await;
    for (name, target) in [("db", "db"), ("nobody", "nobody")] {
        let metrics =
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]);
        let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": target}, "minReplicas": 3,
            "maxReplicas": 5, "metrics": metrics});
        world.create(&HPAS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    settled(&world, "three pods", |s| s["readyReplicas"] == 3).await;
    let said = |w: &World, line: &str| w.events().iter().any(|e| e == line).then_some(());
    let rescaled =
        "HorizontalPodAutoscaler SuccessfulRescale: New size: 3; reason: Current number of replicas below Spec.MinReplicas";
    world.wait(&EVENTS, rescaled, |w| said(w, rescaled)).await;
    let lost = "HorizontalPodAutoscaler FailedGetScale: statefulsets.apps \"nobody\" not found";
    world.wait(&EVENTS, lost, |w| said(w, lost)).await;
    let counted = |w: &World| {
        w.get(&PODDISRUPTIONBUDGETS, "db").filter(|b| b["status"]["expectedPods"] == 3 && b["status"]["disruptionsAllowed"] == 1)
    };
    world.wait(&PODDISRUPTIONBUDGETS, "a budget of one of three", counted).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_rolls_it_out_back_and_up() {
    let world = World::start().await;
    let kubectl = Kubectl::of(world.sandbox.kubeconfig());
    let mut first = set(2, json!({}));
    first["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "the beginning"});
    let Some((out, err, ok)) = kubectl.run(&["apply", "-f", "-"], &first.to_string()).await else { return };
    assert!(ok && out.contains("statefulset.apps/db created"), "{out}{err}");
    // Each: the arguments, and words that must stand in the output.
    let table: &[(&[&str], &[&str])] = &[
        (&["rollout", "status", "sts/db", "--timeout=30s"], &["partitioned roll out complete: 2 new pods have been updated..."]),
        (&["get", "sts"], &["NAME   READY   AGE", "db     2/2"]),
        (&["get", "statefulset", "db", "-o", "wide"], &["CONTAINERS", "IMAGES", "i:1"]),
        (&["get", "controllerrevisions"], &["CONTROLLER", "REVISION", "statefulset.apps/db   1"]),
        (&["describe", "sts", "db"], &["Replicas:           2 desired | 2 total", "create Pod db-0 in StatefulSet db successful"]),
        (&["set", "image", "sts/db", "db=i:2"], &["image updated"]),
        (&["rollout", "status", "sts/db", "--timeout=30s"], &["complete"]),
        (&["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"], &["i:2 i:2"]),
        (&["rollout", "history", "sts/db"], &["REVISION  CHANGE-CAUSE", "1         the beginning", "2         the beginning"]),
        (&["rollout", "history", "sts/db", "--revision=1"], &["i:1"]),
        (&["rollout", "undo", "sts/db"], &["rolled back"]),
        (&["rollout", "status", "sts/db", "--timeout=30s"], &["complete"]),
        (&["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"], &["i:1 i:1"]),
        (&["rollout", "restart", "sts/db"], &["restarted"]),
        (&["rollout", "status", "sts/db", "--timeout=30s"], &["complete"]),
        (&["get", "pod", "db-0", "-o", "jsonpath={.metadata.annotations}"], &["kubectl.kubernetes.io/restartedAt"]),
        (&["scale", "sts/db", "--replicas=3"], &["scaled"]),
        (&["wait", "sts/db", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=30s"], &["condition met"]),
        (&["explain", "statefulset.spec.updateStrategy.rollingUpdate"], &["partition"]),
        (&["api-resources", "--api-group=apps"], &["statefulsets", "sts", "controllerrevisions"]),
        (&["delete", "sts", "db", "--cascade=orphan"], &["deleted"]),
    ];
    for (arguments, words) in table {
        let (out, err, ok) = kubectl.run(arguments, "").await.expect("it was there a moment ago");
        assert!(ok, "{arguments:?}: {out}{err}");
        for word in *words {
            assert!(out.contains(word), "{arguments:?} lacks {word}:\n{out}{err}");
        }
    }
    // The orphans are taken by the next set of the same name, revisions and all; then they go with it.
    let uids = |w: &World| w.all(&PODS).iter().map(|pod| text(pod, "uid").to_owned()).collect::<Vec<_>>();
    let before = uids(&world);
    assert!(before.len() == 3 && world.all(&PODS).iter().all(|pod| pod["metadata"]["ownerReferences"].is_null()));
    let mut again = set(3, json!({}));
    let annotations = world.all(&PODS)[0]["metadata"]["annotations"].clone();
    again["spec"]["template"]["metadata"]["annotations"] = annotations;
    let (_, err, ok) = kubectl.run(&["apply", "-f", "-"], &again.to_string()).await.expect("it was there a moment ago");
    assert!(ok, "{err}");
    settled(&world, "three adopted pods", |s| s["readyReplicas"] == 3 && s["updatedReplicas"] == 3).await;
    assert_eq!(uids(&world), before);
    let (_, err, ok) = kubectl.run(&["delete", "sts", "db"], "").await.expect("it was there a moment ago");
    assert!(ok, "{err}");
    for resource in [&PODS, &CONTROLLERREVISIONS] {
        world.wait(resource, "the end of all that is owned", |w| w.all(resource).is_empty().then_some(())).await;
    }
    assert_eq!(status(&world), Value::Null);
    world.sandbox.stop().await;
}

/// With `LEAST` for the fewest pods that it bears to be ready.
pub const PLAN: &str = "
plan: numbered
claim: A killed pod of a StatefulSet is replaced, and hardly missed.
cluster: sandbox
manifests: [set.yaml]
target: {url: \"http://store.shop:8080/\", workload: shop/statefulset/store}
phases: [{name: all, for: 8s}]
load: [{name: readers, rate: 20/s, request: {get: /, timeout: 2s}}]
faults: [{name: kill-one, at: all + 2s, pod_kill: {pods: 1, grace: 0s}}]
assert:
  - {name: absorbed, fault: kill-one, resilience: {failed: 20%, recover_within: 6s}}
  - {name: never-below, threshold: {metric: shop/sts/store.ready_replicas, aggregate: min, at_least: LEAST}}
";

pub const SET: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: shop}
spec: {selector: {app: store}, ports: [{name: http, port: 8080, targetPort: http}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store, namespace: shop}
spec:
  replicas: 3
  serviceName: store
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: store
          image: squall:0.1.0
          command: [squall, workload, --service-time, 5ms, --workers, \"4\", --connection-age, 1s]
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
";

/// One killed of three leaves two: a plan that bears that passes, and its twin, which bears nothing, fails by the same recording.
#[test]
fn a_plan_names_it_as_its_workload_and_kills_one_of_its_pods() {
    let squall = Squall::new();
    squall.file("set.yaml", SET);
    squall.file("plan.yaml", &PLAN.replace("LEAST", "2"));
    squall.file("twin.yaml", &PLAN.replace("LEAST", "3"));
    squall.run(&["check", "plan.yaml"]).expect(0);
    let rights = squall.run(&["rbac", "plan.yaml"]);
    rights.expect(0).saying("statefulsets");
    let ran = squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]);
    ran.found_nothing_wrong().saying("never-below");
    let recording = std::fs::read_to_string(squall.path("run/recording.jsonl")).expect("it was recorded");
    let facts: Vec<Value> = recording.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let pods: Vec<&Value> = facts.iter().map(|event| &event["fact"]["pod"]).filter(|pod| pod.is_object()).collect();
    let killed = pods.iter().find(|pod| pod["gone"] == true && pod["namespace"] == "shop").expect("one was killed");
    let heirs: Vec<_> = pods.iter().filter(|pod| pod["name"] == killed["name"] && pod["uid"] != killed["uid"]).collect();
    assert!(heirs.iter().any(|pod| pod["ready"] == true), "{killed} was replaced under its name: {pods:#?}");
    squall.run(&["judge", "run", "--plan", "twin.yaml"]).expect(1).saying("never-below");
}

/// What the store says of sets is what the API shows.
#[tokio::test(flavor = "multi_thread")]
async fn its_scale_is_read_and_written() {
    let world = World::without_room().await;
    world.create(&STATEFULSETS, set(2, json!({}))).await;
    let path = format!("{SETS}/db/scale");
    let scale = world.ask(reqwest::Method::GET, &path, "application/json", Value::Null).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("app=db")));
    world.merge(&path, json!({"spec": {"replicas": 4}})).await;
    let set: Arc<Value> = world.get(&STATEFULSETS, "db").expect("it is there");
    assert_eq!((&set["spec"]["replicas"], &set["metadata"]["generation"]), (&json!(4), &json!(2)));
    world.sandbox.stop().await;
}
