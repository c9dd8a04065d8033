//! gRPC: HTTP/2 in which a body is messages and the trailers say how a call ended. What is sent, and how frames are read, is HTTP/2's
//! own affair; here is what they mean.

pub(super) mod messages;
pub(super) mod reflection;
mod status;

pub(super) use messages::Messages;
pub use reflection::{Unlearnt, learn};
pub use status::Status;

use super::{End, RetryAfter};
use crate::grpc::Answers;

/// What the fields of an answer said of the call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// How it ended, as the trailers have it.
    after_all: Option<Status>,
    /// The same in the head.
    at_once: Option<Status>,
    /// The head says that the body is messages.
    pub(super) messages: bool,
    /// It says when to come again, which is gRPC's Retry-After.
    pub(super) pushback: Option<RetryAfter>,
}

impl Said {
    /// Notes down a field of the head.
    pub(super) fn hear(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"content-type" => self.messages = is_content(value),
            b"grpc-status" => self.at_once = Some(Status::read(value)),
            _ => self.hear_end(name, value),
        }
    }

    /// Notes down a field of the trailers.
    pub(super) fn hear_end(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"grpc-status" => self.after_all = Some(Status::read(value)),
            b"grpc-retry-pushback-ms" => self.pushback = Some(RetryAfter::pushback(value)),
            _ => {}
        }
    }

    /// How it ended: what a head says of that counts where there are `no_messages`.
    pub(super) fn status(&self, no_messages: bool) -> Option<Status> {
        self.after_all.or(self.at_once.filter(|_| no_messages))
    }

    /// How a call ended whose answer is all there. `http` is the status of HTTP, which should always be 200.
    ///
    /// # Errors
    /// Why the answer is none.
    pub(super) fn end(&self, http: u16, messages: &Messages, answers: Answers) -> Result<Status, End> {
        match self.status(messages.count() == 0 && !messages.is_cut()) {
            None if http != 200 => Err(End::HttpStatus(http)),
            None if !self.messages => Err(End::NotGrpc),
            None => Err(End::NoGrpcStatus),
            Some(Status::Ok) if http != 200 => Err(End::HttpStatus(http)),
            Some(Status::Ok) if !self.messages => Err(End::NotGrpc),
            Some(Status::Ok) if messages.is_cut() => Err(End::MessageCut),
            Some(Status::Ok) if answers == Answers::One && messages.count() == 0 => Err(End::NoMessage),
            Some(Status::Ok) if answers == Answers::One && messages.count() > 1 => Err(End::SeveralMessages),
            Some(status) => Ok(status),
        }
    }
}

/// `application/grpc`, with or without the format of its messages and parameters.
fn is_content(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b'+' | b';' | b' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[(&str, &str)], trailers: &[(&str, &str)]) -> Said {
        let mut said = Said::default();
        fields.iter().for_each(|(name, value)| said.hear(name.as_bytes(), value.as_bytes()));
        trailers.iter().for_each(|(name, value)| said.hear_end(name.as_bytes(), value.as_bytes()));
        said
    }

    fn messages(bytes: &[u8]) -> Messages {
        let mut messages = Messages::default();
        messages.feed(bytes).expect("messages");
        messages
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");
    const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

    #[test]
    fn a_server_may_say_when_to_come_again() {
        assert!(said(&[GRPC], &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "100")]).pushback.is_some());
        assert!(said(&[GRPC, ("grpc-retry-pushback-ms", "100")], &[]).pushback.is_some());
        assert!(said(&[GRPC], &[("grpc-status", "14")]).pushback.is_none());
    }

    #[test]
    fn a_call_ends_as_its_trailers_say_if_the_rest_is_what_was_asked_for() {
        let ok = [("grpc-status", "0")];
        let one = messages(EMPTY);
        for (said, http, messages, end) in [
            (said(&[GRPC], &ok), 200, &one, Ok(Status::Ok)),
            (said(&[GRPC, ok[0]], &[]), 200, &messages(b""), Err(End::NoMessage)),
            (said(&[GRPC], &ok), 200, &messages(&[EMPTY, EMPTY].concat()), Err(End::SeveralMessages)),
            (said(&[GRPC], &ok), 200, &messages(&[EMPTY, b"\x00\x00"].concat()), Err(End::MessageCut)),
            (said(&[GRPC], &[]), 200, &one, Err(End::NoGrpcStatus)),
            (said(&[("content-type", "text/html")], &[]), 200, &one, Err(End::NotGrpc)),
            (said(&[("content-type", "application/grpcish")], &[]), 200, &one, Err(End::NotGrpc)),
            (said(&[], &[]), 502, &one, Err(End::HttpStatus(502))),
            (said(&[], &ok), 204, &one, Err(End::HttpStatus(204))),
            (said(&[], &ok), 200, &one, Err(End::NotGrpc)),
            // What a head says before messages is no end of them.
            (said(&[GRPC, ok[0]], &[]), 200, &one, Err(End::NoGrpcStatus)),
            (said(&[GRPC, ok[0]], &[("grpc-status", "13")]), 200, &one, Ok(Status::Internal)),
            // Only what ends well has to have a message, and a status says more than that of HTTP.
            (said(&[GRPC, ("grpc-status", "5")], &[]), 200, &messages(b""), Ok(Status::NotFound)),
            (said(&[("grpc-status", "14")], &[]), 503, &messages(b""), Ok(Status::Unavailable)),
        ] {
            assert_eq!(said.end(http, messages, Answers::One), end, "{said:?}");
        }
        for count in 0..3 {
            let many = messages(&EMPTY.repeat(count));
            assert_eq!(said(&[GRPC], &ok).end(200, &many, Answers::Stream), Ok(Status::Ok));
        }
    }
}
