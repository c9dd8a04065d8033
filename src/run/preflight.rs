//! What stands in the way of a plan's faults, asked before the load starts: a run whose faults are refused in the middle has sent its load
//! for nothing. It reads, asks what it may do, and tries what is not kept.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::Order;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::faults::Error;
use crate::faults::preflight::{Ground, Refusal};
use crate::rights::{Need, Right, Rights, qualified};

const GRANT: &str = "grant it: `squall rbac` prints what the plan needs, for `kubectl apply -f`";
/// Questions to the server at once.
const AT_ONCE: usize = 8;

/// Refuses, with everything that stands in the way. What cannot be known is left to the fault's own moment.
pub(super) async fn preflight(cluster: &Cluster, order: &Order) -> Result<(), Failure> {
    let mut refusals = Vec::new();
    let minor = minor(cluster).await;
    for fault in &order.plan.faults {
        let Some(object) = fault.spec.on().or(order.plan.target.workload.as_ref()) else { continue };
        let mut rights = Rights::default();
        let vital: Vec<Right> = fault.spec.rights().iter().filter(|right| right.is_vital(minor)).copied().collect();
        rights.table(&object.namespace, &vital, fault.name.as_str());
        let mut found = missing(cluster, &rights).await;
        if let Ok(workload) = cluster.workload(object).await {
            let ground = Ground { cluster: cluster.clone(), workload, agent_image: order.agent_image.clone() };
            // A trial that is refused for want of a permission says nothing new.
            match fault.spec.preflight(&ground).await {
                Ok(findings) if found.is_empty() => found.extend(findings.refusals),
                // What may not even be read will not be touched, either.
                Err(error @ Error::Cluster(cluster::Error::Forbidden { .. })) if found.is_empty() => {
                    found.push(Refusal { object: object.to_string(), cause: error.to_string(), fix: GRANT.to_owned() })
                }
                Ok(_) | Err(_) => {}
            }
        }
        refusals.extend(found.into_iter().map(|refusal| format!("fault {}: {refusal}", fault.name)));
    }
    if refusals.is_empty() {
        return Ok(());
    }
    let message =
        format!("the plan's faults cannot be injected here, so nothing was sent and nothing was broken:\n{}", refusals.join("\n"));
    Err(Failure::new(Exit::Environment, message))
}

/// The minor version of the API server; the latest where it does not say.
async fn minor(cluster: &Cluster) -> u32 {
    let version = cluster.version().await.unwrap_or_default();
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX)
}

/// What is not granted of what is needed. What a server does not answer is not held against anybody.
async fn missing(cluster: &Cluster, rights: &Rights) -> Vec<Refusal> {
    let needs: Vec<&Need> = rights.each().map(|(need, _)| need).collect();
    let asked: Vec<BoxFuture<'_, _>> = needs.iter().map(|need| cluster.may(need).boxed()).collect();
    let answers: Vec<Result<bool, cluster::Error>> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
    let refused = needs.into_iter().zip(answers).filter(|(_, answer)| matches!(answer, Ok(false)));
    let refusal = |need: &Need| Refusal {
        object: format!(
            "{} {} in {}",
            need.verb,
            qualified(&need.group, &need.resource),
            need.namespace.as_deref().unwrap_or("any namespace")
        ),
        cause: "not granted".to_owned(),
        fix: GRANT.to_owned(),
    };
    refused.map(|(need, _)| refusal(need)).collect()
}
