//! Runs the pods of a Job until enough of them have succeeded, too many have failed, or its time is up. Every pod of it carries a
//! finalizer until it is counted, so that none is counted twice and none is lost, however it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::claimed;
use super::indexes::Indexes;
use super::replicaset::victims;
use super::template::pod_of;
use super::{CREATED_MAX, Shared, follow};
use crate::sandbox::objects::{
    Key, Updates, condition, controller, has_ended, int, is_active, is_leaving, is_ready, key, millis, set_condition,
};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{JOBS, PODS};
use crate::sandbox::store::{DeleteOptions, Preconditions, Propagation, metadata, seconds, text};
use crate::time::{monotonic_now, wall_now};

/// Holds a pod until it is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The label and annotation by which a pod of an Indexed Job knows its number.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The pause after a failure doubles up to so many times the first: 10 min at 10 s.
const BACKOFF_MAX: u32 = 60;

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "job-controller", Spot::Nowhere);
    let mut failures = BTreeMap::new();
    follow(&shared, &JOBS, &PODS, |at| Work { shared: &shared, recorder: &recorder }.sync(at, &mut failures)).await;
}

/// By the uid of a Job: its failures since its last success, and when the last was seen.
type Failures = BTreeMap<String, (u32, Instant)>;

struct Work<'a> {
    shared: &'a Shared,
    recorder: &'a Recorder,
}

/// How a Job is to end, in the words of its conditions.
struct Ending {
    /// What is true at once: `SuccessCriteriaMet`, `FailureTarget`.
    first: &'static str,
    /// What is true when all its pods are gone: `Complete`, `Failed`.
    last: &'static str,
    reason: String,
    message: String,
}

impl Ending {
    fn complete() -> Ending {
        Ending {
            first: "SuccessCriteriaMet",
            last: "Complete",
            reason: "CompletionsReached".into(),
            message: "Reached expected number of succeeded pods".into(),
        }
    }

    fn failed(reason: &str, message: &str) -> Ending {
        Ending { first: "FailureTarget", last: "Failed", reason: reason.into(), message: message.into() }
    }

    /// The one that was decided already.
    fn of(job: &Value) -> Option<Ending> {
        let holding = |kind| condition(job, kind).filter(|c| c["status"] == "True");
        let words = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
        let failed = holding("FailureTarget").map(|c| Ending::failed(&words(c, "reason"), &words(c, "message")));
        failed.or_else(|| holding("SuccessCriteriaMet").map(|_| Ending::complete()))
    }

    fn is_failure(&self) -> bool {
        self.last == "Failed"
    }
}

/// What there is of a Job's pods.
struct Tally {
    active: Vec<Arc<Value>>,
    /// Ended and not counted before.
    succeeded: Vec<Arc<Value>>,
    failed: Vec<Arc<Value>>,
    /// On their way out, and not ended yet.
    leaving: usize,
    /// Of an Indexed Job, those that are done.
    indexes: Indexes,
}

impl Tally {
    fn of(job: &Value, pods: &[Arc<Value>]) -> Tally {
        let mut tally = Tally {
            active: pods.iter().filter(|pod| is_active(pod)).cloned().collect(),
            succeeded: vec![],
            failed: vec![],
            leaving: pods.iter().filter(|pod| is_leaving(pod) && !has_ended(pod)).count(),
            indexes: Indexes::read(job["status"]["completedIndexes"].as_str().unwrap_or_default(), completions(job).unwrap_or(0)),
        };
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            if pod["status"]["phase"] == "Succeeded" {
                tally.succeeded.push(pod.clone());
                if let Some(i) = index(pod).filter(|i| is_indexed(job) && *i < completions(job).unwrap_or(0)) {
                    tally.indexes.insert(i);
                }
            } else if has_failed(job, pod) {
                tally.failed.push(pod.clone());
            }
        }
        tally
    }

    /// All that have succeeded so far.
    fn successes(&self, job: &Value) -> i64 {
        match is_indexed(job) {
            true => self.indexes.len(),
            false => int(&job["status"]["succeeded"], 0) + self.succeeded.len() as i64,
        }
    }

    fn failures(&self, job: &Value) -> i64 {
        int(&job["status"]["failed"], 0) + self.failed.len() as i64
    }
}

