//! The integration tests: one binary, one module per promise.

mod architecture;
mod fake_target;
mod load;
