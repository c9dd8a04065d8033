//! `squall check --explain`: the plan with nothing left implicit, before anything is sent or broken. Every default, the timeline, the
//! number of requests, what Little's law makes of them, and how far each fault reaches.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::check::load_of;
use super::manifest::Manifest;
use super::{ClusterChoice, Dns, Override, Plan, Target, TargetUrl};
use crate::kinds::Kind;
use crate::names::ObjectRef;
use crate::time::Offset;
use crate::timeline::{Start, Timeline};
use crate::tls::{Tls, Trust};
use crate::units::Span;
use crate::verdict::Over;

mod client;
mod traffic;

use traffic::traffic;

/// Columns that a line may take.
const WIDTH: usize = 80;

/// The plan in full, for a person, at 80 columns. Secrets stand in it as `${NAME}`.
pub fn explain(plan: &Plan, timeline: &Timeline) -> String {
    let manifests = super::read_manifests(plan).unwrap_or_default();
    let mut page = Page::default();
    page.line(0, plan.name.as_str());
    page.text(2, &plan.claim);
    head(&mut page, plan, &manifests);
    when(&mut page, plan, timeline);
    for load in &plan.loads {
        traffic(&mut page, plan, timeline, load);
    }
    faults(&mut page, plan, &manifests);
    assertions(&mut page, plan, timeline);
    page.0
}

/// One more section of the same page: a title, and items after their labels.
pub fn section(title: &str, items: &[(impl AsRef<str>, String)]) -> String {
    let mut page = Page::default();
    page.title(title);
    for (label, text) in items {
        page.item(2, &format!("{:<12}", label.as_ref()), text);
    }
    page.0
}

/// Lines of at most [`WIDTH`] columns.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.0, "{:indent$}{text}", "");
    }

    fn title(&mut self, text: &str) {
        self.0.push('\n');
        self.line(0, text);
    }

    /// Words, wrapped.
    fn text(&mut self, indent: usize, text: &str) {
        self.item(indent, "", text);
    }

    /// Words after a label, wrapped under themselves.
    fn item(&mut self, indent: usize, label: &str, text: &str) {
        let hang = indent + label.len();
        let mut line = format!("{:indent$}{label}", "");
        let mut empty = true;
        for word in text.split_whitespace() {
            let long = line.chars().count() + word.chars().count() + usize::from(!empty) > WIDTH;
            if long && !empty {
                self.line(0, &line);
                line = " ".repeat(hang);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(0, &line);
    }
}

fn head(page: &mut Page, plan: &Plan, manifests: &[Manifest]) {
    page.0.push('\n');
    let place = match &plan.cluster {
        ClusterChoice::None => "no cluster: a URL under load".to_owned(),
        ClusterChoice::Context(None) => "the current context of the kubeconfig".to_owned(),
        ClusterChoice::Context(Some(context)) => format!("the context `{context}` of the kubeconfig"),
        ClusterChoice::Sandbox(options) => format!(
            "the embedded sandbox; its autoscaler looks every {} (a real cluster: 15s), latency faults {}",
            options.autoscaler_sync,
            if options.interpose { "take effect" } else { "are accepted and take no effect" },
        ),
    };
    page.item(0, "where       ", &place);
    for path in &plan.manifests {
        page.item(0, "manifests   ", &path.display().to_string());
    }
    if !manifests.is_empty() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        manifests.iter().for_each(|manifest| *kinds.entry(manifest.kind()).or_default() += 1);
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        page.item(0, "            ", &format!("{}: applied before the run, removed after it", kinds.join(", ")));
    }
    page.item(0, "target      ", &plan.target.url);
    page.item(
        0,
        "            ",
        &format!("who answered is told by the header `{}`{}", plan.target.identity_header, encrypted(&plan.target)),
    );
    if let Some(proxy) = &plan.target.proxy {
        page.item(0, "proxy       ", &proxy.to_string());
    }
    page.item(0, "addresses   ", &found(&plan.target));
    let named = |object: &Option<ObjectRef>| object.as_ref().map_or("none is named".to_owned(), ToString::to_string);
    page.item(0, "workload    ", &named(&plan.target.workload));
    page.item(0, "autoscaler  ", &named(&plan.target.autoscaler));
    let seed = plan.seed.map_or("drawn when the run starts, and printed; --seed repeats a run".to_owned(), |seed| seed.to_string());
    page.item(0, "seed        ", &seed);
    let workers = match plan.generator.workers {
        None => "as many workers as the load needs and the machine has cores".to_owned(),
        Some(1) => "one worker".to_owned(),
        Some(workers) => format!("{workers} workers"),
    };
    page.item(0, "generator   ", &format!("{workers}, pacing {}", word(&plan.generator.pacing)));
    for (name, value) in &plan.params {
        page.item(0, "parameter   ", &format!("{name} = {value}"));
    }
    let secrets: Vec<&str> = plan.secrets.names().collect();
    if !secrets.is_empty() {
        page.item(0, "secrets     ", &format!("{} from the environment, shown nowhere", secrets.join(", ")));
    }
}

