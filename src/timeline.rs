//! Plan + seed -> [`Timeline`], pure: who does what at which [`Offset`].

use crate::names::{Anchor, Moment, Name, Shift};
use crate::plan::{Levels, Model, Plan, Quantity};
use crate::recording::fact::PhaseSpan;
use crate::schedule::{Crowd, RatePiece, Schedule, Traffic, seed_of};
use crate::time::Offset;
use crate::units::Span;
use crate::verdict::Over;

/// Above so many expected requests a window is measured by the integral of its rate: counting Poisson arrivals one by one takes
/// nanoseconds each, and the two differ by less than a thousandth there (by the root of their dispersion more where they are bursty).
const COUNTED_MOST: f64 = 10_000_000.0;

/// A plan laid out in time.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub seed: u64,
    pub phases: Vec<PhaseSpan>,
    /// One per load, in the order of the plan.
    pub traffic: Vec<(Name, Traffic)>,
    pub faults: Vec<FaultSlot>,
    /// The end of the last phase.
    pub end: Offset,
}

/// When a fault starts and how long it lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSlot {
    pub fault: Name,
    pub start: Start,
    pub length: Option<Span>,
}

/// The start of a fault: known before the run, or hanging on another fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    At(Offset),
    After { fault: Name, moment: Moment, shift: Shift },
}

impl Timeline {
    /// Lays the plan out: phases end to end from offset zero, arrivals drawn with the seed.
    pub fn of(plan: &Plan, seed: u64) -> Timeline {
        let mut end = Offset::ZERO;
        let phases: Vec<PhaseSpan> = plan
            .phases
            .iter()
            .map(|phase| {
                let start = end;
                end = start + phase.length.duration();
                PhaseSpan { name: phase.name.clone(), start, end }
            })
            .collect();
        let traffic = plan
            .loads
            .iter()
            .map(|load| {
                let seed = seed_of(seed, &load.name);
                let traffic = match &load.model {
                    // What was recorded is sent when it was, whatever the phase.
                    Model::Open { arrivals, .. } if arrivals.has_own_rate() => {
                        let whole = |phase: &PhaseSpan| piece(phase, (0.0, 0.0));
                        Traffic::Open(Schedule::new(arrivals.clone(), &phases.iter().map(whole).collect::<Vec<_>>(), seed))
                    }
                    Model::Open { arrivals, rate } => Traffic::Open(Schedule::new(arrivals.clone(), &pieces(&phases, rate), seed)),
                    Model::Closed { users, rhythm } => Traffic::Closed(Crowd::new(&pieces(&phases, users), *rhythm, seed)),
                };
                (load.name.clone(), traffic)
            })
            .collect();
        let mut timeline = Timeline { seed, phases, traffic, faults: Vec::new(), end };
        timeline.faults = plan
            .faults
            .iter()
            .map(|fault| FaultSlot { fault: fault.name.clone(), start: timeline.start_of(&fault.at), length: fault.length })
            .collect();
        timeline
    }

    fn start_of(&self, at: &Anchor) -> Start {
        match self.of_phase(at) {
            Some(offset) => Start::At(offset),
            None => Start::After { fault: at.of.clone(), moment: at.moment.unwrap_or(Moment::Injected), shift: at.shift },
        }
    }

    /// The offset of an anchor on a phase.
    fn of_phase(&self, at: &Anchor) -> Option<Offset> {
        let phase = self.phases.iter().find(|phase| phase.name == at.of)?;
        let base = match at.moment {
            None | Some(Moment::Start) => phase.start,
            Some(Moment::End) => phase.end,
            Some(Moment::Injected | Moment::Effective | Moment::Healed) => return None,
        };
        Some(shifted(base, at.shift))
    }

    /// When a moment comes if every fault acts at once: exact for phases, the earliest for faults. `None` for a name that does
    /// not exist, or a fault that hangs on itself.
    pub fn nominal(&self, at: &Anchor) -> Option<Offset> {
        self.nominal_within(at, self.faults.len())
    }

    fn nominal_within(&self, at: &Anchor, hops: usize) -> Option<Offset> {
        if let Some(offset) = self.of_phase(at) {
            return Some(offset);
        }
        let slot = self.faults.iter().find(|slot| slot.fault == at.of)?;
        let injected = match &slot.start {
            Start::At(offset) => *offset,
            Start::After { fault, moment, shift } => {
                let before = Anchor { of: fault.clone(), moment: Some(*moment), shift: *shift };
                self.nominal_within(&before, hops.checked_sub(1)?)?
            }
        };
        let base = match at.moment {
            None | Some(Moment::Injected | Moment::Effective) => injected,
            Some(Moment::Healed) => injected + slot.length.unwrap_or_default().duration(),
            Some(Moment::Start | Moment::End) => return None,
        };
        Some(shifted(base, at.shift))
    }

    /// When a fault starts, if what it hangs on acts at once.
    pub fn nominal_start(&self, fault: &Name) -> Option<Offset> {
        self.nominal(&Anchor { of: fault.clone(), moment: Some(Moment::Injected), shift: Shift::Later(Span::default()) })
    }

    /// The widest window that a claim can speak of, as far as it is known before the run: `[from, to)`, within the run.
    pub fn window(&self, over: &Over) -> Option<(Offset, Offset)> {
        let (from, to) = match over {
            Over::Run => (Offset::ZERO, self.end),
            Over::Phase(name) => {
                let phase = self.phases.iter().find(|phase| phase.name == *name)?;
                (phase.start, phase.end)
            }
            Over::Between(from, to) => (self.nominal(from)?, self.nominal(to)?),
            Over::Fault(name) => (self.nominal_start(name)?, self.end),
        };
        Some((from.max(Offset::ZERO), to.min(self.end)))
    }

