//! The report for a person: what the verdict is, why, on which evidence, and what to do next. Fits 80 columns and says with words
//! all that it says with colour.

use std::io::{self, Write};

use crate::exit::Exit;
use crate::names::ObjectRef;
use crate::recording::history::{asker, same_object};
use crate::recording::metric::{DESIRED_REPLICAS, READY_REPLICAS};
use crate::report::load::ALL;
use crate::report::{EvidenceRow, FaultRow, Format, LoadRow, Report, ScaleStep, numbers, words};
use crate::verdict::{Finding, Verdict};

mod attempts;
pub(super) mod capacity;
mod connections;
mod page;

use page::{Ink, Page};

pub const FORMAT: Format = Format {
    name: "terminal",
    file: "terminal.txt",
    summary: "the report for a person, as it is printed at the end of a run",
    render: |report| Ok(full(report, Ink::Plain).into_bytes()),
};

/// How much is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// The whole report.
    Full,
    /// The verdict, and a line for each check that did not pass.
    Brief,
}

/// Columns of the page, whatever the terminal: a log, a pull request and a terminal show the same.
const WIDTH: usize = 80;
/// How much of the evidence of one finding is shown; `run.json` has the rest.
const EVIDENCE: usize = 5;
/// How much of that of what was detected for it.
const EVIDENCE_OF_DETECTOR: usize = 3;
/// How many scaling steps are shown, from the start and from the end.
const STEPS: (usize, usize) = (14, 6);

