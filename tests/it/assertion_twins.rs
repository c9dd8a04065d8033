//! Each kind of claim has a healthy recording that passes, a broken twin that fails for the named reason, and a starved or blinded one
//! that is inconclusive: an assertion that never blocked anything is decoration.

use squall::kinds::Kind;
use squall::recording::History;
use squall::recording::fact::{Ending, Fact, Outcome, RunEnded};
use squall::verdict::{Claim, Finding, Need, Over, Spec, Verdict, certificate, judge, overall};

use crate::story::{Answer, Story, at, exponential_ms, name, not, object, ok};

pub fn claim(over: Over, key: &str, spec: &str) -> Claim {
    let spec: serde_json::Value = serde_json::from_str(spec).expect("a spec in JSON");
    let spec = Spec::read(key, spec).expect("a kind").expect("a spec of that kind");
    Claim { name: name("it"), over, spec, line: 1 }
}

fn during(phase: &str) -> Over {
    Over::Phase(name(phase))
}

#[track_caller]
fn findings(over: Over, key: &str, spec: &str, history: &History) -> Vec<Finding> {
    let findings = judge(&[claim(over, key, spec)], history);
    assert!(!findings.is_empty());
    for finding in &findings {
        let numbers = [finding.observed, finding.limit, finding.ci_low, finding.ci_high];
        assert!(numbers.iter().flatten().all(|number| number.is_finite()), "{finding:#?}");
        assert!(finding.evidence.len() <= 20 && finding.evidence.iter().all(|n| *n < history.events.len() as u64), "{finding:#?}");
        assert!(!finding.reason.is_empty() && !finding.claim.is_empty(), "{finding:#?}");
    }
    findings
}

/// The check `it.check` ends in `verdict`, and its reason holds `because`.
#[track_caller]
fn expect(findings: &[Finding], check: &str, verdict: Verdict, because: &str) {
    let finding = findings
        .iter()
        .find(|finding| finding.name == format!("it.{check}"))
        .unwrap_or_else(|| panic!("no {check} in {findings:#?}"));
    assert_eq!(finding.verdict, verdict, "{finding:#?}");
    assert!(finding.reason.contains(because), "no {because:?} in {finding:#?}");
}

fn healthy(_: f64, i: u64) -> Answer {
    ok(exponential_ms(i, 20.0))
}

fn steady(rate: u64, seconds: u64, answer: impl FnMut(f64, u64) -> Answer) -> Story {
    let mut story = Story::of("steady", &[("steady", seconds)]);
    story.traffic("steady", rate, answer);
    story
}

// slo

const SLO: &str = r#"{"available": "99%", "p99": "300ms", "p50": "100ms"}"#;

