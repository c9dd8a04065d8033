//! The adapter against answers that no well-behaved cluster gives: each becomes an error that names the place and the way out, and
//! nothing is done that was not asked for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use squall::cluster::pod::Grace;
use squall::cluster::watch::{Missed, Scope, Sight, Watching};
use squall::cluster::{Access, Cluster, Error, Impersonation, Pod};
use tokio::sync::mpsc;

use crate::command::Squall;
use crate::proxy::{FakeProxy, Manners};
use crate::scripted::{Asked, Reply, Scripted, kubeconfig, list, not_scripted, status};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn pod(name: &str, uid: &str, version: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": version, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn event(kind: &str, object: &Value) -> String {
    json!({"type": kind, "object": object}).to_string()
}

async fn connect(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (Scripted, Cluster) {
    let server = Scripted::start(script).await;
    let cluster = server.connect().await;
    (server, cluster)
}

#[tokio::test]
async fn a_cluster_that_cannot_be_used_says_why_and_what_to_do() {
    /// Connects to a server whose version is answered so, and looks for words in the error.
    async fn check(reply: impl Fn() -> Reply + Send + Sync + 'static, kind: fn(&Error) -> bool, words: &[&str]) {
        let server = Scripted::start(move |_| reply()).await;
        let error = Cluster::connect(Access::Kubeconfig(server.kubeconfig())).await.unwrap_err();
        assert!(kind(&error), "{error:?}");
        for word in words {
            assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
        }
    }
    let unauthorised = |e: &Error| matches!(e, Error::Unauthorised { .. });
    check(|| status(401, "Unauthorized", "Unauthorized"), unauthorised, &["credentials", "log in again"]).await;
    check(|| status(403, "Forbidden", "no"), |e| matches!(e, Error::Forbidden { .. }), &["forbidden", "permission"]).await;
    let unreadable = |e: &Error| matches!(e, Error::Unreadable { .. });
    check(|| Reply::Text(200, "<html>a portal</html>".into()), unreadable, &["/version", "<html>"]).await;
    check(|| Reply::Json(200, json!({"hello": 1})), unreadable, &["Kubernetes"]).await;
    check(|| Reply::Hang, |e| matches!(e, Error::TimedOut { .. }), &["not answered within"]).await;

    // Nobody there: bind a port, and leave it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Cluster::connect(Access::Kubeconfig(kubeconfig(address))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused") && error.to_string().contains(&address.to_string()), "{error}");

    let error = Cluster::connect(Access::Kubeconfig("not: [a, kubeconfig".into())).await.unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
}

/// Goal: a proxy that the kubeconfig names leads there, knows who we are, and what it refuses does not repeat it.
#[tokio::test]
async fn a_cluster_behind_a_proxy_is_reached_through_it_and_its_password_is_told_to_nobody_else() {
    let server = Scripted::start(|_| Reply::Json(200, json!({"gitVersion": "v1.36.0"}))).await;
    let through = |proxy: std::net::SocketAddr| {
        let named = server.kubeconfig().replace(&server.address.to_string(), "k8s.invalid:6443");
        Access::Kubeconfig(named.replacen("server:", &format!("proxy-url: 'http://alice:hunter2@{proxy}', server:"), 1))
    };
    let proxy = FakeProxy::start(Manners::Strict, server.address);
    let cluster = Cluster::connect(through(proxy.address)).await.unwrap();
    assert_eq!(cluster.server(), "http://k8s.invalid:6443");
    let heads = proxy.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with("CONNECT k8s.invalid:6443 "), "{heads:?}");
    assert!(server.asked().iter().all(|asked| !asked.headers.contains_key("proxy-authorization")), "{:#?}", server.asked());

    for manners in [Manners::Refusing(502), Manners::Closing, Manners::Garbling] {
        let error = Cluster::connect(through(FakeProxy::start(manners, server.address).address)).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn who_speaks_is_whom_the_kubeconfig_and_the_caller_say() {
    let server = Scripted::start(|_| Reply::Json(200, json!({"gitVersion": "v1.36.0"}))).await;
    let credential = r#"{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "made"}}"#;
    let plugin = format!(
        "user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: echo, args: ['{credential}']}}, \
         as: ann, as-groups: [dev], as-uid: '7', as-user-extra: {{reason: [a test]}}}}"
    );
    let own = Access::Kubeconfig(server.kubeconfig().replace("user: {token: t}", &plugin));
    let bob = Impersonation { user: "bob".into(), groups: vec!["ops".into(), "qa".into()] };
    Cluster::connect(own.clone()).await.unwrap();
    Cluster::connect(Access::As(bob, Box::new(own))).await.unwrap();
    let [ann, bob] = &server.asked()[..] else { panic!("{:#?}", server.asked()) };
    let said = |asked: &Asked, header: &str| -> Vec<String> {
        asked.headers.get_all(header).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(said(ann, "authorization"), ["Bearer made"]);
    assert_eq!(said(ann, "impersonate-user"), ["ann"]);
    assert_eq!(said(ann, "impersonate-group"), ["dev"]);
    assert_eq!((said(ann, "impersonate-uid"), said(ann, "impersonate-extra-reason")), (vec!["7".into()], vec!["a test".into()]));
    assert_eq!(said(bob, "impersonate-user"), ["bob"]);
    assert_eq!(said(bob, "impersonate-group"), ["ops", "qa"]);
}

/// Goal: the files and the flags of a person lead where `kubectl` leads them, and nowhere else. How: the built binary, and servers that
/// know who was led to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_to_the_cluster_that_kubectl_would_go_to() {
    let plan = "plan: p\nclaim: c\ncluster: {context: c}\ntarget: {url: http://127.0.0.1:9/}\nphases: [{name: a, for: 1s}]\n\
                load: [{name: l, rate: 1/s, request: {get: /}}]\n";
    let squall = Squall::new();
    let plan = squall.file("plan.yaml", plan).display().to_string();
    let away = || Scripted::start(|_| Reply::Text(503, "away".into()));
    let (first, second) = (away().await, away().await);
    let files = [
        squall.path("absent"),
        squall.file("first", &first.kubeconfig().replace("current-context: c", "current-context: ''")),
        squall.file("second", &second.kubeconfig().replace(" c,", " d,").replace("current-context: c", "current-context: d")),
    ];
    let list = std::path::PathBuf::from(std::env::join_paths(&files).unwrap());
    let nowhere = squall.path("nowhere");
    let broken = squall.file("broken", "clusters: {");
    let run = async |args: &[&str], kubeconfig: &std::path::Path| {
        let args: Vec<&str> = ["run", &plan].into_iter().chain(args.iter().copied()).collect();
        // As in a pod: nothing but what was configured may lead to its service account.
        let running = squall.start_with(
            &args,
            &[("KUBECONFIG", kubeconfig), ("HOME", &nowhere), ("KUBERNETES_SERVICE_HOST", "192.0.2.1".as_ref())],
        );
        tokio::task::spawn_blocking(move || running.wait(PATIENCE)).await.unwrap()
    };
    let came = || (first.asked().len(), second.asked().len());
    run(&[], &list).await.expect(4).saying("503");
    assert_eq!(came(), (1, 0), "the plan's context");
    run(&["--cluster", "current"], &list).await.expect(4).saying("503");
    assert_eq!(came(), (1, 1), "the first current context that is one");
    let second_file = files[2].display().to_string();
    run(&["--cluster", "current", "--kubeconfig", &second_file, "--as", "bob", "--as-group", "ops"], &list).await.expect(4);
    assert_eq!(came(), (1, 2), "the flag's file, and no other");
    assert_eq!(second.asked()[1].headers["impersonate-user"], "bob");
    run(&["--cluster", "e"], &list).await.expect(4).saying("there is no context `e`; it has: c, d");
    run(&["--cluster", "current"], &nowhere).await.expect(4).saying("nothing is configured in");
    run(&["--cluster", "current"], &broken).await.expect(4).saying("broken");
    run(&["--cluster", "none", "--as", "bob"], &list).await.expect(2).saying("--cluster current");
    assert_eq!(came(), (1, 2));
}

#[tokio::test]
async fn a_blocked_eviction_is_an_answer_and_is_not_tried_again() {
    // Goal: kube's own retry of 429 (fifteen times, honouring Retry-After) is off. How: count what the server was asked.
    let (server, cluster) = connect(|asked| match asked.path.as_str() {
        path if path.ends_with("/eviction") => Reply::Json(
            429,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests",
                "message": "Cannot evict pod as it would violate the pod's disruption budget.",
                "details": {"retryAfterSeconds": 1, "causes": [{"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 2 currently"}]}}),
        ),
        _ => not_scripted(),
    })
    .await;
    let pod = Pod::read(&pod("web-1", "u1", "1")).unwrap();
    let error = cluster.evict_pod(&pod, Grace::Own).await.unwrap_err();
    assert!(matches!(error, Error::Budget { .. }) && error.to_string().contains("needs 2 healthy pods"), "{error}");
    assert_eq!(server.asked().iter().filter(|asked| asked.path.ends_with("/eviction")).count(), 1);
}

