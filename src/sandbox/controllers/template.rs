//! A pod as its owner's template has it: what the owner makes of it beyond that (a name, an index) is its own business.

use serde_json::{Value, json};

use crate::sandbox::objects::controlled_by;
use crate::sandbox::store::text;

/// A new pod of `owner`, with a generated name. What the template leaves open is completed when it is stored.
pub fn pod_of(owner: &Value) -> Value {
    let template = &owner["spec"]["template"];
    let mut metadata = json!({
        "generateName": format!("{}-", text(owner, "name")), "namespace": text(owner, "namespace"),
        "labels": template["metadata"]["labels"], "ownerReferences": [controlled_by(owner)],
    });
    if template["metadata"]["annotations"].is_object() {
        metadata["annotations"] = template["metadata"]["annotations"].clone();
    }
    json!({"metadata": metadata, "spec": template["spec"]})
}
