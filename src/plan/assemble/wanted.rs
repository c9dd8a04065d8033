//! What a request wants of its answer: what is expected, what is followed.

use super::super::expect::{WrittenBodyChecks, WrittenExpect};
use super::super::written::WrittenRequest;
use super::{Desk, Located};
use crate::answers::{BodyChecks, Expect, Wanted};
use crate::target;

/// The most redirects that are followed: browsers follow twenty.
const REDIRECTS_MOST: u32 = 20;

/// Reads it, and takes it out of what is written.
pub(super) fn wanted(desk: &mut Desk<'_>, written: &mut WrittenRequest) -> Wanted {
    let redirects = written.redirects.take();
    if let Some(redirects) = redirects.as_ref().filter(|redirects| redirects.value > REDIRECTS_MOST) {
        desk.wrong(redirects.at, format!("{} redirects: at most {REDIRECTS_MOST}, as browsers follow", redirects.value));
    }
    let redirects = redirects.map_or(0, |redirects| redirects.value);
    let gzip = written.gzip.take();
    let asks = |name: &str| written.headers.0.iter().any(|(given, _)| given.value.eq_ignore_ascii_case(name));
    if let Some(gzip) = gzip.as_ref().filter(|gzip| gzip.value && asks("accept-encoding")) {
        desk.wrong(gzip.at, "the request has a header `accept-encoding` of its own").help = Some("leave out one of the two".into());
    }
    let expect = written.expect.take();
    if let Some(expect) = &expect {
        consistent(desk, expect, written, redirects);
    }
    let expect = expect.map(|expect| read(desk, expect.value)).unwrap_or_default();
    Wanted { expect, redirects, gzip: gzip.is_some_and(|gzip| gzip.value), ..Wanted::default() }
}

/// What is expected can come to pass.
fn consistent(desk: &mut Desk<'_>, expect: &Located<WrittenExpect>, request: &WrittenRequest, redirects: u32) {
    let heads = request.methods().iter().any(|(method, _)| *method == "HEAD");
    if let Some(message) = expect.message.as_ref().filter(|_| request.websocket.is_none()) {
        desk.wrong(message.at, "an answer of HTTP has a body, and no messages").help = Some("write `expect: {body: ...}`".into());
    }
    if let Some(body) = expect.body.as_ref().filter(|_| heads) {
        desk.wrong(body.at, "the answer to a HEAD has no body").help = Some("ask with `get`, or look at headers alone".into());
    }
    if let Some(statuses) = expect.status.as_ref().filter(|_| redirects > 0) {
        let followed = [301, 302, 303, 307, 308].into_iter().find(|status| statuses.0.iter().any(|known| known.has(*status)));
        if let Some(status) = followed {
            desk.wrong(statuses.at, format!("an answer with status {status} is followed and not looked at")).help =
                Some("expect what comes after the redirects, or leave out `redirects`".into());
        }
    }
}

fn read(desk: &mut Desk<'_>, written: WrittenExpect) -> Expect {
    let mut headers = Vec::new();
    for (name, matcher) in written.header.0 {
        header_name(desk, &name);
        headers.push((name.value.to_ascii_lowercase(), matcher.value.0));
    }
    Expect {
        statuses: written.status.map(|statuses| statuses.value.0).unwrap_or_default(),
        headers,
        body: written.body.map(|body| checks(body.value)),
    }
}

/// The name of a header that an answer may have.
pub(super) fn header_name(desk: &mut Desk<'_>, name: &Located<String>) {
    if !target::is_header_name(&name.value) {
        desk.wrong(name.at, format!("`{}` is not a header name", name.value));
    }
}

pub(super) fn checks(written: WrittenBodyChecks) -> BodyChecks {
    BodyChecks {
        contains: written.contains.map(|text| text.0),
        regex: written.regex.map(|pattern| pattern.0),
        json: written.json.0.into_iter().map(|(path, matcher)| (path.value.0, matcher.value.0)).collect(),
    }
}
