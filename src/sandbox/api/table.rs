//! What `kubectl get` prints: the server makes the columns and cells, the client only aligns them. Columns of priority 1 are those of
//! `-o wide`.

use serde_json::{Value, json};

use super::super::objects::{condition, controller};
use super::super::resource::Resource;
use super::super::selector::Selector;
use super::super::store::text;
use crate::time::wall_now;

/// Name, type, priority.
type Column = (&'static str, &'static str, u8);

const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);

/// The columns of a kind, and how its objects fill them.
struct Layout {
    columns: &'static [Column],
    cells: fn(&Value) -> Vec<Value>,
}

/// Whether a table defines its columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Columns {
    Told,
    /// A watch has sent them already.
    Known,
}

/// A `Table` of objects.
pub fn table(resource: &'static Resource, objects: &[&Value], list_metadata: Value, told: Columns, include: &str) -> Value {
    let layout = layout(resource);
    let columns: Vec<Value> = layout
        .columns
        .iter()
        .map(|(name, kind, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": (layout.cells)(object)});
            match include {
                "None" => {}
                "Object" => row["object"] = (*object).clone(),
                _ => row["object"] = partial(object),
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
        "columnDefinitions": if told == Columns::Told { json!(columns) } else { Value::Null }, "rows": rows})
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn layout(resource: &'static Resource) -> Layout {
    const S: &str = "string";
    const I: &str = "integer";
    match resource.kind {
        "Pod" => Layout {
            columns: &[
                NAME,
                ("Ready", S, 0),
                ("Status", S, 0),
                ("Restarts", S, 0),
                AGE,
                ("IP", S, 1),
                ("Node", S, 1),
                ("Nominated Node", S, 1),
                ("Readiness Gates", S, 1),
            ],
            cells: pod,
        },
        "Deployment" => Layout {
            columns: &[
                NAME,
                ("Ready", S, 0),
                ("Up-to-date", S, 0),
                ("Available", S, 0),
                AGE,
                ("Containers", S, 1),
                ("Images", S, 1),
                ("Selector", S, 1),
            ],
            cells: |o| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
                let mut cells = vec![name(o), json!(ready), count(&status["updatedReplicas"]), count(&status["availableReplicas"])];
                cells.push(age(o));
                cells.extend(template(spec));
                cells
            },
        },
        "ReplicaSet" => Layout {
            columns: &[
                NAME,
                ("Desired", I, 0),
                ("Current", I, 0),
                ("Ready", I, 0),
                AGE,
                ("Containers", S, 1),
                ("Images", S, 1),
                ("Selector", S, 1),
            ],
            cells: |o| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let mut cells =
                    vec![name(o), count(&spec["replicas"]), count(&status["replicas"]), count(&status["readyReplicas"])];
                cells.push(age(o));
                cells.extend(template(spec));
                cells
            },
        },
        "StatefulSet" => Layout {
            columns: &[NAME, ("Ready", S, 0), AGE, ("Containers", S, 1), ("Images", S, 1)],
            cells: |o| {
                let ready = format!("{}/{}", number(&o["status"]["readyReplicas"]), number(&o["spec"]["replicas"]));
                let [containers, images, _] = template(&o["spec"]);
                vec![name(o), json!(ready), age(o), containers, images]
            },
        },
        "ControllerRevision" => Layout {
            columns: &[NAME, ("Controller", S, 0), ("Revision", S, 0), AGE],
            cells: |o| vec![name(o), controlled(o), count(&o["revision"]), age(o)],
        },
        "Job" => Layout {
            columns: &[
                NAME,
                ("Status", S, 0),
                ("Completions", S, 0),
                ("Duration", S, 0),
                AGE,
                ("Containers", S, 1),
                ("Images", S, 1),
                ("Selector", S, 1),
            ],
            cells: job,
        },
        "Service" => Layout {
            columns: &[
                NAME,
                ("Type", S, 0),
                ("Cluster-IP", S, 0),
                ("External-IP", S, 0),
                ("Port(s)", S, 0),
                AGE,
                ("Selector", S, 1),
            ],
            cells: service,
        },
        "HorizontalPodAutoscaler" => Layout {
            columns: &[NAME, ("Reference", S, 0), ("Targets", S, 0), ("MinPods", S, 0), ("MaxPods", S, 0), ("Replicas", S, 0), AGE],
            cells: autoscaler,
        },
        "Namespace" => {
            Layout { columns: &[NAME, ("Status", S, 0), AGE], cells: |o| vec![name(o), o["status"]["phase"].clone(), age(o)] }
        }
        "ConfigMap" => Layout {
            columns: &[NAME, ("Data", S, 0), AGE],
            cells: |o| vec![name(o), json!(entries(&o["data"]) + entries(&o["binaryData"])), age(o)],
        },
        "Secret" => Layout {
            columns: &[NAME, ("Type", S, 0), ("Data", S, 0), AGE],
            cells: |o| vec![name(o), o["type"].clone(), json!(entries(&o["data"])), age(o)],
        },
        "ServiceAccount" => Layout {
            columns: &[NAME, ("Secrets", S, 0), AGE],
            cells: |o| vec![name(o), json!(o["secrets"].as_array().map_or(0, Vec::len)), age(o)],
        },
        "Event" => Layout {
            columns: &[
                ("Last Seen", S, 0),
                ("Type", S, 0),
                ("Reason", S, 0),
                ("Object", S, 0),
                ("Subobject", S, 1),
                ("Source", S, 1),
                ("Message", S, 0),
                ("First Seen", S, 1),
                ("Count", S, 1),
                ("Name", S, 1),
            ],
            cells: event,
        },
        "Node" => Layout {
            columns: &[
                NAME,
                ("Status", S, 0),
                ("Roles", S, 0),
                AGE,
                ("Version", S, 0),
                ("Internal-IP", S, 1),
                ("External-IP", S, 1),
                ("OS-Image", S, 1),
                ("Kernel-Version", S, 1),
                ("Container-Runtime", S, 1),
            ],
            cells: node,
        },
        "EndpointSlice" => Layout {
            columns: &[NAME, ("AddressType", S, 0), ("Ports", S, 0), ("Endpoints", S, 0), AGE],
            cells: |o| {
                let ports = o["ports"].as_array().into_iter().flatten().map(|port| plain(&port["port"]));
                let addresses = o["endpoints"].as_array().into_iter().flatten();
                let addresses = addresses.flat_map(|e| e["addresses"].as_array().into_iter().flatten()).map(plain);
                vec![name(o), o["addressType"].clone(), json!(few(ports.collect())), json!(few(addresses.collect())), age(o)]
            },
        },
        "Endpoints" => {
            Layout { columns: &[NAME, ("Endpoints", S, 0), AGE], cells: |o| vec![name(o), json!(addresses(&o["subsets"])), age(o)] }
        }
        "PodMetrics" | "NodeMetrics" => Layout {
            columns: &[NAME, ("CPU", S, 0), ("Memory", S, 0), ("Window", S, 0)],
            cells: |o| {
                let [cpu, memory] = ["cpu", "memory"].map(|resource| used(o, resource));
                vec![name(o), json!(cpu), json!(memory), o["window"].clone()]
            },
        },
        "PodDisruptionBudget" => Layout {
            columns: &[NAME, ("Min Available", S, 0), ("Max Unavailable", S, 0), ("Allowed Disruptions", S, 0), AGE],
            cells: |o| {
                let or = |value: &Value| if value.is_null() { json!("N/A") } else { json!(plain(value)) };
                let (spec, status) = (&o["spec"], &o["status"]);
                let allowed = count(&status["disruptionsAllowed"]);
                vec![name(o), or(&spec["minAvailable"]), or(&spec["maxUnavailable"]), allowed, age(o)]
            },
        },
        "ScaledObject" => Layout {
            columns: &[
                NAME,
                ("ScaleTargetKind", S, 0),
                ("ScaleTargetName", S, 0),
                ("Min", I, 0),
                ("Max", I, 0),
                ("Ready", S, 0),
                ("Active", S, 0),
                ("Fallback", S, 0),
                ("Paused", S, 0),
                ("Triggers", S, 0),
                ("Authentications", S, 0),
                ("Age", "date", 0),
            ],
            cells: |o| {
                let (spec, status) = (&o["spec"], &o["status"]);
                // What is not there is an empty cell, as of every kind that a definition brings.
                let holds = |kind: &str| condition(o, kind).map_or(Value::Null, |c| c["status"].clone());
                let target = [status["scaleTargetKind"].clone(), spec["scaleTargetRef"]["name"].clone()];
                let bounds = [spec["minReplicaCount"].clone(), spec["maxReplicaCount"].clone()];
                let states = ["Ready", "Active", "Fallback", "Paused"].map(holds);
                let kinds = [status["triggersTypes"].clone(), status["authenticationsTypes"].clone()];
                let cells = [vec![name(o)], target.into(), bounds.into(), states.into(), kinds.into(), vec![age(o)]];
                cells.concat()
            },
        },
        "Lease" => Layout {
            columns: &[NAME, ("Holder", S, 0), AGE],
            cells: |o| vec![name(o), json!(plain(&o["spec"]["holderIdentity"])), age(o)],
        },
        _ => Layout {
            columns: &[NAME, ("Created At", "date", 0)],
            cells: |o| vec![name(o), o["metadata"]["creationTimestamp"].clone()],
        },
    }
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn age(object: &Value) -> Value {
    json!(since(&object["metadata"]["creationTimestamp"]))
}

/// Who controls it, as `statefulset.apps/web`.
fn controlled(object: &Value) -> Value {
    let owner = controller(object).map(|owner| {
        let kind = plain(&owner["kind"]).to_lowercase();
        let group = plain(&owner["apiVersion"]).split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
        format!("{kind}{group}/{}", plain(&owner["name"]))
    });
    json!(or_none(owner.unwrap_or_default()))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn count(value: &Value) -> Value {
    json!(number(value))
}

fn entries(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

/// A text or a number without its quotes; empty for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".into() } else { text }
}

/// At most three of them.
fn few(all: Vec<String>) -> String {
    match all.len() {
        0 => "<unset>".into(),
        1..=3 => all.join(","),
        n => format!("{} + {} more...", all[..3].join(","), n - 3),
    }
}

/// The ready addresses of Endpoints, each with each of its ports: three at most.
fn addresses(subsets: &Value) -> String {
    let list = |subset: &Value, field: &str| subset.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = vec![];
    for subset in subsets.as_array().into_iter().flatten() {
        let ips: Vec<String> = list(subset, "addresses").iter().map(|address| plain(&address["ip"])).collect();
        let ports = list(subset, "ports");
        // A headless service may have no ports.
        if ports.is_empty() {
            all.extend(ips.clone());
        }
        all.extend(ports.iter().flat_map(|port| ips.iter().map(move |ip| format!("{ip}:{}", port["port"]))));
    }
    if all.is_empty() { "<none>".into() } else { few(all) }
}

/// What the containers of a pod, or a whole node, use of a resource.
fn used(metrics: &Value, resource: &str) -> String {
    let containers = metrics["containers"].as_array().map(Vec::as_slice);
    let unit = if resource == "cpu" { "n" } else { "Ki" };
    let amount =
        |usage: &Value| plain(&usage[resource]).strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    let sum: u64 = match containers {
        Some(containers) => containers.iter().map(|container| amount(&container["usage"])).sum(),
        None => amount(&metrics["usage"]),
    };
    format!("{sum}{unit}")
}

/// How long ago a time stamp was, as Kubernetes prints it: two units at most.
fn since(stamp: &Value) -> String {
    match stamp.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(then) => human(wall_now().as_second() - then.as_second()),
        None => "<unknown>".into(),
    }
}

fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |first: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{first}{unit}"),
        rest => format!("{first}{unit}{rest}{small}"),
    };
    match seconds {
        i64::MIN..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

fn template(spec: &Value) -> [Value; 3] {
    let containers = spec["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let all = |field: &str| containers.iter().map(|c| plain(&c[field])).collect::<Vec<_>>().join(",");
    let selector = Selector::of(&spec["selector"]).map(|s| s.to_string()).unwrap_or_default();
    [json!(all("name")), json!(all("image")), json!(or_none(selector))]
}

fn pod(pod: &Value) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let statuses = status["containerStatuses"].as_array().cloned().unwrap_or_default();
    let ready = statuses.iter().filter(|s| s["ready"] == true).count();
    let restarts: i64 = statuses.iter().map(|s| number(&s["restartCount"])).sum();
    let last = statuses.iter().filter_map(|s| s["lastState"]["terminated"]["finishedAt"].as_str()).max();
    let restarts = match last.filter(|_| restarts > 0) {
        Some(last) => format!("{restarts} ({} ago)", since(&json!(last))),
        None => restarts.to_string(),
    };
    let total = spec["containers"].as_array().map_or(0, Vec::len);
    vec![
        name(pod),
        json!(format!("{ready}/{total}")),
        json!(pod_word(pod, &statuses)),
        json!(restarts),
        age(pod),
        json!(or_none(plain(&status["podIP"]))),
        json!(or_none(plain(&spec["nodeName"]))),
        json!(or_none(plain(&status["nominatedNodeName"]))),
        json!("<none>"),
    ]
}

/// The one word that sums up a pod: its phase, unless a container has something more telling to say.
fn pod_word(pod: &Value, statuses: &[Value]) -> String {
    let status = &pod["status"];
    let mut word = [&status["reason"], &status["phase"]].into_iter().map(plain).find(|w| !w.is_empty()).unwrap_or_default();
    if condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled["reason"] == "SchedulingGated") {
        word = "SchedulingGated".into();
    }
    let init = status["initContainerStatuses"].as_array().cloned().unwrap_or_default();
    let total = pod["spec"]["initContainers"].as_array().map_or(0, Vec::len);
    let told = |state: &Value| {
        let ended = &state["terminated"];
        match (plain(&state["waiting"]["reason"]), plain(&ended["reason"])) {
            (waiting, _) if !waiting.is_empty() => Some(waiting),
            (_, reason) if !reason.is_empty() => Some(reason),
            _ if ended.is_object() && number(&ended["signal"]) != 0 => Some(format!("Signal:{}", ended["signal"])),
            _ if ended.is_object() => Some(format!("ExitCode:{}", ended["exitCode"])),
            _ => None,
        }
    };
    let mut initialising = false;
    for (i, status) in init.iter().enumerate() {
        let state = &status["state"];
        let done = state["terminated"].is_object() && state["terminated"]["exitCode"] == 0;
        if done || status["started"] == true {
            continue;
        }
        word = match told(state).filter(|word| word != "PodInitializing") {
            Some(reason) => format!("Init:{reason}"),
            None => format!("Init:{i}/{total}"),
        };
        initialising = true;
        break;
    }
    if !initialising {
        let mut running = false;
        for status in statuses.iter().rev() {
            match told(&status["state"]) {
                Some(reason) => word = reason,
                None => running |= status["ready"] == true && status["state"]["running"].is_object(),
            }
        }
        if word == "Completed" && running {
            let conditions = status["conditions"].as_array();
            let ready = conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
            word = if ready { "Running".into() } else { "NotReady".into() };
        }
    }
    if !text(pod, "deletionTimestamp").is_empty() {
        word = if status["reason"] == "NodeLost" { "Unknown".into() } else { "Terminating".into() };
    }
    word
}

