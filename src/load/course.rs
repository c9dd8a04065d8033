//! The flows of a load on one worker: which step follows which, when, and as what it is counted. Pure; who waits and sends is the seat.

use std::ops::Range;
use std::time::Duration;

use crate::plan;
use crate::schedule::random::seed_of_name;
use crate::schedule::{Think, Traffic};
use crate::time::Offset;
use crate::varying::draw::{Chance, Picker};

/// The flows of a load. Steps are numbered through all of them, as the requests that the wire has prepared are.
pub(super) struct Course {
    steps: Vec<Step>,
    flows: Vec<Range<usize>>,
    /// How one of them is chosen.
    picker: Picker,
    seed: u64,
    /// Tells the phase of a moment: what is due in a later one than its run began in is counted there.
    traffic: Traffic,
}

struct Step {
    timeout: Duration,
    think: Think,
}

/// Why a step was not sent, that is to say did not even come due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Skip {
    /// One before it in its run did not end `ok`.
    Before,
    /// It would have come due when the load was over.
    Over,
    /// It would have come due in a phase in which the load sends nothing, before others in which it does.
    Gap,
    /// The run of the plan was stopped first.
    Stopped,
}

impl Skip {
    /// The cause in the recording.
    pub(super) fn words(self) -> &'static str {
        match self {
            Skip::Before => "a step before was not ok",
            Skip::Over => "the load was over",
            Skip::Gap => "due in a phase without load",
            Skip::Stopped => "stopped",
        }
    }
}

impl Course {
    /// That of a load that has flows.
    pub(super) fn of(load: &plan::Load, traffic: &Traffic) -> Option<Course> {
        if load.flows.is_empty() {
            return None;
        }
        let mut next = 0;
        let mut flows = Vec::new();
        for flow in &load.flows {
            flows.push(next..next + flow.steps.len());
            next += flow.steps.len();
        }
        let step = |step: &plan::Step| Step { timeout: step.request.timeout.duration(), think: step.think };
        let picker = Picker::of(load.flows.iter().map(|flow| flow.weight));
        let seed = seed_of_name(traffic.seed(), "(flow)");
        Some(Course { steps: load.steps().map(step).collect(), flows, picker, seed, traffic: traffic.clone() })
    }

    /// The first step of the run `number`.
    pub(super) fn first(&self, number: u64) -> usize {
        self.flows[self.picker.pick(&mut Chance::of(self.seed, number))].start
    }

    /// One past the last step of the flow that `step` is of.
    pub(super) fn end_of(&self, step: usize) -> usize {
        self.flows[self.flows.partition_point(|flow| flow.end <= step)].end
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn timeout(&self, step: usize) -> Duration {
        self.steps[step].timeout
    }

    /// How long after the answer to the step before it `step` of the run `number` is due.
    pub(super) fn pause(&self, number: u64, step: usize) -> Duration {
        let think = self.steps[step].think;
        if think == Think::default() {
            return Duration::ZERO;
        }
        // Apart from what chooses the flow, and one for each step of each run.
        let own = number.wrapping_mul(self.steps.len() as u64).wrapping_add(step as u64);
        think.drawn(|| 1.0 - Chance::of(!self.seed, own).unit()).duration()
    }

    /// From when on nothing is due.
    pub(super) fn end(&self) -> Offset {
        self.traffic.end()
    }

    /// The phase at `t`, where the load sends anything then.
    pub(super) fn phase_at(&self, t: Offset) -> Option<usize> {
        self.traffic.phase_at(t)
    }

    /// Why nothing is sent at `t`, where the load has no phase.
    pub(super) fn silence_at(&self, t: Offset) -> Skip {
        if t < self.traffic.end() { Skip::Gap } else { Skip::Over }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::Plan;
    use crate::timeline::Timeline;

    fn course() -> Course {
        let text = "plan: p\nclaim: c\ntarget: {url: http://127.0.0.1/}\nphases: [{name: a, for: 2s}, {name: b, for: 3s}, {name: c, for: 3s}]\n\
                    load:\n- name: l\n  rate: {a: 1/s, c: 1/s}\n  flows:\n  - {weight: 3, steps: [{name: a, get: /}, {name: b, get: /, think: 1s}]}\n  \
                    - {steps: [{name: c, get: /, timeout: 1s}, {name: d, get: /, think: {exponential: 1s}}, {name: e, get: /}]}\n";
        let plan = Plan::read_recorded(text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        let timeline = Timeline::of(&plan, 1);
        Course::of(&plan.loads[0], &timeline.traffic[0].1).expect("it has flows")
    }

    #[test]
    fn steps_follow_one_another_within_their_flow() {
        let course = course();
        assert_eq!([0, 1, 2, 3, 4].map(|step| course.end_of(step)), [2, 2, 5, 5, 5]);
        assert_eq!((course.steps(), course.timeout(2)), (5, Duration::from_secs(1)));
        let runs = 10_000;
        let first = (0..runs).filter(|number| course.first(*number) == 0).count() as f64;
        assert!((0..runs).all(|number| [0, 2].contains(&course.first(number))));
        // Five standard deviations of a share of three quarters.
        assert!((first / runs as f64 - 0.75).abs() < 5.0 * (0.75f64 * 0.25 / runs as f64).sqrt(), "{first}");
    }

    #[test]
    fn pauses_are_drawn_anew_for_each_step_of_each_run() {
        let course = course();
        assert_eq!((course.pause(7, 1), course.pause(7, 4)), (Duration::from_secs(1), Duration::ZERO));
        let drawn: Vec<f64> = (0..10_000).map(|number| course.pause(number, 3).as_secs_f64()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        // Five standard deviations of a mean of ten thousand.
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(course.pause(3, 3), course.pause(3, 3));
    }

    #[test]
    fn a_step_counts_in_the_phase_that_it_is_due_in() {
        let course = course();
        let at = |seconds: f64| course.phase_at(Offset::from_secs_f64(seconds));
        assert_eq!([0.0, 1.9, 2.0, 4.9, 5.0, 7.9, 8.0].map(at), [Some(0), Some(0), None, None, Some(1), Some(1), None]);
        let silence = |seconds: f64| course.silence_at(Offset::from_secs_f64(seconds));
        assert_eq!([2.0, 4.9, 8.0, 9.0].map(silence), [Skip::Gap, Skip::Gap, Skip::Over, Skip::Over]);
    }
}
