//! Which rate is tried next, and when the search is over: a pure function of what was tried so far.
//!
//! ```text
//! grow: double while it holds ─▶ bisect between what held and what did not ─▶ confirm: a longer look at the highest that held
//!   └─ not even the first holds: halve, down to the lowest   ▲─────────────── it did not hold: go on below, with long looks ─┘
//! ```
//!
//! A probe that ends undecided moves neither bound of the answer. Its rate is looked at again, longer; what stays undecided is searched
//! below, as what failed is, but never reported as failed. Undecided for want of evidence is a rate that lies too near to the objective
//! to tell. Undecided by the generator is one at which this machine is the limit: a service that shares it may well fail below, and
//! where it does not, the answer is open above.

/// Between which rates is searched, in requests per second, and how finely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scope {
    /// Nothing below it is tried.
    pub lowest: f64,
    /// Where the search starts.
    pub first: f64,
    /// Nothing above it is tried.
    pub highest: f64,
    /// The bounds of the answer are at most so far apart, as a share of the lower one.
    pub resolution: f64,
}

/// One probe to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Requests per second.
    pub rate: f64,
    pub length: Length,
}

/// How long is looked at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Short,
    /// Long enough to confirm: [`LONGER`](super::LONGER) times as long.
    Long,
}

/// What a probe said about its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Passed,
    Failed,
    Undecided(Doubt),
}

/// Why a probe decided nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The certificate is not valid: the load was not the planned one.
    Generator,
    /// Too few samples, or a value too near to its limit.
    Evidence,
}

/// A probe that was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    pub step: Step,
    pub seen: Seen,
}

/// How a search ended. Rates in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// `low` held in a long probe; `high` is the lowest rate that failed, `None` where even the highest that was allowed held.
    Found { low: f64, high: Option<f64> },
    /// Even the lowest rate failed.
    BelowLowest,
    /// What was tried at `at` could not be decided, and nothing else would help.
    Inconclusive { low: Option<f64>, high: Option<f64>, at: f64, doubt: Doubt },
}

/// So many probes whose generator was the limit, one after the other at one rate, are no accident.
const LIMITED: usize = 2;

/// The next probe, or how the search ended.
pub fn next(scope: &Scope, tried: &[Tried]) -> Result<Step, Outcome> {
    let known = Known::of(tried);
    if let Some(last) = tried.last()
        && let Seen::Undecided(doubt) = last.seen
    {
        let again = Step { rate: last.step.rate, length: Length::Long };
        match doubt {
            Doubt::Generator if limited(tried) < LIMITED => return Ok(again),
            Doubt::Evidence if last.step.length == Length::Short => return Ok(again),
            Doubt::Generator | Doubt::Evidence => {}
        }
    }
    let length = if known.misled { Length::Long } else { Length::Short };
    let probe = |rate| Ok(Step { rate, length });
    let confirmed = |rate: f64| tried.iter().any(|t| t.step == Step { rate, length: Length::Long } && t.seen == Seen::Passed);
    // A rate that held, as the answer: to be confirmed, or confirmed.
    let settle = |low: f64| match (confirmed(low), known.high, known.unsure) {
        (false, ..) => Ok(Step { rate: low, length: Length::Long }),
        (true, None, Some((at, doubt))) => Err(Outcome::Inconclusive { low: Some(low), high: None, at, doubt }),
        (true, high, _) => Err(Outcome::Found { low, high }),
    };
    match (known.low, known.top()) {
        (None, None) => probe(scope.first),
        (None, Some(top)) if top > scope.lowest => probe(tidy(top / 2.0, scope).max(scope.lowest)),
        (None, Some(top)) if known.high == Some(top) => Err(Outcome::BelowLowest),
        (None, Some(at)) => {
            let doubt = known.unsure.map_or(Doubt::Evidence, |(_, doubt)| doubt);
            Err(Outcome::Inconclusive { low: None, high: known.high, at, doubt })
        }
        (Some(low), None) if low >= scope.highest => settle(low),
        (Some(low), None) => probe(tidy(low * 2.0, scope).min(scope.highest)),
        (Some(low), Some(top)) => {
            // One rate that could not be told is no reason not to look for one that fails: it is the answer's other bound.
            let is_vague = known.unsure.is_some_and(|(_, doubt)| doubt == Doubt::Evidence);
            if known.high.is_none() && is_vague && known.unsure_rates == 1 && top < scope.highest {
                return probe(tidy(top * 2.0, scope).min(scope.highest));
            }
            // What lies between the rates that could not be told and the one that failed may fail, too.
            let above = known.most_unsure.zip(known.high).and_then(|(unsure, high)| between(unsure, high, scope));
            match between(low, top, scope).or(above) {
                Some(middle) => probe(middle),
                None => settle(low),
            }
        }
    }
}

