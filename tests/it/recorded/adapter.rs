//! The adapter before the recorded server: what it is told it must take for what it was, in the order in which it was, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall::cluster::pod::{EphemeralState, Grace, LogOf, Really};
use squall::cluster::watch::{Missed, Scope, Sight};
use squall::cluster::{Cluster, Error, Kind, Pod};
use squall::observe::{self, Watchlist};
use squall::recording::Recording as Run;
use squall::recording::fact::{Ending, Fact, RunEnded, ScalingRules};
use squall::rights::Need;
use squall::sandbox::store::text;
use squall::time::Clock;
use squall::units::quantity;
use tokio::sync::mpsc;

use super::recording::{Recording, Seen, Watch};
use crate::scripted::{Asked, Reply, Scripted, not_scripted};
use crate::shop::started;

/// What takes longer on a machine under load has not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is observed wherever a run looks. The rest of what was recorded nobody asks for.
const OBSERVED: &[&str] = &["pods", "endpointslices", "events", "deployments", "horizontalpodautoscalers"];

/// Answers of discovery as recorded, by path.
fn discovery() -> BTreeMap<String, (u16, Value)> {
    let recording = Recording::read("discovery");
    // The aggregated documents are asked for under the same paths, by another `accept`.
    let plain = recording.exchanges().iter().filter(|exchange| exchange["request"]["accept"] == "application/json");
    plain.map(|exchange| (exchange["request"]["path"].as_str().unwrap_or_default().to_owned(), answer_of(exchange))).collect()
}

