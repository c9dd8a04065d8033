//! Which kubeconfig, and as whom: what `kubectl` has flags for, under the same names.

use crate::cluster::Impersonation;
use crate::cluster::access::Reach;
use crate::exit::{Exit, Failure};
use crate::plan::{ClusterChoice, Plan};

/// How a cluster is reached.
#[derive(clap::Args)]
pub struct Flags {
    /// The kubeconfig of the cluster's context; `$KUBECONFIG` or `~/.kube/config` when absent.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Speak to the cluster as this user.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Speak to the cluster as a member of this group; may be given again.
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
}

impl Flags {
    /// The way to the cluster of this plan. Refused where the plan has none that it could lead to.
    pub fn reach(self, plan: &Plan) -> Result<Reach, Failure> {
        let Flags { kubeconfig, user, groups } = self;
        let reach = Reach { kubeconfig, who: user.map(|user| Impersonation { user, groups }) };
        if reach != Reach::default() && !matches!(plan.cluster, ClusterChoice::Context(_)) {
            let message = "--kubeconfig and --as lead to a cluster, and this plan runs in none that is not Squall's own: \
                           add `--cluster current`, or the name of a context";
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(reach)
    }
}
