//! `squall capacity`: the highest rate at which an objective of a plan holds.

use std::path::PathBuf;

use crate::capacity::{PROBE, RESOLUTION, Scope, resolution};
use crate::exit::{Exit, Failure};
use crate::names::Name;
use crate::plan::{ClusterChoice, Steady};
use crate::report::Detail;
use crate::report::capacity as reports;
use crate::run::capacity::{Onlooker, Search, name, search};
use crate::run::{Audience, Folder};
use crate::units::{Rate, Span};

/// The search starts at the plan's own rate where nobody says, and goes no further down than to this share of it.
const LOWEST: f64 = 0.1;
/// Nothing sends faster than this.
const HIGHEST: f64 = 10_000_000.0;

/// Which plan, which of its objectives, and where to look.
#[derive(clap::Args)]
#[command(
    after_help = "The rate doubles until the objective fails, is bisected, and is confirmed in a longer probe. The loads keep their \
                        proportions; faults are left out. A probe that decides nothing is made again, longer. Exit codes: 0 found and confirmed, 1 even the lowest rate fails, 3 inconclusive."
)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// The `slo` assertion that is to hold.
    #[arg(long, value_name = "NAME")]
    slo: Name,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// Run here instead of where the plan says: `sandbox`, `none`, or a context of the kubeconfig.
    #[arg(long, value_name = "WHERE")]
    cluster: Option<ClusterChoice>,
    #[command(flatten)]
    reach: super::reach::Flags,
    /// The lowest rate, where the search starts. The plan's own when absent, and then down to a tenth of it.
    #[arg(long, value_name = "RATE")]
    from: Option<Rate>,
    /// The highest rate that may be tried; until it fails or this machine is the limit when absent.
    #[arg(long, value_name = "RATE")]
    to: Option<Rate>,
    /// How near the highest rate that held and the lowest that failed must come: `5%`.
    #[arg(long, value_name = "SHARE", default_value = RESOLUTION, value_parser = resolution)]
    resolution: f64,
    /// How long a probe is at least; as long as the objective needs samples for in any case, and three times that to confirm.
    #[arg(long, value_name = "SPAN", default_value_t = PROBE)]
    probe: Span,
    /// The search's folder; it must be new or empty. `reports/<search-id>/` when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make the same choices as an earlier search: the arrivals of each probe.
    #[arg(long)]
    seed: Option<u64>,
    /// Nothing but the answer.
    #[arg(long, short)]
    quiet: bool,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, args.cluster)?;
    let reach = args.reach.reach(&plan)?;
    let seed = args.seed.or(plan.seed).unwrap_or_else(super::run::fresh_seed);
    let usage = |why: String| Failure::new(Exit::Usage, why);
    let steady = Steady::of(plan, &args.plan, &args.slo).map_err(usage)?;
    let scope = scope(&steady, args.from, args.to, args.resolution).map_err(usage)?;
    let folder = Folder::create(&name(&steady.plan().name), seed, args.out.as_deref())?;
    let path = folder.path.clone();
    let env = |name: &str| std::env::var(name).ok();
    let order = Search { steady, plan_file: args.plan, scope, least: args.probe, seed, folder, reach, env: &env };
    let quiet = args.quiet;
    let found = super::run::watched(&path, async |interrupts| search(order, interrupts, &mut Watch { quiet }).await)?;
    let detail = if quiet { Detail::Brief } else { Detail::Full };
    reports::print(&found, detail)
        .map_err(|error| Failure::new(Exit::Environment, format!("failed to write to stdout: {error}")))?;
    let exit = Exit::ALL.into_iter().find(|exit| exit.code() == found.exit_code).unwrap_or(Exit::Bug);
    if let Some(why) = found.unsaved {
        return Err(Failure::new(exit.or_worse(Exit::Environment), why));
    }
    if !quiet {
        super::tell(&format!("all of it is in {}/: capacity.json, capacity.csv, and a folder for each probe", path.display()));
    }
    Ok(exit)
}

fn scope(steady: &Steady, from: Option<Rate>, to: Option<Rate>, resolution: f64) -> Result<Scope, String> {
    let said = |rate: Rate, flag: &str| match rate.per_second() {
        rate if rate > 0.0 && rate <= HIGHEST => Ok(rate),
        _ => Err(format!("{flag} {rate}: from more than 0/s to {HIGHEST}/s")),
    };
    let highest = to.map_or(Ok(HIGHEST), |to| said(to, "--to"))?;
    let (lowest, first) = match from {
        Some(from) => said(from, "--from").map(|from| (from, from))?,
        None => (steady.own() * LOWEST, steady.own()),
    };
    if lowest > highest {
        return Err(match from {
            Some(from) => format!("--from {from} is more than --to {highest}/s: nothing lies between"),
            None => format!("--to {highest}/s is less than a tenth of the plan's rate: say where to start with --from"),
        });
    }
    Ok(Scope { lowest, first: first.min(highest), highest, resolution })
}

/// How a search shows on stderr.
struct Watch {
    quiet: bool,
}

impl Onlooker for Watch {
    fn say(&mut self, words: &str) {
        if !self.quiet {
            super::tell(words);
        }
    }

    fn audience(&mut self) -> Box<dyn Audience> {
        Box::new(super::run::Screen::of_many(self.quiet))
    }
}
