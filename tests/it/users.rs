//! The closed model: users who wait for answers. Method: a real run over loopback against a fake target whose time is known, and what
//! its clock and the recording must then say, by arithmetic.

use std::time::{Duration, Instant};

use squall::plan::{Plan, Rhythm, Think};
use squall::recording::fact::Fact;
use squall::recording::sink::Measure;
use squall::time::{Clock, Offset};
use squall::units::Span;
use squall::verdict::{self, Certificate, Verdict};

use crate::command::wait_until;
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::load::{Drive, LEAD, Ran};

/// How long to wait for what comes in a moment, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const RESTLESS: Rhythm = Rhythm { think: Think::Constant(Span::from_millis(0)), every: None };

/// Goal: each user has one request under way and no more, on a connection of its own, and sends again as soon as there is an answer.
/// How: a server that takes 20 ms for everybody at once, so that 8 users get at most 8 x 2 s / 20 ms answers; on a busy machine fewer,
/// but never more, and the time of all requests together is the users' own.
#[test]
fn users_wait_for_answers() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(20))));
    let drive = Drive { users: Some((8, RESTLESS)), seconds: 2.0, workers: 2, ..Drive::at(target.url()) };
    let ran = drive.run();
    assert_eq!(ran.counts.ok, ran.counts.intended, "{:?}", ran.causes);
    assert!((200..=808).contains(&ran.counts.ok), "{} answers", ran.counts.ok);
    assert_eq!(target.seen().connections, 8);
    assert!(target.seen().others.iter().all(|others| *others <= 7), "nobody sends twice");
    // Little's law, with users who never pause: requests x their time = users x the run.
    // The last request of each ends after the run: by 20 ms, and by what the machine adds at that moment.
    let busy = ran.counts.ok as f64 * ran.histogram(Measure::Response).mean() / 1e6;
    assert!((0.95..1.5).contains(&(busy / 16.0)), "8 users for 2 s were busy for {busy} s");
    // From one request to the next there is nothing that could be late.
    assert!(ran.quantile_ms(Measure::Lateness, 0.5) < 1.0);
}

/// Goal: think time is spent between an answer and the next request, and `every` from request to request. How: the number of requests
/// that fit, which no delay of this machine's can raise.
#[test]
fn users_think_and_keep_their_beat() {
    let thinking = Rhythm { think: Think::Constant(Span::from_millis(80)), every: None };
    let beating = Rhythm { think: Think::default(), every: Some(Span::from_millis(100)) };
    let counts = std::thread::scope(|scope| {
        [thinking, beating]
            .map(|rhythm| {
                scope.spawn(move || {
                    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(20))));
                    Drive { users: Some((5, rhythm)), seconds: 2.0, ..Drive::at(target.url()) }.run().counts
                })
            })
            .map(|run| run.join().expect("the run ends"))
    });
    for counts in counts {
        // One request in each 100 ms, the first of each user somewhere in its first.
        assert!((50..=100).contains(&counts.ok) && counts.ok == counts.intended, "{counts:?}");
    }
}

/// Goal: a door that is closed is found closed again and again, without stopping anybody else, and the load can be stopped. How: nobody
/// listens.
#[test]
fn a_closed_door_stops_nobody() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::ZERO)));
    let url = target.url();
    drop(target);
    let drive = Drive { users: Some((4, RESTLESS)), seconds: 600.0, ..Drive::at(url) };
    let folder = tempfile::tempdir().expect("a folder");
    let began = Instant::now();
    let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |running| {
        let found_closed =
            || std::fs::read_to_string(folder.path().join("recording.jsonl")).ok().filter(|text| text.contains("refused"));
        wait_until(PATIENCE, found_closed).expect("somebody finds it closed");
        running.stop();
    });
    assert!(began.elapsed() < Duration::from_secs(60), "it stops when it is told to");
    let ran = Ran::read(folder.path(), summary);
    assert!(ran.counts.failed > 0 && ran.counts.ok == 0, "{:?}", ran.counts);
}

