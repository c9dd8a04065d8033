//! Whether agents would be let into the pods of a workload: by their nodes, by their networks, by the cluster's admission. An ephemeral
//! container can never be taken out of its pod again, so not one is added where its agent cannot work.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::seat::Seat;
use super::{Spec, can_take};
use crate::cluster::pod::Really;
use crate::cluster::{self, Cluster, Node, Pod};
use crate::faults::preflight::{Findings, Ground, Refusal};
use crate::names::ObjectRef;

/// Questions to the server at once.
const AT_ONCE: usize = 8;
/// What a pod on Fargate carries.
const FARGATE_POD: &str = "eks.amazonaws.com/fargate-profile";
/// What its node carries.
const FARGATE_NODE: &str = "eks.amazonaws.com/compute-type";
/// What keeps ordinary pods off a virtual node.
const VIRTUAL_TAINT: &str = "virtual-kubelet.io/provider";
/// By which a namespace says what its pods may.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// What the container of an agent is called that is only tried.
const TRIED: &str = "squall-dry-run";
/// How a server begins to tell that it lacks a permission, and not that it does not let a pod in.
const NO_RIGHT: &str = "cannot patch resource";

/// The image that holds the agent: the one that was named, and in a sandbox, whose pods come from no images, any.
pub(super) fn image(cluster: &Cluster, named: Option<&str>) -> Option<String> {
    let sandbox = (cluster.kind() == cluster::Kind::Sandbox).then_some(concat!("squall:", env!("CARGO_PKG_VERSION")));
    named.or(sandbox).map(str::to_owned)
}

/// Looks at each pod, and tries each that nothing speaks against.
pub(super) async fn look(spec: &Spec, ground: &Ground, pods: &[Pod]) -> Findings {
    let mut found = Findings::default();
    let whole = &ground.workload.object;
    let image = image(&ground.cluster, ground.agent_image.as_deref());
    if image.is_none() {
        found.refusals.push(no_image(whole));
    }
    let pods: Vec<&Pod> = pods.iter().filter(|pod| can_take(pod)).collect();
    let Some(first) = pods.first() else {
        found.unknown.push(format!("no pod of {whole} runs: whether agents are let in shows when one does"));
        return found;
    };
    let port = match spec.port_of(first) {
        Ok(port) => port,
        Err(refusal) => {
            found.refusals.push(refusal);
            return found;
        }
    };
    if let Some(pod) = pods.iter().find(|pod| !declares(pod, port)) {
        found.unknown.push(undeclared(pod, port));
    }
    let nodes = nodes(&ground.cluster, &pods, &mut found).await;
    let mut bad = Grouped::of(whole);
    let mut good: Vec<&Pod> = Vec::new();
    for pod in pods {
        match unfit(pod, node_of(pod, &nodes), port) {
            Some((kind, refusal)) => bad.add(kind, refusal),
            None => good.push(pod),
        }
    }
    // Without an image there is no container that could be tried.
    if let Some(image) = image {
        let tries: Vec<BoxFuture<'_, _>> = good.iter().map(|pod| tried(spec, &ground.cluster, pod, &image, port).boxed()).collect();
        let answers: Vec<Result<(), cluster::Error>> = futures::stream::iter(tries).buffered(AT_ONCE).collect().await;
        let let_in = answers.iter().filter(|answer| answer.is_ok()).count();
        for (pod, answer) in good.iter().zip(answers) {
            match answer {
                Ok(()) => {}
                // Gone meanwhile, or replaced.
                Err(cluster::Error::NotFound { .. } | cluster::Error::Conflict { .. }) => {}
                Err(error) if error.is_passing() || tells_nothing(&error) => {
                    // Only where the trial can never tell is the label asked, and not where a pod beside it was let in whatever it says.
                    let label =
                        if tells_nothing(&error) && let_in == 0 { by_label(&ground.cluster, &pod.namespace).await } else { None };
                    match label {
                        Some(refusal) => bad.add("pod-security", refusal),
                        None => found.unknown.push(format!("whether pod {} takes an agent in is not known: {error}", pod.label())),
                    }
                }
                Err(error) => {
                    let (kind, refusal) = denied(pod, error);
                    bad.add(kind, refusal);
                }
            }
        }
        found.fine = (let_in > 0).then(|| format!("{let_in} pods of {whole} would take an agent in, by a dry run in each"));
    }
    found.refusals.extend(bad.all());
    found
}

