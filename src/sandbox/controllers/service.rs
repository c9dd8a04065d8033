//! Gives every Service its address in the sandbox's block, and takes it back when the Service goes. A headless one gets none.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::Shared;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::key;
use crate::sandbox::recorder::Recorder;
use crate::sandbox::resource::SERVICES;
use crate::sandbox::store::{ChangeKind, StoreError, text};

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "service-controller", None);
    let mut services = Feed::new(&shared.store, &SERVICES);
    // By uid: a Service keeps its address when a client's replacement drops the field.
    let mut given: HashMap<String, Ipv4Addr> = HashMap::new();
    loop {
        let News::Changed(change) = services.next().await else { continue };
        let service = &change.object;
        if change.kind == ChangeKind::Deleted {
            if let Some(ip) = given.remove(text(service, "uid")) {
                shared.block.free_cluster_ip(ip);
            }
            continue;
        }
        assign(&shared, &recorder, &mut given, service);
    }
}

fn assign(shared: &Shared, recorder: &Recorder, given: &mut HashMap<String, Ipv4Addr>, service: &Value) {
    let asked = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    if asked == "None" || service["spec"]["type"] == "ExternalName" {
        return;
    }
    let uid = text(service, "uid").to_owned();
    let ip = match given.get(&uid) {
        Some(ip) => *ip,
        None => {
            let wanted: Option<Ipv4Addr> = asked.parse().ok();
            let Some(ip) = shared.block.take_cluster_ip(wanted) else {
                recorder.warning(service, "ClusterIPNotAllocated", "the sandbox's block has no free service address left");
                return;
            };
            if wanted.is_some_and(|wanted| wanted != ip) {
                let message = format!("clusterIP {asked} is not free in the sandbox's block: gave {ip}");
                recorder.warning(service, "ClusterIPNotAllocated", &message);
            }
            given.insert(uid, ip);
            ip
        }
    };
    let (ns, name) = key(service);
    let address = ip.to_string();
    // A Service that went meanwhile is dealt with when its deletion comes.
    let _ = shared.store.update(&SERVICES, &ns, &name, |service| {
        if given.get(text(service, "uid")) != Some(&ip) {
            return Err(StoreError::Refused("another service took this one's name meanwhile".into()));
        }
        service["spec"]["clusterIP"] = json!(address);
        service["spec"]["clusterIPs"] = json!([address]);
        Ok(())
    });
}
