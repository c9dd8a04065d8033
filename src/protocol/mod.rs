//! How one request travels: one file per protocol. A protocol knows bytes, connections and how an exchange ended ([`End`]); it
//! knows nothing of schedules, of how many connections there should be, or of when to give up. It never retries by itself.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::answers::Heard;
use crate::plan::{self, Request, TargetUrl};
use crate::proxy::Proxy;
use crate::time::Moment;
use crate::varying::{Names, Values};

mod addresses;
mod encryption;
mod end;
#[cfg(fuzzing)]
pub mod fuzz;
mod grpc;
mod http1;
mod http2;
mod identity;
mod outline;
mod reader;
mod retry_after;
mod stream;
mod tunnel;
mod websocket;

pub use crate::tls::{Tls, Trust};
pub use addresses::{Addresses, Peer};
pub use end::End;
pub use grpc::{Status, Unlearnt, learn};
pub use http2::Code;
pub use identity::{Identities, Identity};
pub use reader::{Next, Reader, Reading};
pub use retry_after::RetryAfter;
pub use tunnel::Refusal;
pub use websocket::{Breach, Closing};

use encryption::Encryption;
use outline::Outline;
use stream::{Stream, Way};
use tunnel::Tunnel;

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Destination {
    pub scheme: Scheme,
    /// As the URL names it: what `Host` and SNI say.
    pub host: String,
    pub port: u16,
    /// What the name stands for; connections are spread over all of them. Never empty once requests are to be sent.
    pub addresses: Addresses,
    /// What every request's path is appended to: empty, or `/` and something that does not end in `/`.
    pub base_path: String,
    pub tls: Tls,
    /// On the way there.
    pub proxy: Option<Proxy>,
}

/// The addresses that the system's resolver knows for `host` at `port`.
///
/// # Errors
/// What the resolver says.
pub async fn look_up(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect)
}

/// How long a resolver has before a run.
const RESOLVED_WITHIN: Duration = Duration::from_secs(30);

/// How long a server is listened to that has agreed on TLS and may still want a certificate of us: in TLS 1.3 it says so after it has
/// agreed, one way later. Twice as long as agreeing took, within these.
const REFUSAL_LEAST: Duration = Duration::from_millis(20);
const REFUSAL_MOST: Duration = Duration::from_millis(500);

