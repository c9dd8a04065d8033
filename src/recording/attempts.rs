//! What was sent for the requests of a load whose client tries more than once. A request ends in one outcome, whatever was tried for it;
//! these are counted beside it, in the second in which the request was due.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recording::fact::Outcome;

/// Attempts of the requests of one window. Those that began are `ok + rejected + failed + timed_out + unsent + cancelled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// Those whose first byte was handed to the kernel.
    pub sent: u64,
    /// Those that followed one that had ended.
    pub retries: u64,
    /// Those beside one that had not been answered.
    pub hedges: u64,
    /// Requests that were answered by a hedge.
    pub hedges_won: u64,
    pub ok: u64,
    pub rejected: u64,
    pub failed: u64,
    pub timed_out: u64,
    /// Not sent, by a limit of Squall's own.
    pub unsent: u64,
    /// Given up, since another attempt of the same request was answered.
    pub cancelled: u64,
    /// Retries and hedges that did not come, since the budget was spent.
    pub withheld: u64,
    /// Why attempts did not end `ok`, as [`Tally::causes`](super::fact::Tally::causes).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
}

impl Attempts {
    /// What a load whose client tries once comes to.
    pub fn of_single(sent: u64) -> Attempts {
        Attempts { sent, ..Attempts::default() }
    }

    pub fn add(&mut self, other: &Attempts) {
        self.sent += other.sent;
        self.retries += other.retries;
        self.hedges += other.hedges;
        self.hedges_won += other.hedges_won;
        self.ok += other.ok;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.unsent += other.unsent;
        self.cancelled += other.cancelled;
        self.withheld += other.withheld;
        other.causes.iter().for_each(|(cause, n)| *self.causes.entry(cause.clone()).or_default() += n);
    }

    /// Counts one that ended so; `None` where it was cancelled.
    pub fn count(&mut self, outcome: Option<Outcome>) {
        *match outcome {
            Some(Outcome::Ok) => &mut self.ok,
            Some(Outcome::Rejected) => &mut self.rejected,
            Some(Outcome::Failed) => &mut self.failed,
            Some(Outcome::TimedOut) => &mut self.timed_out,
            Some(Outcome::Unsent) => &mut self.unsent,
            None => &mut self.cancelled,
        } += 1;
    }

    /// How many ended in each way, by its name; those that were given up as `cancelled`.
    pub fn by_outcome(&self) -> [(&'static str, u64); 6] {
        [
            (Outcome::Ok.as_str(), self.ok),
            (Outcome::Rejected.as_str(), self.rejected),
            (Outcome::Failed.as_str(), self.failed),
            (Outcome::TimedOut.as_str(), self.timed_out),
            (Outcome::Unsent.as_str(), self.unsent),
            ("cancelled", self.cancelled),
        ]
    }

    /// Those that began.
    pub fn begun(&self) -> u64 {
        self.ok + self.rejected + self.failed + self.timed_out + self.unsent + self.cancelled
    }
}
