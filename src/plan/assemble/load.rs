//! One load of a plan: which model it is of, how much it sends and what, and the bounds that follow from it.

use super::super::body::{FILE_MOST, WrittenBody};
use super::super::flow::patience;
use super::super::level::{self, Level, Levels, Quantity, peak};
use super::super::problem::proposal;
use super::super::recording;
use super::super::rotation::WrittenRotation;
use super::super::tree::Id;
use super::super::written::{Text, WrittenGenerator, WrittenLoad, WrittenRequest};
use super::super::{Arrivals, Client, Flow, Generator, Load, Model, Protocol, REPLAYED, Request, Rhythm, Rotation, Talk, Think};
use super::feeds::Feeds;
use super::{Desk, LoadPlace, Located, Names, Pairs, call, client, exchange, flow, transport, varying, wanted};
use crate::names::Name;
use crate::schedule::Replayed;
use crate::target;
use crate::units::{Rate, Span, Users};
use crate::varying::template::{self, Part};
use crate::varying::{COOKIES, LOCATION, Varying};

/// The most connections that a load may have: there are no more ports to have them from.
const CONNECTIONS_MOST: u32 = 65_535;
/// The most requests that one connection may carry at once: no server is known that takes more.
const STREAMS_MOST: u32 = 10_000;
/// The most requests that a load may have in flight: each costs memory here.
const IN_FLIGHT_MOST: u32 = 1_000_000;
/// The most threads that send: no machine that people have has more cores.
const WORKERS_MOST: u32 = 1_024;
/// The bytes of body of all different requests of a replay: every worker keeps them.
const BODIES_MOST: usize = 64 << 20;
/// The timeout of a request whose plan does not say.
const DEFAULT_TIMEOUT: Span = Span::from_secs(5);

/// The load that is written, and what says how much it sends.
pub(super) fn load(
    desk: &mut Desk<'_>,
    mut written: Located<WrittenLoad>,
    names: &Names,
    phases: &[(Located<Name>, Span)],
    feeds: &Feeds,
) -> (Load, LoadPlace) {
    let (varying, headers) = varying::read(desk, &written, feeds);
    let rotation = rotation(desk, written.value.rotate.take(), written.value.protocol);
    let flows = flow::flows(desk, &mut written);
    let closed_model = written.value.users.is_some();
    let read = if closed_model { closed(desk, written, flows, names, phases) } else { open(desk, written, flows, names, phases) };
    let (mut load, place) = read;
    load.request.headers.extend(headers.iter().cloned());
    for flow in &mut load.flows {
        flow.steps.iter_mut().for_each(|step| step.request.headers.extend(headers.iter().cloned()));
    }
    let varying = Varying { told: told(&load), ..varying };
    (Load { varying, rotation, ..load }, place)
}

/// The names of what only answers tell.
fn told(load: &Load) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for name in load.requests().flat_map(|request| &request.wanted.saves).map(|save| &save.name) {
        if !told.contains(name) {
            told.push(name.clone());
        }
    }
    told.extend(load.requests().any(|request| request.wanted.redirects > 0).then(|| LOCATION.to_owned()));
    told.extend(load.requests().any(|request| request.wanted.cookies).then(|| COOKIES.to_owned()));
    told
}

/// The request that a load sends or, where it has flows, the first step of the first of them.
fn sent(
    desk: &mut Desk<'_>,
    written: Option<Located<WrittenRequest>>,
    flows: &[Flow],
    load: Id,
    arrivals: Option<&Arrivals>,
    protocol: Protocol,
) -> Request {
    match flows.first().and_then(|flow| flow.steps.first()) {
        Some(step) => step.request.clone(),
        None => request(desk, written, load, arrivals, protocol),
    }
}

/// When connections are replaced.
fn rotation(desk: &mut Desk<'_>, written: Option<Located<WrittenRotation>>, protocol: Protocol) -> Rotation {
    let Some(Located { value: written, at }) = written else { return protocol.usual_rotation() };
    // Of what was left out of it nothing more is to be said.
    if !desk.left_out.nothing_below(&desk.tree, at) {
        return protocol.usual_rotation();
    }
    written.rotation().unwrap_or_else(|why| {
        desk.wrong(at, why);
        protocol.usual_rotation()
    })
}

