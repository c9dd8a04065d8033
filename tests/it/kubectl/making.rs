//! Goal: `kubectl create` and its kin make what they make on a real cluster, though they send protobuf. How: each is run twice, once as it
//! is and once as JSON that the same command prints without sending; both must be kept alike.

use serde_json::{Value, json};
use squall::sandbox::resource::{
    CONFIGMAPS, DEPLOYMENTS, HPAS, JOBS, NAMESPACES, PODDISRUPTIONBUDGETS, PODS, Resource, SECRETS, SERVICEACCOUNTS, SERVICES,
};

use super::Desk;

/// An object without what no two objects share, and without what a scheduler and controllers write.
fn content(object: &Value) -> Value {
    // Its own name is in its labels and in what is chosen by them.
    let text = object.to_string().replace("sent", "_").replace("printed", "_");
    let mut object: Value = serde_json::from_str(&text).expect("it was JSON a moment ago");
    let mut drop = |part: &str, fields: &[&str]| {
        if let Some(part) = object.pointer_mut(part).and_then(Value::as_object_mut) {
            part.retain(|key, _| !fields.contains(&key.as_str()));
        }
    };
    drop("", &["status"]);
    drop("/metadata", &["uid", "resourceVersion", "creationTimestamp", "managedFields", "annotations", "generation"]);
    drop("/spec", &["nodeName", "clusterIP", "clusterIPs"]);
    let uid = "batch.kubernetes.io/controller-uid";
    drop("/spec/selector/matchLabels", &[uid]);
    drop("/metadata/labels", &[uid, "controller-uid"]);
    drop("/spec/template/metadata/labels", &[uid, "controller-uid"]);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_as_protobuf_is_kept_as_what_is_sent_as_json() {
    let Some(desk) = Desk::open().await else { return };
    // Each: the resource, and the command with NAME for the object's.
    let table: &[(&'static Resource, &[&str])] = &[
        (&NAMESPACES, &["create", "namespace", "NAME"]),
        (
            &DEPLOYMENTS,
            &["create", "deployment", "NAME", "--image=shop/web:1", "--replicas=0", "--port=8080", "--", "sh", "-c", "sleep 9"],
        ),
        (&SERVICES, &["create", "service", "clusterip", "NAME", "--tcp=80:8080", "--tcp=443:https"]),
        (&SERVICES, &["create", "service", "nodeport", "NAME-node", "--tcp=80:8080", "--node-port=30080"]),
        (&SERVICES, &["create", "service", "externalname", "NAME-outside", "--external-name=example.com"]),
        (
            &CONFIGMAPS,
            &["create", "configmap", "NAME", "--from-literal=a=1", "--from-literal=b=", "--from-literal=c=\u{e9}\n\"x\""],
        ),
        (&SECRETS, &["create", "secret", "generic", "NAME", "--from-literal=password=s3cret", "--type=shop/own"]),
        (&SERVICEACCOUNTS, &["create", "serviceaccount", "NAME"]),
        (&JOBS, &["create", "job", "NAME", "--image=shop/job:1", "--", "sh", "-c", "exit 0"]),
        (&PODDISRUPTIONBUDGETS, &["create", "poddisruptionbudget", "NAME", "--selector=app=web", "--min-available=50%"]),
        (&PODDISRUPTIONBUDGETS, &["create", "pdb", "NAME-at-most", "--selector=app in (a,b),!c", "--max-unavailable=0"]),
        (&PODS, &["run", "NAME", "--image=shop/tool:1", "--restart=Never", "--env=A=b", "--labels=app=tool", "--", "true"]),
    ];
    for (resource, command) in table {
        let named = |name: &str| command.iter().map(|word| word.replace("NAME", name)).collect::<Vec<_>>();
        let sent = named("sent");
        let arguments: Vec<&str> = sent.iter().map(String::as_str).collect();
        desk.says(&arguments, &["created"]).await;
        let mut printed = named("printed");
        let flags = printed.iter().position(|word| word == "--").unwrap_or(printed.len());
        printed.splice(flags..flags, ["--dry-run=client".to_owned(), "-o=json".to_owned()]);
        let arguments: Vec<&str> = printed.iter().map(String::as_str).collect();
        let json = desk.says(&arguments, &["apiVersion"]).await;
        desk.tell(&["create", "-f", "-"], &json, &["created"]).await;

        let name = |name: &str| command.iter().find(|word| word.contains("NAME")).expect("it has a name").replace("NAME", name);
        let kept = |name: &str| {
            let namespace = if resource.namespaced { "default" } else { "" };
            let found = desk.world.sandbox.store().get(resource, namespace, name);
            content(&found.unwrap_or_else(|| panic!("there is no {} {name}", resource.kind)))
        };
        assert_eq!(kept(&name("sent")), kept(&name("printed")), "{command:?}");
    }
    let store = desk.world.sandbox.store();
    let deployment = store.get(&DEPLOYMENTS, "default", "sent").expect("it was made above");
    assert_eq!(deployment["spec"]["replicas"], 0, "zero is a number of replicas, not none");
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 8080, "protocol": "TCP"}])
    );
    assert_eq!(store.get(&SECRETS, "default", "sent").expect("it was made above")["data"], json!({"password": "czNjcmV0"}));
    let budget = store.get(&PODDISRUPTIONBUDGETS, "default", "sent-at-most").expect("it was made above");
    assert_eq!(budget["spec"]["maxUnavailable"], 0);

    // A trial leaves nothing, and what is not served is refused as a server refuses what it does not know.
    desk.says(&["create", "configmap", "trial", "--from-literal=a=1", "--dry-run=server"], &["created (server dry run)"]).await;
    assert!(desk.world.get(&CONFIGMAPS, "trial").is_none());
    desk.fails(&["create", "configmap", "sent"], &["configmaps \"sent\" already exists"]).await;
    desk.fails(&["create", "configmap", "A_b"], &["Invalid value: \"A_b\""]).await;
    desk.fails(&["create", "cronjob", "c", "--image=a", "--schedule=* * * * *"], &["could not find the requested resource"]).await;
    desk.fails(&["create", "token", "default"], &["could not find the requested resource"]).await;
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_exposed_and_autoscaled() {
    let Some(desk) = Desk::with_shop().await else { return };
    desk.says(&["expose", "deploy", "web", "--name=front", "--port=81", "--target-port=http"], &["service/front exposed"]).await;
    let front = desk.world.get(&SERVICES, "front").expect("it was made just now");
    assert_eq!(front["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(front["spec"]["ports"], json!([{"port": 81, "protocol": "TCP", "targetPort": "http"}]));

    desk.says(&["autoscale", "deploy", "web", "--min=1", "--max=3", "--cpu-percent=50"], &["autoscaled"]).await;
    let autoscaler = desk.world.get(&HPAS, "web").expect("it was made just now");
    let (api_version, spec) = (&autoscaler["apiVersion"], &autoscaler["spec"]);
    assert_eq!((api_version, &spec["minReplicas"], &spec["maxReplicas"]), (&json!("autoscaling/v2"), &json!(1), &json!(3)));
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    assert_eq!(spec["metrics"], json!([cpu]));
    desk.says(&["get", "hpa", "web"], &["Deployment/web", "/50%", "3"]).await;
    // The older version, which is what older clients write: seen, changed and applied like the newer one.
    let older = "horizontalpodautoscalers.v1.autoscaling/web";
    let target = "jsonpath={.apiVersion} {.spec.targetCPUUtilizationPercentage}";
    desk.says(&["get", older, "-o", target], &["autoscaling/v1 50"]).await;
    desk.says(&["patch", older, "--type=merge", "-p", "{\"spec\":{\"targetCPUUtilizationPercentage\":60}}"], &["patched"]).await;
    desk.says(&["get", "hpa", "web", "-o", "jsonpath={.spec.metrics[0].resource.target.averageUtilization}"], &["60"]).await;
    let manifest = |max: u32| {
        format!(
            "{{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {{name: other}}, spec: {{maxReplicas: {max}, \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: nobody}}}}}}"
        )
    };
    desk.tell(&["apply", "-f", "-"], &manifest(4), &["horizontalpodautoscaler.autoscaling/other created"]).await;
    desk.tell(&["apply", "-f", "-"], &manifest(4), &["unchanged"]).await;
    desk.tell(&["apply", "-f", "-"], &manifest(5), &["configured"]).await;
    desk.tell(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifest(6), &["serverside-applied"]).await;
    let other = desk.world.get(&HPAS, "other").expect("it was applied above");
    assert_eq!(
        (&other["spec"]["maxReplicas"], &other["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]),
        (&json!(6), &json!(80))
    );
    desk.tell(&["delete", "-f", "-", "--timeout=30s"], &manifest(6), &["deleted"]).await;
    assert!(desk.world.get(&HPAS, "other").is_none());
    desk.close().await;
}
