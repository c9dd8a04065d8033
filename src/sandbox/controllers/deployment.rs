//! Rolls a Deployment from one ReplicaSet to the next within maxSurge and maxUnavailable, keeps revisions, and says how far it is in
//! the conditions that `kubectl rollout status` reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::claim::claimed;
use super::{Shared, follow, template};
use crate::sandbox::objects::{
    Key, Rounding, Updates, condition, controlled_by, count_or_percent, has_ended, int, is_controlled_by, is_leaving, key, millis,
    set_condition,
};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{DEPLOYMENTS, PODS, REPLICASETS};
use crate::sandbox::store::{StoreError, text};
use crate::time::wall_now;

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "deployment-controller", Spot::Nowhere);
    let rollout = Rollout { shared: &shared, recorder: &recorder };
    // A step that failed is taken again with the next change.
    follow(&shared, &DEPLOYMENTS, &REPLICASETS, |at| rollout.sync(at).ok().flatten()).await;
}

struct Rollout<'a> {
    shared: &'a Shared,
    recorder: &'a Recorder,
}

/// A Deployment's ReplicaSets: the one of its present template, and the others, oldest first.
struct Sets {
    new: Option<Arc<Value>>,
    old: Vec<Arc<Value>>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.old.iter().chain(self.new.iter())
    }

    fn sum(&self, of: impl Fn(&Value) -> i64) -> i64 {
        self.all().map(|set| of(set)).sum()
    }
}

fn wanted(set: &Value) -> i64 {
    int(&set["spec"]["replicas"], 0)
}

fn available(set: &Value) -> i64 {
    int(&set["status"]["availableReplicas"], 0)
}

fn replicas_of(deployment: &Value) -> i64 {
    int(&deployment["spec"]["replicas"], 1)
}

/// (maxSurge, maxUnavailable) as pods; both zero would never move, so then one may be unavailable.
fn bounds(deployment: &Value) -> (i64, i64) {
    if deployment["spec"]["strategy"]["type"] == "Recreate" {
        return (0, replicas_of(deployment));
    }
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    let of = |field: &str, rounding| {
        let quarter = json!("25%");
        let value = if rolling[field].is_null() { &quarter } else { &rolling[field] };
        count_or_percent(value, replicas_of(deployment), rounding).unwrap_or(0).max(0)
    };
    match (of("maxSurge", Rounding::Up), of("maxUnavailable", Rounding::Down)) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(replicas_of(deployment))),
    }
}

