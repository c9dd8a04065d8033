//! The recorded watches: what was done then is done again, and the two histories are compared. Within an object: through which states it goes,
//! in which order, which conditions it has and why, and what is said of it. Between objects: what comes before what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use squall::sandbox::resource::{DEPLOYMENTS, ENDPOINTSLICES, EVENTS, HPAS, JOBS, PODS, REPLICASETS, Resource, SERVICES};
use squall::sandbox::store::{ChangeKind, text};

use super::declared::matches;
use super::differences::{sentence, unlike};
use super::exchanges::{NS, Replay, runnable};
use super::recording::{Recording, Seen, in_order};
use crate::sandbox::{World, is_ready};

/// States that the recorded pods pass through and ours do not, and why.
pub const PASSED_BY: &[(&str, &str)] = &[
    (
        "MODIFIED Pending leaving(5) *waiting(ContainerCreating)*",
        "a kubelet that ends a pod forgets for a moment why its container waits; the sandbox's does not",
    ),
    (
        "MODIFIED Running addressed *Ready=False(PodCompleted)*",
        "a kubelet tells that the last container has ended before it tells that the pod has; the sandbox's tells both at once",
    ),
];

/// What is said of the same in other words, and why.
const SAID_OTHERWISE: &[(&str, &str)] =
    &[("Warning ErrImageNeverPull *", "the sandbox has no images: it says what a pod needs instead of that an image is not there")];

/// What is not compared, for whether it is said is chance: a probe may meet a pod just when it begins or ends.
const SAID_BY_CHANCE: &str = "Warning Unhealthy *";

/// What happens in a chapter one after the other: names, and by what each is known.
pub type Order<'a> = &'a [(&'a str, &'a dyn Fn(&Seen) -> bool)];