/// Goal: who reads a percentile of a closed load is told what is not in it, and a claim that only an open load can decide is refused
/// before anything runs.
#[test]
fn what_a_closed_load_cannot_see_is_said() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(1))));
    let ran = Drive { users: Some((4, RESTLESS)), seconds: 1.0, ..Drive::at(target.url()) }.run();
    let plan = |assert: &str, load: &str| {
        let text = format!(
            "plan: p\nclaim: c\ncluster: current\ntarget: {{url: \"{}\", workload: a/deployment/b}}\nphases: [{{name: main, for: 60s}}]\n\
             load: [{{name: users, {load}, request: {{get: /}}}}]\nfaults: [{{name: kill, at: main + 20s, pod_kill: {{pods: 1}}}}]\n\
             assert: [{{name: quick, {assert}}}]\n",
            target.url()
        );
        Plan::read_recorded(&text, &Default::default())
    };
    let claims = plan("slo: {p90: 10s, available: 90%}", "users: 4").unwrap_or_else(|problems| panic!("{problems}")).claims;
    let findings = verdict::judge(&claims, &ran.history);
    let note = "the users of users wait for answers";
    assert_eq!(findings.len(), 2);
    for finding in &findings {
        assert!(finding.notes.iter().any(|said| said.starts_with(note)), "{:?}", finding.notes);
    }

    for (claim, why) in [
        ("fault: kill, resilience: {recover_within: 20s}", "users who wait for answers send nothing then"),
        ("overload: {}", "users who wait for answers ask for no more than they are given"),
        ("threshold: {metric: client.bad_ratio, aggregate: p95, at_most: 0.01}", "a second in which all of them wait has no share"),
    ] {
        let open = plan(claim, "rate: 50/s").unwrap_or_else(|problems| panic!("{problems}")).claims;
        let refused = plan(claim, "users: 4").expect_err("it can never be decided").to_string();
        assert!(refused.contains(why), "{refused}");
        // A recording of users is not judged by it either.
        let judged = verdict::judge(&open, &ran.history);
        assert!(judged.iter().all(|finding| finding.verdict == Verdict::Inconclusive), "{judged:?}");
    }
}

/// Goal: a generator that stood still is not the service's fault, although users who send nothing leave no lateness behind. How: the
/// seconds in which it did not speak of itself are missing from its samples; some are taken out of a good run: in the middle, at the
/// beginning of the window, at its end, and all.
#[test]
fn a_generator_that_says_nothing_of_itself_is_not_believed() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(5))));
    let mut ran = Drive { users: Some((2, RESTLESS)), seconds: 6.0, ..Drive::at(target.url()) }.run();
    let silent = |ran: &Ran| {
        let certificate = Certificate::over(&ran.history, Offset::ZERO, Offset::from_secs_f64(6.0), None);
        certificate.reasons.into_iter().find(|reason| reason.contains("it says nothing of itself for"))
    };
    assert_eq!(silent(&ran), None);
    let whole = ran.history.events.clone();
    for frozen in [2..5, 0..3, 3..9, 0..9] {
        ran.history.events = whole.clone();
        ran.history.events.retain(|event| !matches!(&event.fact, Fact::Generator(sample) if frozen.contains(&sample.second)));
        assert!(silent(&ran).is_some(), "without its words of seconds {frozen:?}");
    }
}

/// Goal: whatever moment a load is stopped at, each request that came due has one end. How: many users with little to think about, so
/// that at any moment some are due, some were handed a request and some are under way; stopped again and again. `Ran::read` counts.
#[test]
fn a_stop_at_any_moment_loses_no_request() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(3))));
    let rhythm = Rhythm { think: Think::Exponential(Span::from_millis(2)), every: None };
    for round in 0..5 {
        let before = target.seen().requests;
        let drive = Drive { users: Some((50, rhythm)), seconds: 600.0, ..Drive::at(target.url()) };
        let folder = tempfile::tempdir().expect("a folder");
        let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |running| {
            wait_until(PATIENCE, || (target.seen().requests > before + 60 * round + 50).then_some(())).expect("requests come");
            running.stop();
        });
        let ran = Ran::read(folder.path(), summary);
        assert!(ran.counts.ok > 0, "{:?}, {:?}", ran.counts, ran.causes);
    }
}
