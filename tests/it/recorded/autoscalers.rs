//! The recorded autoscalers whose fate does not hang on how busy a machine is, on a sandbox: those that cannot measure. The decisions of
//! all recorded ones are played sync by sync in `decisions.rs`.

use serde_json::{Value, json};
use squall::sandbox::resource::{DEPLOYMENTS, HPAS, NAMESPACES, Resource};
use squall::sandbox::store::text;

use super::exchanges::{NS, Replay};
use super::recording::{Recording, Seen};
use crate::sandbox::World;

impl Replay {
    /// Makes a recorded Deployment and, once it is ready as the recorded one was, its autoscalers one after the other; compares when each
    /// says what the recorded one said in the end.
    pub async fn autoscalers(&mut self, file: &str) {
        let recording = Recording::read(file);
        let theirs = recording.seen();
        let from = self.world.sandbox.store().version();
        let made =
            |plural: &str| -> Vec<&Seen> { theirs.iter().filter(|seen| seen.how == "ADDED" && seen.plural == plural).collect() };
        let (deployments, autoscalers) = (made("deployments"), made("horizontalpodautoscalers"));
        for seen in &deployments {
            let mut deployment = object(&DEPLOYMENTS, seen);
            // What it burns is nothing to them, and would be something to whoever else is on this machine.
            deployment["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sleep", "3600"]);
            self.post(&DEPLOYMENTS, deployment).await;
            let ready = |w: &World| {
                let there = w.sandbox.store().get(&DEPLOYMENTS, NS, text(&seen.object, "name"))?;
                (there["status"]["readyReplicas"] == there["spec"]["replicas"]).then_some(())
            };
            self.world.wait(&DEPLOYMENTS, "a ready deployment", ready).await;
        }
        for seen in &autoscalers {
            self.post(&HPAS, object(&HPAS, seen)).await;
            let looked_at = |w: &World| {
                let there = w.sandbox.store().get(&HPAS, NS, text(&seen.object, "name"))?;
                (!reasons(&there).is_empty()).then_some(())
            };
            self.world.wait(&HPAS, "a look at the autoscaler", looked_at).await;
        }
        let settled = |w: &World| {
            let said = |seen: &&Seen| {
                let last = theirs
                    .iter()
                    .rev()
                    .find(|other| other.plural == seen.plural && text(&other.object, "name") == text(&seen.object, "name"));
                let ours = w.sandbox.store().get(&HPAS, NS, text(&seen.object, "name"));
                ours.is_some_and(|ours| last.is_some_and(|last| reasons(&ours) == reasons(&last.object)))
            };
            autoscalers.iter().all(said).then_some(())
        };
        self.world.wait(&HPAS, "what the recorded autoscalers said", settled).await;
        let ours = self.history(from, None).await;
        let relevant = |seen: &[Seen]| -> Vec<Seen> {
            let is_it = |seen: &&Seen| match seen.plural.as_str() {
                "events" => seen.object["involvedObject"]["kind"] == "HorizontalPodAutoscaler",
                plural => plural == "horizontalpodautoscalers",
            };
            seen.iter().filter(is_it).cloned().collect()
        };
        self.compare(file, &relevant(&theirs), &relevant(&ours));
        for (resource, seen) in
            deployments.iter().map(|seen| (&DEPLOYMENTS, seen)).chain(autoscalers.iter().map(|seen| (&HPAS, seen)))
        {
            let path =
                format!("/apis/{}/namespaces/{NS}/{}/{}", resource.api_version(), resource.plural, text(&seen.object, "name"));
            self.world.delete(&path, None).await;
        }
    }

    pub async fn namespace(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}});
        self.world.ask(reqwest::Method::POST, "/api/v1/namespaces", "application/json", namespace).await;
        assert!(self.world.sandbox.store().get(&NAMESPACES, "", NS).is_some());
    }
}

/// The object as somebody asked for it.
fn object(resource: &'static Resource, seen: &Seen) -> Value {
    json!({"apiVersion": resource.api_version(), "kind": resource.kind, "spec": seen.object["spec"],
        "metadata": {"name": text(&seen.object, "name"), "namespace": NS}})
}

/// The kinds of its conditions, and their reasons.
fn reasons(object: &Value) -> Vec<(Value, Value)> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.map(|c| (c["type"].clone(), c["reason"].clone())).collect()
}
