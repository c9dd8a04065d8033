//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod cluster;
mod good_plans;
mod judge;
mod plans;
mod reports;
mod scripted;
mod story;
mod twins;