/// What speaks against a pod that appears under the fault: what the server would let in and could not work.
pub(super) async fn newcomer(cluster: &Cluster, pod: &Pod, port: u16) -> Option<Refusal> {
    let nodes = nodes(cluster, &[pod], &mut Findings::default()).await;
    unfit(pod, node_of(pod, &nodes), port).map(|(_, refusal)| refusal)
}

/// What speaks against pods that are not there yet, made of this template in a namespace with these labels.
pub(super) fn foresee(spec: &Spec, pod: &Pod, labels: &BTreeMap<String, String>) -> Findings {
    let mut found = Findings::default();
    match spec.port_of(pod) {
        Ok(port) => {
            found.refusals.extend(unfit(pod, None, port).map(|(_, refusal)| refusal));
            found.unknown.extend((!declares(pod, port)).then(|| undeclared(pod, port)));
        }
        Err(refusal) => found.refusals.push(refusal),
    }
    // Whose account is exempt, which only the API server's own configuration says, is let in all the same.
    let forbidden = forbidden_by(labels, &pod.namespace);
    found.unknown.extend(forbidden.map(|refusal| format!("whether agents will be let in is not known: {refusal}")));
    found
}

/// Whether a pod says that something listens on this port; one that declares none says nothing of any.
fn declares(pod: &Pod, port: u16) -> bool {
    pod.ports.is_empty() || pod.ports.contains(&port)
}

/// What is declared is for information alone: a process may listen on any port.
fn undeclared(pod: &Pod, port: u16) -> String {
    format!(
        "whether anything listens on port {port} of pod {} is not known: it declares the ports {:?}; correct `port:` if nothing does",
        pod.label(),
        pod.ports
    )
}

fn no_image(whole: &ObjectRef) -> Refusal {
    Refusal {
        object: whole.to_string(),
        cause: "its pods come from images, and no image is named that holds `squall`".into(),
        fix: "build one by `ci/image`, push it to where the nodes pull from, and name it by --agent-image or SQUALL_AGENT_IMAGE"
            .into(),
    }
}

/// The nodes of pods, as far as they may be seen.
async fn nodes(cluster: &Cluster, pods: &[&Pod], found: &mut Findings) -> BTreeMap<String, Node> {
    let names: BTreeSet<String> = pods.iter().filter_map(|pod| pod.node.clone()).collect();
    let asked: Vec<BoxFuture<'_, _>> = names.iter().map(|name| cluster.node(name).boxed()).collect();
    let answers: Vec<Result<Node, cluster::Error>> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut nodes = BTreeMap::new();
    for (name, answer) in names.into_iter().zip(answers) {
        match answer {
            Ok(node) => drop(nodes.insert(name, node)),
            // Whoever works in a namespace alone may not look at nodes: then the pod's own marks must do.
            Err(cluster::Error::Forbidden { .. } | cluster::Error::NotFound { .. }) => {}
            Err(error) => found.unknown.push(format!("what kind of node {name} is cannot be seen: {error}")),
        }
    }
    nodes
}

fn node_of<'a>(pod: &Pod, nodes: &'a BTreeMap<String, Node>) -> Option<&'a Node> {
    nodes.get(pod.node.as_deref()?)
}

/// Why an agent could not work in this pod, with a word for the kind of reason.
fn unfit(pod: &Pod, node: Option<&Node>, port: u16) -> Option<(&'static str, Refusal)> {
    let object = format!("pod {}", pod.label());
    let refuse = |kind, object: String, cause: String, fix: &str| Some((kind, Refusal { object, cause, fix: fix.to_owned() }));
    if pod.host_network {
        return Some(("host-network", on_the_nodes_network(pod)));
    }
    let os = node.map(|node| node.os.as_str()).filter(|os| !os.is_empty()).or(pod.os.as_deref()).unwrap_or("linux");
    if os != "linux" {
        let cause = format!("it runs on {} ({os}), and the agent is a program for Linux", on(pod));
        return refuse("windows", object, cause, "delay a workload that runs on Linux, such as what calls this one");
    }
    let label = |key: &str| node.and_then(|node| node.labels.get(key)).map(String::as_str);
    let taint = |key: &str| node.and_then(|node| node.taints.get(key)).map(String::as_str);
    let away = "run it on nodes that are machines, or leave the fault out";
    if pod.labels.contains_key(FARGATE_POD) || label(FARGATE_NODE) == Some("fargate") || taint(FARGATE_NODE) == Some("fargate") {
        let cause = format!("it runs on Fargate ({}), where no container gets NET_ADMIN", on(pod));
        return refuse("fargate", object, cause, away);
    }
    if label("type") == Some("virtual-kubelet") || taint(VIRTUAL_TAINT).is_some() {
        let provider = taint(VIRTUAL_TAINT).filter(|provider| !provider.is_empty()).map(|provider| format!(" of {provider}"));
        let provider = provider.unwrap_or_default();
        let cause = format!("it runs on {}, a virtual node{provider}, which starts no ephemeral containers", on(pod));
        return refuse("virtual", object, cause, away);
    }
    if let Some(mesh) = pod.mesh.as_ref().filter(|mesh| mesh.takes(port)) {
        let cause = format!(
            "its sidecar {} takes what comes for port {port}, and encrypts it to others: what went through the agent would pass it by",
            mesh.container
        );
        let fix = format!(
            "annotate its template with {}: \"{port}\", delay by the mesh instead, or leave the fault out",
            mesh.exempts_by
        );
        return refuse("mesh", object, cause, &fix);
    }
    None
}

