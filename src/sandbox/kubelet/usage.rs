//! CPU and memory of containers, from what the kernel counts for their process groups. Sampled when somebody asks, never otherwise: an
//! idle sandbox reads nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::sandbox::api::access::{ContainerUsage, Usage};
use crate::sandbox::objects::Key;
use crate::time::{monotonic_now, wall_now};

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Watched {
    pub pod: Key,
    pub container: String,
    /// Its process group.
    pub pid: u32,
    pub since: Instant,
}

/// Two readings closer than this are one.
const FRESH: Duration = Duration::from_millis(400);

/// Readings that are remembered at most.
const READINGS_MAX: usize = 256;

/// Remembers readings, to tell how much was used since one of them.
#[derive(Default)]
pub struct Sampler {
    readings: VecDeque<Reading>,
}

struct Reading {
    at: Instant,
    /// ms of the epoch.
    at_ms: i64,
    /// By process group, of those that were watched then.
    groups: HashMap<u32, Group>,
}

impl Sampler {
    /// The use of resources over `window` as nearly as readings allow, whoever else asked in between.
    pub fn sample(&mut self, watched: &[Watched], window: Duration) -> BTreeMap<Key, Usage> {
        let now = monotonic_now();
        if self.readings.back().is_none_or(|last| now.duration_since(last.at) >= FRESH) {
            let mut groups = read_groups();
            groups.retain(|group, _| watched.iter().any(|container| container.pid == *group));
            self.readings.push_back(Reading { at: now, at_ms: wall_now().as_millisecond(), groups });
        }
        // One that is older than the window is enough.
        let is_old = |reading: &Reading| now.duration_since(reading.at) >= window;
        while self.readings.len() > READINGS_MAX || self.readings.get(1).is_some_and(is_old) {
            self.readings.pop_front();
        }
        self.usage(watched, window)
    }

    /// What was used up to the last reading. A container that began after it has no sample yet.
    fn usage(&self, watched: &[Watched], window: Duration) -> BTreeMap<Key, Usage> {
        let mut usage: BTreeMap<Key, Usage> = BTreeMap::new();
        let Some(last) = self.readings.back() else { return usage };
        for container in watched {
            let cpu_at = |reading: &Reading| {
                let group = reading.groups.get(&container.pid).filter(|_| reading.at >= container.since)?;
                Some((reading.at, group.cpu_ns))
            };
            let Some(group) = last.groups.get(&container.pid).filter(|_| last.at >= container.since) else { continue };
            let before = self.readings.iter().rev().skip(1).filter_map(cpu_at).chain([(container.since, 0)]);
            let nearest = before.min_by_key(|(at, _)| last.at.duration_since(*at).abs_diff(window));
            let (since, before_ns) = nearest.unwrap_or((container.since, 0));
            let window = last.at.duration_since(since).max(Duration::from_millis(1));
            let used_ns = group.cpu_ns.saturating_sub(before_ns);
            let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
            let pod = usage.entry(container.pod.clone()).or_insert(Usage { at_ms: last.at_ms, window_ms, containers: vec![] });
            pod.window_ms = pod.window_ms.min(window_ms);
            pod.containers.push(ContainerUsage {
                name: container.container.clone(),
                cpu_nanocores: (used_ns as f64 / window.as_secs_f64()) as u64,
                memory_bytes: group.memory_bytes,
            });
        }
        usage
    }
}

#[derive(Clone, Copy, Default)]
struct Group {
    cpu_ns: u64,
    memory_bytes: u64,
}

/// What each process group has used, from one pass over /proc.
fn read_groups() -> HashMap<u32, Group> {
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let mut groups: HashMap<u32, Group> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // A process that ended meanwhile has nothing to add.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((pgrp, ticks, pages)) = parse(&stat) {
            let group = groups.entry(pgrp).or_default();
            group.cpu_ns += ticks * tick_ns;
            group.memory_bytes += pages * page;
        }
    }
    groups
}

/// Process group, ticks of CPU (its own and of children that it has reaped), resident pages: see proc_pid_stat(5).
fn parse(stat: &str) -> Option<(u32, u64, u64)> {
    // The name is in parentheses and may hold anything, parentheses included.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some((u32::try_from(number(5)?).ok()?, ticks, number(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_any_name() {
        let stat = "12 (a) b) S 1 77 77 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 100 1000 5 18446744073709551615 0";
        assert_eq!(parse(stat), Some((77, 100, 5)));
    }

    #[test]
    fn a_busy_group_shows_its_cpu() {
        // This test's own group has used some CPU since it began. Its number is 0 where its leader is outside of a process namespace,
        // which `getpgrp` of rustix takes for a bug of the kernel.
        let (pid, ..) = parse(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let key = ("ns".to_owned(), "p".to_owned());
        let watched = [Watched { pod: key.clone(), container: "c".into(), pid, since: monotonic_now() - Duration::from_secs(1) }];
        let usage = Sampler::default().sample(&watched, Duration::from_secs(15));
        assert!(usage[&key].containers[0].memory_bytes > 0);
        assert!(usage[&key].window_ms >= 1000);
    }

    #[test]
    fn a_window_is_the_one_that_was_asked_for_however_often_others_ask() {
        let begin = monotonic_now();
        let at = |second: u64| begin + Duration::from_secs(second);
        // Idle for the first 10 s, then one core; somebody reads every second.
        let reading = |second: u64| {
            let cpu_ns = second.saturating_sub(10) * 1_000_000_000;
            let groups = HashMap::from([(7, Group { cpu_ns, memory_bytes: 1 })]);
            Reading { at: at(second), at_ms: second as i64 * 1000, groups }
        };
        let sampler = Sampler { readings: (0..=20).map(reading).collect() };
        let told = |since_ms: u64, window_s: u64| {
            let since = begin + Duration::from_millis(since_ms);
            let watched = [Watched { pod: ("ns".into(), "p".into()), container: "c".into(), pid: 7, since }];
            let usage = sampler.usage(&watched, Duration::from_secs(window_s));
            usage.values().next().map(|pod| (pod.at_ms, pod.window_ms, pod.containers[0].cpu_nanocores / 1_000_000))
        };
        assert_eq!(told(0, 15), Some((20_000, 15_000, 666)));
        assert_eq!(told(0, 5), Some((20_000, 5_000, 1000)));
        // One that got this process id 4.5 s ago: all that it has used, since it began.
        assert_eq!(told(15_500, 15), Some((20_000, 4_500, 2222)));
        assert_eq!(told(20_001, 15), None);
    }
}
