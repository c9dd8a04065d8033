//! Where new connections go: the addresses that the target's name stands for by now. Whoever looks a name up says so here, in the middle
//! of a run as well; connections that are open stay where they are, until they are replaced.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::identity::{Identities, Identity};

/// The addresses of a target. Cheap to clone: all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    now: Mutex<Arc<[Peer]>>,
    /// Every address that there has been: bounded, as those who answer are.
    known: Identities,
}

/// One address, and the number that it is counted under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub number: Identity,
}

impl Addresses {
    /// These, for as long as nobody says otherwise.
    pub fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Addresses {
        let made = Addresses::default();
        made.set(addresses);
        made
    }

    /// From now on, new connections go to these, in turn; each is there once, however often it is named.
    pub fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut peers: Vec<Peer> = Vec::new();
        for address in addresses {
            if peers.iter().all(|peer| peer.address != address) {
                peers.push(Peer { address, number: self.0.known.of(address.to_string().as_bytes()) });
            }
        }
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = peers.into();
    }

    /// Those that new connections go to.
    pub fn now(&self) -> Vec<SocketAddr> {
        self.peers().iter().map(|peer| peer.address).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.peers().is_empty()
    }

    /// Where connection `n` goes that is opened now; `None` where there is no address at all.
    pub fn turn(&self, n: usize) -> Option<Peer> {
        let peers = self.peers();
        let index = n.checked_rem(peers.len())?;
        Some(peers[index])
    }

    /// What is counted under a number.
    pub fn name(&self, number: Identity) -> Option<String> {
        self.0.known.name(number)
    }

    fn peers(&self) -> Arc<[Peer]> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    #[test]
    fn new_connections_take_turns_over_what_is_there_now() {
        let addresses = Addresses::of([address(1), address(2), address(1)]);
        let turns = |from: usize| (from..from + 4).filter_map(|n| addresses.turn(n)).map(|peer| peer.address).collect::<Vec<_>>();
        assert_eq!(turns(0), [address(1), address(2), address(1), address(2)]);
        let first = addresses.turn(0).expect("there is one").number;
        addresses.clone().set([address(3), address(1)]);
        assert_eq!(turns(0), [address(3), address(1), address(3), address(1)]);
        assert_eq!(addresses.turn(1).expect("there is one").number, first, "it keeps its number");
        assert_eq!(addresses.name(first).as_deref(), Some("127.0.0.1:80"));
        addresses.set([]);
        assert!(addresses.is_empty() && addresses.turn(7).is_none());
    }
}
