//! What the server says of itself: version, groups, resources (the old way, one document per group, and aggregated), and an OpenAPI
//! document per group made from the [schema](super::super::schema), with which `kubectl apply` and `kubectl explain` work.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::architecture;
use super::super::resource::{RESOURCES, Resource, Subresource};
use super::super::schema::{self, Keys, Shape};

/// The release whose behaviour the sandbox shows.
const RELEASE: (&str, &str) = ("36", "v1.36.2+squall");

const SUBJECT_REVIEW: Resource = Resource {
    group: "authorization.k8s.io",
    version: "v1",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    kind: "SelfSubjectAccessReview",
    summary: "",
    namespaced: false,
    short_names: &[],
    categories: &[],
    verbs: &["create"],
    subresources: &[],
    counts_generations: false,
};

/// "May I do this?": answered, never stored.
pub static SELF_SUBJECT_ACCESS_REVIEWS: Resource = SUBJECT_REVIEW;

/// "What may I do?": answered, never stored.
pub static SELF_SUBJECT_RULES_REVIEWS: Resource = Resource {
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    kind: "SelfSubjectRulesReview",
    ..SUBJECT_REVIEW
};

/// Everything that discovery lists: what is stored, and what is only answered.
pub fn served() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().copied().chain([&SELF_SUBJECT_ACCESS_REVIEWS, &SELF_SUBJECT_RULES_REVIEWS])
}

pub fn version() -> Value {
    json!({"major": "1", "minor": RELEASE.0, "emulationMajor": "1", "emulationMinor": RELEASE.0, "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": RELEASE.1, "gitCommit": env!("CARGO_PKG_VERSION"), "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", architecture())})
}

/// `/api`.
pub fn core_versions(server: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]})
}

/// `/apis`.
pub fn groups() -> Value {
    let groups: Vec<Value> = named_groups().iter().map(|(name, versions)| group(name, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; `None` when there is no such group.
pub fn one_group(name: &str) -> Option<Value> {
    let mut found = group(name, named_groups().get(name)?);
    found["kind"] = json!("APIGroup");
    found["apiVersion"] = json!("v1");
    Some(found)
}

fn group(name: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": versions.iter().map(version).collect::<Vec<_>>(), "preferredVersion": version(&versions[0])})
}

/// The groups but the core one, with their versions.
fn named_groups() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in served().filter(|r| !r.group.is_empty()) {
        let versions = groups.entry(resource.group).or_default();
        if !versions.contains(&resource.version) {
            versions.push(resource.version);
        }
    }
    groups
}

/// `/api/v1`, `/apis/<group>/<version>`; `None` when there is no such group and version.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let mut list = vec![];
    for resource in served().filter(|r| r.group == group && r.version == version) {
        let mut entry = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs});
        names(&mut entry, resource);
        list.push(entry);
        for subresource in resource.subresources {
            let mut entry = json!({"name": format!("{}/{}", resource.plural, subresource.name), "singularName": "",
                "namespaced": resource.namespaced});
            if let Some((group, version)) = subresource.group_version {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            entry["kind"] = json!(subresource.kind);
            entry["verbs"] = json!(subresource.verbs);
            list.push(entry);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!list.is_empty()).then(|| {
        let mut document = json!({"kind": "APIResourceList"});
        // As old as it is, the core group's list does not say of which version itself is.
        if !group.is_empty() {
            document["apiVersion"] = json!("v1");
        }
        document["groupVersion"] = json!(group_version);
        document["resources"] = json!(list);
        document
    })
}

fn names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// The content type of aggregated discovery, by which a client asks for it.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Where a group's path begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Groups {
    /// `/api`
    Core,
    /// `/apis`
    Named,
}

