//! Whether the agents of a plan's faults would be let in: tried by a dry run where their pods are there, read off the manifests where they
//! are not yet.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Examination, at_home, why};
use crate::cluster::{Cluster, Pod};
use crate::faults::preflight::{Findings, Ground};
use crate::names::ObjectRef;
use crate::plan::manifest::Manifest;
use crate::plan::{Plan, PlannedFault};

const ADMISSION: &str = "admission";

/// The cluster that is asked, where there is one, and what is to come.
pub(super) struct Asked<'a> {
    pub cluster: Option<&'a Cluster>,
    pub manifests: &'a [Manifest],
    pub home: &'a str,
    pub agent_image: Option<String>,
}

/// Looks at every fault.
pub(super) async fn admission(found: &mut Examination, plan: &Plan, asked: &Asked<'_>) {
    for fault in &plan.faults {
        let Some(object) = fault.spec.on().or(plan.target.workload.as_ref()) else { continue };
        let live = match asked.cluster {
            Some(cluster) => cluster.workload(object).await.map(|workload| (cluster, workload)).ok(),
            None => None,
        };
        match live {
            Some((cluster, workload)) => {
                let ground = Ground { cluster: cluster.clone(), workload, agent_image: asked.agent_image.clone() };
                match fault.spec.preflight(&ground).await {
                    Ok(findings) => told(found, findings),
                    Err(error) => found.unknown(ADMISSION, error.to_string(), "see to it, and look again"),
                }
            }
            None => foreseen(found, fault, object, asked).await,
        }
    }
}

/// Pods that the manifests will bring.
async fn foreseen(found: &mut Examination, fault: &PlannedFault, object: &ObjectRef, asked: &Asked<'_>) {
    let homely = |manifest: &Manifest| at_home(manifest, asked.home);
    let Some(pod) = asked.manifests.iter().find(|manifest| manifest.is(object)).and_then(|manifest| planned(&homely(manifest)))
    else {
        return;
    };
    let namespace = object.namespace.as_str();
    let brought = asked.manifests.iter().find(|manifest| manifest.kind() == "Namespace" && manifest.name() == namespace);
    let mut labels = BTreeMap::new();
    match (brought, asked.cluster) {
        (Some(manifest), _) => {
            let written = manifest.value["metadata"]["labels"].as_object().into_iter().flatten();
            labels.extend(written.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
        }
        (None, Some(cluster)) => match cluster.labels_of_namespace(namespace).await {
            Ok(there) => labels = there,
            Err(error) => {
                let words = format!("what the pods of namespace {namespace} may is not known: {}", why(error));
                found.unknown(ADMISSION, words, "let whoever looks read the namespace, or look once the pods are there");
            }
        },
        (None, None) => {}
    }
    told(found, fault.spec.foresee(&pod, &labels));
}

/// A pod as the template of a workload has it.
fn planned(workload: &Value) -> Option<Pod> {
    let mut pod = workload.pointer("/spec/template")?.clone();
    // What people wrote, which need not be what it should be: an API server will tell them.
    let metadata = pod.get_mut("metadata")?.as_object_mut()?;
    for field in ["namespace", "name"] {
        metadata.insert(field.into(), workload["metadata"][field].clone());
    }
    metadata.insert("uid".into(), "".into());
    Pod::read(&pod)
}

fn told(found: &mut Examination, findings: Findings) {
    for words in findings.unknown {
        found.unknown(ADMISSION, words, "see to it, and look again");
    }
    for refusal in findings.refusals {
        found.unfit(ADMISSION, Some(refusal.object), refusal.cause, refusal.fix);
    }
    if let Some(words) = findings.fine {
        found.ok(ADMISSION, words);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_that_is_none_is_no_pod_and_no_panic() {
        let of = |template: Value| planned(&json!({"metadata": {"namespace": "s", "name": "web"}, "spec": {"template": template}}));
        for malformed in [json!("web"), json!([]), json!(null), json!({}), json!({"metadata": []}), json!({"metadata": null})] {
            assert!(of(malformed.clone()).is_none(), "{malformed}");
        }
        assert!(planned(&json!({"metadata": {"namespace": "s", "name": "web"}, "spec": []})).is_none());
        let pod = of(json!({"metadata": {"labels": {"app": "web"}}, "spec": {"hostNetwork": true}})).expect("it is one");
        assert!(pod.label() == "s/web" && pod.host_network);
    }
}
