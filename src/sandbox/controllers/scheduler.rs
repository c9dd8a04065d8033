//! Binds every pod to the one node, unless the node is cordoned or full: then the pod stays pending and says why.

use serde_json::{Value, json};

use super::{NODE, Queue, Shared, queue_own};
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{Updates, has_ended, is_leaving, key, set_condition};
use crate::sandbox::recorder::Recorder;
use crate::sandbox::resource::{EVENTS, NODES, PODS};
use crate::sandbox::store::text;
use crate::time::wall_now;

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "default-scheduler", None);
    let (mut pods, mut nodes) = (Feed::new(&shared.store, &PODS), Feed::new(&shared.store, &NODES));
    loop {
        let mut queue = Queue::new();
        let all = |queue: &mut Queue| queue.extend(shared.store.list(&PODS, None).0.iter().map(|pod| key(pod)));
        tokio::select! {
            batch = pods.batch() => {
                // A pod that goes makes room for one that waits.
                let freed = |news: &News| matches!(news, News::Changed(c) if has_ended(&c.object) || is_leaving(&c.object));
                if batch.iter().any(freed) {
                    all(&mut queue);
                }
                queue_own(&mut queue, batch);
            }
            _ = nodes.batch() => all(&mut queue),
        }
        let waiting = queue.into_iter().filter_map(|(ns, name)| shared.store.get(&PODS, &ns, &name)).filter(|pod| waits(pod));
        for pod in waiting.collect::<Vec<_>>() {
            schedule(&shared, &recorder, &pod);
        }
    }
}

fn waits(pod: &Value) -> bool {
    pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) && !is_leaving(pod) && !has_ended(pod)
}

fn schedule(shared: &Shared, recorder: &Recorder, pod: &Value) {
    let (ns, name) = key(pod);
    let node = shared.store.get(&NODES, "", NODE);
    let cordoned = node.as_ref().is_some_and(|node| node["spec"]["unschedulable"] == true);
    let bound = |pod: &Value| pod["spec"]["nodeName"] == NODE && !has_ended(pod);
    let why_not = if node.is_none() {
        Some("no nodes available to schedule pods".to_owned())
    } else if cordoned {
        Some("0/1 nodes are available: 1 node(s) were unschedulable.".to_owned())
    } else if shared.store.list(&PODS, None).0.iter().filter(|pod| bound(pod)).count() >= shared.pods_max {
        Some("0/1 nodes are available: 1 Too many pods.".to_owned())
    } else {
        None
    };
    // A pod that went meanwhile needs no node.
    let _ = shared.store.update(&PODS, &ns, &name, |pod| {
        let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "observedGeneration": 1});
        match &why_not {
            None => pod["spec"]["nodeName"] = json!(NODE),
            Some(why) => {
                condition["status"] = json!("False");
                condition["reason"] = json!("Unschedulable");
                condition["message"] = json!(why);
            }
        }
        set_condition(pod, condition, Updates::No);
        Ok(())
    });
    match why_not {
        None => say_scheduled(shared, pod),
        Some(why) => recorder.warning(pod, "FailedScheduling", &why),
    }
}

/// The scheduler writes its events in the newer style, with a time of microseconds instead of counts.
fn say_scheduled(shared: &Shared, pod: &Value) {
    let now = wall_now();
    let (ns, name) = key(pod);
    let micros = jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let event = json!({
        "metadata": {"name": format!("{name}.{:x}", now.as_nanosecond()), "namespace": ns},
        "involvedObject": {"kind": "Pod", "namespace": ns, "name": name, "uid": text(pod, "uid"), "apiVersion": "v1",
            "resourceVersion": text(pod, "resourceVersion")},
        "reason": "Scheduled", "message": format!("Successfully assigned {ns}/{name} to {NODE}"), "source": {},
        "firstTimestamp": null, "lastTimestamp": null, "type": "Normal", "eventTime": format!("{micros:.6}"), "action": "Binding",
        "reportingComponent": "default-scheduler", "reportingInstance": format!("default-scheduler-{NODE}"),
    });
    // Its namespace may be going.
    let _ = shared.store.create(&EVENTS, event);
}
