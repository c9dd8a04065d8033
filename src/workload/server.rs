//! The sockets of the demo service: accepting, keep-alive, and a drain that loses nothing: first go on serving while telling clients
//! to go elsewhere, then stop accepting, close what is idle, and finish what is in flight.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::time::monotonic_now;

use super::service::Service;

/// A client that opened a connection must send a request head within this.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// What is in flight may take this long after the drain; the kubelet's own patience is thirty seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// Out of file descriptors or the like: asking again at once would only burn CPU.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves until `asked_to_stop` says so, then for `drain` more, then finishes what is in flight. Returns how many connections were
/// cut off because they did not finish.
pub async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    drain: Duration,
    asked_to_stop: impl Future<Output = &'static str>,
) -> usize {
    let (close, closing) = watch::channel(false);
    let room = Arc::new(Semaphore::new(service.connections_most()));
    let mut connections = JoinSet::new();
    let mut asked_to_stop = pin!(asked_to_stop);
    let mut stopping = false;
    let mut drained = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        tokio::select! {
            signal = &mut asked_to_stop, if !stopping => {
                super::say(format_args!("{signal}: last call"));
                service.last_call();
                stopping = true;
                drained.as_mut().reset((monotonic_now() + drain).into());
            }
            () = &mut drained, if stopping => break,
            (room, accepted) = accept(&listener, &room) => match accepted {
                Ok((stream, _peer)) => {
                    let connection = converse(stream, Arc::clone(&service), closing.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(room);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    // The receivers live in the connections; when there are none, there is nobody to tell.
    let _ = close.send(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    match tokio::time::timeout(FINISH_WITHIN, finished).await {
        Ok(()) => 0,
        Err(_elapsed) => connections.len(),
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (Option<tokio::sync::OwnedSemaphorePermit>, std::io::Result<(TcpStream, std::net::SocketAddr)>) {
    let permit = Arc::clone(room).acquire_owned().await.ok();
    (permit, listener.accept().await)
}

async fn converse(stream: TcpStream, service: Arc<Service>, mut closing: watch::Receiver<bool>) {
    // Without it, an answer in two writes waits for the client's delayed acknowledgement: 40 ms that nobody ordered.
    let _ = stream.set_nodelay(true);
    let ends = service.connection_ends();
    let answer = service_fn(move |request| Arc::clone(&service).answer(request, ends));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), answer)
    );
    tokio::select! {
        // A broken connection is its client's affair.
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
