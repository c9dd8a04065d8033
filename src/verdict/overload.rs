//! Beyond capacity, work is refused early instead of piling up: goodput holds, what is accepted is served in time, the rest is told
//! "not now" instead of being left to time out, and nothing in between multiplies the load.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amplification;
use super::certificate::Certificate;
use super::detectors::Symptom;
use super::draft::{Draft, heaviest, unless_blamed};
use super::latency::{self, Objective, Of};
use super::ratio::Share;
use super::recovery::{Asked, Goodput, Recovery};
use super::slo::nothing_counts;
use super::statistics::{least_samples, mean, quantile};
use super::window::Window;
use super::within::Within;
use super::words::{micros, percent, seconds, significant};
use super::{Claim, Finding, Judge, Need, Verdict};
use crate::names::Name;
use crate::recording::History;
use crate::recording::fact::{Counts, Outcome};
use crate::recording::sink::Measure;
use crate::time::Offset;
use crate::units::{Rate, Ratio, Span};

/// A phase in which no more than this share went wrong was at or below capacity.
const ABSORBED: f64 = 0.01;
/// The load must exceed what is known to be absorbed by this much to be an overload.
const BEYOND: f64 = 1.1;
/// Waiting that grows by more than this between the middle and the end of the window, and by more than the floor, has no bound in sight.
const GROWTH: f64 = 1.25;
const GROWTH_FLOOR_US: f64 = 50_000.0;
/// Answers per third of the window that a median needs.
const ANSWERS_LEAST: u64 = 30;
/// The outcomes of requests that were let in.
const WAITED: [Outcome; 2] = [Outcome::Ok, Outcome::TimedOut];
/// Why users cannot show an overload.
const ASKED_FOR: &str =
    "an overload is more than the service can do, and users who wait for answers ask for no more than they are given";
/// How long `recover_within: auto` allows.
const AUTO: Duration = Duration::from_secs(30);
/// How long goodput must stay back to count as back.
const HOLD: Duration = Duration::from_secs(3);

/// What must hold while more is asked for than there is capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Goodput in the window is at least this share of the best goodput at or below capacity: of `capacity`, or of the best phase
    /// in which at most 1% of the requests went wrong. An answer is good when it meets `accepted_p99`, where that is given.
    #[serde(default = "Spec::goodput_default")]
    pub goodput: Ratio,
    /// The rate that the service is known to take; the best phase at or below capacity tells it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Rate>,
    /// 99% of the requests that are not refused are answered within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_p99: Option<Span>,
    /// The share of requests that may fail or time out instead of being answered or refused.
    #[serde(default = "Spec::abandoned_default")]
    pub abandoned: Ratio,
    /// 99% of refusals come within this: saying no must be cheap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_p99: Option<Span>,
    /// Whether refusals must say when to come back.
    #[serde(default)]
    pub retry_after: RetryAfter,
    /// Once the window is over, how long until goodput is back at 95% of what it was before, per request that was due, not to be lost
    /// again before this time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_within: Option<Within>,
    /// How many times the service may call its dependency for each operation that it wants; from the counters
    /// `dependency_attempts_total` and `dependency_operations_total` of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amplification: Option<f64>,
    /// Only requests of this load; of every load together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Name>,
}

/// Whether refusals must carry the Retry-After header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    #[default]
    Optional,
    Required,
}

#[derive(Clone, Copy)]
enum Check {
    Goodput,
    Queue,
    Abandoned,
    AcceptedP99(Span),
    RejectedP99(Span),
    RetryAfter,
    Recover(Within),
    Amplification(f64),
}

impl Spec {
    fn goodput_default() -> Ratio {
        Ratio::from_fraction(0.9).expect("90 per cent is a share")
    }

    fn abandoned_default() -> Ratio {
        Ratio::from_fraction(0.01).expect("one per cent is a share")
    }

