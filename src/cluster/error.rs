//! What can go wrong between Squall and a cluster. Every kind names the place, what the server said and the way out; all of them are
//! the environment's fault (exit code 4), none is ever read as a verdict on the service.

use std::time::Duration;

use serde_json::Value;

use super::{list, text};

/// Why the cluster did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No usable kubeconfig.
    #[error("no usable kubeconfig: {why}; set KUBECONFIG, name an existing context, or use `cluster: sandbox`")]
    Config { why: String },
    /// Nobody answers.
    #[error("the cluster at {server} cannot be reached: {why}; check that it runs and that `kubectl version` works from here")]
    Unreachable { server: String, why: String },
    /// The server took the request and did not answer in time.
    #[error("{what} was not answered within {}s; the API server is slow or stuck", after.as_secs_f64())]
    TimedOut { what: String, after: Duration },
    /// 401, or credentials that could not be made.
    #[error("{server} does not accept these credentials: {why}; log in again or fix the user of the kubeconfig's context")]
    Unauthorised { server: String, why: String },
    /// 403.
    #[error("{what} is forbidden: {why}; ask for this permission, or use a context that has it")]
    Forbidden { what: String, why: String },
    /// 404 of one object.
    #[error("{what} does not exist{}", if found.is_empty() { String::new() } else { format!("; found: {}", found.join(", ")) })]
    NotFound { what: String, found: Vec<String> },
    /// A kind that discovery does not know.
    #[error(
        "the cluster serves no kind `{word}`; {}",
        if found.is_empty() { "check its apiVersion, or install what brings it".to_owned() } else { format!("it serves: {}", found.join(", ")) }
    )]
    UnknownKind { word: String, found: Vec<String> },
    /// 409: a precondition did not hold, or a field belongs to somebody else.
    #[error("{what} is in conflict: {why}")]
    Conflict { what: String, why: String },
    /// 429 of an eviction: a disruption budget allows no more.
    #[error("{what} was refused by a disruption budget: {why}")]
    Budget { what: String, why: String },
    /// 429 of anything else.
    #[error("{what} was throttled by the API server{}: {why}", after(*retry_after))]
    Throttled { what: String, why: String, retry_after: Option<Duration> },
    /// 410: what was asked for is too old to be told.
    #[error("{what} can no longer be told: {why}")]
    Expired { what: String, why: String },
    /// Any other refusal.
    #[error("{what} was refused with status {code}{}: {why}", after(*retry_after))]
    Refused { what: String, code: u16, why: String, retry_after: Option<Duration> },
    /// The answer is not what the API promises.
    #[error("the answer to {what} cannot be read: {why}")]
    Unreadable { what: String, why: String },
    /// Objects of a manifest are somebody else's.
    #[error(
        "{} already exist{} and {} not made by this run; Squall neither changes nor deletes what it did not make: remove {}, rename it in the manifest, or leave it out of `manifests`",
        objects.join(", "), if objects.len() == 1 { "s" } else { "" }, if objects.len() == 1 { "was" } else { "were" },
        if objects.len() == 1 { "it" } else { "them" }
    )]
    NotOurs { objects: Vec<String> },
    /// A manifest that is not an object.
    #[error("a manifest cannot be applied: {why}")]
    Manifest { why: String },
    /// Applied, but not working.
    #[error("{what} did not become ready: {why}")]
    NotReady { what: String, why: String },
    /// Asked to go, and still there.
    #[error("still there after {}s: {}", after.as_secs(), objects.join(", "))]
    NotGone { objects: Vec<String>, after: Duration },
}

impl Error {
    /// Whether the same call may succeed a little later without anything being changed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Throttled { .. } | Error::Unreadable { .. })
            || matches!(self, Error::Refused { code, .. } if *code >= 500)
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// When the server said that it may be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Throttled { retry_after, .. } | Error::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// How long to wait before the same is asked again by somebody who would wait `pause`: what the server asks for, within reason.
    pub fn pause(&self, pause: Duration) -> Duration {
        self.retry_after().map_or(pause, |asked| asked.clamp(pause, RETRY_AFTER_MOST))
    }

    /// What the server answered to `what` with this status, sorted. `retry_after` is the header of that name.
    pub(super) fn answered(code: u16, retry_after: Option<&str>, body: &[u8], what: &str, server: &str) -> Error {
        let what = what.to_owned();
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = [text(&status, "/message"), text(&status, "/reason")].into_iter().flatten().find(|said| !said.is_empty());
        let mut why = said.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned);
        let causes = list(&status, "/details/causes");
        for cause in causes.iter().filter_map(|cause| text(cause, "/message")) {
            if !cause.is_empty() && !why.contains(cause) {
                why = format!("{why} ({cause})");
            }
        }
        why.truncate(why.char_indices().nth(500).map_or(why.len(), |(at, _)| at));
        if why.is_empty() {
            why = "nothing was said about it".to_owned();
        }
        let retry_after = retry_after
            .and_then(|seconds| seconds.trim().parse().ok())
            .or_else(|| status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64))
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        match code {
            401 => Error::Unauthorised { server: server.to_owned(), why },
            403 => Error::Forbidden { what, why },
            404 => Error::NotFound { what, found: Vec::new() },
            409 => Error::Conflict { what, why },
            410 => Error::Expired { what, why },
            // An eviction can be throttled, too, and then says nothing about a budget.
            429 if causes.iter().any(|cause| text(cause, "/reason") == Some("DisruptionBudget")) => Error::Budget { what, why },
            429 => Error::Throttled { what, why, retry_after },
            code => Error::Refused { what, code, why, retry_after },
        }
    }

    /// What the client library reported about `what`, sorted.
    pub(super) fn of(error: kube::Error, what: &str, server: &str) -> Error {
        let what = what.to_owned();
        match error {
            kube::Error::Api(status) => {
                let body = serde_json::to_vec(&status).unwrap_or_default();
                Error::answered(status.code, None, &body, &what, server)
            }
            kube::Error::Auth(error) => Error::Unauthorised { server: server.to_owned(), why: innermost(&error) },
            kube::Error::SerdeError(error) => Error::Unreadable { what, why: error.to_string() },
            kube::Error::FromUtf8(error) => Error::Unreadable { what, why: error.to_string() },
            kube::Error::UpgradeConnection(error) => Error::Unreadable { what, why: error.to_string() },
            error => Error::Unreachable { server: server.to_owned(), why: innermost(&error) },
        }
    }
}

/// `Retry-After` is heeded up to this much: nobody lets a server send him to sleep for the rest of a run.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(10);

fn after(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| format!(" for {}s", after.as_secs()))
}

/// The root of an error chain: "connection refused" says more than "client error (connect)".
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    // Bounded, in case a source points at itself.
    let mut innermost = error;
    for _ in 0..16 {
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    innermost.to_string()
}