fn answer_of(exchange: &Value) -> (u16, Value) {
    let response = &exchange["response"];
    (response["status"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a status"), response["body"].clone())
}

fn reply(answer: &(u16, Value)) -> Reply {
    match answer {
        (code, Value::String(text)) => Reply::Text(*code, text.clone()),
        (code, body) => Reply::Json(*code, body.clone()),
    }
}

/// A stream that tells nothing and does not end.
fn silence() -> Reply {
    let (send, lines) = mpsc::channel(1);
    tokio::spawn(async move { send.closed().await });
    Reply::Stream(lines)
}

/// The recorded server with the watches of one file, each of which tells what it is given.
struct Server {
    scripted: Scripted,
    watches: BTreeMap<String, mpsc::Sender<String>>,
}

impl Server {
    async fn of(recording: &Recording) -> Server {
        let discovery = discovery();
        let (mut watches, mut streams, mut lists) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let told = |watch: &Watch| OBSERVED.contains(&watch.plural()) && is_whole(watch.events);
        for watch in recording.watches().into_iter().filter(told) {
            let (send, lines) = mpsc::channel(16);
            watches.insert(watch.plural().to_owned(), send);
            streams.insert(watch.path.to_owned(), lines);
            lists.insert(watch.path.to_owned(), watch.from);
        }
        let streams = Mutex::new(streams);
        let scripted = Scripted::start(move |asked: &Asked| {
            let path = asked.path.split('?').next().unwrap_or_default();
            match discovery.get(path) {
                Some(answer) => reply(answer),
                None if !path.contains("/namespaces/") => not_scripted(),
                None if asked.watches() => {
                    let lines = streams.lock().expect("nobody panics with it").remove(path);
                    lines.map_or_else(silence, Reply::Stream)
                }
                None => {
                    let version = lists.get(path).copied().unwrap_or(1).to_string();
                    Reply::Json(
                        200,
                        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": []}),
                    )
                }
            }
        })
        .await;
        Server { scripted, watches }
    }

    async fn tell(&self, seen: &Seen) {
        let line = json!({"type": seen.how, "object": seen.object}).to_string();
        let sent = tokio::time::timeout(PATIENCE, self.watches[&seen.plural].send(line)).await;
        sent.expect("somebody listens").expect("the watch is open");
    }
}

/// Whether objects are recorded with all that a server gives: the pods of autoscalers are cut to what their controller looks at.
fn is_whole(events: &[Value]) -> bool {
    events.iter().all(|event| !text(&event["object"], "resourceVersion").is_empty())
}

/// What an observer has to say of a recorded change, read off the recording by itself.
#[derive(Default)]
struct Expected {
    last: BTreeMap<String, String>,
}

impl Expected {
    fn of(&mut self, seen: &Seen) -> Vec<String> {
        let object = &seen.object;
        let name = text(object, "name");
        match seen.plural.as_str() {
            "pods" => self.pod(seen),
            "endpointslices" => {
                let service = object["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
                let in_state = |wanted: [bool; 2]| {
                    let list = object["endpoints"].as_array().into_iter().flatten();
                    let is_it = |e: &&Value| [e["conditions"]["ready"] == true, e["conditions"]["terminating"] == true] == wanted;
                    list.filter(is_it).filter_map(|e| e["targetRef"]["name"].as_str()).map(str::to_owned).collect::<BTreeSet<_>>()
                };
                let states = [in_state([true, false]), in_state([false, false]), in_state([false, true])];
                self.changed(&format!("endpoints {service}"), format!("{states:?}")).into_iter().collect()
            }
            "events" => {
                let about = &object["involvedObject"];
                let count = object["count"].as_u64().or(object["series"]["count"].as_u64()).unwrap_or(1);
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let line = format!(
                    "event {}/{} {} {} x{count}: {}",
                    word(&about["kind"]).to_lowercase(),
                    word(&about["name"]),
                    word(&object["type"]),
                    word(&object["reason"]),
                    word(&object["message"])
                );
                let is_new = self.changed(&format!("count {}", text(object, "uid")), count.to_string()).is_some();
                is_new.then_some(line).into_iter().collect()
            }
            "deployments" => {
                let (spec, status) = (&object["spec"], &object["status"]);
                let number = |value: &Value| value.as_f64().unwrap_or(0.0);
                let mut lines = self.readings(
                    "deployment",
                    name,
                    &[
                        ("exists", 1.0),
                        ("desired_replicas", number(&spec["replicas"])),
                        ("replicas", number(&status["replicas"])),
                        ("ready_replicas", number(&status["readyReplicas"])),
                    ],
                );
                lines.extend(self.conditions("deployment", object));
                lines
            }
            "horizontalpodautoscalers" => self.autoscaler(object),
            _ => vec![],
        }
    }

    fn pod(&mut self, seen: &Seen) -> Vec<String> {
        let object = &seen.object;
        let status = &object["status"];
        let condition = |kind: &str| status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind).cloned();
        let of_container = |container: &Value| {
            let (waiting, ended) = (&container["state"]["waiting"]["reason"], &container["state"]["terminated"]["reason"]);
            let reasons = [waiting, ended].into_iter().filter_map(Value::as_str);
            reasons
                .filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing" | "Completed"))
                .map(str::to_owned)
                .next()
        };
        let containers = || status["containerStatuses"].as_array().into_iter().flatten();
        let unplaced = condition("PodScheduled").filter(|c| c["status"] == "False");
        let reason = containers().find_map(of_container).or(unplaced.and_then(|c| c["reason"].as_str().map(str::to_owned)));
        let gone = seen.how == "DELETED";
        let line = format!(
            "pod {} {} ready={} terminating={} gone={gone} restarts={} ip={:?} reason={reason:?}",
            text(object, "name"),
            status["phase"].as_str().unwrap_or_default(),
            !gone && condition("Ready").is_some_and(|c| c["status"] == "True"),
            !text(object, "deletionTimestamp").is_empty(),
            containers().map(|c| c["restartCount"].as_u64().unwrap_or(0)).sum::<u64>(),
            status["podIP"].as_str(),
        );
        self.changed(&format!("pod {}", text(object, "uid")), line.clone()).map(|_| line).into_iter().collect()
    }

    fn autoscaler(&mut self, object: &Value) -> Vec<String> {
        let (kind, name) = ("horizontalpodautoscaler", text(object, "name"));
        let mut lines = self.readings(kind, name, &[("exists", 1.0)]);
        let spec = &object["spec"];
        let behavior = |direction: &str, window: u64, policies: Value| {
            let given = &spec["behavior"][direction];
            let list = if given["policies"].is_array() { given["policies"].clone() } else { policies };
            let of = |p: &Value| format!("{} {}/{}s", p["type"].as_str().unwrap_or_default(), p["value"], p["periodSeconds"]);
            let list: Vec<String> = list.as_array().into_iter().flatten().map(of).collect();
            format!("{}s {list:?}", given["stabilizationWindowSeconds"].as_u64().unwrap_or(window))
        };
        let all = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        let four = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, all[0]]);
        let described = format!(
            "autoscaler {name} {}..{} up {} down {}",
            spec["minReplicas"],
            spec["maxReplicas"],
            behavior("scaleUp", 0, four),
            behavior("scaleDown", 300, all)
        );
        lines.extend(self.changed(&format!("spec {name}"), described.clone()).map(|_| described));
        let status = &object["status"];
        let number = |field: &str| status[field].as_f64().unwrap_or(0.0);
        let has_looked = status["conditions"].as_array().is_some_and(|list| !list.is_empty());
        if has_looked || number("desiredReplicas") > 0.0 {
            let counts = [("current_replicas", number("currentReplicas")), ("desired_replicas", number("desiredReplicas"))];
            lines.extend(self.readings(kind, name, &counts));
        }
        for metric in status["currentMetrics"].as_array().into_iter().flatten() {
            let (resource, current) = (&metric["resource"]["name"], &metric["resource"]["current"]);
            let Some(resource) = resource.as_str() else { continue };
            let utilization = current["averageUtilization"].as_f64();
            lines.extend(
                utilization.into_iter().flat_map(|value| self.readings(kind, name, &[(&format!("{resource}.utilization"), value)])),
            );
            let average = current["averageValue"].as_str().and_then(quantity);
            lines.extend(average.into_iter().flat_map(|value| self.readings(kind, name, &[(resource, value)])));
        }
        lines.extend(self.conditions(kind, object));
        lines
    }

    fn readings(&mut self, kind: &str, name: &str, readings: &[(&str, f64)]) -> Vec<String> {
        let line = |(metric, value): &(&str, f64)| self.changed(&format!("{kind} {name} {metric}"), value.to_string());
        readings.iter().filter_map(line).collect()
    }

    fn conditions(&mut self, kind: &str, object: &Value) -> Vec<String> {
        let name = text(object, "name");
        let word = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
        let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let line = |c: &Value| {
            let says = format!("{} {}", word(c, "status"), word(c, "reason"));
            self.changed(&format!("{kind} {name} {}", word(c, "type")), says)
        };
        list.iter().filter_map(line).collect()
    }

    /// The line, where it is another than the last of its kind.
    fn changed(&mut self, what: &str, now: String) -> Option<String> {
        (self.last.insert(what.to_owned(), now.clone()) != Some(now.clone())).then(|| format!("{what} {now}"))
    }
}

