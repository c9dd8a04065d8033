//! The autoscaler reaches a size in time, does not flap, and stays within a size. Sizes are *ready* replicas: a pod that is not
//! ready serves nobody.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, integrity};
use super::detectors::Symptom;
use super::draft::Draft;
use super::level::{Step, hidden, steps};
use super::moment::{Seen, decide};
use super::pods::PodReady;
use super::scaling;
use super::window::Window;
use super::within::Within;
use super::words::{count, seconds};
use super::{Claim, Finding, Judge, Need, Verdict};
use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::{AutoscalerSpec, PhaseSpan};
use crate::recording::history::is_scaled_object;
use crate::recording::metric::{DESIRED_REPLICAS, EXISTS, READY_REPLICAS, REPLICAS};
use crate::time::Offset;

/// A watch delivers a change at once; this is what a busy machine adds.
const RESOLUTION: Duration = Duration::from_millis(250);
/// Two rates differ by more than this share, and by more than chance does, before the load has changed.
const LOAD_CHANGE: f64 = 0.2;
/// Standard deviations of a count that chance does not exceed.
const CHANCE: f64 = 3.0;

/// What the autoscaler must do in the window. Give at least one of `reach`, `reversals` and `at_most`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// This many replicas become ready, counted from the start of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<u32>,
    /// How long that may take; `auto` derives it from the autoscaler's live spec and from how long pods took to become ready in
    /// this run, and shows the arithmetic.
    #[serde(default)]
    pub within: Within,
    /// How many times the autoscaler may change its mind: changes of direction of what it asks for that no change of the planned
    /// load explains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversals: Option<u32>,
    /// There are never more replicas than this, ready or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// Which autoscaler, as in `shop/hpa/checkout` or `shop/scaledobject/checkout`; the target's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ObjectRef>,
}

/// What a check is judged on: an autoscaler that was seen.
struct Subject<'a> {
    object: ObjectRef,
    window: Window,
    /// The last spec that was seen before the window ended.
    spec: &'a AutoscalerSpec,
    spec_seen: u64,
}

impl Spec {
    /// The checks that are asked for, each with its draft.
    fn drafts(&self, claim: &Claim) -> Vec<(Check, Draft)> {
        let mut drafts = Vec::new();
        if let Some(reach) = self.reach {
            let words = format!("{} become ready within {}", count(u64::from(reach), "replica"), self.within);
            let draft = Draft::of(claim, "reach", words, "s");
            drafts.push((
                Check::Reach(reach),
                match self.within {
                    Within::Auto => draft.limit_source("auto: not derived"),
                    Within::Span(span) => draft.limit(span.seconds()),
                },
            ));
        }
        if let Some(most) = self.reversals {
            let words = format!("the autoscaler reverses at most {}", count(u64::from(most), "time"));
            drafts.push((Check::Reversals(most), Draft::of(claim, "reversals", words, "1").limit(f64::from(most))));
        }
        if let Some(most) = self.at_most {
            let words = format!("there are at most {}", count(u64::from(most), "replica"));
            drafts.push((Check::AtMost(most), Draft::of(claim, "at_most", words, "replicas").limit(f64::from(most))));
        }
        drafts
    }

