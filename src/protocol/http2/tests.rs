//! A connection without a socket: frames in, what became of its requests and what it says out.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::connection::PREFACE;
use super::frame::{HEAD, Head, MOST, PAYLOAD_MOST, WINDOW, flag, kind, setting};
use super::incoming::Fault;
use super::peer::{Peer, first, frame, greeted, heard, settings};
use super::*;
use crate::protocol::Afterwards;

/// `:status: 200`, from the static table.
const OK: &[u8] = &[0x88];

impl Peer {
    /// How a request ended, as one word.
    #[track_caller]
    fn end(&mut self, request: usize) -> End {
        match self.done(request).expect("the request has ended") {
            Ok(answer) => answer.end,
            Err(end) => end,
        }
    }

    /// The frames that it wants to write, after its preface.
    fn frames(&mut self) -> Vec<(Head, Vec<u8>)> {
        let bytes = self.written();
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::read(head);
            frames.push((head, after[..head.length].to_vec()));
            rest = &after[head.length..];
        }
        frames
    }

    fn kinds(&mut self) -> Vec<u8> {
        self.frames().iter().map(|(head, _)| head.kind).collect()
    }
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, block)
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

fn goaway(last: u32, code: Code) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), (code as u32).to_be_bytes()].concat())
}

fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    frame(kind, 0, stream, &number.to_be_bytes())
}

/// A header block of literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| hpack::write(&mut block, name, value.as_bytes()));
    block
}

#[test]
fn it_greets_as_the_standard_says() {
    let mut peer = Peer::ungreeted(1, b"");
    assert!(peer.connection.out.rest().starts_with(PREFACE));
    let frames = peer.frames();
    let kinds: Vec<u8> = frames.iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [kind::SETTINGS, kind::WINDOW_UPDATE, kind::HEADERS]);
    assert_eq!(frames[2].0.stream, 1);
    assert!(peer.connection.poll_open(&Context::from_waker(Waker::noop())).is_pending());
    peer.says(&settings(&[]));
    assert!(peer.connection.poll_open(&Context::from_waker(Waker::noop())).is_ready());
    let frames = peer.frames();
    assert_eq!((frames.len(), frames[0].0.kind, frames[0].0.flags), (1, kind::SETTINGS, flag::ACK));
}

#[test]
fn answers_come_in_any_order_with_everything_that_may_stand_in_them() {
    let mut peer = Peer::new(4, b"");
    let fields = [(":status", "503"), ("retry-after", "3"), ("x-pod", "checkout-1"), ("content-length", "2")];
    peer.says(&headers(7, flag::END_STREAM, OK));
    peer.says(&headers(3, 0, &block(&fields))).says(&data(3, flag::END_STREAM, b"ok"));
    // An interim head, padding and priorities, a head in three frames, and trailers.
    peer.says(&headers(1, 0, &block(&[(":status", "103"), ("link", "x")])));
    let padded = [&[3, 0, 0, 0, 0, 9][..], OK, &[0, 0, 0]].concat();
    peer.says(&headers(1, flag::PADDED | flag::PRIORITY, &padded)).says(&data(1, flag::PADDED, b"\x02ok\0\0"));
    peer.says(&headers(1, flag::END_STREAM, &block(&[("grpc-status", "0")])));
    let long = block(&[(":status", "404"), ("x-long", "long")]);
    peer.says(&frame(kind::HEADERS, flag::END_STREAM, 5, &long[..3]));
    peer.says(&frame(kind::CONTINUATION, 0, 5, &long[3..5]));
    peer.says(&frame(kind::CONTINUATION, flag::END_HEADERS, 5, &long[5..]));
    // Frames that nobody needs.
    peer.says(&frame(kind::PRIORITY, 0, 1, &[0; 5])).says(&frame(0xbe, 0xff, 1, b"grease"));
    assert_eq!(peer.fault, None);
    assert_eq!(peer.end(0), End::Answered(200));
    let busy = peer.done(1).expect("it has ended").expect("an answer");
    assert_eq!((busy.end, busy.retry_after.is_some(), busy.connection), (End::Answered(503), true, Afterwards::Keep));
    assert_ne!(busy.identity, crate::protocol::Identity::UNKNOWN);
    assert_eq!(peer.connection.progress(peer.slots[1]).bytes_in, (HEAD + block(&fields).len() + HEAD + 2) as u64);
    assert_eq!(peer.end(2), End::Answered(404));
    assert_eq!(peer.end(3), End::Answered(200));
    assert_eq!(peer.connection.streams.count(), 0);
}

