//! What was counted and timed of requests, per window: the questions of how many, how slow and when.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::History;
use crate::names::Name;
use crate::recording::attempts::Attempts;
use crate::recording::fact::{Counts, Outcome, Part, Tally};
use crate::recording::sink::{Measure, Series};
use crate::time::Offset;

/// One second of one phase of one load, or of a part of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WindowKey {
    pub load: Name,
    pub phase: Name,
    pub second: i64,
    pub part: Part,
}

/// Which requests: of one load or of all, of one class or of all, of one step of flows or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection<'a> {
    pub load: Option<&'a Name>,
    pub class: Option<&'a Name>,
    pub step: Option<&'a Name>,
}

impl<'a> From<Option<&'a Name>> for Selection<'a> {
    /// All requests of that load; of every load where it is `None`.
    fn from(load: Option<&'a Name>) -> Selection<'a> {
        Selection { load, ..Selection::default() }
    }
}

impl Selection<'_> {
    /// Whether the requests of a part of a load are among them.
    pub fn has(&self, load: &Name, part: &Part) -> bool {
        self.load.is_none_or(|one| one == load)
            && self.class.is_none_or(|class| part.class.as_ref() == Some(class))
            && self.step.is_none_or(|step| part.step.as_ref() == Some(step))
    }
}

/// A histogram without its empty buckets, as `(value in microseconds, count)` in rising order: hundreds of bytes where the whole
/// one has hundreds of kilobytes, and a run has one per second and series. No value is above an hour, and no second has four billion.
pub(super) type Bars = Box<[(u32, u32)]>;

impl History {
    /// The windows of those requests that overlap `[from, to)`, in the order of load, phase and second. A load alone selects all of it, `None`
    /// every load.
    pub fn windows_in<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = (&'a WindowKey, &'a Tally)> {
        let which = which.into();
        self.windows
            .iter()
            .filter(move |(key, _)| which.has(&key.load, &key.part) && self.overlaps(&key.phase, key.second, from, to))
    }

    /// What was tried for the requests that were due in `[from, to)`: of loads whose client tries once, what was sent. `None` where the
    /// client of none of them tries more than once.
    pub fn attempts<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Option<Attempts> {
        let mut sum = Attempts::default();
        let mut any = false;
        for (_, tally) in self.windows_in(which, from, to) {
            any |= tally.attempts.is_some();
            sum.add(&tally.tried());
        }
        any.then_some(sum)
    }

    /// What happened to the requests that were due in `[from, to)`.
    pub fn counts<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Counts {
        let mut sum = Counts::default();
        self.windows_in(which, from, to).for_each(|(_, tally)| sum.add(&tally.counts));
        sum
    }

    /// Of the requests of loads on a schedule that were due in `[from, to)`, how many came due after an answer, and not by the schedule: the
    /// later steps of flows.
    pub fn after_answers(&self, from: Offset, to: Offset) -> u64 {
        let later = self.started.loads.iter().filter(|load| !load.is_closed()).flat_map(|load| {
            load.later_steps().map(|step| Selection { load: Some(&load.name), step: Some(&step.name), ..Selection::default() })
        });
        later.map(|which| self.counts(which, from, to).intended).sum()
    }

    /// The same per second, in order; a second in which nothing was due is absent.
    pub fn per_second<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> Vec<(i64, Counts)> {
        let mut seconds: BTreeMap<i64, Counts> = BTreeMap::new();
        for (key, tally) in self.windows_in(which, from, to) {
            seconds.entry(key.second).or_default().add(&tally.counts);
        }
        seconds.into_iter().collect()
    }

    /// How often something was sent for the requests that were due in each second.
    pub fn attempts_per_second<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> BTreeMap<i64, u64> {
        let mut seconds: BTreeMap<i64, u64> = BTreeMap::new();
        for (key, tally) in self.windows_in(which, from, to) {
            *seconds.entry(key.second).or_default() += tally.attempts_sent();
        }
        seconds
    }

