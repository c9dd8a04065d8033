//! Bursty arrivals: periods of silence and periods of Poisson arrivals take turns, so that the mean is the phase's rate. With heavy
//! tails (Pareto) many of them add up to the self-similar traffic of real networks (Willinger, Taqqu, Sherman and Wilson, 1997).
//!
//! How bursty it is, is the index of dispersion of counts over long windows, `I = lim Var N(t) / E N(t)`; 1 is Poisson. With mean
//! periods a (on) and b (off), both of squared coefficient of variation v, the time on has the variance `2 v a^2 b^2 t / (a + b)^3`
//! (alternating renewal process: Cox, Renewal Theory, 1962, ch. 7), and arrivals at `h = rate (a + b) / a` while it is on make
//!
//! ```text
//! I = 1 + h Var(on) / E(on) = 1 + 2 v rate b^2 / (a + b)
//! ```
//!
//! which for exponential periods (v = 1) is the limit of the interrupted Poisson process in Heffes and Lucantoni, 1986. Any two of
//! `on`, `off` and `dispersion` give the third, at the rate of the phase.

use std::sync::Arc;

use rand_pcg::Pcg64Mcg;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::periods::{Law, Pareto};
use super::poisson::Gaps;
use super::profile::{Course, Profile};
use super::{Due, Process, Walk, poisson, random};
use crate::time::Offset;
use crate::units::Span;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// How long a burst lasts in the mean. Left out beside `off` and `dispersion`, it follows from them at each phase's rate; beside
    /// `dispersion` alone it is 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<Span>,
    /// How long the silence between two bursts lasts in the mean. Left out beside `dispersion`, it follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    off: Option<Span>,
    /// The index of dispersion of counts over long windows, above 1, which is Poisson. Given with one of `on` and `off`, the other
    /// follows; given with neither, bursts last 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispersion: Option<f64>,
    /// How the lengths of bursts and silences are drawn.
    #[serde(default)]
    periods: Periods,
    /// The tail of Pareto periods, 1.5 unless said otherwise: the smaller, the heavier.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<f64>,
}

/// How the lengths of bursts and silences are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Periods {
    /// Without memory.
    #[default]
    Exponential,
    /// With a heavy tail, cut at a hundred times the shortest.
    Pareto,
}

/// The shape of Pareto periods where the plan does not say: between the 1.2 and 1.7 that were measured on networks.
const SHAPE: f64 = 1.5;
/// The length of a burst where the plan asks for a dispersion and for nothing else, in seconds.
const ON: f64 = 1.0;
/// The shortest mean period, in seconds: below it there are no bursts, only single requests.
const LEAST: f64 = 1e-3;
/// The longest mean period.
const MOST: Span = Span::from_secs(24 * 3600);

/// What holds at one rate: mean periods in seconds, and the index of dispersion.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Timing {
    on: f64,
    off: f64,
    dispersion: f64,
}

impl Timing {
    /// How many times the mean rate the rate in a burst is.
    fn factor(&self) -> f64 {
        (self.on + self.off) / self.on
    }

    /// The share of the time that is in a burst.
    fn share(&self) -> f64 {
        1.0 / self.factor()
    }
}

impl Spec {
    fn law(&self) -> Law {
        match self.periods {
            Periods::Exponential => Law::Exponential,
            Periods::Pareto => Law::Pareto(Pareto::of(self.shape.unwrap_or(SHAPE))),
        }
    }

