//! Goal: clients that try more than once do so as their plan says, and what they did is told. How: loads over loopback at a server whose
//! answers are known, compared with theory and with the server's own book; and the shipped plan, run by the built binary.

use std::sync::Mutex;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use squall::load::Running;
use squall::plan::{Backoff, Budget, Client, Hedge, Jitter, Patience, Protocol, Retries, Rhythm, Trigger};
use squall::recording::attempts::Attempts;
use squall::recording::sink::Measure;
use squall::recording::{History, Outcome};
use squall::time::{Clock, Offset};
use squall::units::{Ratio, Span};

use crate::command::Squall;
use crate::fake_http2::{BUSY, FakeHttp2, OK, Script, answer};
use crate::fickle_server::{FickleServer, Reply};
use crate::load::{Drive, LEAD, Ran, poisson};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/retries-within-a-budget.yaml");

/// Up to so many attempts, at once one after the other, after whatever went wrong.
fn attempts(attempts: u32) -> Retries {
    Retries {
        attempts,
        on: [Outcome::Rejected, Outcome::Failed, Outcome::TimedOut].map(Trigger::Outcome).to_vec(),
        backoff: Backoff::NONE,
        budget: None,
        retry_after: Patience::Any,
        attempt_timeout: None,
    }
}

fn exactly(wait: Duration) -> Backoff {
    Backoff { base: wait.into(), cap: wait.into(), jitter: Jitter::None }
}

fn retrying(retries: Retries) -> Option<Client> {
    Some(Client { retries: Some(retries), hedge: None })
}

fn hedging(after: Duration, budget: Option<Budget>) -> Option<Client> {
    Some(Client { retries: None, hedge: Some(Hedge { after: after.into(), max: 1, budget }) })
}

fn budget(ratio: f64, burst: u32) -> Option<Budget> {
    Ratio::from_fraction(ratio).map(|ratio| Budget { ratio, burst })
}

/// What was tried, with what is always true of it.
#[track_caller]
fn tried(ran: &Ran) -> Attempts {
    let (from, to) = (Offset::from_secs_f64(-10.0), Offset::from_secs_f64(1e6));
    let attempts = ran.history.attempts(None, from, to).expect("the client tries more than once");
    let known = ran.counts.intended - ran.cause("in-flight bound") - ran.cause("generator late");
    assert_eq!(attempts.begun(), known + attempts.retries + attempts.hedges, "each attempt ends once: {attempts:?}");
    let bad = attempts.begun() - attempts.ok - attempts.cancelled;
    assert_eq!(attempts.causes.values().sum::<u64>(), bad, "{attempts:?}");
    let timed = attempts.sent - attempts.cancelled.min(attempts.sent);
    assert!(ran.histogram(Measure::Attempt).len() >= timed, "the time of each is known that was not given up: {attempts:?}");
    assert_eq!(attempts.ok, ran.counts.ok, "an attempt that is answered ends its request");
    attempts
}

/// Goal: amplification is (1 - p^k) / (1 - p), and p^k of the requests fail all the same. How: a server that draws, with fixed odds,
/// whether an attempt fails. Each retry is one of the N requests whose first j attempts failed, which are a binomial sample of N with
/// p^j; five of its standard deviations either way are missed once in two million.
#[test]
fn amplification_is_that_of_theory_and_of_the_servers_book() {
    let (p, k, n) = (0.4_f64, 4_u32, 4_000_f64);
    let draws = Mutex::new(Pcg64Mcg::seed_from_u64(11));
    let server = FickleServer::start(move |_| {
        let fails = draws.lock().expect("no panic while drawing").random::<f64>() < p;
        Reply::status(if fails { 500 } else { 200 })
    });
    let drive = Drive { rate: 2_000.0, seconds: 2.0, workers: 2, client: retrying(attempts(k)), ..Drive::at(server.url()) };
    let ran = drive.run();
    let attempts = tried(&ran);
    assert_eq!(attempts.sent, server.came().len() as u64, "every attempt comes once");
    assert_eq!((ran.counts.sent as f64, ran.counts.ok + ran.counts.failed), (n, ran.counts.intended), "{:?}", ran.causes);
    assert_eq!(attempts.failed, attempts.retries + ran.counts.failed, "each that failed was tried again, or was the last");
    let within = |seen: u64, share: f64, what: &str| {
        let (mean, deviation) = (n * share, (n * share * (1.0 - share)).sqrt());
        assert!((seen as f64 - mean).abs() <= 5.0 * deviation, "{what}: {seen}, {mean} +- {deviation}");
    };
    within(ran.counts.failed, p.powi(k as i32), "requests that fail");
    let deviations: f64 = (1..k).map(|j| (n * p.powi(j as i32) * (1.0 - p.powi(j as i32))).sqrt()).sum();
    let theory = n * (1.0 - p.powi(k as i32)) / (1.0 - p);
    let seen = attempts.sent as f64;
    assert!((seen - theory).abs() <= 5.0 * deviations, "{seen} attempts, {theory} by theory");
}