/// A rate between two that are further apart than the resolution.
fn between(low: f64, high: f64, scope: &Scope) -> Option<f64> {
    let middle = tidy((low * high).sqrt(), scope);
    (high > low * (1.0 + scope.resolution) && low < middle && middle < high).then_some(middle)
}

/// What the probes so far come to. The last word on a rate counts.
struct Known {
    /// The highest rate that held, of those below every one that failed.
    low: Option<f64>,
    /// The lowest that failed.
    high: Option<f64>,
    /// The lowest above `low` that stayed undecided, below `high`, and why.
    unsure: Option<(f64, Doubt)>,
    /// The highest of them.
    most_unsure: Option<f64>,
    /// How many of them there are.
    unsure_rates: usize,
    /// A short probe passed what a long one then failed: short ones are not to be believed here.
    misled: bool,
}

impl Known {
    fn of(tried: &[Tried]) -> Known {
        let mut last: Vec<(f64, Seen)> = Vec::new();
        let mut misled = false;
        for Tried { step, seen } in tried {
            match last.iter_mut().find(|(rate, _)| *rate == step.rate) {
                Some((_, before)) => {
                    misled |= (*before, *seen) == (Seen::Passed, Seen::Failed);
                    *before = *seen;
                }
                None => last.push((step.rate, *seen)),
            }
        }
        let rates = |what: fn(&Seen) -> bool| last.iter().filter(move |(_, seen)| what(seen)).map(|(rate, _)| *rate);
        let high = rates(|seen| *seen == Seen::Failed).reduce(f64::min);
        let below = |rate: &f64| high.is_none_or(|high| *rate < high);
        let low = rates(|seen| *seen == Seen::Passed).filter(below).reduce(f64::max);
        let undecided = last.iter().filter_map(|(rate, seen)| match seen {
            Seen::Undecided(doubt) => Some((*rate, *doubt)),
            Seen::Passed | Seen::Failed => None,
        });
        let mut unsure: Vec<(f64, Doubt)> =
            undecided.filter(|(rate, _)| below(rate) && low.is_none_or(|low| *rate > low)).collect();
        unsure.sort_by(|one, other| one.0.total_cmp(&other.0));
        Known {
            low,
            high,
            unsure: unsure.first().copied(),
            most_unsure: unsure.last().map(|(rate, _)| *rate),
            unsure_rates: unsure.len(),
            misled,
        }
    }

    /// Nothing from here on is known to hold.
    fn top(&self) -> Option<f64> {
        self.unsure.map(|(rate, _)| rate).or(self.high)
    }
}

/// How many probes up to the last, one after the other at its rate, the generator limited.
fn limited(tried: &[Tried]) -> usize {
    let rate = tried.last().map(|last| last.step.rate);
    tried.iter().rev().take_while(|t| Some(t.step.rate) == rate && t.seen == Seen::Undecided(Doubt::Generator)).count()
}

