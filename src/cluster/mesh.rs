//! Service meshes, as far as a pod shows one: a sidecar that takes the pod's connections before anybody else can.

use serde_json::Value;

use super::{list, text};

/// A sidecar, and the ports that it leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The sidecar's container.
    pub container: String,
    /// The annotation that takes a port out of its hands.
    pub exempts_by: &'static str,
    /// What that annotation says: ports and ranges of them, as in `8080,9000-9010`.
    pub exempted: String,
}

/// The containers of sidecars, with the annotation that exempts ports from them.
const KNOWN: [(&str, &str); 4] = [
    ("istio-proxy", "traffic.sidecar.istio.io/excludeInboundPorts"),
    ("linkerd-proxy", "config.linkerd.io/skip-inbound-ports"),
    ("consul-dataplane", "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports"),
    ("kuma-sidecar", "traffic.kuma.io/exclude-inbound-ports"),
];

impl Mesh {
    /// The sidecar in a pod or in a template of pods, if there is one: a container, or an init container that stays.
    pub fn of(pod: &Value) -> Option<Mesh> {
        let names = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
        let names: Vec<&str> = names.filter_map(|container| text(container, "/name")).collect();
        let (container, exempts_by) = KNOWN.iter().find(|(container, _)| names.contains(container))?;
        let annotations = pod.pointer("/metadata/annotations").unwrap_or(&Value::Null);
        let exempted = annotations[*exempts_by].as_str().unwrap_or_default().to_owned();
        Some(Mesh { container: (*container).to_owned(), exempts_by, exempted })
    }

    /// Whether it takes what comes for this port.
    pub fn takes(&self, port: u16) -> bool {
        let bound = |word: &str| word.trim().parse::<u16>().ok();
        !self.exempted.split(',').any(|range| match range.split_once('-') {
            Some((from, to)) => bound(from).is_some_and(|from| from <= port) && bound(to).is_some_and(|to| port <= to),
            None => bound(range) == Some(port),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sidecar_takes_all_ports_but_those_that_it_is_told_to_leave() {
        let plain = json!({"spec": {"containers": [{"name": "web"}]}});
        assert_eq!(Mesh::of(&plain), None);
        let mut meshed = json!({"spec": {"containers": [{"name": "web"}], "initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always"}]}});
        let mesh = Mesh::of(&meshed).unwrap();
        assert!(mesh.container == "linkerd-proxy" && mesh.takes(8080));
        meshed["metadata"]["annotations"]["config.linkerd.io/skip-inbound-ports"] = json!("25, 8080-8090");
        let mesh = Mesh::of(&meshed).unwrap();
        assert!(!mesh.takes(25) && !mesh.takes(8080) && !mesh.takes(8090) && mesh.takes(8091), "{mesh:?}");
    }
}