impl Rollout<'_> {
    /// One step; and after how long to look again if nothing changes.
    fn sync(&self, (ns, name): &Key) -> Result<Option<Duration>, StoreError> {
        let Some(deployment) = self.shared.store.get(&DEPLOYMENTS, ns, name) else { return Ok(None) };
        let mut sets = self.sets(&deployment);
        if is_leaving(&deployment) {
            self.write_status(&deployment, &sets)?;
            return Ok(None);
        }
        let paused = deployment["spec"]["paused"] == true;
        if !paused {
            self.ensure_new(&deployment, &mut sets)?;
        }
        if paused || self.was_resized(&deployment, &sets) {
            self.resize(&deployment, &sets)?;
        } else if deployment["spec"]["strategy"]["type"] == "Recreate" {
            self.recreate(&deployment, &sets)?;
        } else {
            self.roll(&deployment, &sets)?;
        }
        let sets = self.sets(&deployment);
        self.forget_old(&deployment, &sets);
        self.write_status(&deployment, &sets)
    }

    fn sets(&self, deployment: &Value) -> Sets {
        let mut owned = claimed(&self.shared.store, &DEPLOYMENTS, deployment, &REPLICASETS);
        owned.sort_by_key(|set| (millis(&set["metadata"]["creationTimestamp"]), revision(set)));
        let template = &deployment["spec"]["template"];
        let new = owned.iter().position(|set| same_template(&set["spec"]["template"], template)).map(|i| owned.remove(i));
        Sets { new, old: owned }
    }

    /// Makes the ReplicaSet of the present template where there is none, and gives it the latest revision.
    fn ensure_new(&self, deployment: &Value, sets: &mut Sets) -> Result<(), StoreError> {
        let (ns, name) = key(deployment);
        let latest = sets.old.iter().map(|set| revision(set)).max().unwrap_or(0);
        let (surge, _) = bounds(deployment);
        let wants = replicas_of(deployment);
        let own_annotations = || {
            let annotations = deployment["metadata"]["annotations"].as_object().into_iter().flatten();
            annotations.filter(|(key, _)| {
                !key.starts_with("deployment.kubernetes.io/") && *key != "kubectl.kubernetes.io/last-applied-configuration"
            })
        };
        // What is noted of a Deployment, as the cause of a change, is noted of its present revision.
        let annotate = |set: &mut Value, revision: i64| {
            let annotations = &mut set["metadata"]["annotations"];
            for (key, value) in own_annotations() {
                annotations[key] = value.clone();
            }
            annotations[REVISION] = json!(revision.to_string());
        };
        let number = match &sets.new {
            Some(set) => {
                let number = if revision(set) > latest { revision(set) } else { latest + 1 };
                let is_noted = own_annotations().all(|(key, value)| set["metadata"]["annotations"].get(key) == Some(value));
                if revision(set) != number || !is_noted {
                    let updated = self.shared.store.update(&REPLICASETS, &ns, text(set, "name"), |set| {
                        annotate(set, number);
                        Ok(())
                    })?;
                    sets.new = Some(updated);
                }
                number
            }
            None => {
                let number = latest + 1;
                let collisions = int(&deployment["status"]["collisionCount"], 0);
                let hash = template::hash(&deployment["spec"]["template"], collisions);
                let set_name = format!("{name}-{hash}");
                let mut template = deployment["spec"]["template"].clone();
                template["metadata"]["labels"][HASH] = json!(hash);
                let mut selector = deployment["spec"]["selector"].clone();
                selector["matchLabels"][HASH] = json!(hash);
                let present: i64 = sets.sum(wanted);
                let first = if deployment["spec"]["strategy"]["type"] == "Recreate" {
                    0
                } else {
                    (wants + surge - present).clamp(0, wants)
                };
                let mut set = json!({
                    "metadata": {"name": set_name, "namespace": ns, "labels": template["metadata"]["labels"],
                        "annotations": {}, "ownerReferences": [controlled_by(deployment)]},
                    "spec": {"replicas": first, "selector": selector, "template": template},
                    "status": {"replicas": 0},
                });
                if !deployment["spec"]["minReadySeconds"].is_null() {
                    set["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"].clone();
                }
                annotate(&mut set, number);
                set["metadata"]["annotations"][DESIRED] = json!(wants.to_string());
                set["metadata"]["annotations"][MAX] = json!((wants + surge).to_string());
                match self.shared.store.create(&REPLICASETS, set) {
                    Ok(set) => {
                        if first > 0 {
                            let message = format!("Scaled up replica set {set_name} from 0 to {first}");
                            self.recorder.normal(deployment, "ScalingReplicaSet", &message);
                        }
                        self.say_progress(deployment, "NewReplicaSetCreated", &format!("Created new replica set {set_name:?}"))?;
                        sets.new = Some(set);
                    }
                    Err(StoreError::AlreadyExists { .. }) => {
                        // Another template with the same hash: the next hash is salted.
                        self.shared.store.update(&DEPLOYMENTS, &ns, &name, |d| {
                            d["status"]["collisionCount"] = json!(collisions + 1);
                            Ok(())
                        })?;
                        return Ok(());
                    }
                    Err(error) => {
                        let message = format!("Failed to create new replica set {set_name:?}: {error}");
                        self.recorder.warning(deployment, "ReplicaSetCreateError", &message);
                        return Err(error);
                    }
                }
                number
            }
        };
        self.shared.store.update(&DEPLOYMENTS, &ns, &name, |d| {
            d["metadata"]["annotations"][REVISION] = json!(number.to_string());
            Ok(())
        })?;
        Ok(())
    }

    /// Whether the Deployment's own size changed since its sets were last scaled for it.
    fn was_resized(&self, deployment: &Value, sets: &Sets) -> bool {
        let wants = replicas_of(deployment);
        let noted = |set: &Value| set["metadata"]["annotations"][DESIRED].as_str().and_then(|n| n.parse::<i64>().ok());
        sets.all().filter(|set| wanted(set) > 0).any(|set| noted(set).is_some_and(|n| n != wants))
    }

    /// Brings the sets to a new size without rolling: the only active one takes it all, several share it by their sizes.
    fn resize(&self, deployment: &Value, sets: &Sets) -> Result<(), StoreError> {
        let wants = replicas_of(deployment);
        let active: Vec<&Arc<Value>> = sets.all().filter(|set| wanted(set) > 0).collect();
        if let Some(only) = match active[..] {
            [] => sets.new.as_ref().or(sets.old.last()),
            [only] => Some(only),
            _ => None,
        } {
            return self.scale(deployment, only, wants);
        }
        if let Some(new) = &sets.new
            && wanted(new) == wants
            && available(new) == wants
        {
            // The rollout is over but for its remains.
            for old in sets.old.iter().filter(|set| wanted(set) > 0) {
                self.scale(deployment, old, 0)?;
            }
            return Ok(());
        }
        let (surge, _) = bounds(deployment);
        let allowed = if wants > 0 { wants + surge } else { 0 };
        let total: i64 = active.iter().map(|set| wanted(set)).sum();
        let mut left = allowed - total;
        // The largest first, and what rounding leaves to it.
        let mut by_size = active.clone();
        by_size.sort_by_key(|set| std::cmp::Reverse(wanted(set)));
        let mut shares: Vec<i64> = vec![0; by_size.len()];
        for (set, share) in by_size.iter().zip(&mut shares) {
            let exact = (wanted(set) as f64 * allowed as f64 / total as f64).round() as i64 - wanted(set);
            *share = if left > 0 { exact.clamp(0, left) } else { exact.clamp(left, 0) };
            left -= *share;
        }
        if let Some(first) = shares.first_mut() {
            *first += left;
        }
        for (set, share) in by_size.iter().zip(shares) {
            self.scale(deployment, set, (wanted(set) + share).max(0))?;
        }
        Ok(())
    }

    /// One step of a rolling update: as much of the new as surge allows, as little of the old as availability needs.
    fn roll(&self, deployment: &Value, sets: &Sets) -> Result<(), StoreError> {
        let Some(new) = &sets.new else { return Ok(()) };
        let wants = replicas_of(deployment);
        let (surge, unavailable) = bounds(deployment);
        let total = sets.sum(wanted);
        if wanted(new) > wants {
            return self.scale(deployment, new, wants);
        }
        if wanted(new) < wants {
            let room = wants + surge - total;
            let next = wanted(new) + room.clamp(0, wants - wanted(new));
            if next != wanted(new) {
                return self.scale(deployment, new, next);
            }
        }
        let needed = wants - unavailable;
        let unready_new = wanted(new) - available(new);
        let mut spare = total - needed - unready_new;
        if spare <= 0 {
            return Ok(());
        }
        let mut scaled = BTreeMap::new();
        // Old pods that do not work anyway go first.
        for old in &sets.old {
            let broken = (wanted(old) - available(old)).min(spare);
            if broken > 0 {
                self.scale(deployment, old, wanted(old) - broken)?;
                scaled.insert(text(old, "name"), broken);
                spare -= broken;
            }
        }
        let mut surplus = (sets.sum(available) - needed).min(spare);
        for old in &sets.old {
            let gone = scaled.get(text(old, "name")).copied().unwrap_or(0);
            let step = (wanted(old) - gone).min(surplus);
            if step > 0 {
                self.scale(deployment, old, wanted(old) - gone - step)?;
                surplus -= step;
            }
        }
        Ok(())
    }

    /// All of the old, then all of the new.
    fn recreate(&self, deployment: &Value, sets: &Sets) -> Result<(), StoreError> {
        for old in sets.old.iter().filter(|set| wanted(set) > 0) {
            self.scale(deployment, old, 0)?;
        }
        let (ns, _) = key(deployment);
        let remains = self
            .shared
            .store
            .list(&PODS, Some(&ns))
            .0
            .iter()
            .any(|pod| !has_ended(pod) && sets.old.iter().any(|set| is_controlled_by(pod, set)));
        match &sets.new {
            Some(new) if !remains => self.scale(deployment, new, replicas_of(deployment)),
            _ => Ok(()),
        }
    }

    fn scale(&self, deployment: &Value, set: &Value, to: i64) -> Result<(), StoreError> {
        let (ns, name) = key(set);
        let (surge, _) = bounds(deployment);
        let wants = replicas_of(deployment);
        let from = wanted(set);
        self.shared.store.update(&REPLICASETS, &ns, &name, |set| {
            set["spec"]["replicas"] = json!(to);
            set["metadata"]["annotations"][DESIRED] = json!(wants.to_string());
            set["metadata"]["annotations"][MAX] = json!((wants + surge).to_string());
            Ok(())
        })?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            self.recorder.normal(deployment, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    /// Drops the oldest sets beyond the history limit, once they are empty.
    fn forget_old(&self, deployment: &Value, sets: &Sets) {
        let limit = int(&deployment["spec"]["revisionHistoryLimit"], 10).max(0) as usize;
        let empty = |set: &&Arc<Value>| wanted(set) == 0 && int(&set["status"]["replicas"], 0) == 0 && !is_leaving(set);
        let mut old: Vec<_> = sets.old.iter().filter(empty).collect();
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(limit);
        for set in old.into_iter().take(surplus) {
            let (ns, name) = key(set);
            // Already gone is as good.
            let _ = self.shared.store.delete(&REPLICASETS, &ns, &name);
        }
    }

    fn say_progress(&self, deployment: &Value, reason: &str, message: &str) -> Result<(), StoreError> {
        let (ns, name) = key(deployment);
        self.shared.store.update(&DEPLOYMENTS, &ns, &name, |d| {
            let condition = json!({"type": "Progressing", "status": "True", "reason": reason, "message": message});
            set_condition(d, condition, Updates::Yes);
            Ok(())
        })?;
        Ok(())
    }

    fn write_status(&self, deployment: &Value, sets: &Sets) -> Result<Option<Duration>, StoreError> {
        let (ns, name) = key(deployment);
        let of = |field: &'static str| move |set: &Value| int(&set["status"][field], 0);
        let (total, ready, up) = (sets.sum(of("replicas")), sets.sum(of("readyReplicas")), sets.sum(available));
        let (wants, total_wanted) = (replicas_of(deployment), sets.sum(wanted));
        let leaving = sets.sum(of("terminatingReplicas"));
        let updated = sets.new.as_ref().map_or(0, |set| of("replicas")(set));
        let (_, may_lack) = bounds(deployment);
        let new_name = sets.new.as_ref().map(|set| text(set, "name").to_owned()).unwrap_or_default();
        let observed = &deployment["metadata"]["generation"];

        let before = &deployment["status"];
        let grew = |field: &str, now: i64| now > int(&before[field], 0);
        let old_total = total - updated;
        let old_before = int(&before["replicas"], 0) - int(&before["updatedReplicas"], 0);
        let progressed = grew("updatedReplicas", updated)
            || grew("readyReplicas", ready)
            || grew("availableReplicas", up)
            || old_total < old_before;
        let complete = updated == wants && total == wants && up == wants;

        let mut again = None;
        let deadline_s = int(&deployment["spec"]["progressDeadlineSeconds"], 600);
        self.shared.store.update(&DEPLOYMENTS, &ns, &name, |d| {
            let conditions = d["status"]["conditions"].clone();
            let collisions = d["status"]["collisionCount"].clone();
            let mut status = json!({"observedGeneration": observed});
            for (field, n) in [
                ("replicas", total),
                ("updatedReplicas", updated),
                ("readyReplicas", ready),
                ("availableReplicas", up),
                ("unavailableReplicas", (total_wanted - up).max(0)),
            ] {
                if n > 0 {
                    status[field] = json!(n);
                }
            }
            status["terminatingReplicas"] = json!(leaving);
            if !conditions.is_null() {
                status["conditions"] = conditions;
            }
            if !collisions.is_null() {
                status["collisionCount"] = collisions;
            }
            d["status"] = status;
            let (holds, reason, message) = if up >= wants - may_lack {
                ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
            } else {
                ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            };
            let available = json!({"type": "Available", "status": holds, "reason": reason, "message": message});
            set_condition(d, available, Updates::Yes);

            let progress = condition(d, "Progressing").cloned();
            let was_available = progress.as_ref().is_some_and(|c| c["reason"] == "NewReplicaSetAvailable");
            // A finished rollout stays finished while pods come and go, until there are pods of another template.
            let ended = was_available && updated == total;
            // One that has just begun is on its way even where its first pods were counted as soon as it was seen.
            let begun = was_available && int(&before["observedGeneration"], 0) < int(observed, 0);
            if complete && !new_name.is_empty() {
                let message = format!("ReplicaSet {new_name:?} has successfully progressed.");
                let done = json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": message});
                set_condition(d, done, Updates::Yes);
            } else if (progressed || begun) && !ended && !new_name.is_empty() {
                let message = format!("ReplicaSet {new_name:?} is progressing.");
                let on = json!({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": message});
                set_condition(d, on, Updates::Yes);
            } else if let Some(progress) = progress.filter(|_| !was_available) {
                let since = millis(&progress["lastUpdateTime"]).unwrap_or_default();
                let left_ms = since + deadline_s * 1000 - wall_now().as_millisecond();
                if left_ms <= 0 && progress["reason"] != "ProgressDeadlineExceeded" && d["spec"]["paused"] != true {
                    let message = format!("ReplicaSet {new_name:?} has timed out progressing.");
                    let late =
                        json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message});
                    set_condition(d, late, Updates::Yes);
                } else if left_ms > 0 {
                    again = Some(Duration::from_millis(left_ms as u64 + 10));
                }
            }
            Ok(())
        })?;
        Ok(again)
    }
}

fn revision(set: &Value) -> i64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Whether two templates are the same but for the hash label that the controller adds.
fn same_template(of_set: &Value, of_deployment: &Value) -> bool {
    let mut plain = of_set.clone();
    if let Some(labels) = plain["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    plain == *of_deployment
}