    fn drafts(&self, claim: &Claim) -> Vec<(Check, Draft)> {
        let of = |check, words: String, unit| Draft::of(claim, check, words, unit);
        let mut drafts = vec![
            (Check::Goodput, of("goodput", format!("goodput stays at {} of the best at or below capacity", self.goodput), "1/s")),
            (Check::Queue, of("queue", "waiting does not keep growing".to_owned(), "ms")),
            (
                Check::Abandoned,
                of("abandoned", format!("at most {} of requests end neither answered nor refused", self.abandoned), "%")
                    .limit(self.abandoned.percent()),
            ),
        ];
        if let Some(limit) = self.accepted_p99 {
            let words = format!("99% of what is not refused is answered within {limit}");
            drafts.push((Check::AcceptedP99(limit), of("accepted_p99", words, "ms").limit(limit.millis())));
        }
        if let Some(limit) = self.rejected_p99 {
            let words = format!("99% of refusals come within {limit}");
            drafts.push((Check::RejectedP99(limit), of("rejected_p99", words, "ms").limit(limit.millis())));
        }
        if self.retry_after == RetryAfter::Required {
            drafts.push((Check::RetryAfter, of("retry_after", "every refusal carries Retry-After".to_owned(), "1").limit(0.0)));
        }
        if let Some(within) = self.recover_within {
            drafts.push((
                Check::Recover(within),
                of("recover_within", format!("service is back within {within} of the overload's end"), "s"),
            ));
        }
        if let Some(most) = self.amplification {
            let words = format!("at most {most} calls to the dependency per operation");
            drafts.push((Check::Amplification(most), of("amplification", words, "1").limit(most)));
        }
        drafts
    }

    /// Good answers in each whole second of `[from, to)`, and requests due.
    fn good(&self, history: &History, from: Offset, to: Offset) -> Vec<(f64, u64)> {
        let goodput = Goodput { load: self.load.as_ref(), within: self.accepted_p99 };
        let by_second: BTreeMap<i64, (u64, u64)> =
            goodput.seconds(history, from, to).into_iter().map(|(second, good, due)| (second, (good, due))).collect();
        let (first, last) = (from.nanos().div_euclid(1_000_000_000), to.nanos().div_euclid(1_000_000_000));
        let first = if from.nanos().rem_euclid(1_000_000_000) == 0 { first } else { first + 1 };
        (first..last).map(|second| by_second.get(&second).map_or((0.0, 0), |(good, due)| (*good as f64, *due))).collect()
    }

