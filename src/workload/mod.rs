//! The demo service: an HTTP server whose capacity is modelled, so that a plan has something to overload, scale, kill and slow
//! down. Each pattern of a scalable service is a dial here, and each dial's other end is a broken twin.
//!
//! ```text
//! connection ─▶ warm? ─▶ queue (FIFO, bounded) ─▶ worker: service time + CPU ─▶ dependency (pool, timeout, retries) ─▶ answer
//!                 │500            │503 + Retry-After at once                          │502, 503, 504
//! ```
//!
//! Service times are slept, not burnt, so what it can do hardly depends on the speed of the machine. Nothing else in the crate
//! needs this folder.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

mod capacity;
mod dependency;
mod metrics;
mod options;
mod server;
mod service;
mod service_time;

pub use options::{Options, QueueBound, RetryMode};
pub use service_time::ServiceTime;

/// Runs the service on a runtime of its own, on this thread alone: twenty and more of them share a laptop.
///
/// # Errors
/// When the address cannot be bound, or the options contradict one another.
pub fn run(options: Options) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime of the workload")?;
    let served = runtime.block_on(serve(options));
    // What is still asleep (a cut-off slow answer) must not hold up the exit.
    runtime.shutdown_background();
    served
}

/// Serves until SIGTERM or SIGINT, then drains and returns.
///
/// # Errors
/// When the address cannot be bound, or the options contradict one another.
pub async fn serve(options: Options) -> Result<()> {
    let address = options.address();
    // Before binding: who can connect may also ask for the end, and a signal before its handler would kill without draining.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: choose another --listen"))?;
    let bound: SocketAddr = listener.local_addr().context("cannot read the address that was bound")?;
    let ignore_sigterm = options.ignore_sigterm;
    let drain = options.drain.duration();
    let service = Arc::new(service::Service::new(options)?);
    say(format_args!("pod {} listens on http://{bound}/", service.pod()));

    let asked_to_stop = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => if ignore_sigterm { say(format_args!("SIGTERM ignored, as told")) } else { return "SIGTERM" },
                _ = interrupt.recv() => return "SIGINT",
            }
        }
    };
    let unfinished = server::run(listener, Arc::clone(&service), drain, asked_to_stop).await;
    say(format_args!("drained, {unfinished} connections cut off, {} requests answered", service.answered()));
    Ok(())
}

/// A line for the pod's log. When nobody reads the log any more, service goes on.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests;
