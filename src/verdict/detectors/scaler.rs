//! The autoscaler of a scene: what it asked for, what it read beside what it aims at, and what it said of itself.

use std::time::Duration;

use super::Scene;
use super::stretch::{Stretch, at};
use crate::names::ObjectRef;
use crate::recording::fact::{AutoscalerSpec, Fact};
use crate::recording::history::same_object;
use crate::time::Offset;
use crate::units::quantity;
use crate::verdict::level::{Step, steps};
use crate::verdict::words::significant;

/// An autoscaler that was watched throughout the window.
pub struct Scaler<'a> {
    /// The event that told its spec.
    pub seen: u64,
    pub spec: &'a AutoscalerSpec,
    /// How many replicas it asked for.
    pub wanted: Vec<Step>,
    pub gauges: Vec<Gauge<'a>>,
    /// Its conditions, each for as long as it held in the window.
    pub conditions: Vec<Held<'a>>,
}

/// A metric of an autoscaler.
pub struct Gauge<'a> {
    /// `resource`, `containerResource`, `pods`, `object` or `external`.
    pub source: &'a str,
    pub name: &'a str,
    pub aim: Aim,
    /// In the unit of what is read; above zero.
    pub target: f64,
    /// What was read; empty where nothing was.
    pub read: Vec<Step>,
}

/// What a target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Per cent of what the pods ask for, on average.
    Utilization,
    /// So much of each pod, on average.
    Average,
    /// So much altogether.
    Value,
}

/// A condition while it held.
pub struct Held<'a> {
    pub n: u64,
    pub stretch: Stretch,
    pub kind: &'a str,
    pub holds: bool,
    pub reason: &'a str,
    pub message: &'a str,
}

impl<'a> Scaler<'a> {
    pub(super) fn of(scene: &Scene<'a>, seen: u64, spec: &'a AutoscalerSpec, wanted: Vec<Step>) -> Scaler<'a> {
        let gauges = spec.metrics.iter().filter_map(|line| Gauge::of(line, spec, scene)).collect();
        Scaler { seen, spec, wanted, gauges, conditions: conditions(scene, &spec.object) }
    }

    /// `shop/hpa/checkout`.
    pub fn name(&self) -> String {
        self.spec.object.to_string()
    }

    /// So many of its looks.
    pub fn syncs(&self, n: u32) -> Duration {
        // A recording may claim any period at all.
        Duration::try_from_secs_f64(self.spec.sync_period_s * f64::from(n)).unwrap_or(Duration::MAX)
    }

    /// How many times its target what it read was: of several metrics the highest, which is the one that counts. `None` where one of them
    /// was not read.
    pub fn ratio(&self) -> Option<Vec<Step>> {
        if self.gauges.len() != self.spec.metrics.len() {
            return None;
        }
        let mut ratios: Vec<Vec<Step>> = self.gauges.iter().map(Gauge::ratio).collect();
        if ratios.iter().any(Vec::is_empty) {
            return None;
        }
        let mut highest = ratios.pop()?;
        for ratio in ratios {
            highest = higher(&highest, &ratio);
        }
        (!highest.is_empty()).then_some(highest)
    }

    /// The metric, where it has but one.
    pub fn only_gauge(&self) -> Option<&Gauge<'a>> {
        match &self.gauges[..] {
            [gauge] if self.spec.metrics.len() == 1 && !gauge.read.is_empty() => Some(gauge),
            _ => None,
        }
    }

    /// Its conditions of this kind and status, for at least so long.
    pub fn held(&self, kind: &str, holds: bool, least: Duration) -> impl Iterator<Item = &Held<'a>> {
        let is_it = move |held: &&Held<'a>| held.kind == kind && held.holds == holds && held.stretch.length() >= least;
        self.conditions.iter().filter(is_it)
    }

    /// Above this share of its target it adds, below the other it takes away.
    pub fn band(&self) -> (f64, f64) {
        (1.0 - self.spec.tolerance, 1.0 + self.spec.tolerance)
    }
}

impl<'a> Gauge<'a> {
    /// A line of the recording, as `pods in_flight averageValue 8`.
    fn of(line: &'a str, spec: &AutoscalerSpec, scene: &Scene) -> Option<Gauge<'a>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [source, name, aim, target] = words[..] else { return None };
        let aim = match aim {
            "averageUtilization" => Aim::Utilization,
            "averageValue" => Aim::Average,
            "value" => Aim::Value,
            _ => return None,
        };
        let target = quantity(target).filter(|target| target.is_finite() && *target > 0.0)?;
        let metric = if aim == Aim::Utilization { format!("{name}.utilization") } else { name.to_owned() };
        let read = steps(&scene.history.series(&spec.object, &metric), scene.from, scene.to);
        Some(Gauge { source, name, aim, target, read })
    }

    pub fn ratio(&self) -> Vec<Step> {
        self.read.iter().map(|step| Step { value: step.value / self.target, ..*step }).collect()
    }

    /// Whether it is of the service's CPU.
    pub fn is_cpu(&self) -> bool {
        self.is_resource("cpu")
    }

    pub fn is_memory(&self) -> bool {
        self.is_resource("memory")
    }

    fn is_resource(&self, resource: &str) -> bool {
        // Of one container its name stands before it: `app.cpu`.
        matches!(self.source, "resource" | "containerResource") && self.name.rsplit('.').next() == Some(resource)
    }

    /// `81%` or `12.5`.
    pub fn words(&self, value: f64) -> String {
        format!("{}{}", significant(value, 3), if self.aim == Aim::Utilization { "%" } else { "" })
    }
}

/// The higher of two series where both are known.
fn higher(a: &[Step], b: &[Step]) -> Vec<Step> {
    let mut moments: Vec<Offset> = a.iter().chain(b).flat_map(|step| [step.from, step.to]).collect();
    moments.sort_unstable();
    moments.dedup();
    let higher = |pair: &[Offset]| {
        let (a, b) = (at(a, pair[0])?, at(b, pair[0])?);
        let highest = if a.value >= b.value { a } else { b };
        Some(Step { from: pair[0], to: pair[1], ..*highest })
    };
    moments.windows(2).filter_map(higher).collect()
}

/// What an object said of itself, each for as long as it held in the window.
pub fn conditions<'a>(scene: &Scene<'a>, of: &ObjectRef) -> Vec<Held<'a>> {
    let mut all: Vec<Held<'a>> = Vec::new();
    for event in scene.history.events.iter().filter(|event| event.t_ns < scene.to) {
        let Fact::Condition { object, condition, status, reason, message } = &event.fact else { continue };
        if !same_object(object, of) {
            continue;
        }
        let from = event.t_ns.max(scene.from);
        // It held until this one.
        if let Some(last) = all.iter_mut().rfind(|held| held.kind == condition) {
            last.stretch.to = last.stretch.to.min(from);
        }
        let stretch = Stretch { from, to: scene.to };
        all.push(Held { n: event.n, stretch, kind: condition, holds: status == "True", reason, message });
    }
    all.retain(|held| held.stretch.from < held.stretch.to);
    all
}
