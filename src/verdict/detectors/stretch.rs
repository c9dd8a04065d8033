//! When several values that change over time are something together: the stretches in which it holds.

use std::time::Duration;

use crate::time::Offset;
use crate::verdict::level::Step;
use crate::verdict::words::{seconds, significant};

/// Numbers that are told one after the other.
const NUMBERS_MOST: usize = 8;

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from: Offset,
    pub to: Offset,
}

impl Stretch {
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }

    /// `from 31.2s to 60s`.
    pub fn words(&self) -> String {
        format!("from {} to {}", moment(self.from), moment(self.to))
    }
}

/// A moment of the run.
pub fn moment(t: Offset) -> String {
    seconds(t.seconds())
}

/// A length of time.
pub fn length(d: Duration) -> String {
    seconds(d.as_secs_f64())
}

/// The step that holds at `t`.
pub fn at(steps: &[Step], t: Offset) -> Option<&Step> {
    let after = steps.partition_point(|step| step.from <= t);
    steps.get(after.checked_sub(1)?).filter(|step| t < step.to)
}

/// The longest stretches in which `holds` says yes of what the series are at the same time, in order. Where one of them is not known,
/// nothing holds.
pub fn stretches(series: &[&[Step]], holds: impl Fn(&[f64]) -> bool) -> Vec<Stretch> {
    let mut moments: Vec<Offset> = series.iter().flat_map(|steps| steps.iter().flat_map(|step| [step.from, step.to])).collect();
    moments.sort_unstable();
    moments.dedup();
    let mut found: Vec<Stretch> = Vec::new();
    for pair in moments.windows(2) {
        let [from, to] = [pair[0], pair[1]];
        let values: Option<Vec<f64>> = series.iter().map(|steps| at(steps, from).map(|step| step.value)).collect();
        if !values.is_some_and(|values| holds(&values)) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ => found.push(Stretch { from, to }),
        }
    }
    found
}

/// The longest of them, the first where several are.
pub fn longest(stretches: Vec<Stretch>) -> Option<Stretch> {
    stretches.into_iter().reduce(|longest, next| if next.length() > longest.length() { next } else { longest })
}

/// Where a series goes up: the steps before and after.
pub fn rises(steps: &[Step]) -> impl Iterator<Item = (&Step, &Step)> {
    steps.windows(2).map(|pair| (&pair[0], &pair[1])).filter(|(before, after)| after.value > before.value)
}

/// `2, 3, 4`; of more than `most` the first and the last.
pub fn listed(words: &[String], most: usize) -> String {
    match words {
        [first @ .., last] if words.len() > most => format!("{}, ..., {last}", first[..most.saturating_sub(1)].join(", ")),
        all => all.join(", "),
    }
}

/// The same of numbers.
pub fn path(values: impl IntoIterator<Item = f64>) -> String {
    let words: Vec<String> = values.into_iter().map(|value| significant(value, 3)).collect();
    listed(&words, NUMBERS_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(values: &[(i64, i64, f64)]) -> Vec<Step> {
        let s = |s: i64| Offset::from_nanos(s * 1_000_000_000);
        values.iter().map(|(from, to, value)| Step { from: s(*from), to: s(*to), value: *value, n: None }).collect()
    }

    #[test]
    fn a_stretch_lasts_while_all_of_it_holds_and_ends_where_something_is_not_known() {
        let a = steps(&[(0, 4, 1.0), (4, 10, 2.0)]);
        let b = steps(&[(2, 6, 5.0), (6, 8, 6.0)]);
        let found = |holds: fn(&[f64]) -> bool| {
            let seconds = |stretch: &Stretch| (stretch.from.second(), stretch.to.second());
            stretches(&[&a, &b], holds).iter().map(seconds).collect::<Vec<_>>()
        };
        assert_eq!(found(|_| true), [(2, 8)], "one step goes on in the next, and before and after `b` nothing is known");
        assert_eq!(found(|v| v[0] == 2.0), [(4, 8)]);
        assert_eq!(found(|v| v[0] + v[1] == 7.0), [(4, 6)]);
        assert_eq!(found(|_| false), []);
        assert_eq!(longest(stretches(&[&a], |_| true)).map(|s| s.length().as_secs()), Some(10));
    }
}
