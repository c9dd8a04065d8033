//! The sandbox's API server: the Kubernetes API over the [store](super::store), for `kubectl` and any other client that speaks it, on
//! TLS with a token, since whoever can create pods here can run commands. It answers from the store alone and asks the
//! [node side](access::PodAccess) only for logs, attached streams and what pods use.

pub mod access;
mod budget;
mod decode;
mod discovery;
mod failure;
mod fields;
#[cfg(fuzzing)]
pub mod fuzz;
mod managed;
mod metrics;
mod namespaces;
mod neighbours;
mod objects;
mod openapi;
mod patch;
mod pods;
mod protobuf;
mod reply;
mod request;
mod review;
mod table;
pub mod tls;
mod validate;
mod versions;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::access::PodAccess;
use self::discovery::Groups;
use self::failure::Failure;
use self::reply::Reply;
use self::request::{Query, Request, Target};
use self::tls::Identity;
use super::kubeconfig::Kubeconfig;
use super::resource::{POD_METRICS, Resource};
use super::store::Store;

/// Who a client is that shows nothing.
const ANONYMOUS: &str = "system:anonymous";

/// The largest body of a request, as on a real server.
const BODY_MAX: usize = 3 << 20;
/// Open connections; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Open watches; more are told to come back.
const WATCHES_MAX: usize = 1024;
/// How long a client may take for its TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What a server needs.
pub struct Config {
    pub store: Arc<Store>,
    pub pods: Arc<dyn PodAccess>,
    pub identity: Identity,
    pub services: ServiceAddresses,
}

/// The addresses that services get: the lowest free one of an inclusive range.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAddresses {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl ServiceAddresses {
    fn addresses(self) -> impl Iterator<Item = String> {
        (u32::from(self.first)..=u32::from(self.last)).map(|bits| Ipv4Addr::from(bits).to_string())
    }
}

/// A running server. Dropping it cuts all connections; [`Server::stop`] ends them first.
pub struct Server {
    address: SocketAddr,
    authority_pem: String,
    token: String,
    stop: signal::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// Everything that a request is answered from.
struct Api {
    store: Arc<Store>,
    pods: Arc<dyn PodAccess>,
    token: String,
    address: String,
    service_addresses: ServiceAddresses,
    /// Held while a service's address is chosen and stored.
    addresses: Mutex<()>,
    /// Held while an eviction asks the budgets and deletes.
    evictions: Mutex<()>,
    watchers: Arc<Semaphore>,
    stop: signal::Receiver<bool>,
}

/// Who asks.
enum User {
    /// Whoever has the token: may do everything.
    Owner,
    /// Somebody whom the owner impersonates, or who shows nothing: known to nobody here, so may do nothing but, where they have a name, ask
    /// what they may do.
    Other { name: String, groups: Vec<String> },
}

/// Serves the API on `listener` until the server is stopped or dropped. Must be called within a runtime.
pub fn serve(listener: TcpListener, config: Config) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (stop, stopped) = signal::channel(false);
    let api = Arc::new(Api {
        store: config.store,
        pods: config.pods,
        token: config.identity.token.clone(),
        address: address.to_string(),
        service_addresses: config.services,
        addresses: Mutex::new(()),
        evictions: Mutex::new(()),
        watchers: Arc::new(Semaphore::new(WATCHES_MAX)),
        stop: stopped,
    });
    let acceptor = TlsAcceptor::from(config.identity.tls.clone());
    let task = tokio::spawn(accept(listener, acceptor, api));
    Ok(Server { address, authority_pem: config.identity.authority_pem, token: config.identity.token, stop, task })
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How clients reach it. `name` becomes the name of the context.
    pub fn kubeconfig(&self, name: &str) -> Kubeconfig {
        Kubeconfig {
            name: name.to_owned(),
            server: format!("https://{}", self.address),
            authority_pem: self.authority_pem.clone(),
            token: self.token.clone(),
            namespace: "default".to_owned(),
        }
    }

    /// Ends watches and followed logs, then the server.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(Duration::from_secs(1), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, api: Arc<Api>) {
    // Everything lives in this set, and so ends with this task.
    let mut tasks = JoinSet::new();
    tasks.spawn(budget::run(api.store.clone()));
    tasks.spawn(namespaces::run(api.store.clone()));
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = api.stop.clone();
    loop {
        // subtle: a server that is full must still hear that it is to stop, so both waits listen for it.
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit.expect("this semaphore is never closed"),
            _ = stop.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, api) = (acceptor.clone(), api.clone());
                tasks.spawn(async move {
                    connection(stream, acceptor, api).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back instead of spinning.
                tracing::warn!(%error, "the sandbox's API server could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Watches end by the same signal; give their last lines a moment to leave.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, api: Arc<Api>) {
    // Small answers must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection went away before it was served");
        return;
    }
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client failed its TLS handshake"),
        Err(_) => return tracing::debug!("a client did not finish its TLS handshake"),
    };
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.handle(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1024);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the sandbox's API server ended badly");
    }
}

