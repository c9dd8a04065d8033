//! Squall runs a plan against a service: it sends bursts of traffic, breaks things on purpose, watches what the platform does, and
//! says whether the promises held.

pub mod faults;
pub mod kinds;
pub mod names;
pub mod plan;
pub mod recording;
pub mod sandbox;
pub mod schedule;
pub mod time;
pub mod timeline;
pub mod units;
pub mod verdict;
