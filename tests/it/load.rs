//! The load engine against known answers and bad servers. Method: a real run over loopback against a fake target with a dial, its
//! recording read back, and the numbers compared with theory, or the outcomes and causes with what the server is known to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use squall::answers::Wanted;
use squall::load::{self, Job, Summary};
use squall::names::Name;
use squall::plan::{Arrivals, Client, Generator, Level, Load, Model, Pacing, PhaseRate, Protocol, Request, Rhythm, Rotation, Talk};
use squall::protocol::{Addresses, Destination, Tls, Trust};
use squall::proxy::Proxy;
use squall::recording::fact::{Counts, Ending, Fact, LoadLine, PhaseSpan, RunEnded, RunStarted};
use squall::recording::sink::Measure;
use squall::recording::writer::Recording;
use squall::recording::{History, Outcome, Sink};
use squall::schedule::{Crowd, RatePiece, Schedule, Traffic};
use squall::time::{Clock, Offset};
use squall::tls::Authorities;
use squall::units::{Rate, Span, Users};
use squall::varying::{LOCATION, Varying};

use crate::fake_target::{Dial, FakeTarget, Then, Timing};

/// How long before the first request the clock starts: enough for the workers to be ready on a busy machine.
pub const LEAD: Duration = Duration::from_millis(300);

/// A load to be driven at a target, with what most tests want.
#[derive(Clone)]
pub struct Drive {
    pub url: String,
    pub tls: Tls,
    pub arrivals: Arrivals,
    pub rate: f64,
    /// In place of a rate: so many users, and when each sends again.
    pub users: Option<(u32, Rhythm)>,
    pub seconds: f64,
    pub method: &'static str,
    pub body: &'static str,
    pub wanted: Wanted,
    pub timeout: Duration,
    pub protocol: Protocol,
    pub talk: Talk,
    pub connections: u32,
    pub streams: u32,
    pub in_flight: u32,
    pub workers: u32,
    pub pacing: Pacing,
    pub rotation: Rotation,
    pub client: Option<Client>,
    /// Where it goes; to the URL's port on 127.0.0.1 unless said otherwise.
    pub addresses: Option<Addresses>,
    pub proxy: Option<Proxy>,
    pub seed: u64,
}

impl Drive {
    pub fn at(url: impl Into<String>) -> Drive {
        Drive {
            url: url.into(),
            tls: Tls::default(),
            arrivals: Arrivals::default(),
            rate: 50.0,
            users: None,
            seconds: 0.5,
            method: "GET",
            body: "",
            wanted: Wanted::default(),
            timeout: Duration::from_secs(20),
            protocol: Protocol::Http1,
            talk: Talk::Http,
            connections: 64,
            streams: 1,
            in_flight: 10_000,
            workers: 1,
            pacing: Pacing::default(),
            rotation: Rotation::NEVER,
            client: None,
            addresses: None,
            proxy: None,
            seed: 1,
        }
    }

    fn load(&self) -> Load {
        let rate = PhaseRate::Steady(Rate::per_second_of(self.rate).expect("a rate"));
        let model = match self.users {
            None => Model::Open { arrivals: self.arrivals.clone(), rate: BTreeMap::from([(name("main"), rate)]) },
            Some((users, rhythm)) => {
                Model::Closed { users: BTreeMap::from([(name("main"), Level::Steady(Users::of(users)))]), rhythm }
            }
        };
        Load {
            name: name("users"),
            model,
            flows: Vec::new(),
            varying: Varying {
                told: self.wanted.saves.iter().map(|save| save.name.clone()).chain([LOCATION.to_owned()]).collect(),
                ..Varying::default()
            },
            request: Request {
                method: self.method.to_owned(),
                path: match &self.talk {
                    Talk::Http | Talk::WebSocket(_) => "/".to_owned(),
                    Talk::Grpc(call) => call.method.path(),
                },
                headers: Vec::new(),
                body: self.body.as_bytes().to_vec(),
                timeout: Span::from(self.timeout),
                wanted: self.wanted.clone(),
                talk: self.talk.clone(),
            },
            protocol: self.protocol,
            connections: self.connections,
            streams: self.streams,
            in_flight: self.in_flight,
            rotation: self.rotation,
            client: self.client.clone(),
        }
    }

    pub fn schedule(&self) -> Schedule {
        Schedule::new(self.arrivals.clone(), &[self.piece(self.rate)], self.seed)
    }

