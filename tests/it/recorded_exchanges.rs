//! Goal: the sandbox answers as a real Kubernetes 1.36 does. How: the exchanges recorded under `tests/kubernetes/` are replayed in their
//! order against an empty sandbox; what its controllers would have made meanwhile is put into the store from the recording itself.
//! Not compared: uids, versions, times, ages, and what only a controller writes.

use serde_json::{Value, json};
use squall::sandbox::resource::{self, DEPLOYMENTS, NAMESPACES, NODES, PODDISRUPTIONBUDGETS, PODS, Resource, SERVICES};
use squall::sandbox::store::{Store, text};

use super::sandbox_api::{SOON, Sandbox};

/// Fields whose values differ from run to run, or that the recorded cluster's controllers filled.
const VARY: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "continue",
    "remainingItemCount",
    "managedFields",
    "time",
];

fn recording(file: &str) -> Value {
    let path = format!("{}/tests/kubernetes/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn exchanges(file: &str) -> Vec<Value> {
    recording(file)["exchanges"].as_array().expect("a recording has exchanges").clone()
}

/// What was recorded of the objects of one kind, in order.
pub fn watched(file: &str, plural: &str) -> Vec<Value> {
    let recording = recording(file);
    let of_kind = |watch: &&Value| watch["path"].as_str().is_some_and(|path| path.contains(&format!("/{plural}?")));
    let watch = recording["watches"].as_array().and_then(|all| all.iter().find(of_kind)).expect("it was watched");
    watch["events"].as_array().expect("something happened").clone()
}

/// The answer to one recorded request: status, headers, body.
async fn ask(sandbox: &Sandbox, request: &Value) -> (u64, reqwest::header::HeaderMap, Value) {
    let string = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
    let method = string("method").parse().expect("a recorded method is one");
    let mut ask = sandbox.http().request(method, format!("{}{}", sandbox.url(), string("path"))).bearer_auth(sandbox.token());
    ask = ask.header("accept", string("accept"));
    if request["content_type"].is_string() {
        ask = ask.header("content-type", string("content_type"));
    }
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        ask = ask.header(name, value.as_str().unwrap_or_default());
    }
    match &request["body"] {
        Value::Null => {}
        Value::String(text) => ask = ask.body(text.clone()),
        // A recorded object carries the uid that it had there.
        body => {
            let mut body = body.clone();
            if let Some(meta) = body.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                meta.shift_remove("uid");
            }
            ask = ask.body(body.to_string());
        }
    }
    let reply = tokio::time::timeout(SOON, ask.send()).await.expect("it answers soon").expect("it answers");
    let (status, headers) = (reply.status().as_u16().into(), reply.headers().clone());
    let body = tokio::time::timeout(SOON, reply.text()).await.expect("it ends").expect("it has a body");
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (status, headers, body)
}

/// A message with its uids and versions taken out, and without what comes after the sentence (a diff, a parser's own words).
fn sentence(text: &str) -> String {
    let first = text.split("\n@@").next().unwrap_or_default().trim_end();
    let first = first.split("json parse error").next().unwrap_or_default();
    let first = first.split("continue key is not valid").next().unwrap_or_default();
    let plain = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
        let is_version = bare.len() >= 4 && bare.chars().all(|c| c.is_ascii_digit());
        if is_uid || is_version { word.replace(bare, "_") } else { word.to_owned() }
    };
    first.split(' ').map(plain).collect::<Vec<_>>().join(" ")
}

/// Where `got` lacks or contradicts what was recorded. `got` may say more.
pub fn differences(expected: &Value, got: &Value, path: &str, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, value) in expected {
                let here = format!("{path}.{key}");
                match got.get(key) {
                    _ if VARY.contains(&key.as_str()) && got.contains_key(key) => {}
                    _ if matches!(key.as_str(), "managedFields" | "remainingItemCount") => {}
                    Some(other) => differences(value, other, &here, found),
                    None => found.push(format!("{here} is missing")),
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            if expected.len() != got.len() {
                found.push(format!("{path} has {} elements, not {}", got.len(), expected.len()));
            }
            for (i, (expected, got)) in expected.iter().zip(got).enumerate() {
                differences(expected, got, &format!("{path}[{i}]"), found);
            }
        }
        (Value::String(expected), Value::String(got)) if sentence(expected) == sentence(got) => {}
        (expected, got) if expected == got => {}
        (expected, got) => found.push(format!("{path} is {got}, not {expected}")),
    }
}

