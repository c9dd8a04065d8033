//! Goal: what `kubectl` shows of a sandbox is what it shows of a cluster. How: a Deployment with its pods, looked at in every form.

use std::process::Stdio;

use serde_json::{Value, json};
use squall::sandbox::resource::{CONFIGMAPS, RESOURCES};

use super::Desk;

/// The first line of a table in words: its columns.
fn columns(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_shown_in_every_form() {
    let Some(desk) = Desk::with_shop().await else { return };
    let pods = desk.pods(2).await;
    let (first, second) = (pods[0].as_str(), pods[1].as_str());

    let wide = desk.says(&["get", "pods", "-o", "wide"], &["1/1", "Running", "sandbox", "127."]).await;
    let expected = ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];
    assert_eq!(columns(&wide), expected);
    let table = desk.says(&["get", "deploy", "web"], &["web    2/2     2            2"]).await;
    assert_eq!(columns(&table), ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
    let table = desk.says(&["get", "pods", "-A", "--show-labels", "-L", "app"], &["default", "pod-template-hash="]).await;
    assert_eq!(columns(&table), ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "APP", "LABELS"]);
    let endpoints = desk.says(&["get", "endpoints", "web"], &[":8080,127."]).await;
    assert_eq!(columns(&endpoints), ["NAME", "ENDPOINTS", "AGE"]);
    desk.says(&["get", "all"], &["pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"]).await;
    desk.says(&["get", "deploy/web", "svc/web", "--no-headers"], &["deployment.apps/web", "service/web"]).await;

    let yaml =
        desk.says(&["get", "deploy", "web", "-o", "yaml", "--show-managed-fields"], &["kind: Deployment", "managedFields:"]).await;
    assert!(!yaml.contains("managedFields: null"));
    let json: Value = serde_json::from_str(&desk.says(&["get", "deploy", "web", "-o", "json"], &[]).await).expect("it is JSON");
    assert_eq!((&json["kind"], &json["spec"]["replicas"]), (&json!("Deployment"), &json!(2)));
    // Each: a form of the two pods, and what it says of them.
    for (form, said) in [
        ("name", format!("pod/{first}\npod/{second}\n")),
        ("jsonpath={range .items[*]}{.metadata.name}{'\\n'}{end}", format!("{first}\n{second}\n")),
        ("custom-columns=POD:.metadata.name,IMAGE:.spec.containers[*].image", "shop/web:1".into()),
        ("go-template={{range .items}}{{.metadata.name}},{{end}}", format!("{first},{second},")),
    ] {
        desk.says(&["get", "pods", "--sort-by=.metadata.name", "-o", form], &[&said]).await;
    }
    // Sorted the other way round.
    desk.says(&["label", "pod", first, "rank=2"], &["labeled"]).await;
    desk.says(&["label", "pod", second, "rank=1"], &["labeled"]).await;
    let sorted = desk.says(&["get", "pods", "--sort-by={.metadata.labels.rank}", "-o", "name"], &[]).await;
    assert_eq!(sorted, format!("pod/{second}\npod/{first}\n"));
    for (selection, chosen) in [
        (&["-l", "rank=1"][..], second),
        (&["-l", "rank in (2,3),app"], first),
        (&["-l", "rank!=2"], second),
        (&["--field-selector", &format!("metadata.name={first}")], first),
        (&["--field-selector", &format!("status.phase=Running,metadata.name!={first}")], second),
    ] {
        let out = desk.says(&[&["get", "pods", "-o", "name"], selection].concat(), &[]).await;
        assert_eq!(out, format!("pod/{chosen}\n"), "{selection:?}");
    }
    desk.fails(&["get", "pods", "--field-selector", "spec.foo=x"], &["field label not supported: spec.foo"]).await;
    desk.fails(&["get", "pod", "nobody"], &["Error from server (NotFound): pods \"nobody\" not found"]).await;
    desk.fails(&["get", "cronjobs"], &["the server doesn't have a resource type \"cronjobs\""]).await;
    desk.says(&["get", "--raw", "/readyz"], &["ok"]).await;
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_shown_as_they_happen() {
    let Some(desk) = Desk::with_shop().await else { return };
    let mut watch = desk.kubectl.follow(&["get", "deploy", "web", "-w"], Stdio::null());
    watch.line_with("2/2").await;
    let mut events = desk.kubectl.follow(&["events", "--watch"], Stdio::null());
    events.line_with("ScalingReplicaSet").await;
    let mut only = desk.kubectl.follow(&["get", "pods", "--watch-only", "-o", "name"], Stdio::null());
    desk.says(&["scale", "deploy/web", "--replicas=3"], &["deployment.apps/web scaled"]).await;
    watch.line_with("3/3").await;
    assert!(events.line_with("from 2 to 3").await.contains("Deployment/web"));
    assert!(only.line().await.starts_with("pod/web-"));
    drop((watch, events, only));
    let table = desk.says(&["get", "events", "--sort-by=.metadata.creationTimestamp"], &["deployment/web", "Started"]).await;
    assert_eq!(columns(&table), ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let about = desk.says(&["events", "--for", "deploy/web"], &["ScalingReplicaSet   Deployment/web   Scaled up"]).await;
    assert!(!about.contains("Pod/"), "{about}");
    desk.says(&["events", "--types=Warning"], &[]).await;
    desk.close().await;
}

/// One object of each kind that the others do not bring along.
const ONE_OF_EACH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: s3cret}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: db, image: shop/db:1, command: [sh, -c, 'trap \"exit 0\" TERM; sleep 1000 & wait']}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: once, image: shop/once:1, command: ['true']}]}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 2, maxReplicas: 4}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: leader}
spec: {holderIdentity: somebody, leaseDurationSeconds: 15}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: db}
spec:
  scaleTargetRef: {kind: StatefulSet, name: db}
  minReplicaCount: 1
  triggers: [{type: cron, metadata: {timezone: UTC, start: 0 6 * * *, end: 0 7 * * *, desiredReplicas: '1'}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_listed_and_described() {
    let Some(desk) = Desk::with_shop().await else { return };
    desk.tell(&["apply", "-f", "-"], ONE_OF_EACH, &["lease.coordination.k8s.io/leader created"]).await;
    desk.says(&["wait", "job/once", "--for=condition=Complete", "--timeout=30s"], &["condition met"]).await;
    desk.says(&["rollout", "status", "sts/db", "--timeout=30s"], &["complete"]).await;
    // Each kind that is kept: columns of its table, and words of its description.
    let table: &[(&str, &[&str], &[&str])] = &[
        ("configmaps", &["DATA"], &["greeting:", "hello"]),
        ("endpoints", &["ENDPOINTS"], &["Addresses:          127.", "8080"]),
        ("events", &["LAST SEEN", "REASON"], &["Involved Object:", "Reporting Component:"]),
        ("namespaces", &["STATUS"], &["Active"]),
        ("nodes", &["STATUS", "ROLES", "VERSION"], &["Allocatable:", "Non-terminated Pods:", "cpu                200m (0%)"]),
        ("pods", &["READY", "STATUS"], &["Controlled By:  ReplicaSet/web-", "Successfully assigned", "QoS Class:"]),
        ("secrets", &["TYPE", "DATA"], &["password:  6 bytes", "Opaque"]),
        ("serviceaccounts", &["SECRETS"], &["Name:                default"]),
        (
            "services",
            &["TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"],
            &["Endpoints:", ":8080", "Selector:                 app=web"],
        ),
        ("controllerrevisions", &["CONTROLLER", "REVISION"], &["Revision:", "Kind:"]),
        ("deployments", &["READY", "UP-TO-DATE"], &["2 desired | 2 updated | 2 total", "NewReplicaSet:", "ScalingReplicaSet"]),
        ("replicasets", &["DESIRED", "CURRENT"], &["Controlled By:  Deployment/web", "2 current / 2 desired"]),
        ("statefulsets", &["READY", "AGE"], &["1 desired | 1 total", "create Pod db-0"]),
        ("horizontalpodautoscalers", &["REFERENCE", "TARGETS", "MINPODS"], &["Deployment/web", "resource cpu on pods", "/ 80%"]),
        ("jobs", &["STATUS", "COMPLETIONS", "DURATION"], &["1 Succeeded", "Completed"]),
        ("leases", &["HOLDER"], &["Holder Identity:", "somebody"]),
        ("endpointslices", &["ADDRESSTYPE", "PORTS", "ENDPOINTS"], &["AddressType:", "Ready:    true", "Pod/web-"]),
        ("scaledobjects", &["SCALETARGETNAME", "MIN", "TRIGGERS"], &["Scale Target Ref:", "cron"]),
        ("poddisruptionbudgets", &["MIN AVAILABLE", "ALLOWED DISRUPTIONS"], &["Min available:  1", "Selector:       app=web"]),
    ];
    for (plural, named, words) in table {
        let listed = desk.says(&["get", plural], &[]).await;
        let shown = columns(&listed);
        assert!(named.iter().all(|column| shown.contains(column)), "{plural}: {shown:?}");
        desk.says(&["describe", plural], words).await;
    }
    let untold: Vec<&str> =
        RESOURCES.iter().map(|r| r.plural).filter(|plural| !table.iter().any(|(told, ..)| told == plural)).collect();
    assert!(untold.is_empty(), "nothing is known of the description of {untold:?}");
    desk.fails(&["describe", "pod", "nobody"], &["pods \"nobody\" not found"]).await;
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_says_what_it_is_and_what_its_fields_are_for() {
    let Some(desk) = Desk::open().await else { return };
    let version = desk.says(&["version", "-o", "json"], &[]).await;
    let version: Value = serde_json::from_str(&version).expect("it is JSON");
    assert_eq!(version["serverVersion"]["gitVersion"], "v1.36.2+squall");
    desk.says(&["cluster-info"], &[&format!("control plane is running at {}", desk.world.sandbox.api_url())]).await;
    let versions = desk.says(&["api-versions"], &[]).await;
    for served in ["v1", "apps/v1", "autoscaling/v1", "autoscaling/v2", "batch/v1", "metrics.k8s.io/v1beta1", "policy/v1"] {
        assert!(versions.lines().any(|line| line == served), "{served} in {versions}");
    }
    let resources = desk.says(&["api-resources", "--verbs=list,watch", "--namespaced=true", "-o", "wide"], &["CATEGORIES"]).await;
    let line = |name: &str| {
        let found = resources.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        found.split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("deployments")[..5], ["deployments", "deploy", "apps/v1", "true", "Deployment"]);
    assert_eq!(line("horizontalpodautoscalers")[..3], ["horizontalpodautoscalers", "hpa", "autoscaling/v2"]);
    assert!(line("nodes").is_empty() && line("selfsubjectreviews").is_empty(), "{resources}");

    // Each: what is asked, and what is said of it.
    let table: &[(&[&str], &[&str])] = &[
        (
            &["deployment"],
            &["GROUP:      apps", "KIND:       Deployment", "In this sandbox: rolling update", "spec	<DeploymentSpec>"],
        ),
        (&["deploy.spec.strategy.rollingUpdate.maxSurge"], &["FIELD: maxSurge <IntOrString>"]),
        (&["deployment.spec.replicas"], &["FIELD: replicas <integer>"]),
        (&["pod.spec.containers.resources"], &["limits	<map[string]Quantity>"]),
        (&["pod.spec.containers.securityContext.capabilities"], &["add	<[]string>"]),
        (&["pods", "--recursive"], &["readinessProbe	<Probe>", "httpGet	<HTTPGetAction>", "topologySpreadConstraints"]),
        (&["hpa.spec"], &["VERSION:    v2", "metrics	<[]MetricSpec>", "scaleTargetRef"]),
        (&["hpa.spec", "--api-version=autoscaling/v1"], &["VERSION:    v1", "targetCPUUtilizationPercentage	<integer>"]),
        (&["job.spec.backoffLimit"], &["FIELD: backoffLimit <integer>"]),
        (&["secret.data"], &["map[string]string"]),
    ];
    for (arguments, words) in table {
        desk.says(&[&["explain"], *arguments].concat(), words).await;
    }
    desk.fails(&["explain", "deployment.spec.replicass"], &["field \"replicass\" does not exist"]).await;
    desk.fails(&["explain", "cronjob"], &["the server doesn't have a resource type \"cronjob\""]).await;
    for resource in RESOURCES {
        let name = if resource.group.is_empty() { resource.plural.to_owned() } else { resource.qualified() };
        desk.says(&["explain", &name], &[&format!("KIND:       {}", resource.kind), "In this sandbox: "]).await;
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_asker_is_told_who_they_are_and_what_they_may_do() {
    let Some(desk) = Desk::open().await else { return };
    desk.says(&["auth", "whoami"], &["Username", "squall", "system:masters"]).await;
    desk.says(&["auth", "can-i", "create", "pods"], &["yes"]).await;
    desk.says(&["auth", "can-i", "--list"], &["*.*", "[*]"]).await;
    desk.says(&["auth", "whoami", "--as=guest", "--as-group=visitors"], &["guest", "visitors"]).await;
    let (out, _, ok) = desk.runs(&["auth", "can-i", "get", "pods", "--as=guest"], "").await;
    assert!(!ok && out.trim() == "no", "{out}");
    let may = desk.says(&["auth", "can-i", "--list", "--as=guest"], &["selfsubjectreviews.authentication.k8s.io"]).await;
    assert!(!may.contains("*.*"), "{may}");
    desk.fails(&["get", "pods", "--as=guest"], &["pods is forbidden: User \"guest\" cannot list resource \"pods\""]).await;
    desk.fails(&["create", "configmap", "a", "--as=guest"], &["User \"guest\" cannot create resource \"configmaps\""]).await;
    assert!(desk.world.get(&CONFIGMAPS, "a").is_none());
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_and_nodes_use_is_measured() {
    let Some(desk) = Desk::with_shop().await else { return };
    let pods = desk.pods(2).await;
    let top = desk.says(&["top", "pods"], &[&pods[0], &pods[1]]).await;
    assert_eq!(columns(&top), ["NAME", "CPU(cores)", "MEMORY(bytes)"]);
    // A shell and its child: some memory, and hardly any CPU.
    let line = top.lines().find(|line| line.starts_with(&pods[0])).expect("it is shown");
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str, unit: &str| word.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    assert!(number(words[1], "m").is_some_and(|milli| milli < 1000), "{line}");
    assert!(number(words[2], "Mi").is_some_and(|mebi| mebi < 1024), "{line}");
    desk.says(&["top", "pod", &pods[0], "--containers"], &["POD", "NAME", "web"]).await;
    desk.says(&["top", "pods", "-l", "app=web", "--sort-by=cpu", "--no-headers"], &[&pods[0], &pods[1]]).await;
    let nodes = desk.says(&["top", "nodes"], &["sandbox"]).await;
    assert_eq!(columns(&nodes), ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]);
    desk.fails(&["top", "pod", "nobody"], &["podmetrics.metrics.k8s.io \"default/nobody\" not found"]).await;
    let table = desk.says(&["get", "pods.metrics.k8s.io"], &[&pods[0]]).await;
    assert_eq!(columns(&table), ["NAME", "CPU", "MEMORY", "WINDOW"]);
    desk.close().await;
}
