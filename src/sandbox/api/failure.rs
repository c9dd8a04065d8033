//! What the server says when it refuses: a Kubernetes `Status`, worded as a real server words it, because clients read the reason and
//! people read the message.

use serde_json::{Value, json};

use super::super::resource::Resource;
use super::super::store::{Gone, StoreError};

/// A refusal.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    /// The `details` of the Status. Boxed, because every answer that goes well carries the size of this type, too.
    pub details: Option<Box<Value>>,
    pub retry_after_s: Option<u64>,
}

/// One thing that is wrong with an object.
#[derive(Clone, PartialEq, Debug)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: &'static str,
    pub message: String,
    /// The path: `spec.template.metadata.labels`.
    pub field: String,
}

impl Cause {
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Cause {
        Cause { reason: "FieldValueInvalid", message: format!("Invalid value: {value}: {}", why.as_ref()), field: field.into() }
    }

    pub fn required(field: impl Into<String>, why: impl AsRef<str>) -> Cause {
        let why = if why.as_ref().is_empty() { String::new() } else { format!(": {}", why.as_ref()) };
        Cause { reason: "FieldValueRequired", message: format!("Required value{why}"), field: field.into() }
    }

    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Cause {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        Cause { reason: "FieldValueNotSupported", message, field: field.into() }
    }

    pub fn forbidden(field: impl Into<String>, why: impl AsRef<str>) -> Cause {
        Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {}", why.as_ref()), field: field.into() }
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause { reason: "FieldValueDuplicate", message: format!("Duplicate value: {value}"), field: field.into() }
    }
}

impl Failure {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: None, retry_after_s: None }
    }

    pub fn with(mut self, details: Value) -> Failure {
        self.details = Some(Box::new(details));
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    pub fn not_found(resource: &'static Resource, name: &str) -> Failure {
        Failure::new(404, "NotFound", format!("{} \"{name}\" not found", resource.qualified())).with(details(resource, name))
    }

    /// The path names nothing that is served.
    pub fn no_such_resource() -> Failure {
        Failure::new(404, "NotFound", "the server could not find the requested resource").with(json!({}))
    }

    /// Of a kind that a definition brings, the server does not know which of its lists are keyed.
    pub fn no_strategic_patch() -> Failure {
        let message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
            application/merge-patch+json, application/apply-patch+yaml";
        Failure::new(415, "UnsupportedMediaType", message).with(json!({}))
    }

    pub fn method_not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        Failure::new(405, "MethodNotAllowed", message).with(json!({}))
    }

    /// An object that breaks rules: all of them at once.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Failure {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let told: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let told = if let [one] = &told[..] { one.clone() } else { format!("[{}]", told.join(", ")) };
        let list: Vec<Value> = causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
        let mut about = json!({"name": name, "group": group, "kind": kind, "causes": list});
        for empty in ["name", "group"] {
            if about[empty] == "" {
                about.as_object_mut().expect("made as an object above").shift_remove(empty);
            }
        }
        Failure::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {told}")).with(about)
    }

    pub fn too_many(message: impl Into<String>, retry_after_s: u64) -> Failure {
        let mut failure = Failure::new(429, "TooManyRequests", message).with(json!({"retryAfterSeconds": retry_after_s}));
        failure.retry_after_s = Some(retry_after_s);
        failure
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason});
        if let Some(details) = &self.details {
            status["details"] = (**details).clone();
        }
        status["code"] = json!(self.code);
        status
    }
}

/// `{name, group, kind}`, where kind is the plural and an empty group is left out.
pub fn details(resource: &Resource, name: &str) -> Value {
    match resource.group {
        "" => json!({"name": name, "kind": resource.plural}),
        group => json!({"name": name, "group": group, "kind": resource.plural}),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::NotFound { resource, name } => Failure::not_found(resource, &name),
            StoreError::AlreadyExists { resource, name } => {
                let message = format!("{} \"{name}\" already exists", resource.qualified());
                Failure::new(409, "AlreadyExists", message).with(details(resource, &name))
            }
            StoreError::Conflict { resource, name, why } => {
                let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
                Failure::new(409, "Conflict", message).with(details(resource, &name))
            }
            StoreError::Precondition { resource, name, why } => {
                let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.kind);
                Failure::new(409, "Conflict", message).with(json!({"name": name, "kind": resource.kind}))
            }
            StoreError::NoNamespace { namespace } => {
                let message = format!("namespaces \"{namespace}\" not found");
                Failure::new(404, "NotFound", message).with(json!({"name": namespace, "kind": "namespaces"}))
            }
            StoreError::NamespaceTerminating { resource, name, namespace } => {
                let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
                let mut about = details(resource, &name);
                about["causes"] = json!([{"reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace"}]);
                let message = format!("{} \"{name}\" is forbidden: {why}", resource.qualified());
                Failure::new(403, "Forbidden", message).with(about)
            }
            StoreError::Forbidden { resource, ref name, .. } => {
                Failure::new(403, "Forbidden", error.to_string()).with(details(resource, name))
            }
            StoreError::Full { .. } => Failure::new(507, "InsufficientStorage", error.to_string()),
            StoreError::Refused(why) => Failure::bad_request(why),
        }
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Failure {
        Failure::new(410, "Expired", gone.to_string())
    }
}
