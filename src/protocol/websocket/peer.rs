//! A connection whose peer is the fuzzer.

use std::future::poll_fn;

use super::connection::Connection;
use super::upgrade::{self, Said, Told};
use crate::answers::BodyChecks;
use crate::protocol::stream::Stream;
use crate::protocol::{End, Identity, Progress};

/// The answer to the key of the standard's example.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What is made of an answer to a handshake: what is said of a beginning is said of the whole.
pub(in crate::protocol) fn answers_the_handshake(bytes: &[u8], beginning: usize) {
    let read = |bytes| upgrade::read(bytes, ACCEPT, b"chat, superchat", "x-pod");
    let (begun, whole) = (read(&bytes[..beginning.min(bytes.len())]), read(bytes));
    if let Ok(Some(told)) = begun {
        let whole = whole.expect("what has begun well").expect("what was whole before more came");
        match (told, whole) {
            // A beginning has less of what comes after the head.
            (Told::Whole(Said::Yes { identity, rest }), Told::Whole(Said::Yes { identity: same, rest: more })) => {
                assert_eq!(identity, same);
                assert!(more.starts_with(&rest));
            }
            (told, whole) => assert_eq!(told, whole),
        }
    }
}

/// Exchanges over `stream`, each of which waits for a message with a `y`, until it is over: how it ended, how many there were, and how many
/// messages came. Not what the last one had of its own by then: that hangs on when it is looked at, and is asked where time is up.
pub(in crate::protocol) async fn heard(stream: Stream) -> (End, u32, u32) {
    let expect = BodyChecks { contains: Some("y".into()), ..BodyChecks::default() };
    let mut connection = Connection::new(stream, Vec::new(), Identity::UNKNOWN);
    let (mut exchanges, mut messages) = (0, 0);
    loop {
        let mut progress = Progress::default();
        connection.begin(false);
        let answer = poll_fn(|cx| connection.poll_answer(|message| super::meets(message, Some(&expect)), &mut progress, cx)).await;
        connection.rest();
        (exchanges, messages) = (exchanges + 1, messages + progress.messages);
        if let Err(end) = answer {
            return (end, exchanges, messages);
        }
    }
}
