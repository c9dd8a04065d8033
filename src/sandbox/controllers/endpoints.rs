//! EndpointSlices (and the older Endpoints) of every Service with a selector: which pods may get its connections, which still serve while
//! they leave, on which port each. The network and observers follow these.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::scheduler::ZONE;
use super::{Queue, Shared, queue_own};
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, controlled_by, has_ended, is_controlled_by, is_leaving, is_ready, key, selects};
use crate::sandbox::resource::{ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES};
use crate::sandbox::store::{Change, ChangeKind, seconds, text};
use crate::time::wall_now;

pub async fn run(shared: Shared) {
    let (mut services, mut feed) = (Feed::new(&shared.store, &SERVICES), Feed::new(&shared.store, &PODS));
    // Not the store's: a pod that is killed at once has left it by the time that its mark of deletion is looked at, and its endpoint must
    // be seen to terminate before it is gone.
    let mut pods = Pods::new();
    loop {
        tokio::select! {
            batch = services.batch() => {
                let mut queue = Queue::new();
                queue_own(&mut queue, batch);
                sync_all(&shared, &pods, queue);
            }
            batch = feed.batch() => {
                let mut queue = Queue::new();
                for news in batch {
                    match news {
                        News::StartsOver => pods.clear(),
                        News::Changed(change) => {
                            let begins_to_leave = is_leaving(&change.object) && change.previous.as_deref().is_some_and(|p| !is_leaving(p));
                            match change.kind {
                                ChangeKind::Deleted => pods.remove(&key(&change.object)),
                                ChangeKind::Added | ChangeKind::Modified => pods.insert(key(&change.object), change.object.clone()),
                            };
                            queue_services(&shared, &change, &mut queue);
                            if begins_to_leave {
                                sync_all(&shared, &pods, std::mem::take(&mut queue));
                            }
                        }
                    }
                }
                sync_all(&shared, &pods, queue);
            }
        }
    }
}

/// The pods as they were last heard of.
type Pods = BTreeMap<Key, Arc<Value>>;

/// The services that choose a pod, or chose it before it changed.
fn queue_services(shared: &Shared, change: &Change, queue: &mut Queue) {
    let ns = text(&change.object, "namespace");
    for service in shared.store.list(&SERVICES, Some(ns)).0 {
        let chooses = |pod: &Value| selects(&service["spec"]["selector"], &pod["metadata"]["labels"]);
        if chooses(&change.object) || change.previous.as_deref().is_some_and(&chooses) {
            queue.insert(key(&service));
        }
    }
}

fn sync_all(shared: &Shared, pods: &Pods, queue: Queue) {
    for (ns, name) in queue {
        sync(shared, pods, &ns, &name);
    }
}

fn sync(shared: &Shared, pods: &Pods, ns: &str, name: &str) {
    let Some(service) = shared.store.get(&SERVICES, ns, name).filter(|s| !is_leaving(s)) else { return };
    if service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
        return;
    }
    let own = pods.range((ns.to_owned(), String::new())..).take_while(|((of, _), _)| of == ns);
    let chosen = own.map(|(_, pod)| pod).filter(|pod| {
        selects(&service["spec"]["selector"], &pod["metadata"]["labels"])
            && pod["status"]["podIP"].as_str().is_some_and(|ip| !ip.is_empty())
            && !has_ended(pod)
    });
    // A named target port may be another number in another pod: one slice for each set of ports.
    let mut groups: BTreeMap<String, (Value, Vec<&Value>)> = BTreeMap::new();
    for pod in chosen {
        let ports = ports_of(&service, pod);
        groups.entry(ports.to_string()).or_insert_with(|| (ports, vec![])).1.push(pod);
    }
    if groups.is_empty() {
        groups.insert(String::new(), (json!([]), vec![]));
    }
    write_slices(shared, &service, groups.values());
    write_endpoints(shared, &service, groups.values());
}

