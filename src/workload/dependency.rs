//! The call to another service: pooled keep-alive connections, a timeout per attempt, and retries either under a budget or, as the
//! broken twin, naive: then a slow dependency gets up to `1 + retries` times the traffic just when it can least bear it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::net::TcpStream;

use super::metrics::Metrics;
use super::options::{Options, RetryMode};

/// Retries that can be saved up: what a quiet minute may spend at once.
const BUDGET_MOST: f64 = 10.0;
/// The first backoff is drawn from zero to this, the next from zero to twice as much.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// An answer of the dependency is read up to here; what is longer cannot be kept alive and is cut off.
const ANSWER_MOST_BYTES: usize = 1 << 20;

/// Another service that is called once per request.
pub struct Dependency {
    host: String,
    port: u16,
    request: Uri,
    authority: HeaderValue,
    timeout: Duration,
    retries: u32,
    budget: Option<Mutex<Budget>>,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
    idle_most: usize,
    random: Mutex<Pcg64Mcg>,
    metrics: Arc<Metrics>,
}

/// How a call went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It said "not now".
    Rejected,
    /// It answered with an error, or the connection broke.
    Failed,
    /// It did not answer in time.
    TimedOut,
}

/// A bucket that every operation fills a little and every retry empties by one.
struct Budget {
    tokens: f64,
    per_operation: f64,
}

impl Dependency {
    /// # Errors
    /// When the URL is not `http://host[:port]/path`.
    pub fn new(url: &Uri, options: &Options, seed: u64, metrics: Arc<Metrics>) -> Result<Dependency> {
        if url.scheme_str() != Some("http") {
            bail!("--depends {url} is not an http:// URL");
        }
        let host = url.host().with_context(|| format!("--depends {url} has no host"))?.to_owned();
        let authority = url.authority().map_or(host.as_str(), |authority| authority.as_str());
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Dependency {
            port: url.port_u16().unwrap_or(80),
            request: path.parse().with_context(|| format!("--depends {url} has no usable path"))?,
            authority: HeaderValue::from_str(authority).with_context(|| format!("--depends {url} has no usable host"))?,
            host,
            timeout: options.dependency_timeout.duration(),
            retries: options.retries,
            budget: match options.retry_mode {
                RetryMode::Naive => None,
                RetryMode::Budget => {
                    Some(Mutex::new(Budget { tokens: BUDGET_MOST, per_operation: options.retry_budget.fraction() }))
                }
            },
            idle: Mutex::default(),
            // No more can ever be in use at once, so no more are worth keeping.
            idle_most: options.workers as usize,
            random: Mutex::new(Pcg64Mcg::seed_from_u64(seed)),
            metrics,
        })
    }

    /// One operation: an attempt, and retries as the policy allows.
    pub async fn call(&self) -> Result<(), Trouble> {
        self.metrics.dependency_operations.fetch_add(1, Ordering::Relaxed);
        if let Some(budget) = &self.budget {
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.tokens = (budget.tokens + budget.per_operation).min(BUDGET_MOST);
        }
        let mut retry = 0;
        loop {
            let Err(trouble) = self.attempt().await else { return Ok(()) };
            if retry >= self.retries || !self.may_retry() {
                return Err(trouble);
            }
            if self.budget.is_some() {
                tokio::time::sleep(self.backoff(retry)).await;
            }
            retry += 1;
        }
    }

    fn may_retry(&self) -> bool {
        let Some(budget) = &self.budget else { return true };
        let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
        if budget.tokens >= 1.0 {
            budget.tokens -= 1.0;
            true
        } else {
            self.metrics.retries_denied.fetch_add(1, Ordering::Relaxed);
            false
        }
    }

    /// Full jitter: clients that failed together must not come back together.
    fn backoff(&self, retry: u32) -> Duration {
        let most = BACKOFF_FIRST * 2_u32.saturating_pow(retry);
        most.mul_f64(self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..1.0))
    }

    async fn attempt(&self) -> Result<(), Trouble> {
        self.metrics.dependency_attempts.fetch_add(1, Ordering::Relaxed);
        // Dropping the future on timeout closes its connection: a late answer must not be taken for the next one's.
        match tokio::time::timeout(self.timeout, self.exchange()).await {
            Err(_elapsed) => Err(Trouble::TimedOut),
            Ok(Err(_broken)) => Err(Trouble::Failed),
            Ok(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) => Err(Trouble::Rejected),
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(_status)) => Err(Trouble::Failed),
        }
    }

    /// A request on a pooled connection; when that one turns out to be stale (closed while it lay idle), on the next, at last on a
    /// new one.
    async fn exchange(&self) -> Result<StatusCode> {
        while let Some(mut pooled) = self.take_idle() {
            if pooled.ready().await.is_err() {
                continue;
            }
            match pooled.send_request(self.request()).await {
                Ok(answer) => return self.finish(pooled, answer).await,
                // Nothing of an answer came: the other side had hung up before it saw the request, or was reset with it. The
                // request is a GET, so sending it again is safe.
                Err(stale) if stale.is_canceled() || stale.is_closed() || stale.is_incomplete_message() || is_reset(&stale) => {
                    self.metrics.dependency_reconnects.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The connection ends when its sender is dropped or its peer hangs up; the sender hears of it.
        tokio::spawn(async move { drop(connection.await) });
        let answer = sender.send_request(self.request()).await?;
        self.finish(sender, answer).await
    }

    async fn finish(&self, sender: SendRequest<Empty<Bytes>>, answer: http::Response<hyper::body::Incoming>) -> Result<StatusCode> {
        let status = answer.status();
        http_body_util::Limited::new(answer.into_body(), ANSWER_MOST_BYTES)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer of the dependency broke off: {error}"))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < self.idle_most {
            idle.push(sender);
        }
        Ok(status)
    }

    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.request.clone();
        request.headers_mut().insert(header::HOST, self.authority.clone());
        request
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe))
}