/// A fact in the same words; `None` where it is not about the cluster.
fn line_of(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Pod(pod) => format!(
            "pod {} {} ready={} terminating={} gone={} restarts={} ip={:?} reason={:?}",
            pod.name,
            pod.phase,
            pod.ready,
            pod.terminating,
            pod.gone,
            pod.restarts,
            pod.ip.as_deref(),
            pod.reason
        ),
        Fact::Endpoints { service, ready, not_ready, terminating } => {
            let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
            format!("endpoints {} {:?}", service.name, [set(ready), set(not_ready), set(terminating)])
        }
        Fact::ClusterEvent { object, kind, reason, message, count } => {
            format!("event {}/{} {kind} {reason} x{count}: {message}", object.kind, object.name)
        }
        Fact::Reading(reading) => format!("{} {} {} {}", reading.object.kind, reading.object.name, reading.metric, reading.value),
        Fact::Condition { object, condition, status, reason, .. } => {
            format!("{} {} {condition} {status} {reason}", object.kind, object.name)
        }
        Fact::Autoscaler(spec) => {
            let rules = |rules: &ScalingRules| {
                let of = |p: &squall::recording::fact::ScalingPolicy| format!("{} {}/{}s", p.kind, p.value, p.period_s);
                format!("{}s {:?}", rules.stabilization_window_s, rules.policies.iter().map(of).collect::<Vec<_>>())
            };
            let (name, up, down) = (&spec.object.name, rules(&spec.scale_up), rules(&spec.scale_down));
            format!("autoscaler {name} {}..{} up {up} down {down}", spec.min_replicas, spec.max_replicas)
        }
        // A busy machine takes its time to open a connection. What was told meanwhile is told afterwards, and held to all the same.
        Fact::Gap(gap) if gap.reason.starts_with("the watch is being opened") => return None,
        Fact::Gap(gap) => format!("gap {}: {}", gap.source, gap.reason),
        _ => return None,
    })
}

