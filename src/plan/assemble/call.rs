//! A request that calls a method of gRPC: which one, with what, and where its types come from.

use super::super::problem::proposal;
use super::super::tree::Id;
use super::super::written::WrittenRequest;
use super::super::{Protocol, Request, Talk};
use super::{Desk, Located, load, transport};
use crate::answers::Wanted;
use crate::grpc::{Call, DESCRIPTORS_MOST, Descriptors, Json, MethodName, Part, Types, Wrong};
use crate::units::Span;

/// Reports what belongs to calls, and stands in a request that is none.
pub(super) fn unasked(desk: &mut Desk<'_>, written: &WrittenRequest) {
    if let Some(grpc) = &written.grpc {
        desk.wrong(grpc.at, "a call of gRPC goes with `protocol: grpc`").help = Some("say that in the load".into());
        return;
    }
    let places = [
        ("message", written.message.as_ref().map(|message| message.at)),
        ("metadata", written.metadata.0.first().map(|(name, _)| name.at)),
        ("descriptors", written.descriptors.as_ref().map(|file| file.at)),
        ("reflection", written.reflection.as_ref().map(|reflection| reflection.at)),
    ];
    for (key, place) in places {
        if let Some(at) = place {
            desk.wrong(at, format!("`{key}` belongs to a call of gRPC")).help =
                Some("say `grpc: package.Service/Method`, and `protocol: grpc` in the load".into());
        }
    }
}

/// The request of a load that speaks gRPC. `given` is whether there is one at all: that there is none has been reported.
pub(super) fn request(desk: &mut Desk<'_>, written: WrittenRequest, at: Id, given: bool, timeout: Span) -> Request {
    strangers(desk, &written);
    let types = types(desk, &written, at);
    let method = method(desk, &written, at, given);
    let metadata = load::headers(desk, written.metadata, "key", Protocol::Grpc);
    let path = method.as_ref().map_or_else(|| "/".to_owned(), |method| method.path());
    let talk = method.zip(types).map_or(Talk::Http, |(method, types)| {
        let message = written.message.map_or_else(|| Json::empty(at), Located::json);
        let mut call = Call { method, types, message, known: None };
        if let (Some(file), Some(grpc)) = (&written.descriptors, &written.grpc) {
            call.known = descriptors(desk, file).and_then(|descriptors| {
                let resolved = call.resolve(&descriptors);
                resolved.map_err(|wrongs| wrongs.into_iter().for_each(|wrong| report(desk, wrong, grpc.at, file.at))).ok()
            });
        }
        Talk::Grpc(call)
    });
    Request { method: "POST".into(), path, headers: metadata, body: Vec::new(), timeout, talk, wanted: Wanted::default() }
}

/// What HTTP has other words for.
fn strangers(desk: &mut Desk<'_>, written: &WrittenRequest) {
    let methods =
        written.methods().into_iter().map(|(method, path)| (method.to_lowercase(), path.at, "grpc: package.Service/Method"));
    let headers = written.headers.0.first().map(|(name, _)| ("headers".to_owned(), name.at, "metadata: {key: value}"));
    let body = written.body.as_ref().map(|body| ("body".to_owned(), body.at, "message: {field: value}"));
    let others =
        [("websocket", written.websocket.as_ref().map(|path| path.at)), ("send", written.send.as_ref().map(|send| send.at))];
    for (key, at) in others.into_iter().filter_map(|(key, at)| Some((key, at?))) {
        desk.wrong(at, format!("`{key}` belongs to a WebSocket, and this load speaks gRPC")).help =
            Some("say `protocol: websocket`, or what is called in `grpc` and `message`".into());
    }
    for (key, at, instead) in methods.chain(headers).chain(body) {
        desk.wrong(at, format!("`{key}` is HTTP's, and this load speaks gRPC")).help = Some(format!("write `{instead}`"));
    }
    let answers = [
        ("expect", written.expect.as_ref().map(|expect| expect.at)),
        ("redirects", written.redirects.as_ref().map(|redirects| redirects.at)),
        ("gzip", written.gzip.as_ref().map(|gzip| gzip.at)),
    ];
    for (key, at) in answers.into_iter().filter_map(|(key, at)| Some((key, at?))) {
        desk.wrong(at, format!("`{key}` is HTTP's, and this load speaks gRPC")).help =
            Some("leave it out: a call is ok where its status is".into());
    }
}

fn method(desk: &mut Desk<'_>, written: &WrittenRequest, at: Id, given: bool) -> Option<MethodName> {
    let Some(grpc) = &written.grpc else {
        if given && written.methods().is_empty() && !desk.is_left_out(at, &["grpc"]) {
            desk.wrong(at, "the request names no method").help = Some("say what is called, as in `grpc: shop.Checkout/Pay`".into());
        }
        return None;
    };
    match grpc.value.parse() {
        Ok(method) => Some(method),
        Err(why) => {
            let why: String = why;
            desk.wrong(grpc.at, why);
            None
        }
    }
}

fn types(desk: &mut Desk<'_>, written: &WrittenRequest, at: Id) -> Option<Types> {
    const HOW: &str = "name a file as in `descriptors: shop.protoset`, or say `reflection: true` to ask the server";
    match (&written.descriptors, &written.reflection) {
        (Some(_), Some(reflection)) => {
            desk.wrong(reflection.at, "types come from a file or from the server, not from both").help =
                Some("leave out `descriptors` or `reflection`".into());
            None
        }
        (Some(file), None) => Some(Types::File(file.value.clone())),
        (None, Some(reflection)) if reflection.value => Some(Types::Reflection),
        (None, Some(reflection)) => {
            desk.wrong(reflection.at, "without reflection, a file must say the types").help = Some(HOW.into());
            None
        }
        (None, None) => {
            if written.grpc.is_some() && !desk.is_left_out(at, &["descriptors", "reflection"]) {
                desk.wrong(at, "nothing says the types of what is called").help = Some(HOW.into());
            }
            None
        }
    }
}

/// The types in a file beside the plan, where it is to be run; every reason why there are none has been reported.
fn descriptors(desk: &mut Desk<'_>, file: &Located<String>) -> Option<Descriptors> {
    let bytes = transport::bytes(desk, file.at, &file.value, "descriptor set", DESCRIPTORS_MOST)?;
    Descriptors::read(&bytes).map_err(|wrong| report(desk, wrong, file.at, file.at)).ok()
}

fn report(desk: &mut Desk<'_>, wrong: Wrong, method: Id, descriptors: Id) {
    let at = match wrong.of {
        Part::Descriptors => descriptors,
        Part::Method => method,
        Part::Message(at, _) => at,
    };
    let near = wrong.choice.and_then(|(word, choices)| proposal(&word, choices.iter().map(String::as_str)));
    desk.wrong(at, wrong.message).help = wrong.help.or(near);
}
