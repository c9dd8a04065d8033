//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod fake_target;
mod good_plans;
mod judge;
mod load;
mod plans;
mod readme;
mod reports;
mod sandbox;
mod story;