/// A rate that a person can read, to far less than the resolution.
fn tidy(rate: f64, scope: &Scope) -> f64 {
    let digits = if scope.resolution < 0.05 { 4 } else { 3 };
    let unit = 10f64.powi(digits - 1 - rate.log10().floor() as i32);
    (rate * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCOPE: Scope = Scope { lowest: 10.0, first: 100.0, highest: 1e7, resolution: 0.05 };

    /// More probes than any search here needs: growth and bisection take the logarithm of what they span.
    const MOST: usize = 80;

    /// The whole search against a service that answers each probe as `service` says.
    fn search(scope: &Scope, mut service: impl FnMut(Step) -> Seen) -> (Vec<Tried>, Outcome) {
        let mut tried = Vec::new();
        loop {
            match next(scope, &tried) {
                Ok(step) => tried.push(Tried { step, seen: service(step) }),
                Err(outcome) => return (tried, outcome),
            }
            assert!(tried.len() <= MOST, "it never ends: {tried:?}");
        }
    }

    fn capacity(of: f64) -> impl Fn(Step) -> Seen {
        move |step| if step.rate <= of { Seen::Passed } else { Seen::Failed }
    }

    /// The rates, with a `!` behind those that were looked at longer.
    fn rates(tried: &[Tried]) -> String {
        let word = |t: &Tried| format!("{}{}", t.step.rate, if t.step.length == Length::Long { "!" } else { "" });
        tried.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn it_doubles_bisects_and_confirms() {
        let (tried, outcome) = search(&SCOPE, capacity(630.0));
        assert_eq!(rates(&tried), "100 200 400 800 566 673 617 644 617!");
        assert_eq!(outcome, Outcome::Found { low: 617.0, high: Some(644.0) });
    }

    #[test]
    fn where_the_first_rate_fails_it_halves_down_to_the_lowest_and_no_further() {
        let (tried, outcome) = search(&SCOPE, capacity(30.0));
        assert!(rates(&tried).starts_with("100 50 25 35.4 "), "{}", rates(&tried));
        assert!(matches!(outcome, Outcome::Found { low, high: Some(high) } if low <= 30.0 && high > 30.0), "{outcome:?}");
        let (tried, outcome) = search(&SCOPE, capacity(9.0));
        assert_eq!((rates(&tried).as_str(), outcome), ("100 50 25 12.5 10", Outcome::BelowLowest));
    }

    #[test]
    fn what_is_asked_for_at_most_is_confirmed_and_has_no_bound_above() {
        let (tried, outcome) = search(&Scope { highest: 300.0, ..SCOPE }, capacity(1e6));
        assert_eq!((rates(&tried).as_str(), outcome), ("100 200 300 300!", Outcome::Found { low: 300.0, high: None }));
    }

    /// Goal: a service that holds for a while and not for long is not believed. How: above 150/s only the short look passes.
    #[test]
    fn a_confirmation_that_fails_is_gone_on_below_with_long_looks() {
        let tires = |step: Step| match step.length {
            Length::Short => capacity(500.0)(step),
            Length::Long => capacity(150.0)(step),
        };
        let (tried, outcome) = search(&SCOPE, tires);
        assert!(matches!(outcome, Outcome::Found { low, high: Some(high) } if low <= 150.0 && high > 150.0), "{outcome:?}");
        let failed = tried.iter().position(|t| t.step.length == Length::Long).expect("there is a confirmation");
        assert!(tried[failed..].iter().all(|t| t.step.length == Length::Long), "{}", rates(&tried));
    }

    /// Goal: this machine is the limit of the answer only where nothing fails below it. How: services that can do more than it, and less.
    #[test]
    fn below_what_the_generator_cannot_do_the_search_goes_on() {
        let limited = |step: Step| if step.rate > 300.0 { Seen::Undecided(Doubt::Generator) } else { Seen::Passed };
        let (tried, outcome) = search(&SCOPE, limited);
        assert_eq!(rates(&tried), "100 200 400 400! 283 336 336! 308 308! 295 295!");
        assert_eq!(outcome, Outcome::Inconclusive { low: Some(295.0), high: None, at: 308.0, doubt: Doubt::Generator });
        let starved = |step: Step| if step.rate > 300.0 { Seen::Undecided(Doubt::Generator) } else { capacity(250.0)(step) };
        let (tried, outcome) = search(&SCOPE, starved);
        assert_eq!(rates(&tried), "100 200 400 400! 283 238 260 249 249!");
        assert_eq!(outcome, Outcome::Found { low: 249.0, high: Some(260.0) });
        let (_, outcome) = search(&Scope { lowest: 400.0, first: 400.0, ..SCOPE }, limited);
        assert_eq!(outcome, Outcome::Inconclusive { low: None, high: None, at: 400.0, doubt: Doubt::Generator });
    }

    #[test]
    fn a_generator_that_was_the_limit_once_is_not_believed() {
        let mut hiccups = 1;
        let (_, outcome) = search(&SCOPE, |step| match step.rate {
            400.0 if hiccups > 0 => {
                hiccups -= 1;
                Seen::Undecided(Doubt::Generator)
            }
            _ => capacity(630.0)(step),
        });
        assert_eq!(outcome, Outcome::Found { low: 617.0, high: Some(644.0) });
    }

    /// Goal: a rate too near to the objective is no bound of the answer. How: everything from 600/s to 700/s stays undecided.
    #[test]
    fn what_cannot_be_told_is_looked_at_longer_and_is_never_a_bound() {
        let vague = |step: Step| match step.rate {
            600.0..=700.0 => Seen::Undecided(Doubt::Evidence),
            _ => capacity(650.0)(step),
        };
        let (tried, outcome) = search(&SCOPE, vague);
        assert_eq!(rates(&tried), "100 200 400 800 566 673 673! 617 617! 591 734 703 591!");
        assert_eq!(outcome, Outcome::Found { low: 591.0, high: Some(703.0) });
        let never = |_| Seen::Undecided(Doubt::Evidence);
        let (tried, outcome) = search(&SCOPE, never);
        assert_eq!(outcome, Outcome::Inconclusive { low: None, high: None, at: 10.0, doubt: Doubt::Evidence }, "{}", rates(&tried));
        // No rate fails: the answer has no upper bound, and is none.
        let above = |step: Step| if step.rate > 300.0 { Seen::Undecided(Doubt::Evidence) } else { Seen::Passed };
        let (tried, outcome) = search(&SCOPE, above);
        let Outcome::Inconclusive { low: Some(low), high: None, .. } = outcome else { panic!("{outcome:?}") };
        assert!((280.0..=300.0).contains(&low) && tried.iter().all(|t| t.step.rate <= 800.0), "{}", rates(&tried));
    }

    proptest! {
        /// Goal: whatever the capacity, the answer holds it, as finely as asked, within few probes, and nothing outside of the scope
        /// is tried. How: a service that is exact.
        #[test]
        fn the_capacity_lies_in_the_answer(
            of in 1.0..1e6f64, first in 1.0..1e5f64, down in 1.0..20.0f64, up in 1.0..1e4f64, resolution in 0.01..0.5f64,
        ) {
            let scope = Scope { lowest: first / down, first, highest: first * up, resolution };
            let (tried, outcome) = search(&scope, capacity(of));
            for t in &tried {
                prop_assert!((scope.lowest..=scope.highest).contains(&t.step.rate), "{}", t.step.rate);
            }
            match outcome {
                Outcome::Found { low, high: Some(high) } => {
                    prop_assert!(low <= of && of < high);
                    prop_assert!(high / low - 1.0 <= resolution + 1e-9, "{low} {high}");
                    let confirmed = Tried { step: Step { rate: low, length: Length::Long }, seen: Seen::Passed };
                    prop_assert!(tried.contains(&confirmed));
                }
                Outcome::Found { low, high: None } => prop_assert!(low == scope.highest && low <= of),
                Outcome::BelowLowest => prop_assert!(of < scope.lowest),
                Outcome::Inconclusive { .. } => prop_assert!(false, "nothing was undecided"),
            }
        }

        /// Goal: noise can make an answer wide or none, but never one that contradicts its own probes, and never an endless search.
        /// How: each probe ends by lot, whatever its rate.
        #[test]
        fn whatever_probes_say_the_search_ends_and_its_bounds_were_seen(lots in proptest::collection::vec(0u8..6, MOST)) {
            let mut lots = lots.into_iter();
            let (tried, outcome) = search(&SCOPE, |_| match lots.next() {
                Some(0..=2) => Seen::Passed,
                Some(3) => Seen::Undecided(Doubt::Evidence),
                Some(4) => Seen::Undecided(Doubt::Generator),
                _ => Seen::Failed,
            });
            let (low, high) = match outcome {
                Outcome::Found { low, high } => (Some(low), high),
                Outcome::BelowLowest => (None, Some(SCOPE.lowest)),
                Outcome::Inconclusive { low, high, .. } => (low, high),
            };
            let last = |rate: f64| tried.iter().rev().find(|t| t.step.rate == rate).map(|t| t.seen);
            prop_assert!(low.is_none_or(|low| last(low) == Some(Seen::Passed)));
            prop_assert!(high.is_none_or(|high| last(high) == Some(Seen::Failed)));
            prop_assert!(low.zip(high).is_none_or(|(low, high)| low < high));
        }
    }
}
