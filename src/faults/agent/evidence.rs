//! What an agent says on its standard output: one JSON object per line, each a fact that the harness can hold against what it asked
//! for. The same types read it back.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Line {
    /// The proxy listens; nothing is disturbed yet.
    Started { port: u16, via: String, add_ms: f64, jitter_ms: f64, deadline: String },
    /// The data plane sends connections here from now on. `table` is the data plane's own, as it gave it.
    Active { table: Vec<serde_json::Value> },
    /// What was disturbed so far; about once a second while active.
    Evidence(Counters),
    /// The entry in the data plane could not be renewed; it lives on until its time is up.
    RenewalFailed { reason: String },
    /// Taken back, and why. `cleared`: the data plane said that the entry is gone.
    Reverted { reason: String, cleared: bool, counters: Counters },
}

/// Counts since the start. Delays are measured, from the read of a chunk to the end of its write, not what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections that came through.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections turned away because too many were open.
    pub refused: u64,
    /// Connections that the pod's clients had before and that were reset; `None` where they were left, and in the sandbox, whose data
    /// plane resets them uncounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<u64>,
    /// Pieces of inbound data that were delayed.
    pub chunks: u64,
    /// Of these, pieces of whoever looks after the pod and does not use it: the kubelet's probes, scrapes, the fault's own probe.
    #[serde(default)]
    pub of_probes: u64,
    pub bytes: u64,
    /// Pieces that waited longer than they should have, because the connection's bounded buffer was full.
    pub stalled: u64,
    pub delay_ms_min: f64,
    pub delay_ms_mean: f64,
    pub delay_ms_max: f64,
}

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    Client,
    /// Somebody who looks after the pod.
    Probe,
}

/// The user agent of the probe with which a fault looks at its victims.
pub const PROBE_AGENT: &str = "squall-probe/1";
/// The user agents of who looks after pods, the kubelet's, the sandbox's metrics', and our own.
const PROBES: [&[u8]; 3] = [b"kube-probe/", b"squall-sandbox-metrics", b"squall-probe/"];

impl Sender {
    /// Whose connection begins with these bytes. What is not known is a client.
    pub(super) fn of(first: &[u8]) -> Sender {
        let says = |word: &[u8]| first.windows(word.len()).any(|window| window == word);
        if PROBES.iter().any(|probe| says(probe)) { Sender::Probe } else { Sender::Client }
    }
}

/// Where the lines go.
pub struct Speaker(Mutex<Box<dyn Write + Send>>);

impl Speaker {
    pub fn new(out: impl Write + Send + 'static) -> Speaker {
        Speaker(Mutex::new(Box::new(out)))
    }

    /// Says it. When nobody listens any more the agent goes on: its lease, not its audience, decides how long it lives.
    pub fn say(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Counters {
    /// Pieces of those who use the service.
    pub fn of_clients(&self) -> u64 {
        self.chunks.saturating_sub(self.of_probes)
    }

    /// Adds one delayed chunk.
    pub(super) fn delayed(&mut self, bytes: usize, ms: f64, of: Sender) {
        self.delay_ms_min = if self.chunks == 0 { ms } else { self.delay_ms_min.min(ms) };
        self.delay_ms_max = self.delay_ms_max.max(ms);
        self.chunks += 1;
        self.of_probes += u64::from(of == Sender::Probe);
        self.bytes += bytes as u64;
        // Welford's running mean: a sum of many delays would lose the small ones.
        self.delay_ms_mean += (ms - self.delay_ms_mean) / self.chunks as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_after_a_pod_is_told_from_who_uses_it() {
        let get = |agent: &str| format!("GET /readyz HTTP/1.1\r\nuser-agent: {agent}\r\n\r\n");
        for probe in ["kube-probe/1.36", "squall-sandbox-metrics", PROBE_AGENT] {
            assert_eq!(Sender::of(get(probe).as_bytes()), Sender::Probe, "{probe}");
        }
        assert_eq!(Sender::of(get("squall/0.1.0").as_bytes()), Sender::Client);
        assert_eq!(Sender::of(b"\x16\x03\x01"), Sender::Client, "what cannot be read");
    }

    #[test]
    fn lines_read_back_as_they_were_said() {
        let mut counters = Counters { connections: 2, reset: Some(3), ..Counters::default() };
        counters.delayed(10, 150.0, Sender::Client);
        counters.delayed(30, 250.0, Sender::Probe);
        assert_eq!((counters.delay_ms_min, counters.delay_ms_mean, counters.delay_ms_max), (150.0, 200.0, 250.0));
        assert_eq!((counters.chunks, counters.of_clients()), (2, 1));
        for line in [
            Line::Started {
                port: 8080,
                via: "127.16.1.5:39000".into(),
                add_ms: 200.0,
                jitter_ms: 50.0,
                deadline: "2026-11-23T12:00:00Z".into(),
            },
            Line::Evidence(counters),
            Line::Reverted { reason: "stdin closed".into(), cleared: true, counters },
        ] {
            let text = serde_json::to_string(&line).expect("it is plain data");
            assert_eq!(serde_json::from_str::<Line>(&text).expect(&text), line);
        }
    }
}
