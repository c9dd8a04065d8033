//! A sum: several processes at once, each with its share of the rate, merged in order of time into one load.

use std::iter::Peekable;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use super::random::seed_of_part;
use super::{Arrivals, Process, Walk};
use crate::time::Offset;
use crate::units::Ratio;

/// The parts of the sum; their shares add up to 100%.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spec(#[schemars(length(min = 2))] Vec<Part>);

/// One process of a sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    /// How much of the load's rate arrives so.
    share: Ratio,
    /// The process, as `arrivals` names it.
    of: Arrivals,
}

/// A process costs memory while it is walked.
const PARTS_MOST: usize = 32;

impl Spec {
    /// Every part with the profile of its share.
    fn parts<'a>(&'a self, profile: &'a Profile) -> impl Iterator<Item = (&'a Arrivals, Profile)> + 'a {
        self.0.iter().map(|part| (&part.of, profile.scaled(part.share.fraction())))
    }
}

impl Process for Spec {
    fn contradiction(&self) -> Option<String> {
        if !(2..=PARTS_MOST).contains(&self.0.len()) {
            return Some(format!("a sum has from 2 to {PARTS_MOST} parts, not {}", self.0.len()));
        }
        if self.0.iter().any(|part| part.share.fraction() == 0.0) {
            return Some("a part with a share of 0% sends nothing: leave it out".to_owned());
        }
        let total: f64 = self.0.iter().map(|part| part.share.percent()).sum();
        if (total - 100.0).abs() > 1e-6 {
            return Some(format!("the shares add up to {total}%, not to 100%"));
        }
        if self.0.iter().any(|part| part.of.has_own_rate()) {
            return Some("a recording has its own rate, and no share of another: make a load of its own of it".to_owned());
        }
        self.0.iter().find_map(|part| part.of.contradiction())
    }

    fn impossible_at(&self, rate: f64) -> Option<String> {
        self.0.iter().find_map(|part| part.of.impossible_at(rate * part.share.fraction()))
    }

    fn at_rate(&self, rate: f64) -> Option<String> {
        let parts: Vec<String> = self
            .0
            .iter()
            .filter_map(|part| Some(format!("{}: {}", part.share, part.of.at_rate(rate * part.share.fraction())?)))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn is_drawn(&self) -> bool {
        self.0.iter().any(|part| part.of.is_drawn())
    }

    fn walk(&self, profile: &Arc<Profile>, seed: u64) -> Walk {
        let mut parts: Vec<Peekable<Walk>> = self
            .parts(profile)
            .zip(0..)
            .map(|((arrivals, profile), index)| arrivals.walk(&Arc::new(profile), seed_of_part(seed, index)).peekable())
            .collect();
        Box::new(std::iter::from_fn(move || {
            // The first part wins where two are due at the same moment.
            let next = (0..parts.len()).filter_map(|n| Some((parts[n].peek()?.at, n))).min()?;
            parts[next.1].next()
        }))
    }

    fn due_before(&self, profile: &Profile, t: Offset) -> Option<u64> {
        self.parts(profile).map(|(arrivals, profile)| arrivals.due_before(&profile, t)).sum()
    }

    fn expected_before(&self, profile: &Profile, t: Offset) -> f64 {
        self.parts(profile).map(|(arrivals, profile)| arrivals.expected_before(&profile, t)).sum()
    }

    fn spread(&self, profile: &Profile, from: Offset, to: Offset) -> (u64, u64) {
        let spreads = self.parts(profile).map(|(arrivals, profile)| arrivals.spread(&profile, from, to));
        spreads.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    fn rate_at(&self, profile: &Profile, t: Offset) -> f64 {
        self.parts(profile).map(|(arrivals, profile)| arrivals.rate_at(&profile, t)).sum()
    }

    /// As if all parts had their highest rate at the same moment, which is where bursts can meet.
    fn peak_rate(&self, profile: &Profile) -> f64 {
        self.parts(profile).map(|(arrivals, profile)| arrivals.peak_rate(&profile)).sum()
    }

    fn most_within(&self, rate: f64, seconds: f64) -> f64 {
        self.0.iter().map(|part| part.of.most_within(rate * part.share.fraction(), seconds)).sum()
    }
}
