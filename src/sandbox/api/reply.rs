//! Answers: an object, a Status, a text, or a stream that goes on.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::failure::Failure;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Reply = Response<Body>;

pub fn json(code: u16, object: &Value) -> Reply {
    typed(code, "application/json", object.to_string().into_bytes())
}

pub fn typed(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let full = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut reply = Response::new(full);
    *reply.status_mut() = StatusCode::from_u16(code).expect("codes are written in this crate, all between 200 and 599");
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A body that is sent as it comes.
pub fn stream(content_type: &'static str, chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Reply {
    let mut reply = Response::new(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// The same answer, with warnings for the person at the other end.
pub fn with_warnings(mut reply: Reply, warnings: &[String]) -> Reply {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            reply.headers_mut().append(WARNING, value);
        }
    }
    reply
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Reply {
        let mut reply = json(failure.code, &failure.status());
        if let Some(seconds) = failure.retry_after_s {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}