impl Work<'_> {
    /// One step; and after how long to look again if nothing changes.
    fn sync(&self, (ns, name): &Key, failures: &mut Failures) -> Option<Duration> {
        let job = self.shared.store.get(&JOBS, ns, name);
        let pods = job.as_deref().map(|job| claimed(&self.shared.store, &JOBS, job, &PODS)).unwrap_or_default();
        self.free_strays(ns, name, job.as_deref());
        let job = job?;
        let uid = text(&job, "uid");
        let over = ["Complete", "Failed"].iter().find_map(|kind| condition(&job, kind).filter(|c| c["status"] == "True"));
        if let Some(over) = over {
            failures.remove(uid);
            pods.iter().filter(|pod| has_ended(pod) || is_leaving(pod)).for_each(|pod| self.untrack(pod));
            return self.expire(&job, over);
        }
        let tally = Tally::of(&job, &pods);
        note_failures(failures, uid, &tally);
        let suspended = job["spec"]["suspend"] == true;
        let mut again = None;
        let mut ending = Ending::of(&job).or_else(|| self.overrun(&job, &tally));
        if is_leaving(&job) {
            // What becomes of its pods is the deletion's business.
        } else if ending.as_ref().is_some_and(Ending::is_failure) {
            tally.active.iter().for_each(|pod| self.delete(&job, pod));
        } else if ending.is_none() {
            let pause = failures.get(uid).and_then(|failed| self.pause(*failed));
            match pause {
                Some(pause) if !suspended && self.size(&job, &tally) > tally.active.len() as i64 => again = Some(pause),
                _ => self.manage(&job, &tally, &pods),
            }
        }
        let now = claimed(&self.shared.store, &JOBS, &job, &PODS);
        let running = now.iter().filter(|pod| is_active(pod)).count();
        let enough = match completions(&job) {
            Some(completions) => tally.successes(&job) >= completions,
            // A queue of work is empty when one has said so and all have ended.
            None => tally.successes(&job) > 0,
        };
        if ending.is_none() && enough && running == 0 && !suspended {
            ending = Some(Ending::complete());
        }
        self.write_status(&job, &tally, &now, ending.as_ref());
        tally.succeeded.iter().chain(&tally.failed).for_each(|pod| self.untrack(pod));
        self.settle(&job, ending.as_ref());
        let deadline = self.deadline_left(&job).filter(|left| !left.is_zero());
        again.into_iter().chain(deadline).min()
    }

    /// Whether it has failed: too many pods did, or its time is up.
    fn overrun(&self, job: &Value, tally: &Tally) -> Option<Ending> {
        let limit = int(&job["spec"]["backoffLimit"], 6);
        let restarts = |pod: &Arc<Value>| -> i64 {
            let lists = ["initContainerStatuses", "containerStatuses"].into_iter();
            let statuses = lists.flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
            statuses.map(|status| int(&status["restartCount"], 0)).sum()
        };
        let restarted: i64 = tally.active.iter().map(restarts).sum();
        let on_failure = job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure";
        // Restarts in place use the limit up as replacements do.
        let too_often = on_failure && restarted > 0 && restarted >= limit;
        if tally.failures(job) > limit || too_often {
            return Some(Ending::failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        let late = self.deadline_left(job).is_some_and(|left| left.is_zero());
        late.then(|| Ending::failed("DeadlineExceeded", "Job was active longer than specified deadline"))
    }

    /// What is left of its `activeDeadlineSeconds`; `None` where it has none, or has not begun.
    fn deadline_left(&self, job: &Value) -> Option<Duration> {
        let limit_ms = job["spec"]["activeDeadlineSeconds"].as_i64()?.saturating_mul(1000);
        if job["spec"]["suspend"] == true {
            return None;
        }
        let began_ms = millis(&job["status"]["startTime"]).unwrap_or_else(|| wall_now().as_millisecond());
        let left_ms = began_ms.saturating_add(limit_ms) - wall_now().as_millisecond();
        Some(Duration::from_millis(left_ms.max(0) as u64))
    }

    /// What is left of the pause after a failure.
    fn pause(&self, (count, last): (u32, Instant)) -> Option<Duration> {
        let first = self.shared.crash_backoff;
        let whole = first.saturating_mul(1 << (count.max(1) - 1).min(16)).min(first.saturating_mul(BACKOFF_MAX));
        let left = (last + whole).saturating_duration_since(monotonic_now());
        (!left.is_zero()).then_some(left)
    }

    /// How many pods should be active.
    fn size(&self, job: &Value, tally: &Tally) -> i64 {
        let parallelism = int(&job["spec"]["parallelism"], 1);
        match completions(job) {
            _ if job["spec"]["suspend"] == true => 0,
            Some(completions) => (completions - tally.successes(job)).clamp(0, parallelism),
            None if tally.successes(job) > 0 => parallelism.min(tally.active.len() as i64),
            None => parallelism,
        }
    }

    /// Makes the pods that are missing, and takes those that are too many.
    fn manage(&self, job: &Value, tally: &Tally, pods: &[Arc<Value>]) {
        let active: Vec<&Arc<Value>> = tally.active.iter().collect();
        let wanted = self.size(job, tally);
        let surplus = match is_indexed(job) {
            true => misnumbered(job, &active, tally, active.len() as i64 - wanted),
            false => victims(&active, active.len() as i64 - wanted),
        };
        if !surplus.is_empty() {
            for pod in surplus {
                // It has not failed: it is not wanted any more, and so counts for nothing.
                self.untrack(pod);
                self.delete(job, pod);
            }
            return;
        }
        let waits = if job["spec"]["podReplacementPolicy"] == "Failed" { tally.leaving as i64 } else { 0 };
        let missing = (wanted - waits - active.len() as i64).min(CREATED_MAX);
        let mut numbers = free_indexes(job, tally, pods).into_iter();
        for _ in 0..missing.max(0) {
            let number = if is_indexed(job) { numbers.next() } else { None };
            if is_indexed(job) && number.is_none() {
                return;
            }
            match self.shared.make_pod(new_pod(job, number)) {
                Ok(pod) => self.recorder.normal(job, "SuccessfulCreate", &format!("Created pod: {}", text(&pod, "name"))),
                Err(error) => {
                    return self.recorder.warning(job, "FailedCreate", &format!("Error creating: {error}"));
                }
            }
        }
    }

    fn delete(&self, job: &Value, pod: &Value) {
        let (ns, name) = key(pod);
        // Already gone is as good.
        if self.shared.store.begin_delete(&PODS, &ns, &name, &DeleteOptions::default()).is_ok() {
            self.recorder.normal(job, "SuccessfulDelete", &format!("Deleted pod: {name}"));
        }
    }

    /// Lets go of a pod that is counted, or that counts for nothing.
    fn untrack(&self, pod: &Value) {
        if !is_tracked(pod) {
            return;
        }
        let (ns, name) = key(pod);
        // A pod that is gone needs no release.
        let _ = self.shared.store.update(&PODS, &ns, &name, |present| {
            if present["metadata"]["uid"] == pod["metadata"]["uid"] {
                let metadata = metadata(present);
                if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
                    list.retain(|finalizer| finalizer != TRACKING);
                    if list.is_empty() {
                        metadata.shift_remove("finalizers");
                    }
                }
            }
            Ok(())
        });
    }

    /// Pods that were this Job's, which is gone or another by now, and that nobody took over: nobody will ever count them.
    fn free_strays(&self, ns: &str, name: &str, job: Option<&Value>) {
        let is_stray = |pod: &Value| match controller(pod) {
            Some(owner) => {
                owner["kind"] == JOBS.kind && owner["name"] == name && job.is_none_or(|j| j["metadata"]["uid"] != owner["uid"])
            }
            None => pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == name,
        };
        let all = self.shared.store.list(&PODS, Some(ns)).0;
        all.iter().filter(|pod| is_tracked(pod) && is_stray(pod)).for_each(|pod| self.untrack(pod));
    }

    /// What is counted now, before the pods are let go: they are named until the next status, so that a reader can tell.
    fn write_status(&self, job: &Value, tally: &Tally, pods: &[Arc<Value>], ending: Option<&Ending>) {
        let (ns, name) = key(job);
        let indexed = is_indexed(job);
        let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
        let ready = active.iter().filter(|pod| is_ready(pod)).count();
        let leaving = pods.iter().filter(|pod| is_leaving(pod) && !has_ended(pod)).count();
        let suspended = job["spec"]["suspend"] == true;
        let uids = |pods: &[Arc<Value>]| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
        let mut uncounted = json!({});
        for (field, pods) in [("succeeded", &tally.succeeded), ("failed", &tally.failed)] {
            // Of an Indexed Job the numbers that are done say who has succeeded.
            let is_told_by_number = indexed && field == "succeeded";
            if !is_told_by_number && !pods.is_empty() {
                uncounted[field] = json!(uids(pods));
            }
        }
        let resumes = !suspended && condition(job, "Suspended").is_some_and(|c| c["status"] == "True");
        let suspends = suspended && ending.is_none() && condition(job, "Suspended").is_none_or(|c| c["status"] != "True");
        // A Job that went meanwhile has no status to write.
        let _ = self.shared.store.update(&JOBS, &ns, &name, |job| {
            let before = &job["status"];
            let mut status = json!({});
            for kept in ["conditions", "startTime"] {
                if !before[kept].is_null() {
                    status[kept] = before[kept].clone();
                }
            }
            if !suspended && (status.get("startTime").is_none() || resumes) {
                status["startTime"] = json!(seconds(wall_now()));
            }
            let succeeded = if indexed { tally.indexes.len() } else { int(&before["succeeded"], 0) };
            for (field, n) in [("active", active.len() as i64), ("succeeded", succeeded), ("failed", int(&before["failed"], 0))] {
                if n > 0 {
                    status[field] = json!(n);
                }
            }
            status["terminating"] = json!(leaving);
            if !tally.indexes.is_empty() {
                status["completedIndexes"] = json!(tally.indexes.to_string());
            }
            status["uncountedTerminatedPods"] = uncounted;
            status["ready"] = json!(ready);
            job["status"] = status;
            if let Some(ending) = ending {
                hold(job, ending.first, "True", &ending.reason, &ending.message);
            }
            if suspends {
                hold(job, "Suspended", "True", "JobSuspended", "Job suspended");
            } else if resumes {
                hold(job, "Suspended", "False", "JobResumed", "Job resumed");
            }
            Ok(())
        });
        if suspends {
            self.recorder.normal(job, "Suspended", "Job suspended");
        } else if resumes {
            self.recorder.normal(job, "Resumed", "Job resumed");
        }
    }

    /// Adds up what was named, and ends the Job when nothing of it is left.
    fn settle(&self, job: &Value, ending: Option<&Ending>) {
        let (ns, name) = key(job);
        let pods = claimed(&self.shared.store, &JOBS, job, &PODS);
        let remains = pods.iter().any(|pod| !has_ended(pod) || is_tracked(pod));
        let ends = ending.filter(|_| !remains);
        let written = self.shared.store.update(&JOBS, &ns, &name, |job| {
            for field in ["succeeded", "failed"] {
                let named = job["status"]["uncountedTerminatedPods"][field].as_array().map_or(0, Vec::len) as i64;
                if named > 0 {
                    job["status"][field] = json!(int(&job["status"][field], 0) + named);
                }
            }
            job["status"]["uncountedTerminatedPods"] = json!({});
            if let Some(ending) = ends {
                hold(job, ending.last, "True", &ending.reason, &ending.message);
                if ending.last == "Complete" {
                    job["status"]["completionTime"] = json!(seconds(wall_now()));
                }
            }
            Ok(())
        });
        match ends {
            Some(ending) if written.is_ok() && ending.is_failure() => self.recorder.warning(job, &ending.reason, &ending.message),
            Some(_) if written.is_ok() => self.recorder.normal(job, "Completed", "Job completed"),
            _ => {}
        }
    }

    /// Deletes a Job that has been over for its `ttlSecondsAfterFinished`; else how long that still takes.
    fn expire(&self, job: &Value, over: &Value) -> Option<Duration> {
        let keep_ms = job["spec"]["ttlSecondsAfterFinished"].as_i64()?.saturating_mul(1000);
        if is_leaving(job) {
            return None;
        }
        let left_ms = millis(&over["lastTransitionTime"])?.saturating_add(keep_ms) - wall_now().as_millisecond();
        if left_ms > 0 {
            return Some(Duration::from_millis(left_ms as u64 + 1));
        }
        let (ns, name) = key(job);
        let demands = Preconditions { uid: Some(text(job, "uid").to_owned()), ..Preconditions::default() };
        let how = DeleteOptions { demands, propagation: Propagation::Foreground, ..DeleteOptions::default() };
        // Already gone is as good.
        let _ = self.shared.store.begin_delete(&JOBS, &ns, &name, &how);
        None
    }
}