/// Tells the adapter what a file holds, change by change, and holds what its observers say against what was to be said.
async fn observes(file: &str) {
    let recording = Recording::read(file);
    let server = Server::of(&recording).await;
    let cluster = server.scripted.connect().await;
    let dir = tempfile::tempdir().expect("there is room for a folder");
    // The observers begin before the run does: they miss nothing of it.
    let (sink, run) =
        Run::create(dir.path(), Clock::starting_in(Duration::from_secs(600)), started()).expect("the folder is writable");
    let mut heard = sink.subscribe();
    let list = Watchlist { namespaces: ["shop".to_owned()].into(), ..Watchlist::default() };
    let mut observers = observe::start(cluster, list, sink.clone()).await.expect("the recorded server serves every kind");
    observers.synced(PATIENCE).await.expect("every list is answered");

    let mut expected = Expected::default();
    let (mut wanted, mut got) = (vec![], vec![]);
    for seen in recording.seen().into_iter().filter(|seen| server.watches.contains_key(&seen.plural)) {
        let lines = expected.of(&seen);
        server.tell(&seen).await;
        // The next is told when this was taken in: so the order between objects, which come by connections of their own, is held, too.
        while got.len() < wanted.len() + lines.len() {
            let event = tokio::time::timeout(PATIENCE, heard.recv()).await;
            let Ok(event) = event else { break };
            got.extend(line_of(&event.expect("the recording lives and keeps up").fact));
        }
        wanted.extend(lines);
        assert_eq!(got, wanted, "{file}: after {} of {} at version {}", seen.how, seen.plural, seen.version);
    }
    assert!(!wanted.is_empty(), "{file} tells nothing");
    observers.stop().await;
    drop(sink);
    run.close(RunEnded { how: Ending::Completed, lost_events: 0 }).expect("the run is written");
    while let Ok(event) = heard.try_recv() {
        assert_eq!(line_of(&event.fact), None, "{file}: nothing more was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_cluster_tells_of_its_workloads_is_what_is_observed() {
    for file in ["kill-force", "kill-graceful", "scale", "rollout", "job", "unschedulable"] {
        observes(&format!("watch-{file}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_cluster_tells_of_its_autoscalers_is_what_is_observed() {
    for file in ["ambiguous", "cpu-out-and-in", "max-reached", "missing-request", "no-metrics", "up-policy"] {
        observes(&format!("hpa-{file}")).await;
    }
}

/// A server that answers as these exchanges of a file did, and its discovery as recorded.
async fn answering(file: &str, titles: &[&str]) -> (Scripted, Cluster) {
    let recording = Recording::read(file);
    let place = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
    let mut answers: BTreeMap<(String, String), (u16, Value)> =
        discovery().into_iter().map(|(path, answer)| (("GET".into(), path), answer)).collect();
    for title in titles {
        let exchange = recording.exchange(title);
        let word = |field: &str| exchange["request"][field].as_str().unwrap_or_default().to_owned();
        answers.insert((word("method"), place(&word("path"))), answer_of(exchange));
    }
    let server = Scripted::start(move |asked: &Asked| {
        let answer = answers.get(&(asked.method.clone(), place(&asked.path)));
        answer.map_or_else(not_scripted, reply)
    })
    .await;
    let cluster = server.connect().await;
    (server, cluster)
}

/// A pod of a recorded answer.
fn pod_of(file: &str, title: &str) -> Pod {
    Pod::read(&answer_of(Recording::read(file).exchange(title)).1).expect("it is a pod")
}

/// The same under another name.
fn namesake(pod: &Pod, name: &str) -> Pod {
    Pod { name: name.to_owned(), ..pod.clone() }
}

#[tokio::test]
async fn a_real_clusters_refusals_are_told_apart() {
    let victim = pod_of("eviction", "the pod then");
    let (_server, cluster) = answering("eviction", &["evict against the budget", "evict what is not there"]).await;
    assert_eq!((cluster.kind(), cluster.version().await.expect("it has one").as_str()), (Kind::Real, "v1.36.2"));
    let error = cluster.evict_pod(&victim, Grace::Own).await.unwrap_err();
    assert!(
        matches!(&error, Error::Budget { why, .. } if why.contains("The disruption budget web needs 2 healthy pods and has 2 currently")),
        "{error:?}"
    );
    assert!(cluster.evict_pod(&namesake(&victim, "nope"), Grace::Own).await.unwrap_err().is_not_found());
    let (_server, cluster) = answering("eviction", &["evict within the budget"]).await;
    cluster.evict_pod(&victim, Grace::Own).await.expect("the budget allows it");

    let pod = pod_of("objects", "a running pod");
    let (_server, cluster) = answering("objects", &["delete with a wrong uid precondition", "get what is not there"]).await;
    let error = cluster.delete_pod(&pod, Grace::Seconds(0)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { why, .. } if why.contains("does not match the UID in record")), "{error:?}");
    let error = cluster.workload(&"shop/deployment/nope".parse().unwrap()).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let (_server, cluster) = answering("objects", &["as someone without permission", "a negative scale"]).await;
    let error = cluster.pods("shop", "app=web").await.unwrap_err();
    assert!(matches!(&error, Error::Forbidden { why, .. } if why.contains("cannot list resource \"pods\"")), "{error:?}");
    let error = cluster.scale(&"shop/deployment/web".parse().unwrap(), 2).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { code: 422, .. }), "{error:?}");

    let pod = pod_of("ephemeral", "dry run");
    let agent = json!({"name": "squall-r1-1", "image": "registry.local/busybox:1"});
    for (title, is_it, words) in [
        (
            "refused by pod security (baseline)",
            (|error| matches!(error, Error::Forbidden { .. })) as fn(&Error) -> bool,
            "violates PodSecurity \"baseline:latest\"",
        ),
        ("change it", |error| matches!(error, Error::Refused { code: 422, .. }), "existing ephemeral containers"),
    ] {
        let (_server, cluster) = answering("ephemeral", &[title]).await;
        let error = cluster.add_ephemeral_container(&pod, agent.clone(), Really::DryRun).await.unwrap_err();
        assert!(is_it(&error) && error.to_string().contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn a_real_clusters_objects_are_read_as_what_they_are() {
    let (server, cluster) = answering(
        "objects",
        &["get", "list by label", "list replica sets", "patch the scale", "may I evict", "its log", "a running pod"],
    )
    .await;
    for (word, plural) in
        [("hpa", "horizontalpodautoscalers"), ("deploy", "deployments"), ("sts", "statefulsets"), ("pdb", "poddisruptionbudgets")]
    {
        assert_eq!(cluster.resource_named(word).await.expect("it is served").plural, plural);
    }
    let web = "shop/deployment/web".parse().unwrap();
    let workload = cluster.workload(&web).await.expect("it is there");
    assert_eq!((workload.wanted, workload.ready, workload.updated, workload.observed), (2, 2, 2, true));
    let pods = cluster.pods("shop", "app=web").await.expect("they are there");
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert!(pod.serves() && pod.grace_s == 5 && pod.restarts == 0 && pod.reason.is_none(), "{pod:?}");
        assert_eq!((pod.owner.as_deref(), pod.node.as_deref()), (Some("web-6f6547f7bf"), Some("node1")));
        assert_eq!((&pod.ports[..], &pod.probe), (&[8080][..], &Some((8080, "/ready".to_owned()))));
    }
    cluster.scale(&web, 2).await.expect("it can be scaled");
    let asked = server.asked().into_iter().rfind(|asked| asked.path.contains("/scale")).expect("the scale was patched");
    assert_eq!(asked.body["spec"]["replicas"], 2);
    let need = Need {
        verb: "create".into(),
        group: String::new(),
        resource: "pods/eviction".into(),
        namespace: Some("shop".into()),
        name: None,
    };
    assert!(cluster.may(&need).await.expect("it answers"));
    assert_eq!(cluster.log("shop", "web-d94d8f678-dvsrz", "web", 5, LogOf::Current).await.expect("it has one"), "");
    let (_server, cluster) = answering("objects", &["may nobody evict"]).await;
    assert!(!cluster.may(&need).await.expect("it answers"));

    let ephemeral = |title: &str| pod_of("ephemeral", title).ephemeral.pop().expect("it has one").state;
    assert!(matches!(ephemeral("add one"), EphemeralState::Waiting { .. }));
    assert_eq!(ephemeral("the pod while it runs"), EphemeralState::Running);
    assert!(
        matches!(ephemeral("the pod after it ended"), EphemeralState::Terminated { exit_code: 0, reason, .. } if reason == "Completed")
    );
}

#[tokio::test]
async fn what_a_real_cluster_no_longer_tells_is_blindness() {
    // Goal: a version that is too old, and a server that has not come so far yet. How: the recorded 410 ends the stream, the recorded 504
    // answers the list after it, and only then there is one.
    let errors = Recording::read("watch-errors");
    let (_, too_old) = answer_of(errors.exchange("a version that is too old"));
    let future = answer_of(errors.exchange("a list at a version in the future"));
    let (_, initial) = answer_of(errors.exchange("a watch that sends the initial state first"));
    let initial: Vec<String> = initial.as_str().expect("lines").lines().map(str::to_owned).collect();
    let discovery = discovery();
    let lists: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let (looked, streams) = (lists.clone(), Mutex::new(BTreeMap::<String, u32>::new()));
    let server = Scripted::start(move |asked: &Asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        let is_of_pods = path.ends_with("/pods");
        if let Some(answer) = discovery.get(path) {
            return reply(answer);
        }
        if !asked.watches() {
            let mut lists = looked.lock().expect("nobody panics with it");
            lists.extend(is_of_pods.then(Instant::now));
            return match lists.len() {
                2 if is_of_pods => reply(&future),
                _ => Reply::Json(
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "3188"}, "items": []}),
                ),
            };
        }
        let mut streams = streams.lock().expect("nobody panics with it");
        let nth = streams.entry(path.to_owned()).or_default();
        *nth += 1;
        let lines = match (*nth, is_of_pods) {
            (1, true) => vec![too_old.to_string()],
            (1, false) => initial.clone(),
            _ => return silence(),
        };
        let (send, stream) = mpsc::channel(4);
        lines.into_iter().for_each(|line| send.try_send(line).expect("there is room for two lines"));
        Reply::Stream(stream)
    })
    .await;
    let cluster = server.connect().await;
    let watch = async |kind: &str| {
        let resource = cluster.resource_of("v1", kind).await.expect("it is served");
        cluster.watch(&resource, Scope::namespace("shop"))
    };
    let mut pods = watch("Pod").await;
    let mut next =
        async || tokio::time::timeout(PATIENCE, pods.next()).await.expect("a sighting in time").expect("the watch lives").sight;
    assert!(matches!(next().await, Sight::Listed(_)));
    let sight = next().await;
    let Sight::Blind { reason, missed: Missed::Lost, .. } = &sight else { panic!("{sight:?}") };
    assert!(reason.contains("too old resource version: 1 (3188)") && reason.contains("410"), "{reason}");
    assert!(matches!(next().await, Sight::Listed(_)));
    let lists = lists.lock().expect("nobody panics with it").clone();
    assert_eq!(lists.len(), 3);
    assert!(lists[2] - lists[1] >= Duration::from_secs(1), "the server asked for a second: {:?}", lists[2] - lists[1]);

    // A stream that ends is taken up at its last bookmark.
    let mut services = watch("Service").await;
    let mut next =
        async || tokio::time::timeout(PATIENCE, services.next()).await.expect("a sighting in time").expect("the watch lives").sight;
    assert!(matches!(next().await, Sight::Listed(_)));
    assert!(matches!(next().await, Sight::Seen(service) if text(&service, "name") == "web"));
    let again = async {
        loop {
            let versions: Vec<String> = server
                .asked()
                .iter()
                .filter(|asked| asked.watches() && asked.path.contains("/services"))
                .filter_map(|asked| asked.version().map(str::to_owned))
                .collect();
            if versions.len() == 2 {
                return versions;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, again).await.expect("it is taken up"), ["3188", "3824"]);
}
