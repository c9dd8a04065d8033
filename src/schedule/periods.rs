//! How the lengths of bursts and silences are drawn, and how long is left of one that is met at a moment chosen by chance.

use rand_pcg::Pcg64Mcg;

use super::random::uniform;

/// A distribution of lengths, which a mean scales.
#[derive(Clone, Copy, Debug)]
pub(super) enum Law {
    Exponential,
    Pareto(Pareto),
}

/// A Pareto distribution between 1 and [`REACH`]: bounded, so that it has a mean and a variance whatever its shape (Crovella, Harchol-Balter
/// and Murta, 1998).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pareto {
    shape: f64,
}

/// The longest Pareto period, in shortest ones: two decades over which traffic is self-similar, and few minutes without any.
const REACH: f64 = 100.0;

impl Law {
    /// One length of this mean.
    pub(super) fn draw(self, random: &mut Pcg64Mcg, mean: f64) -> f64 {
        match self {
            Law::Exponential => -uniform(random).ln() * mean,
            Law::Pareto(pareto) => pareto.inverse(1.0 - uniform(random), pareto.shape) * mean / pareto.mean(),
        }
    }

    /// What is left of one that is met: a share, chosen evenly, of one drawn with a weight of its length (the inspection paradox:
    /// Feller, vol. II, ch. XI.4).
    pub(super) fn rest(self, random: &mut Pcg64Mcg, mean: f64) -> f64 {
        match self {
            Law::Exponential => self.draw(random, mean),
            // Weighing by length lowers the shape by one.
            Law::Pareto(pareto) => {
                let met = pareto.inverse(1.0 - uniform(random), pareto.shape - 1.0);
                uniform(random) * met * mean / pareto.mean()
            }
        }
    }

    /// The square of the coefficient of variation: variance over the square of the mean.
    pub(super) fn variation(self) -> f64 {
        match self {
            Law::Exponential => 1.0,
            Law::Pareto(pareto) => pareto.moment(2.0) / (pareto.mean() * pareto.mean()) - 1.0,
        }
    }
}

impl Pareto {
    /// `shape` is above 1.
    pub(super) fn of(shape: f64) -> Pareto {
        Pareto { shape }
    }

    /// The length below which a share `u` of those with this shape lies.
    fn inverse(self, u: f64, shape: f64) -> f64 {
        (1.0 - u * (1.0 - REACH.powf(-shape))).powf(-1.0 / shape)
    }

    fn mean(self) -> f64 {
        self.moment(1.0)
    }

    /// The mean of the k-th powers: `shape (REACH^(k - shape) - 1) / ((k - shape) (1 - REACH^-shape))`.
    fn moment(self, k: f64) -> f64 {
        let power = k - self.shape;
        let integral = if power.abs() < 1e-9 { REACH.ln() } else { (REACH.powf(power) - 1.0) / power };
        self.shape * integral / (1.0 - REACH.powf(-self.shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::random::generator;

    /// Goal: what is drawn has the moments that the index of dispersion is computed from. How: 200,000 draws from a fixed seed; the mean
    /// then has a standard error of at most 0.4%, and the square of the variation one of a few per cent.
    #[test]
    fn draws_have_the_mean_and_the_variation_that_are_claimed() {
        for law in [Law::Exponential, Law::Pareto(Pareto::of(1.5)), Law::Pareto(Pareto::of(2.0)), Law::Pareto(Pareto::of(3.5))] {
            let mut random = generator(7);
            let n = 200_000;
            let lengths: Vec<f64> = (0..n).map(|_| law.draw(&mut random, 3.0)).collect();
            let mean = lengths.iter().sum::<f64>() / f64::from(n);
            let square = lengths.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            assert!((mean / 3.0 - 1.0).abs() < 0.02, "{law:?}: mean {mean}");
            assert!(
                (square / mean / mean / law.variation() - 1.0).abs() < 0.1,
                "{law:?}: {} is not {}",
                square / mean / mean,
                law.variation()
            );
            // The mean rest of a period is half of its mean square over its mean.
            let rest = (0..n).map(|_| law.rest(&mut random, 3.0)).sum::<f64>() / f64::from(n);
            let known = 3.0 * (1.0 + law.variation()) / 2.0;
            assert!((rest / known - 1.0).abs() < 0.05, "{law:?}: {rest} is left, not {known}");
        }
    }
}