#[tokio::test]
async fn a_deletion_names_the_uid_and_a_namesake_is_a_conflict() {
    let (server, cluster) = connect(|asked| match asked.method.as_str() {
        "DELETE" => status(409, "Conflict", "Precondition failed: UID in precondition: u1, UID in object meta: u2"),
        _ => not_scripted(),
    })
    .await;
    let pod = Pod::read(&pod("web-1", "u1", "1")).unwrap();
    let error = cluster.delete_pod(&pod, Grace::Seconds(0)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.body["preconditions"]["uid"], "u1");
    assert_eq!(asked.body["gracePeriodSeconds"], 0);
}

#[tokio::test]
async fn what_existed_before_is_neither_changed_nor_deleted() {
    let theirs = json!({"metadata": {"name": "settings", "namespace": "shop", "uid": "u"}});
    let (server, cluster) = connect(move |asked| match asked.path.as_str() {
        "/api/v1/namespaces/shop/configmaps/settings" => Reply::Json(200, theirs.clone()),
        _ => not_scripted(),
    })
    .await;
    let manifest =
        |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}});
    let error = cluster.prepare(vec![manifest("ConfigMap", "settings"), manifest("Service", "new")], "r1").await.unwrap_err();
    assert!(matches!(error, Error::NotOurs { .. }) && error.to_string().contains("shop/configmap/settings"), "{error}");
    let ours = squall::cluster::Applied {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some("shop".into()),
        name: "settings".into(),
        pods: None,
    };
    cluster.remove(&[ours], "r1", Duration::from_secs(1)).await.unwrap();
    assert!(server.asked().iter().all(|asked| asked.method == "GET"), "{:#?}", server.asked());
}

