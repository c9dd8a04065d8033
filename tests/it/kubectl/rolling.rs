//! Goal: rollouts are watched, undone, held and begun anew, conditions are waited for and nodes are emptied as on a cluster. How: a
//! Deployment with two revisions on two nodes, and the objects that are kept afterwards.

use std::process::Stdio;

use serde_json::json;
use squall::sandbox::resource::{CONFIGMAPS, NODES, PODS};

use super::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_watched_undone_held_and_begun_anew() {
    let Some(desk) = Desk::with_shop().await else { return };
    let image = || desk.web()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let status = &["rollout", "status", "deploy/web", "--timeout=30s"][..];
    desk.says(&["annotate", "deploy/web", "kubernetes.io/change-cause=the beginning"], &["annotated"]).await;
    desk.says(&["set", "image", "deploy/web", "web=shop/web:2"], &["image updated"]).await;
    desk.says(&["annotate", "deploy/web", "kubernetes.io/change-cause=a new image", "--overwrite"], &["annotated"]).await;
    desk.says(status, &["successfully rolled out"]).await;
    desk.says(
        &["rollout", "history", "deploy/web"],
        &["REVISION  CHANGE-CAUSE", "1         the beginning", "2         a new image"],
    )
    .await;
    desk.says(&["rollout", "history", "deploy/web", "--revision=1"], &["with revision #1", "shop/web:1"]).await;

    desk.says(&["rollout", "undo", "deploy/web"], &["deployment.apps/web rolled back"]).await;
    desk.says(status, &["successfully rolled out"]).await;
    assert_eq!(image(), "shop/web:1");
    let history = desk.says(&["rollout", "history", "deploy/web"], &["3         the beginning"]).await;
    assert!(!history.contains("1         "), "the revision that is gone back to is the newest now: {history}");
    desk.says(&["rollout", "undo", "deploy/web", "--to-revision=2"], &["rolled back"]).await;
    desk.says(status, &["successfully rolled out"]).await;
    assert_eq!(image(), "shop/web:2");
    desk.fails(&["rollout", "undo", "deploy/web", "--to-revision=7"], &["unable to find specified revision 7 in history"]).await;

    desk.says(&["rollout", "pause", "deploy/web"], &["paused"]).await;
    desk.fails(&["rollout", "pause", "deploy/web"], &["is already paused"]).await;
    desk.fails(&["rollout", "undo", "deploy/web"], &["you cannot rollback a paused deployment"]).await;
    let before = desk.pods(2).await;
    desk.fails(&["rollout", "restart", "deploy/web"], &["can't restart paused deployment"]).await;
    desk.says(&["set", "env", "deploy/web", "A=1"], &["env updated"]).await;
    let (out, _, ok) = desk.runs(&["rollout", "status", "deploy/web", "--timeout=1s"], "").await;
    assert!(!ok && out.contains("0 out of 2 new replicas have been updated"), "{out}");
    assert_eq!(desk.pods(2).await, before, "a rollout that is held replaces no pods");
    desk.says(&["rollout", "resume", "deploy/web"], &["resumed"]).await;
    desk.says(status, &["successfully rolled out"]).await;
    assert!(desk.pods(2).await.iter().all(|pod| !before.contains(pod)));

    desk.says(&["rollout", "restart", "deploy/web"], &["restarted"]).await;
    desk.says(status, &["successfully rolled out"]).await;
    assert!(desk.web()["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string());
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_values_beginnings_and_ends_are_waited_for() {
    let Some(desk) = Desk::with_shop().await else { return };
    desk.says(&["wait", "deploy/web", "--for=condition=Available", "--timeout=30s"], &["deployment.apps/web condition met"]).await;
    desk.says(&["wait", "pods", "-l", "app=web", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;
    let three =
        desk.kubectl.follow(&["wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=30s"], Stdio::null());
    desk.says(&["scale", "deploy/web", "--replicas=3"], &["scaled"]).await;
    assert_eq!(three.rest().await, ["deployment.apps/web condition met"]);
    desk.fails(&["wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=9", "--timeout=1s"], &["timed out waiting"]).await;

    let made = desk.kubectl.follow(&["wait", "configmap/late", "--for=create", "--timeout=30s"], Stdio::null());
    desk.says(&["create", "configmap", "late", "--from-literal=a=1"], &["created"]).await;
    assert_eq!(made.rest().await, ["configmap/late condition met"]);
    let gone = desk.kubectl.follow(&["wait", "configmap/late", "--for=delete", "--timeout=30s"], Stdio::null());
    desk.says(&["delete", "configmap", "late"], &["deleted"]).await;
    // It says nothing where the object was gone before it began.
    assert!(gone.rest().await.iter().all(|line| line == "configmap/late condition met"));
    assert!(desk.world.get(&CONFIGMAPS, "late").is_none());
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_cordoned_tainted_and_drained() {
    let Some(desk) = Desk::with_shop().await else { return };
    let node = || desk.world.sandbox.store().get(&NODES, "", "sandbox").expect("it is there from the start");
    let other = "{apiVersion: v1, kind: Node, metadata: {name: other}}";
    desk.says(&["cordon", "sandbox"], &["node/sandbox cordoned"]).await;
    assert_eq!(node()["spec"]["unschedulable"], true);
    desk.says(&["get", "nodes"], &["Ready,SchedulingDisabled"]).await;
    desk.says(&["cordon", "sandbox"], &["node/sandbox already cordoned"]).await;
    desk.tell(&["apply", "-f", "-"], other, &["node/other created"]).await;
    desk.says(&["wait", "node/other", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;

    let before = desk.pods(2).await;
    let tried = desk.says(&["drain", "sandbox", "--dry-run=server"], &["drained (server dry run)"]).await;
    assert_eq!(tried.lines().filter(|line| line.starts_with("evicting pod default/web-")).count(), 2, "{tried}");
    assert_eq!(desk.pods(2).await, before);
    desk.says(
        &["run", "alone", "--image=a", "--command", "--overrides", "{\"spec\":{\"nodeName\":\"sandbox\"}}", "--", "sleep", "1000"],
        &["created"],
    )
    .await;
    desk.says(&["wait", "pod/alone", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;
    desk.fails(&["drain", "sandbox", "--timeout=30s"], &["declare no controller (use --force to override): default/alone"]).await;
    desk.says(
        &["drain", "sandbox", "--force", "--grace-period=1", "--timeout=60s"],
        &["pod/alone evicted", "node/sandbox drained"],
    )
    .await;
    assert!(desk.world.get(&PODS, "alone").is_none());
    let moved = desk.world.wait(&PODS, "two ready pods on the other node", |world| {
        let pods = world.all(&PODS);
        let there = pods.iter().filter(|pod| pod["spec"]["nodeName"] == "other" && super::super::sandbox::is_ready(pod)).count();
        (there == 2 && pods.len() == 2).then_some(())
    });
    moved.await;
    desk.says(&["uncordon", "sandbox"], &["node/sandbox uncordoned"]).await;
    desk.says(&["taint", "node", "sandbox", "shop=closed:NoSchedule"], &["node/sandbox tainted"]).await;
    assert_eq!(node()["spec"]["taints"], json!([{"key": "shop", "value": "closed", "effect": "NoSchedule"}]));
    desk.says(&["taint", "node", "sandbox", "shop-"], &["node/sandbox untainted"]).await;
    assert!(node()["spec"].get("taints").is_none_or(|taints| *taints == json!([])));
    // Without asking the budgets: pods are deleted, not evicted.
    let emptied = desk.says(&["drain", "other", "--disable-eviction", "--timeout=60s"], &["node/other drained"]).await;
    assert_eq!(emptied.lines().filter(|line| line.starts_with("pod/web-") && line.ends_with(" deleted")).count(), 2, "{emptied}");
    desk.pods(2).await;
    desk.close().await;
}