fn hold(job: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let probed = seconds(wall_now());
    let condition = json!({"type": kind, "status": status, "lastProbeTime": probed, "lastTransitionTime": null, "reason": reason, "message": message});
    set_condition(job, condition, Updates::No);
}

fn note_failures(failures: &mut Failures, uid: &str, tally: &Tally) {
    if !tally.succeeded.is_empty() {
        failures.remove(uid);
    }
    if !tally.failed.is_empty() {
        let (count, last) = failures.entry(uid.to_owned()).or_insert((0, monotonic_now()));
        *count = count.saturating_add(tally.failed.len() as u32);
        *last = monotonic_now();
    }
}

fn is_tracked(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|finalizer| finalizer == TRACKING))
}

fn is_indexed(job: &Value) -> bool {
    job["spec"]["completionMode"] == "Indexed"
}

fn completions(job: &Value) -> Option<i64> {
    job["spec"]["completions"].as_i64()
}

/// Whether a pod counts as a failure. One that is only leaving does, too, where it is replaced at once.
fn has_failed(job: &Value, pod: &Value) -> bool {
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let waits = job["spec"]["podReplacementPolicy"] == "Failed" && !unscheduled;
    pod["status"]["phase"] == "Failed" || (is_leaving(pod) && !waits)
}

fn index(pod: &Value) -> Option<i64> {
    pod["metadata"]["annotations"][INDEX].as_str()?.parse().ok()
}