#[tokio::test]
async fn unknown_things_are_answered_with_what_there_is() {
    let (_server, cluster) = connect(|asked| match asked.path.as_str() {
        "/apis/apps/v1/namespaces/shop/deployments" => list("1", vec![json!({"metadata": {"name": "checkout"}})]),
        "/api/v1/namespaces/shop/services" => list("1", vec![json!({"metadata": {"name": "checkout"}})]),
        "/api/v1/namespaces/shop/services/checkout" => {
            Reply::Json(200, json!({"spec": {"clusterIP": "127.20.0.10", "clusterIPs": ["127.20.0.10"], "ports": [{"port": 80}]}}))
        }
        _ => not_scripted(),
    })
    .await;
    let error = cluster.workload(&"shop/deploy/chekout".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("shop/deploy/checkout"), "{error}");
    let error = cluster.workload(&"shop/rollout/x".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKind { .. }) && error.to_string().contains("deployment"), "{error}");
    let error = cluster.resolve("chekout.shop", 80).await.unwrap_err();
    assert!(error.to_string().contains("checkout.shop"), "{error}");
    let error = cluster.resolve("checkout.shop", 81).await.unwrap_err();
    assert!(error.to_string().contains("[80]"), "{error}");
    for host in ["checkout.shop", "checkout.shop.svc.cluster.local"] {
        assert_eq!(cluster.resolve(host, 80).await.unwrap(), ["127.20.0.10:80".parse().unwrap()]);
    }
    assert_eq!(cluster.resolve("127.0.0.1", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
    assert!(!cluster.resolve("localhost", 7).await.unwrap().is_empty());
}

async fn next(watching: &mut Watching) -> Sight {
    tokio::time::timeout(PATIENCE, watching.next()).await.expect("a sighting in time").expect("the watch lives").sight
}

async fn watch_pods(cluster: &Cluster) -> Watching {
    let resource = cluster.resource_of("v1", "Pod").await.unwrap();
    cluster.watch(&resource, Scope::namespace("shop"))
}

#[tokio::test]
async fn a_stream_that_ends_is_taken_up_where_it_ended_without_a_gap() {
    let streams = Arc::new(AtomicUsize::new(0));
    let (server, cluster) = connect(move |asked| match asked.path.as_str() {
        path if !path.contains("/pods") => not_scripted(),
        _ if !asked.watches() => list("10", vec![pod("web-1", "u1", "9")]),
        _ => {
            let (send, lines) = mpsc::channel(4);
            match streams.fetch_add(1, Ordering::SeqCst) {
                // Ends at once, and again after one event and a bookmark.
                0 => drop(send),
                1 => {
                    send.try_send(event("MODIFIED", &pod("web-1", "u1", "12"))).unwrap();
                    send.try_send(event(
                        "BOOKMARK",
                        &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "20"}}),
                    ))
                    .unwrap();
                }
                _ => {
                    send.try_send(event("DELETED", &pod("web-1", "u1", "21"))).unwrap();
                    // Stays open for as long as the test lives.
                    tokio::spawn(async move { send.closed().await });
                }
            }
            Reply::Stream(lines)
        }
    })
    .await;
    let mut watching = watch_pods(&cluster).await;
    assert!(matches!(next(&mut watching).await, Sight::Listed(pods) if pods.len() == 1));
    assert!(matches!(next(&mut watching).await, Sight::Seen(_)));
    assert!(matches!(next(&mut watching).await, Sight::Gone(_)));
    let versions: Vec<String> =
        server.asked().iter().filter(|a| a.watches()).map(|a| a.version().unwrap_or_default().to_owned()).collect();
    assert_eq!(versions, ["10", "10", "20"], "each stream goes on from the last version that was told");
    assert!(watching.blind().is_none());
}

