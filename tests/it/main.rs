//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod cluster;
mod fake_target;
mod good_plans;
mod heal;
mod judge;
mod latency;
mod load;
mod observe;
mod plans;
mod pod_kill;
mod readme;
mod reports;
mod scripted;
mod shop;
mod story;