/// Whatever injects it.
pub(super) fn on_the_nodes_network(pod: &Pod) -> Refusal {
    Refusal {
        object: format!("pod {}", pod.label()),
        cause: "it uses its node's network (hostNetwork): a delay there would hit everything on the node".into(),
        fix: "take `hostNetwork` from its template, or leave the fault out".into(),
    }
}

fn on(pod: &Pod) -> String {
    pod.node.as_ref().map_or("a node of its own".to_owned(), |node| format!("node {node}"))
}

/// The very patch that a fault would send, tried.
async fn tried(spec: &Spec, cluster: &Cluster, pod: &Pod, image: &str, port: u16) -> Result<(), cluster::Error> {
    let seat = Seat {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        container: TRIED.to_owned(),
        image: image.to_owned(),
        port,
        seed: 0,
        deadline: crate::time::wall_now(),
        probe: None,
    };
    cluster.add_ephemeral_container(pod, seat.container(spec), Really::DryRun).await
}

/// Whether a refusal is of the trial alone: there are webhooks that can only be asked in earnest.
fn tells_nothing(error: &cluster::Error) -> bool {
    matches!(error, cluster::Error::Refused { why, .. } if why.contains("does not support dry run"))
}

/// A refusal by the server, in its own words.
fn denied(pod: &Pod, error: cluster::Error) -> (&'static str, Refusal) {
    let object = format!("pod {}", pod.label());
    let namespace = &pod.namespace;
    let (kind, why) = match error {
        cluster::Error::Forbidden { why, .. } if why.contains(NO_RIGHT) => ("permission", why),
        cluster::Error::Forbidden { why, .. } if why.contains("violates PodSecurity") => ("pod-security", why),
        cluster::Error::Forbidden { why, .. } | cluster::Error::Refused { why, .. } => ("admission", why),
        other => ("admission", other.to_string()),
    };
    let fix = match kind {
        "permission" => "grant it: `squall rbac` prints what the plan needs".to_owned(),
        "pod-security" => privileged(namespace),
        _ => format!("let whoever guards {namespace} except containers named squall-* that add NET_ADMIN, or leave the fault out"),
    };
    (kind, Refusal { object, cause: why, fix })
}

fn privileged(namespace: &str) -> String {
    format!(
        "allow it while faults are tested there: `kubectl label namespace {namespace} {ENFORCE}=privileged --overwrite`, or exempt the \
         account from pod security"
    )
}

/// What the labels of a namespace forbid where admission itself does not say it.
async fn by_label(cluster: &Cluster, namespace: &str) -> Option<Refusal> {
    forbidden_by(&cluster.labels_of_namespace(namespace).await.ok()?, namespace)
}

fn forbidden_by(labels: &BTreeMap<String, String>, namespace: &str) -> Option<Refusal> {
    let level = labels.get(ENFORCE).filter(|level| ["baseline", "restricted"].contains(&level.as_str()))?;
    Some(Refusal {
        object: format!("namespace {namespace}"),
        cause: format!("its label {ENFORCE}={level} forbids NET_ADMIN, which the agent needs, unless the account is exempt"),
        fix: privileged(namespace),
    })
}

/// Refusals of many pods, each reason told once.
struct Grouped<'a> {
    whole: &'a ObjectRef,
    kinds: Vec<(&'static str, Refusal, usize)>,
}

