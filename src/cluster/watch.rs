//! A watch that knows what it missed. It lists, then watches from there; a stream that ends is taken up where it ended, without
//! loss where the server still remembers, and what could not be seen is said, with its length, as [`Sight::Blind`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use serde_json::Value;
use tokio::sync::mpsc;

use super::call::encode;
use super::client::KEEPALIVE;
use super::discovery::Resource;
use super::lines::{Broken, Lines};
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
        // What a server that throttles asks for, on top of that.
        let mut asked_for = Duration::ZERO;
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
                        asked_for = error.pause(Duration::ZERO);
                        self.go_blind(asked, error.to_string());
                        End::Relist
                    }
                },
                Some(from) => {
                    let (end, contact) = self.stream(&from, &mut asked_for).await;
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
                    () = tokio::time::sleep(pause.max(std::mem::take(&mut asked_for))) => {}
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
        let answer = self.cluster.get_all(&self.query("")).await?;
        let version = text(&answer, "/metadata/resourceVersion")
            .ok_or_else(|| Error::Unreadable { what: format!("GET {}", self.path), why: "a list without a version".into() })?
            .to_owned();
        let told = self.see_again(Missed::Lost).await && self.tell(Sight::Listed(list(&answer, "/items").to_vec())).await;
        Ok(told.then_some(version))
    }

    /// Watches one stream to its end; whether anything came of it.
    async fn stream(&mut self, from: &str, asked_for: &mut Duration) -> (End, bool) {
        let mut version = from.to_owned();
        let uri = self.query(&format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={STREAM_SECONDS}&resourceVersion={}",
            encode(&version)
        ));
        let request = Request::get(uri)
            .header(http::header::ACCEPT, "application/json")
            // Nobody compresses single events to any use, and what is compressed cannot be read line by line.
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(Vec::new());
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.go_blind(monotonic_now(), format!("not a request: {error}"));
                return (End::Relist, false);
            }
        };
        let what = format!("watching {}", self.path);
        // Blind until it is open: if that is within a blink it is never told.
        self.go_blind(monotonic_now(), "the watch is being opened".into());
        let opened = match tokio::time::timeout(HEAD_TIMEOUT, self.cluster.ask(request, &what)).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::TimedOut { what, after: HEAD_TIMEOUT }),
        };
        let mut lines = match opened {
            Ok(answer) => Lines::of(answer.into_body()),
            Err(error) => {
                *asked_for = error.pause(Duration::ZERO);
                self.stay_blind(error.to_string());
                return (if may_resume(&error) { End::Resume(version) } else { End::Relist }, false);
            }
        };
        if !self.see_again(Missed::Late).await {
            return (End::Unread, true);
        }
        let mut last = monotonic_now();
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(SILENCE, lines.next()) => next,
                () = self.out.closed() => return (End::Unread, true),
            };
            let told = match next {
                Ok(Ok(Some(line))) => Told::read(&line),
                // The server's own time limit, or a proxy's: taken up where it ended. The blink counts from here.
                Ok(Ok(None)) => {
                    self.go_blind(monotonic_now(), "the stream ended".into());
                    return (End::Resume(version), true);
                }
                Ok(Err(broken)) => {
                    self.go_blind(blind_since(&broken, last, monotonic_now()), broken.to_string());
                    let resumes = !matches!(broken, Broken::TooLong);
                    return (if resumes { End::Resume(version) } else { End::Relist }, true);
                }
                Err(_) => {
                    self.go_blind(last, format!("nothing was heard for {}s", SILENCE.as_secs()));
                    return (End::Resume(version), true);
                }
            };
            let (object, gone) = match told {
                Told::Seen(object) => (object, false),
                Told::Gone(object) => (object, true),
                Told::Bookmark(told) => {
                    version = told;
                    last = monotonic_now();
                    continue;
                }
                // 410 Gone; after any other complaint a fresh list is as safe. So it is after what cannot be read: that was a change
                // which is not known.
                Told::Ended(why) => {
                    self.go_blind(last, why);
                    return (End::Relist, true);
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

/// Whether a stream that could not be opened may be opened later where it ended: the server was not there, or had no time. Any other
/// refusal may be about that very version, which a server that was restored from a backup may never reach.
fn may_resume(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Throttled { .. } | Error::Refused { code: 503, .. })
}

/// From when on nothing was seen by a stream that broke off now and was heard last at `last`.
fn blind_since(broken: &Broken, last: Instant, now: Instant) -> Instant {
    match broken {
        // The other side went of its own accord, and had told everything until then.
        Broken::Closed(_) => now,
        // That, too; or the answer to a keepalive, and then nothing came through since the one before it.
        Broken::Reset(_) if now.duration_since(last) < KEEPALIVE => now,
        Broken::Reset(_) => now.checked_sub(KEEPALIVE).map_or(last, |then| then.max(last)),
        Broken::Dead(_) | Broken::TooLong => last,
    }
}

/// One line of a stream.
#[derive(Debug)]
enum Told {
    Seen(Value),
    Gone(Value),
    /// Everything up to this version was told.
    Bookmark(String),
    /// Nothing more can be told from here on, and why.
    Ended(String),
}

impl Told {
    fn read(line: &[u8]) -> Told {
        let unreadable = |why: String| {
            let start: String = String::from_utf8_lossy(line).chars().take(60).collect();
            Told::Ended(format!("a line of the stream cannot be read: {why}, in `{start}`"))
        };
        let mut event: Value = match serde_json::from_slice(line) {
            Ok(event) => event,
            Err(error) => return unreadable(error.to_string()),
        };
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        match (text(&event, "/type"), text(&object, "/metadata/resourceVersion")) {
            (Some("ADDED" | "MODIFIED"), Some(_)) => Told::Seen(object),
            (Some("DELETED"), Some(_)) => Told::Gone(object),
            (Some("BOOKMARK"), Some(version)) => Told::Bookmark(version.to_owned()),
            (Some("ERROR"), _) => Told::Ended(format!(
                "the server ended the watch: {} ({})",
                text(&object, "/message").unwrap_or("it does not say why"),
                object["code"]
            )),
            _ => unreadable("it is no event".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: a gap is as long as what was missed, and no longer. How: a stream that was quiet for half a minute, or for a moment.
    #[test]
    fn how_a_stream_broke_off_says_since_when_nothing_was_seen() {
        let last = monotonic_now();
        let (soon, late) = (last + Duration::from_secs(1), last + Duration::from_secs(30));
        let since = |broken: Broken, now| blind_since(&broken, last, now).duration_since(last).as_secs();
        assert_eq!(since(Broken::Closed(String::new()), late), 30);
        assert_eq!(since(Broken::Reset(String::new()), soon), 1);
        assert_eq!(since(Broken::Reset(String::new()), late), 25, "at the last keepalive it was whole");
        assert_eq!((since(Broken::Dead(String::new()), late), since(Broken::TooLong, late)), (0, 0));
    }

    proptest! {
        #[test]
        fn no_line_is_taken_for_nothing(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(matches!(Told::read(&line), Told::Ended(_)));
        }

        #[test]
        fn half_an_event_is_not_an_event(cut in 0usize..90) {
            let line = br#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"a","resourceVersion":"7"}}}"#;
            prop_assert!(matches!(Told::read(line), Told::Seen(_)));
            prop_assert!(matches!(Told::read(&line[..cut.min(line.len() - 1)]), Told::Ended(_)));
        }
    }
}
