//! A wave: the phase's rate times `1 + depth sin(2 pi t / period)`, with t from the run's start, so that it runs through from phase
//! to phase; over whole periods the mean is the phase's rate. Its integral is in closed form, and the inverse of that is found by
//! Newton's method, kept between bounds by bisection, to the nanosecond.

use std::f64::consts::TAU;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::{Course, Piece, Profile, seconds, snap};
use super::{Process, Walk, constant, poisson};
use crate::time::Offset;
use crate::units::{Ratio, Span};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// From crest to crest.
    period: Span,
    /// How far it swings: with 50% the rate goes from half of the phase's to one and a half times it.
    depth: Ratio,
    /// How requests are spaced at the rate of the moment.
    #[serde(default)]
    spacing: Spacing,
}

/// How requests are spaced at the rate of the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Spacing {
    /// Independent of one another.
    #[default]
    Poisson,
    /// Evenly.
    Constant,
}

const PERIOD_LEAST: Span = Span::from_millis(10);

impl Process for Spec {
    fn contradiction(&self) -> Option<String> {
        if self.period < PERIOD_LEAST {
            Some(format!("a wave cannot have a period of {}: at least {PERIOD_LEAST}", self.period))
        } else if self.depth.fraction() == 0.0 {
            Some("a wave of depth 0% is flat: give it a depth, or write `arrivals: poisson`".to_owned())
        } else {
            None
        }
    }

    fn at_rate(&self, rate: f64) -> Option<String> {
        let swing = rate * self.depth.fraction();
        (rate > 0.0).then(|| format!("between {:.3}/s and {:.3}/s", rate - swing, rate + swing))
    }

    fn is_drawn(&self) -> bool {
        self.spacing == Spacing::Poisson
    }

    fn walk(&self, profile: &Arc<Profile>, seed: u64) -> Walk {
        let swing = Arc::new(Swing::new(Arc::clone(profile), self));
        match self.spacing {
            Spacing::Poisson => poisson::walk(swing, seed),
            Spacing::Constant => constant::walk(swing, 1),
        }
    }

    fn due_before(&self, profile: &Profile, t: Offset) -> Option<u64> {
        match self.spacing {
            Spacing::Poisson => None,
            Spacing::Constant => Some(constant::due_before(&Swing::new(profile, self), 1, t)),
        }
    }

    fn expected_before(&self, profile: &Profile, t: Offset) -> f64 {
        Swing::new(profile, self).before(t)
    }

    fn rate_at(&self, profile: &Profile, t: Offset) -> f64 {
        let angle = TAU * t.nanos().rem_euclid(self.nanos()) as f64 / self.nanos() as f64;
        profile.rate_at(t) * (1.0 + self.depth.fraction() * angle.sin())
    }

    fn peak_rate(&self, profile: &Profile) -> f64 {
        Swing::new(profile, self).peak()
    }

    fn most_within(&self, rate: f64, seconds: f64) -> f64 {
        // Around a crest: the integral of the sine from -x/2 to x/2 about it.
        let half = TAU * (seconds / self.period.seconds()).min(1.0) / 2.0;
        rate * (seconds + self.depth.fraction() * half.sin() * self.period.seconds() / (TAU / 2.0))
    }
}

impl Spec {
    fn nanos(&self) -> i64 {
        (self.period.duration().as_nanos() as i64).max(1)
    }
}

/// A profile that swings. Owned by a walk, borrowed for a look.
struct Swing<P> {
    profile: P,
    depth: f64,
    period: i64,
    /// The mass before each piece, and of all.
    masses: Vec<f64>,
}

impl<P: std::ops::Deref<Target = Profile>> Swing<P> {
    fn new(profile: P, spec: &Spec) -> Swing<P> {
        let mut swing = Swing { profile, depth: spec.depth.fraction(), period: spec.nanos(), masses: vec![0.0] };
        for piece in swing.profile.pieces() {
            let before = swing.masses.last().expect("it begins with one");
            let after = snap(before + swing.mass(piece, piece.length()));
            swing.masses.push(after.max(*before));
        }
        swing
    }

    /// Radians per second.
    fn speed(&self) -> f64 {
        TAU / seconds(self.period)
    }

    /// Where in the wave a piece begins, in radians.
    fn angle(&self, piece: &Piece) -> f64 {
        TAU * piece.start.rem_euclid(self.period) as f64 / self.period as f64
    }

