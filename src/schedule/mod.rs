//! When each request is due: one file per arrival process. Pure functions of plan and seed (request n -> the [`Offset`] at which
//! it is due), the same on every machine; the whole can be split into shards whose union is exactly the whole, without a
//! coordinator. Nothing here waits, sends or asks what time it is.
//!
//! ```text
//! process: n ─▶ how many were expected before it ─▶ profile: inverse of the rate's integral ─▶ due
//! ```

use std::sync::Arc;

use rand::Rng;
use rand_pcg::Pcg64Mcg;

use crate::names::Name;
use crate::plan::Arrivals;
use crate::time::Offset;

mod constant;
mod crowd;
mod poisson;
mod profile;

pub use crowd::{Crowd, Stay, Steps};

use profile::Profile;

/// The name of every arrival process, as a plan writes it, and one line about each.
pub const ALL: &[(&str, &str)] =
    &[("constant", "evenly spaced"), ("poisson", "independent of each other, as many users are: exponential gaps")];

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

/// The row of each arrival process: where the plan's word meets its file.
enum Process {
    Constant(constant::Positions),
    Poisson(poisson::Positions),
}

impl Process {
    fn of(arrivals: Arrivals, seed: u64) -> Process {
        match arrivals {
            Arrivals::Constant => Process::Constant(constant::Positions::new()),
            Arrivals::Poisson => Process::Poisson(poisson::Positions::new(seed)),
        }
    }

    /// How many arrivals were expected before the next one. Never decreases.
    fn next(&mut self) -> f64 {
        match self {
            Process::Constant(positions) => positions.next(),
            Process::Poisson(positions) => positions.next(),
        }
    }
}

/// The seed of one load's schedule: loads of one run are independent of one another, and adding one changes no other.
pub fn seed_of(run_seed: u64, load: &Name) -> u64 {
    // FNV-1a over the name, then one round of SplitMix64 to spread it over all bits.
    let name =
        load.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    split_mix(run_seed ^ name)
}

/// One step of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that spreads neighbouring seeds far apart.
fn split_mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator whose stream does not change between releases. Both halves of its state are derived here rather than by a seeding
/// routine that another release may change.
fn generator(seed: u64) -> Pcg64Mcg {
    let (low, high) = (split_mix(seed), split_mix(split_mix(seed)));
    Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low))
}

