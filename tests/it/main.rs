//! The integration tests: one binary, one module per promise.

mod architecture;
mod bad_plans;
mod cluster;
mod good_plans;
mod plans;
mod reports;
mod scripted;
mod twins;
