//! A watch that knows what it missed. It lists, then watches from there; a stream that ends is taken up where it ended, without
//! loss where the server still remembers, and what could not be seen is said, with its length, as [`Sight::Blind`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use http::Request;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::mpsc;

use super::call::encode;
use super::discovery::Resource;
use super::{Cluster, Error, list, text};
use crate::time::monotonic_now;

/// One thing seen, with the moment at which it arrived here.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub at: Instant,
    pub sight: Sight,
}

#[derive(Clone, Debug)]
pub enum Sight {
    /// The complete state: at the start, and again whenever the thread was lost. What was known and is not here has gone.
    Listed(Vec<Value>),
    /// Added or changed.
    Seen(Value),
    /// Deleted; the last state.
    Gone(Value),
    /// Nothing could be seen from then until `at`. What happened meanwhile came late (`Late`) or was never told (`Lost`).
    Blind { from: Instant, reason: String, missed: Missed },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Every change was told in the end, after the fact.
    Late,
    /// Changes may have come and gone unseen.
    Lost,
}

/// Which objects to watch.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub namespace: Option<String>,
    /// A label selector; empty for all.
    pub selector: String,
    /// A field selector; empty for all.
    pub fields: String,
}

impl Scope {
    /// Everything in a namespace.
    pub fn namespace(namespace: &str) -> Scope {
        Scope { namespace: Some(namespace.to_owned()), ..Scope::default() }
    }
}

/// Asked of the kind that is watched.
pub const VERBS: &[&str] = &["list", "watch"];

/// The server is asked to end each stream after this long, so that a connection that died silently is noticed soon.
const STREAM_SECONDS: u64 = 45;
/// How much longer than that a silent stream is believed.
const SILENCE: Duration = Duration::from_secs(STREAM_SECONDS + 10);
/// How long the head of an answer may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream shorter than this ended before it was of use.
const STREAM_LEAST: Duration = Duration::from_secs(1);
/// Between attempts: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// An interruption shorter than this, after which nothing was lost, is how watches work and not a gap.
const BLINK: Duration = Duration::from_millis(500);
/// Sightings that may wait for the reader; the watch waits when it is full, and the server keeps the rest.
const QUEUE: usize = 1024;

impl Cluster {
    /// Watches until what is returned is dropped.
    pub fn watch(&self, resource: &Resource, scope: Scope) -> Watching {
        let (out, sightings) = mpsc::channel(QUEUE);
        let blind = Arc::<Mutex<_>>::default();
        let path = resource.path(scope.namespace.as_deref(), None);
        let watch = Watch { cluster: self.clone(), path, scope, out, blind: blind.clone() };
        tokio::spawn(watch.run());
        Watching { sightings, blind }
    }
}

/// The reading end of a watch.
pub struct Watching {
    sightings: mpsc::Receiver<Sighting>,
    blind: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Watching {
    /// The next thing seen; `None` only when the runtime ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<Sighting> {
        self.sightings.recv().await
    }

    /// What is there now, without waiting.
    pub fn ready(&mut self) -> Option<Sighting> {
        self.sightings.try_recv().ok()
    }

    /// Since when nothing is seen, and why, while that is so and longer than a watch may blink.
    pub fn blind(&self) -> Option<(Instant, String)> {
        let blind = self.blind.lock().expect("nobody panics while holding it").clone();
        blind.filter(|(since, _)| monotonic_now().duration_since(*since) >= BLINK)
    }
}

struct Watch {
    cluster: Cluster,
    path: String,
    scope: Scope,
    out: mpsc::Sender<Sighting>,
    /// Since when nothing is seen, and why.
    blind: Arc<Mutex<Option<(Instant, String)>>>,
}

/// Why one stream is over.
enum End {
    /// Take it up at this version.
    Resume(String),
    /// The thread is lost: list again.
    Relist,
    /// Nobody reads.
    Unread,
}

