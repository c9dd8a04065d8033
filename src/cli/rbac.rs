//! `squall rbac`: what a plan needs of a cluster, as the objects that grant it.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::plan::ClusterChoice;
use crate::run;

/// Which plan, and where its account lives.
#[derive(clap::Args)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// As if it ran here instead of where the plan says: `sandbox`, `none`, or a context of the kubeconfig.
    #[arg(long, value_name = "WHERE")]
    cluster: Option<ClusterChoice>,
    /// Where the account lives, and manifests without a namespace go. The target's namespace when absent, `default` where a
    /// manifest names none.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, args.cluster)?;
    let objects = run::rbac(&plan, args.namespace.as_deref())?;
    if objects.is_empty() {
        super::tell(&format!("{}: it runs without a cluster, and needs no permission of one", args.plan.display()));
    }
    super::print(&objects)?;
    Ok(Exit::Pass)
}
