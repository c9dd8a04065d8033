//! From one metric's samples to a proposed number of replicas, with the real controller's treatment of pods that are not ready, have
//! no sample, or are going away (kubernetes/pkg/controller/podautoscaler/replica_calculator.go describes the rules). Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{ExternalTarget, ResourceTarget};

/// What the autoscaler sees of a pod.
#[derive(Clone, Debug)]
pub struct PodView {
    pub name: String,
    pub deleted: bool,
    pub phase: Phase,
    /// The Ready condition: its status, and since when (ms of the epoch). `None` when the pod has none.
    pub ready: Option<(bool, i64)>,
    /// `status.startTime`, ms of the epoch.
    pub started_ms: Option<i64>,
    pub containers: Vec<Requests>,
}

/// A container's resource requests, in thousandths.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    pub container: String,
    pub cpu: Option<i64>,
    pub memory: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Failed,
    /// Running, or ended well.
    Other,
}

/// Whether a starting pod's samples say something about load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// They do not: starting takes CPU.
    Cpu,
    Other,
}

impl Measure {
    fn of(resource: &str) -> Measure {
        if resource == "cpu" { Measure::Cpu } else { Measure::Other }
    }
}

/// One pod's value of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub milli: i64,
    /// When it was taken, ms of the epoch.
    pub at_ms: i64,
    /// Over how long it averages.
    pub window_ms: i64,
}

/// The controller's own settings.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub tolerance: f64,
    /// How long a pod's CPU counts as that of its start, which says nothing about load.
    pub cpu_initialization_ms: i64,
    pub initial_readiness_delay_ms: i64,
    pub downscale_stabilization_ms: i64,
}

/// The band around the target in which nothing is done.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    pub up: f64,
    pub down: f64,
}

impl Tolerances {
    fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What one metric asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    pub replicas: i32,
    /// Per cent of the request, for a utilization.
    pub utilization: Option<i64>,
    /// The average per pod, in thousandths; of an external metric with a target of its own, its value.
    pub average_milli: i64,
}

/// Everything that a proposal depends on, but for the samples.
#[derive(Clone, Copy)]
pub struct Calculator<'a> {
    pub now_ms: i64,
    pub pods: &'a [PodView],
    pub current: i32,
    /// `status.replicas` of the target's scale: pods that are there, whatever was asked for.
    pub present: i32,
    pub tuning: &'a Tuning,
    pub tolerances: Tolerances,
}

