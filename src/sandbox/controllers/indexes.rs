//! The numbers of an Indexed Job's pods as the ranges that they make up: as long in memory as they are in a status, however many they are.

use std::fmt;

/// A set of numbers from zero on: its ranges, both ends included, in rising order; none overlaps or touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i64, i64)>);

impl Indexes {
    /// `0-2,5` as numbers. Whatever is none is passed over, and so is what is not below `limit`.
    pub fn read(text: &str, limit: i64) -> Indexes {
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some((from.parse::<i64>().ok()?.max(0), to.parse::<i64>().ok()?.min(limit - 1)))
        };
        let mut ranges: Vec<(i64, i64)> = text.split(',').filter_map(range).filter(|(from, to)| from <= to).collect();
        ranges.sort_unstable();
        let mut indexes = Indexes::default();
        for (from, to) in ranges {
            match indexes.0.last_mut() {
                Some((_, last)) if from - 1 <= *last => *last = to.max(*last),
                _ => indexes.0.push((from, to)),
            }
        }
        indexes
    }

    pub fn contains(&self, i: i64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= i);
        after.checked_sub(1).is_some_and(|at| self.0[at].1 >= i)
    }

    pub fn insert(&mut self, i: i64) {
        if i < 0 || self.contains(i) {
            return;
        }
        let after = self.0.partition_point(|(from, _)| *from <= i);
        let touches_last = after > 0 && self.0[after - 1].1 == i - 1;
        let touches_next = after < self.0.len() && self.0[after].0 - 1 == i;
        match (touches_last, touches_next) {
            (true, true) => {
                self.0[after - 1].1 = self.0[after].1;
                self.0.remove(after);
            }
            (true, false) => self.0[after - 1].1 = i,
            (false, true) => self.0[after].0 = i,
            (false, false) => self.0.insert(after, (i, i)),
        }
    }

    pub fn len(&self) -> i64 {
        self.0.iter().map(|(from, to)| to - from + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers below `limit` that are not in it, lowest first.
    pub fn absent(&self, limit: i64) -> impl Iterator<Item = i64> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|(_, to)| to.saturating_add(1)));
        let ends = self.0.iter().map(|(from, _)| *from).chain(std::iter::once(i64::MAX));
        starts.zip(ends).flat_map(move |(from, to)| from..to.min(limit))
    }
}

impl fmt::Display for Indexes {
    /// As a status has them: two in a row are written out, three or more are a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (from, to)) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_as_ranges_and_read_back() {
        for (text, numbers) in
            [("", vec![]), ("0", vec![0]), ("1,2", vec![1, 2]), ("0-2", vec![0, 1, 2]), ("0,3-5,9", vec![0, 3, 4, 5, 9])]
        {
            // In an order in which every way of joining ranges comes.
            for skip in 0..numbers.len().max(1) {
                let mut set = Indexes::default();
                numbers.iter().cycle().skip(skip).step_by(2).take(2 * numbers.len()).for_each(|i| set.insert(*i));
                numbers.iter().for_each(|i| set.insert(*i));
                assert_eq!(set.to_string(), text);
                assert_eq!(Indexes::read(text, 10), set, "{text}");
                assert_eq!(set.len(), numbers.len() as i64);
                assert!((-1..12).all(|i| set.contains(i) == numbers.contains(&i)), "{text}");
                assert_eq!(set.absent(10).collect::<Vec<_>>(), (0..10).filter(|i| !numbers.contains(i)).collect::<Vec<_>>());
            }
        }
    }

    /// Goal: a status that anybody may write fills no memory and takes no time. How: two billion numbers, and ranges that are none.
    #[test]
    fn as_many_as_a_status_can_name_take_no_more_room_than_it() {
        let all = Indexes::read("0-2000000000", 2_000_000_000);
        assert_eq!((all.0.len(), all.len(), all.absent(2_000_000_000).next()), (1, 2_000_000_000, None));
        assert_eq!(Indexes::read("0-9223372036854775807", i64::MAX).absent(i64::MAX).next(), None);
        assert_eq!(Indexes::read("7-3,-5-2,x,5-1000,2-6,,99999999999999999999", 8).to_string(), "2-7");
        assert_eq!(Indexes::read("0-3", 0), Indexes::default());
    }
}
