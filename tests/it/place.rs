//! Where a test's objects are: a namespace of its own in the cluster of `SQUALL_TEST_KUBECONFIG`, whose pods come from `SQUALL_TEST_IMAGE`, and
//! where no cluster is named in a sandbox of its own. What a test does there it does through the adapter alone, so it is the same test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use squall::cluster::{Access, Applied, Cluster, Kind};
use squall::sandbox::resource::NAMESPACES;
use squall::sandbox::store::text;
use squall::sandbox::{Sandbox, SandboxConfig};

/// The run whose label the objects carry.
pub const RUN: &str = "test-run";
/// Names the kubeconfig file of a cluster to test against; its current context is used.
const KUBECONFIG: &str = "SQUALL_TEST_KUBECONFIG";
/// The image that `ci/image` made, as that cluster's nodes have or find it.
const IMAGE: &str = "SQUALL_TEST_IMAGE";
/// How long a cluster may take to remove a namespace with all that is in it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster and a namespace of its own in it; both are gone, as far as they are its own, when this is.
pub struct Place {
    pub cluster: Cluster,
    pub namespace: String,
    /// What its pods come from; agents, too, where it is no sandbox.
    pub image: String,
    kubeconfig: PathBuf,
    /// Where the kubeconfig of its own sandbox lies.
    _folder: Option<tempfile::TempDir>,
    world: World,
}

enum World {
    /// Its own; `None` once it has been stopped.
    Sandbox(Option<Box<Sandbox>>),
    /// Somebody else's, in which the namespace is to be removed.
    Theirs,
    /// The same, and it has been.
    Left,
}

impl Place {
    /// In the named cluster, or in a sandbox.
    pub async fn open() -> Place {
        // Many tests at a time, and perhaps from several machines.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_micros();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("squall-test-{began:x}-{}-{n}", std::process::id());
        let Some(file) = std::env::var_os(KUBECONFIG) else {
            return Place::sandboxed(&namespace, |config| config).await;
        };
        let kubeconfig = PathBuf::from(file);
        let cluster = Cluster::connect(access(&kubeconfig)).await.unwrap_or_else(|error| panic!("{KUBECONFIG}: {error}"));
        let named = std::env::var(IMAGE).ok().filter(|image| !image.is_empty());
        // In a sandbox, whoever runs it, an image is only a name: what runs is the program.
        let image = named.or((cluster.kind() == Kind::Sandbox).then(|| "squall".to_owned())).unwrap_or_else(|| {
            panic!(
                "{KUBECONFIG} names a cluster and {IMAGE} no image: make one by ci/image, and bring it to where its nodes pull from"
            )
        });
        Place { cluster, namespace, image, kubeconfig, _folder: None, world: World::Theirs }.furnished().await
    }

    /// In a sandbox in any case, in this namespace, for what no other cluster can do.
    pub async fn sandboxed(namespace: &str, adjust: impl FnOnce(SandboxConfig) -> SandboxConfig) -> Place {
        let config = SandboxConfig {
            squall: env!("CARGO_BIN_EXE_squall").into(),
            autoscaler_sync: Duration::from_millis(500),
            ..SandboxConfig::default()
        };
        let sandbox = Sandbox::start(adjust(config)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, sandbox.kubeconfig()).unwrap();
        let cluster = Cluster::connect(access(&kubeconfig)).await.unwrap();
        let (namespace, image) = (namespace.to_owned(), "squall".to_owned());
        let world = World::Sandbox(Some(Box::new(sandbox)));
        Place { cluster, namespace, image, kubeconfig, _folder: Some(folder), world }.furnished().await
    }

    async fn furnished(self) -> Place {
        self.apply(vec![namespace(&self.namespace)]).await;
        self
    }

    /// Applies manifests as a run does; what was made.
    pub async fn apply(&self, manifests: Vec<Value>) -> Vec<Applied> {
        let prepared = self.cluster.prepare(manifests, RUN).await.unwrap();
        self.cluster.apply(&prepared).await.unwrap();
        prepared.objects()
    }

    /// The file that leads there.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Its sandbox, which only a [`Place::sandboxed`] has for certain.
    pub fn sandbox(&self) -> &Sandbox {
        match &self.world {
            World::Sandbox(Some(sandbox)) => sandbox,
            _ => panic!("this test looks into its sandbox, and so must ask for one"),
        }
    }