/// A load on a schedule.
fn open(
    desk: &mut Desk<'_>,
    Located { value: written, at }: Located<WrittenLoad>,
    flows: Option<Vec<Flow>>,
    names: &Names,
    phases: &[(Located<Name>, Span)],
) -> (Load, LoadPlace) {
    for (key, place) in [("think", written.think.map(|think| think.at)), ("every", written.every.map(|every| every.at))] {
        // Users that could not be read have been reported.
        if let Some(place) = place.filter(|_| !desk.is_left_out(at, &["users"])) {
            desk.wrong(place, format!("`{key}` is what users do, and this load has none")).help =
                Some("arrivals come on a schedule, at `rate`; for users that wait for answers, write `users` in its place".into());
        }
    }
    // What could not be read has been reported, and what it would have sent is not known.
    let known = written.arrivals.is_some() || desk.tree.get(at, "arrivals").is_none();
    let replays = written.arrivals.as_ref().is_some_and(|arrivals| arrivals.has_own_rate());
    let rate_at = written.rate.as_ref().map(|rate| rate.at);
    let rate = match written.rate {
        None => {
            if !replays && known && !desk.is_left_out(at, &["rate", "users"]) {
                let message = format!("`{}` says neither how many requests come nor how many users send them", written.name.value);
                desk.wrong(at, message).help = Some("write a rate, as in `rate: 50/s`, or, for a closed model, `users: 10`".into());
            }
            Levels::new()
        }
        Some(rate) if replays => {
            desk.wrong(rate.at, "a recording has its own rate").help =
                Some("leave out `rate`; `warp` makes a replay faster or slower".into());
            Levels::new()
        }
        Some(rate) => levels(desk, rate, names, phases),
    };
    let says_what = written.request.as_ref().is_some_and(|request| request.value.says_what());
    let replayed = if says_what || flows.is_some() { Replayed::Times } else { Replayed::All };
    let arrivals_at = written.arrivals.as_ref().map(|arrivals| arrivals.at);
    let arrivals = if known { arrivals(desk, written.arrivals, &rate, replayed) } else { None };
    let sends = if replays { arrivals_at } else { rate_at }.filter(|_| arrivals.is_some());
    let protocol = written.protocol;
    // What a recording has are requests of HTTP.
    if written.request.is_none()
        && flows.is_none()
        && known
        && (!replays || matches!(protocol, Protocol::Grpc | Protocol::WebSocket))
    {
        missing_request(desk, at, protocol);
    }
    let flows = flows.unwrap_or_default();
    let request = sent(desk, written.request, &flows, at, arrivals.as_ref(), protocol);
    let client = client::client(desk, written.client, &request, &flows);
    let streams = streams(desk, written.streams, protocol);
    let arrivals = arrivals.unwrap_or_default();
    let due = most_due(&arrivals, &rate, patience(&request, &flows));
    let usual = default_connections(due * abreast(client.as_ref()), protocol, streams);
    let connections = bounded(desk, written.connections, usual, CONNECTIONS_MOST, "connections");
    let in_flight = bounded(desk, written.in_flight, default_in_flight(due), IN_FLIGHT_MOST, "requests in flight");
    let model = Model::Open { arrivals, rate };
    (
        Load {
            name: written.name.value,
            model,
            request,
            flows,
            varying: Varying::default(),
            protocol,
            connections,
            streams,
            in_flight,
            rotation: Rotation::default(),
            client,
        },
        LoadPlace { sends },
    )
}

