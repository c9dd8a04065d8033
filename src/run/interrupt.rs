//! Signals: the first asks a run to stop and heal, the second to leave at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// SIGINT and SIGTERM, caught from the moment this exists.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

/// A signal that asks to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// Ctrl-C.
    Sigint,
    Sigterm,
}

impl Interrupts {
    /// Starts to listen; must be called inside a runtime.
    pub fn listen() -> Result<Interrupts, Failure> {
        let catch =
            |kind| signal(kind).map_err(|error| Failure::new(Exit::Environment, format!("failed to catch signals: {error}")));
        Ok(Interrupts { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// The next one. Cancelling this loses none.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Sigint,
            _ = self.terminate.recv() => Interrupt::Sigterm,
        }
    }
}

impl Interrupt {
    /// The name that people know.
    pub fn name(self) -> &'static str {
        match self {
            Interrupt::Sigint => "SIGINT",
            Interrupt::Sigterm => "SIGTERM",
        }
    }

    pub fn exit(self) -> Exit {
        match self {
            Interrupt::Sigint => Exit::Interrupted,
            Interrupt::Sigterm => Exit::Terminated,
        }
    }
}
