//! Netlink, as far as an agent needs it: messages of attributes, written and read by hand. An image without any other program has no
//! `nft`, and what is needed of the kernel here is a dozen messages.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// A message that asks the kernel for something.
pub const REQUEST: u16 = 1;
/// The kernel says that it did it.
pub const ACK: u16 = 4;
/// All that there are, not one.
pub const DUMP: u16 = 0x300;
/// It must not exist yet.
pub const EXCLUSIVE: u16 = 0x200;
/// It is made where it does not exist.
pub const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Kinds below this are netlink's own.
const KINDS: u16 = 16;
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// In an attribute's kind: it holds attributes. The bit beside it is about byte order; neither is part of the kind.
const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;
/// The kernel answers at once; what takes longer will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The kernel cuts what it tells into pieces of at most half of this.
const ANSWER_MOST_BYTES: usize = 64 << 10;
/// Errors of the kernel lie between this and zero.
const ERRNO_LEAST: i32 = -4095;
/// Pieces of one answer: more sockets and tables than a pod has.
const PIECES_MOST: usize = 4096;

/// A message to the kernel.
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// What it asks for, in words, for who reads that it was refused.
    what: &'static str,
}

/// Attributes, one after the other, each padded to four bytes.
#[derive(Default)]
pub struct Attributes(pub(super) Vec<u8>);

/// What the kernel did not do.
#[derive(Debug)]
pub struct Refused {
    pub what: &'static str,
    pub errno: Errno,
}

/// A conversation with one part of the kernel.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A message from the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Heard<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message {
    /// `fixed` is the part before the attributes, a multiple of four bytes.
    pub fn new(kind: u16, flags: u16, fixed: &[u8], what: &'static str) -> Message {
        Message { kind, flags: flags | REQUEST, body: fixed.to_vec(), what }
    }

    pub fn with(mut self, attributes: Attributes) -> Message {
        self.body.extend(attributes.0);
        self
    }

    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = (HEADER + self.body.len()) as u32;
        out.extend(length.to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend(self.flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        // Whose it is the kernel knows.
        out.extend([0; 4]);
        out.extend(&self.body);
        pad(out);
    }
}

impl Attributes {
    pub fn new() -> Attributes {
        Attributes::default()
    }

    pub fn bytes(self, kind: u16, value: &[u8]) -> Attributes {
        self.raw(kind, value)
    }

    /// A text, ended by a zero as the kernel wants it.
    pub fn text(self, kind: u16, value: &str) -> Attributes {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// A number in network order, as netfilter has all of them.
    pub fn number(self, kind: u16, value: u32) -> Attributes {
        self.raw(kind, &value.to_be_bytes())
    }

    pub fn nested(self, kind: u16, within: Attributes) -> Attributes {
        self.raw(kind | NESTED, &within.0)
    }

    fn raw(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("an attribute of ours is short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(&mut self.0);
        self
    }
}

impl Netlink {
    /// # Errors
    /// When the process may not have such a socket, or the kernel lacks what it is for.
    pub fn open(protocol: Protocol) -> io::Result<Netlink> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Netlink { socket, sequence: 0, buffer: vec![0; ANSWER_MOST_BYTES] })
    }

    /// Sends all at once, and returns when each that asks for an acknowledgement has it.
    ///
    /// # Errors
    /// The first message that was refused, or that the kernel did not answer.
    pub fn ask(&mut self, messages: &[Message]) -> Result<(), Refused> {
        let first = self.send(messages)?;
        let mut waiting = messages.iter().filter(|message| message.flags & ACK != 0).count();
        while waiting > 0 {
            let got = self.receive(messages[0].what)?;
            for heard in read(&self.buffer[..got]) {
                let Some(message) = heard.sequence.checked_sub(first).and_then(|n| messages.get(n as usize)) else {
                    // An answer to what was asked before, and given up.
                    continue;
                };
                match (heard.kind, refusal(heard.body)) {
                    (ERROR, Some(errno)) => return Err(Refused { what: message.what, errno }),
                    (ERROR, None) => waiting -= 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Asks for all that there are: the kind and the body of each.
    ///
    /// # Errors
    /// When it was refused, or the answer has no end.
    pub fn all(&mut self, message: Message) -> Result<Vec<(u16, Vec<u8>)>, Refused> {
        let what = message.what;
        let first = self.send(&[message])?;
        let mut all = Vec::new();
        for _ in 0..PIECES_MOST {
            let got = self.receive(what)?;
            for heard in read(&self.buffer[..got]).into_iter().filter(|heard| heard.sequence == first) {
                match heard.kind {
                    DONE => return Ok(all),
                    ERROR => {
                        return match refusal(heard.body) {
                            Some(errno) => Err(Refused { what, errno }),
                            None => Ok(all),
                        };
                    }
                    kind if kind >= KINDS => all.push((kind, heard.body.to_vec())),
                    _ => {}
                }
            }
        }
        Err(Refused { what, errno: Errno::MSGSIZE })
    }

    /// The number of the first; they count up from there.
    fn send(&mut self, messages: &[Message]) -> Result<u32, Refused> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, &mut bytes);
        }
        let what = messages.first().map_or("nothing", |message| message.what);
        match send(&self.socket, &bytes, SendFlags::empty()) {
            Ok(sent) if sent == bytes.len() => Ok(first),
            Ok(_) => Err(Refused { what, errno: Errno::MSGSIZE }),
            Err(errno) => Err(Refused { what, errno }),
        }
    }

    fn receive(&mut self, what: &'static str) -> Result<usize, Refused> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Refused { what, errno: Errno::TIMEDOUT }),
                Err(errno) => return Err(Refused { what, errno }),
                // Cut off: what is missing cannot be had again.
                Ok((got, whole)) if whole > got => return Err(Refused { what, errno: Errno::MSGSIZE }),
                Ok((got, _)) => return Ok(got),
            }
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused {}: {}", self.what, io::Error::from(self.errno))
    }
}