impl Replay {
    /// Makes the Service that the recorded watches of endpoints are about.
    pub async fn service(&mut self) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NS},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
        self.post(&SERVICES, service).await;
        let count = |w: &World| {
            let slices = w.sandbox.store().list(&ENDPOINTSLICES, Some(NS)).0;
            let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            (endpoints.filter(|e| e["conditions"]["ready"] == true).count() == 2).then_some(())
        };
        self.world.wait(&ENDPOINTSLICES, "two endpoints", count).await;
    }

    /// A pod of two is deleted, with this grace or its own.
    pub async fn kill(&mut self, file: &str, grace: Option<i64>) {
        self.ready(2).await;
        let from = self.world.sandbox.store().version();
        let pods = self.world.sandbox.store().list(&PODS, Some(NS)).0;
        let victim = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "web").map(|pod| text(pod, "name").to_owned());
        let victim = victim.expect("two are ready");
        self.world.delete(&format!("/api/v1/namespaces/{NS}/pods/{victim}"), grace).await;
        self.ready(2).await;
        self.all_endpoints_ready(2).await;
        let recording = Recording::read(file);
        let ours = self.history(from, None).await;
        self.compare(file, &recording.seen(), &ours);
        for (side, seen) in [("the recording", &recording.seen()), ("ours", &ours)] {
            let victim = seen.iter().find(|seen| seen.plural == "pods" && is_leaving(seen)).map(name).unwrap_or_default();
            let new = seen.iter().find(|seen| seen.plural == "pods" && seen.how == "ADDED").map(name).unwrap_or_default();
            let endpoint = |of: &str, state: &'static str| {
                let of = of.to_owned();
                move |seen: &Seen| endpoints(seen).is_some_and(|all| all.get(&of).map_or("gone", String::as_str) == state)
            };
            let marked = |seen: &Seen| seen.plural == "pods" && name(seen) == victim && is_leaving(seen);
            let (terminating, vanished) = (endpoint(&victim, "terminating"), endpoint(&victim, "gone"));
            let (unready, serves) = (endpoint(&new, "not ready"), endpoint(&new, "ready"));
            let added = |seen: &Seen| seen.plural == "pods" && seen.how == "ADDED";
            let ready = |seen: &Seen| seen.plural == "pods" && name(seen) == new && is_ready(&seen.object);
            let available = |seen: &Seen| seen.plural == "deployments" && condition(seen, "Available") == "True";
            let lacks = |seen: &Seen| seen.plural == "deployments" && condition(seen, "Available") == "False";
            let gone = |seen: &Seen| seen.plural == "pods" && name(seen) == victim && seen.how == "DELETED";
            let counted = |seen: &Seen| seen.plural == "replicasets" && seen.object["status"]["readyReplicas"] == 2;
            let mut holds = |order: Order| self.in_order(&format!("{file}: {side}"), seen, order);
            holds(&[("the victim is marked", &marked), ("its endpoint terminates", &terminating), ("and is gone", &vanished)]);
            holds(&[
                ("the victim is marked", &marked),
                ("another is made", &added),
                ("which is not ready", &unready),
                ("and is", &ready),
                ("and serves", &serves),
            ]);
            holds(&[
                ("the victim is marked", &marked),
                ("the Deployment lacks one", &lacks),
                ("the new one is ready", &ready),
                ("its set counts it", &counted),
                ("the Deployment lacks none", &available),
            ]);
            match grace {
                Some(0) => holds(&[("the victim is gone", &gone), ("another is made", &added)]),
                _ => holds(&[("another is made", &added), ("the victim is gone", &gone)]),
            }
        }
    }

    /// From two pods to five, and to one.
    pub async fn scale(&mut self) {
        self.ready(2).await;
        let from = self.world.sandbox.store().version();
        for count in [5, 1] {
            let scale = json!({"spec": {"replicas": count}});
            self.world.merge(&format!("/apis/apps/v1/namespaces/{NS}/deployments/web/scale"), scale).await;
            self.ready(count).await;
            self.all_endpoints_ready(count).await;
        }
        let recording = Recording::read("watch-scale");
        let ours = self.history(from, None).await;
        self.compare("watch-scale", &recording.seen(), &ours);
        for (side, seen) in [("the recording", &recording.seen()), ("ours", &ours)] {
            let asks = |n: i64| move |seen: &Seen| seen.plural == "deployments" && seen.object["spec"]["replicas"] == n;
            let set = |n: i64| move |seen: &Seen| seen.plural == "replicasets" && seen.object["spec"]["replicas"] == n;
            let ready = |n: i64| move |seen: &Seen| seen.plural == "deployments" && seen.object["status"]["readyReplicas"] == n;
            let serve = |n: usize| {
                move |seen: &Seen| endpoints(seen).is_some_and(|all| all.len() == n && all.values().all(|state| state == "ready"))
            };
            let added = |seen: &Seen| seen.plural == "pods" && seen.how == "ADDED";
            let leaves = |seen: &Seen| seen.plural == "pods" && is_leaving(seen);
            let terminate = |seen: &Seen| endpoints(seen).is_some_and(|all| all.values().any(|state| state == "terminating"));
            let gone = |seen: &Seen| seen.plural == "pods" && seen.how == "DELETED";
            let (asks5, set5, ready5, serve5) = (asks(5), set(5), ready(5), serve(5));
            let (asks1, set1, ready1, serve1) = (asks(1), set(1), ready(1), serve(1));
            let mut holds = |order: Order| self.in_order(&format!("watch-scale: {side}"), seen, order);
            holds(&[
                ("five are asked for", &asks5),
                ("of the set, too", &set5),
                ("they are made", &added),
                ("they are ready", &ready5),
            ]);
            holds(&[
                ("they are made", &added),
                ("all five serve", &serve5),
                ("one is asked for", &asks1),
                ("of the set, too", &set1),
                ("the others leave", &leaves),
                ("their endpoints terminate", &terminate),
                ("one serves", &serve1),
            ]);
            holds(&[("the others leave", &leaves), ("one is ready", &ready1), ("the others are gone", &gone)]);
        }
    }

    /// A template that works, one whose image is missing, one whose command fails.
    pub async fn rollout(&mut self) {
        self.ready(1).await;
        let from = self.world.sandbox.store().version();
        let recording = Recording::read("watch-rollout");
        let theirs = recording.seen();
        // Each template as it was recorded, from the sets that were made of them.
        let mut last = None;
        for (i, set) in theirs.iter().filter(|seen| seen.plural == "replicasets" && seen.how == "ADDED").enumerate() {
            let mut template = set.object["spec"]["template"].clone();
            template["metadata"]["labels"].as_object_mut().expect("it has labels").shift_remove("pod-template-hash");
            let template = runnable(&template);
            let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
            let path = format!("/apis/apps/v1/namespaces/{NS}/deployments/web");
            self.world.ask(reqwest::Method::PATCH, &path, "application/json-patch+json", patch).await;
            if i == 0 {
                self.ready(1).await;
                self.all_endpoints_ready(1).await;
                continue;
            }
            // It does not come up: until it is as far as the recorded one was at last.
            let (reason, restarts) = [("ErrImageNeverPull", 0), ("CrashLoopBackOff", 2)][i - 1];
            let stuck = |w: &World| {
                let pods = w.sandbox.store().list(&PODS, Some(NS)).0;
                let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
                let found = pods
                    .iter()
                    .find(|pod| status(pod)["state"]["waiting"]["reason"] == reason && status(pod)["restartCount"] == restarts);
                let others = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "web").count();
                found.filter(|_| others == 2).map(|pod| squall::sandbox::store::version_of(pod))
            };
            last = Some(self.world.wait(&PODS, reason, stuck).await);
        }
        let ours = self.history(from, last).await;
        self.compare("watch-rollout", &theirs, &ours);
    }

    /// An indexed Job of three.
    pub async fn job(&mut self) {
        let from = self.world.sandbox.store().version();
        let recording = Recording::read("watch-job");
        let theirs: Vec<Seen> = recording.seen().into_iter().filter(|seen| is_about(seen, "shards")).collect();
        let made = theirs.iter().find(|seen| seen.plural == "jobs").expect("it was made").object.clone();
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "shards", "namespace": NS}, "spec": {}});
        for asked in ["parallelism", "completions", "backoffLimit", "completionMode"] {
            job["spec"][asked] = made["spec"][asked].clone();
        }
        job["spec"]["template"]["spec"] = runnable(&made["spec"]["template"]["spec"]);
        self.post(&JOBS, job).await;
        let done = |w: &World| {
            let job = w.sandbox.store().get(&JOBS, NS, "shards")?;
            job["status"]["conditions"].as_array()?.iter().any(|c| c["type"] == "Complete" && c["status"] == "True").then_some(())
        };
        self.world.wait(&JOBS, "the end of the job", done).await;
        let ours: Vec<Seen> = self.history(from, None).await.into_iter().filter(|seen| is_about(seen, "shards")).collect();
        self.compare("watch-job", &theirs, &ours);
    }

    /// Two pods that fit on no node.
    pub async fn unschedulable(&mut self) {
        let from = self.world.sandbox.store().version();
        let recording = Recording::read("watch-unschedulable");
        let pod = recording.watched("pods")[0]["object"].clone();
        let mut template = json!({"metadata": {"labels": {"app": "big"}}, "spec": runnable(&pod["spec"])});
        for given in ["tolerations", "priority", "preemptionPolicy", "serviceAccount", "serviceAccountName"] {
            template["spec"].as_object_mut().expect("a spec is an object").remove(given);
        }
        let big = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "big", "namespace": NS},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "big"}}, "template": template}});
        self.post(&DEPLOYMENTS, big).await;
        let refused = |w: &World| {
            let events = w.sandbox.store().list(&EVENTS, Some(NS)).0;
            (events.iter().filter(|event| event["reason"] == "FailedScheduling").count() == 2).then_some(())
        };
        self.world.wait(&EVENTS, "two refusals", refused).await;
        self.world.delete(&format!("/apis/apps/v1/namespaces/{NS}/deployments/big"), None).await;
        let gone = |w: &World| {
            let pods = w.sandbox.store().list(&PODS, Some(NS)).0;
            (!pods.iter().any(|pod| pod["metadata"]["labels"]["app"] == "big")).then_some(())
        };
        self.world.wait(&PODS, "the end of the pods", gone).await;
        let ours: Vec<Seen> = self.history(from, None).await.into_iter().filter(|seen| is_about(seen, "big")).collect();
        self.compare("watch-unschedulable", &recording.seen(), &ours);
    }

    pub async fn post(&self, resource: &'static Resource, object: Value) {
        let group = if resource.group.is_empty() { "api".into() } else { format!("apis/{}", resource.group) };
        let path = format!("/{group}/{}/namespaces/{NS}/{}", resource.version, resource.plural);
        self.world.ask(reqwest::Method::POST, &path, "application/json", object).await;
    }

    async fn all_endpoints_ready(&self, count: usize) {
        let ready = |w: &World| {
            let slices = w.sandbox.store().list(&ENDPOINTSLICES, Some(NS)).0;
            let mut all = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            let only_ready = slices.iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum::<usize>() == count;
            (only_ready && all.all(|e| e["conditions"]["ready"] == true)).then_some(())
        };
        self.world.wait(&ENDPOINTSLICES, &format!("{count} endpoints"), ready).await;
    }

    /// Everything that happened since `from`, and until `to` where the pods' history is cut.
    pub async fn history(&self, from: u64, to: Option<u64>) -> Vec<Seen> {
        let mut all = vec![];
        for resource in [&PODS, &DEPLOYMENTS, &REPLICASETS, &ENDPOINTSLICES, &EVENTS, &JOBS, &HPAS] {
            let mut watch = self.world.sandbox.store().watch(resource, Some(NS), Some(from)).expect("history reaches back so far");
            while watch.caught_up().is_none() {
                let change = watch.next().await.expect("history is still there");
                let how = match change.kind {
                    ChangeKind::Added => "ADDED",
                    ChangeKind::Modified => "MODIFIED",
                    ChangeKind::Deleted => "DELETED",
                };
                if to.is_none_or(|to| change.version <= to) {
                    let object = (*change.object).clone();
                    all.push(Seen { plural: resource.plural.into(), how: how.into(), version: change.version, object });
                }
            }
        }
        in_order(all)
    }

    /// Notes where steps do not follow one another.
    fn in_order(&mut self, on: &str, seen: &[Seen], order: Order) {
        if let Some(broken) = out_of(order, seen) {
            self.differs(format!("{on}: {broken}"));
        }
    }

    /// Compares two histories, object by object.
    pub fn compare(&mut self, file: &str, theirs: &[Seen], ours: &[Seen]) {
        for (i, (pattern, why)) in PASSED_BY.iter().enumerate() {
            let passes = |seen: &[Seen]| seen.iter().any(|seen| seen.plural == "pods" && matches(pattern, &pod_state(seen)));
            if passes(theirs) {
                self.passed.insert(i);
            }
            if passes(ours) {
                self.differs(format!("{file}: ours passes through {pattern}, too, of which it is declared that {why}"));
            }
        }
        for line in said_otherwise(theirs).intersection(&said_otherwise(ours)) {
            self.differs(format!("{file}: ours says {line}, too, of which it is declared that it is said otherwise"));
        }
        for (what, of) in VIEWS {
            // Kinds that were not watched then are not looked at now.
            if theirs.iter().any(|seen| seen.plural == plural_of(what)) {
                for difference in unlike(&of(theirs), &of(ours)) {
                    self.differs(format!("{file}: {what}: {difference}"));
                }
            }
        }
    }
}

