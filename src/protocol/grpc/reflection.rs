//! Server reflection: asking a server for the types of what it serves, once, before the first call. Control, not load: by a library's
//! client, one question a call, in the protocol's first version and the one before it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_reflect::prost::Message as _;
use prost_reflect::prost::encoding::{self, WireType};
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};

use super::{Said, Status};
use crate::grpc::{Descriptors, Types};
use crate::plan::{Request, Talk};
use crate::protocol::{Destination, Scheme, Steps, http2};

/// How long a server may take for all of its answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many files a service may be made of: more than any is.
const FILES_MOST: usize = 2_000;
/// How many bytes all answers of a server may have together.
const TOLD_MOST: usize = 16 << 20;
/// How many fields with a length they may have together, those within others included: an empty one takes two bytes to send and hundreds to
/// keep.
const FIELDS_MOST: usize = 1_000_000;
/// How deep they may lie within one another: deeper than any library reads.
const DEPTH_MOST: usize = 100;
/// How many names of services are repeated.
const NAMES_MOST: usize = 10;
/// How much of what a server told is repeated at once, in characters.
const REPEATED_MOST: usize = 1_000;
/// The service that answers, newest first.
const SERVICES: [&str; 2] = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// What can be done without it.
const WITHOUT: &str = "name a file with the types in its place, as in `descriptors: shop.protoset`";

/// Why types could not be learnt.
#[derive(Debug)]
pub enum Unlearnt {
    /// The server did not tell them.
    Server(anyhow::Error),
    /// What the plan says of a call cannot be, by the types that it told.
    Plan(String),
}

/// Asks the server at `destination` for the types of those `requests` that want them of it, and puts their messages into these terms.
///
/// # Errors
/// When it does not tell them, or they are not those that the plan has in mind.
pub async fn learn<'r>(destination: &Destination, requests: impl Iterator<Item = &'r mut Request>) -> Result<(), Unlearnt> {
    let mut services: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut calls = Vec::new();
    for Request { talk, headers, .. } in requests {
        match talk {
            Talk::Grpc(call) if call.known.is_none() && call.types == Types::Reflection => {
                services.entry(call.method.service.clone()).or_insert_with(|| always(headers));
                calls.push(call);
            }
            _ => {}
        }
    }
    if calls.is_empty() {
        return Ok(());
    }
    let asked = tokio::time::timeout(PATIENCE, ask_for(destination, services)).await;
    let asked =
        asked.unwrap_or_else(|_| Err(anyhow!("no answer to questions of reflection within {}s; {WITHOUT}", PATIENCE.as_secs())));
    let known = asked.map_err(|why| Unlearnt::Server(anyhow!(presentable(&format!("{why:#}")))))?;
    for call in calls {
        let resolved = call.resolve(&known[&call.method.service]);
        let lines = |wrongs: Vec<crate::grpc::Wrong>| wrongs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        call.known = Some(resolved.map_err(|wrongs| Unlearnt::Plan(format!("{}: {}", call.method, presentable(&lines(wrongs)))))?);
    }
    Ok(())
}

/// A message with names in it that a server told: no longer than people read, and without what a terminal would obey.
fn presentable(message: &str) -> String {
    let mut chars = message.chars();
    let printed = |char: char| if char.is_control() && char != '\n' { char::REPLACEMENT_CHARACTER } else { char };
    let mut text: String = chars.by_ref().take(REPEATED_MOST).map(printed).collect();
    if chars.next().is_some() {
        text.push_str(" ...");
    }
    text
}

/// What is the same in every call of its metadata: a server may want to know who asks before it tells of its types.
fn always(metadata: &[(String, String)]) -> Vec<(String, String)> {
    metadata.iter().filter(|(_, value)| !value.contains("{{")).cloned().collect()
}

/// The types of each service, by its name; questions go with the metadata of its calls.
async fn ask_for(
    destination: &Destination,
    services: BTreeMap<String, Vec<(String, String)>>,
) -> Result<BTreeMap<String, Descriptors>> {
    let mut server = Server::connect(destination).await?;
    let mut known = BTreeMap::new();
    for (service, metadata) in services {
        server.metadata = metadata;
        let descriptors = server.descriptors(&service).await?;
        known.insert(service, descriptors);
    }
    Ok(known)
}

