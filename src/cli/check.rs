//! `squall check`: every problem of a plan, before anything runs.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::plan;
use crate::timeline::Timeline;

/// Which plan, with which parameters.
#[derive(clap::Args)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// Print the plan with every default filled in, its timeline, its cost and what it needs.
    #[arg(long)]
    explain: bool,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, None)?;
    if args.explain {
        let timeline = Timeline::of(&plan, plan.seed.unwrap_or(0));
        super::print(&plan::explain(&plan, &timeline))?;
    } else {
        super::tell(&format!("{}: no problems", args.plan.display()));
    }
    Ok(Exit::Pass)
}
