//! The protocol that a load speaks, as a plan names it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rotation;

/// What a load speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge over http://, by ALPN over https://.
    Http2,
    /// gRPC, which is HTTP/2 below: one message goes, one or a stream of them comes.
    Grpc,
    /// WebSocket, which begins as HTTP/1.1: messages both ways over a connection that is held.
    WebSocket,
}

impl Protocol {
    /// Whether one connection carries several requests at once.
    pub fn has_streams(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc)
    }

    /// Whether a header that is one in HTTP can be sent over it. The value is a possible secret: no message repeats it.
    pub(crate) fn header(self, name: &str, value: &str) -> Result<(), String> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match self {
            Protocol::Grpc if name.to_ascii_lowercase().starts_with("grpc-") || is("content-type") || is("te") => {
                Err(format!("`{name}` is gRPC's own affair: leave it out"))
            }
            Protocol::Grpc if name.to_ascii_lowercase().ends_with("-bin") && !is_base64(value) => {
                Err(format!("the value of `{name}` is not base64, as that of every key that ends in `-bin`"))
            }
            Protocol::Grpc if name.starts_with(|c: char| !c.is_ascii_alphanumeric()) || !name.chars().all(is_of_key) => {
                Err(format!("`{name}` is not a key of metadata: write letters, digits, `-`, `_` and `.`"))
            }
            // What says how one connection is used has no place in a stream (RFC 9113, section 8.2.2).
            Protocol::Grpc if is("keep-alive") || is("proxy-connection") => {
                Err(format!("`{name}` is a header of HTTP/1.1 alone: leave it out"))
            }
            Protocol::WebSocket if HANDSHAKE.iter().any(|own| is(own)) => {
                Err(format!("`{name}` is the handshake's own affair: leave it out"))
            }
            Protocol::Http2 if is("keep-alive") || is("proxy-connection") => {
                Err(format!("`{name}` is a header of HTTP/1.1 alone: leave it out, or say `protocol: http1`"))
            }
            Protocol::Http2 if is("te") && value != "trailers" => {
                Err(format!("`{name}` can ask for `trailers` alone in HTTP/2: write that, or say `protocol: http1`"))
            }
            _ => Ok(()),
        }
    }

    /// How many requests one connection carries at once where the plan does not say.
    pub fn usual_streams(self) -> u32 {
        match self {
            Protocol::Http1 | Protocol::WebSocket => 1,
            // The least that servers are asked to allow (RFC 9113, section 6.5.2), and what clients assume of one that has not said.
            Protocol::Http2 | Protocol::Grpc => 100,
        }
    }

    /// When connections are replaced where the plan does not say: who speaks over a WebSocket holds it.
    pub fn usual_rotation(self) -> Rotation {
        match self {
            Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => Rotation::default(),
            Protocol::WebSocket => Rotation::NEVER,
        }
    }

    /// The fewest connections of a load whose plan does not say.
    pub fn fewest_connections(self) -> u32 {
        match self {
            Protocol::Http1 | Protocol::WebSocket => 256,
            // Balancers choose once per connection: with one, all would go to one pod.
            Protocol::Http2 | Protocol::Grpc => 8,
        }
    }
}

/// What the handshake of a WebSocket says by itself (RFC 6455, section 4.1).
const HANDSHAKE: [&str; 4] = ["sec-websocket-key", "sec-websocket-version", "sec-websocket-accept", "sec-websocket-extensions"];

/// What a key of metadata is made of.
fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Base64, padded or not; where it has values in it, they are somebody else's affair.
fn is_base64(value: &str) -> bool {
    let digits = value.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    value.contains("{{") || digits.bytes().all(is_digit) && digits.len() % 4 != 1
}
