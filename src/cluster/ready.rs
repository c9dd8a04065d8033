//! Waiting until what was applied works: workloads available, autoscalers with a metric. A pod that cannot start is an answer at once,
//! with its last words.

use std::time::Duration;

use super::autoscaler::AutoscalerStatus;
use super::manifests::Applied;
use super::pod::LogOf;
use super::scaled_object::{self, Lack};
use super::workload::Workload;
use super::{Cluster, Error, Pod};
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
    /// Waits until every workload among `objects` is fully available, every autoscaler has read its metric and every ScaledObject is ready, or
    /// says what is missing.
    pub async fn wait_ready(&self, objects: &[Applied], within: Duration) -> Result<(), Error> {
        let deadline = monotonic_now() + within;
        let scales = |o: &Applied| matches!(o.kind.as_str(), "HorizontalPodAutoscaler" | "ScaledObject");
        let mut waiting: Vec<&Applied> = objects.iter().filter(|o| o.pods.is_some() || scales(o)).collect();
        // Autoscalers last: they read from pods that must be up.
        waiting.sort_by_key(|o| o.pods.is_none());
        for object in waiting {
            loop {
                let looked = match object.kind.as_str() {
                    _ if object.pods.is_some() => self.workload_lacks(object).await,
                    "ScaledObject" => self.scaled_object_lacks(object).await,
                    _ => self.autoscaler_lacks(object).await,
                };
                let (why, pause) = match looked {
                    Ok(None) => break,
                    Ok(Some(why)) => (why, LOOK),
                    // It is only looked at: a server that is away for a moment is looked at again.
                    Err(error) if error.is_passing() => (error.to_string(), error.pause(LOOK)),
                    Err(error) => return Err(error),
                };
                if monotonic_now() >= deadline {
                    return Err(Error::NotReady { what: object.to_string(), why: format!("after {}s {why}", within.as_secs()) });
                }
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    async fn workload_lacks(&self, object: &Applied) -> Result<Option<String>, Error> {
        if !matches!(object.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet") {
            return Ok(None);
        }
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

/// Whether waiting will not help: the image cannot be had, or what runs keeps ending. One restart may be a dependency that was not up yet.
fn hopeless(pod: &Pod) -> bool {
    pod.trouble.as_ref().is_some_and(|trouble| HOPELESS.contains(&trouble.reason.as_str()))
        || (pod.trouble.is_some() && pod.restarts >= RESTARTS_MAX)
        || pod.phase == "Failed"
}

fn reference(object: &Applied) -> ObjectRef {
    ObjectRef {
        namespace: object.namespace.clone().unwrap_or_default(),
        kind: object.kind.to_lowercase(),
        name: object.name.clone(),
    }
}
