//! A rate over time in linear pieces, its integral (how many requests are expected before a moment, its "mass") and the inverse
//! of that in closed form. What happens between pieces is nothing: the rate there is zero.

use super::RatePiece;
use crate::names::Name;
use crate::time::Offset;

/// How near to a whole number a mass is taken for it: `0.3 s x 10/s` is 3, and 3.0000000000000004 would invent a request.
const WHOLE: f64 = 1e-6;

/// The rate of one load.
#[derive(Debug)]
pub(super) struct Profile {
    pieces: Vec<Piece>,
    phases: Vec<Name>,
}

#[derive(Debug)]
struct Piece {
    start: i64,
    end: i64,
    /// Requests per second at the start and at the end.
    from: f64,
    to: f64,
    /// Mass before the start and before the end.
    before: f64,
    after: f64,
    phase: usize,
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

    /// The moment at which `mass` requests were expected, and its phase: the first instant after which there are more, so that
    /// what falls on a boundary belongs to the next piece that has a rate. `None` at and beyond the total. `piece` is where to
    /// start looking; masses that never decrease walk the pieces once.
    pub(super) fn due(&self, mass: f64, piece: &mut usize) -> Option<(Offset, usize)> {
        while mass >= self.pieces.get(*piece)?.after {
            *piece += 1;
        }
        let piece = &self.pieces[*piece];
        Some((Offset::from_nanos(piece.due(mass)), piece.phase))
    }

    /// How many requests are expected before `t`.
    pub(super) fn mass_before(&self, t: Offset) -> f64 {
        let next = self.pieces.partition_point(|piece| piece.start < t.nanos());
        next.checked_sub(1).map_or(0.0, |i| self.pieces[i].mass_before(t.nanos()))
    }

    /// How many whole numbers lie below the total, zero included: what a constant load sends.
    pub(super) fn whole_count(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.after.ceil() as u64)
    }

    pub(super) fn rate_at(&self, t: Offset) -> f64 {
        self.pieces.iter().find(|piece| piece.start <= t.nanos() && t.nanos() < piece.end).map_or(0.0, |piece| {
            piece.from + (piece.to - piece.from) * seconds(t.nanos() - piece.start) / seconds(piece.end - piece.start)
        })
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
    /// Solves `from t + (to - from) t^2 / 2T = y` for t, in the form that neither cancels nor divides by a slope of zero:
    /// `t = 2y / (from + sqrt(from^2 + 2 (to - from) y / T))`.
    fn due(&self, mass: f64) -> i64 {
        let y = (mass - self.before).max(0.0);
        let slope = (self.to - self.from) / seconds(self.end - self.start);
        let root = (self.from * self.from + 2.0 * slope * y).max(0.0).sqrt();
        let t = if y == 0.0 { 0.0 } else { 2.0 * y / (self.from + root) };
        // Rounding must not push the last one out of its piece.
        (self.start + (t * 1e9).round() as i64).clamp(self.start, self.end - 1)
    }

    fn mass_before(&self, t: i64) -> f64 {
        if t >= self.end {
            return self.after;
        }
        let (t, length) = (seconds(t - self.start), seconds(self.end - self.start));
        self.before + self.from * t + (self.to - self.from) * t * t / (2.0 * length)
    }
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

fn snap(mass: f64) -> f64 {
    let whole = mass.round();
    if (mass - whole).abs() < WHOLE { whole } else { mass }
}
