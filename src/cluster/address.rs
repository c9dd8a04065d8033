//! Names to addresses: a Service's DNS name is resolved by the API, since the cluster's DNS does not reach outside of it; any other
//! name by the system.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::{Cluster, Error, list, text};
use crate::rights::Right;

/// Asked to resolve a Service, of which the name is known.
pub const VERBS: &[&str] = &["get"];
/// Asked where the Service has no address of its own.
pub const HEADLESS: &[Right] = &[Right::to(&["list"], "", "pods")];

/// How long the system's resolver may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

impl Cluster {
    /// The addresses of `host` at `port`. `checkout.shop` and `checkout.shop.svc.cluster.local` are Services; what is none is asked of
    /// the system.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let key = format!("{host}:{port}");
        let known = self.addresses.lock().expect("nobody panics while holding the addresses").get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let addresses = self.look_up(host, port).await?;
        self.addresses.lock().expect("nobody panics while holding the addresses").insert(key, addresses.clone());
        Ok(addresses)
    }

    /// The same as they are now: a Service without an address of its own stands for its pods, which come and go.
    pub async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        Ok(match service_name(host) {
            Some((name, namespace)) => match self.service_addresses(&namespace, &name, port).await {
                // Whoever may only see what a plan needs is refused what is no Service of its namespaces: `example.com`.
                Err(error @ (Error::NotFound { .. } | Error::Forbidden { .. })) => match lookup(host, port).await {
                    Some(addresses) => addresses,
                    None => return Err(error),
                },
                answer => answer?,
            },
            None => lookup(host, port).await.ok_or_else(|| Error::NotFound {
                what: format!("host {host}"),
                found: vec!["neither a Service (write name.namespace) nor a name that DNS knows".into()],
            })?,
        })
    }

    async fn service_addresses(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let service = match self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")).await {
            Ok(service) => service,
            Err(Error::NotFound { .. }) => {
                let siblings = self.get(&format!("/api/v1/namespaces/{namespace}/services")).await.unwrap_or_default();
                let mut found: Vec<String> = list(&siblings, "/items")
                    .iter()
                    .filter_map(|s| text(s, "/metadata/name"))
                    .map(|sibling| format!("{sibling}.{namespace}"))
                    .take(20)
                    .collect();
                if found.is_empty() {
                    found.push(format!("no service at all in namespace {namespace}"));
                }
                return Err(Error::NotFound { what: format!("service {name} in namespace {namespace}"), found });
            }
            Err(error) => return Err(error),
        };
        let ports: Vec<u64> = list(&service, "/spec/ports").iter().filter_map(|p| p["port"].as_u64()).collect();
        if !ports.contains(&u64::from(port)) {
            return Err(Error::NotReady {
                what: format!("service {namespace}/{name}"),
                why: format!("it does not listen on port {port}, only on {ports:?}; put one of these into the target's url"),
            });
        }
        let addresses = cluster_ips(&service);
        if !addresses.is_empty() {
            return Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
        }
        // Headless: the pods themselves.
        let pods = self.pods(namespace, &super::workload::selector(&service["spec"]["selector"])).await?;
        let addresses: Vec<SocketAddr> = pods
            .iter()
            .filter(|pod| pod.serves())
            .filter_map(|pod| Some(SocketAddr::new(pod.ip.as_ref()?.parse().ok()?, port)))
            .collect();
        if addresses.is_empty() {
            return Err(Error::NotReady {
                what: format!("service {namespace}/{name}"),
                why: "it is headless and no pod behind it is ready".into(),
            });
        }
        Ok(addresses)
    }
}

fn cluster_ips(service: &Value) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> =
        list(service, "/spec/clusterIPs").iter().filter_map(Value::as_str).filter_map(|ip| ip.parse().ok()).collect();
    if let Some(ip) = text(service, "/spec/clusterIP").and_then(|ip| ip.parse().ok())
        && !ips.contains(&ip)
    {
        ips.insert(0, ip);
    }
    ips
}

/// The Service and namespace that a cluster DNS name means.
pub fn service_name(host: &str) -> Option<(String, String)> {
    let host = host.trim_end_matches('.').to_lowercase();
    let parts: Vec<&str> = host.split('.').collect();
    match parts[..] {
        [name, namespace] | [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"]
            if !name.is_empty() && !namespace.is_empty() =>
        {
            Some((name.to_owned(), namespace.to_owned()))
        }
        _ => None,
    }
}

async fn lookup(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await.ok()?.ok()?;
    let addresses: Vec<SocketAddr> = found.collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::service_name;

    #[test]
    fn dns_names_of_services_are_recognised() {
        let service = Some(("checkout".to_owned(), "shop".to_owned()));
        for host in ["checkout.shop", "checkout.shop.svc", "Checkout.shop.svc.cluster.local", "checkout.shop.svc.cluster.local."] {
            assert_eq!(service_name(host), service, "{host}");
        }
        for host in ["localhost", "www.example.com", "a.b.c.d.e", ".shop"] {
            assert_eq!(service_name(host), None, "{host}");
        }
    }
}
