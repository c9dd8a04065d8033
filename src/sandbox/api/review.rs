//! Questions about the asker: "who am I?", "may I do this?", "what may I do?". Whoever has the token may do everything, and whoever is
//! impersonated nothing but ask.

use serde_json::{Value, json};

use super::failure::Failure;
use super::reply::{self, Reply};
use super::request::{Request, Target};
use super::{User, body, decode};

/// Who has the token is called so.
const OWNER: &str = "squall";

pub fn answers(kind: &str) -> bool {
    matches!(kind, "SelfSubjectReview" | "SelfSubjectAccessReview" | "SelfSubjectRulesReview")
}

pub fn answer(target: &Target, request: &Request, user: &User) -> Result<Reply, Failure> {
    let kind = target.resource.kind;
    let mut review = decode::shaped(kind, "v1", body(request, kind)?, decode::FieldValidation::Ignore)?.object;
    review["kind"] = json!(kind);
    review["apiVersion"] = json!(target.resource.api_version());
    if review["metadata"].is_null() {
        review["metadata"] = decode::empty();
    }
    review["status"] = match (kind, user) {
        ("SelfSubjectReview", user) => json!({"userInfo": who(user)}),
        ("SelfSubjectAccessReview", User::Owner) => {
            json!({"allowed": true, "reason": "the sandbox's token may do everything"})
        }
        ("SelfSubjectAccessReview", User::Other { .. }) => json!({"allowed": false}),
        (_, User::Owner) => json!({"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}], "incomplete": false}),
        (_, User::Other { .. }) => {
            let ask = |group: &str, resources: &[&str]| json!({"verbs": ["create"], "apiGroups": [group], "resources": resources});
            let rules = [
                ask("authentication.k8s.io", &["selfsubjectreviews"]),
                ask("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            ];
            json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false})
        }
    };
    Ok(reply::json(201, &review))
}

fn who(user: &User) -> Value {
    match user {
        User::Owner => json!({"username": OWNER, "groups": ["system:masters", "system:authenticated"]}),
        User::Other { name, groups } => {
            let groups: Vec<&str> = groups.iter().map(String::as_str).chain(["system:authenticated"]).collect();
            json!({"username": name, "groups": groups})
        }
    }
}
