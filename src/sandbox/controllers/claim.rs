//! Who controls what: an owner adopts what its selector chooses and nobody controls, and lets go of what it controls and no longer
//! chooses, so that a relabelled pod is left alone for people to look at and an orphan finds its next owner.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{News, Queue};
use crate::sandbox::objects::{controlled_by, controller, disown, is_active, is_controlled_by, is_leaving, key, selects};
use crate::sandbox::resource::Resource;
use crate::sandbox::selector::Selector;
use crate::sandbox::store::{ChangeKind, Store, StoreError, metadata, text};

/// All objects of `resource` that `owner` controls, after it has adopted and let go.
pub fn claimed(store: &Store, of: &'static Resource, owner: &Value, resource: &'static Resource) -> Vec<Arc<Value>> {
    claimed_where(store, of, owner, resource, |_| true)
}

/// The same for an owner that takes only what `fits`, whatever its selector chooses.
pub fn claimed_where(
    store: &Store,
    of: &'static Resource,
    owner: &Value,
    resource: &'static Resource,
    fits: impl Fn(&Value) -> bool,
) -> Vec<Arc<Value>> {
    let (ns, name) = key(owner);
    let selector = Selector::of(&owner["spec"]["selector"]).ok().filter(|selector| !selector.is_empty());
    let claim = |object: Arc<Value>| {
        let chosen = selector.as_ref().is_some_and(|selector| selector.matches(&object["metadata"]["labels"])) && fits(&object);
        match (is_controlled_by(&object, owner), chosen) {
            (true, true) => Some(object),
            (false, false) => None,
            // What it controls is a leaving owner's last word: the deletion's policy says what becomes of it.
            (controls, _) if is_leaving(owner) => controls.then_some(object),
            (true, false) => {
                release(store, resource, &object, owner);
                None
            }
            (false, true) if controller(&object).is_some() || !is_active(&object) => None,
            (false, true) => {
                // subtle: the owner in hand may be older than a deletion that orphans: what that frees must not be caught again.
                let present =
                    store.get(of, &ns, &name).filter(|o| o["metadata"]["uid"] == owner["metadata"]["uid"] && !is_leaving(o))?;
                adopt(store, resource, &object, &present)
            }
        }
    };
    store.list(resource, Some(&ns)).0.into_iter().filter_map(claim).collect()
}

fn adopt(store: &Store, resource: &'static Resource, object: &Value, owner: &Value) -> Option<Arc<Value>> {
    let adopted = change(store, resource, object, |object| {
        if controller(object).is_some() {
            return Err(StoreError::Refused("another owner was faster".into()));
        }
        let references = metadata(object).entry("ownerReferences").or_insert_with(|| json!([]));
        references.as_array_mut().into_iter().for_each(|list| list.push(controlled_by(owner)));
        Ok(())
    });
    adopted.ok()
}

fn release(store: &Store, resource: &'static Resource, object: &Value, owner: &Value) {
    // Already gone is as good.
    let _ = change(store, resource, object, |object| {
        disown(object, &owner["metadata"]["uid"]);
        Ok(())
    });
}

/// Changes this very object, not one that has taken its name.
fn change(
    store: &Store,
    resource: &'static Resource,
    object: &Value,
    make: impl FnOnce(&mut Value) -> Result<(), StoreError>,
) -> Result<Arc<Value>, StoreError> {
    let (ns, name) = key(object);
    store.update(resource, &ns, &name, |present| {
        if present["metadata"]["uid"] != object["metadata"]["uid"] {
            return Err(StoreError::Refused("another object has taken the name".into()));
        }
        make(present)
    })
}

/// Queues the objects of `of` that control what changed, and for what nobody controls those that would adopt it.
pub fn queue_owners(queue: &mut Queue, store: &Store, batch: impl IntoIterator<Item = News>, of: &'static Resource) {
    for news in batch {
        let News::Changed(change) = news else { continue };
        let (ns, _) = key(&change.object);
        for object in [Some(&change.object), change.previous.as_ref()].into_iter().flatten() {
            if let Some(reference) = controller(object).filter(|r| r["kind"] == of.kind) {
                queue.insert((ns.clone(), reference["name"].as_str().unwrap_or_default().to_owned()));
            }
        }
        if change.kind != ChangeKind::Deleted && controller(&change.object).is_none() {
            let owners = store.list(of, Some(&ns)).0;
            let adopters = owners.iter().filter(|o| selects(&o["spec"]["selector"], &change.object["metadata"]["labels"]));
            queue.extend(adopters.map(|owner| (ns.clone(), text(owner, "name").to_owned())));
        }
    }
}
