//! How a WebSocket ends otherwise than by what was waited for, as two small closed sets: why a peer closed it, and which rule it broke.

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::protocol::End;

/// Why a peer closed a WebSocket: one of the codes that may stand there (RFC 6455, section 7.4), or 1005 where none did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Closing(u16);

impl Closing {
    pub const TRY_AGAIN_LATER: Closing = Closing(1013);
    const NONE: Closing = Closing(1005);

    /// What a close with this code, or none, means: a code that may not stand there is a mistake.
    pub(super) fn end_of(code: Option<u16>) -> End {
        match code {
            None => End::Closed(Closing::NONE),
            Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => End::Closed(Closing(code)),
            Some(_) => End::WebSocketBroken(Breach::BadControl),
        }
    }

    /// The words of the registry, and the number.
    pub(in crate::protocol) fn words(self) -> String {
        let words = match self.0 {
            1000 => "normal",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1005 => return "no code".to_owned(),
            1007 => "invalid payload",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "extension missing",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            code => return code.to_string(),
        };
        format!("{words} ({})", self.0)
    }
}

/// A rule that a peer broke.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Breach {
    /// It changes to a protocol, and does not say that it is this one.
    NoWebSocket,
    /// It has not read the key of the handshake.
    WrongAccept,
    /// It speaks an extension that was not offered.
    UnofferedExtension,
    UnofferedSubprotocol,
    /// Only clients mask.
    Masked,
    ReservedBits,
    UnknownOpcode,
    /// A continuation of nothing, or no continuation where one must be.
    FragmentOutOfOrder,
    /// A ping, pong or close that is too long, in pieces, or malformed.
    BadControl,
    NotUtf8,
    AfterClose,
}

impl Breach {
    pub(in crate::protocol) fn words(self) -> &'static str {
        match self {
            Breach::NoWebSocket => "upgrade to something else",
            Breach::WrongAccept => "wrong sec-websocket-accept",
            Breach::UnofferedExtension => "extension not offered",
            Breach::UnofferedSubprotocol => "subprotocol not offered",
            Breach::Masked => "masked frame",
            Breach::ReservedBits => "reserved bits",
            Breach::UnknownOpcode => "unknown opcode",
            Breach::FragmentOutOfOrder => "fragment out of order",
            Breach::BadControl => "malformed control frame",
            Breach::NotUtf8 => "text is not utf-8",
            Breach::AfterClose => "frame after a close",
        }
    }
}

/// What an error of the codec means for who waits; `None` where the connection has just ended.
pub(super) fn end_of(error: &Error) -> Option<End> {
    use ProtocolError as Wrong;
    let breach = match error {
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(Wrong::ResetWithoutClosingHandshake) => return None,
        Error::Io(error) => return Some(End::of_error(error)),
        Error::Capacity(_) => return Some(End::MessageTooLarge),
        Error::Utf8(_) => Breach::NotUtf8,
        Error::Protocol(Wrong::MaskedFrameFromServer) => Breach::Masked,
        Error::Protocol(Wrong::NonZeroReservedBits) => Breach::ReservedBits,
        Error::Protocol(Wrong::InvalidOpcode(_) | Wrong::UnknownControlFrameType(_) | Wrong::UnknownDataFrameType(_)) => {
            Breach::UnknownOpcode
        }
        Error::Protocol(Wrong::UnexpectedContinueFrame | Wrong::ExpectedFragment(_)) => Breach::FragmentOutOfOrder,
        Error::Protocol(Wrong::FragmentedControlFrame | Wrong::ControlFrameTooBig | Wrong::InvalidCloseSequence) => {
            Breach::BadControl
        }
        Error::Protocol(Wrong::ReceivedAfterClosing) => Breach::AfterClose,
        _ => return Some(End::Garbage),
    };
    Some(End::WebSocketBroken(breach))
}
