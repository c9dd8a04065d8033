//! What is the same in a recorded answer and in ours. Not compared are uids, versions, times, addresses, digests and generated names, as the
//! README of the recordings asks; whatever else differs is a [`Difference`], which a test shows or a table [declares](super::declared).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

/// Where two documents differ, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `.spec.template.spec.containers[0].image`.
    pub path: String,
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

/// What ours may say beyond what was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    Allowed,
    /// It is a difference.
    Told,
}

/// Fields whose values differ from run to run: only that they are there, and of which type, is compared.
const VARY: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastHeartbeatTime",
    "firstTimestamp",
    "lastTimestamp",
    "eventTime",
    "startTime",
    "completionTime",
    "startedAt",
    "finishedAt",
    "time",
    "continue",
    "remainingItemCount",
    "imageID",
    "containerID",
    "pod-template-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "reportingInstance",
    "host",
];

/// Who writes in the recordings that is no client of theirs.
const PARTS_OF_THE_CLUSTER: &[&str] = &["kube-controller-manager", "kubelet", "kube-scheduler", "kube-apiserver"];

/// Where `got` lacks or contradicts what was recorded, and with [`More::Told`] where it says more.
pub fn differences(expected: &Value, got: &Value, more: More) -> Vec<Difference> {
    let mut found = vec![];
    compare(expected, got, more, "", &mut found);
    found
}

fn compare(expected: &Value, got: &Value, more: More, path: &str, found: &mut Vec<Difference>) {
    let mut differs = |path: String, what: String| found.push(Difference { path, what });
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, value) in expected {
                let here = format!("{path}.{key}");
                match got.get(key) {
                    Some(other) if key == "managedFields" => compare_books(value, other, more, &here, found),
                    Some(other) if VARY.contains(&key.as_str()) => {
                        if std::mem::discriminant(value) != std::mem::discriminant(other) {
                            found.push(Difference { path: here, what: format!("is {other}, not {value}") });
                        }
                    }
                    Some(other) => compare(value, other, more, &here, found),
                    None if key == "managedFields" && is_of_the_cluster(value) => {}
                    None => found.push(Difference { path: here, what: "is missing".into() }),
                }
            }
            if more == More::Told {
                for key in got.keys().filter(|key| !expected.contains_key(*key)) {
                    found.push(Difference { path: format!("{path}.{key}"), what: format!("was not there: {}", got[key]) });
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            if expected.len() != got.len() {
                differs(path.to_owned(), format!("has {} elements, not {}", got.len(), expected.len()));
            }
            for (i, (expected, got)) in expected.iter().zip(got).enumerate() {
                compare(expected, got, more, &format!("{path}[{i}]"), found);
            }
        }
        (Value::String(expected), Value::String(got)) if sentence(expected) == sentence(got) => {}
        (expected, got) if expected == got => {}
        (expected, got) => differs(path.to_owned(), format!("is {got}, not {expected}")),
    }
}

/// What each client of the recordings owns. The parts of the sandbox keep no books of what they write.
fn compare_books(expected: &Value, got: &Value, more: More, path: &str, found: &mut Vec<Difference>) {
    let entries = |books: &Value| books.as_array().cloned().unwrap_or_default();
    let whose =
        |entry: &Value| ["manager", "operation", "subresource"].map(|key| entry[key].as_str().unwrap_or_default().to_owned());
    let ours = entries(got);
    for entry in entries(expected).iter().filter(|entry| !is_of_the_cluster(&json!([entry]))) {
        let who = whose(entry);
        let here = format!("{path}[{}]", who.join(" ").trim());
        match ours.iter().find(|other| whose(other) == who) {
            Some(other) => compare(entry, other, more, &here, found),
            None => found.push(Difference { path: here, what: "is missing".into() }),
        }
    }
}