fn job(job: &Value) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let holding = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().find(|c| c["type"] == kind && c["status"] == "True")
    };
    let says = |kind| holding(kind).is_some().then_some(kind);
    let leaves = || (!text(job, "deletionTimestamp").is_empty()).then_some("Terminating");
    let word = says("Complete").or_else(|| says("Failed")).or_else(leaves).or_else(|| says("Suspended"));
    let word = word.or_else(|| says("FailureTarget")).or_else(|| says("SuccessCriteriaMet")).unwrap_or("Running");
    let succeeded = number(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let second = |stamp: &Value| stamp.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(|t| t.as_second());
    let failed = holding("Failed").and_then(|c| second(&c["lastTransitionTime"]));
    let end = second(&status["completionTime"]).or(failed).unwrap_or_else(|| wall_now().as_second());
    let duration = second(&status["startTime"]).map_or(String::new(), |start| human(end - start));
    let mut cells = vec![name(job), json!(word), json!(completions), json!(duration), age(job)];
    cells.extend(template(spec));
    cells
}

fn service(service: &Value) -> Vec<Value> {
    let spec = &service["spec"];
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| match number(&port["nodePort"]) {
            0 => format!("{}/{}", port["port"], plain(&port["protocol"])),
            node => format!("{}:{node}/{}", port["port"], plain(&port["protocol"])),
        })
        .collect();
    let joined = |list: &Value| list.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(",");
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let given: Vec<String> = ingress.map(|at| [&at["ip"], &at["hostname"]].map(plain).concat()).collect();
    let external = match spec["type"].as_str().unwrap_or_default() {
        "ExternalName" => plain(&spec["externalName"]),
        "LoadBalancer" => {
            let all: Vec<String> = given.into_iter().chain([joined(&spec["externalIPs"])]).filter(|at| !at.is_empty()).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        _ => or_none(joined(&spec["externalIPs"])),
    };
    let selector = Selector::of(&spec["selector"]).map(|s| s.to_string()).unwrap_or_default();
    vec![
        name(service),
        spec["type"].clone(),
        json!(or_none(plain(&spec["clusterIP"]))),
        json!(external),
        json!(or_none(ports.join(","))),
        age(service),
        json!(or_none(selector)),
    ]
}

