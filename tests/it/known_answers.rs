//! The load engine against queues whose answers are known (`patterns-and-assertions.md`, C1 to C5). Method: a reference server lets a
//! model of the queue decide when each request leaves, and keeps book by the run's own clock. Three accounts are then compared:
//!
//! ```text
//! theory ──tolerance of C2, C3──▶ model of these very draws ──the machine──▶ server's book ──close──▶ engine's report
//! ```
//!
//! All draws follow from fixed seeds, so the first comparison is the same on every machine and says that the draws are fair ones: of the
//! first twelve seeds, each load has one whose draws come nearest to theory, which leaves the tolerance to the engine. The second is the
//! machine: by how much the server's clock says that requests came and left later than they were due to. It is no excuse for the engine,
//! half of whose requests must come within 5 ms. The third is tight. The gate that coordinated omission would hide (C4) is in `load.rs`.

use std::time::Duration;

use squall::recording::Outcome;
use squall::recording::sink::Measure;
use squall::time::{Clock, Offset};

use crate::load::{Drive, LEAD, Ran, name, poisson};

mod dispersion;
pub mod reference_server;
pub mod system;
mod theory;

use reference_server::{ReferenceServer, Visit};
use system::{Rule, Service, System};

/// A load on a queue, by all accounts.
struct Measured {
    ran: Ran,
    dues: Vec<Offset>,
    /// When each should have left: the model on the times at which they were due.
    model: Vec<Option<Offset>>,
    visits: Vec<Visit>,
}

/// Drives `drive` at `lines` systems with `rule`.
fn measure(drive: Drive, rule: Rule, lines: usize, seed: u64) -> Measured {
    let clock = Clock::starting_in(LEAD);
    let server = ReferenceServer::start(System::new(rule, lines, seed), clock);
    let drive = Drive { url: server.url(), seed, ..drive };
    let folder = tempfile::tempdir().expect("a folder");
    let ran = Ran::read(folder.path(), drive.run_into(folder.path(), clock, |_| {}));
    let visits = server.close();
    let dues: Vec<Offset> = drive.schedule().arrivals().map(|arrival| arrival.due).collect();
    let mut system = System::new(rule, lines, seed);
    let model = dues.iter().map(|due| system.arrive(*due)).collect();

    assert_eq!(visits.len(), dues.len(), "every request comes once: {:?}", ran.causes);
    let refused = visits.iter().filter(|visit| visit.leaves.is_none()).count() as u64;
    assert_eq!(ran.counts.ok + ran.counts.rejected, dues.len() as u64, "{:?}", ran.causes);
    assert_eq!((ran.counts.rejected, ran.cause("status 503")), (refused, refused), "who was refused knows it: {:?}", ran.causes);
    let measured = Measured { ran, dues, model, visits };
    let late = measured.quantile(0.5, Offset::ZERO, |nth| Some(ms(measured.dues[nth], measured.visits[nth].came)));
    // Half of them that late is no machine that is merely busy.
    assert!(late <= 50.0, "half of the requests came more than {late} ms after they were due");
    measured
}

impl Measured {
    /// Compares the times of those who were served and due from `from` on: each a quantile, what theory says it is in milliseconds, and
    /// the tolerance as a share of it.
    ///
    /// Why the third account may differ from the second by 1 % and half a millisecond: a quantile of a histogram is known to 0.1 %; the
    /// rest is for the way back and for reading, on the same thread that sends. Where this machine starves that thread, it is known by
    /// how much from the p99 of its lateness, once for sending and once for reading. Below the second account nothing is allowed: it
    /// would be an answer that was read before it was given.
    #[track_caller]
    fn agrees(&self, from: Offset, quantiles: &[(f64, f64, f64)]) {
        let end = secs(1e6);
        let engine = self.ran.history.histogram(None, &[Outcome::Ok], Measure::Response, from, end);
        let slack = 0.5 + 2.0 * self.ran.quantile_ms(Measure::Lateness, 0.99);
        for &(q, truth, tolerance) in quantiles {
            let tolerance = tolerance * truth;
            let model = self.quantile(q, from, |nth| Some(ms(self.dues[nth], self.model[nth]?)));
            let server = self.quantile(q, from, |nth| self.visits[nth].leaves.map(|_| ms(self.dues[nth], self.visits[nth].left)));
            let engine = engine.value_at_quantile(q) as f64 / 1e3;
            let said = format!(
                "p{}: theory {truth:.2} +- {tolerance:.2} ms, model {model:.2}, server {server:.2}, engine {engine:.2}, slack {slack:.2}",
                q * 100.0
            );
            println!("{said}");
            assert!((model - truth).abs() <= tolerance, "the draws are no fair ones; {said}");
            assert!((server * 0.998 - 0.05..=server * 1.01 + slack).contains(&engine), "{said}");
            assert!((engine - truth).abs() <= tolerance + (server - model).abs() + slack, "{said}");
        }
    }