    fn reach(&self, reach: u32, draft: Draft, subject: &Subject, history: &History) -> Finding {
        let Subject { window, spec, .. } = subject;
        let series = history.series(&spec.scales, READY_REPLICAS);
        let ready = PodReady::measured(history, Some(&spec.scales));
        let seen = steps(&series, window.from, window.to);
        let draft = draft.samples(seen.len() as u64);
        let Some(first) = seen.first().filter(|first| first.from == window.from) else {
            return draft.inconclusive(format!(
                "how many replicas of {} were ready when the window opened was never recorded: is it observed?",
                spec.scales
            ));
        };
        let start = first.value as u32;
        let (bound, draft) = match self.within {
            Within::Span(span) => (span.duration(), draft),
            Within::Auto => match scaling::bound(spec, start, reach, ready) {
                Ok(bound) => (bound.within, draft.limit(bound.within.as_secs_f64()).limit_source(bound.source)),
                Err(never) => {
                    let most = seen.iter().map(|step| step.value as u32).max().unwrap_or(start);
                    let draft = draft.evidence([subject.spec_seen]);
                    return if most >= reach {
                        draft.inconclusive(format!("{never}; yet {most} were ready: somebody else scales it"))
                    } else {
                        draft.end(Verdict::Fail, format!("{never}; {most} were ready at most"))
                    };
                }
            },
        };
        if start >= reach {
            return draft.evidence(first.n).inconclusive(format!(
                "{} were ready before the window opened, so nothing was shown: start smaller or reach for more",
                count(u64::from(start), "replica")
            ));
        }
        let arrived = seen.iter().find(|step| step.value >= f64::from(reach));
        let most = seen.iter().max_by(|a, b| a.value.total_cmp(&b.value).then(b.from.cmp(&a.from)));
        let evidence: Vec<u64> = arrived.or(most).and_then(|step| step.n).into_iter().collect();
        let draft = draft.evidence(evidence).evidence([subject.spec_seen]);
        let after = arrived.map(|step| step.from.since(window.from));
        let watched = window.to.since(window.from);
        let draft = match after {
            Some(after) => {
                draft.observed(after.as_secs_f64()).interval(after.saturating_sub(RESOLUTION).as_secs_f64(), after.as_secs_f64())
            }
            None => draft,
        };
        let (verdict, said) = decide(after.map_or(Seen::NotWithin(watched), Seen::After), bound, RESOLUTION);
        let reached = match most {
            Some(most) if arrived.is_none() => format!(" ({} were ready at most, from {start})", most.value),
            _ => format!(" (from {start})"),
        };
        let said = format!("ready replica number {reach} {said}{reached}");
        if verdict == Verdict::Pass {
            return draft.end(verdict, said);
        }
        // A gap could hide an arrival, never undo one.
        let until = (window.from + bound).min(window.to);
        match blind(history, &[&spec.scales], window.from, until) {
            Some((why, events)) => draft.evidence(events).inconclusive(why),
            None => draft.end(verdict, said),
        }
    }

    fn reversals(&self, most: u32, draft: Draft, subject: &Subject, history: &History) -> Finding {
        let Window { from, to } = subject.window;
        // What the autoscaler asks for; what the workload was asked for, where the autoscaler was not read.
        let mut series = history.series(&subject.object, DESIRED_REPLICAS);
        if series.is_empty() {
            series = history.series(&subject.spec.scales, DESIRED_REPLICAS);
        }
        let seen = steps(&series, from, to);
        let draft = draft.samples(seen.len() as u64);
        if seen.is_empty() {
            return draft.inconclusive(format!("what {} asks for was never recorded: is it observed?", subject.object));
        }
        let turns = reversals(&seen, &load_changes(history, from, to));
        let found = turns.len() as f64;
        let draft =
            draft.observed(found).evidence(turns.iter().filter_map(|turn| turn.n)).evidence(seen.iter().filter_map(|step| step.n));
        let path: Vec<String> = seen.iter().map(|step| format!("{}", step.value)).collect();
        let said = format!("{} without a change of the load ({})", count(turns.len() as u64, "reversal"), path.join(", "));
        if turns.len() as u64 > u64::from(most) {
            return draft.end(Verdict::Fail, format!("{said}, {most} allowed: give scaling down a stabilization window"));
        }
        match blind(history, &[&subject.object, &subject.spec.scales], from, to) {
            Some((why, events)) => draft.evidence(events).inconclusive(why),
            None => draft.end(Verdict::Pass, format!("{said}, {most} allowed")),
        }
    }

