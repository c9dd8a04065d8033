//! The integration tests: one binary, one module per promise.

mod architecture;
mod bad_plans;
mod fake_target;
mod load;
mod plans;
mod reports;
mod twins;
