//! The users of a closed model: when each comes and goes, and when it sends its next request. Pure: the same plan and seed are the same
//! crowd, and the shards of all indices hold each user exactly once.
//!
//! User k (from 1) is there while the planned number of users, rounded, is at least k: the last to come is the first to go, and who
//! stays keeps its connection across phases.

use std::sync::Arc;

use rand_pcg::Pcg64Mcg;

use super::RatePiece;
use super::random::{generator, split_mix, uniform};
use crate::names::Name;
use crate::time::Offset;
use crate::units::Span;

/// The users of one load over all phases.
#[derive(Clone, Debug)]
pub struct Crowd {
    plan: Arc<Planned>,
    seed: u64,
    /// This crowd holds the users whose number leaves `shard` when divided by `shards`.
    shard: u64,
    shards: u64,
}

#[derive(Debug)]
struct Planned {
    pieces: Vec<RatePiece>,
    stays: Vec<Stay>,
    phases: Vec<Name>,
    rhythm: Rhythm,
    /// The most users at once, of all shards together.
    most: u64,
}

/// A stretch in which a user is there: requests begin in `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The user's number, from 0.
    pub user: u64,
    pub from: Offset,
    pub to: Offset,
}

/// One user's own time: draws how long it thinks.
#[derive(Clone, Debug)]
pub struct Steps {
    rhythm: Rhythm,
    random: Pcg64Mcg,
}

/// When a user of a closed model sends the next request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rhythm {
    /// From the end of an answer to the next request.
    pub think: Think,
    /// At least so long from one request to the next; at once where the answer took longer.
    pub every: Option<Span>,
}

impl Rhythm {
    /// The mean time from one request of a user to the next, when answers take no time.
    pub fn mean(&self) -> Span {
        self.think.mean().max(self.every.unwrap_or_default())
    }
}

/// A length of time that a user thinks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Think {
    /// Always as long; zero is no time at all.
    Constant(Span),
    /// Drawn anew each time, memoryless, with this mean.
    Exponential(Span),
    /// Drawn anew each time, evenly between two lengths.
    Uniform(Span, Span),
}

impl Default for Think {
    fn default() -> Think {
        Think::Constant(Span::default())
    }
}

impl Think {
    pub fn mean(&self) -> Span {
        match *self {
            Think::Constant(span) | Think::Exponential(span) => span,
            Think::Uniform(least, most) => ((least.duration() + most.duration()) / 2).into(),
        }
    }

    /// One of its lengths. `chance` gives a number in (0, 1], and is asked only where something is drawn.
    pub fn drawn(&self, chance: impl FnOnce() -> f64) -> Span {
        match *self {
            Think::Constant(span) => span,
            Think::Exponential(mean) => mean.duration().mul_f64(-chance().ln()).into(),
            Think::Uniform(least, most) => {
                let more = most.duration().saturating_sub(least.duration());
                (least.duration() + more.mul_f64(chance())).into()
            }
        }
    }
}

impl std::fmt::Display for Think {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Think::Constant(span) => write!(f, "{span}"),
            Think::Exponential(mean) => write!(f, "{mean} in the mean, exponential,"),
            Think::Uniform(least, most) => write!(f, "{least} to {most}, evenly,"),
        }
    }
}

impl Crowd {
    /// The users of one load. `pieces` say how many there are, are in order of time and do not overlap; where there is none, there is
    /// nobody. `seed` is the load's own: see [`seed_of`](super::seed_of).
    pub fn new(pieces: &[RatePiece], rhythm: Rhythm, seed: u64) -> Crowd {
        let most = pieces.iter().map(|piece| piece.from.max(piece.to)).fold(0.0, f64::max).round() as u64;
        let mut stays: Vec<Stay> = (0..most).flat_map(|user| stays(user, pieces)).collect();
        stays.sort_by_key(|stay| (stay.from, stay.user));
        let phases = pieces.iter().map(|piece| piece.phase.clone()).collect();
        Crowd { plan: Arc::new(Planned { pieces: pieces.to_vec(), stays, phases, rhythm, most }), seed, shard: 0, shards: 1 }
    }

    /// Shard `index` of `of`: every `of`-th user.
    ///
    /// # Panics
    /// When `index` is not below `of`.
    pub fn shard(&self, index: u64, of: u64) -> Crowd {
        assert!(index < of, "there is no shard {index} of {of}");
        Crowd { shard: self.shard + self.shards * index, shards: self.shards * of, ..self.clone() }
    }

