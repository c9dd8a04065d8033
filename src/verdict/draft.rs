//! A finding in the making: everything but how it ends. Also the evidence that points from a number back to the recording.

use super::window::{Blind, Window};
use super::{Claim, Finding, Verdict};
use crate::kinds::Kind;
use crate::recording::History;
use crate::recording::fact::{Fact, Tally};
use crate::recording::history::Selection;
use crate::time::Offset;

/// The most events that a finding points at.
const EVIDENCE: usize = 20;
/// How many tallies stand witness that there was nothing to point at.
const WITNESSES: usize = 3;

/// A finding in the making.
#[derive(Clone, Debug)]
pub struct Draft(Finding);

impl Draft {
    /// The check `check` of `claim`; `words` is the claim for a person, `unit` that of every number in it.
    pub fn of(claim: &Claim, check: &str, words: impl Into<String>, unit: &str) -> Draft {
        Draft(Finding {
            name: format!("{}.{check}", claim.name),
            kind: claim.spec.key().to_owned(),
            verdict: Verdict::Inconclusive,
            claim: words.into(),
            reason: String::new(),
            observed: None,
            limit: None,
            limit_source: "the plan".to_owned(),
            unit: unit.to_owned(),
            ci_low: None,
            ci_high: None,
            n: 0,
            window_s: [0.0, 0.0],
            evidence: Vec::new(),
            notes: Vec::new(),
            detected: Vec::new(),
            line: claim.line,
        })
    }

    pub fn limit(mut self, limit: f64) -> Draft {
        self.0.limit = Some(round(limit));
        self
    }

    pub fn limit_source(mut self, source: impl Into<String>) -> Draft {
        self.0.limit_source = source.into();
        self
    }

    pub fn window(mut self, from: Offset, to: Offset) -> Draft {
        self.0.window_s = [round(from.seconds()), round(to.seconds())];
        self
    }

    pub fn observed(mut self, value: f64) -> Draft {
        self.0.observed = Some(round(value));
        self
    }

    pub fn interval(self, low: f64, high: f64) -> Draft {
        self.bounds(Some(low), Some(high))
    }

    /// An interval of which one side may be open.
    pub fn bounds(mut self, low: Option<f64>, high: Option<f64>) -> Draft {
        self.0.ci_low = low.map(round);
        self.0.ci_high = high.map(round);
        self
    }

    pub fn samples(mut self, n: u64) -> Draft {
        self.0.n = n;
        self
    }

    pub fn evidence(mut self, events: impl IntoIterator<Item = u64>) -> Draft {
        for n in events {
            if self.0.evidence.len() < EVIDENCE && !self.0.evidence.contains(&n) {
                self.0.evidence.push(n);
            }
        }
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Draft {
        self.0.notes.push(note.into());
        self
    }

    pub fn notes(self, notes: &[String]) -> Draft {
        notes.iter().fold(self, |draft, note| draft.note(note.clone()))
    }

    pub fn end(mut self, verdict: Verdict, reason: impl Into<String>) -> Finding {
        self.0.verdict = verdict;
        self.0.reason = reason.into();
        // What was counted whole, like the replicas that a watch saw, is no sample: its interval is the value.
        if self.0.ci_low.is_none() && self.0.ci_high.is_none() {
            (self.0.ci_low, self.0.ci_high) = (self.0.observed, self.0.observed);
        }
        self.0
    }

    pub fn inconclusive(self, reason: impl Into<String>) -> Finding {
        self.end(Verdict::Inconclusive, reason)
    }

    /// Without a window there is nothing to judge; the one that was planned is shown, where it is known.
    pub fn blind(self, blind: &Blind) -> Finding {
        let draft = match &blind.planned {
            Some(Window { from, to }) => self.window(*from, *to),
            None => self,
        };
        draft.evidence(blind.evidence.iter().copied()).inconclusive(blind.why.clone())
    }
}

/// `finding`, unless the generator is to blame for what it found.
pub fn unless_blamed(finding: Finding, blame: Option<&str>) -> Finding {
    match blame {
        Some(blame) => Finding { verdict: Verdict::Inconclusive, reason: blame.to_owned(), ..finding },
        None => finding,
    }
}

/// To a millionth: the last bits of a logarithm differ between machines, and findings are compared byte for byte.
fn round(x: f64) -> f64 {
    let rounded = (x * 1e6).round() / 1e6;
    // No finding says -0.
    if rounded == 0.0 { 0.0 } else { rounded }
}

/// The tally events of `[from, to)` by falling `weight`, those without any left out; where none has any, a few of those that show it.
pub fn heaviest<'a>(
    history: &History,
    which: impl Into<Selection<'a>>,
    from: Offset,
    to: Offset,
    weight: impl Fn(&Tally) -> u64,
) -> Vec<u64> {
    let which = which.into();
    let tallies: Vec<(u64, &Tally)> = history
        .events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Tally(tally) if which.has(&tally.load, &tally.part) && history.overlaps(&tally.phase, tally.second, from, to) => {
                Some((event.n, &**tally))
            }
            _ => None,
        })
        .collect();
    let heaviest = |weight: &dyn Fn(&Tally) -> u64, most: usize| {
        let mut events: Vec<(u64, u64)> =
            tallies.iter().map(|(n, tally)| (weight(tally), *n)).filter(|(weight, _)| *weight > 0).collect();
        events.sort_by_key(|(weight, n)| (std::cmp::Reverse(*weight), *n));
        events.into_iter().map(|(_, n)| n).take(most).collect::<Vec<u64>>()
    };
    let found = heaviest(&weight, EVIDENCE);
    if found.is_empty() { heaviest(&|tally| tally.counts.ended(), WITNESSES) } else { found }
}