/// Where connections go.
fn found(target: &Target) -> String {
    if let Some(Override { addresses, .. }) = target.resolve.first() {
        let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        return format!("{}, as the plan says; connections are spread over them", all.join(", "));
    }
    let host = match &target.proxy {
        Some(proxy) => Some((proxy.host.clone(), proxy.name().to_owned())),
        None => target.url.parse::<TargetUrl>().ok().map(|url| (url.host.clone(), url.host)),
    };
    match host {
        Some((host, name)) if host.parse::<std::net::IpAddr>().is_err() => {
            let default = if target.dns == Dns::default() { " (default)" } else { "" };
            format!("{name} is looked up {}{default}; new connections are spread over all that it stands for", target.dns)
        }
        _ => "the one in the URL".to_owned(),
    }
}

/// How connections are encrypted, where they are.
fn encrypted(target: &Target) -> String {
    let Tls { trust, credentials, server_name } = &target.tls;
    if !target.url.starts_with("https") {
        return String::new();
    }
    let by = match trust {
        Trust::Insecure => "any certificate is accepted".to_owned(),
        Trust::Verified { extra: None } => "its certificate is checked".to_owned(),
        Trust::Verified { extra: Some(extra) } => format!("its certificate is checked, by {} too", extra.file()),
    };
    let name = server_name.as_ref().map(|name| format!(", asked for as {name}")).unwrap_or_default();
    let shown = credentials.as_ref().map(|shown| format!(", and shown that of {}", shown.file())).unwrap_or_default();
    format!("; {by}{name}{shown}")
}

fn when(page: &mut Page, plan: &Plan, timeline: &Timeline) {
    page.title(&format!("timeline: {}", Span::from(timeline.end.since(Offset::ZERO))));
    let mut marks: Vec<(Offset, String)> = Vec::new();
    for phase in &timeline.phases {
        marks.push((phase.start, format!("{} for {}", phase.name, Span::from(phase.end.since(phase.start)))));
    }
    for (slot, fault) in timeline.faults.iter().zip(&plan.faults) {
        let Some(start) = timeline.nominal_start(&slot.fault) else { continue };
        let about = match &slot.start {
            Start::At(_) => String::new(),
            Start::After { .. } => format!(" (or later: it waits for `{}`)", fault.at),
        };
        match slot.length {
            None => marks.push((start, format!("! {}: {}{about}", slot.fault, fault.spec.key()))),
            Some(length) => {
                marks.push((start, format!("! {}: {} for {length}{about}", slot.fault, fault.spec.key())));
                marks.push((start + length.duration(), format!("! {} is healed{about}", slot.fault)));
            }
        }
    }
    marks.push((timeline.end, "end".to_owned()));
    marks.sort_by_key(|(at, _)| *at);
    for (at, what) in marks {
        page.item(2, &format!("{:>10}  ", at.to_string()), &what);
    }
}

