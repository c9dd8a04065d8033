//! Takes away what has lost its owner, honours the orphan and foreground policies of a deletion, and gives every namespace its account.
//! Namespaces that are going are the API server's business.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;
use serde_json::{Value, json};

use super::Shared;
use crate::sandbox::feed::{Feed, News};
use crate::sandbox::objects::{disown, is_leaving, key};
use crate::sandbox::resource::{EVENTS, NAMESPACES, RESOURCES, Resource, SERVICEACCOUNTS, of_kind};
use crate::sandbox::store::{ChangeKind, DeleteOptions, FOREGROUND, ORPHAN, Preconditions, Propagation, metadata, text};

/// All kinds that own or are owned; events are neither.
fn kinds() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().copied().filter(|resource| **resource != EVENTS)
}

pub async fn run(shared: Shared) {
    let mut feeds: Vec<(&'static Resource, Feed)> = kinds().map(|r| (r, Feed::new(&shared.store, r))).collect();
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
            for (resource, dependent) in dependents(shared, object) {
                collect_orphan(shared, resource, &dependent);
            }
            continue;
        }
        // Its owner may have gone while it was being made, or before it was adopted.
        let owners = |object: &Value| object["metadata"]["ownerReferences"].clone();
        if change.previous.as_deref().map(owners) != Some(owners(object)) {
            collect_orphan(shared, resource, object);
        }
        if is_leaving(object) {
            by_policy(shared, resource, object);
        } else if *resource == NAMESPACES && change.kind == ChangeKind::Added {
            give_account(shared, text(object, "name"));
        }
    }
    if emptied {
        // A foreground deletion may have waited for what just went.
        for resource in kinds() {
            for object in shared.store.list(resource, None).0.iter().filter(|o| is_leaving(o) && has(o, FOREGROUND)) {
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
    let owned =
        |object: &Value| object["metadata"]["ownerReferences"].as_array().is_some_and(|l| l.iter().any(|o| o["uid"] == *uid));
    kinds()
        .filter(|r| r.namespaced)
        .flat_map(|r| shared.store.list(r, Some(ns)).0.into_iter().map(move |o| (r, o)))
        .filter(|(_, object)| owned(object))
        .collect()
}

/// Deletes an object all of whose owners are gone; of some that are gone, it is freed.
fn collect_orphan(shared: &Shared, resource: &'static Resource, object: &Value) {
    let (ns, name) = key(object);
    let present = shared.store.get(resource, &ns, &name).filter(|present| present["metadata"]["uid"] == object["metadata"]["uid"]);
    let Some(object) = present else { return };
    let references = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let is_gone = |reference: &&Value| matches!(owner(shared, &ns, reference), Owner::Gone);
    let gone: Vec<&Value> = references.iter().filter(is_gone).collect();
    if gone.is_empty() {
        return;
    }
    if gone.len() < references.len() {
        return gone.iter().for_each(|reference| release(shared, resource, &object, &reference["uid"]));
    }
    let demands = Preconditions { uid: Some(text(&object, "uid").to_owned()), ..Preconditions::default() };
    // Already gone is as good.
    let _ = shared.store.begin_delete(resource, &ns, &name, &DeleteOptions { demands, ..DeleteOptions::default() });
}

/// What an owner reference leads to.
enum Owner {
    Here(Arc<Value>),
    Gone,
    /// Of a kind that is not served nothing is known.
    Unknown,
}

fn owner(shared: &Shared, ns: &str, reference: &Value) -> Owner {
    let field = |name: &str| reference[name].as_str().unwrap_or_default();
    let Some(kind) = of_kind(field("apiVersion"), field("kind")) else { return Owner::Unknown };
    let named = shared.store.get(kind, ns, field("name")).filter(|named| named["metadata"]["uid"] == reference["uid"]);
    named.map_or(Owner::Gone, Owner::Here)
}

/// Whether an owner other than the one of this uid keeps an object.
fn is_kept(shared: &Shared, object: &Value, but: &Value) -> bool {
    let (ns, _) = key(object);
    let mut others = object["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter(|o| o["uid"] != *but);
    others.any(|reference| match owner(shared, &ns, reference) {
        Owner::Here(owner) => !is_leaving(&owner),
        Owner::Gone => false,
        Owner::Unknown => true,
    })
}

/// Takes one owner from an object.
fn release(shared: &Shared, resource: &'static Resource, object: &Value, owner: &Value) {
    let (ns, name) = key(object);
    // Already gone is as good.
    let _ = shared.store.update(resource, &ns, &name, |object| {
        disown(object, owner);
        Ok(())
    });
}

fn has(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|f| f == finalizer))
}

/// What a deletion's policy asks for before the owner itself may go.
fn by_policy(shared: &Shared, resource: &'static Resource, object: &Value) {
    let finalizer = if has(object, ORPHAN) {
        for (resource, dependent) in dependents(shared, object) {
            release(shared, resource, &dependent, &object["metadata"]["uid"]);
        }
        ORPHAN
    } else if has(object, FOREGROUND) {
        let waits_for = dependents(shared, object);
        for (resource, dependent) in waits_for.iter().filter(|(_, dependent)| !is_leaving(dependent)) {
            let uid = &object["metadata"]["uid"];
            if is_kept(shared, dependent, uid) {
                release(shared, resource, dependent, uid);
                continue;
            }
            let (ns, name) = key(dependent);
            // What owns something itself waits for that in turn.
            let owns = !dependents(shared, dependent).is_empty();
            let propagation = if owns { Propagation::Foreground } else { Propagation::Background };
            let demands = Preconditions { uid: Some(text(dependent, "uid").to_owned()), ..Preconditions::default() };
            // Already gone is as good.
            let _ = shared.store.begin_delete(resource, &ns, &name, &DeleteOptions { grace_s: None, demands, propagation });
        }
        if !dependents(shared, object).is_empty() {
            return;
        }
        FOREGROUND
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