    /// Of requests that were due in `[from, to)`, the histogram of `measure` in microseconds.
    pub fn histogram<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        outcomes: &'a [Outcome],
        measure: Measure,
        from: Offset,
        to: Offset,
    ) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds that the crate allows");
        for (_, bars) in self.bars_in(which.into(), outcomes, measure, from, to) {
            bars.iter().for_each(|(value, count)| histogram.saturating_record_n(u64::from(*value), u64::from(*count)));
        }
        histogram
    }

    /// Per second: how many of those values lie above `limit_us`, and how many there are. A value within the histogram's
    /// resolution (0.1%) of the limit counts as not above it.
    pub fn above_per_second<'a>(
        &'a self,
        which: impl Into<Selection<'a>>,
        outcomes: &'a [Outcome],
        measure: Measure,
        limit_us: u64,
        from: Offset,
        to: Offset,
    ) -> BTreeMap<i64, (u64, u64)> {
        let scale: Histogram<u64> = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds that the crate allows");
        let limit = scale.highest_equivalent(limit_us.clamp(1, 3_600_000_000));
        let mut seconds: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (second, bars) in self.bars_in(which.into(), outcomes, measure, from, to) {
            let (above, all) = seconds.entry(second).or_default();
            for (value, count) in bars {
                *above += if u64::from(*value) > limit { u64::from(*count) } else { 0 };
                *all += u64::from(*count);
            }
        }
        seconds
    }

    /// Whether `[from, to)` cuts a window that holds requests, so that it had to be rounded outward to whole seconds.
    pub fn rounds<'a>(&'a self, which: impl Into<Selection<'a>>, from: Offset, to: Offset) -> bool {
        self.windows_in(which, from, to).any(|(key, _)| {
            let (start, end) = self.stretch(&key.phase, key.second);
            start < from || end > to
        })
    }

    /// Every histogram as it was recorded, per series and second: its filled buckets as `(microseconds, count)` in rising order.
    /// For who goes through all of them once; a stretch of time is asked for by [`History::histogram`].
    pub fn bars(&self) -> impl Iterator<Item = (&Series, i64, &[(u32, u32)])> {
        self.bars.iter().map(|((series, second), bars)| (series, *second, &bars[..]))
    }

    fn bars_in<'a>(
        &'a self,
        which: Selection<'a>,
        outcomes: &'a [Outcome],
        measure: Measure,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = (i64, &'a Bars)> {
        self.bars
            .iter()
            .filter(move |((series, second), _)| {
                series.measure == measure
                    && outcomes.contains(&series.outcome)
                    && which.has(&series.load, &series.part)
                    && self.overlaps(&series.phase, *second, from, to)
            })
            .map(|((_, second), bars)| (*second, bars))
    }

    /// Whether the window of `phase` and `second` overlaps `[from, to)`.
    pub fn overlaps(&self, phase: &Name, second: i64, from: Offset, to: Offset) -> bool {
        let (start, end) = self.stretch(phase, second);
        start < to && end > from
    }

    /// The time that a window covers: its second, cut at the bounds of its phase.
    pub(super) fn stretch(&self, phase: &Name, second: i64) -> (Offset, Offset) {
        let start = Offset::from_nanos(second.saturating_mul(1_000_000_000));
        let end = Offset::from_nanos(second.saturating_add(1).saturating_mul(1_000_000_000));
        match self.started.phases.iter().find(|planned| planned.name == *phase) {
            // A window that lies outside of its phase altogether is kept as it stands rather than turned inside out.
            Some(planned) if planned.start < end && planned.end > start => (start.max(planned.start), end.min(planned.end)),
            _ => (start, end),
        }
    }
}

/// Adds the counts of another line for the same window.
pub(super) fn add(sum: &mut Tally, more: &Tally) {
    sum.counts.add(&more.counts);
    for (cause, count) in &more.causes {
        *sum.causes.entry(cause.clone()).or_default() += count;
    }
    for (who, count) in &more.served_by {
        *sum.served_by.entry(who.clone()).or_default() += count;
    }
    for (address, count) in &more.sent_to {
        *sum.sent_to.entry(address.clone()).or_default() += count;
    }
    sum.retry_after += more.retry_after;
    sum.redirects += more.redirects;
    for (why, count) in &more.skipped {
        *sum.skipped.entry(why.clone()).or_default() += count;
    }
    sum.opened += more.opened;
    sum.unopened += more.unopened;
    sum.messages += more.messages;
    if let Some(more) = &more.attempts {
        sum.attempts.get_or_insert_default().add(more);
    }
}

/// Adds the counts of another histogram of the same second and series.
pub(super) fn merge(into: &mut Bars, new: &Histogram<u64>) {
    let fitted = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let new = new.iter_recorded().map(|bar| (fitted(bar.value_iterated_to()), fitted(bar.count_at_value())));
    if into.is_empty() {
        *into = new.collect();
        return;
    }
    let mut sum: BTreeMap<u32, u32> = into.iter().copied().collect();
    for (value, count) in new {
        let sum = sum.entry(value).or_default();
        *sum = sum.saturating_add(count);
    }
    *into = sum.into_iter().collect();
}
