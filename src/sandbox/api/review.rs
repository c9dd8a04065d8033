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
    if kind == "SelfSubjectRulesReview" {
        // A real server does not repeat the question.
        review["spec"] = json!({});
    }
    if let Some(attributes) = review["spec"].get_mut("resourceAttributes").and_then(Value::as_object_mut) {
        attributes.retain(|_, value| value != "");
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
                ask("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                ask("authentication.k8s.io", &["selfsubjectreviews"]),
            ];
            json!({"resourceRules": rules, "nonResourceRules": documents(), "incomplete": false})
        }
    };
    Ok(reply::json(201, &review))
}

/// What everybody may read who is known at all, in a real server's roles `system:discovery`, `system:public-info-viewer` and
/// `system:service-account-issuer-discovery`.
fn documents() -> Value {
    const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    const DISCOVERY: [&str; 11] =
        ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"];
    let read = |urls: &[&str]| json!({"verbs": ["get"], "nonResourceURLs": urls});
    json!([read(&PUBLIC), read(&DISCOVERY), read(&["/.well-known", "/.well-known/*"])])
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
