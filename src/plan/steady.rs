//! A plan as one steady stretch, at any rate: what a search for capacity drives. Its loads keep the proportions that they have in the
//! phase of one objective; its faults and every other assertion are left out. As in [`Plan::adhoc`], the text is built first and then
//! read like any other, so that what each probe records is a plan that can be run, judged and grown by hand.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::assemble;
use super::check::{class_of, load_of};
use super::params::Environment;
use super::problem::proposal;
use super::tree::{Id, Limits, Meaning, Scalar, Tree, Value};
use super::{Level, Model, Plan, Problems};
use crate::kinds::Kind;
use crate::names::Name;
use crate::units::{Rate, Span};
use crate::varying::feed::Order;
use crate::verdict::{Claim, Need, Over};

/// The kind of assertion that a capacity can be asked of.
const OBJECTIVE: &str = "slo";
/// The phase before the window.
const WARM_UP: &str = "warm-up";
/// The phase that is judged.
const WINDOW: &str = "probe";

/// A plan whose loads go up and down together.
#[derive(Clone, Debug)]
pub struct Steady {
    plan: Plan,
    /// As the user named it.
    file: PathBuf,
    /// Index of the objective among the plan's claims.
    objective: usize,
    /// The phase whose proportions the loads keep.
    phase: Name,
    /// The index of each load that sends then, and its share of the driven rate.
    shares: Vec<(usize, f64)>,
    /// The driven rate of that phase, in requests per second: of the objective's load, or of all together.
    own: f64,
    /// The share of the driven requests that the objective counts: those of its class.
    counted: f64,
}

impl Steady {
    /// `plan`, read from `file`, as a steady load to be held against its objective `slo`; or why that cannot be, and the way out.
    pub fn of(plan: Plan, file: &Path, slo: &Name) -> Result<Steady, String> {
        let objective = objective(&plan, slo)?;
        let claim = &plan.claims[objective];
        for load in &plan.loads {
            let refuse = |why: &str| Err(format!("the load `{}` {why}", load.name));
            match &load.model {
                Model::Closed { .. } => {
                    return refuse(
                        "has users who wait for answers: when the service is slow they send less, so no rate can be asked of them; \
                         give it a `rate` in place of `users`, or leave it out",
                    );
                }
                Model::Open { arrivals, .. } if arrivals.has_own_rate() => {
                    return refuse("has the rate of its recording, which cannot be raised; give it a `rate` and other arrivals");
                }
                Model::Open { .. } => {}
            }
            if let Some(feed) = load.varying.feeds().find(|feed| feed.order == Order::Unique) {
                return refuse(&format!(
                    "takes rows of `{}`, each of which is used once: a search sends as many requests as it takes; say `order: sequential`",
                    feed.name
                ));
            }
        }
        let needs = claim.spec.needs();
        let driven = load_of(&needs);
        let rate_in = |phase: &Name, load: usize| match &plan.loads[load].model {
            Model::Open { rate, .. } => rate.get(phase).map_or(0.0, |level: &Level<Rate>| level.peak().per_second()),
            Model::Closed { .. } => 0.0,
        };
        let drives = |load: usize| driven.is_none_or(|name| *name == plan.loads[load].name);
        let driven_in = |phase: &Name| (0..plan.loads.len()).filter(|load| drives(*load)).map(|load| rate_in(phase, load)).sum();
        let phase = match &claim.over {
            Over::Phase(name) => name.clone(),
            // Of several phases, the one in which it is hardest to hold.
            Over::Run | Over::Between(..) | Over::Fault(_) => {
                let rates = plan.phases.iter().map(|phase| (&phase.name, driven_in(&phase.name)));
                let busiest: Option<(&Name, f64)> = rates.reduce(|best, next| if next.1 > best.1 { next } else { best });
                busiest.expect("a plan has phases").0.clone()
            }
        };
        let own: f64 = driven_in(&phase);
        if own <= 0.0 {
            return Err(format!("`{slo}` speaks of `{phase}`, in which nothing is sent that it could be held against"));
        }
        let shares = (0..plan.loads.len()).map(|load| (load, rate_in(&phase, load) / own)).filter(|(_, share)| *share > 0.0);
        let shares: Vec<(usize, f64)> = shares.collect();
        let class = class_of(&needs).cloned();
        let of_class = |class: &Name| {
            shares
                .iter()
                .filter(|(load, _)| drives(*load))
                .map(|(load, share)| share * plan.loads[*load].varying.share_of(class))
                .sum()
        };
        let counted: f64 = class.as_ref().map_or(1.0, of_class);
        if let Some(class) = class.filter(|_| counted <= 0.0) {
            return Err(format!("`{slo}` speaks of the class `{class}`, of which nothing is sent in `{phase}`"));
        }
        Ok(Steady { objective, phase, shares, own, counted, file: file.to_owned(), plan })
    }

