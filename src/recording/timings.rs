//! What one measure of one second came to, until it is written down: the values one by one and, only where they are so many that it is the
//! smaller of the two, a histogram. Twenty loads have two hundred of these at a time: as histograms of 136 KiB, of which only pages that
//! something was ever written to are in memory, they would make it rise for minutes.

use hdrhistogram::Histogram;

/// The longest that a recording can tell apart, in microseconds: an hour.
pub const LONGEST_US: u64 = 3_600_000_000;

/// What an empty histogram has room for, in microseconds: a minute, 136 KiB. Who waits longer makes it grow.
const USUAL_US: u64 = 60_000_000;

/// The longest list of values: 32 KiB, about what those pages of a histogram take that so many values touch.
const FEW: usize = 8 * 1024;

/// Values in microseconds.
#[derive(Debug)]
pub struct Timings(Kept);

#[derive(Debug)]
enum Kept {
    Few(Vec<u32>),
    Many(Box<Histogram<u64>>),
}

impl Default for Timings {
    fn default() -> Timings {
        Timings(Kept::Few(Vec::new()))
    }
}

impl Timings {
    /// Adds one. What is longer than an hour is an hour.
    pub fn record(&mut self, micros: u32) {
        match &mut self.0 {
            Kept::Few(values) if values.len() < FEW => values.push(micros),
            Kept::Few(_) => put(self.many(), micros),
            Kept::Many(histogram) => put(histogram, micros),
        }
    }

    /// Adds all of `more`.
    pub fn add(&mut self, more: &Timings) {
        match &more.0 {
            Kept::Few(values) => values.iter().for_each(|micros| self.record(*micros)),
            Kept::Many(_) => more.fill(self.many()),
        }
    }

    /// Adds all of them to `histogram`, which grows to what an hour needs, as [`histogram`] makes it.
    pub fn fill(&self, histogram: &mut Histogram<u64>) {
        match &self.0 {
            Kept::Few(values) => values.iter().for_each(|micros| put(histogram, *micros)),
            Kept::Many(many) => histogram.add(&**many).expect("it grows to what the other holds"),
        }
    }

    fn many(&mut self) -> &mut Histogram<u64> {
        if let Kept::Few(_) = self.0 {
            let mut many = histogram();
            self.fill(&mut many);
            self.0 = Kept::Many(Box::new(many));
        }
        let Kept::Many(many) = &mut self.0 else { unreachable!("it has just become one") };
        many
    }
}

/// An empty histogram of microseconds, exact to three digits. It grows where something takes longer than a minute.
pub fn histogram() -> Histogram<u64> {
    let mut empty = Histogram::new_with_max(USUAL_US, 3).expect("three digits are a precision that the crate has");
    empty.auto(true);
    empty
}

fn put(histogram: &mut Histogram<u64>, micros: u32) {
    histogram.record(u64::from(micros).min(LONGEST_US)).expect("it grows to what an hour needs");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u32>) -> Timings {
        let mut all = Timings::default();
        values.into_iter().for_each(|value| all.record(value));
        all
    }

    fn counted(values: &Timings) -> Histogram<u64> {
        let mut counted = histogram();
        values.fill(&mut counted);
        counted
    }

    #[test]
    fn few_and_many_values_count_alike() {
        let many = FEW as u32 + 7;
        let values = of((0..many).chain([u32::MAX]));
        assert!(matches!(values.0, Kept::Many(_)), "a list grows no further");
        let mut expected = histogram();
        (0..many).for_each(|micros| expected.record(u64::from(micros)).expect("room"));
        expected.record(LONGEST_US).expect("it grows");
        assert_eq!(counted(&values), expected);
    }

    #[test]
    fn sums_hold_what_their_parts_hold() {
        for (one, other) in [(3, 5), (3, FEW as u32 + 5), (FEW as u32 + 5, 3), (FEW as u32 - 1, FEW as u32 - 1)] {
            let mut sum = of(0..one);
            sum.add(&of(1_000_000..1_000_000 + other));
            let mut expected = counted(&of(0..one));
            expected.add(counted(&of(1_000_000..1_000_000 + other))).expect("room");
            assert_eq!(counted(&sum), expected, "{one} and {other}");
        }
    }
}
