//! How long an agent may live: until its standard input ends, no heartbeat has come for the length of the lease, its deadline is
//! past, or it is told to end, whichever is first. None of these needs the harness to be alive.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::time::{monotonic_now, wall_now};

/// The wall clock can jump and the machine can sleep, so the deadline is looked at again at least this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Whoever started the agent has gone.
    InputClosed,
    /// Whoever started the agent has stopped.
    NoHeartbeat,
    Deadline,
    Told,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ended::InputClosed => "standard input was closed",
            Ended::NoHeartbeat => "heartbeats stopped",
            Ended::Deadline => "the deadline came",
            Ended::Told => "told to end",
        })
    }
}

/// Waits for the first heartbeat, with which a lease begins; an error says why it will not come.
pub async fn begun(
    heartbeats: &mut (impl AsyncRead + Unpin),
    patience: Duration,
    deadline: jiff::Timestamp,
    told: &mut (impl Future<Output = ()> + Unpin),
) -> Result<(), Ended> {
    heartbeat(heartbeats, monotonic_now() + patience, deadline, told).await
}

/// Waits until the lease ends. Anything that comes in is a heartbeat.
pub async fn ended(
    mut heartbeats: impl AsyncRead + Unpin,
    lease: Duration,
    deadline: jiff::Timestamp,
    mut told: impl Future<Output = ()> + Unpin,
) -> Ended {
    loop {
        if let Err(ended) = heartbeat(&mut heartbeats, monotonic_now() + lease, deadline, &mut told).await {
            return ended;
        }
    }
}

/// The next heartbeat.
async fn heartbeat(
    heartbeats: &mut (impl AsyncRead + Unpin),
    expires: Instant,
    deadline: jiff::Timestamp,
    told: &mut (impl Future<Output = ()> + Unpin),
) -> Result<(), Ended> {
    let mut buffer = [0; 1024];
    loop {
        let left = Duration::try_from(deadline.duration_since(wall_now())).unwrap_or_default();
        if left.is_zero() {
            return Err(Ended::Deadline);
        }
        let look_again = monotonic_now() + left.min(LOOK_EVERY);
        tokio::select! {
            // The end of the input comes before a heartbeat that was buffered with it only when it has been read.
            read = heartbeats.read(&mut buffer) => return match read {
                Ok(0) | Err(_) => Err(Ended::InputClosed),
                Ok(_) => Ok(()),
            },
            () = &mut *told => return Err(Ended::Told),
            () = tokio::time::sleep_until(expires.into()) => return Err(Ended::NoHeartbeat),
            () = tokio::time::sleep_until(look_again.into()) => {}
        }
    }
}
