//! Goal: a Job in the sandbox goes through what a Job of a real Kubernetes 1.36 goes through. How: the recorded one is made again and its
//! objects, its milestones, their order and its events are compared; and Jobs that fail, stop, wait and expire are watched to their end.

use std::sync::Arc;

use serde_json::{Value, json};
use squall::sandbox::resource::{EVENTS, JOBS, PODS};
use squall::sandbox::store::{ChangeKind, text, version_of};

use super::recorded::{More, Recording, differences};
use super::sandbox::World;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// An object without what differs from cluster to cluster: namespace, image, command, the uid of its Job and generated suffixes.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    let is_job = object["kind"] == "Job";
    let uid = if is_job {
        text(&object, "uid").to_owned()
    } else {
        object["metadata"]["labels"]["controller-uid"].as_str().unwrap_or_default().to_owned()
    };
    for field in ["namespace", "name"].into_iter().skip(usize::from(is_job)) {
        object["metadata"][field] = json!("-");
    }
    object["metadata"]["namespace"] = json!("-");
    let spec = if is_job { &mut object["spec"]["template"]["spec"] } else { &mut object["spec"] };
    spec["containers"][0]["command"] = json!("-");
    spec["nodeName"] = json!("-");
    let text = object.to_string();
    serde_json::from_str(&if uid.is_empty() { text } else { text.replace(&uid, "-") }).expect("it is still JSON")
}

#[track_caller]
fn compare(what: &str, expected: &Value, got: &Value) {
    let found: Vec<String> = differences(expected, got, More::Allowed).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what} differs from the recorded one:\n{}\nours: {got:#}", found.join("\n"));
}

/// A status without its times.
fn timeless(status: &Value) -> Value {
    let mut status = status.clone();
    for time in ["startTime", "completionTime"] {
        if !status[time].is_null() {
            status[time] = json!("some time");
        }
    }
    status.as_object_mut().expect("a status is an object").retain(|_, value| !value.is_null());
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            assert!(condition[time].is_string(), "{condition} has its times");
            condition[time] = json!("some time");
        }
    }
    status
}

fn holds(job: &Value, kind: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == kind && c["status"] == "True")
}

async fn ended(world: &World, kind: &str) -> Arc<Value> {
    world.wait(&JOBS, kind, |w| w.get(&JOBS, "work").filter(|job| holds(job, kind))).await
}

/// A Job of one container that runs `script`.
fn job(script: &str, spec: Value) -> Value {
    let container = json!({"name": "w", "image": "i:1", "command": ["/bin/sh", "-c", script]});
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": spec});
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]});
    job["spec"]["template"] = json!({"spec": pod});
    job
}

fn of_job(events: &[Arc<Value>]) -> Vec<(String, String)> {
    let about = |event: &&Arc<Value>| event["involvedObject"]["kind"] == "Job";
    let word = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    events.iter().filter(about).map(|event| (word(event, "reason"), word(event, "message"))).collect()
}

