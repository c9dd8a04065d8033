//! Probes: whether a container has started, is alive, and may get traffic. They reach it as its clients do.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::sandbox::controllers::named_port;
use crate::sandbox::network::Network;
use crate::sandbox::network::get::{Get, get, said};
use crate::time::monotonic_now;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub fn field(self) -> &'static str {
        match self {
            Kind::Startup => "startupProbe",
            Kind::Readiness => "readinessProbe",
            Kind::Liveness => "livenessProbe",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }
}

/// What a probe has found.
#[derive(Debug)]
pub enum Finding {
    /// Often enough in a row.
    Passed,
    /// Once, in words.
    Failed(String),
    /// Often enough in a row.
    FailedForGood,
}

/// How to probe.
pub struct Probe {
    pub kind: Kind,
    how: How,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

enum How {
    Http {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: u16,
    },
    /// A kind that the sandbox does not run: it always fails, and says so.
    Unserved(String),
}

/// While a container has not passed yet it is asked again this soon after a refusal: a process on this machine starts in milliseconds.
const EAGER: Duration = Duration::from_millis(50);
/// For so long after the start; then the probe's own period counts.
const EAGER_FOR: Duration = Duration::from_secs(3);

impl Probe {
    /// The container's probe of that kind, if it has one.
    pub fn read(pod: &Value, container: &Value, kind: Kind) -> Option<Probe> {
        let spec = container.get(kind.field()).filter(|p| p.is_object())?;
        let seconds = |field: &str, default: u64| Duration::from_secs(spec[field].as_u64().unwrap_or(default));
        let count = |field: &str, default: u32| spec[field].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(default).max(1);
        let port = |action: &Value| match &action["port"] {
            Value::String(name) => named_port(pod, name).and_then(|p| u16::try_from(p).ok()),
            number => number.as_u64().and_then(|p| u16::try_from(p).ok()),
        };
        let how = if let Some(action) = spec.get("httpGet") {
            let headers = action["httpHeaders"].as_array().into_iter().flatten();
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let path = action["path"].as_str().filter(|p| !p.is_empty()).unwrap_or("/");
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            match port(action) {
                Some(_) if action["scheme"] == "HTTPS" => How::Unserved("HTTPS probes are not served by the sandbox".into()),
                Some(port) => How::Http { port, path, headers: headers.map(|h| (text(&h["name"]), text(&h["value"]))).collect() },
                None => How::Unserved(format!("no port {} in the container", action["port"])),
            }
        } else if let Some(action) = spec.get("tcpSocket") {
            port(action)
                .map_or_else(|| How::Unserved(format!("no port {} in the container", action["port"])), |port| How::Tcp { port })
        } else {
            How::Unserved("only httpGet and tcpSocket probes are served by the sandbox".into())
        };
        Some(Probe {
            kind,
            how,
            delay: seconds("initialDelaySeconds", 0),
            period: seconds("periodSeconds", 10).max(Duration::from_secs(1)),
            timeout: seconds("timeoutSeconds", 1).max(Duration::from_secs(1)),
            successes: count("successThreshold", 1),
            failures: count("failureThreshold", 3),
        })
    }

    /// Probes until dropped, and tells every finding that matters.
    pub async fn run(self, network: Network, ip: Ipv4Addr, tell: mpsc::Sender<(Kind, Finding)>) {
        tokio::time::sleep(self.delay).await;
        let began = monotonic_now();
        let (mut passed, mut failed, mut has_passed) = (0, 0, false);
        let mut due = began;
        loop {
            let result = self.once(&network, ip).await;
            let refused = matches!(&result, Err(why) if why.contains("connection refused"));
            if !has_passed && refused && self.kind != Kind::Liveness && began.elapsed() < EAGER_FOR {
                // Not counted: its period has not passed.
                if monotonic_now() < due + self.period {
                    tokio::time::sleep(EAGER).await;
                    continue;
                }
            }
            let finding = match result {
                Ok(()) => {
                    (passed, failed) = (passed + 1, 0);
                    has_passed = true;
                    (passed >= self.successes).then_some(Finding::Passed)
                }
                Err(why) => {
                    (passed, failed) = (0, failed + 1);
                    Some(Finding::Failed(why))
                }
            };
            if let Some(finding) = finding
                && tell.send((self.kind, finding)).await.is_err()
            {
                return;
            }
            if failed >= self.failures {
                failed = 0;
                if tell.send((self.kind, Finding::FailedForGood)).await.is_err() {
                    return;
                }
            }
            due += self.period;
            if due < monotonic_now() {
                due = monotonic_now();
            }
            tokio::time::sleep_until(due.into()).await;
        }
    }

    async fn once(&self, network: &Network, ip: Ipv4Addr) -> Result<(), String> {
        match &self.how {
            How::Unserved(why) => Err(why.clone()),
            How::Tcp { port } => match tokio::time::timeout(self.timeout, network.dial(ip, *port)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {ip}:{port}: connect: {}", said(&error))),
                Err(_) => Err(format!("dial tcp {ip}:{port}: i/o timeout")),
            },
            How::Http { port, path, headers } => {
                let ask = Get {
                    ip,
                    port: *port,
                    path: path.clone(),
                    headers: headers.clone(),
                    timeout: self.timeout,
                    body_max: 1 << 20,
                    agent: "kube-probe/1.36",
                };
                match get(network, ask).await?.status {
                    200..400 => Ok(()),
                    status => Err(format!("HTTP probe failed with statuscode: {status}")),
                }
            }
        }
    }
}
