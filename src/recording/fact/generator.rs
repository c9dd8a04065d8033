//! What the generator says of itself.

use serde::{Deserialize, Serialize};

use crate::names::Name;

/// The generator's own state over one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSample {
    pub second: i64,
    /// CPU of the busiest load worker, as a share of one core.
    pub cpu: f64,
    /// The same of each worker, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<f64>,
    /// Time that the hypervisor took from this machine, as a share of one core; absent where the kernel does not say.
    pub steal: Option<f64>,
    /// Requests due and not ended, at the end of the second.
    pub in_flight: u64,
    /// Connections open, at the end of the second.
    pub connections: u64,
    /// The share of the second in which the worker that waited longest was ready to run and had no core; absent where the kernel does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved: Option<f64>,
    /// Microseconds by which a request may be sent late so that several are sent together, of the worker with the widest window; zero
    /// where each has a wake-up of its own.
    #[serde(default)]
    pub window_us: u64,
}

/// The widths of the windows of [`Spacing`], in milliseconds.
pub const SPACING_MS: [u64; 3] = [1, 10, 100];

/// How the requests of one load were spaced in one second. Sums over seconds tell how bursty they were: over the same requests, the sums
/// of squares of what was planned and of what was sent differ by what the generator did to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spacing {
    pub load: Name,
    /// Whole seconds since offset zero.
    pub second: i64,
    /// Requests that came due in this second and were sent.
    pub requests: u64,
    /// The sums of the squares of how many came due in each window, by the widths of [`SPACING_MS`].
    pub planned: [u64; SPACING_MS.len()],
    /// The same of how many were sent, whenever they came due.
    pub sent: [u64; SPACING_MS.len()],
}
