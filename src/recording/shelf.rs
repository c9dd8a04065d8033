//! Empty histograms, to be filled again. One of a series of a second takes up to 188 KiB and is made on one thread and done with on
//! another: made anew each time, they would leave the allocator with ever more half-empty pages, and memory would grow for as long as
//! a run lasts.

use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;

/// The longest that a recording can tell apart, in microseconds: an hour.
pub const LONGEST_US: u64 = 3_600_000_000;

/// What a new one has room for, in microseconds: a minute, 136 KiB. Who waits longer makes it grow; but where each grew with the slowest answer
/// that it has seen, memory would rise for as long as some are slower than all before.
const USUAL_US: u64 = 60_000_000;

/// How many are kept: as many as twenty loads fill in the time between two writes. More are only in use after a disk has stood still.
const KEPT: usize = 256;

/// Histograms that nobody uses now. Cheap to clone: all clones are one shelf.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Vec<Histogram<u64>>>>);

impl Shelf {
    /// An empty histogram of microseconds, exact to three digits. It grows where something takes longer than a minute.
    pub fn take(&self) -> Histogram<u64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| {
            let mut fresh = Histogram::new_with_max(USUAL_US, 3).expect("three digits are a precision that the crate has");
            fresh.auto(true);
            fresh
        })
    }

    /// Takes one back that is done with.
    pub fn put(&self, mut histogram: Histogram<u64>) {
        histogram.reset();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(histogram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_empty_and_is_given_out_again() {
        let shelf = Shelf::default();
        let mut histogram = shelf.take();
        histogram.record(LONGEST_US).expect("it grows");
        shelf.put(histogram);
        let again = shelf.clone().take();
        assert!(again.is_empty() && again.high() >= LONGEST_US, "the same one, with room for what it held");
        assert_eq!((again.min(), again.max(), again.len()), (0, 0, 0));
        assert!((USUAL_US..LONGEST_US).contains(&shelf.take().high()), "the shelf is empty, and a fresh one has seen no hour");
    }

    #[test]
    fn a_shelf_is_bounded() {
        let shelf = Shelf::default();
        (0..2 * KEPT).for_each(|_| shelf.put(Histogram::new(3).expect("three digits")));
        assert_eq!(shelf.0.lock().expect("nobody panicked").len(), KEPT);
    }
}
