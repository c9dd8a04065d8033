//! WebSocket (RFC 6455): messages both ways over a connection that begins as HTTP/1.1 and is held. The codec is that of `tungstenite`,
//! driven over our own streams; the handshake is ours, so that a refusal is told as what it is.
//!
//! ```text
//! connect: TCP ─▶ proxy ─▶ TLS ─▶ upgrade ─▶ Connection ◀─ keeper: pongs, closes, what nobody asked for
//! exchange: message out ─▶ messages in, until one is as expected
//! ```
//!
//! A connection carries one exchange at a time, and whoever waits for something reads: the exchange while there is one, else a task of
//! the connection's own, so that one that is only held answers pings and notices when it is closed. An upgrade that is refused is no error of
//! the connection: it is the answer to the exchange that wanted it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::encryption::Encryption;
use super::stream::{Stream, Way};
use super::{
    Afterwards, Answer, Awaited, Destination, End, Identities, Identity, Outline, Progress, Protocol, Scheme, Steps, What,
};
use crate::answers::{BODY_MOST, BodyChecks};
use crate::plan::{Exchange, Payload, Talk};
use crate::time::{Moment, monotonic_now};
use crate::varying::{Names, Template, Values};

mod boundary;
mod breach;
mod connection;
#[cfg(fuzzing)]
pub(super) mod peer;
mod upgrade;

pub use breach::{Breach, Closing};

use connection::Connection;
use upgrade::{Said, Upgrade};

/// Exchanges, ready to be had any number of times.
pub struct WebSocket {
    exchanges: Vec<Prepared>,
    identity_header: String,
    identities: Arc<Identities>,
    way: Way,
}

/// One exchange.
struct Prepared {
    upgrade: Upgrade,
    send: Option<Ready>,
    expect: Option<BodyChecks>,
}

/// A message, ready to be sent.
enum Ready {
    /// Always the same bytes.
    Fixed(OpCode, Bytes),
    Varying(Template),
}

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);

/// A connection, or the answer of who did not want one.
pub struct Link(Opened);

enum Opened {
    Held(Rc<RefCell<Connection>>),
    /// And what has happened to get it.
    Refused(Answer, Progress),
}

impl WebSocket {
    /// Prepares `requests` for `destination`.
    ///
    /// # Errors
    /// As [`Wire::new`](super::Wire::new).
    pub(super) fn new(
        destination: &Destination,
        requests: &[Outline<'_>],
        names: &Names,
        identity_header: &str,
        identities: Arc<Identities>,
    ) -> Result<WebSocket> {
        let encryption = match destination.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(Encryption::new(&destination.host, &destination.tls, &[b"http/1.1"])?),
        };
        let prepared = |outline: &Outline<'_>| {
            let Talk::WebSocket(Exchange { send, expect }) = &outline.request.talk else {
                bail!("a request of HTTP goes over no WebSocket: this is a bug in squall, please report it");
            };
            let send = send.as_ref().map(|payload| Ready::of(payload, names));
            Ok(Prepared { upgrade: Upgrade::new(destination, outline, names)?, send, expect: expect.clone() })
        };
        Ok(WebSocket {
            exchanges: requests.iter().map(prepared).collect::<Result<_>>()?,
            identity_header: identity_header.to_owned(),
            identities,
            // A proxy knows no more of it than bytes.
            way: Way { proxied: destination.proxy.is_some(), tunnel: destination.tunnel(), encryption },
        })
    }

    /// Who answers, by what a handshake says.
    fn identity(&self, name: Option<Vec<u8>>) -> Identity {
        name.map_or(Identity::UNKNOWN, |name| self.identities.of(&name))
    }
}

impl Protocol for WebSocket {
    type Link = Link;

