//! The dials of the demo service, as arguments. Defaults make a well-behaved service; each broken twin is one dial away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::units::{Ratio, Span};

use super::service_time::ServiceTime;

/// How the service behaves.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address to listen on; `$POD_IP:8080` when absent, 127.0.0.1:8080 outside of a pod.
    #[arg(long)]
    pub listen: Option<SocketAddr>,

    /// Who answers: the value of the `x-pod` header; the host's name when absent.
    #[arg(long, env = "POD_NAME", hide_env_values = true)]
    pub pod: Option<String>,

    /// How long one request keeps a worker: `20ms`, `exp:20ms` (mean) or `lognormal:20ms,0.5` (median, sigma).
    #[arg(long, default_value = "20ms")]
    pub service_time: ServiceTime,

    /// Requests that are worked on at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub workers: u32,

    /// Requests that may wait for a worker before new ones are turned away; `unbounded` is the broken twin.
    #[arg(long, default_value = "64")]
    pub queue: QueueBound,

    /// How a full queue answers.
    #[arg(long, default_value_t = 503, value_parser = parse_rejection)]
    pub reject_with: u16,

    /// Seconds that a rejection asks the client to stay away.
    #[arg(long, default_value = "1s")]
    pub retry_after: Span,

    /// CPU time that each request burns, so that an autoscaler on CPU has something to see.
    #[arg(long, default_value = "0s")]
    pub cpu_per_request: Span,

    /// URL called once per request while the worker is held.
    #[arg(long, value_name = "URL")]
    pub depends: Option<http::Uri>,

    /// How long one attempt on the dependency may take.
    #[arg(long, default_value = "1s")]
    pub dependency_timeout: Span,

    /// Further attempts after a failed one.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retries: u32,

    /// `budget` spends a share of the traffic on retries and no more; `naive` always retries, at once: the broken twin.
    #[arg(long, value_enum, default_value_t = RetryMode::Budget)]
    pub retry_mode: RetryMode,

    /// Retries per operation that the budget allows in the long run.
    #[arg(long, default_value = "20%")]
    pub retry_budget: Ratio,

    /// How long it takes to get warm: until then requests fail with 500, and `/readyz` says 503.
    #[arg(long, default_value = "0s")]
    pub ready_after: Span,

    /// Say ready before being warm: the broken twin.
    #[arg(long)]
    pub ready_lies: bool,

    /// For so long after getting warm, service takes longer, decaying to normal.
    #[arg(long, default_value = "0s")]
    pub slow_start: Span,

    /// How many times longer service takes at the beginning of a slow start.
    #[arg(long, default_value_t = 4.0)]
    pub slow_start_factor: f64,

    /// Do not stop on SIGTERM: the broken twin.
    #[arg(long)]
    pub ignore_sigterm: bool,

    /// After SIGTERM, go on accepting for so long while telling clients to go elsewhere: endpoints are taken out of rotation
    /// at the same time as the signal is sent, not before.
    #[arg(long, default_value = "1s")]
    pub drain: Span,

    /// Ask clients to open a new connection when one is about this old (varied by a quarter either way); never when zero. A
    /// balancer of connections sends nothing to a new pod as long as clients keep the connections that they have.
    #[arg(long, default_value = "0s")]
    pub connection_age: Span,

    /// Connections that may be open at once; more wait in the kernel's backlog.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Seed of all randomness, together with the pod's name.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Options {
    /// The address to bind.
    pub fn address(&self) -> SocketAddr {
        let pod_ip = || std::env::var("POD_IP").ok().and_then(|ip| ip.parse::<IpAddr>().ok());
        self.listen.unwrap_or_else(|| SocketAddr::new(pod_ip().unwrap_or(Ipv4Addr::LOCALHOST.into()), 8080))
    }

    /// The name that answers carry.
    pub fn identity(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.pod.clone().filter(|pod| !pod.is_empty()).unwrap_or_else(host)
    }
}

/// How many requests may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueBound {
    AtMost(usize),
    Unbounded,
}

impl FromStr for QueueBound {
    type Err = String;
    fn from_str(text: &str) -> Result<QueueBound, String> {
        match text {
            "unbounded" => Ok(QueueBound::Unbounded),
            number => number
                .parse()
                .map(QueueBound::AtMost)
                .map_err(|_| format!("`{number}` is not a queue length: write a number, or `unbounded`")),
        }
    }
}

/// What happens after a failed attempt on the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RetryMode {
    /// Always, at once.
    Naive,
    /// As long as retries stay a small share of the traffic, with jittered backoff.
    Budget,
}

fn parse_rejection(text: &str) -> Result<u16, String> {
    match text {
        "503" => Ok(503),
        "429" => Ok(429),
        other => Err(format!("`{other}` does not say \"not now\": use 503 or 429")),
    }
}
