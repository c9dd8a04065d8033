//! Who reads along while a recording is written, losing nothing: called by the writer itself, on its thread, in the order of the
//! recording. The live channel is for displays, which may lag and miss events, and carries no histograms: hundreds of kilobytes each,
//! they must not wait in a queue for a reader that is slow.

use crate::recording::fact::Event;
use crate::recording::sink::Interval;

/// Reads along. What it takes is time that the writer does not have: it counts and goes on, waits for nobody and does no I/O.
pub trait Tap: Send {
    /// The next event, the first and the last of the run included.
    fn event(&mut self, event: &Event);

    /// One second of one series; intervals of the same second and series add up.
    fn interval(&mut self, interval: &Interval);
}
