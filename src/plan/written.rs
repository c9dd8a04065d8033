//! A plan as it is written: the keys of the language, with the words that editors show beside them. The JSON Schema is made from
//! these types, and a plan is read into them before anything is checked. Every key is optional to the reader, so that what is
//! missing hides no other problem; what must be there is marked for the schema and asked for in `assemble`.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::body::WrittenBody;
use super::class::WrittenClass;
use super::client::WrittenClient;
use super::dns::WrittenDns;
use super::expect::WrittenExpect;
use super::located::{self, LeftOut, Located, NodeId, Pairs};
use super::message::WrittenMessage;
use super::rotation::WrittenRotation;
use super::step::{WrittenFlow, WrittenStep};
use super::tree::{Limits, Tree};
use super::{Pacing, Protocol, Think, level};
use crate::kinds::Kind;
use crate::names::{Anchor, Name, ObjectRef};
use crate::schedule::Arrivals;
use crate::units::{Rate, Span, Users};
use crate::varying::feed::Order;
use crate::varying::{Draw, Trace};
use crate::{faults, verdict};

/// A claim about a service, and the evidence asked for: phases of load, faults, and assertions on one clock.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with plan, claim, target, phases, load, faults, assert")]
#[schemars(title = "Squall plan")]
pub(super) struct Written {
    /// What the plan is called; the run's folder is named for it.
    #[schemars(required)]
    pub plan: Option<Located<Name>>,
    /// What is being claimed, in one sentence, for whoever reads the verdict.
    #[schemars(required)]
    pub claim: Option<Located<String>>,
    /// Fixes every random choice of the run: arrivals, victims. Without it each run draws a new one and prints it.
    pub seed: Option<u64>,
    /// Parameters with their defaults: used as ${name}, changed by --set name=value. Values from the environment need no entry
    /// here: ${NAME} in a header, a body or target.proxy reads the variable NAME and shows it nowhere.
    #[serde(default)]
    #[expect(dead_code, reason = "read ahead of the rest, since the rest may use them; here for the schema")]
    pub params: Pairs<Located<Name>, Located<Text>>,
    /// Where the plan runs.
    pub cluster: Option<Located<WrittenCluster>>,
    /// Kubernetes manifests, relative to this file; applied and waited for before the run (workloads ready, Jobs complete), removed after it.
    pub manifests: Option<Vec<Located<String>>>,
    /// What is under test.
    #[schemars(required)]
    pub target: Option<Located<WrittenTarget>>,
    /// How the generator itself works: the same for all loads.
    pub generator: Option<Located<WrittenGenerator>>,
    /// The stretches of the run, one after the other.
    #[schemars(required, length(min = 1))]
    pub phases: Option<Vec<WrittenPhase>>,
    /// Rows from files, of which each request takes one: {{name.column}} in its path, headers or body.
    pub feeds: Option<Vec<Located<WrittenFeed>>>,
    /// What is sent.
    #[schemars(required, length(min = 1))]
    pub load: Option<Vec<Located<WrittenLoad>>>,
    /// What is broken on purpose.
    #[serde(default)]
    pub faults: Vec<Entry<WrittenFault, faults::Spec>>,
    /// What must hold.
    #[serde(default)]
    pub assert: Vec<Entry<WrittenClaim, verdict::Spec>>,
}

