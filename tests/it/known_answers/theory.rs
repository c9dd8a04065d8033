//! What queueing theory says: the formulas of `patterns-and-assertions.md`, section C1, in seconds and requests per second.
//! Textbook results (Kleinrock, *Queueing Systems*, volume 1, 1975, chapter 3; Erlang, 1917, for the loss formula).

/// The time within which a share `p` of the requests leaves an M/M/1 queue: -ln(1 - p) / (mu - lambda).
pub fn mm1_quantile(p: f64, lambda: f64, mu: f64) -> f64 {
    -(1.0 - p).ln() / (mu - lambda)
}

/// The share that M/M/1/K refuses: (1 - rho) rho^K / (1 - rho^(K + 1)).
pub fn mm1k_refused(k: usize, lambda: f64, mu: f64) -> f64 {
    mm1k_state(k, k, lambda, mu)
}

/// The time within which a share `p` of those whom M/M/1/K lets in leave it. Who finds n others there, which is so with probability
/// pi_n / (1 - P_K), leaves after n + 1 exponential services.
pub fn mm1k_quantile(p: f64, k: usize, lambda: f64, mu: f64) -> f64 {
    let let_in = 1.0 - mm1k_refused(k, lambda, mu);
    let later_than = |t: f64| (0..k).map(|n| mm1k_state(n, k, lambda, mu) / let_in * erlang_tail(n + 1, mu, t)).sum::<f64>();
    // Bisection: the tail falls from 1 to 0.
    let (mut low, mut high) = (0.0, 100.0 * k as f64 / mu);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if later_than(middle) > 1.0 - p { low = middle } else { high = middle }
    }
    low
}

/// The probability that n are in M/M/1/K.
fn mm1k_state(n: usize, k: usize, lambda: f64, mu: f64) -> f64 {
    let rho = lambda / mu;
    (1.0 - rho) * rho.powi(n as i32) / (1.0 - rho.powi(k as i32 + 1))
}

/// The probability that `n` exponential services of rate `mu` take longer than `t`: that fewer than n of them end by then.
fn erlang_tail(n: usize, mu: f64, t: f64) -> f64 {
    let mut term = (-mu * t).exp();
    let mut sum = 0.0;
    for i in 0..n {
        sum += term;
        term *= mu * t / (i + 1) as f64;
    }
    sum
}

/// The share that `c` workers without a queue refuse of an offered load of `a`, whatever the distribution of the service time
/// (Erlang's B): B_0 = 1, B_k = a B_(k-1) / (k + a B_(k-1)).
pub fn erlang_b(c: usize, a: f64) -> f64 {
    (1..=c).fold(1.0, |b, k| a * b / (k as f64 + a * b))
}

/// The time within which a share `p` of the requests leaves that come evenly, at `lambda` for `length` seconds, to a worker who takes
/// `service` for each and cannot keep up: D + (rho - 1) p T.
pub fn dd1_quantile(p: f64, lambda: f64, service: f64, length: f64) -> f64 {
    service + (lambda * service - 1.0) * p * length
}

/// How many a token bucket lets through in `t` seconds from full, when more than that come; exact to one.
pub fn bucket_let_through(per_second: f64, burst: f64, t: f64) -> f64 {
    burst + per_second * t
}

/// Goal: the formulas are those of section C1. How: section C2 has their numbers, in milliseconds and shares.
#[test]
fn the_formulas_give_the_reference_numbers() {
    let near = |got: f64, reference: f64, last_digit: f64| {
        assert!((got - reference).abs() <= 0.6 * last_digit, "{got}, reference {reference}");
    };
    for (p, ms) in [(0.5, 34.66), (0.9, 115.13), (0.95, 149.79), (0.99, 230.26), (0.999, 345.39)] {
        near(mm1_quantile(p, 80.0, 100.0) * 1e3, ms, 0.01);
    }
    for (p, ms) in [(0.5, 91.80), (0.9, 137.48), (0.99, 183.39)] {
        near(mm1k_quantile(p, 10, 300.0, 100.0) * 1e3, ms, 0.01);
    }
    near(mm1k_refused(10, 300.0, 100.0), 0.66667, 0.00001);
    for (a, refused) in [(15.0, 0.04559), (30.0, 0.38008), (60.0, 0.67445)] {
        near(erlang_b(20, a), refused, 0.00001);
    }
    for (p, ms) in [(0.5, 2510.0), (0.99, 4960.0)] {
        near(dd1_quantile(p, 150.0, 0.01, 10.0) * 1e3, ms, 1.0);
    }
    near(bucket_let_through(20.0, 50.0, 10.0), 250.0, 1.0);
}
