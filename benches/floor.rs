//! The floor: what a request costs when nothing but the system calls that cannot be left out are made. One thread writes a fixed
//! request on each connection, waits for answers with epoll (level-triggered, as it is unless told otherwise), reads what has come and
//! writes the next. It parses nothing, measures nothing and keeps no clock but the one that ends it.
//!
//! ```text
//! cargo bench --bench floor -- ADDRESS CONNECTIONS SECONDS [HOST/PATH]
//! ```
//!
//! Prints `{"requests": N}`. Answers must come in one piece, which those of a static page of a few bytes do. `ci/bench` measures what
//! it costs, and what others cost beside it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

fn main() -> ExitCode {
    // `cargo bench` without a target, and `cargo test --benches`, call every bench with a flag of their own and nothing else.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [address, connections, seconds] = &args[..] else {
        println!("floor: needs ADDRESS CONNECTIONS SECONDS, as in 127.0.0.1:8080 64 10");
        return ExitCode::SUCCESS;
    };
    match drive(address, connections.parse().unwrap_or(64), Duration::from_secs_f64(seconds.parse().unwrap_or(10.0))) {
        Ok(requests) => {
            println!("{{\"requests\": {requests}}}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("floor: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many answers came.
fn drive(address: &str, connections: usize, time: Duration) -> io::Result<u64> {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut streams = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        stream.write_all(request.as_bytes())?;
        streams.push(stream);
    }
    let mut events: Vec<Event> = Vec::with_capacity(connections);
    let mut buffer = [0_u8; 16 * 1024];
    let end = Instant::now() + time;
    let mut answers = 0;
    while Instant::now() < end {
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let stream = &mut streams[event.data.u64() as usize];
            if stream.read(&mut buffer)? == 0 {
                return Err(io::Error::other("the server hung up: raise its limit of requests on a connection"));
            }
            answers += 1;
            stream.write_all(request.as_bytes())?;
        }
    }
    Ok(answers)
}