    /// What follows at a mean rate above zero, per second; or why nothing does.
    fn timing(&self, rate: f64) -> Result<Timing, String> {
        let v = self.law().variation();
        let dispersion = |on: f64, off: f64| 1.0 + 2.0 * v * rate * off * off / (on + off);
        match (self.on.map(Span::seconds), self.off.map(Span::seconds), self.dispersion) {
            (Some(on), Some(off), _) => Ok(Timing { on, off, dispersion: dispersion(on, off) }),
            (None, Some(off), Some(wanted)) => {
                // a = b (c b - 1) with c = 2 v rate / (I - 1).
                let on = off * (2.0 * v * rate * off / (wanted - 1.0) - 1.0);
                if on < LEAST {
                    let most = dispersion(LEAST, off);
                    // The b that needs an a of the least length.
                    let longer = off_of(LEAST, rate, v, wanted);
                    return Err(format!(
                        "a dispersion of {wanted} cannot be had at {rate}/s with silences of {}: at most {most:.1}; ask for less, make `off` \
                         longer than {longer:.3}s, or leave it out and say `on`",
                        self.off.unwrap_or_default()
                    ));
                }
                Ok(Timing { on, off, dispersion: wanted })
            }
            (on, None, Some(wanted)) => {
                let on = on.unwrap_or(ON);
                let off = off_of(on, rate, v, wanted);
                if off > MOST.seconds() {
                    return Err(format!(
                        "a dispersion of {wanted} at {rate}/s would take silences of {off:.0}s: at most {MOST}; ask for less, or raise the rate"
                    ));
                }
                Ok(Timing { on, off, dispersion: wanted })
            }
            (_, _, None) => Err("`bursty` needs `on` and `off`".to_owned()),
        }
    }
}

/// Solves `c b^2 - b - a = 0` for the mean silence b, with `c = 2 v rate / (I - 1)`.
fn off_of(on: f64, rate: f64, v: f64, dispersion: f64) -> f64 {
    let c = 2.0 * v * rate / (dispersion - 1.0);
    (1.0 + (1.0 + 4.0 * on * c).sqrt()) / (2.0 * c)
}

impl Process for Spec {
    fn contradiction(&self) -> Option<String> {
        let bad = |span: &Span| span.seconds() < LEAST || *span > MOST;
        if let Some(span) = [self.on, self.off].into_iter().flatten().find(bad) {
            return Some(format!("no burst or silence can last {span}: from 1ms to {MOST}"));
        }
        if let Some(dispersion) = self.dispersion.filter(|wanted| !(*wanted > 1.0 && *wanted <= 1e6)) {
            return Some(format!(
                "a dispersion of {dispersion} is not bursty: 1 is Poisson, so ask for more than 1 and at most 1000000"
            ));
        }
        match (self.on, self.off, self.dispersion) {
            (Some(_), Some(_), Some(_)) => {
                return Some("of `on`, `off` and `dispersion` the third follows from the other two: leave one out".to_owned());
            }
            (_, _, None) if self.on.is_none() || self.off.is_none() => {
                return Some("`bursty` needs `on` and `off`, or `dispersion` and at most one of them: as in {on: 2s, off: 8s} or {dispersion: 20}".to_owned());
            }
            _ => {}
        }
        match (self.periods, self.shape) {
            (Periods::Exponential, Some(_)) => {
                Some("exponential periods have no shape: leave out `shape`, or write `periods: pareto`".to_owned())
            }
            (Periods::Pareto, Some(shape)) if !(1.01..=10.0).contains(&shape) => {
                Some(format!("no Pareto period has a shape of {shape} here: from 1.01 (heavy) to 10 (light)"))
            }
            _ => None,
        }
    }

    fn impossible_at(&self, rate: f64) -> Option<String> {
        (rate > 0.0).then(|| self.timing(rate).err()).flatten()
    }

    fn at_rate(&self, rate: f64) -> Option<String> {
        let timing = self.timing(rate).ok().filter(|_| rate > 0.0)?;
        let Timing { on, off, dispersion } = timing;
        let tail = match self.law() {
            Law::Exponential => String::new(),
            Law::Pareto(_) => format!(", Pareto of shape {}", self.shape.unwrap_or(SHAPE)),
        };
        let burst = rate * timing.factor();
        Some(format!("{burst:.3}/s for {on:.3}s, nothing for {off:.3}s in the mean{tail}; index of dispersion {dispersion:.1}"))
    }

    fn is_drawn(&self) -> bool {
        true
    }

