//! One file per arrival process: request n -> the [`Offset`](crate::time::Offset) at which it is due. Pure functions of plan and
//! seed; the whole can be split into shards whose union is exactly the whole.

/// The arrivals of one load over all phases.
#[derive(Clone, Debug)]
pub struct Schedule;