    /// Leaves nothing behind, and waits until that is so.
    pub async fn close(mut self) {
        match std::mem::replace(&mut self.world, World::Left) {
            World::Sandbox(sandbox) => {
                if let Some(sandbox) = sandbox {
                    sandbox.stop().await;
                }
            }
            World::Theirs => remove(self.cluster.clone(), &self.namespace).await.unwrap_or_else(|error| panic!("{error}")),
            World::Left => {}
        }
    }
}

impl Drop for Place {
    /// A test that failed has not closed it.
    fn drop(&mut self) {
        if !matches!(self.world, World::Theirs) {
            return;
        }
        let (kubeconfig, namespace) = (self.kubeconfig.clone(), self.namespace.clone());
        // Beside the test's own runtime, which may not be waited for from within.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(async { remove(Cluster::connect(access(&kubeconfig)).await?, &namespace).await })
        });
        match removing.join() {
            Ok(Ok(())) => {}
            // The test that failed is the news.
            failed if std::thread::panicking() => eprintln!("namespace {} may have stayed: {failed:?}", self.namespace),
            failed => panic!("namespace {} may have stayed: {failed:?}", self.namespace),
        }
    }
}

async fn remove(cluster: Cluster, name: &str) -> Result<(), squall::cluster::Error> {
    let object = Applied { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: name.into(), pods: None };
    cluster.remove(&[object], RUN, PATIENCE).await
}

fn access(kubeconfig: &Path) -> Access {
    Access::Files { kubeconfig: kubeconfig.display().to_string(), context: None }
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Goal: tests of what is done through the adapter pass in a cluster of which nothing is known but its kubeconfig, and leave nothing there. How:
/// some of them, by this binary in a process of its own that has that file, against a sandbox that is not theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_tests_pass_in_a_cluster_that_is_named() {
    const SAME: [&str; 4] = [
        "manifests::a_job_is_waited_for_until_it_is_complete_and_taken_away_with_its_pods",
        "manifests::a_job_that_fails_is_told_of_at_once_with_its_reason",
        "observe::scaling_shows_in_every_probe",
        "pod_kill::a_kill_is_journalled_proven_and_healed_by_the_platform",
    ];
    let theirs = Place::sandboxed("somebody-else", |config| config).await;
    let namespaces = || -> BTreeSet<String> {
        theirs.sandbox().store().list(&NAMESPACES, None).0.iter().map(|object| text(object, "name").to_owned()).collect()
    };
    let (before, from) = (namespaces(), theirs.sandbox().store().version());
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command.args(SAME).args(["--exact", "--test-threads=2"]).env(KUBECONFIG, theirs.kubeconfig()).env_remove(IMAGE);
    let said = tokio::task::spawn_blocking(move || command.output().expect("this binary runs")).await.unwrap();
    let told = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{told}\n{}", String::from_utf8_lossy(&said.stderr));
    assert!(told.contains(&format!("{} passed; 0 failed", SAME.len())), "{told}");
    assert_eq!(namespaces(), before, "nothing stays");
    // They were there, and not in sandboxes of their own: each had a namespace, and no two the same.
    let mut watch = theirs.sandbox().store().watch(&NAMESPACES, None, Some(from)).expect("history reaches back to the test");
    let mut made = BTreeSet::new();
    while watch.caught_up().is_none() {
        made.insert(text(&watch.next().await.expect("history is still there").object, "name").to_owned());
    }
    assert_eq!(made.iter().filter(|name| name.starts_with("squall-test-")).count(), SAME.len(), "{made:?}");
    theirs.close().await;
}

/// Goal: a test that fails leaves nothing in a cluster that is somebody else's, either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_a_test_that_fails() {
    let theirs = Place::sandboxed("somebody-else", |config| config).await;
    let guest = Place {
        cluster: Cluster::connect(access(theirs.kubeconfig())).await.unwrap(),
        namespace: "a-guest".to_owned(),
        image: "squall".to_owned(),
        kubeconfig: theirs.kubeconfig().to_owned(),
        _folder: None,
        world: World::Theirs,
    };
    let guest = guest.furnished().await;
    let is_there = || theirs.sandbox().store().get(&NAMESPACES, "", "a-guest").is_some();
    assert!(is_there());
    drop(guest);
    assert!(!is_there());
    theirs.close().await;
}
