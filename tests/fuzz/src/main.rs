//! A fuzz target for each parser of what others send or write: servers, proxies, clusters and their clients, the files that a plan names, and
//! the plan itself. One program; the variable SQUALL_FUZZ says which target it is, and `list` prints them. `ci/fuzz` builds and runs them.

#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| (CHOSEN.get().expect("it was chosen first").run)(bytes));

fn choose() {
    let name = std::env::var("SQUALL_FUZZ").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.seeds.join(" ")));
        std::process::exit(if name == "list" { 0 } else { 2 });
    };
    let _ = CHOSEN.set(target);
}