fn autoscaler(autoscaler: &Value) -> Vec<Value> {
    let (spec, status) = (&autoscaler["spec"], &autoscaler["status"]);
    let target = &spec["scaleTargetRef"];
    let current = status["currentMetrics"].as_array().cloned().unwrap_or_default();
    let metrics = spec["metrics"].as_array().cloned().unwrap_or_default();
    let told: Vec<String> = metrics.iter().enumerate().map(|(i, metric)| metric_word(metric, current.get(i))).collect();
    let told = match told.len() {
        0 => "<none>".into(),
        1 | 2 => told.join(", "),
        n => format!("{} + {} more...", told[..2].join(", "), n - 2),
    };
    vec![
        name(autoscaler),
        json!(format!("{}/{}", plain(&target["kind"]), plain(&target["name"]))),
        json!(told),
        json!(spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |n| n.to_string())),
        count(&spec["maxReplicas"]),
        count(&status["currentReplicas"]),
        age(autoscaler),
    ]
}

/// `cpu: 40%/50%`, `12/10`: current and wanted.
fn metric_word(metric: &Value, current: Option<&Value>) -> String {
    let kind = plain(&metric["type"]);
    let mut key: String = kind.clone();
    if let Some(first) = key.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let source = &metric[&key];
    let target = &source["target"];
    let now = current.map(|current| &current[&key]["current"]);
    let field = match plain(&target["type"]).as_str() {
        "Utilization" => "averageUtilization",
        "AverageValue" => "averageValue",
        _ => "value",
    };
    let percent = if field == "averageUtilization" { "%" } else { "" };
    let current = now.map(|now| plain(&now[field])).filter(|text| !text.is_empty());
    let current = current.map_or("<unknown>".into(), |text| format!("{text}{percent}"));
    let average = if field == "averageValue" && matches!(kind.as_str(), "Object" | "External") { " (avg)" } else { "" };
    let pair = format!("{current}/{}{percent}{average}", plain(&target[field]));
    match kind.as_str() {
        "Resource" => format!("{}: {pair}", plain(&source["name"])),
        "ContainerResource" => format!("{}: {pair}", plain(&source["name"])),
        _ => pair,
    }
}