/// Ages depend on when one looks; the other cells do not.
fn without_ages(table: &Value) -> Value {
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

/// Puts an object into the store as a controller would have, status and all.
fn seed(store: &Store, resource: &'static Resource, recorded: &Value) {
    let mut object = recorded.clone();
    for owned in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        object["metadata"].as_object_mut().expect("it has metadata").shift_remove(owned);
    }
    store.create(resource, object.clone()).unwrap_or_else(|e| panic!("{e}"));
    if resource.namespaced {
        let (ns, name) = (text(&object, "namespace").to_owned(), text(&object, "name").to_owned());
        let status = object["status"].clone();
        let set = |live: &mut Value| {
            if !status.is_null() {
                live["status"] = status;
            }
            Ok(())
        };
        store.update(resource, &ns, &name, set).unwrap_or_else(|e| panic!("{e}"));
    }
}

async fn check(file: &str, prepare: impl AsyncFn(&Sandbox, &[Value], &str)) {
    let sandbox = Sandbox::start().await;
    let recorded = exchanges(file);
    let mut broken = vec![];
    for exchange in &recorded {
        let title = exchange["title"].as_str().unwrap_or_default();
        prepare(&sandbox, &recorded, title).await;
        let expected = &exchange["response"];
        let (status, headers, body) = ask(&sandbox, &exchange["request"]).await;
        let mut found = vec![];
        if expected["status"] != status {
            found.push(format!("status is {status}, not {}", expected["status"]));
        }
        for (name, value) in expected["headers"].as_object().into_iter().flatten() {
            let got = headers.get(name).and_then(|value| value.to_str().ok());
            if got != value.as_str() {
                found.push(format!("header {name} is {got:?}, not {value}"));
            }
        }
        let mut expected = expected["body"].clone();
        match (expected["kind"].as_str().unwrap_or_default(), title) {
            (_, "a watch that sends the initial state first") => {
                // The recorded watch ended there; ours says once more how far it is before it ends.
                let mark = |text: &Value| {
                    let lines = text.as_str().unwrap_or_default().lines();
                    let mut lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
                    lines.find(|line| line["type"] == "BOOKMARK").unwrap_or(Value::Null)
                };
                let (mut wanted, got) = (mark(&expected), mark(&body));
                // The recorded server shows the empty fields of a struct here, which no client reads.
                for empty in ["spec", "status"] {
                    wanted["object"].as_object_mut().expect("a bookmark has an object").shift_remove(empty);
                }
                differences(&wanted, &got, "", &mut found);
            }
            // The scripted node side has its own logs, and this watch its own objects.
            (_, "a watch that times out" | "its log") => {}
            (_, "discovery /version") => {
                let known = ["major", "minor", "platform"];
                found.extend(known.iter().filter(|key| body[*key] != expected[*key]).map(|key| format!("{key} differs")));
            }
            // What the sandbox lists must be as recorded; it need not list everything.
            (kind @ ("APIGroupList" | "APIResourceList" | "APIGroupDiscoveryList" | "APIVersions"), _) => {
                listed(kind, &expected, &body, &mut found)
            }
            ("Table", _) => differences(&without_ages(&expected), &without_ages(&body), "", &mut found),
            ("Deployment", title) if title != "get" => {
                // Its controller has gone on meanwhile in the recorded cluster.
                expected.as_object_mut().expect("a Deployment is an object").shift_remove("status");
                differences(&expected, &body, "", &mut found);
            }
            _ => differences(&expected, &body, "", &mut found),
        }
        broken.extend(found.into_iter().map(|difference| format!("{file}, {title}: {difference}")));
    }
    assert!(broken.is_empty(), "{} differences from the recorded server:\n{}", broken.len(), broken.join("\n"));
}