#[tokio::test]
async fn what_the_server_no_longer_remembers_is_blindness_and_the_state_is_read_afresh() {
    for ending in [
        json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version: 1 (3188)"}}).to_string(),
        "{\"type\": \"MODIFIED\", \"object\": }".to_owned(),
        // Half of a line is none, wherever it is cut.
        "{\"type\": \"MODIFIED\", \"object\": {\"metadata\"".to_owned(),
        "{\"type\": \"RENAMED\", \"object\": {\"metadata\": {\"resourceVersion\": \"7\"}}}".to_owned(),
    ] {
        let streams = Arc::new(AtomicUsize::new(0));
        let (_server, cluster) = connect(move |asked| match asked.path.as_str() {
            path if !path.contains("/pods") => not_scripted(),
            _ if !asked.watches() => list("10", vec![pod("web-1", "u1", "9")]),
            _ => {
                let (send, lines) = mpsc::channel(4);
                if streams.fetch_add(1, Ordering::SeqCst) == 0 {
                    send.try_send(ending.clone()).unwrap();
                }
                tokio::spawn(async move { send.closed().await });
                Reply::Stream(lines)
            }
        })
        .await;
        let mut watching = watch_pods(&cluster).await;
        assert!(matches!(next(&mut watching).await, Sight::Listed(_)));
        let sight = next(&mut watching).await;
        assert!(matches!(&sight, Sight::Blind { missed: Missed::Lost, .. }), "{sight:?}");
        assert!(matches!(next(&mut watching).await, Sight::Listed(_)));
    }
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_is_a_stretch_of_blindness() {
    // Goal: events are told late and said to be late. How: kill the server and its connections, start another on its port.
    let script = |asked: &Asked| match asked.path.as_str() {
        path if !path.contains("/pods") => not_scripted(),
        _ if !asked.watches() => list("10", vec![]),
        _ => {
            let (send, lines) = mpsc::channel(1);
            tokio::spawn(async move { send.closed().await });
            Reply::Stream(lines)
        }
    };
    let server = Scripted::start(script).await;
    let address = server.address;
    let cluster = server.connect().await;
    let mut watching = watch_pods(&cluster).await;
    assert!(matches!(next(&mut watching).await, Sight::Listed(_)));
    drop(server);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while watching.blind().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "blindness shows while it lasts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "the port is free again: {error}"),
        }
        tokio::task::yield_now().await;
    };
    let again = Scripted::on(listener, script);
    let sight = next(&mut watching).await;
    assert!(matches!(&sight, Sight::Blind { missed: Missed::Late, .. }), "{sight:?}");
    assert!(again.asked().iter().any(|asked| asked.version() == Some("10")), "taken up where it ended: {:?}", again.asked());
}

