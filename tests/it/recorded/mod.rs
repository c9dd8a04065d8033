//! Goal: the sandbox is to its clients what a real Kubernetes 1.36 is, and the adapter takes in what a real one tells. How: recordings of one
//! are played both ways. What was asked of it and done to it is asked of and done to a sandbox, in the same order, and the answers and
//! histories are compared; and the adapter is connected to a server that answers as the recorded one did. What must be the same and what need
//! not is said in `tests/kubernetes/README.md`; where the sandbox is known to differ is said in `declared.rs`.

mod adapter;
mod autoscalers;
mod decisions;
mod declared;
mod differences;
mod exchanges;
mod recording;
mod watches;

use std::collections::BTreeSet;
use std::path::Path;

pub use differences::{More, differences};
pub use recording::Recording;

use crate::sandbox::World;
use exchanges::Replay;
use recording::FOLDER;

/// By which tests the sandbox and the adapter are held to each recording.
const HELD: &[(&str, &[&str])] = &[
    ("discovery", &[CLUSTER, "a_real_clusters_refusals_are_told_apart"]),
    ("ephemeral", &[CLUSTER, "a_real_clusters_refusals_are_told_apart"]),
    ("eviction", &[CLUSTER, "a_real_clusters_refusals_are_told_apart"]),
    ("hpa-ambiguous", &["the_real_controller_says_the_same_of_two_autoscalers_on_one_target", TELLS_OF_AUTOSCALERS]),
    ("hpa-cpu-out-and-in", &["the_real_controller_scales_out_and_in_the_same_way", TELLS_OF_AUTOSCALERS]),
    ("hpa-max-reached", &["the_real_controller_stops_at_the_maximum_in_the_same_way", TELLS_OF_AUTOSCALERS]),
    ("hpa-missing-request", &[AUTOSCALERS, "the_real_controller_says_the_same_of_a_missing_request", TELLS_OF_AUTOSCALERS]),
    ("hpa-no-metrics", &[AUTOSCALERS, "the_real_controller_says_the_same_of_a_metric_that_nobody_serves", TELLS_OF_AUTOSCALERS]),
    ("hpa-up-policy", &["the_real_controller_obeys_a_rate_policy_in_the_same_way", TELLS_OF_AUTOSCALERS]),
    ("objects", &[CLUSTER, "a_real_clusters_objects_are_read_as_what_they_are"]),
    ("watch-errors", &[CLUSTER, "what_a_real_cluster_no_longer_tells_is_blindness"]),
    ("watch-job", &[CLUSTER, "an_indexed_job_goes_the_way_of_the_recorded_one", TELLS_OF_WORKLOADS]),
    ("watch-kill-force", &[CLUSTER, TELLS_OF_WORKLOADS]),
    ("watch-kill-graceful", &[CLUSTER, TELLS_OF_WORKLOADS]),
    ("watch-rollout", &[CLUSTER, TELLS_OF_WORKLOADS]),
    ("watch-scale", &[CLUSTER, TELLS_OF_WORKLOADS]),
    ("watch-unschedulable", &[CLUSTER, "pods_that_fit_nowhere_go_the_way_of_the_recorded_ones", TELLS_OF_WORKLOADS]),
];
const CLUSTER: &str = "the_recorded_cluster_is_played_again";
const AUTOSCALERS: &str = "the_recorded_autoscalers_are_played_again";
const TELLS_OF_WORKLOADS: &str = "what_a_real_cluster_tells_of_its_workloads_is_what_is_observed";
const TELLS_OF_AUTOSCALERS: &str = "what_a_real_cluster_tells_of_its_autoscalers_is_what_is_observed";

#[test]
fn every_recording_is_played() {
    let names = std::fs::read_dir(FOLDER).expect("it is a folder").map(|entry| entry.expect("it is readable").path());
    let json = names.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let there: BTreeSet<String> = json.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    assert_eq!(there, HELD.iter().map(|(file, _)| (*file).to_owned()).collect());

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["mod.rs", "adapter.rs", "decisions.rs"].map(|file| format!("tests/it/recorded/{file}"));
    let elsewhere = ["tests/it/jobs.rs", "tests/it/scheduling.rs"];
    let text: String = files
        .iter()
        .map(String::as_str)
        .chain(elsewhere)
        .map(|file| std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")))
        .collect();
    for test in HELD.iter().flat_map(|(_, tests)| *tests) {
        assert!(text.contains(&format!("fn {test}()")), "there is no test {test}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_cluster_is_played_again() {
    // One cluster and one story: what a chapter leaves is what the next begins with, as it was when they were recorded.
    let mut replay = Replay::of(World::start().await);
    replay.node_of_two_cpus().await;
    for file in ["discovery", "objects", "eviction", "ephemeral"] {
        replay.exchanges(file).await;
    }
    replay.service().await;
    replay.kill("watch-kill-force", Some(0)).await;
    replay.kill("watch-kill-graceful", None).await;
    replay.scale().await;
    replay.rollout().await;
    replay.job().await;
    replay.unschedulable().await;
    replay.exchanges("watch-errors").await;
    replay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_autoscalers_are_played_again() {
    let mut replay = Replay::of(World::start().await);
    replay.namespace().await;
    for file in ["hpa-missing-request", "hpa-no-metrics"] {
        replay.autoscalers(file).await;
    }
    replay.end().await;
}