/// A load from users.
fn closed(
    desk: &mut Desk<'_>,
    Located { value: written, at }: Located<WrittenLoad>,
    flows: Option<Vec<Flow>>,
    names: &Names,
    phases: &[(Located<Name>, Span)],
) -> (Load, LoadPlace) {
    let protocol = written.protocol;
    for (key, place) in [
        ("rate", written.rate.map(|rate| rate.at)),
        ("arrivals", written.arrivals.map(|arrivals| arrivals.at)),
        ("connections", written.connections.as_ref().filter(|_| !protocol.has_streams()).map(|connections| connections.at)),
        ("in_flight", written.in_flight.map(|in_flight| in_flight.at)),
    ] {
        if let Some(place) = place {
            desk.wrong(place, format!("`{key}` does not go with `users`")).help =
                Some("each user has a connection and sends when the answer before has come: keep `users`, or write `rate`".into());
        }
    }
    if written.request.is_none() && flows.is_none() {
        missing_request(desk, at, written.protocol);
    }
    let flows = flows.unwrap_or_default();
    let sends = written.users.as_ref().map(|users| users.at);
    let users = written.users.map_or_else(Levels::new, |users| levels(desk, users, names, phases));
    let rhythm = Rhythm {
        think: written.think.map_or_else(Think::default, |think| think.value.0),
        every: written.every.map(|every| every.value),
    };
    let request = sent(desk, written.request, &flows, at, Some(&Arrivals::default()), protocol);
    let client = client::client(desk, written.client, &request, &flows);
    let streams = streams(desk, written.streams, protocol);
    let most = peak(&users);
    let abreast = abreast(client.as_ref());
    let connections = match written.connections.filter(|_| protocol.has_streams()) {
        None => connections_of_users(most * abreast, protocol, streams),
        Some(connections) => {
            let carried = f64::from(connections.value) * f64::from(streams);
            if carried < most * abreast {
                let needs = if abreast > 1.0 { format!("{abreast} streams, hedges included") } else { "a stream".to_owned() };
                let message = format!("each of {most} users needs {needs}, and the connections carry {carried}");
                desk.wrong(connections.at, message).help = Some("raise `connections` or `streams`".into());
            }
            bounded(desk, Some(connections), 1, CONNECTIONS_MOST, "connections")
        }
    };
    let (model, in_flight) = (Model::Closed { users, rhythm }, most as u32);
    (
        Load {
            name: written.name.value,
            model,
            request,
            flows,
            varying: Varying::default(),
            protocol,
            connections,
            streams,
            in_flight,
            rotation: Rotation::default(),
            client,
        },
        LoadPlace { sends },
    )
}

/// The most attempts of a request that are on their way at once: each needs a connection.
pub(in super::super) fn abreast(client: Option<&Client>) -> f64 {
    client.map_or(1.0, |client| f64::from(client.abreast()))
}

/// Requests that one connection carries at once.
fn streams(desk: &mut Desk<'_>, written: Option<Located<u32>>, protocol: Protocol) -> u32 {
    if let Some(streams) = written.as_ref().filter(|_| !protocol.has_streams()) {
        let (what, help) = match protocol {
            Protocol::WebSocket => {
                ("a WebSocket carries one exchange at a time", "leave out `streams`: each user has a connection")
            }
            _ => ("a connection of HTTP/1.1 carries one request at a time", "say `protocol: http2`, or leave out `streams`"),
        };
        desk.wrong(streams.at, format!("{what}, and has no streams")).help = Some(help.into());
    }
    bounded(desk, written, protocol.usual_streams(), STREAMS_MOST, "streams")
}

/// What is sent as a body, as a template: in a file, nothing is a reference.
fn body(desk: &mut Desk<'_>, written: WrittenBody) -> Vec<u8> {
    match written {
        WrittenBody::Text(text) => text.0.into_bytes(),
        WrittenBody::File(file) => {
            let bytes = transport::bytes(desk, file.at, &file.value, "body", FILE_MOST).unwrap_or_default();
            String::from_utf8(bytes).map_or_else(|error| error.into_bytes(), |text| template::escaped(&text).into_bytes())
        }
    }
}

fn missing_request(desk: &mut Desk<'_>, load: Id, protocol: Protocol) {
    if !desk.is_left_out(load, &["request", "flow", "flows"]) {
        let help = match protocol {
            Protocol::Grpc => "say what is called, as in `request: {grpc: shop.Checkout/Pay, reflection: true}`",
            Protocol::WebSocket => "say where it is, and what is sent, as in `request: {websocket: /live, send: ping}`",
            Protocol::Http1 | Protocol::Http2 => "say what is sent, as in `request: {get: /checkout}`",
        };
        desk.wrong(load, "`request` is missing").help = Some(help.into());
    }
}

/// The level of each phase.
fn levels<T: Bounded>(
    desk: &mut Desk<'_>,
    written: Located<level::Written<T>>,
    names: &Names,
    phases: &[(Located<Name>, Span)],
) -> Levels<T> {
    match written.value {
        level::Written::All(level) => {
            within_reason(desk, written.at, level);
            phases.iter().map(|(name, _)| (name.value.clone(), level)).collect()
        }
        level::Written::PerPhase(Pairs(pairs)) => {
            let mut levels = Levels::new();
            for (phase, level) in pairs {
                if !names.is_phase(&phase.value) {
                    let help = proposal(phase.value.as_str(), names.phases.iter().map(String::as_str));
                    desk.wrong(phase.at, format!("there is no phase `{}`", phase.value)).help = help;
                }
                within_reason(desk, level.at, level.value);
                levels.insert(phase.value, level.value);
            }
            levels
        }
    }
}