    fn walk(&self, profile: &Arc<Profile>, seed: u64) -> Walk {
        let mut bursts = Bursts::new(Arc::clone(profile), self.clone(), seed);
        Box::new(std::iter::from_fn(move || bursts.next()))
    }

    /// From nothing, since a window can fall into a silence, to what comes if the whole of it is one burst.
    fn spread(&self, profile: &Profile, from: Offset, to: Offset) -> (u64, u64) {
        let burst: f64 = profile
            .pieces()
            .iter()
            .map(|piece| {
                let (start, end) = (from.nanos().max(piece.start), to.nanos().min(piece.end));
                let mass = if start < end {
                    profile.before(Offset::from_nanos(end)) - profile.before(Offset::from_nanos(start))
                } else {
                    0.0
                };
                mass * self.timing(piece.mean_rate()).map_or(1.0, |timing| timing.factor())
            })
            .sum();
        (0, poisson::spread(burst.max(0.0)).1)
    }

    /// In a burst.
    fn peak_rate(&self, profile: &Profile) -> f64 {
        let peak = |piece: &super::profile::Piece| {
            piece.from.max(piece.to) * self.timing(piece.mean_rate()).map_or(1.0, |timing| timing.factor())
        };
        profile.pieces().iter().map(peak).fold(0.0, f64::max)
    }

    fn most_within(&self, rate: f64, seconds: f64) -> f64 {
        if rate > 0.0 { rate * seconds * self.timing(rate).map_or(1.0, |timing| timing.factor()) } else { 0.0 }
    }
}

/// One course of bursts and silences, and the requests in them. Every piece begins in the middle of a burst or a silence as chance
/// has it, so that the mean is the profile's rate from the first moment on.
struct Bursts {
    profile: Arc<Profile>,
    spec: Spec,
    law: Law,
    periods: Pcg64Mcg,
    gaps: Gaps,
    /// The piece that the next period is drawn in, and how many seconds of it have been drawn.
    piece: usize,
    drawn: f64,
    timing: Timing,
    /// The burst that is going on, in the profile's mass: where the next request is looked for, and its end.
    mass: f64,
    end: f64,
    /// Where the profile looks first.
    hint: usize,
}

impl Bursts {
    fn new(profile: Arc<Profile>, spec: Spec, seed: u64) -> Bursts {
        let (law, nothing) = (spec.law(), Timing { on: 1.0, off: 0.0, dispersion: 1.0 });
        let periods = random::generator(random::seed_of_part(seed, 0));
        let gaps = Gaps::new(random::seed_of_part(seed, 1));
        Bursts { profile, spec, law, periods, gaps, piece: 0, drawn: 0.0, timing: nothing, mass: 0.0, end: 0.0, hint: 0 }
    }

    fn next(&mut self) -> Option<Due> {
        // Exponential gaps have no memory: what the end of a burst cuts off goes on in the next one.
        let mut gap = self.gaps.draw();
        loop {
            let left = (self.end - self.mass) * self.timing.factor();
            if gap < left {
                self.mass += gap / self.timing.factor();
                return self.profile.at(self.mass, &mut self.hint).map(Due::at);
            }
            gap -= left;
            (self.mass, self.end) = self.burst()?;
        }
    }

