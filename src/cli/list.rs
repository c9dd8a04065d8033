//! `squall list`: the commands, and what a plan can ask for.

use crate::catalog;
use crate::exit::{Exit, Failure};

/// Takes nothing: lists all of it.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_: Args) -> Result<Exit, Failure> {
    let mut sections = vec![super::commands()];
    sections.extend(catalog::sections());
    super::print(&catalog::text(&sections))?;
    Ok(Exit::Pass)
}
