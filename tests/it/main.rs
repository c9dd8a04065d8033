//! The integration tests: one binary, one module per promise.

mod architecture;
mod assertion_twins;
mod bad_plans;
mod bad_servers;
mod cluster;
mod command;
mod exit_codes;
mod fake_target;
mod good_plans;
mod heal;
mod judge;
mod known_answers;
mod latency;
mod load;
mod observe;
mod pod_kill;
mod readme;
mod recorded_exchanges;
mod reports;
mod sandbox;
mod sandbox_api;
mod scripted;
mod shop;
mod signals;
mod story;
mod twins;