    /// The seed that it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Which user a number belongs to, in the order of this crowd's own.
    pub fn place_of(&self, user: u64) -> usize {
        ((user - self.shard) / self.shards) as usize
    }

    /// The number of a user's `nth` request, from 0, among those of all users of all shards: users take turns, however fast each is.
    pub fn number(&self, user: u64, nth: u64) -> u64 {
        nth * self.plan.most + user
    }

    /// Everybody's stays, in the order in which they begin.
    pub fn stays(&self) -> impl Iterator<Item = Stay> {
        self.plan.stays.iter().copied().filter(|stay| stay.user % self.shards == self.shard)
    }

    /// A user's own time. Each stay of a user begins the same draws anew, so that cutting one off changes no other.
    pub fn steps(&self, user: u64) -> Steps {
        Steps { rhythm: self.plan.rhythm, random: generator(split_mix(self.seed ^ split_mix(user))) }
    }

    /// The phase at `t`, as an index into [`Crowd::phases`]; the last that began, where none goes on.
    pub fn phase_at(&self, t: Offset) -> usize {
        self.plan.pieces.partition_point(|piece| piece.start <= t).saturating_sub(1)
    }

    /// Whether a phase that has users goes on at `t`.
    pub fn is_in_phase(&self, t: Offset) -> bool {
        self.plan.pieces.iter().any(|piece| piece.start <= t && t < piece.end)
    }

    /// The phases that have users, in order.
    pub fn phases(&self) -> &[Name] {
        &self.plan.phases
    }

    pub fn rhythm(&self) -> Rhythm {
        self.plan.rhythm
    }

    /// The most users at once.
    pub fn peak(&self) -> u64 {
        // Users below the most whose number belongs to this shard.
        (self.plan.most + self.shards - 1).saturating_sub(self.shard) / self.shards
    }

    /// Whether anybody is there in `[from, to)`.
    pub fn is_there(&self, from: Offset, to: Offset) -> bool {
        self.stays().any(|stay| stay.from < to && stay.to > from)
    }

    /// The end of the last piece: nobody begins anything at or after it.
    pub fn end(&self) -> Offset {
        self.plan.pieces.last().map_or(Offset::ZERO, |piece| piece.end)
    }
}

/// When one user is there.
fn stays(user: u64, pieces: &[RatePiece]) -> Vec<Stay> {
    // Rounded: the last of a ramp to 50 comes a little before its end, and not exactly there.
    let needed = user as f64 + 0.5;
    let mut stays: Vec<Stay> = Vec::new();
    for piece in pieces {
        let cross = || {
            let share = (needed - piece.from) / (piece.to - piece.from);
            Offset::from_nanos(piece.start.nanos() + (share * (piece.end.nanos() - piece.start.nanos()) as f64).round() as i64)
        };
        let (from, to) = match (piece.from >= needed, piece.to >= needed) {
            (true, true) => (piece.start, piece.end),
            (true, false) => (piece.start, cross()),
            (false, true) => (cross(), piece.end),
            (false, false) => continue,
        };
        match stays.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ if from < to => stays.push(Stay { user, from, to }),
            _ => {}
        }
    }
    stays
}

impl Steps {
    /// When a user that comes at `from` sends its first request: somewhere within the first time that it would think or wait, so that
    /// those who come together do not stay in step for ever.
    pub fn first(&mut self, from: Offset) -> Offset {
        let pause = self.think().max(self.rhythm.every.unwrap_or_default());
        from + pause.duration().mul_f64(uniform(&mut self.random))
    }

    /// When the next request is due, after one that was due at `before` and ended at `ended`.
    pub fn next(&mut self, before: Offset, ended: Offset) -> Offset {
        let after = ended + self.think().duration();
        self.rhythm.every.map_or(after, |every| after.max(before + every.duration()))
    }

