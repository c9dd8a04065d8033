//! The recorded autoscalers' syncs, played through the sandbox's decision: what the real controller was told goes in at each of them, and the
//! same number of replicas, the same metrics, the same conditions and, over the whole recording, the same events must come out.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use squall::sandbox::controllers::autoscaler::decide::{Inputs, Reading, decide, rescaled};
use squall::sandbox::controllers::autoscaler::limits::Memory;
use squall::sandbox::controllers::autoscaler::replicas::{Phase, PodView, Requests, Sample, Tuning};
use squall::sandbox::controllers::autoscaler::spec::Spec;
use squall::sandbox::quantity;
use squall::sandbox::store::text;
use squall::units::Span;

use super::recording::Recording;

/// What a sync did is told within so long of when it read its metrics, before or after: the watches of a recording have one clock, but
/// not one connection.
const APART_MS: i64 = 50;

/// One look of the controller at an autoscaler.
struct Sync {
    t_ms: i64,
    /// Every autoscaler that it knew for these pods, in the order in which it knew them.
    claimants: Vec<String>,
    reading: Reading,
}

/// What a recorded controller was told, and what it said and did.
struct Controller(Recording);

impl Controller {
    fn events(&self, plural: &str) -> impl Iterator<Item = (i64, &Value)> {
        let of_kind = |watch: &&Value| watch["path"].as_str().is_some_and(|path| path.contains(&format!("/{plural}?")));
        let watch = list(self.0.field("watches")).find(of_kind).expect("it was watched");
        list(&watch["events"]).map(|event| (event["t_ms"].as_i64().expect("a time"), event))
    }

    /// Where its clock stands at zero, in ms of the epoch: by the one kind of event that has a time of microseconds.
    fn zero_ms(&self) -> i64 {
        let placed = self.events("events").find(|(_, event)| event["object"]["reason"] == "Scheduled");
        let (t_ms, event) = placed.expect("a pod was placed");
        millis(&event["object"]["eventTime"]).expect("it has its time") - t_ms
    }

    /// The pods as they were then.
    fn pods(&self, t_ms: i64) -> Vec<PodView> {
        let zero = self.zero_ms();
        let since = |time: &Value| millis(time).map(|at| at - zero);
        let mut pods: BTreeMap<&str, &Value> = BTreeMap::new();
        for (_, event) in self.events("pods").filter(|(at, _)| *at <= t_ms) {
            let name = text(&event["object"], "name");
            match event["type"] == "DELETED" {
                true => pods.remove(name),
                false => pods.insert(name, &event["object"]),
            };
        }
        let view = |(name, pod): (&str, &Value)| PodView {
            name: name.into(),
            deleted: is_leaving(pod),
            phase: match pod["status"]["phase"].as_str() {
                Some("Pending") => Phase::Pending,
                Some("Failed") => Phase::Failed,
                _ => Phase::Other,
            },
            ready: condition(pod, "Ready").and_then(|c| Some((c["status"] == "True", since(&c["lastTransitionTime"])?))),
            started_ms: since(&pod["status"]["startTime"]),
            containers: self.requests(),
        };
        pods.into_iter().map(view).collect()
    }

    /// What the one container of each pod asks for.
    fn requests(&self) -> Vec<Requests> {
        let (_, made) = self.events("deployments").next().expect("there was a Deployment");
        let containers = list(&made["object"]["spec"]["template"]["spec"]["containers"]);
        let cpu = |container: &Value| container["resources"]["requests"]["cpu"].as_str().and_then(quantity::milli);
        let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
        containers.map(|container| Requests { container: name(container), cpu: cpu(container), memory: None }).collect()
    }

    /// What the Deployment was asked for then.
    fn replicas(&self, t_ms: i64) -> i32 {
        let asked = self.events("deployments").take_while(|(at, _)| *at <= t_ms).last();
        asked.and_then(|(_, event)| event["object"]["spec"]["replicas"].as_i64()).expect("it was there") as i32
    }