/// Goal: one class can be held to what another does not keep, and all together are what they were. How: critical requests are answered at
/// once, sheddable ones slowly or not at all, in the same seconds.
#[test]
fn a_class_is_judged_by_its_own_requests() {
    let mut story = Story::of("classes", &[("burst", 20)]);
    story.class("critical").traffic("burst", 50, |_, _| ok(20.0));
    story.class("sheddable").traffic("burst", 50, |_, i| if i % 2 == 0 { ok(900.0) } else { not(Outcome::Rejected, 1.0) });
    let history = story.history();
    for (class, verdicts) in [
        (r#", "class": "critical""#, [Verdict::Pass, Verdict::Pass]),
        (r#", "class": "sheddable""#, [Verdict::Fail, Verdict::Fail]),
        ("", [Verdict::Fail, Verdict::Fail]),
    ] {
        let found = findings(during("burst"), "slo", &format!(r#"{{"available": "99%", "p95": "100ms"{class}}}"#), &history);
        assert_eq!(found.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), verdicts, "{class}: {found:#?}");
        let n = if class.is_empty() { 2_000 } else { 1_000 };
        assert_eq!(found[0].n, n, "{class}");
        let spec = format!(r#"{{"metric": "client.goodput", "aggregate": "min", "at_least": 40{class}}}"#);
        let goodput = &findings(during("burst"), "threshold", &spec, &history)[0];
        let expected = if class.contains("sheddable") { (Verdict::Fail, Some(25.0)) } else { (Verdict::Pass, goodput.observed) };
        assert_eq!((goodput.verdict, goodput.observed), expected, "{class}");
    }
}

#[test]
fn slo_passes_a_healthy_service_and_fails_a_slow_or_failing_one() {
    let found = findings(during("steady"), "slo", SLO, &steady(100, 20, healthy).history());
    expect(&found, "available", Verdict::Pass, "0 of 2000");
    expect(&found, "p99", Verdict::Pass, "1% allowed");
    expect(&found, "p50", Verdict::Pass, "50% allowed");

    // One request in twenty is lost or slow, evenly.
    let broken = steady(100, 20, |_, i| match i % 40 {
        0 => not(Outcome::Failed, 1.0),
        1 => not(Outcome::TimedOut, 2000.0),
        2 => ok(900.0),
        _ => ok(exponential_ms(i, 20.0)),
    });
    let found = findings(during("steady"), "slo", SLO, &broken.history());
    expect(&found, "available", Verdict::Fail, "100 of 2000 were not answered as asked (50 failed, 50 timed out");
    expect(&found, "p99", Verdict::Fail, "100 of 1950 took longer than 300ms");
    expect(&found, "p50", Verdict::Pass, "");
}

#[test]
fn slo_without_enough_requests_is_inconclusive_and_says_how_many_are_needed() {
    let found = findings(during("steady"), "slo", SLO, &steady(10, 20, healthy).history());
    expect(&found, "available", Verdict::Inconclusive, "299 requests");
    expect(&found, "p99", Verdict::Inconclusive, "299 requests");
    expect(&found, "p50", Verdict::Pass, "");
    let found = findings(during("steady"), "slo", SLO, &Story::of("idle", &[("steady", 5)]).history());
    expect(&found, "available", Verdict::Inconclusive, "no request was due");
    expect(&found, "p99", Verdict::Inconclusive, "no request was answered");
}

#[test]
fn slo_counts_rejections_as_it_is_told() {
    let story = steady(100, 20, |_, i| if i % 4 == 0 { not(Outcome::Rejected, 2.0) } else { ok(10.0) });
    let found = findings(during("steady"), "slo", r#"{"available": "99%"}"#, &story.history());
    expect(&found, "available", Verdict::Fail, "500 rejected");
    let excluded = r#"{"available": "99%", "rejected": "excluded"}"#;
    let found = findings(during("steady"), "slo", excluded, &story.history());
    expect(&found, "available", Verdict::Pass, "left out");
    let all = steady(100, 20, |_, _| not(Outcome::Rejected, 2.0));
    let found = findings(during("steady"), "slo", excluded, &all.history());
    expect(
        &found,
        "available",
        Verdict::Inconclusive,
        "none of the 2000 requests that were due in this window counts: 2000 were rejected",
    );
    let unsent = steady(100, 20, |_, _| not(Outcome::Unsent, 0.0));
    let found = findings(during("steady"), "slo", excluded, &unsent.history());
    expect(&found, "available", Verdict::Inconclusive, "never sent because a limit of squall's own");
}

/// Goal: value, interval and limit never say the opposite of the verdict. Method: limits all over the distribution, with clustering and
/// with timeouts in it.
#[test]
fn a_percentile_passes_with_its_upper_bound_and_fails_with_its_lower_one() {
    let mut seen = Vec::new();
    let slow_second = |t: f64, i: u64| if (5.0..6.0).contains(&t) { ok(130.0) } else { healthy(t, i) };
    let losing = |_: f64, i: u64| if i.is_multiple_of(60) { not(Outcome::TimedOut, 500.0) } else { healthy(0.0, i) };
    for history in [steady(60, 10, healthy).history(), steady(60, 10, slow_second).history(), steady(60, 10, losing).history()] {
        for limit in [10, 30, 60, 90, 110, 125, 130, 140, 180, 300, 400, 600] {
            let spec = format!(r#"{{"p50": "{limit}ms", "p90": "{limit}ms", "p99": "{limit}ms"}}"#);
            for finding in findings(during("steady"), "slo", &spec, &history) {
                let (low, high) = (finding.ci_low.expect("a lower bound"), finding.ci_high.unwrap_or(f64::MAX));
                let limit = f64::from(limit);
                assert_eq!(finding.verdict == Verdict::Pass, high <= limit, "{finding:#?}");
                // What timed out is slower than any limit, and nobody knows by how much.
                let by_timeouts = finding.verdict == Verdict::Fail && finding.ci_high.is_none();
                assert_eq!(finding.verdict == Verdict::Fail, low > limit || by_timeouts, "{finding:#?}");
                assert!(finding.observed.is_none_or(|value| low <= value && value <= high), "{finding:#?}");
                assert!(finding.observed.is_none_or(|value| finding.verdict != Verdict::Fail || value > limit), "{finding:#?}");
                seen.push(finding.verdict);
            }
        }
    }
    for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
        assert!(seen.contains(&verdict), "{verdict}");
    }
}

#[test]
fn slo_tells_that_requests_waited_for_a_connection_and_judges_them_all_the_same() {
    let bound = |lost| Fact::Bound { what: "connections of load shoppers".into(), limit: 8, lost };
    let judged = |lost: &[u64]| {
        let mut story = steady(100, 20, |_, i| ok(exponential_ms(i, 400.0)));
        for lost in lost {
            story.fact(at(20.0), bound(*lost));
        }
        findings(during("steady"), "slo", SLO, &story.history())
    };
    for finding in judged(&[100, 400]) {
        assert_eq!(
            finding.verdict,
            if finding.name.ends_with("available") { Verdict::Pass } else { Verdict::Fail },
            "{finding:#?}"
        );
        let told =
            finding.notes.iter().any(|note| note.contains("25% of the requests of shoppers waited for one of its 8 connections"));
        assert!(told, "{finding:#?}");
    }
    // One in a hundred is what a burst of a Poisson process does.
    assert!(judged(&[20]).iter().all(|finding| finding.notes.is_empty()));
}

// The generator's own error

#[test]
fn a_frozen_generator_is_inconclusive_wherever_its_backlog_reaches() {
    // Stopped at second 10 for two seconds: what was due then goes out late.
    let frozen = |t: f64, i: u64| {
        let late_ms = if (10.0..12.0).contains(&t) { (12.0 - t) * 1e3 } else { 0.2 };
        Answer { lateness_ms: late_ms, response_ms: late_ms + exponential_ms(i, 20.0), ..ok(0.0) }
    };
    let mut story = Story::of("frozen", &[("early", 8), ("middle", 8), ("late", 8), ("end", 8)]);
    ["early", "middle", "late", "end"].iter().for_each(|phase| _ = story.traffic(phase, 100, frozen));
    let history = story.history();
    for (phase, verdict) in
        [("early", Verdict::Pass), ("middle", Verdict::Inconclusive), ("late", Verdict::Inconclusive), ("end", Verdict::Pass)]
    {
        let found = findings(during(phase), "slo", r#"{"p99": "300ms"}"#, &history);
        expect(&found, "p99", verdict, if verdict == Verdict::Pass { "" } else { "stood still" });
    }
    let claims = [claim(during("early"), "slo", r#"{"p99": "300ms"}"#)];
    let certificate = certificate(&claims, &history);
    assert!(!certificate.valid && certificate.lateness_ms.max >= 1999.0, "{certificate:?}");
    assert_eq!(
        overall(&judge(&claims, &history), &certificate, &history),
        Verdict::Inconclusive,
        "no run passes on such a certificate"
    );
}

/// Goal: users who left since their feed was used up are missing from all that comes after, though they leave no more than a request each
/// behind. How: ten of 40,000 requests, far below what may be kept back, in the first of two phases.
#[test]
fn users_whose_feed_was_used_up_leave_nothing_to_be_judged_after_them() {
    let mut story = Story::of("used-up", &[("before", 10), ("during", 10), ("after", 10)]);
    story.traffic("before", 2_000, healthy).ramp("during", |second| if second < 5 { 2_000 } else { 0 }, healthy);
    story.ramp("after", |_| 400, healthy).by_users(10);
    let slo = r#"{"p99": "300ms", "available": "99%"}"#;
    assert!(findings(during("during"), "slo", slo, &story.history()).iter().all(|finding| finding.verdict == Verdict::Pass));
    (0..10).for_each(|_| _ = story.kept_back("during", 15, "feed used up"));
    let history = story.history();
    for (phase, verdict) in [("before", Verdict::Pass), ("during", Verdict::Inconclusive), ("after", Verdict::Inconclusive)] {
        let says = if verdict == Verdict::Pass { "" } else { "left from 15 s on" };
        let found = findings(during(phase), "slo", slo, &history);
        expect(&found, "p99", verdict, says);
        expect(&found, "available", verdict, if says.is_empty() { "" } else { "`order: sequential`" });
    }
    assert!(!certificate(&[], &history).valid);
}

/// A machine that is in use makes one request in fifty 25 ms late and one in a thousand 200 ms: that is a scheduler, not a stop.
#[test]
fn ordinary_noise_of_a_busy_machine_passes() {
    let noisy = |_: f64, i: u64| {
        let lateness_ms = if i % 1000 == 7 {
            200.0
        } else if i % 50 == 3 {
            25.0
        } else {
            0.3
        };
        Answer { lateness_ms, response_ms: lateness_ms + exponential_ms(i, 20.0), ..ok(0.0) }
    };
    let found = findings(during("steady"), "slo", r#"{"available": "99%", "p99": "300ms"}"#, &steady(100, 30, noisy).history());
    expect(&found, "available", Verdict::Pass, "");
    expect(&found, "p99", Verdict::Pass, "");
}

#[test]
fn a_saturated_or_silent_generator_is_inconclusive() {
    let unsent = steady(100, 20, |_, i| if i % 100 == 0 { not(Outcome::Unsent, 0.0) } else { ok(10.0) });
    expect(&findings(during("steady"), "slo", SLO, &unsent.history()), "p99", Verdict::Inconclusive, "never sent because a limit");
    let late = steady(100, 20, |_, i| Answer { lateness_ms: if i % 20 == 0 { 80.0 } else { 0.1 }, ..ok(90.0) });
    expect(&findings(during("steady"), "slo", SLO, &late.history()), "p99", Verdict::Inconclusive, "late, 10ms is the most");
    let mut lost = steady(100, 20, healthy);
    lost.ends(Some(RunEnded { how: Ending::Completed, lost_events: 3 }));
    expect(&findings(during("steady"), "slo", SLO, &lost.history()), "available", Verdict::Inconclusive, "3 events found no room");
}

#[test]
fn a_run_that_was_killed_or_interrupted_decides_nothing_it_did_not_finish() {
    let mut killed = Story::of("killed", &[("first", 10), ("second", 10)]);
    killed.traffic("first", 100, healthy).traffic("second", 100, healthy).cut(14.0);
    let found = findings(during("second"), "slo", SLO, &killed.history());
    expect(&found, "available", Verdict::Inconclusive, "did not finish (the recording breaks off at 14s");
    let found = findings(during("first"), "slo", SLO, &killed.history());
    expect(&found, "available", Verdict::Inconclusive, "the run was killed");

    killed.ends(Some(RunEnded { how: Ending::Interrupted { signal: "SIGINT".to_owned() }, lost_events: 0 }));
    let found = findings(during("first"), "slo", SLO, &killed.history());
    expect(&found, "available", Verdict::Pass, "");
    let found = findings(during("second"), "slo", SLO, &killed.history());
    expect(&found, "available", Verdict::Inconclusive, "interrupted by SIGINT");
}

// threshold

#[test]
fn threshold_judges_readings_and_what_the_client_saw() {
    let mut story = steady(100, 20, healthy);
    story.sizes(&[(-0.5, 3), (8.0, 2), (10.0, 3)]);
    let history = story.history();
    let of = |spec: &str| findings(during("steady"), "threshold", spec, &history);
    let ready = r#""metric": "shop/deployment/checkout.ready_replicas""#;
    expect(&of(&format!(r#"{{{ready}, "aggregate": "min", "at_least": 2}}"#)), "min", Verdict::Pass, "the min is 2");
    expect(&of(&format!(r#"{{{ready}, "aggregate": "min", "at_least": 3}}"#)), "min", Verdict::Fail, "the min is 2");
    expect(&of(&format!(r#"{{{ready}, "aggregate": "min", "at_least": 3, "tolerate": "15%"}}"#)), "min", Verdict::Pass, "15%");
    expect(&of(&format!(r#"{{{ready}, "aggregate": "mean", "at_least": 2.9}}"#)), "mean", Verdict::Pass, "2.9");
    expect(&of(r#"{"metric": "client.goodput", "aggregate": "min", "at_least": 100}"#), "min", Verdict::Pass, "the min is 100");
    expect(&of(r#"{"metric": "client.in_flight", "aggregate": "max", "at_most": 3}"#), "max", Verdict::Fail, "the max is 4");
    expect(&of(r#"{"metric": "client.lateness_ms", "aggregate": "p95", "at_most": 1}"#), "p95", Verdict::Pass, "");
}

#[test]
fn threshold_counts_no_rates_and_tolerates_as_much_as_it_says() {
    let mut story = steady(100, 10, |_, i| if i % 30 == 0 { not(Outcome::Failed, 1.0) } else { ok(10.0) });
    story.sizes(&[(-0.5, 2), (6.0, 1)]);
    let history = story.history();
    let of = |spec: &str| findings(during("steady"), "threshold", spec, &history);
    let ready = r#""metric": "shop/deployment/checkout.ready_replicas", "aggregate": "min", "at_least": 2"#;
    expect(&of(&format!(r#"{{{ready}, "tolerate": "40%"}}"#)), "min", Verdict::Pass, "the min is 2");
    expect(&of(&format!(r#"{{{ready}, "tolerate": "39%"}}"#)), "min", Verdict::Fail, "the min is 1");
    let grown = r#"{"metric": "client.failed", "aggregate": "increase", "at_most": 2}"#;
    expect(&of(grown), "increase", Verdict::Inconclusive, "no counter");
    let needs = claim(during("steady"), "threshold", grown).spec.needs();
    assert!(matches!(&needs[..], [Need::Never { why }] if why.contains("use `max` or `mean`")), "{needs:?}");
}

#[test]
fn threshold_of_an_object_under_a_load_that_was_not_the_planned_one_blames_nobody() {
    let mut story = steady(100, 20, |_, i| if i % 2 == 0 { not(Outcome::Unsent, 0.0) } else { ok(10.0) });
    story.sizes(&[(-0.5, 3)]);
    let history = story.history();
    let of = |rest: &str| {
        let spec = format!(r#"{{"metric": "shop/deployment/checkout.ready_replicas", {rest}}}"#);
        findings(during("steady"), "threshold", &spec, &history)
    };
    expect(&of(r#""aggregate": "max", "at_least": 5"#), "max", Verdict::Inconclusive, "never sent because a limit");
    expect(&of(r#""aggregate": "min", "at_least": 5"#), "min", Verdict::Inconclusive, "never sent because a limit");
    expect(&of(r#""aggregate": "min", "at_least": 2"#), "min", Verdict::Inconclusive, "never sent because a limit");
    expect(&of(r#""aggregate": "max", "at_most": 2"#), "max", Verdict::Fail, "the max is 3");
}

#[test]
fn threshold_that_was_not_seen_is_inconclusive_unless_what_was_seen_breaks_it() {
    let mut story = steady(100, 20, healthy);
    story.sizes(&[(-0.5, 3), (4.0, 2)]).gap("watch deployments in shop", 6.0, 12.0);
    let history = story.history();
    let of = |spec: &str| findings(during("steady"), "threshold", spec, &history);
    let ready = r#""metric": "shop/deployment/checkout.ready_replicas", "aggregate": "min""#;
    expect(&of(&format!(r#"{{{ready}, "at_least": 2}}"#)), "min", Verdict::Inconclusive, "blind for 6s of 20s");
    expect(&of(&format!(r#"{{{ready}, "at_least": 3}}"#)), "min", Verdict::Fail, "the min is 2");
    let never = of(r#"{"metric": "shop/deployment/checkout.redy_replicas", "aggregate": "min", "at_least": 2}"#);
    expect(&never, "min", Verdict::Inconclusive, "there are ready_replicas, replicas");
    let never = of(r#"{"metric": "client.speed", "aggregate": "min", "at_least": 2}"#);
    expect(&never, "min", Verdict::Inconclusive, "not a metric of the client");
}

// autoscaling

fn burst() -> Story {
    let mut story = Story::of("burst", &[("calm", 10), ("burst", 30), ("after", 20)]);
    story.traffic("calm", 20, healthy).traffic("burst", 100, healthy).traffic("after", 20, healthy);
    story
}

const REACH: &str = r#"{"reach": 5, "within": "auto", "reversals": 0, "at_most": 6}"#;

#[test]
fn autoscaling_passes_one_that_scales_and_shows_its_arithmetic() {
    let mut story = burst();
    story.autoscaler().sizes(&[(-0.5, 1), (14.0, 3), (17.5, 5), (55.0, 1)]).pod("checkout-5d-b", 12.0, 2.0).pod(
        "checkout-5d-c",
        15.5,
        2.0,
    );
    let found = findings(during("burst"), "autoscaling", REACH, &story.history());
    expect(&found, "reach", Verdict::Pass, "came after 7.5s");
    // One decision (1 to 5 pods are 4 more): metric 5 + sync 1 + actuation 2 + ready 2.
    assert_eq!(found[0].limit, Some(10.0), "{found:#?}");
    assert!(found[0].limit_source.contains("pod ready 2s (p95 of 2 pods of this run)"), "{found:#?}");
    expect(&found, "reversals", Verdict::Pass, "0 reversals");
    expect(&found, "at_most", Verdict::Pass, "at most 5");
    // Up in the burst, down after it: the load explains the turn.
    expect(&findings(Over::Run, "autoscaling", r#"{"reversals": 0}"#, &story.history()), "reversals", Verdict::Pass, "0 reversals");
}

#[test]
fn autoscaling_fails_one_that_is_missing_late_or_nervous() {
    let mut missing = burst();
    missing.reading("shop/hpa/checkout", "exists", -0.5, 0.0).reading("shop/deployment/checkout", "ready_replicas", -0.5, 1.0);
    let found = findings(during("burst"), "autoscaling", REACH, &missing.history());
    expect(&found, "reach", Verdict::Fail, "there is no autoscaler shop/hpa/checkout");

    let mut late = burst();
    late.autoscaler().sizes(&[(-0.5, 1), (30.0, 3), (37.0, 5)]).pod("checkout-5d-b", 28.0, 2.0);
    let found = findings(during("burst"), "autoscaling", REACH, &late.history());
    expect(&found, "reach", Verdict::Fail, "came after 27s, later than 10s");

    let mut nervous = burst();
    nervous.autoscaler().sizes(&[(-0.5, 1), (14.0, 5), (20.0, 2), (26.0, 7)]);
    let found = findings(during("burst"), "autoscaling", REACH, &nervous.history());
    expect(&found, "reversals", Verdict::Fail, "2 reversals");
    expect(&found, "at_most", Verdict::Fail, "at most 7 replicas");
}

#[test]
fn autoscaling_that_was_not_seen_or_not_watched_long_enough_is_inconclusive() {
    let mut unseen = burst();
    unseen.sizes(&[(-0.5, 1), (14.0, 5)]);
    expect(&findings(during("burst"), "autoscaling", REACH, &unseen.history()), "reach", Verdict::Inconclusive, "never observed");

    let mut gap = burst();
    gap.autoscaler().sizes(&[(-0.5, 1)]).gap("watch deployments in shop", 12.0, 35.0);
    expect(&findings(during("burst"), "autoscaling", REACH, &gap.history()), "reach", Verdict::Inconclusive, "blind for");

    let mut short = burst();
    short.autoscaler().sizes(&[(-0.5, 1)]);
    let found = findings(during("burst"), "autoscaling", r#"{"reach": 5, "within": "60s"}"#, &short.history());
    expect(&found, "reach", Verdict::Inconclusive, "make the window at least 60s long");

    let mut already = burst();
    already.autoscaler().sizes(&[(-0.5, 6)]);
    expect(
        &findings(during("burst"), "autoscaling", REACH, &already.history()),
        "reach",
        Verdict::Inconclusive,
        "before the window opened",
    );
}

/// Both phases have the same mean rate, and still the load went up and came down again.
#[test]
fn a_ramp_is_a_change_of_the_load() {
    let mut story = Story::of("ramps", &[("up", 10), ("down", 10)]);
    story.ramp("up", |s| 12 + 8 * s as u64, healthy).ramp("down", |s| 84 - 8 * s as u64, healthy);
    story.autoscaler().sizes(&[(-0.5, 1), (4.0, 3), (8.0, 5), (18.0, 1)]);
    let found = findings(Over::Run, "autoscaling", r#"{"reversals": 0}"#, &story.history());
    expect(&found, "reversals", Verdict::Pass, "0 reversals");
    let mut steady = Story::of("flat", &[("up", 10), ("down", 10)]);
    steady.traffic("up", 48, healthy).traffic("down", 48, healthy);
    steady.autoscaler().sizes(&[(-0.5, 1), (4.0, 3), (8.0, 5), (18.0, 1)]);
    let found = findings(Over::Run, "autoscaling", r#"{"reversals": 0}"#, &steady.history());
    expect(&found, "reversals", Verdict::Fail, "1 reversal without");
}

#[test]
fn an_autoscaler_that_somebody_changed_meanwhile_is_not_judged() {
    let changed = |t: f64| {
        let mut story = burst();
        story.autoscaler().sizes(&[(-0.5, 1)]).autoscaler_changes(t, 3);
        story.history()
    };
    let history = changed(22.0);
    let found = findings(during("burst"), "autoscaling", REACH, &history);
    for check in ["reach", "reversals", "at_most"] {
        expect(&found, check, Verdict::Inconclusive, "was changed at 22s, in the middle of the window");
    }
    assert_eq!(found[0].evidence.len(), 2, "its old and its new spec: {found:#?}");
    expect(&findings(during("burst"), "autoscaling", REACH, &changed(5.0)), "reach", Verdict::Fail, "can never be reached");
}

// resilience

fn kill() -> Over {
    Over::Fault(name("kill"))
}

/// 100/s for a minute; a pod killed at 20.3 s; from then on every request fails that `lost` names.
fn killed(lost: impl Fn(f64, u64) -> bool) -> Story {
    let mut story = steady(100, 60, |t, i| if t >= 20.3 && lost(t, i) { not(Outcome::Failed, 1.0) } else { healthy(t, i) });
    story.fault("kill", "pod_kill", 20.3, None).pod("checkout-5d-x", 20.5, 3.0);
    story
}

const RESILIENCE: &str = r#"{"failed": "2%", "recover_within": "10s"}"#;

#[test]
fn resilience_passes_a_service_that_loses_little_and_comes_back() {
    let story = killed(|t, i| t < 22.0 && i % 5 == 0);
    let found = findings(kill(), "resilience", r#"{"failed": "5%", "recover_within": "10s"}"#, &story.history());
    expect(&found, "failed", Verdict::Pass, "of 1200 requests failed");
    expect(&found, "recover_within", Verdict::Pass, "came after 1.7s");
    let unhurt = killed(|_, _| false);
    let found = findings(kill(), "resilience", RESILIENCE, &unhurt.history());
    expect(&found, "recover_within", Verdict::Pass, "came after 0s");
    let found = findings(kill(), "resilience", r#"{"recover_within": "auto"}"#, &unhurt.history());
    assert_eq!(found[0].limit, Some(33.0), "30 s and the 3 s that its pod took: {found:#?}");
}

#[test]
fn resilience_fails_a_service_that_loses_much_or_stays_away() {
    let story = killed(|_, i| i % 5 == 0);
    let found = findings(kill(), "resilience", RESILIENCE, &story.history());
    expect(&found, "failed", Verdict::Fail, "requests failed");
    expect(&found, "recover_within", Verdict::Fail, "did not come within 10s");
    let slow = killed(|t, i| t < 40.0 && i % 5 == 0);
    expect(&findings(kill(), "resilience", RESILIENCE, &slow.history()), "recover_within", Verdict::Fail, "came after 19.7s");
}

#[test]
fn resilience_fails_a_service_that_came_back_only_to_go_again() {
    let story = killed(|t, _| t >= 24.0);
    let found = findings(kill(), "resilience", RESILIENCE, &story.history());
    expect(&found, "recover_within", Verdict::Fail, "did not come within 10s");
    assert!(found[1].notes.iter().any(|note| note.contains("fell again in second 24, before the bound")), "{found:#?}");
    // Back for good only after the bound, which is too late; and lost after it, which is another matter.
    let late = killed(|t, _| (24.0..33.0).contains(&t));
    let found = findings(kill(), "resilience", RESILIENCE, &late.history());
    expect(&found, "recover_within", Verdict::Fail, "came after 12.7s, later than 10s");
    let after = killed(|t, _| t >= 45.0);
    let found = findings(kill(), "resilience", RESILIENCE, &after.history());
    expect(&found, "recover_within", Verdict::Pass, "came after 0s");
    assert!(found[1].notes.iter().any(|note| note.contains("fell again in second 45, after the bound")), "{found:#?}");
}

#[test]
fn a_recovery_whose_bound_outlasts_the_run_is_not_decided() {
    let unhurt = killed(|_, _| false);
    let found = findings(kill(), "resilience", r#"{"recover_within": "45s"}"#, &unhurt.history());
    expect(&found, "recover_within", Verdict::Inconclusive, "whether it stayed is known for only 39.7s of the 45s allowed");
}

#[test]
fn one_bad_second_after_a_recovery_does_not_undo_it() {
    let dip = killed(|t, _| (26.0..27.0).contains(&t));
    let found = findings(kill(), "resilience", RESILIENCE, &dip.history());
    expect(&found, "recover_within", Verdict::Pass, "came after 0s");
    assert!(found[1].notes.iter().any(|note| note.contains("dipped in second 26")), "{found:#?}");
}

/// At 100/s until second 22, and so much after it.
fn killed_before(rate: u64, answer: impl Fn(f64, u64) -> Answer) -> History {
    let mut story = Story::of("kill", &[("steady", 22), ("after", 38)]);
    story.traffic("steady", 100, &answer).traffic("after", rate, &answer);
    story.fault("kill", "pod_kill", 20.3, None).pod("checkout-5d-x", 20.5, 3.0);
    story.history()
}

#[test]
fn a_recovery_that_no_load_or_too_little_of_it_shows_is_not_decided() {
    let dead = |t: f64, i: u64| if t >= 20.3 { not(Outcome::Failed, 1.0) } else { healthy(t, i) };
    let spec = r#"{"recover_within": "10s"}"#;
    expect(&findings(kill(), "resilience", spec, &killed_before(0, dead)), "recover_within", Verdict::Inconclusive, "seen neither");
    let found = findings(kill(), "resilience", spec, &killed_before(1, dead));
    expect(&found, "recover_within", Verdict::Fail, "did not come within 10s");
    // One request a second shows after ten of them that service is back, but not since when.
    let back = |t: f64, i: u64| if (20.3..25.0).contains(&t) { not(Outcome::Failed, 1.0) } else { healthy(t, i) };
    let found = findings(kill(), "resilience", spec, &killed_before(1, back));
    expect(&found, "recover_within", Verdict::Inconclusive, "as close to the bound of 10s as can be seen (to 10s)");
    expect(&findings(kill(), "resilience", spec, &killed_before(20, back)), "recover_within", Verdict::Pass, "came after 4.7s");
}

#[test]
fn a_run_that_was_interrupted_under_a_fault_does_not_judge_it() {
    let mut story = killed(|_, i| i % 10 != 0);
    story.cut(23.0).ends(Some(RunEnded { how: Ending::Interrupted { signal: "SIGINT".to_owned() }, lost_events: 0 }));
    // Healing takes its time after that, and is recorded.
    story.reading("shop/deployment/checkout", "ready_replicas", 40.0, 4.0);
    let found = findings(kill(), "resilience", RESILIENCE, &story.history());
    for check in ["failed", "recover_within"] {
        expect(&found, check, Verdict::Inconclusive, "the window ends at 30.3s, and the run was interrupted by SIGINT at 23s");
    }
    let between = Over::Between("kill".parse().expect("a moment"), "kill + 5s".parse().expect("a moment"));
    expect(&findings(between, "slo", SLO, &story.history()), "available", Verdict::Inconclusive, "interrupted by SIGINT at 23s");
}

#[test]
fn retries_of_pods_that_could_not_be_read_to_the_end_are_not_judged() {
    let counting = |last: i32| {
        let mut story = killed(|_, _| false);
        for second in (0..60).filter(|second| *second < 23 || *second >= last) {
            let operations = f64::from(second) * 100.0;
            for metric in ["dependency_operations_total", "dependency_attempts_total"] {
                story.reading("shop/pod/checkout-5d-a", metric, f64::from(second), operations);
            }
            // Another workload's, which has nothing to do with it.
            story.reading("shop/pod/payments-7c-a", "dependency_operations_total", f64::from(second), operations);
            story.reading("shop/pod/payments-7c-a", "dependency_attempts_total", f64::from(second), operations * 9.0);
        }
        story.gap("scrape shop/checkout-5d-a", 23.0, f64::from(last.min(60)));
        story.history()
    };
    let spec = r#"{"recover_within": "10s", "retry_amplification": 1.2}"#;
    let found = findings(kill(), "resilience", spec, &counting(60));
    expect(&found, "retry_amplification", Verdict::Inconclusive, "scrape shop/checkout-5d-a was blind for 7.3s");
    // A counter that is read again has counted on.
    let found = findings(kill(), "resilience", spec, &counting(28));
    expect(&found, "retry_amplification", Verdict::Pass, "1 per operation");
}

#[test]
fn naive_retries_are_named_as_what_keeps_an_outage_alive() {
    let mut story = killed(|t, _| t < 58.0);
    for second in 0..60 {
        let operations = f64::from(second) * 100.0;
        // Three retries for each operation from the fault on.
        let attempts = operations + f64::from((second - 20).max(0)) * 300.0;
        story.reading("shop/pod/checkout-5d-a", "dependency_operations_total", f64::from(second), operations);
        story.reading("shop/pod/checkout-5d-a", "dependency_attempts_total", f64::from(second), attempts);
    }
    let spec = r#"{"recover_within": "10s", "retry_amplification": 1.2}"#;
    let found = findings(kill(), "resilience", spec, &story.history());
    expect(&found, "retry_amplification", Verdict::Fail, "retries multiply the load by 3.7");
    expect(&found, "recover_within", Verdict::Fail, "retries called the dependency 4 times for each operation");
    let found = findings(kill(), "resilience", r#"{"retry_amplification": 5}"#, &story.history());
    expect(&found, "retry_amplification", Verdict::Pass, "per operation");
    let found = findings(kill(), "resilience", spec, &killed(|_, _| false).history());
    expect(&found, "retry_amplification", Verdict::Inconclusive, "no pod exposed");
}

#[test]
fn resilience_of_a_fault_that_did_nothing_or_of_a_restless_service_is_inconclusive() {
    let mut idle = steady(100, 60, healthy);
    idle.idle_fault("kill", "latency", 20.0, 10.0);
    let found = findings(kill(), "resilience", RESILIENCE, &idle.history());
    expect(&found, "failed", Verdict::Inconclusive, "never proven effective: answers take 4ms");
    expect(&found, "recover_within", Verdict::Inconclusive, "never proven effective");

    let mut restless =
        steady(100, 60, |t, i| if (10.0..15.0).contains(&t) && i % 3 == 0 { not(Outcome::Failed, 1.0) } else { healthy(t, i) });
    restless.fault("kill", "pod_kill", 20.3, None);
    expect(
        &findings(kill(), "resilience", RESILIENCE, &restless.history()),
        "recover_within",
        Verdict::Inconclusive,
        "was not steady",
    );

    let mut soon = steady(100, 60, healthy);
    soon.fault("kill", "pod_kill", 1.5, None);
    expect(
        &findings(kill(), "resilience", RESILIENCE, &soon.history()),
        "recover_within",
        Verdict::Inconclusive,
        "start the fault later",
    );

    let mut starved = steady(3, 60, healthy);
    starved.fault("kill", "pod_kill", 20.3, None);
    let found = findings(kill(), "resilience", RESILIENCE, &starved.history());
    expect(&found, "failed", Verdict::Inconclusive, "149 requests");
    expect(&found, "recover_within", Verdict::Inconclusive, "too few to see");
}

#[test]
fn a_lasting_fault_is_recovered_from_once_it_is_gone() {
    // Slow while it lasts: 300 ms instead of 20, which no answer may take.
    let mut story = steady(100, 60, |t, i| ok(if (20.0..30.0).contains(&t) { 300.0 } else { exponential_ms(i, 20.0) }));
    story.fault("kill", "latency", 20.0, Some(10.0));
    let spec = r#"{"recover_within": "5s", "answer_within": "200ms"}"#;
    let found = findings(kill(), "resilience", spec, &story.history());
    expect(&found, "recover_within", Verdict::Pass, "came after 0s");
    assert_eq!(found[0].window_s, [30.0, 35.0]);
}

// overload

/// Ten seconds at half of a capacity of 100/s, thirty at three times that, twenty at half again.
fn rush(answer: impl FnMut(f64, u64) -> Answer) -> Story {
    let mut story = Story::of("rush", &[("calm", 10), ("rush", 30), ("after", 20)]);
    story.traffic("calm", 50, healthy).traffic("rush", 300, answer).traffic("after", 50, healthy);
    story
}

const OVERLOAD: &str = r#"{"goodput": "90%", "capacity": "100/s", "accepted_p99": "1s", "rejected_p99": "50ms", "retry_after": "required", "recover_within": "10s"}"#;

#[test]
fn overload_passes_a_service_that_refuses_early() {
    let shedding = rush(|_, i| if i % 3 == 0 { ok(100.0 + exponential_ms(i, 50.0)) } else { not(Outcome::Rejected, 2.0) });
    let found = findings(during("rush"), "overload", OVERLOAD, &shedding.history());
    for check in ["goodput", "queue", "abandoned", "accepted_p99", "rejected_p99", "retry_after", "recover_within"] {
        expect(&found, check, Verdict::Pass, "");
    }
}

/// The latency of arrival `t` of a queue without a bound at three times its capacity grows by two seconds a second; the client waits for
/// `patience` seconds.
fn unbounded(patience: f64) -> Story {
    rush(move |t, _| {
        let waits = (t - 10.0) * 2.0;
        if waits < patience { ok(waits * 1e3 + 10.0) } else { not(Outcome::TimedOut, patience * 1e3) }
    })
}

#[test]
fn overload_fails_an_unbounded_queue_by_its_growing_wait() {
    let found = findings(during("rush"), "overload", OVERLOAD, &unbounded(2.0).history());
    expect(&found, "queue", Verdict::Fail, "waited until they timed out");
    expect(&found, "abandoned", Verdict::Fail, "bound the queue and answer 503");
    expect(&found, "accepted_p99", Verdict::Fail, "took longer than 1s");
    expect(&found, "goodput", Verdict::Fail, "goodput collapses under overload");
    expect(&found, "rejected_p99", Verdict::Inconclusive, "there were none in this window");
    let found = findings(during("rush"), "overload", OVERLOAD, &unbounded(1e3).history());
    expect(&found, "queue", Verdict::Fail, "it keeps growing");
}

/// The client gave up after two seconds: how long the service would have taken is not known, and three seconds are not kept by it.
#[test]
fn what_timed_out_is_slower_than_any_limit() {
    let history = unbounded(2.0).history();
    let found = findings(during("rush"), "overload", r#"{"capacity": "100/s", "accepted_p99": "3s"}"#, &history);
    expect(&found, "accepted_p99", Verdict::Fail, "longer than 2s");
    let p99 = found.iter().find(|finding| finding.name == "it.accepted_p99").expect("the check");
    assert_eq!((p99.observed, p99.ci_high), (None, None), "{p99:#?}");
    expect(&findings(during("rush"), "slo", r#"{"p99": "3s"}"#, &history), "p99", Verdict::Fail, "longer than 2s");
    let queue = found.iter().find(|finding| finding.name == "it.queue").expect("the check");
    assert_eq!(
        (queue.verdict, queue.limit),
        (Verdict::Fail, None),
        "no limit is beside what failed for another reason: {queue:#?}"
    );
}

#[test]
fn overload_without_load_after_it_shows_no_recovery() {
    let mut story = Story::of("rush", &[("calm", 10), ("rush", 30), ("after", 20)]);
    story.traffic("calm", 50, healthy).traffic("rush", 300, |_, _| not(Outcome::TimedOut, 2000.0));
    let found = findings(during("rush"), "overload", OVERLOAD, &story.history());
    expect(&found, "recover_within", Verdict::Inconclusive, "was seen neither to come and stay for 3s nor to stay away for 10s");
}

#[test]
fn a_goodput_of_two_seconds_has_no_bounds() {
    let mut story = Story::of("short", &[("calm", 10), ("rush", 2)]);
    story.traffic("calm", 100, healthy).traffic("rush", 300, healthy);
    let found = findings(during("rush"), "overload", "{}", &story.history());
    expect(&found, "goodput", Verdict::Inconclusive, "fewer than three whole seconds");
}

#[test]
fn overload_that_was_none_or_was_not_compared_is_inconclusive() {
    let mut mild = Story::of("mild", &[("calm", 10), ("rush", 30)]);
    mild.traffic("calm", 100, healthy).traffic("rush", 100, healthy);
    let found = findings(during("rush"), "overload", r#"{"accepted_p99": "1s"}"#, &mild.history());
    expect(&found, "goodput", Verdict::Inconclusive, "this was no overload");
    let mut alone = Story::of("alone", &[("rush", 30)]);
    alone.traffic("rush", 300, healthy);
    let found = findings(during("rush"), "overload", r#"{"accepted_p99": "1s"}"#, &alone.history());
    expect(&found, "goodput", Verdict::Inconclusive, "give `capacity`");
}

// Windows

#[test]
fn a_window_between_moments_is_judged_on_what_really_happened() {
    let story = killed(|t, _| t < 22.0);
    let between = |from: &str, to: &str| Over::Between(from.parse().expect("a moment"), to.parse().expect("a moment"));
    let spec = r#"{"available": "99%"}"#;
    let found = findings(between("kill.effective + 2s", "steady.end"), "slo", spec, &story.history());
    expect(&found, "available", Verdict::Pass, "0 of 3800");
    assert_eq!(found[0].window_s, [22.4, 60.0]);
    assert!(found[0].notes.iter().any(|note| note.contains("whole seconds")), "{found:#?}");
    expect(&findings(between("kill", "kill + 2s"), "slo", spec, &story.history()), "available", Verdict::Fail, "");
    expect(
        &findings(between("steady.end", "steady"), "slo", spec, &story.history()),
        "available",
        Verdict::Inconclusive,
        "is empty",
    );
    assert_eq!(story.history().fault(&name("kill")).and_then(|fault| fault.injected).map(|(_, t)| t), Some(at(20.3)));
    assert!(story.history().metrics_of(&object("shop/pod/none")).is_empty());
}
