//! Goal: what `kubectl` changes is changed as on a cluster, and nothing beside it. How: each verb is run against one Deployment, and the
//! object that is kept is looked at afterwards.

use serde_json::{Value, json};
use squall::sandbox::resource::{CONFIGMAPS, PODS, REPLICASETS, SERVICES};

use super::{Desk, SHOP};

const SETTINGS: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1', b: '2'}}";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_compared_with_what_was_applied_before() {
    let Some(desk) = Desk::open().await else { return };
    let data = || desk.world.get(&CONFIGMAPS, "settings").map(|map| map["data"].clone());
    desk.tell(&["apply", "-f", "-", "--dry-run=server"], SETTINGS, &["created (server dry run)"]).await;
    assert_eq!(data(), None);
    desk.tell(&["apply", "-f", "-"], SETTINGS, &["configmap/settings created"]).await;
    desk.tell(&["apply", "-f", "-"], SETTINGS, &["configmap/settings unchanged"]).await;
    // Somebody else's field stays, one that is no longer applied goes.
    desk.says(&["patch", "configmap", "settings", "-p", "{\"data\":{\"c\":\"3\"}}"], &["patched"]).await;
    let less = SETTINGS.replace(", b: '2'", "");
    let (out, _, ok) = desk.runs(&["diff", "-f", "-"], &less).await;
    assert!(
        !ok && out.contains("-  b: \"2\"") && !out.contains("c: \"3\"\n-"),
        "a difference is told by the exit code, too: {out}"
    );
    desk.tell(&["apply", "-f", "-"], &less, &["configured"]).await;
    assert_eq!(data(), Some(json!({"a": "1", "c": "3"})));
    desk.says(&["apply", "view-last-applied", "configmap/settings"], &["a: \"1\""]).await;
    desk.tell(&["diff", "-f", "-"], &less, &[]).await;

    // On the server's side, each manager owns what it says.
    let said = |data: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared}}, data: {data}}}");
    let apply = |manager: &'static str| ["apply", "--server-side", "-f", "-", "--field-manager", manager];
    desk.tell(&apply("one"), &said("{a: '1'}"), &["configmap/shared serverside-applied"]).await;
    desk.tell(&apply("two"), &said("{b: '2'}"), &["serverside-applied"]).await;
    desk.fails_with(&apply("two"), &said("{a: '2', b: '2'}"), &["conflict with \"one\"", ".data.a", "--force-conflicts"]).await;
    let force = [&apply("two")[..], &["--force-conflicts"]].concat();
    desk.tell(&force, &said("{a: '2', b: '2'}"), &["serverside-applied"]).await;
    let shared = desk.world.get(&CONFIGMAPS, "shared").expect("it was applied above");
    assert_eq!(shared["data"], json!({"a": "2", "b": "2"}));
    desk.fails_with(
        &["apply", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dat: {}}",
        &["unknown field \"dat\""],
    )
    .await;
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_patched_edited_scaled_and_set() {
    let Some(desk) = Desk::with_shop().await else { return };
    let container = || desk.web()["spec"]["template"]["spec"]["containers"][0].clone();
    let replicas = || desk.web()["spec"]["replicas"].clone();
    let deploy = "deploy/web";

    // Strategic: the container is found by its name, and keeps the rest.
    let patch =
        "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"env\":[{\"name\":\"A\",\"value\":\"1\"}]}]}}}}";
    desk.says(&["patch", deploy, "-p", patch], &["deployment.apps/web patched"]).await;
    assert_eq!((&container()["env"], &container()["image"]), (&json!([{"name": "A", "value": "1"}]), &json!("shop/web:1")));
    let generation = || desk.web()["metadata"]["generation"].clone();
    let before = generation();
    // Whether the client calls that a change hangs on the status, which may move meanwhile.
    desk.says(&["patch", deploy, "-p", patch], &["patched"]).await;
    assert_eq!(generation(), before, "the same once more changes nothing");
    desk.says(&["patch", deploy, "--type=merge", "-p", "{\"spec\":{\"replicas\":3}}"], &["patched"]).await;
    assert_eq!(replicas(), 3);
    let operations =
        "[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":3},{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]";
    desk.says(&["patch", deploy, "--type=json", "-p", operations], &["patched"]).await;
    assert_eq!(replicas(), 2);
    desk.fails(&["patch", deploy, "--type=json", "-p", operations], &["the server rejected our request"]).await;
    desk.says(&["patch", deploy, "--subresource=scale", "--type=merge", "-p", "{\"spec\":{\"replicas\":1}}"], &["patched"]).await;
    assert_eq!(replicas(), 1);
    desk.fails(&["patch", deploy, "-p", "{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}}"], &["field is immutable"])
        .await;

    desk.says(&["scale", deploy, "--replicas=2"], &["scaled"]).await;
    desk.fails(&["scale", deploy, "--current-replicas=7", "--replicas=1"], &["Expected replicas to be 7, was 2"]).await;
    desk.says(&["scale", deploy, "--current-replicas=2", "--replicas=3"], &["scaled"]).await;
    assert_eq!(replicas(), 3);

    // An editor that is a program: it changes the line, and for the second time nothing.
    let editor = [("KUBE_EDITOR", "sed -i 's/^  replicas: 3/  replicas: 2/'")];
    for told in ["deployment.apps/web edited", "Edit cancelled, no changes made."] {
        let (out, err, ok) = desk.kubectl.run_with(&["edit", deploy], "", &editor).await.expect("it was there a moment ago");
        assert!(ok && format!("{out}{err}").contains(told), "{out}{err}");
        assert_eq!(replicas(), 2);
    }

    desk.says(&["set", "image", deploy, "web=shop/web:2"], &["image updated"]).await;
    desk.says(&["set", "env", deploy, "B=2", "A-"], &["env updated"]).await;
    desk.says(&["set", "env", deploy, "--list"], &["B=2"]).await;
    desk.says(&["set", "resources", deploy, "--requests=cpu=50m,memory=8Mi", "--limits=memory=64Mi"], &["requirements updated"])
        .await;
    desk.says(&["set", "serviceaccount", deploy, "default"], &["serviceaccount updated"]).await;
    assert_eq!((&container()["image"], &container()["env"]), (&json!("shop/web:2"), &json!([{"name": "B", "value": "2"}])));
    let resources = json!({"requests": {"cpu": "50m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}});
    assert_eq!(container()["resources"], resources);
    assert_eq!(desk.web()["spec"]["template"]["spec"]["serviceAccountName"], "default");
    desk.says(&["set", "selector", "svc/web", "app=other"], &["selector updated"]).await;
    assert_eq!(desk.world.get(&SERVICES, "web").expect("it is there")["spec"]["selector"], json!({"app": "other"}));

    desk.says(&["label", deploy, "tier=front"], &["labeled"]).await;
    desk.fails(&["label", deploy, "tier=back"], &["'tier' already has a value (front), and --overwrite is false"]).await;
    desk.says(&["label", deploy, "tier=back", "--overwrite"], &["labeled"]).await;
    desk.says(&["label", deploy, "--list"], &["tier=back"]).await;
    desk.says(&["label", deploy, "tier-"], &["unlabeled"]).await;
    desk.says(&["annotate", deploy, "shop/owner=me"], &["annotated"]).await;
    let meta = desk.web()["metadata"].clone();
    assert_eq!((&meta["labels"], &meta["annotations"]["shop/owner"]), (&json!({"app": "web"}), &json!("me")));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_replaced_and_deleted() {
    let Some(desk) = Desk::with_shop().await else { return };
    let uid = || desk.web()["metadata"]["uid"].clone();
    let before = uid();
    let fewer = SHOP.replace("replicas: 2", "replicas: 1");
    desk.tell(&["replace", "-f", "-"], &fewer, &["deployment.apps/web replaced", "service/web replaced"]).await;
    assert_eq!((uid(), &desk.web()["spec"]["replicas"]), (before.clone(), &json!(1)));
    desk.tell(&["replace", "--force", "-f", "-"], &fewer, &["deployment.apps \"web\" deleted", "deployment.apps/web replaced"])
        .await;
    assert_ne!(uid(), before);
    desk.fails_with(
        &["replace", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: nobody}}",
        &["\"nobody\" not found"],
    )
    .await;
    desk.says(&["rollout", "status", "deploy/web", "--timeout=30s"], &["successfully rolled out"]).await;

    let pod = desk.pods(1).await[0].clone();
    desk.says(&["delete", "pod", &pod, "--dry-run=server"], &["deleted (server dry run)"]).await;
    assert_eq!(desk.pods(1).await[0], pod);
    desk.says(&["delete", "pod", &pod, "--now"], &[&format!("pod \"{pod}\"")]).await;
    assert!(desk.world.get(&PODS, &pod).is_none(), "kubectl waits until it is gone");
    let second = desk.pods(1).await[0].clone();
    desk.says(&["delete", "pod", &second, "--grace-period=0", "--force"], &["force deleted"]).await;
    desk.fails(&["delete", "pod", &second], &["not found"]).await;
    desk.says(&["delete", "pod", &second, "--ignore-not-found"], &[]).await;

    // Its ReplicaSet stays behind with its pod, and goes by its label.
    let third = desk.pods(1).await[0].clone();
    desk.says(&["delete", "deploy", "web", "--cascade=orphan"], &["deleted"]).await;
    assert_eq!(desk.world.all(&REPLICASETS).len(), 1);
    desk.says(&["delete", "rs", "-l", "app=web", "--cascade=foreground", "--timeout=30s"], &["deleted"]).await;
    assert!(desk.world.get(&PODS, &third).is_none(), "whoever deletes in the foreground waits for what is owned");
    desk.says(&["delete", "svc", "--all"], &["service \"web\""]).await;
    let left: Vec<Value> = desk.world.all(&SERVICES).iter().map(|service| service["metadata"]["name"].clone()).collect();
    assert_eq!(left, Vec::<Value>::new());
    desk.close().await;
}