/// 53 random bits in (0, 1]: its logarithm is finite.
fn uniform(random: &mut Pcg64Mcg) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
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
        let profile = Arc::clone(&self.profile);
        let mut process = Process::of(self.arrivals, self.seed);
        let mut piece = 0;
        (0..)
            .map_while(move |n| {
                let (due, phase) = profile.due(process.next(), &mut piece)?;
                Some(Arrival { n, due, phase })
            })
            .filter(move |arrival| arrival.n % shards == shard)
    }

    /// How many requests are due in `[from, to)`.
    pub fn count_in(&self, from: Offset, to: Offset) -> u64 {
        match self.arrivals {
            Arrivals::Constant => {
                let (first, end) = (constant::first_due_at(&self.profile, from), constant::first_due_at(&self.profile, to));
                // Numbers n < x with n % shards == shard.
                let below = |x: u64| (x + self.shards - 1 - self.shard) / self.shards;
                below(end).saturating_sub(below(first))
            }
            Arrivals::Poisson => {
                self.arrivals().skip_while(|arrival| arrival.due < from).take_while(|arrival| arrival.due < to).count() as u64
            }
        }
    }

    /// How many requests there are.
    pub fn count(&self) -> u64 {
        self.count_in(Offset::from_nanos(i64::MIN), Offset::from_nanos(i64::MAX))
    }

    /// The mean number of requests in `[from, to)`: the integral of the rate, shared evenly by the shards.
    pub fn expected_in(&self, from: Offset, to: Offset) -> f64 {
        (self.profile.mass_before(to) - self.profile.mass_before(from)).max(0.0) / self.shards as f64
    }

    /// The fewest and the most requests that are due in `[from, to)` whatever the seed, but for one in thirty thousand: four standard
    /// deviations of a Poisson count, which are four roots of its mean. Exact where nothing is drawn.
    pub fn spread_in(&self, from: Offset, to: Offset) -> (u64, u64) {
        match self.arrivals {
            Arrivals::Constant => {
                let count = self.count_in(from, to);
                (count, count)
            }
            Arrivals::Poisson => {
                let mean = self.expected_in(from, to);
                ((mean - 4.0 * mean.sqrt()).max(0.0) as u64, (mean + 4.0 * mean.sqrt()).ceil() as u64)
            }
        }
    }

    /// Requests per second at `t`.
    pub fn rate_at(&self, t: Offset) -> f64 {
        self.profile.rate_at(t) / self.shards as f64
    }

    /// The highest rate anywhere, in requests per second.
    pub fn peak_rate(&self) -> f64 {
        self.profile.peak_rate() / self.shards as f64
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a test's name is a name")
    }

    fn piece(phase: &str, start: f64, end: f64, from: f64, to: f64) -> RatePiece {
        RatePiece { phase: name(phase), start: Offset::from_secs_f64(start), end: Offset::from_secs_f64(end), from, to }
    }

    fn dues(schedule: &Schedule) -> Vec<Offset> {
        schedule.arrivals().map(|arrival| arrival.due).collect()
    }

    /// Up to five phases, some steady, some ramps, some silent, with gaps between them.
    fn any_pieces() -> impl Strategy<Value = Vec<RatePiece>> {
        let rate = prop_oneof![Just(0.0), 0.1..400.0f64];
        proptest::collection::vec((0.0..3.0f64, 0.05..4.0f64, rate.clone(), rate, any::<bool>()), 1..5).prop_map(|parts| {
            let mut t = 0.0;
            let mut pieces = Vec::new();
            for (i, (gap, length, from, to, ramp)) in parts.into_iter().enumerate() {
                let start = t + gap;
                t = start + length;
                pieces.push(piece(&format!("p{i}"), start, t, from, if ramp { to } else { from }));
            }
            pieces
        })
    }

    fn any_arrivals() -> impl Strategy<Value = Arrivals> {
        prop_oneof![Just(Arrivals::Constant), Just(Arrivals::Poisson)]
    }

    /// The trapezoid rule, which is exact for linear pieces: an independent way to the integral.
    fn integral(pieces: &[RatePiece]) -> f64 {
        pieces.iter().map(|p| (p.from + p.to) / 2.0 * (p.end.seconds() - p.start.seconds())).sum()
    }

    #[test]
    fn a_steady_second_holds_its_rate_evenly() {
        let schedule = Schedule::new(Arrivals::Constant, &[piece("a", 0.0, 1.0, 4.0, 4.0)], 1);
        assert_eq!(dues(&schedule), [0.0, 0.25, 0.5, 0.75].map(Offset::from_secs_f64));
    }

    #[test]
    fn what_falls_on_a_boundary_belongs_to_the_next_phase_that_has_a_rate() {
        // 3 x 0.1 s at 10/s holds exactly 3; floating point must neither lose the third nor invent a fourth.
        let pieces = [piece("a", 0.0, 0.3, 10.0, 10.0), piece("quiet", 0.3, 1.0, 0.0, 0.0), piece("b", 1.0, 1.2, 10.0, 10.0)];
        let schedule = Schedule::new(Arrivals::Constant, &pieces, 1);
        let got: Vec<(f64, usize)> = schedule.arrivals().map(|a| (a.due.seconds(), a.phase)).collect();
        assert_eq!(got, [(0.0, 0), (0.1, 0), (0.2, 0), (1.0, 2), (1.1, 2)]);
        assert_eq!(schedule.phases(), ["a", "quiet", "b"].map(name));
    }

    #[test]
    fn a_ramp_from_nothing_is_quadratic() {
        // r(t) = 2t, so the integral is t^2 and the n-th is due at sqrt(n).
        let schedule = Schedule::new(Arrivals::Constant, &[piece("up", 0.0, 10.0, 0.0, 20.0)], 1);
        let dues = dues(&schedule);
        assert_eq!(dues.len(), 100);
        for (n, due) in dues.iter().enumerate() {
            assert!((due.seconds() - (n as f64).sqrt()).abs() < 1e-8, "{n} is due at {due}");
        }
    }

    #[test]
    fn constant_gaps_do_not_vary() {
        let schedule = Schedule::new(Arrivals::Constant, &[piece("a", 0.0, 60.0, 333.0, 333.0)], 1);
        let dues = dues(&schedule);
        let gaps: Vec<f64> = dues.windows(2).map(|w| (w[1].nanos() - w[0].nanos()) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!(deviation / mean < 0.05, "coefficient of variation {}", deviation / mean);
        assert_eq!(dues.len(), 19_980);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        // Kolmogorov-Smirnov against 1 - exp(-rate x): 1.95 / sqrt(n) is exceeded by chance in one run of a thousand, and the
        // seed is fixed.
        let schedule = Schedule::new(Arrivals::Poisson, &[piece("a", 0.0, 200.0, 100.0, 100.0)], 7);
        let mut gaps: Vec<f64> = dues(&schedule).windows(2).map(|w| (w[1].nanos() - w[0].nanos()) as f64 / 1e9).collect();
        gaps.sort_by(f64::total_cmp);
        let n = gaps.len() as f64;
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(i, gap)| {
                let expected = 1.0 - (-100.0 * gap).exp();
                (expected - i as f64 / n).abs().max((expected - (i + 1) as f64 / n).abs())
            })
            .fold(0.0, f64::max);
        assert!(distance < 1.95 / n.sqrt(), "distance {distance} over {n} gaps");
    }

    #[test]
    fn a_step_is_at_its_new_rate_within_100_ms() {
        let pieces = [piece("low", 0.0, 2.0, 50.0, 50.0), piece("high", 2.0, 4.0, 1000.0, 1000.0)];
        let schedule = Schedule::new(Arrivals::Constant, &pieces, 1);
        let count = schedule.count_in(Offset::from_secs_f64(2.0), Offset::from_secs_f64(2.1));
        assert!((95..=101).contains(&count), "{count} in the first 100 ms of a step to 1000/s");
    }

    #[test]
    fn loads_of_one_run_differ_and_runs_repeat() {
        let pieces = [piece("a", 0.0, 10.0, 100.0, 100.0)];
        let of = |seed, load| dues(&Schedule::new(Arrivals::Poisson, &pieces, seed_of(seed, &name(load))));
        assert_eq!(of(1, "readers"), of(1, "readers"));
        assert_ne!(of(1, "readers"), of(1, "writers"));
        assert_ne!(of(1, "readers"), of(2, "readers"));
        // Pinned: a release that changed this stream would silently change every recorded seed.
        let first: Vec<i64> = of(1, "readers")[..3].iter().map(|due| due.nanos()).collect();
        assert_eq!(first, [1_596_804, 2_054_563, 3_447_099]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn dues_never_run_backwards_and_lie_in_their_phase(arrivals in any_arrivals(), pieces in any_pieces(), seed: u64) {
            let schedule = Schedule::new(arrivals, &pieces, seed);
            let mut last = Offset::from_nanos(i64::MIN);
            for (n, arrival) in schedule.arrivals().enumerate() {
                prop_assert_eq!(arrival.n, n as u64);
                prop_assert!(arrival.due >= last, "{} after {}", arrival.due, last);
                let piece = &pieces[arrival.phase];
                prop_assert!(piece.start <= arrival.due && arrival.due < piece.end, "{} outside {piece:?}", arrival.due);
                last = arrival.due;
            }
        }

        #[test]
        fn a_constant_count_is_the_integral_of_the_rate(pieces in any_pieces(), from in 0.0..20.0f64, length in 0.0..10.0f64) {
            let schedule = Schedule::new(Arrivals::Constant, &pieces, 0);
            prop_assert!((schedule.count() as f64 - integral(&pieces)).abs() <= 1.0);
            let (from, to) = (Offset::from_secs_f64(from), Offset::from_secs_f64(from + length));
            let count = schedule.count_in(from, to);
            prop_assert!((count as f64 - schedule.expected_in(from, to)).abs() <= 1.0 + 1e-6);
            let counted = schedule.arrivals().filter(|a| from <= a.due && a.due < to).count() as u64;
            prop_assert_eq!(count, counted);
        }

        #[test]
        fn whatever_the_seed_a_count_lies_in_its_spread(arrivals in any_arrivals(), pieces in any_pieces(), seed: u64) {
            let schedule = Schedule::new(arrivals, &pieces, seed);
            let (fewest, most) = schedule.spread_in(Offset::from_nanos(i64::MIN), Offset::from_nanos(i64::MAX));
            // Small means are more skewed than a root tells: two more are allowed for.
            prop_assert!((fewest..=most + 2).contains(&schedule.count()), "{} of {fewest} to {most}", schedule.count());
        }

        /// A Poisson count has variance = mean; six standard deviations are missed once in 5e8.
        #[test]
        fn a_poisson_count_is_near_the_integral_of_the_rate(pieces in any_pieces(), seed: u64) {
            let schedule = Schedule::new(Arrivals::Poisson, &pieces, seed);
            let mean = integral(&pieces);
            prop_assert!((schedule.count() as f64 - mean).abs() <= 6.0 * mean.sqrt() + 6.0, "{} of {mean}", schedule.count());
        }

        #[test]
        fn shards_hold_every_request_exactly_once(arrivals in any_arrivals(), pieces in any_pieces(), seed: u64, of in 1..5u64, again in 1..4u64) {
            let whole = Schedule::new(arrivals, &pieces, seed);
            let mut union: Vec<Arrival> = Vec::new();
            let mut counts = 0;
            for index in 0..of {
                for inner in 0..again {
                    let shard = whole.shard(index, of).shard(inner, again);
                    union.extend(shard.arrivals());
                    counts += shard.count();
                }
            }
            union.sort_by_key(|arrival| arrival.n);
            prop_assert_eq!(counts, whole.count());
            prop_assert_eq!(union, whole.arrivals().collect::<Vec<_>>());
        }

        #[test]
        fn one_seed_is_one_schedule(arrivals in any_arrivals(), pieces in any_pieces(), seed: u64) {
            prop_assert_eq!(dues(&Schedule::new(arrivals, &pieces, seed)), dues(&Schedule::new(arrivals, &pieces, seed)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The index of dispersion of N counts has the standard deviation sqrt(2 / N): 0.014 for 10,000, so that 0.1 is seven of
        /// them, for any seed.
        #[test]
        fn poisson_counts_are_as_dispersed_as_poisson(seed: u64, rate in 20.0..200.0f64) {
            let schedule = Schedule::new(Arrivals::Poisson, &[piece("a", 0.0, 1000.0, rate, rate)], seed);
            let mut counts = vec![0.0f64; 10_000];
            for arrival in schedule.arrivals() {
                counts[(arrival.due.nanos() / 100_000_000) as usize] += 1.0;
            }
            let mean = counts.iter().sum::<f64>() / counts.len() as f64;
            let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (counts.len() - 1) as f64;
            let dispersion = variance / mean;
            prop_assert!((0.9..=1.1).contains(&dispersion), "index of dispersion {dispersion}");
        }
    }
}
