//! A page that a Prometheus reads: `/metrics` on an address of this machine. Serves a handful of readers at once, each for seconds at
//! most, so that nobody who is slow or strange takes anything from the run.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Desk, Exporter, Flag, Format, Given, Numbers, Outlet, render, unavailable};
use crate::exit::Failure;
use crate::units::Span;

const FLAG: &str = "metrics";
const LINGER: &str = "metrics-linger";

pub const EXPORTER: Exporter = Exporter {
    name: "prometheus",
    summary: "a page to be scraped at /metrics, in Prometheus text or OpenMetrics as the reader asks",
    example: "--metrics 127.0.0.1:9464 --metrics-linger 20s",
    flags: &[
        Flag {
            name: FLAG,
            value: "ADDRESS",
            help: "Serve live metrics at http://ADDRESS/metrics for a Prometheus: `127.0.0.1:9464`, or `9464` for the same",
            alone: false,
        },
        Flag {
            name: LINGER,
            value: "SPAN",
            help: "At the end, keep the page until the last numbers were fetched, for so long at most",
            alone: false,
        },
    ],
    read,
};

/// Readers at once. The next ones wait in the kernel's queue, which is bounded too.
const AT_ONCE: usize = 8;
/// How long one reader may take from connecting to the last byte.
const READER: Duration = Duration::from_secs(10);
/// How long a reader may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);
/// The largest request head that is read, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// How long readers that are being served may still take when the run is over.
const GRACE: Duration = Duration::from_millis(500);
/// Out of file descriptors or the like: asking again at once would only burn CPU.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

struct Page {
    address: SocketAddr,
    linger: Duration,
    serving: Option<Serving>,
}

struct Serving {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    /// Whether somebody has the last numbers.
    fetched: watch::Receiver<bool>,
    url: String,
}

fn read(given: &Given) -> Result<Box<dyn Outlet>, String> {
    let text = given.values.get(FLAG).map(String::as_str).unwrap_or_default();
    let linger = match given.values.get(LINGER) {
        Some(text) => text.parse::<Span>()?.duration(),
        None => Duration::ZERO,
    };
    Ok(Box::new(Page { address: address(text)?, linger, serving: None }))
}

/// An address with its port; a port alone is one of loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.strip_prefix("localhost:").unwrap_or(text).parse() {
        return Ok(loopback(port));
    }
    let way_out = match text.strip_prefix(':').map(str::parse::<u16>) {
        Some(Ok(port)) => format!("write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for everybody"),
        _ => "write an address with a port, as in 127.0.0.1:9464".to_owned(),
    };
    Err(format!("`{text}` is no address to serve metrics at: {way_out}"))
}

impl Outlet for Page {
    fn open(&mut self, desk: Desk) -> BoxFuture<'_, Result<String, Failure>> {
        async move {
            let asked = self.address;
            let way_out = match asked.ip().is_loopback() || asked.ip().is_unspecified() {
                true => format!("name a free port with --{FLAG}, or 0 for any"),
                false => format!("name an address of this machine with --{FLAG}"),
            };
            let failed = |error| unavailable(format!("failed to serve metrics at {asked}: {error}; {way_out}"));
            let listener = TcpListener::bind(asked).await.map_err(failed)?;
            let url = format!("http://{}/metrics", listener.local_addr().map_err(failed)?);
            let (stop, stopped) = watch::channel(false);
            let (said, fetched) = watch::channel(false);
            let task = tokio::spawn(serve(listener, desk.numbers, Arc::new(said), stopped));
            self.serving = Some(Serving { task, stop, fetched, url: url.clone() });
            Ok(format!("metrics at {url}"))
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Option<String>> {
        async move {
            let mut serving = self.serving.take()?;
            let fetched = tokio::time::timeout(self.linger, serving.fetched.wait_for(|fetched| *fetched)).await.is_ok();
            let missed = !fetched && !self.linger.is_zero();
            let warning = missed.then(|| format!("nobody fetched the last numbers from {} within {:?}", serving.url, self.linger));
            serving.stop.send_replace(true);
            // A task that panicked has told so on stderr, and nothing hangs on it.
            let _ = (&mut serving.task).await;
            warning
        }
        .boxed()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, numbers: Numbers, fetched: Arc<watch::Sender<bool>>, mut stop: watch::Receiver<bool>) {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if readers.len() < AT_ONCE => match accepted {
                Ok((stream, _peer)) => _ = readers.spawn(converse(stream, numbers.clone(), fetched.clone())),
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            Some(_ended) = readers.join_next(), if !readers.is_empty() => {}
            // A sender that is gone is a run that is gone.
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let finished = async { while readers.join_next().await.is_some() {} };
    // Whoever is not done by then is cut off.
    let _ = tokio::time::timeout(GRACE, finished).await;
}

/// One answer for each connection: a scrape every few seconds gains nothing from keeping it, and an idle one would take a seat.
async fn converse(stream: TcpStream, numbers: Numbers, fetched: Arc<watch::Sender<bool>>) {
    let last = AtomicBool::new(false);
    let answer = service_fn(|request| {
        let response = answer(&request, &numbers, &last);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // A broken connection is its reader's affair.
    if let Ok(Ok(())) = tokio::time::timeout(READER, connection).await
        && last.load(Ordering::Relaxed)
    {
        fetched.send_replace(true);
    }
}

fn answer(request: &Request<Incoming>, numbers: &Numbers, last: &AtomicBool) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return say(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "the metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = say(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accept: Vec<&str> = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    let snapshot = numbers.snapshot();
    last.store(snapshot.ended && request.method() == Method::GET, Ordering::Relaxed);
    say(StatusCode::OK, format.content_type(), render(&snapshot, format))
}

fn say(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_loopback_unless_it_says_otherwise() {
        for (text, address_of) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("9464", "127.0.0.1:9464"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(address(text), Ok(address_of.parse().unwrap()), "{text}");
        }
        for (text, words) in [
            (":9464", "0.0.0.0:9464"),
            ("", "127.0.0.1:9464"),
            ("127.0.0.1", "with a port"),
            ("127.0.0.1:99999", "127.0.0.1:9464"),
            ("http://127.0.0.1:9464", "with a port"),
        ] {
            assert!(address(text).unwrap_err().contains(words), "{text}: {:?}", address(text));
        }
    }
}
