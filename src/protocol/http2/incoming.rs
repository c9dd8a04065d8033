//! What comes from the peer: bytes to frames, frames to what they do to streams and limits. Everything that breaks a rule of RFC 9113
//! ends its stream or the connection, with the code that the standard asks for; nothing that a peer can say makes this side hold
//! more than a bounded number of bytes, or go on for ever without an answer.

use super::connection::Connection;
use super::frame::{self, Code, HEAD, Head, MOST, PAYLOAD_EVER, PAYLOAD_MOST, flag, kind, setting};
use super::hpack::{Decoder, Wrong};
use super::notes::{Notes, Section};
use super::streams::Slot;
use crate::protocol::End;

/// The longest header block that is read, in bytes.
const BLOCK_MOST: usize = 64 * 1024;
/// The most frames that it may come in.
const BLOCK_FRAMES: u32 = 64;
/// The longest body that is read, in bytes: a longer one is an endless one.
const BODY_MOST: u64 = 256 * 1024 * 1024;
/// How many frames may come one after the other that bring no answer nearer (pings, settings, empty data, interim heads, what belongs
/// to streams that are over) before it is a flood.
const IDLE_MOST: u32 = 10_000;
/// By how many of them each request makes up for those before: what still comes for one that was given up, as a head and a megabyte of
/// its body, was asked for.
pub(super) const IDLE_PER_REQUEST: u32 = 64;
/// Late data of streams that are over is charged by its bytes, since much of it may be on its way before a peer hears that nobody waits for it:
/// so many are one frame that brings no answer nearer, and each frame is at least so many.
const LATE_PER_IDLE: u32 = 16 * 1024;
const LATE_LEAST: u32 = 128;
/// How many settings of a frame are free.
const SETTINGS_FREE: usize = 8;
/// The longest header block that is remembered, in bytes.
const MEMO_MOST: usize = 1024;

/// What is known between frames.
#[derive(Default)]
pub(super) struct Incoming {
    decoder: Decoder,
    /// A header block that has not all come.
    block: Option<Block>,
    /// Of heads and of trailers.
    memos: [Memo; 2],
    /// Frames since the last that brought an answer nearer.
    pub(super) idle: u32,
    /// Bytes of late data that have not been charged.
    late: u32,
}

/// The parts of a header block.
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
    frames: u32,
    /// Bytes of all its frames.
    wire: u64,
}

/// The last head, and what it said. Answers of one service look alike for seconds: as long as the dynamic table has not changed, the
/// same bytes say the same. In trailers, they say it on top of the same head.
#[derive(Default)]
struct Memo {
    bytes: Vec<u8>,
    known: Notes,
    notes: Notes,
    changes: u64,
}

impl Memo {
    /// What `block` says on top of what was `known`, where that is remembered.
    fn of(&self, block: &[u8], known: Notes, changes: u64) -> Option<Notes> {
        (self.changes == changes && self.bytes == block && !block.is_empty() && self.known == known).then_some(self.notes)
    }
}

/// Why a connection cannot go on: what its requests end as, and what the peer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) end: End,
    pub(super) code: Code,
}

impl Fault {
    fn of(code: Code) -> Fault {
        Fault { end: End::RuleBroken(code), code }
    }
}

type Handled = Result<(), Fault>;

