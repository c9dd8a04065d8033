//! One GET over the data plane, for probes and metric scrapes: a connection of its own, a deadline over all of it, a bounded body.

use std::net::Ipv4Addr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use super::Network;

/// What to ask.
pub struct Get {
    pub ip: Ipv4Addr,
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Beyond `Host`, `User-Agent` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// For all of it.
    pub timeout: Duration,
    /// Bytes of body that are read; a longer one is an error.
    pub body_max: usize,
    pub agent: &'static str,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Asks, and answers or says why not, in the words of a kubelet.
pub async fn get(network: &Network, ask: Get) -> Result<Answer, String> {
    let address = format!("{}:{}", ask.ip, ask.port);
    let url = format!("http://{address}{}", ask.path);
    let timeout = ask.timeout;
    match tokio::time::timeout(timeout, exchange(network, ask, &address)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(format!("Get {url:?}: {why}")),
        Err(_) => Err(format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")),
    }
}

async fn exchange(network: &Network, ask: Get, address: &str) -> Result<Answer, String> {
    let stream = network.dial(ask.ip, ask.port).await.map_err(|e| format!("dial tcp {address}: connect: {}", said(&e)))?;
    let failed = |e: hyper::Error| if e.is_incomplete_message() { "EOF".to_owned() } else { e.to_string() };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = http::Request::get(&ask.path)
        .header(http::header::USER_AGENT, ask.agent)
        .header(http::header::ACCEPT, "*/*")
        .header(http::header::CONNECTION, "close");
    let own_host = ask.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !own_host {
        request = request.header(http::header::HOST, address);
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| e.to_string())?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ask.body_max).collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // The connection is driven here and ends here: nothing of it outlives the deadline.
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut talk => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// An error of connecting in the words that a kubelet uses.
pub fn said(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        std::io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}
