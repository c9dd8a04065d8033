//! The revisions of a StatefulSet's template, as ControllerRevisions: what its pods are made of while an update is under way, and what
//! `kubectl rollout history` lists and `undo` goes back to.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::claim::claimed;
use super::template;
use crate::sandbox::objects::{controlled_by, int, key, millis};
use crate::sandbox::resource::{CONTROLLERREVISIONS, STATEFULSETS};
use crate::sandbox::store::{Store, StoreError, text};

const HASH: &str = "controller.kubernetes.io/hash";

pub struct History {
    /// All revisions, the latest last.
    all: Vec<Arc<Value>>,
    /// Where all pods were when the last update was complete.
    pub current: Arc<Value>,
    /// Where they are to go: that of the present template.
    pub update: Arc<Value>,
    /// Names of revisions that were taken by others.
    pub collisions: i64,
}

impl History {
    /// Reads it, and makes or renews the revision of the present template where it is not the latest.
    pub fn of(store: &Store, set: &Value) -> Result<History, StoreError> {
        let mut all = claimed(store, &STATEFULSETS, set, &CONTROLLERREVISIONS);
        let order = |revision: &Arc<Value>| {
            (int(&revision["revision"], 0), millis(&revision["metadata"]["creationTimestamp"]), text(revision, "name").to_owned())
        };
        all.sort_by_key(order);
        let data = data(&set["spec"]["template"]);
        let next = all.last().map_or(1, |latest| int(&latest["revision"], 0) + 1);
        let equal = all.iter().rposition(|revision| revision["data"] == data);
        let mut collisions = int(&set["status"]["collisionCount"], 0);
        match equal {
            Some(i) if i + 1 == all.len() => {}
            // A template that comes back is its old revision under the next number.
            Some(i) => {
                let old = all.remove(i);
                let (ns, name) = key(&old);
                all.push(store.update(&CONTROLLERREVISIONS, &ns, &name, |revision| {
                    revision["revision"] = json!(next);
                    Ok(())
                })?);
            }
            None => all.push(make(store, set, &data, next, &mut collisions)?),
        }
        let update = all.last().expect("the present template's was just found or made").clone();
        let was = set["status"]["currentRevision"].as_str().unwrap_or_default();
        let current = all.iter().find(|revision| text(revision, "name") == was).unwrap_or(&update).clone();
        Ok(History { all, current, update, collisions })
    }

    /// Drops the oldest revisions beyond the set's limit; those that are in use stay, whatever their age.
    pub fn forget_old(&self, store: &Store, set: &Value, used: &BTreeSet<&str>) {
        let limit = int(&set["spec"]["revisionHistoryLimit"], 10);
        let lives = |revision: &Value| {
            let name = text(revision, "name");
            used.contains(name) || [&self.current, &self.update].iter().any(|live| text(live, "name") == name)
        };
        let old: Vec<&Arc<Value>> = self.all.iter().filter(|revision| !lives(revision)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for revision in old.into_iter().take(surplus) {
            let (ns, name) = key(revision);
            // Already gone is as good.
            let _ = store.delete(&CONTROLLERREVISIONS, &ns, &name);
        }
    }
}

/// The template that a revision holds.
pub fn template_of(revision: &Value) -> Value {
    let mut template = revision["data"]["spec"]["template"].clone();
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove("$patch");
    }
    template
}

/// A template as the strategic merge patch that brings it back.
fn data(template: &Value) -> Value {
    let mut replaced = json!({"$patch": "replace"});
    for (field, value) in template.as_object().into_iter().flatten() {
        replaced[field] = value.clone();
    }
    json!({"spec": {"template": replaced}})
}

fn make(store: &Store, set: &Value, data: &Value, number: i64, collisions: &mut i64) -> Result<Arc<Value>, StoreError> {
    let (ns, owner) = key(set);
    loop {
        let hash = template::hash(data, *collisions);
        let name = format!("{owner}-{hash}");
        let mut labels = set["spec"]["template"]["metadata"]["labels"].clone();
        labels[HASH] = json!(hash);
        let mut metadata = json!({"name": name, "namespace": ns, "labels": labels, "ownerReferences": [controlled_by(set)]});
        if set["metadata"]["annotations"].is_object() {
            metadata["annotations"] = set["metadata"]["annotations"].clone();
        }
        let made = store.create(&CONTROLLERREVISIONS, json!({"metadata": metadata, "data": data, "revision": number}));
        match made {
            Err(StoreError::AlreadyExists { .. }) => match store.get(&CONTROLLERREVISIONS, &ns, &name) {
                Some(same) if same["data"] == *data => return Ok(same),
                _ => *collisions += 1,
            },
            made => return made,
        }
    }
}