fn within_reason<T: Bounded>(desk: &mut Desk<'_>, at: Id, level: Level<T>) {
    if level.peak().value() > T::MOST {
        desk.wrong(at, format!("{} is more than any machine {}", level.peak(), T::DOES)).help = Some(T::WAY_OUT.into());
    }
}

/// A level that has an end to what is possible.
trait Bounded: Quantity {
    const MOST: f64;
    const DOES: &'static str;
    const WAY_OUT: &'static str;
}

/// A load faster than this is a mistyped unit.
impl Bounded for Rate {
    const MOST: f64 = 10_000_000.0;
    const DOES: &'static str = "sends";
    const WAY_OUT: &'static str = "at most 10000000/s";
}

/// Each user has a connection.
impl Bounded for Users {
    const MOST: f64 = CONNECTIONS_MOST as f64;
    const DOES: &'static str = "has ports for";
    const WAY_OUT: &'static str = "at most 65535 users";
}

/// How requests come due, with the recording where they need one; `None` where they cannot come due so, which has been reported.
fn arrivals(desk: &mut Desk<'_>, written: Option<Located<Arrivals>>, rate: &Levels<Rate>, replayed: Replayed) -> Option<Arrivals> {
    let Some(Located { value: arrivals, at }) = written else { return Some(Arrivals::default()) };
    // Of what was left out of it nothing more is to be said.
    if !desk.left_out.nothing_below(&desk.tree, at) {
        return None;
    }
    let impossible = || rate.values().find_map(|rate| arrivals.impossible_at(rate.mean()));
    let too_many = || {
        let most = rate.values().map(|rate| arrivals.most_within(rate.peak().value(), 1.0)).fold(0.0, f64::max);
        (most > Rate::MOST && peak(rate) <= Rate::MOST)
            .then(|| format!("this makes {most:.0} in one second: at most {:.0}", Rate::MOST))
    };
    match arrivals.contradiction().or_else(impossible).or_else(too_many) {
        None => recording::read(desk, at, arrivals, replayed),
        Some(why) => {
            desk.wrong(at, why);
            None
        }
    }
}

/// What the plan says of the generator itself.
pub(super) fn generator(desk: &mut Desk<'_>, written: Option<Located<WrittenGenerator>>) -> Generator {
    let Some(Located { value: written, .. }) = written else { return Generator::default() };
    let workers = written.workers.map(|workers| bounded(desk, Some(workers), 1, WORKERS_MOST, "workers"));
    Generator { workers, pacing: written.pacing }
}

/// The most requests that can be under way when every one runs into its timeout: those that come due within it (Little's law).
pub(in super::super) fn most_due(arrivals: &Arrivals, rate: &Levels<Rate>, timeout: Span) -> f64 {
    if arrivals.has_own_rate() {
        return arrivals.most_within(0.0, timeout.seconds());
    }
    rate.values().map(|rate| arrivals.most_within(rate.peak().value(), timeout.seconds())).fold(0.0, f64::max)
}

/// Connections of an open load whose plan does not say: as many as carry the requests that are under way when every one runs into its
/// timeout ([`most_due`]), so that a service that is slow is not slower for want of one. At least 256 (8 where each carries many), and
/// at most 4,096, for which any machine has ports and descriptors: a service that hangs must not look like a generator that has run out
/// of them.
pub(in super::super) fn default_connections(due: f64, protocol: Protocol, streams: u32) -> u32 {
    (due / f64::from(streams.max(1))).ceil().clamp(f64::from(protocol.fewest_connections()), 4_096.0) as u32
}

/// Connections of a closed load: one for each user, or as many as have a stream for each, and not so few that they would be few pods.
fn connections_of_users(users: f64, protocol: Protocol, streams: u32) -> u32 {
    (users / f64::from(streams.max(1))).ceil().max(f64::from(protocol.fewest_connections()).min(users)) as u32
}

/// Requests in flight of a load whose plan does not say: half as many again as there are when every request runs into its
/// timeout ([`most_due`]), so that a service that hangs costs no request; between 1,000 and 100,000.
pub(in super::super) fn default_in_flight(due: f64) -> u32 {
    (due * 1.5).clamp(1_000.0, 100_000.0) as u32
}