    /// The best goodput at or below capacity, per second, and where it comes from.
    fn reference(&self, window: &Window, history: &History) -> Result<(f64, String), String> {
        if let Some(capacity) = self.capacity {
            return Ok((capacity.per_second(), format!("a capacity of {capacity}")));
        }
        history
            .started
            .phases
            .iter()
            .filter(|phase| phase.end <= window.from || phase.start >= window.to)
            .filter_map(|phase| {
                let counts = history.counts(self.load.as_ref(), phase.start, phase.end);
                let sent = counts.ended() - counts.unsent;
                let wrong = sent - counts.ok;
                if sent == 0 || wrong as f64 > ABSORBED * sent as f64 {
                    return None;
                }
                let seconds: Vec<f64> = self.good(history, phase.start, phase.end).into_iter().map(|(good, _)| good).collect();
                Some((mean(&seconds)?.0, phase.name.clone()))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(best, phase)| (best, format!("{}/s in phase {phase}", significant(best, 3))))
            .ok_or_else(|| {
                "no phase of three seconds or more outside of the overload was absorbed, so its capacity is not known: add one, or \
                 give `capacity`"
                    .to_owned()
            })
    }

    fn goodput(&self, draft: Draft, window: &Window, history: &History) -> Finding {
        let (best, from_where) = match self.reference(window, history) {
            Ok(reference) => reference,
            Err(why) => return draft.inconclusive(why),
        };
        let floor = self.goodput.fraction() * best;
        let seconds = self.good(history, window.from, window.to);
        let due: u64 = seconds.iter().map(|(_, due)| due).sum();
        let offered = due as f64 / seconds.len().max(1) as f64;
        let values: Vec<f64> = seconds.iter().map(|(good, _)| *good).collect();
        let Some((value, low, high)) = mean(&values).map(|(value, low, high)| (value, low.max(0.0), high)) else {
            return draft.inconclusive("the window holds fewer than three whole seconds: make it longer");
        };
        let draft = draft
            .limit(floor)
            .limit_source(format!("{} of {from_where}", self.goodput))
            .observed(value)
            .interval(low, high)
            .samples(due)
            .evidence(heaviest(history, self.load.as_ref(), window.from, window.to, |tally| {
                tally.counts.ended() - tally.counts.ok
            }));
        if offered < BEYOND * best {
            return draft.inconclusive(format!(
                "{}/s were asked for and {from_where} is known to be absorbed: this was no overload, raise the rate",
                significant(offered, 3)
            ));
        }
        let said = format!(
            "{} good answers a second (95% bounds {} to {}) of {} asked for; {} is the floor",
            significant(value, 3),
            significant(low, 3),
            significant(high, 3),
            significant(offered, 3),
            significant(floor, 3)
        );
        if low >= floor {
            draft.end(Verdict::Pass, said)
        } else if high < floor {
            draft.end(Verdict::Fail, format!("{said}: goodput collapses under overload"))
        } else {
            draft.inconclusive(format!("{said}: make the window longer"))
        }
    }

    /// Whether the median wait in the last third of the window lies above 1.25 times that of the middle one and 50 ms, which is the
    /// question whether more than half of the last third's requests do. A bounded queue is full long before; a queue without a
    /// bound grows by (rho-1) t for ever (D/D/1 in overload), so its medians lie at 1/2 and 5/6 of its end.
    fn queue(&self, draft: Draft, window: &Window, history: &History) -> Finding {
        let third = window.to.since(window.from) / 3;
        let (second, last) = (window.from + third, window.from + third * 2);
        let load = self.load.as_ref();
        let median = |from: Offset, to: Offset| {
            let histogram = history.histogram(load, &WAITED, Measure::Response, from, to);
            quantile(&histogram, 0.5, 1.0).map(|median| (median, histogram.len()))
        };
        let (Some((early, _)), Some((middle, n_middle)), Some((late, n_late))) =
            (median(window.from, second), median(second, last), median(last, window.to))
        else {
            return draft.inconclusive("a third of the window has no answers at all, so waiting cannot be followed through it");
        };
        let draft = draft
            .observed(late.value as f64 / 1e3)
            .interval(late.low as f64 / 1e3, late.high as f64 / 1e3)
            .samples(n_middle + n_late)
            .evidence(heaviest(history, load, last, window.to, |tally| tally.counts.ended()));
        if n_middle.min(n_late) < ANSWERS_LEAST {
            return draft
                .inconclusive(format!("fewer than {ANSWERS_LEAST} answers in a third of the window are too few for a median"));
        }
        let given_up = history.counts(load, last, window.to);
        if given_up.timed_out > given_up.ok {
            // Cut off at the timeout, growth can no longer be seen, nor held against a limit; that it got there is enough.
            return draft.end(
                Verdict::Fail,
                format!(
                    "in the last third of the window {} requests waited until they timed out and {} were answered: the queue has no \
                     bound in sight; bound it and refuse the rest",
                    given_up.timed_out, given_up.ok
                ),
            );
        }
        let allowed = (GROWTH * middle.value as f64 + GROWTH_FLOOR_US) as u64;
        let draft = draft.limit(allowed as f64 / 1e3).limit_source("1.25 times the median of the window's middle third, and 50ms");
        let said = format!(
            "the median wait is {} in the first third of the window, {} in the second, {} in the last",
            micros(early.value),
            micros(middle.value),
            micros(late.value)
        );
        let longer = history.above_per_second(load, &WAITED, Measure::Response, allowed, last, window.to);
        match Share::of_process(longer.values().copied()).against(0.5) {
            Verdict::Pass => draft.end(Verdict::Pass, said),
            Verdict::Fail => draft.end(
                Verdict::Fail,
                format!("{said}: it keeps growing, the queue has no bound in sight; bound it and refuse the rest"),
            ),
            Verdict::Inconclusive => {
                draft.inconclusive(format!("{said}, too close to tell growth from noise: make the window longer"))
            }
        }
    }

    fn abandoned(&self, draft: Draft, window: &Window, history: &History) -> Finding {
        let lost = |counts: &Counts| counts.failed + counts.timed_out;
        let seconds: Vec<(u64, u64)> = history
            .per_second(self.load.as_ref(), window.from, window.to)
            .iter()
            .map(|(_, counts)| (lost(counts), counts.ended() - counts.unsent))
            .collect();
        let share = Share::of_process(seconds);
        let counts = history.counts(self.load.as_ref(), window.from, window.to);
        let draft = draft
            .samples(share.n)
            .evidence(heaviest(history, self.load.as_ref(), window.from, window.to, |tally| lost(&tally.counts)));
        if share.n == 0 {
            return draft.inconclusive(nothing_counts(&counts));
        }
        let draft = draft.observed(share.point * 100.0).interval(share.low * 100.0, share.high * 100.0);
        let said = format!(
            "{} timed out, {} failed, {} were refused, {} answered: {} abandoned",
            counts.timed_out,
            counts.failed,
            counts.rejected,
            counts.ok,
            share.words()
        );
        let budget = self.abandoned.fraction();
        match share.against(budget) {
            Verdict::Pass => draft.end(Verdict::Pass, format!("{said}, {} allowed", self.abandoned)),
            Verdict::Fail => {
                let why = if counts.timed_out > counts.failed {
                    "requests wait until they time out instead of being refused; bound the queue and answer 503"
                } else {
                    "requests break instead of being refused; answer 429 or 503 before the service does"
                };
                draft.end(Verdict::Fail, format!("{said}, {} allowed: {why}", self.abandoned))
            }
            Verdict::Inconclusive => draft.inconclusive(format!("{said}, {} allowed: {}", self.abandoned, share.way_out(budget))),
        }
    }

    fn p99(&self, limit: Span, of: Of) -> Objective<'_> {
        Objective { q: 0.99, limit, which: self.load.as_ref().into(), of }
    }