    /// The objective.
    pub fn claim(&self) -> &Claim {
        &self.plan.claims[self.objective]
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The load whose rate is searched for; `None` where it is that of all together.
    pub fn load(&self) -> Option<Name> {
        load_of(&self.claim().spec.needs()).cloned()
    }

    /// The driven rate as the plan has it, in requests per second.
    pub fn own(&self) -> f64 {
        self.own
    }

    /// How many requests of the driven rate it takes for the least sample with which the objective can pass at all.
    pub fn samples(&self) -> u64 {
        let needs = self.claim().spec.needs();
        let least = needs.iter().filter_map(|need| match need {
            Need::Samples { least, .. } => Some(*least),
            _ => None,
        });
        (least.max().unwrap_or(1) as f64 / self.counted).ceil() as u64
    }

    /// The phase that a probe is judged over.
    pub fn window(&self) -> Name {
        WINDOW.parse().expect("it is a name")
    }

    /// What a search makes of the plan that its author may not expect, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let [_, _, ..] = self.shares[..] {
            let share = |(load, share): &(usize, f64)| format!("{} x {}", self.plan.loads[*load].name, significant(*share));
            let shares: Vec<String> = self.shares.iter().map(share).collect();
            let of = self.load().map_or("all loads together".to_owned(), |load| format!("`{load}`"));
            notes.push(format!(
                "the rate is that of {of}; every load goes with it, in the proportions of `{}`: {}",
                self.phase,
                shares.join(", ")
            ));
        }
        let faults: Vec<&str> = self.plan.faults.iter().map(|fault| fault.name.as_str()).collect();
        if !faults.is_empty() {
            notes.push(format!("nothing is broken while it is searched: left out are {}", faults.join(", ")));
        }
        if let Some(autoscaler) = &self.plan.target.autoscaler {
            notes.push(format!(
                "{autoscaler} may scale while it is searched, and what one probe made it do stays for the next: fix the replicas to \
                 learn what so many can do"
            ));
        }
        notes
    }

    /// The plan of one probe: `rate` requests per second for `warm_up`, and then for `window`, in which the objective is judged.
    pub fn at(&self, rate: f64, warm_up: Span, window: Span, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Problems> {
        let sets: Vec<(String, String)> = self.plan.params.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let text = self.written(rate, warm_up, window);
        assemble::read(&assemble::Source {
            file: &format!("{} at {}/s", self.file.display(), significant(rate)),
            text: &text,
            folder: Some(self.file.parent().unwrap_or(Path::new(""))),
            sets: &sets,
            environment: Environment::Variables(env),
            cluster: Some(self.plan.cluster.clone()),
        })
    }

    fn written(&self, rate: f64, warm_up: Span, window: Span) -> String {
        let (tree, _) = Tree::read(&self.plan.source, Limits::PLAN);
        let root = tree.roots.first().copied().expect("the plan was read from it");
        let claim = self.claim();
        let mut out = format!("# Written by `squall capacity` from {}.\n", self.file.display());
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        for (key, value) in tree.entries(root) {
            match tree.key(*key) {
                "faults" => {}
                "claim" => {
                    let claimed = format!("At {}/s: {}.", significant(rate), claim.spec.describe());
                    line(format!("claim: {}", serde_json::Value::from(claimed)));
                }
                "phases" => line(format!("phases: [{{name: {WARM_UP}, for: {warm_up}}}, {{name: {WINDOW}, for: {window}}}]")),
                "load" => {
                    line("load:".to_owned());
                    for (load, share) in &self.shares {
                        let kept = entries(&tree, tree.items(*value)[*load], &["rate"]);
                        line(format!("  - {{{kept}, rate: {}/s}}", significant(rate * share)));
                    }
                }
                "assert" => {
                    let kept = entries(&tree, tree.items(*value)[self.objective], &["during", "fault"]);
                    line(format!("assert:\n  - {{{kept}, during: {WINDOW}}}"));
                }
                _ => line(format!("{}: {}", flow(&tree, *key), flow(&tree, *value))),
            }
        }
        out
    }
}