fn faults(page: &mut Page, plan: &Plan, manifests: &[Manifest]) {
    if plan.faults.is_empty() {
        return;
    }
    page.title("faults");
    for fault in &plan.faults {
        let length = fault.length.map_or("once".to_owned(), |length| format!("for {length}"));
        page.item(2, "", &format!("{} at {}, {length}: {}", fault.name, fault.at, flow(&fault.spec)));
        let Some(workload) = fault.spec.on().or(plan.target.workload.as_ref()) else { continue };
        let reach = match pods(workload, manifests) {
            None => format!("touches pods of {workload}; how many there are is known in the cluster only"),
            Some(pods) => {
                let reach = fault.spec.reach(pods);
                let share = f64::from(reach) * 100.0 / f64::from(pods.max(1));
                let last = if reach >= pods && fault.length.is_none() {
                    ": it will be refused, since the last ready pod is never taken"
                } else {
                    ""
                };
                format!("blast radius: {reach} of {pods} pods of {workload} ({share:.0}%), as the manifests stand{last}")
            }
        };
        page.item(4, "", &reach);
    }
}

/// Pods of a workload before anything scales it: its replicas, or its autoscaler's least where that is more.
fn pods(workload: &ObjectRef, manifests: &[Manifest]) -> Option<u32> {
    let object = manifests.iter().find(|manifest| manifest.is(workload))?;
    let replicas = object.value["spec"]["replicas"].as_u64().unwrap_or(1);
    let least = manifests
        .iter()
        .filter_map(|manifest| Some((manifest, least_field(manifest.kind())?)))
        .filter(|(manifest, _)| manifest.namespace() == workload.namespace)
        .filter(|(manifest, _)| manifest.value["spec"]["scaleTargetRef"]["name"] == workload.name)
        // A ScaledObject that says no kind means a Deployment; of an autoscaler the API server asks for one.
        .filter(|(manifest, _)| manifest.value["spec"]["scaleTargetRef"]["kind"].as_str().unwrap_or("Deployment") == object.kind())
        .filter_map(|(manifest, field)| manifest.value["spec"][field].as_u64())
        .max();
    u32::try_from(replicas.max(least.unwrap_or(0))).ok()
}

/// Where what scales says its least.
fn least_field(kind: &str) -> Option<&'static str> {
    match kind {
        "HorizontalPodAutoscaler" => Some("minReplicas"),
        "ScaledObject" => Some("minReplicaCount"),
        _ => None,
    }
}

fn assertions(page: &mut Page, plan: &Plan, timeline: &Timeline) {
    page.title("assertions");
    if plan.claims.is_empty() {
        page.text(2, "none: the run ends without a verdict on the service");
    }
    for claim in &plan.claims {
        let over = match &claim.over {
            Over::Run => "the whole run".to_owned(),
            Over::Phase(name) => name.to_string(),
            Over::Between(from, to) => format!("{from} to {to}"),
            Over::Fault(name) => format!("{name} and its aftermath"),
        };
        page.item(2, "", &format!("{} (line {}), over {over}: {}", claim.name, claim.line, claim.spec.describe()));
        page.item(4, "", &flow(&claim.spec));
        if let Some((from, to)) = timeline.window(&claim.over).filter(|(from, to)| from < to) {
            let about = if timeline.is_fixed(&claim.over) { "" } else { "about " };
            let (needs, mut loads) = (claim.spec.needs(), plan.loads.iter());
            let in_steps = loads.any(|load| !load.flows.is_empty() && load_of(&needs).is_none_or(|name| *name == load.name));
            let requests = match timeline.requests_in(load_of(&needs), from, to) {
                Some(runs) if in_steps => format!("{about}{runs} requests, a run of a flow counted as one"),
                Some(requests) => format!("{about}{requests} requests"),
                None => "as many requests as users get answered".to_owned(),
            };
            page.item(4, "", &format!("{about}{from} to {to}, {requests}"));
        }
    }
}