impl std::error::Error for Refused {}

/// The attributes of a message or of an attribute, as far as they can be read: their kinds, without flags, and what they hold.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let Some((length, kind)) = bytes.first_chunk::<ATTRIBUTE_HEADER>().map(|[a, b, c, d]| ([*a, *b], [*c, *d])) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = bytes.get(ATTRIBUTE_HEADER..length) else { break };
        all.push((u16::from_ne_bytes(kind) & KIND, value));
        bytes = bytes.get(padded(length)..).unwrap_or_default();
    }
    all
}

/// What the first attribute of this kind holds.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).into_iter().find(|(of, _)| *of == kind).map(|(_, value)| value)
}

fn read(mut bytes: &[u8]) -> Vec<Heard<'_>> {
    let mut all = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = number(0) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        all.push(Heard { kind: u16::from_ne_bytes([header[4], header[5]]), sequence: number(8), body });
        bytes = bytes.get(padded(length)..).unwrap_or_default();
    }
    all
}

/// Why an error message says that something was not done; `None` for an acknowledgement. One that cannot be read is no
/// acknowledgement.
fn refusal(body: &[u8]) -> Option<Errno> {
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => None,
        Some(negative @ ERRNO_LEAST..0) => Some(Errno::from_raw_os_error(-negative)),
        _ => Some(Errno::BADMSG),
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(padded(bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_as_the_kernel_reads_it() {
        let message = Message::new(0x0a00, ACK, &[1, 0, 0, 0], "a table")
            .with(Attributes::new().text(1, "abcd").nested(3, Attributes::new().number(2, 258)));
        let mut bytes = Vec::new();
        message.write(7, &mut bytes);
        let header: Vec<u8> =
            [&44_u32.to_ne_bytes()[..], &0x0a00_u16.to_ne_bytes(), &5_u16.to_ne_bytes(), &7_u32.to_ne_bytes(), &[0; 4]].concat();
        assert_eq!(bytes[..16], header);
        assert_eq!(bytes[16..20], [1, 0, 0, 0]);
        let text: Vec<u8> = [&9_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), b"abcd\0\0\0\0"].concat();
        assert_eq!(bytes[20..32], text, "a text ends with a zero, which its length counts, and padding, which it does not");
        let nested: Vec<u8> =
            [&12_u16.to_ne_bytes()[..], &0x8003_u16.to_ne_bytes(), &8_u16.to_ne_bytes(), &2_u16.to_ne_bytes(), &[0, 0, 1, 2]]
                .concat();
        assert_eq!(bytes[32..44], nested);
        assert_eq!(bytes.len(), 44);
    }

    #[test]
    fn an_answer_is_told_from_a_refusal() {
        assert_eq!(refusal(&0_i32.to_ne_bytes()), None);
        assert_eq!(refusal(&(-2_i32).to_ne_bytes()), Some(Errno::NOENT));
        assert_eq!(refusal(&i32::MIN.to_ne_bytes()), Some(Errno::BADMSG));
        assert_eq!(refusal(&1_i32.to_ne_bytes()), Some(Errno::BADMSG));
        assert_eq!(refusal(&[0, 0]), Some(Errno::BADMSG));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::vec((0_u16..KIND, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let written = values.iter().fold(Attributes::new(), |all, (kind, value)| all.bytes(*kind, value));
            let message = Message::new(20, 0, &[0; 8], "something").with(Attributes::new().nested(1, written));
            let mut bytes = Vec::new();
            message.write(3, &mut bytes);
            message.write(4, &mut bytes);
            let heard = read(&bytes);
            prop_assert_eq!(heard.iter().map(|heard| (heard.kind, heard.sequence)).collect::<Vec<_>>(), [(20, 3), (20, 4)]);
            for heard in heard {
                let within = attribute(&heard.body[8..], 1).expect("it was written");
                let again: Vec<(u16, Vec<u8>)> = attributes(within).into_iter().map(|(kind, value)| (kind, value.to_vec())).collect();
                prop_assert_eq!(&again, &values);
            }
        }

        /// Whatever comes, reading it ends, and every piece that it gives lies within what came.
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bodies: usize = read(&bytes).iter().map(|heard| heard.body.len()).sum();
            let values: usize = attributes(&bytes).iter().map(|(_, value)| value.len()).sum();
            prop_assert!(bodies <= bytes.len() && values <= bytes.len());
            let _ = refusal(&bytes);
        }
    }
}