fn listed(kind: &str, expected: &Value, got: &Value, found: &mut Vec<String>) {
    let by_key = |list: &Value, key: fn(&Value) -> String| -> Vec<(String, Value)> {
        list.as_array().into_iter().flatten().map(|item| (key(item), item.clone())).collect()
    };
    let flat = |document: &Value| match kind {
        "APIGroupList" => by_key(&document["groups"], |g| g["name"].to_string()),
        "APIResourceList" => by_key(&document["resources"], |r| r["name"].to_string()),
        "APIVersions" => by_key(&document["versions"], Value::to_string),
        _ => document["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|group| (group["metadata"].to_string(), group["versions"][0].clone()))
            .collect(),
    };
    let recorded = flat(expected);
    let ours = flat(got);
    if ours.is_empty() {
        found.push("nothing is listed".into());
    }
    for (key, item) in ours {
        let Some((_, recorded)) = recorded.iter().find(|(k, _)| *k == key) else {
            found.push(format!("{key} is not in the recording"));
            continue;
        };
        match kind {
            "APIGroupDiscoveryList" => {
                for resource in item["resources"].as_array().into_iter().flatten() {
                    let same = |other: &&Value| other["resource"] == resource["resource"];
                    match recorded["resources"].as_array().into_iter().flatten().find(same) {
                        Some(recorded) => {
                            let mut recorded = recorded.clone();
                            let served = |s: &Value| {
                                resource["subresources"]
                                    .as_array()
                                    .into_iter()
                                    .flatten()
                                    .any(|o| o["subresource"] == s["subresource"])
                            };
                            if let Some(list) = recorded["subresources"].as_array_mut() {
                                list.retain(served);
                            }
                            if recorded["subresources"].as_array().is_none_or(Vec::is_empty) {
                                recorded.as_object_mut().expect("it is an object").shift_remove("subresources");
                            }
                            differences(&recorded, resource, &format!(".{}", resource["resource"]), found);
                        }
                        None => found.push(format!("{} is not in the recording", resource["resource"])),
                    }
                }
            }
            "APIGroupList" => differences(&item["preferredVersion"], &recorded["preferredVersion"], &key, found),
            _ => differences(recorded, &item, &key, found),
        }
    }
}

fn body_of(recorded: &[Value], title: &str) -> Value {
    let exchange = recorded.iter().find(|exchange| exchange["title"] == title);
    exchange.unwrap_or_else(|| panic!("there is no exchange {title}"))["response"]["body"].clone()
}

fn shop(store: &Store) {
    if store.get(&NAMESPACES, "", "shop").is_none() {
        store.create(&NAMESPACES, json!({"metadata": {"name": "shop"}})).expect("a namespace can be made");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_is_as_recorded() {
    check("discovery", async |_, _, _| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_and_refused_as_recorded() {
    check("objects", async |sandbox, recorded, title| {
        let store = &sandbox.store;
        match title {
            // By now the recorded cluster had rolled out the Deployment.
            "get" => {
                let live = body_of(recorded, "get");
                let rolled_out = |object: &mut Value| {
                    object["status"] = live["status"].clone();
                    object["metadata"]["annotations"] = live["metadata"]["annotations"].clone();
                    Ok(())
                };
                store.update(&DEPLOYMENTS, "shop", "web", rolled_out).expect("it was created before");
                for item in body_of(recorded, "list replica sets")["items"].as_array().into_iter().flatten() {
                    seed(store, &resource::REPLICASETS, item);
                }
                for item in body_of(recorded, "list by label")["items"].as_array().into_iter().flatten() {
                    seed(store, &PODS, item);
                }
            }
            "server-side apply, forced" => {
                let second_revision = |object: &mut Value| {
                    object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("2");
                    Ok(())
                };
                store.update(&DEPLOYMENTS, "shop", "web", second_revision).expect("it was created before");
            }
            "a running pod" => {
                let pod = body_of(recorded, title);
                seed(store, &PODS, &pod);
            }
            "cordon a node" => seed(store, &NODES, &body_of(recorded, "uncordon a node")),
            _ => {}
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_ask_the_budget_as_recorded() {
    check("eviction", async |sandbox, recorded, title| {
        let store = &sandbox.store;
        match title {
            "a budget that allows none" => {
                shop(store);
                let pod = body_of(recorded, "the pod then");
                seed(store, &PODS, &pod);
                let mut other = pod.clone();
                other["metadata"]["name"] = json!("web-d94d8f678-other");
                seed(store, &PODS, &other);
            }
            // Its controller writes the status a moment later.
            "the budget" => {
                let mut budgets = store.watch(&PODDISRUPTIONBUDGETS, Some("shop"), None).expect("history is short");
                let counted =
                    async { while budgets.next().await.expect("history is short").object["status"]["currentHealthy"] != 2 {} };
                tokio::time::timeout(SOON, counted).await.expect("the budget is counted soon");
            }
            _ => {}
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_containers_are_added_and_held_as_recorded() {
    check("ephemeral", async |sandbox, recorded, title| {
        if title == "dry run" {
            shop(&sandbox.store);
            let mut pod = body_of(recorded, "dry run");
            pod["spec"].as_object_mut().expect("a pod has a spec").shift_remove("ephemeralContainers");
            seed(&sandbox.store, &PODS, &pod);
        }
        if title.starts_with("refused by pod security") {
            let label = |namespace: &mut Value| {
                namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("baseline");
                Ok(())
            };
            sandbox.store.update(&NAMESPACES, "", "shop", label).expect("it was made before");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_and_are_refused_as_recorded() {
    check("watch-errors", async |sandbox, _, title| {
        if title == "a version that is too old" {
            shop(&sandbox.store);
            let service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
            sandbox.store.create(&SERVICES, service).expect("a service can be made");
        }
    })
    .await;
}
