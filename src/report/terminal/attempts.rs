//! Attempts for a person: how many were sent for the requests of each load whose client tries more than once, and what became of them.

use super::page::Page;
use crate::report::load::ALL;
use crate::report::{AttemptsRow, LoadRow, Report, numbers, words};

pub(super) fn tables(page: &mut Page, report: &Report) {
    let mut names: Vec<&str> = Vec::new();
    for row in report.load.iter().filter(|row| row.attempts.is_some()) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    for name in names {
        table(page, name, report.load.iter().filter(|row| row.name == name));
    }
}

fn table<'r>(page: &mut Page, name: &str, rows: impl Iterator<Item = &'r LoadRow>) {
    let rows: Vec<(&LoadRow, &AttemptsRow)> = rows.filter_map(|row| Some((row, row.attempts.as_ref()?))).collect();
    let hedged = rows.iter().any(|(_, attempts)| attempts.hedges > 0);
    page.heading(&format!("Attempts of load {name}, time of each in ms from its send"));
    let mut header = vec!["phase", "requests", "sent", "each", "retries"];
    header.extend(hedged.then_some(["hedges", "won"]).into_iter().flatten());
    header.extend(["withheld", "p50", "p99"]);
    let cells = rows.iter().map(|(row, attempts)| {
        let phase = if row.phase == ALL { "all".to_owned() } else { row.phase.clone() };
        let each = attempts.amplification.map_or_else(|| "-".to_owned(), |each| format!("{each:.3}"));
        let mut cells =
            vec![phase, numbers::count(row.sent), numbers::count(attempts.sent), each, numbers::count(attempts.retries)];
        if hedged {
            cells.extend([attempts.hedges, attempts.hedges_won].map(numbers::count));
        }
        cells.push(numbers::count(attempts.withheld));
        cells.extend([attempts.took_ms.p50, attempts.took_ms.p99].map(|value| numbers::or_dash(value, "ms")));
        cells
    });
    let right: Vec<usize> = (1..header.len()).collect();
    page.table(&header, cells.collect(), &right);
    let whole = rows.iter().find(|(row, _)| row.phase == ALL).map(|(_, attempts)| attempts);
    if let Some(attempts) = whole.filter(|attempts| !attempts.causes.is_empty()) {
        page.labelled("attempts not ok: ", &words::causes(&attempts.causes));
    }
}
