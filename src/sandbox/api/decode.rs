//! From a request's body to an object of the kind that the path names: wrong types are refused, unknown fields are refused, warned
//! about or dropped as the client wishes, nulls mean "not given", and quantities get the one spelling that they have on a server.

use base64::DecodeError;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::super::quantity;
use super::super::resource::Resource;
use super::super::schema::{self, Keys, Shape};
use super::failure::Failure;

/// What to do about unknown fields, as the query's `fieldValidation` says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// An object, and what there is to warn about.
#[derive(Debug)]
pub struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// The JSON of a body. `kind` is what was expected, for the message.
pub fn json(body: &[u8], kind: &str) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let start: String = String::from_utf8_lossy(body).chars().take(64).collect();
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error} ({start})"
        ))
    })
}

/// The same of a body in YAML. Most clients send JSON here, too, which is YAML and read faster as what it is.
pub fn yaml(body: &[u8], kind: &str) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = String::from_utf8_lossy(body);
    crate::plan::manifest::read_one(&text, "the body of the request")
        .map_err(|problems| Failure::bad_request(format!("error decoding YAML (must be of type {kind}): {problems}")))
}

/// Checks that `object` says to be of `kind`, and brings it into that kind's shape.
pub fn object(resource: &'static Resource, object: Value, validation: FieldValidation) -> Result<Decoded, Failure> {
    let (kind, api_version) = (resource.kind, resource.api_version());
    if !object.is_object() {
        return Err(Failure::bad_request(format!("the object provided is unrecognized (must be of type {kind})")));
    }
    let said = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (said_version, said_kind) = (said("apiVersion"), said("kind"));
    if !said_version.is_empty() && said_version != api_version {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !said_kind.is_empty() && said_kind != kind {
        return Err(Failure::bad_request(format!(
            "{said_kind} in version \"{}\" cannot be handled as a {kind}: no conversion between them",
            resource.version
        )));
    }
    fitted(resource.type_name(), kind, resource.version, object, validation)
}

/// Brings an object into the shape of the type `kind`.
pub fn shaped(kind: &'static str, version: &str, object: Value, validation: FieldValidation) -> Result<Decoded, Failure> {
    fitted(kind, kind, version, object, validation)
}

fn fitted(
    type_name: &'static str,
    kind: &str,
    version: &str,
    mut object: Value,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let mut unknown = vec![];
    let root = Shape::Struct(type_name);
    let handled = |why: String| format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}");
    fit(&root, &mut object, kind, &mut vec![], &mut unknown).map_err(|why| Failure::bad_request(handled(why)))?;
    let told: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        FieldValidation::Strict if !told.is_empty() => {
            Err(Failure::bad_request(handled(format!("strict decoding error: {}", told.join(", ")))))
        }
        FieldValidation::Warn => Ok(Decoded { object, warnings: told }),
        FieldValidation::Ignore | FieldValidation::Strict => Ok(Decoded { object, warnings: vec![] }),
    }
}

/// One step of a path: a field, or the index of a list. Wrong types are told without indexes, unknown fields with them.
enum Step {
    Field(String),
    Index(usize),
}

fn fit(shape: &Shape, value: &mut Value, parent: &str, path: &mut Vec<Step>, unknown: &mut Vec<String>) -> Result<(), String> {
    let wrong = |value: &Value, go: String, path: &[Step]| {
        let fields: Vec<&str> = path.iter().filter_map(|s| if let Step::Field(f) = s { Some(f.as_str()) } else { None }).collect();
        Err(format!("json: cannot unmarshal {} into Go struct field {parent}.{} of type {go}", json_type(value), fields.join(".")))
    };
    match (shape, &mut *value) {
        (Shape::Any, _) | (_, Value::Null) => Ok(()),
        (Shape::Text | Shape::Time | Shape::MicroTime, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => Ok(()),
        (Shape::Bytes, Value::String(text)) => match BASE64.decode(text.replace(['\r', '\n'], "")) {
            Ok(_) => Ok(()),
            Err(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) | DecodeError::InvalidLength(at)) => {
                Err(format!("illegal base64 data at input byte {at}"))
            }
            Err(DecodeError::InvalidPadding) => Err(format!("illegal base64 data at input byte {}", text.len())),
        },
        (Shape::NumberOrText, Value::String(_) | Value::Number(_)) => Ok(()),
        (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
            let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            *value = Value::String(quantity::canonical(&said).ok_or(NO_QUANTITY)?);
            Ok(())
        }
        (Shape::Int32, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        (Shape::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
        (Shape::Struct(name), Value::Object(object)) => {
            let fields = schema::fields(name).expect("the schema's test holds that every name is a type");
            for (key, value) in object.iter_mut() {
                path.push(Step::Field(key.clone()));
                match fields.get(key.as_str()) {
                    Some(field) => fit(&field.shape, value, name, path, unknown)?,
                    None => unknown.push(printed(path)),
                }
                path.pop();
            }
            object.retain(|key, value| fields.contains_key(key.as_str()) && !value.is_null());
            Ok(())
        }
        (Shape::Map(inner), Value::Object(object)) => {
            for (key, value) in object.iter_mut() {
                path.push(Step::Field(key.clone()));
                fit(inner, value, parent, path, unknown)?;
                path.pop();
            }
            object.retain(|_, value| !value.is_null());
            Ok(())
        }
        (Shape::List(inner, _), Value::Array(list)) => {
            for (i, value) in list.iter_mut().enumerate() {
                path.push(Step::Index(i));
                fit(inner, value, parent, path, unknown)?;
                path.pop();
            }
            Ok(())
        }
        (shape, value) => wrong(value, go_type(shape), path),
    }
}

/// As Go reads it: bits that are left over at the end may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
const NO_QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

fn printed(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(field) if text.is_empty() => text += field,
            Step::Field(field) => text += &format!(".{field}"),
            Step::Index(i) => text += &format!("[{i}]"),
        }
    }
    text
}

