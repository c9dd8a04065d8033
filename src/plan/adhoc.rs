//! `squall load URL`: a plan that nobody wrote down, written down. The text is built first and then read like any other, so what is
//! recorded is a plan that can be run, judged and grown by hand.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::assemble::tells_who;
use super::explain::word;
use super::problem::{Problem, Problems};
use super::{Arrivals, Generator, Pacing, PhaseRate, PhaseUsers, Plan, Protocol};
use crate::kinds::Kind;
use crate::target::TargetUrl;
use crate::time::Offset;
use crate::timeline::Timeline;
use crate::units::{Ratio, Span};
use crate::verdict::{self, Need};

/// What the command line of `squall load` says.
#[derive(Clone, Debug)]
pub struct Adhoc {
    /// With its path and query.
    pub url: String,
    pub volume: Volume,
    pub length: Span,
    pub generator: Generator,
    /// In any case.
    pub method: String,
    /// `name: value`, as written.
    pub headers: Vec<String>,
    pub body: Option<String>,
    /// Of a call of gRPC.
    pub call: AdhocCall,
    pub timeout: Option<Span>,
    pub protocol: Protocol,
    pub connections: Option<u32>,
    pub streams: Option<u32>,
    pub p99: Option<Span>,
    /// What nobody says is [`USUAL`], where enough requests are sent to prove it.
    pub available: Option<Ratio>,
    /// Files are relative to where the command runs.
    pub tls: AdhocTls,
    /// Its credentials are kept out of the plan's text.
    pub proxy: Option<String>,
    pub seed: Option<u64>,
}

/// How connections are encrypted, as flags say it.
#[derive(Clone, Debug, Default)]
pub struct AdhocTls {
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub server_name: Option<String>,
    pub insecure: bool,
}

/// What a URL that is a method of gRPC is called with, as flags say it.
#[derive(Clone, Debug, Default)]
pub struct AdhocCall {
    /// JSON.
    pub message: Option<String>,
    /// A file; the server is asked where there is none.
    pub descriptors: Option<String>,
}

/// How much is sent.
#[derive(Clone, Debug)]
pub enum Volume {
    /// An open model.
    Rate(PhaseRate, Arrivals),
    /// A closed model: each user waits for an answer, and thinks, before sending again.
    Users(PhaseUsers, Span),
}

impl Adhoc {
    /// `volume` for `length` with everything else as a plan would have it.
    pub fn new(url: &str, volume: Volume, length: Span) -> Adhoc {
        Adhoc {
            url: url.to_owned(),
            volume,
            length,
            generator: Generator::default(),
            method: "GET".into(),
            headers: Vec::new(),
            body: None,
            call: AdhocCall::default(),
            timeout: None,
            protocol: Protocol::default(),
            connections: None,
            streams: None,
            p99: None,
            available: None,
            tls: AdhocTls::default(),
            proxy: None,
            seed: None,
        }
    }
}

/// Words in a header's name whose value is a secret: it is kept out of the text, as if it came from the environment.
const SECRET: [&str; 7] = ["auth", "cookie", "token", "secret", "password", "key", "session"];

/// What is promised of availability where nobody says.
pub const USUAL: &str = "99%";

