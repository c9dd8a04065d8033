//! A gate before a sandbox's API server, through which everything goes that a client asks, and at which a test decides what becomes of
//! it: it passes, is refused, is answered with nonsense or not at all, or its connection breaks; and the gate can be shut, as a server
//! that is stopped. What passes is the sandbox's own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use squall::sandbox::Sandbox;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    Pass,
    /// Refused with this status, and to be asked again after so many seconds.
    Refused(u16, Option<u64>),
    /// Answered with this instead.
    Answered(u16, String),
    /// Never answered.
    Hangs,
    /// Passed on, so much later.
    Late(Duration),
    /// Passed on, and its connection breaks after so long.
    Cut(Duration),
    /// Passed on, and after so long the stream of events ends with this line.
    Ends(Duration, Value),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Came {
    pub at: tokio::time::Instant,
    /// With the query.
    pub path: String,
}

impl Came {
    pub fn watches(&self) -> bool {
        self.path.contains("watch=1")
    }
}

type Rule = dyn Fn(&Came) -> Fate + Send + Sync;
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A gate; it is gone when this is dropped.
pub struct Gate {
    pub address: SocketAddr,
    inside: Arc<Inside>,
    guard: Option<tokio::task::JoinHandle<()>>,
    token: String,
}

struct Inside {
    server: SocketAddr,
    tls: TlsConnector,
    rule: Mutex<Arc<Rule>>,
    came: Mutex<Vec<Came>>,
    /// Connections that became something else than HTTP.
    bridges: Mutex<tokio::task::JoinSet<()>>,
}

impl Gate {
    /// An open gate before a sandbox.
    pub async fn before(sandbox: &Sandbox) -> Gate {
        let line = |key: &str| {
            let (_, rest) = sandbox.kubeconfig().split_once(key).expect("a kubeconfig as sandboxes write it");
            rest.lines().next().unwrap_or_default().trim().to_owned()
        };
        let pem = base64::engine::general_purpose::STANDARD.decode(line("certificate-authority-data:")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::new(Inside {
            server: line("server: https://").parse().unwrap(),
            tls: TlsConnector::from(Arc::new(config)),
            rule: Mutex::new(Arc::new(|_: &Came| Fate::Pass)),
            came: Mutex::default(),
            bridges: Mutex::default(),
        });
        let mut gate = Gate { address, inside, guard: None, token: line("token:") };
        gate.guard = Some(tokio::spawn(guard(listener, gate.inside.clone())));
        gate
    }

    /// What leads a client here.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: gate\nclusters: [{{name: g, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: u, user: {{token: {}}}}}]\ncontexts: [{{name: gate, context: {{cluster: g, user: u}}}}]\n",
            self.address, self.token
        )
    }

    /// From now on this decides.
    pub fn rule(&self, rule: impl Fn(&Came) -> Fate + Send + Sync + 'static) {
        *self.inside.rule.lock().unwrap() = Arc::new(rule);
    }

    /// From now on everything passes.
    pub fn open(&self) {
        self.rule(|_| Fate::Pass);
    }

    /// Nobody is there any more, and every connection is gone.
    pub async fn stop(&mut self) {
        let guard = self.guard.take().expect("it runs");
        guard.abort();
        let _ = guard.await;
        self.inside.bridges.lock().unwrap().abort_all();
    }

    /// It is there again, at the same address.
    pub async fn start(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.guard = Some(tokio::spawn(guard(listener, self.inside.clone())));
    }

    pub fn came(&self) -> Vec<Came> {
        self.inside.came.lock().unwrap().clone()
    }

    /// Waits until a request like this has come since `from`, and gives it.
    pub async fn until(&self, what: &str, from: tokio::time::Instant, like: impl Fn(&Came) -> bool) -> Came {
        let asked = async {
            loop {
                if let Some(came) = self.came().into_iter().find(|came| came.at >= from && like(came)) {
                    return came;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap_or_else(|_| panic!("{what} never came"))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

async fn guard(listener: TcpListener, inside: Arc<Inside>) {
    // Connections end with it, as those of a process do that is killed.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let _ = stream.set_nodelay(true);
                let inside = inside.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| decide(request, inside.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// An error here breaks the connection.
async fn decide(request: hyper::Request<Incoming>, inside: Arc<Inside>) -> io::Result<hyper::Response<Body>> {
    let came =
        Came { at: tokio::time::Instant::now(), path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default() };
    inside.came.lock().unwrap().push(came.clone());
    let rule = inside.rule.lock().unwrap().clone();
    let whole = |code: u16, text: String| {
        let body = Full::new(Bytes::from(text)).map_err(io::Error::other).boxed_unsync();
        hyper::Response::builder().status(code).body(body).unwrap()
    };
    match rule(&came) {
        Fate::Pass => pass(request, &inside).await,
        Fate::Hangs => std::future::pending().await,
        Fate::Answered(code, text) => Ok(whole(code, text)),
        Fate::Refused(code, after) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "TooManyRequests",
                "message": "the gate lets nobody in"});
            let mut answer = whole(code, status.to_string());
            if let Some(after) = after {
                answer.headers_mut().insert(hyper::header::RETRY_AFTER, after.into());
            }
            Ok(answer)
        }
        Fate::Late(by) => {
            tokio::time::sleep(by).await;
            pass(request, &inside).await
        }
        Fate::Cut(after) => pass(request, &inside).await.map(|answer| until(answer, after, Err(io::Error::other("cut")))),
        Fate::Ends(after, line) => {
            let last = Frame::data(Bytes::from(format!("{line}\n")));
            pass(request, &inside).await.map(|answer| until(answer, after, Ok(last)))
        }
    }
}

/// The answer for so long, and then the last that is heard of it.
fn until(answer: hyper::Response<Body>, after: Duration, last: io::Result<Frame<Bytes>>) -> hyper::Response<Body> {
    answer.map(|body| {
        let frames = http_body_util::BodyStream::new(body).take_until(tokio::time::sleep(after));
        StreamBody::new(frames.chain(futures::stream::iter([last]))).boxed_unsync()
    })
}

/// On to the sandbox, and back.
async fn pass(mut request: hyper::Request<Incoming>, inside: &Inside) -> io::Result<hyper::Response<Body>> {
    let tcp = TcpStream::connect(inside.server).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::from(inside.server.ip());
    let stream = inside.tls.connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let ours = hyper::upgrade::on(&mut request);
    request.headers_mut().insert(hyper::header::HOST, inside.server.to_string().parse().unwrap());
    let mut answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() == hyper::StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut answer);
        inside.bridges.lock().unwrap().spawn(async move {
            if let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            }
        });
    }
    // The sender lives as long as the answer: without it the connection would be closed.
    Ok(answer.map(|body| {
        let frames = http_body_util::BodyStream::new(body).map(move |frame| {
            let _ = &sender;
            frame.map_err(io::Error::other)
        });
        StreamBody::new(frames).boxed_unsync()
    }))
}
