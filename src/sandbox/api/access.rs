//! What the API server needs from the node side: the logs of a container, and its standard streams. The kubelet provides it; the
//! server checks that pod and container exist before it asks.

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
}