/// A question, by its number in the protocol.
#[derive(Clone, Copy)]
enum Question<'q> {
    File(&'q str),
    Symbol(&'q str),
    Services,
}

impl Question<'_> {
    /// With the length of a message before it.
    fn bytes(self) -> Bytes {
        let (number, text) = match self {
            Question::File(name) => (3, name),
            Question::Symbol(name) => (4, name),
            Question::Services => (7, "*"),
        };
        let mut message = BytesMut::new();
        encoding::string::encode(number, &text.to_owned(), &mut message);
        let mut bytes = BytesMut::from(&[0][..]);
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&message);
        bytes.freeze()
    }
}

/// What came back.
pub(in crate::protocol) enum Told {
    Files(Vec<FileDescriptorProto>),
    Services(Vec<String>),
    /// The server does not know what it was asked for.
    Unknown,
}

/// A connection to ask over.
struct Server<'d> {
    destination: &'d Destination,
    sender: SendRequest<Full<Bytes>>,
    /// Which of the services is asked: the first that the server has.
    version: usize,
    /// What goes along with each question.
    metadata: Vec<(String, String)>,
    /// How much it may still tell.
    allowance: Allowance,
}

/// How much may come yet of what a server tells, whatever it was asked.
pub(in crate::protocol) struct Allowance {
    bytes: usize,
    fields: usize,
}

impl Allowance {
    /// Reads the body of an answer, which has at most as many bytes as are left.
    pub(in crate::protocol) fn read(&mut self, body: Bytes) -> Result<Told> {
        self.bytes = self.bytes.saturating_sub(body.len());
        let message = first_message(body).context("the answer to a question of reflection is no message")?;
        ensure!(count(message.clone(), &mut self.fields, 0), "the server tells of more than {FIELDS_MOST} things; {WITHOUT}");
        told(message)
    }
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { bytes: TOLD_MOST, fields: FIELDS_MOST }
    }
}

/// Takes the fields of what may be a message from those that are `left`; whether there were as many.
fn count(message: Bytes, left: &mut usize, depth: usize) -> bool {
    let mut rest = message;
    while depth < DEPTH_MOST && rest.has_remaining() {
        match field(&mut rest) {
            // A text, most likely.
            None => return true,
            Some((_, None)) => {}
            Some((_, Some(_))) if *left == 0 => return false,
            Some((_, Some(within))) => {
                *left -= 1;
                if !count(within, left, depth + 1) {
                    return false;
                }
            }
        }
    }
    true
}