impl Plan {
    /// The plan of `squall load`. Values of headers that look like secrets (`authorization`, `cookie`, ...) stand in its source as
    /// `${HEADER_...}`, so that no recording holds them; `${NAME}` in a header or body reads the environment, as in any plan.
    pub fn adhoc(adhoc: &Adhoc, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Problems> {
        let wrong = |problem: Problem| Problems::new("the command line", "", vec![problem]);
        let (protocol, url) = spoken(&adhoc.url).unwrap_or((adhoc.protocol, adhoc.url.clone()));
        let (target, path) = split(&url).map_err(|message| wrong(Problem::nowhere(message)))?;
        if let (Some(_), false) = (adhoc.streams, protocol.has_streams()) {
            return Err(wrong(Problem::nowhere("--streams goes with --http2, or with a URL of gRPC")));
        }
        let sent = match protocol {
            Protocol::Grpc => call(adhoc, &path),
            Protocol::WebSocket => exchange(adhoc, &path),
            Protocol::Http1 | Protocol::Http2 => request(adhoc, &path),
        };
        let sent = sent.map_err(wrong)?;
        let mut hidden: BTreeMap<String, String> = BTreeMap::new();
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in &adhoc.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(wrong(Problem::nowhere("a header has no colon").help("write -H 'name: value'")));
            };
            let (name, value) = (name.trim(), value.trim());
            if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(wrong(Problem::nowhere(format!("the header `{name}` is given twice"))));
            }
            let looks_secret = SECRET.iter().any(|word| name.to_lowercase().contains(word));
            if looks_secret && !value.contains("${") && !value.is_empty() {
                let stem = format!("HEADER_{}", name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
                // `X-Key` and `X_Key` are two headers.
                let numbered = (2..).map(|n| format!("{stem}_{n}"));
                let mut free = std::iter::once(stem.clone()).chain(numbered).filter(|variable| !hidden.contains_key(variable));
                let variable = free.next().expect("numbers do not end");
                headers.push((name.to_owned(), format!("${{{variable}}}")));
                hidden.insert(variable, value.to_owned());
            } else {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        let proxy = adhoc.proxy.as_deref().map(|proxy| hide_credentials(proxy, &mut hidden)).transpose();
        let proxy = proxy.map_err(|message| wrong(Problem::nowhere(message)))?;
        let env = |name: &str| hidden.get(name).cloned().or_else(|| env(name));
        let read = |promises: &[Promise]| {
            let text = written(adhoc, (protocol, &target, proxy.as_deref()), &sent, &headers, promises);
            Plan::read_text("the command line", &text, Path::new(""), &[], &env)
        };
        // Too few requests are a matter of the command line: a plan that nobody has seen has no line to point at.
        let silent = read(&[])?;
        let timeline = Timeline::of(&silent, silent.seed.unwrap_or_default());
        let (fewest, most) = timeline.spread_in(None, Offset::ZERO, timeline.end);
        let said = [adhoc.available.map(|a| Promise::of("available", a)), adhoc.p99.map(|p| Promise::of("p99", p))];
        let mut promises: Vec<Promise> = said.into_iter().flatten().collect();
        let problems: Vec<Problem> = promises.iter().filter_map(|promise| promise.undecidable(most)).collect();
        if !problems.is_empty() {
            return Err(Problems::new("the command line", "", problems));
        }
        let usual = Promise::of("available", USUAL);
        // How many requests users send is not known: what turns out to be too few is inconclusive.
        let sent = if matches!(adhoc.volume, Volume::Users(..)) { most } else { fewest };
        if adhoc.available.is_none() && usual.undecidable(sent).is_none() {
            promises.insert(0, usual);
        }
        if promises.is_empty() { Ok(silent) } else { read(&promises) }
    }
}

/// What is promised of every request: a flag and its value, which a plan's assertion has under the same name.
struct Promise {
    flag: &'static str,
    value: String,
}

impl Promise {
    fn of(flag: &'static str, value: impl std::fmt::Display) -> Promise {
        Promise { flag, value: value.to_string() }
    }