/// How a plan writes a choice that is one word.
pub(super) fn word<T: serde::Serialize>(choice: &T) -> String {
    serde_json::to_value(choice).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A spec as a plan would write it on one line, with its defaults.
fn flow<S: serde::Serialize>(spec: &S) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            // A kind that its name says all about: a word.
            Value::Object(map)
                if map.len() == 1 && map.values().all(|value| value.as_object().is_some_and(|map| map.is_empty())) =>
            {
                map.keys().for_each(|key| out.push_str(key));
            }
            Value::Object(map) => {
                out.push('{');
                for (n, (key, value)) in map.iter().enumerate() {
                    let _ = write!(out, "{}{key}: ", if n == 0 { "" } else { ", " });
                    write(value, out);
                }
                out.push('}');
            }
            Value::Array(list) => {
                out.push('[');
                for (n, value) in list.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { ", " });
                    write(value, out);
                }
                out.push(']');
            }
            Value::String(text) => out.push_str(text),
            other => {
                let _ = write!(out, "{other}");
            }
        }
    }
    match serde_json::to_value(spec) {
        // The outermost map has one key, the kind: as it stands in the plan, without braces.
        Ok(Value::Object(map)) if map.len() == 1 => {
            let (key, value) = map.iter().next().expect("it has one");
            if value.as_object().is_some_and(|map| map.is_empty()) {
                return key.clone();
            }
            let mut out = format!("{key}: ");
            write(value, &mut out);
            out
        }
        Ok(value) => {
            let mut out = String::new();
            write(&value, &mut out);
            out
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The explained plan, with its lines run together: where they break is another matter.
    fn explained(load: &str, rest: &str) -> String {
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: http://127.0.0.1/}}\nphases: [{{name: a, for: 10s}}]\nload:\n\
             - {{name: many, rate: 100/s, request: {{get: /}}{load}}}\n- {{name: few, rate: 40/s, request: {{get: /}}}}\n{rest}"
        );
        let plan = Plan::read_recorded(&text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        explain(&plan, &Timeline::of(&plan, 1)).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_assertion_about_one_load_counts_the_requests_of_that_load() {
        let said = explained("", "assert: [{name: one, slo: {p95: 1s, load: few}}, {name: all, slo: {p95: 1s}}]\n");
        assert!(said.contains("10.000s, 400 requests") && said.contains("10.000s, 1400 requests"), "{said}");
    }

    #[test]
    fn connections_are_enough_for_the_timeout_unless_the_plan_says_fewer_and_then_the_wait_is_told_for_what_it_is() {
        let said = explained("", "");
        assert!(said.contains("at most 500 (default: highest rate x timeout, from 256 to 4096)"), "{said}");
        assert!(!said.contains("some would wait"), "{said}");
        let said = explained(", connections: 20", "");
        assert!(said.contains("some would wait for one here, which counts as latency of the service"), "{said}");
        assert!(!said.contains("lateness"), "{said}");
    }

    #[test]
    fn streams_are_told_where_there_are_any_and_few_connections_carry_them() {
        let said = explained(", protocol: http2", "");
        assert!(said.contains("HTTP/2, at most 100 requests at a time on each connection (default)"), "{said}");
        assert!(said.contains("at most 8 (default: highest rate x timeout / streams, from 8 to 4096)"), "{said}");
        assert!(!said.contains("some would wait"), "{said}");
        let said = explained(", protocol: http2, streams: 2, connections: 20", "");
        assert!(said.contains("at most 2 requests at a time on each connection connections at most 20, each"), "{said}");
        assert!(said.contains("At worst 500 requests are under way and 20 connections may be open: some would wait"), "{said}");
        assert!(!explained("", "").contains("streams"));
    }
}