/// Plain or encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Destination {
    /// Reads `http://host[:port][/base]` as a plan does; the addresses are still to be resolved.
    ///
    /// # Errors
    /// When `url` is not such a URL, naming what is wrong with it.
    pub fn read(url: &str, tls: impl Into<Tls>) -> Result<Destination> {
        let url: TargetUrl = url.parse().map_err(|why: String| anyhow!(why))?;
        Ok(Destination {
            scheme: if url.https { Scheme::Https } else { Scheme::Http },
            host: url.host,
            port: url.port,
            addresses: Addresses::default(),
            base_path: url.base,
            tls: tls.into(),
            proxy: None,
        })
    }

    /// The same through a proxy, where there is one: addresses are the proxy's then.
    pub fn through(self, proxy: Option<Proxy>) -> Destination {
        Destination { proxy, ..self }
    }

    /// The host and the port that connections go to.
    pub fn door(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port))
    }

    /// What the host of [`Destination::door`] may be called in reports.
    pub fn door_name(&self) -> &str {
        self.proxy.as_ref().map_or(&self.host, Proxy::name)
    }

    /// The same at known addresses.
    pub fn at(self, addresses: Vec<SocketAddr>) -> Destination {
        Destination { addresses: Addresses::of(addresses), ..self }
    }

    /// The same at the addresses that the system's resolver knows.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub async fn resolved(self) -> Result<Destination> {
        let (host, port) = self.door();
        let (name, url) = (self.door_name(), if self.proxy.is_some() { "proxy" } else { "target" });
        let addresses = tokio::time::timeout(RESOLVED_WITHIN, look_up(host, port))
            .await
            .with_context(|| {
                format!("cannot resolve `{name}` within {} s: the resolver does not answer", RESOLVED_WITHIN.as_secs())
            })?
            .with_context(|| format!("cannot resolve `{name}`: check the {url}'s URL"))?;
        ensure!(!addresses.is_empty(), "`{name}` resolves to no address: check the {url}'s URL");
        Ok(self.at(addresses))
    }

    /// Opens a connection to one of its addresses as requests do, certificates and all, and closes it again; through a tunnel of the proxy
    /// where requests are no ones that a proxy could take by itself.
    ///
    /// # Errors
    /// Why not, in words; with a way out where the certificate is what is wrong.
    pub async fn knock(&self, address: SocketAddr, tunnelled: bool) -> Result<(), String> {
        let encryption = match self.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(Encryption::new(&self.host, &self.tls, &[]).map_err(|error| format!("{error:#}"))?),
        };
        let mut steps = Steps::default();
        let tunnel = if tunnelled || self.scheme == Scheme::Https { self.tunnel() } else { None };
        let way = Way { proxied: self.proxy.is_some(), tunnel, encryption };
        let end = match Stream::open(address, &way, &mut steps).await {
            Ok(stream) => match steps.tls {
                None => return Ok(()),
                Some(took) => match stream.refusal((2 * took).clamp(REFUSAL_LEAST, REFUSAL_MOST)).await {
                    None => return Ok(()),
                    Some(end) => end,
                },
            },
            Err(end) => end,
        };
        let way_out = match end {
            End::CertificateNotTrusted => {
                "; name its authority (`tls: {ca: FILE}`, or SSL_CERT_FILE), or accept any certificate (`tls: {insecure: true}`)"
            }
            End::CertificateForAnotherName | End::CertificateExpired => {
                "; give it one for this name and day, ask for the name that it has (`tls: {server_name: NAME}`), or accept any \
                 certificate (`tls: {insecure: true}`)"
            }
            End::CertificateRequired => "; name one and its key, as in `tls: {cert: client.pem, key: client.key}`",
            End::CertificateRefused => "; show one that the server's authority has signed, and that is still good",
            End::Proxy(Refusal::Status(407)) => "; name them, as in `proxy: \"http://USER:${PROXY_PASSWORD}@HOST:PORT\"`",
            End::Proxy(Refusal::Garbage) => "; does it speak http on this port?",
            End::TlsFailed => "; does it speak https on this port?",
            _ => "",
        };
        Err(format!("{}{way_out}", end.cause().unwrap_or_default()))
    }

    /// What the proxy is asked for before it is a connection to here, where there is one.
    fn tunnel(&self) -> Option<Tunnel> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.proxy.as_ref().map(|proxy| Tunnel::to(&format!("{host}:{}", self.port), proxy))
    }

    /// Host and port as the `Host` header writes them: without the port that the scheme implies.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// What an answer said that the tally wants to know. Its body is counted, and thrown away where nobody listens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it says that the request ended.
    pub end: End,
    /// When it says to come again, where it says so.
    pub retry_after: Option<RetryAfter>,
    /// Who said that they answered.
    pub identity: Identity,
    pub connection: Afterwards,
}

/// Whether a connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    Keep,
    Close,
}

/// What an exchange sends.
#[derive(Clone, Copy)]
pub struct What<'v> {
    /// Which of the requests that were prepared.
    pub request: usize,
    /// What is put in the place of the names in it; none where it has none.
    pub values: &'v Values,
    /// Where what is heard of the answer is put down, where somebody listens.
    pub ear: Option<&'v Ear>,
    /// When it is given up, which some protocols tell the peer.
    pub deadline: Instant,
}

/// What is heard of an answer. It is taken out while the answer comes, and may be lost with an exchange that is given up.
pub type Ear = Cell<Option<Box<Heard>>>;

impl<'v> What<'v> {
    /// The first of the requests that were prepared, to whose answer nobody listens.
    #[cfg(any(test, fuzzing))]
    fn plain(values: &'v Values) -> What<'v> {
        What { request: 0, values, ear: None, deadline: crate::time::monotonic_now() + Duration::from_secs(1) }
    }
}

/// What has happened to a request so far. It is outside of the exchange so that it is still there when the exchange is given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// When its first byte was handed to the kernel for the first time.
    pub sent: Option<Moment>,
    /// Until when the peer's own limits (of streams, of what it takes in) kept it from being sent, where they did: such waiting is not
    /// the generator's lateness.
    pub held: Option<Moment>,
    /// When the first byte of an answer came.
    pub first: Option<Moment>,
    /// When the last one came, where that is known without asking what time it is: most answers come in one piece.
    pub last: Option<Moment>,
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// Whole messages of the answer, where it comes in messages.
    pub messages: u32,
    /// What has come of the message that is waited for, where others may come before it and nothing need be sent for it to come.
    pub awaited: Option<Awaited>,
}

/// What has come while a message is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// None at all.
    Nothing,
    /// Others, and not this one.
    Others,
    /// A part of one.
    Part,
}

impl Progress {
    /// Whether the exchange is under way, as far as the peer can have a part in it.
    pub fn is_out(&self) -> bool {
        self.bytes_out > 0 || self.awaited.is_some()
    }

    /// So many bytes of an answer have come by themselves, or, where there are none, its end has. Asks what time it is when the first
    /// come, and never again.
    fn came(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
        self.last = (self.first.is_none() && bytes > 0).then(Moment::now);
        self.first = self.first.or(self.last);
    }
}

