//! The load engine as fast as it goes, and nothing else: one worker and a few users who never pause, against a server in this process
//! that answers whatever it reads. `ci/instructions` runs it under callgrind and counts what a request costs.
//!
//! ```text
//! cargo bench --bench closed -- SECONDS [USERS]
//! ```
//!
//! Prints `{"requests": N}`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use squall::load::{self, Job};
use squall::names::Name;
use squall::plan::{Generator, Level, Load, Model, Protocol, Request, Rhythm, Rotation, Talk};
use squall::protocol::{Destination, Trust};
use squall::recording::fact::{Ending, LoadLine, PhaseSpan, RunEnded, RunStarted, SCHEMA};
use squall::recording::writer::Recording;
use squall::schedule::{Crowd, RatePiece, Traffic};
use squall::time::{Clock, Offset};
use squall::units::{Span, Users};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nx-pod: bench-0\r\n\r\nok\n";

fn main() {
    // `cargo bench` without a target, and `cargo test --benches`, call every bench with a flag of their own and nothing else.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(seconds) = args.first().and_then(|text| text.parse().ok()) else {
        println!("closed: needs SECONDS, as in 5");
        return;
    };
    let users = args.get(1).and_then(|text| text.parse().ok()).unwrap_or(8);
    println!("{{\"requests\": {}}}", drive(serve(), seconds, users));
}

/// How many requests were answered.
fn drive(address: SocketAddr, seconds: f64, users: u32) -> u64 {
    let main: Name = "main".parse().expect("a name");
    let end = Offset::from_secs_f64(seconds);
    let load = Load {
        name: main.clone(),
        model: Model::Closed {
            users: BTreeMap::from([(main.clone(), Level::Steady(Users::of(users)))]),
            rhythm: Rhythm::default(),
        },
        flows: Vec::new(),
        varying: Default::default(),
        request: Request {
            method: "GET".into(),
            path: "/".into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Span::from_secs(10),
            wanted: Default::default(),
            talk: Talk::Http,
        },
        protocol: Protocol::Http1,
        connections: users,
        streams: 1,
        in_flight: users,
        rotation: Rotation::NEVER,
        client: None,
    };
    let piece = RatePiece { phase: main.clone(), start: Offset::ZERO, end, from: f64::from(users), to: f64::from(users) };
    let destination = Destination::read(&format!("http://{address}/"), Trust::default()).expect("a URL");
    let job = Job {
        destination: destination.at(vec![address]),
        identity_header: "x-pod".into(),
        loads: vec![(load, Traffic::Closed(Crowd::new(&[piece], Rhythm::default(), 1)))],
        generator: Generator { workers: Some(1), ..Generator::default() },
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (sink, recording) =
        Recording::create(folder.path(), Clock::starting_in(Duration::from_millis(200)), started(&main, end, users))
            .expect("a recording");
    let mut running = load::start(job, sink).expect("the load starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let summary = runtime.block_on(running.finished());
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 }).expect("the recording is whole");
    summary.loads[0].1.ok
}

fn started(main: &Name, end: Offset, users: u32) -> RunStarted {
    RunStarted {
        schema: SCHEMA.into(),
        run_id: "bench".into(),
        squall: String::new(),
        plan: "bench".into(),
        claim: String::new(),
        seed: 1,
        params: BTreeMap::new(),
        zero: String::new(),
        target: String::new(),
        workload: None,
        autoscaler: None,
        phases: vec![PhaseSpan { name: main.clone(), start: Offset::ZERO, end }],
        loads: vec![LoadLine {
            name: main.clone(),
            method: "GET".into(),
            path: "/".into(),
            timeout_ns: 10_000_000_000,
            intended: BTreeMap::new(),
            users: BTreeMap::from([(main.clone(), [users; 2])]),
            classes: Vec::new(),
            flows: Vec::new(),
            attempts: None,
        }],
        faults: Vec::new(),
        environment: BTreeMap::new(),
    }
}

/// A server that answers each piece that it reads; a request of this bench comes in one.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) && stream.write_all(ANSWER).is_ok() {}
            });
        }
    });
    address
}
