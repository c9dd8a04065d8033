//! What a worker shows of itself while it runs: written by that worker alone, read once a second by the tally thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's dials.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    in_flight: AtomicU64,
    connections: AtomicU64,
    /// The bits of an `f64`.
    cpu: AtomicU64,
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
