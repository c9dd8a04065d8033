//! `squall list`: what a plan can ask for.

use crate::catalog;
use crate::exit::{Exit, Failure};

/// Takes nothing: lists all of it.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_: Args) -> Result<Exit, Failure> {
    super::print(&catalog::list())?;
    Ok(Exit::Pass)
}