#[tokio::test]
async fn a_throttled_watch_waits_and_comes_back() {
    let refused = Arc::new(Mutex::new(3));
    let (_server, cluster) = connect(move |asked| match asked.path.as_str() {
        path if !path.contains("/pods") => not_scripted(),
        _ => {
            let mut refused = refused.lock().unwrap();
            if *refused > 0 {
                *refused -= 1;
                return status(429, "TooManyRequests", "slow down");
            }
            list("10", vec![])
        }
    })
    .await;
    let mut watching = watch_pods(&cluster).await;
    let sight = next(&mut watching).await;
    assert!(matches!(&sight, Sight::Blind { missed: Missed::Lost, reason, .. } if reason.contains("slow down")), "{sight:?}");
    assert!(matches!(next(&mut watching).await, Sight::Listed(_)));
}

#[tokio::test]
async fn a_watch_that_cannot_be_opened_is_blind_from_its_list_on() {
    // Goal: the ten seconds that a call may hang are blind from their beginning. How: the first stream after the list hangs.
    let streams = Arc::new(AtomicUsize::new(0));
    let (_server, cluster) = connect(move |asked| match asked.path.as_str() {
        path if !path.contains("/pods") => not_scripted(),
        _ if !asked.watches() => list("10", vec![]),
        _ if streams.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Hang,
        _ => {
            let (send, lines) = mpsc::channel(1);
            tokio::spawn(async move { send.closed().await });
            Reply::Stream(lines)
        }
    })
    .await;
    let mut watching = watch_pods(&cluster).await;
    let listed = tokio::time::timeout(PATIENCE, watching.next()).await.unwrap().unwrap();
    let blind = tokio::time::timeout(PATIENCE, watching.next()).await.unwrap().unwrap();
    let Sight::Blind { from, missed: Missed::Late, reason } = &blind.sight else { panic!("{blind:?}") };
    assert!(reason.contains("not answered within 10s"), "{reason}");
    // It is opened right after the list; a second is for a busy machine, and far less than the ten.
    assert!(from.duration_since(listed.at) < Duration::from_secs(1), "{:?}", from.duration_since(listed.at));
}

