//! Ways through a service: requests in steps, each of which may use what answers before it said.

use super::Request;
use crate::names::Name;
use crate::recording::fact::Part;
use crate::schedule::Think;
use crate::units::Span;

/// What a plan can say of requests in steps, as it is listed: each with its place, one line about it and what it looks like.
pub const FLOWS: &[(&str, &str, &str)] = &[
    (
        "load.flow",
        "steps in place of a request: each arrival, or each turn of a user, runs through all of them",
        "flow: [{name: login, post: /login}, {name: buy, post: /buy}]",
    ),
    (
        "load.flows",
        "several ways, each taken in proportion to its weight",
        "flows: [{weight: 9, steps: [{name: browse, get: /items}]}, {weight: 1, steps: [{name: buy, post: /buy}]}]",
    ),
    (
        "step.save",
        "what later steps use as {{name}}: found by JSONPath, in a header, or by a regular expression",
        "save: {token: {json: $.token}, etag: {header: etag}, csrf: {regex: 'csrf=\"([^\"]+)\"'}}",
    ),
    (
        "step.think",
        "how long after the answer before it a step is due; at once unless said otherwise",
        "think: {exponential: 500ms}",
    ),
    ("step.cookies", "what answers set is sent back by the steps after, within a run alone; nothing is to be said for it", ""),
];

/// The method of a load that sends flows, in reports; its path then is the names of its steps.
pub const IN_STEPS: &str = "FLOW";

/// One way through a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// How often it is taken, beside the weights of the load's other flows.
    pub weight: u32,
    /// One at least.
    pub steps: Vec<Step>,
}

/// A request of a flow. It is due when the step before it has been answered and [`Step::think`] has passed; the first one when the flow is.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The only one of that name in its load: it is counted apart under it.
    pub name: Name,
    /// None for a first step.
    pub think: Think,
    pub request: Request,
}

impl Flow {
    /// How long a run of it takes when each of its steps takes its own timeout at most, as `answered` says, and pauses take their mean.
    fn lasts(&self, answered: impl Fn(Span) -> Span) -> Span {
        let steps = self.steps.iter().map(|step| answered(step.request.timeout).duration() + step.think.mean().duration());
        steps.sum::<std::time::Duration>().into()
    }
}

/// How long what one arrival begins can take: each request its timeout, and pauses their mean.
pub(super) fn patience(request: &Request, flows: &[Flow]) -> Span {
    longest(request, flows, |timeout| timeout)
}

fn longest(request: &Request, flows: &[Flow], answered: impl Fn(Span) -> Span) -> Span {
    flows.iter().map(|flow| flow.lasts(&answered)).max().unwrap_or_else(|| answered(request.timeout))
}

impl super::Load {
    /// All that it may send: its request, or those of all steps of all flows, in the order of the plan.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        let own = self.flows.is_empty().then_some(&self.request);
        own.into_iter().chain(self.steps().map(|step| &step.request))
    }

    /// All steps of all flows, in the order of the plan.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.flows.iter().flat_map(|flow| &flow.steps)
    }

    /// How long what one arrival begins is under way when every answer takes `latency`, pauses included: the longest of its flows.
    pub fn lasts(&self, latency: Span) -> Span {
        longest(&self.request, &self.flows, |timeout| timeout.min(latency))
    }

    /// The same when every request runs into its timeout.
    pub fn patience(&self) -> Span {
        patience(&self.request, &self.flows)
    }

    /// How many requests one arrival makes when all goes well, in the mean of its flows.
    pub fn requests_each(&self) -> f64 {
        let sum: f64 = self.flows.iter().map(|flow| f64::from(flow.weight)).sum();
        let of = |flow: &Flow| f64::from(flow.weight) * flow.steps.len() as f64;
        if self.flows.is_empty() { 1.0 } else { self.flows.iter().map(of).sum::<f64>() / sum.max(1.0) }
    }

    /// The most requests that one arrival makes.
    pub fn requests_most(&self) -> u64 {
        self.flows.iter().map(|flow| flow.steps.len() as u64).max().unwrap_or(1)
    }
    /// What is counted apart, in the order of the classes, and of the steps within each: one part at least, which is then all of it.
    pub fn parts(&self) -> Vec<Part> {
        let classes = self.varying.parts();
        if self.flows.is_empty() {
            return classes;
        }
        let steps = |part: Part| self.steps().map(move |step| Part { step: Some(step.name.clone()), ..part.clone() });
        classes.into_iter().flat_map(steps).collect()
    }

    /// Of each of [`Load::parts`](super::Load::parts), whether its requests come when something in the plan says, and not after an answer.
    pub fn parts_on_schedule(&self) -> Vec<bool> {
        let first = |flow: &Flow| (0..flow.steps.len()).map(|step| step == 0).collect::<Vec<bool>>();
        let steps: Vec<bool> = self.flows.iter().flat_map(first).collect();
        let steps = if steps.is_empty() { vec![true] } else { steps };
        steps.repeat(self.varying.parts().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan(load: &str) -> Plan {
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: http://127.0.0.1/}}\nphases: [{{name: a, for: 9s}}]\nload: [{{name: l, rate: 1/s, {load}}}]\n"
        );
        Plan::read_recorded(&text, &Default::default()).unwrap_or_else(|problems| panic!("{load}: {problems}"))
    }

    /// Goal: what is listed can be copied. How: each is read in its place.
    #[test]
    fn every_example_is_read_in_its_place() {
        for (name, _, example) in FLOWS {
            match name.split_once('.') {
                Some(("load", _)) => drop(plan(example)),
                _ => drop(plan(&format!("flow: [{{name: a, get: /}}, {{name: b, get: /, {example}}}]"))),
            }
        }
    }

    #[test]
    fn what_a_run_takes_is_that_of_the_longest_flow() {
        let plan = plan(
            "class: {weighted: {x: 1, y: 1}}, flows: [{weight: 3, steps: [{name: a, get: /, timeout: 1s}]}, \
             {steps: [{name: b, get: /, timeout: 2s}, {name: c, get: /, timeout: 50ms, think: {uniform: [1s, 3s]}}]}]",
        );
        let load = &plan.loads[0];
        assert_eq!((load.patience(), load.lasts(Span::from_millis(100))), (Span::from_millis(4_050), Span::from_millis(2_150)));
        assert_eq!((load.requests_each(), load.requests_most()), (1.25, 2));
        let parts = load.parts();
        let names: Vec<String> = parts
            .iter()
            .map(|part| format!("{} {}", part.class.as_ref().expect("one"), part.step.as_ref().expect("one")))
            .collect();
        assert_eq!(names, ["x a", "x b", "x c", "y a", "y b", "y c"]);
        assert_eq!(load.parts_on_schedule(), [true, true, false, true, true, false]);
    }
}
