//! The one summary that every format renders: a pure function of the recording, the findings and the exit code. What is not in
//! here is in no report.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::exit::Exit;
use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::Fact;
use crate::report::fault::{self, FaultRow};
use crate::report::load::{self, ALL, LoadRow};
use crate::report::scaling::{self, ScaleStep};
use crate::report::second::{self, SecondRow};
use crate::report::{numbers, words};
use crate::verdict::{self, Certificate, Finding, Verdict};

/// The version of `run.json`; its keys only ever grow.
pub const SCHEMA: &str = "squall.run.v1";

/// A run, summed up. Serialises into `run.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub run_id: String,
    /// The version of Squall that ran it.
    pub squall: String,
    pub plan: String,
    /// The plan's file as it was named, where there is one.
    pub plan_file: Option<String>,
    pub claim: String,
    pub seed: u64,
    pub params: BTreeMap<String, String>,
    /// Wall time at which the first phase started, ISO 8601 in UTC.
    pub started: String,
    pub target: String,
    pub workload: Option<ObjectRef>,
    pub autoscaler: Option<ObjectRef>,
    /// The worst of findings and certificate; and a run that did not end with exit code 0 is never a pass.
    pub verdict: Verdict,
    pub exit_code: u8,
    pub exit: ExitRow,
    /// Whether the run went to its planned end.
    pub completed: bool,
    /// How it ended, in words.
    pub ended: String,
    pub phases: Vec<PhaseRow>,
    /// Per load and phase, and per load over all phases.
    pub load: Vec<LoadRow>,
    /// The same over all loads.
    pub totals: Vec<LoadRow>,
    /// The same per class of the loads that have classes; the rows of a load are about all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<LoadRow>,
    /// The same per step of the loads that have flows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<LoadRow>,
    pub faults: Vec<FaultRow>,
    /// Faults that were never injected or never proven effective, and why not, in words: with one of these no run passes.
    pub unproven: Vec<String>,
    pub findings: Vec<Finding>,
    /// The events that the findings point at, in words.
    pub evidence: Vec<EvidenceRow>,
    pub certificate: Certificate,
    pub scaling: Vec<ScaleStep>,
    /// Stretches in which something was not observed.
    pub gaps: Vec<GapRow>,
    /// Bounds of Squall's own that were hit, in words.
    pub bounds: Vec<String>,
    /// What the run made and could not prove gone, in words.
    pub left_behind: Vec<String>,
    /// Events that found no room in the recording.
    pub lost_events: u64,
    /// What is wrong with the recording itself, in words.
    pub torn: Vec<String>,
    /// Kinds of facts that a newer Squall recorded and this one does not know: it judged without them.
    pub unknown: Vec<String>,
    pub environment: BTreeMap<String, String>,
    #[serde(skip)]
    pub seconds: Vec<SecondRow>,
    #[serde(skip)]
    pub place: Place,
}

/// How the command ends, and why in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitInfo {
    pub exit: Exit,
    pub reason: String,
}

/// [`ExitInfo`] as `run.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExitRow {
    pub code: u8,
    pub reason: String,
}

/// What a recording does not know about itself: where things lie. It changes no fact, only what a reader is pointed at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The plan's file, as the user named it.
    pub plan_file: Option<String>,
    /// Its text, line for line as it was read, without secrets: quoted under findings.
    pub plan_source: Option<String>,
    /// The run's folder.
    pub folder: Option<String>,
}

/// A phase. Moments are seconds since the first one started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseRow {
    pub name: String,
    pub start_s: f64,
    pub end_s: f64,
    /// False when the run ended before it did.
    pub completed: bool,
}

/// An event that a finding points at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvidenceRow {
    /// Its number in the recording.
    pub event: u64,
    pub t_s: f64,
    pub says: String,
}

/// A stretch in which something was not observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GapRow {
    pub source: String,
    pub from_s: f64,
    pub to_s: f64,
    pub reason: String,
}

impl Report {
    /// Sums up a run. `certificate` is that of the whole run.
    pub fn of(history: &History, findings: &[Finding], certificate: Certificate, exit: ExitInfo) -> Report {
        let started = &history.started;
        let overall = verdict::overall(findings, &certificate, history);
        let (completed, ended) = match &history.ended {
            Some(end) => (end.how == crate::recording::fact::Ending::Completed, words::ending(&end.how)),
            None => (false, "ended without a word: it was killed, or its disk was full".to_owned()),
        };
        Report {
            schema: SCHEMA,
            run_id: started.run_id.clone(),
            squall: started.squall.clone(),
            plan: started.plan.clone(),
            plan_file: None,
            claim: started.claim.clone(),
            seed: started.seed,
            params: started.params.clone(),
            started: started.zero.clone(),
            target: started.target.clone(),
            workload: started.workload.clone(),
            autoscaler: started.autoscaler.clone(),
            verdict: if exit.exit == Exit::Pass { overall } else { overall.max(Verdict::Inconclusive) },
            exit_code: exit.exit.code(),
            exit: ExitRow { code: exit.exit.code(), reason: words::clean(&exit.reason) },
            completed,
            ended: words::clean(&ended),
            phases: phases(history),
            load: load::rows(history),
            totals: load::totals(history),
            classes: load::classes(history),
            steps: load::steps(history),
            faults: fault::rows(history),
            unproven: verdict::unproven(history).iter().map(|why| words::clean(why)).collect(),
            findings: findings.to_vec(),
            evidence: evidence(history, findings),
            certificate,
            scaling: scaling::steps(history),
            gaps: gaps(history),
            bounds: history.events.iter().filter(|e| matches!(e.fact, Fact::Bound { .. })).map(|e| words::of(&e.fact)).collect(),
            left_behind: history
                .events
                .iter()
                .filter(|e| matches!(e.fact, Fact::LeftBehind { .. }))
                .map(|e| words::of(&e.fact))
                .collect(),
            lost_events: history.ended.as_ref().map_or(0, |end| end.lost_events),
            torn: history.torn.clone(),
            unknown: history.unknown.clone(),
            environment: started.environment.clone(),
            seconds: second::rows(history),
            place: Place::default(),
        }
    }