#[test]
fn the_same_head_again_says_the_same_again_unless_the_table_has_changed() {
    let mut peer = Peer::new(4, b"");
    // 62 is the newest field of the dynamic table: first `x-pod: a`, then `x-pod: b`.
    let put = |value: &str| [&[0x88, 0x40, 5][..], b"x-pod", &[1], value.as_bytes()].concat();
    let named = [0x88, 0x80 | 62];
    peer.says(&headers(1, flag::END_STREAM, &put("a"))).says(&headers(3, flag::END_STREAM, &named));
    peer.says(&headers(5, flag::END_STREAM, &put("b"))).says(&headers(7, flag::END_STREAM, &named));
    let said: Vec<_> = (0..4).map(|n| peer.done(n).expect("ended").expect("an answer").identity).collect();
    assert_eq!((said[0], said[2]), (said[1], said[3]));
    assert_ne!(said[0], said[2]);
}

#[test]
fn pings_and_settings_are_answered() {
    let mut peer = Peer::new(1, b"");
    peer.says(&frame(kind::PING, 0, 0, b"12345678")).says(&settings(&[(99, 1)])).says(&frame(
        kind::PING,
        flag::ACK,
        0,
        b"12345678",
    ));
    let frames = peer.frames();
    assert_eq!(frames.iter().map(|(head, _)| (head.kind, head.flags)).collect::<Vec<_>>(), [(kind::PING, 1), (kind::SETTINGS, 1)]);
    assert_eq!(frames[0].1, b"12345678");
}

#[test]
fn the_peer_s_limit_of_streams_is_kept_and_what_waited_for_it_was_held() {
    let mut peer = Peer::ungreeted(0, b"");
    peer.says(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 2)]));
    let slots: Vec<Slot> = (0..4).map(|_| peer.connection.link()).collect();
    slots.iter().for_each(|slot| peer.connection.begin(*slot, first()));
    peer.slots = slots.clone();
    let heads = |peer: &mut Peer| peer.kinds().iter().filter(|kind| **kind == kind::HEADERS).count();
    assert_eq!(heads(&mut peer), 2);
    assert_eq!(peer.connection.progress(slots[1]).held, None);
    // One that waits and is given up leaves no trace; one that ends makes room.
    peer.connection.cancel(slots[2]);
    peer.says(&headers(1, flag::END_STREAM, OK));
    assert_eq!(heads(&mut peer), 1);
    let progress = peer.connection.progress(slots[3]);
    assert!(progress.held.is_some() && progress.held == progress.sent);
    // One that is cancelled on its stream makes room as well, and the peer is told.
    peer.connection.begin(slots[0], first());
    assert_eq!(heads(&mut peer), 0);
    peer.connection.cancel(slots[1]);
    peer.connection.advance();
    assert_eq!(peer.kinds(), [kind::RST_STREAM, kind::HEADERS]);
    peer.says(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    assert_eq!(peer.fault, None);
}

