//! `squall check`: every problem of a plan, before anything runs.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::plan;
use crate::run::{self, Wanted};
use crate::timeline::Timeline;

/// Which plan, with which parameters.
#[derive(clap::Args)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// Print the plan with every default filled in, its timeline, its cost and what it needs of this machine; it takes a second to
    /// measure what a request costs here.
    #[arg(long)]
    explain: bool,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, None)?;
    let timeline = Timeline::of(&plan, plan.seed.unwrap_or(0));
    let fit = super::fit(&plan, &timeline, if args.explain { Wanted::Always } else { Wanted::Never })?;
    if args.explain {
        super::print(&plan::explain(&plan, &timeline))?;
        let rights = run::needed(&plan, None)?.rights;
        if !rights.is_empty() {
            super::print(&plan::section("permissions in a cluster that is not the sandbox", &rights.lines()))?;
        }
        super::print(&plan::section("this machine", &fit.lines))?;
    }
    fit.remarks.iter().for_each(|remark| super::tell(&format!("note: {remark}")));
    super::fitting(&fit)?;
    if !args.explain {
        super::tell(&format!("{}: no problems", args.plan.display()));
    }
    Ok(Exit::Pass)
}