/// Goal: a budget caps a storm, by exactly its bound. How: every attempt is refused, so that every request wants a retry, and each token
/// there ever is is spent: 10 at the start and a tenth for each of 1,000 requests, less what a full bucket did not take.
#[test]
fn a_budget_caps_a_storm() {
    let server = FickleServer::start(|_| Reply::status(503));
    let client = |budget| retrying(Retries { budget, ..attempts(5) });
    let drive = |client| Drive { rate: 1_000.0, seconds: 1.0, workers: 2, client, ..Drive::at(server.url()) }.run();
    let (free, bound) = (drive(client(None)), drive(client(budget(0.1, 10))));
    assert_eq!(tried(&free).sent, 5_000, "without a budget, five attempts for each");
    let attempts = tried(&bound);
    assert!((108..=110).contains(&attempts.retries), "{attempts:?}");
    assert_eq!(bound.counts.rejected, 1_000);
    // Whoever was given a retry wanted another, and had no token for it, or was at the end of its attempts.
    assert!((990..=1_000).contains(&attempts.withheld), "{attempts:?}");
}

/// Goal: hedges cut the tail of a server with one slow answer in twenty, by their share of further attempts, and those that lose are
/// given up and counted. How: every twentieth attempt takes two seconds, the others come at once; a hedge is sent after 100 ms. A machine
/// that is so busy that an answer takes 100 ms by itself has more hedges, never fewer.
#[test]
fn hedges_cut_the_tail() {
    let slow = Duration::from_secs(2);
    let answers = move |nth: u64| if nth % 20 == 19 { Reply::status(200).after(slow) } else { Reply::status(200) };
    let drive = |client| {
        let server = FickleServer::start(answers);
        (Drive { rate: 200.0, seconds: 2.0, client, ..Drive::at(server.url()) }.run(), server)
    };
    let (plain, _) = drive(None);
    assert!(plain.quantile_ms(Measure::Response, 0.97) >= 2_000.0, "one in twenty is slow");
    let (hedged, server) = drive(hedging(Duration::from_millis(100), None));
    let attempts = tried(&hedged);
    assert_eq!((hedged.counts.ok, attempts.ok), (400, 400), "{:?}", hedged.causes);
    assert!(hedged.quantile_ms(Measure::Response, 0.97) < 1_900.0, "{}", hedged.quantile_ms(Measure::Response, 0.97));
    assert!(attempts.hedges >= 15 && attempts.hedges_won >= 15, "{attempts:?}");
    assert_eq!(attempts.cancelled, attempts.hedges, "of two attempts of one request, one is given up");
    assert_eq!(attempts.sent, server.came().len() as u64);
}

