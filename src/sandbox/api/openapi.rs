//! An OpenAPI document per group, made from the [schema](super::super::schema): with it `kubectl apply` knows which lists are keyed, and
//! `kubectl explain` what there is to say.

use serde_json::{Map, Value, json};

use super::super::resource::Resource;
use super::super::schema::{self, Field, Keys, Shape};
use super::discovery::{RELEASE, served};

/// `/openapi/v3`: where each group's document is. Clients keep documents by their hash.
pub fn index() -> Value {
    let mut paths = Map::new();
    for resource in served() {
        let path = path_of(resource);
        let url = format!("/openapi/v3/{path}?hash={}-{:016x}", env!("CARGO_PKG_VERSION"), schema::fingerprint());
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn path_of(resource: &Resource) -> String {
    match resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

/// The document at `path` (`api/v1`, `apis/apps/v1`); `None` when there is none.
pub fn document(path: &str) -> Option<Value> {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in served().filter(|r| path_of(r) == path) {
        let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
        let name = resource.type_name();
        component(name, &mut schemas);
        let schema = &mut schemas[&schema_name(name)];
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        if !resource.summary.is_empty() {
            schema["description"] = json!(format!("In this sandbox: {}.", resource.summary));
        }
        let base = if resource.namespaced { format!("/{path}/namespaces/{{namespace}}") } else { format!("/{path}") };
        // What kubectl looks for: that a patch of this kind understands `fieldValidation`.
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"].map(parameter).into();
        let reply = json!({"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": reference(name)}}}}});
        let operation = |action: &str| {
            json!({"responses": reply, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
                "parameters": parameters})
        };
        let operations = |known: &[(&str, &str, &str)]| -> Map<String, Value> {
            let served = known.iter().filter(|(_, _, verb)| resource.verbs.contains(verb));
            served.map(|(method, action, _)| ((*method).to_owned(), operation(action))).collect()
        };
        let all = operations(&[("post", "post", "create"), ("get", "list", "list")]);
        paths.insert(format!("{base}/{}", resource.plural), Value::Object(all));
        let mut one = operations(&[
            ("get", "get", "get"),
            ("put", "put", "update"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ]);
        if !one.is_empty() {
            let name = json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}]);
            one.insert("parameters".into(), name);
            paths.insert(format!("{base}/{}/{{name}}", resource.plural), Value::Object(one));
        }
    }
    (!paths.is_empty()).then(|| {
        json!({"openapi": "3.0.0", "info": {"title": "Squall sandbox", "version": RELEASE.1}, "paths": paths,
            "components": {"schemas": schemas}})
    })
}

fn schema_name(kind: &str) -> String {
    format!("io.squall.sandbox.{kind}")
}

fn reference(kind: &str) -> String {
    format!("#/components/schemas/{}", schema_name(kind))
}

/// Adds the schema of a struct, and of all structs below it.
fn component(name: &'static str, schemas: &mut Map<String, Value>) {
    let key = schema_name(name);
    if schemas.contains_key(&key) {
        return;
    }
    schemas.insert(key.clone(), Value::Null);
    let fields = schema::fields(name).expect("the schema's test holds that every name is a type");
    let described = |(field, Field { shape, .. }): (&&'static str, &Field)| ((*field).to_owned(), property(shape, schemas));
    let properties: Map<String, Value> = fields.iter().map(described).collect();
    schemas[&key] = json!({"type": "object", "properties": properties});
}

fn property(shape: &Shape, schemas: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Bool => json!({"type": "boolean"}),
        // These two have names by which people know them.
        Shape::NumberOrText => named(
            "IntOrString",
            json!({"description": "A whole number or a text.", "format": "int-or-string",
                "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            schemas,
        ),
        Shape::Quantity => named(
            "Quantity",
            json!({"description": "A number with a suffix, as 100m, 0.5, 64Mi or 1G.",
                "oneOf": [{"type": "string"}, {"type": "number"}]}),
            schemas,
        ),
        Shape::Any => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        Shape::Struct(name) => {
            component(name, schemas);
            json!({"allOf": [{"$ref": reference(name)}]})
        }
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": property(inner, schemas)}),
        Shape::List(inner, keys) => {
            let mut list = json!({"type": "array", "items": property(inner, schemas)});
            match keys {
                Keys::Atomic => list["x-kubernetes-list-type"] = json!("atomic"),
                Keys::Set => {
                    list["x-kubernetes-list-type"] = json!("set");
                    list["x-kubernetes-patch-strategy"] = json!("merge");
                }
                Keys::By(keys) => {
                    list["x-kubernetes-list-type"] = json!("map");
                    list["x-kubernetes-list-map-keys"] = json!(keys);
                    list["x-kubernetes-patch-strategy"] = json!("merge");
                    list["x-kubernetes-patch-merge-key"] = json!(keys[0]);
                }
            }
            list
        }
    }
}

/// A reference to a schema that is added where it is missing.
fn named(name: &str, schema: Value, schemas: &mut Map<String, Value>) -> Value {
    schemas.entry(schema_name(name)).or_insert(schema);
    json!({"allOf": [{"$ref": reference(name)}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_group_has_its_document_and_every_reference_resolves() {
        let index = index();
        for path in index["paths"].as_object().expect("paths by name").keys() {
            let text = document(path).expect("the index names it").to_string();
            let document: Value = serde_json::from_str(&text).expect("it was JSON");
            for part in text.split("#/components/schemas/").skip(1) {
                let name = part.split('"').next().expect("a split has a first part");
                assert!(document["components"]["schemas"][name].is_object(), "{path}: {name}");
            }
        }
        assert!(document("apis/nothing/v1").is_none());
    }

    #[test]
    fn kinds_say_what_the_sandbox_does_with_them_and_fields_what_they_are() {
        let document = document("apis/apps/v1").expect("apps are served");
        let schemas = &document["components"]["schemas"];
        let said = "In this sandbox: rolling update and Recreate, revisions, progress, pausing.";
        assert_eq!(schemas[schema_name("Deployment")]["description"], said);
        assert_eq!(schemas[schema_name("DeploymentSpec")]["properties"]["replicas"], json!({"type": "integer", "format": "int32"}));
        let surge = &schemas[schema_name("RollingUpdateDeployment")]["properties"]["maxSurge"]["allOf"];
        assert_eq!(*surge, json!([{"$ref": reference("IntOrString")}]));
    }
}
