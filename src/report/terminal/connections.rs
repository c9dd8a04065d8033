//! Connections for a person: how many were opened for each load, what that took, and where requests went when there was a choice.

use super::page::Page;
use crate::report::load::{ALL, Connections};
use crate::report::{LoadRow, Quantiles, Report, numbers};

/// How many addresses are shown; `run.json` has the rest.
const ADDRESSES: usize = 4;

/// A step of opening a connection, and where its durations are.
type Step = (&'static str, fn(&Connections) -> &Quantiles);

pub(super) fn table(page: &mut Page, report: &Report) {
    let rows: Vec<&LoadRow> = report.load.iter().filter(|row| row.phase == ALL && row.connections.any()).collect();
    if rows.is_empty() {
        return;
    }
    // A step that nobody took has no columns.
    let steps: [Step; 4] = [
        ("connect", |row| &row.connect_ms),
        ("tunnel", |row| &row.tunnel_ms),
        ("tls", |row| &row.tls_ms),
        ("upgrade", |row| &row.upgrade_ms),
    ];
    let taken = steps.iter().filter(|(name, of)| *name == "connect" || rows.iter().any(|row| of(&row.connections).n > 0));
    let taken: Vec<&Step> = taken.collect();
    page.heading("Connections, what opening them took in ms");
    let titles: Vec<String> = taken.iter().map(|(name, _)| format!("{name} p50")).collect();
    let mut header = vec!["load", "opened", "not opened"];
    titles.iter().for_each(|title| header.extend([title.as_str(), "p99"]));
    let cells = rows.iter().map(|row| {
        let connections = &row.connections;
        let mut cells = vec![row.name.clone()];
        cells.extend([connections.opened, connections.unopened].map(numbers::count));
        for step in taken.iter().map(|(_, of)| of(connections)) {
            cells.extend([step.p50, step.p99].map(|value| numbers::or_dash(value, "ms")));
        }
        cells
    });
    let right: Vec<usize> = (1..header.len()).collect();
    page.table(&header, cells.collect(), &right);
    if let Some(whole) = report.totals.iter().find(|row| row.phase == ALL).map(|row| &row.connections).filter(|all| all.lookups > 0)
    {
        let failed = match whole.lookups_failed {
            0 => String::new(),
            n => format!(", {} without an answer", numbers::count(n)),
        };
        let took = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| numbers::value(value, "ms"));
        let (p50, most) = (took(whole.dns_ms.p50), took(whole.dns_ms.max));
        page.labelled("dns: ", &format!("{}{failed}; p50 {p50}, at most {most}", numbers::plural(whole.lookups, "lookup")));
    }
    for row in rows.iter().filter(|row| row.sent_to.len() > 1) {
        page.labelled(&format!("{} to: ", row.name), &shares(row));
    }
}

/// Each address with its share of the requests, the busiest first.
fn shares(row: &LoadRow) -> String {
    let mut addresses: Vec<(&String, &u64)> = row.sent_to.iter().collect();
    addresses.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let all: u64 = row.sent_to.values().sum();
    let share = |n: u64| numbers::value((n as f64 * 1e3 / all.max(1) as f64).round() / 10.0, "%");
    let mut shown: Vec<String> = addresses.iter().take(ADDRESSES).map(|(address, n)| format!("{address} {}", share(**n))).collect();
    if addresses.len() > ADDRESSES {
        let rest: u64 = addresses.iter().skip(ADDRESSES).map(|(_, n)| **n).sum();
        shown.push(format!("{} {}", numbers::plural((addresses.len() - ADDRESSES) as u64, "other"), share(rest)));
    }
    shown.join(", ")
}