/// How long each step took of opening a connection, as far as it came; `None` where there was no such step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Until TCP was open.
    pub connect: Option<Duration>,
    /// Until a proxy had opened the way, from then on.
    pub tunnel: Option<Duration>,
    /// Until TLS was agreed on, from then on.
    pub tls: Option<Duration>,
    /// Until a handshake of HTTP had made a connection of another protocol of it, from then on.
    pub upgrade: Option<Duration>,
}

/// What every protocol knows how to do. Futures may be dropped at any point; whether the link that they used is then good for anything
/// is what [`Protocol::outlives`] says.
pub trait Protocol {
    /// An open connection, or a part of one that carries several exchanges at once.
    type Link;

    /// Opens a connection, ready to carry requests. What its steps took is told also where it fails or is given up. `values` are those
    /// of the request for which, or after which, it is opened.
    ///
    /// # Errors
    /// How a request ended that needed this connection.
    fn connect(&self, address: SocketAddr, values: &Values, steps: &mut Steps) -> impl Future<Output = Result<Self::Link, End>>;

    /// Sends one of the requests that were prepared and reads the whole answer.
    ///
    /// # Errors
    /// Why there was no whole answer.
    fn exchange(&self, link: &mut Self::Link, what: What<'_>, progress: &mut Progress)
    -> impl Future<Output = Result<Answer, End>>;

    /// Whether an exchange of this request is of the simplest kind, as nearly all are, as far as its request tells: always the same, with
    /// an answer to which nobody listens.
    fn is_plain(&self, _request: usize) -> bool {
        false
    }

    /// Carries on, or begins, an exchange of the simplest kind. By a state of its own and not by futures within futures, each of which
    /// would cost a few instructions more. `None` where it is not as simple as that after all: [`Protocol::exchange`] then goes on from
    /// here.
    fn poll_plain(
        &self,
        _cx: &mut Context<'_>,
        _link: &mut Self::Link,
        _request: usize,
        _progress: &mut Progress,
    ) -> Poll<Option<Result<Answer, End>>> {
        Poll::Ready(None)
    }

    /// Whether a link that carried a request before is still good, as far as this side can tell without asking.
    fn stands(&self, link: &mut Self::Link) -> bool;

    /// Another link over the same connection, for an exchange beside those that it carries; `None` where it carries one at a time.
    fn beside(&self, _link: &Self::Link) -> Option<Self::Link> {
        None
    }

    /// Closes the connection of a link, whoever else has a link over it and no exchange.
    /// Nothing to do where a link is all of its connection, and dropped.
    fn close(&self, _link: &Self::Link) {}

    /// Whether a link that was made is an open connection, and not the answer of a peer that did not want one.
    fn is_open(&self, _link: &Self::Link) -> bool {
        true
    }

    /// Whether a link is still good whose exchange failed or was given up.
    fn outlives(&self, _link: &Self::Link) -> bool {
        false
    }
}

/// The name of every protocol, as a plan writes it, and one line about each.
pub const ALL: &[(&str, &str)] = &[
    ("http1", "HTTP/1.1, one request at a time on each connection; over https:// with TLS"),
    ("http2", "HTTP/2, many at a time (streams); over http:// by prior knowledge, over https:// where the server agrees by ALPN"),
    ("grpc", "gRPC over HTTP/2: unary calls and those whose answers are streams, by descriptor set or server reflection"),
    ("websocket", "WebSocket: messages both ways over connections that are held, one for each user; over https:// with TLS"),
];

/// The table of protocols: one variant each, here and in [`Link`], a line in the functions below, and one in [`ALL`].
pub enum Wire {
    Http1(http1::Http1),
    Http2(http2::Http2),
    WebSocket(websocket::WebSocket),
}

/// An open connection of any protocol.
pub enum Link {
    Http1(http1::Link),
    Http2(http2::Link),
    WebSocket(websocket::Link),
}

impl Wire {
    /// Prepares `requests` for `destination` in `protocol`: whatever can be done once is done here. `names` are what may stand in them as
    /// `{{name}}`, in the order of the values that each exchange brings.
    ///
    /// # Errors
    /// When a request cannot be written as asked, or the certificates to trust cannot be read.
    pub fn new(
        destination: &Destination,
        protocol: plan::Protocol,
        requests: &[Request],
        names: &Names,
        identity_header: &str,
        identities: Arc<Identities>,
    ) -> Result<Wire> {
        let outlines = outline::all(destination, requests, names)?;
        match protocol {
            plan::Protocol::Http1 => http1::Http1::new(destination, &outlines, names, identity_header, identities).map(Wire::Http1),
            // A call is a request of HTTP/2, whose answer means something more.
            plan::Protocol::Http2 | plan::Protocol::Grpc => {
                http2::Http2::new(destination, &outlines, names, identity_header, identities).map(Wire::Http2)
            }
            plan::Protocol::WebSocket => {
                websocket::WebSocket::new(destination, &outlines, names, identity_header, identities).map(Wire::WebSocket)
            }
        }
    }
}

impl Protocol for Wire {
    type Link = Link;

