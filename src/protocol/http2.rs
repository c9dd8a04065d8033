//! HTTP/2 as a codec of our own (RFC 9113): many requests at once over each connection, whose bytes are written once and differ in the
//! number of their stream alone. A library's client costs several times the processor time, and hides when the first byte left.
//!
//! ```text
//! exchange ─begin─▶ Connection (frames, windows, limits; no socket) ◀─drives─ Driver (one task: write all that waits, read)
//!          ◀─done──
//! ```
//!
//! Over `http://` the server is known to speak it (prior knowledge), over `https://` it has to agree to it by ALPN; one that does not
//! is a cause of its own. An exchange that is given up resets its stream, and the connection lives on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;

use super::encryption::Encryption;
use super::stream::{Stream, Way};
use super::{Answer, Destination, Ear, End, Identities, Outline, Progress, Protocol, Scheme, Status, Steps, What};
use crate::time::monotonic_now;
use crate::varying::{Names, Values};

mod connection;
mod driver;
mod frame;
mod hpack;
mod huffman;
mod incoming;
mod notes;
mod outgoing;
#[cfg(any(test, fuzzing))]
pub(super) mod peer;
mod request;
mod streams;

pub use frame::Code;

use connection::Connection;
use notes::Listener;
use request::Template;
use streams::Slot;

/// The name that TLS knows it by.
const ALPN: &[u8] = b"h2";

/// Requests, ready to be sent any number of times.
pub struct Http2 {
    templates: Arc<[Template]>,
    identity_header: String,
    identities: Arc<Identities>,
    way: Way,
}

/// One of the exchanges that a connection may carry at once. The connection is closed with the last of its links.
pub struct Link {
    connection: Rc<RefCell<Connection>>,
    slot: Slot,
}

impl Http2 {
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
    ) -> Result<Http2> {
        Ok(Http2 {
            templates: requests.iter().map(|outline| Template::new(destination, outline, names)).collect::<Result<_>>()?,
            identity_header: identity_header.to_owned(),
            identities,
            way: way(destination)?,
        })
    }

    /// Whether a request is a call of gRPC.
    fn calls(&self, request: usize) -> bool {
        self.templates[request].call.is_some()
    }
}

/// How connections get to `destination`.
pub(super) fn way(destination: &Destination) -> Result<Way> {
    let encryption = match destination.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(Encryption::new(&destination.host, &destination.tls, &[ALPN])?),
    };
    Ok(Way { proxied: destination.proxy.is_some(), tunnel: destination.tunnel(), encryption })
}

/// Opens a stream of bytes to a server that agrees to speak HTTP/2 on it, where it can be asked.
pub(super) async fn open(address: SocketAddr, way: &Way, steps: &mut Steps) -> Result<Stream, End> {
    let stream = Stream::open(address, way, steps).await?;
    if way.encryption.is_some() && stream.agreed() != Some(ALPN) {
        return Err(End::Http2NotAgreed);
    }
    Ok(stream)
}

impl Protocol for Http2 {
    type Link = Link;

    /// Opens a connection, driven by a task of its own on the runtime of this thread, and waits for the server's settings.
    async fn connect(&self, address: SocketAddr, _values: &Values, steps: &mut Steps) -> Result<Link, End> {
        let stream = open(address, &self.way, steps).await?;
        let listener = Listener::new(&self.identity_header, self.identities.clone());
        let connection = Rc::new(RefCell::new(Connection::new(self.templates.clone(), listener)));
        let link = Link::to(&connection);
        tokio::task::spawn_local(driver::drive(connection.clone(), stream));
        poll_fn(|cx| connection.borrow_mut().poll_open(cx)).await?;
        Ok(link)
    }

    fn beside(&self, link: &Link) -> Option<Link> {
        Some(Link::to(&link.connection))
    }

    async fn exchange(&self, link: &mut Link, what: What<'_>, progress: &mut Progress) -> Result<Answer, End> {
        let ear = what.ear.filter(|_| !self.templates[what.request].hears.nothing());
        let mut turn = Turn::begin(link, What { ear, ..what }, progress);
        let done = poll_fn(|cx| turn.link.connection.borrow_mut().poll_done(turn.link.slot, cx)).await;
        turn.over = true;
        // A server that was told how long it has may give up in other words than those of gRPC, and before this side has.
        let gave_up = |end| matches!(end, End::Called(Status::Cancelled) | End::StreamReset(Code::Cancel));
        match done {
            Err(end) | Ok(Answer { end, .. }) if gave_up(end) && monotonic_now() >= what.deadline && self.calls(what.request) => {
                Err(End::Called(Status::DeadlineExceeded))
            }
            done => done,
        }
    }

    fn stands(&self, link: &mut Link) -> bool {
        link.connection.borrow().stands()
    }

    fn close(&self, link: &Link) {
        link.connection.borrow_mut().leave();
    }

    /// A stream that failed or was given up takes nothing along.
    fn outlives(&self, link: &Link) -> bool {
        link.connection.borrow().stands()
    }
}

impl Link {
    fn to(connection: &Rc<RefCell<Connection>>) -> Link {
        let slot = connection.borrow_mut().link();
        Link { connection: connection.clone(), slot }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.borrow_mut().unlink(self.slot);
    }
}

/// An exchange under way. However it ends, dropped in the middle included, what has happened to the request is known afterwards, and
/// the peer is told when nobody waits for it any more.
struct Turn<'a> {
    link: &'a Link,
    progress: &'a mut Progress,
    ear: Option<&'a Ear>,
    over: bool,
}

impl Turn<'_> {
    fn begin<'a>(link: &'a Link, what: What<'a>, progress: &'a mut Progress) -> Turn<'a> {
        link.connection.borrow_mut().begin(link.slot, what);
        Turn { link, progress, ear: what.ear, over: false }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut connection = self.link.connection.borrow_mut();
        *self.progress = connection.progress(self.link.slot);
        if let Some(ear) = self.ear {
            ear.set(connection.heard(self.link.slot));
        }
        if !self.over {
            connection.cancel(self.link.slot);
        }
    }
}

#[cfg(test)]
mod tests;
