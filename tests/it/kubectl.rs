//! The real `kubectl`, with a kubeconfig and a cache of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use squall::sandbox::kubeconfig::write_new;

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
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.config()).arg("--cache-dir").arg(self.folder.path().join("cache")).args(arguments);
        command.env_remove("KUBECONFIG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
            child.stdin.take().expect("it is piped").write_all(stdin.as_bytes()).expect("kubectl reads its input");
            let output = child.wait_with_output().expect("kubectl ends");
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Some((text(output.stdout), text(output.stderr), output.status.success()))
        })
        .await
        .expect("waiting does not panic")
    }
}