    fn think(&mut self) -> Span {
        self.rhythm.think.drawn(|| uniform(&mut self.random))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn piece(phase: &str, start: f64, end: f64, from: f64, to: f64) -> RatePiece {
        let phase = phase.parse().expect("a test's name is a name");
        RatePiece { phase, start: Offset::from_secs_f64(start), end: Offset::from_secs_f64(end), from, to }
    }

    fn at(seconds: f64) -> Offset {
        Offset::from_secs_f64(seconds)
    }

    #[test]
    fn who_stays_over_a_boundary_stays_once_and_the_last_to_come_goes_first() {
        let pieces =
            [piece("calm", 0.0, 10.0, 1.0, 1.0), piece("burst", 10.0, 20.0, 1.0, 3.0), piece("back", 20.0, 30.0, 3.0, 1.0)];
        let crowd = Crowd::new(&pieces, Rhythm::default(), 1);
        let stays: Vec<Stay> = crowd.stays().collect();
        let stay = |user, from, to| Stay { user, from: at(from), to: at(to) };
        assert_eq!(stays, [stay(0, 0.0, 30.0), stay(1, 12.5, 27.5), stay(2, 17.5, 22.5)]);
        assert_eq!((crowd.peak(), crowd.phase_at(at(9.9)), crowd.phase_at(at(10.0)), crowd.end()), (3, 0, 1, at(30.0)));
        assert!(crowd.is_there(at(29.0), at(31.0)) && !crowd.is_there(at(30.0), at(31.0)));
    }

    #[test]
    fn a_pause_follows_the_answer_and_a_beat_the_request_before() {
        let rhythm = |think, every| Rhythm { think, every };
        let steps = |rhythm| Crowd::new(&[piece("a", 0.0, 9.0, 1.0, 1.0)], rhythm, 7).steps(0);
        let mut plain = steps(Rhythm::default());
        assert_eq!((plain.first(at(3.0)), plain.next(at(3.0), at(3.5))), (at(3.0), at(3.5)));
        let mut thinks = steps(rhythm(Think::Constant(Span::from_secs(2)), None));
        assert_eq!(thinks.next(at(3.0), at(3.5)), at(5.5));
        let mut beats = steps(rhythm(Think::default(), Some(Span::from_secs(2))));
        assert_eq!((beats.next(at(3.0), at(3.5)), beats.next(at(3.0), at(5.5))), (at(5.0), at(5.5)));
        assert!(beats.first(at(1.0)) <= at(3.0));
        let mut drawn = steps(rhythm(Think::Exponential(Span::from_secs(1)), None));
        let draws: Vec<Duration> = (0..20_000).map(|_| drawn.next(at(0.0), at(0.0)).since(Offset::ZERO)).collect();
        let mean = draws.iter().map(Duration::as_secs_f64).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.05, "seven standard errors: {mean}");
        let mut even = steps(rhythm(Think::Uniform(Span::from_secs(1), Span::from_secs(3)), None));
        assert!((0..1_000).all(|_| (1.0..=3.0).contains(&even.next(at(0.0), at(0.0)).seconds())));
    }

    proptest! {
        #[test]
        fn shards_hold_each_user_once_and_as_many_are_there_as_planned(
            levels in proptest::collection::vec((0u32..30, 0u32..30), 1..4), shards in 1u64..5,
        ) {
            let pieces: Vec<RatePiece> = levels
                .iter()
                .enumerate()
                .map(|(i, (from, to))| piece(&format!("p{i}"), i as f64, i as f64 + 1.0, f64::from(*from), f64::from(*to)))
                .collect();
            let crowd = Crowd::new(&pieces, Rhythm::default(), 3);
            let mut parts: Vec<Stay> = (0..shards).flat_map(|i| crowd.shard(i, shards).stays().collect::<Vec<_>>()).collect();
            parts.sort_by_key(|stay| (stay.from, stay.user));
            prop_assert_eq!(parts, crowd.stays().collect::<Vec<_>>());
            prop_assert_eq!((0..shards).map(|i| crowd.shard(i, shards).peak()).sum::<u64>(), crowd.peak());
            // Requests are numbered as if nobody had a share of them.
            let numbers = |i| {
                let shard = crowd.shard(i, shards);
                let users: BTreeSet<u64> = shard.stays().map(|stay| stay.user).collect();
                let places: Vec<usize> = users.iter().map(|user| shard.place_of(*user)).collect();
                assert_eq!(places, (0..users.len()).collect::<Vec<_>>());
                users.into_iter().flat_map(move |user| (0..3).map(move |nth| (user, nth))).map(|(user, nth)| shard.number(user, nth)).collect::<Vec<_>>()
            };
            let all: BTreeSet<u64> = (0..shards).flat_map(numbers).collect();
            prop_assert_eq!(all, (0..3 * crowd.peak()).collect::<BTreeSet<u64>>());
            for piece in &pieces {
                for share in [0.013, 0.37, 0.71, 0.993] {
                    let t = Offset::from_secs_f64(piece.start.seconds() + share);
                    let planned = piece.from + (piece.to - piece.from) * share;
                    let there = crowd.stays().filter(|stay| stay.from <= t && t < stay.to).count() as f64;
                    prop_assert!((there - planned).abs() <= 0.5 + 1e-6, "{there} of {planned}");
                }
            }
        }
    }
}