    /// Why it can never be decided when at most so many requests are sent.
    fn undecidable(&self, sent: u64) -> Option<Problem> {
        let Promise { flag, value } = self;
        let spec = verdict::Spec::read("slo", serde_json::json!({ *flag: value }))?.ok()?;
        spec.needs().into_iter().find_map(|need| match need {
            Need::Samples { least, why } if sent < least => Some(
                Problem::nowhere(format!(
                    "--{flag} {value} can never be decided: at most {sent} requests are sent, and it needs {least}"
                ))
                .help(format!("{why}; raise --rate, lengthen --for, or ask for less")),
            ),
            Need::Never { why } => Some(Problem::nowhere(format!("--{flag} {value} can never hold: {why}"))),
            _ => None,
        })
    }
}

/// `http://host:1/a/b?c` -> `http://host:1` and `/a/b?c`.
fn split(url: &str) -> Result<(String, String), String> {
    let after = url.find("://").map_or(0, |at| at + 3);
    let at = url[after..].find(['/', '?', '#']).map_or(url.len(), |at| after + at);
    let (target, path) = url.split_at(at);
    target.parse::<TargetUrl>()?;
    let path = path.split('#').next().unwrap_or_default();
    Ok((target.to_owned(), if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

/// As more of a target's keys.
fn encryption(tls: &AdhocTls) -> String {
    let AdhocTls { ca, cert, key, server_name, insecure } = tls;
    let quoted = |(name, value): (&str, &Option<String>)| Some(format!("{name}: {}", serde_json::Value::from(value.as_deref()?)));
    let said = [("ca", ca), ("cert", cert), ("key", key), ("server_name", server_name)].into_iter().filter_map(quoted);
    let said: Vec<String> = said.chain(insecure.then(|| "insecure: true".to_owned())).collect();
    if said.is_empty() { String::new() } else { format!(", tls: {{{}}}", said.join(", ")) }
}

/// `http://user:password@host`, of which the scheme may be missing, with a variable in place of who that is.
///
/// # Errors
/// When a part of it is hidden already, and not all.
fn hide_credentials(proxy: &str, hidden: &mut BTreeMap<String, String>) -> Result<String, String> {
    let is_scheme =
        |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|c| c.is_ascii_alphanumeric());
    let (scheme, rest) = match proxy.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        // One variable may be all of it.
        None if proxy.starts_with("${") && proxy.find('}') == Some(proxy.len() - 1) => return Ok(proxy.to_owned()),
        _ => ("http", proxy),
    };
    let Some((credentials, place)) = rest.rsplit_once('@').filter(|(credentials, _)| !credentials.is_empty()) else {
        return Ok(format!("{scheme}://{rest}"));
    };
    if !credentials.contains("${") {
        hidden.insert(PROXY_CREDENTIALS.to_owned(), credentials.to_owned());
        return Ok(format!("{scheme}://${{{PROXY_CREDENTIALS}}}@{place}"));
    }
    let url = format!("{scheme}://{rest}");
    if tells_who(&url, &BTreeMap::new()) {
        return Err(
            "the credentials of the proxy are hidden in part: write all of them out, or the whole password as ${NAME}".into()
        );
    }
    Ok(url)
}

/// The variable that stands for a proxy's user and password.
const PROXY_CREDENTIALS: &str = "PROXY_CREDENTIALS";

/// Schemes that say what is spoken, and what a target has in their place.
const SCHEMES: [(&str, Protocol, &str); 4] = [
    ("grpc://", Protocol::Grpc, "http://"),
    ("grpcs://", Protocol::Grpc, "https://"),
    ("ws://", Protocol::WebSocket, "http://"),
    ("wss://", Protocol::WebSocket, "https://"),
];

/// What a scheme that is no target's says is spoken, and the URL without it.
fn spoken(url: &str) -> Option<(Protocol, String)> {
    SCHEMES.into_iter().find_map(|(said, protocol, scheme)| Some((protocol, format!("{scheme}{}", url.strip_prefix(said)?))))
}

/// The lines of a request that say what is sent, where to, and what its headers are called.
struct Sent {
    path: String,
    lines: Vec<String>,
    headers: &'static str,
}

/// JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A request of HTTP.
fn request(adhoc: &Adhoc, path: &str) -> Result<Sent, Problem> {
    const METHODS: [&str; 7] = ["get", "post", "put", "delete", "patch", "head", "options"];
    let method = adhoc.method.to_lowercase();
    if !METHODS.contains(&method.as_str()) {
        let help = super::problem::proposal(&method, METHODS);
        return Err(Problem::nowhere(format!("`{}` is no method that is sent here", adhoc.method)).maybe_help(help));
    }
    let AdhocCall { message, descriptors } = &adhoc.call;
    for (flag, given) in [("--message", message), ("--descriptors", descriptors)] {
        if given.is_some() {
            let help = "write the URL as grpc://host:port/package.Service/Method, or grpcs:// for TLS";
            return Err(Problem::nowhere(format!("{flag} belongs to a call of gRPC")).help(help));
        }
    }
    let body = adhoc.body.iter().map(|body| format!("body: {}", quoted(body)));
    let lines = std::iter::once(format!("{method}: {}", quoted(path))).chain(body).collect();
    Ok(Sent { path: path.to_owned(), lines, headers: "headers" })
}

/// An exchange over a WebSocket: the body is what it sends.
fn exchange(adhoc: &Adhoc, path: &str) -> Result<Sent, Problem> {
    let AdhocCall { message, descriptors } = &adhoc.call;
    if let Some(flag) = [("--message", message), ("--descriptors", descriptors)].iter().find(|(_, given)| given.is_some()) {
        return Err(
            Problem::nowhere(format!("{} belongs to a call of gRPC", flag.0)).help("write --data 'text', which is what is sent")
        );
    }
    if adhoc.protocol == Protocol::Http2 {
        return Err(Problem::nowhere("a WebSocket begins as HTTP/1.1").help("leave out --http2"));
    }
    if !matches!(adhoc.method.as_str(), "GET" | "POST") {
        return Err(Problem::nowhere("a WebSocket has no method of HTTP").help("leave out --method"));
    }
    let send = adhoc.body.iter().map(|body| format!("send: {}", quoted(body)));
    let lines = std::iter::once(format!("websocket: {}", quoted(path))).chain(send).collect();
    Ok(Sent { path: path.to_owned(), lines, headers: "headers" })
}

/// A call of gRPC.
fn call(adhoc: &Adhoc, path: &str) -> Result<Sent, Problem> {
    if adhoc.body.is_some() || !matches!(adhoc.method.as_str(), "GET" | "POST") {
        return Err(Problem::nowhere("a call of gRPC has neither body nor method of HTTP").help("write --message '{\"field\": 1}'"));
    }
    let mut lines = vec![format!("grpc: {}", quoted(path.trim_start_matches('/')))];
    match &adhoc.call.descriptors {
        Some(file) => lines.push(format!("descriptors: {}", quoted(file))),
        None => lines.push("reflection: true".into()),
    }
    if let Some(message) = &adhoc.call.message {
        let message: serde_json::Value =
            serde_json::from_str(message).map_err(|error| Problem::nowhere(format!("--message is not JSON: {error}")))?;
        lines.push(format!("message: {message}"));
    }
    Ok(Sent { path: path.to_owned(), lines, headers: "metadata" })
}

fn written(
    adhoc: &Adhoc,
    (protocol, target, proxy): (Protocol, &str, Option<&str>),
    sent: &Sent,
    headers: &[(String, String)],
    promises: &[Promise],
) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line("# Written by `squall load`.".into());
    line("plan: adhoc".into());
    let volume = match &adhoc.volume {
        Volume::Rate(rate, _) => rate.to_string(),
        Volume::Users(users, _) => format!("All requests of {users} users"),
    };
    line(format!("claim: {}", quoted(&format!("{volume} for {} at {target}{} are answered.", adhoc.length, sent.path))));
    if let Some(seed) = adhoc.seed {
        line(format!("seed: {seed}"));
    }
    line("cluster: none".into());
    let proxy = proxy.map(|proxy| format!(", proxy: {}", quoted(proxy))).unwrap_or_default();
    line(format!("target: {{url: {}{}{proxy}}}", quoted(target), encryption(&adhoc.tls)));
    let workers = adhoc.generator.workers.map(|workers| format!("workers: {workers}"));
    let pacing = (adhoc.generator.pacing != Pacing::default()).then(|| format!("pacing: {}", word(&adhoc.generator.pacing)));
    let generator: Vec<String> = workers.into_iter().chain(pacing).collect();
    if !generator.is_empty() {
        line(format!("generator: {{{}}}", generator.join(", ")));
    }
    line(format!("phases:\n  - {{name: steady, for: {}}}", adhoc.length));
    line("load:\n  - name: requests".into());
    match &adhoc.volume {
        Volume::Rate(rate, arrivals) => {
            line(format!("    arrivals: {arrivals}"));
            line(format!("    rate: {rate}"));
        }
        Volume::Users(users, think) => {
            line(format!("    users: {users}"));
            if *think > Span::default() {
                line(format!("    think: {think}"));
            }
        }
    }
    if protocol != Protocol::default() {
        line(format!("    protocol: {}", word(&protocol)));
    }
    if let Some(streams) = adhoc.streams {
        line(format!("    streams: {streams}"));
    }
    if let Some(connections) = adhoc.connections {
        line(format!("    connections: {connections}"));
    }
    line("    request:".into());
    sent.lines.iter().for_each(|said| line(format!("      {said}")));
    if !headers.is_empty() {
        line(format!("      {}:", sent.headers));
        for (name, value) in headers {
            line(format!("        {}: {}", quoted(name), quoted(value)));
        }
    }
    if let Some(timeout) = adhoc.timeout {
        line(format!("      timeout: {timeout}"));
    }
    let objectives: Vec<String> = promises.iter().map(|Promise { flag, value }| format!("{flag}: {value}")).collect();
    if !objectives.is_empty() {
        line(format!("assert:\n  - {{name: answers, slo: {{{}}}}}", objectives.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Model, peak};
    use super::*;

    fn adhoc(url: &str) -> Adhoc {
        Adhoc::new(url, Volume::Rate("100/s".parse().unwrap(), Arrivals::default()), Span::from_secs(10))
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_command_line_becomes_a_plan_that_reads_back() {
        let mut said = adhoc("http://127.0.0.1:8080/a/b?c=d");
        said.volume =
            Volume::Rate("10/s -> 500/s".parse().unwrap(), "wave: {period: 4s, depth: 50%}".parse().expect("an arrival process"));
        said.generator = Generator { workers: Some(2), pacing: Pacing::Precise };
        said.method = "POST".into();
        said.headers = vec!["x-a: b: \"c\"".into(), "Authorization: Bearer hunter2".into(), "x-dollar: $5 ${not".into()];
        said.headers.pop();
        said.body = Some("{\"a\": \"b\\n\"}\n# no comment".into());
        said.timeout = Some(Span::from_secs(2));
        said.p99 = Some(Span::from_millis(300));
        said.available = "99%".parse().ok();
        said.seed = Some(7);
        said.protocol = Protocol::Http2;
        said.streams = Some(30);
        let plan = Plan::adhoc(&said, &none).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(plan.target.url, "http://127.0.0.1:8080");
        let request = &plan.loads[0].request;
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a/b?c=d"));
        assert_eq!(request.headers[0], ("x-a".to_owned(), "b: \"c\"".to_owned()));
        assert_eq!(request.headers[1].1, "Bearer hunter2");
        assert_eq!(request.body, said.body.as_deref().unwrap_or_default().as_bytes());
        assert_eq!(plan.claims.len(), 1);
        assert_eq!(plan.seed, Some(7));
        assert_eq!((plan.loads[0].protocol, plan.loads[0].streams), (Protocol::Http2, 30));
        assert!(!plan.source.contains("hunter2"), "{}", plan.source);
        let again = Plan::read_recorded(&plan.source, &plan.params).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.claims, plan.claims);
        assert_eq!(again.loads[0].model, plan.loads[0].model);
        assert_eq!((plan.generator, again.generator), (said.generator, said.generator));
    }

    /// Goal: a URL that is a method becomes a call. How: with the shop's own descriptors, of which the message is one.
    #[test]
    fn a_method_becomes_a_call() {
        let mut said = adhoc("grpc://127.0.0.1:50051/shop.Checkout/Pay");
        said.call.message = Some("{\"user\": \"{{op_id}}\",\n \"items\":[{\"name\":\"pen: {a}\"}], \"cents\": 5}".into());
        said.call.descriptors = Some("plans/protos/shop.protoset".into());
        said.headers = vec!["authorization: Bearer hunter2".into()];
        let plan = Plan::adhoc(&said, &none).unwrap_or_else(|problems| panic!("{problems}"));
        let load = &plan.loads[0];
        assert_eq!((plan.target.url.as_str(), load.protocol), ("http://127.0.0.1:50051", Protocol::Grpc));
        let crate::plan::Talk::Grpc(call) = &load.request.talk else { panic!("{load:?}") };
        assert!(call.known.is_some() && load.varying.names() == ["op_id"], "{load:?}");
        assert_eq!(load.request.headers, [("authorization".to_owned(), "Bearer hunter2".to_owned())]);
        assert!(!plan.source.contains("hunter2"), "{}", plan.source);

        let mut asked = adhoc("grpcs://shop.example/shop.Checkout/Pay");
        let plan = Plan::adhoc(&asked, &none).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(plan.target.url == "https://shop.example" && plan.source.contains("reflection: true"), "{}", plan.source);
        let problems = |said: &Adhoc| Plan::adhoc(said, &none).expect_err("it cannot be called").to_string();
        asked.call.message = Some("{".into());
        assert!(problems(&asked).contains("--message is not JSON"));
        asked.call.message = None;
        asked.body = Some("hello".into());
        assert!(problems(&asked).contains("write --message"));
        asked.body = None;
        asked.url = "grpc://shop.example/pay".into();
        assert!(problems(&asked).contains("write `package.Service/Method`"));
        asked.url = "http://shop.example/pay".into();
        asked.call.message = Some("{}".into());
        assert!(problems(&asked).contains("write the URL as grpc://"));
    }

    #[test]
    fn users_are_asked_for_what_they_can_prove_only_afterwards() {
        let mut said = adhoc("http://127.0.0.1:8080/");
        said.volume = Volume::Users("8".parse().unwrap(), Span::from_millis(5));
        let plan = Plan::adhoc(&said, &none).unwrap_or_else(|problems| panic!("{problems}"));
        let Model::Closed { users, rhythm } = &plan.loads[0].model else { panic!("users make a closed model") };
        assert_eq!((peak(users), rhythm.mean(), plan.loads[0].connections), (8.0, Span::from_millis(5), 8));
        assert_eq!(plan.claims.len(), 1);
        assert!(plan.claim.contains("8 users"), "{}", plan.claim);
    }

    #[test]
    fn headers_that_look_alike_keep_their_own_values() {
        let mut said = adhoc("http://127.0.0.1:8080/");
        let headers = ["X-Api-Key: k1", "X_Api_Key: k2", "X.Api.Key: k3"];
        said.headers = headers.map(str::to_owned).to_vec();
        let plan = Plan::adhoc(&said, &none).unwrap_or_else(|problems| panic!("{problems}"));
        let sent: Vec<String> = plan.loads[0].request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(sent, headers);
        assert!(["k1", "k2", "k3"].iter().all(|secret| !plan.source.contains(secret)), "{}", plan.source);
    }

    /// Goal: no form of a proxy puts who we are to it into the plan, which is recorded, or into a message.
    #[test]
    fn the_credentials_of_a_proxy_stand_in_no_text() {
        let env = |name: &str| (name == "PW").then(|| "hunter2".to_owned());
        for proxy in [
            "http://alice:hunter2@proxy:3128",
            "alice:hunter2@proxy:3128",
            "hunter2@proxy:3128",
            "a:hunter2@x://@proxy:3128",
            "a:${PW}@proxy:3128",
        ] {
            let said = Adhoc { proxy: Some(proxy.to_owned()), ..adhoc("http://127.0.0.1:8080") };
            let plan = Plan::adhoc(&said, &env).unwrap_or_else(|problems| panic!("{proxy}: {problems}"));
            assert!(!plan.source.contains("hunter2"), "{}", plan.source);
            let read = plan.target.proxy.expect("a proxy");
            assert_eq!((read.host.as_str(), read.port, read.authorization().is_some()), ("proxy", 3128, true));
        }
        for proxy in ["${PW}:hunter2@proxy:3128", "hunter2${PW}@proxy", "https://a:hunter2@proxy"] {
            let said = Adhoc { proxy: Some(proxy.to_owned()), ..adhoc("http://127.0.0.1:8080") };
            let problems = Plan::adhoc(&said, &env).expect_err(proxy).to_string();
            assert!(!problems.contains("hunter2"), "{problems}");
        }
        let said = Adhoc { proxy: Some("proxy:3128".to_owned()), ..adhoc("http://127.0.0.1:8080") };
        let plan = Plan::adhoc(&said, &env).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(plan.target.proxy.expect("a proxy").to_string(), "http://proxy:3128");
    }

    #[test]
    fn a_bare_host_is_asked_for_its_root() {
        let plan = Plan::adhoc(&adhoc("http://127.0.0.1:8080"), &none).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(plan.loads[0].request.path, "/");
    }

    #[test]
    fn what_nobody_promised_is_asserted_only_where_it_can_be_proven() {
        let claims = |seconds: u64| {
            let mut said = adhoc("http://127.0.0.1:8080");
            said.length = Span::from_secs(seconds);
            Plan::adhoc(&said, &none).unwrap_or_else(|problems| panic!("{problems}")).claims
        };
        // 99% takes 299 requests to prove; 100 are sent each second.
        assert!(claims(2).is_empty());
        assert_eq!(claims(3)[0].spec.describe(), "99% of requests are answered as asked");
    }

    #[test]
    fn a_promise_that_cannot_be_decided_is_named_by_its_flag() {
        let mut said = adhoc("http://127.0.0.1:8080");
        said.length = Span::from_secs(2);
        said.p99 = Some(Span::from_millis(300));
        said.available = "100%".parse().ok();
        let lines = Plan::adhoc(&said, &none).expect_err("too few").lines();
        assert!(lines[0].contains("--available 100% can never hold"), "{lines:?}");
        assert!(
            lines[1].contains("--p99 300ms can never be decided: at most 200 requests are sent, and it needs 299"),
            "{lines:?}"
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_way_out() {
        for (change, says) in [
            (Box::new(|a: &mut Adhoc| a.url = "127.0.0.1".into()) as Box<dyn Fn(&mut Adhoc)>, "write http://127.0.0.1"),
            (Box::new(|a: &mut Adhoc| a.method = "GTE".into()), "did you mean `get`?"),
            (Box::new(|a: &mut Adhoc| a.headers = vec!["nonsense".into()]), "-H 'name: value'"),
            (Box::new(|a: &mut Adhoc| a.headers = vec!["a: b".into(), "A: c".into()]), "given twice"),
            (Box::new(|a: &mut Adhoc| a.length = Span::default()), "takes no time"),
            (Box::new(|a: &mut Adhoc| a.p99 = Some(Span::from_millis(1))), ""),
        ] {
            let mut said = adhoc("http://127.0.0.1:8080/");
            change(&mut said);
            match Plan::adhoc(&said, &none) {
                Ok(_) => assert!(says.is_empty(), "{says}"),
                Err(problems) => assert!(problems.to_string().contains(says), "{problems}"),
            }
        }
    }
}
