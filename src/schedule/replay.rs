//! A replay: what was recorded once, at the moments at which it was, faster or slower by a factor. The plan names the recording; who
//! runs the plan reads it, and who only judges by it does without.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use super::{Arrivals, Call, Due, Process, Walk};
use crate::time::Offset;

mod access_log;
mod columns;
mod recorded;

use recorded::Recorded;

/// The largest recording that is read, in bytes.
pub const FILE_MOST: u64 = 64 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The recording, relative to the plan's file: CSV with the columns time, method and path (the last two where what was sent is
    /// recorded, too), or an access log in the common or combined format. Times are seconds or RFC 3339; the first is the run's start.
    file: String,
    /// How many times faster than it was recorded: gaps are divided by it.
    #[serde(default = "as_recorded")]
    #[schemars(range(min = 0.001, max = 1000))]
    warp: f64,
    #[serde(skip)]
    recorded: Attached,
}

fn as_recorded() -> f64 {
    1.0
}

/// The recording, once it has been read. Two plans are equal when they say the same, whoever has read what they name.
#[derive(Clone, Debug, Default)]
struct Attached(Option<Arc<Recorded>>);

impl PartialEq for Attached {
    fn eq(&self, _: &Attached) -> bool {
        true
    }
}

/// What of a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// When something was sent, and what it was where that is recorded.
    All,
    /// When, and nothing else.
    Times,
}

impl Spec {
    /// The recording, as the plan names it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether the recording is at hand.
    pub fn is_read(&self) -> bool {
        self.recorded.0.is_some()
    }

    /// The same with its recording.
    ///
    /// # Errors
    /// What is wrong with the recording, line by line.
    pub fn with(&self, recording: &str, what: Replayed) -> Result<Arrivals, Vec<String>> {
        let recorded = Recorded::read(recording, what)?;
        Ok(Arrivals::Replay(Spec { recorded: Attached(Some(Arc::new(recorded))), ..self.clone() }))
    }

    /// How many requests are recorded, and how long it took to send them at this warp, in seconds.
    pub fn extent(&self) -> (usize, f64) {
        let last = self.recorded().and_then(|recorded| recorded.arrivals.last()).map_or(0, |(nanos, _)| *nanos);
        (self.recorded().map_or(0, |recorded| recorded.arrivals.len()), self.warped(last) as f64 / 1e9)
    }

    fn recorded(&self) -> Option<&Recorded> {
        self.recorded.0.as_deref()
    }

    fn warped(&self, nanos: i64) -> i64 {
        (nanos as f64 / self.warp).round() as i64
    }

    /// How many are due before so many nanoseconds after the first.
    fn before(&self, nanos: i64) -> u64 {
        self.recorded().map_or(0, |recorded| recorded.arrivals.partition_point(|(at, _)| self.warped(*at) < nanos) as u64)
    }
}

/// Where the recording begins.
fn start(profile: &Profile) -> Offset {
    profile.pieces().first().map_or(Offset::ZERO, |piece| Offset::from_nanos(piece.start))
}

impl Process for Spec {
    fn contradiction(&self) -> Option<String> {
        let sensible = (0.001..=1_000.0).contains(&self.warp);
        (!sensible).then(|| format!("a recording cannot be warped {} times: from 0.001 (slower) to 1000 (faster)", self.warp))
    }

    fn has_own_rate(&self) -> bool {
        true
    }

    fn replays(&self) -> Option<&Spec> {
        Some(self)
    }

    fn requests(&self) -> &[Call] {
        self.recorded().map_or(&[], |recorded| &recorded.calls)
    }

    fn walk(&self, profile: &Arc<Profile>, _: u64) -> Walk {
        let Some(recorded) = self.recorded.0.clone() else { return Box::new(std::iter::empty()) };
        let (spec, profile) = (self.clone(), Arc::clone(profile));
        let start = start(&profile).nanos();
        Box::new((0..recorded.arrivals.len()).map_while(move |n| {
            let (nanos, request) = recorded.arrivals[n];
            let at = Offset::from_nanos(start.saturating_add(spec.warped(nanos)));
            Some(Due { at, phase: profile.phase_at(at)?, request })
        }))
    }

    fn due_before(&self, profile: &Profile, t: Offset) -> Option<u64> {
        Some(self.before(t.min(profile.end()).nanos().saturating_sub(start(profile).nanos())))
    }

    fn expected_before(&self, profile: &Profile, t: Offset) -> f64 {
        self.due_before(profile, t).unwrap_or(0) as f64
    }

