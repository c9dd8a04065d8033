//! Plan + seed -> [`Timeline`], pure: who does what at which [`Offset`].

use crate::names::{Moment, Name, Shift};
use crate::recording::fact::PhaseSpan;
use crate::schedule::Schedule;
use crate::time::Offset;
use crate::units::Span;

/// A plan laid out in time.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub seed: u64,
    pub phases: Vec<PhaseSpan>,
    /// One per load, in the order of the plan.
    pub schedules: Vec<(Name, Schedule)>,
    pub faults: Vec<FaultSlot>,
    /// The end of the last phase.
    pub end: Offset,
}

/// When a fault starts and how long it lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSlot {
    pub fault: Name,
    pub start: Start,
    pub length: Option<Span>,
}

/// The start of a fault: known before the run, or hanging on another fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    At(Offset),
    After { fault: Name, moment: Moment, shift: Shift },
}