fn write_slices<'a>(shared: &Shared, service: &Value, groups: impl Iterator<Item = &'a (Value, Vec<&'a Value>)>) {
    let (ns, name) = key(service);
    let anyway = service["spec"]["publishNotReadyAddresses"] == true;
    let slices = shared.store.list(&ENDPOINTSLICES, Some(&ns)).0;
    let mut owned = slices.iter().filter(|slice| is_controlled_by(slice, service));
    for (ports, pods) in groups {
        let endpoints: Vec<Value> = pods.iter().map(|pod| endpoint(shared, service, pod, anyway)).collect();
        let now = seconds(wall_now());
        let result = match owned.next() {
            Some(slice) => shared.store.update(&ENDPOINTSLICES, &ns, text(slice, "name"), |slice| {
                if slice["endpoints"] != json!(endpoints) || slice["ports"] != *ports {
                    slice["endpoints"] = json!(endpoints);
                    slice["ports"] = ports.clone();
                    slice["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"] = json!(now);
                }
                Ok(())
            }),
            None => shared.store.create(
                &ENDPOINTSLICES,
                json!({
                    "metadata": {
                        "generateName": format!("{name}-"), "namespace": ns,
                        "labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                            "kubernetes.io/service-name": name},
                        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now},
                        "ownerReferences": [controlled_by(service)],
                    },
                    "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
                }),
            ),
        };
        if let Err(error) = result {
            tracing::debug!("failed to write the endpoint slice of {ns}/{name}: {error}");
        }
    }
    for surplus in owned {
        // Already gone is as good.
        let _ = shared.store.delete(&ENDPOINTSLICES, &ns, text(surplus, "name"));
    }
}

fn endpoint(shared: &Shared, service: &Value, pod: &Value, anyway: bool) -> Value {
    let (ready, leaving) = (is_ready(pod), is_leaving(pod));
    let mut endpoint = json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": anyway || (ready && !leaving), "serving": ready, "terminating": leaving},
        "targetRef": reference(pod),
        "nodeName": pod["spec"]["nodeName"],
    });
    if let Some(hostname) = hostname(service, pod) {
        endpoint["hostname"] = json!(hostname);
    }
    let node = pod["spec"]["nodeName"].as_str().and_then(|name| shared.store.get(&NODES, "", name));
    if let Some(zone) = node.as_ref().and_then(|node| node["metadata"]["labels"].get(ZONE)) {
        endpoint["zone"] = zone.clone();
    }
    endpoint
}

/// The name by which DNS knows a pod of this Service, where it has one of its own: a StatefulSet's pods do.
fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let word = |field: &str| pod["spec"].get(field).and_then(Value::as_str).filter(|word| !word.is_empty());
    word("hostname").filter(|_| word("subdomain") == Some(text(service, "name")))
}

fn reference(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    json!({"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]})
}

fn write_endpoints<'a>(shared: &Shared, service: &Value, groups: impl Iterator<Item = &'a (Value, Vec<&'a Value>)>) {
    let (ns, name) = key(service);
    let subsets: Vec<Value> = groups
        .filter(|(_, pods)| pods.iter().any(|pod| !is_leaving(pod)))
        .map(|(ports, pods)| {
            let addresses = |ready: bool| -> Vec<Value> {
                let chosen = pods.iter().filter(|pod| !is_leaving(pod) && is_ready(pod) == ready);
                let address = |pod: &&Value| {
                    let mut address = json!({"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"],
                        "targetRef": reference(pod)});
                    if let Some(hostname) = hostname(service, pod) {
                        address["hostname"] = json!(hostname);
                    }
                    address
                };
                chosen.map(address).collect()
            };
            let mut subset = json!({"ports": ports});
            for (field, ready) in [("addresses", true), ("notReadyAddresses", false)] {
                let list = addresses(ready);
                if !list.is_empty() {
                    subset[field] = json!(list);
                }
            }
            subset
        })
        .collect();
    let exists = shared.store.get(&ENDPOINTS, &ns, &name).is_some();
    let result = if exists {
        shared.store.update(&ENDPOINTS, &ns, &name, |endpoints| {
            endpoints["subsets"] = json!(subsets);
            Ok(())
        })
    } else {
        let metadata = json!({"name": name, "namespace": ns, "labels": service["metadata"]["labels"],
            "ownerReferences": [controlled_by(service)]});
        shared.store.create(&ENDPOINTS, json!({"metadata": metadata, "subsets": subsets}))
    };
    if let Err(error) = result {
        tracing::debug!("failed to write the endpoints of {ns}/{name}: {error}");
    }
}

/// A Service's ports as this pod has them; a named target port that the pod does not name is left out.
fn ports_of(service: &Value, pod: &Value) -> Value {
    let list = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<Value> = list
        .filter_map(|port| {
            let target = &port["targetPort"];
            let number = match target {
                Value::String(name) => named_port(pod, name)?,
                Value::Number(number) => number.as_i64()?,
                _ => port["port"].as_i64()?,
            };
            let name = port["name"].as_str().unwrap_or_default();
            Some(json!({"name": name, "protocol": port["protocol"].as_str().unwrap_or("TCP"), "port": number}))
        })
        .collect();
    json!(ports)
}

/// The number of a container's named port. A name of digits is a number.
pub fn named_port(pod: &Value, name: &str) -> Option<i64> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let found = ports.find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_i64());
    found.or_else(|| name.parse().ok())
}