#[test]
fn hedges_have_a_budget_and_no_more_connections_than_there_are() {
    let server = FickleServer::start(|_| Reply::status(200).after(Duration::from_millis(300)));
    let drive = |client| Drive { rate: 50.0, seconds: 1.0, connections: 64, client, ..Drive::at(server.url()) };
    let ran = drive(hedging(Duration::from_millis(50), budget(0.1, 5))).run();
    let attempts = tried(&ran);
    assert!((8..=10).contains(&attempts.hedges), "5 at once, and a tenth of 50: {attempts:?}");
    assert_eq!((attempts.withheld, ran.counts.ok), (50 - attempts.hedges, 50));
    // Two connections, and both are taken by those who came first.
    let ran = Drive { connections: 2, rate: 4.0, seconds: 0.5, ..drive(hedging(Duration::from_millis(50), None)) }.run();
    let attempts = tried(&ran);
    assert_eq!((attempts.hedges, ran.counts.ok), (2, 2));
    let ran = Drive { connections: 1, ..drive(hedging(Duration::from_millis(50), None)) };
    let ran = Drive { rate: 2.0, seconds: 0.5, ..ran }.run();
    let attempts = tried(&ran);
    assert_eq!((attempts.hedges, attempts.unsent, attempts.causes.get("connection bound")), (1, 1, Some(&1)));
    assert_eq!(ran.counts.ok, 1, "the request itself has its connection");
}

/// Goal: who says when to come again is obeyed, in seconds and by date, up to what the plan says. How: a server that refuses whoever
/// comes first for a path, and the time from then until it comes again.
#[test]
fn retry_after_is_waited_for() {
    let gaps = |header: fn() -> String, retry_after| {
        let server = FickleServer::start(move |nth| match nth {
            0 => Reply::status(503).with(&header()),
            _ => Reply::status(200),
        });
        let client = retrying(Retries { retry_after, ..attempts(3) });
        let ran = Drive { rate: 2.0, seconds: 0.5, client, ..Drive::at(server.url()) }.run();
        let came = server.came();
        (ran.counts.ok, came.get(1).map(|second| second.at.duration_since(came[0].at)), tried(&ran).retries)
    };
    let seconds = || "Retry-After: 1".to_owned();
    let (ok, gap, _) = gaps(seconds, Patience::Any);
    assert!(ok == 1 && gap.is_some_and(|gap| gap >= Duration::from_secs(1)), "{gap:?}");
    // In whole seconds, so that "in three seconds" is between two and three of them away.
    let date = || {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
        format!("Retry-After: {}", then.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"))
    };
    let (ok, gap, _) = gaps(date, Patience::Any);
    assert!(ok == 1 && gap.is_some_and(|gap| gap >= Duration::from_millis(1_900)), "{gap:?}");
    let (ok, gap, retries) = gaps(|| "Retry-After: 3600".to_owned(), Patience::Ignore);
    assert!(ok == 1 && retries == 1 && gap.is_some());
    let (ok, gap, retries) = gaps(seconds, Patience::AtMost(Span::from_millis(500)));
    assert_eq!((ok, gap, retries), (0, None, 0), "whoever is asked for more patience than it has gives up");
    assert_eq!(gaps(|| "Retry-After: 3600".to_owned(), Patience::Any), (0, None, 0), "nor is a retry begun that has no time left");
}

/// Goal: arrivals come as their schedule says, though retries wait. How: each request is refused, and waits for half a second and more
/// for each further attempt, longer than all of the load lasts; were arrivals to wait for that, half of them would be half a second late.
#[test]
fn retries_that_wait_hold_up_no_arrivals() {
    let server = FickleServer::start(|_| Reply::status(503));
    let retries = Retries { backoff: exactly(Duration::from_millis(500)), ..attempts(3) };
    let drive = Drive {
        arrivals: poisson(),
        rate: 300.0,
        seconds: 0.5,
        connections: 512,
        client: retrying(retries),
        ..Drive::at(server.url())
    };
    let ran = drive.run();
    let planned = drive.schedule().count();
    let attempts = tried(&ran);
    assert_eq!((ran.counts.intended, ran.counts.sent, ran.counts.rejected), (planned, planned, planned), "{:?}", ran.causes);
    assert_eq!(attempts.sent, 3 * planned);
    assert!(ran.quantile_ms(Measure::Lateness, 0.5) < 250.0, "{}", ran.quantile_ms(Measure::Lateness, 0.5));
    assert!(ran.quantile_ms(Measure::Response, 0.01) >= 1_000.0, "a user waits for all of it, backoff included");
    assert!(ran.quantile_ms(Measure::Attempt, 0.5) < 500.0, "and no attempt takes so long");
    // All first attempts have come before the first second ones were due.
    let came = server.came();
    assert_eq!(came.len() as u64, 3 * planned);
}

/// Goal: a request that waits to be tried again is in flight. How: 20 requests, each of which waits for a second, and room for 5.
#[test]
fn a_retry_that_waits_keeps_its_place_in_flight() {
    let server = FickleServer::start(|_| Reply::status(503));
    let waiting = Retries { backoff: exactly(Duration::from_secs(1)), ..attempts(2) };
    let drive = Drive { rate: 40.0, seconds: 0.5, in_flight: 5, client: retrying(waiting), ..Drive::at(server.url()) };
    let ran = drive.run();
    assert_eq!((ran.counts.rejected, ran.cause("in-flight bound")), (5, 15), "{:?}", ran.causes);
    assert_eq!(tried(&ran).sent, 10);
}

/// Goal: when a load is stopped nothing more is tried, and who waits ends as its last attempt did. How: waits of a minute, and a stop
/// once every first attempt has come.
#[test]
fn a_load_that_is_stopped_ends_what_waits_as_its_last_attempt_did() {
    let server = FickleServer::start(|_| Reply::status(503));
    let waiting = Retries { backoff: exactly(Duration::from_secs(60)), ..attempts(3) };
    let drive =
        Drive { rate: 40.0, seconds: 0.5, timeout: Duration::from_secs(300), client: retrying(waiting), ..Drive::at(server.url()) };
    let folder = tempfile::tempdir().expect("a folder");
    let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |running: &Running| {
        while server.came().len() < 20 {
            std::thread::yield_now();
        }
        running.stop();
    });
    let ran = Ran::read(folder.path(), summary);
    assert_eq!((ran.counts.intended, ran.counts.rejected), (20, 20), "{:?}", ran.causes);
    assert!(ran.quantile_ms(Measure::Response, 1.0) < 50_000.0);
    assert_eq!((tried(&ran).sent, server.came().len()), (20, 20));
}

