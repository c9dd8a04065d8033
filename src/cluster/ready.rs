//! Waiting until what was applied works: workloads available, Jobs complete, autoscalers with a metric. A pod that cannot start and a Job
//! that has failed are an answer at once, with their last words.

use std::time::Duration;

use serde_json::Value;

use super::autoscaler::AutoscalerStatus;
use super::manifests::Applied;
use super::pod::LogOf;
use super::scaled_object::{self, Lack};
use super::workload::{Workload, conditions};
use super::{Cluster, Error, Pod, count, text};
use crate::names::ObjectRef;
use crate::rights::Right;
use crate::time::monotonic_now;

/// Asked of a workload's pods, beside whose they are.
pub const PODS: &[Right] = &[Right::to(&["get"], "", "pods/log").only("for the last words of pods that do not start")];

/// Between looks.
const LOOK: Duration = Duration::from_millis(150);
/// A pod that ended and was started again this often will not come up by itself.
const RESTARTS_MAX: u32 = 2;
/// How much of a failed container's log is shown.
const LAST_LINES: u32 = 5;
/// Reasons that no waiting cures.
const HOPELESS: [&str; 6] = [
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

impl Cluster {
    /// Waits until every workload among `objects` is fully available, every Job has completed and every autoscaler has read its metric and
    /// every ScaledObject is ready, or says what is missing.
    ///
    /// # Errors
    /// When one of them will never be, or is not `within` that time.
    pub async fn wait_ready(&self, objects: &[Applied], within: Duration) -> Result<(), Error> {
        let deadline = monotonic_now() + within;
        let mut waiting: Vec<(&Applied, Awaited)> = objects.iter().filter_map(|o| Some((o, Awaited::of(o)?))).collect();
        // What others wait for is told of first.
        waiting.sort_by_key(|(_, awaited)| *awaited);
        loop {
            let (mut first, mut pause) = (None, LOOK);
            let mut left = Vec::new();
            // All of them at each look: what has failed for good is told of, though another is not up yet for just that reason.
            for (object, awaited) in waiting {
                let looked = match awaited {
                    Awaited::Job => self.job_lacks(object).await,
                    Awaited::Workload => self.workload_lacks(object).await,
                    Awaited::Autoscaler => self.autoscaler_lacks(object).await,
                    Awaited::ScaledObject => self.scaled_object_lacks(object).await,
                };
                let why = match looked {
                    Ok(None) => continue,
                    Ok(Some(why)) => why,
                    // It is only looked at: a server that is away for a moment is looked at again.
                    Err(error) if error.is_passing() => {
                        pause = error.pause(pause);
                        error.to_string()
                    }
                    Err(error) => return Err(error),
                };
                first.get_or_insert((object, why));
                left.push((object, awaited));
            }
            let Some((object, why)) = first else { return Ok(()) };
            if monotonic_now() >= deadline {
                return Err(Error::NotReady { what: object.to_string(), why: format!("after {}s {why}", within.as_secs()) });
            }
            waiting = left;
            tokio::time::sleep(pause).await;
        }
    }

    /// As `kubectl wait --for=condition=complete` does; but a Job that has failed never will be.
    async fn job_lacks(&self, object: &Applied) -> Result<Option<String>, Error> {
        let not_ready = |why: String| Err(Error::NotReady { what: object.to_string(), why });
        let Some(value) = self.existing(object).await? else {
            return not_ready("it was gone before it was seen to complete: raise its ttlSecondsAfterFinished".into());
        };
        let conditions = conditions(&value);
        let holding = |kind: &str| conditions.iter().find(|c| c.kind == kind && c.status == "True");
        if holding("Complete").is_some() {
            return Ok(None);
        }
        let pods = self.pods_of_job(object, &value).await?;
        // That it is to fail stands in the second before its last pods are gone.
        if let Some(failed) = holding("Failed").or_else(|| holding("FailureTarget")) {
            let trouble = pods.iter().find(|pod| pod.trouble.is_some());
            let words = match trouble {
                Some(pod) => format!("; {}", self.last_words(pod).await),
                None => String::new(),
            };
            return not_ready(format!("it has failed: {} ({}){words}", failed.message, failed.reason));
        }
        if let Some(lost) = pods.iter().find(|pod| cannot_start(pod)) {
            return not_ready(self.last_words(lost).await);
        }
        let suspended = if value["spec"]["suspend"] == true { ", and it is suspended" } else { "" };
        let [active, succeeded, failed] = ["active", "succeeded", "failed"].map(|of| count(&value, &format!("/status/{of}")));
        let wanted = value["spec"]["completions"].as_u64().map_or(String::new(), |n| format!(" of {n}"));
        let unplaced = pods.iter().find_map(|pod| Some(format!("; {} has no node ({})", pod.name, pod.unplaced.as_ref()?)));
        let unplaced = unplaced.unwrap_or_default();
        let why =
            format!("it is not complete: {active} active, {succeeded} succeeded{wanted}, {failed} failed{suspended}{unplaced}");
        Ok(Some(why))
    }

    /// The pods that a Job made, as far as they are there still.
    async fn pods_of_job(&self, object: &Applied, job: &Value) -> Result<Vec<Pod>, Error> {
        let (Some(namespace), Some(selector)) = (&object.namespace, &object.pods) else { return Ok(Vec::new()) };
        let uid = text(job, "/metadata/uid");
        let mut pods = self.pods(namespace, selector).await?;
        pods.retain(|pod| pod.owner_uid.as_deref() == uid);
        Ok(pods)
    }

    async fn workload_lacks(&self, object: &Applied) -> Result<Option<String>, Error> {
        let reference = reference(object);
        let (_, value) = self.object(&reference).await?;
        let Some(workload) = Workload::read(&reference, &value) else {
            return Ok(Some("it has no uid yet".into()));
        };
        if workload.observed && workload.ready >= workload.wanted && workload.updated >= workload.wanted {
            return Ok(None);
        }
        let pods = self.pods_of(&workload).await?;
        if let Some(lost) = pods.iter().find(|pod| hopeless(pod)) {
            return Err(Error::NotReady { what: object.to_string(), why: self.last_words(lost).await });
        }
        if let Some(stuck) = workload.conditions.iter().find(|c| c.kind == "ReplicaFailure" && c.status == "True") {
            return Err(Error::NotReady { what: object.to_string(), why: format!("its pods cannot be made: {}", stuck.message) });
        }
        if let Some(troubled) = pods.iter().find(|pod| pod.trouble.is_some()) {
            return Ok(Some(self.last_words(troubled).await));
        }
        let states: Vec<String> = pods
            .iter()
            .filter(|p| !p.ready)
            .map(|p| {
                let reason = p.reason.clone().unwrap_or_else(|| format!("{} and not ready", p.phase));
                let why = p.unplaced.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{} is {reason}{why}", p.name)
            })
            .take(5)
            .collect();
        Ok(Some(format!(
            "{} of {} pods are ready{}{}",
            workload.ready,
            workload.wanted,
            if states.is_empty() { "" } else { ": " },
            states.join(", ")
        )))
    }

    /// What a pod that will not come up says for itself.
    async fn last_words(&self, pod: &Pod) -> String {
        let Some(trouble) = &pod.trouble else { return format!("pod {} is {}", pod.label(), pod.phase) };
        // The words of the run that failed: the previous one where it was started again.
        let mut words = String::new();
        for which in [LogOf::Previous, LogOf::Current] {
            if let Ok(log) = self.log(&pod.namespace, &pod.name, &trouble.container, LAST_LINES, which).await
                && !log.trim().is_empty()
            {
                words = format!("; its last words: {}", log.trim().replace('\n', " / "));
                break;
            }
        }
        let message = trouble.message.trim();
        let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
        format!("pod {} cannot run: container {} is in {}{message}{words}", pod.label(), trouble.container, trouble.reason)
    }

    async fn scaled_object_lacks(&self, object: &Applied) -> Result<Option<String>, Error> {
        let (_, value) = self.object(&reference(object)).await?;
        match scaled_object::lacks(&value) {
            None => Ok(None),
            Some(Lack::Passing(why)) => Ok(Some(why)),
            Some(Lack::Lasting(why)) => Err(Error::NotReady { what: object.to_string(), why }),
        }
    }

    async fn autoscaler_lacks(&self, object: &Applied) -> Result<Option<String>, Error> {
        let (_, value) = self.object(&reference(object)).await?;
        let status = AutoscalerStatus::read(&value);
        let active = status.condition("ScalingActive");
        if active.is_some_and(|c| c.status == "True") && !status.metrics.is_empty() {
            return Ok(None);
        }
        let able = status.condition("AbleToScale").filter(|c| c.status != "True");
        Ok(Some(match able.or(active.filter(|c| c.status != "True")) {
            Some(condition) => format!("it cannot act: {} ({})", condition.message, condition.reason),
            None => {
                "its controller has not read a metric: does the autoscaler's controller run, and do the pods expose the metric?"
                    .into()
            }
        }))
    }
}

/// What is waited for, in the order in which others wait for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    Job,
    Workload,
    /// They read from pods that must be up.
    Autoscaler,
    ScaledObject,
}

impl Awaited {
    fn of(object: &Applied) -> Option<Awaited> {
        match object.kind.as_str() {
            "Job" if object.api_version.starts_with("batch/") => Some(Awaited::Job),
            "Deployment" | "StatefulSet" | "ReplicaSet" => Some(Awaited::Workload),
            "HorizontalPodAutoscaler" => Some(Awaited::Autoscaler),
            "ScaledObject" => Some(Awaited::ScaledObject),
            _ => None,
        }
    }
}

/// Whether it cannot even begin, however long one waits: the image cannot be had.
fn cannot_start(pod: &Pod) -> bool {
    pod.trouble.as_ref().is_some_and(|trouble| HOPELESS.contains(&trouble.reason.as_str()))
}

/// Whether waiting will not help: it cannot start, or what runs keeps ending. One restart may be a dependency that was not up yet.
fn hopeless(pod: &Pod) -> bool {
    cannot_start(pod) || (pod.trouble.is_some() && pod.restarts >= RESTARTS_MAX) || pod.phase == "Failed"
}

fn reference(object: &Applied) -> ObjectRef {
    ObjectRef {
        namespace: object.namespace.clone().unwrap_or_default(),
        kind: object.kind.to_lowercase(),
        name: object.name.clone(),
    }
}