    /// The same report, pointing at files.
    pub fn at(mut self, place: Place) -> Report {
        self.plan_file = place.plan_file.clone();
        self.place = place;
        self
    }

    /// The phase in which a finding's window begins, or [`ALL`] when it covers the whole run or has none. Stable from run to run, which
    /// the phase in which a window *ends* is not.
    pub fn phase_of(&self, finding: &Finding) -> &str {
        let [from, to] = finding.window_s;
        let (Some(first), Some(last)) = (self.phases.first(), self.phases.last()) else { return ALL };
        if from >= to || self.phases.len() > 1 && from <= first.start_s && to >= last.end_s {
            return ALL;
        }
        self.phases.iter().rfind(|phase| phase.start_s <= from).unwrap_or(first).name.as_str()
    }

    /// The events that a finding, or what was detected for it, points at, the most telling first.
    pub fn evidence_of<'a>(&'a self, events: &'a [u64]) -> impl Iterator<Item = &'a EvidenceRow> {
        events.iter().filter_map(|n| self.evidence.iter().find(|row| row.event == *n))
    }

    /// The command that runs the same again; none for a run without a plan file.
    pub fn reproduce(&self) -> Option<String> {
        let file = self.plan_file.as_ref()?;
        let set: String =
            self.params.iter().map(|(name, value)| format!(" --set {}", quoted(&format!("{name}={value}")))).collect();
        Some(format!("squall run {}{set} --seed {}", quoted(file), self.seed))
    }
}

impl ExitInfo {
    /// Ends with `exit`, and says why as far as findings, certificate and unproven faults are the reason.
    pub fn of(exit: Exit, findings: &[Finding], certificate: &Certificate, history: &History) -> ExitInfo {
        let named = |verdict: Verdict| -> Vec<&str> {
            findings.iter().filter(|finding| finding.verdict == verdict).map(|finding| finding.name.as_str()).collect()
        };
        let all = numbers::plural(findings.len() as u64, "check");
        let (failed, open) = (named(Verdict::Fail), named(Verdict::Inconclusive));
        let reason = match (failed.len(), open.len()) {
            _ if findings.is_empty() => "nothing was asserted, so nothing can pass".to_owned(),
            (0, 0) if findings.len() == 1 => "the one check passed".to_owned(),
            (0, 0) => format!("all {all} passed"),
            (0, n) => format!("{n} of {all} could not be decided: {}", list(&open)),
            (n, 0) => format!("{n} of {all} failed: {}", list(&failed)),
            (n, m) => format!("{n} of {all} failed: {}; {m} could not be decided", list(&failed)),
        };
        let worst = Verdict::worst(findings.iter().map(|finding| finding.verdict));
        let unproven = verdict::unproven(history);
        let reason = if exit == Exit::of(worst) {
            reason
        } else if let (Exit::Inconclusive, Some(first)) = (exit, certificate.reasons.first()) {
            format!("{reason}, but the generator's certificate is not valid: {first}")
        } else if let (Exit::Inconclusive, false) = (exit, unproven.is_empty()) {
            format!("{reason}, but {}", unproven.join("; "))
        } else {
            format!("{}; {reason}", exit.meaning())
        };
        ExitInfo { exit, reason }
    }
}

impl EvidenceRow {
    /// `#412 at 31.2s: pod shop/checkout-abc is gone`.
    pub fn sentence(&self) -> String {
        format!("#{} at {}: {}", self.event, numbers::moment(self.t_s), self.says)
    }
}

fn phases(history: &History) -> Vec<PhaseRow> {
    let phases = history.started.phases.iter();
    phases
        .map(|phase| PhaseRow {
            name: phase.name.to_string(),
            start_s: phase.start.seconds(),
            end_s: phase.end.seconds(),
            completed: history.phase(&phase.name).is_some_and(|seen| seen.completed),
        })
        .collect()
}

fn evidence(history: &History, findings: &[Finding]) -> Vec<EvidenceRow> {
    let of_detectors =
        |finding: &'_ Finding| finding.detected.iter().flat_map(|detected| detected.evidence.clone()).collect::<Vec<_>>();
    let own = findings.iter().flat_map(|finding| finding.evidence.iter().copied());
    let wanted: BTreeSet<u64> = own.chain(findings.iter().flat_map(of_detectors)).collect();
    history
        .events
        .iter()
        .filter(|event| wanted.contains(&event.n))
        .map(|event| EvidenceRow { event: event.n, t_s: event.t_ns.seconds(), says: words::of(&event.fact) })
        .collect()
}

fn gaps(history: &History) -> Vec<GapRow> {
    history
        .events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Gap(gap) => Some(GapRow {
                source: gap.source.clone(),
                from_s: gap.from.seconds(),
                to_s: gap.to.seconds(),
                reason: gap.reason.clone(),
            }),
            _ => None,
        })
        .collect()
}

/// At most three names.
fn list(names: &[&str]) -> String {
    match names.len() {
        0..=3 => names.join(", "),
        n => format!("{} and {} more", names[..3].join(", "), n - 3),
    }
}

/// A word for a shell, in quotes where it needs them.
fn quoted(word: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./=:%+,@".contains(c);
    if !word.is_empty() && word.chars().all(bare) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
