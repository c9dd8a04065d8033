//! Who answered: the values of the identity header, as small numbers. The set is bounded, since a service may put anything there;
//! whoever comes after the bound is counted under `_other`.

use std::sync::{Mutex, PoisonError};

/// How many are told apart: more pods than a plan's target has, and few enough to keep a line of the recording short.
const BOUND: usize = 1024;
/// The longest name that is kept: that of a Kubernetes object.
const LENGTH: usize = 253;

/// Someone who answered, or anybody else of whom there are too many to be called by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Identity(u16);

impl Identity {
    /// The answer did not say.
    pub const UNKNOWN: Identity = Identity(0);
    /// One too many, or a name that is none.
    pub const OTHER: Identity = Identity(1);
}

/// Every identity seen so far. Shared by all workers; asked only when a connection meets another identity than last time.
#[derive(Debug, Default)]
pub struct Identities {
    names: Mutex<Vec<String>>,
}

impl Identities {
    /// The number of the one called `name`.
    pub fn of(&self, name: &[u8]) -> Identity {
        let printable = !name.is_empty() && name.len() <= LENGTH && name.iter().all(u8::is_ascii_graphic);
        let Some(name) = str::from_utf8(name).ok().filter(|_| printable) else { return Identity::OTHER };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match names.iter().position(|known| known == name) {
            Some(index) => index,
            None if names.len() < BOUND => {
                names.push(name.to_owned());
                names.len() - 1
            }
            None => return Identity::OTHER,
        };
        Identity(index as u16 + 2)
    }

    /// What to write for `identity`; `None` when the answer did not say.
    pub fn name(&self, identity: Identity) -> Option<String> {
        match identity {
            Identity::UNKNOWN => None,
            Identity::OTHER => Some("_other".to_owned()),
            Identity(n) => self.names.lock().unwrap_or_else(PoisonError::into_inner).get(usize::from(n) - 2).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_bounded_and_clean() {
        let identities = Identities::default();
        let first = identities.of(b"checkout-1");
        assert_eq!(first, identities.of(b"checkout-1"));
        assert_eq!(identities.name(first).as_deref(), Some("checkout-1"));
        assert_eq!(identities.of(b"two words"), Identity::OTHER);
        for n in 0..2 * BOUND {
            identities.of(format!("pod-{n}").as_bytes());
        }
        assert_eq!(identities.of(b"one-too-many"), Identity::OTHER);
        assert_eq!(identities.of(b"checkout-1"), first);
        assert_eq!(identities.name(Identity::UNKNOWN), None);
    }
}
