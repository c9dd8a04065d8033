//! How long a request keeps its worker: a distribution, drawn from with the pod's own seeded generator.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, Exp, LogNormal};

use crate::units::Span;

/// No draw is longer: a lognormal has no upper end, and a drain must come to one.
const LONGEST: Duration = Duration::from_secs(60);

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Always the same.
    Fixed(Span),
    /// Memoryless, with this mean.
    Exponential { mean: Span },
    /// `median * e^(sigma * z)` for a standard normal z: a long tail to the right.
    Lognormal { median: Span, sigma: f64 },
}

impl ServiceTime {
    /// One service time.
    pub fn draw(&self, random: &mut impl Rng) -> Duration {
        let seconds = match *self {
            ServiceTime::Fixed(span) => return span.duration(),
            ServiceTime::Exponential { mean } if mean.seconds() > 0.0 => match Exp::new(1.0 / mean.seconds()) {
                Ok(exponential) => exponential.sample(random),
                Err(_) => 0.0,
            },
            ServiceTime::Exponential { .. } => 0.0,
            ServiceTime::Lognormal { median, sigma } => match LogNormal::new(0.0, sigma) {
                Ok(lognormal) => median.seconds() * lognormal.sample(random),
                Err(_) => median.seconds(),
            },
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
    }
}

impl FromStr for ServiceTime {
    type Err = String;
    fn from_str(text: &str) -> Result<ServiceTime, String> {
        match text.split_once(':') {
            None => text.parse().map(ServiceTime::Fixed),
            Some(("fixed", span)) => span.parse().map(ServiceTime::Fixed),
            Some(("exp", mean)) => mean.parse().map(|mean| ServiceTime::Exponential { mean }),
            Some(("lognormal", both)) => {
                let (median, sigma) =
                    both.split_once(',').ok_or_else(|| format!("`{text}` lacks its sigma: write lognormal:20ms,0.5"))?;
                let median = median.trim().parse()?;
                match sigma.trim().parse::<f64>() {
                    Ok(sigma) if (0.0..=5.0).contains(&sigma) => Ok(ServiceTime::Lognormal { median, sigma }),
                    _ => Err(format!("`{sigma}` is not a sigma: write a number from 0 to 5, as in lognormal:20ms,0.5")),
                }
            }
            Some((other, _)) => Err(format!("`{other}` is not a distribution: use 20ms, exp:20ms or lognormal:20ms,0.5")),
        }
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceTime::Fixed(span) => write!(f, "{span}"),
            ServiceTime::Exponential { mean } => write!(f, "exp:{mean}"),
            ServiceTime::Lognormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;

    /// Sorted draws, in milliseconds.
    fn draws(text: &str) -> Vec<f64> {
        let distribution: ServiceTime = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(distribution.to_string(), text);
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut all: Vec<f64> = (0..20_000).map(|_| distribution.draw(&mut random).as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// 20 000 draws put the mean of an exponential within 0.7 % (one standard error) of the truth, the median of a lognormal with
    /// sigma 0.5 within 0.5 %; 3 % is more than four of either.
    #[test]
    fn draws_follow_their_distribution() {
        let exponential = draws("exp:20ms");
        let mean = exponential.iter().sum::<f64>() / exponential.len() as f64;
        assert!((mean / 20.0 - 1.0).abs() < 0.03, "{mean}");
        let lognormal = draws("lognormal:20ms,0.5");
        assert!((lognormal[10_000] / 20.0 - 1.0).abs() < 0.03, "{}", lognormal[10_000]);
        // The 84.13th percentile lies one sigma up: 20 ms * e^0.5 = 32.97 ms.
        assert!((lognormal[16_826] / 32.97 - 1.0).abs() < 0.03, "{}", lognormal[16_826]);
        assert!(draws("20ms").iter().all(|ms| *ms == 20.0));
    }

    #[test]
    fn nonsense_is_refused_with_the_way_out() {
        for (text, says) in
            [("20", "no unit"), ("gamma:20ms", "not a distribution"), ("lognormal:20ms", "sigma"), ("lognormal:1s,x", "sigma")]
        {
            let error = text.parse::<ServiceTime>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