#[tokio::test]
async fn one_error_while_manifests_are_removed_is_waited_out_and_told_when_it_stays() {
    let ours = json!({"metadata": {"name": "settings", "namespace": "shop", "uid": "u", "labels": {"squall.dev/run": "r1"}}});
    let looks = Arc::new(AtomicUsize::new(0));
    let deleted = Arc::new(AtomicUsize::new(0));
    let (server, cluster) = connect({
        let (looks, deleted) = (looks.clone(), deleted.clone());
        move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("DELETE", _) if deleted.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Text(500, "etcd has no leader".into()),
            ("DELETE", _) => Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
            // Every other look fails.
            (_, "/api/v1/namespaces/shop/configmaps/settings") if looks.fetch_add(1, Ordering::SeqCst) % 2 == 0 => {
                Reply::Text(503, "away".into())
            }
            (_, "/api/v1/namespaces/shop/configmaps/settings") if deleted.load(Ordering::SeqCst) < 2 => {
                Reply::Json(200, ours.clone())
            }
            (_, "/api/v1/namespaces/shop/configmaps/stuck") => Reply::Text(503, "away for good".into()),
            (_, "/api/v1/namespaces/shop/configmaps/settings") => status(404, "NotFound", "gone"),
            _ => not_scripted(),
        }
    })
    .await;
    let object = |name: &str| squall::cluster::Applied {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some("shop".into()),
        name: name.into(),
        pods: None,
    };
    cluster.remove(&[object("settings")], "r1", PATIENCE).await.unwrap();
    assert_eq!(deleted.load(Ordering::SeqCst), 2, "{:#?}", server.asked());
    let error = cluster.remove(&[object("stuck")], "r1", Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::NotGone { .. }) && error.to_string().contains("away for good"), "{error}");
}

#[tokio::test]
async fn removing_a_workload_waits_for_its_own_pods_and_not_for_those_that_are_only_alike() {
    let owned = |name: &str, uid: &str, owner: &str| {
        json!({"metadata": {"name": name, "namespace": "shop", "uid": uid, "labels": {"app": "web"},
            "ownerReferences": [{"kind": "X", "name": "x", "uid": owner, "controller": true}]}})
    };
    let (looks, deleted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (_server, cluster) = connect({
        let (looks, deleted) = (looks.clone(), deleted.clone());
        move |asked| {
            let deleting = deleted.load(Ordering::SeqCst) > 0;
            match (asked.method.as_str(), asked.path.split('?').next().unwrap()) {
                ("DELETE", _) => {
                    deleted.fetch_add(1, Ordering::SeqCst);
                    Reply::Json(200, json!({"kind": "Status", "status": "Success"}))
                }
                (_, "/apis/apps/v1/namespaces/shop/deployments/web") if deleting => status(404, "NotFound", "gone"),
                (_, "/apis/apps/v1/namespaces/shop/deployments/web") => Reply::Json(
                    200,
                    json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"squall.dev/run": "r1"}}}),
                ),
                // It goes before its pods do.
                (_, "/apis/apps/v1/namespaces/shop/replicasets") if deleting => list("1", vec![]),
                (_, "/apis/apps/v1/namespaces/shop/replicasets") => {
                    list("1", vec![owned("web-1", "rs", "u"), owned("db-1", "x", "y")])
                }
                (_, "/api/v1/namespaces/shop/pods") => {
                    let mut pods = vec![owned("stranger", "s", "x")];
                    // Two looks after the deletion find it still there.
                    if !deleting || looks.fetch_add(1, Ordering::SeqCst) < 2 {
                        pods.push(owned("web-1-a", "p", "rs"));
                    }
                    list("1", pods)
                }
                _ => not_scripted(),
            }
        }
    })
    .await;
    let web = squall::cluster::Applied {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: "web".into(),
        pods: Some("app=web".into()),
    };
    cluster.remove(&[web], "r1", PATIENCE).await.unwrap();
    assert_eq!((deleted.load(Ordering::SeqCst), looks.load(Ordering::SeqCst)), (1, 3));
}
