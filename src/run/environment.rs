//! What machine a run was made on: written into its recording, and compared before two runs are (but for its name).

use std::collections::BTreeMap;
use std::fs;

use crate::recording::fact::HOSTNAME;

/// Names and values, as far as this machine tells: a value that cannot be read is left out.
pub fn fingerprint() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    fact(HOSTNAME, fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|s| s.trim().to_owned()));
    fact("os", Some(std::env::consts::OS.to_owned()));
    fact("arch", Some(std::env::consts::ARCH.to_owned()));
    fact("cores", std::thread::available_parallelism().ok().map(|n| n.to_string()));
    fact("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|s| s.trim().to_owned()));
    fact("cpu", field("/proc/cpuinfo", "model name"));
    fact("memory", field("/proc/meminfo", "MemTotal"));
    facts
}

/// The value of the first `name: value` line of a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
