//! How one exchange ended, as a small closed set: what a request counts as ([`Outcome`]) and the word that the recording gives as
//! its cause. Bounded on purpose: no message of a peer ever becomes a key.

use std::borrow::Cow;
use std::io;

use super::{Breach, Closing, Code, Refusal, Status};
use crate::answers::{Expect, Flaw};
use crate::recording::Outcome;

/// The end of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum End {
    /// A whole answer, with this status.
    Answered(u16),
    /// A whole answer, with a status that its plan says is good although it usually is not.
    AsExpected(u16),
    /// A whole answer, and not one as was asked for.
    Flawed(Flaw),

    ConnectionRefused,
    Unreachable,
    Reset,
    /// The peer closed before the first byte of an answer.
    ClosedUnanswered,
    ClosedMidHead,
    ClosedMidBody,
    /// Not an answer in this protocol.
    Garbage,
    HeadTooLarge,
    BodyTooLarge,
    /// The peer speaks something else.
    NotHttp2,
    /// The peer did not agree to it by ALPN.
    Http2NotAgreed,
    /// The peer ended this request's stream.
    StreamReset(Code),
    /// The peer said that it would leave: it has not looked at this request, or it left for an error before it had answered.
    GoneAway(Code),
    /// The peer broke a rule of its protocol, and this is what it was told.
    RuleBroken(Code),
    /// The proxy did not open the way to the target.
    Proxy(Refusal),
    /// A whole answer to a call, which ended so.
    Called(Status),
    /// An answer of HTTP to a call, with this status: from something before the service, most likely.
    HttpStatus(u16),
    /// The answer to a call is no messages.
    NotGrpc,
    /// The answer to a call ended without saying how.
    NoGrpcStatus,
    /// What stands before a message is nothing that may.
    MessageMalformed,
    /// A message is compressed, which nobody asked for.
    MessageCompressed,
    MessageTooLarge,
    /// The call ended in the middle of a message, and well.
    MessageCut,
    /// The call ended well, without its answer.
    NoMessage,
    /// The call ended well, with more than its answer.
    SeveralMessages,
    /// The message of a WebSocket that was waited for.
    Message,
    /// An answer of HTTP with this status where a WebSocket was asked for.
    UpgradeRefused(u16),
    /// The peer closed the WebSocket, and said why.
    Closed(Closing),
    /// The peer broke a rule of WebSockets.
    WebSocketBroken(Breach),
    TlsFailed,
    CertificateNotTrusted,
    CertificateForAnotherName,
    CertificateExpired,
    /// The server wants to see a certificate, and was shown none.
    CertificateRequired,
    /// The server does not like the certificate that it was shown.
    CertificateRefused,
    /// Anything else that the operating system said.
    Broken,

    /// No connection (TCP and TLS), or no room on one, before the request's time was up.
    NoConnectionInTime,
    NoAnswerInTime,
    AnswerUnfinishedInTime,
    /// Messages came, and none that is as was asked for.
    NoneAsExpectedInTime,
    /// The run was stopped while the request was out.
    StoppedInFlight,

    /// More requests were due and not ended than the plan allows.
    InFlightBound,
    /// Its time was up before one of the connections that the plan allows was free.
    ConnectionBound,
    /// Its time was up before the generator came to it.
    GeneratorLate,
    FileDescriptors,
    LocalPorts,
    Memory,
    /// Each row of its feed is used once, and there is none left for it.
    FeedUsedUp,
    /// The run was stopped before it could be sent.
    Stopped,
    /// A worker panicked over it.
    Bug,
}

impl From<Flaw> for End {
    fn from(flaw: Flaw) -> End {
        End::Flawed(flaw)
    }
}

impl End {
    /// How an answer with `status` ends a request that has this to say of statuses.
    pub fn of_status(status: u16, expect: &Expect) -> End {
        match (expect.names(status), End::Answered(status).outcome()) {
            (Some(true), Outcome::Failed | Outcome::Rejected) => End::AsExpected(status),
            (Some(false), Outcome::Ok) => End::Flawed(Flaw::Status(status)),
            _ => End::Answered(status),
        }
    }

