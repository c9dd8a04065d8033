//! When each request is due: one file per arrival process. Pure functions of plan and seed (request n -> the [`Offset`] at which
//! it is due), the same on every machine; the whole can be split into shards whose union is exactly the whole, without a
//! coordinator. Nothing here waits, sends or asks what time it is.
//!
//! ```text
//! process: n ─▶ how many were expected before it ─▶ profile: inverse of the rate's integral ─▶ due
//! ```
//!
//! An arrival process is one file with a `Spec`, one `mod` line and one row in the table below.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::kinds::{self, Kind, kinds};
use crate::names::Name;
use crate::time::Offset;

mod bursty;
mod constant;
mod crowd;
mod herd;
mod periods;
mod poisson;
mod profile;
pub(crate) mod random;
mod replay;
mod sum;
mod wave;

pub use crowd::{Crowd, Rhythm, Stay, Steps, Think};
pub use poisson::most_chosen;
pub use replay::{FILE_MOST, Replayed};

use profile::{Course, Profile};

kinds! {
    /// The process by which requests become due.
    pub enum Arrivals as dyn Process {
        constant::Spec => Constant "constant": "evenly spaced" = "{}",
        poisson::Spec => Poisson "poisson": "independent of each other, as many users are: exponential gaps" = "{}",
        wave::Spec => Wave "wave": "a rate that swings around the phase's as a sine: days and nights" = "{period: 60s, depth: 50%}",
        bursty::Spec => Bursty "bursty": "bursts and silences that take turns by chance, of given lengths or of a given index of dispersion" = "{on: 2s, off: 8s, periods: pareto, shape: 1.5}",
        herd::Spec => Herd "herd": "a thundering herd: many at once, as often as keeps the rate" = "{of: 500}",
        replay::Spec => Replay "replay": "what was recorded, when it was: CSV or an access log, faster or slower by a factor; takes no rate" = "{file: traffic.csv, warp: 2}",
        sum::Spec => Sum "sum": "several of these at once, each with its share of the rate" = "[{share: 80%, of: poisson}, {share: 20%, of: {herd: {of: 100}}}]",
    }
}

/// What every arrival process knows of itself. A `profile` is the rate of the phases over time; a `rate` is the mean rate of one
/// phase, in requests per second.
pub trait Process: Send + Sync {
    /// Why the spec, as it is written, can never be, and the way out.
    fn contradiction(&self) -> Option<String> {
        None
    }

    /// Why it cannot be at this rate, and the way out.
    fn impossible_at(&self, _rate: f64) -> Option<String> {
        None
    }

    /// What follows from the spec at this rate, in words; nothing where there is nothing to add.
    fn at_rate(&self, _rate: f64) -> Option<String> {
        None
    }

    /// It knows by itself when requests are due: a rate beside it would contradict it.
    fn has_own_rate(&self) -> bool {
        false
    }

    /// The recording that it needs, where it needs one.
    fn replays(&self) -> Option<&replay::Spec> {
        None
    }

    /// The different requests that are sent; none where it is always the load's own.
    fn requests(&self) -> &[Call] {
        &[]
    }

    /// Whether the seed makes a difference.
    fn is_drawn(&self) -> bool {
        false
    }

    /// Every request in order of time.
    fn walk(&self, profile: &Arc<Profile>, seed: u64) -> Walk;

    /// How many requests are due before `t`, where that is known without walking there: never where it hangs on the seed.
    fn due_before(&self, _profile: &Profile, _t: Offset) -> Option<u64> {
        None
    }

    /// How many are due before `t` in the mean of all seeds.
    fn expected_before(&self, profile: &Profile, t: Offset) -> f64 {
        profile.before(t)
    }

    /// The fewest and the most in `[from, to)` whatever the seed, but for one in fifteen thousand: exact where nothing is drawn, and
    /// as a Poisson count where something is.
    fn spread(&self, profile: &Profile, from: Offset, to: Offset) -> (u64, u64) {
        match (self.due_before(profile, from), self.due_before(profile, to)) {
            (Some(before), Some(end)) => (end.saturating_sub(before), end.saturating_sub(before)),
            _ => poisson::spread((self.expected_before(profile, to) - self.expected_before(profile, from)).max(0.0)),
        }
    }

    /// Requests per second at `t`, in the mean of all seeds.
    fn rate_at(&self, profile: &Profile, t: Offset) -> f64 {
        profile.rate_at(t)
    }