    /// The quantile of what `of` says of the requests due from `from` on, as histograms have it: the least that a share `q` is not above.
    fn quantile(&self, q: f64, from: Offset, of: impl Fn(usize) -> Option<f64>) -> f64 {
        let mut values: Vec<f64> = (0..self.dues.len()).filter(|nth| self.dues[*nth] >= from).filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values[((q * values.len() as f64).ceil() as usize).max(1) - 1]
    }

    /// By how much the latest of the requests came after it was due, in milliseconds.
    fn latest(&self) -> f64 {
        (0..self.dues.len()).map(|nth| ms(self.dues[nth], self.visits[nth].came)).fold(0.0, f64::max)
    }

    /// Compares the share that was refused of the requests due from `from` on: to a point, and to the share of those that came so late
    /// (5 ms) that they met others than they should have.
    #[track_caller]
    fn sheds(&self, from: Offset, truth: f64) {
        let due = || (0..self.dues.len()).filter(|nth| self.dues[*nth] >= from);
        let share = |which: &dyn Fn(usize) -> bool| due().filter(|nth| which(*nth)).count() as f64 / due().count() as f64;
        let model = share(&|nth| self.model[nth].is_none());
        let late = share(&|nth| ms(self.dues[nth], self.visits[nth].came) > 5.0);
        let counts = self.ran.history.counts(None, from, secs(1e6));
        let engine = counts.rejected as f64 / counts.intended as f64;
        let said = format!("refused: theory {truth:.4} +- 0.01, model {model:.4}, engine {engine:.4}, came late {late:.4}");
        println!("{said}");
        assert!((model - truth).abs() <= 0.01, "the draws are no fair ones; {said}");
        assert!((engine - truth).abs() <= 0.01 + late, "{said}");
    }
}

/// Milliseconds from one point to another, negative when they are the other way round.
fn ms(from: Offset, to: Offset) -> f64 {
    (to.nanos() - from.nanos()) as f64 / 1e6
}

fn secs(seconds: f64) -> Offset {
    Offset::from_secs_f64(seconds)
}

/// Goal: the model that the server runs is the one of the formulas. How: a simulation, without a server, that is long enough.
///
/// Why these tolerances: 300,000 requests at rho = 0.6 are half a million service times, which tell the mean to 0.8 % (C3), and the p99
/// to about twice that; a share of 300,000 refusals is known to less than half a point.
#[test]
fn the_model_is_the_one_of_the_formulas() {
    let simulated = |rate: f64, rule: Rule| {
        let drive = Drive { arrivals: poisson(), rate, seconds: 300_000.0 / rate, ..Drive::at("") };
        let mut system = System::new(rule, 1, 1);
        let mut times = Vec::new();
        let mut refused = 0;
        for due in drive.schedule().arrivals().map(|arrival| arrival.due) {
            match system.arrive(due) {
                Some(leaves) => times.push(leaves.since(due).as_secs_f64()),
                None => refused += 1,
            }
        }
        times.sort_by(f64::total_cmp);
        let share = refused as f64 / (refused + times.len()) as f64;
        (times, share)
    };
    let close = |got: f64, truth: f64, tolerance: f64| assert!((got / truth - 1.0).abs() <= tolerance, "{got}, theory {truth}");
    let at = |times: &[f64], q: f64| times[(q * times.len() as f64) as usize];
    let exponential = Service::Exponential(Duration::from_millis(10));

    let (times, share) = simulated(60.0, Rule::Queue { workers: 1, room: usize::MAX, service: exponential });
    assert_eq!(share, 0.0);
    close(at(&times, 0.5), theory::mm1_quantile(0.5, 60.0, 100.0), 0.02);
    close(at(&times, 0.99), theory::mm1_quantile(0.99, 60.0, 100.0), 0.04);

    let (times, share) = simulated(300.0, Rule::Queue { workers: 1, room: 10, service: exponential });
    close(share, theory::mm1k_refused(10, 300.0, 100.0), 0.01);
    for q in [0.5, 0.9, 0.99] {
        close(at(&times, q), theory::mm1k_quantile(q, 10, 300.0, 100.0), 0.02);
    }

    for service in [Service::Fixed(Duration::from_millis(10)), exponential] {
        let (_, share) = simulated(3_000.0, Rule::Queue { workers: 20, room: 20, service });
        close(share, theory::erlang_b(20, 30.0), 0.01);
    }
}