    /// The spec of that autoscaler as it was made.
    fn spec(&self, name: &str) -> Spec {
        let made = self.events("horizontalpodautoscalers").find(|(_, event)| text(&event["object"], "name") == name);
        Spec::read(&made.expect("it was made").1["object"])
    }

    /// Its status from a sync until the next.
    fn status(&self, name: &str, until_ms: i64) -> &Value {
        let of = self.events("horizontalpodautoscalers").filter(|(_, event)| text(&event["object"], "name") == name);
        &of.take_while(|(at, _)| *at < until_ms).last().expect("it had one").1["object"]["status"]
    }

    /// What was said of it: type, reason and message, each once.
    fn said(&self, name: &str) -> Vec<(String, String, String)> {
        let mut said = vec![];
        for (_, event) in self.events("events") {
            let event = &event["object"];
            let about = &event["involvedObject"];
            let told = ["type", "reason", "message"].map(|field| event[field].as_str().unwrap_or_default().to_owned()).into();
            if about["kind"] == "HorizontalPodAutoscaler" && about["name"] == name && !said.contains(&told) {
                said.push(told);
            }
        }
        said
    }

    /// When it said this of that autoscaler, again and again, and how.
    fn repeated<'a>(&'a self, name: &'a str, reason: &'a str) -> impl Iterator<Item = (i64, &'a str)> {
        let is_it = move |event: &Value| event["reason"] == reason && event["involvedObject"]["name"] == name;
        let said = self.events("events").filter(move |(_, event)| is_it(&event["object"]));
        said.map(|(at, event)| (at, event["object"]["message"].as_str().unwrap_or_default()))
    }

    /// The syncs at which it was answered with samples.
    fn answered(&self, name: &str) -> Vec<Sync> {
        let reads = list(self.0.field("metrics_read"));
        let sync = |read: &Value| {
            let t_ms = read["t_ms"].as_i64().expect("a time");
            let cpu = |container: &Value| container["usage"]["cpu"].as_str().and_then(quantity::milli).expect("a usage");
            let sample = |pod: &Value| Sample { milli: list(&pod["containers"]).map(cpu).sum(), at_ms: t_ms, window_ms: 0 };
            let samples = list(&read["pods"]).map(|pod| (pod["name"].as_str().unwrap_or_default().to_owned(), sample(pod)));
            Sync { t_ms, claimants: vec![format!("shop/{name}")], reading: Ok(samples.collect()) }
        };
        reads.map(sync).collect()
    }

    fn tuning(&self) -> Tuning {
        let flag = |name: &str| &self.0.field("controller_flags")[format!("horizontal-pod-autoscaler-{name}")];
        let ms = |name: &str| flag(name).as_str().and_then(|span| span.parse::<Span>().ok()).expect("a span").millis() as i64;
        Tuning {
            tolerance: flag("tolerance").as_f64().expect("a number"),
            cpu_initialization_ms: ms("cpu-initialization-period"),
            initial_readiness_delay_ms: ms("initial-readiness-delay"),
            downscale_stabilization_ms: ms("downscale-stabilization"),
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn millis(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}

fn is_leaving(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).find(|condition| condition["type"] == kind)
}

/// Plays these syncs of an autoscaler.
#[track_caller]
fn plays(controller: &Controller, name: &str, syncs: &[Sync]) {
    let (spec, tuning) = (controller.spec(name), controller.tuning());
    let mut memory = Memory::default();
    let mut conditions: Vec<(String, String, String, String)> = vec![];
    let (mut desired, mut said) = (0, vec![]);
    for (i, sync) in syncs.iter().enumerate() {
        let now_ms = sync.t_ms;
        let current = controller.replicas(now_ms - APART_MS);
        let pods = controller.pods(now_ms - APART_MS);
        let inputs = Inputs {
            now_ms,
            spec: &spec,
            current,
            present: current,
            selector: Some("app=amb"),
            claimants: &sync.claimants,
            pods: &pods,
            readings: std::slice::from_ref(&sync.reading),
            tuning: &tuning,
        };
        let decision = decide(&inputs, &mut memory);
        let mut set = decision.conditions.clone();
        let mut tell = |kind: &str, reason: &str, message: String| {
            let told = (kind.to_owned(), reason.to_owned(), message);
            if !said.contains(&told) {
                said.push(told);
            }
        };
        if let Some(reason) = &decision.rescale {
            memory.rescaled(now_ms, &spec, current, decision.desired);
            set.push(rescaled(decision.desired));
            tell("Normal", "SuccessfulRescale", format!("New size: {}; reason: {reason}", decision.desired));
        }
        for warning in &decision.events {
            tell("Warning", warning.reason, warning.message.clone());
        }
        for c in set {
            let status = if c.holds { "True" } else { "False" };
            let row = (c.kind.to_owned(), status.to_owned(), c.reason.to_owned(), c.message);
            match conditions.iter_mut().find(|known| known.0 == row.0) {
                Some(known) => *known = row,
                None => conditions.push(row),
            }
        }
        if !decision.failed {
            desired = decision.desired;
        }
        let next_ms = syncs.get(i + 1).map_or(i64::MAX, |next| next.t_ms - APART_MS);
        let status = controller.status(name, next_ms);
        let at = format!("{name} at {now_ms} ms");
        assert_eq!(json!(desired), status["desiredReplicas"], "desired {at}");
        assert_eq!(json!(current), status["currentReplicas"], "current {at}");
        assert_eq!(json!(decision.metrics), status["currentMetrics"], "metrics {at}");
        let word = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
        let recorded: Vec<_> = list(&status["conditions"])
            .map(|c| (word(c, "type"), word(c, "status"), word(c, "reason"), word(c, "message")))
            .collect();
        assert_eq!(conditions, recorded, "conditions {at}");
    }
    assert_eq!(said, controller.said(name));
}

#[test]
fn the_real_controller_scales_out_and_in_the_same_way() {
    let controller = Controller(Recording::read("hpa-cpu-out-and-in"));
    plays(&controller, "api", &controller.answered("api"));
}

#[test]
fn the_real_controller_obeys_a_rate_policy_in_the_same_way() {
    let controller = Controller(Recording::read("hpa-up-policy"));
    plays(&controller, "slow", &controller.answered("slow"));
}

#[test]
fn the_real_controller_stops_at_the_maximum_in_the_same_way() {
    let controller = Controller(Recording::read("hpa-max-reached"));
    plays(&controller, "capped", &controller.answered("capped"));
}

#[test]
fn the_real_controller_says_the_same_of_a_missing_request() {
    let controller = Controller(Recording::read("hpa-missing-request"));
    plays(&controller, "noreq", &controller.answered("noreq"));
}

#[test]
fn the_real_controller_says_the_same_of_a_metric_that_nobody_serves() {
    let controller = Controller(Recording::read("hpa-no-metrics"));
    // Nobody answered; what the controller was told instead is what it said, each time.
    let refused = controller.repeated("ext", "FailedGetExternalMetric");
    let sync = |(t_ms, why): (i64, &str)| Sync { t_ms, claimants: vec!["shop/ext".into()], reading: Err(why.into()) };
    let syncs: Vec<Sync> = refused.map(sync).collect();
    assert_eq!(syncs.len(), 7);
    plays(&controller, "ext", &syncs);
}

#[test]
fn the_real_controller_says_the_same_of_two_autoscalers_on_one_target() {
    let controller = Controller(Recording::read("hpa-ambiguous"));
    // In which order it knew them is chance, and in its words.
    let knew = |message: &str| -> Vec<String> {
        let (_, list) = message.trim_end_matches(']').split_once('[').expect("it names them");
        list.split(' ').map(str::to_owned).collect()
    };
    let unread = || Ok(BTreeMap::new());
    let refused = |name: &'static str| {
        let said = controller.repeated(name, "AmbiguousSelector");
        said.map(|(t_ms, message)| Sync { t_ms, claimants: knew(message), reading: unread() }).collect::<Vec<_>>()
    };
    plays(&controller, "amb", &refused("amb"));
    // The other one was alone when it was looked at first.
    let mut other = controller.answered("amb-two");
    other.extend(refused("amb-two"));
    plays(&controller, "amb-two", &other);
}