    async fn connect(&self, address: SocketAddr, values: &Values, steps: &mut Steps) -> Result<Link, End> {
        match self {
            Wire::Http1(http1) => http1.connect(address, values, steps).await.map(Link::Http1),
            Wire::Http2(http2) => http2.connect(address, values, steps).await.map(Link::Http2),
            // In a box: it is larger than the others, who open more connections.
            Wire::WebSocket(websocket) => Box::pin(websocket.connect(address, values, steps)).await.map(Link::WebSocket),
        }
    }

    async fn exchange(&self, link: &mut Link, what: What<'_>, progress: &mut Progress) -> Result<Answer, End> {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.exchange(link, what, progress).await,
            (Wire::Http2(http2), Link::Http2(link)) => http2.exchange(link, what, progress).await,
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.exchange(link, what, progress).await,
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn is_plain(&self, request: usize) -> bool {
        match self {
            Wire::Http1(http1) => http1.is_plain(request),
            Wire::Http2(http2) => http2.is_plain(request),
            Wire::WebSocket(websocket) => websocket.is_plain(request),
        }
    }

    fn poll_plain(
        &self,
        cx: &mut Context<'_>,
        link: &mut Link,
        request: usize,
        progress: &mut Progress,
    ) -> Poll<Option<Result<Answer, End>>> {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.poll_plain(cx, link, request, progress),
            (Wire::Http2(http2), Link::Http2(link)) => http2.poll_plain(cx, link, request, progress),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.poll_plain(cx, link, request, progress),
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn stands(&self, link: &mut Link) -> bool {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.stands(link),
            (Wire::Http2(http2), Link::Http2(link)) => http2.stands(link),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.stands(link),
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn beside(&self, link: &Link) -> Option<Link> {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.beside(link).map(Link::Http1),
            (Wire::Http2(http2), Link::Http2(link)) => http2.beside(link).map(Link::Http2),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.beside(link).map(Link::WebSocket),
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn close(&self, link: &Link) {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.close(link),
            (Wire::Http2(http2), Link::Http2(link)) => http2.close(link),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.close(link),
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn is_open(&self, link: &Link) -> bool {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.is_open(link),
            (Wire::Http2(http2), Link::Http2(link)) => http2.is_open(link),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.is_open(link),
            _ => unreachable!("{ANOTHERS}"),
        }
    }

    fn outlives(&self, link: &Link) -> bool {
        match (self, link) {
            (Wire::Http1(http1), Link::Http1(link)) => http1.outlives(link),
            (Wire::Http2(http2), Link::Http2(link)) => http2.outlives(link),
            (Wire::WebSocket(websocket), Link::WebSocket(link)) => websocket.outlives(link),
            _ => unreachable!("{ANOTHERS}"),
        }
    }
}

/// What can only be a bug.
const ANOTHERS: &str = "a wire is only ever given links that it made";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_a_plan_can_say() {
        for (name, _) in ALL {
            let protocol: plan::Protocol = serde_json::from_value((*name).into()).expect("every name of the table is read");
            assert_eq!(serde_json::to_value(protocol).ok().as_ref().and_then(|word| word.as_str()), Some(*name));
        }
        assert!(serde_json::from_value::<plan::Protocol>("http3".into()).is_err());
    }

    #[test]
    fn urls_become_destinations() {
        let read = |url: &str| Destination::read(url, Trust::default()).expect("a URL");
        let shop = read("http://checkout.shop/api/");
        assert_eq!(
            (shop.scheme, shop.host.as_str(), shop.port, shop.base_path.as_str()),
            (Scheme::Http, "checkout.shop", 80, "/api")
        );
        assert_eq!(shop.authority(), "checkout.shop");
        assert_eq!(read("https://[::1]:8443").authority(), "[::1]:8443");
        assert_eq!(read("http://127.0.0.1:80/").base_path, "");
    }

    #[test]
    fn what_a_plan_may_say_can_be_read() {
        assert_eq!(Destination::read("http://127.0.0.1:1/a<b", Trust::default()).expect("a URL").base_path, "/a<b");
        let error = Destination::read("checkout.shop", Trust::default()).expect_err("no URL").to_string();
        assert!(error.contains("write http://checkout.shop"), "{error}");
    }
}