#[test]
fn bodies_keep_to_both_windows_and_go_on_when_they_open() {
    let body = vec![b'x'; 100_000];
    let mut peer = Peer::ungreeted(0, &body);
    peer.says(&settings(&[(setting::INITIAL_WINDOW_SIZE, 40_000)]));
    peer.written();
    let slots = [peer.connection.link(), peer.connection.link()];
    slots.iter().for_each(|slot| peer.connection.begin(*slot, first()));
    peer.slots = slots.to_vec();
    peer.connection.advance();
    let sums = |peer: &mut Peer| {
        let mut sums = [0, 0];
        for (head, payload) in peer.frames() {
            if head.kind == kind::DATA {
                assert!(payload.len() <= PAYLOAD_MOST);
                sums[usize::from(head.stream == 3)] += payload.len();
            }
        }
        sums
    };
    let [first, second] = sums(&mut peer);
    assert_eq!(first + second, WINDOW as usize, "the connection's window is full");
    assert!(first <= 40_000 && second <= 40_000 && first.abs_diff(second) <= PAYLOAD_MOST, "{first} and {second}");
    peer.says(&number(kind::WINDOW_UPDATE, 0, 1_000_000));
    assert_eq!(sums(&mut peer), [40_000 - first, 40_000 - second], "the windows of the streams are full");
    peer.says(&number(kind::WINDOW_UPDATE, 3, 10_000));
    assert_eq!(sums(&mut peer), [0, 10_000]);
    // Less than is under way already: negative windows, from which nothing comes.
    peer.says(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).says(&number(kind::WINDOW_UPDATE, 1, 40_000));
    assert_eq!(sums(&mut peer), [0, 0]);
    peer.says(&settings(&[(setting::INITIAL_WINDOW_SIZE, 200_000)]));
    assert_eq!(sums(&mut peer), [60_000, 50_000], "all of the rest");
    // An answer ends the request, and the connection is as good as before.
    peer.says(&headers(1, flag::END_STREAM, OK));
    assert_eq!((peer.end(0), peer.kinds()), (End::Answered(200), vec![]));
    let heads = peer.connection.progress(slots[1]).bytes_out - 100_000 - peer.connection.templates[0].frames(&None).length() as u64;
    assert!(heads.is_multiple_of(HEAD as u64) && heads >= (100_000_u64.div_ceil(PAYLOAD_MOST as u64)) * HEAD as u64, "{heads}");
}

#[test]
fn an_answer_before_the_whole_request_ends_it() {
    let mut peer = Peer::new(1, &[b'x'; 100_000]);
    peer.says(&headers(1, flag::END_STREAM, &block(&[(":status", "413")])));
    assert_eq!(peer.end(0), End::Answered(413));
    assert_eq!(peer.kinds().last(), Some(&kind::RST_STREAM));
    peer.says(&number(kind::RST_STREAM, 1, 0)).says(&number(kind::WINDOW_UPDATE, 1, 5));
    assert_eq!(peer.fault, None, "what crossed on the way is no fault");
    assert!(peer.connection.stands());
}

#[test]
fn what_the_peer_may_send_is_widened_again_once_half_of_it_is_used() {
    let mut peer = Peer::new(1, b"");
    peer.says(&headers(1, 0, OK));
    let frame = data(1, 0, &[0; PAYLOAD_MOST]);
    peer.connection.receive_window = i64::from(MOST / 2) + PAYLOAD_MOST as i64;
    peer.says(&frame);
    assert!(peer.frames().is_empty(), "half of it is left");
    peer.says(&frame);
    let said = peer.frames();
    assert_eq!((said[0].0.kind, said[0].0.stream), (kind::WINDOW_UPDATE, 0));
    assert_eq!(peer.connection.receive_window, i64::from(MOST));
}

#[test]
fn going_away_ends_what_was_not_looked_at_and_lets_the_rest_finish() {
    let mut peer = Peer::new(3, b"");
    peer.says(&goaway(3, Code::NoError));
    assert_eq!(peer.end(2), End::GoneAway(Code::NoError));
    assert_eq!(peer.done(0), None);
    assert!(!peer.connection.stands());
    peer.says(&headers(1, flag::END_STREAM, OK)).says(&headers(3, flag::END_STREAM, OK));
    let answer = peer.done(0).expect("ended").expect("an answer");
    assert_eq!((answer.end, answer.connection), (End::Answered(200), Afterwards::Close));
    assert_eq!(peer.end(1), End::Answered(200));
    let late = peer.connection.link();
    peer.connection.begin(late, first());
    peer.slots[0] = late;
    assert_eq!(peer.end(0), End::GoneAway(Code::NoError));
}

#[test]
fn a_reset_of_one_stream_touches_no_other() {
    let mut peer = Peer::new(3, b"");
    peer.says(&number(kind::RST_STREAM, 1, 7)).says(&number(kind::RST_STREAM, 3, 4711));
    assert_eq!((peer.end(0), peer.end(1)), (End::StreamReset(Code::RefusedStream), End::StreamReset(Code::Unknown)));
    peer.says(&headers(5, flag::END_STREAM, OK));
    assert_eq!((peer.end(2), peer.fault), (End::Answered(200), None));
}

