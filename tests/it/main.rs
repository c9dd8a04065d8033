//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod judge;
mod story;
