//! The addresses of one sandbox: a block 127.X.0.0/16 of the loopback, claimed by binding its API port, so that any number of sandboxes
//! live side by side without asking anyone. Nothing outside the machine can reach them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};

/// The port of the API server, and with it the lock on a block.
pub const API_PORT: u16 = 6443;
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
}

#[derive(Debug)]
struct Used {
    pods: HashSet<u16>,
    next_pod: u16,
}

impl Block {
    /// Claims the first block, from `start` on, whose API port is free. The listener is the claim: hold it.
    pub fn claim(start: u8) -> anyhow::Result<(Block, TcpListener)> {
        let count = u16::from(BLOCKS.end() - BLOCKS.start()) + 1;
        let mut last = None;
        for i in 0..count {
            let x = BLOCKS.start() + ((u16::from(start) + i) % count) as u8;
            let address = SocketAddrV4::new(Ipv4Addr::new(127, x, 0, 1), API_PORT);
            match TcpListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true).with_context(|| format!("failed to prepare the listener on {address}"))?;
                    let used = Used { pods: HashSet::new(), next_pod: FIRST_POD_IP };
                    return Ok((Block { x, used: Mutex::new(used) }, listener));
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map(|error| error.to_string()).unwrap_or_default();
        bail!(
            "all {count} address blocks 127.16.0.0/16 to 127.250.0.0/16 are taken ({why}): stop a sandbox that is still up, or see `squall heal`"
        )
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
}
