//! A server of a test's own on a thread of its own, at a free port of loopback. What it says to whoever connects is the test's affair.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running server; it ends when this is dropped.
pub struct Listening {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Does for each connection, of which there were so many before it, what `serve` says. What a client does to its connection is the
    /// client's business: how serving one ends is nobody's.
    pub fn start<F>(mut serve: impl FnMut(TcpStream, u64) -> F + Send + 'static) -> Listening
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                for nth in 0.. {
                    let (stream, _) = tokio::select! {
                        accepted = listener.accept() => accepted.expect("a connection"),
                        _ = &mut stopped => return,
                    };
                    stream.set_nodelay(true).expect("a TCP socket");
                    tokio::spawn(serve(stream, nth));
                }
            });
        });
        Listening { address: address.recv().expect("the server starts"), stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("it is dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}
