//! A percentile of latency against a limit, judged as a share: "p99 <= L" is "at most 1% took longer than L". What timed out took
//! longer than any limit, since how long it would have taken is not known.

use std::collections::BTreeMap;

use super::draft::{Draft, heaviest};
use super::ratio::{Share, budget};
use super::statistics::at_rank;
use super::window::Window;
use super::words::{micros, percent};
use super::{Finding, Verdict};
use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::{Counts, Outcome};
use crate::recording::history::Selection;
use crate::recording::sink::Measure;
use crate::units::Span;

/// What is held to a limit.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    /// The share that takes at most as long as `limit`.
    pub q: f64,
    pub limit: Span,
    pub which: Selection<'a>,
    pub of: Of,
}

/// Of which requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Those that were let in: answered, or timed out.
    Accepted,
    /// Those that were told "not now".
    Refused,
}

impl Of {
    /// Those whose latency is what it is.
    fn answered(self) -> Outcome {
        match self {
            Of::Accepted => Outcome::Ok,
            Of::Refused => Outcome::Rejected,
        }
    }

    /// Those, and those whose latency is longer than what was recorded.
    fn outcomes(self) -> &'static [Outcome] {
        match self {
            Of::Accepted => &[Outcome::Ok, Outcome::TimedOut],
            Of::Refused => &[Outcome::Rejected],
        }
    }
}

pub fn judge(draft: Draft, objective: &Objective<'_>, window: &Window, history: &History) -> Finding {
    let Objective { q, limit, which, of } = *objective;
    let Window { from, to } = *window;
    let (budget, answered) = (budget(q), of.answered());
    let limit_us = u64::try_from(limit.duration().as_micros()).unwrap_or(u64::MAX);
    let counts = history.counts(which, from, to);
    let mut seconds: BTreeMap<i64, (u64, u64)> =
        history.above_per_second(which, &[answered], Measure::Response, limit_us, from, to);
    let measured: u64 = seconds.values().map(|(_, all)| all).sum();
    if of == Of::Accepted {
        for (second, counts) in history.per_second(which, from, to) {
            let (bad, all) = seconds.entry(second).or_default();
            *bad += counts.timed_out;
            *all += counts.timed_out;
        }
    }
    let share = Share::of_process(seconds.values().copied());
    let draft = draft.samples(share.n).evidence(heaviest(history, which, from, to, |tally| {
        seconds.get(&tally.second).map_or(0, |(bad, _)| if tally.counts.ended() > 0 { *bad } else { 0 })
    }));
    if share.n == 0 {
        return draft.inconclusive(match of {
            Of::Accepted => "no request was answered in this window, so none has a latency: see what became of them",
            Of::Refused => "there were none in this window, so nothing shows how long they take",
        });
    }
    let expected = counts.of(answered);
    if measured + expected / 1000 < expected {
        return draft
            .inconclusive(format!("latency was recorded for {measured} of {expected} answers: latency.hlog is incomplete"));
    }
    let verdict = share.against(budget);

    // The value and its bounds are order statistics at the very counts where the verdict turns: PASS is a high bound within the limit,
    // FAIL a low one beyond it. Those that timed out stand at the end.
    let known = history.histogram(which, &[answered], Measure::Response, from, to);
    let recorded = history.histogram(which, of.outcomes(), Measure::Response, from, to);
    // A value that the histogram cannot tell from the limit counts as the limit.
    let shown = |us: u64| if known.equivalent(us, limit_us) { limit_us } else { us };
    let (passes, fails) = share.edges(budget);
    let is_known = |rank: u64| rank <= known.len();
    let at = |rank: u64| if is_known(rank) { at_rank(&known, rank) } else { at_rank(&recorded, rank).max(known.max()) };
    let low = fails.map_or(0, |bad| shown(at(share.n - bad + 1)));
    let high = passes.map(|bad| share.n - bad).filter(|rank| is_known(*rank)).map(|rank| shown(at(rank)));
    let mut draft = draft.bounds(Some(low as f64 / 1e3), high.map(|us| us as f64 / 1e3));
    let bounds = match high {
        Some(high) => format!("95% bounds {} to {}", micros(low), micros(high)),
        None => format!("at least {} at 95% confidence", micros(low)),
    };
    let rank = (share.n as f64 * q).ceil() as u64;
    let value = shown(at(rank));
    // A timeout within the limit is no value to hold against it: it only says how long was waited in vain.
    let said = if is_known(rank) || value > limit_us {
        draft = draft.observed(value as f64 / 1e3);
        format!("{} ({bounds})", micros(value))
    } else {
        format!("longer than {} ({bounds})", micros(value))
    };
    let draft = if of == Of::Accepted { draft.notes(&left_out(&counts, share.n)) } else { draft };
    let draft = history.closed(which.load).fold(draft, |draft, name| draft.note(unseen(name)));
    let said = format!("{said}; {} of {} took longer than {limit}: {}", share.bad, share.n, share.words());
    let allowed = percent(budget);
    match verdict {
        Verdict::Inconclusive => draft.inconclusive(format!("{said}, {allowed} allowed: {}", share.way_out(budget))),
        verdict => draft.end(verdict, format!("{said}, {allowed} allowed")),
    }
}

/// What no percentile and no share of a closed load can show.
pub fn unseen(load: &Name) -> String {
    format!(
        "the users of {load} wait for answers: while the service is slow or away they send less, so it shows in at most one request of \
         each user, and what others would have met is in no percentile and no share; a `rate` would show it"
    )
}

/// Whose latency is not in `n`, or only as a lower bound.
fn left_out(counts: &Counts, n: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let others = counts.rejected + counts.failed;
    if others > 0 {
        let share = others as f64 / (others + n) as f64;
        notes.push(format!(
            "latency speaks of the {} that were answered or timed out; {} were rejected or failed",
            percent(1.0 - share),
            percent(share)
        ));
    }
    if counts.timed_out > 0 {
        notes.push(format!("{} timed out: they took at least their timeout, and count as slower than the limit", counts.timed_out));
    }
    notes
}