    fn at_most(&self, most: u32, draft: Draft, subject: &Subject, history: &History) -> Finding {
        let Window { from, to } = subject.window;
        let of = &subject.spec.scales;
        let seen: Vec<Step> =
            [REPLICAS, READY_REPLICAS].iter().flat_map(|metric| steps(&history.series(of, metric), from, to)).collect();
        let draft = draft.samples(seen.len() as u64);
        let Some(highest) = seen.iter().max_by(|a, b| a.value.total_cmp(&b.value).then(b.from.cmp(&a.from))) else {
            return draft.inconclusive(format!("the size of {of} was never recorded: is it observed?"));
        };
        let draft = draft.observed(highest.value).evidence(highest.n);
        let said = format!("at most {} at a time", count(highest.value as u64, "replica"));
        if highest.value > f64::from(most) {
            return draft.end(Verdict::Fail, format!("{said}, {most} allowed"));
        }
        match blind(history, &[of], from, to) {
            Some((why, events)) => draft.evidence(events).inconclusive(why),
            None => draft.end(Verdict::Pass, format!("{said}, {most} allowed")),
        }
    }
}

#[derive(Clone, Copy)]
enum Check {
    Reach(u32),
    Reversals(u32),
    AtMost(u32),
}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let drafts = self.drafts(claim);
        let all =
            |finish: &dyn Fn(Check, Draft) -> Finding| drafts.iter().cloned().map(|(check, draft)| finish(check, draft)).collect();

        let Some(object) = self.of.clone().or_else(|| history.started.autoscaler.clone()) else {
            return all(&|_, draft| draft.inconclusive("no autoscaler is named: give `target.autoscaler` or `of`"));
        };
        let window = match Window::of(&claim.over, history) {
            Ok(window) => window,
            Err(blind) => return all(&|_, draft| draft.blind(&blind)),
        };
        let torn = integrity(history);
        if !torn.is_empty() {
            return all(&|_, draft| draft.window(window.from, window.to).inconclusive(torn.join("; ")));
        }
        let specs: Vec<_> = history.autoscaler(&object).into_iter().filter(|(_, t, _)| *t < window.to).collect();
        let Some((spec_seen, _, spec)) = specs.last().copied() else {
            return all(&|check, draft| absent(&object, check, draft.window(window.from, window.to), &window, history));
        };
        // What somebody else changes in the middle answers neither for its old self nor for its new one.
        let (before, _, at_first) = specs.iter().rfind(|(_, t, _)| *t <= window.from).unwrap_or(&specs[0]);
        if let Some((after, t, _)) = specs.iter().find(|(_, t, other)| *t > window.from && other != at_first) {
            return all(&|_, draft| {
                draft.window(window.from, window.to).evidence([*before, *after]).inconclusive(format!(
                    "the spec of {object} was changed at {}, in the middle of the window: leave it alone while it is judged",
                    seconds(t.seconds())
                ))
            });
        }
        // An autoscaler answers the load that there was; a load that was not the planned one asks it another question.
        let blame = Certificate::over(history, window.from, window.to, None).blame();
        let subject = Subject { object, window, spec, spec_seen };
        all(&|check, draft| {
            let draft = draft.window(subject.window.from, subject.window.to);
            match (&blame, check) {
                (Some(blame), _) => draft.inconclusive(blame.clone()),
                (None, Check::Reach(reach)) => self.reach(reach, draft, &subject, history),
                (None, Check::Reversals(most)) => self.reversals(most, draft, &subject, history),
                (None, Check::AtMost(most)) => self.at_most(most, draft, &subject, history),
            }
        })
    }

    fn symptoms(&self, check: &str) -> &'static [Symptom] {
        match check {
            "reach" => &[Symptom::TooFew],
            "reversals" => &[Symptom::Restless],
            _ => &[Symptom::TooMany],
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        if self.of.is_none() {
            needs.push(Need::Autoscaler);
        }
        let never = |why: String| Need::Never { why };
        if self.reach.is_none() && self.reversals.is_none() && self.at_most.is_none() {
            needs.push(never(
                "it claims nothing: give `reach`, `reversals` or `at_most`, as in {reach: 5, within: auto}".to_owned(),
            ));
        }
        if self.reach.is_none() && self.within != Within::Auto {
            needs.push(never("`within` says how long `reach` may take, and there is no `reach`".to_owned()));
        }
        if let (Some(reach), Some(most)) = (self.reach, self.at_most)
            && reach > most
        {
            needs.push(never(format!("nothing reaches {reach} and stays at {most} or fewer")));
        }
        if self.reach == Some(0) {
            needs.push(never("every workload reaches 0 replicas: reach for more than it starts with".to_owned()));
        }
        needs
    }

    fn objects(&self) -> Vec<ObjectRef> {
        self.of.iter().cloned().collect()
    }

    fn describe(&self) -> String {
        let of = self.of.as_ref().map_or("the autoscaler".to_owned(), ToString::to_string);
        let mut parts = Vec::new();
        if let Some(reach) = self.reach {
            parts.push(match self.within {
                Within::Auto => format!("makes {reach} replicas ready as soon as its own rules allow"),
                Within::Span(span) => format!("makes {reach} replicas ready within {span}"),
            });
        }
        if let Some(most) = self.reversals {
            parts.push(format!("reverses at most {}", count(u64::from(most), "time")));
        }
        if let Some(most) = self.at_most {
            parts.push(format!("never has more than {}", count(u64::from(most), "replica")));
        }
        format!("{of} {}", parts.join(", "))
    }
}

