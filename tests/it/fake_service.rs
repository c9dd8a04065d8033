//! A well-behaved HTTP server in this process (hyper's, HTTP/1.1 and HTTP/2 on one port) whose answers a test writes as a function of
//! what is asked. It keeps all that it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::listening::Listening;

/// What is asked, with its whole body.
pub type Asked = Request<Bytes>;

/// A running server; it ends when this is dropped.
pub struct FakeService {
    asked: Arc<Mutex<Vec<Asked>>>,
    server: Listening,
}

/// An answer with this status, these headers and this body.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        response.headers_mut().append(name, value.parse().expect("a header's value"));
    }
    response
}

impl FakeService {
    pub fn start(answers: impl Fn(&Asked) -> Response<Full<Bytes>> + Send + Sync + 'static) -> FakeService {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (keeps, answers) = (asked.clone(), Arc::new(answers));
        let server = Listening::start(move |stream, _| {
            let (keeps, answers) = (keeps.clone(), answers.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (keeps, answers) = (keeps.clone(), answers.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let request = Request::from_parts(parts, body);
                    let response = answers(&request);
                    keeps.lock().expect("no panic while keeping").push(request);
                    Ok::<_, Infallible>(response)
                }
            });
            async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        FakeService { asked, server }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// All that was asked so far, in the order in which it was answered.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic while keeping").clone()
    }

    /// `GET /a?b` of each.
    pub fn lines(&self) -> Vec<String> {
        let line = |asked: &Asked| format!("{} {}", asked.method(), asked.uri().path_and_query().map_or("", |path| path.as_str()));
        self.asked().iter().map(line).collect()
    }
}

/// A header of what was asked.
pub fn header<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    asked.headers().get(name).map(|value| value.to_str().expect("a test's header is text"))
}
