//! What a request costs on this machine: a worker of the load engine, for about a second, against a server in this process that answers
//! whatever it reads. CPU time is what is measured and not the time that passes, so that others on the machine disturb little; what they
//! do disturb shows as the range between slices. A request is a GET over HTTP/1.1 without TLS: bodies, TLS and steps cost more.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Folder, Order, job, started};
use crate::load;
use crate::plan::{Adhoc, Arrivals, Generator, Pacing, PhaseRate, PhaseUsers, Plan, Volume};
use crate::protocol::{Destination, Trust};
use crate::recording::fact::{Ending, RunEnded};
use crate::recording::writer::Recording;
use crate::time::Clock;
use crate::timeline::Timeline;
use crate::units::Span;

/// How long a slice takes, and how many there are of each kind: under a second and a quarter for all.
const SLICE: Span = Span::from_millis(150);
const SLICES: usize = 3;
/// Between the start of the clock and the first request.
const LEAD: Duration = Duration::from_millis(20);
/// Users without a pause: enough to keep a worker busy without a rest.
const USERS: &str = "16";
/// A rate at which each request has a wake-up of its own on any machine.
const APART: &str = "1000/s";

/// What a request costs, by the slices.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// CPU time of a request when the worker is never idle: the least that it can be.
    pub together: Spread,
    /// CPU time of a request that a wake-up is paid for: the most that it should be.
    pub apart: Spread,
}

/// From the cheapest slice to the dearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub least: Duration,
    pub most: Duration,
}

/// Measures.
///
/// # Errors
/// When there is no loopback, no room for a file, or no request got through.
pub async fn rehearse() -> Result<Rehearsal> {
    let server = Server::start()?;
    let (mut together, mut apart) = (Vec::new(), Vec::new());
    // In turns, so that what goes on beside them meets both.
    for _ in 0..SLICES {
        let users = USERS.parse::<PhaseUsers>().map_err(anyhow::Error::msg)?;
        together.push(slice(server.address, Volume::Users(users, Span::default())).await?);
        let rate = APART.parse::<PhaseRate>().map_err(anyhow::Error::msg)?;
        apart.push(slice(server.address, Volume::Rate(rate, Arrivals::default())).await?);
    }
    Ok(Rehearsal { together: spread(&together), apart: spread(&apart) })
}

fn spread(slices: &[Duration]) -> Spread {
    let (least, most) = (slices.iter().min(), slices.iter().max());
    Spread { least: least.copied().unwrap_or_default(), most: most.copied().unwrap_or_default() }
}

/// The worker's CPU time for each request.
async fn slice(address: SocketAddr, volume: Volume) -> Result<Duration> {
    let url = format!("http://{address}/");
    let generator = Generator { workers: Some(1), pacing: Pacing::Precise };
    let adhoc = Adhoc { generator, ..Adhoc::new(&url, volume, SLICE) };
    let plan = Plan::adhoc(&adhoc, &|_| None).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let timeline = Timeline::of(&plan, 1);
    let destination = Destination::read(&plan.target.url, Trust::default())?.at(vec![address]);
    let job = job(&plan, &timeline, destination);

    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let folder = Folder { path: scratch.path().to_owned(), run_id: "rehearsal".to_owned() };
    let order = Order {
        plan,
        seed: 1,
        plan_file: None,
        folder,
        reach: Default::default(),
        allow_faults: false,
        agent_image: None,
        outlets: Vec::new(),
    };
    let clock = Clock::starting_in(LEAD);
    let (sink, recording) = Recording::create(&order.folder.path, clock, started(&order, &timeline, clock))?;
    let summary = load::start(job, sink)?.finished().await;
    recording.close(RunEnded { how: Ending::Completed, lost_events: 0 })?;
    let answered: u64 = summary.loads.iter().map(|(_, counts)| counts.ok).sum();
    ensure!(answered > 0, "no request of {SLICE} over loopback was answered");
    Ok(summary.cpu / u32::try_from(answered).unwrap_or(u32::MAX))
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

/// A thread that answers each piece that it reads, which for a small request is all of it. It ends with this.
struct Server {
    address: SocketAddr,
    /// Dropped, it ends the thread.
    _open: oneshot::Sender<()>,
}

impl Server {
    fn start() -> Result<Server> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (open, closed) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot start a runtime")?;
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener) => {}
                    _ = closed => {}
                }
            });
        };
        std::thread::Builder::new().name("rehearsal".to_owned()).spawn(serve).context("cannot start a thread")?;
        Ok(Server { address, _open: open })
    }
}

async fn accept(listener: std::net::TcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) && stream.write_all(ANSWER).await.is_ok() {}
}