    /// The mass of the first `t` seconds of a piece: the integral of `(a + b s)(1 + d sin(w s + p))` from 0 to t, which is
    /// `a t + b t^2 / 2 + d (a (cos p - cos q) / w + b (sin q - sin p) / w^2 - b t cos q / w)` with `q = w t + p`. The differences
    /// are written as products, which lose no digits when the wave is slow.
    fn mass(&self, piece: &Piece, t: f64) -> f64 {
        let (w, p) = (self.speed(), self.angle(piece));
        let (a, b) = (piece.from, if t > 0.0 { (piece.to - piece.from) / piece.length() } else { 0.0 });
        let (middle, half, q) = (p + w * t / 2.0, w * t / 2.0, p + w * t);
        let cosines = 2.0 * middle.sin() * half.sin();
        let sines = 2.0 * middle.cos() * half.sin();
        a * t + b * t * t / 2.0 + self.depth * (a * cosines / w + b * (sines / w - t * q.cos()) / w)
    }

    fn rate(&self, piece: &Piece, t: f64) -> f64 {
        piece.rate_after(t) * (1.0 + self.depth * (self.angle(piece) + self.speed() * t).sin())
    }

    /// When, in seconds from the piece's start, `mass` of it have been expected.
    fn inverse(&self, piece: &Piece, mass: f64) -> f64 {
        // Without the wave it would be here, and where the rate is steady the wave shifts it by less than a period.
        let (middle, period) = (piece.seconds_to(mass).min(piece.length()), seconds(self.period));
        let (mut low, mut high) = (0.0, piece.length());
        if piece.from == piece.to {
            (low, high) = (f64::max(low, middle - period), f64::min(high, middle + period));
        }
        let mut t = middle;
        // Each round halves the bounds at least, and sixty halves of a month are less than a nanosecond.
        for _ in 0..120 {
            let wrong = self.mass(piece, t) - mass;
            if wrong > 0.0 {
                high = t
            } else {
                low = t
            }
            if high - low < 2e-10 {
                break;
            }
            let step = t - wrong / self.rate(piece, t);
            // Newton's step where it stays inside, else the middle; a rate of nothing makes it infinite.
            let next = if low < step && step < high { step } else { (low + high) / 2.0 };
            if (next - t).abs() < 1e-10 {
                return next;
            }
            t = next;
        }
        t
    }

    /// The highest rate. Where the rate rises over a piece, each moment of the wave is highest in the last period; where it falls, in
    /// the first. A thousand looks at a period miss the crest by less than a part in 100,000.
    fn peak(&self) -> f64 {
        const LOOKS: usize = 1_000;
        let period = seconds(self.period);
        let of_piece = |piece: &Piece| {
            let (length, span) = (piece.length(), piece.length().min(period));
            let begin = if piece.to > piece.from { length - span } else { 0.0 };
            // The crest itself, where it lies inside.
            let turned = (self.angle(piece) + self.speed() * begin).rem_euclid(TAU);
            let crest = begin + (TAU / 4.0 - turned).rem_euclid(TAU) / self.speed();
            let looks = (0..=LOOKS).map(|n| begin + span * n as f64 / LOOKS as f64);
            looks.chain((crest <= length).then_some(crest)).map(|t| self.rate(piece, t)).fold(0.0, f64::max)
        };
        self.profile.pieces().iter().filter(|piece| piece.end > piece.start).map(of_piece).fold(0.0, f64::max)
    }
}

impl<P: std::ops::Deref<Target = Profile> + Send + Sync> Course for Swing<P> {
    fn before(&self, t: Offset) -> f64 {
        let pieces = self.profile.pieces();
        let next = pieces.partition_point(|piece| piece.start < t.nanos());
        let Some(index) = next.checked_sub(1) else { return 0.0 };
        let piece = &pieces[index];
        if t.nanos() >= piece.end {
            return self.masses[next];
        }
        self.masses[index] + self.mass(piece, seconds(t.nanos() - piece.start))
    }

    fn total(&self) -> f64 {
        self.masses.last().copied().unwrap_or(0.0)
    }

