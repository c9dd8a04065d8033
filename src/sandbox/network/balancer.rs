//! Service addresses: each port of a Service listens on its cluster address, and each new connection goes to one of the ready endpoints,
//! chosen at random, and stays there. It follows EndpointSlices at once. With nothing behind it a port refuses, as a real one does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::Network;
use super::relay::{relay, reset};
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Key, key};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{ENDPOINTSLICES, SERVICES};
use crate::sandbox::store::{Store, text};

/// On a Service: ports that this user may not listen on, and where they are instead, as `80=10080,443=10443`.
pub const PORTS_ANNOTATION: &str = "sandbox.squall.dev/ports";
/// What is added to a port that this user may not listen on.
const SHIFT: u16 = 10_000;
const REBIND_PAUSE: Duration = Duration::from_millis(200);

/// Follows Services and EndpointSlices, until dropped.
pub async fn run(store: Arc<Store>, network: Network, seed: u64) {
    let recorder = Recorder::new(&store, "service-balancer", Spot::Nowhere);
    let (mut services, mut slices) = (Feed::new(&store, &SERVICES), Feed::new(&store, &ENDPOINTSLICES));
    let mut balancers = Balancers { store, network, recorder, seed, ports: HashMap::new(), tasks: JoinSet::new() };
    loop {
        let mut changed = BTreeSet::new();
        tokio::select! {
            batch = services.batch() => for news in batch {
                match news {
                    News::Changed(change) => { changed.insert(key(&change.object)); }
                    News::StartsOver => changed.extend(balancers.ports.keys().map(|(service, _)| service.clone())),
                }
            },
            batch = slices.batch() => for news in batch {
                match news {
                    News::Changed(change) => { changed.insert(service_of(&change.object)); }
                    News::StartsOver => changed.extend(balancers.ports.keys().map(|(service, _)| service.clone())),
                }
            },
            Some(_) = balancers.tasks.join_next() => (),
        }
        for service in changed {
            balancers.follow(&service);
        }
    }
}

fn service_of(slice: &Value) -> Key {
    let name = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
    (text(slice, "namespace").to_owned(), name.to_owned())
}

struct Balancers {
    store: Arc<Store>,
    network: Network,
    recorder: Recorder,
    seed: u64,
    /// By service and port.
    ports: HashMap<(Key, u16), Port>,
    tasks: JoinSet<()>,
}

struct Port {
    address: Ipv4Addr,
    endpoints: watch::Sender<Vec<SocketAddrV4>>,
    task: AbortHandle,
}

impl Balancers {
    /// Brings the listeners of one Service to what it and its slices say.
    fn follow(&mut self, at: &Key) {
        let service = self.store.get(&SERVICES, &at.0, &at.1);
        let address: Option<Ipv4Addr> = service.as_ref().and_then(|s| s["spec"]["clusterIP"].as_str()?.parse().ok());
        let mut wanted: BTreeMap<u16, Vec<SocketAddrV4>> = BTreeMap::new();
        if let (Some(service), Some(_)) = (&service, address) {
            let slices = self.store.list(&ENDPOINTSLICES, Some(&at.0)).0;
            let own: Vec<_> = slices.iter().filter(|slice| service_of(slice) == *at).map(Arc::as_ref).collect();
            for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                let number = port["port"].as_u64().and_then(|n| u16::try_from(n).ok());
                if let Some(number) = number.filter(|_| port["protocol"] != "UDP") {
                    wanted.insert(number, endpoints(&own, port["name"].as_str().unwrap_or_default()));
                }
            }
        }
        self.ports.retain(|(service, number), port| {
            let stays = service != at || (wanted.contains_key(number) && Some(port.address) == address);
            if !stays {
                port.task.abort();
            }
            stays
        });
        let (Some(service), Some(address)) = (service, address) else { return };
        let mut moved = vec![];
        for (number, list) in wanted {
            match self.ports.get(&(at.clone(), number)) {
                Some(port) => {
                    port.endpoints.send_if_modified(|now| {
                        let differs = *now != list;
                        *now = list;
                        differs
                    });
                }
                None => {
                    let listens = listenable(address, number);
                    if listens != number {
                        moved.push(format!("{number}={listens}"));
                    }
                    let endpoints = watch::Sender::new(list);
                    let door = Door {
                        listens: SocketAddrV4::new(address, listens),
                        service: service.clone(),
                        network: self.network.clone(),
                        recorder: self.recorder.clone(),
                        rng: Pcg64Mcg::seed_from_u64(self.seed ^ (u64::from(u32::from(address)) << 16) ^ u64::from(number)),
                    };
                    let task = self.tasks.spawn(door.keep(endpoints.subscribe()));
                    self.ports.insert((at.clone(), number), Port { address, endpoints, task });
                }
            }
        }
        if !moved.is_empty() {
            self.say_moved(&service, &moved.join(","));
        }
    }

    fn say_moved(&self, service: &Value, ports: &str) {
        let (ns, name) = key(service);
        let message = format!(
            "this user may not listen on all ports of the service: {ports} (port=where it listens); use ports from 1024, or allow \
             lower ones with sysctl net.ipv4.ip_unprivileged_port_start"
        );
        self.recorder.warning(service, "PortMoved", &message);
        // A Service that went meanwhile needs no note.
        let _ = self.store.update(&SERVICES, &ns, &name, |service| {
            service["metadata"]["annotations"][PORTS_ANNOTATION] = json!(ports);
            Ok(())
        });
    }
}