/// A word or number that stands for itself: `NO` is Norway, `010` keeps its zero.
#[derive(Clone, Debug)]
pub(super) struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        String::deserialize(deserializer).map(Text)
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// `sandbox`, `none`, `current`, or one of them with its options.
pub(super) enum WrittenCluster {
    Word(String),
    Map(ClusterMap),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct ClusterMap {
    /// The embedded cluster, with options.
    pub sandbox: Option<WrittenSandbox>,
    /// A context of the kubeconfig.
    pub context: Option<Located<String>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sandbox")]
pub(super) struct WrittenSandbox {
    /// How often the autoscaler looks; 1s unless said otherwise (a real cluster: 15s).
    pub autoscaler_sync: Option<Located<Span>>,
    /// Whether latency faults take effect; false is for testing that an ineffective fault is noticed.
    pub interpose: Option<bool>,
}

impl<'de> Deserialize<'de> for WrittenCluster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenCluster;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`sandbox`, `none`, `current`, or {context: NAME}")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenCluster, E> {
                const WORDS: &[&str] = &["sandbox", "none", "current"];
                if WORDS.contains(&word) {
                    return Ok(WrittenCluster::Word(word.to_owned()));
                }
                match super::problem::nearest(word, WORDS.iter().copied()) {
                    Some(near) => Err(E::custom(format!("`{word}` is no cluster: did you mean `{near}`?"))),
                    None => Err(E::custom(format!(
                        "`{word}` is no cluster: write sandbox, none, current, or {{context: {word}}} for a context of the kubeconfig"
                    ))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenCluster, A::Error> {
                ClusterMap::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenCluster::Map)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenCluster {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cluster".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<ClusterMap>();
        json_schema!({
            "description": "sandbox: the embedded cluster. none: a URL under load, no Kubernetes. current: the kubeconfig's current context.",
            "anyOf": [{"enum": ["sandbox", "none", "current"]}, map]
        })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Target")]
pub(super) struct WrittenTarget {
    /// http:// or https://, a host, a port where it is not the scheme's, a base path where there is one.
    pub url: Located<String>,
    /// The workload under test, as namespace/kind/name: whose pods are watched, and killed where a fault names no other.
    pub workload: Option<Located<ObjectRef>>,
    /// Its autoscaler, as in shop/hpa/checkout or shop/scaledobject/checkout.
    pub autoscaler: Option<Located<ObjectRef>>,
    /// How the service tells which pod answered.
    pub identity: Option<WrittenIdentity>,
    /// Accept any TLS certificate: `insecure` of `tls`, in short.
    #[serde(default)]
    pub insecure: bool,
    /// How connections to an https:// target are encrypted: whom to trust, what to show, by which name to ask.
    pub tls: Option<Located<WrittenTls>>,
    /// A proxy on the way, as in http://proxy.example:3128: CONNECT for https://, HTTP/2 and WebSockets, requests with the whole URL for
    /// http://. With credentials, http://USER:${PROXY_PASSWORD}@HOST:PORT; they come from the environment and are shown nowhere. The
    /// variables HTTP_PROXY and the like are not looked at, unless one is named here.
    pub proxy: Option<Located<String>>,
    /// When the name in the URL is looked up: {every: 5s} unless said otherwise, or once, before the run. New connections are spread over
    /// all addresses that it stands for by then, and none goes to one that it no longer stands for.
    pub dns: Option<Located<WrittenDns>>,
    /// What a name stands for, whatever DNS says: {"shop.example:443": [10.0.0.1, 10.0.0.2]}.
    #[serde(default)]
    pub resolve: Pairs<Located<String>, Located<Vec<Located<String>>>>,
}

/// Files are PEM, and relative to the plan's file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls", extend(
    "minProperties" = 1,
    "dependencies" = {"cert": ["key"], "key": ["cert"]},
    "not" = {"properties": {"insecure": {"const": true}}, "required": ["insecure", "ca"]}
))]
pub(super) struct WrittenTls {
    /// Certificates of authorities that are trusted beside the public ones.
    pub ca: Option<Located<String>>,
    /// The certificate that is shown to a server that asks who is there, and those between it and its authority.
    pub cert: Option<Located<String>>,
    /// Its private key, not encrypted.
    pub key: Option<Located<String>>,
    /// The name that is asked for (SNI) and that the server's certificate must have, in place of the URL's host.
    pub server_name: Option<Located<String>>,
    /// Accept any certificate, under any name.
    #[serde(default)]
    pub insecure: Option<Located<bool>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Identity")]
pub(super) struct WrittenIdentity {
    /// The response header that names the pod; x-pod unless said otherwise.
    pub header: Located<String>,
}

/// A stretch of the run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Phase")]
pub(super) struct WrittenPhase {
    /// What rates, faults and assertions call it.
    pub name: Located<Name>,
    /// How long it takes.
    pub r#for: Located<Span>,
}

/// Rows from a file beside the plan.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Feed")]
pub(super) struct WrittenFeed {
    /// What requests call it: {{name.column}}.
    pub name: Located<Name>,
    /// CSV, whose first line names the columns, or JSON Lines (.jsonl, .ndjson), an object a line; relative to the plan's file, at most
    /// 64 MiB.
    pub file: Located<String>,
    /// sequential: row after row, again and again, the default. random: a row drawn for each request. unique: each row once; requests
    /// beyond the last are unsent.
    #[serde(default)]
    pub order: Order,
}

/// Requests, on a schedule or from users.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Load", extend(
    "dependencies" = {"streams": {"required": ["protocol"], "properties": {"protocol": {"enum": ["http2", "grpc"]}}}},
    "if" = {"properties": {"arrivals": {"type": "object", "required": ["replay"]}}, "required": ["arrivals"]},
    "then" = {"properties": {"rate": false, "users": false}},
    "allOf" = [{"anyOf": [{"properties": {"arrivals": {"type": "object", "required": ["replay"]}}, "required": ["arrivals"]},
        {"oneOf": [{"required": ["request"]}, {"required": ["flow"]}, {"required": ["flows"]}]}]}],
    "else" = {"oneOf": [
        {"required": ["rate"], "not": {"anyOf": [{"required": ["think"]}, {"required": ["every"]}]}},
        {"required": ["users"], "not": {"anyOf": [{"required": ["arrivals"]}, {"required": ["in_flight"]}]}}
    ]}
))]
pub(super) struct WrittenLoad {
    /// What reports and assertions call it.
    pub name: Located<Name>,
    /// How requests come due. constant: evenly spaced, the default. poisson: independent of one another, as many users are. Others
    /// have options, as in {herd: {of: 500}}.
    pub arrivals: Option<Located<Arrivals>>,
    /// An open model: a rate for all phases, or one for each phase by name; a ramp is written 50/s -> 250/s. Only a replay has none.
    pub rate: Option<Located<level::Written<Rate>>>,
    /// A closed model, in place of a rate: how many users there are, each of whom waits for an answer before sending the next request;
    /// for all phases or for each by name, a ramp is written 10 -> 64. A service that is slow gets less load from them.
    pub users: Option<Located<level::Written<Users>>>,
    /// How long a user waits after an answer before sending the next request: 500ms, {exponential: 500ms} or
    /// {uniform: [200ms, 800ms]}. Unless said otherwise: no time at all.
    pub think: Option<Located<WrittenThink>>,
    /// A user sends no more than one request in this time.
    pub every: Option<Located<Span>>,
    /// What each arrival sends. A replay that has recorded what was sent needs no method, and may do without this at all.
    pub request: Option<Located<WrittenRequest>>,
    /// Steps in place of a request: each arrival, or each turn of a user, runs through them, one after the other. What an answer says can
    /// be saved for the steps after it, and cookies are kept for the run. Each step is counted apart.
    #[schemars(length(min = 1))]
    pub flow: Option<Located<Vec<Located<WrittenStep>>>>,
    /// Several flows, of which each arrival or turn takes one by weight.
    #[schemars(length(min = 1))]
    pub flows: Option<Located<Vec<WrittenFlow>>>,
    /// Keys that are drawn for each request, by the name under which its path, headers and body use them as {{name}}; as in
    /// {item: {zipf: {of: 1000, skew: 1.1}}}. The same seed draws the same keys.
    #[serde(default)]
    pub draw: Pairs<Located<Name>, Located<Draw>>,
    /// What its requests are to whoever serves them: critical, default, sheddable or any other name; or names with their weights, as in
    /// {weighted: {critical: 10, default: 90}}. Sent in the header x-class, and counted apart: assertions and reports know each class.
    pub class: Option<Located<WrittenClass>>,
    /// What each request carries so that it can be found again: op_id (in x-op-id) and traceparent (W3C). Both can stand anywhere in a
    /// request, as {{op_id}} and {{traceparent}}, without being listed here.
    #[serde(default)]
    pub trace: Vec<Located<Trace>>,
    /// http1: HTTP/1.1, the default. http2: HTTP/2, over http:// by prior knowledge, over https:// where the server agrees by ALPN. grpc:
    /// calls of methods, over HTTP/2. websocket: messages over connections that are held, over https:// with TLS.
    #[serde(default)]
    pub protocol: Protocol,
    /// Requests that one connection carries at once, with http2 and grpc alone; 100 unless said otherwise.
    #[schemars(range(min = 1, max = 10000))]
    pub streams: Option<Located<u32>>,
    /// Connections that may be open at once; a request that finds none free waits for one. Unless said otherwise: enough for the
    /// highest rate if every request ran into its timeout, from 256 to 4096; with http2 so many that their streams are enough, from 8, as with grpc.
    #[schemars(range(min = 1, max = 65535))]
    pub connections: Option<Located<u32>>,
    /// Requests that may be due and not ended at once. What comes on top is not sent, and counts against this machine, never
    /// against the service. Unless said otherwise: enough for the highest rate if every request ran into its timeout.
    #[schemars(range(min = 1, max = 1000000))]
    pub in_flight: Option<Located<u32>>,
    /// When a connection is replaced, give or take a quarter: {age: 5s}, {requests: 1000}, both (what comes first), or never. Unless said
    /// otherwise: {age: 5s}, since balancers choose once per connection, and one that is kept hides every scale-out; never, with websocket,
    /// whose connections are held.
    pub rotate: Option<Located<WrittenRotation>>,
    /// What clients do on their own account: retries, and hedges. Unless said otherwise each request is sent once.
    pub client: Option<Located<WrittenClient>>,
}