    /// What the request counts as.
    pub fn outcome(self) -> Outcome {
        match self {
            End::Answered(200..=399) | End::AsExpected(_) | End::Message => Outcome::Ok,
            End::Answered(429 | 503) | End::HttpStatus(429 | 503) | End::UpgradeRefused(429 | 503) => Outcome::Rejected,
            // "Not now", in the words of WebSockets.
            End::Closed(Closing::TRY_AGAIN_LATER) => Outcome::Rejected,
            End::Called(Status::Ok) => Outcome::Ok,
            // What a proxy says in the place of 429 and 503 when it speaks gRPC, and what servers say that have too much to do.
            End::Called(Status::ResourceExhausted | Status::Unavailable) => Outcome::Rejected,
            // The server gave it up for the time that it was told.
            End::Called(Status::DeadlineExceeded) => Outcome::TimedOut,
            // "Not now", in the words of HTTP/2: nothing was done for the request (RFC 9113, section 8.7), or too much was asked for.
            End::StreamReset(Code::RefusedStream | Code::EnhanceYourCalm) => Outcome::Rejected,
            End::GoneAway(Code::NoError | Code::RefusedStream | Code::EnhanceYourCalm) => Outcome::Rejected,
            End::Answered(_)
            | End::Flawed(_)
            | End::ConnectionRefused
            | End::Unreachable
            | End::Reset
            | End::ClosedUnanswered
            | End::ClosedMidHead
            | End::ClosedMidBody
            | End::Garbage
            | End::HeadTooLarge
            | End::BodyTooLarge
            | End::NotHttp2
            | End::Http2NotAgreed
            | End::StreamReset(_)
            | End::GoneAway(_)
            | End::RuleBroken(_)
            | End::Proxy(_)
            | End::Called(_)
            | End::HttpStatus(_)
            | End::NotGrpc
            | End::NoGrpcStatus
            | End::MessageMalformed
            | End::MessageCompressed
            | End::MessageTooLarge
            | End::MessageCut
            | End::NoMessage
            | End::SeveralMessages
            | End::UpgradeRefused(_)
            | End::Closed(_)
            | End::WebSocketBroken(_)
            | End::TlsFailed
            | End::CertificateNotTrusted
            | End::CertificateForAnotherName
            | End::CertificateExpired
            | End::CertificateRequired
            | End::CertificateRefused
            | End::Broken => Outcome::Failed,
            End::NoConnectionInTime
            | End::NoAnswerInTime
            | End::AnswerUnfinishedInTime
            | End::NoneAsExpectedInTime
            | End::StoppedInFlight => Outcome::TimedOut,
            End::InFlightBound
            | End::ConnectionBound
            | End::GeneratorLate
            | End::FileDescriptors
            | End::LocalPorts
            | End::Memory
            | End::FeedUsedUp
            | End::Stopped
            | End::Bug => Outcome::Unsent,
        }
    }

