//! The integration tests: one binary, one module per promise.

mod architecture;
mod bad_plans;
mod judge;
mod story;
mod twins;
