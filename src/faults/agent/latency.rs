//! `squall agent latency`: delays what clients send to one port of this pod. It takes its place between the data plane and the pod
//! only after its proxy listens, and leaves it before its proxy goes.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncRead;
use tokio::signal::unix::{SignalKind, signal};

use crate::time::{monotonic_now, wall_now};
use crate::units::Span;

use super::evidence::{Counters, Line, Speaker};
use super::interpose::{DataPlane, Entry, Existing, Interposer};
use super::lease;
use super::proxy::{Disturbance, Proxy};

/// How often the counters are said.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// How long the first heartbeat is waited for: as long as a slow server may take to attach somebody, and whoever heals waits no longer.
const SPOKEN_TO_WITHIN: Duration = Duration::from_secs(10);
/// How often clearing is tried before the entry is left to expire.
const CLEAR_ATTEMPTS: u32 = 3;
/// Connections that were left alone may take this long to end by themselves before they are reset, and never beyond the deadline.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to delay, by how much, and for how long at most.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The pod's port whose clients are disturbed.
    #[arg(long)]
    pub port: u16,

    /// Added to each chunk on its way in.
    #[arg(long)]
    pub add: Span,

    /// Each delay is drawn uniformly from `add - jitter` to `add + jitter`.
    #[arg(long, default_value = "0s")]
    pub jitter: Span,

    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Revert at this moment, whatever happens (RFC 3339).
    #[arg(long)]
    pub deadline: jiff::Timestamp,

    /// Revert when no heartbeat has come for so long; also how long the data plane's entry outlives a killed agent.
    #[arg(long, default_value = "5s")]
    pub lease: Span,

    /// What happens to connections that are open when the fault begins and ends.
    #[arg(long, value_enum, default_value_t = Existing::Reset)]
    pub existing: Existing,

    /// Connections that may go through at once; more are reset, and counted.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections: u32,

    /// What the agent's table of nftables is called; a run's own.
    #[arg(long, default_value = "squall-agent")]
    pub name: String,
}

/// The pod as the agent finds it.
struct Pod {
    ip: IpAddr,
    plane: DataPlane,
}

/// Runs with what the process was given.
pub async fn run(options: Options) -> Result<()> {
    let pod = Pod::around()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let told = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    disturb(options, pod, tokio::io::stdin(), told, Speaker::new(std::io::stdout())).await
}

impl Pod {
    fn around() -> Result<Pod> {
        let ip = std::env::var("POD_IP").context("POD_IP is not set: give the ephemeral container the pod's address")?;
        Ok(Pod { ip: ip.parse().with_context(|| format!("POD_IP `{ip}` is not an address"))?, plane: DataPlane::around() })
    }
}

/// Disturbs until the lease ends, then reverts, and proves it.
async fn disturb(
    options: Options,
    pod: Pod,
    mut heartbeats: impl AsyncRead + Unpin,
    told: impl Future<Output = ()>,
    speaker: Speaker,
) -> Result<()> {
    let mut told = std::pin::pin!(told);
    if options.deadline <= wall_now() {
        bail!("the deadline {} has passed: nothing was disturbed", options.deadline);
    }
    if options.jitter > options.add {
        bail!(
            "a jitter of {} on {} would ask for negative delays: choose a jitter of at most {}",
            options.jitter,
            options.add,
            options.add
        );
    }
    let lease = options.lease.duration();
    if lease < Duration::from_millis(100) {
        bail!("a lease of {} is shorter than heartbeats can be: choose at least 100ms", options.lease);
    }
    let listener = pod.plane.listen(pod.ip).await?;
    let via = listener.local_addr().context("cannot read the proxy's address")?;
    let at = SocketAddr::new(pod.ip, options.port);
    let entry = Entry { pod: at, via, existing: options.existing, lease, name: options.name };
    let mut interposer = pod.plane.interposer(entry).context("nothing was disturbed")?;
    let disturbance = Disturbance { add: options.add.duration(), jitter: options.jitter.duration(), seed: options.seed };
    let proxy = Proxy::new(at, disturbance, options.connections as usize);
    let serving = AbortOnDrop(tokio::spawn(Arc::clone(&proxy).serve(listener)));
    speaker.say(&Line::Started {
        port: options.port,
        via: via.to_string(),
        add_ms: options.add.millis(),
        jitter_ms: options.jitter.millis(),
        deadline: options.deadline.to_string(),
    });

    // Nothing is touched for nobody: a container that starts when its harness has gone, or long after it was asked for, ends here.
    if let Err(why) = lease::begun(&mut heartbeats, SPOKEN_TO_WITHIN, options.deadline, &mut told).await {
        speaker.say(&Line::Reverted { reason: why.to_string(), cleared: true, counters: counters(&proxy, &interposer) });
        return Ok(());
    }
    let table = interposer.set().await.context("the delay did not begin")?;
    speaker.say(&Line::Active { table });

    let ended = hold(&mut interposer, lease, lease::ended(heartbeats, lease, options.deadline, told), &proxy, &speaker).await;
    let cleared = clear(&mut interposer).await;
    proxy.stop_delaying();
    if options.existing == Existing::Leave {
        let patience = monotonic_now() + LEAVE_WITHIN;
        // Whatever they do, at the deadline the agent is gone: whoever heals counts on it.
        while proxy.counters().open > 0 && monotonic_now() < patience && wall_now() < options.deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    drop(serving);
    speaker.say(&Line::Reverted { reason: ended, cleared: cleared.is_ok(), counters: counters(&proxy, &interposer) });
    cleared.with_context(|| format!("the delay on port {} ends by itself within {}", options.port, options.lease))
}

/// Keeps the data plane's entry alive and says what it sees, until the lease ends or the entry has certainly expired. Returns why.
async fn hold(
    interposer: &mut Interposer,
    lease: Duration,
    ended: impl Future<Output = lease::Ended>,
    proxy: &Proxy,
    speaker: &Speaker,
) -> String {
    let mut ended = std::pin::pin!(ended);
    let mut expires = monotonic_now() + lease;
    let mut renew_at = monotonic_now() + lease / 3;
    let mut say_at = monotonic_now() + SAY_EVERY;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.to_string(),
            () = tokio::time::sleep_until(say_at.into()) => {
                say_at += SAY_EVERY;
                speaker.say(&Line::Evidence(counters(proxy, interposer)));
            }
            () = tokio::time::sleep_until(renew_at.into()) => {
                // subtle: never broken off in the middle. A renewal that the data plane reads after the clearing would bring the
                // entry back, pointing at a proxy that is no more.
                let asked = monotonic_now();
                match interposer.set().await {
                    Ok(_table) => expires = asked + lease,
                    Err(error) if monotonic_now() >= expires => return format!("the data plane's entry expired: {error:#}"),
                    Err(error) => speaker.say(&Line::RenewalFailed { reason: format!("{error:#}") }),
                }
                renew_at = monotonic_now() + lease / 3;
            }
        }
    }
}

/// Takes the entry out of the data plane.
async fn clear(interposer: &mut Interposer) -> Result<()> {
    let mut attempt = 1;
    loop {
        match interposer.clear().await {
            Ok(()) => return Ok(()),
            Err(error) if attempt == CLEAR_ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

/// What the proxy counted, and what was touched to lead connections to it.
fn counters(proxy: &Proxy, interposer: &Interposer) -> Counters {
    Counters { reset: interposer.reset(), ..proxy.counters() }
}

/// A task that does not outlive its handle.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
