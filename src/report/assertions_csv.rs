//! `assertions.csv`: one row per finding. Columns are only ever added, at the end; those of comparison with a baseline stay empty
//! in a run that was not compared.

use crate::report::{Format, Report, cells};

pub const FORMAT: Format = Format {
    name: "assertions-csv",
    file: "assertions.csv",
    summary: "one row per check: value, interval, limit, samples and verdict",
    render,
};

const HEADER: &[&str] = &[
    "run_id",
    "id",
    "name",
    "kind",
    "phase",
    "endpoint",
    "metric",
    "op",
    "threshold",
    "unit",
    "observed",
    "ci_low",
    "ci_high",
    "baseline",
    "delta_pct",
    "delta_ci_low",
    "delta_ci_high",
    "margin_pct",
    "n",
    "mde_pct",
    "verdict",
    "severity",
    "file",
    "line",
    "message",
    "threshold_source",
    "window_from_s",
    "window_to_s",
    "evidence_events",
    "detected",
    "detected_says",
    "detected_events",
];

fn render(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut table = cells::Table::new(HEADER)?;
    for finding in &report.findings {
        let missing = String::new;
        table.row(&[
            cells::text(&report.run_id),
            cells::text(&finding.name),
            cells::text(&finding.claim),
            cells::text(&finding.kind),
            cells::text(report.phase_of(finding)),
            missing(),
            cells::text(finding.name.rsplit('.').next().unwrap_or_default()),
            missing(),
            cells::number(finding.limit),
            cells::text(&finding.unit),
            cells::number(finding.observed),
            cells::number(finding.ci_low),
            cells::number(finding.ci_high),
            missing(),
            missing(),
            missing(),
            missing(),
            missing(),
            cells::plain(finding.n),
            missing(),
            cells::plain(finding.verdict).to_lowercase(),
            "gate".to_owned(),
            report.plan_file.as_deref().map(cells::text).unwrap_or_default(),
            cells::plain(finding.line),
            cells::text(&finding.reason),
            cells::text(&finding.limit_source),
            cells::number(finding.window_s[0]),
            cells::number(finding.window_s[1]),
            events(&finding.evidence),
            finding.detected.iter().map(|detected| cells::text(&detected.detector)).collect::<Vec<_>>().join(";"),
            cells::text(&finding.detected.iter().map(|detected| detected.says.as_str()).collect::<Vec<_>>().join(" | ")),
            events(&finding.detected.iter().flat_map(|detected| detected.evidence.clone()).collect::<Vec<_>>()),
        ])?;
    }
    table.bytes()
}

fn events(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(";")
}
