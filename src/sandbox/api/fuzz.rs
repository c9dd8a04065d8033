//! A door for the fuzz targets (`tests/fuzz`) to what nobody else may call. Built for them alone, with `--cfg fuzzing`.

use serde_json::{Value, json};

use super::super::defaults::{self, Stage};
use super::super::resource::RESOURCES;
use super::super::schema::Shape;
use super::decode::{self, FieldValidation};
use super::failure::Failure;
use super::{patch, protobuf, request, validate};

/// The body of a request that makes an object of a kind, and one that patches it, with a line of nothing between them.
pub fn object(bytes: &[u8], kind: usize) {
    let resource = RESOURCES[kind % RESOURCES.len()];
    let cut = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (body, patched) = bytes.split_at(cut);
    if let Ok(read) = protobuf::object(body, resource.type_name()) {
        let _ = decode::object(resource, read, FieldValidation::Strict);
    }
    let made = decode::yaml(body, resource.kind).and_then(|body| decode::object(resource, body, FieldValidation::Warn));
    let Ok(mut made) = made else { return };
    if !made.object["metadata"].is_object() {
        made.object["metadata"] = json!({});
    }
    defaults::apply(resource, &mut made.object, Stage::New);
    if !validate::created(resource, &made.object).is_empty() {
        return;
    }
    let Ok(said) = serde_json::from_slice::<Value>(patched) else { return };
    let shape = Shape::Struct(resource.kind);
    let strategic = |object: &mut Value, said: &Value| patch::strategic(&shape, object, said);
    let patches: [&dyn Fn(&mut Value, &Value) -> Result<(), Failure>; 3] = [&patch::json_patch, &patch::merge, &strategic];
    for patch in patches {
        let mut after = made.object.clone();
        let patched = patch(&mut after, &said).and_then(|()| decode::object(resource, after, FieldValidation::Strict));
        if let Ok(mut after) = patched {
            defaults::apply(resource, &mut after.object, Stage::Changed);
            let _ = validate::updated(resource, &made.object, &after.object);
        }
    }
}

/// The path of a request, and its query.
pub fn request(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let _ = request::Target::parse(&request::segments(path));
    request::Query::parse(query);
}
