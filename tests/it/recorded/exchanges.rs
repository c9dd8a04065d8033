//! The recorded exchanges, asked again in their order, and the answers compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use squall::sandbox::resource::{DEPLOYMENTS, PODS};
use squall::sandbox::store::text;

use super::declared::Excuses;
use super::differences::{Difference, More, differences, plain_table, sentence, served};
use super::recording::Recording;
use super::watches::PASSED_BY;
use crate::sandbox::{Who, World, is_ready};

/// Where everything was recorded.
pub const NS: &str = "shop";
/// How long a read may take until it shows what was recorded: what a controller has to do until then takes milliseconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// What the recorded image does: answers whatever it is asked, and ends well, a moment after it is told to.
const SERVER: &str = "
import http.server, os, signal, time
class S(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *a): pass
def end(*a):
    time.sleep(0.5)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
http.server.ThreadingHTTPServer((os.environ['POD_IP'], 8080), S).serve_forever()
";

/// The recorded cluster, played again.
pub struct Replay {
    pub world: World,
    /// Which of our pods stands for a recorded one.
    bound: BTreeMap<String, String>,
    excuses: Excuses,
    told: BTreeSet<String>,
    /// Which states of recorded pods were met that ours are declared to pass by.
    pub passed: BTreeSet<usize>,
    broken: Vec<String>,
}

impl Replay {
    pub fn of(world: World) -> Replay {
        Replay {
            world,
            bound: BTreeMap::new(),
            excuses: Excuses::default(),
            told: BTreeSet::new(),
            passed: BTreeSet::new(),
            broken: vec![],
        }
    }

    /// The recorded node was of two CPUs.
    pub async fn node_of_two_cpus(&self) {
        let small = json!({"status": {"allocatable": {"cpu": "2"}, "capacity": {"cpu": "2"}}});
        self.world.ask(reqwest::Method::PATCH, "/api/v1/nodes/sandbox/status", "application/merge-patch+json", small).await;
    }

    /// Asks everything that a file holds.
    pub async fn exchanges(&mut self, file: &str) {
        let recording = Recording::read(file);
        for exchange in recording.exchanges() {
            let title = exchange["title"].as_str().unwrap_or_default();
            self.prepare(file, title).await;
            let on = format!("{file}, {title}");
            let found = self.exchange(&on, exchange).await;
            for difference in found {
                self.differs(format!("{on}: {difference}"));
            }
            self.told.insert(on);
        }
    }

    /// What somebody did between the recorded exchanges, or what they waited for.
    async fn prepare(&self, file: &str, title: &str) {
        match (file, title) {
            ("objects", "a running pod") => self.rolled_out().await,
            ("eviction", "a budget that allows none") | ("ephemeral", "dry run") => self.ready(2).await,
            ("ephemeral", "refused by pod security (baseline)") => self.enforce(json!("baseline")).await,
            ("ephemeral", "of a pod that is not there") => self.enforce(Value::Null).await,
            _ => {}
        }
    }

    async fn enforce(&self, level: Value) {
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        self.world.merge(&format!("/api/v1/namespaces/{NS}"), label).await;
    }

