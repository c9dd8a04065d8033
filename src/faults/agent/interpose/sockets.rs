//! Resetting the connections that a port's clients had before: found and destroyed through the kernel's socket diagnosis, both ends
//! told at once, idle ones too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use super::NEEDS_NET_ADMIN;
use super::netlink::{ACK, DUMP, Message, Netlink, Refused, attribute};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// Connections that a client can still use: established, and those of which the pod's or the client's side has said all.
const ESTABLISHED: u32 = 1 << 1;
const FIN_WAIT_2: u32 = 1 << 5;
const CLOSE_WAIT: u32 = 1 << 8;
/// Where a message about a socket has what names it, and how long that is.
const IDENTITY: std::ops::Range<usize> = 4..52;
/// Where its attributes begin.
const FIXED: usize = 72;
/// The options of a socket, bit fields in two bytes.
const OPTIONS: u16 = 22;
const TRANSPARENT: u8 = if cfg!(target_endian = "little") { 1 << 5 } else { 1 << 2 };

/// A door to the sockets of this network namespace.
pub struct Sockets(Netlink);

/// One that is there.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    family: u8,
    /// What names it to the kernel, its cookie among it: never another's that has its addresses later.
    identity: [u8; IDENTITY.end - IDENTITY.start],
    peer: IpAddr,
    own: IpAddr,
    /// Whether it was accepted for somebody else's address, as a proxy does. `None` where the kernel does not tell.
    transparent: Option<bool>,
}

impl Sockets {
    /// # Errors
    /// When the kernel cannot tell of sockets or cannot destroy them: it is asked to destroy one that cannot be.
    pub fn open() -> Result<Sockets> {
        let mut sockets = Sockets(Netlink::open(SOCK_DIAG).context("cannot ask the kernel for its sockets")?);
        match sockets.destroy(INET, &[0; IDENTITY.end - IDENTITY.start]) {
            Ok(()) | Err(Refused { errno: Errno::NOENT, .. }) => Ok(sockets),
            Err(refused @ Refused { errno: Errno::PERM, .. }) => Err(refused).context(NEEDS_NET_ADMIN),
            Err(refused) => Err(refused).context(
                "connections that are open cannot be reset here (the kernel needs CONFIG_INET_DIAG_DESTROY): leave them with \
                 `existing_connections: leave`",
            ),
        }
    }

    /// Resets who came to this address from elsewhere and met the pod itself, and counts them. Whoever met a proxy stays.
    ///
    /// # Errors
    /// When the kernel does not tell which those are, or refuses.
    pub fn reset(&mut self, at: SocketAddr) -> Result<u64> {
        let mut reset = 0;
        // A pod that listens on all addresses of both kinds holds its connections of the older kind under the newer.
        for family in [INET, INET6] {
            let all = self.0.all(Message::new(BY_FAMILY, DUMP, &question(family, at.port()), "a list of sockets"))?;
            for socket in all.iter().filter_map(|(_, body)| Socket::read(body)) {
                if socket.own != at.ip() || socket.peer == socket.own || socket.peer.is_loopback() {
                    continue;
                }
                match socket.transparent {
                    Some(true) => continue,
                    Some(false) => {}
                    None => bail!(
                        "the kernel does not tell a proxy's connections from a pod's (it does from 5.10 on): leave those that are \
                         open with `existing_connections: leave`"
                    ),
                }
                match self.destroy(socket.family, &socket.identity) {
                    Ok(()) => reset += 1,
                    // Closed in the meantime.
                    Err(Refused { errno: Errno::NOENT, .. }) => {}
                    Err(refused) => return Err(refused.into()),
                }
            }
        }
        Ok(reset)
    }

    fn destroy(&mut self, family: u8, identity: &[u8]) -> Result<(), Refused> {
        let question = [&[family, TCP, 0, 0], &[0; 4][..], identity].concat();
        self.0.ask(&[Message::new(DESTROY, ACK, &question, "to reset a connection")])
    }
}

/// All usable connections whose own port is this.
fn question(family: u8, port: u16) -> Vec<u8> {
    let states = ESTABLISHED | FIN_WAIT_2 | CLOSE_WAIT;
    let mut question = [&[family, TCP, 0, 0][..], &states.to_ne_bytes(), &port.to_be_bytes()].concat();
    question.resize(8 + IDENTITY.len(), 0);
    question
}

impl Socket {
    fn read(body: &[u8]) -> Option<Socket> {
        let attributes = body.get(FIXED..)?;
        let family = body[0];
        let address = |at: usize| -> Option<IpAddr> {
            let whole: [u8; 16] = body[at..at + 16].try_into().ok()?;
            match family {
                INET => Some(Ipv4Addr::new(whole[0], whole[1], whole[2], whole[3]).into()),
                INET6 => Some(Ipv6Addr::from(whole).to_canonical()),
                _ => None,
            }
        };
        Some(Socket {
            family,
            identity: body[IDENTITY].try_into().ok()?,
            own: address(8)?,
            peer: address(24)?,
            transparent: attribute(attributes, OPTIONS).and_then(|options| Some(options.first()? & TRANSPARENT != 0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel writes it: addresses in their places, and the options in an attribute.
    fn told(family: u8, own: &[u8], peer: &[u8], options: Option<u8>) -> Vec<u8> {
        let mut body = vec![0; FIXED];
        body[0] = family;
        body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
        body[8..8 + own.len()].copy_from_slice(own);
        body[24..24 + peer.len()].copy_from_slice(peer);
        if let Some(options) = options {
            body.extend(6_u16.to_ne_bytes());
            body.extend(OPTIONS.to_ne_bytes());
            body.extend([options, 0, 0, 0]);
        }
        body
    }

    #[test]
    fn a_socket_is_read_with_its_addresses_and_whether_it_is_a_proxys() {
        let socket = Socket::read(&told(INET, &[10, 0, 0, 2], &[10, 0, 0, 1], Some(TRANSPARENT | 2))).expect("it is whole");
        assert_eq!((socket.own, socket.peer), ([10, 0, 0, 2].into(), [10, 0, 0, 1].into()));
        assert_eq!(socket.transparent, Some(true));
        assert_eq!(socket.identity[..2], 8080_u16.to_be_bytes());
        let mapped = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().octets();
        let socket = Socket::read(&told(INET6, &mapped, &mapped, Some(2))).expect("it is whole");
        assert_eq!((socket.own, socket.peer, socket.transparent), ([10, 0, 0, 2].into(), [10, 0, 0, 2].into(), Some(false)));
        assert_eq!(Socket::read(&told(INET, &[1; 4], &[2; 4], None)).expect("it is whole").transparent, None);
        assert_eq!(Socket::read(&told(INET, &[1; 4], &[2; 4], None)[..FIXED - 1]), None, "cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Socket::read(&bytes);
        }
    }
}
