//! What a worker shows of itself while it runs: written by that worker alone, read once a second by the tally thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One worker's dials.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    in_flight: AtomicU64,
    connections: AtomicU64,
    /// The bits of an `f64`.
    cpu: AtomicU64,
    /// In nanoseconds.
    window: AtomicU64,
    /// The bits of an `f64`; NaN where the kernel does not say.
    starved: AtomicU64,
    /// In nanoseconds.
    spent: AtomicU64,
}

impl Gauges {
    /// Requests due and not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections open or being opened.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Of one core, over about the last second.
    pub(super) fn cpu(&self) -> f64 {
        f64::from_bits(self.cpu.load(Ordering::Relaxed))
    }

    pub(super) fn set_cpu(&self, share: f64) {
        self.cpu.store(share.to_bits(), Ordering::Relaxed);
    }

    /// CPU time from the worker's first moment to its last; zero until then.
    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    pub(super) fn set_spent(&self, time: Duration) {
        self.spent.store(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The share of about the last second in which the worker was ready to run and had no core.
    pub(super) fn starved(&self) -> Option<f64> {
        Some(f64::from_bits(self.starved.load(Ordering::Relaxed))).filter(|share| !share.is_nan())
    }

    pub(super) fn set_starved(&self, share: Option<f64>) {
        self.starved.store(share.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    /// How much later than due a request may be sent for the sake of others: see [`Window`](super::pacer::Window).
    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.window.load(Ordering::Relaxed))
    }

    pub(super) fn set_window(&self, width: Duration) {
        self.window.store(width.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn more_in_flight(&self) {
        add(&self.in_flight, 1);
    }

    pub(super) fn less_in_flight(&self) {
        add(&self.in_flight, -1);
    }

    pub(super) fn more_connections(&self) {
        add(&self.connections, 1);
    }

    pub(super) fn less_connections(&self) {
        add(&self.connections, -1);
    }
}

/// One writer: no need for a locked instruction.
fn add(gauge: &AtomicU64, by: i64) {
    gauge.store(gauge.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
}
