//! Takes away what has lost its owner, honours the orphan and foreground policies of a deletion, and gives every namespace its account.
//! Namespaces that are going are the API server's business.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;
use serde_json::{Value, json};

use super::Shared;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{is_leaving, key};
use crate::sandbox::resource::{
    DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, REPLICASETS, RESOURCES, Resource, SERVICEACCOUNTS, SERVICES,
};
use crate::sandbox::store::{ChangeKind, Preconditions, metadata, text};

/// Kinds that own others.
static OWNERS: [&Resource; 4] = [&DEPLOYMENTS, &REPLICASETS, &SERVICES, &PODS];

pub async fn run(shared: Shared) {
    let mut feeds: Vec<(&'static Resource, Feed)> =
        OWNERS.iter().copied().chain([&NAMESPACES]).map(|r| (r, Feed::new(&shared.store, r))).collect();
    loop {
        let (resource, batch) = {
            let waits = feeds.iter_mut().map(|(resource, feed)| {
                let resource = *resource;
                async move { (resource, feed.batch().await) }.boxed()
            });
            let ((resource, batch), ..) = select_all(waits).await;
            (resource, batch)
        };
        collect(&shared, resource, batch);
    }
}

fn collect(shared: &Shared, resource: &'static Resource, batch: VecDeque<News>) {
    let mut emptied = false;
    for news in batch {
        let News::Changed(change) = news else { continue };
        let object = &change.object;
        if change.kind == ChangeKind::Deleted {
            emptied = true;
            orphaned(shared, object);
        } else if is_leaving(object) {
            by_policy(shared, resource, object);
        } else if *resource == NAMESPACES && change.kind == ChangeKind::Added {
            give_account(shared, text(object, "name"));
        }
    }
    if emptied {
        // A foreground deletion may have waited for what just went.
        for resource in OWNERS {
            for object in shared.store.list(resource, None).0.iter().filter(|o| is_leaving(o) && has(o, "foregroundDeletion")) {
                by_policy(shared, resource, object);
            }
        }
    }
}

/// Every namespace has the account that its pods name.
fn give_account(shared: &Shared, ns: &str) {
    // Already there is as good.
    let _ = shared.store.create(&SERVICEACCOUNTS, json!({"metadata": {"name": "default", "namespace": ns}}));
}

/// Objects of `owner`'s namespace that name it as an owner.
fn dependents(shared: &Shared, owner: &Value) -> Vec<(&'static Resource, Arc<Value>)> {
    let ns = text(owner, "namespace");
    let uid = &owner["metadata"]["uid"];
    let namespaced = RESOURCES.iter().copied().filter(|r| r.namespaced && **r != EVENTS && **r != NODES);
    let owned =
        |object: &Value| object["metadata"]["ownerReferences"].as_array().is_some_and(|l| l.iter().any(|o| o["uid"] == *uid));
    namespaced
        .flat_map(|r| shared.store.list(r, Some(ns)).0.into_iter().map(move |o| (r, o)))
        .filter(|(_, object)| owned(object))
        .collect()
}

/// Deletes what the vanished owner leaves behind, unless another owner remains.
fn orphaned(shared: &Shared, owner: &Value) {
    for (resource, object) in dependents(shared, owner) {
        let references = object["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
        let (ns, name) = key(&object);
        if references > 1 {
            release(shared, resource, &object, owner);
        } else {
            // Already gone is as good.
            let _ = shared.store.begin_delete(resource, &ns, &name, None, &Preconditions::default());
        }
    }
}

fn release(shared: &Shared, resource: &'static Resource, object: &Value, owner: &Value) {
    let (ns, name) = key(object);
    let _ = shared.store.update(resource, &ns, &name, |object| {
        if let Some(list) = object["metadata"]["ownerReferences"].as_array_mut() {
            list.retain(|o| o["uid"] != owner["metadata"]["uid"]);
        }
        Ok(())
    });
}

fn has(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|f| f == finalizer))
}

/// What a deletion's policy asks for before the owner itself may go.
fn by_policy(shared: &Shared, resource: &'static Resource, object: &Value) {
    let finalizer = if has(object, "orphan") {
        for (resource, dependent) in dependents(shared, object) {
            release(shared, resource, &dependent, object);
        }
        "orphan"
    } else if has(object, "foregroundDeletion") {
        let waiting = dependents(shared, object);
        for (resource, dependent) in &waiting {
            if !is_leaving(dependent) {
                let (ns, name) = key(dependent);
                let _ = shared.store.begin_delete(resource, &ns, &name, None, &Preconditions::default());
            }
        }
        if !dependents(shared, object).is_empty() {
            return;
        }
        "foregroundDeletion"
    } else {
        return;
    };
    let (ns, name) = key(object);
    let _ = shared.store.update(resource, &ns, &name, |object| {
        if let Some(list) = metadata(object).get_mut("finalizers").and_then(Value::as_array_mut) {
            list.retain(|f| f != finalizer);
        }
        Ok(())
    });
}