impl Watch {
    async fn run(mut self) {
        let mut pause = BACKOFF.0;
        let mut version: Option<String> = None;
        while !self.out.is_closed() {
            // A call that fails, or takes its time, saw nothing from its beginning on.
            let asked = monotonic_now();
            let end = match version.take() {
                None => match self.list().await {
                    Ok(None) => return,
                    Ok(Some(listed)) => {
                        pause = BACKOFF.0;
                        version = Some(listed);
                        continue;
                    }
                    Err(error) => {
                        self.go_blind(asked, error.to_string());
                        End::Relist
                    }
                },
                Some(from) => {
                    let (end, contact) = self.stream(&from).await;
                    // A stream that lived and ended is taken up at once; one that ends as soon as it begins must not be a busy loop.
                    if contact {
                        pause = if asked.elapsed() >= STREAM_LEAST { Duration::ZERO } else { BACKOFF.0 };
                    }
                    end
                }
            };
            match end {
                End::Unread => return,
                End::Resume(from) => version = Some(from),
                End::Relist => version = None,
            }
            if self.blind.lock().expect("nobody panics while holding it").is_some() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.out.closed() => return,
                }
                pause = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
            }
        }
    }

    fn go_blind(&mut self, since: Instant, reason: String) {
        self.blind.lock().expect("nobody panics while holding it").get_or_insert((since, reason));
    }

    /// Still blind, for a reason that is known better now.
    fn stay_blind(&mut self, why: String) {
        if let Some((_, reason)) = &mut *self.blind.lock().expect("nobody panics while holding it") {
            *reason = why;
        }
    }

    async fn see_again(&mut self, missed: Missed) -> bool {
        let blind = self.blind.lock().expect("nobody panics while holding it").take();
        match blind {
            Some((from, reason)) if missed == Missed::Lost || monotonic_now().duration_since(from) >= BLINK => {
                self.tell(Sight::Blind { from, reason, missed }).await
            }
            _ => true,
        }
    }

    /// False when nobody reads any more.
    async fn tell(&self, sight: Sight) -> bool {
        self.out.send(Sighting { at: monotonic_now(), sight }).await.is_ok()
    }

    fn query(&self, more: &str) -> String {
        let mut query = format!("{}?{more}", self.path);
        for (key, value) in [("labelSelector", &self.scope.selector), ("fieldSelector", &self.scope.fields)] {
            if !value.is_empty() {
                query = format!("{query}&{key}={}", encode(value));
            }
        }
        query
    }

    /// Lists everything; the version to watch from, or `None` when nobody reads.
    async fn list(&mut self) -> Result<Option<String>, Error> {
        let answer = self.cluster.get(&self.query("")).await?;
        let version = text(&answer, "/metadata/resourceVersion")
            .ok_or_else(|| Error::Unreadable { what: format!("GET {}", self.path), why: "a list without a version".into() })?
            .to_owned();
        let told = self.see_again(Missed::Lost).await && self.tell(Sight::Listed(list(&answer, "/items").to_vec())).await;
        Ok(told.then_some(version))
    }

    /// Watches one stream to its end; whether anything came of it.
    async fn stream(&mut self, from: &str) -> (End, bool) {
        let mut version = from.to_owned();
        let uri = self.query(&format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={STREAM_SECONDS}&resourceVersion={}",
            encode(&version)
        ));
        let request = match Request::get(uri).header(http::header::ACCEPT, "application/json").body(Vec::new()) {
            Ok(request) => request,
            Err(error) => {
                self.go_blind(monotonic_now(), format!("not a request: {error}"));
                return (End::Relist, false);
            }
        };
        let what = format!("watching {}", self.path);
        // Blind until it is open: if that is within a blink it is never told.
        self.go_blind(monotonic_now(), "the watch is being opened".into());
        let opened = tokio::time::timeout(HEAD_TIMEOUT, self.cluster.client.request_events::<Value>(request)).await;
        let mut events = match opened {
            Ok(Ok(events)) => Box::pin(events),
            Ok(Err(error)) => {
                let error = Error::of(error, &what, &self.cluster.server);
                let expired = matches!(error, Error::Expired { .. });
                self.stay_blind(error.to_string());
                return (if expired { End::Relist } else { End::Resume(version) }, false);
            }
            Err(_) => {
                self.stay_blind(Error::TimedOut { what, after: HEAD_TIMEOUT }.to_string());
                return (End::Resume(version), false);
            }
        };
        if !self.see_again(Missed::Late).await {
            return (End::Unread, true);
        }
        let mut last = monotonic_now();
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(SILENCE, events.try_next()) => next,
                () = self.out.closed() => return (End::Unread, true),
            };
            let (object, gone) = match next {
                Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => (object, false),
                Ok(Ok(Some(WatchEvent::Deleted(object)))) => (object, true),
                Ok(Ok(Some(WatchEvent::Bookmark(bookmark)))) => {
                    version = bookmark.metadata.resource_version;
                    last = monotonic_now();
                    continue;
                }
                Ok(Ok(Some(WatchEvent::Error(status)))) => {
                    self.go_blind(last, format!("the server ended the watch: {} ({})", status.message, status.code));
                    // 410 Gone; after any other complaint a fresh list is as safe.
                    return (End::Relist, true);
                }
                // The server's own time limit, or a proxy's: taken up where it ended. The blink counts from here.
                Ok(Ok(None)) => {
                    self.go_blind(monotonic_now(), "the stream ended".into());
                    return (End::Resume(version), true);
                }
                Ok(Err(error)) => {
                    let unreadable = matches!(error, kube::Error::SerdeError(_));
                    self.go_blind(last, Error::of(error, &what, &self.cluster.server).to_string());
                    // A line that cannot be read is a change that is not known: the state must be read afresh.
                    return (if unreadable { End::Relist } else { End::Resume(version) }, true);
                }
                Err(_) => {
                    self.go_blind(last, format!("nothing was heard for {}s", SILENCE.as_secs()));
                    return (End::Resume(version), true);
                }
            };
            last = monotonic_now();
            if let Some(seen) = text(&object, "/metadata/resourceVersion") {
                version = seen.to_owned();
            }
            let sight = if gone { Sight::Gone(object) } else { Sight::Seen(object) };
            if !self.tell(sight).await {
                return (End::Unread, true);
            }
        }
    }
}
