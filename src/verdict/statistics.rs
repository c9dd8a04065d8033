//! The arithmetic behind a decision: exact binomial bounds, what clustering costs, quantile intervals, sample sizes. Formulas with
//! their sources; nothing here knows what is being counted.

use hdrhistogram::Histogram;
use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// The level of every one-sided bound.
pub const CONFIDENCE: f64 = 0.95;
/// Two-sided 95% of the normal distribution, for intervals that are shown and not decided on.
const Z_TWO_SIDED: f64 = 1.959_963_985;

/// The exact one-sided 95% bounds of a share, from `bad` of `n`: lower, upper. Clopper and Pearson, "The use of confidence or
/// fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934): the bounds are quantiles of
/// Beta(k, n-k+1) and Beta(k+1, n-k). Real-valued, since correcting for clustering divides both.
pub fn clopper_pearson(bad: f64, n: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let bad = bad.clamp(0.0, n);
    let good = n - bad;
    let low = if bad > 0.0 { beta_quantile(bad, good + 1.0, 1.0 - CONFIDENCE) } else { 0.0 };
    let high = if good > 0.0 { beta_quantile(bad + 1.0, good, CONFIDENCE) } else { 1.0 };
    (low, high)
}

/// By bisection on the distribution function, which the library computes to full precision; its own inverse stops at 1e-8 or so,
/// and a verdict may hang on less.
fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    let Ok(beta) = Beta::new(a, b) else { return f64::NAN };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if beta.cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// How much more the bad ones cluster in time than chance would have it: `max(1, X2/(S-1))` with Pearson's
/// `X2 = sum (k_s - n_s p)^2 / (n_s p (1-p))` over S seconds of `k_s` bad of `n_s` (McCullagh and Nelder, "Generalized Linear
/// Models", 1989, section 4.5). Dividing `k` and `n` by it gives the effective sample.
pub fn overdispersion(seconds: impl IntoIterator<Item = (u64, u64)> + Clone) -> f64 {
    let (mut bad, mut all, mut count) = (0.0, 0.0, 0.0);
    for (k, n) in seconds.clone() {
        if n > 0 {
            bad += k as f64;
            all += n as f64;
            count += 1.0;
        }
    }
    let p = bad / all;
    if count < 2.0 || p <= 0.0 || p >= 1.0 || p.is_nan() {
        return 1.0;
    }
    let chi: f64 = seconds
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(k, n)| {
            let n = n as f64;
            (k as f64 - n * p).powi(2) / (n * p * (1.0 - p))
        })
        .sum();
    (chi / (count - 1.0)).max(1.0)
}

/// The least sample that can pass a budget at all, with nothing bad in it: `ceil(ln 0.05 / ln(1-b))`, from `(1-b)^n <= 0.05`.
pub fn least_samples(budget: f64) -> u64 {
    if budget <= 0.0 {
        return u64::MAX;
    }
    if budget >= 1.0 {
        return 1;
    }
    ((1.0 - CONFIDENCE).ln() / (1.0 - budget).ln()).ceil() as u64
}

/// A quantile read off a histogram, with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileInterval {
    pub value: u64,
    pub low: u64,
    pub high: u64,
}

/// The quantile `q` and its two-sided 95% interval by order statistics: ranks `n q -+ z sqrt(n q (1-q) v)`, where `v` is the
/// overdispersion of values above the quantile (David and Nagaraja, "Order Statistics", 2003, section 7.1, with the variance
/// inflated for clustering). `None` for an empty histogram.
pub fn quantile(histogram: &Histogram<u64>, q: f64, v: f64) -> Option<QuantileInterval> {
    let n = histogram.len() as f64;
    if n == 0.0 {
        return None;
    }
    let half = Z_TWO_SIDED * (n * q * (1.0 - q) * v.max(1.0)).sqrt();
    let rank = |rank: f64| at_rank(histogram, rank.ceil().clamp(1.0, n) as u64);
    Some(QuantileInterval { value: rank(n * q), low: rank(n * q - half), high: rank(n * q + half + 1.0) })
}

/// The quantile `q`: the least value that a share `q` of all is not above, as every report says it; 0 for an empty histogram.
pub fn value_at(histogram: &Histogram<u64>, q: f64) -> u64 {
    at_rank(histogram, (histogram.len() as f64 * q).ceil().max(1.0) as u64)
}

/// The value of rank `rank`, counted from 1: the middle of the bucket that holds it, which is off by 0.05% at most, where its upper
/// end would be too high by up to 0.1%.
pub fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut below = 0;
    for bar in histogram.iter_recorded() {
        below += bar.count_at_value();
        if below >= rank {
            return histogram.median_equivalent(bar.value_iterated_to());
        }
    }
    histogram.max()
}

