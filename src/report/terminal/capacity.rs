//! A search for capacity for a person: its probes in the order in which they were made, and what they come to.

use std::io::{self, Write};

use super::page::{Ink, Page, width};
use super::{Detail, WIDTH};
use crate::capacity::{Capacity, Probe};
use crate::report::numbers;
use crate::verdict::Finding;

/// Prints it on stdout, as [`print`](super::print) does.
pub fn print(found: &Capacity, detail: Detail) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(page(found, detail, Ink::Colour).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn page(found: &Capacity, detail: Detail, ink: Ink) -> String {
    let mut page = Page::new(WIDTH, ink);
    if detail == Detail::Full && !found.probes.is_empty() {
        probes(&mut page, found);
        page.gap();
    }
    page.labelled("capacity  ", &format!("{}: {} (exit {})", found.answer(), found.reason, found.exit_code));
    page.text()
}

fn probes(page: &mut Page, found: &Capacity) {
    let mut checks: Vec<&str> = Vec::new();
    for (check, _) in found.probes.iter().flat_map(Probe::checks) {
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    let mut header = vec!["verdict", "n", "rate/s", "sent/s", "ok/s", "for"];
    let first = header.len();
    header.extend(&checks);
    let per_second = |rate: f64| numbers::or_dash(Some(rate), "1");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for probe in &found.probes {
        let mut row = vec![probe.verdict.to_string(), probe.n.to_string()];
        row.extend([probe.rate_rps, probe.sent_rps, probe.answered_rps].map(per_second));
        row.push(numbers::value(probe.window_s, "s"));
        for check in &checks {
            let finding = probe.checks().find(|(name, _)| name == check);
            row.push(finding.map_or_else(|| "-".to_owned(), |(_, finding)| observed(finding)));
        }
        rows.push(row);
    }
    // Where they do not all fit beside each other, intervals go below their values, and bounds below each other.
    for (before, after) in [(" [", "\n["), (", ", ",\n")] {
        for column in first..header.len() {
            let room = page.room(&header, &rows, column);
            if rows.iter().any(|row| width(&row[column]) > room) {
                rows.iter_mut().for_each(|row| row[column] = row[column].replacen(before, after, 1));
            }
        }
    }
    page.table(&header, rows, &[1, 2, 3, 4, 5]);
}

/// The value and its interval.
fn observed(finding: &Finding) -> String {
    let value = finding.observed.map_or_else(|| "-".to_owned(), |v| numbers::value_beside(v, finding.limit, &finding.unit));
    let interval = numbers::interval(finding.ci_low, finding.ci_high, &finding.unit).map(|i| format!(" {i}")).unwrap_or_default();
    format!("{value}{interval}")
}