/// The autoscaler was never seen: a complete watch that shows nothing is a broken promise, no watch at all is nothing.
fn absent(object: &ObjectRef, check: Check, draft: Draft, window: &Window, history: &History) -> Finding {
    let exists = history.series(object, EXISTS);
    let looked = exists.iter().rfind(|(_, t, _)| *t < window.to);
    match looked {
        Some((n, _, 0.0)) => {
            let draft = draft.evidence([*n]);
            let why =
                format!("there is no autoscaler {object}: the cluster was watched and has none, so nothing scales its workload");
            match check {
                Check::Reach(_) => {
                    let draft = match history.started.workload.as_ref() {
                        Some(workload) => {
                            let seen = steps(&history.series(workload, READY_REPLICAS), window.from, window.to);
                            let most = seen.iter().max_by(|a, b| a.value.total_cmp(&b.value).then(b.from.cmp(&a.from)));
                            match most {
                                Some(most) => draft
                                    .evidence(most.n)
                                    .note(format!("{workload} had at most {} ready", count(most.value as u64, "replica"))),
                                None => draft,
                            }
                        }
                        None => draft,
                    };
                    let kind = if is_scaled_object(object) { "ScaledObject" } else { "HorizontalPodAutoscaler" };
                    draft.end(Verdict::Fail, format!("{why}; apply a {kind}, or correct `target.autoscaler`"))
                }
                Check::Reversals(_) | Check::AtMost(_) => draft.inconclusive(why),
            }
        }
        _ => {
            let (why, events) = hidden(history, &[object], Offset::from_nanos(i64::MIN / 2), window.to)
                .unwrap_or_else(|| ("is it observed, and may it be read?".to_owned(), Vec::new()));
            draft.evidence(events).inconclusive(format!("autoscaler {object} was never observed: {why}"))
        }
    }
}

fn blind(history: &History, objects: &[&ObjectRef], from: Offset, to: Offset) -> Option<(String, Vec<u64>)> {
    if from >= to { None } else { hidden(history, objects, from, to) }
}

/// Up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn of(before: f64, after: f64) -> Option<Direction> {
        match after.total_cmp(&before) {
            std::cmp::Ordering::Greater => Some(Direction::Up),
            std::cmp::Ordering::Less => Some(Direction::Down),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// The steps that turn around without a change of the load in their direction. Each change of the load explains one stretch of steps in
/// its direction, the first one included.
fn reversals<'a>(seen: &'a [Step], loads: &[(Offset, Direction)]) -> Vec<&'a Step> {
    let mut loads: Vec<(Offset, Direction)> = loads.to_vec();
    let mut last: Option<Direction> = None;
    let mut turns = Vec::new();
    for pair in seen.windows(2) {
        let Some(direction) = Direction::of(pair[0].value, pair[1].value) else { continue };
        let known = loads.len();
        loads.retain(|(t, load)| *load != direction || *t > pair[1].from);
        let explained = loads.len() < known;
        if last.is_some_and(|last| last != direction) && !explained {
            turns.push(&pair[1]);
        }
        last = Some(direction);
    }
    turns
}