/// Goal: an attempt that takes too long is followed by another, within the time of the whole request. How: every first attempt for a
/// connection is never answered.
#[test]
fn an_attempt_has_less_time_than_its_request() {
    let server = FickleServer::start(|nth| if nth % 2 == 0 { Reply::never() } else { Reply::status(200) });
    let one_by_one = Some((1, Rhythm::default()));
    let client = |timeout: u64| retrying(Retries { attempt_timeout: Some(Span::from_millis(timeout)), ..attempts(2) });
    let drive = Drive { users: one_by_one, seconds: 1.0, in_flight: 1, client: client(200), ..Drive::at(server.url()) };
    let ran = drive.run();
    let attempts = tried(&ran);
    assert_eq!((ran.counts.ok, ran.counts.timed_out), (ran.counts.intended, 0), "{:?}", ran.causes);
    assert_eq!((attempts.timed_out, attempts.retries), (ran.counts.ok, ran.counts.ok));
    assert_eq!(attempts.causes.get("no answer in time"), Some(&ran.counts.ok));
    assert!(ran.quantile_ms(Measure::Response, 0.01) >= 200.0);
    // The second attempt is cut by the request's own time.
    let server = FickleServer::start(|_| Reply::never());
    let timeout = Duration::from_millis(500);
    let ran = Drive { rate: 10.0, timeout, client: client(400), ..Drive::at(server.url()) }.run();
    assert_eq!((ran.counts.timed_out, tried(&ran).sent), (5, 10), "{:?}", ran.causes);
    assert!(ran.quantile_ms(Measure::Response, 0.01) >= 500.0);
}