    fn retry_after(&self, draft: Draft, window: &Window, history: &History) -> Finding {
        let (mut rejected, mut told) = (0, 0);
        for (_, tally) in history.windows_in(self.load.as_ref(), window.from, window.to) {
            rejected += tally.counts.rejected;
            told += tally.retry_after;
        }
        let missing = rejected.saturating_sub(told);
        let draft = draft.samples(rejected).observed(missing as f64).evidence(heaviest(
            history,
            self.load.as_ref(),
            window.from,
            window.to,
            |tally| tally.counts.rejected.saturating_sub(tally.retry_after),
        ));
        if rejected == 0 {
            draft.inconclusive("nothing was refused in this window, so nothing shows what refusals carry")
        } else if missing == 0 {
            draft.end(Verdict::Pass, format!("all {rejected} refusals carry Retry-After"))
        } else {
            draft.end(
                Verdict::Fail,
                format!("{missing} of {rejected} refusals carry no Retry-After: clients cannot know when to come back"),
            )
        }
    }

    fn recover(&self, draft: Draft, within: Within, window: &Window, history: &History) -> Finding {
        let (bound, source) = match within {
            Within::Span(span) => (span.duration(), "the plan".to_owned()),
            Within::Auto => (AUTO, format!("auto: {}", seconds(AUTO.as_secs_f64()))),
        };
        let goodput = Goodput { load: self.load.as_ref(), within: self.accepted_p99 };
        let (_, end) = history.whole();
        let draft = draft
            .limit(bound.as_secs_f64())
            .limit_source(source)
            .window(window.to, (window.to + bound).min(end))
            .evidence(heaviest(history, self.load.as_ref(), window.to, end, |tally| tally.counts.ended() - tally.counts.ok));
        let normal = match goodput.before(history, window.from) {
            Ok(normal) => normal,
            Err(why) => return draft.inconclusive(why),
        };
        let asked = Asked { start: window.to, past: window.to, bound, hold: HOLD };
        let (draft, Recovery { verdict, said, .. }) = goodput.recovery(draft, asked, normal, history);
        draft.end(verdict, format!("95% of the goodput before the overload ({}) {said}", percent(normal)))
    }
}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let drafts = self.drafts(claim);
        let window = match Window::of(&claim.over, history) {
            Ok(window) => window,
            Err(blind) => return drafts.into_iter().map(|(_, draft)| draft.blind(&blind)).collect(),
        };
        if let Some(load) = history.closed(self.load.as_ref()).next() {
            let why = format!("{ASKED_FOR}: give {load} a `rate`");
            return drafts.into_iter().map(|(_, draft)| draft.window(window.from, window.to).inconclusive(why.clone())).collect();
        }
        let limit = self.accepted_p99.map(Span::duration);
        let blame = Certificate::over(history, window.from, window.to, limit).blame();
        // Refusals are fast: only the check that measures them asks for a generator that is as exact.
        let blame_refusals =
            self.rejected_p99.and_then(|limit| Certificate::over(history, window.from, window.to, Some(limit.duration())).blame());
        // What the window is compared with, and what comes after it, must be sound as well.
        let (first, last) = history.whole();
        let blame_around = Certificate::over(history, first, last, limit).blame();
        drafts
            .into_iter()
            .map(|(check, draft)| {
                let draft = draft.window(window.from, window.to);
                let finding = match check {
                    Check::Goodput => self.goodput(draft, &window, history),
                    Check::Queue => self.queue(draft, &window, history),
                    Check::Abandoned => self.abandoned(draft, &window, history),
                    Check::AcceptedP99(limit) => latency::judge(draft, &self.p99(limit, Of::Accepted), &window, history),
                    Check::RejectedP99(limit) => latency::judge(draft, &self.p99(limit, Of::Refused), &window, history),
                    Check::RetryAfter => self.retry_after(draft, &window, history),
                    Check::Recover(within) => self.recover(draft, within, &window, history),
                    Check::Amplification(most) => amplification::judge(draft, most, &window, history),
                };
                let blame = match check {
                    Check::Goodput if self.capacity.is_none() => &blame_around,
                    Check::Recover(_) => &blame_around,
                    Check::RejectedP99(_) => &blame_refusals,
                    _ => &blame,
                };
                unless_blamed(finding, blame.as_deref())
            })
            .collect()
    }

    fn symptoms(&self, check: &str) -> &'static [Symptom] {
        match check {
            "queue" | "accepted_p99" | "rejected_p99" => &[Symptom::Slow],
            "abandoned" => &[Symptom::Lost],
            _ => &[Symptom::Lost, Symptom::Slow],
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.load.iter().cloned().map(Need::Load).collect();
        needs.push(Need::OpenModel { why: ASKED_FOR.to_owned() });
        if self.abandoned.fraction() > 0.0 {
            let least = least_samples(self.abandoned.fraction());
            needs.push(Need::Samples {
                least,
                why: format!("`abandoned: {}` needs {least} requests to pass at 95% confidence", self.abandoned),
            });
        }
        if self.accepted_p99.is_some() {
            let least = least_samples(0.01);
            needs.push(Need::Samples { least, why: format!("accepted_p99 needs {least} requests to pass at 95% confidence") });
        }
        if self.amplification.is_some_and(|most| most.is_nan() || most < 1.0) {
            needs.push(Need::Never {
                why: "`amplification` is at least 1: each operation is one call without any retry".to_owned(),
            });
        }
        needs
    }

    fn describe(&self) -> String {
        let mut parts = vec![format!("goodput holds at {}", self.goodput)];
        if let Some(limit) = self.accepted_p99 {
            parts.push(format!("accepted requests answer within {limit}"));
        }
        if let Some(limit) = self.rejected_p99 {
            parts.push(format!("refusals come within {limit}"));
        }
        parts.push("the rest is refused, not left waiting".to_owned());
        if let Some(most) = self.amplification {
            parts.push(format!("retries multiply calls by at most {most}"));
        }
        format!("under overload {}", parts.join(", "))
    }

    fn latency_limit(&self) -> Option<Span> {
        self.accepted_p99
    }
}
