//! The sandbox's data plane, on a socket that speaks JSON lines: each request is answered by one line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::Existing;

/// The data plane is local: an answer that takes longer will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// An answer is a short table; what is longer is not an answer.
const ANSWER_MOST_BYTES: u64 = 1 << 20;

/// What a client of the data plane can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Connections to `port` go to `via` until `ttl_ms` have passed. Asking again renews.
    Set { port: u16, via: String, ttl_ms: u64, existing: Existing },
    /// Connections to `port` go to the pod again.
    Clear { port: u16 },
}

/// What the data plane answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    /// The entries as they are after the request.
    #[serde(default)]
    pub table: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A client of the data plane. It connects when it is needed and again after trouble.
pub struct Plane {
    socket: PathBuf,
    connected: Option<BufReader<UnixStream>>,
}

impl Plane {
    pub fn at(socket: &Path) -> Plane {
        Plane { socket: socket.to_owned(), connected: None }
    }

    /// Asks, and gives the table back.
    ///
    /// # Errors
    /// When the data plane cannot be reached, does not answer in time, or refuses.
    pub async fn ask(&mut self, request: &Request) -> Result<Vec<serde_json::Value>> {
        let socket = self.socket.display().to_string();
        let answered = tokio::time::timeout(ANSWER_WITHIN, self.exchange(request)).await;
        let answer = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.connected = None;
                return Err(error.context(format!("cannot talk to the data plane at {socket}")));
            }
            Err(_elapsed) => {
                // A late answer would be taken for the next one's.
                self.connected = None;
                bail!("the data plane at {socket} did not answer within {} s", ANSWER_WITHIN.as_secs());
            }
        };
        if !answer.ok {
            bail!("the data plane refused: {}", answer.error.as_deref().unwrap_or("it gave no reason"));
        }
        Ok(answer.table)
    }

    async fn exchange(&mut self, request: &Request) -> Result<Answer> {
        let connection = match &mut self.connected {
            Some(connection) => connection,
            None => self.connected.insert(BufReader::new(UnixStream::connect(&self.socket).await?)),
        };
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        connection.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        (&mut *connection).take(ANSWER_MOST_BYTES).read_line(&mut answer).await?;
        if answer.is_empty() {
            bail!("it closed the connection");
        }
        serde_json::from_str(&answer).with_context(|| format!("`{}` is not an answer", answer.trim_end()))
    }
}