    fn traffic(&self) -> Traffic {
        match self.users {
            None => Traffic::Open(self.schedule()),
            Some((users, rhythm)) => Traffic::Closed(Crowd::new(&[self.piece(f64::from(users))], rhythm, self.seed)),
        }
    }

    fn piece(&self, level: f64) -> RatePiece {
        let end = Offset::from_secs_f64(self.seconds);
        RatePiece { phase: name("main"), start: Offset::ZERO, end, from: level, to: level }
    }

    fn job(&self) -> Job {
        let destination = Destination::read(&self.url, self.tls.clone()).expect("a URL");
        let port = self.proxy.as_ref().map_or(destination.port, |proxy| proxy.port);
        let usual = || Addresses::of([SocketAddr::from(([127, 0, 0, 1], port))]);
        let addresses = self.addresses.clone().unwrap_or_else(usual);
        Job {
            destination: Destination { addresses, proxy: self.proxy.clone(), ..destination },
            identity_header: "x-pod".to_owned(),
            loads: vec![(self.load(), self.traffic())],
            generator: Generator { workers: Some(self.workers), pacing: self.pacing },
        }
    }

    /// Drives it to its end.
    pub fn run(&self) -> Ran {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = self.run_into(folder.path(), Clock::starting_in(LEAD), |_| {});
        Ran::read(folder.path(), summary)
    }

    /// Drives it with its recording in `folder`; `meanwhile` is called once the load is under way.
    pub fn run_into(&self, folder: &Path, clock: Clock, meanwhile: impl FnOnce(&load::Running)) -> Summary {
        let (sink, recording): (Sink, Recording) = Recording::create(folder, clock, self.started()).expect("a recording");
        let mut running = load::start(self.job(), sink).expect("the load starts");
        meanwhile(&running);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let patience = LEAD + Duration::from_secs_f64(self.seconds) + self.timeout + Duration::from_secs(30);
        let summary = runtime
            .block_on(async { tokio::time::timeout(patience, running.finished()).await })
            .expect("a load ends by itself within a timeout of its last request");
        recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).expect("the recording is whole");
        summary
    }

    fn started(&self) -> RunStarted {
        RunStarted {
            schema: squall::recording::fact::SCHEMA.to_owned(),
            run_id: "test".to_owned(),
            squall: "0".to_owned(),
            plan: "test".to_owned(),
            claim: String::new(),
            seed: self.seed,
            params: BTreeMap::new(),
            zero: String::new(),
            target: self.url.clone(),
            workload: None,
            autoscaler: None,
            phases: vec![PhaseSpan { name: name("main"), start: Offset::ZERO, end: Offset::from_secs_f64(self.seconds) }],
            loads: vec![LoadLine {
                name: name("users"),
                method: self.method.to_owned(),
                path: "/".to_owned(),
                timeout_ns: self.timeout.as_nanos() as u64,
                intended: match self.traffic() {
                    Traffic::Open(schedule) => BTreeMap::from([(name("main"), schedule.count())]),
                    Traffic::Closed(_) => BTreeMap::new(),
                },
                users: self.users.into_iter().map(|(users, _)| (name("main"), [users; 2])).collect(),
                classes: Vec::new(),
                flows: Vec::new(),
                attempts: self.client.as_ref().map(Client::worst),
            }],
            faults: Vec::new(),
            environment: BTreeMap::new(),
        }
    }
}

/// A run that ended, as its recording tells it.
pub struct Ran {
    pub history: History,
    pub summary: Summary,
    pub counts: Counts,
    pub causes: BTreeMap<String, u64>,
}

