//! Kubernetes manifests: several documents of YAML -> JSON values with their lines, Lists unfolded. Read as the Kubernetes tools
//! read it: whole numbers stay whole, `yes` and `no` are words, and a key that comes twice is an error.

use serde_json::{Map, Number, Value as Json};

use super::problem::Problems;
use super::tree::{Id, Limits, Meaning, Tree, Value};
use crate::names::ObjectRef;

/// One object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub value: Json,
    /// The line of its first key, from 1.
    pub line: u32,
}

impl Manifest {
    /// `kind` of the object.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`; `default` where the object names none.
    pub fn namespace(&self) -> &str {
        self.value["metadata"]["namespace"].as_str().unwrap_or("default")
    }

    /// Whether `object` means this one, whatever name of the kind it uses.
    pub fn is(&self, object: &ObjectRef) -> bool {
        self.name() == object.name && self.namespace() == object.namespace && is_called(&object.kind, self.kind())
    }
}

/// The short names that people use for the kinds that scale, for the scaler, and for what is mistaken for them.
const SHORT: [(&str, &str); 9] = [
    ("deploy", "deployment"),
    ("sts", "statefulset"),
    ("ds", "daemonset"),
    ("rs", "replicaset"),
    ("hpa", "horizontalpodautoscaler"),
    ("so", "scaledobject"),
    ("svc", "service"),
    ("po", "pod"),
    ("cm", "configmap"),
];

/// Whether a plan that says `written` means `kind`: a kind, its plural or its short name.
pub fn is_called(written: &str, kind: &str) -> bool {
    let written = written.to_lowercase();
    // With its group, as kubectl takes it.
    let written = [".autoscaling", ".keda.sh"].iter().find_map(|group| written.strip_suffix(group)).unwrap_or(&written);
    let long = SHORT.iter().find(|(short, _)| *short == written).map_or(written, |(_, long)| long);
    let kind = kind.to_lowercase();
    long == kind || long.strip_suffix('s') == Some(&kind)
}

/// Reads every object of a file. `file` is what problems call it. Empty documents are skipped; an object without `apiVersion`,
/// `kind` or a name is a problem.
pub fn read(text: &str, file: &str) -> Result<Vec<Manifest>, Problems> {
    let (tree, mut problems) = Tree::read(text, Limits::MANIFESTS);
    let mut manifests = Vec::new();
    for root in &tree.roots {
        if tree.scalar(*root).is_some_and(|scalar| scalar.meaning() == Meaning::Nothing) {
            continue;
        }
        object(&tree, text, *root, &mut manifests, &mut problems);
    }
    if problems.is_empty() { Ok(manifests) } else { Err(Problems::new(file, text, problems)) }
}

/// Reads one YAML document as the JSON that it stands for, whatever it holds: a patch has no kind.
pub fn read_one(text: &str, what: &str) -> Result<Json, Problems> {
    let (tree, problems) = Tree::read(text, Limits { documents: 1, ..Limits::MANIFESTS });
    if !problems.is_empty() {
        return Err(Problems::new(what, text, problems));
    }
    Ok(tree.roots.first().map_or(Json::Null, |root| json(&tree, *root)))
}

fn object(tree: &Tree, text: &str, id: Id, into: &mut Vec<Manifest>, problems: &mut Vec<super::problem::Problem>) {
    use super::problem::Problem;
    if !matches!(tree.node(id).value, Value::Map(_)) {
        problems.push(Problem::at(tree.span(id), "this is no Kubernetes object: a map with apiVersion, kind and metadata"));
        return;
    }
    let value = json(tree, id);
    let mut lacks = Vec::new();
    for key in ["apiVersion", "kind"] {
        if value[key].as_str().is_none_or(str::is_empty) {
            lacks.push(key);
        }
    }
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match tree.get(id, "items") {
        Some(items) if is_list && lacks.is_empty() => {
            for item in tree.items(items) {
                object(tree, text, *item, into, problems);
            }
            return;
        }
        _ => {}
    }
    let metadata = &value["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty) && metadata["generateName"].as_str().is_none() {
        lacks.push("metadata.name");
    }
    if lacks.is_empty() {
        let (line, _) = super::problem::place(text, tree.span(id).start);
        into.push(Manifest { value, line });
    } else {
        problems.push(Problem::at(tree.span(id), format!("this object has no {}", lacks.join(", no "))));
    }
}

