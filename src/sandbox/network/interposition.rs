//! The socket on which an agent in a pod asks to be put before one of the pod's ports: a line of JSON in, a line of JSON out. What it
//! asks for lasts only as long as it goes on asking.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Existing, Network};

/// The longest that one request may last.
const TTL_MAX: Duration = Duration::from_secs(60);
/// Agents of one pod that are connected at the same time.
const CLIENTS_MAX: usize = 8;
const LINE_MAX: u64 = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Ask {
    /// Be put before a port, or stay there.
    Set { port: u16, via: SocketAddr, ttl_ms: u64, existing: Existing },
    /// Be taken away.
    Clear { port: u16 },
}

/// Serves one pod, until dropped.
pub async fn serve(listener: UnixListener, network: Network, pod: Ipv4Addr) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // Beyond the limit the connection is closed again, which the agent sees.
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => { clients.spawn(talk(stream, network.clone(), pod)); }
                Ok(_) => (),
                Err(error) => {
                    tracing::warn!("failed to accept on the interposition socket of {pod}: {error}");
                    return;
                }
            },
            Some(_) = clients.join_next() => (),
        }
    }
}

async fn talk(stream: UnixStream, network: Network, pod: Ipv4Addr) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut read).take(LINE_MAX).read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => (),
        }
        let mut answer = answer(&line, &network, pod).to_string();
        answer.push('\n');
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(line: &str, network: &Network, pod: Ipv4Addr) -> Value {
    let done = match serde_json::from_str(line) {
        Err(error) => Err(format!("not understood: {error}")),
        Ok(Ask::Set { via, .. }) if !via.ip().is_loopback() => Err(format!("{via} is not a loopback address")),
        Ok(Ask::Set { port, via, .. }) if via == SocketAddr::from((pod, port)) => Err(format!("{via} is the port itself")),
        Ok(Ask::Set { ttl_ms, .. }) if ttl_ms == 0 || Duration::from_millis(ttl_ms) > TTL_MAX => {
            Err(format!("ttl_ms must lie between 1 and {}, not {ttl_ms}", TTL_MAX.as_millis()))
        }
        Ok(Ask::Set { port, via, ttl_ms, existing }) => {
            network.interpose((pod, port), via, Duration::from_millis(ttl_ms), existing)
        }
        Ok(Ask::Clear { port }) => {
            network.clear((pod, port));
            Ok(())
        }
    };
    match done {
        Err(why) => json!({"ok": false, "error": why}),
        Ok(()) => {
            let rows = network.interposed(pod);
            let row = |(port, via, left): (u16, SocketAddr, Duration)| json!({"port": port, "via": via.to_string(), "ttl_ms": left.as_millis() as u64});
            json!({"ok": true, "table": rows.into_iter().map(row).collect::<Vec<_>>()})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Honours;
    use super::*;

    #[tokio::test]
    async fn requests_are_answered_with_the_table_or_with_what_is_wrong() {
        let network = Network::new(Honours::Interposition);
        let pod = Ipv4Addr::new(127, 16, 1, 1);
        let ask = |line: &str| answer(line, &network, pod);
        let set = r#"{"set":{"port":8080,"via":"127.16.1.1:39000","ttl_ms":5000,"existing":"reset"}}"#;
        let done = ask(set);
        assert_eq!((&done["ok"], &done["table"][0]["via"]), (&json!(true), &json!("127.16.1.1:39000")));
        assert_eq!(ask(r#"{"clear":{"port":8080}}"#), json!({"ok": true, "table": []}));
        for (wrong, why) in [
            ("x", "not understood"),
            (r#"{"set":{"port":8080,"via":"10.0.0.1:1","ttl_ms":5000,"existing":"reset"}}"#, "not a loopback"),
            (r#"{"set":{"port":8080,"via":"127.0.0.1:1","ttl_ms":0,"existing":"reset"}}"#, "ttl_ms"),
            (r#"{"set":{"port":8080,"via":"127.16.1.1:8080","ttl_ms":5,"existing":"leave"}}"#, "the port itself"),
            (r#"{"set":{"port":8080,"via":"127.0.0.1:1","ttl_ms":5,"existing":"maybe"}}"#, "not understood"),
        ] {
            let answer = ask(wrong);
            assert!(answer["ok"] == false && answer["error"].as_str().unwrap().contains(why), "{wrong}: {answer}");
        }
    }
}