impl Api {
    async fn handle(&self, mut incoming: hyper::Request<Incoming>) -> Reply {
        let upgrade = incoming.extensions_mut().remove::<OnUpgrade>();
        let (parts, body) = incoming.into_parts();
        let path = parts.uri.path().to_owned();
        // Probes need no token, as on a real server.
        if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") {
            return reply::typed(200, "text/plain; charset=utf-8", "ok");
        }
        let body = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("Request entity too large: limit is {BODY_MAX}");
                return Failure::new(413, "RequestEntityTooLarge", message).into();
            }
            Err(error) => return Failure::bad_request(format!("the body could not be read: {error}")).into(),
        };
        let request = Request {
            method: parts.method,
            segments: request::segments(&path),
            path,
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body,
        };
        let answer = self.answer(&request, upgrade).await;
        tracing::trace!(method = %request.method, path = request.path, ok = answer.is_ok(), "answered");
        answer.unwrap_or_else(Reply::from)
    }

    async fn answer(&self, request: &Request, upgrade: Option<OnUpgrade>) -> Result<Reply, Failure> {
        let user = self.user(request)?;
        if let Some(reply) = self.about(request) {
            return match &user {
                User::Other { name, .. } if name == ANONYMOUS && request.path != "/version" => Err(closed(name, request)),
                _ => reply,
            };
        }
        let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        if let ["apis", group, version, ..] = segments[..]
            && discovery::resources(group, version).is_none()
        {
            return Ok(page_not_found());
        }
        let target = Target::parse(&request.segments)?;
        let verb = verb(&target, request)?;
        if let User::Other { name, .. } = &user
            && (name == ANONYMOUS || !review::answers(target.resource.kind))
        {
            return Err(stranger(name, &target, verb));
        }
        match (verb, target.subresource.as_deref(), target.resource.kind) {
            ("create", None, kind) if review::answers(kind) => review::answer(&target, request, &user),
            ("get", None, _) if target.seen.group == POD_METRICS.group => self.metrics_of(&target, request).await,
            ("list", None, _) if target.seen.group == POD_METRICS.group => self.all_metrics(&target, request).await,
            ("get", Some("log"), _) => self.log(&target, request).await,
            (_, Some("attach"), _) => self.attach(&target, request, upgrade).await,
            (_, Some(what @ ("exec" | "portforward")), _) => {
                let message = format!(
                    "the sandbox does not support {what}: its pods are processes of this machine, and their addresses can be reached from it"
                );
                Err(Failure::new(405, "MethodNotAllowed", message).with(json!({})))
            }
            ("create", Some("eviction"), _) => self.evict(&target, request),
            ("get", Some("scale"), _) => self.get_scale(&target),
            ("update" | "patch", Some("scale"), _) => self.set_scale(&target, request),
            ("get", _, _) => self.get(&target, request),
            ("list", _, _) => self.list(&target, request),
            ("watch", _, _) => self.watch(&target, request),
            ("create", None, _) => self.create(&target, request),
            ("update", _, _) => self.update(&target, request),
            ("patch", _, _) => self.patch(&target, request),
            ("delete", None, _) => self.delete(&target, request),
            ("deletecollection", None, _) => self.delete_collection(&target, request),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn user(&self, request: &Request) -> Result<User, Failure> {
        if request.header("authorization").is_empty() {
            return Ok(User::Other { name: ANONYMOUS.to_owned(), groups: Vec::new() });
        }
        let shown = request.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if !same(shown.as_bytes(), self.token.as_bytes()) {
            return Err(Failure::new(401, "Unauthorized", "Unauthorized"));
        }
        Ok(match request.header("impersonate-user") {
            "" => User::Owner,
            name => {
                let groups = request.headers.get_all("impersonate-group").iter().filter_map(|group| group.to_str().ok());
                User::Other { name: name.to_owned(), groups: groups.map(str::to_owned).collect() }
            }
        })
    }

    /// What the server says of itself; `None` when the path is about something else.
    fn about(&self, request: &Request) -> Option<Result<Reply, Failure>> {
        let aggregated =
            request.header("accept").contains("as=APIGroupDiscoveryList") && request.header("accept").contains("v=v2;");
        let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        let found = |document: Option<Value>| match document {
            Some(document) => Ok(reply::json(200, &document)),
            None => Ok(page_not_found()),
        };
        let reply = match segments[..] {
            ["version"] => Ok(reply::json(200, &discovery::version())),
            ["api"] if aggregated => {
                Ok(reply::typed(200, discovery::AGGREGATED, discovery::aggregated(Groups::Core).to_string().into_bytes()))
            }
            ["apis"] if aggregated => {
                Ok(reply::typed(200, discovery::AGGREGATED, discovery::aggregated(Groups::Named).to_string().into_bytes()))
            }
            ["api"] => Ok(reply::json(200, &discovery::core_versions(&self.address))),
            ["apis"] => Ok(reply::json(200, &discovery::groups())),
            ["api", version] => found(discovery::resources("", version)),
            ["apis", group] => found(discovery::one_group(group)),
            ["apis", group, version] => found(discovery::resources(group, version)),
            ["openapi", "v3"] => Ok(reply::json(200, &openapi::index())),
            ["openapi", "v3", ref path @ ..] => found(openapi::document(&path.join("/"))),
            [] | ["api" | "apis", ..] => return None,
            _ => Ok(page_not_found()),
        };
        match (&request.method, reply) {
            (&Method::GET | &Method::HEAD, reply) => Some(reply),
            _ => Some(Err(Failure::method_not_allowed())),
        }
    }
}

fn page_not_found() -> Reply {
    reply::typed(404, "text/plain; charset=utf-8", "404 page not found\n")
}

/// The Kubernetes verb of a request, if the resource has it.
fn verb(target: &Target, request: &Request) -> Result<&'static str, Failure> {
    let verb = match (request.method.as_str(), target.name.is_some()) {
        ("GET", _) if request.query.is_set("watch") && target.subresource.is_none() => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", false) => "create",
        ("POST", true) if target.subresource.is_some() => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Err(Failure::method_not_allowed()),
    };
    let allowed = match &target.subresource {
        None => target.resource.verbs,
        Some(below) => target.resource.subresource(below).map_or(&[][..], |below| below.verbs),
    };
    if allowed.contains(&verb) { Ok(verb) } else { Err(Failure::method_not_allowed()) }
}