/// What breaks a rule on one stream: its end, and the code that the peer is told. The other stream goes on.
#[test]
fn what_is_wrong_on_one_stream_ends_that_stream() {
    use End::{Garbage, RuleBroken};
    let after_head = |bytes: Vec<u8>| [headers(1, 0, OK), bytes].concat();
    for (bytes, end, code) in [
        (data(1, 0, b"early"), Garbage, 1),
        (headers(1, 0, &block(&[("a", "b")])), Garbage, 1),
        (headers(1, 0, &block(&[(":status", "101")])), Garbage, 1),
        (headers(1, flag::END_STREAM, &block(&[(":status", "100")])), Garbage, 1),
        (headers(1, 0, &block(&[(":status", "200"), ("Upper", "case")])), Garbage, 1),
        (after_head(headers(1, 0, &block(&[("trailers", "that go on")]))), Garbage, 1),
        (after_head(headers(1, flag::END_STREAM, OK)), Garbage, 1),
        ([headers(1, 0, &block(&[(":status", "200"), ("content-length", "1")])), data(1, 0, b"12")].concat(), Garbage, 1),
        (number(kind::WINDOW_UPDATE, 1, 0), RuleBroken(Code::ProtocolError), 1),
        (number(kind::WINDOW_UPDATE, 1, MOST), RuleBroken(Code::FlowControlError), 3),
    ] {
        let mut peer = Peer::new(2, b"");
        peer.says(&bytes);
        assert_eq!((peer.end(0), peer.fault), (end, None), "{bytes:x?}");
        let told = peer.frames();
        assert_eq!((told[0].0.kind, &told[0].1[..]), (kind::RST_STREAM, &[0, 0, 0, code][..]), "{bytes:x?}");
        peer.says(&headers(3, flag::END_STREAM, OK));
        assert_eq!(peer.end(1), End::Answered(200), "{bytes:x?}");
    }
    let mut peer = Peer::new(1, b"");
    peer.says(&headers(1, 0, &block(&[(":status", "200"), ("content-length", "3")]))).says(&data(1, flag::END_STREAM, b"12"));
    assert_eq!(peer.end(0), Garbage, "an answer that is shorter than it says");
}

/// What breaks a rule on the connection: everything on it ends, with the code that the standard asks for.
#[test]
fn what_is_wrong_on_the_connection_ends_all_of_it() {
    let long = frame(kind::HEADERS, 0, 1, &[0; 10]);
    for (bytes, code) in [
        (data(0, 0, b"x"), Code::ProtocolError),
        (data(2, 0, b"x"), Code::ProtocolError),
        (data(9, 0, b"x"), Code::ProtocolError),
        (data(1, flag::PADDED, b"\x05x"), Code::ProtocolError),
        (headers(0, 0, OK), Code::ProtocolError),
        (headers(9, 0, OK), Code::ProtocolError),
        (headers(1, 0, &[0xff; 9]), Code::CompressionError),
        (headers(1, 0, &[0xbe]), Code::CompressionError),
        ([long.clone(), data(1, 0, b"x")].concat(), Code::ProtocolError),
        ([long.clone(), headers(3, 0, OK)].concat(), Code::ProtocolError),
        ([long.clone(), frame(kind::CONTINUATION, 0, 3, b"")].concat(), Code::ProtocolError),
        (frame(kind::CONTINUATION, flag::END_HEADERS, 1, OK), Code::ProtocolError),
        (frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), Code::ProtocolError),
        (frame(kind::PING, 0, 0, b"short"), Code::FrameSizeError),
        (frame(kind::PING, 0, 1, b"12345678"), Code::ProtocolError),
        (frame(kind::RST_STREAM, 0, 1, b"no"), Code::FrameSizeError),
        (number(kind::RST_STREAM, 9, 0), Code::ProtocolError),
        (number(kind::RST_STREAM, 0, 0), Code::ProtocolError),
        (frame(kind::SETTINGS, 0, 0, &[0; 5]), Code::FrameSizeError),
        (frame(kind::SETTINGS, 0, 1, &[0; 6]), Code::ProtocolError),
        (frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Code::FrameSizeError),
        (settings(&[(setting::ENABLE_PUSH, 1)]), Code::ProtocolError),
        (settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]), Code::FlowControlError),
        (settings(&[(setting::MAX_FRAME_SIZE, 100)]), Code::ProtocolError),
        (settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]), Code::ProtocolError),
        (
            [number(kind::WINDOW_UPDATE, 1, MOST - WINDOW as u32), settings(&[(setting::INITIAL_WINDOW_SIZE, MOST)])].concat(),
            Code::FlowControlError,
        ),
        (number(kind::WINDOW_UPDATE, 0, 0), Code::ProtocolError),
        (number(kind::WINDOW_UPDATE, 0, MOST), Code::FlowControlError),
        (number(kind::WINDOW_UPDATE, 9, 1), Code::ProtocolError),
        (frame(kind::WINDOW_UPDATE, 0, 0, b"12345"), Code::FrameSizeError),
        (frame(kind::GOAWAY, 0, 0, b"short"), Code::FrameSizeError),
        (frame(kind::GOAWAY, 0, 1, &[0; 8]), Code::ProtocolError),
        (frame(kind::PRIORITY, 0, 0, &[0; 5]), Code::ProtocolError),
        (frame(kind::PRIORITY, 0, 1, &[0; 4]), Code::FrameSizeError),
        (frame(0xbe, 0, 0, &[0; PAYLOAD_MOST + 1]), Code::FrameSizeError),
    ] {
        let mut peer = Peer::new(2, b"");
        peer.says(&bytes);
        let said = &bytes[..bytes.len().min(40)];
        assert_eq!(peer.fault, Some(Fault { end: End::RuleBroken(code), code }), "{said:x?}");
        assert_eq!((peer.end(0), peer.end(1)), (End::RuleBroken(code), End::RuleBroken(code)), "{said:x?}");
    }
}

