//! A way to an API server on which everything that is asked is written down: plain HTTP on this side, the server's own TLS on the other,
//! every byte handed on as it comes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What a server decides on: namespace, group, resource, verb and name, as its authorizer reads them off a request.
pub type Attributes = (String, String, String, String, String);

pub struct Eavesdropper {
    address: SocketAddr,
    token: String,
    asked: Arc<Mutex<BTreeSet<Attributes>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Eavesdropper {
    /// On the way to the server of a sandbox's kubeconfig.
    pub async fn before(kubeconfig: &str) -> Eavesdropper {
        let config: Value = serde_yaml::from_str(kubeconfig).expect("a kubeconfig");
        let cluster = &config["clusters"][0]["cluster"];
        let authority = cluster["certificate-authority-data"].as_str().expect("an authority");
        let authority = base64::engine::general_purpose::STANDARD.decode(authority).expect("base64");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate.expect("a certificate")).expect("an authority");
        }
        let connector = TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
        let server: SocketAddr = cluster["server"].as_str().unwrap().trim_start_matches("https://").parse().expect("an address");
        let token = config["users"][0]["user"]["token"].as_str().expect("a token").to_owned();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<BTreeSet<Attributes>>>::default();
        let heard = asked.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(relay(near, server, connector.clone(), heard.clone()));
            }
        });
        Eavesdropper { address, token, asked, task }
    }

    /// A kubeconfig whose context `overheard` leads by here.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: overheard\nclusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: u, user: {{token: '{}'}}}}]\ncontexts: [{{name: overheard, context: {{cluster: c, user: u}}}}]\n",
            self.address, self.token
        )
    }

    /// What was asked so far, but for what a server tells everybody.
    pub fn asked(&self) -> BTreeSet<Attributes> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Eavesdropper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(near: TcpStream, server: SocketAddr, connector: TlsConnector, heard: Arc<Mutex<BTreeSet<Attributes>>>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    let Ok(far) = connector.connect(ServerName::IpAddress(server.ip().into()), far).await else { return };
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let answers = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
    });
    let mut requests = Requests::default();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from_near.read(&mut buffer).await {
        for attributes in requests.take(&buffer[..read]) {
            heard.lock().unwrap().extend(attributes);
        }
        if to_far.write_all(&buffer[..read]).await.is_err() || to_far.flush().await.is_err() {
            break;
        }
    }
    answers.abort();
}

/// The requests of one connection, as its bytes come.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    /// Bytes of the body that are still to come.
    body: usize,
    /// It was upgraded: what comes is no HTTP any more.
    raw: bool,
}

impl Requests {
    fn take(&mut self, mut bytes: &[u8]) -> Vec<Vec<Attributes>> {
        let mut found = Vec::new();
        while !bytes.is_empty() && !self.raw {
            let body = self.body.min(bytes.len());
            self.body -= body;
            bytes = &bytes[body..];
            while self.body == 0 && !bytes.is_empty() && !self.head.ends_with(b"\r\n\r\n") {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
            }
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8(std::mem::take(&mut self.head)).expect("a head is text");
                let field = |name: &str| {
                    let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
                    Some(line.split_once(':')?.1.trim().to_lowercase())
                };
                assert_eq!(field("transfer-encoding"), None, "{head}");
                self.body = field("content-length").map_or(0, |length| length.parse().expect("a length"));
                self.raw = field("upgrade").is_some();
                found.push(attributes(&head, self.raw, field("content-type").unwrap_or_default().contains("apply-patch")));
            }
        }
        found
    }
}

/// What must be allowed for a request: RequestInfo of k8s.io/apiserver, an apply that may create, and an upgrade that is a creation.
fn attributes(head: &str, upgrades: bool, applies: bool) -> Vec<Attributes> {
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts[..] {
        ["api", _, ref rest @ ..] => ("", rest),
        ["apis", group, _, ref rest @ ..] => (group, rest),
        _ => return Vec::new(),
    };
    let (namespace, rest) = match *rest {
        ["namespaces", namespace] => (namespace, rest),
        ["namespaces", namespace, ref below @ ..] => (namespace, below),
        _ => ("", rest),
    };
    let (plural, name, below) = match *rest {
        [] => return Vec::new(),
        [plural] => (plural, "", ""),
        [plural, name] => (plural, name, ""),
        [plural, name, below, ..] => (plural, name, below),
    };
    let verb = match (method, name) {
        ("GET", "") if query.contains("watch=1") => "watch",
        ("GET", "") => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", "") => "deletecollection",
        ("DELETE", _) => "delete",
        other => panic!("{other:?}"),
    };
    let resource = if below.is_empty() { plural.to_owned() } else { format!("{plural}/{below}") };
    let of = |verb: &str| (namespace.to_owned(), group.to_owned(), resource.clone(), verb.to_owned(), name.to_owned());
    match verb {
        "patch" if applies => vec![of(verb), of("create")],
        "get" if upgrades => vec![of(verb), of("create")],
        verb => vec![of(verb)],
    }
}