/// Whether a Job tells of a milestone.
type Told<'a> = &'a dyn Fn(&Value) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_goes_the_way_of_the_recorded_one() {
    let world = World::start().await;
    let from = world.sandbox.store().version();
    let recording = Recording::read("watch-job");
    let theirs = recording.watched("jobs");
    let mut wanted = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "shards"}});
    for asked in ["parallelism", "completions", "backoffLimit", "completionMode"] {
        wanted["spec"][asked] = theirs[0]["object"]["spec"][asked].clone();
    }
    let mut pod = theirs[0]["object"]["spec"]["template"]["spec"].clone();
    pod["containers"][0]["command"] = json!(["/bin/sh", "-c", "echo shard $JOB_COMPLETION_INDEX; sleep 1"]);
    wanted["spec"]["template"]["spec"] = pod;
    world.create(&JOBS, wanted).await;
    world.wait(&JOBS, "the end of the job", |w| w.get(&JOBS, "shards").filter(|job| holds(job, "Complete"))).await;
    let (jobs, pods) = (world.history(&JOBS, from).await, world.history(&PODS, from).await);

    compare("the new job", &plain(&theirs[0]["object"]), &plain(&jobs[0].object));
    // Each pod as it was made, and where it is counted.
    let recorded_pods = recording.watched("pods");
    for number in 0..3 {
        let index = json!(number.to_string());
        let is_it = |pod: &Value| pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] == index;
        let made = pods.iter().find(|change| change.kind == ChangeKind::Added && is_it(&change.object)).expect("it was made");
        let other = recorded_pods.iter().find(|event| event["type"] == "ADDED" && is_it(&event["object"])).expect("so was theirs");
        compare("a new pod", &plain(&other["object"]), &plain(&made.object));
        assert!(text(&made.object, "name").starts_with(&format!("shards-{number}-")));
        let log = world.log(text(&made.object, "name"), "").await;
        assert_eq!(log.trim(), format!("shard {number}"));
        let last = pods.iter().rev().find(|change| is_it(&change.object)).expect("it ended");
        assert!(last.object["metadata"]["finalizers"].is_null() && last.object["status"]["phase"] == "Succeeded");
    }

    // The milestones: begun, all ready, enough have succeeded, complete; what lies between them depends on who is faster.
    let milestone = |of: Told| -> (Value, Arc<Value>) {
        let theirs = theirs.iter().find(|event| of(&event["object"])).expect("it was recorded");
        let ours = jobs.iter().find(|change| of(&change.object)).unwrap_or_else(|| panic!("{theirs} did not happen"));
        (theirs["object"]["status"].clone(), ours.object.clone())
    };
    let stages: [(&str, Told); 4] = [
        ("begun", &|job| !job["status"]["startTime"].is_null()),
        ("all ready", &|job| job["status"]["ready"] == 3),
        ("enough have succeeded", &|job| holds(job, "SuccessCriteriaMet")),
        ("complete", &|job| holds(job, "Complete")),
    ];
    let mut versions = vec![];
    for (stage, of) in stages {
        let (expected, ours) = milestone(of);
        assert_eq!(timeless(&ours["status"]), timeless(&expected), "{stage}");
        versions.push(version_of(&ours));
    }
    assert!(versions.is_sorted(), "{versions:?}");
    // The last pod is let go after it is counted and before the job is complete.
    let tracked = |object: &Value| object["metadata"]["finalizers"].as_array().is_some_and(|list| list.contains(&json!(TRACKING)));
    let freed = pods.iter().filter(|c| !tracked(&c.object) && c.previous.as_deref().is_some_and(tracked)).map(|c| c.version);
    let last = freed.max().expect("pods were let go");
    assert!(versions[2] < last && last < versions[3], "{last} in {versions:?}");

    let ours = of_job(&world.all(&EVENTS));
    let reasons = |events: &[(String, String)]| events.iter().map(|(reason, _)| reason.clone()).collect::<Vec<_>>();
    let theirs: Vec<Arc<Value>> = recording.watched("events").iter().map(|event| Arc::new(event["object"].clone())).collect();
    assert_eq!(reasons(&ours), reasons(&of_job(&theirs)));
    assert!(ours[0].1.starts_with("Created pod: shards-") && ours[3].1 == "Job completed", "{ours:?}");
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gives_up_after_its_backoff_limit() {
    let world = World::start().await;
    world.create(&JOBS, job("exit 3", json!({"backoffLimit": 1}))).await;
    let job = ended(&world, "Failed").await;
    assert_eq!((&job["status"]["failed"], &job["status"]["active"]), (&json!(2), &Value::Null), "{job:#}");
    let kinds: Vec<&str> = job["status"]["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["FailureTarget", "Failed"]);
    let last = &job["status"]["conditions"][1];
    assert_eq!(
        (&last["reason"], &last["message"]),
        (&json!("BackoffLimitExceeded"), &json!("Job has reached the specified backoff limit"))
    );
    assert!(job["status"]["completionTime"].is_null());
    let wanted = ("BackoffLimitExceeded".to_owned(), "Job has reached the specified backoff limit".to_owned());
    world.wait(&EVENTS, "the event of its failure", |w| of_job(&w.all(&EVENTS)).contains(&wanted).then_some(())).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_time_is_up_ends_its_pods() {
    let world = World::start().await;
    world.create(&JOBS, job("exec sleep 600", json!({"activeDeadlineSeconds": 1, "parallelism": 2}))).await;
    let job = ended(&world, "Failed").await;
    assert_eq!(job["status"]["conditions"][1]["reason"], "DeadlineExceeded");
    assert_eq!(world.sandbox.processes(), 0);
    world.wait(&PODS, "the end of its pods", |w| w.all(&PODS).is_empty().then_some(())).await;
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_waits_and_a_finished_one_expires() {
    let world = World::start().await;
    world.create(&JOBS, job("exit 0", json!({"suspend": true, "ttlSecondsAfterFinished": 1}))).await;
    let waiting = ended(&world, "Suspended").await;
    assert!(waiting["status"]["startTime"].is_null() && world.all(&PODS).is_empty(), "{waiting:#}");
    world.merge("/apis/batch/v1/namespaces/default/jobs/work", json!({"spec": {"suspend": false}})).await;
    let done = ended(&world, "Complete").await;
    let resumed = &done["status"]["conditions"][0];
    assert_eq!((&resumed["status"], &resumed["reason"]), (&json!("False"), &json!("JobResumed")));
    world.wait(&JOBS, "its expiry", |w| w.all(&JOBS).is_empty().then_some(())).await;
    world.wait(&PODS, "the end of its pods", |w| w.all(&PODS).is_empty().then_some(())).await;
    let reasons: Vec<String> = of_job(&world.all(&EVENTS)).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["Suspended", "SuccessfulCreate", "Resumed", "Completed"]);
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pod_of_a_job_counts_once_and_is_replaced() {
    let world = World::start().await;
    world.create(&JOBS, job("exec sleep 600", json!({}))).await;
    let first = world.ready_pods(1).await.remove(0);
    world.delete(&format!("/api/v1/namespaces/default/pods/{first}"), Some(0)).await;
    world.wait(&PODS, "its replacement", |w| w.all(&PODS).iter().all(|pod| text(pod, "name") != first).then_some(())).await;
    assert_ne!(world.ready_pods(1).await, [first]);
    let counted = |w: &World| w.get(&JOBS, "work").filter(|job| job["status"]["failed"] == 1 && job["status"]["active"] == 1);
    world.wait(&JOBS, "one failure and one active pod", counted).await;

    // Without a word about its pods, a Job's deletion leaves them.
    world.delete("/apis/batch/v1/namespaces/default/jobs/work", None).await;
    world.wait(&JOBS, "the end of the job", |w| w.all(&JOBS).is_empty().then_some(())).await;
    let freed = |w: &World| {
        let pods = w.all(&PODS);
        let free = |pod: &Arc<Value>| pod["metadata"]["ownerReferences"].is_null() && pod["metadata"]["finalizers"].is_null();
        (pods.len() == 1 && pods.iter().all(free)).then_some(())
    };
    world.wait(&PODS, "its orphan", freed).await;
    world.sandbox.stop().await;
}
