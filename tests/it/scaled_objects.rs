//! Goal: a ScaledObject in the sandbox does what one does where KEDA runs: its target sleeps at zero, is woken by its triggers, is scaled by an
//! autoscaler that is made of it, and is put to rest; and runs, rights and the doctor know it wherever they know an autoscaler. How: triggers
//! that ask a server of the test, whose answer is a dial; what happened is read off the sandbox's objects and events. Plans run as a user's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use squall::sandbox::SandboxConfig;
use squall::sandbox::resource::{DEPLOYMENTS, EVENTS, HPAS, SCALEDOBJECTS, SERVICES, STATEFULSETS};

use super::command::Squall;
use super::fake_service::{FakeService, answer};
use super::kubectl::Kubectl;
use super::readme::{readme, unfenced};
use super::sandbox::{PATIENCE, World};

const SCALED: &str = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects";

/// A server that answers as Prometheus and as any metrics API with the same number; with an error below zero.
struct Source {
    dial: Arc<AtomicI64>,
    server: FakeService,
}

impl Source {
    fn start(value: i64) -> Source {
        let dial = Arc::new(AtomicI64::new(value));
        let shown = dial.clone();
        let server = FakeService::start(move |asked| match shown.load(Ordering::SeqCst) {
            value if value < 0 => answer(500, &[], "out of order"),
            value if asked.uri().path() == "/api/v1/query" => {
                let sample = json!({"metric": {}, "value": [1.0, value.to_string()]});
                answer(200, &[], json!({"status": "success", "data": {"resultType": "vector", "result": [sample]}}).to_string())
            }
            value => answer(200, &[], json!({"queues": [{"depth": value}]}).to_string()),
        });
        Source { dial, server }
    }

    fn set(&self, value: i64) {
        self.dial.store(value, Ordering::SeqCst);
    }

    fn prometheus(&self) -> Value {
        let metadata = json!({"serverAddress": self.server.url(), "query": "sum(depth{queue=\"jobs\"})", "threshold": "10", "activationThreshold": "4"});
        json!({"type": "prometheus", "metadata": metadata})
    }

    fn metrics_api(&self) -> Value {
        let url = format!("{}/state", self.server.url().trim_end_matches('/'));
        json!({"type": "metrics-api", "name": "jobs", "metadata": {"url": url, "valueLocation": "queues.0.depth", "targetValue": "10"}})
    }

    /// Waits until it was asked so many more times.
    async fn asked(&self, more: usize) {
        let before = self.server.asked().len();
        let enough = async {
            while self.server.asked().len() < before + more {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("it is asked again and again");
    }
}

fn target(kind: &str, replicas: i64) -> Value {
    let container = json!({"name": "web", "image": "i:1", "command": ["/bin/sh", "-c", "exec sleep 600"]});
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}})
}