/// Goal: only what the plan names is tried again, and what never left this machine is not. How: a status that is not named, and a port
/// where nobody listens.
#[test]
fn what_the_plan_does_not_name_is_not_tried_again() {
    let server = FickleServer::start(|_| Reply::status(500));
    let only = |on: Trigger| retrying(Retries { on: vec![on], ..attempts(3) });
    let drive = |client| Drive { rate: 20.0, method: "POST", client, ..Drive::at(server.url()) }.run();
    assert_eq!(tried(&drive(only(Trigger::Status(502)))).sent, 10);
    assert_eq!(tried(&drive(only(Trigger::Status(500)))).sent, 30);
    let gone = server.url();
    drop(server);
    let ran = Drive { rate: 20.0, client: only(Trigger::Outcome(Outcome::Failed)), ..Drive::at(gone) }.run();
    let attempts = tried(&ran);
    assert_eq!((ran.counts.failed, ran.counts.sent, attempts.sent), (10, 0, 0), "nobody took a byte");
    assert_eq!((attempts.retries, attempts.causes.get("connection refused")), (20, Some(&30)));
}

/// Goal: users retry and hedge as arrivals do, each with as many connections as that takes. How: three users,
/// whose first requests are answered after five seconds, and all others at once.
#[test]
fn users_hedge_too() {
    let server = FickleServer::start(|nth| match nth {
        0..3 => Reply::status(200).after(Duration::from_secs(5)),
        _ => Reply::status(200),
    });
    let drive = Drive {
        users: Some((3, Rhythm::default())),
        seconds: 1.0,
        in_flight: 3,
        connections: 3,
        workers: 2,
        client: hedging(Duration::from_millis(100), None),
        ..Drive::at(server.url())
    };
    let ran = drive.run();
    let attempts = tried(&ran);
    assert_eq!(ran.counts.ok, ran.counts.intended, "{:?}", ran.causes);
    assert!(attempts.hedges >= 3 && attempts.unsent == 0, "{attempts:?}");
}

/// Goal: over HTTP/2 an attempt that is given up costs its stream and not its connection. How: the first request of a connection is never
/// answered, and the second, its hedge, is.
#[test]
fn over_http2_a_hedge_costs_a_stream() {
    let server = FakeHttp2::start(Script::new(&[], |stream, nth| {
        let answer = if nth == 0 { Vec::new() } else { answer(stream, OK, b"ok") };
        (answer, crate::fake_http2::After::Keep)
    }));
    let drive = Drive {
        protocol: Protocol::Http2,
        connections: 1,
        streams: 8,
        rate: 10.0,
        seconds: 0.5,
        client: hedging(Duration::from_millis(100), None),
        ..Drive::at(format!("http://{}/", server.address))
    };
    let ran = drive.run();
    let attempts = tried(&ran);
    assert_eq!((ran.counts.ok, server.seen().connections), (5, 1), "{:?}", ran.causes);
    assert!(attempts.hedges >= 1 && attempts.hedges_won >= 1 && attempts.cancelled == attempts.hedges, "{attempts:?}");
    assert_eq!(server.seen().resets.len() as u64, attempts.cancelled, "each is told");
}

#[test]
fn over_http2_retry_after_is_waited_for() {
    let server = FakeHttp2::start(Script::new(&[], |stream, nth| {
        (answer(stream, if nth == 0 { BUSY } else { OK }, b"ok"), crate::fake_http2::After::Keep)
    }));
    let drive = Drive {
        protocol: Protocol::Http2,
        connections: 1,
        streams: 8,
        rate: 2.0,
        seconds: 0.5,
        client: retrying(attempts(2)),
        ..Drive::at(format!("http://{}/", server.address))
    };
    let ran = drive.run();
    assert_eq!((ran.counts.ok, tried(&ran).rejected), (1, 1));
    assert!(ran.quantile_ms(Measure::Response, 1.0) >= 1_000.0);
}

/// Goal: a refusal leaves the field to who is still out, and only when all are over is the request tried again. How: a slow refusal, whose
/// hedge is refused at once.
#[test]
fn both_retries_and_hedges_go_together() {
    // A first attempt that is slow and is refused; its hedge is refused at once; the retry is answered.
    let server = FickleServer::start(|nth| match nth {
        0 => Reply::status(503).after(Duration::from_millis(600)),
        1 => Reply::status(503),
        _ => Reply::status(200),
    });
    let client = Client { retries: Some(attempts(2)), ..hedging(Duration::from_millis(100), None).expect("one") };
    let ran = Drive { rate: 2.0, seconds: 0.5, client: Some(client), ..Drive::at(server.url()) }.run();
    let attempts = tried(&ran);
    assert_eq!((ran.counts.ok, attempts.sent, attempts.rejected, attempts.ok), (1, 3, 2, 1), "{attempts:?}");
    assert_eq!((attempts.hedges, attempts.hedges_won, attempts.retries, attempts.cancelled), (1, 0, 1, 0));
    assert!(ran.quantile_ms(Measure::Response, 1.0) >= 600.0, "a refusal leaves the field to who is still out");
}

