//! What the machine allows and takes away: file descriptors, and the time that the hypervisor gave to somebody else.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::time::monotonic_now;

/// Ticks per second of `/proc/stat`; `USER_HZ` has been 100 on every Linux that people run.
const TICKS: f64 = 100.0;

/// Raises the soft limit of file descriptors to the hard one: each connection needs one, and the usual soft limit of 1,024 is there
/// for the sake of programs that use `select`.
pub(super) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of file descriptors; connections beyond it will be unsent");
        }
    }
}

/// For how long this thread has been ready to run and had no core, since it began; `None` where the kernel keeps no such account.
pub(super) fn waited_for_a_core() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    // Time on a core, time waiting for one, both in nanoseconds, and turns: see the kernel's sched-stats.
    stat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// Measures stolen time between two looks.
pub(super) struct Steal {
    last: Option<(Instant, u64)>,
}

impl Steal {
    pub(super) fn new() -> Steal {
        Steal { last: look() }
    }

    /// Time stolen from this machine since the last look, as a share of one core; `None` where the kernel does not say.
    pub(super) fn share(&mut self) -> Option<f64> {
        let now = look()?;
        let (then, before) = self.last.replace(now)?;
        let (elapsed, ticks) = (now.0.duration_since(then), now.1.saturating_sub(before));
        (elapsed > Duration::ZERO).then(|| ticks as f64 / TICKS / elapsed.as_secs_f64())
    }
}

fn look() -> Option<(Instant, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    Some((monotonic_now(), stolen_ticks(&stat)?))
}

/// The eighth number of the line `cpu`, summed over all cores: see proc(5).
fn stolen_ticks(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_ascii_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number() {
        assert_eq!(stolen_ticks("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1 1 1 1 1 1 1 1\n"), Some(88));
        assert_eq!(stolen_ticks("cpu  1 2 3 4\n"), None);
        assert_eq!(stolen_ticks("intr 5\n"), None);
    }
}