impl Ran {
    /// Reads the recording and holds the one thing that is always true: every request ended exactly once.
    #[track_caller]
    pub fn read(folder: &Path, summary: Summary) -> Ran {
        let history = History::load(folder).expect("the recording can be read");
        assert_eq!(history.torn, Vec::<String>::new());
        assert_eq!(summary.broken, None);
        let (from, to) = (Offset::from_secs_f64(-10.0), Offset::from_secs_f64(1e6));
        let counts = history.counts(None, from, to);
        let mut causes: BTreeMap<String, u64> = BTreeMap::new();
        for tally in history.windows.values() {
            tally.causes.iter().for_each(|(cause, count)| *causes.entry(cause.clone()).or_default() += count);
        }
        assert_eq!(counts.intended, counts.ended(), "every request ends in exactly one outcome: {counts:?}, {causes:?}");
        assert_eq!(counts, summary.loads[0].1, "the summary says what the recording says");
        assert_eq!(causes, summary.causes);
        let excused: u64 = causes.values().sum();
        assert_eq!(excused, counts.intended - counts.ok, "all that is not ok has a cause: {causes:?}");
        let ran = Ran { history, summary, counts: counts.clone(), causes };
        assert_eq!(ran.histogram(Measure::Lateness).len(), counts.sent, "lateness is known of all that was sent");
        assert_eq!(ran.histogram(Measure::Service).len(), counts.sent);
        assert_eq!(ran.histogram(Measure::Response).len(), counts.intended - counts.unsent);
        let first = ran.histogram(Measure::FirstByte);
        assert!((counts.ok..=counts.sent).contains(&first.len()), "{} first bytes of {counts:?}", first.len());
        assert!(first.max() <= ran.histogram(Measure::Service).max(), "the first byte does not come after the last");
        let sent_to: u64 = ran.history.windows.values().flat_map(|tally| tally.sent_to.values()).sum();
        assert_eq!(sent_to, counts.sent, "what was sent was sent somewhere");
        ran
    }

    pub fn histogram(&self, measure: Measure) -> hdrhistogram::Histogram<u64> {
        let (from, to) = (Offset::from_secs_f64(-10.0), Offset::from_secs_f64(1e6));
        self.history.histogram(None, &Outcome::ALL, measure, from, to)
    }

    pub fn quantile_ms(&self, measure: Measure, quantile: f64) -> f64 {
        squall::verdict::statistics::value_at(&self.histogram(measure), quantile) as f64 / 1e3
    }

    /// What the recording says that this bound cost.
    pub fn lost_to(&self, bound: &str, at: u64) -> u64 {
        let lost = |fact: &Fact| match fact {
            Fact::Bound { what, limit, lost } if what == bound && *limit == at => *lost,
            _ => 0,
        };
        self.history.events.iter().map(|event| lost(&event.fact)).sum()
    }

    pub fn cause(&self, cause: &str) -> u64 {
        self.causes.get(cause).copied().unwrap_or(0)
    }
}

/// Trusts the authorities in a file as well.
pub fn trusting(pem: &Path) -> Trust {
    let bytes = std::fs::read(pem).expect("a file");
    Trust::Verified { extra: Some(Authorities::of_pem("ca.pem", &bytes).expect("an authority")) }
}

