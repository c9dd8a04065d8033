//! The end of a namespace: everything in it is deleted, pods with their grace, and when nothing is left it goes itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::resource::{NAMESPACES, RESOURCES};
use super::super::store::{DeleteOptions, Store, StoreError, text};

/// How often a namespace that is not empty yet is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends terminating namespaces, until it is dropped with the server.
pub async fn run(store: Arc<Store>) {
    let mut ending: BTreeSet<String> = BTreeSet::new();
    loop {
        let Ok(mut changes) = store.watch(&NAMESPACES, None, None) else { continue };
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Ok(change) if !text(&change.object, "deletionTimestamp").is_empty() => {
                        ending.insert(text(&change.object, "name").to_owned());
                    }
                    Ok(_) => {}
                    Err(_) => break,
                },
                () = tokio::time::sleep(LOOK_EVERY), if !ending.is_empty() => {}
            }
            ending.retain(|namespace| !swept(&store, namespace));
        }
    }
}

/// Deletes what is left in a namespace; whether it is gone.
fn swept(store: &Store, namespace: &str) -> bool {
    let mut left = 0;
    // Owners come before what they own in this order, so that controllers do not replace what is being deleted.
    let (owners, owned): (Vec<_>, Vec<_>) =
        RESOURCES.iter().filter(|r| r.namespaced).partition(|r| matches!(r.group, "apps" | "autoscaling" | "keda.sh"));
    for resource in owners.into_iter().chain(owned) {
        for object in store.list(resource, Some(namespace)).0 {
            left += 1;
            if text(&object, "deletionTimestamp").is_empty() {
                let deleted = store.begin_delete(resource, namespace, text(&object, "name"), &DeleteOptions::default());
                if let Err(error) = deleted {
                    tracing::debug!(%error, namespace, "an object of a terminating namespace was gone already");
                }
            }
        }
    }
    if left > 0 {
        return false;
    }
    let released = store.update(&NAMESPACES, "", namespace, |object| {
        object["spec"]["finalizers"] = json!([]);
        Ok(())
    });
    matches!(released, Ok(_) | Err(StoreError::NotFound { .. })) && store.get(&NAMESPACES, "", namespace).is_none()
}