fn bounded(desk: &mut Desk<'_>, written: Option<Located<u32>>, default: u32, most: u32, what: &str) -> u32 {
    let Some(written) = written else { return default };
    if written.value == 0 || written.value > most {
        desk.wrong(written.at, format!("{} {what}: it must be from 1 to {most}", written.value));
    }
    written.value
}

pub(super) fn request(
    desk: &mut Desk<'_>,
    written: Option<Located<WrittenRequest>>,
    load: Id,
    arrivals: Option<&Arrivals>,
    protocol: Protocol,
) -> Request {
    let given = written.is_some();
    let Located { value: mut written, at } = written.unwrap_or(Located { value: WrittenRequest::default(), at: load });
    let timeout = timeout(desk, written.timeout.as_ref());
    if protocol == Protocol::Grpc {
        return call::request(desk, written, at, given, timeout);
    }
    if protocol == Protocol::WebSocket {
        return exchange::request(desk, written, at, given, timeout);
    }
    call::unasked(desk, &written);
    exchange::unasked(desk, &written);
    let wanted = wanted::wanted(desk, &mut written);
    let methods = written.methods();
    let (mut method, mut path) = ("GET", String::from("/"));
    let recorded = arrivals.map_or(&[][..], |arrivals| arrivals.requests());
    match (&methods[..], arrivals.and_then(|arrivals| arrivals.replays())) {
        ([], Some(replay)) => {
            if replay.is_read() && recorded.is_empty() {
                desk.wrong(at, format!("the recording `{}` says when something was sent, and not what", replay.file())).help =
                    Some("say what is sent, as in `request: {get: /checkout}`, or record a column `path`".into());
            }
            (method, path) = (REPLAYED, replay.file().to_owned());
        }
        // Where it is missing, or nobody knows whether a recording says it, that has been reported.
        ([], None) if !given || arrivals.is_none() || written.grpc.is_some() || written.websocket.is_some() => {}
        ([], None) => {
            // One that is there and unreadable has been reported.
            if !desk.tree.entries(at).iter().any(|(key, value)| desk.left_out.has(*key) || desk.left_out.has(*value)) {
                let problem = desk.wrong(at, "the request names no method");
                problem.help =
                    Some("say what is sent, as in `get: /checkout`; also post, put, delete, patch, head, options".into());
            }
        }
        ([(only, given)], _) => {
            // Braces that name nothing have been reported.
            let whole = !template::parts(&given.value).contains(&Part::Broken);
            if let Err(error) = target::path(&template::sample(&given.value))
                && whole
            {
                desk.wrong(given.at, error);
            }
            (method, path) = (*only, given.value.clone());
        }
        ([.., (_, second)], _) => {
            let all: Vec<String> = methods.iter().map(|(method, _)| format!("`{}`", method.to_lowercase())).collect();
            desk.wrong(second.at, format!("one request has one method, not {}", all.join(" and ")));
        }
    }
    let headers = headers(desk, written.headers, "header", protocol);
    let (body_at, body) = written.body.map_or((at, Vec::new()), |body| (body.at, self::body(desk, body.value)));
    let different = recorded.len();
    if different * body.len() > BODIES_MOST {
        desk.wrong(body_at, format!("{different} different requests with a body of {} bytes each", body.len())).help =
            Some(format!("at most {} MiB together: send less, or fewer", BODIES_MOST >> 20));
    }
    Request { method: method.to_owned(), path, headers, body, timeout, talk: Talk::Http, wanted }
}

/// How long an answer may take.
fn timeout(desk: &mut Desk<'_>, written: Option<&Located<Span>>) -> Span {
    let Some(given) = written else { return DEFAULT_TIMEOUT };
    if given.value < Span::from_millis(1) || given.value > Span::from_secs(3600) {
        desk.wrong(given.at, format!("no request can be given {}: from 1ms to 1h", given.value));
    }
    given.value
}

/// What goes along with a request, each a `kind`.
pub(super) fn headers(
    desk: &mut Desk<'_>,
    written: Pairs<Located<String>, Located<Text>>,
    kind: &str,
    protocol: Protocol,
) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in written.0 {
        if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name.value)) {
            let message = format!("the {kind} `{}` is given twice: upper and lower case are the same in it", name.value);
            desk.wrong(name.at, message);
        }
        let sendable = target::header(&name.value, &value.value.0);
        if let Err(error) = sendable.and_then(|()| protocol.header(&name.value, &value.value.0)) {
            desk.wrong(name.at, error);
        }
        headers.push((name.value, value.value.0));
    }
    headers
}