    /// Opens a connection, and asks for a WebSocket over it as the first of the exchanges does: all exchanges of a load go to one.
    async fn connect(&self, address: SocketAddr, values: &Values, steps: &mut Steps) -> Result<Link, End> {
        let mut stream = Stream::open(address, &self.way, steps).await?;
        let begun = monotonic_now();
        let mut progress = Progress::default();
        match self.exchanges[0].upgrade.ask(&mut stream, values, &self.identity_header, &mut progress).await? {
            Said::Yes { identity, rest } => {
                steps.upgrade = Some(monotonic_now() - begun);
                let connection = Rc::new(RefCell::new(Connection::new(stream, rest, self.identity(identity))));
                tokio::task::spawn_local(connection::keep(connection.clone()));
                Ok(Link(Opened::Held(connection)))
            }
            Said::No { status, retry_after, identity } => {
                let (end, identity) = (End::UpgradeRefused(status), self.identity(identity));
                Ok(Link(Opened::Refused(Answer { end, retry_after, identity, connection: Afterwards::Close }, progress)))
            }
        }
    }

    async fn exchange(&self, link: &mut Link, what: What<'_>, progress: &mut Progress) -> Result<Answer, End> {
        let connection = match &link.0 {
            Opened::Held(connection) => connection,
            // The handshake is all that was sent for it, and its answer the answer.
            Opened::Refused(answer, asked) => {
                *progress = *asked;
                return Ok(*answer);
            }
        };
        let Prepared { send, expect, .. } = &self.exchanges[what.request];
        let mut frame = send.as_ref().map(|send| send.frame(what.values));
        progress.awaited = Some(Awaited::Nothing);
        progress.sent.get_or_insert_with(Moment::now);
        let turn = Turn::begin(connection, send.is_some());
        poll_fn(|cx| {
            let mut connection = turn.0.borrow_mut();
            if let Some(frame) = frame.take() {
                connection.send(frame, cx);
            }
            connection.poll_answer(|message| meets(message, expect.as_ref()), progress, cx)
        })
        .await?;
        let identity = connection.borrow().identity;
        Ok(Answer { end: End::Message, retry_after: None, identity, connection: Afterwards::Keep })
    }

    fn stands(&self, link: &mut Link) -> bool {
        match &link.0 {
            Opened::Held(connection) => connection.borrow_mut().stands(),
            Opened::Refused(..) => false,
        }
    }

    /// Who has waited in vain for what a server says by itself may go on waiting; an answer that comes too late would be taken for the
    /// next one.
    fn outlives(&self, link: &Link) -> bool {
        match &link.0 {
            Opened::Held(connection) => connection.borrow().owes_nothing(),
            Opened::Refused(..) => false,
        }
    }

    fn is_open(&self, link: &Link) -> bool {
        matches!(link.0, Opened::Held(_))
    }
}

impl Ready {
    fn of(payload: &Payload, names: &Names) -> Ready {
        match payload {
            Payload::Binary(bytes) => Ready::Fixed(BINARY, bytes.clone().into()),
            Payload::Text(text) => {
                let template = Template::of_body(text.as_bytes(), names);
                match template.fixed() {
                    Some(bytes) => Ready::Fixed(TEXT, Bytes::copy_from_slice(bytes)),
                    None => Ready::Varying(template),
                }
            }
        }
    }

    fn frame(&self, values: &Values) -> Frame {
        match self {
            Ready::Fixed(kind, bytes) => Frame::message(bytes.clone(), *kind, true),
            Ready::Varying(template) => {
                let mut text = Vec::with_capacity(template.length(values));
                template.render(values, &mut text);
                Frame::message(text, TEXT, true)
            }
        }
    }
}

/// Whether a message is the one that is waited for. None is that is longer than what is looked into.
fn meets(message: &[u8], expect: Option<&BodyChecks>) -> bool {
    match expect {
        None => true,
        Some(checks) => message.len() <= BODY_MOST && checks.hold(message),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Opened::Held(connection) = &self.0 {
            connection.borrow_mut().leave();
        }
    }
}

/// An exchange under way. However it ends, dropped in the middle included, the keeper has the connection afterwards.
struct Turn<'l>(&'l Rc<RefCell<Connection>>);

impl Turn<'_> {
    fn begin(connection: &Rc<RefCell<Connection>>, sends: bool) -> Turn<'_> {
        connection.borrow_mut().begin(sends);
        Turn(connection)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().rest();
    }
}

#[cfg(test)]
mod tests;
