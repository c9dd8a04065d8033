//! An API server whose every answer a test decides: for the answers that no well-behaved cluster gives. It keeps what it was asked, so
//! that a test can also say what was *not* done.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use squall::cluster::{Access, Cluster};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What the server was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: hyper::HeaderMap,
    pub body: Value,
}

impl Asked {
    pub fn watches(&self) -> bool {
        self.path.contains("watch=1")
    }

    /// The `resourceVersion` of the query.
    pub fn version(&self) -> Option<&str> {
        self.path.split(['?', '&']).find_map(|part| part.strip_prefix("resourceVersion="))
    }
}

/// What it answers.
pub enum Reply {
    Json(u16, Value),
    Text(u16, String),
    /// A text, so much later.
    Late(Duration, String),
    /// Lines as they are sent, until the sender is dropped.
    Stream(mpsc::Receiver<String>),
    /// Nothing, ever.
    Hang,
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

pub struct Scripted {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Scripted {
    /// A server that answers as `script` says, and `/version` and discovery by itself.
    pub async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Scripted::on(listener, script)
    }

    pub fn on(listener: TcpListener, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Scripted {
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let seen = asked.clone();
        let server = tokio::spawn(async move {
            // Connections end with the server, as those of a process do that is killed.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (script, seen) = (script.clone(), seen.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, script.clone(), seen.clone()));
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Scripted { address, asked, server }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What is asked, as it comes.
    pub fn log(&self) -> Arc<Mutex<Vec<Asked>>> {
        self.asked.clone()
    }

    pub fn kubeconfig(&self) -> String {
        kubeconfig(self.address)
    }

    pub async fn connect(&self) -> Cluster {
        Cluster::connect(Access::Kubeconfig(self.kubeconfig())).await.unwrap()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    )
}

/// A Status as a real server words it.
pub fn status(code: u16, reason: &str, message: &str) -> Reply {
    Reply::Json(
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}),
    )
}

pub fn list(version: &str, items: Vec<Value>) -> Reply {
    Reply::Json(200, json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}))
}

async fn answer(
    request: hyper::Request<Incoming>,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> Result<hyper::Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    seen.lock().unwrap().push(asked.clone());
    let full = |code: u16, text: String| {
        hyper::Response::builder().status(code).body(Full::new(Bytes::from(text)).boxed_unsync()).unwrap()
    };
    // The script is asked first, so that it can also break what is usual.
    Ok(match script(&asked) {
        Reply::Json(404, answer) if usual(&asked.path).is_some() && answer["reason"] == "NotScripted" => {
            full(200, usual(&asked.path).unwrap().to_string())
        }
        Reply::Json(code, answer) => full(code, answer.to_string()),
        Reply::Text(code, text) => full(code, text),
        Reply::Late(by, text) => {
            tokio::time::sleep(by).await;
            full(200, text)
        }
        Reply::Stream(lines) => {
            let frames = futures::stream::unfold(lines, |mut lines| async { lines.recv().await.map(|line| (line, lines)) });
            let frames = frames.map(|line| Ok(Frame::data(Bytes::from(line + "\n"))));
            hyper::Response::builder().status(200).body(StreamBody::new(frames).boxed_unsync()).unwrap()
        }
        Reply::Hang => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            full(500, String::new())
        }
    })
}

/// What every script leaves to the server.
pub fn not_scripted() -> Reply {
    status(404, "NotScripted", "the script says nothing about this")
}

fn usual(path: &str) -> Option<Value> {
    let row = |name: &str, kind: &str, short: &str, namespaced: bool| json!({"name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "shortNames": [short], "verbs": ["get"]});
    Some(match path {
        "/version" => json!({"gitVersion": "v1.36.0", "major": "1", "minor": "36"}),
        "/api/v1" => json!({"resources": [
            row("pods", "Pod", "po", true), row("services", "Service", "svc", true), row("events", "Event", "ev", true),
            row("configmaps", "ConfigMap", "cm", true), row("namespaces", "Namespace", "ns", false)]}),
        "/apis/apps/v1" => {
            json!({"resources": [row("deployments", "Deployment", "deploy", true), {"name": "deployments/scale", "kind": "Scale", "namespaced": true}]})
        }
        "/apis/autoscaling/v2" => json!({"resources": [row("horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", true)]}),
        "/apis/batch/v1" => json!({"resources": [row("jobs", "Job", "", true)]}),
        "/apis/discovery.k8s.io/v1" => json!({"resources": [row("endpointslices", "EndpointSlice", "", true)]}),
        "/apis" => json!({"groups": [{"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}}]}),
        _ => return None,
    })
}
