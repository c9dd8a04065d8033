//! `summary.csv`: one row per load and phase, then `_all` of them; last, the same for each class of the loads that have
//! classes, whose rows hold what the rows above hold already. Columns are only ever added, at the end.

use crate::report::{Format, LoadRow, PhaseRow, Report, cells, load::ALL};

pub const FORMAT: Format = Format {
    name: "summary-csv",
    file: "summary.csv",
    summary: "one row per load and phase: counts, rates and latency percentiles",
    render,
};

const HEADER: &[&str] = &[
    "run_id",
    "plan",
    "scenario",
    "phase",
    "endpoint",
    "method",
    "start_time",
    "duration_s",
    "offered_rps",
    "requests",
    "ok",
    "failed",
    "error_rate",
    "goodput_rps",
    "bytes_in",
    "bytes_out",
    "latency_min_ms",
    "latency_mean_ms",
    "latency_stddev_ms",
    "latency_p50_ms",
    "latency_p75_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_p999_ms",
    "latency_p9999_ms",
    "latency_max_ms",
    "p99_ci_low_ms",
    "p99_ci_high_ms",
    "n_eff",
    "late_sends",
    "dropped",
    "intended",
    "rejected",
    "timed_out",
    "service_p50_ms",
    "service_p95_ms",
    "service_p99_ms",
    "service_max_ms",
    "lateness_p99_ms",
    "class",
    "first_byte_p50_ms",
    "first_byte_p95_ms",
    "first_byte_p99_ms",
    "first_byte_max_ms",
    "connections_opened",
    "connections_unopened",
    "connect_p50_ms",
    "connect_p99_ms",
    "connect_max_ms",
    "tls_p50_ms",
    "tls_p99_ms",
    "tls_max_ms",
    "dns_lookups",
    "dns_failed",
    "dns_p50_ms",
    "dns_p99_ms",
    "dns_max_ms",
];

fn render(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut table = cells::Table::new(HEADER)?;
    for row in report.load.iter().chain(&report.totals).chain(&report.classes) {
        table.row(&cells_of(report, row))?;
    }
    table.bytes()
}

fn cells_of(report: &Report, row: &LoadRow) -> Vec<String> {
    let phase: Option<&PhaseRow> = report.phases.iter().find(|phase| phase.name == row.phase);
    let start_s = phase.or(report.phases.first()).map_or(0.0, |phase| phase.start_s);
    let rate = |n: u64| cells::number((row.duration_s > 0.0).then(|| n as f64 / row.duration_s));
    let (latency, service, first_byte) = (&row.latency_ms, &row.service_ms, &row.first_byte_ms);
    let (dns, connect, tls) = (&row.connections.dns_ms, &row.connections.connect_ms, &row.connections.tls_ms);
    vec![
        cells::text(&report.run_id),
        cells::text(&report.plan),
        cells::text(&row.name),
        cells::text(&row.phase),
        cells::text(row.path.as_deref().unwrap_or(ALL)),
        row.method.as_deref().map(cells::text).unwrap_or_default(),
        cells::time(&report.started, start_s),
        cells::number(row.duration_s),
        rate(row.intended),
        cells::plain(row.sent),
        cells::plain(row.ok),
        cells::plain(row.failed),
        // Of what ended, the share that did not end ok: rejected, failed and timed out.
        cells::number((row.tried() > 0).then(|| row.bad() as f64 / row.tried() as f64)),
        rate(row.ok),
        cells::plain(row.bytes_in),
        cells::plain(row.bytes_out),
        cells::number(latency.min),
        cells::number(latency.mean),
        cells::number(latency.stddev),
        cells::number(latency.p50),
        cells::number(latency.p75),
        cells::number(latency.p90),
        cells::number(latency.p95),
        cells::number(latency.p99),
        cells::number(latency.p999),
        cells::number(latency.p9999),
        cells::number(latency.max),
        cells::number(row.p99_ci_low_ms),
        cells::number(row.p99_ci_high_ms),
        cells::number(row.n_eff),
        cells::plain(row.late_sends),
        cells::plain(row.unsent),
        cells::plain(row.intended),
        cells::plain(row.rejected),
        cells::plain(row.timed_out),
        cells::number(service.p50),
        cells::number(service.p95),
        cells::number(service.p99),
        cells::number(service.max),
        cells::number(row.lateness_ms.p99),
        row.class.as_deref().map(cells::text).unwrap_or_default(),
        cells::number(first_byte.p50),
        cells::number(first_byte.p95),
        cells::number(first_byte.p99),
        cells::number(first_byte.max),
        cells::plain(row.connections.opened),
        cells::plain(row.connections.unopened),
        cells::number(connect.p50),
        cells::number(connect.p99),
        cells::number(connect.max),
        cells::number(tls.p50),
        cells::number(tls.p99),
        cells::number(tls.max),
        cells::plain(row.connections.lookups),
        cells::plain(row.connections.lookups_failed),
        cells::number(dns.p50),
        cells::number(dns.p99),
        cells::number(dns.max),
    ]
}