/// How somebody without any permission is refused.
fn stranger(name: &str, target: &Target, verb: &str) -> Failure {
    let (resource, group) = (target.resource.plural, target.resource.group);
    let path = match &target.subresource {
        Some(below) => format!("{resource}/{below}"),
        None => resource.to_owned(),
    };
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let what = match &target.name {
        Some(object) => format!("{} \"{object}\"", target.resource.qualified()),
        None => target.resource.qualified(),
    };
    let message =
        format!("{what} is forbidden: User \"{name}\" cannot {verb} resource \"{path}\" in API group \"{group}\" {scope}");
    let mut details = json!({});
    if let Some(object) = &target.name {
        details["name"] = json!(object);
    }
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details["kind"] = json!(resource);
    Failure::new(403, "Forbidden", message).with(details)
}

/// A document that is not for somebody.
fn closed(name: &str, request: &Request) -> Failure {
    let (verb, path) = (request.method.as_str().to_lowercase(), &request.path);
    Failure::new(403, "Forbidden", format!("forbidden: User \"{name}\" cannot {verb} path \"{path}\"")).with(json!({}))
}

/// The object in a request's body, which is to be of the type `kind`.
fn body(request: &Request, kind: &'static str) -> Result<Value, Failure> {
    read_body(request, kind, kind)
}

/// The object in a request's body, as the version that the path names has it.
fn body_of(request: &Request, seen: &'static Resource) -> Result<Value, Failure> {
    read_body(request, seen.kind, seen.type_name())
}

fn read_body(request: &Request, kind: &str, type_name: &str) -> Result<Value, Failure> {
    match request.header("content-type").split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => decode::json(&request.body, kind),
        "application/yaml" | "application/apply-patch+yaml" => decode::yaml(&request.body, kind),
        protobuf::MEDIA_TYPE => protobuf::object(&request.body, type_name),
        _ => {
            let message = "the body of the request was in an unknown format - accepted media types include: application/json, \
                application/yaml, application/vnd.kubernetes.protobuf";
            Err(Failure::new(415, "UnsupportedMediaType", message).with(json!({})))
        }
    }
}

/// Compares without telling by its duration how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
