//! A byte stream, plain or encrypted, behind one type: what differs between `http` and `https` ends here.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::encryption::Encryption;
use super::tunnel::{Refusal, Tunnel};
use super::{End, Steps};
use crate::time::monotonic_now;

/// What lies between an address and a target.
#[derive(Clone, Default)]
pub(super) struct Way {
    /// The address is a proxy's.
    pub(super) proxied: bool,
    /// What the proxy is asked for, where it is to hand on bytes and not requests.
    pub(super) tunnel: Option<Tunnel>,
    pub(super) encryption: Option<Encryption>,
}

/// An open connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn open(address: SocketAddr, way: &Way, steps: &mut Steps) -> Result<Stream, End> {
        let mut last = monotonic_now();
        let mut took = || {
            let now = monotonic_now();
            Some(now - std::mem::replace(&mut last, now))
        };
        let mut plain = TcpStream::connect(address).await.map_err(|error| match End::of_error(&error) {
            End::ConnectionRefused | End::Unreachable | End::Reset if way.proxied => End::Proxy(Refusal::Unreachable),
            end => end,
        })?;
        // A request is one write: waiting to fill a segment could only delay it.
        plain.set_nodelay(true).map_err(|error| End::of_error(&error))?;
        steps.connect = took();
        if let Some(tunnel) = &way.tunnel {
            tunnel.open(&mut plain).await?;
            steps.tunnel = took();
        }
        let Some(encryption) = &way.encryption else { return Ok(Stream::Plain(plain)) };
        match encryption.connector.connect(encryption.name.clone(), plain).await {
            Ok(stream) => {
                steps.tls = took();
                Ok(Stream::Encrypted(Box::new(stream)))
            }
            Err(error) => Err(match End::of_error(&error) {
                // The peer hung up in the middle of the handshake, or what it said was no handshake.
                End::Broken => End::TlsFailed,
                end => end,
            }),
        }
    }
}

impl Stream {
    /// Why the peer does not want this connection after all, if it says so within `patience` of its own accord.
    pub(super) async fn refusal(mut self, patience: Duration) -> Option<End> {
        let mut byte = [0];
        let mut into = ReadBuf::new(&mut byte);
        let heard = poll_fn(|cx| Pin::new(&mut self).poll_read(cx, &mut into));
        match tokio::time::timeout(patience, heard).await {
            Ok(Err(error)) => Some(End::of_error(&error)).filter(|end| *end != End::Broken),
            Ok(Ok(())) | Err(_) => None,
        }
    }

    /// Sends what is taken of `bytes` at once, without asking to be told when there is room: `None` where that is another's to say.
    pub(super) fn try_send(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        match self {
            Stream::Plain(stream) => Some(stream.try_write(bytes)),
            Stream::Encrypted(_) => None,
        }
    }

    /// Takes what has come, without asking to be told when something does: `None` where nothing has, or that is another's to say.
    pub(super) fn try_take(&self, into: &mut [u8]) -> Option<io::Result<usize>> {
        let Stream::Plain(stream) = self else { return None };
        let mut taken = None;
        let tried = stream.try_io(Interest::READABLE, || {
            let n = rustix::net::recv(stream, &mut *into, RecvFlags::empty())?.0;
            taken = Some(n);
            // Where there was room for more, there was no more: the runtime is told so, as its own reading does, rather than asked for
            // another system call before it will wait. What comes after this look makes it ready again.
            if n > 0 && n < into.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (taken, tried) {
            (Some(n), _) => Some(Ok(n)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            (None, tried) => Some(tried.map(|()| 0)),
        }
    }

    /// Whether nothing at all is to be read: of a connection that rests, an end, an error and unasked-for bytes are all bad. No system
    /// call is made while the kernel has reported nothing.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match self {
            Stream::Plain(stream) => matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            Stream::Encrypted(stream) => {
                let mut into = ReadBuf::new(&mut byte);
                Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut into).is_pending()
            }
        }
    }

    /// The protocol that both sides agreed to by ALPN, where they did.
    pub(super) fn agreed(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Encrypted(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