impl std::str::FromStr for Arrivals {
    type Err = String;

    /// As a plan writes it behind `arrivals`: `poisson`, `{herd: {of: 100}}`, or without the outer braces.
    fn from_str(text: &str) -> Result<Arrivals, String> {
        let text = text.trim();
        let text = if text.starts_with('{') || !text.contains(':') { text.to_owned() } else { format!("{{{text}}}") };
        let (tree, mut problems) = Tree::read(&text, Limits::PLAN);
        let root = tree.roots.first().filter(|_| problems.is_empty());
        let read = root.and_then(|root| located::read::<Arrivals>(&tree, *root, &mut LeftOut::default(), &mut problems));
        match read.filter(|_| problems.is_empty()) {
            Some(arrivals) => arrivals.contradiction().map_or(Ok(arrivals), Err),
            None => {
                let first = problems.first();
                let help = first.and_then(|problem| problem.help.as_ref()).map(|help| format!(": {help}")).unwrap_or_default();
                Err(first.map_or_else(|| "no arrival process is named".to_owned(), |problem| format!("{}{help}", problem.message)))
            }
        }
    }
}

/// How long a user thinks, as a plan writes it.
#[derive(Clone, Copy)]
pub(super) struct WrittenThink(pub Think);

/// The lengths of time that are drawn.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(inline, extend("minProperties" = 1, "maxProperties" = 1))]
struct Drawn {
    /// Memoryless, with this mean.
    exponential: Option<Span>,
    /// Evenly between two lengths.
    uniform: Option<(Span, Span)>,
}

