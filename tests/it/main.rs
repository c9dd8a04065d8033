//! The integration tests: one binary, one module per promise.

mod architecture;
mod bad_plans;
mod plans;
mod readme;
mod reports;
mod twins;
