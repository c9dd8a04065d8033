//! What the API server needs from the node side: the logs of a container, its standard streams, and what pods use. The kubelet provides
//! it; the server checks that pod and container exist before it asks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

/// Which part of a log is asked for.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last so many lines of what is there.
    pub tail_lines: Option<u64>,
    /// The log of the container's previous run, before its last restart.
    pub previous: bool,
    /// Only lines written since then.
    pub since: Option<jiff::Timestamp>,
    /// Each line preceded by its time (RFC 3339) and a space.
    pub timestamps: bool,
    /// No more than so many bytes.
    pub limit_bytes: Option<u64>,
}

/// The standard streams of a running container.
pub struct Attached {
    /// Its standard input, where it was made with one; dropping this does not end it, `shutdown` does.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output and error from now on; ends with the container.
    pub output: BoxStream<'static, std::io::Result<Bytes>>,
}

/// A pod's use of resources.
#[derive(Clone, Debug)]
pub struct Usage {
    /// When it was read, ms of the epoch.
    pub at_ms: i64,
    /// Over how long the CPU use averages.
    pub window_ms: i64,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug)]
pub struct ContainerUsage {
    pub name: String,
    /// Nanoseconds of CPU per second.
    pub cpu_nanocores: u64,
    pub memory_bytes: u64,
}

/// Why the node side refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    /// The container is not in a state for it: becomes 400, with these words.
    #[error("{0}")]
    NotReady(String),
    /// What was asked for is not there (no previous run, log removed): becomes 404, with these words.
    #[error("{0}")]
    NotFound(String),
    /// Anything else: becomes 500, with these words.
    #[error("{0}")]
    Failed(String),
}

/// The node side of the API server.
pub trait PodAccess: Send + Sync + 'static {
    fn logs<'a>(
        &'a self,
        ns: &'a str,
        pod: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, std::io::Result<Bytes>>, AccessError>>;

    fn attach<'a>(&'a self, ns: &'a str, pod: &'a str, container: &'a str) -> BoxFuture<'a, Result<Attached, AccessError>>;

    /// What pods use, by namespace and name: CPU as it averages over about `window`. A pod of which nothing runs is not among them.
    fn usage(&self, window: Duration) -> BoxFuture<'_, BTreeMap<(String, String), Usage>>;
}
