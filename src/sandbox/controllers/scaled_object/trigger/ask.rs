//! One question of a trigger over HTTP: to an address of this machine's loopback, or to a Service of the sandbox. Nothing else is asked, so
//! that no manifest makes a laptop talk to the world. Logins, TLS and redirects are not followed.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use url::{Host, Url};

use crate::sandbox::controllers::Shared;
use crate::sandbox::network::get::{Answer, Get, get};
use crate::sandbox::resource::SERVICES;

/// How long an answer may take where a trigger says nothing: KEDA's own default.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// How much of an answer is read.
const BODY_MAX: usize = 1 << 20;

/// Where a trigger asks.
#[derive(Clone, Debug)]
pub struct Place {
    host: String,
    port: u16,
    /// Path and query; `/` at least.
    path: String,
}

impl Place {
    /// Reads `http://host:port/path?query`.
    pub fn read(url: &str) -> Result<Place, String> {
        let parsed = Url::parse(url.trim()).map_err(|error| format!("{url:?} is no URL: {error}"))?;
        if parsed.scheme() != "http" {
            return Err(format!("{url:?}: the sandbox's triggers speak http, and no {}", parsed.scheme()));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("the sandbox's triggers do not log in: take user and password out of the URL".into());
        }
        let host = match parsed.host() {
            Some(Host::Ipv4(ip)) if ip.is_loopback() => ip.to_string(),
            Some(Host::Domain("localhost")) => Ipv4Addr::LOCALHOST.to_string(),
            Some(Host::Domain(name)) => name.to_owned(),
            _ => return Err(format!("{url:?}: {ELSEWHERE}")),
        };
        let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Place { host, port: parsed.port_or_known_default().unwrap_or(80), path: format!("{}{query}", parsed.path()) })
    }

    /// The path and the query, as they were said.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Asks for a path.
    pub async fn get(
        &self,
        shared: &Shared,
        ns: &str,
        path: String,
        headers: Vec<(String, String)>,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let ip = match self.host.parse() {
            Ok(ip) => ip,
            Err(_) => service(shared, ns, &self.host)?,
        };
        let ask = Get { ip, port: self.port, path, headers, timeout, body_max: BODY_MAX, agent: "keda-operator" };
        get(shared.kubelet.network(), ask).await
    }
}

const ELSEWHERE: &str = "the sandbox's triggers ask addresses of this machine's loopback (127.0.0.0/8) and Services of the sandbox";

/// The address of `NAME`, `NAME.NAMESPACE` or `NAME.NAMESPACE.svc` with or without the cluster's domain.
fn service(shared: &Shared, ns: &str, host: &str) -> Result<Ipv4Addr, String> {
    let (name, namespace) = named(host).ok_or_else(|| format!("{host:?}: {ELSEWHERE}"))?;
    let namespace = namespace.unwrap_or(ns);
    let found = shared.store.get(&SERVICES, namespace, name);
    let service = found.ok_or_else(|| format!("dial tcp: lookup {host}: no such host: there is no Service {namespace}/{name}"))?;
    let ip = service["spec"].get("clusterIP").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    ip.ok_or_else(|| format!("Service {namespace}/{name} has no address of its own: name one that has a clusterIP"))
}

/// A Service's name, and its namespace where the host says it.
fn named(host: &str) -> Option<(&str, Option<&str>)> {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    match host.split('.').collect::<Vec<_>>()[..] {
        [name] => Some((name, None)),
        [name, namespace] => Some((name, Some(namespace))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_the_sandboxs_services_are_asked() {
        let place = Place::read("http://127.0.0.1:9090/prom/?a=b").expect("it is of this machine");
        assert_eq!((place.host.as_str(), place.port, place.path()), ("127.0.0.1", 9090, "/prom/?a=b"));
        assert_eq!(Place::read("http://localhost").map(|place| (place.host, place.port)), Ok(("127.0.0.1".to_owned(), 80)));
        for strange in ["http://10.0.0.1:9090", "http://[::1]:9090", "https://127.0.0.1", "http://a:b@127.0.0.1", "9090", "ftp://x"]
        {
            assert!(Place::read(strange).is_err(), "{strange}");
        }
        assert_eq!(named("prometheus"), Some(("prometheus", None)));
        assert_eq!(named("prometheus.monitoring.svc.cluster.local"), Some(("prometheus", Some("monitoring"))));
        assert_eq!(named("prometheus.monitoring"), Some(("prometheus", Some("monitoring"))));
        assert_eq!(named("metrics.example.com"), None);
    }
}