/// The index of the objective `slo`, or why there is none.
fn objective(plan: &Plan, slo: &Name) -> Result<usize, String> {
    let objectives = plan.claims.iter().filter(|claim| claim.spec.key() == OBJECTIVE).map(|claim| claim.name.as_str());
    let there = || {
        let none = || format!("add one under `assert`, as in `{{name: in-time, {OBJECTIVE}: {{p99: 300ms}}}}`");
        proposal(slo.as_str(), objectives.clone()).unwrap_or_else(none)
    };
    let Some(index) = plan.claims.iter().position(|claim| claim.name == *slo) else {
        return Err(format!("there is no assertion `{slo}`; {}", there()));
    };
    let claim = &plan.claims[index];
    if claim.spec.key() != OBJECTIVE {
        return Err(format!("`{slo}` is no `{OBJECTIVE}` but `{}`, which no rate is searched for; {}", claim.spec.key(), there()));
    }
    if let Over::Fault(fault) = &claim.over {
        return Err(format!(
            "`{slo}` speaks of the fault `{fault}`, and nothing is broken while a capacity is searched: name an `{OBJECTIVE}` over a \
             phase or the run"
        ));
    }
    Ok(index)
}

/// To six digits: less than any generator's precision.
fn significant(number: f64) -> f64 {
    format!("{number:.5e}").parse().expect("a number was just written")
}

/// The entries of a map as they stand between its braces, but for these keys.
fn entries(tree: &Tree, map: Id, but: &[&str]) -> String {
    let kept = tree.entries(map).iter().filter(|(key, _)| !but.contains(&tree.key(*key)));
    let words: Vec<String> = kept.map(|(key, value)| format!("{}: {}", flow(tree, *key), flow(tree, *value))).collect();
    words.join(", ")
}

/// A node on one line, meaning the same.
fn flow(tree: &Tree, id: Id) -> String {
    match &tree.node(id).value {
        Value::Scalar(scalar) => word(scalar),
        Value::List(items) => format!("[{}]", items.iter().map(|item| flow(tree, *item)).collect::<Vec<_>>().join(", ")),
        Value::Map(_) => format!("{{{}}}", entries(tree, id, &[])),
    }
}