/// What is compared of a history: one text for each object, in which order does not matter.
type View = fn(&[Seen]) -> Vec<String>;
const VIEWS: &[(&str, View)] = &[
    ("pods: their states", |seen| tracks(seen, "pods", pod_state)),
    ("endpointslices: each pod's endpoint", endpoint_tracks),
    ("events: what is said of each object", event_tracks),
    ("deployments: their conditions", |seen| condition_tracks(seen, "deployments")),
    ("deployments: how many are ready", |seen| turns(seen, "deployments")),
    ("replicasets: how many are ready", |seen| turns(seen, "replicasets")),
    ("jobs: their conditions", |seen| condition_tracks(seen, "jobs")),
    ("horizontalpodautoscalers: their conditions", |seen| condition_tracks(seen, "horizontalpodautoscalers")),
];

fn plural_of(view: &str) -> &str {
    view.split(':').next().unwrap_or_default()
}

/// The states of each object of a kind, one after the other.
fn tracks(seen: &[Seen], plural: &str, state: fn(&Seen) -> String) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.plural == plural) {
        let state = state(seen);
        let track = all.entry(name(seen)).or_default();
        if !PASSED_BY.iter().any(|(pattern, _)| matches(pattern, &state)) && track.last() != Some(&state) {
            track.push(state);
        }
    }
    all.into_values().map(|track| track.join("\n    ")).collect()
}