impl Calculator<'_> {
    /// CPU or memory against a target.
    pub fn resource(
        &self,
        resource: &str,
        container: Option<&str>,
        target: ResourceTarget,
        samples: &BTreeMap<String, Sample>,
    ) -> Result<Proposal, String> {
        match target {
            ResourceTarget::AverageMilli(target) => self.plain(samples, target, Measure::of(resource)),
            ResourceTarget::Utilization(target) => self.utilization(samples, target, resource, container),
        }
    }

    /// A number per pod against its target average.
    pub fn plain(&self, samples: &BTreeMap<String, Sample>, target: i64, measure: Measure) -> Result<Proposal, String> {
        let groups = self.group(samples, measure)?;
        let mut values = groups.values(samples)?;
        let average = |values: &BTreeMap<&str, i64>| values.values().sum::<i64>() / values.len() as i64;
        let used = average(&values);
        let ratio = used as f64 / target as f64;
        let replicas = self.rebalance(
            &groups,
            ratio,
            &mut values,
            // On the way down a silent pod is taken to use its target, on the way up nothing.
            |_| target,
            |values| Ok(average(values) as f64 / target as f64),
        )?;
        Ok(Proposal { replicas, utilization: None, average_milli: used })
    }

    /// A number from elsewhere against its target. Pods that are not ready are not looked at: it says nothing about any of them.
    pub fn external(&self, milli: i64, target: ExternalTarget) -> Proposal {
        match target {
            ExternalTarget::AverageMilli(target) => {
                let ratio = milli as f64 / (target as f64 * f64::from(self.present));
                let replicas = if self.tolerances.holds(ratio) { self.present } else { ceil(milli as f64 / target as f64) };
                let average_milli = (milli as f64 / f64::from(self.present.max(1))).ceil() as i64;
                Proposal { replicas, utilization: None, average_milli }
            }
            ExternalTarget::ValueMilli(target) => {
                let ratio = milli as f64 / target as f64;
                let ready = self.pods.iter().filter(|pod| pod.phase == Phase::Other && pod.ready.is_some_and(|(ready, _)| ready));
                let replicas = match self.current {
                    0 => ceil(ratio),
                    current if self.tolerances.holds(ratio) => current,
                    _ => ceil(ratio * ready.count() as f64),
                };
                Proposal { replicas, utilization: None, average_milli: milli }
            }
        }
    }

    fn utilization(
        &self,
        samples: &BTreeMap<String, Sample>,
        target: i64,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let groups = self.group(samples, Measure::of(resource))?;
        let mut values = groups.values(samples)?;
        let requests = self.requests(resource, container)?;
        let percent = |values: &BTreeMap<&str, i64>| -> Result<(i64, i64), String> {
            let known = values.iter().filter_map(|(pod, value)| requests.get(pod).map(|request| (value, request)));
            let (used, requested, count) = known.fold((0, 0, 0), |(u, r, n), (value, request)| (u + value, r + request, n + 1));
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            Ok((used * 100 / requested, used / count))
        };
        let (utilization, average_milli) = percent(&values)?;
        let ratio = utilization as f64 / target as f64;
        let replicas = self.rebalance(
            &groups,
            ratio,
            &mut values,
            |pod| requests.get(pod).copied().unwrap_or(0) * target.max(100) / 100,
            |values| Ok(percent(values)?.0 as f64 / target as f64),
        )?;
        Ok(Proposal { replicas, utilization: Some(utilization), average_milli })
    }

    /// From the ratio of the pods that count to a number of replicas, taking pods that do not count at their most cautious.
    fn rebalance<'p>(
        &self,
        groups: &Groups<'p>,
        ratio: f64,
        values: &mut BTreeMap<&'p str, i64>,
        when_shrinking: impl Fn(&str) -> i64,
        ratio_of: impl Fn(&BTreeMap<&'p str, i64>) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !up_with_unready && groups.missing.is_empty() {
            if self.tolerances.holds(ratio) {
                return Ok(self.current);
            }
            return Ok(ceil(ratio * groups.ready as f64));
        }
        for pod in &groups.missing {
            if ratio < 1.0 {
                values.insert(pod, when_shrinking(pod));
            } else if ratio > 1.0 {
                values.insert(pod, 0);
            }
        }
        if up_with_unready {
            values.extend(groups.unready.iter().map(|pod| (*pod, 0)));
        }
        let cautious = ratio_of(values)?;
        let turned = (ratio < 1.0 && cautious > 1.0) || (ratio > 1.0 && cautious < 1.0);
        if self.tolerances.holds(cautious) || turned {
            return Ok(self.current);
        }
        let replicas = ceil(cautious * values.len() as f64);
        // More pods than replicas, or fewer, must not turn the direction either.
        if (cautious < 1.0 && replicas > self.current) || (cautious > 1.0 && replicas < self.current) {
            return Ok(self.current);
        }
        Ok(replicas)
    }

    fn group<'s>(&'s self, samples: &BTreeMap<String, Sample>, measure: Measure) -> Result<Groups<'s>, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let mut groups = Groups::default();
        for pod in self.pods {
            let name = pod.name.as_str();
            if pod.deleted || pod.phase == Phase::Failed {
                groups.ignored.insert(name);
            } else if pod.phase == Phase::Pending {
                groups.unready.insert(name);
            } else if let Some(sample) = samples.get(name) {
                if measure == Measure::Cpu && self.still_starting(pod, sample) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        Ok(groups)
    }

    /// Whether a pod's CPU says nothing yet.
    fn still_starting(&self, pod: &PodView, sample: &Sample) -> bool {
        let (Some((ready, since_ms)), Some(started_ms)) = (pod.ready, pod.started_ms) else {
            return true;
        };
        if started_ms + self.tuning.cpu_initialization_ms > self.now_ms {
            !ready || sample.at_ms < since_ms + sample.window_ms
        } else {
            !ready && started_ms + self.tuning.initial_readiness_delay_ms > since_ms
        }
    }

    fn requests(&self, resource: &str, container: Option<&str>) -> Result<BTreeMap<&str, i64>, String> {
        let mut requests = BTreeMap::new();
        for pod in self.pods {
            let mut sum = 0;
            for requested in pod.containers.iter().filter(|c| container.is_none_or(|name| name == c.container)) {
                let request = if resource == "memory" { requested.memory } else { requested.cpu };
                sum += request.ok_or_else(|| {
                    format!("missing request for {resource} in container {} of Pod {}", requested.container, pod.name)
                })?;
            }
            requests.insert(pod.name.as_str(), sum);
        }
        Ok(requests)
    }
}

#[derive(Default)]
struct Groups<'p> {
    ready: usize,
    unready: BTreeSet<&'p str>,
    missing: BTreeSet<&'p str>,
    ignored: BTreeSet<&'p str>,
}

impl<'p> Groups<'p> {
    /// The samples that count.
    fn values(&self, samples: &'p BTreeMap<String, Sample>) -> Result<BTreeMap<&'p str, i64>, String> {
        let counts = |name: &str| !self.ignored.contains(name) && !self.unready.contains(name);
        let values: BTreeMap<&str, i64> =
            samples.iter().filter(|(name, _)| counts(name)).map(|(name, sample)| (name.as_str(), sample.milli)).collect();
        if values.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".into());
        }
        Ok(values)
    }
}

fn ceil(replicas: f64) -> i32 {
    replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}
