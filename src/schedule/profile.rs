//! A rate over time in linear pieces, its integral (how many requests are expected before a moment, its "mass") and the inverse
//! of that in closed form. What happens between pieces is nothing: the rate there is zero.

use super::RatePiece;
use crate::names::Name;
use crate::time::Offset;

/// How near to a whole number a mass is taken for it: `0.3 s x 10/s` is 3, and 3.0000000000000004 would invent a request.
const WHOLE: f64 = 1e-6;

/// How a rate runs through time, as a process sees it: the mass before a moment, and the inverse of that.
pub(super) trait Course: Send + Sync {
    /// How many requests are expected before `t`.
    fn before(&self, t: Offset) -> f64;

    /// How many are expected at all.
    fn total(&self) -> f64;

    /// The moment at which `mass` requests were expected, and its phase: the first instant after which there are more, so that
    /// what falls on a boundary belongs to the next piece that has a rate. `None` at and beyond the total. `piece` is where to
    /// start looking; masses that never decrease walk the pieces once.
    fn at(&self, mass: f64, piece: &mut usize) -> Option<(Offset, usize)>;
}

/// The rate of one load.
#[derive(Debug)]
pub struct Profile {
    pieces: Vec<Piece>,
    phases: Vec<Name>,
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Nanoseconds since the run's start; the end is exclusive.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Requests per second at the start and at the end.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Mass before the start and before the end.
    pub(super) before: f64,
    pub(super) after: f64,
    /// Index into [`Profile::phases`].
    pub(super) phase: usize,
}

impl Course for Profile {
    fn before(&self, t: Offset) -> f64 {
        let next = self.pieces.partition_point(|piece| piece.start < t.nanos());
        next.checked_sub(1).map_or(0.0, |i| self.pieces[i].mass_before(t.nanos()))
    }

    fn total(&self) -> f64 {
        self.pieces.last().map_or(0.0, |piece| piece.after)
    }

    fn at(&self, mass: f64, piece: &mut usize) -> Option<(Offset, usize)> {
        while mass >= self.pieces.get(*piece)?.after {
            *piece += 1;
        }
        let piece = &self.pieces[*piece];
        Some((Offset::from_nanos(piece.due(mass)), piece.phase))
    }
}

impl Profile {
    pub(super) fn new(pieces: &[RatePiece]) -> Profile {
        let mut phases: Vec<Name> = Vec::new();
        let mut mass = 0.0;
        let mut last_end = i64::MIN;
        let pieces = pieces
            .iter()
            .map(|piece| {
                let (start, end) = (piece.start.nanos(), piece.end.nanos());
                assert!(last_end <= start && start <= end, "rate pieces in order: {} to {}", piece.start, piece.end);
                assert!([piece.from, piece.to].iter().all(|r| r.is_finite() && *r >= 0.0), "rates are finite and not negative");
                last_end = end;
                let phase = phases.iter().position(|known| *known == piece.phase).unwrap_or_else(|| {
                    phases.push(piece.phase.clone());
                    phases.len() - 1
                });
                let before = mass;
                mass = snap(before + (piece.from + piece.to) / 2.0 * seconds(end - start));
                Piece { start, end, from: piece.from, to: piece.to, before, after: mass, phase }
            })
            .collect();
        Profile { pieces, phases }
    }

    /// The same course at a share of the rate.
    pub(super) fn scaled(&self, share: f64) -> Profile {
        let mut mass = 0.0;
        let pieces = self
            .pieces
            .iter()
            .map(|piece| {
                let (from, to, before) = (piece.from * share, piece.to * share, mass);
                mass = snap(before + (from + to) / 2.0 * seconds(piece.end - piece.start));
                Piece { from, to, before, after: mass, ..piece.clone() }
            })
            .collect();
        Profile { pieces, phases: self.phases.clone() }
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The phase that `t` lies in, where it is one of these.
    pub(super) fn phase_at(&self, t: Offset) -> Option<usize> {
        let next = self.pieces.partition_point(|piece| piece.start <= t.nanos());
        let piece = &self.pieces[next.checked_sub(1)?];
        (t.nanos() < piece.end).then_some(piece.phase)
    }

    pub(super) fn rate_at(&self, t: Offset) -> f64 {
        self.pieces
            .iter()
            .find(|piece| piece.start <= t.nanos() && t.nanos() < piece.end)
            .map_or(0.0, |piece| piece.rate_after(seconds(t.nanos() - piece.start)))
    }

    pub(super) fn peak_rate(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.from.max(piece.to)).fold(0.0, f64::max)
    }

    pub(super) fn phases(&self) -> &[Name] {
        &self.phases
    }

    pub(super) fn end(&self) -> Offset {
        self.pieces.last().map_or(Offset::ZERO, |piece| Offset::from_nanos(piece.end))
    }
}

impl Piece {
    /// Requests per second over the whole piece.
    pub(super) fn mean_rate(&self) -> f64 {
        (self.from + self.to) / 2.0
    }

    /// Seconds from start to end.
    pub(super) fn length(&self) -> f64 {
        seconds(self.end - self.start)
    }

    /// Requests per second, so many seconds after the start.
    pub(super) fn rate_after(&self, t: f64) -> f64 {
        if self.from == self.to { self.from } else { self.from + (self.to - self.from) * t / self.length() }
    }

    fn due(&self, mass: f64) -> i64 {
        // Rounding must not push the last one out of its piece.
        (self.start + (self.seconds_to(mass - self.before) * 1e9).round() as i64).clamp(self.start, self.end - 1)
    }

    /// After how many seconds `y` requests of the piece are expected. Solves `from t + (to - from) t^2 / 2T = y` for t, in the form
    /// that neither cancels nor divides by a slope of zero: `t = 2y / (from + sqrt(from^2 + 2 (to - from) y / T))`.
    pub(super) fn seconds_to(&self, y: f64) -> f64 {
        let y = y.max(0.0);
        let slope = (self.to - self.from) / self.length();
        let root = (self.from * self.from + 2.0 * slope * y).max(0.0).sqrt();
        if y == 0.0 { 0.0 } else { 2.0 * y / (self.from + root) }
    }

    fn mass_before(&self, t: i64) -> f64 {
        if t >= self.end {
            return self.after;
        }
        let (t, length) = (seconds(t - self.start), seconds(self.end - self.start));
        self.before + self.from * t + (self.to - self.from) * t * t / (2.0 * length)
    }
}

pub(super) fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

pub(super) fn snap(mass: f64) -> f64 {
    let whole = mass.round();
    if (mass - whole).abs() < WHOLE { whole } else { mass }
}