fn pod_state(seen: &Seen) -> String {
    let (metadata, status) = (&seen.object["metadata"], &seen.object["status"]);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut state = format!("{} {}", seen.how, word(&status["phase"]));
    if is_leaving(seen) {
        state += &format!(" leaving({})", metadata["deletionGracePeriodSeconds"]);
    }
    if status["podIP"].is_string() {
        state += " addressed";
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let reason = condition["reason"].as_str().map(|reason| format!("({reason})")).unwrap_or_default();
        state += &format!(" {}={}{reason}", word(&condition["type"]), word(&condition["status"]));
    }
    for container in status["containerStatuses"].as_array().into_iter().flatten() {
        let of = |state: &Value| {
            let states = state.as_object().into_iter().flatten();
            let one = |(kind, inner): (&String, &Value)| {
                let told: Vec<String> = ["reason", "exitCode"]
                    .iter()
                    .filter_map(|field| inner.get(*field))
                    .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                    .collect();
                if told.is_empty() { kind.clone() } else { format!("{kind}({})", told.join(" ")) }
            };
            states.map(one).collect::<Vec<_>>().join("+")
        };
        state += &format!(" {}", of(&container["state"]));
        if container["lastState"].as_object().is_some_and(|last| !last.is_empty()) {
            state += &format!(" after {}", of(&container["lastState"]));
        }
        state += &format!(" ready={} started={} restarts={}", container["ready"], container["started"], container["restartCount"]);
    }
    state
}