impl Grouped<'_> {
    fn of(whole: &ObjectRef) -> Grouped<'_> {
        Grouped { whole, kinds: Vec::new() }
    }

    fn add(&mut self, kind: &'static str, refusal: Refusal) {
        match self.kinds.iter_mut().find(|(known, ..)| *known == kind) {
            Some((.., more)) => *more += 1,
            None => self.kinds.push((kind, refusal, 0)),
        }
    }

    fn all(self) -> impl Iterator<Item = Refusal> {
        self.kinds.into_iter().map(move |(_, refusal, more)| match more {
            0 => refusal,
            more => Refusal { object: format!("{}, and {more} more of {}", refusal.object, self.whole), ..refusal },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(more: &Value) -> Pod {
        let mut pod = json!({"metadata": {"namespace": "s", "name": "p", "uid": "u"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}});
        json_patch::merge(&mut pod, more);
        Pod::read(&pod).unwrap()
    }

    /// Goal: each reason is told from the others, and a healthy twin has none. How: pods and nodes that differ in one thing.
    #[test]
    fn what_keeps_an_agent_from_working_is_told_with_its_object() {
        #[track_caller]
        fn check(more: &Value, node: &Value, expected: Option<&str>) {
            let node = Node::read(node);
            let found = unfit(&pod(more), Some(&node), 8080);
            assert_eq!(found.as_ref().map(|(kind, _)| *kind), expected, "{more} {node:?} {found:?}");
            if let Some((_, refusal)) = found {
                assert!(refusal.object == "pod s/p" && !refusal.fix.is_empty(), "{refusal:?}");
            }
        }
        let linux = json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}});
        let none = json!({});
        check(&none, &linux, None);
        check(&none, &none, None);
        check(&json!({"spec": {"hostNetwork": true}}), &linux, Some("host-network"));
        check(&none, &json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}), Some("windows"));
        check(&json!({"spec": {"nodeSelector": {"kubernetes.io/os": "windows"}}}), &none, Some("windows"));
        check(&json!({"spec": {"os": {"name": "windows"}}}), &none, Some("windows"));
        check(&none, &json!({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "fargate"}}}), Some("fargate"));
        check(&none, &json!({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "ec2"}}}), None);
        check(&json!({"metadata": {"labels": {"eks.amazonaws.com/fargate-profile": "f"}}}), &none, Some("fargate"));
        check(&none, &json!({"metadata": {"labels": {"type": "virtual-kubelet"}}}), Some("virtual"));
        check(&none, &json!({"spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "azure"}]}}), Some("virtual"));
        check(&json!({"spec": {"initContainers": [{"name": "istio-proxy"}]}}), &linux, Some("mesh"));
        let exempt = json!({"metadata": {"annotations": {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}},
            "spec": {"initContainers": [{"name": "istio-proxy"}]}});
        check(&exempt, &linux, None);
        // Ports need not be declared.
        check(&json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}), &linux, None);
        check(&json!({"spec": {"containers": [{"name": "c", "ports": null}]}}), &linux, None);
    }

    #[test]
    fn a_reason_that_many_pods_share_is_told_once() {
        let whole: ObjectRef = "s/deployment/web".parse().unwrap();
        let mut bad = Grouped::of(&whole);
        for name in ["a", "b", "c"] {
            let refusal = Refusal { object: format!("pod s/{name}"), cause: "c".into(), fix: "f".into() };
            bad.add(if name == "b" { "port" } else { "mesh" }, refusal);
        }
        let all: Vec<String> = bad.all().map(|refusal| refusal.object).collect();
        assert_eq!(all, ["pod s/a, and 1 more of s/deployment/web", "pod s/b"]);
    }

    #[test]
    fn what_is_only_planned_is_judged_by_its_template_and_its_namespace() {
        let spec: Spec = serde_json::from_value(json!({"on": "s/deployment/web", "add": "1ms"})).unwrap();
        let labelled = |level: &str| BTreeMap::from([(ENFORCE.to_owned(), level.to_owned())]);
        let fine = foresee(&spec, &pod(&json!({})), &labelled("privileged"));
        assert!(fine.refusals.is_empty() && fine.unknown.is_empty(), "{fine:?}");
        let found = foresee(&spec, &pod(&json!({"spec": {"hostNetwork": true}})), &labelled("baseline"));
        let objects: Vec<&str> = found.refusals.iter().map(|refusal| refusal.object.as_str()).collect();
        assert_eq!(objects, ["pod s/p"]);
        let [label] = &found.unknown[..] else { panic!("{found:?}") };
        assert!(label.contains("namespace s") && label.contains("forbids NET_ADMIN") && label.contains("unless"), "{label}");
        let other = Spec { port: Some(9090), ..spec };
        let found = foresee(&other, &pod(&json!({})), &labelled("privileged"));
        assert!(found.refusals.is_empty() && found.unknown[0].contains("port 9090 of pod s/p"), "{found:?}");
    }
}
