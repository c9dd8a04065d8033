//! Queueing systems as pure models: told when a request comes, a [`System`] says when it leaves, or that it is refused. The reference
//! server runs one on the times at which requests really come; a test runs the same one, with the same draws, on the times at which
//! they were due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use squall::time::Offset;

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// It leaves when it comes.
    AtOnce,
    /// It takes one of `workers` or waits for one, first come, first served; refused when `room` others are there, served or waiting.
    Queue { workers: usize, room: usize, service: Service },
    /// It takes a token or is refused: `burst` tokens at first and at most, and `per_second` new ones.
    Bucket { per_second: f64, burst: f64 },
}

/// How long a worker is busy with one request.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    Fixed(Duration),
    /// Memoryless, with this mean.
    Exponential(Duration),
}

/// One or more equal, independent systems, each request sent to one of them by chance: a Poisson stream that is split at random is
/// as many independent Poisson streams, so that one run looks at one system for as many times its length.
#[derive(Clone)]
pub struct System {
    lines: Vec<Line>,
    split: Pcg64Mcg,
}

#[derive(Clone)]
struct Line {
    rule: Rule,
    random: Pcg64Mcg,
    /// When each worker is free again.
    free: BinaryHeap<Reverse<Offset>>,
    /// When those who are there leave.
    inside: BinaryHeap<Reverse<Offset>>,
    tokens: f64,
    /// When the tokens were counted.
    counted: Offset,
}

impl System {
    pub fn new(rule: Rule, lines: usize, seed: u64) -> System {
        let line = |n: usize| Line {
            rule,
            random: Pcg64Mcg::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(n as u64 + 1)),
            free: BinaryHeap::new(),
            inside: BinaryHeap::new(),
            tokens: if let Rule::Bucket { burst, .. } = rule { burst } else { 0.0 },
            counted: Offset::ZERO,
        };
        System { lines: (0..lines).map(line).collect(), split: Pcg64Mcg::seed_from_u64(seed) }
    }

    /// When the request leaves that comes now; `None` when it is refused. Times never go backwards.
    pub fn arrive(&mut self, now: Offset) -> Option<Offset> {
        let line = (uniform(&mut self.split) * self.lines.len() as f64) as usize;
        self.lines[line].arrive(now)
    }
}

impl Line {
    fn arrive(&mut self, now: Offset) -> Option<Offset> {
        match self.rule {
            Rule::AtOnce => Some(now),
            Rule::Queue { workers, room, service } => {
                while self.inside.peek().is_some_and(|Reverse(leaves)| *leaves <= now) {
                    self.inside.pop();
                }
                if self.inside.len() >= room {
                    return None;
                }
                // Lindley's recursion, for several workers: served when it is there and the first of them is free.
                let first_free = if self.free.len() < workers { None } else { self.free.pop() };
                let starts = first_free.map_or(now, |Reverse(free)| free.max(now));
                let leaves = starts + service.draw(&mut self.random);
                self.free.push(Reverse(leaves));
                self.inside.push(Reverse(leaves));
                Some(leaves)
            }
            Rule::Bucket { per_second, burst } => {
                self.tokens = (self.tokens + per_second * now.since(self.counted).as_secs_f64()).min(burst);
                self.counted = now;
                (self.tokens >= 1.0).then(|| {
                    self.tokens -= 1.0;
                    now
                })
            }
        }
    }
}

impl Service {
    fn draw(self, random: &mut Pcg64Mcg) -> Duration {
        match self {
            Service::Fixed(time) => time,
            Service::Exponential(mean) => mean.mul_f64(-(1.0 - uniform(random)).ln()),
        }
    }
}

/// 53 random bits in [0, 1).
fn uniform(random: &mut Pcg64Mcg) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