/// The endpoints of a slice by pod: `ready`, `not ready` or `terminating`. `None` where it is no slice.
fn endpoints(seen: &Seen) -> Option<BTreeMap<String, String>> {
    let list = seen.object["endpoints"].as_array().filter(|_| seen.plural == "endpointslices")?;
    let state = |endpoint: &Value| {
        let conditions = &endpoint["conditions"];
        let holds = |condition: &str| conditions[condition] == true;
        match (holds("ready"), holds("serving"), holds("terminating")) {
            (true, true, false) => "ready".into(),
            (false, false, false) => "not ready".into(),
            (false, true, true) => "terminating".into(),
            _ => conditions.to_string(),
        }
    };
    let named = |endpoint: &Value| endpoint["targetRef"]["name"].as_str().unwrap_or_default().to_owned();
    Some(list.iter().map(|endpoint| (named(endpoint), state(endpoint))).collect())
}

fn endpoint_tracks(seen: &[Seen]) -> Vec<String> {
    let looks: Vec<BTreeMap<String, String>> = seen.iter().filter_map(endpoints).collect();
    let pods: BTreeSet<&String> = looks.iter().flat_map(BTreeMap::keys).collect();
    let track = |pod: &String| {
        let mut states: Vec<&str> = looks.iter().map(|look| look.get(pod).map_or("not there", String::as_str)).collect();
        states.dedup();
        // Who was there at the first look is chance.
        states.into_iter().skip_while(|state| *state == "not there").collect::<Vec<_>>().join(", ")
    };
    pods.into_iter().map(track).collect()
}