fn json(tree: &Tree, id: Id) -> Json {
    match &tree.node(id).value {
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Nothing => Json::Null,
            Meaning::Bool(value) => Json::Bool(value),
            Meaning::Unsigned(value) => Json::Number(value.into()),
            Meaning::Signed(value) => Json::Number(value.into()),
            Meaning::Float(value) => Number::from_f64(value).map_or_else(|| Json::String(scalar.text.clone()), Json::Number),
            Meaning::Text => Json::String(scalar.text.clone()),
        },
        Value::List(items) => Json::Array(items.iter().map(|item| json(tree, *item)).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (tree.key(*key).to_owned(), json(tree, *value))).collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_and_lists_become_objects_with_their_lines() {
        let text = "\
# a comment
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata:
    name: settings
    namespace: shop
  data: {country: no, on: yes, port: '8080', version: 010, flag: \"true\", n: 1_000}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: checkout, namespace: shop}
  spec: {replicas: 2, paused: false, ratio: 0.5, big: 9007199254740993, neg: -3, none: ~}
";
        let manifests = read(text, "shop.yaml").unwrap_or_else(|error| panic!("{error}"));
        let lines: Vec<(&str, u32)> = manifests.iter().map(|m| (m.kind(), m.line)).collect();
        assert_eq!(lines, [("Namespace", 2), ("ConfigMap", 10), ("Deployment", 16)]);
        assert_eq!(
            manifests[1].value["data"],
            json!({"country": "no", "on": "yes", "port": "8080", "version": "010", "flag": "true", "n": "1_000"})
        );
        assert_eq!(
            manifests[2].value["spec"],
            json!({"replicas": 2, "paused": false, "ratio": 0.5, "big": 9007199254740993u64, "neg": -3, "none": null})
        );
        for (object, is) in [
            ("shop/deployment/checkout", true),
            ("shop/deploy/checkout", true),
            ("shop/deployments/checkout", true),
            ("default/deployment/checkout", false),
            ("shop/statefulset/checkout", false),
        ] {
            assert_eq!(manifests[2].is(&object.parse().unwrap()), is, "{object}");
        }
    }

    #[test]
    fn anchors_and_merges_are_worked_out() {
        let text = "apiVersion: v1\nkind: X\nmetadata: {name: a}\nbase: &b {x: 1, y: 2}\nmade: {<<: *b, y: 3}\nagain: *b\n";
        let value = &read(text, "a.yaml").unwrap_or_else(|error| panic!("{error}"))[0].value;
        assert_eq!(value["made"], json!({"y": 3, "x": 1}));
        assert_eq!(value["again"], json!({"x": 1, "y": 2}));
    }

    #[test]
    fn what_is_no_object_is_a_problem_with_its_place() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {}\n---\n- 1\n---\na: 1\na: 2\n";
        let problems = read(text, "bad.yaml").unwrap_err();
        assert_eq!(
            problems.lines(),
            [
                "bad.yaml:5:1: this object has no apiVersion, no metadata.name",
                "bad.yaml:8:1: this is no Kubernetes object: a map with apiVersion, kind and metadata",
                "bad.yaml:10:1: this object has no apiVersion, no kind, no metadata.name",
                "bad.yaml:11:1: `a` is given twice",
            ]
        );
    }

    #[test]
    fn a_patch_needs_no_kind() {
        assert_eq!(read_one("spec:\n  replicas: 3\n", "the patch").unwrap(), json!({"spec": {"replicas": 3}}));
        assert!(read_one("a: 1\n---\nb: 2\n", "the patch").is_err());
    }
}
