//! Limits on the damage: what a fault may never touch, checked before anything is. Each refusal says which limit was met.

use super::Error;
use crate::cluster::Workload;

/// Namespaces that hold the cluster itself together.
pub const PROTECTED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether a namespace holds the cluster together: no fault is injected there, whoever asks.
pub fn is_protected(namespace: &str) -> bool {
    PROTECTED.contains(&namespace) || namespace.starts_with("openshift-")
}

/// Whether faults may be injected into this cluster at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// The embedded sandbox: it is there to be broken.
    Sandbox,
    /// A real cluster, and a person said that faults are allowed there.
    Granted,
    /// A real cluster, and nobody said so.
    Withheld,
}

/// Refuses what may never be touched, whatever the fault.
pub fn admit(permission: Permission, workload: &Workload, server: &str) -> Result<(), Error> {
    if permission == Permission::Withheld {
        return Err(Error::Refused(format!(
            "faults are not allowed in the cluster at {server}: it is not the sandbox; say --allow-faults to break things there"
        )));
    }
    let namespace = workload.object.namespace.as_str();
    if is_protected(namespace) {
        return Err(Error::Refused(format!(
            "{} is in {namespace}, which is protected: no fault is injected there",
            workload.object
        )));
    }
    Ok(())
}

/// Refuses to take away the last ready pod.
pub fn admit_loss(workload: &Workload, taken: usize, ready: usize) -> Result<(), Error> {
    if ready == 0 {
        return Err(Error::Refused(format!("{} has no ready pod to take", workload.object)));
    }
    if taken >= ready {
        return Err(Error::Refused(format!(
            "taking {taken} of {ready} ready pods of {} would leave none: the last ready pod is never taken; ask for at most {}",
            workload.object,
            ready - 1
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workload(namespace: &str) -> Workload {
        let object = format!("{namespace}/deployment/x").parse().unwrap();
        Workload::read(&object, &json!({"metadata": {"uid": "u"}})).unwrap()
    }

    #[test]
    fn a_real_cluster_needs_permission_and_some_places_never_get_it() {
        assert!(admit(Permission::Sandbox, &workload("shop"), "s").is_ok());
        assert!(admit(Permission::Granted, &workload("shop"), "s").is_ok());
        let refused = admit(Permission::Withheld, &workload("shop"), "https://prod").unwrap_err().to_string();
        assert!(refused.contains("--allow-faults") && refused.contains("https://prod"), "{refused}");
        assert!(admit(Permission::Granted, &workload("kube-system"), "s").is_err());
    }

    #[test]
    fn the_last_ready_pod_is_never_taken() {
        let workload = workload("shop");
        assert!(admit_loss(&workload, 1, 2).is_ok());
        assert!(
            admit_loss(&workload, 1, 1).is_err() && admit_loss(&workload, 3, 2).is_err() && admit_loss(&workload, 1, 0).is_err()
        );
    }
}