fn event(event: &Value) -> Vec<Value> {
    let object = &event["involvedObject"];
    let first_of = |fields: &[&Value]| fields.iter().map(|v| plain(v)).find(|text| !text.is_empty()).unwrap_or_default();
    let last =
        first_of(&[&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]]);
    let first = first_of(&[&event["firstTimestamp"], &event["eventTime"]]);
    let source = [plain(&event["source"]["component"]), plain(&event["source"]["host"])];
    vec![
        json!(since(&json!(last))),
        event["type"].clone(),
        event["reason"].clone(),
        json!(format!("{}/{}", plain(&object["kind"]).to_lowercase(), plain(&object["name"]))),
        json!(plain(&object["fieldPath"])),
        json!(source.iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>().join(", ")),
        json!(plain(&event["message"]).trim()),
        json!(since(&json!(first))),
        json!(event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1)),
        name(event),
    ]
}

fn node(node: &Value) -> Vec<Value> {
    let status = &node["status"];
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    let mut word = match ready.map(|c| plain(&c["status"])).as_deref() {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        word += ",SchedulingDisabled";
    }
    let roles: Vec<&str> = node["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    let address = |kind: &str| {
        let found = status["addresses"].as_array().into_iter().flatten().find(|a| a["type"] == kind);
        json!(or_none(found.map(|a| plain(&a["address"])).unwrap_or_default()))
    };
    let info = |field: &str| json!(plain(&status["nodeInfo"][field]));
    let known = |field: &str| Some(info(field)).filter(|word| *word != "").unwrap_or_else(|| json!("<unknown>"));
    vec![
        name(node),
        json!(word),
        json!(or_none(roles.join(","))),
        age(node),
        info("kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        known("osImage"),
        known("kernelVersion"),
        known("containerRuntimeVersion"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::{ANSWERED, RESOURCES};
    use super::*;

    #[test]
    fn every_kind_has_a_cell_for_each_column() {
        for resource in RESOURCES.iter().chain(ANSWERED) {
            let layout = layout(resource);
            let object = json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}});
            assert_eq!((layout.cells)(&object).len(), layout.columns.len(), "{}", resource.kind);
        }
    }

    #[test]
    fn endpoints_are_told_with_their_ports_and_three_at_most() {
        let subset = |ips: &[&str], ports: &[i64]| {
            let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
            json!({"addresses": addresses, "ports": ports})
        };
        for (subsets, told) in [
            (json!([]), "<none>"),
            (json!([{"notReadyAddresses": [{"ip": "a"}], "ports": [{"port": 1}]}]), "<none>"),
            (json!([subset(&["a", "b"], &[80])]), "a:80,b:80"),
            (json!([subset(&["a"], &[])]), "a"),
            (json!([subset(&["a", "b"], &[80, 81]), subset(&["c"], &[80])]), "a:80,b:80,a:81 + 2 more..."),
        ] {
            assert_eq!(addresses(&subsets), told);
        }
    }

    #[test]
    fn ages_are_told_in_two_units_at_most() {
        let told = [(5, "5s"), (119, "119s"), (125, "2m5s"), (600, "10m"), (10_860, "3h1m"), (100_000, "27h"), (200_000, "2d7h")];
        for (seconds, word) in told {
            assert_eq!(human(seconds), word);
        }
    }

    #[test]
    fn a_pods_word_is_its_most_telling_one() {
        let pod = |extra: Value| {
            let mut pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
            json_patch::merge(&mut pod, &extra);
            pod
        };
        let word = |pod: &Value| pod_word(pod, pod["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice));
        assert_eq!(word(&pod(json!({}))), "Running");
        assert_eq!(word(&pod(json!({"metadata": {"deletionTimestamp": "x"}}))), "Terminating");
        let waiting = json!({"status": {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert_eq!(word(&pod(waiting)), "CrashLoopBackOff");
        let ended = json!({"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}});
        assert_eq!(word(&pod(ended)), "ExitCode:3");
    }
}