/// The mean and its one-sided 95% bounds by Student's t, for per-second values. Neighbouring seconds are alike, so the variance is
/// that of means over blocks of five ("batch means", Law and Kelton, "Simulation Modeling and Analysis"), where there are ten of
/// them: of fewer, the variance of so few means would widen the bounds more than the likeness of neighbours does. `None` for fewer than three values, whose variance is not known.
pub fn mean(values: &[f64]) -> Option<(f64, f64, f64)> {
    const BLOCK: usize = 5;
    const LEAST: usize = 3;
    if values.len() < LEAST {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let blocks: Vec<f64> = if values.len() >= 10 * BLOCK {
        values.chunks_exact(BLOCK).map(|block| block.iter().sum::<f64>() / BLOCK as f64).collect()
    } else {
        values.to_vec()
    };
    let m = blocks.len() as f64;
    let centre = blocks.iter().sum::<f64>() / m;
    let variance = blocks.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (m - 1.0);
    let t = StudentsT::new(0.0, 1.0, m - 1.0).ok()?.inverse_cdf(CONFIDENCE);
    let half = t * (variance / m).sqrt();
    Some((mean, mean - half, mean + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(bad: u64, n: u64, budget: f64) -> bool {
        clopper_pearson(bad as f64, n as f64).1 <= budget
    }

    fn fails(bad: u64, n: u64, budget: f64) -> bool {
        clopper_pearson(bad as f64, n as f64).0 > budget
    }

    /// Goal: the exact cut-offs, computed independently of this code. Method: the count on each side of every cut.
    #[test]
    fn the_cut_offs_are_exact() {
        for (budget, n, pass, fail) in [
            (0.01, 300, 0, 7),
            (0.01, 1_000, 4, 16),
            (0.01, 10_000, 83, 118),
            (0.01, 100_000, 948, 1053),
            (0.001, 3_000, 0, 7),
            (0.001, 10_000, 4, 16),
            (0.001, 50_000, 38, 63),
            (0.001, 100_000, 83, 118),
        ] {
            assert!(passes(pass, n, budget) && !passes(pass + 1, n, budget), "pass {pass} of {n} at {budget}");
            assert!(fails(fail, n, budget) && !fails(fail - 1, n, budget), "fail {fail} of {n} at {budget}");
        }
    }

    #[test]
    fn the_least_samples_are_those_of_the_table_and_just_enough() {
        for (q, n) in [(0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995), (0.9999, 29_956)] {
            let budget = 1.0 - q;
            assert_eq!(least_samples(budget), n, "{q}");
            assert!(passes(0, n, budget) && !passes(0, n - 1, budget), "{q}");
        }
    }

    /// With every request of one second bad and none elsewhere, a second counts like one request.
    #[test]
    fn clustering_shrinks_the_sample() {
        let even: Vec<(u64, u64)> = (0..60).map(|_| (2, 200)).collect();
        assert_eq!(overdispersion(even), 1.0);
        let burst: Vec<(u64, u64)> = (0..60).map(|s| if s == 30 { (120, 200) } else { (0, 200) }).collect();
        let phi = overdispersion(burst);
        assert!((110.0..130.0).contains(&phi), "{phi}");
        assert_eq!(overdispersion([(0, 10), (0, 10)]), 1.0);
        assert_eq!(overdispersion([(5, 10)]), 1.0);
    }

    #[test]
    fn bounds_at_the_edges() {
        assert_eq!(clopper_pearson(0.0, 0.0), (0.0, 1.0));
        let (low, high) = clopper_pearson(0.0, 100.0);
        assert!(low == 0.0 && (high - (1.0 - 0.05f64.powf(0.01))).abs() < 1e-12);
        let (low, high) = clopper_pearson(100.0, 100.0);
        assert!(high == 1.0 && (low - 0.05f64.powf(0.01)).abs() < 1e-12);
    }

    #[test]
    fn a_quantile_lies_in_its_interval_and_clustering_widens_it() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        (1..=10_000u64).for_each(|value| histogram.record(value).unwrap());
        let tight = quantile(&histogram, 0.5, 1.0).unwrap();
        assert!((4995..=5005).contains(&tight.value), "{tight:?}");
        assert!((4895..=4910).contains(&tight.low) && (5095..=5110).contains(&tight.high), "{tight:?}");
        let wide = quantile(&histogram, 0.5, 9.0).unwrap();
        assert!(wide.low < tight.low && wide.high > tight.high && wide.value == tight.value);
        assert_eq!(quantile(&Histogram::<u64>::new(3).unwrap(), 0.5, 1.0), None);
    }

    /// t is 2.920 for the two degrees of freedom of three values, and 1.833 for the nine of fifty values in ten blocks.
    #[test]
    fn few_values_bound_a_mean_widely_and_two_not_at_all() {
        assert_eq!(mean(&[1.0, 2.0]), None);
        let (centre, low, high) = mean(&[1.0, 2.0, 3.0]).unwrap();
        assert!(
            (high - 2.0 - 2.91999 / 3f64.sqrt()).abs() < 1e-4 && centre == 2.0 && (low + high - 4.0).abs() < 1e-9,
            "{low} {high}"
        );
        let blocks: Vec<f64> = (0..50).map(|second| f64::from(second / 5)).collect();
        let (centre, _, high) = mean(&blocks).unwrap();
        assert!((high - centre - 1.83311 * (82.5f64 / 9.0 / 10.0).sqrt()).abs() < 1e-4, "{high}");
    }
}
