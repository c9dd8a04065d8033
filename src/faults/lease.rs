//! Leases: what ends a fault when nobody is left to end it. Three hold at once: the agent's absolute deadline, the heartbeat that it
//! must hear, and the time to live of the interposition itself.

use std::time::Duration;

/// How long an agent goes on without hearing from the harness.
pub const LEASE: Duration = Duration::from_secs(5);
/// How often the harness speaks; several may be lost within one lease.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How much later than its planned end a fault ends if everything else fails.
pub const DEADLINE_MARGIN: Duration = Duration::from_secs(20);
