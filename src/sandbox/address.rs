//! The addresses of one sandbox: a block 127.X.0.0/16 of the loopback, claimed by binding a name of the kernel's that goes with the
//! process, so that any number of sandboxes live side by side without asking anyone. Nothing outside the machine can reach them.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};

/// The port of the API server, and another for machines where something listens on the first one of all addresses.
const API_PORTS: [u16; 2] = [6443, 16443];
const BLOCKS: std::ops::RangeInclusive<u8> = 16..=250;
/// The first address that a Service may get; those below are the sandbox's own.
const FIRST_CLUSTER_IP: u16 = 10;
const LAST_CLUSTER_IP: u16 = 254;
/// Pods begin one /24 further.
const FIRST_POD_IP: u16 = 0x0101;
const LAST_POD_IP: u16 = 0xfffe;

/// One block, and what of it is in use.
#[derive(Debug)]
pub struct Block {
    x: u8,
    used: Mutex<Used>,
    /// The claim. Nobody connects to it.
    _claim: UnixListener,
}

#[derive(Debug)]
struct Used {
    pods: HashSet<u16>,
    next_pod: u16,
}

impl Block {
    /// Claims the first block, from `start` on, that nobody has claimed and whose API port is free.
    pub fn claim(start: u8) -> anyhow::Result<(Block, TcpListener)> {
        Block::claim_with(API_PORTS, start)
    }

    fn claim_with(ports: [u16; 2], start: u8) -> anyhow::Result<(Block, TcpListener)> {
        let count = u16::from(BLOCKS.end() - BLOCKS.start()) + 1;
        let (mut unclaimed, mut last) = (false, None);
        // A block on whose first port somebody listens is passed by as long as there is another: it may be in use.
        for port in ports {
            for x in (0..count).map(|i| BLOCKS.start() + ((u16::from(start) + i) % count) as u8) {
                let claim = match claim_of(x) {
                    Ok(claim) => claim,
                    Err(error) => {
                        last = Some(error);
                        continue;
                    }
                };
                unclaimed = true;
                let address = SocketAddrV4::new(Ipv4Addr::new(127, x, 0, 1), port);
                match TcpListener::bind(address) {
                    Ok(listener) => {
                        listener.set_nonblocking(true).with_context(|| format!("failed to prepare the listener on {address}"))?;
                        let used = Used { pods: HashSet::new(), next_pod: FIRST_POD_IP };
                        return Ok((Block { x, used: Mutex::new(used), _claim: claim }, listener));
                    }
                    Err(error) => last = Some(error),
                }
            }
        }
        let why = last.map(|error| error.to_string()).unwrap_or_default();
        let [first, second] = ports;
        match unclaimed {
            true => bail!(
                "the sandbox's API can listen neither on port {first} nor on port {second} of 127.16.0.1 to 127.250.0.1 ({why}): end what \
                 listens on these ports of all addresses, as `ss -ltnp` shows"
            ),
            false => bail!(
                "all {count} address blocks 127.16.0.0/16 to 127.250.0.0/16 are taken ({why}): stop a sandbox that is still up, or see \
                 `squall heal`"
            ),
        }
    }

    /// The API server and the node.
    pub fn api(&self) -> Ipv4Addr {
        self.ip(1)
    }

    /// The addresses that Services may get, first and last.
    pub fn services(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.ip(FIRST_CLUSTER_IP), self.ip(LAST_CLUSTER_IP))
    }

    /// A free address for a pod: the one that was longest out of use, so that nobody's old connection meets a new pod.
    pub fn take_pod_ip(&self) -> Option<Ipv4Addr> {
        let mut used = self.lock();
        let span = LAST_POD_IP - FIRST_POD_IP;
        let low = (0..=span).map(|i| FIRST_POD_IP + (used.next_pod - FIRST_POD_IP + i) % (span + 1)).find(|low| {
            // x.y.n.0 and x.y.n.255 look like networks to people.
            !matches!(low & 0xff, 0 | 0xff) && !used.pods.contains(low)
        })?;
        used.pods.insert(low);
        used.next_pod = if low == LAST_POD_IP { FIRST_POD_IP } else { low + 1 };
        Some(self.ip(low))
    }

    pub fn free_pod_ip(&self, ip: Ipv4Addr) {
        if let Some(low) = self.low(ip) {
            self.lock().pods.remove(&low);
        }
    }

    /// Whether an address lies in this block.
    pub fn holds(&self, ip: Ipv4Addr) -> bool {
        self.low(ip).is_some()
    }

    fn ip(&self, low: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.x, (low >> 8) as u8, low as u8)
    }

    fn low(&self, ip: Ipv4Addr) -> Option<u16> {
        let [a, b, c, d] = ip.octets();
        (a == 127 && b == self.x).then(|| u16::from_be_bytes([c, d]))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims a block, if nobody has: an abstract socket's name is free again when its holder is gone, however it went, and reaches as far
/// as the loopback does, to the end of the network namespace.
fn claim_of(x: u8) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("squall-sandbox-block-{x}"))?)
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "127.{}.0.0/16", self.x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_share_a_block_and_addresses_return_last() {
        let (one, _listener_one) = Block::claim(200).unwrap();
        let (two, _listener_two) = Block::claim(200).unwrap();
        assert_ne!(one.api(), two.api());
        let (a, b) = (one.take_pod_ip().unwrap(), one.take_pod_ip().unwrap());
        one.free_pod_ip(a);
        let c = one.take_pod_ip().unwrap();
        assert!(c != a && c != b, "{a} {b} {c}");
        assert_eq!(one.services().0.octets()[2..], [0, 10]);
        assert!(one.holds(a) && !two.holds(a));
    }

    #[test]
    fn something_on_the_first_port_of_all_addresses_leaves_the_second() {
        let everywhere = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (first, second) = (everywhere(), everywhere());
        let ports = [port(&first), port(&second)];
        let refused = Block::claim_with(ports, 100).unwrap_err().to_string();
        assert!(refused.contains(&format!("neither on port {} nor on port {}", ports[0], ports[1])), "{refused}");
        drop(second);
        let (one, listener) = Block::claim_with(ports, 100).unwrap();
        assert_eq!(port(&listener), ports[1]);
        // The block stays claimed when the first port is free again.
        drop(first);
        let (two, listener) = Block::claim_with(ports, 100).unwrap();
        assert_eq!(port(&listener), ports[0]);
        assert_ne!(one.api(), two.api());
    }
}
