//! A container's standard streams as others may use them: its logs, its output as it comes, its input.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::process::ChildStdin;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::lock;
use super::log::Log;
use crate::sandbox::api::access::Attached;

/// Pieces of output that a slow attached client may lag behind; then it misses some.
const LAG_MAX: usize = 1024;
const CHUNK: usize = 8 << 10;

/// Those of one container, over all its runs.
#[derive(Default)]
pub struct Streams(Mutex<Held>);

#[derive(Default)]
struct Held {
    current: Option<Arc<Log>>,
    previous: Option<Arc<Log>>,
    /// While it runs.
    output: Option<broadcast::Sender<Bytes>>,
    stdin: Option<Stdin>,
    /// Its input ends with the first attachment.
    stdin_once: bool,
}

type Stdin = Arc<Mutex<Option<ChildStdin>>>;

impl Streams {
    /// A new run: its output goes to `log` and to whoever is attached. The returned future carries it, and ends with it.
    pub fn begin(
        self: &Arc<Streams>,
        log: Log,
        mut output: pipe::Receiver,
        stdin: Option<ChildStdin>,
        stdin_once: bool,
    ) -> impl Future<Output = ()> + Send + use<> {
        let log = Arc::new(log);
        let sender = broadcast::Sender::new(LAG_MAX);
        {
            let mut held = lock(&self.0);
            held.previous = held.current.replace(log.clone());
            held.output = Some(sender.clone());
            held.stdin = stdin.map(|stdin| Arc::new(Mutex::new(Some(stdin))));
            held.stdin_once = stdin_once;
        }
        let run = Run { streams: self.clone(), log };
        async move {
            let mut chunk = vec![0; CHUNK];
            while let Ok(n @ 1..) = output.read(&mut chunk).await {
                run.log.append(&chunk[..n]);
                if sender.receiver_count() > 0 {
                    // Nobody may be listening any more, which is no failure.
                    let _ = sender.send(Bytes::copy_from_slice(&chunk[..n]));
                }
            }
        }
    }

    pub fn log(&self, previous: bool) -> Option<Arc<Log>> {
        let held = lock(&self.0);
        if previous { held.previous.clone() } else { held.current.clone() }
    }

    /// Output from now on, and the input. `None` when nothing runs.
    pub fn attach(&self) -> Option<Attached> {
        let held = lock(&self.0);
        let receiver = held.output.as_ref()?.subscribe();
        let output = futures::stream::unfold(receiver, |mut receiver| async {
            match receiver.recv().await {
                Ok(bytes) => Some((Ok(bytes), receiver)),
                Err(RecvError::Lagged(missed)) => {
                    let why = format!("{missed} pieces of output were missed: this client reads too slowly");
                    Some((Err(io::Error::other(why)), receiver))
                }
                Err(RecvError::Closed) => None,
            }
        });
        let stdin = held.stdin.clone().map(|pipe| Input { pipe, once: held.stdin_once });
        Some(Attached { stdin: stdin.map(|input| Box::new(input) as Box<dyn AsyncWrite + Send + Unpin>), output: Box::pin(output) })
    }
}

/// One run of a container, while its output is read. It is over when that is, and when a pod that is gone takes the reader along: nobody who
/// follows the log is left waiting.
struct Run {
    streams: Arc<Streams>,
    log: Arc<Log>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.log.close();
        let mut held = lock(&self.streams.0);
        // A next run may have begun already.
        if held.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.log)) {
            held.output = None;
            held.stdin = None;
        }
    }
}

/// One client's hold on a container's input.
struct Input {
    pipe: Stdin,
    once: bool,
}

impl Input {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut ChildStdin>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match lock(&self.pipe).as_mut() {
            Some(stdin) => act(Pin::new(stdin)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stdin| stdin.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stdin| stdin.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.pipe).take();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    /// `stdinOnce`: the container sees its input end when the one who attached is gone, however it went.
    fn drop(&mut self) {
        if self.once {
            lock(&self.pipe).take();
        }
    }
}
