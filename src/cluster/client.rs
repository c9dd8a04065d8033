//! The client: `kube`'s own layers over connections of our making, which find out soon that the other side is dead, go through
//! whatever proxy leads there, and never ask twice.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceExt};

use super::Error;
use super::error::innermost;

/// Time for a connection to the API server, or to the proxy before it, to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing moves is asked after this long whether it lives.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(5);
/// And again after this long, so often, before it counts as dead.
const KEEPALIVE_AGAIN: (Duration, u32) = (Duration::from_secs(2), 3);
/// How long whatever makes credentials (an `exec` plugin that asks a person to log in, say) may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes the client. No connection is opened yet, but a credential plugin is run.
pub(super) async fn client(config: Config) -> Result<Client, Error> {
    let server = config.cluster_url.to_string();
    // `kube` runs plugins on the thread that it is called on.
    let made = tokio::task::spawn_blocking(move || through(&config));
    match tokio::time::timeout(LOGIN_TIMEOUT, made).await {
        Ok(Ok(client)) => client,
        Ok(Err(bug)) => Err(Error::Config { why: format!("the client could not be made: {bug}") }),
        Err(_) => Err(Error::TimedOut { what: format!("making credentials for {server}"), after: LOGIN_TIMEOUT }),
    }
}

/// Over the proxy that `config` names, if it names one.
fn through(config: &Config) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_AGAIN.0));
    tcp.set_keepalive_retries(Some(KEEPALIVE_AGAIN.1));
    let Some(proxy) = &config.proxy_url else { return over(config, tcp) };
    let (address, user) = split(proxy)?;
    match proxy.scheme_str() {
        Some("socks5" | "socks5h") => {
            let socks = SocksV5::new(address, tcp);
            over(
                config,
                match user {
                    Some((name, password)) => socks.with_auth(name, password),
                    None => socks,
                },
            )
        }
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(tcp).map_err(|e| unusable(&e))?;
            over(config, presenting(Tunnel::new(address, tls), user))
        }
        _ => over(config, presenting(Tunnel::new(address, tcp), user)),
    }
}

fn presenting<C>(tunnel: Tunnel<C>, user: Option<(String, String)>) -> Tunnel<C> {
    let basic = user.and_then(|(name, password)| {
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))).ok()
    });
    match basic {
        Some(basic) => tunnel.with_auth(basic),
        None => tunnel,
    }
}

/// A proxy's address, and who we are to it: `http` keeps both in one, escaped.
fn split(proxy: &Uri) -> Result<(Uri, Option<(String, String)>), Error> {
    let url = url::Url::parse(&proxy.to_string()).map_err(|e| Error::Config { why: format!("the proxy's address: {e}") })?;
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = (!url.username().is_empty()).then(|| (plain(url.username()), plain(url.password().unwrap_or_default())));
    let default = match url.scheme() {
        "https" => 443,
        "http" => 80,
        _ => 1080,
    };
    let bare = format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or_default(), url.port().unwrap_or(default));
    let address = bare.parse().map_err(|e| Error::Config { why: format!("the proxy's address: {e}") })?;
    Ok((address, user))
}

fn unusable(error: &kube::Error) -> Error {
    Error::Config { why: innermost(error) }
}

fn over<C>(config: &Config, connector: C) -> Result<Client, Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError> + Send + Sync + 'static,
{
    let https = config.rustls_https_connector_with_connector(connector).map_err(|e| unusable(&e))?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(https);
    let headers = config.extra_headers_layer().map_err(|e| unusable(&e))?;
    let builder = ClientBuilder::new(http.map_err(boxed), config.default_namespace.clone()).with_layer(&headers);
    Ok(match config.auth_layer().map_err(|e| unusable(&e))? {
        Some(credentials) => builder.with_layer(&credentials).with_layer(&config.base_uri_layer()).build(),
        None => builder.with_layer(&config.base_uri_layer()).build(),
    })
}

fn boxed(error: hyper_util::client::legacy::Error) -> BoxError {
    Box::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_to_a_proxy_is_taken_out_of_its_address() {
        let (address, user) = split(&"http://ann:p%40ss%3a@proxy:3128".parse().unwrap()).unwrap();
        assert_eq!((address.to_string().as_str(), user), ("http://proxy:3128/", Some(("ann".into(), "p@ss:".into()))));
        let (address, user) = split(&"socks5://proxy".parse().unwrap()).unwrap();
        assert_eq!((address.to_string().as_str(), user), ("socks5://proxy:1080/", None));
    }
}
