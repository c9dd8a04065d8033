//! The numbers as they stand: one per series, whatever the number of requests. A copy of them is what an exporter gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::family::{BOUNDS, FAMILIES, Family, LEFT_OUT};

/// Series that a family may have: a plan of ten loads in ten phases has a tenth of it. What comes on top is counted.
const SERIES: usize = 10_000;
/// Stands for the values of a label for which there is no room.
pub const OTHER: &str = "_other";

/// The values of a family's labels, in their order.
pub type Labels = Arc<[String]>;

/// One series' number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    Number(f64),
    Spread(Spread),
}

/// A distribution of durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many lie in each bucket, not cumulated; the last holds what is above every bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Of all of them, in microseconds, as exact as the recording's histograms: to a thousandth of each.
    pub sum_us: u64,
}

/// Every series by family, in the order of [`FAMILIES`] and of their labels.
#[derive(Debug, Default)]
pub struct Registry {
    series: BTreeMap<&'static str, BTreeMap<Labels, Value>>,
}

impl Registry {
    /// Adds to a counter; by zero it only makes sure that it is there.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], by: u64) {
        if let Some(Value::Count(count)) = self.at(family, labels, Value::Count(0)) {
            *count = count.saturating_add(by);
        }
    }

    /// The same where the last label may have any value: beyond `most` of them beside the same others, they are [`OTHER`].
    pub fn add_open(&mut self, family: &'static Family, fixed: &[&str], open: &str, most: usize, by: u64) {
        let of = |value: &str| fixed.iter().map(|label| (*label).to_owned()).chain([value.to_owned()]).collect::<Labels>();
        let known = self.series.get(family.name);
        let is_known = known.is_some_and(|series| series.contains_key(&of(open)));
        let beside =
            || known.map_or(0, |series| series.keys().filter(|labels| labels.iter().zip(fixed).all(|(a, b)| a == b)).count());
        let open = if is_known || beside() < most { open } else { OTHER };
        let labels: Vec<&str> = fixed.iter().copied().chain([open]).collect();
        self.add(family, &labels, by);
    }

    /// Sets a gauge.
    pub fn set(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        if let Some(now) = self.at(family, labels, Value::Number(value)) {
            *now = Value::Number(value);
        }
    }

    /// Forgets a gauge of something that is no more.
    pub fn forget(&mut self, family: &'static Family, labels: &[&str]) {
        if let Some(series) = self.series.get_mut(family.name) {
            series.remove(&labels.iter().map(|label| (*label).to_owned()).collect::<Labels>());
        }
    }

    /// Adds a histogram of microseconds; an empty one only makes sure that the series is there. A value within the recording's
    /// resolution of a bound (a thousandth) counts as not above it, as it does in a verdict.
    pub fn observe(&mut self, family: &'static Family, labels: &[&str], histogram: Option<&Histogram<u64>>) {
        let Some(Value::Spread(spread)) = self.at(family, labels, Value::Spread(Spread::default())) else { return };
        let Some(histogram) = histogram else { return };
        let bounds = BOUNDS.map(|bound| histogram.highest_equivalent((bound * 1e6).round() as u64));
        for bar in histogram.iter_recorded() {
            let (value, count) = (bar.value_iterated_to(), bar.count_at_value());
            spread.buckets[bounds.partition_point(|bound| *bound < value)] += count;
            spread.sum_us = spread.sum_us.saturating_add(histogram.median_equivalent(value).saturating_mul(count));
        }
    }

    /// A copy of every family that has series.
    pub fn snapshot(&self) -> Vec<(&'static Family, Vec<(Labels, Value)>)> {
        let families = FAMILIES.into_iter().filter_map(|family| Some((family, self.series.get(family.name)?)));
        let copied = families.map(|(family, series)| (family, series.iter().map(|(l, v)| (l.clone(), v.clone())).collect()));
        copied.collect()
    }

    fn at(&mut self, family: &'static Family, labels: &[&str], fresh: Value) -> Option<&mut Value> {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let labels: Labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let full = self.series.get(family.name).is_some_and(|series| series.len() >= SERIES && !series.contains_key(&labels));
        if full {
            let left_out = self.series.entry(LEFT_OUT.name).or_default().entry(Labels::from([])).or_insert(Value::Count(0));
            if let Value::Count(count) = left_out {
                *count += 1;
            }
            return None;
        }
        Some(self.series.entry(family.name).or_default().entry(labels).or_insert(fresh))
    }
}

impl Spread {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::{CAUSES, DESIRED, IN_FLIGHT, LATENESS};
    use super::*;

    fn of(registry: &Registry, family: &'static Family) -> Vec<(Vec<String>, Value)> {
        let all = registry.snapshot();
        let found = all.into_iter().find(|(known, _)| known.name == family.name).map(|(_, series)| series).unwrap_or_default();
        found.into_iter().map(|(labels, value)| (labels.to_vec(), value)).collect()
    }

    /// Goal: a duration lies in the bucket in which a reader looks for it. How: values on, just under and just over a bound, by more than
    /// the histogram's resolution.
    #[test]
    fn a_value_on_a_bound_is_not_above_it() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        [99, 100, 101, 100_000, 100_200, 60_000_000, 61_000_000].iter().for_each(|us| histogram.record(*us).unwrap());
        let mut registry = Registry::default();
        registry.observe(&LATENESS, &["l", "p"], None);
        registry.observe(&LATENESS, &["l", "p"], Some(&histogram));
        registry.observe(&LATENESS, &["l", "p"], Some(&histogram));
        let [(_, Value::Spread(spread))] = &of(&registry, &LATENESS)[..] else { panic!() };
        let filled: Vec<(usize, u64)> = spread.buckets.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
        assert_eq!(filled, [(0, 4), (1, 2), (9, 2), (10, 2), (17, 2), (18, 2)]);
        assert_eq!(spread.count(), 14);
        assert!((spread.sum() / (2.0 * 121.2005) - 1.0).abs() < 1e-3, "{}", spread.sum());
    }

    #[test]
    fn open_labels_spill_over_and_nothing_is_lost() {
        let mut registry = Registry::default();
        for status in 0..50 {
            registry.add_open(&CAUSES, &["l", "p"], &format!("status {status}"), 32, 2);
        }
        registry.add_open(&CAUSES, &["l", "p"], "status 0", 32, 1);
        registry.add_open(&CAUSES, &["l", "q"], "status 49", 32, 1);
        let causes = of(&registry, &CAUSES);
        let count = |labels: [&str; 3]| causes.iter().find(|(known, _)| known[..] == labels).map(|(_, value)| value.clone());
        assert_eq!(causes.len(), 32 + 1 + 1);
        assert_eq!(count(["l", "p", "status 0"]), Some(Value::Count(3)));
        assert_eq!(count(["l", "p", OTHER]), Some(Value::Count(36)));
        assert_eq!(count(["l", "q", "status 49"]), Some(Value::Count(1)));
    }

    #[test]
    fn more_series_than_there_is_room_for_are_counted() {
        let mut registry = Registry::default();
        (0..SERIES + 7).for_each(|n| registry.set(&DESIRED, &["shop", "deployment", &n.to_string()], 1.0));
        registry.set(&DESIRED, &["shop", "deployment", "0"], 2.0);
        registry.set(&IN_FLIGHT, &[], 3.0);
        assert_eq!(of(&registry, &DESIRED).len(), SERIES);
        assert_eq!(of(&registry, &LEFT_OUT), [(vec![], Value::Count(7))]);
        registry.forget(&DESIRED, &["shop", "deployment", "0"]);
        assert_eq!(of(&registry, &DESIRED).len(), SERIES - 1);
    }
}
