//! A request that is an exchange over a WebSocket: where it is, what is sent, and which message is waited for.

use super::super::body::{FILE_MOST, WrittenBody};
use super::super::tree::Id;
use super::super::written::WrittenRequest;
use super::super::{Exchange, Payload, Protocol, Request, Talk, WEBSOCKET};
use super::{Desk, call, load, transport, wanted};
use crate::answers::Wanted;
use crate::target;
use crate::units::Span;
use crate::varying::template::{self, Part};

/// Reports what belongs to exchanges, and stands in a request that is none.
pub(super) fn unasked(desk: &mut Desk<'_>, written: &WrittenRequest) {
    if let Some(path) = &written.websocket {
        desk.wrong(path.at, "a WebSocket goes with `protocol: websocket`").help = Some("say that in the load".into());
    } else if let Some(send) = &written.send {
        desk.wrong(send.at, "`send` belongs to a WebSocket").help = Some(
            "say `websocket: /path`, and `protocol: websocket` in the load; what a request of HTTP sends is its `body`".into(),
        );
    }
}

/// The request of a load that speaks over WebSockets. `given` is whether there is one at all: that there is none has been reported.
pub(super) fn request(desk: &mut Desk<'_>, written: WrittenRequest, at: Id, given: bool, timeout: Span) -> Request {
    strangers(desk, &written);
    call::unasked(desk, &written);
    let path = path(desk, &written, at, given);
    let headers = load::headers(desk, written.headers, "header", Protocol::WebSocket);
    let expect = written.expect.and_then(|expect| {
        let written = expect.value;
        let status = written.status.as_ref().map(|status| ("status", status.at));
        let header = written.header.0.first().map(|(name, _)| ("header", name.at));
        let body = written.body.as_ref().map(|body| ("body", body.at));
        for (key, at) in [status, header, body].into_iter().flatten() {
            desk.wrong(at, format!("`{key}` is of an answer of HTTP, and this load waits for a message")).help =
                Some("say which, as in `expect: {message: {contains: pong}}`".into());
        }
        written.message.map(|message| wanted::checks(message.value))
    });
    let send = written.send.map(|send| payload(desk, send.value));
    let talk = Talk::WebSocket(Exchange { send, expect });
    Request { method: WEBSOCKET.into(), path, headers, body: Vec::new(), timeout, wanted: Wanted::default(), talk }
}

/// What HTTP has, and a WebSocket does not.
fn strangers(desk: &mut Desk<'_>, written: &WrittenRequest) {
    for (method, path) in written.methods() {
        desk.wrong(path.at, format!("`{}` is HTTP's, and this load speaks over a WebSocket", method.to_lowercase())).help =
            Some("write `websocket: /path`".into());
    }
    let others = [
        ("body", written.body.as_ref().map(|body| body.at), "write `send: text`"),
        ("redirects", written.redirects.as_ref().map(|redirects| redirects.at), "leave it out: a handshake is not led elsewhere"),
        ("gzip", written.gzip.as_ref().map(|gzip| gzip.at), "leave it out: messages come as they are"),
    ];
    for (key, at, help) in others {
        if let Some(at) = at {
            desk.wrong(at, format!("`{key}` is HTTP's, and this load speaks over a WebSocket")).help = Some(help.into());
        }
    }
}

fn path(desk: &mut Desk<'_>, written: &WrittenRequest, at: Id, given: bool) -> String {
    let Some(path) = &written.websocket else {
        if given && !written.says_what() && !desk.is_left_out(at, &["websocket"]) {
            desk.wrong(at, "the request names no WebSocket").help =
                Some("say where it is, as in `websocket: /live`, and what is sent, as in `send: ping`".into());
        }
        return "/".to_owned();
    };
    // Braces that name nothing have been reported.
    let whole = !template::parts(&path.value).contains(&Part::Broken);
    if let Err(error) = target::path(&template::sample(&path.value))
        && whole
    {
        desk.wrong(path.at, error);
    }
    path.value.clone()
}

fn payload(desk: &mut Desk<'_>, written: WrittenBody) -> Payload {
    match written {
        WrittenBody::Text(text) => Payload::Text(text.0),
        WrittenBody::File(file) => {
            Payload::Binary(transport::bytes(desk, file.at, &file.value, "message", FILE_MOST).unwrap_or_default())
        }
    }
}
