//! Frames as bytes (RFC 9113, sections 4 and 6): the nine bytes before each, the few kinds that this side writes, and the codes with
//! which either side says why it ends something. What a frame means is decided elsewhere.

/// Bytes before every payload.
pub(super) const HEAD: usize = 9;
/// The longest payload that a peer must take, and the longest that it may send here, since nothing else is announced.
pub(super) const PAYLOAD_MOST: usize = 16_384;
/// The longest payload that any peer may allow.
pub(super) const PAYLOAD_EVER: u32 = 16_777_215;
/// The highest stream, and the largest window.
pub(super) const MOST: u32 = 0x7fff_ffff;
/// What a window holds until somebody says otherwise.
pub(super) const WINDOW: i64 = 65_535;

/// Kinds of frames, as numbers on the wire.
pub(super) mod kind {
    pub(in crate::protocol) const DATA: u8 = 0;
    pub(in crate::protocol) const HEADERS: u8 = 1;
    pub(in crate::protocol) const PRIORITY: u8 = 2;
    pub(in crate::protocol) const RST_STREAM: u8 = 3;
    pub(in crate::protocol) const SETTINGS: u8 = 4;
    pub(in crate::protocol) const PUSH_PROMISE: u8 = 5;
    pub(in crate::protocol) const PING: u8 = 6;
    pub(in crate::protocol) const GOAWAY: u8 = 7;
    pub(in crate::protocol) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::protocol) const CONTINUATION: u8 = 9;
}

/// Flags; what `0x1` says depends on the kind.
pub(super) mod flag {
    pub(in crate::protocol) const ACK: u8 = 0x1;
    pub(in crate::protocol) const END_STREAM: u8 = 0x1;
    pub(in crate::protocol) const END_HEADERS: u8 = 0x4;
    pub(in crate::protocol) const PADDED: u8 = 0x8;
    pub(in crate::protocol) const PRIORITY: u8 = 0x20;
}

/// Settings that are written or read here.
pub(super) mod setting {
    pub(in crate::protocol) const ENABLE_PUSH: u16 = 2;
    pub(in crate::protocol) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::protocol) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::protocol) const MAX_FRAME_SIZE: u16 = 5;
}

/// Why a stream or a connection was ended (RFC 9113, section 7). What a peer makes up counts as `Unknown`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    NoError,
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
    Unknown,
}

impl Code {
    /// In the order of their numbers.
    pub(in crate::protocol) const ALL: [Code; 14] = [
        Code::NoError,
        Code::ProtocolError,
        Code::InternalError,
        Code::FlowControlError,
        Code::SettingsTimeout,
        Code::StreamClosed,
        Code::FrameSizeError,
        Code::RefusedStream,
        Code::Cancel,
        Code::CompressionError,
        Code::ConnectError,
        Code::EnhanceYourCalm,
        Code::InadequateSecurity,
        Code::Http11Required,
    ];

    pub(super) fn of(number: u32) -> Code {
        Code::ALL.get(number as usize).copied().unwrap_or(Code::Unknown)
    }

    /// In words, as a cause gives it.
    pub(in crate::protocol) fn words(self) -> &'static str {
        match self {
            Code::NoError => "no error",
            Code::ProtocolError => "protocol error",
            Code::InternalError => "internal error",
            Code::FlowControlError => "flow control error",
            Code::SettingsTimeout => "settings timeout",
            Code::StreamClosed => "stream closed",
            Code::FrameSizeError => "frame size error",
            Code::RefusedStream => "refused stream",
            Code::Cancel => "cancel",
            Code::CompressionError => "compression error",
            Code::ConnectError => "connect error",
            Code::EnhanceYourCalm => "enhance your calm",
            Code::InadequateSecurity => "inadequate security",
            Code::Http11Required => "http/1.1 required",
            Code::Unknown => "unknown code",
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn read(bytes: &[u8; HEAD]) -> Head {
        let [a, b, c, kind, flags, s @ ..] = *bytes;
        // The first bit of the stream is reserved, and ignored.
        Head { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags, stream: u32::from_be_bytes(s) & MOST }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

/// A frame whose payload is a handful of numbers.
fn numbers(out: &mut Vec<u8>, kind: u8, stream: u32, numbers: &[u32]) {
    Head { length: 4 * numbers.len(), kind, flags: 0, stream }.write(out);
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}

pub(super) fn rst_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    numbers(out, kind::RST_STREAM, stream, &[code as u32]);
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    numbers(out, kind::WINDOW_UPDATE, stream, &[by]);
}

/// Says goodbye. No stream of the peer's was ever taken, since push is off.
pub(super) fn goaway(out: &mut Vec<u8>, code: Code) {
    numbers(out, kind::GOAWAY, 0, &[0, code as u32]);
}

pub(super) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    Head { length: 6 * settings.len(), kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn settings_ack(out: &mut Vec<u8>) {
    Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(out);
}

pub(super) fn ping_ack(out: &mut Vec<u8>, payload: &[u8]) {
    Head { length: payload.len(), kind: kind::PING, flags: flag::ACK, stream: 0 }.write(out);
    out.extend_from_slice(payload);
}

/// The payload without its padding, and without what `PRIORITY` puts before it; `None` when the padding is longer than the payload.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let mut payload = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.len().checked_sub(padding).map(|length| &payload[..length])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_have_the_numbers_of_the_standard() {
        assert_eq!((Code::of(0), Code::of(7), Code::of(13)), (Code::NoError, Code::RefusedStream, Code::Http11Required));
        assert_eq!((Code::of(14), Code::of(u32::MAX)), (Code::Unknown, Code::Unknown));
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!((code as usize, Code::of(number as u32)), (number, code));
        }
    }

    #[test]
    fn padding_comes_off_and_may_not_be_longer_than_what_it_pads() {
        let head = |kind, flags| Head { length: 0, kind, flags, stream: 1 };
        assert_eq!(unpadded(head(kind::DATA, 0), b"abc"), Some(&b"abc"[..]));
        assert_eq!(unpadded(head(kind::DATA, flag::PADDED), b"\x02abc"), Some(&b"a"[..]));
        assert_eq!(unpadded(head(kind::DATA, flag::PADDED), b"\x03abc"), Some(&b""[..]));
        assert_eq!(unpadded(head(kind::DATA, flag::PADDED), b"\x04abc"), None);
        assert_eq!(unpadded(head(kind::DATA, flag::PADDED), b""), None);
        assert_eq!(unpadded(head(kind::HEADERS, flag::PADDED | flag::PRIORITY), b"\x01pppppab"), Some(&b"a"[..]));
        assert_eq!(unpadded(head(kind::HEADERS, flag::PRIORITY), b"pppp"), None);
    }

    proptest! {
        #[test]
        fn a_head_reads_back(length in 0..1usize << 24, kind: u8, flags: u8, stream in 0..=MOST) {
            let head = Head { length, kind, flags, stream };
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            prop_assert_eq!(Head::read(bytes[..].try_into().expect("nine bytes")), head);
        }
    }
}