/// Goal: a step of a flow is tried again like any request, and the run goes on from it. How: the first attempt of all is refused, which
/// without retries would end the first run before its second step.
#[test]
fn a_step_that_was_tried_again_is_followed_by_the_next() {
    let run = |client: &str| {
        let server = FickleServer::start(|nth| Reply::status(if nth == 0 { 503 } else { 200 }));
        let squall = Squall::new();
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: a, for: 2s}}]\nload:\n- name: l\n  rate: 5/s\n{client}  \
             flow: [{{name: login, get: /login}}, {{name: buy, post: /buy}}]\n\
             assert: [{{name: answered, slo: {{available: 50%}}}}]\n",
            server.url()
        );
        squall.file("plan.yaml", &text);
        squall.run(&["run", "plan.yaml", "--seed", "7", "--out", "run"]);
        let history = History::load(&squall.path("run")).expect("a recording");
        let (from, to) = history.whole();
        let skipped: u64 = history.windows.values().flat_map(|tally| tally.skipped.values()).sum();
        (history.counts(None, from, to), history.attempts(None, from, to), skipped)
    };
    let (counts, attempts, skipped) = run("");
    assert_eq!((counts.rejected, attempts, skipped), (1, None, 1));
    let (counts, attempts, skipped) = run("  client: {retries: {attempts: 2, backoff: {base: 5ms}}}\n");
    let attempts = attempts.expect("they were counted");
    assert_eq!((counts.ok, counts.intended, skipped), (20, 20, 0));
    assert_eq!((attempts.sent, attempts.retries, attempts.rejected), (21, 1, 1));
}

/// Goal: the shipped plan holds where it should, and fails where its budget is taken away. How: a server that refuses every other
/// attempt and is slow in one of sixty, and the plan with and without.
#[test]
fn the_shipped_plan_tells_a_budget_from_a_storm() {
    let server = FickleServer::start(|nth| match nth {
        nth if nth % 2 == 0 => Reply::status(503),
        nth if nth % 61 == 0 => Reply::status(200).after(Duration::from_secs(2)),
        _ => Reply::status(200),
    });
    let squall = Squall::new();
    let url = format!("url={}", server.url());
    let explained = squall.run(&["check", "--explain", PLAN, "--set", &url]);
    explained
        .expect(0)
        .saying("this machine")
        .saying("4 in a row x (1 + 1 beside each) = 8")
        .saying("20% of requests + 10")
        .saying("100/s -> 800/s");
    let ran = squall.run(&["run", PLAN, "--set", &url, "--seed", "7", "--out", "run"]);
    ran.expect(0).saying("Attempts of load shoppers").saying("withheld");
    let history = History::load(&squall.path("run")).expect("a recording");
    let (from, to) = history.whole();
    let attempts = history.attempts(None, from, to).expect("they were counted");
    assert!(attempts.withheld > 0 && attempts.retries > 0 && attempts.hedges > 0, "{attempts:?}");
    let run: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(squall.path("run/run.json")).expect("run.json")).expect("JSON");
    let shown = &run["load"][0]["attempts"];
    assert_eq!(shown["sent"], attempts.sent);
    assert!(shown["amplification"].as_f64().is_some_and(|each| each > 1.0 && each < 1.3), "{shown}");
    let storm = std::fs::read_to_string(PLAN).expect("the plan").replace(", budget: 20%", "");
    squall.file("retries-within-a-budget.yaml", &storm);
    squall.run(&["run", "retries-within-a-budget.yaml", "--set", &url, "--seed", "7", "--out", "storm"]).expect(1);
}
