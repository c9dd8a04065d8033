//! One call to the API server: a method, a path, maybe a body, a deadline, an answer as JSON. Objects are kept as the server gave
//! them, so fields that this build does not know survive.

use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::error::innermost;
use super::{Cluster, Error};

/// How long any one call may take, connection included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a list of everything: a large one takes a slow server its time.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: the pods of a namespace of ten thousand.
const ANSWER_MOST: usize = 128 << 20;
/// The same of a refusal, which a proxy in between may have written.
const REFUSAL_MOST: usize = 64 << 10;

/// The media types of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    /// A whole object, or the options of a deletion.
    Json,
    Apply,
    Strategic,
    Merge,
}

impl Write {
    fn media_type(self) -> &'static str {
        match self {
            Write::Json => "application/json",
            Write::Apply => "application/apply-patch+yaml",
            Write::Strategic => "application/strategic-merge-patch+json",
            Write::Merge => "application/merge-patch+json",
        }
    }
}

impl Cluster {
    /// Reads what stands at `path`.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Error> {
        let text = self.send(Method::GET, path, None, CALL_TIMEOUT).await?;
        read(&text, &format!("GET {path}"))
    }

    /// Reads a whole collection, however large.
    pub(super) async fn get_all(&self, path: &str) -> Result<Value, Error> {
        let text = self.send(Method::GET, path, None, LIST_TIMEOUT).await?;
        read(&text, &format!("GET {path}"))
    }

    /// Reads the text at `path`: a log.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, Error> {
        self.send(Method::GET, path, None, CALL_TIMEOUT).await
    }

    /// Writes `body` and reads the answer.
    pub(super) async fn write(&self, method: Method, path: &str, how: Write, body: &Value) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        let text = self.send(method, path, Some((how, body)), CALL_TIMEOUT).await?;
        read(&text, &what)
    }

    async fn send(&self, method: Method, path: &str, body: Option<(Write, &Value)>, limit: Duration) -> Result<String, Error> {
        let what = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(path).header(http::header::ACCEPT, "application/json");
        let body = match body {
            Some((how, value)) => {
                request = request.header(http::header::CONTENT_TYPE, how.media_type());
                serde_json::to_vec(value).map_err(|e| Error::Manifest { why: e.to_string() })?
            }
            None => Vec::new(),
        };
        let request = request.body(body).map_err(|e| Error::Manifest { why: format!("{what} is not a request: {e}") })?;
        let answer = async {
            let mut body = self.ask(request, &what).await?.into_body();
            let bytes = collect(&mut body, ANSWER_MOST, &self.server).await?;
            match bytes {
                Some(bytes) => String::from_utf8(bytes).map_err(|e| Error::Unreadable { what: what.clone(), why: e.to_string() }),
                None => Err(Error::Unreadable { what: what.clone(), why: format!("it is longer than {} MiB", ANSWER_MOST >> 20) }),
            }
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { what, after: limit }),
        }
    }

    /// Sends a request and gives the head of the answer where it is a good one. Once: whether to ask again is the caller's affair.
    pub(super) async fn ask(&self, request: Request<Vec<u8>>, what: &str) -> Result<Response<Body>, Error> {
        let sent = self.client.send(request.map(Body::from)).await;
        let (head, mut body) = sent.map_err(|error| Error::of(error, what, &self.server))?.into_parts();
        if head.status.is_success() {
            return Ok(Response::from_parts(head, body));
        }
        let said = collect(&mut body, REFUSAL_MOST, &self.server).await.ok().flatten().unwrap_or_default();
        let retry_after = head.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(Error::answered(head.status.as_u16(), retry_after, &said, what, &self.server))
    }
}

/// The whole body; `None` where it is longer than `most`.
async fn collect(body: &mut Body, most: usize, server: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |error| Error::Unreachable { server: server.to_owned(), why: innermost(&error) };
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            if bytes.len() + data.len() > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Some(bytes))
}

fn read(text: &str, what: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|e| {
        let start: String = text.chars().take(60).collect();
        Error::Unreadable { what: what.to_owned(), why: format!("{e}, in `{start}`") }
    })
}

/// Percent-encodes a query value: all but the unreserved characters of RFC 3986, section 2.3.
pub(super) fn encode(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_selector_survives_the_query() {
        assert_eq!(super::encode("app=web,tier in (a,b)"), "app%3Dweb%2Ctier%20in%20%28a%2Cb%29");
    }
}
