//! The real `kubectl`, with a kubeconfig and a cache of its own, and what it prints and does for each of its verbs: the modules below, one
//! for each kind of work.

mod changing;
mod making;
mod pods;
mod reading;
mod rolling;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use squall::sandbox::kubeconfig::write_new;
use squall::sandbox::resource::DEPLOYMENTS;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::sandbox::{PATIENCE, World};

pub struct Kubectl {
    folder: tempfile::TempDir,
}

impl Kubectl {
    pub fn of(kubeconfig: &str) -> Kubectl {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        write_new(&folder.path().join("config"), kubeconfig).expect("the folder is writable");
        Kubectl { folder }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// What it prints, what it complains of, and whether it is content; `None` when it is not installed, which
    /// `SQUALL_TEST_KUBECTL=required` does not accept.
    pub async fn run(&self, arguments: &[&str], stdin: &str) -> Option<(String, String, bool)> {
        self.run_with(arguments, stdin, &[]).await
    }

    /// The same, with more in its environment.
    pub async fn run_with(&self, arguments: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Option<(String, String, bool)> {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let required = std::env::var("SQUALL_TEST_KUBECTL").is_ok_and(|word| word == "required");
                    assert!(!required, "kubectl is not installed, and SQUALL_TEST_KUBECTL says that it must be");
                    // Said aloud, because a test that did not run must not look like one that passed.
                    println!("kubectl is not installed: this test has checked nothing");
                    return None;
                }
                Err(error) => panic!("kubectl could not be started: {error}"),
            };
            // One that refuses its arguments does not wait for its input.
            _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
            let output = child.wait_with_output().expect("kubectl ends");
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Some((text(output.stdout), text(output.stderr), output.status.success()))
        })
        .await
        .expect("waiting does not panic")
    }

    /// One that goes on until it is dropped; `input` is what it reads.
    pub fn follow(&self, arguments: &[&str], input: Stdio) -> Followed {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let mut child =
            command.stdin(input).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("kubectl was there a moment ago");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Followed { child, lines }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.config()).arg("--cache-dir").arg(self.folder.path().join("cache")).args(arguments);
        command.env_remove("KUBECONFIG");
        command
    }
}

/// A `kubectl` that goes on.
pub struct Followed {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Followed {
    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("kubectl prints soon what happens");
        line.expect("it is text").expect("kubectl goes on")
    }

    /// The next line that has a word, whatever comes before it.
    pub async fn line_with(&mut self, word: &str) -> String {
        loop {
            let line = self.line().await;
            if line.contains(word) {
                return line;
            }
        }
    }

    /// All that it still prints, until it ends by itself.
    pub async fn rest(mut self) -> Vec<String> {
        let mut rest = vec![];
        while let Some(line) =
            tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("kubectl ends soon").expect("it is text")
        {
            rest.push(line);
        }
        rest
    }
}

/// Two pods that say `begun` and wait, named `web`, and a Service before them.
const SHOP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: shop/web:1
        command: [sh, -c, 'echo begun; trap \"exit 0\" TERM; sleep 1000 & wait']
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 100m}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

/// Somebody at work: a sandbox and a `kubectl` for it.
struct Desk {
    world: World,
    kubectl: Kubectl,
}

impl Desk {
    /// `None` where there is no `kubectl`.
    async fn open() -> Option<Desk> {
        let world = World::start().await;
        let kubectl = Kubectl::of(world.sandbox.kubeconfig());
        kubectl.run(&["version"], "").await?;
        Some(Desk { world, kubectl })
    }

    /// One where [`SHOP`] has been applied and rolled out.
    async fn with_shop() -> Option<Desk> {
        let desk = Desk::open().await?;
        desk.tell(&["apply", "-f", "-"], SHOP, &["deployment.apps/web created", "service/web created"]).await;
        desk.says(&["rollout", "status", "deploy/web", "--timeout=30s"], &["successfully rolled out"]).await;
        Some(desk)
    }

    /// Runs it, and holds it to these words; what it printed.
    async fn says(&self, arguments: &[&str], words: &[&str]) -> String {
        self.tell(arguments, "", words).await
    }

    /// The same, with an input.
    async fn tell(&self, arguments: &[&str], input: &str, words: &[&str]) -> String {
        let (out, err, ok) = self.runs(arguments, input).await;
        assert!(ok, "{arguments:?}: {out}{err}");
        for word in words {
            assert!(out.contains(word), "{arguments:?} lacks {word}:\n{out}{err}");
        }
        out
    }

    /// Runs it, and holds it to failing with these words.
    async fn fails(&self, arguments: &[&str], words: &[&str]) {
        self.fails_with(arguments, "", words).await;
    }

    async fn fails_with(&self, arguments: &[&str], input: &str, words: &[&str]) {
        let (out, err, ok) = self.runs(arguments, input).await;
        assert!(!ok, "{arguments:?} went well:\n{out}{err}");
        for word in words {
            assert!(err.contains(word), "{arguments:?} lacks {word}:\n{out}{err}");
        }
    }

    /// Runs it, come what may.
    async fn runs(&self, arguments: &[&str], input: &str) -> (String, String, bool) {
        // What begins with a brace would be taken for JSON.
        let input = if input.starts_with('{') { format!("---\n{input}") } else { input.to_owned() };
        self.kubectl.run(arguments, &input).await.expect("it was there a moment ago")
    }

    /// The names of the pods of `web` that are ready and stay.
    async fn pods(&self, count: usize) -> Vec<String> {
        self.world.ready_pods(count).await
    }

    fn web(&self) -> Value {
        self.world.get(&DEPLOYMENTS, "web").map(|web| (*web).clone()).unwrap_or(json!(null))
    }

    async fn close(self) {
        self.world.sandbox.stop().await;
    }
}
