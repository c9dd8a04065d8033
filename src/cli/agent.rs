//! `squall agent`: the process that carries a fault inside a pod. People never type it.

use crate::exit::{Exit, Failure};
use crate::faults::agent;

/// Which fault to carry, and its lease.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    agent: agent::Agent,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    agent::run(args.agent).map_err(|error| Failure::new(Exit::Environment, format!("{error:#}")))?;
    Ok(Exit::Pass)
}
