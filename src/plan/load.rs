//! What is sent, and what makes it come: the loads of a plan, and the generator that sends them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flow::Flow;
use super::level::Levels;
use super::{Client, Protocol, Rotation};
use crate::answers::{BodyChecks, Wanted};
use crate::grpc;
use crate::names::Name;
use crate::schedule::{Arrivals, Rhythm};
use crate::units::{Rate, Span, Users};
use crate::varying::Varying;

/// Requests, and what makes them come.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub name: Name,
    pub model: Model,
    /// What each arrival sends, where it has no flows; the first step of the first of them, where it has.
    pub request: Request,
    /// The ways of which each arrival takes one; none where all that it sends is its request.
    pub flows: Vec<Flow>,
    /// What its requests name as `{{name}}`, and where that comes from.
    pub varying: Varying,
    pub protocol: Protocol,
    /// Connections that may be open at once; bounded even when the plan does not say.
    pub connections: u32,
    /// Requests that each of them carries at once.
    pub streams: u32,
    /// Requests that may be due and not ended at once; what comes on top is `unsent`.
    pub in_flight: u32,
    /// When its connections are replaced.
    pub rotation: Rotation,
    /// What its client does beyond sending each request once.
    pub client: Option<Client>,
}

impl Load {
    /// Whether what it sends is known: a replay whose recording is not at hand is not.
    pub(super) fn is_known(&self) -> bool {
        match &self.model {
            Model::Open { arrivals, .. } => arrivals.replays().is_none_or(|replay| replay.is_read()),
            Model::Closed { .. } => true,
        }
    }
}

/// The models by their keys in a load, and what belongs to them, with one line about each and what it looks like.
pub const MODELS: &[(&str, &str, &str)] = &[
    ("rate", "open: on a schedule, whatever becomes of the requests before", "rate: {baseline: 50/s, burst: 50/s -> 250/s}"),
    (
        "users",
        "closed: so many users, each of whom waits for an answer, and thinks, before sending again",
        "users: {baseline: 10, burst: 10 -> 50}, think: {exponential: 500ms}",
    ),
    ("think", "how long a user waits after an answer: always the same, or drawn", "think: {uniform: [200ms, 800ms]}, users: 10"),
    ("every", "from one request of a user to its next, whatever the answer takes of it", "every: 1s, users: 10"),
];

/// What a plan can say of the generator itself, as it is listed.
pub const GENERATOR: &[(&str, &str, &str)] = &[
    ("generator.pacing", "how precisely requests are sent when they are due", "pacing: adaptive"),
    (
        "generator.workers",
        "threads that send; as many as the planned rate needs and the machine has unless said otherwise",
        "workers: 2",
    ),
];

/// What makes requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// Open: on a schedule, whatever becomes of the ones before. A replay has no rate.
    Open { arrivals: Arrivals, rate: Levels<Rate> },
    /// Closed: from users, each of whom waits for the answer to one request before sending the next.
    Closed { users: Levels<Users>, rhythm: Rhythm },
}

/// How the generator itself works: the same for all loads of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generator {
    /// Threads that send; as many as the planned rate needs and the machine has when `None`.
    pub workers: Option<u32>,
    pub pacing: Pacing,
}

/// The pacings by name, with one line about each.
pub const PACINGS: &[(&str, &str)] = &[
    ("precise", "a wake-up for each request, and a moment awake before it, whatever that costs"),
    (
        "adaptive",
        "precise while the worker's core has room; then without the moment before, then several together within a window that the certificate tells",
    ),
    ("coarse", "those that are due within a millisecond together: the cheapest"),
];

/// How precisely requests are sent when they are due, which is paid for in CPU: a wake-up costs about 20 us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// A wake-up for each, whatever it costs.
    Precise,
    /// Precise while the worker's core has room; then those that are due within a window are sent together, and the window widens
    /// until the worker leaves three tenths of its core free. The certificate says how wide it was.
    #[default]
    Adaptive,
    /// Those that are due within a millisecond are sent together, as most load generators do: the cheapest, and a burst of its own.
    Coarse,
}

/// The method of a request that a recording gives method and path.
pub const REPLAYED: &str = "REPLAY";

/// What kind of exchange a request begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Talk {
    /// What is said of it elsewhere is all there is.
    #[default]
    Http,
    /// A call of gRPC, whose message stands in the place of a body.
    Grpc(grpc::Call),
    /// An exchange of messages over a WebSocket, whose handshake has the path and the headers.
    WebSocket(Exchange),
}

/// The method of a request that is an exchange over a WebSocket.
pub const WEBSOCKET: &str = "WEBSOCKET";

/// What goes over a WebSocket, and what is waited for then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// Nothing, where it only waits.
    pub send: Option<Payload>,
    /// Which message ends it; the next one where nothing is said.
    pub expect: Option<BodyChecks>,
}

/// One message.
#[derive(Clone, PartialEq)]
pub enum Payload {
    /// A [template](crate::varying::Template); it may hold secrets, so this type's `Debug` does not print it.
    Text(String),
    Binary(Vec<u8>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Payload::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// One HTTP request: the same for every arrival, unless the schedule says what each sends ([`Schedule::requests`]). Path, values of
/// headers and body are [templates](crate::varying::Template).
///
/// [`Schedule::requests`]: crate::schedule::Schedule::requests
#[derive(Clone, PartialEq)]
pub struct Request {
    /// In upper case; [`REPLAYED`] where the schedule says it.
    pub method: String,
    /// Appended to the target's URL; starts with `/`. The name of the recording where the schedule says what is sent.
    pub path: String,
    /// Names as written; values may hold secrets, so this type's `Debug` prints none of them.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the intended start.
    pub timeout: Span,
    /// What is wanted of its answer.
    pub wanted: Wanted,
    pub talk: Talk,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body", &self.body.len())
            .field("timeout", &self.timeout)
            .field("wanted", &self.wanted)
            .field("talk", &self.talk)
            .finish()
    }
}