/// The port to listen on: the Service's own, or where it may not be had (privileged, taken by a wildcard), one that may.
fn listenable(address: Ipv4Addr, port: u16) -> u16 {
    let may = |port: u16| std::net::TcpListener::bind((address, port)).is_ok();
    let shifted = port.checked_add(SHIFT);
    if may(port) { port } else { shifted.filter(|port| may(*port)).unwrap_or(port) }
}

/// Where connections to the port of that name may go: to ready endpoints, or, when there is none, to those that still serve while they
/// leave, as kube-proxy does.
fn endpoints(slices: &[&Value], port_name: &str) -> Vec<SocketAddrV4> {
    let choose = |wanted: fn(&Value) -> bool| -> Vec<SocketAddrV4> {
        let mut chosen = vec![];
        for slice in slices {
            let mut ports = slice["ports"].as_array().into_iter().flatten();
            let port = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name).and_then(|p| p["port"].as_u64());
            let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { continue };
            let list = slice["endpoints"].as_array().into_iter().flatten().filter(|e| wanted(&e["conditions"]));
            let addresses = list.flat_map(|e| e["addresses"].as_array().into_iter().flatten());
            let parsed = addresses.filter_map(|a| a.as_str()?.parse::<Ipv4Addr>().ok());
            chosen.extend(parsed.map(|ip| SocketAddrV4::new(ip, port)));
        }
        // One order, whatever the order of events was: the same seed chooses the same.
        chosen.sort_unstable();
        chosen
    };
    let ready = choose(|c| c["ready"] == true);
    if ready.is_empty() { choose(|c| c["serving"] == true && c["terminating"] == true) } else { ready }
}

/// One port of one Service.
struct Door {
    listens: SocketAddrV4,
    service: Arc<Value>,
    network: Network,
    recorder: Recorder,
    rng: Pcg64Mcg,
}

impl Door {
    /// Listens whenever there is somewhere to go, until aborted; its connections end with it.
    async fn keep(mut self, mut endpoints: watch::Receiver<Vec<SocketAddrV4>>) {
        let mut connections = JoinSet::new();
        loop {
            while endpoints.borrow_and_update().is_empty() {
                tokio::select! {
                    changed = endpoints.changed() => if changed.is_err() { return },
                    Some(_) = connections.join_next() => (),
                }
            }
            let listener = match TcpListener::bind(self.listens).await {
                Ok(listener) => listener,
                Err(error) => {
                    let message = format!("failed to listen on {}: {error}", self.listens);
                    self.recorder.warning(&self.service, "ListenFailed", &message);
                    tokio::time::sleep(REBIND_PAUSE).await;
                    continue;
                }
            };
            while !endpoints.borrow_and_update().is_empty() {
                tokio::select! {
                    // subtle: endpoints first, so that a connection that arrives after a change never goes to what the change removed.
                    biased;
                    changed = endpoints.changed() => if changed.is_err() { return },
                    Some(_) = connections.join_next() => (),
                    accepted = listener.accept() => match accepted {
                        Ok((client, _)) => self.admit(client, &endpoints.borrow(), &mut connections),
                        // Out of descriptors: what is established goes on, and new ones wait.
                        Err(error) if error.kind() != io::ErrorKind::ConnectionAborted => {
                            tracing::warn!("failed to accept on {}: {error}", self.listens);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(_) => (),
                    },
                }
            }
        }
    }

    fn admit(&mut self, client: TcpStream, endpoints: &[SocketAddrV4], connections: &mut JoinSet<()>) {
        let Ok(permit) = self.network.connections().clone().try_acquire_owned() else {
            let message = format!("the sandbox carries {} connections already: refused one more", super::CONNECTIONS_MAX);
            self.recorder.warning(&self.service, "ConnectionLimit", &message);
            return reset(client);
        };
        let chosen = endpoints[self.rng.random_range(0..endpoints.len())];
        let network = self.network.clone();
        connections.spawn(async move {
            // The permit is the connection's.
            let _permit = permit;
            carry(&network, client, chosen).await;
        });
    }
}

async fn carry(network: &Network, client: TcpStream, to: SocketAddrV4) {
    // subtle: subscribed before dialling, so that an interposition between the two resets this connection as well.
    let resets = network.resets((*to.ip(), to.port()));
    let _ = client.set_nodelay(true);
    match network.dial(*to.ip(), to.port()).await {
        Ok(pod) => relay(client, pod, resets).await,
        // The pod just died: its client sees what it would have seen of the pod.
        Err(_) => reset(client),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_endpoints_are_chosen_and_leaving_ones_only_when_there_is_nothing_else() {
        let endpoint = |ip: &str, ready, serving, terminating| json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving, "terminating": terminating}});
        let slice = |list: Value| json!({"ports": [{"name": "http", "port": 8080}], "endpoints": list});
        let names = |slice: &Value| endpoints(&[slice], "http").iter().map(|a| a.ip().octets()[3]).collect::<Vec<_>>();
        let both = slice(json!([endpoint("127.0.0.1", true, true, false), endpoint("127.0.0.2", false, true, true)]));
        assert_eq!(names(&both), [1]);
        let leaving = slice(json!([endpoint("127.0.0.1", false, false, true), endpoint("127.0.0.2", false, true, true)]));
        assert_eq!(names(&leaving), [2]);
        assert!(names(&slice(json!([endpoint("127.0.0.1", false, false, false)]))).is_empty());
        assert!(endpoints(&[&both], "other").is_empty());
    }
}