fn is_of_the_cluster(books: &Value) -> bool {
    let mut entries = books.as_array().into_iter().flatten();
    entries.all(|entry| entry["manager"].as_str().is_some_and(|manager| PARTS_OF_THE_CLUSTER.contains(&manager)))
}

/// A text without what differs from run to run, and without what comes after the sentence (a diff, a parser's own words).
pub fn sentence(text: &str) -> String {
    /// Letters of generated names: they spell no words.
    const NAME: &str = "[bcdfghjklmnpqrstvwxz2456789]";
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(), "_"),
            (r"\d+\.\d+\.\d+\.\d+".to_owned(), "IP"),
            (format!("-{NAME}{{5,10}}-{NAME}{{5}}(_|\\b)"), "-#-*${1}"),
            (format!("-{NAME}{{7,10}}\\b"), "-#"),
            (format!("-{NAME}{{5}}(_|\\b)"), "-*${1}"),
            (r"\b\d{4,}\b".to_owned(), "_"),
            (r"\b(node1|sandbox)\b".to_owned(), "NODE"),
            (r"back-off \S+ restarting".to_owned(), "back-off _ restarting"),
        ]
        .into_iter()
        .map(|(pattern, by)| (Regex::new(&pattern).expect("a pattern is one"), by))
        .collect()
    });
    let mut first = text;
    for end in ["\n@@", "json parse error", "continue key is not valid"] {
        first = first.split(end).next().unwrap_or_default();
    }
    PATTERNS.iter().fold(first.trim_end().to_owned(), |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

/// Ages depend on when one looks, addresses on where; the other cells do not.
pub fn plain_table(table: &Value) -> Value {
    let mut table = table.clone();
    let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        for (i, column) in columns.iter().enumerate().filter(|(_, column)| column["name"] == "Age") {
            assert!(row["cells"][i].is_string(), "{column} is a text");
            row["cells"][i] = json!("some time");
        }
    }
    table
}

/// A document of discovery as one map from what is served to how: `apps/v1.deployments/scale`. The old way and the aggregated one come to the
/// same names.
pub fn served(document: &Value) -> Value {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut served = json!({"kind": document["kind"], "apiVersion": document["apiVersion"]});
    match document["kind"].as_str().unwrap_or_default() {
        "APIGroupList" => {
            for group in list(&document["groups"]) {
                served[word(&group["name"])] = json!({"preferred": group["preferredVersion"]});
                for version in list(&group["versions"]) {
                    served[word(&version["groupVersion"])] = version.clone();
                }
            }
        }
        "APIResourceList" => {
            let at = word(&document["groupVersion"]);
            served[&at] = json!({});
            for resource in list(&document["resources"]) {
                served[&at][word(&resource["name"])] = resource.clone();
            }
        }
        "APIGroupDiscoveryList" => {
            for group in list(&document["items"]) {
                let name = word(&group["metadata"]["name"]);
                for version in list(&group["versions"]) {
                    let of = word(&version["version"]);
                    let at = if name.is_empty() { of } else { format!("{name}/{of}") };
                    served[&at] = json!({});
                    for mut resource in list(&version["resources"]) {
                        let plural = word(&resource["resource"]);
                        for below in list(&resource["subresources"]) {
                            served[&at][format!("{plural}/{}", word(&below["subresource"]))] = below.clone();
                        }
                        resource.as_object_mut().expect("a resource is an object").shift_remove("subresources");
                        served[&at][plural] = resource;
                    }
                }
            }
        }
        _ => return document.clone(),
    }
    served
}

/// The names of a list's elements that one has and the other has not.
pub fn unlike(expected: &[String], got: &[String]) -> Vec<String> {
    let (theirs, ours): (BTreeSet<_>, BTreeSet<_>) = (expected.iter().collect(), got.iter().collect());
    let missing = theirs.difference(&ours).map(|what| format!("is missing: {what}"));
    missing.chain(ours.difference(&theirs).map(|what| format!("was not there: {what}"))).collect()
}