/// A ScaledObject of `web` that looks every second, and whose autoscaler shrinks at once.
fn scaled(triggers: &[Value], more: Value) -> Value {
    let mut spec = json!({"scaleTargetRef": {"name": "web"}, "pollingInterval": 1, "cooldownPeriod": 2, "maxReplicaCount": 6, "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}});
    json_patch::merge(&mut spec, &more);
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web"}, "spec": spec})
}

async fn replicas(world: &World, wanted: i64) {
    let what = format!("{wanted} replicas");
    world.wait(&DEPLOYMENTS, &what, |w| (w.get(&DEPLOYMENTS, "web")?["spec"]["replicas"] == wanted).then_some(())).await;
}

/// Waits for a condition: its status and reason.
async fn condition(world: &World, kind: &str, status: &str, reason: &str) -> Value {
    let what = format!("{kind} {status} ({reason})");
    let found = |w: &World| {
        let object = w.get(&SCALEDOBJECTS, "web")?;
        let found = object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)?.clone();
        (found["status"] == status && found["reason"] == reason).then_some(found)
    };
    world.wait(&SCALEDOBJECTS, &what, found).await
}

async fn event(world: &World, words: &[&str]) -> String {
    let found = |w: &World| w.events().into_iter().find(|event| words.iter().all(|word| event.contains(word)));
    world.wait(&EVENTS, &words.join(" "), found).await
}

async fn annotate(world: &World, name: &str, word: Value) {
    world.merge(&format!("{SCALED}/web"), json!({"metadata": {"annotations": {name: word}}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_put_to_rest_woken_by_prometheus_scaled_out_and_put_back() {
    let (world, source) = (World::start().await, Source::start(0));
    world.create(&DEPLOYMENTS, target("Deployment", 2)).await;
    world.create(&SCALEDOBJECTS, scaled(&[source.prometheus()], json!({}))).await;
    // Nothing was ever active, so there is nothing to wait for.
    replicas(&world, 0).await;
    event(&world, &["KEDAScaleTargetDeactivated", "Deactivated apps/v1.Deployment default/web from 2 to 0"]).await;
    condition(&world, "Active", "False", "ScalerNotActive").await;
    condition(&world, "Ready", "True", "ScaledObjectReady").await;
    condition(&world, "Fallback", "False", "NoFallbackFound").await;
    for words in [["KEDAScalersStarted", "Scaler prometheus is built"], ["KEDAScalersStarted", "Started scalers watch"]] {
        event(&world, &words).await;
    }
    event(&world, &["ScaledObjectReady: ScaledObject is ready for scaling"]).await;
    let status = world.get(&SCALEDOBJECTS, "web").expect("it is there")["status"].clone();
    assert_eq!(status["scaleTargetKind"], "apps/v1.Deployment");
    assert_eq!(
        status["scaleTargetGVKR"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments"})
    );
    assert_eq!((&status["originalReplicaCount"], &status["hpaName"]), (&json!(2), &json!("keda-hpa-web")));
    assert_eq!(status["externalMetricNames"], json!(["s0-prometheus"]));
    let hpa = world.get(&HPAS, "keda-hpa-web").expect("it was made");
    assert_eq!((&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]), (&json!(1), &json!(6)));
    assert_eq!(hpa["metadata"]["ownerReferences"][0]["kind"], "ScaledObject");

    // What is not above the threshold of activation wakes nobody.
    source.set(4);
    source.asked(3).await;
    assert_eq!(world.get(&DEPLOYMENTS, "web").expect("it is there")["spec"]["replicas"], 0);
    let lines = source.server.lines();
    assert!(lines[0].starts_with("GET /api/v1/query?query=sum%28depth%7Bqueue%3D%22jobs%22%7D%29&time=2"), "{lines:?}");

    source.set(35);
    event(
        &world,
        &["KEDAScaleTargetActivated", "Scaled apps/v1.Deployment default/web from 0 to 1, triggered by prometheusScaler"],
    )
    .await;
    replicas(&world, 4).await;
    condition(&world, "Active", "True", "ScalerActive").await;
    event(
        &world,
        &[
            "SuccessfulRescale",
            "external metric s0-prometheus(&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: web,}",
        ],
    )
    .await;
    let shows = |w: &World| {
        let hpa = w.get(&HPAS, "keda-hpa-web")?;
        (hpa["status"]["currentMetrics"][0]["external"]["current"]["averageValue"] == "8750m").then_some(())
    };
    world.wait(&HPAS, "an average of 35 over 4", shows).await;

    // Long enough to be seen in, however slow this machine is; then short.
    world.merge(&format!("{SCALED}/web"), json!({"spec": {"cooldownPeriod": 600}})).await;
    source.set(0);
    condition(&world, "Active", "False", "ScalerCooldown").await;
    world.merge(&format!("{SCALED}/web"), json!({"spec": {"cooldownPeriod": 2}})).await;
    replicas(&world, 0).await;
    let active = world.get(&SCALEDOBJECTS, "web").expect("it is there")["status"]["lastActiveTime"].clone();
    assert!(active.as_str().is_some_and(|time| time.ends_with('Z')), "{active}");
    condition(&world, "Active", "False", "ScalerNotActive").await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_is_woken_by_a_metrics_api_and_rests_at_its_idle_count() {
    let (world, source) = (World::start().await, Source::start(0));
    world.create(&STATEFULSETS, target("StatefulSet", 1)).await;
    let more = json!({"scaleTargetRef": {"kind": "StatefulSet"}, "minReplicaCount": 2, "idleReplicaCount": 0});
    world.create(&SCALEDOBJECTS, scaled(&[source.metrics_api()], more)).await;
    let replicas = async |wanted: i64| {
        let found = |w: &World| (w.get(&STATEFULSETS, "web")?["spec"]["replicas"] == wanted).then_some(());
        world.wait(&STATEFULSETS, &format!("{wanted} replicas"), found).await;
    };
    replicas(0).await;
    source.set(1);
    replicas(2).await;
    event(&world, &["Scaled apps/v1.StatefulSet default/web from 0 to 2, triggered by jobs"]).await;
    source.set(50);
    replicas(5).await;
    source.set(0);
    replicas(0).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_wakes_its_target_for_its_time_and_no_longer() {
    let world = World::start().await;
    // From the first of the month before to the first of the next: now, whenever this runs.
    let month = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).month());
    let (before, after) = ((month + 10) % 12 + 1, month % 12 + 1);
    let cron = |from: i32, to: i32| json!({"type": "cron", "metadata": {"timezone": "UTC", "start": format!("0 0 1 {from} *"), "end": format!("0 0 1 {to} *"), "desiredReplicas": "3"}});
    world.create(&DEPLOYMENTS, target("Deployment", 0)).await;
    world.create(&SCALEDOBJECTS, scaled(&[cron(before, after)], json!({}))).await;
    replicas(&world, 3).await;
    event(&world, &["from 0 to 1, triggered by cronScaler"]).await;
    world.merge(&format!("{SCALED}/web"), json!({"spec": {"triggers": [cron(after, before)]}})).await;
    replicas(&world, 0).await;
    world.sandbox.stop().await;
}

/// Goal: a trigger finds a Service of the sandbox by the name that it has in a cluster. How: pods that show a number over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_asks_a_service_of_the_sandbox_by_its_name() {
    let world = World::start().await;
    let serve =
        "cd $(mktemp -d) && echo '{\"queues\": [{\"depth\": 30}]}' > state && exec python3 -m http.server 8080 --bind $POD_IP";
    let container = json!({"name": "queue", "image": "i:1", "command": ["/bin/sh", "-c", serve], "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/state", "port": 8080}, "periodSeconds": 1}});
    let mut queue = target("Deployment", 1);
    queue["metadata"]["name"] = json!("queue");
    queue["spec"]["selector"]["matchLabels"] = json!({"app": "queue"});
    queue["spec"]["template"]["metadata"]["labels"] = json!({"app": "queue"});
    queue["spec"]["template"]["spec"]["containers"] = json!([container]);
    world.create(&DEPLOYMENTS, queue).await;
    let service = json!({"metadata": {"name": "queue"}, "spec": {"selector": {"app": "queue"}, "ports": [{"port": 8080}]}});
    world.create(&SERVICES, service).await;
    world.create(&DEPLOYMENTS, target("Deployment", 0)).await;
    let url = "http://queue.default.svc.cluster.local:8080/state";
    let trigger = json!({"type": "metrics-api", "metadata": {"url": url, "valueLocation": "queues.0.depth", "targetValue": "10"}});
    world.create(&SCALEDOBJECTS, scaled(&[trigger], json!({}))).await;
    replicas(&world, 3).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_stands_for_a_server_that_is_away_until_it_is_back() {
    let (world, source) = (World::start().await, Source::start(15));
    world.create(&DEPLOYMENTS, target("Deployment", 0)).await;
    let fallback = json!({"fallback": {"failureThreshold": 2, "replicas": 5}});
    world.create(&SCALEDOBJECTS, scaled(&[source.prometheus()], fallback)).await;
    replicas(&world, 2).await;
    let health = |w: &World| w.get(&SCALEDOBJECTS, "web").map(|object| object["status"]["health"]["s0-prometheus"].clone());
    assert_eq!(health(&world), Some(json!({"numberOfFailures": 0, "status": "Happy"})));

    source.set(-1);
    event(&world, &["KEDAScalerFailed: prometheus query api returned error. status: 500 out of order"]).await;
    condition(&world, "Fallback", "True", "FallbackExists").await;
    replicas(&world, 5).await;
    event(&world, &["ScaledObjectFallbackActivated"]).await;
    assert!(health(&world).is_some_and(|health| health["status"] == "Failing" && health["numberOfFailures"].as_i64() > Some(2)));

    source.set(15);
    condition(&world, "Fallback", "False", "NoFallbackFound").await;
    event(&world, &["ScaledObjectFallbackDeactivated"]).await;
    replicas(&world, 2).await;

    // Nobody listens there any more.
    drop(source);
    event(&world, &["KEDAScalerFailed", "connection refused"]).await;
    replicas(&world, 5).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_a_failing_trigger_leaves_its_target_as_it_is_and_says_so() {
    let (world, source) = (World::start().await, Source::start(25));
    world.create(&DEPLOYMENTS, target("Deployment", 0)).await;
    world.create(&SCALEDOBJECTS, scaled(&[source.prometheus()], json!({}))).await;
    replicas(&world, 3).await;
    source.set(-1);
    condition(&world, "Ready", "False", "TriggerError").await;
    // Longer than the cooldown, and than several looks of the autoscaler.
    source.asked(12).await;
    assert_eq!(world.get(&DEPLOYMENTS, "web").expect("it is there")["spec"]["replicas"], 3);
    let says = |w: &World| {
        let hpa = w.get(&HPAS, "keda-hpa-web")?;
        let active = hpa["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "ScalingActive")?.clone();
        (active["reason"] == "FailedGetExternalMetric").then(|| active["message"].to_string())
    };
    let message = world.wait(&HPAS, "an autoscaler without its metric", says).await;
    assert!(message.contains("error when getting metric values metric:s0-prometheus encountered error"), "{message}");
    source.set(25);
    condition(&world, "Ready", "True", "ScaledObjectReady").await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_pause_it_as_it_is_or_at_a_size_and_taking_them_away_goes_on() {
    let (world, source) = (World::start().await, Source::start(0));
    world.create(&DEPLOYMENTS, target("Deployment", 1)).await;
    world.create(&SCALEDOBJECTS, scaled(&[source.metrics_api()], json!({}))).await;
    replicas(&world, 0).await;
    annotate(&world, "autoscaling.keda.sh/paused", json!("true")).await;
    condition(&world, "Paused", "True", "ScaledObjectPaused").await;
    event(&world, &["KEDAScalersStopped: Stopped scalers watch"]).await;
    world.wait(&HPAS, "no autoscaler", |w| w.all(&HPAS).is_empty().then_some(())).await;
    source.set(30);
    annotate(&world, "autoscaling.keda.sh/paused", Value::Null).await;
    condition(&world, "Paused", "False", "ScaledObjectUnpaused").await;
    replicas(&world, 3).await;

    annotate(&world, "autoscaling.keda.sh/paused-replicas", json!("1")).await;
    replicas(&world, 1).await;
    condition(&world, "Paused", "True", "ScaledObjectPaused").await;
    assert_eq!(world.get(&SCALEDOBJECTS, "web").expect("it is there")["status"]["pausedReplicaCount"], 1);
    annotate(&world, "autoscaling.keda.sh/paused-replicas", Value::Null).await;
    replicas(&world, 3).await;
    let status = world.get(&SCALEDOBJECTS, "web").expect("it is there")["status"].clone();
    assert!(status.get("pausedReplicaCount").is_none(), "{status}");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sandbox_does_not_have_is_refused_in_the_status_and_mended_by_a_change() {
    let (world, source) = (World::without_room().await, Source::start(0));
    let kafka = json!({"type": "kafka", "metadata": {"topic": "orders"}});
    world.create(&SCALEDOBJECTS, scaled(&[kafka], json!({}))).await;
    let ready = condition(&world, "Ready", "False", "ScaledObjectCheckFailed").await;
    let missing = "ScaledObject doesn't have correct scaleTargetRef specification: Target resource doesn't exist: deployments.apps \"web\" not found";
    assert_eq!(ready["message"], missing);
    condition(&world, "Active", "Unknown", "UnknownState").await;

    world.create(&DEPLOYMENTS, target("Deployment", 1)).await;
    let unsupported = "failed to ensure HPA is correctly created for ScaledObject: no scaler found for type: kafka; the sandbox has cron, metrics-api, prometheus";
    let says = |w: &World| {
        let object = w.get(&SCALEDOBJECTS, "web")?;
        let ready = object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Ready")?.clone();
        (ready["message"] == unsupported).then_some(())
    };
    world.wait(&SCALEDOBJECTS, "what it has", says).await;
    event(&world, &["KEDAScalerFailed: no scaler found for type: kafka"]).await;
    event(&world, &["ScaledObjectCheckFailed", "no scaler found for type: kafka"]).await;
    assert!(world.all(&HPAS).is_empty());

    world.merge(&format!("{SCALED}/web"), json!({"spec": {"triggers": [source.metrics_api()]}})).await;
    condition(&world, "Ready", "True", "ScaledObjectReady").await;
    replicas(&world, 0).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_deleted_gives_its_target_back_and_takes_its_autoscaler_along() {
    let (world, source) = (World::start().await, Source::start(0));
    world.create(&DEPLOYMENTS, target("Deployment", 2)).await;
    let more = json!({"advanced": {"restoreToOriginalReplicaCount": true, "horizontalPodAutoscalerConfig": {"name": "mine"}}});
    world.create(&SCALEDOBJECTS, scaled(&[source.metrics_api()], more)).await;
    replicas(&world, 0).await;
    assert!(world.get(&HPAS, "mine").is_some());
    world.delete(&format!("{SCALED}/web"), None).await;
    world.wait(&SCALEDOBJECTS, "its end", |w| w.all(&SCALEDOBJECTS).is_empty().then_some(())).await;
    replicas(&world, 2).await;
    world.wait(&HPAS, "the end of its autoscaler", |w| w.all(&HPAS).is_empty().then_some(())).await;
    event(&world, &["ScaledObjectDeleted: ScaledObject was deleted"]).await;
    world.sandbox.stop().await;
}

/// Goal: what a trigger read at its polling interval is what the autoscaler gets, where it says so. How: an interval of an hour, in which an
/// autoscaler that looks several times a second is answered by the one question that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn cached_metrics_are_read_once_for_the_operator_and_the_autoscaler() {
    // The operator reads before the autoscaler looks for the first time.
    let config = SandboxConfig { autoscaler_sync: Duration::from_secs(1), ..SandboxConfig::default() };
    let (world, source) = (World::with(config).await, Source::start(30));
    world.create(&DEPLOYMENTS, target("Deployment", 1)).await;
    let mut trigger = source.metrics_api();
    trigger["useCachedMetrics"] = json!(true);
    world.create(&SCALEDOBJECTS, scaled(&[trigger], json!({"pollingInterval": 3600, "minReplicaCount": 1}))).await;
    replicas(&world, 3).await;
    source.set(60);
    let again = |w: &World| {
        let hpa = w.get(&HPAS, "keda-hpa-web")?;
        (hpa["status"]["currentMetrics"][0]["external"]["current"]["averageValue"] == "10").then_some(())
    };
    world.wait(&HPAS, "the same number as before", again).await;
    assert_eq!(source.server.asked().len(), 1, "{:?}", source.server.lines());
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_has_one_scaler_and_the_api_serves_it_as_a_kind_that_was_defined() {
    let (world, source) = (World::without_room().await, Source::start(0));
    let resources = world.ask(Method::GET, "/apis/keda.sh/v1alpha1", "application/json", Value::Null).await;
    assert_eq!(resources["resources"][0]["shortNames"], json!(["so"]));
    assert_eq!(resources["resources"][1]["name"], "scaledobjects/status");
    world.create(&DEPLOYMENTS, target("Deployment", 1)).await;
    let hpa = json!({"metadata": {"name": "by-hand"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    world.create(&HPAS, hpa).await;
    let made = scaled(&[source.metrics_api()], json!({}));
    let (status, refused) = world.answer(Method::POST, SCALED, "application/json", made.clone()).await;
    let denied = "admission webhook \"vscaledobject.kb.io\" denied the request: the workload 'web' of type 'apps/v1.Deployment' is already managed by the hpa 'by-hand'";
    assert_eq!((status, &refused["message"]), (403, &json!(denied)));
    world.delete("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/by-hand", None).await;
    world.create(&SCALEDOBJECTS, made.clone()).await;
    let mut second = made;
    second["metadata"]["name"] = json!("second");
    let (status, refused) = world.answer(Method::POST, SCALED, "application/json", second).await;
    assert!(status == 403 && refused["message"].as_str().is_some_and(|why| why.contains("by the ScaledObject 'web'")), "{refused}");

    let wrong = json!({"spec": {"minReplicaCount": 9, "triggers": []}});
    let (status, refused) = world.answer(Method::PATCH, &format!("{SCALED}/web"), "application/merge-patch+json", wrong).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(status == 422 && message.contains("MinReplicaCount=9 must be less than MaxReplicaCount=6"), "{refused}");
    assert!(
        message.starts_with("ScaledObject.keda.sh \"web\" is invalid: [") && message.contains("no triggers defined"),
        "{message}"
    );
    let patch = json!({"spec": {"maxReplicaCount": 7}});
    let (status, refused) =
        world.answer(Method::PATCH, &format!("{SCALED}/web"), "application/strategic-merge-patch+json", patch.clone()).await;
    assert!(
        status == 415 && refused["message"].as_str().is_some_and(|why| why.contains("application/merge-patch+json")),
        "{refused}"
    );
    // An edit of the spec counts as a generation, what is written into the status does not.
    let first = world.get(&SCALEDOBJECTS, "web").expect("it is there")["metadata"]["generation"].clone();
    let status_only = json!({"status": {"pausedReplicaCount": 3}});
    world.merge(&format!("{SCALED}/web/status"), status_only).await;
    assert_eq!(world.get(&SCALEDOBJECTS, "web").expect("it is there")["metadata"]["generation"], first);
    let changed = world.merge(&format!("{SCALED}/web"), patch).await;
    assert_eq!(changed["metadata"]["generation"].as_i64(), first.as_i64().map(|first| first + 1));
    world.wait(&HPAS, "its new most", |w| (w.get(&HPAS, "keda-hpa-web")?["spec"]["maxReplicas"] == 7).then_some(())).await;
    let list = world.ask(Method::GET, SCALED, "application/json", Value::Null).await;
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("ScaledObjectList"), &json!("ScaledObject")));
    world.sandbox.stop().await;
}

/// Goal: the README's ScaledObject is one. How: it is made as it stands there, but asks the server of this test.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_scaled_object_does_what_it_says() {
    let (world, source) = (World::start().await, Source::start(50));
    let text = unfenced(&readme(), "manifest", "scaled-object").replace("http://prometheus:9090", &source.server.url());
    let object: Value = serde_yaml::from_str(&text).expect("it is YAML");
    assert_eq!(object["spec"]["triggers"][0]["metadata"]["serverAddress"], source.server.url());
    let mut worker = target("Deployment", 0);
    worker["metadata"]["name"] = json!("worker");
    world.create(&DEPLOYMENTS, worker).await;
    world.create(&SCALEDOBJECTS, object).await;
    world.wait(&DEPLOYMENTS, "five", |w| (w.get(&DEPLOYMENTS, "worker")?["spec"]["replicas"] == 5).then_some(())).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_gets_describes_waits_for_and_deletes_it() {
    let (world, source) = (World::start().await, Source::start(0));
    let kubectl = Kubectl::of(world.sandbox.kubeconfig());
    let mut object = scaled(&[source.prometheus(), source.metrics_api()], json!({"minReplicaCount": 0}));
    let manifests = format!("{}\n{object}", target("Deployment", 1));
    let Some((out, complaint, ok)) = kubectl.run(&["apply", "-f", "-"], &manifests).await else { return };
    assert!(ok && out.contains("scaledobject.keda.sh/web created"), "{out}{complaint}");
    let waiting = ["wait", "so/web", "--for=condition=Ready", "--timeout=30s"];
    let (out, complaint, ok) = kubectl.run(&waiting, "").await.expect("it was there before");
    assert!(ok, "{out}{complaint}");
    replicas(&world, 0).await;
    condition(&world, "Active", "False", "ScalerNotActive").await;
    let (out, complaint, ok) = kubectl.run(&["get", "scaledobjects"], "").await.expect("it was there before");
    assert!(ok, "{complaint}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    let columns = "NAME SCALETARGETKIND SCALETARGETNAME MIN MAX READY ACTIVE FALLBACK PAUSED TRIGGERS AUTHENTICATIONS AGE";
    assert_eq!(lines[0].join(" "), columns, "{out}");
    let cells = ["web", "apps/v1.Deployment", "web", "0", "6", "True", "False", "False", "Unknown", "prometheus,metrics-api"];
    assert_eq!(lines[1][..10], cells, "{out}");
    let (out, complaint, ok) = kubectl.run(&["describe", "so", "web"], "").await.expect("it was there before");
    assert!(ok, "{complaint}");
    for word in [
        "Scale Target Ref:",
        "Polling Interval:",
        "ScaledObject is defined correctly and is ready for scaling",
        "KEDAScaleTargetDeactivated",
        "keda-operator",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    object["spec"]["maxReplicaCount"] = json!(9);
    let (out, complaint, ok) = kubectl.run(&["apply", "-f", "-"], &object.to_string()).await.expect("it was there before");
    assert!(ok && out.contains("scaledobject.keda.sh/web configured"), "{out}{complaint}");
    let (out, complaint, ok) = kubectl.run(&["explain", "scaledobject.spec.triggers"], "").await.expect("it was there before");
    assert!(ok && out.contains("metadata"), "{out}{complaint}");
    let (out, complaint, ok) = kubectl.run(&["delete", "so", "web", "--timeout=30s"], "").await.expect("it was there before");
    assert!(ok && out.contains("deleted"), "{out}{complaint}");
    assert!(world.all(&SCALEDOBJECTS).is_empty());
    world.sandbox.stop().await;
}

/// A worker that sleeps at zero until jobs wait, which are what the load sends.
pub fn worker(queue: &str, activation: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: worker, namespace: shop}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: worker}}}}
  template:
    metadata: {{labels: {{app: worker}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: worker
          image: squall:0.1.0
          command: [squall, workload]
          env:
            - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
          ports: [{{name: http, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 1}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: worker, namespace: shop}}
spec:
  scaleTargetRef: {{name: worker}}
  pollingInterval: 1
  cooldownPeriod: 60
  maxReplicaCount: 5
  triggers:
    - type: metrics-api
      metadata: {{url: '{queue}/depth', valueLocation: waiting, targetValue: '10', activationTargetValue: '{activation}'}}
"
    )
}

pub fn plan(queue: &str) -> String {
    format!(
        "
plan: woken
claim: A worker that sleeps at zero is woken when jobs wait, and there are enough of it in time.
cluster: sandbox
manifests: [worker.yaml]
target: {{url: '{queue}/jobs', workload: shop/deployment/worker, autoscaler: shop/scaledobject/worker}}
phases: [{{name: quiet, for: 3s}}, {{name: burst, for: 25s}}]
load: [{{name: jobs, rate: {{quiet: 1/s, burst: 2/s}}, request: {{post: /}}}}]
assert:
  - {{name: sleeps, during: quiet, threshold: {{metric: shop/deployment/worker.ready_replicas, aggregate: max, at_most: 0}}}}
  - {{name: wakes, during: burst, autoscaling: {{reach: 1, within: auto, reversals: 0}}}}
  - {{name: scales, during: burst, autoscaling: {{reach: 3, within: auto, at_most: 5, of: shop/so/worker}}}}
"
    )
}

/// A queue of jobs: what comes waits, and ten times as much from the fourth job on, so that a few requests a second are a burst.
pub fn queue() -> FakeService {
    let jobs = AtomicUsize::new(0);
    FakeService::start(move |asked| match asked.uri().path() {
        "/depth" => {
            let waiting = match jobs.load(Ordering::SeqCst) {
                0..5 => 0,
                _ => 27,
            };
            answer(200, &[], json!({"waiting": waiting}).to_string())
        }
        _ => {
            jobs.fetch_add(1, Ordering::SeqCst);
            answer(200, &[], "taken")
        }
    })
}

/// Goal: a run sees a workload come from zero, and its assertions judge it by the ScaledObject's own rules. How: a queue whose depth is what a
/// ScaledObject scales by. Its twin, whose trigger must see more than there ever is before it wakes anybody, fails for that reason.
#[test]
fn a_run_sees_its_workload_come_from_zero_and_a_trigger_that_wakes_nobody_fails() {
    for (activation, exit) in [("0", 0), ("1000", 1)] {
        let (squall, queue) = (Squall::new(), queue());
        let url = queue.url().trim_end_matches('/').to_owned();
        squall.file("worker.yaml", &worker(&url, activation));
        squall.file("plan.yaml", &plan(&url));
        squall.run(&["check", "plan.yaml"]).expect(0);
        let ran = squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]);
        if exit == 0 {
            ran.found_nothing_wrong()
        } else {
            ran.expect(exit)
        };
        let run: Value =
            serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("it ran")).expect("JSON");
        let finding = |name: &str| {
            let findings = run["findings"].as_array().expect("findings").iter();
            findings.into_iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name}: {run:#}")).clone()
        };
        assert_ne!(finding("sleeps.max")["verdict"], "fail", "{run:#}");
        let (wakes, scales) = (finding("wakes.reach"), finding("scales.reach"));
        for found in [&wakes, &scales] {
            assert!(found.to_string().contains("woken from 0 to 1 by polling interval 1s"), "{found:#}");
        }
        if exit == 0 {
            assert!(wakes["verdict"] != "fail" && scales["verdict"] != "fail", "{run:#}");
        } else {
            assert!(wakes["verdict"] == "fail" && scales["verdict"] != "pass", "{run:#}");
            assert!(wakes.to_string().contains("Active=False, ScalerNotActive"), "{wakes:#}");
        }
        let recording = std::fs::read_to_string(squall.path("run/recording.jsonl")).expect("it was recorded");
        assert!(recording.contains("\"waking\":{\"polling_interval_s\":1.0,\"cooldown_s\":60.0,\"first\":1}"), "its live spec");
        assert_eq!(recording.contains("KEDAScaleTargetActivated"), exit == 0, "what KEDA said of it");
        if exit == 0 {
            ran.saying("0 -> 1 wanted");
        }
    }
}

/// Goal: a plan that names a ScaledObject is granted what it asks for, and no more than it names. How: what is printed; see `rbac` for what is
/// asked.
#[test]
fn rights_take_it_as_what_it_is() {
    let squall = Squall::new();
    squall.file("worker.yaml", &worker("http://127.0.0.1:9", "0"));
    squall.file("plan.yaml", &plan("http://127.0.0.1:9"));
    let said = squall.run(&["rbac", "plan.yaml"]);
    said.expect(0).saying("scaledobjects").saying("keda.sh");
    assert!(!said.stdout.contains("scaledobjects/scale"), "it is no workload: {}", said.stdout);
    squall.run(&["check", "--explain", "plan.yaml"]).expect(0).saying("list,watch").saying("scaledobjects.keda.sh");
    let wrong = plan("http://127.0.0.1:9").replace("shop/scaledobject/worker}", "shop/service/worker}");
    squall.file("wrong.yaml", &wrong);
    squall.run(&["check", "wrong.yaml"]).expect(2).saying("a HorizontalPodAutoscaler or a ScaledObject is watched");
}

/// Goal: what is known to go wrong with ScaledObjects is found in manifests. How: a sound plan, one with a second autoscaler, and a trigger that
/// takes no answer for no load.
#[test]
fn the_doctor_looks_at_it_before_a_run() {
    let squall = Squall::new();
    let sound = worker("http://127.0.0.1:9", "0");
    squall.file("worker.yaml", &sound);
    squall.file("plan.yaml", &plan("http://127.0.0.1:9"));
    squall.run(&["doctor", "plan.yaml"]).expect(0).saying("two-autoscalers");
    let second = "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: second, namespace: shop}\n\
                  spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}, maxReplicas: 3}\n";
    squall.file("worker.yaml", &format!("{sound}{second}"));
    squall.run(&["doctor", "plan.yaml"]).expect(1).saying("WRONG: two-autoscalers").saying("shop/scaledobject/worker");
    let prometheus =
        "- type: prometheus\n      metadata: {serverAddress: 'http://127.0.0.1:9', query: 'sum(depth)', threshold: '5'}";
    let at = sound.find("- type: metrics-api").expect("its trigger");
    squall.file("worker.yaml", &format!("{}{prometheus}\n", &sound[..at]));
    squall.run(&["doctor", "plan.yaml"]).expect(0).saying("empty-answers").saying("sum(depth)");
}

/// Goal: a plan whose trigger the sandbox does not have ends at once, with what there is. How: a trigger of Kafka.
#[test]
fn a_run_with_a_trigger_that_is_not_there_ends_before_it_sends_anything() {
    let (squall, queue) = (Squall::new(), queue());
    let url = queue.url().trim_end_matches('/').to_owned();
    squall.file("worker.yaml", &worker(&url, "0").replace("type: metrics-api", "type: kafka"));
    squall.file("plan.yaml", &plan(&url));
    let ran = squall.run(&["run", "plan.yaml", "--out", "run"]);
    ran.expect(4).saying("no scaler found for type: kafka").saying("cron, metrics-api, prometheus");
    assert!(queue.lines().iter().all(|line| !line.starts_with("POST")), "{:?}", queue.lines());
    assert!(!Path::new(&squall.path("run/recording.jsonl")).exists() || !ran.stdout.contains("PASS"));
}