/// Goal: the response times of a queue are reported as they are (M/M/1 at rho = 0.6: C1). How: 80 queues of 20 requests/s capacity, each
/// offered 12/s, by one Poisson stream that is split at random. The first 5 s, in which they fill, are left out: they forget how they
/// began with a time constant of 1 / (mu (1 - sqrt(rho))^2) = 1 s.
///
/// Why these tolerances: they are C3's. 25 s of 80 queues are 40,000 service times of 50 ms, after which C3 expects 3 % of the mean.
#[test]
fn a_queue_at_sixty_per_cent_is_timed_right() {
    let (lines, lambda, mu) = (80, 12.0, 20.0);
    let service = Service::Exponential(Duration::from_secs_f64(1.0 / mu));
    let load = Drive { arrivals: poisson(), rate: lambda * lines as f64, seconds: 30.0, connections: 4096, ..Drive::at("") };
    let measured = measure(load, Rule::Queue { workers: 1, room: usize::MAX, service }, lines, 6);
    let truth = |q: f64| theory::mm1_quantile(q, lambda, mu) * 1e3;
    measured.agrees(secs(5.0), &[(0.5, truth(0.5), 0.03), (0.9, truth(0.9), 0.05), (0.99, truth(0.99), 0.07)]);

    // Little's law, which holds of whatever happened: the time that the server says requests spent there is the time that the engine
    // says they took. 2 % (C5) and what the wire adds.
    let stayed: f64 = measured.visits.iter().map(|visit| ms(visit.came, visit.left)).sum();
    let took = measured.ran.histogram(Measure::Service).mean() / 1e3 * measured.visits.len() as f64;
    let wire = 0.5 + 2.0 * measured.ran.histogram(Measure::Lateness).mean() / 1e3;
    println!("Little's law: the server counts {stayed} request-ms, the engine {took}");
    assert!((took - stayed).abs() <= 0.02 * stayed + wire * measured.visits.len() as f64, "{took}, the server says {stayed}");
}

/// Goal: a bounded queue under overload is seen as one: what it refuses is `rejected`, and those whom it serves have waited in a full
/// queue (M/M/1/K: C1). How: 8 queues with room for 10, three times overloaded.
///
/// Why these tolerances: a full queue lets in as fast as it serves, a third of what comes, and 13 s of 8 queues at 25/s are 2,600 services
/// with a total that is known to 2 %: of a third, that is less than a point. The 3 % and 7 % of the times are C3's; successive times of a
/// full queue share nine in ten of their services, so that they are no more than a few hundred independent ones.
#[test]
fn a_bounded_queue_refuses_what_it_should_and_serves_the_rest_in_time() {
    let (lines, k, lambda, mu) = (8, 10, 75.0, 25.0);
    let service = Service::Exponential(Duration::from_secs_f64(1.0 / mu));
    let load = Drive { arrivals: poisson(), rate: lambda * lines as f64, seconds: 15.0, connections: 1024, ..Drive::at("") };
    let measured = measure(load, Rule::Queue { workers: 1, room: k, service }, lines, 3);
    let truth = |q: f64| theory::mm1k_quantile(q, k, lambda, mu) * 1e3;
    measured.agrees(secs(2.0), &[(0.5, truth(0.5), 0.03), (0.9, truth(0.9), 0.03), (0.99, truth(0.99), 0.07)]);
    measured.sheds(secs(2.0), theory::mm1k_refused(k, lambda, mu));
}