/// Prints the report on stdout, in colour where that is wanted (a terminal, no NO_COLOR, not TERM=dumb). A reader who has gone
/// away (`| head`) is no error.
pub fn print(report: &Report, detail: Detail) -> io::Result<()> {
    let text = match detail {
        Detail::Full => full(report, Ink::Colour),
        Detail::Brief => brief(report, Ink::Colour),
    };
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn brief(report: &Report, ink: Ink) -> String {
    let mut page = Page::new(WIDTH, ink);
    banner(&mut page, report);
    for finding in not_passed(report) {
        page.verdict(finding.verdict, &format!("{}: {}", finding.name, finding.reason));
    }
    page.text()
}

fn full(report: &Report, ink: Ink) -> String {
    let mut page = Page::new(WIDTH, ink);
    banner(&mut page, report);
    page.gap();
    page.labelled("  claim   ", &report.claim);
    let end = report.phases.last().map_or(0.0, |phase| phase.end_s);
    page.labelled(
        "  run     ",
        &format!("{}, seed {}, {} against {}", report.run_id, report.seed, numbers::value(end, "s"), report.target),
    );
    if !report.completed {
        page.labelled("  ended   ", &format!("the run {}", report.ended));
    }
    checks(&mut page, report);
    for finding in not_passed(report) {
        block(&mut page, report, finding);
    }
    load(&mut page, report);
    attempts::tables(&mut page, report);
    connections::table(&mut page, report);
    faults(&mut page, report);
    scaling(&mut page, report);
    measurement(&mut page, report);
    whither(&mut page, report);
    page.text()
}

fn banner(page: &mut Page, report: &Report) {
    if report.exit_code == Exit::CleanupNotProven.code() {
        page.alarm("CLEANUP NOT PROVEN: a fault may still be active, or something of this run is still there.");
        page.verbatim(&format!("  now        {}", heal(report)));
        for left in &report.left_behind {
            page.labelled("  - ", left);
        }
        page.gap();
    }
    page.verdict(report.verdict, &format!("{}: {} (exit {})", report.plan, report.exit.reason, report.exit_code));
}

fn checks(page: &mut Page, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    page.gap();
    let mut limits = Vec::new();
    let mut rows: Vec<Vec<String>> = report
        .findings
        .iter()
        .map(|finding| {
            let unit = &finding.unit;
            let observed = finding.observed.map_or_else(|| "-".to_owned(), |v| numbers::value_beside(v, finding.limit, unit));
            let interval = numbers::interval(finding.ci_low, finding.ci_high, unit).map(|i| format!(" {i}")).unwrap_or_default();
            let mut limit = finding.limit.map_or_else(|| "-".to_owned(), |limit| numbers::value(limit, unit));
            if finding.limit.is_some() && !finding.limit_source.is_empty() && finding.limit_source != "the plan" {
                limits.push((finding.name.as_str(), finding.limit_source.as_str()));
                limit.push_str(" *");
            }
            vec![
                finding.verdict.to_string(),
                finding.name.clone(),
                format!("{observed}{interval}"),
                limit,
                numbers::count(finding.n),
            ]
        })
        .collect();
    let header = ["verdict", "check", "observed [interval]", "limit", "n"];
    // Where it is too wide, it breaks where a reader would, and no more often than it must.
    type Break = fn(&str) -> String;
    for (column, broken) in [(1, at_dot as Break), (2, at_interval), (1, at_hyphen)] {
        let room = page.room(&header, &rows, column);
        let wide = rows.iter_mut().map(|row| &mut row[column]).filter(|cell| page::width(cell) > room);
        wide.for_each(|cell| *cell = broken(cell));
    }
    page.table(&header, rows, &[4]);
    if !limits.is_empty() {
        page.gap();
        for (name, source) in limits {
            page.labelled("* ", &format!("limit of {name}: {source}"));
        }
    }
}

fn block(page: &mut Page, report: &Report, finding: &Finding) {
    page.gap();
    page.verdict(finding.verdict, &finding.name);
    page.labelled("  claimed   ", &finding.claim);
    page.labelled("  reason    ", &finding.reason);
    page.labelled(
        "  window    ",
        &format!("{} to {} of the run", numbers::moment(finding.window_s[0]), numbers::moment(finding.window_s[1])),
    );
    if let Some(file) = &report.plan_file {
        page.verbatim(&format!("  plan      {file}:{}", finding.line));
        let source = report.place.plan_source.as_deref().and_then(|text| text.lines().nth((finding.line as usize).checked_sub(1)?));
        if let Some(source) = source {
            page.labelled(&format!("       {:>4} | ", finding.line), source);
        }
    }
    evidence(page, report, &finding.evidence, EVIDENCE);
    for note in &finding.notes {
        page.labelled("  note      ", note);
    }
    for detected in &finding.detected {
        page.labelled("  detected  ", &format!("{}: {}", detected.detector, detected.says));
        page.labelled("  try       ", &detected.fix);
        evidence(page, report, &detected.evidence, EVIDENCE_OF_DETECTOR);
    }
}

/// The first of these events, in words.
fn evidence(page: &mut Page, report: &Report, events: &[u64], most: usize) {
    let seen: Vec<String> = report.evidence_of(events).map(EvidenceRow::sentence).collect();
    for (index, sentence) in seen.iter().take(most).enumerate() {
        page.labelled(if index == 0 { "  evidence  " } else { "            " }, sentence);
    }
    if seen.len() > most {
        page.labelled("            ", &format!("and {} more in run.json", seen.len() - most));
    }
}

fn load(page: &mut Page, report: &Report) {
    let mut names: Vec<&str> = Vec::new();
    for row in &report.load {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    for name in names {
        let rows: Vec<&LoadRow> = report.load.iter().filter(|row| row.name == name).collect();
        let request = rows.first().map_or(String::new(), |row| {
            format!(" ({} {})", row.method.as_deref().unwrap_or_default(), row.path.as_deref().unwrap_or_default())
        });
        page.heading(&format!("Load {name}{request}, latency in ms from the intended start"));
        let phase = |row: &LoadRow| if row.phase == ALL { "all".to_owned() } else { row.phase.clone() };
        outcomes(page, "phase", rows.iter().map(|row| (phase(row), *row)));
        let classes: Vec<&LoadRow> = report.classes.iter().filter(|row| row.name == name && row.phase == ALL).collect();
        if !classes.is_empty() {
            page.gap();
            outcomes(page, "class", classes.into_iter().map(|row| (row.class.clone().unwrap_or_default(), row)));
        }
        let steps: Vec<&LoadRow> = report.steps.iter().filter(|row| row.name == name && row.phase == ALL).collect();
        if !steps.is_empty() {
            page.gap();
            outcomes(page, "step", steps.into_iter().map(|row| (row.step.clone().unwrap_or_default(), row)));
        }
        let whole = rows.iter().find(|row| row.phase == ALL);
        if let Some(users) = whole.and_then(|row| row.users) {
            page.labelled(
                "closed: ",
                &format!(
                    "{} wait for answers before they send again; what others would have met while the service was slow is in no percentile",
                    numbers::plural(u64::from(users), "user")
                ),
            );
        }
        if let Some(row) = whole.filter(|row| row.messages > 0) {
            page.labelled("answers: ", &numbers::plural(row.messages, "message"));
        }
        if let Some(row) = whole.filter(|row| !row.causes.is_empty()) {
            page.labelled("not ok: ", &words::causes(&row.causes));
        }
        if let Some(row) = whole.filter(|row| !row.skipped.is_empty()) {
            page.labelled(
                "not due: ",
                &format!(
                    "{} of flows, since their run was over: {}",
                    numbers::plural(row.skipped.values().sum(), "step"),
                    words::causes(&row.skipped)
                ),
            );
        }
        if let Some(row) = whole.filter(|row| row.redirects > 0) {
            page.labelled("redirects: ", &format!("{} followed, each within its request", numbers::count(row.redirects)));
        }
    }
}

/// What became of the requests of each row.
fn outcomes<'r>(page: &mut Page, of: &str, rows: impl Iterator<Item = (String, &'r LoadRow)>) {
    let cells = rows.map(|(name, row)| {
        let mut cells = vec![name];
        cells.extend([row.sent, row.ok, row.rejected, row.failed, row.timed_out, row.unsent].map(numbers::count));
        cells.extend([row.latency_ms.p50, row.latency_ms.p99].map(|value| numbers::or_dash(value, "ms")));
        cells
    });
    page.table(
        &[of, "sent", "ok", "rejected", "failed", "timed out", "unsent", "p50", "p99"],
        cells.collect(),
        &[1, 2, 3, 4, 5, 6, 7, 8],
    );
}