    /// Whether the bounds of [`Timeline::window`] hold whatever happens: false where they hang on when a fault is proven or healed.
    pub fn is_fixed(&self, over: &Over) -> bool {
        let fixed = |at: &Anchor| !matches!(at.moment, Some(Moment::Effective | Moment::Healed));
        match over {
            Over::Between(from, to) => fixed(from) && fixed(to),
            Over::Run | Over::Phase(_) | Over::Fault(_) => true,
        }
    }

    /// The fewest and the most requests due in `[from, to)` whatever the seed, of one load or of all.
    pub fn spread_in(&self, load: Option<&Name>, from: Offset, to: Offset) -> (u64, u64) {
        let spreads = self.traffic_of(load).map(|traffic| traffic.spread_in(from, to));
        spreads.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1.saturating_add(next.1)))
    }

    /// Requests due in `[from, to)` by this timeline's seed, of one load or of all; `None` where users send, who send as many as get
    /// answered.
    pub fn requests_in(&self, load: Option<&Name>, from: Offset, to: Offset) -> Option<u64> {
        let counts = self.traffic_of(load).map(|traffic| match traffic {
            Traffic::Open(schedule) => {
                let expected = schedule.expected_in(from, to);
                Some(if expected > COUNTED_MOST { expected as u64 } else { schedule.count_in(from, to) })
            }
            Traffic::Closed(crowd) => (!crowd.is_there(from, to)).then_some(0),
        });
        counts.sum()
    }

    /// One load's traffic, or everybody's.
    fn traffic_of(&self, load: Option<&Name>) -> impl Iterator<Item = &Traffic> {
        self.traffic.iter().filter(move |(name, _)| load.is_none_or(|load| load == name)).map(|(_, traffic)| traffic)
    }
}

/// The levels of a load, laid out in time.
fn pieces<T: Quantity>(phases: &[PhaseSpan], levels: &Levels<T>) -> Vec<RatePiece> {
    let with_level = |phase: &PhaseSpan| {
        let (from, to) = levels.get(&phase.name)?.ends();
        Some(piece(phase, (from.value(), to.value())))
    };
    phases.iter().filter_map(with_level).collect()
}

fn piece(phase: &PhaseSpan, (from, to): (f64, f64)) -> RatePiece {
    RatePiece { phase: phase.name.clone(), start: phase.start, end: phase.end, from, to }
}

fn shifted(base: Offset, shift: Shift) -> Offset {
    match shift {
        Shift::Later(span) => base + span.duration(),
        Shift::Earlier(span) => base - span.duration(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn timeline(faults: &str) -> (Plan, Timeline) {
        let text = format!(
            "plan: t\nclaim: c\ncluster: current\ntarget: {{url: http://127.0.0.1/, workload: a/deployment/b}}\nphases:\n\
             - {{name: calm, for: 10s}}\n- {{name: burst, for: 20s}}\n\
             load:\n- {{name: users, rate: {{calm: 10/s, burst: 10/s -> 30/s}}, request: {{get: /}}}}\nfaults:\n{faults}"
        );
        let plan = Plan::read_recorded(&text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        let timeline = Timeline::of(&plan, 1);
        (plan, timeline)
    }

    fn at(seconds: i64) -> Offset {
        Offset::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn phases_lie_end_to_end_and_rates_follow_them() {
        let (_, timeline) = timeline("- {name: kill, at: burst.end - 5s, pod_kill: {pods: 1}}\n");
        assert_eq!((timeline.phases[1].start, timeline.phases[1].end, timeline.end), (at(10), at(30), at(30)));
        // 10 s at 10/s, then the area under 10/s to 30/s over 20 s: 400.
        assert_eq!(timeline.requests_in(None, at(0), at(10)), Some(100));
        assert_eq!(timeline.requests_in(None, at(10), at(30)), Some(400));
        assert_eq!(timeline.faults[0].start, Start::At(at(25)));
    }

    #[test]
    fn a_fault_that_waits_for_another_has_the_earliest_moment_that_can_be() {
        let (plan, timeline) = timeline(
            "- {name: slow, at: burst, for: 6s, latency: {on: a/deployment/c, add: 9ms}}\n\
             - {name: kill, at: slow.effective + 2s, pod_kill: {pods: 1}}\n\
             - {name: again, at: slow.healed + 1s, pod_kill: {pods: 1}}\n",
        );
        assert_eq!(timeline.nominal_start(&plan.faults[1].name), Some(at(12)));
        assert_eq!(timeline.nominal_start(&plan.faults[2].name), Some(at(17)));
        assert!(matches!(&timeline.faults[1].start, Start::After { moment: Moment::Effective, .. }));
        assert_eq!(timeline.window(&Over::Fault(plan.faults[1].name.clone())), Some((at(12), at(30))));
        let over = |from: &str, to: &str| Over::Between(from.parse().expect("a moment"), to.parse().expect("a moment"));
        assert!(timeline.is_fixed(&over("burst + 1s", "slow")) && !timeline.is_fixed(&over("burst", "slow.healed")));
        assert_eq!(timeline.window(&over("calm", "again")), Some((at(0), at(17))));
    }

    #[test]
    fn the_same_plan_and_seed_are_the_same_timeline() {
        let (plan, timeline) = timeline("- {name: kill, at: burst, pod_kill: {pods: 1}}\n");
        assert_eq!(format!("{:?}", Timeline::of(&plan, 1)), format!("{timeline:?}"));
    }
}
