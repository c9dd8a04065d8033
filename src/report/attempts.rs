//! What was tried for the requests of a row, where their client tries more than once. The requests themselves are counted once each,
//! whatever was tried for them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::recording::History;
use crate::recording::history::Selection;
use crate::recording::sink::Measure;
use crate::report::load::{Quantiles, TIMED};
use crate::time::Offset;

/// The attempts of a row's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptsRow {
    pub sent: u64,
    /// Attempts that were sent for each request that was.
    pub amplification: Option<f64>,
    pub retries: u64,
    pub hedges: u64,
    /// Requests that a hedge has answered.
    pub hedges_won: u64,
    pub ok: u64,
    pub rejected: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub unsent: u64,
    /// Given up, since another was answered.
    pub cancelled: u64,
    /// Retries and hedges that the budget did not allow.
    pub withheld: u64,
    /// From the actual send of an attempt to its end, over those that ended `ok` or timed out.
    pub took_ms: Quantiles,
    pub causes: BTreeMap<String, u64>,
}

impl AttemptsRow {
    /// Of the requests that were due in `[from, to)`, `sent` of which were sent.
    pub(super) fn of(history: &History, which: Selection<'_>, sent: u64, from: Offset, to: Offset) -> Option<AttemptsRow> {
        let attempts = history.attempts(which, from, to)?;
        Some(AttemptsRow {
            amplification: (sent > 0).then(|| (attempts.sent as f64 / sent as f64 * 1e4).round() / 1e4),
            took_ms: Quantiles::of(&history.histogram(which, TIMED, Measure::Attempt, from, to)),
            sent: attempts.sent,
            retries: attempts.retries,
            hedges: attempts.hedges,
            hedges_won: attempts.hedges_won,
            ok: attempts.ok,
            rejected: attempts.rejected,
            failed: attempts.failed,
            timed_out: attempts.timed_out,
            unsent: attempts.unsent,
            cancelled: attempts.cancelled,
            withheld: attempts.withheld,
            causes: attempts.causes,
        })
    }
}
