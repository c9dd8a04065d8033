//! `squall doctor`: what stands between a plan and a run that says something. It changes nothing.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::plan::{self, ClusterChoice};
use crate::run::doctor::{Check, Examination, State, examine};

/// Which plan, and where it would run.
#[derive(clap::Args)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// Look here instead of where the plan says: `sandbox`, `none`, or a context of the kubeconfig.
    #[arg(long, value_name = "WHERE")]
    cluster: Option<ClusterChoice>,
    /// Where manifests without a namespace go, if not where the kubeconfig says.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    agent_image: super::agent_image::Flag,
    #[command(flatten)]
    reach: super::reach::Flags,
    /// Print every check as JSON instead of the page.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, args.cluster)?;
    let reach = args.reach.reach(&plan)?;
    let image = args.agent_image.named();
    let found = super::runtime()?.block_on(examine(&plan, &reach, args.namespace.as_deref(), image))?;
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&found).expect("checks are JSON")))?;
    } else {
        super::print(&page(&found))?;
    }
    Ok(found.exit())
}

/// What is as it should be in a line each, what is not with object, cause and fix.
fn page(found: &Examination) -> String {
    let ok = |gotcha: bool| {
        let known = move |name: &str| crate::gotchas::ALL.iter().any(|row| row.name == name);
        found.checks.iter().filter(move |check| check.state == State::Ok && known(&check.check) == gotcha)
    };
    let mut lines: Vec<(&str, String)> = ok(false).map(|check| (check.check.as_str(), check.cause.clone())).collect();
    let absent: Vec<&str> = ok(true).map(|check| check.check.as_str()).collect();
    if !absent.is_empty() {
        lines.push(("not there", absent.join(", ")));
    }
    let mut page = plan::section(&format!("ok: {}, in {}", found.plan, found.cluster), &lines).trim_start().to_owned();
    // What has one fix is told together: ten permissions that are missing are granted at once.
    let mut told: Vec<&Check> = found.checks.iter().filter(|check| check.state != State::Ok).collect();
    told.sort_by_key(|check| found.checks.iter().position(|other| other.check == check.check && other.state == check.state));
    for checks in told.chunk_by(|a, b| (&a.check, a.state, &a.fix) == (&b.check, b.state, &b.fix)) {
        let check = checks[0];
        let word = match check.state {
            State::Ok | State::Note => "NOTE",
            State::Unknown => "UNKNOWN",
            State::Wrong => "WRONG",
        };
        let each = checks.iter().flat_map(|check| {
            let object = check.object.iter().map(|object| ("object", object.clone()));
            object.chain([("cause", check.cause.clone())])
        });
        let fix = check.fix.iter().map(|fix| ("fix", fix.clone()));
        let lines: Vec<(&str, String)> = each.chain(fix).collect();
        page.push_str(&plan::section(&format!("{word}: {}", check.check), &lines));
    }
    page
}
