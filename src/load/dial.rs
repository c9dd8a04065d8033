//! Opening a connection: where it goes, what each step took, and when it will have had its day. None of it lies on the way of a request
//! that finds a connection open.

use super::lane::Lane;
use super::log::{Opened, Window};
use crate::protocol::{End, Identity, Link, Protocol, Steps};
use crate::time::Offset;
use crate::varying::Values;

/// What is known of a connection from the moment when it is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// The address that it goes to.
    pub(super) to: Identity,
    /// When it has grown old.
    expires: Option<Offset>,
    /// After how many requests it has carried enough.
    requests: Option<u32>,
}

impl Life {
    /// Whether it has had its day, and by what, at `now` and when it has carried so many requests.
    pub(super) fn over(&self, now: Offset, carried: u32) -> Option<Over> {
        if self.requests.is_some_and(|most| carried >= most) {
            return Some(Over::Carried);
        }
        self.is_old(now).then_some(Over::Old)
    }

    /// Whether it has grown old by `now`.
    pub(super) fn is_old(&self, now: Offset) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    #[cfg(test)]
    pub(super) fn endless() -> Life {
        Life { to: Identity::UNKNOWN, expires: None, requests: None }
    }
}

/// By what a connection has had its day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Time has passed, whatever was sent: it is replaced on nobody's account.
    Old,
    /// It has carried enough, as with a client that keeps none: opening the next is a part of sending the next request.
    Carried,
}

/// Opens a connection, and counts it in the window of the request, with these values, for which, or after which, it is opened.
pub(super) async fn dial(lane: &Lane, window: Window, values: &Values) -> Result<(Link, Life), End> {
    let (number, peer) = lane.next_address();
    // Names that stand for nothing at all are told before a run; one may still come to that.
    let peer = peer.ok_or(End::Unreachable)?;
    let mut attempt = Attempt { lane, window, steps: Steps::default(), open: false };
    let link = lane.wire.connect(peer.address, values, &mut attempt.steps).await?;
    attempt.open = lane.wire.is_open(&link);
    // Lives are spread between 75 and 125 per cent, by the golden ratio, so that connections do not all end at once.
    let spread = 0.75 + 0.5 * (number as f64 * 0.618_033_988_749_895).fract();
    let life = Life {
        to: peer.number,
        expires: lane.rotation.age.map(|age| lane.clock.now() + age.duration().mul_f64(spread)),
        requests: lane.rotation.requests.map(|most| (f64::from(most) * spread).round().max(1.0) as u32),
    };
    Ok((link, life))
}

/// A connection that is being opened. However that ends, given up in the middle included, it is counted; but not where the lane itself has
/// ended meanwhile, which says nothing of the peer.
struct Attempt<'l> {
    lane: &'l Lane,
    window: Window,
    steps: Steps,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open || !self.lane.is_cut() {
            self.lane.log.opened(Opened { window: self.window, steps: self.steps, open: self.open });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_had_its_day_by_age_or_by_count() {
        let life = |expires: Option<i64>, requests| Life { expires: expires.map(Offset::from_nanos), requests, ..Life::endless() };
        let (early, late) = (Offset::from_nanos(9), Offset::from_nanos(10));
        assert_eq!(Life::endless().over(late, u32::MAX), None);
        assert_eq!((life(Some(10), None).over(early, 9), life(Some(10), None).over(late, 0)), (None, Some(Over::Old)));
        assert_eq!((life(None, Some(3)).over(late, 2), life(None, Some(3)).over(early, 3)), (None, Some(Over::Carried)));
        let both = life(Some(10), Some(3));
        assert_eq!((both.over(early, 3), both.over(late, 1), both.over(early, 1)), (Some(Over::Carried), Some(Over::Old), None));
    }
}