fn faults(page: &mut Page, report: &Report) {
    if report.faults.is_empty() {
        return;
    }
    page.heading("Faults");
    let moment = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), numbers::moment);
    let rows = report.faults.iter().map(|fault| {
        vec![
            fault.name.clone(),
            fault.kind.clone(),
            moment(fault.injected_s),
            moment(fault.effective_s),
            moment(fault.healed_s),
            state(fault),
        ]
    });
    page.table(&["fault", "kind", "injected", "effective", "healed", "state"], rows.collect(), &[2, 3, 4]);
    for fault in &report.faults {
        if !fault.targets.is_empty() {
            let of = if fault.of > 0 { format!("{} of {}: ", fault.targets.len(), fault.of) } else { String::new() };
            page.labelled(&format!("{}  ", fault.name), &format!("on {of}{}", fault.targets.join(", ")));
        }
        for sentence in fault.evidence.iter().chain(&fault.failures) {
            page.labelled("  - ", sentence);
        }
    }
}

fn state(fault: &FaultRow) -> String {
    let effect = match (fault.injected_s, fault.effective_s, fault.proven) {
        (None, ..) => return "never injected".to_owned(),
        (_, _, true) => "proven",
        (_, Some(_), false) => "DID NOT HOLD",
        (_, None, false) => "NOT PROVEN",
    };
    format!("{effect}, {}", if fault.healed { "healed" } else { "NOT HEALED" })
}

fn scaling(page: &mut Page, report: &Report) {
    // What an autoscaler asks for and the same number in the workload that it writes to are one line, not two.
    let is = |step: &ScaleStep, object: &Option<ObjectRef>| object.as_ref().is_some_and(|of| same_object(of, &step.object));
    let asker = report.autoscaler.as_ref().map(|autoscaler| asker(autoscaler, report.workload.as_ref()));
    let asks = |step: &ScaleStep| step.metric == DESIRED_REPLICAS && asker.is_some_and(|asker| same_object(asker, &step.object));
    let any_asks = report.scaling.iter().any(asks);
    let steps: Vec<&ScaleStep> =
        report.scaling.iter().filter(|step| step.metric == READY_REPLICAS || asks(step) || !any_asks).collect();
    if steps.iter().all(|step| step.from.is_none()) {
        return;
    }
    page.heading("Scaling");
    let left_out = steps.len().saturating_sub(STEPS.0 + STEPS.1);
    for (index, step) in steps.iter().enumerate() {
        if left_out > 0 && index == STEPS.0 {
            page.labelled("  ", &format!("... {} in run.json", numbers::plural(left_out as u64, "more change")));
        }
        if left_out > 0 && (STEPS.0..STEPS.0 + left_out).contains(&index) {
            continue;
        }
        let what = if step.metric == READY_REPLICAS { "ready" } else { "wanted" };
        let change = match step.from {
            Some(from) => format!("{} -> {} {what}", numbers::value(from, "1"), numbers::value(step.to, "1")),
            None => format!("{} {what} at first sight", numbers::value(step.to, "1")),
        };
        // What the plan names as under test needs no name here.
        let of = if is(step, &report.workload) || asks(step) { String::new() } else { format!("  {}", step.object) };
        page.labelled(&format!("  t={:<8}", numbers::moment(step.t_s)), &format!("{change}{of}"));
    }
}