/// Of an Indexed Job's active pods those without a number of their own, or with one that is done or too high; then from the highest
/// number down, until `surplus` are found.
fn misnumbered<'a>(job: &Value, active: &[&'a Arc<Value>], tally: &Tally, surplus: i64) -> Vec<&'a Arc<Value>> {
    let mut seen = BTreeSet::new();
    let limit = completions(job).unwrap_or(0);
    let mut fits = |pod: &Arc<Value>| index(pod).is_some_and(|i| i < limit && !tally.indexes.contains(i) && seen.insert(i));
    let (mut right, mut wrong): (Vec<_>, Vec<_>) = active.iter().copied().partition(|pod| fits(pod));
    right.sort_by_key(|pod| std::cmp::Reverse(index(pod)));
    let more = (surplus - wrong.len() as i64).max(0) as usize;
    wrong.extend(right.into_iter().take(more));
    wrong
}

/// The numbers that no pod has and that are not done, lowest first.
fn free_indexes(job: &Value, tally: &Tally, pods: &[Arc<Value>]) -> Vec<i64> {
    let waits = job["spec"]["podReplacementPolicy"] == "Failed";
    let holds = |pod: &&Arc<Value>| is_active(pod) || (waits && is_leaving(pod) && !has_ended(pod));
    let held: BTreeSet<i64> = pods.iter().filter(holds).filter_map(|pod| index(pod)).collect();
    let free = |i: &i64| !held.contains(i);
    tally.indexes.absent(completions(job).unwrap_or(0)).filter(free).take(CREATED_MAX as usize).collect()
}

fn new_pod(job: &Value, number: Option<i64>) -> Value {
    let mut pod = pod_of(job);
    pod["metadata"]["finalizers"] = json!([TRACKING]);
    let Some(number) = number else { return pod };
    let base = format!("{}-{number}", text(job, "name"));
    pod["metadata"]["generateName"] = json!(format!("{base}-"));
    for map in ["labels", "annotations"] {
        pod["metadata"][map][INDEX] = json!(number.to_string());
    }
    let path = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                if !env.iter().any(|known| known["name"] == variable["name"]) {
                    env.push(variable.clone());
                }
            } else {
                container["env"] = json!([variable]);
            }
        }
    }
    pod["spec"]["hostname"] = json!(base);
    pod
}
