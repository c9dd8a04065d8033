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

/// A short name for a template: FNV-1a over its JSON with sorted keys, in letters that spell no words.
pub fn hash(template: &Value, salt: i64) -> String {
    fn feed(value: &Value, hash: &mut u32) {
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                *hash = (*hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
            }
        };
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                for key in keys {
                    feed(&Value::String(key.clone()), hash);
                    feed(&map[key], hash);
                }
            }
            Value::Array(list) => {
                eat(b"[");
                for item in list {
                    feed(item, hash);
                }
            }
            other => eat(other.to_string().as_bytes()),
        }
    }
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = 2_166_136_261;
    feed(template, &mut hash);
    feed(&json!(salt), &mut hash);
    hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}