/// Arrivals that know nothing of one another.
pub fn poisson() -> Arrivals {
    "poisson".parse().expect("an arrival process")
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// What is done to a request, and what it must end as: an outcome, with a cause where it is not `ok`.
pub type Case = (Dial, Outcome, Option<&'static str>);

/// Checks the cases side by side: nearly all of their time is waiting.
#[track_caller]
pub fn check(cases: Vec<Case>) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let checks: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || mismatch(case))).collect();
        checks.into_iter().filter_map(|check| check.join().expect("the run ends")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Why the requests of a case did not all end as they must.
fn mismatch((dial, outcome, cause): Case) -> Option<String> {
    let target = FakeTarget::start(dial.clone());
    // Nobody waits for it but those who must time out.
    let timeout = if outcome == Outcome::TimedOut { Duration::from_millis(600) } else { Duration::from_secs(10) };
    let ran = Drive { timeout, ..Drive::at(target.url()) }.run();
    // On a busy machine an answer may take longer than the timeout; nothing else may come in between.
    let late = if outcome == Outcome::TimedOut { 0 } else { ran.counts.timed_out };
    let as_expected = ran.counts.intended == 25
        && late <= 5
        && ran.counts.of(outcome) + late == 25
        && cause.is_none_or(|cause| ran.cause(cause) + late == 25);
    let reply = String::from_utf8_lossy(&dial.reply[..dial.reply.len().min(80)]).into_owned();
    (!as_expected).then(|| format!("{reply:?} {:?}: {:?}, {:?}", dial.then, ran.counts, ran.causes))
}

/// Goal: a stall is seen in full by whoever would have come during it, however few connections there are (patterns C4). How: a
/// server answers in 1 ms for ten seconds, then holds everything for ten more and releases it together; 100 requests a second. For
/// q > 1/2 the truth is 10.001 s - (1 - q) 20 s; a client that waits for replies would report 1 ms up to p99.9.
///
/// Why p49 stands for p50: the thousandth of two thousand is the very slowest of the fast half, the one that a busy machine delays
/// most; one per cent lower, at least twenty would have to be delayed.
/// Why 20 ms: a request due every 10 ms moves a quantile by 10 ms, which leaves 10 ms for timers. On top of that comes what both
/// sides of the wire need to work off a thousand requests at once: 25 us each on a quiet machine, and more on a busy one, as the
/// server's own clock tells: half of the requests that it answers at once come back within what it took itself, which on one connection
/// adds up where each exchange takes longer than the 10 ms to the next. A connection's next request is sent when the answer before was read, so the (k + c)-th departure over c
/// connections comes after the k-th answer was read. And where this machine starves the generator while it sends, its error is what its
/// own certificate admits: the p99 of lateness, once for sending and once for reading, which the same thread does. None of this
/// loosens the lower bound, below which a stall would be hidden.
#[test]
fn a_stall_is_seen_in_full_with_one_connection_and_with_many() {
    let seconds = 20.0;
    let begin = Instant::now() + LEAD;
    let opens = begin + Duration::from_secs_f64(seconds);
    let closes = begin + Duration::from_secs_f64(seconds / 2.0);
    let run = |connections: u32| {
        let target = FakeTarget::start(Dial::good(Timing::Gate { usual: Duration::from_millis(1), closes, opens }));
        let drive = Drive { rate: 100.0, seconds, connections, timeout: Duration::from_secs(60), ..Drive::at(target.url()) };
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::starting_in(begin.saturating_duration_since(Instant::now()));
        let ran = Ran::read(folder.path(), drive.run_into(folder.path(), clock, |_| {}));
        (connections, ran, target.seen())
    };
    let runs = std::thread::scope(|scope| {
        let runs = [1, 64].map(|connections| scope.spawn(move || run(connections)));
        runs.map(|run| run.join().expect("the run ends"))
    });
    for (connections, ran, seen) in runs {
        assert_eq!(ran.counts.ok, 2000, "{connections} connections: {:?}", ran.causes);
        assert!(seen.connections <= u64::from(connections), "{} connections opened of {connections}", seen.connections);
        // The wait for a connection that the server holds is the server's doing: the certificate must not blame the generator.
        let lateness = ran.quantile_ms(Measure::Lateness, 0.99);
        let released: Vec<f64> =
            seen.departures.iter().filter(|at| **at >= opens).map(|at| (*at - opens).as_secs_f64() * 1e3).collect();
        let mut own: Vec<f64> =
            seen.departures.iter().zip(0..).map(|(at, n)| (*at - begin).as_secs_f64() * 1e3 - f64::from(n) * 10.0).collect();
        own.sort_by(f64::total_cmp);
        assert!(released.len() >= 1000 && released[999] <= 1_000.0, "the release took {:?} ms", released.last());
        for (quantile, truth_ms) in [(0.49, 1.0), (0.75, 5_001.0), (0.9, 8_001.0), (0.99, 9_801.0), (0.999, 9_981.0)] {
            let got = ran.quantile_ms(Measure::Response, quantile);
            // The longer a request waited, the earlier it left: (1 - q) 2,000 of them left before it.
            let before = ((1.0 - quantile) * 2_000.0) as usize;
            let read = if quantile > 0.5 { released[before + connections as usize] } else { own[2_000 - before] };
            println!("p{} with {connections} connections: {got} ms, truth {truth_ms} ms", quantile * 100.0);
            assert!(
                (truth_ms - 20.0..=truth_ms + 20.0 + read + 2.0 * lateness).contains(&got),
                "p{} with {connections} connections: {got} ms, truth {truth_ms} ms; {read} ms of it is the server's, \
                 lateness p99 {lateness} ms",
                quantile * 100.0
            );
        }
        assert!(lateness < 1_000.0, "{connections} connections: lateness p99 {lateness} ms");
    }
}

/// Goal: the loop is open: what the server does changes nothing about when requests come. How: a server without a queue holds each
/// request for 100 or 300 ms (M/G/inf); the requests in it are then Poisson with mean rate x mean time = 40, whatever the
/// distribution, and Little's law ties what the server counts to what the client times.
///
/// Why these bounds: the number in service forgets itself in about 0.2 s, so 10 s hold about 25 independent looks at it: the mean
/// is known to sqrt(40 / 25) = 1.3 (we allow 6), the variance to 28 % (we allow a factor of 2.5). A pool of 64 clients that wait for
/// replies, the usual wrong loop, would hold a dispersion near 0. Little's law is an identity, so 5 % is all for timers.
#[test]
fn the_loop_is_open() {
    let timing = Timing::Either { short: Duration::from_millis(100), long: Duration::from_millis(300), seed: 3 };
    let target = FakeTarget::start(Dial::good(timing));
    let drive = Drive { arrivals: poisson(), rate: 200.0, seconds: 10.0, connections: 1024, ..Drive::at(target.url()) };
    let ran = drive.run();
    assert_eq!(ran.counts.ok, drive.schedule().count(), "{:?}", ran.causes);
    let seen = target.seen();
    // The first second fills the server.
    let others: Vec<f64> = seen.others.iter().skip(200).map(|n| *n as f64).collect();
    let mean = others.iter().sum::<f64>() / others.len() as f64;
    let variance = others.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / others.len() as f64;
    assert!((mean - 40.0).abs() <= 6.0, "mean in service {mean}, theory 40");
    assert!((0.4..=2.5).contains(&(variance / mean)), "dispersion of the number in service {}", variance / mean);

    let span = *seen.departures.last().expect("it served") - seen.first.expect("it served");
    let in_service = seen.busy.as_secs_f64() / span.as_secs_f64();
    let time = ran.histogram(Measure::Service).mean() / 1e6;
    let by_little = ran.counts.ok as f64 / span.as_secs_f64() * time;
    assert!((in_service - by_little).abs() / by_little <= 0.05, "counted {in_service}, by Little's law {by_little}");
}

#[test]
fn good_answers_are_ok_however_they_are_framed() {
    let ok = |reply: &str, then: Then| (Dial::says(reply, then), Outcome::Ok, None);
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000));
    check(vec![
        ok("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep),
        ok("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", Then::Keep),
        ok("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Then::Keep),
        ok("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Keep),
        ok("HTTP/1.1 200 OK\r\n\r\nuntil the end", Then::Close),
        ok("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close),
        ok("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", Then::Close),
        // Closed without a word: the next request finds out before it is sent.
        ok("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close),
        // More than was asked for: this answer counts, and the rest is not taken for the next one.
        ok("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Then::Keep),
        ok(&long, Then::Keep),
    ]);
}

#[test]
fn statuses_are_sorted() {
    let status = |line: &str| Dial::says(&format!("HTTP/1.1 {line}\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"), Then::Keep);
    check(vec![
        (status("503 Busy"), Outcome::Rejected, Some("status 503")),
        (status("429 Slow Down"), Outcome::Rejected, Some("status 429")),
        (status("500 Oops"), Outcome::Failed, Some("status 500")),
        (status("404 Not Found"), Outcome::Failed, Some("status 404")),
    ]);

    let target = FakeTarget::start(status("503 Busy"));
    let ran = Drive::at(target.url()).run();
    let retry_after: u64 = ran.history.windows.values().map(|tally| tally.retry_after).sum();
    assert_eq!(retry_after, 25);
}

#[test]
fn each_bad_server_is_named_for_what_it_did() {
    let fails = |reply: &str, then: Then, cause: &'static str| (Dial::says(reply, then), Outcome::Failed, Some(cause));
    check(vec![
        fails("SSH-2.0-OpenSSH_9.9\r\n", Then::Keep, "garbage"),
        fails("\0\x01\x02", Then::Keep, "garbage"),
        fails("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", Then::Keep, "garbage"),
        fails("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", Then::Keep, "garbage"),
        fails("", Then::Close, "closed before an answer"),
        fails("HTTP/1.1 200 OK\r\nContent-", Then::Close, "closed mid-head"),
        fails("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", Then::Close, "closed mid-body"),
        fails("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Then::Close, "closed mid-body"),
        fails("", Then::Reset, "reset"),
        fails("HTTP/1.1 200 OK\r\n", Then::Repeat(b"x-more: and more\r\n".repeat(50)), "head too large"),
        fails("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Then::Keep, "body too large"),
    ]);
}

#[test]
fn who_does_not_answer_in_time_times_out() {
    let late = |dial: Dial, cause: &'static str| (dial, Outcome::TimedOut, Some(cause));
    check(vec![
        late(Dial::good(Timing::Never), "no answer in time"),
        late(Dial::says("HTTP/1.1 200 OK\r\nContent-Le", Then::Keep), "answer unfinished in time"),
        late(Dial::says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Then::Keep), "answer unfinished in time"),
    ]);

    // The timeout counts from the intended start, and what took longer is known to have taken at least that long.
    let target = FakeTarget::start(Dial::good(Timing::Never));
    let ran = Drive { timeout: Duration::from_millis(400), ..Drive::at(target.url()) }.run();
    let histogram = ran.histogram(Measure::Response);
    assert!(histogram.min() >= 399_000, "{} us", histogram.min());

    // A body without end: whether it is the clock or the limit of what is read that ends it hangs on the machine.
    let target = FakeTarget::start(Dial::says("HTTP/1.1 200 OK\r\n\r\n", Then::Repeat(vec![b'x'; 100])));
    let ran = Drive { rate: 10.0, timeout: Duration::from_millis(400), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.cause("answer unfinished in time") + ran.cause("body too large"), 5, "{:?}", ran.causes);
}

#[test]
fn service_time_is_what_the_service_took() {
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_millis(50))));
    let ran = Drive::at(target.url()).run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    for measure in [Measure::Service, Measure::Response] {
        assert!(ran.histogram(measure).min() >= 49_900, "{measure:?} {} us", ran.histogram(measure).min());
    }
    assert!(ran.histogram(Measure::Lateness).min() < 49_900, "the wait for an answer is not lateness");
}

#[test]
fn nobody_there_is_a_failure_and_nobody_listening_a_timeout() {
    let ran = Drive { timeout: Duration::from_millis(400), ..Drive::at(format!("http://{}/", FakeTarget::nobody())) }.run();
    assert_eq!(ran.cause("connection refused"), 25, "{:?}", ran.causes);
    assert_eq!((ran.counts.failed, ran.counts.sent), (25, 0));

    // The kernel completes a few connections on behalf of a deaf server; the others never come to be.
    let deaf = FakeTarget::start_deaf();
    let ran = Drive { timeout: Duration::from_millis(400), ..Drive::at(deaf.url()) }.run();
    assert_eq!(ran.counts.timed_out, 25, "{:?}", ran.causes);
    assert!(ran.cause("no connection in time") >= 20, "{:?}", ran.causes);
}

/// A server that hangs up on a kept connection just when it is used: the request that was on it has failed. Sending it again behind
/// the user's back would hide what a killed pod costs.
#[test]
fn a_connection_that_dies_under_a_request_is_a_failure() {
    let target = FakeTarget::start(Dial::says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::CloseOnNext));
    let ran = Drive { connections: 1, ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.ok, ran.cause("closed before an answer")), (13, 12), "{:?}", ran.causes);
}

/// Goal: an interim answer that comes while a request is still being sent is no answer: the rest is sent. How: it lies ready on every
/// connection before a body that no socket's buffers can hold, so that sending stops in the middle and finds it.
#[test]
fn an_interim_answer_in_the_middle_of_a_request_does_not_end_its_sending() {
    let greeting = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let target = FakeTarget::start(Dial { greeting, then: Then::Close, ..Dial::good(Timing::AtOnce) });
    let body: &'static str = "x".repeat(16 << 20).leak();
    let ran = Drive { method: "POST", body, rate: 4.0, ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().requests), (2, 2), "{:?}", ran.causes);
    assert!(ran.counts.bytes_out >= 2 * (16 << 20), "{:?}", ran.counts);
}

