//! A thundering herd: many at once, as often as keeps the rate. Cron jobs on the full minute, caches that expire together, clients
//! that come back after an outage. The first herd stands at the load's start, each next one where the rate has paid for it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use super::{Process, Walk, constant};
use crate::time::Offset;

/// As many as a load may have in flight.
const MOST: u32 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// How many are due at the same moment; 50/s in herds of 500 is one every 10 s.
    #[schemars(range(min = 2, max = 1000000))]
    of: u32,
}

impl Process for Spec {
    fn contradiction(&self) -> Option<String> {
        (!(2..=MOST).contains(&self.of)).then(|| match self.of {
            1 => "a herd of 1 is no herd: write `arrivals: constant`, or make `of` larger".to_owned(),
            of => format!("no herd can be of {of}: from 2 to {MOST}"),
        })
    }

    fn at_rate(&self, rate: f64) -> Option<String> {
        (rate > 0.0).then(|| format!("{} at once every {:.3}s", self.of, f64::from(self.of) / rate))
    }

    fn walk(&self, profile: &Arc<Profile>, _: u64) -> Walk {
        constant::walk(Arc::clone(profile), self.of.into())
    }

    fn due_before(&self, profile: &Profile, t: Offset) -> Option<u64> {
        Some(constant::due_before(profile, self.of.into(), t))
    }

    /// As if the requests of the busiest second were spread over it: at the moment itself the rate of a herd has no bound.
    fn peak_rate(&self, profile: &Profile) -> f64 {
        self.most_within(profile.peak_rate(), 1.0)
    }

    fn most_within(&self, rate: f64, seconds: f64) -> f64 {
        let of = f64::from(self.of);
        if rate > 0.0 { of * ((rate * seconds / of).floor() + 1.0) } else { 0.0 }
    }
}
