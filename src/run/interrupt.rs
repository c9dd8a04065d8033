//! Signals: the first asks a run to stop and heal, the second to leave at once. A terminal that goes away asks too, and a file that
//! may not grow any further is an error of the write, not the end of the process: what was broken must be healed first.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::time::monotonic_now;

/// So soon after a signal another is its echo.
const ECHO: Duration = Duration::from_secs(1);

/// SIGINT and SIGTERM, caught from the moment this exists.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// Absent where it is ignored, as under `nohup`.
    hangup: Option<Signal>,
    /// Only held: while it is caught, a write beyond the limit on file sizes fails and kills nobody.
    _too_large: Signal,
}

/// A signal that asks to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// Ctrl-C.
    Sigint,
    Sigterm,
    /// The terminal went away.
    Sighup,
}

impl Interrupts {
    /// Starts to listen; must be called inside a runtime.
    pub fn listen() -> Result<Interrupts, Failure> {
        let catch =
            |kind| signal(kind).map_err(|error| Failure::new(Exit::Environment, format!("failed to catch signals: {error}")));
        Ok(Interrupts {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: if hangups_are_ignored() { None } else { Some(catch(SignalKind::hangup())?) },
            _too_large: catch(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The next one that is a wish of its own: what comes within a second is the first once more. `timeout` signals its child and then
    /// the child's whole group; a terminal and a supervisor may both pass Ctrl-C on.
    pub async fn again(&mut self) -> Interrupt {
        let first = monotonic_now();
        loop {
            let signal = self.next().await;
            if first.elapsed() >= ECHO {
                return signal;
            }
        }
    }

    /// The next one. Cancelling this loses none.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Sigint,
            _ = self.terminate.recv() => Interrupt::Sigterm,
            _ = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            } => Interrupt::Sighup,
        }
    }
}

impl Interrupt {
    /// The name that people know.
    pub fn name(self) -> &'static str {
        match self {
            Interrupt::Sigint => "SIGINT",
            Interrupt::Sigterm => "SIGTERM",
            Interrupt::Sighup => "SIGHUP",
        }
    }

    pub fn exit(self) -> Exit {
        match self {
            Interrupt::Sigint => Exit::Interrupted,
            Interrupt::Sigterm | Interrupt::Sighup => Exit::Terminated,
        }
    }
}

/// Whether this process was started to outlive its terminal. Once a signal is caught this can no longer be told, so it is asked once.
fn hangups_are_ignored() -> bool {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        mask & (1 << (rustix::process::Signal::HUP.as_raw() - 1)) != 0
    })
}