/// Aggregated discovery.
pub fn aggregated(of: Groups) -> Value {
    let groups: BTreeMap<&str, Vec<&str>> = match of {
        Groups::Core => BTreeMap::from([("", vec!["v1"])]),
        Groups::Named => named_groups(),
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let all = served().filter(|r| r.group == *name && r.version == *version);
                    json!({"version": version, "resources": all.map(aggregated_resource).collect::<Vec<_>>(), "freshness": "Current"})
                })
                .collect();
            json!({"metadata": if name.is_empty() { json!({}) } else { json!({"name": name}) }, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(resource: &'static Resource) -> Value {
    let response = |gv: Option<(&str, &str)>, kind: &str| {
        let (group, version) = gv.unwrap_or(("", ""));
        json!({"group": group, "version": version, "kind": kind})
    };
    let mut entry = json!({"resource": resource.plural, "responseKind": response(None, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": resource.singular, "verbs": resource.verbs});
    names(&mut entry, resource);
    let below =
        |s: &Subresource| json!({"subresource": s.name, "responseKind": response(s.group_version, s.kind), "verbs": s.verbs});
    if !resource.subresources.is_empty() {
        entry["subresources"] = resource.subresources.iter().map(below).collect();
    }
    entry
}

/// `/openapi/v3`: where each group's document is.
pub fn openapi_index() -> Value {
    let mut paths = Map::new();
    for resource in served() {
        let path = openapi_path(resource);
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn openapi_path(resource: &Resource) -> String {
    match resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

/// The document at `path` (`api/v1`, `apis/apps/v1`); `None` when there is none.
pub fn openapi(path: &str) -> Option<Value> {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in served().filter(|r| openapi_path(r) == path) {
        let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
        component(resource.kind, &mut schemas);
        schemas[&schema_name(resource.kind)]["x-kubernetes-group-version-kind"] = json!([gvk]);
        let base = if resource.namespaced { format!("/{path}/namespaces/{{namespace}}") } else { format!("/{path}") };
        // What kubectl looks for: that a patch of this kind understands `fieldValidation`.
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"].map(parameter).into();
        let reply = json!({"200": {"description": "OK", "content": {"application/json": {
            "schema": {"$ref": format!("#/components/schemas/{}", schema_name(resource.kind))}}}}});
        let operation = |action: &str| {
            json!({"responses": reply, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
                "parameters": parameters})
        };
        paths.insert(format!("{base}/{}", resource.plural), json!({"post": operation("post"), "get": operation("list")}));
        let mut one =
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")});
        one["parameters"] = json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}]);
        paths.insert(format!("{base}/{}/{{name}}", resource.plural), one);
    }
    (!paths.is_empty()).then(|| {
        json!({"openapi": "3.0.0", "info": {"title": "Squall sandbox", "version": RELEASE.1}, "paths": paths,
            "components": {"schemas": schemas}})
    })
}

fn schema_name(kind: &str) -> String {
    format!("io.squall.sandbox.{kind}")
}

/// Adds the schema of a struct, and of all structs below it.
fn component(name: &'static str, schemas: &mut Map<String, Value>) {
    let key = schema_name(name);
    if schemas.contains_key(&key) {
        return;
    }
    schemas.insert(key.clone(), Value::Null);
    let fields = schema::fields(name).expect("the schema's test holds that every name is a type");
    let properties: Map<String, Value> =
        fields.iter().map(|(field, shape)| ((*field).to_owned(), property(shape, schemas))).collect();
    schemas[&key] = json!({"type": "object", "properties": properties});
}

fn property(shape: &Shape, schemas: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::NumberOrText => json!({"oneOf": [{"type": "string"}, {"type": "number"}], "format": "int-or-string"}),
        Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Shape::Any => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        Shape::Struct(name) => {
            component(name, schemas);
            json!({"allOf": [{"$ref": format!("#/components/schemas/{}", schema_name(name))}]})
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_group_has_its_document_and_every_reference_resolves() {
        let index = openapi_index();
        for path in index["paths"].as_object().unwrap().keys() {
            let text = openapi(path).unwrap().to_string();
            let document: Value = serde_json::from_str(&text).unwrap();
            for part in text.split("#/components/schemas/").skip(1) {
                let name = part.split('"').next().unwrap();
                assert!(document["components"]["schemas"][name].is_object(), "{path}: {name}");
            }
        }
        assert!(openapi("apis/nothing/v1").is_none());
    }
}