    /// Why it did not end `ok`; `None` when it did.
    pub fn cause(self) -> Option<Cow<'static, str>> {
        let cause = match self {
            End::Answered(200..=399) | End::AsExpected(_) | End::Called(Status::Ok) | End::Message => return None,
            End::Answered(status) => return Some(Cow::Owned(format!("status {status}"))),
            End::Flawed(flaw) => return Some(flaw.words()),
            End::ConnectionRefused => "connection refused",
            End::Unreachable => "unreachable",
            End::Reset => "reset",
            End::ClosedUnanswered => "closed before an answer",
            End::ClosedMidHead => "closed mid-head",
            End::ClosedMidBody => "closed mid-body",
            End::Garbage => "garbage",
            End::HeadTooLarge => "head too large",
            End::BodyTooLarge => "body too large",
            End::NotHttp2 => "not http/2",
            End::Http2NotAgreed => "http/2 not agreed",
            End::StreamReset(code) => return Some(Cow::Owned(format!("stream reset: {}", code.words()))),
            End::GoneAway(code) => return Some(Cow::Owned(format!("going away: {}", code.words()))),
            End::RuleBroken(code) => return Some(Cow::Owned(format!("http/2 rule broken: {}", code.words()))),
            End::Proxy(Refusal::Status(407)) => "proxy wants credentials",
            End::Proxy(Refusal::Status(status)) => return Some(Cow::Owned(format!("proxy refused: status {status}"))),
            End::Proxy(Refusal::Unreachable) => "proxy unreachable",
            End::Proxy(Refusal::Closed) => "closed by the proxy",
            End::Proxy(Refusal::Garbage) => "garbage from the proxy",
            End::Called(status) => return Some(Cow::Owned(format!("grpc {}", status.name()))),
            End::HttpStatus(status) => return Some(Cow::Owned(format!("http status {status}"))),
            End::NotGrpc => "content is not grpc",
            End::NoGrpcStatus => "no grpc-status",
            End::MessageMalformed => "malformed message",
            End::MessageCompressed => "compressed message, unasked",
            End::MessageTooLarge => "message too large",
            End::MessageCut => "message cut short",
            End::NoMessage => "no message",
            End::SeveralMessages => "more than one message",
            End::UpgradeRefused(status) => return Some(Cow::Owned(format!("upgrade refused: status {status}"))),
            End::Closed(closing) => return Some(Cow::Owned(format!("closed: {}", closing.words()))),
            End::WebSocketBroken(breach) => return Some(Cow::Owned(format!("websocket rule broken: {}", breach.words()))),
            End::TlsFailed => "tls handshake failed",
            End::CertificateNotTrusted => "certificate not trusted",
            End::CertificateForAnotherName => "certificate for another name",
            End::CertificateExpired => "certificate expired",
            End::CertificateRequired => "certificate required by the server",
            End::CertificateRefused => "our certificate refused by the server",
            End::Broken => "connection broken",
            End::NoConnectionInTime => "no connection in time",
            End::NoAnswerInTime => "no answer in time",
            End::AnswerUnfinishedInTime => "answer unfinished in time",
            End::NoneAsExpectedInTime => "no message as expected in time",
            End::StoppedInFlight => "stopped in flight",
            End::InFlightBound => "in-flight bound",
            End::ConnectionBound => "connection bound",
            End::GeneratorLate => "generator late",
            End::FileDescriptors => "file descriptors",
            End::LocalPorts => "local ports",
            End::Memory => "memory",
            End::FeedUsedUp => "feed used up",
            End::Stopped => "stopped",
            End::Bug => "bug in squall",
        };
        Some(Cow::Borrowed(cause))
    }

    /// What an error of the operating system means for a request.
    pub(super) fn of_error(error: &io::Error) -> End {
        use rustix::io::Errno;
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => End::FileDescriptors,
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => End::LocalPorts,
            Some(Errno::NOBUFS | Errno::NOMEM) => End::Memory,
            Some(Errno::CONNREFUSED) => End::ConnectionRefused,
            Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => End::Reset,
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN) => End::Unreachable,
            // The kernel's own patience with a peer that stopped acknowledging.
            Some(Errno::TIMEDOUT) => End::Unreachable,
            _ => End::of_tls(error),
        }
    }

    fn of_tls(error: &io::Error) -> End {
        use rustls::{AlertDescription as Alert, CertificateError as Bad};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            None => End::Broken,
            Some(rustls::Error::InvalidCertificate(bad)) => match bad {
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => End::CertificateForAnotherName,
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    End::CertificateExpired
                }
                _ => End::CertificateNotTrusted,
            },
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                Alert::NoApplicationProtocol => End::Http2NotAgreed,
                Alert::CertificateRequired => End::CertificateRequired,
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA => End::CertificateRefused,
                _ => End::TlsFailed,
            },
            // In a handshake that is a handshake's: see `Stream::open`.
            Some(_) => End::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_into_outcomes() {
        for (status, outcome) in [
            (200, Outcome::Ok),
            (204, Outcome::Ok),
            (302, Outcome::Ok),
            (399, Outcome::Ok),
            (400, Outcome::Failed),
            (404, Outcome::Failed),
            (429, Outcome::Rejected),
            (500, Outcome::Failed),
            (502, Outcome::Failed),
            (503, Outcome::Rejected),
            (504, Outcome::Failed),
            (999, Outcome::Failed),
        ] {
            assert_eq!(End::Answered(status).outcome(), outcome, "{status}");
            assert_eq!(End::Answered(status).cause().is_none(), outcome == Outcome::Ok, "{status}");
        }
    }

    /// Goal: a plan can say which statuses are good; what backs off because it is asked to still does not count as broken.
    #[test]
    fn expected_statuses_are_good_and_the_others_are_what_they_were() {
        use crate::answers::Statuses;
        let expect = Expect { statuses: vec![Statuses::Class(2), Statuses::One(404), Statuses::One(503)], ..Expect::default() };
        for (status, outcome, cause) in [
            (200, Outcome::Ok, None),
            (404, Outcome::Ok, None),
            (503, Outcome::Ok, None),
            (302, Outcome::Failed, Some("status 302")),
            (500, Outcome::Failed, Some("status 500")),
            (429, Outcome::Rejected, Some("status 429")),
        ] {
            let end = End::of_status(status, &expect);
            assert_eq!((end.outcome(), end.cause().as_deref()), (outcome, cause), "{status}");
            assert_eq!(End::of_status(status, &Expect::default()), End::Answered(status));
        }
    }

    #[test]
    fn what_a_service_has_not_looked_at_is_rejected_and_what_it_broke_off_has_failed() {
        for (end, outcome, cause) in [
            (End::StreamReset(Code::RefusedStream), Outcome::Rejected, "stream reset: refused stream"),
            (End::StreamReset(Code::EnhanceYourCalm), Outcome::Rejected, "stream reset: enhance your calm"),
            (End::StreamReset(Code::InternalError), Outcome::Failed, "stream reset: internal error"),
            (End::StreamReset(Code::NoError), Outcome::Failed, "stream reset: no error"),
            (End::GoneAway(Code::NoError), Outcome::Rejected, "going away: no error"),
            (End::GoneAway(Code::ProtocolError), Outcome::Failed, "going away: protocol error"),
            (End::RuleBroken(Code::EnhanceYourCalm), Outcome::Failed, "http/2 rule broken: enhance your calm"),
        ] {
            assert_eq!((end.outcome(), end.cause().as_deref()), (outcome, Some(cause)));
        }
    }

    #[test]
    fn a_call_counts_as_its_status_says() {
        for (end, outcome, cause) in [
            (End::Called(Status::Ok), Outcome::Ok, None),
            (End::Called(Status::ResourceExhausted), Outcome::Rejected, Some("grpc RESOURCE_EXHAUSTED")),
            (End::Called(Status::Unavailable), Outcome::Rejected, Some("grpc UNAVAILABLE")),
            (End::Called(Status::DeadlineExceeded), Outcome::TimedOut, Some("grpc DEADLINE_EXCEEDED")),
            (End::Called(Status::NotFound), Outcome::Failed, Some("grpc NOT_FOUND")),
            (End::HttpStatus(200), Outcome::Failed, Some("http status 200")),
            (End::HttpStatus(302), Outcome::Failed, Some("http status 302")),
            (End::HttpStatus(503), Outcome::Rejected, Some("http status 503")),
            (End::NoGrpcStatus, Outcome::Failed, Some("no grpc-status")),
        ] {
            assert_eq!((end.outcome(), end.cause().as_deref()), (outcome, cause));
        }
    }

    #[test]
    fn our_own_limits_are_never_the_service_s_fault() {
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::ADDRNOTAVAIL, rustix::io::Errno::NOBUFS] {
            assert_eq!(End::of_error(&errno.into()).outcome(), Outcome::Unsent, "{errno:?}");
        }
        for errno in [rustix::io::Errno::CONNREFUSED, rustix::io::Errno::CONNRESET, rustix::io::Errno::HOSTUNREACH] {
            assert_eq!(End::of_error(&errno.into()).outcome(), Outcome::Failed, "{errno:?}");
        }
    }

    /// Goal: who reads why something was not sent is told what to do, and nothing else is taken for that.
    #[test]
    fn every_end_that_was_not_sent_has_a_limit_and_only_those() {
        use crate::recording::fact::LIMITS;
        let unsent = [
            End::InFlightBound,
            End::ConnectionBound,
            End::GeneratorLate,
            End::FileDescriptors,
            End::LocalPorts,
            End::Memory,
            End::FeedUsedUp,
            End::Stopped,
            End::Bug,
        ];
        let causes: Vec<_> = unsent.iter().filter_map(|end| end.cause()).collect();
        assert_eq!(causes, LIMITS.map(|(limit, _)| limit));
        assert!(unsent.iter().all(|end| end.outcome() == Outcome::Unsent));
        let sent = [End::Answered(500), End::Reset, End::Garbage, End::NoAnswerInTime, End::StoppedInFlight, End::Broken];
        assert!(sent.iter().all(|end| !LIMITS.iter().any(|(limit, _)| Some(*limit) == end.cause().as_deref())));
    }
}