#[test]
fn more_than_was_allowed_is_a_fault_of_flow_control() {
    let mut peer = Peer::new(1, b"");
    peer.connection.receive_window = 4;
    peer.says(&headers(1, 0, OK)).says(&data(1, 0, b"12345"));
    assert_eq!(peer.end(0), End::RuleBroken(Code::FlowControlError));
}

#[test]
fn who_does_not_greet_in_http2_does_not_speak_it() {
    for bytes in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &frame(kind::PING, 0, 0, b"12345678"), &frame(kind::SETTINGS, 0, 1, b"")]
    {
        let mut peer = Peer::ungreeted(1, b"");
        peer.says(bytes);
        assert_eq!(peer.end(0), End::NotHttp2);
        let open = peer.connection.poll_open(&Context::from_waker(Waker::noop()));
        assert_eq!(open, Poll::Ready(Err(End::NotHttp2)));
    }
    let mut peer = Peer::ungreeted(1, b"");
    peer.says(&goaway(0, Code::InadequateSecurity));
    assert_eq!(peer.end(0), End::GoneAway(Code::InadequateSecurity), "one that leaves at once says why");
}

/// Everything that a peer can repeat for ever ends, and holds no more than a bounded number of bytes until then.
#[test]
fn a_flood_ends_the_connection() {
    let closed = [headers(1, flag::END_STREAM, OK), data(1, 0, b"for nobody")].concat();
    for (first, repeated) in [
        (vec![], frame(kind::PING, 0, 0, b"12345678")),
        (vec![], settings(&[(99, 9)])),
        (vec![], frame(kind::SETTINGS, flag::ACK, 0, b"")),
        (vec![], frame(kind::PRIORITY, 0, 3, &[0; 5])),
        (vec![], number(kind::WINDOW_UPDATE, 3, 1)),
        (vec![], number(kind::WINDOW_UPDATE, 0, 1)),
        (vec![], goaway(99, Code::NoError)),
        (vec![], frame(0xbe, 0, 0, b"")),
        (headers(3, 0, OK), data(3, 0, b"")),
        (headers(3, 0, OK), data(3, flag::PADDED, &[9; 10])),
        (vec![], headers(3, 0, &block(&[(":status", "100")]))),
        (closed, data(1, 0, &[b'x'; PAYLOAD_MOST])),
        (number(kind::RST_STREAM, 1, 8), headers(1, 0, OK)),
        (number(kind::RST_STREAM, 1, 8), number(kind::RST_STREAM, 1, 8)),
    ] {
        let mut peer = Peer::new(2, b"");
        peer.says(&first);
        let mut said = 0;
        while peer.fault.is_none() {
            peer.says(&repeated);
            peer.written();
            said += 1;
            assert!(said <= 10_001, "{repeated:x?} goes on for ever");
        }
        assert_eq!(peer.end(1), End::RuleBroken(Code::EnhanceYourCalm), "{repeated:x?}");
    }
}