impl<'de> Deserialize<'de> for WrittenThink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenThink;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time as in 500ms, or {exponential: 500ms}, or {uniform: [200ms, 800ms]}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenThink, E> {
                text.parse().map(|span| WrittenThink(Think::Constant(span))).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<WrittenThink, E> {
                Span::deserialize(n.into_deserializer()).map(|span| WrittenThink(Think::Constant(span)))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenThink, A::Error> {
                let drawn = Drawn::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (drawn.exponential, drawn.uniform) {
                    (Some(mean), None) => Ok(WrittenThink(Think::Exponential(mean))),
                    (None, Some((least, most))) if least <= most => Ok(WrittenThink(Think::Uniform(least, most))),
                    (None, Some((least, most))) => {
                        Err(de::Error::custom(format!("{least} is longer than {most}: write the shorter one first")))
                    }
                    _ => Err(de::Error::custom("users think in one way: `exponential` or `uniform`")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenThink {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Think".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Span>(), generator.subschema_for::<Drawn>()]})
    }
}

/// How the generator itself works.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Generator")]
pub(super) struct WrittenGenerator {
    /// Threads that send. Unless said otherwise: as many as the planned rate needs and the machine has.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<Located<u32>>,
    /// precise: a wake-up for each request, whatever it costs. adaptive: precise while the worker's core has room, the default.
    /// coarse: what is due within a millisecond is sent together.
    #[serde(default)]
    pub pacing: Pacing,
}

/// One HTTP request: exactly one method with its path, and what goes with it. What a replay has recorded needs none. Or one call of gRPC,
/// or one exchange over a WebSocket.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Request", extend(
    "oneOf" = [
        {"required": ["get"]}, {"required": ["post"]}, {"required": ["put"]}, {"required": ["delete"]},
        {"required": ["patch"]}, {"required": ["head"]}, {"required": ["options"]}, {"required": ["grpc"]}, {"required": ["websocket"]},
        {"not": {"anyOf": [
            {"required": ["get"]}, {"required": ["post"]}, {"required": ["put"]}, {"required": ["delete"]},
            {"required": ["patch"]}, {"required": ["head"]}, {"required": ["options"]}, {"required": ["grpc"]}, {"required": ["websocket"]}
        ]}}
    ],
    "dependencies" = {
        "grpc": {
            "oneOf": [{"required": ["descriptors"]}, {"required": ["reflection"]}],
            "not": {"anyOf": [{"required": ["headers"]}, {"required": ["body"]}]}
        },
        "message": ["grpc"], "metadata": ["grpc"], "descriptors": ["grpc"], "reflection": ["grpc"],
        "websocket": {"not": {"anyOf": [{"required": ["body"]}, {"required": ["redirects"]}, {"required": ["gzip"]}]}},
        "send": ["websocket"]
    }
))]
pub(super) struct WrittenRequest {
    /// The path to GET.
    pub get: Option<Located<String>>,
    /// The path to POST to.
    pub post: Option<Located<String>>,
    /// The path to PUT to.
    pub put: Option<Located<String>>,
    /// The path to DELETE.
    pub delete: Option<Located<String>>,
    /// The path to PATCH.
    pub patch: Option<Located<String>>,
    /// The path to ask the HEAD of.
    pub head: Option<Located<String>>,
    /// The path to ask the OPTIONS of.
    pub options: Option<Located<String>>,
    /// The path of a WebSocket, with `protocol: websocket`: what is sent over it and what is waited for is one exchange. Connections are
    /// kept, one for each user; path and headers are those of the handshake that opens one, with the values of the request that needs it.
    pub websocket: Option<Located<String>>,
    /// The message that an exchange over a WebSocket sends: text, or {file: message.bin}, whose bytes are one binary message. Without it,
    /// the exchange waits for the next message that the server sends by itself.
    pub send: Option<Located<WrittenBody>>,
    /// Request headers; a value may be a secret from the environment, as ${NAME}.
    #[serde(default)]
    pub headers: Pairs<Located<String>, Located<Text>>,
    /// The body, as text; or {file: payload.bin}, relative to the plan's file, whose bytes are sent as they are.
    pub body: Option<Located<WrittenBody>>,
    /// How long an answer may take, from the moment when the request was due; 5s unless said otherwise. A call tells its server.
    pub timeout: Option<Located<Span>>,
    /// What an answer must be like; unless said otherwise, its status is from 200 to 399.
    pub expect: Option<Located<WrittenExpect>>,
    /// How many redirects (301, 302, 303, 307, 308) are followed, one after the other, within the same origin; none unless said
    /// otherwise. Together they are one request, whose answer is the last one.
    #[schemars(range(min = 0, max = 20))]
    pub redirects: Option<Located<u32>>,
    /// Ask for the answer in gzip. It is counted as it comes, and taken apart only where something in the body is looked at.
    pub gzip: Option<Located<bool>>,
    /// The method to call, as package.Service/Method: unary, or one that streams its answers. With `protocol: grpc`.
    pub grpc: Option<Located<String>>,
    /// What a call sends, as JSON: field by field, in the names of the .proto file or of JSON. Without it, a message in which nothing is
    /// said.
    pub message: Option<Located<WrittenMessage>>,
    /// What a call sends beside its message; a value may be a secret from the environment, as ${NAME}. Keys that end in -bin have base64.
    #[serde(default)]
    pub metadata: Pairs<Located<String>, Located<Text>>,
    /// A file with the types of the service, relative to the plan's: protoc --include_imports --descriptor_set_out=FILE shop.proto
    pub descriptors: Option<Located<String>>,
    /// Ask the server for its types, before the first call.
    #[schemars(extend("const" = true))]
    pub reflection: Option<Located<bool>>,
}

impl WrittenRequest {
    /// Whether it says what is sent, well or not.
    pub fn says_what(&self) -> bool {
        !self.methods().is_empty() || self.grpc.is_some() || self.websocket.is_some()
    }

