//! A victim's view: one small HTTP request at a time to the pods under a fault, along the way that their clients take, timed from here.
//! It shares nothing with what injects, so it can contradict it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::evidence::PROBE_AGENT;
use crate::cluster::{Cluster, Pod};
use crate::time::monotonic_now;

/// Requests behind a statement about how things are before.
const BEFORE: usize = 7;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take: a Service that cannot be reached from here shows soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A way to the pods and what it took before. Written to the journal, so that healing can be held against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub way: Way,
    pub path: String,
    /// The median of answers before, in milliseconds.
    pub before_ms: f64,
}

/// How the pods are reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Through a Service: a new connection each time, so each may reach another pod.
    Service { address: std::net::SocketAddr },
    /// Through the API server's proxy, where Services cannot be reached from here.
    Proxy { namespace: String, pod: String, port: u16 },
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Service { address } => write!(f, "GET http://{address}{}", self.path),
            Way::Proxy { namespace, pod, port } => {
                write!(f, "GET {} of {namespace}/{pod}:{port} through the API server", self.path)
            }
        }
    }
}

impl Probe {
    /// Finds a way on which these pods answer HTTP on `port`, and measures it. `None` where there is none: then this witness is missing.
    pub async fn find(cluster: &Cluster, pods: &[Pod], port: u16) -> Option<Probe> {
        let pod = pods.iter().find(|pod| pod.serves()).or(pods.first())?;
        let path = pod.probe.as_ref().filter(|(probed, _)| *probed == port).map_or("/".to_owned(), |(_, path)| path.clone());
        let mut ways: Vec<Way> = Vec::new();
        for service in cluster.services_of(pod).await.unwrap_or_default() {
            if let Some(address) = service_address(&service, port, pod) {
                ways.push(Way::Service { address });
            }
        }
        ways.push(Way::Proxy { namespace: pod.namespace.clone(), pod: pod.name.clone(), port });
        for way in ways {
            let mut probe = Probe { way, path: path.clone(), before_ms: 0.0 };
            let mut took = Vec::with_capacity(BEFORE);
            while took.len() < BEFORE {
                match probe.once(cluster).await {
                    Some(ms) => took.push(ms),
                    None => break,
                }
            }
            if took.len() == BEFORE {
                probe.before_ms = median(&mut took);
                return Some(probe);
            }
        }
        None
    }

    /// The same, by one of these pods, where it goes by a single one that is none of them; what its pod was is not there any more.
    pub fn by_one_of(mut self, pods: &[&str]) -> Probe {
        if let Way::Proxy { namespace, pod, .. } = &mut self.way
            && !pods.contains(&format!("{namespace}/{pod}").as_str())
            && let Some((_, other)) = pods.first().and_then(|label| label.split_once('/'))
        {
            *pod = other.to_owned();
        }
        self
    }

    /// One request: how long it took in milliseconds, whatever the answer was; `None` when there was none.
    pub async fn once(&self, cluster: &Cluster) -> Option<f64> {
        let began;
        match &self.way {
            Way::Service { address } => {
                // Nothing is kept between requests: a kept connection would stay with one pod, and outlive what redirects new ones.
                let client = reqwest::Client::builder()
                    .no_proxy()
                    // Known to the agents, so that it does not count as somebody who uses the service.
                    .user_agent(PROBE_AGENT)
                    .pool_max_idle_per_host(0)
                    .redirect(reqwest::redirect::Policy::none())
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(TIMEOUT)
                    .build()
                    .ok()?;
                // Not before: making a client takes longer than many answers.
                began = monotonic_now();
                let answer = client.get(format!("http://{address}{}", self.path)).send().await.ok()?;
                answer.bytes().await.ok()?;
            }
            Way::Proxy { namespace, pod, port } => {
                began = monotonic_now();
                cluster.get_through_proxy(namespace, pod, *port, &self.path).await.ok().map(drop)?
            }
        }
        Some(began.elapsed().as_secs_f64() * 1e3)
    }
}

/// The address at which a Service takes what reaches `port` of this pod.
fn service_address(service: &serde_json::Value, port: u16, pod: &Pod) -> Option<std::net::SocketAddr> {
    let ip = service["spec"]["clusterIP"].as_str()?.parse().ok()?;
    let row = service["spec"]["ports"].as_array()?.iter().find(|row| match &row["targetPort"] {
        serde_json::Value::Null => row["port"] == port,
        // A named port: the pod must have no other, or it could be any.
        serde_json::Value::String(name) => name.parse() == Ok(port) || pod.ports == [port],
        number => *number == port,
    })?;
    Some(std::net::SocketAddr::new(ip, u16::try_from(row["port"].as_u64()?).ok()?))
}

/// The middle of what was measured; zero of nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_by_a_pod_that_is_gone_goes_by_another() {
        let by = |pod: &str| Probe {
            way: Way::Proxy { namespace: "s".into(), pod: pod.into(), port: 80 },
            path: "/".into(),
            before_ms: 1.0,
        };
        assert_eq!(by("a").by_one_of(&["s/b", "s/c"]), by("b"));
        assert_eq!(by("c").by_one_of(&["s/b", "s/c"]), by("c"));
        assert_eq!(by("a").by_one_of(&[]), by("a"));
        let service = Probe { way: Way::Service { address: "10.0.0.1:80".parse().unwrap() }, ..by("a") };
        assert_eq!(service.clone().by_one_of(&["s/b"]), service);
    }
}