impl Connection {
    /// Takes in as many whole frames as `bytes` start with, and returns how many bytes they are.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        self.read_at = None;
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<HEAD>() {
            let head = Head::read(head);
            let greets = self.settled || matches!(head.kind, kind::SETTINGS | kind::GOAWAY) && head.stream == 0;
            if !greets || !self.settled && head.length > PAYLOAD_MOST {
                return Err(Fault { end: End::NotHttp2, code: Code::ProtocolError });
            }
            if head.length > PAYLOAD_MOST {
                return Err(Fault::of(Code::FrameSizeError));
            }
            let end = at + HEAD + head.length;
            let Some(payload) = bytes.get(at + HEAD..end) else { break };
            self.frame(head, payload)?;
            at = end;
        }
        // What is no greeting is known by its kind: a peer of another protocol may have no more to say than that.
        let greets = |kind| matches!(kind, kind::SETTINGS | kind::GOAWAY);
        if !self.settled && bytes.get(at + 3).is_some_and(|kind| !greets(*kind)) {
            return Err(Fault { end: End::NotHttp2, code: Code::ProtocolError });
        }
        Ok(at)
    }

    /// The peer has closed in the middle of a head, if that is so: whoever it was for is told.
    pub(super) fn cut_head(&mut self) {
        if let Some(slot) = self.incoming.block.take().and_then(|block| self.streams.find(block.stream)) {
            self.end(slot, Err(End::ClosedMidHead));
        }
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Handled {
        if self.incoming.block.is_some() != (head.kind == kind::CONTINUATION) {
            return Err(Fault::of(Code::ProtocolError));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.rst_stream(head, number(payload)?),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, number(payload)?),
            kind::PUSH_PROMISE => Err(Fault::of(Code::ProtocolError)),
            kind::PRIORITY if head.stream == 0 => Err(Fault::of(Code::ProtocolError)),
            kind::PRIORITY if payload.len() != 5 => Err(Fault::of(Code::FrameSizeError)),
            // Priorities are advice to servers, and frames of unknown kinds are none of ours (RFC 9113, sections 5.3.2 and 5.5).
            _ => self.idle(),
        }
    }

    /// A frame that brings no answer nearer.
    fn idle(&mut self) -> Handled {
        self.incoming.idle += 1;
        if self.incoming.idle > IDLE_MOST { Err(Fault::of(Code::EnhanceYourCalm)) } else { Ok(()) }
    }

    /// Data of `length` bytes on a stream that is over.
    fn late(&mut self, length: usize) -> Handled {
        if length == 0 {
            return self.idle();
        }
        // No frame is longer than 16 KiB.
        self.incoming.late += LATE_LEAST.max((HEAD + length) as u32);
        if self.incoming.late < LATE_PER_IDLE {
            return Ok(());
        }
        self.incoming.late -= LATE_PER_IDLE;
        self.idle()
    }

    /// The slot of a stream; `None` when it is over. One that was never opened is a mistake of the peer's.
    fn known(&self, id: u32) -> Result<Option<Slot>, Fault> {
        if id.is_multiple_of(2) || id >= self.next_id {
            return Err(Fault::of(Code::ProtocolError));
        }
        Ok(self.streams.find(id))
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Handled {
        let slot = self.known(head.stream)?;
        // Padding counts, and so does what comes for streams that are over (RFC 9113, section 6.9).
        self.receive_window -= head.length as i64;
        if self.receive_window < 0 {
            return Err(Fault::of(Code::FlowControlError));
        }
        if self.receive_window < i64::from(MOST) / 2 {
            let by = i64::from(MOST) - self.receive_window;
            frame::window_update(&mut self.out.bytes, 0, by as u32);
            self.receive_window += by;
        }
        let data = frame::unpadded(head, payload).ok_or(Fault::of(Code::ProtocolError))?;
        let Some(slot) = slot else { return self.late(data.len()) };
        let stream = self.streams.at(slot);
        stream.progress.bytes_in += (HEAD + head.length) as u64;
        stream.body_in += data.len() as u64;
        let template = &self.templates[stream.request];
        let (body, notes, asks_head) = (stream.body_in, stream.head, template.asks_head);
        let kept = match &mut stream.heard {
            Some(heard) if template.hears.body() => heard.piece(data),
            _ => Ok(()),
        };
        let of_messages = template.call.is_some() && notes.is_some_and(|notes| notes.call.messages);
        let fed = if of_messages { stream.messages.feed(data) } else { Ok(()) };
        match notes {
            None => self.reset(slot, End::Garbage, Code::ProtocolError),
            Some(_) if let Err(end) = fed => self.reset(slot, end, Code::Cancel),
            Some(_) if body > BODY_MOST => self.reset(slot, End::BodyTooLarge, Code::Cancel),
            Some(notes) if !asks_head && notes.content_length.is_some_and(|length| body > length) => {
                self.reset(slot, End::Garbage, Code::ProtocolError);
            }
            Some(_) if kept.is_err() => self.has_enough(slot),
            Some(_) if head.has(flag::END_STREAM) => self.finish(slot),
            Some(_) if data.is_empty() => return self.idle(),
            Some(_) => self.incoming.idle = 0,
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Handled {
        self.known(head.stream)?;
        let part = frame::unpadded(head, payload).ok_or(Fault::of(Code::ProtocolError))?;
        let (stream, ends_stream, wire) = (head.stream, head.has(flag::END_STREAM), (HEAD + head.length) as u64);
        if head.has(flag::END_HEADERS) {
            return self.header_block(stream, ends_stream, part, wire);
        }
        self.incoming.block = Some(Block { stream, ends_stream, bytes: part.to_vec(), frames: 1, wire });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Handled {
        let Some(mut block) = self.incoming.block.take() else { return Err(Fault::of(Code::ProtocolError)) };
        if head.stream != block.stream {
            return Err(Fault::of(Code::ProtocolError));
        }
        block.frames += 1;
        block.wire += (HEAD + head.length) as u64;
        if block.frames > BLOCK_FRAMES || block.bytes.len() + payload.len() > BLOCK_MOST {
            return self.too_large(block.stream);
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.header_block(block.stream, block.ends_stream, &block.bytes, block.wire);
        }
        self.incoming.block = Some(block);
        Ok(())
    }

    /// A head that is not read to its end leaves the dynamic table unknown: the connection ends with it.
    fn too_large(&mut self, id: u32) -> Handled {
        if let Some(slot) = self.streams.find(id) {
            self.end(slot, Err(End::HeadTooLarge));
        }
        Err(Fault::of(Code::EnhanceYourCalm))
    }

    fn header_block(&mut self, id: u32, ends_stream: bool, block: &[u8], wire: u64) -> Handled {
        let slot = self.streams.find(id);
        let answered = slot.and_then(|slot| self.streams.at(slot).head);
        let section = if answered.is_some() { Section::Trailers } else { Section::Head };
        // Read even when nobody waits for it: the dynamic table is the connection's.
        let notes = match self.notes(slot, section, answered.unwrap_or_default(), block) {
            Ok(notes) => notes,
            Err(Wrong::TooLarge) => return self.too_large(id),
            Err(Wrong::Garbage) => return Err(Fault::of(Code::CompressionError)),
        };
        let Some(slot) = slot else { return self.idle() };
        let now = self.read_at();
        let stream = self.streams.at(slot);
        stream.progress.bytes_in += wire;
        stream.progress.first.get_or_insert(now);
        let interim = matches!(notes.status, Some(100..=199));
        let wrong = match section {
            // 101 is a change of protocol, which there is none of in HTTP/2.
            Section::Head => notes.status.is_none() || notes.status == Some(101) || interim && ends_stream,
            Section::Trailers => !ends_stream,
        };
        if notes.malformed || wrong {
            self.reset(slot, End::Garbage, Code::ProtocolError);
            return Ok(());
        }
        if interim {
            return self.idle();
        }
        stream.head = Some(notes);
        if ends_stream {
            self.finish(slot);
        }
        Ok(())
    }

    /// What a block says on top of what was `known`. Where somebody listens to the head of the answer on `slot`, it is put down there.
    fn notes(&mut self, slot: Option<Slot>, section: Section, known: Notes, block: &[u8]) -> Result<Notes, Wrong> {
        let Incoming { decoder, memos, .. } = &mut self.incoming;
        if section == Section::Head
            && let Some(stream) = slot.map(|slot| self.streams.at(slot))
            && let Some(heard) = &mut stream.heard
        {
            // What an interim head said is nothing to it.
            heard.clear();
            let (mut notes, hears, listener) = (known, &self.templates[stream.request].hears, &mut self.listener);
            decoder.read(block, |name, value| {
                listener.hear(&mut notes, section, name, value);
                heard.header(hears, name, value);
            })?;
            return Ok(notes);
        }
        let memo = &mut memos[section as usize];
        let before = decoder.changes();
        if let Some(notes) = memo.of(block, known, before) {
            return Ok(notes);
        }
        let mut notes = known;
        let listener = &mut self.listener;
        decoder.read(block, |name, value| listener.hear(&mut notes, section, name, value))?;
        if decoder.changes() == before && block.len() <= MEMO_MOST {
            memo.bytes.clear();
            memo.bytes.extend_from_slice(block);
            (memo.known, memo.notes, memo.changes) = (known, notes, before);
        }
        Ok(notes)
    }

    fn rst_stream(&mut self, head: Head, code: u32) -> Handled {
        match self.known(head.stream)? {
            None => self.idle(),
            Some(slot) => {
                self.streams.at(slot).progress.bytes_in += (HEAD + head.length) as u64;
                self.end(slot, Err(End::StreamReset(Code::of(code))));
                Ok(())
            }
        }
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Fault::of(Code::ProtocolError));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { self.idle() } else { Err(Fault::of(Code::FrameSizeError)) };
        }
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Fault::of(Code::FrameSizeError)) };
        for (nth, [a, b, value @ ..]) in settings.iter().enumerate() {
            if nth >= SETTINGS_FREE {
                // Each may change the windows of all streams.
                self.idle()?;
            }
            self.setting(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))?;
        }
        frame::settings_ack(&mut self.out.bytes);
        if !self.settled {
            self.settled = true;
            self.opened();
            return Ok(());
        }
        self.idle()
    }

    fn setting(&mut self, name: u16, value: u32) -> Handled {
        match name {
            setting::ENABLE_PUSH if value != 0 => return Err(Fault::of(Code::ProtocolError)),
            setting::MAX_CONCURRENT_STREAMS => self.concurrent = value as usize,
            setting::INITIAL_WINDOW_SIZE if value > MOST => return Err(Fault::of(Code::FlowControlError)),
            setting::INITIAL_WINDOW_SIZE => {
                // It changes the windows of streams that are open, too, and may make them negative (RFC 9113, section 6.9.2).
                let by = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                for slot in self.streams.all() {
                    let stream = self.streams.at(slot);
                    stream.window += by;
                    if stream.window > i64::from(MOST) {
                        return Err(Fault::of(Code::FlowControlError));
                    }
                    self.unpark(slot);
                }
            }
            // Frames from here are never longer than every peer must take.
            setting::MAX_FRAME_SIZE if !(PAYLOAD_MOST as u32..=PAYLOAD_EVER).contains(&value) => {
                return Err(Fault::of(Code::ProtocolError));
            }
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Fault::of(Code::ProtocolError));
        }
        if payload.len() != 8 {
            return Err(Fault::of(Code::FrameSizeError));
        }
        if !head.has(flag::ACK) {
            frame::ping_ack(&mut self.out.bytes, payload);
        }
        self.idle()
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Fault::of(Code::ProtocolError));
        }
        let Some(([a, b, c, d, code @ ..], _debug)) = payload.split_first_chunk::<8>() else {
            return Err(Fault::of(Code::FrameSizeError));
        };
        self.go_away(u32::from_be_bytes([*a, *b, *c, *d]) & MOST, Code::of(u32::from_be_bytes(*code)));
        self.idle()
    }

    fn window_update(&mut self, head: Head, by: u32) -> Handled {
        let by = by & MOST;
        if head.stream == 0 {
            self.window += i64::from(by);
            return match () {
                () if by == 0 => Err(Fault::of(Code::ProtocolError)),
                () if self.window > i64::from(MOST) => Err(Fault::of(Code::FlowControlError)),
                () => self.idle(),
            };
        }
        let Some(slot) = self.known(head.stream)? else { return self.idle() };
        let stream = self.streams.at(slot);
        stream.window += i64::from(by);
        if by == 0 {
            self.reset(slot, End::RuleBroken(Code::ProtocolError), Code::ProtocolError);
        } else if stream.window > i64::from(MOST) {
            self.reset(slot, End::RuleBroken(Code::FlowControlError), Code::FlowControlError);
        } else {
            self.unpark(slot);
        }
        self.idle()
    }
}

/// A payload that is one number.
fn number(payload: &[u8]) -> Result<u32, Fault> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| Fault::of(Code::FrameSizeError))
}