    /// Every method that is given, with its path.
    pub fn methods(&self) -> Vec<(&'static str, &Located<String>)> {
        [
            ("GET", &self.get),
            ("POST", &self.post),
            ("PUT", &self.put),
            ("DELETE", &self.delete),
            ("PATCH", &self.patch),
            ("HEAD", &self.head),
            ("OPTIONS", &self.options),
        ]
        .into_iter()
        .filter_map(|(method, path)| path.as_ref().map(|path| (method, path)))
        .collect()
    }
}

/// A fault at its moment; what it does stands under the key of its kind.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFault {
    /// What assertions and other faults call it.
    pub name: Located<Name>,
    /// When it strikes: a phase or another fault, plus or minus a span, as in burst + 20s or kill-one.effective + 5s.
    pub at: Located<Anchor>,
    /// How long it lasts, for faults that last.
    pub r#for: Option<Located<Span>>,
}

/// An assertion; what it asserts stands under the key of its kind.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["during", "fault"]}))]
pub(super) struct WrittenClaim {
    /// What reports call it.
    pub name: Located<Name>,
    /// The phase, or {from, to} moments, that it speaks of; the whole run where neither this nor `fault` is given.
    pub during: Option<Located<During>>,
    /// The fault that it speaks of, with its aftermath.
    pub fault: Option<Located<Name>>,
}

