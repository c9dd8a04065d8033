//! What became of requests, counted by the second.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::Name;
use crate::recording::attempts::Attempts;

/// How one request ended. There is no sixth way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered as asked.
    Ok,
    /// The service said "not now": 429, 503.
    Rejected,
    /// An error answer, a broken connection, garbage.
    Failed,
    /// No answer in time: what the service did is not known. Its latency is at least the timeout.
    TimedOut,
    /// Not sent: a limit of Squall's own. Evidence against the generator, never against the service.
    Unsent,
}

impl Outcome {
    pub const ALL: [Outcome; 5] = [Outcome::Ok, Outcome::Rejected, Outcome::Failed, Outcome::TimedOut, Outcome::Unsent];

    /// The name in tags, columns and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Unsent => "unsent",
        }
    }
}

/// Why a request was not sent, as [`Tally::causes`] calls it, and the way out: every cause of [`Outcome::Unsent`], and no other.
pub const LIMITS: [(&str, &str); 9] = [
    ("in-flight bound", "raise the load's `in_flight`, or shorten the request's `timeout`"),
    ("connection bound", "raise the load's `connections`"),
    ("generator late", "give the generator more CPU, lower the rate, or have fewer users"),
    ("file descriptors", "raise the limit of open files (`ulimit -n`)"),
    ("local ports", "have fewer connections or users, or widen net.ipv4.ip_local_port_range"),
    ("memory", "give the machine more memory, or have fewer connections or users"),
    ("feed used up", "give the feed more rows, send fewer requests, or use rows again (`order: sequential`)"),
    ("stopped", "let the run end by itself"),
    ("bug in squall", "please report it"),
];

/// Counts of one load in one second of one phase, by the *intended* start of each request. A request that ends later than its
/// second comes in a later line for the same second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that came due here: by the schedule, or because a user was ready to send one.
    pub intended: u64,
    /// Requests whose first byte was handed to the kernel.
    pub sent: u64,
    pub ok: u64,
    pub rejected: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub unsent: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.ok += other.ok;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.unsent += other.unsent;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Ok => self.ok,
            Outcome::Rejected => self.rejected,
            Outcome::Failed => self.failed,
            Outcome::TimedOut => self.timed_out,
            Outcome::Unsent => self.unsent,
        }
    }

    /// Requests whose end is known: everything but what is still in flight. `unsent` counts as ended.
    pub fn ended(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.of(*outcome)).sum()
    }
}

/// What is counted apart within a load, where its plan declares anything: a request is of exactly one part, and the parts of a load
/// are all of it. Bounded by the plan.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// The class of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// The step of a flow that they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
}

/// [`Counts`] with their place and what the answers said about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub load: Name,
    pub phase: Name,
    #[serde(flatten)]
    pub part: Part,
    /// The window: whole seconds since offset zero.
    pub second: i64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Why requests did not end `ok`, by a short bounded class: `status 503`, `connection refused`, `reset`, `closed mid-body`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
    /// Answers by the identity of who served them (the `x-pod` header), bounded; the rest under `_other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub served_by: BTreeMap<String, u64>,
    /// Of the rejected, how many carried Retry-After.
    #[serde(default)]
    pub retry_after: u64,
    /// Redirects that were followed; a request that was led on is one all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redirects: u64,
    /// Steps of flows that did not come due, since their run had ended before them, by why: `a step before was not ok`, `the load was over`,
    /// `due in a phase without load`, `stopped`. They are no requests, and nothing above counts them; in the second of the last step of their run that did come due.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
    /// Requests that were sent, by the address that they went to, bounded; the rest under `_other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sent_to: BTreeMap<String, u64>,
    /// Connections that were opened, ready for requests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opened: u64,
    /// Connections that could not be opened, or were given up before that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unopened: u64,
    /// Messages that came back, where answers are made of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages: u64,
    /// What was tried for these requests, where their client tries more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Box<Attempts>>,
}

impl Tally {
    /// How often something was sent for these requests.
    pub fn attempts_sent(&self) -> u64 {
        self.attempts.as_ref().map_or(self.counts.sent, |attempts| attempts.sent)
    }

    /// What was tried for these requests: where their client tries once, what was sent.
    pub fn tried(&self) -> Cow<'_, Attempts> {
        match &self.attempts {
            Some(attempts) => Cow::Borrowed(attempts),
            None => Cow::Owned(Attempts::of_single(self.counts.sent)),
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
