//! One call to the API server: a method, a path, maybe a body, a deadline, an answer as JSON. Objects are kept as the server gave
//! them, so fields that this build does not know survive.

use std::time::Duration;

use http::{Method, Request};
use serde_json::Value;

use super::{Cluster, Error};

/// How long any one call may take, connection included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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
        let text = self.send(Method::GET, path, None).await?;
        read(&text, &format!("GET {path}"))
    }

    /// Reads the text at `path`: a log.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, Error> {
        self.send(Method::GET, path, None).await
    }

    /// Writes `body` and reads the answer.
    pub(super) async fn write(&self, method: Method, path: &str, how: Write, body: &Value) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        let text = self.send(method, path, Some((how, body))).await?;
        read(&text, &what)
    }

    async fn send(&self, method: Method, path: &str, body: Option<(Write, &Value)>) -> Result<String, Error> {
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
        match tokio::time::timeout(CALL_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(Error::of(error, &what, &self.server)),
            Err(_) => Err(Error::TimedOut { what, after: CALL_TIMEOUT }),
        }
    }
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