fn measurement(page: &mut Page, report: &Report) {
    page.heading("Measurement");
    let certificate = &report.certificate;
    let share = |share: f64| numbers::value(share * 100.0, "%");
    let lateness = &certificate.lateness_ms;
    let mut parts = vec![if certificate.valid { "valid" } else { "NOT VALID" }.to_owned()];
    if let Some(achieved) = certificate.achieved_ratio {
        parts.push(format!("{} of the requests due were sent", share(achieved)));
        parts.push(format!("p99 {} late, at most {}", numbers::value(lateness.p99, "ms"), numbers::value(lateness.max, "ms")));
    }
    if let Some(added) = certificate.added_dispersion {
        // Rounded to what it would be said as, so that nothing at all is zero.
        let added = (added.in_100ms * 100.0).round() / 100.0 + 0.0;
        parts.push(format!("index of dispersion {added:+.2} to what was planned"));
    }
    if certificate.window_us > 0 {
        parts.push(format!("sent together within {}", numbers::value(certificate.window_us as f64 / 1e3, "ms")));
    }
    if let Some(cpu) = certificate.cpu {
        parts.push(format!("busiest worker at {} of a core", share(cpu)));
    }
    let line = parts.join("; ");
    page.labelled("  generator  ", &line);
    for reason in &certificate.reasons {
        page.labelled("             ", reason);
    }
    for gap in report.gaps.iter().take(EVIDENCE) {
        page.labelled(
            "  not seen   ",
            &format!("{} from {} to {}: {}", gap.source, numbers::moment(gap.from_s), numbers::moment(gap.to_s), gap.reason),
        );
    }
    if report.gaps.len() > EVIDENCE {
        page.labelled(
            "             ",
            &format!("and {} in run.json", numbers::plural((report.gaps.len() - EVIDENCE) as u64, "more gap")),
        );
    }
    for bound in &report.bounds {
        page.labelled("  bound      ", bound);
    }
    if report.lost_events > 0 {
        page.labelled("  lost       ", &format!("{} found no room in the recording", numbers::plural(report.lost_events, "event")));
    }
    for torn in &report.torn {
        page.labelled("  recording  ", torn);
    }
    if !report.unknown.is_empty() {
        page.labelled("  recording  ", &format!("holds facts that only a newer squall knows: {}", report.unknown.join(", ")));
    }
}

fn whither(page: &mut Page, report: &Report) {
    page.heading("Next");
    if let Some(folder) = &report.place.folder {
        page.verbatim(&format!("  files      {folder}/"));
        if not_passed(report).next().is_some() {
            let plan = report.plan_file.as_ref().map(|file| format!(" --plan {file}")).unwrap_or_default();
            page.verbatim(&format!("  judge      squall judge {folder}{plan}"));
            page.labelled("             ", "judges this recording again after the plan's assertions were edited");
        }
    }
    if let Some(command) = report.reproduce() {
        page.verbatim(&format!("  again      {command}"));
    }
}

fn not_passed(report: &Report) -> impl Iterator<Item = &Finding> {
    let of = |verdict: Verdict| report.findings.iter().filter(move |finding| finding.verdict == verdict);
    of(Verdict::Fail).chain(of(Verdict::Inconclusive))
}

fn heal(report: &Report) -> String {
    format!("squall heal {}", report.place.folder.as_deref().unwrap_or(&report.run_id))
}

/// A check's name in two lines, broken before its dot.
fn at_dot(name: &str) -> String {
    name.replacen('.', "\n.", 1)
}

/// A value and its interval, one below the other.
fn at_interval(value: &str) -> String {
    value.replacen(" [", "\n[", 1)
}

/// A name that is still too long, broken once more, after the hyphen nearest to the middle of its first line.
fn at_hyphen(name: &str) -> String {
    let first = name.split('\n').next().unwrap_or_default();
    let hyphens = first.match_indices('-').map(|(at, _)| at + 1);
    match hyphens.min_by_key(|at| at.abs_diff(first.len() / 2)) {
        Some(at) => format!("{}\n{}", &name[..at], &name[at..]),
        None => name.to_owned(),
    }
}
