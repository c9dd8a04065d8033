//! How the requests of one load were spaced: counts of those that came due and of those that went out, in windows of a millisecond, and
//! from them the sums of squares that tell how bursty each was. Planned and sent are counted over the same requests and windows, so that
//! what differs is the generator's doing, whatever the process. Memory is bounded: so many seconds are open at once, and a request that
//! ends when its second has been written is left out of both.

use std::collections::VecDeque;

use crate::names::Name;
use crate::recording::fact::{SPACING_MS, Spacing};

/// Seconds that are open at once: answers that come later are few.
const OPEN: usize = 16;
/// Millisecond windows of a second.
const BINS: usize = 1_000;

/// The spacing of one load.
#[derive(Default)]
pub(super) struct Spacings {
    /// Consecutive seconds, from this one on.
    first: i64,
    open: VecDeque<Second>,
    /// Written, and to be filled again.
    spare: Vec<Second>,
    done: Vec<Sums>,
}

struct Second {
    requests: u64,
    planned: Box<[u32; BINS]>,
    sent: Box<[u32; BINS]>,
}

/// What is kept of a second.
struct Sums {
    second: i64,
    requests: u64,
    planned: [u64; SPACING_MS.len()],
    sent: [u64; SPACING_MS.len()],
}

impl Spacings {
    /// A request that was due so many microseconds into a second, and went out so many later.
    pub(super) fn add(&mut self, second: i64, due_us: u32, lateness_us: u32) {
        let sent_us = u64::from(due_us) + u64::from(lateness_us);
        let sent_second = second + (sent_us / 1_000_000) as i64;
        if !self.reach(second, sent_second) {
            return;
        }
        let bin = |us: u64| ((us % 1_000_000) / 1_000) as usize;
        let due = &mut self.open[(second - self.first) as usize];
        due.requests += 1;
        due.planned[bin(u64::from(due_us))] += 1;
        self.open[(sent_second - self.first) as usize].sent[bin(sent_us)] += 1;
    }

    /// Opens what is needed from `from` to `to`; false where `from` has been written, or they are too far apart.
    fn reach(&mut self, from: i64, to: i64) -> bool {
        if self.open.is_empty() {
            self.first = self.first.max(from);
        }
        if from < self.first || to - from >= OPEN as i64 {
            return false;
        }
        // After a silence nothing lies between.
        if to - self.first >= 2 * OPEN as i64 {
            self.close();
            self.first = from;
        }
        while self.first + (self.open.len() as i64) <= to {
            if self.open.len() == OPEN {
                self.write_first();
            }
            self.open.push_back(self.spare.pop().unwrap_or_else(Second::new));
        }
        from >= self.first
    }

    fn write_first(&mut self) {
        let Some(mut oldest) = self.open.pop_front() else { return };
        let second = self.first;
        self.first += 1;
        let sums = Sums { second, requests: oldest.requests, planned: squares(&oldest.planned), sent: squares(&oldest.sent) };
        if sums.planned[0] > 0 || sums.sent[0] > 0 {
            self.done.push(sums);
            oldest.requests = 0;
            oldest.planned.fill(0);
            oldest.sent.fill(0);
        }
        self.spare.push(oldest);
    }

    /// Writes every second that is open: nothing more comes for them.
    pub(super) fn close(&mut self) {
        while !self.open.is_empty() {
            self.write_first();
        }
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self, load: &Name) -> impl Iterator<Item = Spacing> {
        let load = load.clone();
        self.done.drain(..).map(move |Sums { second, requests, planned, sent }| Spacing {
            load: load.clone(),
            second,
            requests,
            planned,
            sent,
        })
    }
}

impl Second {
    fn new() -> Second {
        Second { requests: 0, planned: Box::new([0; BINS]), sent: Box::new([0; BINS]) }
    }
}

/// The sum of the squares of the counts, in windows of each width.
fn squares(counts: &[u32; BINS]) -> [u64; SPACING_MS.len()] {
    SPACING_MS.map(|width| {
        let windows = counts.chunks(width as usize).map(|window| window.iter().map(|count| u64::from(*count)).sum::<u64>());
        windows.map(|count| count * count).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(spacings: &mut Spacings) -> Vec<(i64, u64, [u64; 3], [u64; 3])> {
        let load: Name = "l".parse().expect("a name");
        spacings.take(&load).map(|s| (s.second, s.requests, s.planned, s.sent)).collect()
    }

    #[test]
    fn what_goes_out_together_has_the_greater_squares() {
        let mut spacings = Spacings::default();
        // Due 20 ms apart; the first two go out with the third.
        for (due, late) in [(0, 40_000), (20_000, 20_000), (40_000, 0), (900_000, 200_000)] {
            spacings.add(0, due, late);
        }
        assert!(taken(&mut spacings).is_empty(), "the second is open");
        spacings.close();
        assert_eq!(taken(&mut spacings), [(0, 4, [4, 4, 9 + 1], [9, 9, 9]), (1, 0, [0; 3], [1; 3])]);
        spacings.add(0, 5, 0);
        spacings.close();
        assert!(taken(&mut spacings).is_empty(), "what comes too late is left out");
    }

    #[test]
    fn seconds_are_written_when_newer_ones_need_the_room_and_silences_cost_nothing() {
        let mut spacings = Spacings::default();
        for second in 0..40 {
            spacings.add(second, 1, 1);
        }
        assert_eq!(taken(&mut spacings).len(), 40 - OPEN);
        assert_eq!(spacings.open.len(), OPEN);
        spacings.add(1_000_000, 1, 1);
        assert_eq!(taken(&mut spacings).len(), OPEN);
        spacings.add(999_990, 1, 1);
        spacings.add(1_000_001, 1, 3_600_000_000);
        spacings.close();
        assert_eq!(taken(&mut spacings), [(1_000_000, 1, [1; 3], [1; 3])], "too early, and far too late");
        assert!(spacings.spare.len() <= OPEN, "seconds are filled again");
    }
}