    /// Asks, and compares; a read is asked again until it shows what was recorded, as long as that may take.
    async fn exchange(&mut self, on: &str, exchange: &Value) -> Vec<Difference> {
        let (request, expected) = (&exchange["request"], &exchange["response"]);
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            let answer = self.ask(on, request).await;
            let found = self.excuses.beyond(on, compared(expected, &answer));
            if found.is_empty() || request["method"] != "GET" || Instant::now() > deadline {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask(&mut self, on: &str, request: &Value) -> Value {
        let word = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
        let path = self.ours(&word("path")).await;
        let method = word("method").parse().expect("a recorded method is one");
        // The one exchange that shows nobody's credentials.
        let who = if on == "objects, without credentials" { Who::Nobody } else { Who::Owner };
        let mut ask = self.world.request(method, &path, who).header("accept", word("accept"));
        if request["content_type"].is_string() {
            ask = ask.header("content-type", word("content_type"));
        }
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            ask = ask.header(name, value.as_str().unwrap_or_default());
        }
        ask = match &request["body"] {
            Value::Null => ask,
            Value::String(text) => ask.body(text.clone()),
            body => {
                let body = self.ours(&runnable(body).to_string()).await;
                ask.body(body)
            }
        };
        let reply = ask.send().await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let body = reply.text().await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let headers: BTreeMap<&str, Option<&str>> =
            ["content-type", "warning", "retry-after"].map(|name| (name, named(name))).into();
        json!({"status": status, "headers": headers, "body": body})
    }

    /// The same with our pods' names, and our node's.
    async fn ours(&mut self, text: &str) -> String {
        static POD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"web-d94d8f678-[a-z0-9]{5}").expect("it is a pattern"));
        let mut ours = text.replace("nodes/node1", "nodes/sandbox");
        for theirs in POD.find_iter(text).map(|found| found.as_str().to_owned()).collect::<BTreeSet<_>>() {
            let name = match self.bound.get(&theirs) {
                Some(name) => name.clone(),
                None => self.bind(&theirs).await,
            };
            ours = ours.replace(&theirs, &name);
        }
        ours
    }

    /// Lets a pod that is ready, and stands for no other, stand for a recorded one.
    async fn bind(&mut self, theirs: &str) -> String {
        let taken: Vec<&String> = self.bound.values().collect();
        let free = |w: &World| {
            let pods = w.sandbox.store().list(&PODS, Some(NS)).0;
            pods.iter().find(|pod| is_ready(pod) && taken.iter().all(|name| *name != text(pod, "name"))).cloned()
        };
        let pod = self.world.wait(&PODS, &format!("a pod to stand for {theirs}"), free).await;
        let name = text(&pod, "name").to_owned();
        self.bound.insert(theirs.to_owned(), name.clone());
        name
    }

    /// The Deployment is what it is to be, and nothing else is left.
    pub async fn rolled_out(&self) {
        let done = |w: &World| {
            let web = w.sandbox.store().get(&DEPLOYMENTS, NS, "web")?;
            let (wanted, status) = (&web["spec"]["replicas"], &web["status"]);
            let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
            let whole =
                status["observedGeneration"] == web["metadata"]["generation"] && counts.iter().all(|n| status[*n] == *wanted);
            (whole && status["terminatingReplicas"] == 0).then_some(())
        };
        self.world.wait(&DEPLOYMENTS, "the rollout", done).await;
    }

    /// So many pods are there, all ready, and the Deployment says so.
    pub async fn ready(&self, count: usize) {
        let all = |w: &World| {
            let pods = w.sandbox.store().list(&PODS, Some(NS)).0;
            let web: Vec<&Arc<Value>> = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "web").collect();
            (web.len() == count && web.iter().all(|pod| is_ready(pod))).then_some(())
        };
        self.world.wait(&PODS, &format!("{count} ready pods"), all).await;
        self.rolled_out().await;
    }

    /// Notes a difference, and says it at once: what comes after may wait for what never comes.
    pub fn differs(&mut self, what: String) {
        println!("{what}");
        self.broken.push(what);
    }

    /// Fails where anything was found that is not declared, or declared what was not found.
    pub async fn end(mut self) {
        self.world.sandbox.stop().await;
        // Where nothing was asked, nothing can be excused.
        if !self.told.is_empty() {
            self.broken.extend(self.excuses.idle(&self.told));
            let unmet = PASSED_BY.iter().enumerate().filter(|(i, _)| !self.passed.contains(i));
            self.broken.extend(unmet.map(|(_, (pattern, _))| format!("no recorded pod passes through {pattern}")));
        }
        assert!(self.broken.is_empty(), "{} differences from the recorded cluster:\n{}", self.broken.len(), self.broken.join("\n"));
    }
}

/// The same object with what runs on this machine as the recorded images ran on theirs.
pub fn runnable(object: &Value) -> Value {
    let mut object = object.clone();
    make_runnable(&mut object);
    object
}

fn make_runnable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("image").is_some_and(|image| image == "registry.local/srv:1") && !map.contains_key("command") {
                map.insert("command".into(), json!(["python3", "-c", SERVER]));
            }
            for (key, value) in map.iter_mut() {
                match (key.as_str(), value) {
                    // The recorded object carries the uid that it had there.
                    ("metadata", Value::Object(meta)) => drop(meta.shift_remove("uid")),
                    ("command", Value::Array(words)) => words.iter_mut().for_each(without_busybox),
                    (_, value) => make_runnable(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(make_runnable),
        _ => {}
    }
    if let Some(words) = value.get_mut("command").and_then(Value::as_array_mut) {
        words.retain(|word| word != "");
    }
}

/// `/bin/busybox sleep 20` is `sleep 2` here: nobody looks at it for longer.
fn without_busybox(word: &mut Value) {
    if let Value::String(text) = word {
        *text = text.replace("/bin/busybox ", "").replace("/bin/busybox", "");
        if text == "20" {
            *text = "2".into();
        }
    }
}

/// Where an answer is not what was recorded.
fn compared(expected: &Value, got: &Value) -> Vec<Difference> {
    let mut found = vec![];
    for part in ["status", "headers"] {
        found.extend(
            differences(&expected[part], &got[part], More::Allowed)
                .into_iter()
                .map(|difference| Difference { path: format!("{part}{}", difference.path), ..difference }),
        );
    }
    let (expected, got) = (&expected["body"], &got["body"]);
    found.extend(match (expected["kind"].as_str().unwrap_or_default(), expected) {
        ("APIGroupList" | "APIResourceList" | "APIGroupDiscoveryList", _) => {
            differences(&served(expected), &served(got), More::Told)
        }
        ("Table", _) => differences(&plain_table(expected), &plain_table(got), More::Told),
        (_, Value::String(text)) if text.starts_with('{') => streams(text, got),
        _ => differences(expected, got, More::Told),
    });
    found
}

/// The lines of a watch. A recorded one is cut after two.
fn streams(expected: &str, got: &Value) -> Vec<Difference> {
    let lines = |text: &str| -> Vec<Value> { text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    let ours = match got {
        Value::String(text) => lines(text),
        // A single line is a document, too.
        one => vec![one.clone()],
    };
    let mut found = vec![];
    for (i, line) in lines(expected).iter().enumerate() {
        match ours.get(i) {
            Some(other) => found.extend(
                differences(line, other, More::Told).into_iter().map(|d| Difference { path: format!("line {i}{}", d.path), ..d }),
            ),
            None => {
                found.push(Difference { path: format!("line {i}"), what: format!("is missing: {}", sentence(&line.to_string())) })
            }
        }
    }
    found
}
