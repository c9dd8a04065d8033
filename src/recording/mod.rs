//! The record is the product: what a run did and saw, as an append-only list of facts on one clock. Load, faults and observation
//! write it through a [`Sink`] and meet nowhere else; verdicts and reports are pure functions of the [`History`] read back.

pub mod attempts;
pub mod fact;
pub mod history;
pub mod hlog;
pub mod metric;
pub mod plain;
pub mod sink;
pub mod tap;
pub mod timings;
pub mod writer;

pub use fact::{Event, Fact, Outcome};
pub use history::History;
pub use sink::Sink;
pub use writer::Recording;

/// The file of events in a run's folder.
pub const EVENTS_FILE: &str = "recording.jsonl";
/// The file of histograms in a run's folder.
pub const HISTOGRAMS_FILE: &str = "latency.hlog";
