//! The integration tests: one binary, one module per promise.

mod architecture;
mod bad_plans;
mod plans;
mod recorded_exchanges;
mod reports;
mod sandbox_api;
mod twins;