    /// The highest rate at any moment, in requests per second.
    fn peak_rate(&self, profile: &Profile) -> f64 {
        profile.peak_rate()
    }

    /// How many can be due within so many seconds while the phase's rate is `rate`: in the mean, at the worst moment.
    fn most_within(&self, rate: f64, seconds: f64) -> f64 {
        rate * seconds
    }
}

/// The requests of a process, in order of time.
pub type Walk = Box<dyn Iterator<Item = Due> + Send>;

/// When one request is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    at: Offset,
    /// Index into [`Schedule::phases`].
    phase: usize,
    /// Index into [`Schedule::requests`].
    request: u32,
}

impl Due {
    /// The load's own request.
    fn at((at, phase): (Offset, usize)) -> Due {
        Due { at, phase, request: 0 }
    }
}

/// What is sent where that differs from arrival to arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// In upper case.
    pub method: String,
    /// As in a plan's request.
    pub path: String,
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        Arrivals::Constant(constant::Spec {})
    }
}

impl<'de> Deserialize<'de> for Arrivals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Arrivals, D::Error> {
        kinds::read_value(deserializer)
    }
}

impl JsonSchema for Arrivals {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Arrivals".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        struct Map;
        impl JsonSchema for Map {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "ArrivalProcess".into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                kinds::schema_of_map::<Arrivals>(generator)
            }
        }
        let map = generator.subschema_for::<Map>();
        kinds::schema_of_value::<Arrivals>(map)
    }
}

/// As a plan writes it, on one line.
impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(value) if value[self.key()].as_object().is_some_and(serde_json::Map::is_empty) => f.write_str(self.key()),
            // JSON is YAML.
            Ok(value) => write!(f, "{value}"),
            Err(_) => f.write_str(self.key()),
        }
    }
}

/// A stretch of one phase over which a level moves linearly: a rate in requests per second, or a number of users.
#[derive(Clone, Debug, PartialEq)]
pub struct RatePiece {
    pub phase: Name,
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    /// At `start`.
    pub from: f64,
    /// At `end`.
    pub to: f64,
}

/// What makes the requests of one load come.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// A schedule, whatever becomes of the requests before.
    Open(Schedule),
    /// Users, each of whom waits for an answer before sending again.
    Closed(Crowd),
}

impl Traffic {
    /// The phases in which something is sent, in order.
    pub fn phases(&self) -> &[Name] {
        match self {
            Traffic::Open(schedule) => schedule.phases(),
            Traffic::Closed(crowd) => crowd.phases(),
        }
    }

    /// Nothing is due at or after it.
    pub fn end(&self) -> Offset {
        match self {
            Traffic::Open(schedule) => schedule.end(),
            Traffic::Closed(crowd) => crowd.end(),
        }
    }

    /// The phase that `t` lies in, as an index into [`Traffic::phases`], where something is sent in it.
    pub fn phase_at(&self, t: Offset) -> Option<usize> {
        match self {
            Traffic::Open(schedule) => schedule.profile.phase_at(t),
            Traffic::Closed(crowd) => crowd.is_in_phase(t).then(|| crowd.phase_at(t)),
        }
    }

    /// The seed of the load: see [`seed_of`].
    pub fn seed(&self) -> u64 {
        match self {
            Traffic::Open(schedule) => schedule.seed,
            Traffic::Closed(crowd) => crowd.seed(),
        }
    }

    /// The fewest and the most requests that begin in `[from, to)`: see [`Schedule::spread_in`]. How many users get answered is known
    /// to nobody before the run.
    pub fn spread_in(&self, from: Offset, to: Offset) -> (u64, u64) {
        match self {
            Traffic::Open(schedule) => schedule.spread_in(from, to),
            Traffic::Closed(crowd) => (0, if crowd.is_there(from, to) { u64::MAX } else { 0 }),
        }
    }
}

/// One request, before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number in the whole load, from 0, whatever the shard.
    pub n: u64,
    pub due: Offset,
    /// Index into [`Schedule::phases`].
    pub phase: usize,
    /// Index into [`Schedule::requests`]; 0 where that is empty.
    pub request: u32,
}

/// The arrivals of one load over all phases.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    profile: Arc<Profile>,
    seed: u64,
    /// This schedule holds the requests whose number leaves `shard` when divided by `shards`.
    shard: u64,
    shards: u64,
}

