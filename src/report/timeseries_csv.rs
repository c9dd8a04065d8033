//! `timeseries.csv`: the run second by second, one row per load and one for `_all`. Columns are only ever added, at the end.

use crate::report::{Format, Report, SecondRow, cells, load::ALL};

pub const FORMAT: Format = Format {
    name: "timeseries-csv",
    file: "timeseries.csv",
    summary: "one row per second and load: rates, percentiles of the interval, replicas, active faults",
    render,
};

const HEADER: &[&str] = &[
    "run_id",
    "time",
    "t_s",
    "interval_s",
    "phase",
    "endpoint",
    "offered_rps",
    "sent_rps",
    "ok_rps",
    "error_rps",
    "in_flight",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_max_ms",
    "replicas_ready",
    "replicas_desired",
    "replicas_unready",
    "queue_depth",
    "cpu_util",
    "hpa_metric",
    "fault_ids",
    "send_lag_p99_ms",
    "scenario",
    "rejected_rps",
    "failed_rps",
    "timed_out_rps",
    "unsent_rps",
    "generator_cpu",
    "attempts_rps",
];

fn render(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut table = cells::Table::new(HEADER)?;
    for row in &report.seconds {
        table.row(&cells_of(report, row))?;
    }
    table.bytes()
}

fn cells_of(report: &Report, row: &SecondRow) -> Vec<String> {
    let counts = &row.counts;
    let rate = |n: u64| cells::number((row.interval_s > 0.0).then(|| n as f64 / row.interval_s));
    let path = report.load.iter().find(|load| load.name == row.load).and_then(|load| load.path.as_deref());
    let latency = &row.latency_ms;
    let unready = row.replicas_desired.zip(row.replicas_ready).map(|(desired, ready)| (desired - ready).max(0.0));
    vec![
        cells::text(&report.run_id),
        cells::time(&report.started, row.t_s),
        cells::number(row.t_s),
        cells::number(row.interval_s),
        cells::text(&row.phase),
        cells::text(path.unwrap_or(ALL)),
        rate(counts.intended),
        rate(counts.sent),
        rate(counts.ok),
        rate(counts.rejected + counts.failed + counts.timed_out),
        row.in_flight.map(cells::plain).unwrap_or_default(),
        cells::number(latency.p50),
        cells::number(latency.p90),
        cells::number(latency.p95),
        cells::number(latency.p99),
        cells::number(latency.max),
        cells::number(row.replicas_ready),
        cells::number(row.replicas_desired),
        cells::number(unready),
        String::new(),
        String::new(),
        String::new(),
        cells::text(&row.faults.join(";")),
        cells::number(row.lateness_p99_ms),
        cells::text(&row.load),
        rate(counts.rejected),
        rate(counts.failed),
        rate(counts.timed_out),
        rate(counts.unsent),
        cells::number(row.generator_cpu),
        rate(row.attempts),
    ]
}