    /// Over the second around `t`.
    fn rate_at(&self, profile: &Profile, t: Offset) -> f64 {
        let half = std::time::Duration::from_millis(500);
        self.expected_before(profile, t + half) - self.expected_before(profile, t - half)
    }

    /// In the busiest second.
    fn peak_rate(&self, _: &Profile) -> f64 {
        self.most_within(0.0, 1.0)
    }

    fn most_within(&self, _: f64, seconds: f64) -> f64 {
        let Some(recorded) = self.recorded() else { return 0.0 };
        let (mut first, mut most) = (0, 0);
        for (n, (at, _)) in recorded.arrivals.iter().enumerate() {
            while (self.warped(*at) - self.warped(recorded.arrivals[first].0)) as f64 >= seconds * 1e9 {
                first += 1;
            }
            most = most.max(n + 1 - first);
        }
        most as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::{RatePiece, Schedule};

    fn replay(warp: f64, recording: &str, seconds: f64) -> Schedule {
        let spec = Spec { file: "traffic.csv".into(), warp, recorded: Attached::default() };
        let arrivals = spec.with(recording, Replayed::All).unwrap_or_else(|bad| panic!("{bad:?}"));
        let piece = |phase: &str, start: f64, end: f64| RatePiece {
            phase: phase.parse().expect("a name"),
            start: Offset::from_secs_f64(start),
            end: Offset::from_secs_f64(end),
            from: 0.0,
            to: 0.0,
        };
        Schedule::new(arrivals, &[piece("a", 0.0, seconds / 2.0), piece("b", seconds / 2.0, seconds)], 1)
    }

    #[test]
    fn what_was_recorded_comes_when_it_came_by_the_factor() {
        let schedule = replay(2.0, "time,method,path\n100.0,GET,/a\n101.5,POST,/b\n101.5,GET,/a\n109,GET,/c\n", 4.0);
        let got: Vec<(f64, usize, &str)> = schedule
            .arrivals()
            .map(|a| (a.due.seconds(), a.phase, schedule.requests()[a.request as usize].path.as_str()))
            .collect();
        // The last would be due at 4.5 s, after the run.
        assert_eq!(got, [(0.0, 0, "/a"), (0.75, 0, "/b"), (0.75, 0, "/a")]);
        assert_eq!(schedule.requests().len(), 3);
        assert_eq!((schedule.count(), schedule.peak_rate()), (3, 3.0));
        assert_eq!(schedule.spread_in(Offset::from_secs_f64(0.5), Offset::from_secs_f64(1.0)), (2, 2));
        assert_eq!(schedule.rate_at(Offset::from_secs_f64(1.0)), 2.0);
    }

    #[test]
    fn a_plan_without_its_recording_is_the_same_plan_and_sends_nothing() {
        let spec = Spec { file: "traffic.csv".into(), warp: 1.0, recorded: Attached::default() };
        let read = spec.with("0\n1\n", Replayed::All).expect("a recording");
        assert_eq!(Arrivals::Replay(spec.clone()), read);
        assert!(!spec.is_read() && read.replays().is_some_and(Spec::is_read));
        let profile = Arc::new(Profile::new(&[]));
        assert_eq!(spec.walk(&profile, 0).count(), 0);
    }

    proptest! {
        #[test]
        fn a_replay_is_in_order_whole_and_split_into_what_it_is(
            times in proptest::collection::vec(0..20_000u32, 1..60), warp in 0.1..8.0f64, of in 1..4u64, from in 0.0..10.0f64, length in 0.0..10.0f64
        ) {
            let lines: String = times.iter().map(|ms| format!("{}.{:03}\n", ms / 1_000, ms % 1_000)).collect();
            let schedule = replay(warp, &lines, 10.0);
            let all: Vec<_> = schedule.arrivals().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].due <= pair[1].due && pair[0].n + 1 == pair[1].n));
            let least = f64::from(*times.iter().min().expect("one at least"));
            let known = times.iter().filter(|ms| ((f64::from(**ms) - least) * 1e6 / warp).round() < 1e10).count();
            prop_assert_eq!(all.len(), known);
            prop_assert_eq!(schedule.count(), known as u64);
            let (from, to) = (Offset::from_secs_f64(from), Offset::from_secs_f64(from + length));
            let within = all.iter().filter(|a| from <= a.due && a.due < to).count() as u64;
            prop_assert_eq!(schedule.count_in(from, to), within);
            prop_assert_eq!(schedule.expected_in(from, to), within as f64);
            let mut union: Vec<_> = (0..of).flat_map(|index| schedule.shard(index, of).arrivals().collect::<Vec<_>>()).collect();
            union.sort_by_key(|arrival| arrival.n);
            prop_assert_eq!(union, all);
        }
    }
}
