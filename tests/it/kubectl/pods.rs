//! Goal: what pods say is read as on a cluster, they can be attached to and debugged, and what the sandbox does not do is refused in words.
//! How: pods that are small shells, and the real client at the other end.

use std::process::Stdio;

use squall::sandbox::resource::PODS;
use tokio::io::AsyncWriteExt as _;

use super::Desk;

/// One whose only container runs a script; what else there is to say of the pod, and of the container.
fn pod(name: &str, script: &str, of_pod: &str, of_container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: talk}}}}, spec: {{terminationGracePeriodSeconds: 1{of_pod}, \
         containers: [{{name: main, image: shop/talk:1, command: [sh, -c, '{script}']{of_container}}}]}}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_say_is_read() {
    let Some(desk) = Desk::open().await else { return };
    let waits = "trap \"exit 0\" TERM; sleep 1000 & wait";
    desk.tell(
        &["apply", "-f", "-"],
        &pod("talk", &format!("for i in 1 2 3 4; do echo line $i; done; {waits}"), "", ""),
        &["created"],
    )
    .await;
    // It fails once, and stays the second time.
    let marker = desk.kubectl.config().with_file_name("begun-before");
    let twice = format!("if [ -e {0} ]; then echo again; {waits}; fi; touch {0}; echo first; exit 3", marker.display());
    desk.tell(&["apply", "-f", "-"], &pod("twice", &twice, "", ""), &["created"]).await;
    desk.says(&["wait", "pod/talk", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;
    desk.world.said("talk").await;

    assert_eq!(desk.says(&["logs", "talk", "--tail=2"], &[]).await, "line 3\nline 4\n");
    assert_eq!(desk.says(&["logs", "talk", "--limit-bytes=6"], &[]).await, "line 1");
    assert_eq!(desk.says(&["logs", "talk", "-c", "main", "--since=1h", "--tail=1"], &[]).await, "line 4\n");
    assert_eq!(desk.says(&["logs", "talk", "--since-time=2100-01-01T00:00:00Z"], &[]).await, "");
    let stamped = desk.says(&["logs", "talk", "--timestamps", "--tail=1"], &["Z line 4"]).await;
    assert!(stamped.starts_with("20") && stamped.contains('T'), "{stamped}");
    desk.says(&["logs", "pod/talk", "--prefix", "--all-containers", "--tail=1"], &["[pod/talk/main] line 4"]).await;
    desk.fails(&["logs", "talk", "-c", "other"], &["container other is not valid for pod talk"]).await;
    desk.fails(&["logs", "talk", "--previous"], &["previous terminated container \"main\" in pod \"talk\" not found"]).await;
    desk.fails(&["logs", "nobody"], &["pods \"nobody\" not found"]).await;

    let restarted = |world: &super::World| {
        let pod = world.get(&PODS, "twice")?;
        let status = &pod["status"]["containerStatuses"][0];
        (status["restartCount"] == 1 && status["state"]["running"].is_object()).then_some(())
    };
    desk.world.wait(&PODS, "its second run", restarted).await;
    assert_eq!(desk.says(&["logs", "twice", "--previous"], &[]).await, "first\n");
    let table = desk.says(&["get", "pod", "twice"], &["1 ("]).await;
    assert!(table.contains(" ago)"), "{table}");
    let mut follows = desk.kubectl.follow(&["logs", "-f", "twice"], Stdio::null());
    assert_eq!(follows.line().await, "again");
    let both = desk.says(&["logs", "-l", "app=talk", "--prefix", "--tail=1"], &["[pod/talk/main] line 4"]).await;
    assert!(both.contains("[pod/twice/main] again"), "{both}");
    // Whoever follows is told of the end.
    desk.says(&["delete", "pod", "twice"], &["deleted"]).await;
    assert_eq!(follows.rest().await, Vec::<String>::new());
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_attached_to_and_debugged_and_what_is_not_done_is_refused() {
    let Some(desk) = Desk::open().await else { return };
    let repeats = "while read line; do echo \"heard $line\"; done; echo end";
    desk.tell(
        &["apply", "-f", "-"],
        &pod("ear", repeats, ", restartPolicy: Never", ", stdin: true, stdinOnce: true"),
        &["created"],
    )
    .await;
    desk.says(&["wait", "pod/ear", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;
    let mut attached = desk.kubectl.follow(&["attach", "-i", "ear"], Stdio::piped());
    let mut stdin = attached.child.stdin.take().expect("it is piped");
    // The stream is there once something comes back.
    stdin.write_all(b"one\n").await.expect("kubectl reads its input");
    attached.line_with("heard one").await;
    stdin.write_all(b"two\n").await.expect("kubectl reads its input");
    attached.line_with("heard two").await;
    drop(stdin);
    attached.line_with("end").await;
    desk.says(
        &["wait", "pod/ear", "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=0", "--timeout=30s"],
        &["met"],
    )
    .await;

    desk.tell(&["apply", "-f", "-"], &pod("web", "trap \"exit 0\" TERM; sleep 1000 & wait", "", ""), &["created"]).await;
    desk.says(&["wait", "pod/web", "--for=condition=Ready", "--timeout=30s"], &["condition met"]).await;
    let debug = ["debug", "web", "--image=shop/tool:1", "--container=tool", "--profile=general", "--target=main", "--attach=false"];
    desk.says(&[&debug[..], &["--", "echo", "looked"]].concat(), &[]).await;
    let ended = "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.reason}=Completed";
    desk.says(&["wait", "pod/web", ended, "--timeout=30s"], &["condition met"]).await;
    assert_eq!(desk.says(&["logs", "web", "-c", "tool"], &[]).await, "looked\n");

    let why = "its pods are processes of this machine";
    desk.fails(&["exec", "web", "--", "ls"], &["the sandbox does not support exec", why]).await;
    desk.fails(&["cp", "/etc/hostname", "web:/tmp/hostname"], &["the sandbox does not support exec", why]).await;
    desk.fails(&["port-forward", "web", ":8080"], &["the sandbox does not support portforward", why]).await;
    desk.fails(&["attach", "nobody"], &["pods \"nobody\" not found"]).await;
    desk.close().await;
}