    /// The next burst, as masses of the profile; `None` after the last.
    fn burst(&mut self) -> Option<(f64, f64)> {
        loop {
            let piece = self.profile.pieces().get(self.piece)?;
            if piece.after <= piece.before || self.drawn >= piece.length() {
                (self.piece, self.drawn) = (self.piece + 1, 0.0);
                continue;
            }
            let (length, start) = (piece.length(), piece.start);
            let begin = if self.drawn == 0.0 {
                // A checked plan has none that is impossible.
                self.timing = self.spec.timing(piece.mean_rate()).unwrap_or(Timing { on: 1.0, off: 0.0, dispersion: 1.0 });
                let on = random::uniform(&mut self.periods) <= self.timing.share();
                if !on {
                    self.drawn += self.law.rest(&mut self.periods, self.timing.off);
                }
                let mean = self.timing.on;
                let burst = if on { self.law.rest(&mut self.periods, mean) } else { self.law.draw(&mut self.periods, mean) };
                let begin = self.drawn;
                self.drawn += burst;
                begin
            } else {
                let begin = self.drawn + self.law.draw(&mut self.periods, self.timing.off);
                self.drawn = begin + self.law.draw(&mut self.periods, self.timing.on);
                begin
            };
            if begin >= length {
                continue;
            }
            let at = |t: f64| self.profile.before(Offset::from_nanos(start + (t.min(length) * 1e9).round() as i64));
            return Some((at(begin), at(self.drawn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(on: Option<u64>, off: Option<u64>, dispersion: Option<f64>, periods: Periods) -> Spec {
        Spec { on: on.map(Span::from_millis), off: off.map(Span::from_millis), dispersion, periods, shape: None }
    }

    #[test]
    fn any_two_of_on_off_and_dispersion_give_the_third() {
        for periods in [Periods::Exponential, Periods::Pareto] {
            let whole = spec(Some(2_000), Some(8_000), None, periods).timing(50.0).expect("it is possible");
            let wanted = Some(whole.dispersion);
            for part in [spec(Some(2_000), None, wanted, periods), spec(None, Some(8_000), wanted, periods)] {
                let timing = part.timing(50.0).expect("it is possible");
                assert!((timing.on - 2.0).abs() < 1e-9 && (timing.off - 8.0).abs() < 1e-9, "{timing:?}");
            }
        }
    }

    /// Heffes and Lucantoni (1986) for two states of which one is silent: `1 + 2 (l1 - l2)^2 r1 r2 / ((r1 + r2)^2 (l1 r2 + l2 r1))`.
    #[test]
    fn the_dispersion_of_exponential_periods_is_that_of_the_interrupted_poisson_process() {
        let (on, off, rate) = (0.5, 2.0, 40.0);
        let (l1, r1, r2) = (rate * (on + off) / on, 1.0 / on, 1.0 / off);
        let known = 1.0 + 2.0 * l1 * l1 * r1 * r2 / ((r1 + r2) * (r1 + r2) * l1 * r2);
        let timing = spec(Some(500), Some(2_000), None, Periods::Exponential).timing(rate).expect("it is possible");
        assert!((timing.dispersion - known).abs() < 1e-9, "{} is not {known}", timing.dispersion);
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_way_out() {
        let short = spec(None, Some(100), Some(20.0), Periods::Exponential);
        let why = short.impossible_at(50.0).expect("11 is the most");
        assert!(why.contains("at most 10.9") && why.contains("leave it out and say `on`"), "{why}");
        // The way out that is proposed is one.
        let longer = spec(None, Some(192), Some(20.0), Periods::Exponential);
        assert!(why.contains("longer than 0.191s"), "{why}");
        assert_eq!(longer.impossible_at(50.0), None);
        assert!(spec(None, None, Some(20.0), Periods::Exponential).impossible_at(1e-6).expect("days").contains("raise the rate"));
        for (bad, says) in [
            (spec(Some(1), Some(1), Some(2.0), Periods::Exponential), "leave one out"),
            (spec(Some(1), None, None, Periods::Exponential), "needs `on` and `off`"),
            (spec(Some(1_000), None, Some(1.0), Periods::Exponential), "1 is Poisson"),
            (spec(Some(1_000), None, Some(f64::NAN), Periods::Exponential), "1 is Poisson"),
            (spec(Some(0), Some(1), None, Periods::Exponential), "from 1ms"),
            (Spec { shape: Some(1.5), ..spec(Some(1), Some(1), None, Periods::Exponential) }, "periods: pareto"),
            (Spec { shape: Some(1.0), ..spec(Some(1), Some(1), None, Periods::Pareto) }, "from 1.01"),
        ] {
            let why = bad.contradiction().expect(says);
            assert!(why.contains(says), "{why}");
        }
    }
}
