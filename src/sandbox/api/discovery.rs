//! What the server says of itself: version, groups, resources (the old way, one document per group, and aggregated).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::architecture;
use super::super::resource::{ANSWERED, RESOURCES, Resource, Subresource};

/// The release whose behaviour the sandbox shows.
pub const RELEASE: (&str, &str) = ("36", "v1.36.2+squall");

/// Everything that discovery lists. A group's first version is its preferred one.
pub fn served() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain(ANSWERED).copied()
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
