//! The process that stands next to a pod and disturbs its traffic: `squall agent`. It is started in an ephemeral container, lives
//! on heartbeats, and reverts by itself when these stop, when its deadline comes or when it is told to end.
//!
//! ```text
//!                 heartbeats (stdin)         evidence (stdout, one JSON object per line)
//!                        │                           ▲
//! data plane ─▶ proxy ───┴── delayed, in order ──────┴──▶ the pod's own port
//!      ▲
//!      └─ interposition: renewed while all is well, expires by itself when the agent is killed
//! ```
//!
//! In a pod of the sandbox the data plane is the sandbox's, in one of a cluster it is the kernel. Nothing else differs.

use anyhow::{Context, Result};

pub mod evidence;
mod init;
mod interpose;
mod latency;
mod lease;
mod proxy;

pub use interpose::Existing;
pub use latency::Options as Delay;

/// What an agent can be told to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Agent {
    /// Delay what clients send to a port of this pod.
    Latency(Delay),
}

/// Does what it is told until the lease ends, on a runtime of its own, and returns when everything is as it was before.
///
/// # Errors
/// When it could not begin, or could not prove that the disturbance is gone. The data plane then drops it by itself, within the lease.
pub fn run(agent: Agent) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime of the agent")?;
    let ended = runtime.block_on(async {
        let carry = async {
            match agent {
                Agent::Latency(options) => latency::run(options).await,
            }
        };
        tokio::select! { ended = carry => ended, never = init::bury() => match never {} }
    });
    // Standard input is read on a thread that cannot be interrupted; it must not hold up the exit.
    runtime.shutdown_background();
    ended
}