    fn at(&self, mass: f64, piece: &mut usize) -> Option<(Offset, usize)> {
        while mass >= *self.masses.get(*piece + 1)? {
            *piece += 1;
        }
        let (before, piece) = (self.masses[*piece], &self.profile.pieces()[*piece]);
        let t = if mass <= before { 0.0 } else { self.inverse(piece, mass - before) };
        let due = (piece.start + (t * 1e9).round() as i64).clamp(piece.start, piece.end - 1);
        Some((Offset::from_nanos(due), piece.phase))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::RatePiece;

    fn swing(period: f64, depth: f64, piece: (f64, f64, f64, f64)) -> Swing<Arc<Profile>> {
        let (start, end, from, to) = piece;
        let phase = "p".parse().expect("a name");
        let piece = RatePiece { phase, start: Offset::from_secs_f64(start), end: Offset::from_secs_f64(end), from, to };
        let spec = Spec {
            period: std::time::Duration::from_secs_f64(period).into(),
            depth: Ratio::from_fraction(depth).expect("a share"),
            spacing: Spacing::Constant,
        };
        Swing::new(Arc::new(Profile::new(&[piece])), &spec)
    }

    proptest! {
        /// Simpson's rule is an independent way to the integral: with 200 steps to the period it is exact to 1e-8 of it.
        #[test]
        fn the_mass_is_the_integral_of_the_rate(
            period in 0.5..100.0f64, depth in 0.01..=1.0f64, start in 0.0..50.0f64, length in 0.1..60.0f64, from in 0.0..100.0f64, to in 0.0..100.0f64
        ) {
            let swing = swing(period, depth, (start, start + length, from, to));
            let piece = &swing.profile.pieces()[0];
            let (length, steps) = (piece.length(), 2 * (100.0 * (length / period).ceil()) as usize);
            let width = length / steps as f64;
            let sum: f64 = (0..=steps)
                .map(|n| {
                    let weight = match n { 0 => 1.0, n if n == steps => 1.0, n if n % 2 == 1 => 4.0, _ => 2.0 };
                    weight * swing.rate(piece, width * n as f64)
                })
                .sum();
            let integral = sum * width / 3.0;
            prop_assert!((swing.total() - integral).abs() <= 1e-5 * (1.0 + integral), "{} is not {integral}", swing.total());
        }

        /// A nanosecond before the moment less has been expected, a nanosecond after it more: the inverse is right to the nanosecond,
        /// but for what the rounding of the mass itself makes of it where the rate is nothing.
        #[test]
        fn the_inverse_is_right_to_the_nanosecond(
            period in 0.01..100.0f64, depth in 0.01..=1.0f64, start in 0.0..50.0f64, length in 0.1..60.0f64, from in 0.0..100.0f64, to in 0.0..100.0f64, share in 0.0..1.0f64
        ) {
            let swing = swing(period, depth, (start, start + length, from, to));
            let mass = swing.total() * share;
            let Some((due, _)) = swing.at(mass, &mut 0) else { return Ok(()) };
            let nano = std::time::Duration::from_nanos(1);
            let rounding = 1e-12 * (1.0 + swing.total()) * (1.0 + period);
            prop_assert!(swing.before(due - nano) <= mass + rounding, "late: {due}");
            prop_assert!(swing.before(due + nano) >= mass - rounding, "early: {due}");
        }
    }

    #[test]
    fn the_crest_is_where_the_sine_is() {
        // 100/s, half as much again at a quarter of the period.
        let swing = swing(60.0, 0.5, (0.0, 60.0, 100.0, 100.0));
        let piece = &swing.profile.pieces()[0];
        assert!((swing.rate(piece, 15.0) - 150.0).abs() < 1e-9 && (swing.rate(piece, 45.0) - 50.0).abs() < 1e-9);
        assert!((swing.peak() - 150.0).abs() < 1e-9, "{}", swing.peak());
        assert!((swing.total() - 6_000.0).abs() < 1e-9, "a whole period holds the mean");
    }

    #[test]
    fn the_peak_of_a_ramp_is_on_its_high_side() {
        for (from, to) in [(0.0, 100.0), (100.0, 0.0)] {
            let swing = swing(7.0, 0.8, (3.0, 41.0, from, to));
            let piece = &swing.profile.pieces()[0];
            let looked = (0..=380_000).map(|n| swing.rate(piece, f64::from(n) / 10_000.0)).fold(0.0, f64::max);
            assert!((swing.peak() - looked).abs() < 1e-4 * looked, "{} is not {looked}", swing.peak());
        }
    }
}
