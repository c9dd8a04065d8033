//! What this machine has for a load generator: cores, file descriptors, local ports, memory. Only looked at, never changed.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// What there is. Absent is what the kernel does not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub cores: usize,
    /// File descriptors that this process may have: the hard limit, which the load engine goes up to. `None` is no limit.
    pub descriptors: Option<u64>,
    /// Local ports to connect from, to each address of a target.
    pub ports: Option<u64>,
    pub reuse: Reuse,
    /// Bytes that could be had now.
    pub memory: Option<u64>,
}

/// Whose ports are free again a second after their connection was closed, instead of a minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    Nobody,
    /// Connections within this machine: the kernel's default.
    Loopback,
    Everybody,
}

impl Machine {
    /// Looks about.
    pub fn look() -> Machine {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            descriptors: getrlimit(Resource::Nofile).maximum,
            ports: ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
            reuse: match read("/proc/sys/net/ipv4/tcp_tw_reuse").trim() {
                "1" => Reuse::Everybody,
                "2" => Reuse::Loopback,
                _ => Reuse::Nobody,
            },
            memory: available(&read("/proc/meminfo"))
                .into_iter()
                .chain(left(
                    &read("/sys/fs/cgroup/memory.max"),
                    &read("/sys/fs/cgroup/memory.current"),
                    &read("/sys/fs/cgroup/memory.stat"),
                ))
                .min(),
        }
    }
}

/// How many there are from the first to the last.
fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_ascii_whitespace().map(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()??, ends.next()??);
    Some((last + 1).saturating_sub(first))
}

/// What the whole machine could still give, in bytes: see proc_meminfo(5).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the control group could still give, where it has a limit (`max` is none). What it uses has the pages of files in it, which the
/// kernel takes back when memory is asked for: `file` of its `memory.stat`.
fn left(most: &str, current: &str, stat: &str) -> Option<u64> {
    let (most, current): (u64, u64) = (most.trim().parse().ok()?, current.trim().parse().ok()?);
    let files = stat.lines().find_map(|line| line.strip_prefix("file ")?.trim().parse().ok()).unwrap_or(0);
    Some(most.saturating_sub(current.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("5 4"), Some(0));
        assert_eq!(ports(""), None);
        assert_eq!(available("MemTotal:  2 kB\nMemAvailable:   20480 kB\n"), Some(20 << 20));
        assert_eq!(available("MemTotal: 2 kB\n"), None);
        assert_eq!(left("1000\n", "400\n", ""), Some(600));
        assert_eq!(left("1000\n", "990\n", "anon 190\nfile 800\nfile_mapped 5\n"), Some(810), "what files take is given back");
        assert_eq!(left("max\n", "400\n", ""), None);
        assert_eq!(left("", "", ""), None);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look();
        assert!(machine.cores > 0 && machine.descriptors != Some(0) && machine.memory != Some(0), "{machine:?}");
    }
}