/// What is said of each object, each once, by each who says something in the order in which it is first said.
fn event_tracks(seen: &[Seen]) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in seen.iter().filter(|seen| seen.plural == "events") {
        let mut line = event_line(event);
        if SAID_OTHERWISE.iter().any(|(pattern, _)| matches(pattern, &line)) {
            line.truncate(line.find(": ").unwrap_or(line.len()));
        }
        let about = &event.object["involvedObject"];
        let lines = said.entry(format!("{} {}", about["kind"], about["name"])).or_default();
        if !matches(SAID_BY_CHANCE, &line) && !lines.contains(&line) {
            lines.push(line);
        }
    }
    let told = |(about, mut lines): (String, Vec<String>)| {
        // Two who speak of one object do not wait for each other: a scheduler tells of what it did while the kubelet has begun.
        lines.sort_by_key(|line| line.split([' ', ':']).nth(2).unwrap_or_default().to_owned());
        // In which order a controller makes what it makes at once is chance.
        let reason = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
        for run in lines.chunk_by_mut(|a, b| reason(a) == reason(b)).filter(|run| reason(&run[0]).contains("SuccessfulCreate")) {
            run.sort();
        }
        let kind = about.split(' ').next().unwrap_or_default().to_owned();
        (!lines.is_empty()).then(|| format!("{kind}\n    {}", lines.join("\n    ")))
    };
    said.into_iter().filter_map(told).collect()
}

fn event_line(event: &Seen) -> String {
    let word = |field: &str| event.object[field].as_str().unwrap_or_default();
    let field = event.object["involvedObject"]["fieldPath"].as_str().map(|field| format!(" of {field}")).unwrap_or_default();
    // How much was said before decides whether it is put together with that.
    let message = word("message").trim_start_matches("(combined from similar events): ");
    let source = event.object["source"]["component"].as_str().unwrap_or(word("reportingComponent"));
    format!("{} {} {source}{field}: {}", word("type"), word("reason"), sentence(message))
}

/// The lines that are declared to be other words.
fn said_otherwise(seen: &[Seen]) -> BTreeSet<String> {
    let lines = seen.iter().filter(|seen| seen.plural == "events").map(event_line);
    lines.filter(|line| SAID_OTHERWISE.iter().any(|(pattern, _)| matches(pattern, line))).collect()
}

/// Through which statuses and reasons each condition goes.
fn condition_tracks(seen: &[Seen], plural: &str) -> Vec<String> {
    let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.plural == plural) {
        for condition in seen.object["status"]["conditions"].as_array().into_iter().flatten() {
            let word = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let message = sentence(&word("message"));
            let state = format!("{} {} {message}", word("status"), word("reason"));
            let track = all.entry((name(seen), word("type"))).or_default();
            if track.last() != Some(&state) {
                track.push(state);
            }
        }
    }
    all.into_iter().map(|((_, kind), track)| format!("{kind}\n    {}", track.join("\n    "))).collect()
}

/// From how many ready replicas to how many: where the number turns, for what lies between depends on who is faster.
fn turns(seen: &[Seen], plural: &str) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.plural == plural) {
        let ready = seen.object["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let track = all.entry(name(seen)).or_default();
        match track[..] {
            [.., last] if last == ready => {}
            // On the same way as before.
            [.., before, last] if (last - before).signum() == (ready - last).signum() => {
                *track.last_mut().expect("it has two") = ready
            }
            _ => track.push(ready),
        }
    }
    all.into_values().map(|track| format!("{track:?}")).collect()
}

/// The first step that does not come after the one before it.
fn out_of(order: Order, seen: &[Seen]) -> Option<String> {
    let mut from = 0;
    let mut before = "the beginning";
    for (step, is_it) in order {
        match seen[from..].iter().position(is_it) {
            Some(at) => from += at,
            None => return Some(format!("\"{step}\" does not come after \"{before}\"")),
        }
        before = step;
    }
    None
}

fn is_about(seen: &Seen, prefix: &str) -> bool {
    let about = seen.object["involvedObject"]["name"].as_str().unwrap_or(text(&seen.object, "name"));
    about.starts_with(prefix)
}

fn name(seen: &Seen) -> String {
    text(&seen.object, "name").to_owned()
}

fn is_leaving(seen: &Seen) -> bool {
    !text(&seen.object, "deletionTimestamp").is_empty()
}

fn condition<'a>(seen: &'a Seen, kind: &str) -> &'a str {
    let conditions = seen.object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}
