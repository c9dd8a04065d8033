//! The admission of a ScaledObject that needs its neighbours, in the words of KEDA's webhook: a workload has one autoscaler, and an
//! autoscaler one ScaledObject.

use std::sync::Arc;

use serde_json::Value;

use super::super::controllers::scaled_object::spec::{hpa_name, target_kind};
use super::super::resource::{HPAS, Resource, SCALEDOBJECTS};
use super::super::store::{Store, text};
use super::failure::Failure;

/// On an autoscaler: its owner may be another.
const HPA_OWNERSHIP: &str = "validations.keda.sh/hpa-ownership";

/// What scales in a namespace.
#[derive(Default)]
pub struct Neighbours {
    scaled_objects: Vec<Arc<Value>>,
    autoscalers: Vec<Arc<Value>>,
}

impl Neighbours {
    /// Those of an object of this kind; of other kinds there are none. Asks the store, so not to be called while it is being written.
    pub fn of(store: &Store, resource: &'static Resource, namespace: &str) -> Neighbours {
        let all = |kind: &'static Resource| store.list(kind, Some(namespace)).0;
        match *resource == SCALEDOBJECTS {
            true => Neighbours { scaled_objects: all(&SCALEDOBJECTS), autoscalers: all(&HPAS) },
            false => Neighbours::default(),
        }
    }

    pub fn admit(&self, object: &Value) -> Result<(), Failure> {
        match self.conflict(object) {
            None => Ok(()),
            Some(why) => {
                let message = format!("admission webhook \"vscaledobject.kb.io\" denied the request: {why}");
                Err(Failure::new(403, "Forbidden", message))
            }
        }
    }

    fn conflict(&self, object: &Value) -> Option<String> {
        let aim = |object: &Value| {
            let target = &object["spec"]["scaleTargetRef"];
            let (version, kind) = target_kind(target);
            (format!("{version}.{kind}"), target["name"].as_str().unwrap_or_default().to_owned())
        };
        let (of, workload) = aim(object);
        let managed = |by: &str| format!("the workload '{workload}' of type '{of}' is already managed by the {by}");
        let name = text(object, "name");
        for other in self.scaled_objects.iter().filter(|other| text(other, "name") != name) {
            if aim(other) == (of.clone(), workload.clone()) {
                return Some(managed(&format!("ScaledObject '{}'", text(other, "name"))));
            }
            let hpa = hpa_name(object);
            if hpa_name(other) == hpa {
                return Some(format!("the HPA '{hpa}' is already managed by the ScaledObject '{}'", text(other, "name")));
            }
        }
        let is_own = |hpa: &Value| {
            let owners = hpa["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| owner["kind"] == "ScaledObject" && owner["name"] == name)
        };
        let counts = |hpa: &&Arc<Value>| hpa["metadata"]["annotations"][HPA_OWNERSHIP] != "false" && !is_own(hpa);
        let hpa = self.autoscalers.iter().filter(counts).find(|hpa| aim(hpa) == (of.clone(), workload.clone()))?;
        Some(managed(&format!("hpa '{}'", text(hpa, "name"))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_has_one_autoscaler_and_an_autoscaler_one_scaled_object() {
        let scaled =
            |name: &str, workload: &str| json!({"metadata": {"name": name}, "spec": {"scaleTargetRef": {"name": workload}}});
        let hpa = |name: &str, workload: &str, owner: &str| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": workload});
            json!({"metadata": {"name": name, "ownerReferences": [{"kind": "ScaledObject", "name": owner}]}, "spec": {"scaleTargetRef": target}})
        };
        let neighbours = Neighbours {
            scaled_objects: vec![Arc::new(scaled("a", "web"))],
            autoscalers: vec![Arc::new(hpa("keda-hpa-a", "web", "a")), Arc::new(hpa("other", "api", ""))],
        };
        assert_eq!(neighbours.conflict(&scaled("a", "web")), None);
        assert_eq!(neighbours.conflict(&scaled("b", "db")), None);
        let why = "the workload 'web' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'a'";
        assert_eq!(neighbours.conflict(&scaled("b", "web")).as_deref(), Some(why));
        let why = "the workload 'api' of type 'apps/v1.Deployment' is already managed by the hpa 'other'";
        assert_eq!(neighbours.conflict(&scaled("b", "api")).as_deref(), Some(why));
        let mut same = scaled("b", "db");
        same["spec"]["advanced"] = json!({"horizontalPodAutoscalerConfig": {"name": "keda-hpa-a"}});
        assert!(neighbours.conflict(&same).is_some_and(|why| why.contains("HPA 'keda-hpa-a'")));
        let mut stateful = scaled("b", "web");
        stateful["spec"]["scaleTargetRef"]["kind"] = json!("StatefulSet");
        assert_eq!(neighbours.conflict(&stateful), None);
    }
}
