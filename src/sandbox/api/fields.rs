//! Field selectors: `status.phase=Running,spec.nodeName!=a`. Each resource supports a few fields, as on a real server; any other is
//! refused, so that nobody takes an unfiltered list for a filtered one.

use serde_json::Value;

use super::super::resource::Resource;
use super::failure::Failure;

/// What fields must be like. Empty: anything.
#[derive(Clone, Default, Debug)]
pub struct FieldSelector {
    /// Path, whether it must be equal, value.
    terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    pub fn parse(resource: &'static Resource, text: &str) -> Result<FieldSelector, Failure> {
        let mut terms = vec![];
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let split = |sign| term.split_once(sign);
            let (path, equal, value) = if let Some((path, value)) = split("!=") {
                (path, false, value)
            } else if let Some((path, value)) = split("==").or_else(|| split("=")) {
                (path, true, value)
            } else {
                return Err(Failure::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'")));
            };
            let always = ["metadata.name", "metadata.namespace"];
            if !always.contains(&path) && !supported(resource).contains(&path) {
                return Err(Failure::bad_request(format!("field label not supported: {path}")));
            }
            terms.push((path.to_owned(), equal, value.to_owned()));
        }
        Ok(FieldSelector { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The name that it asks for, which permits looking at one object instead of all.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|(path, equal, wanted)| (value_at(object, path) == *wanted) == *equal)
    }
}

fn supported(resource: &'static Resource) -> &'static [&'static str] {
    match resource.kind {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "Job" => &["status.successful"],
        "Namespace" => &["status.phase"],
        "Node" => &["spec.unschedulable"],
        "ReplicaSet" => &["status.replicas"],
        "Secret" => &["type"],
        "Service" => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

fn value_at(object: &Value, path: &str) -> String {
    if path == "status.successful" {
        // The number of a Job's pods that succeeded goes by another name in selectors.
        return object["status"]["succeeded"].as_i64().unwrap_or(0).to_string();
    }
    let mut value = object;
    for step in path.split('.') {
        value = &value[step];
    }
    match value {
        Value::String(text) => text.clone(),
        // An event's source selects by its component.
        Value::Object(source) => source.get("component").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::PODS;
    use super::*;
    use serde_json::json;

    #[test]
    fn only_supported_fields_select() {
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        let holds = |text: &str| FieldSelector::parse(&PODS, text).unwrap().matches(&pod);
        assert!(holds("status.phase=Running,metadata.name==a,spec.nodeName!=x") && holds("") && holds("spec.hostNetwork=false"));
        assert!(!holds("status.phase!=Running") && !holds("metadata.name=b"));
        assert_eq!(FieldSelector::parse(&PODS, "spec.foo=x").unwrap_err().message, "field label not supported: spec.foo");
    }
}
