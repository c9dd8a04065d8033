//! `squall judge`: an old run, judged again. No request is sent.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::run;

/// Which run, and by which plan.
#[derive(clap::Args)]
pub struct Args {
    /// The run's folder.
    run: PathBuf,
    /// Judge by the assertions of this plan instead of the run's own.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Set a parameter of that plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment, requires = "plan")]
    sets: Vec<(String, String)>,
    /// Print the findings as JSON instead of the report.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let judged = run::judge(&args.run, args.plan.as_deref(), &args.sets)?;
    if args.json {
        let findings = serde_json::to_string_pretty(&judged.findings).expect("findings are JSON");
        super::print(&format!("{findings}\n"))?;
    } else {
        super::print_report(&judged, false)?;
    }
    Ok(judged.exit)
}