/// A phase, or the stretch between two moments.
pub(super) enum During {
    Phase(Name),
    Between(Stretch),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stretch {
    /// The first moment.
    pub from: Located<Anchor>,
    /// The moment after the last.
    pub to: Located<Anchor>,
}

impl<'de> Deserialize<'de> for During {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = During;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a phase, or {from: MOMENT, to: MOMENT}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<During, E> {
                text.parse().map(During::Phase).map_err(|error: String| {
                    if text.parse::<Anchor>().is_ok() {
                        E::custom(format!("`{text}` is a moment, not a stretch: write a phase, or {{from: {text}, to: ...}}"))
                    } else {
                        E::custom(error)
                    }
                })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<During, A::Error> {
                Stretch::deserialize(de::value::MapAccessDeserializer::new(map)).map(During::Between)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for During {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "During".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let stretch = generator.subschema_for::<Stretch>();
        json_schema!({"anyOf": [{"type": "string", "description": "a phase"}, stretch]})
    }
}

/// An entry that has the keys of `C` and, beside them, one kind of `K` under its own key. Read in two steps: the keys of `C` by
/// its derived reader, the kind by its table.
pub(super) struct Entry<C, K> {
    pub node: NodeId,
    kind: PhantomData<(C, K)>,
}

impl<'de, C, K> Deserialize<'de> for Entry<C, K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NodeId::deserialize(deserializer).map(|node| Entry { node, kind: PhantomData })
    }
}

impl<C: JsonSchema, K: Kind> JsonSchema for Entry<C, K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        C::schema_name().trim_start_matches("Written").to_owned().into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = C::json_schema(generator);
        let mut kinds = Vec::new();
        for row in K::ALL {
            let spec = (row.schema)(generator);
            // Beside a $ref a description would be ignored in draft 7.
            let described = json_schema!({"description": row.summary, "allOf": [spec]});
            if let Some(properties) = schema.get_mut("properties").and_then(|p| p.as_object_mut()) {
                properties.insert(row.key.to_owned(), described.to_value());
            }
            kinds.push(serde_json::json!({"required": [row.key]}));
        }
        schema.insert("oneOf".to_owned(), kinds.into());
        schema
    }
}

/// The keys of `C`, from its schema: the one list that there is.
pub(super) fn keys_of<C: JsonSchema>() -> Vec<String> {
    let schema = C::json_schema(&mut SchemaGenerator::default());
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}