#[test]
fn requests_arrive_as_written() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive { method: "POST", body: "hello", ..Drive::at(format!("http://{}/api", target.address)) }.run();
    assert_eq!(ran.counts.ok, 25);
    let request = target.seen().request;
    assert!(request.starts_with("POST /api/ HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
    assert!(request.contains("Content-Length: 5\r\n") && request.ends_with("\r\n\r\nhello"), "{request}");
    let served: u64 = ran.history.windows.values().filter_map(|tally| tally.served_by.get("fake-1")).sum();
    assert_eq!(served, 25, "who answered is counted");
    assert!(ran.counts.bytes_in >= 25 * 2 && ran.counts.bytes_out >= 25 * 5, "{:?}", ran.counts);

    let head = Dial::says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Then::Keep);
    let target = FakeTarget::start(head);
    let ran = Drive { method: "HEAD", ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
}

#[test]
fn certificates_are_checked_unless_the_plan_says_not_to() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).expect("a file");
    let key = || rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let target = FakeTarget::start_tls(Dial::good(Timing::AtOnce), made.cert.der().clone(), key());
    let at = |host: &str, trust: Trust| {
        Drive {
            tls: trust.into(),
            timeout: Duration::from_secs(5),
            ..Drive::at(format!("https://{host}:{}/", target.address.port()))
        }
        .run()
    };

    let good = at("localhost", trusting(&pem));
    assert_eq!(good.counts.ok, 25, "{:?}", good.causes);
    let stranger = at("localhost", Trust::default());
    assert_eq!(stranger.cause("certificate not trusted"), 25, "{:?}", stranger.causes);
    let misnamed = at("shop.example", trusting(&pem));
    assert_eq!(misnamed.cause("certificate for another name"), 25, "{:?}", misnamed.causes);
    let insecure = at("shop.example", Trust::Insecure);
    assert_eq!(insecure.counts.ok, 25, "{:?}", insecure.causes);
    assert_eq!((stranger.counts.failed, misnamed.counts.failed), (25, 25));

    let plain = FakeTarget::start(Dial::says("HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close));
    let drive = Drive { timeout: Duration::from_secs(2), ..Drive::at(format!("https://localhost:{}/", plain.address.port())) };
    // The fake waits for the end of a request head that a TLS hello may never hold.
    let ran = drive.run();
    assert_eq!(ran.counts.failed + ran.counts.timed_out, 25, "{:?}", ran.causes);
    assert_eq!(ran.counts.sent, 0, "a request is never sent in the clear");
}

#[test]
fn what_our_own_bounds_refuse_is_unsent() {
    // Ten may be in flight and none ends within the run: fifteen are refused, and the bound is an event.
    let target = FakeTarget::start(Dial::good(Timing::Never));
    let drive = Drive { in_flight: 10, timeout: Duration::from_millis(900), ..Drive::at(target.url()) };
    let ran = drive.run();
    assert_eq!((ran.counts.unsent, ran.counts.timed_out), (15, 10), "{:?}", ran.causes);
    assert_eq!(ran.cause("in-flight bound"), 15, "{:?}", ran.causes);
    assert_eq!(ran.lost_to("requests in flight of load users", 10), 15);

    // One connection, which the server holds for ever: each gets it when the one before has timed out, just before its own time is
    // up. The wait is an event, since the service is not to blame for a client with too few connections.
    let ran = Drive { connections: 1, timeout: Duration::from_millis(200), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.timed_out + ran.cause("connection bound"), 25, "{:?}", ran.causes);
    assert_eq!(ran.lost_to("connections of load users", 1), 24);

    // The same with 20 requests to a millisecond, which is how often timeouts are looked at: most are up before their turn.
    let crowd =
        Drive { rate: 20_000.0, seconds: 0.05, connections: 1, timeout: Duration::from_millis(200), ..Drive::at(target.url()) };
    let ran = crowd.run();
    assert_eq!(ran.counts.intended, 1000);
    assert!(ran.cause("connection bound") + ran.cause("generator late") >= 500, "{:?}", ran.causes);
}

#[test]
fn a_stopped_run_accounts_for_all_that_was_due() {
    let target = FakeTarget::start(Dial::good(Timing::Never));
    let drive = Drive { rate: 200.0, seconds: 30.0, connections: 20, ..Drive::at(target.url()) };
    let folder = tempfile::tempdir().expect("a folder");
    let begun = Instant::now();
    let summary = drive.run_into(folder.path(), Clock::starting_in(LEAD), |running| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while target.seen().requests < 20 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        running.stop();
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "stopping takes half a second, not {:?}", begun.elapsed());
    let ran = Ran::read(folder.path(), summary);
    assert!((20..6000).contains(&ran.counts.intended), "{:?}", ran.counts);
    assert_eq!(ran.cause("stopped in flight"), 20, "{:?}", ran.causes);
    assert_eq!(ran.counts.timed_out, 20, "what was in flight is not known");
    assert_eq!(ran.counts.unsent, ran.counts.intended - 20);
}

#[test]
fn several_workers_send_the_whole_schedule_once() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let drive = Drive { arrivals: poisson(), rate: 400.0, seconds: 2.0, workers: 3, ..Drive::at(target.url()) };
    let ran = drive.run();
    assert_eq!(ran.counts.intended, drive.schedule().count());
    assert_eq!((ran.counts.ok, target.seen().requests), (ran.counts.intended, ran.counts.intended), "{:?}", ran.causes);
    assert_eq!(ran.summary.workers, 3);
    for (key, tally) in &ran.history.windows {
        let (from, to) = (Offset::from_nanos(key.second * 1_000_000_000), Offset::from_nanos((key.second + 1) * 1_000_000_000));
        assert_eq!(tally.counts.intended, drive.schedule().count_in(from, to), "second {}", key.second);
    }
    assert!(ran.history.generator().count() >= 1, "the generator watches itself");

    // Bounds too small to be shared leave the work to fewer of them.
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let ran = Drive { connections: 1, workers: 3, ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().connections), (25, 1), "{:?}", ran.causes);
}