/// The seed of one load's schedule: loads of one run are independent of one another, and adding one changes no other.
pub fn seed_of(run_seed: u64, load: &Name) -> u64 {
    random::seed_of_name(run_seed, load.as_str())
}

impl Schedule {
    /// The arrivals of one load. `pieces` are in order of time and do not overlap; where there is none, there are no arrivals.
    /// `seed` is the load's own: see [`seed_of`].
    ///
    /// # Panics
    /// When the pieces overlap, run backwards, or hold a rate that is negative or not finite: a checked plan has none such.
    pub fn new(arrivals: Arrivals, pieces: &[RatePiece], seed: u64) -> Schedule {
        Schedule { arrivals, profile: Arc::new(Profile::new(pieces)), seed, shard: 0, shards: 1 }
    }

    /// Shard `index` of `of`: every `of`-th request. The shards of all indices hold each request exactly once.
    ///
    /// # Panics
    /// When `index` is not below `of`.
    pub fn shard(&self, index: u64, of: u64) -> Schedule {
        assert!(index < of, "there is no shard {index} of {of}");
        Schedule { shard: self.shard + self.shards * index, shards: self.shards * of, ..self.clone() }
    }

    /// Every request in the order in which they are due. The iterator owns what it needs, so it can move to a worker.
    pub fn arrivals(&self) -> impl Iterator<Item = Arrival> + Send + use<> {
        let (shard, shards) = (self.shard, self.shards);
        (0..)
            .zip(self.arrivals.walk(&self.profile, self.seed))
            .map(|(n, Due { at, phase, request })| Arrival { n, due: at, phase, request })
            .filter(move |arrival| arrival.n % shards == shard)
    }

    /// How many requests are due in `[from, to)`.
    pub fn count_in(&self, from: Offset, to: Offset) -> u64 {
        let before = |t| self.arrivals.due_before(&self.profile, t);
        match (before(from), before(to)) {
            (Some(first), Some(end)) => {
                // Numbers n < x with n % shards == shard.
                let below = |x: u64| (x + self.shards - 1 - self.shard) / self.shards;
                below(end).saturating_sub(below(first))
            }
            _ => self.arrivals().skip_while(|arrival| arrival.due < from).take_while(|arrival| arrival.due < to).count() as u64,
        }
    }

    /// How many requests there are.
    pub fn count(&self) -> u64 {
        self.count_in(Offset::from_nanos(i64::MIN), Offset::from_nanos(i64::MAX))
    }

    /// The number of requests in `[from, to)` in the mean of all seeds: the integral of the rate, shared evenly by the shards.
    pub fn expected_in(&self, from: Offset, to: Offset) -> f64 {
        let before = |t| self.arrivals.expected_before(&self.profile, t);
        (before(to) - before(from)).max(0.0) / self.shards as f64
    }

    /// The fewest and the most requests that are due in `[from, to)` whatever the seed, but for one in fifteen thousand. Exact where
    /// nothing is drawn.
    pub fn spread_in(&self, from: Offset, to: Offset) -> (u64, u64) {
        if !self.arrivals.is_drawn() {
            let count = self.count_in(from, to);
            return (count, count);
        }
        // Of consecutive numbers every shard holds as many as any other, but for one.
        let (fewest, most) = self.arrivals.spread(&self.profile, from, to);
        (fewest / self.shards, most.div_ceil(self.shards))
    }

    /// Requests per second at `t`, in the mean of all seeds.
    pub fn rate_at(&self, t: Offset) -> f64 {
        self.arrivals.rate_at(&self.profile, t) / self.shards as f64
    }

    /// The highest rate anywhere, in requests per second: in a burst, on a crest. What is due at once counts as if it were spread
    /// over a second.
    pub fn peak_rate(&self) -> f64 {
        self.arrivals.peak_rate(&self.profile) / self.shards as f64
    }

    /// The different requests that arrivals send: what [`Arrival::request`] points into. Empty where all send the load's own.
    pub fn requests(&self) -> &[Call] {
        self.arrivals.requests()
    }

    /// The phases that have a rate, in order: what [`Arrival::phase`] points into.
    pub fn phases(&self) -> &[Name] {
        self.profile.phases()
    }

    /// The end of the last piece: nothing is due at or after it.
    pub fn end(&self) -> Offset {
        self.profile.end()
    }
}

#[cfg(test)]
mod tests;
