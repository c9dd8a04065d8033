//! Goal: what a plan's manifests make is waited for until it works, and taken away whole. How: Jobs that complete, fail, take their time and
//! vanish, applied as a run applies them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall::cluster::{Applied, Error};

use crate::place::{Place, RUN};
use crate::scripted::{Reply, Scripted, list, not_scripted, status};

const PATIENCE: Duration = Duration::from_secs(60);

/// A Job whose pods run this with the image's squall.
fn job(place: &Place, arguments: &[&str], spec: Value) -> Value {
    let command: Vec<&str> = std::iter::once("squall").chain(arguments.iter().copied()).collect();
    let container = json!({"name": "seed", "image": place.image, "command": command});
    let mut job =
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed", "namespace": place.namespace}, "spec": spec});
    job["spec"]["template"] =
        json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}});
    job
}

async fn conditions(place: &Place) -> Vec<String> {
    let job = format!("{}/job/seed", place.namespace).parse().unwrap();
    let (_, value) = place.cluster.object(&job).await.unwrap();
    let holding = value["status"]["conditions"].as_array().into_iter().flatten().filter(|c| c["status"] == "True");
    holding.map(|c| c["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_waited_for_until_it_is_complete_and_taken_away_with_its_pods() {
    let place = Place::open().await;
    let objects = place.apply(vec![job(&place, &["--version"], json!({"completions": 3}))]).await;
    place.cluster.wait_ready(&objects, PATIENCE).await.unwrap();
    assert!(conditions(&place).await.contains(&"Complete".to_owned()), "{:?}", conditions(&place).await);
    let of_job = "job-name=seed";
    assert_eq!(place.cluster.pods(&place.namespace, of_job).await.unwrap().len(), 3, "one after the other");
    place.cluster.remove(&objects, RUN, PATIENCE).await.unwrap();
    assert_eq!(place.cluster.pods(&place.namespace, of_job).await.unwrap(), []);
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_is_told_of_at_once_with_its_reason() {
    let place = Place::open().await;
    // A workload that will never be ready waits for it, as people's do: the Job is what there is to know.
    let waiting = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "web", "image": place.image, "command": ["squall", "workload"],
                "readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1}}]}}}});
    let objects = place.apply(vec![waiting, job(&place, &["no-such-command"], json!({"backoffLimit": 0}))]).await;
    let began = Instant::now();
    let error = place.cluster.wait_ready(&objects, PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }) && began.elapsed() < PATIENCE, "{error} after {:?}", began.elapsed());
    let told = error.to_string();
    let name = format!("{}/job/seed", place.namespace);
    for words in [&name, "it has failed", "(BackoffLimitExceeded)", "container seed", "no-such-command"] {
        assert!(told.contains(words), "`{words}` is not in: {told}");
    }
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_takes_too_long_says_how_far_it_is() {
    let place = Place::open().await;
    let objects = place.apply(vec![job(&place, &["workload"], json!({"completions": 2}))]).await;
    let told = place.cluster.wait_ready(&objects, Duration::from_secs(5)).await.unwrap_err().to_string();
    for words in ["after 5s it is not complete", "1 active, 0 succeeded of 2, 0 failed"] {
        assert!(told.contains(words), "`{words}` is not in: {told}");
    }
    place.cluster.remove(&objects, RUN, PATIENCE).await.unwrap();
    let objects = place.apply(vec![job(&place, &["--version"], json!({"suspend": true}))]).await;
    let told = place.cluster.wait_ready(&objects, Duration::ZERO).await.unwrap_err().to_string();
    assert!(told.contains("0 active") && told.ends_with("and it is suspended"), "{told}");
    place.close().await;
}

/// Goal: a Job that goes by itself before anybody sees it complete is no riddle, and one that cannot be seen for a moment is looked at again.
#[tokio::test]
async fn a_job_that_is_gone_or_out_of_sight_is_told_apart() {
    let looks = Arc::new(AtomicUsize::new(0));
    let seen = looks.clone();
    let server = Scripted::start(move |asked| match asked.path.as_str() {
        "/apis/batch/v1/namespaces/shop/jobs/gone" => status(404, "NotFound", "jobs.batch \"gone\" not found"),
        "/apis/batch/v1/namespaces/shop/jobs" => list("1", vec![]),
        "/apis/batch/v1/namespaces/shop/jobs/late" => match seen.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Text(503, "away".into()),
            1 => Reply::Json(200, json!({"metadata": {"uid": "u"}, "status": {"active": 1}})),
            _ => Reply::Json(
                200,
                json!({"metadata": {"uid": "u"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
            ),
        },
        path if path.starts_with("/api/v1/namespaces/shop/pods") => list("1", vec![]),
        _ => not_scripted(),
    })
    .await;
    let cluster = server.connect().await;
    let applied = |name: &str| Applied {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        namespace: Some("shop".into()),
        name: name.into(),
        pods: Some(format!("job-name={name}")),
    };
    let told = cluster.wait_ready(&[applied("gone")], PATIENCE).await.unwrap_err().to_string();
    assert!(told.contains("shop/job/gone") && told.contains("ttlSecondsAfterFinished"), "{told}");
    cluster.wait_ready(&[applied("late")], PATIENCE).await.unwrap();
    assert_eq!(looks.load(Ordering::SeqCst), 3);
}
