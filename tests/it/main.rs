//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod cluster;
mod fake_target;
mod good_plans;
mod judge;
mod load;
mod plans;
mod readme;
mod recorded_exchanges;
mod reports;
mod sandbox_api;
mod scripted;
mod story;
