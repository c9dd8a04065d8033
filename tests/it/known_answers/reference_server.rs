//! An HTTP server whose answers come when a [`System`] says, to tens of microseconds: one thread, epoll, and a timer of the kernel
//! with its slack turned off, since the runtime's timers are a millisecond coarse. It keeps book of every request by the run's clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use squall::time::{Clock, Offset};

use super::system::System;

const SERVED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSED: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

/// What an event of epoll is about, when it is not a connection.
const LISTENER: u64 = 0;
const TIMER: u64 = 1;
const STOP: u64 = 2;

/// One request, as the server saw it.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub came: Offset,
    /// When the model let it go; `None` when it refused it.
    pub leaves: Option<Offset>,
    /// When its answer was really given.
    pub left: Offset,
}

/// A running server; it ends when this is dropped.
pub struct ReferenceServer {
    pub address: SocketAddr,
    /// The thread's number in the kernel.
    pub thread_id: i32,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<Vec<Visit>>>,
}

impl ReferenceServer {
    pub fn start(system: System, clock: Clock) -> ReferenceServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
        let stopped = stop.clone();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("reference".to_owned())
            .spawn(move || {
                ready.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the test waits");
                Serving::new(listener, system, clock).run(&stopped)
            })
            .expect("a thread");
        ReferenceServer { address, thread_id: is_ready.recv().expect("the server starts"), stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Ends it: every request that came, in order.
    pub fn close(mut self) -> Vec<Visit> {
        self.end().expect("it is closed once").expect("the reference server does not panic")
    }

    fn end(&mut self) -> Option<std::thread::Result<Vec<Visit>>> {
        rustix::io::write(&self.stop, &1u64.to_ne_bytes()).expect("an eventfd takes a number");
        Some(self.thread.take()?.join())
    }
}

impl Drop for ReferenceServer {
    fn drop(&mut self) {
        drop(self.end());
    }
}

struct Serving {
    listener: TcpListener,
    system: System,
    clock: Clock,
    poll: OwnedFd,
    timer: OwnedFd,
    connections: HashMap<u64, Connection>,
    visits: Vec<Visit>,
    /// Who leaves next: when, which visit, on which connection.
    leaving: BinaryHeap<Reverse<(Offset, usize, u64)>>,
}

struct Connection {
    stream: TcpStream,
    /// What came of a request.
    head: Vec<u8>,
}

impl Serving {
    fn new(listener: TcpListener, system: System, clock: Clock) -> Serving {
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).expect("a thread may be punctual");
        listener.set_nonblocking(true).expect("a socket");
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).expect("a timer");
        epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).expect("a socket");
        epoll::add(&poll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN).expect("a timer");
        let (connections, visits, leaving) = (HashMap::new(), Vec::new(), BinaryHeap::new());
        Serving { listener, system, clock, poll, timer, connections, visits, leaving }
    }

    fn run(mut self, stop: &OwnedFd) -> Vec<Visit> {
        epoll::add(&self.poll, stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN).expect("an eventfd");
        let mut fresh = STOP;
        let mut events = Vec::with_capacity(16);
        loop {
            self.let_go();
            match epoll::wait(&self.poll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => panic!("epoll: {error}"),
            }
            // Whatever is there now came by now.
            let now = self.clock.now();
            for event in events.drain(..) {
                match event.data.u64() {
                    STOP => return self.visits,
                    TIMER => {
                        // Read, so that it is silent until it rings again; it may have been set anew and have nothing to tell.
                        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                    }
                    LISTENER => {
                        while let Ok((stream, _)) = self.listener.accept() {
                            fresh += 1;
                            self.welcome(stream, fresh);
                        }
                    }
                    connection => self.hear(connection, now),
                }
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, number: u64) {
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        epoll::add(&self.poll, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN).expect("a socket");
        self.connections.insert(number, Connection { stream, head: Vec::new() });
    }

    /// Takes what came over a connection; a request that is whole is told to the model. Requests have no bodies here.
    fn hear(&mut self, number: u64, now: Offset) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut bytes = [0; 4096];
        match connection.stream.read(&mut bytes) {
            Ok(n) if n > 0 => connection.head.extend(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // Closed or broken: dropping the stream takes it out of the epoll.
            _ => {
                self.connections.remove(&number);
                return;
            }
        }
        if !connection.head.ends_with(b"\r\n\r\n") {
            return;
        }
        connection.head.clear();
        let leaves = self.system.arrive(now);
        let visit = self.visits.len();
        self.visits.push(Visit { came: now, leaves, left: now });
        match leaves {
            Some(leaves) if leaves > now => self.leaving.push(Reverse((leaves, visit, number))),
            Some(_) => self.answer(visit, number, SERVED),
            None => self.answer(visit, number, REFUSED),
        }
    }

    /// Answers those whose time has come, and sets the timer for the next.
    fn let_go(&mut self) {
        while let Some(Reverse((leaves, visit, number))) = self.leaving.peek().copied() {
            let now = self.clock.now();
            if leaves > now {
                let wait = leaves.since(now);
                let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
                let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
                timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).expect("a timer takes a time");
                return;
            }
            self.leaving.pop();
            self.answer(visit, number, SERVED);
        }
    }

    fn answer(&mut self, visit: usize, number: u64, answer: &[u8]) {
        // Before it is written: nobody can read it earlier.
        self.visits[visit].left = self.clock.now();
        // Whoever hung up in the meantime is missed by the test, which counts.
        if let Some(connection) = self.connections.get_mut(&number) {
            let _ = connection.stream.write_all(answer);
        }
    }
}