/// Goal: what a limit on concurrency sheds is seen as it is (Erlang's B: C1). How: 20 workers without a queue and a fixed service time
/// of 100 ms, offered 15, 30 and 60 times what one of them can do. From seed to seed the share varies by about a point in so short a
/// run, and a point is the tolerance; the server and the engine must agree to the request.
#[test]
fn a_limit_on_concurrency_sheds_what_erlang_says() {
    let run = |offered: f64| {
        let service = Duration::from_millis(100);
        let rate = offered / service.as_secs_f64();
        let load = Drive { arrivals: poisson(), rate, seconds: 10.0, connections: 1024, ..Drive::at("") };
        let measured = measure(load, Rule::Queue { workers: 20, room: 20, service: Service::Fixed(service) }, 1, 1);
        (offered, measured)
    };
    let runs = std::thread::scope(|scope| {
        let runs = [15.0, 30.0, 60.0].map(|offered| scope.spawn(move || run(offered)));
        runs.map(|run| run.join().expect("the run ends"))
    });
    for (offered, measured) in runs {
        measured.sheds(secs(1.0), theory::erlang_b(20, offered));
        measured.agrees(secs(1.0), &[(0.5, 100.0, 0.01)]);
    }
}

/// Goal: an overloaded server is seen as overloaded (D/D/1: C1, with the numbers of C2). How: 10 ms of service, 150 requests a second for
/// 10 s: the request due at t waits until t / 2 later. A closed loop would see 10 ms for ever. Exact up to one service time.
#[test]
fn an_overloaded_server_is_seen_as_overloaded() {
    let (service, rate, seconds) = (0.01, 150.0, 10.0);
    let load = Drive { rate, seconds, connections: 1024, ..Drive::at("") };
    let rule = Rule::Queue { workers: 1, room: usize::MAX, service: Service::Fixed(Duration::from_secs_f64(service)) };
    let measured = measure(load, rule, 1, 1);
    let quantiles = [0.25, 0.5, 0.9, 0.99].map(|q| {
        let truth = theory::dd1_quantile(q, rate, service, seconds) * 1e3;
        (q, truth, service * 1e3 / truth)
    });
    measured.agrees(Offset::ZERO, &quantiles);

    // What came is the rate that was planned, to half a per cent (C5), however slow the answers.
    let (first, last) = (measured.visits[0].came, measured.visits[measured.visits.len() - 1].came);
    let came = (measured.visits.len() - 1) as f64 / last.since(first).as_secs_f64();
    println!("rate: planned {rate}/s, seen {came:.2}/s");
    assert!((came / rate - 1.0).abs() <= 0.005 + measured.latest() / 1e3 / seconds, "{came}/s of {rate}/s");
}

/// Goal: a rate limit is seen as what it is (token bucket: C1). How: 20 tokens a second and 50 to begin with, offered 100/s: by the end
/// of every second, as many are let through as there were tokens, exact to one, and to what trickles in while the latest of them is late.
#[test]
fn a_rate_limit_lets_through_its_tokens() {
    let (per_second, burst) = (20.0, 50.0);
    let load = Drive { rate: 100.0, seconds: 10.0, connections: 64, ..Drive::at("") };
    let measured = measure(load, Rule::Bucket { per_second, burst }, 1, 1);
    let latest = measured.latest();
    for second in 1..=10 {
        let let_through = measured.ran.history.counts(None, Offset::ZERO, secs(f64::from(second))).ok as f64;
        let truth = theory::bucket_let_through(per_second, burst, f64::from(second));
        println!("after {second} s: theory {truth}, engine {let_through}");
        assert!((let_through - truth).abs() <= 1.0 + per_second * latest / 1e3, "after {second} s: {let_through}, theory {truth}");
    }
}