fn json_type(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if n.is_i64() => "number".into(),
        Value::Number(n) => format!("number {n}"),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::Text => "string".into(),
        Shape::Time => "v1.Time".into(),
        Shape::MicroTime => "v1.MicroTime".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Bool => "bool".into(),
        Shape::NumberOrText => "intstr.IntOrString".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::Any => "interface {}".into(),
        Shape::Struct(name) => format!("v1.{name}"),
        Shape::Map(inner) => format!("map[string]{}", go_type(inner)),
        Shape::List(inner, _) => format!("[]{}", go_type(inner)),
    }
}

/// The shape of a field of `shape`, where it has one.
pub fn field<'a>(shape: &'a Shape, name: &str) -> &'a Shape {
    match shape {
        Shape::Struct(of) => schema::fields(of).and_then(|fields| fields.get(name)).map_or(&Shape::Any, |field| &field.shape),
        Shape::Map(inner) => inner,
        _ => &Shape::Any,
    }
}

/// How the elements of a list of `shape` are told apart, and what they are.
pub fn elements(shape: &Shape) -> (&Keys, &Shape) {
    match shape {
        Shape::List(inner, keys) => (keys, inner),
        _ => (&Keys::Atomic, &Shape::Any),
    }
}

/// An empty object, for what a path expects and a body leaves out.
pub fn empty() -> Value {
    Value::Object(Map::new())
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::{DEPLOYMENTS, SECRETS};
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_types_and_unknown_fields_are_told_as_a_real_server_tells_them() {
        let wrong = json!({"kind": "Deployment", "spec": {"replicas": "two"}});
        let failure = object(&DEPLOYMENTS, wrong, FieldValidation::Warn).unwrap_err();
        assert_eq!(
            failure.message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field \
             DeploymentSpec.spec.replicas of type int32"
        );
        let unknown = json!({"spec": {"replicass": 2, "template": {"spec": {"containers": [{"imag": 1}]}}, "paused": null}});
        let decoded = object(&DEPLOYMENTS, unknown.clone(), FieldValidation::Warn).unwrap();
        let warned = ["unknown field \"spec.replicass\"", "unknown field \"spec.template.spec.containers[0].imag\""];
        assert_eq!(decoded.warnings, warned);
        assert_eq!(decoded.object, json!({"spec": {"template": {"spec": {"containers": [{}]}}}}));
        let strict = object(&DEPLOYMENTS, unknown, FieldValidation::Strict).unwrap_err();
        assert!(strict.message.contains("strict decoding error: unknown field \"spec.replicass\""), "{}", strict.message);
    }
    #[test]
    fn bytes_are_base_64() {
        let secret = |text: &str| object(&SECRETS, json!({"data": {"a": text}}), FieldValidation::Strict);
        assert!(secret("Zm9v").is_ok() && secret("Zm8=\n").is_ok() && secret("Zm9=").is_ok() && secret("").is_ok());
        let why = "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 3";
        assert_eq!(secret("Zm9!").unwrap_err().message, why);
    }

    #[test]
    fn quantities_become_text_in_one_spelling_and_nonsense_is_refused() {
        let with =
            |cpu: Value| json!({"spec": {"template": {"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}}}});
        for (said, kept) in [(json!(1), "1"), (json!(0.5), "500m"), (json!("1000m"), "1"), (json!("64Mi"), "64Mi")] {
            let decoded = object(&DEPLOYMENTS, with(said), FieldValidation::Strict).unwrap();
            assert_eq!(decoded.object, with(json!(kept)));
        }
        for said in [json!("lots"), json!(true), json!("")] {
            let refused = object(&DEPLOYMENTS, with(said.clone()), FieldValidation::Warn).unwrap_err();
            assert_eq!(refused.code, 400, "{said}: {}", refused.message);
        }
        let ports = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}}});
        assert_eq!(object(&DEPLOYMENTS, ports.clone(), FieldValidation::Strict).unwrap().object, ports, "counts stay as they are");
    }
}