#[test]
fn old_connections_are_replaced_without_a_failure() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let drive = Drive {
        rate: 100.0,
        seconds: 2.0,
        connections: 2,
        rotation: Rotation { age: Some(Span::from_millis(100)), requests: None },
        ..Drive::at(target.url())
    };
    let ran = drive.run();
    assert_eq!(ran.counts.ok, 200, "{:?}", ran.causes);
    // One connection at a time lives 75 to 125 ms: at least 2 s / 125 ms = 16, less what a busy machine swallows.
    let connections = target.seen().connections;
    assert!((8..=60).contains(&connections), "{connections} connections");
}

#[test]
fn what_grew_old_while_it_rested_carries_nothing_more() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let rotation = Rotation { age: Some(Span::from_millis(100)), requests: None };
    let ran = Drive { rate: 4.0, seconds: 1.5, connections: 1, rotation, ..Drive::at(target.url()) }.run();
    assert_eq!(ran.counts.ok, 6, "{:?}", ran.causes);
    // A quarter of a second lies between two of them, and none lives for longer than half of that.
    assert_eq!((target.seen().requests, target.seen().most_on_one), (6, 1));
}

/// Goal: when the generator itself stands still, its own certificate says so, and the service is not blamed. How: the load runs in a
/// process of its own (this test again, as `a_load_to_be_frozen`), which is stopped by a signal for one second of four.
#[test]
fn a_frozen_generator_shows_in_lateness_and_not_in_service_time() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["load::a_load_to_be_frozen", "--exact", "--nocapture"])
        .env("SQUALL_TEST_FREEZE", format!("{} {}", target.url(), folder.path().display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the child starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while target.seen().requests < 100 {
        assert!(Instant::now() < deadline, "the child sends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("the child is ours");
    // The freeze is the fault under test, not a wait for something.
    std::thread::sleep(Duration::from_secs(1));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("the child is ours");
    assert!(child.wait().expect("the child ends").success(), "the child's own test passes");

    let history = History::load(folder.path()).expect("the recording can be read");
    let (from, to) = (Offset::ZERO, Offset::from_secs_f64(100.0));
    let counts = history.counts(None, from, to);
    assert_eq!((counts.intended, counts.ok), (800, 800), "a late request is sent all the same: {counts:?}");
    let of = |measure| history.histogram(None, &Outcome::ALL, measure, from, to);
    // 200 requests came due in the frozen second, the first of them a second late: a quarter of all, up to a second.
    assert!(of(Measure::Lateness).max() >= 900_000, "{} us", of(Measure::Lateness).max());
    assert!(of(Measure::Lateness).value_at_quantile(0.9) >= 300_000, "{} us", of(Measure::Lateness).value_at_quantile(0.9));
    assert!(of(Measure::Response).value_at_quantile(0.9) >= 300_000, "response counts from the intended start");
    // At most those few that were in flight when it froze look slow.
    assert!(of(Measure::Service).value_at_quantile(0.9) < 300_000, "{} us", of(Measure::Service).value_at_quantile(0.9));
}

/// The other half of the test above; alone it has nothing to do.
#[test]
fn a_load_to_be_frozen() {
    let Ok(order) = std::env::var("SQUALL_TEST_FREEZE") else { return };
    let (url, folder) = order.split_once(' ').expect("a URL and a folder");
    let drive = Drive { rate: 200.0, seconds: 4.0, ..Drive::at(url) };
    Ran::read(Path::new(folder), drive.run_into(Path::new(folder), Clock::starting_in(LEAD), |_| {}));
}