/// Goal: a service whose every answer comes after its request was given up is slow, and no more than that.
#[test]
fn answers_that_come_too_late_are_no_flood() {
    let mut peer = Peer::new(0, b"");
    let slot = peer.connection.link();
    for n in 0..6_000 {
        peer.connection.begin(slot, first());
        peer.connection.cancel(slot);
        peer.says(&headers(2 * n + 1, 0, OK)).says(&data(2 * n + 1, flag::END_STREAM, b"late"));
        peer.written();
        assert_eq!(peer.fault, None, "after {n} requests");
    }
}

/// Bodies of requests that are over leave nothing behind, even where no window ever opens for them.
#[test]
fn a_body_that_is_given_up_is_forgotten() {
    let mut peer = Peer::new(0, &[b'x'; 1_000]);
    peer.connection.window = 0;
    peer.slots = (0..2).map(|_| peer.connection.link()).collect();
    peer.connection.begin(peer.slots[0], first());
    for n in 1..=100 {
        peer.connection.begin(peer.slots[1], first());
        match n % 3 {
            0 => peer.connection.cancel(peer.slots[1]),
            1 => {
                peer.says(&number(kind::RST_STREAM, 2 * n + 1, 7));
            }
            _ => {
                peer.says(&headers(2 * n + 1, flag::END_STREAM, OK));
            }
        }
        assert_eq!(peer.connection.bodies.len(), 1, "after {n} requests");
    }
    peer.says(&number(kind::WINDOW_UPDATE, 0, 1_000)).written();
    assert_eq!(peer.connection.bodies.len(), 0, "the one that is wanted went out");
}

#[test]
fn a_head_that_does_not_end_is_too_large() {
    for part in [&[][..], &[0x88], &[0; 4_000]] {
        let mut peer = Peer::new(2, b"");
        peer.says(&frame(kind::HEADERS, 0, 1, OK));
        let mut parts = 0;
        while peer.fault.is_none() {
            peer.says(&frame(kind::CONTINUATION, 0, 1, part));
            parts += 1;
            assert!(parts <= 64, "{} bytes at a time go on for ever", part.len());
        }
        assert_eq!((peer.end(0), peer.end(1)), (End::HeadTooLarge, End::RuleBroken(Code::EnhanceYourCalm)));
    }
}

/// However much there is to be sent, what the peer says meanwhile is heard: only what it makes us say in turn is a reason not to.
#[test]
fn requests_that_wait_to_be_written_do_not_keep_answers_from_being_read() {
    let mut peer = Peer::ungreeted(0, &vec![b'x'; 1 << 20]);
    peer.says(&settings(&[(setting::INITIAL_WINDOW_SIZE, MOST)])).says(&number(kind::WINDOW_UPDATE, 0, 1 << 24));
    peer.slots = (0..4).map(|_| peer.connection.link()).collect();
    for slot in peer.slots.clone() {
        peer.connection.begin(slot, first());
    }
    peer.connection.advance();
    let queued = peer.connection.out.rest().len();
    assert!(queued >= 64 * 1024 && !peer.connection.out.is_full(), "{queued}");
    for _ in 0..1_000 {
        peer.says(&frame(kind::PING, 0, 0, b"12345678"));
    }
    assert!(!peer.connection.out.is_full(), "there is room to answer what is read");
}

#[test]
fn a_peer_that_does_not_read_is_not_written_to() {
    let mut peer = Peer::new(0, b"");
    let slot = peer.connection.link();
    // Requests that are begun and given up, as timeouts do, and nothing is ever written.
    for _ in 0..100_000 {
        peer.connection.begin(slot, first());
        peer.connection.cancel(slot);
    }
    let queued = peer.connection.out.rest().len();
    assert!(!peer.connection.out.takes_requests() && queued < 150 * 1024, "{queued}");
    assert!(peer.connection.waiting.is_empty());
    peer.connection.begin(slot, first());
    peer.written();
    peer.connection.advance();
    assert_eq!(peer.kinds(), [kind::HEADERS], "it goes on once there is room");
}

