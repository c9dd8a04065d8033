//! `squall workload`: the demo service that the shipped plans put under load. It runs in pods.

use crate::exit::{Exit, Failure};
use crate::workload;

/// The dials of the demo service.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: workload::Options,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    workload::run(args.options).map_err(|error| Failure::new(Exit::Environment, format!("{error:#}")))?;
    Ok(Exit::Pass)
}
