//! `junit.xml`: one test case per check, in the dialect that Jenkins, GitLab and nextest share. Names hold no numbers and do not
//! repeat, so that a CI system can follow a check from run to run; numbers are properties. What is wrong with the measurement
//! itself is an error and not a failure: the generator's certificate, the proof of the faults, the cleanup and the run's own ending are
//! four cases more.

use std::time::Duration;

use anyhow::Context;
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use crate::exit::Exit;
use crate::recording::fact::HOSTNAME;
use crate::report::{EvidenceRow, Format, Report, numbers, words};
use crate::verdict::{Finding, Verdict};

pub const FORMAT: Format = Format {
    name: "junit",
    file: "junit.xml",
    summary: "one test case per check, for the test pages of CI systems (inconclusive is skipped, a bad measurement is an error)",
    render,
};

/// CI systems refuse huge text nodes.
const TEXT_BYTES: usize = 60 * 1024;

fn render(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut xml = quick_junit::Report::new(format!("squall: {}", report.plan));
    // An unreadable time stamp is left out, as whatever else is missing.
    xml.timestamp = report.started.parse().ok();
    xml.set_time(seconds(report.phases.last().map_or(0.0, |phase| phase.end_s)));
    let mut suites: Vec<TestSuite> = Vec::new();
    for finding in &report.findings {
        let scenario = finding.name.split('.').next().unwrap_or_default();
        let class = format!("{}.{scenario}.{}", report.plan, report.phase_of(finding));
        if suites.last().is_none_or(|suite| suite.name.as_str() != class) {
            suites.push(suite(report, &class));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case(report, finding, &class));
        }
    }
    let class = format!("{}.squall.run", report.plan);
    let mut own = suite(report, &class);
    own.add_test_cases(own_cases(report, &class));
    suites.push(own);
    for suite in &mut suites {
        suite.time = Some(suite.test_cases.iter().filter_map(|case| case.time).sum());
    }
    xml.add_test_suites(suites);
    let mut bytes = Vec::new();
    xml.serialize(&mut bytes).context("write the test report as XML")?;
    Ok(bytes)
}

fn suite(report: &Report, class: &str) -> TestSuite {
    let mut suite = TestSuite::new(class);
    suite.timestamp = report.started.parse().ok();
    if let Some(hostname) = report.environment.get(HOSTNAME) {
        suite.extra.insert("hostname".into(), words::clean(hostname).into());
    }
    for (name, value) in [("run_id", report.run_id.clone()), ("seed", report.seed.to_string()), ("squall", report.squall.clone())] {
        suite.add_property(Property::new(name, value));
    }
    suite
}

fn case(report: &Report, finding: &Finding, class: &str) -> TestCase {
    let status = match finding.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_type(finding.kind.as_str())
                .set_message(words::clean(&finding.reason))
                .set_description(body(report, finding));
            status
        }
        Verdict::Inconclusive => {
            let mut status = TestCaseStatus::skipped();
            status
                .set_type("inconclusive")
                .set_message(words::clean(&format!("inconclusive: {}", finding.reason)))
                .set_description(body(report, finding));
            status
        }
    };
    let mut case = TestCase::new(finding.name.as_str(), status);
    case.set_classname(class).set_time(seconds(finding.window_s[1] - finding.window_s[0]));
    if let Some(file) = &report.plan_file {
        case.extra.insert("file".into(), file.as_str().into());
    }
    case.extra.insert("line".into(), finding.line.to_string().into());
    for (name, value) in
        [("observed", finding.observed), ("limit", finding.limit), ("ci_low", finding.ci_low), ("ci_high", finding.ci_high)]
    {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            case.add_property(Property::new(name, value.to_string()));
        }
    }
    case.add_property(Property::new("unit", finding.unit.as_str()));
    case.add_property(Property::new("n", finding.n.to_string()));
    for detected in &finding.detected {
        case.add_property(Property::new("detected", detected.detector.as_str()));
    }
    case
}

/// The cases about the run itself: always the same four, so that their absence never reads as success.
fn own_cases(report: &Report, class: &str) -> Vec<TestCase> {
    let certificate = &report.certificate;
    let cleanup = report.exit_code == Exit::CleanupNotProven.code();
    let broke = (!report.completed).then(|| format!("the run {}", report.ended));
    [
        ("squall.certificate", (!certificate.valid).then(|| certificate.reasons.join("; "))),
        ("squall.faults", (!report.unproven.is_empty()).then(|| report.unproven.join("; "))),
        ("squall.cleanup", cleanup.then(|| report.exit.reason.clone())),
        ("squall.ending", broke),
    ]
    .into_iter()
    .map(|(name, wrong)| {
        let status = match wrong {
            None => TestCaseStatus::success(),
            Some(reason) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_type(name).set_message(words::clean(&reason));
                status
            }
        };
        let mut case = TestCase::new(name, status);
        case.set_classname(class).set_time(Duration::ZERO);
        case
    })
    .collect()
}

fn body(report: &Report, finding: &Finding) -> String {
    let mut lines = vec![finding.claim.clone()];
    if let Some(observed) = finding.observed {
        let interval = numbers::interval(finding.ci_low, finding.ci_high, &finding.unit).unwrap_or_default();
        lines.push(format!(
            "observed {} {interval} from {}",
            numbers::value_beside(observed, finding.limit, &finding.unit),
            numbers::plural(finding.n, "sample")
        ));
    }
    if let Some(limit) = finding.limit {
        lines.push(format!("limit {} ({})", numbers::value(limit, &finding.unit), finding.limit_source));
    }
    lines.extend(finding.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.evidence_of(&finding.evidence).map(EvidenceRow::sentence));
    for detected in &finding.detected {
        lines.push(format!("detected {}: {}", detected.detector, detected.says));
        lines.push(format!("try: {}", detected.fix));
        lines.extend(report.evidence_of(&detected.evidence).map(EvidenceRow::sentence));
    }
    lines.extend(report.reproduce().map(|command| format!("again: {command}")));
    let mut text = lines.iter().map(|line| words::clean(line)).collect::<Vec<_>>().join("\n");
    if text.len() > TEXT_BYTES {
        let cut = (0..=TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("\n(cut here; run.json has all of it)");
    }
    text
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