fn word(scalar: &Scalar) -> String {
    let text = scalar.text.as_str();
    let bare = Scalar { text: scalar.text.clone(), plain: true };
    let is_tame = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '%' | '-'));
    match bare.meaning() {
        Meaning::Text if is_tame => text.to_owned(),
        Meaning::Nothing if scalar.plain => "null".to_owned(),
        meaning if scalar.plain && meaning != Meaning::Text => text.to_owned(),
        // JSON's strings are YAML's double-quoted ones.
        _ => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::SHOP;
    use super::*;

    const MIXED: &str = r#"
plan: mixed
claim: c
params: {url: "http://127.0.0.1:1/", slow: 300ms, people: "2"}
target: {url: "${url}"}
generator: {pacing: coarse}
phases: [{name: calm, for: 30s}, {name: busy, for: 60s}]
load:
  - name: readers
    arrivals: {bursty: {on: 2s, dispersion: 5}}
    rate: {calm: 10/s, busy: 20/s -> 60/s}
    request:
      get: /a?b=1,2
      headers: {x-a: "yes", x-key: "Bearer ${KEY}, really", x-null: 'null'}
      body: |
        two lines
          of "text"
  - {name: writers, rate: {busy: 20/s}, request: {post: /w, timeout: 2s}}
assert:
  - {name: all, slo: {p99: "${slow}"}}
  - {name: reads, during: calm, slo: {available: 99%, load: readers}}
  - {name: sent, threshold: {metric: client.sent, aggregate: max, at_most: 100}}
"#;

    fn plan(text: &str) -> Plan {
        let env = |name: &str| (name == "KEY").then(|| "hunter2".to_owned());
        Plan::read_text("p.yaml", text, Path::new(""), &[], &env).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn steady(text: &str, slo: &str) -> Result<Steady, String> {
        Steady::of(plan(text), Path::new("p.yaml"), &slo.parse().expect("a name"))
    }

    fn rates(plan: &Plan) -> Vec<f64> {
        let rate = |load: &super::super::Load| match &load.model {
            Model::Open { rate, .. } => super::super::peak(rate),
            Model::Closed { .. } => panic!("it has a rate"),
        };
        plan.loads.iter().map(rate).collect()
    }

    /// Goal: a probe is the plan but for its rates, phases, faults and other assertions. How: what is read back is compared, down to
    /// the request's bytes; the secret is sent and not written.
    #[test]
    fn a_probe_sends_what_the_plan_sends_in_its_proportions() {
        let steady = steady(MIXED, "all").expect("an objective");
        assert_eq!((steady.own(), steady.samples(), steady.load()), (80.0, 299, None));
        let env = |name: &str| (name == "KEY").then(|| "hunter2".to_owned());
        let probe = steady.at(200.0, Span::from_secs(3), Span::from_secs(10), &env).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(rates(&probe), [150.0, 50.0]);
        for (load, before) in probe.loads.iter().zip(&steady.plan().loads) {
            assert_eq!((&load.name, &load.request), (&before.name, &before.request));
        }
        let Model::Open { arrivals, .. } = &probe.loads[0].model else { panic!("it has a rate") };
        assert_eq!(arrivals.key(), "bursty");
        assert_eq!(probe.phases.iter().map(|phase| phase.length.seconds()).collect::<Vec<_>>(), [3.0, 10.0]);
        let claim = Claim { over: Over::Phase(steady.window()), line: probe.claims[0].line, ..steady.claim().clone() };
        assert_eq!(probe.claims, [claim]);
        assert_eq!((probe.generator, &probe.params), (steady.plan().generator, &steady.plan().params));
        assert!(!probe.source.contains("hunter2"), "{}", probe.source);
        // Whoever judges the probe again reads the same.
        let again = Plan::read_recorded(&probe.source, &probe.params).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.claims, probe.claims);
        assert!(steady.notes()[0].contains("in the proportions of `busy`: readers x 0.75, writers x 0.25"), "{:?}", steady.notes());
    }

    #[test]
    fn the_rate_is_that_of_the_load_that_the_objective_speaks_of_in_its_phase() {
        let steady = steady(MIXED, "reads").expect("an objective");
        assert_eq!((steady.own(), steady.load().map(|load| load.to_string())), (10.0, Some("readers".into())));
        let probe = steady.at(35.4, Span::from_secs(3), Span::from_secs(10), &|_| Some("k".into()));
        // In that phase nobody writes.
        assert_eq!(rates(&probe.unwrap_or_else(|problems| panic!("{problems}"))), [35.4]);
    }

    /// Goal: a probe is long enough for an objective that counts one class alone. How: a tenth of three quarters of the requests is of it.
    #[test]
    fn an_objective_of_one_class_takes_as_many_requests_as_hold_enough_of_it() {
        let classed = MIXED
            .replace("  - name: readers\n", "  - name: readers\n    class: {weighted: {critical: 10, default: 90, never: 0}}\n")
            .replace("during: calm, slo: {available: 99%, load: readers}", "slo: {p99: 1s, class: critical}");
        let steady_of = |text: &str| steady(text, "reads").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(steady_of(&classed).samples(), 3_987, "299 / 0.075");
        assert_eq!(steady_of(&classed.replace("class: critical}", "class: critical, load: readers}")).samples(), 2_990);
    }

    #[test]
    fn what_no_capacity_can_be_asked_of_is_refused_with_the_way_out() {
        let closed = MIXED.replace("rate: {busy: 20/s}", "users: 5");
        let at_fault = SHOP.replace("during: baseline", "fault: kill-one");
        let once = MIXED
            .replace("load:\n", "feeds: [{name: people, file: people.csv, order: unique}]\nload:\n")
            .replace("post: /w", "post: \"/{{people.id}}\"");
        for (text, slo, says) in [
            (MIXED, "alll", "did you mean `all`?"),
            (MIXED, "zzz", "there are `all`, `reads`"),
            (MIXED, "sent", "`sent` is no `slo` but `threshold`"),
            (&closed, "all", "`writers` has users who wait for answers"),
            (&once, "all", "`writers` takes rows of `people`, each of which is used once"),
            (&at_fault, "steady", "speaks of the fault `kill-one`"),
        ] {
            let plan = Plan::read_recorded(text, &Default::default()).unwrap_or_else(|problems| panic!("{problems}"));
            let why = Steady::of(plan, Path::new("p.yaml"), &slo.parse().expect("a name")).expect_err("it cannot be");
            assert!(why.contains(says), "{slo}: {why}");
        }
    }

    /// Goal: the command that a probe's report gives for running it again works, or there is none. How: a probe's plan lies in its own
    /// folder, where no file is that the searched plan names relative to itself.
    #[test]
    fn a_probe_runs_by_itself_where_no_file_lies_beside_the_plan() {
        let alone = |text: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("p.yaml");
            std::fs::write(folder.path().join("people.csv"), "id\n1\n").expect("a feed");
            std::fs::write(folder.path().join("body.bin"), "bytes").expect("a body");
            let env = |_: &str| Some("k".to_owned());
            let plan = Plan::read_text("p.yaml", text, folder.path(), &[], &env).unwrap_or_else(|problems| panic!("{problems}"));
            let steady = Steady::of(plan, &file, &"all".parse().expect("a name")).unwrap_or_else(|why| panic!("{why}"));
            let probe = steady.at(200.0, Span::from_secs(1), Span::from_secs(9), &env);
            probe.unwrap_or_else(|problems| panic!("{problems}")).stands_alone()
        };
        assert!(alone(MIXED));
        let fed = MIXED.replace("load:\n", "feeds: [{name: people, file: people.csv}]\nload:\n");
        assert!(!alone(&fed.replace("post: /w", "post: \"/{{people.id}}\"")));
        assert!(!alone(&MIXED.replace("post: /w", "post: /w, body: {file: body.bin}")));
    }

    #[test]
    fn faults_and_what_autoscalers_do_are_told() {
        let plan = Plan::read_recorded(SHOP, &Default::default()).unwrap_or_else(|problems| panic!("{problems}"));
        let steady = Steady::of(plan, Path::new("tests/plans/good/shop.yaml"), &"steady".parse().expect("a name"));
        let steady = steady.expect("an objective");
        let notes = steady.notes().join("; ");
        assert!(notes.contains("left out are kill-one, slow-payments") && notes.contains("shop/hpa/checkout may scale"), "{notes}");
        let probe =
            steady.at(90.0, Span::from_secs(1), Span::from_secs(9), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(probe.faults.is_empty() && probe.claims.len() == 1);
        assert_eq!(probe.manifests, [Path::new("tests/plans/good/stacks/shop.yaml")], "they lie beside the plan");
    }
}