/// Frames that are nearly sound, so that more of them get through than of bytes at random.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        3 => Just(OK.to_vec()),
        1 => Just(block(&[(":status", "200"), ("content-length", "3"), ("x-pod", "a")])),
        1 => Just([&[0x88, 0x40, 5][..], b"x-pod\x01b"].concat()),
        1 => Just(vec![0x88, 0x80 | 62]),
        1 => Just(block(&[(":status", "103")])),
        2 => Just(b"abc".to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 4..=4),
        1 => proptest::collection::vec(any::<u8>(), 8..=8),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let stream = prop_oneof![6 => Just(1u32), 3 => Just(3), 2 => Just(5), 3 => Just(0), 1 => Just(7), 1 => 0..20u32];
    let flags = prop_oneof![Just(0u8), Just(4), Just(5), Just(1), any::<u8>()];
    let frame = (0..=10u8, flags, stream, payload).prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    proptest::collection::vec(frame, 0..30).prop_map(|frames| frames.concat())
}

/// Whatever is said, in whatever pieces: no panic, and the same end of every request and the same words back.
fn same_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let mut cuts = cuts.iter().cycle().copied();
    let whole = heard(greeted(), bytes, &mut |rest| rest.len());
    let pieces = heard(greeted(), bytes, &mut |_| cuts.next().expect("a cycle does not end"));
    prop_assert_eq!(whole, pieces);
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_say_the_same(bytes: Vec<u8>, cuts in proptest::collection::vec(1..30usize, 1..20)) {
        same_in_pieces(&bytes, &cuts)?;
    }

    #[test]
    fn any_frames_in_any_pieces_say_the_same(bytes in frames(), cuts in proptest::collection::vec(1..30usize, 1..20)) {
        same_in_pieces(&bytes, &cuts)?;
    }
}

/// Goal: what was on its way for who gave up is no flood, however small its pieces, and what never ends is one. How: six megabytes in pieces
/// of a hundred bytes, as a kernel may hold, for a request that was cancelled; then the longest frames without end.
#[test]
fn what_was_on_its_way_is_no_flood() {
    let mut peer = Peer::new(2, b"");
    peer.says(&headers(1, 0, OK));
    let slot = peer.slots[0];
    peer.connection.cancel(slot);
    let piece = data(1, 0, &[b'x'; 100]);
    for _ in 0..60_000 {
        peer.says(&piece);
    }
    peer.says(&headers(3, flag::END_STREAM, OK));
    assert_eq!((peer.end(1), peer.fault), (End::Answered(200), None));
    let longest = data(1, 0, &[b'x'; PAYLOAD_MOST]);
    for _ in 0..10_100 {
        peer.says(&longest);
    }
    assert_eq!(peer.fault.map(|fault| fault.code), Some(Code::EnhanceYourCalm));
}

/// Goal: a frame of settings costs what it makes us do. How: the most that fit into one, and four of those.
#[test]
fn settings_are_counted_one_by_one() {
    let many = settings(&vec![(setting::INITIAL_WINDOW_SIZE, 1); PAYLOAD_MOST / 6]);
    let mut peer = Peer::new(1, b"");
    peer.says(&many);
    assert_eq!(peer.fault, None);
    for _ in 0..3 {
        peer.says(&many);
    }
    assert_eq!(peer.fault.map(|fault| fault.code), Some(Code::EnhanceYourCalm));
}

/// Goal: who speaks something else is told from who hangs up, even where that has fewer bytes than a frame's head: what a server of TLS says
/// to a greeting of HTTP/2.
#[test]
fn a_few_bytes_of_another_protocol_are_enough() {
    let mut peer = Peer::ungreeted(1, b"");
    peer.says(&[0x15, 3, 1]);
    assert_eq!(peer.fault, None);
    peer.says(&[0, 2, 2, 0x16]);
    assert_eq!(peer.fault.map(|fault| fault.end), Some(End::NotHttp2));
}

#[test]
fn who_closes_in_a_head_has_not_left_it_unanswered() {
    let mut peer = Peer::new(2, b"");
    peer.says(&headers(1, flag::END_STREAM, OK)).says(&frame(kind::HEADERS, 0, 3, OK));
    peer.connection.cut_head();
    assert_eq!((peer.end(0), peer.end(1)), (End::Answered(200), End::ClosedMidHead));
}