impl<'d> Server<'d> {
    async fn connect(destination: &'d Destination) -> Result<Server<'d>> {
        let way = http2::way(destination)?;
        let mut refusals = Vec::new();
        for address in destination.addresses.now() {
            match http2::open(address, &way, &mut Steps::default()).await {
                Ok(stream) => {
                    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
                        .await
                        .context("the server does not speak HTTP/2, and gRPC is spoken over that")?;
                    tokio::spawn(connection);
                    let (metadata, allowance) = (Vec::new(), Allowance::default());
                    return Ok(Server { destination, sender, version: 0, metadata, allowance });
                }
                Err(end) => refusals.push(format!("{address}: {}", end.cause().unwrap_or_default())),
            }
        }
        bail!("no connection for reflection ({})", refusals.join("; "))
    }

    /// The file of `service` and all that it imports.
    async fn descriptors(&mut self, service: &str) -> Result<Descriptors> {
        let first = match self.ask(Question::Symbol(service)).await? {
            Told::Files(files) => files,
            _ => {
                let there = match self.ask(Question::Services).await? {
                    Told::Services(services) => there_are(&services),
                    _ => String::new(),
                };
                bail!("the server has no service `{service}`{there}");
            }
        };
        let mut files: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
        let mut wanted: Vec<String> = Vec::new();
        let mut come = first;
        loop {
            for file in come {
                wanted.extend(file.dependency.iter().cloned());
                files.insert(file.name().to_owned(), file);
            }
            ensure!(files.len() <= FILES_MOST, "the types of `{service}` are in more than {FILES_MOST} files");
            let next = loop {
                match wanted.pop() {
                    Some(name) if files.contains_key(&name) => {}
                    next => break next,
                }
            };
            let Some(name) = next else { break };
            let Told::Files(more) = self.ask(Question::File(&name)).await? else {
                bail!("the server does not tell of the file `{name}`, which others import; {WITHOUT}");
            };
            // However it calls it, the file is not asked for again.
            let has_it = more.iter().any(|file| file.name() == name);
            ensure!(has_it, "asked for the file `{name}`, the server told of others; {WITHOUT}");
            come = more;
        }
        Descriptors::of(files.into_values().collect())
            .map_err(|why| anyhow!("the types that the server tells cannot be used: {why}"))
    }

    async fn ask(&mut self, question: Question<'_>) -> Result<Told> {
        loop {
            match self.call(question).await? {
                Ok(told) => return Ok(told),
                Err(Status::Unimplemented) if self.version + 1 < SERVICES.len() => self.version += 1,
                Err(Status::Unimplemented) => bail!("the server does not offer reflection; {WITHOUT}"),
                Err(status) => bail!("the server answers a question of reflection with {}; {WITHOUT}", status.name()),
            }
        }
    }

    /// One call, with one question and one answer; or the status that it ended with in its place.
    async fn call(&mut self, question: Question<'_>) -> Result<Result<Told, Status>> {
        let Destination { base_path, .. } = self.destination;
        let scheme = if self.destination.scheme == Scheme::Https { "https" } else { "http" };
        let service = SERVICES[self.version];
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let authority = self.metadata.iter().find(|(name, _)| is_host(name));
        let authority = authority.map_or_else(|| self.destination.authority(), |(_, host)| host.clone());
        let mut request = http::Request::post(format!("{scheme}://{authority}{base_path}/{service}/ServerReflectionInfo"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", format!("{}S", PATIENCE.as_secs()));
        if !self.metadata.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            request = request.header("user-agent", concat!("squall/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in self.metadata.iter().filter(|(name, _)| !is_host(name)) {
            request = request.header(name, value.trim());
        }
        let request = request.body(Full::new(question.bytes())).context("the target cannot be asked with this URL and metadata")?;
        self.sender.ready().await.context("the connection for reflection has ended")?;
        let answer = self.sender.send_request(request).await.context("no answer to a question of reflection")?;
        let mut said = Said::default();
        answer.headers().iter().for_each(|(name, value)| said.hear(name.as_str().as_bytes(), value.as_bytes()));
        let http = answer.status();
        let body = Limited::new(answer.into_body(), self.allowance.bytes).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => anyhow!("the server tells more than {} MiB of its types; {WITHOUT}", TOLD_MOST >> 20),
            None => anyhow!("the answer to a question of reflection broke off: {error}"),
        })?;
        let (trailers, body) = (body.trailers().cloned(), body.to_bytes());
        for (name, value) in trailers.iter().flatten() {
            said.hear_end(name.as_str().as_bytes(), value.as_bytes());
        }
        match said.status(body.is_empty()) {
            None => bail!("the server answers a question of reflection with status {http} of HTTP, and none of gRPC; {WITHOUT}"),
            Some(Status::Ok) => {}
            Some(status) => return Ok(Err(status)),
        }
        self.allowance.read(body).map(Ok)
    }
}

/// The services that there are, as many as help.
fn there_are(services: &[String]) -> String {
    let known: Vec<&str> = services.iter().take(NAMES_MOST).map(String::as_str).collect();
    let more = services.len() - known.len();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("; there are {}{more}", known.join(", "))
}

/// The first message of a body.
fn first_message(mut body: Bytes) -> Option<Bytes> {
    let (prefix, rest) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    let length = u32::from_be_bytes(length) as usize;
    (rest.len() >= length).then(|| {
        body.advance(5);
        body.split_to(length)
    })
}

/// What an answer says: files (4), services (6), or an error (7).
fn told(message: Bytes) -> Result<Told> {
    const UNREADABLE: &str = "the answer to a question of reflection cannot be read";
    let fields = fields(message).context(UNREADABLE)?;
    let found = |number: u32| fields.iter().find(|(known, _)| *known == number).map(|(_, bytes)| bytes.clone());
    if let Some(files) = found(4) {
        // A list of files under the number 1, which is what a descriptor set is.
        return Ok(Told::Files(FileDescriptorSet::decode(files).context(UNREADABLE)?.file));
    }
    if let Some(services) = found(6) {
        let named = |service: Bytes| {
            let name = self::fields(service)?.into_iter().find(|(number, _)| *number == 1)?.1;
            String::from_utf8(name.to_vec()).ok()
        };
        let services = self::fields(services).context(UNREADABLE)?.into_iter().filter_map(|(_, service)| named(service));
        return Ok(Told::Services(services.collect()));
    }
    ensure!(found(7).is_some(), UNREADABLE);
    Ok(Told::Unknown)
}

/// The fields of a message that have their length before them, by number; `None` when it is no message.
fn fields(mut message: Bytes) -> Option<Vec<(u32, Bytes)>> {
    let mut fields = Vec::new();
    while message.has_remaining() {
        if let (number, Some(bytes)) = field(&mut message)? {
            fields.push((number, bytes));
        }
    }
    Some(fields)
}

/// Takes the next field of a message, with its bytes where it has its length before it; `None` when it is no message.
fn field(message: &mut Bytes) -> Option<(u32, Option<Bytes>)> {
    let (number, wire) = encoding::decode_key(message).ok()?;
    if wire != WireType::LengthDelimited {
        encoding::skip_field(wire, number, message, encoding::DecodeContext::default()).ok()?;
        return Some((number, None));
    }
    let length = usize::try_from(encoding::decode_varint(message).ok()?).ok()?;
    (length <= message.len()).then(|| (number, Some(message.split_to(length))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_server_tells_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = told(bytes.clone().into());
            let _ = first_message(bytes.clone().into());
            let mut left = 50;
            let _ = count(bytes.into(), &mut left, 0);
        }
    }

    #[test]
    fn what_is_told_is_counted_before_it_is_kept() {
        let left = |bytes: Vec<u8>, mut left: usize| count(bytes.into(), &mut left, 0).then_some(left);
        let empty = [0x22, 0].repeat(10);
        assert_eq!((left(empty.clone(), 10), left(empty.clone(), 9)), (Some(0), None));
        let within = [&[0x0a, 20][..], &empty].concat();
        assert_eq!((left(within.clone(), 11), left(within, 10)), (Some(0), None));
        assert_eq!(left(b"\x0a\x07squall.".to_vec(), 9), Some(8));
    }

    /// Goal: an error is short and a terminal does nothing for it, whatever a server calls its services.
    #[test]
    fn what_a_server_told_is_repeated_in_part() {
        let services: Vec<String> = (0..25).map(|n| format!("a.S{n}")).collect();
        assert!(there_are(&services).ends_with("a.S8, a.S9, and 15 more"), "{}", there_are(&services));
        assert_eq!(there_are(&services[..2]), "; there are a.S0, a.S1");
        assert_eq!(presentable("\x1b[2J\na"), "\u{fffd}[2J\na");
        let long = presentable(&"x".repeat(10_000));
        assert!(long.ends_with("x ...") && long.len() == REPEATED_MOST + 4);
    }

    #[test]
    fn answers_are_told_apart() {
        let field = |number: u32, inner: &[u8]| {
            let mut out = BytesMut::new();
            encoding::bytes::encode(number, &inner.to_vec(), &mut out);
            out.to_vec()
        };
        let file = FileDescriptorProto { name: Some("a.proto".into()), ..Default::default() };
        let files = field(4, &field(1, &file.encode_to_vec()));
        let read = |bytes: Vec<u8>| told([field(1, b"host"), bytes].concat().into()).expect("it can be read");
        assert!(matches!(read(files), Told::Files(files) if files[0].name() == "a.proto"));
        let services = field(6, &[field(1, &field(1, b"shop.Checkout")), field(1, &field(1, b"b.B"))].concat());
        assert!(matches!(read(services), Told::Services(services) if services == ["shop.Checkout", "b.B"]));
        assert!(matches!(read(field(7, b"\x08\x05")), Told::Unknown));
        assert!(told(field(9, b"").into()).is_err());
        assert_eq!(first_message(Bytes::from_static(b"\0\0\0\0\x02abc")).as_deref(), Some(&b"ab"[..]));
        assert!(first_message(Bytes::from_static(b"\0\0\0\0\x04abc")).is_none());
    }
}
