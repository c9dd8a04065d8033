//! A search for capacity on disk: `capacity.json`, the whole of it, and `capacity.csv`, one row per probe and check. Keys and columns
//! are only ever added, at the end.

use std::path::Path;

use anyhow::Context;

use crate::capacity::Capacity;
use crate::report::{cells, files};

pub use super::terminal::capacity::print;

const HEADER: &[&str] = &[
    "search_id",
    "plan",
    "slo",
    "probe",
    "run_id",
    "start_time",
    "seed",
    "rate_rps",
    "sent_rps",
    "answered_rps",
    "warm_up_s",
    "window_s",
    "probe_verdict",
    "generator_limited",
    "check",
    "verdict",
    "observed",
    "ci_low",
    "ci_high",
    "threshold",
    "unit",
    "n",
    "reason",
    "capacity_rps",
    "failed_rps",
    "outcome",
];

/// Writes both into `folder`.
pub fn write(found: &Capacity, folder: &Path) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec_pretty(found).context("write the search as JSON")?;
    json.push(b'\n');
    for (name, bytes) in [("capacity.json", json), ("capacity.csv", csv(found)?)] {
        let file = folder.join(name);
        files::replace(&file, &bytes).with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}

fn csv(found: &Capacity) -> anyhow::Result<Vec<u8>> {
    let mut table = cells::Table::new(HEADER)?;
    let outcome = serde_json::to_value(found.end).context("name the outcome")?;
    for probe in &found.probes {
        for (check, finding) in probe.checks() {
            table.row(&[
                cells::text(&found.search_id),
                cells::text(found.plan.as_str()),
                cells::text(found.slo.as_str()),
                cells::plain(probe.n),
                cells::text(&probe.run_id),
                cells::text(&probe.started),
                cells::plain(probe.seed),
                cells::number(probe.rate_rps),
                cells::number(probe.sent_rps),
                cells::number(probe.answered_rps),
                cells::number(probe.warm_up_s),
                cells::number(probe.window_s),
                cells::plain(probe.verdict).to_lowercase(),
                cells::plain(probe.limited),
                cells::text(check),
                cells::plain(finding.verdict).to_lowercase(),
                cells::number(finding.observed),
                cells::number(finding.ci_low),
                cells::number(finding.ci_high),
                cells::number(finding.limit),
                cells::text(&finding.unit),
                cells::plain(finding.n),
                cells::text(&finding.reason),
                cells::number(found.capacity_rps),
                cells::number(found.failed_rps),
                cells::text(outcome.as_str().unwrap_or_default()),
            ])?;
        }
    }
    table.bytes()
}
