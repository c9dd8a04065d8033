//! What one request goes through: warm or not, a place in the line, a worker, its service time, its dependency. Work that was begun
//! is finished even when its client has gone, as in most servers: that is what makes an unbounded queue deadly.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::time::{monotonic_now, thread_cpu};

use super::capacity::{self, Capacity, Place};
use super::dependency::{Dependency, Trouble};
use super::metrics::{InFlight, Metrics};
use super::options::Options;

/// CPU is burnt in slices of this, so that probes get their turn on the one thread.
const CPU_SLICE: Duration = Duration::from_millis(1);

/// The demo service, without its sockets.
pub struct Service {
    options: Options,
    pod: String,
    identity: HeaderValue,
    retry_after: HeaderValue,
    started: Instant,
    draining: AtomicBool,
    capacity: Arc<Capacity>,
    dependency: Option<Dependency>,
    random: Mutex<Pcg64Mcg>,
    metrics: Arc<Metrics>,
}

impl Service {
    /// # Errors
    /// When the options contradict one another.
    pub fn new(options: Options) -> Result<Service> {
        let pod = options.identity();
        let seed = options.seed ^ fnv1a(pod.as_bytes());
        let metrics = Arc::new(Metrics::default());
        let dependency = match &options.depends {
            Some(url) => Some(Dependency::new(url, &options, seed.rotate_left(32), Arc::clone(&metrics))?),
            None => None,
        };
        Ok(Service {
            identity: HeaderValue::from_str(&pod).with_context(|| format!("the pod name `{pod}` does not fit into a header"))?,
            pod,
            retry_after: HeaderValue::from(options.retry_after.seconds().ceil() as u64),
            started: monotonic_now(),
            draining: AtomicBool::new(false),
            capacity: Capacity::new(options.workers, options.queue),
            dependency,
            random: Mutex::new(Pcg64Mcg::seed_from_u64(seed)),
            metrics,
            options,
        })
    }

    pub fn pod(&self) -> &str {
        &self.pod
    }

    pub fn answered(&self) -> u64 {
        self.metrics.answers()
    }

    pub fn connections_most(&self) -> usize {
        self.options.connections as usize
    }

    /// From now on every answer tells its client to go elsewhere, and `/readyz` says no.
    pub fn last_call(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// When a connection that is opened now should be given up; `None` when it may live on.
    pub fn connection_ends(&self) -> Option<Instant> {
        let age = self.options.connection_age.duration();
        // Varied, so that connections that were opened together are not all opened anew together.
        let varied = || age.mul_f64(self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.75..1.25));
        (!age.is_zero()).then(|| monotonic_now() + varied())
    }

    /// Answers one request of a connection that ends at `ends`.
    pub async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
        ends: Option<Instant>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = match request.uri().path() {
            "/healthz" => say(StatusCode::OK, "alive\n"),
            "/readyz" if self.says_ready() => say(StatusCode::OK, "ready\n"),
            "/readyz" => say(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/metrics" => {
                let mut text = say(StatusCode::OK, self.metrics.text(self.capacity.queued(), self.says_ready()));
                text.headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
                text
            }
            _ => self.serve().await,
        };
        response.headers_mut().insert(HeaderName::from_static("x-pod"), self.identity.clone());
        if self.draining.load(Ordering::Relaxed) || ends.is_some_and(|ends| monotonic_now() >= ends) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn serve(self: &Arc<Self>) -> Response<Full<Bytes>> {
        let arrived = monotonic_now();
        let response = if !self.is_warm() {
            say(StatusCode::INTERNAL_SERVER_ERROR, "not warm yet\n")
        } else {
            match self.capacity.enter() {
                Err(capacity::Full) => self.reject("the queue is full\n"),
                Ok(place) => {
                    let in_flight = self.metrics.begin();
                    // On a task of its own: a client that hangs up does not take its work out of the line.
                    match tokio::spawn(Arc::clone(self).work(place, in_flight)).await {
                        Ok(response) => response,
                        Err(_panicked) => say(StatusCode::INTERNAL_SERVER_ERROR, "the worker panicked\n"),
                    }
                }
            }
        };
        self.metrics.answered(response.status().as_u16(), monotonic_now().saturating_duration_since(arrived));
        response
    }

    async fn work(self: Arc<Self>, place: Place, _in_flight: InFlight) -> Response<Full<Bytes>> {
        let _worker = place.served().await;
        let takes = self.options.service_time.draw(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::time::sleep(takes.mul_f64(self.slowness())).await;
        burn(self.options.cpu_per_request.duration()).await;
        match &self.dependency {
            None => say(StatusCode::OK, "ok\n"),
            Some(dependency) => match dependency.call().await {
                Ok(()) => say(StatusCode::OK, "ok\n"),
                Err(Trouble::Rejected) => self.reject("the dependency is busy\n"),
                Err(Trouble::Failed) => say(StatusCode::BAD_GATEWAY, "the dependency failed\n"),
                Err(Trouble::TimedOut) => say(StatusCode::GATEWAY_TIMEOUT, "the dependency did not answer in time\n"),
            },
        }
    }

    fn reject(&self, why: &'static str) -> Response<Full<Bytes>> {
        let code = StatusCode::from_u16(self.options.reject_with).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = say(code, why);
        response.headers_mut().insert(header::RETRY_AFTER, self.retry_after.clone());
        response
    }

    fn age(&self) -> Duration {
        monotonic_now().saturating_duration_since(self.started)
    }

    fn is_warm(&self) -> bool {
        self.age() >= self.options.ready_after.duration()
    }

    fn says_ready(&self) -> bool {
        (self.is_warm() || self.options.ready_lies) && !self.draining.load(Ordering::Relaxed)
    }

    /// How many times longer service takes now: linear from the factor down to one over the slow start.
    fn slowness(&self) -> f64 {
        let span = self.options.slow_start.seconds();
        let since_warm = self.age().saturating_sub(self.options.ready_after.duration()).as_secs_f64();
        if since_warm >= span {
            return 1.0;
        }
        1.0 + (self.options.slow_start_factor.clamp(1.0, 1000.0) - 1.0) * (1.0 - since_warm / span)
    }
}

/// Uses up CPU time of this thread.
async fn burn(amount: Duration) {
    let mut left = amount;
    while !left.is_zero() {
        let slice = left.min(CPU_SLICE);
        let until = thread_cpu() + slice;
        while thread_cpu() < until {
            std::hint::spin_loop();
        }
        left -= slice;
        tokio::task::yield_now().await;
    }
}

fn say(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// FNV-1a, 64 bits: a hash that does not change between releases, since randomness replays by seed and pod name.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
