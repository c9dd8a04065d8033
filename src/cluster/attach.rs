//! A line to a container: its standard input and output over the API server's websocket.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, SimplexStream, WriteHalf};

use super::{Cluster, Error, Pod};

/// How long the upgrade to a websocket may take.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Unread output that is kept; beyond it the container waits, as at a terminal.
const OUTPUT_BUFFER: usize = 64 * 1024;

/// An attached container. Dropping it closes the container's standard input and the connection.
pub struct Attached {
    input: WriteHalf<SimplexStream>,
    output: Lines<BufReader<ReadHalf<SimplexStream>>>,
    /// Done when the container or the connection has ended. Its streams do not say so: the client's halves of them never close.
    ended: Option<BoxFuture<'static, ()>>,
    process: AttachedProcess,
}

impl Cluster {
    /// Attaches to a running container's standard input and output.
    pub async fn attach(&self, pod: &Pod, container: &str) -> Result<Attached, Error> {
        let what = format!("attaching to {container} in {}", pod.label());
        let api: Api<core::Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let how = AttachParams::default()
            .container(container)
            .stdin(true)
            .stdout(true)
            .stderr(false)
            .tty(false)
            .max_stdout_buf_size(OUTPUT_BUFFER);
        let mut process = match tokio::time::timeout(ATTACH_TIMEOUT, api.attach(&pod.name, &how)).await {
            Ok(Ok(process)) => process,
            Ok(Err(error)) => return Err(Error::of(error, &what, &self.server)),
            Err(_) => return Err(Error::TimedOut { what, after: ATTACH_TIMEOUT }),
        };
        match (process.stdin(), process.stdout()) {
            (Some(input), Some(output)) => {
                let ended = process.take_status().map(|status| status.map(drop).boxed());
                Ok(Attached { input, output: BufReader::new(output).lines(), ended, process })
            }
            _ => Err(Error::Unreadable { what, why: "the connection carries no standard input or output".into() }),
        }
    }
}

impl Attached {
    /// Writes one line to the container.
    pub async fn say(&mut self, line: &str) -> std::io::Result<()> {
        if self.ended.is_none() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.input.flush().await
    }

    /// The next line that the container writes; `None` when it has ended or the connection is lost. Cancel-safe.
    pub async fn hear(&mut self) -> Option<String> {
        if let Some(ended) = &mut self.ended {
            tokio::select! {
                biased;
                line = self.output.next_line() => return line.ok().flatten(),
                () = ended => self.ended = None,
            }
        }
        // What was said before the end is there, and nothing comes after it.
        self.output.next_line().now_or_never().and_then(Result::ok).flatten()
    }

    /// Ends the container's standard input and keeps listening.
    pub async fn close_input(&mut self) {
        // An error means that it is closed already.
        let _ = self.input.shutdown().await;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.process.abort();
    }
}