/// When the load went up or down: from one phase to the next, or all through a phase. Up to a stabilization window before `from` too,
/// since an autoscaler answers late.
fn load_changes(history: &History, from: Offset, to: Offset) -> Vec<(Offset, Direction)> {
    const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
    let slopes: Vec<Slope> = history.started.phases.iter().map(|phase| Slope::of(phase, history)).collect();
    let mut changes = Vec::new();
    for (index, slope) in slopes.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| slopes[before].end);
        let start = slope.phase.start;
        changes.extend(before.and_then(|before| changed(before, slope.start)).map(|direction| (start, direction)));
        changes.extend(changed(slope.start, slope.end).map(|direction| (start, direction)));
    }
    changes.retain(|(t, _)| *t >= from - ANSWERS_WITHIN && *t < to);
    changes
}

fn changed(before: f64, after: f64) -> Option<Direction> {
    Direction::of(before, after).filter(|_| (after - before).abs() > LOAD_CHANGE * before.max(after))
}

/// The rate at which a phase starts and ends, in requests a second.
struct Slope<'a> {
    phase: &'a PhaseSpan,
    start: f64,
    end: f64,
}

impl Slope<'_> {
    /// A ramp's halves differ; its ends lie as far from their middles as those from the middle of all. Otherwise the rate is the mean.
    fn of<'a>(phase: &'a PhaseSpan, history: &History) -> Slope<'a> {
        let rate = |due: u64, from: Offset, to: Offset| due as f64 / to.since(from).as_secs_f64().max(1e-9);
        let planned: u64 = history.started.loads.iter().filter_map(|load| load.intended.get(&phase.name)).sum();
        let mean = rate(planned, phase.start, phase.end);
        // How much users send follows what the autoscaler does: how many there are is the load, as if each asked once a second.
        let users: Vec<[u32; 2]> = history.started.loads.iter().filter_map(|load| load.users.get(&phase.name).copied()).collect();
        if history.closed(None).next().is_some() {
            let end_of = |end: usize| mean + users.iter().map(|users| f64::from(users[end])).sum::<f64>();
            return Slope { phase, start: end_of(0), end: end_of(1) };
        }
        // On a whole second, which belongs to one half alone.
        let second = (phase.start + phase.end.since(phase.start) / 2).second();
        let middle = Offset::from_nanos(second.saturating_mul(1_000_000_000)).max(phase.start);
        let half = |from: Offset, to: Offset| {
            // As the schedule has it: the later steps of flows come as answers do.
            let due = history.counts(None, from, to).intended - history.after_answers(from, to);
            let seconds = to.since(from).as_secs_f64().max(1e-9);
            (rate(due, from, to), due as f64 / (seconds * seconds))
        };
        let ((first, noise), (last, more)) = (half(phase.start, middle), half(middle, phase.end));
        let is_ramp =
            middle > phase.start && changed(first, last).is_some() && (last - first).abs() > CHANCE * (noise + more).sqrt();
        let reach = (last - first) / 2.0;
        if is_ramp {
            Slope { phase, start: (first - reach).max(0.0), end: (last + reach).max(0.0) }
        } else {
            Slope { phase, start: mean, end: mean }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_turns_that_the_load_does_not_explain_count() {
        let at = |s: i64| Offset::from_nanos(s * 1_000_000_000);
        let series: Vec<(u64, Offset, f64)> = [(0, 1.0), (5, 4.0), (10, 6.0), (40, 3.0), (45, 5.0), (50, 1.0)]
            .iter()
            .enumerate()
            .map(|(n, (t, v))| (n as u64, at(*t), *v))
            .collect();
        let seen = steps(&series, at(0), at(60));
        let values = |turns: Vec<&Step>| turns.iter().map(|turn| turn.value).collect::<Vec<_>>();
        assert_eq!(values(reversals(&seen, &[])), [3.0, 5.0, 1.0]);
        assert_eq!(values(reversals(&seen, &[(at(30), Direction::Down)])), [5.0, 1.0]);
        assert_eq!(
            values(reversals(&seen, &[(at(45), Direction::Down)])),
            [3.0, 5.0],
            "a load that fell later explains nothing earlier"
        );
    }
}
