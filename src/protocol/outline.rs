//! A request before a protocol writes it down: its parts, with the path in full. Where redirects are followed, the requests after them
//! are prepared here too: the same, and a GET in its place, to a path that is told when it is known.

use std::borrow::Cow;

use anyhow::{Result, ensure};

use super::Destination;
use crate::answers::Wanted;
use crate::plan::Request;
use crate::varying::{COOKIES, Form, LOCATION, Names, Template, template};

/// One request.
pub(super) struct Outline<'r> {
    pub(super) request: Cow<'r, Request>,
    /// All of its path, the target's own before it.
    pub(super) path: Template,
    /// Which value holds the cookies that go with it, where any may.
    pub(super) cookies: Option<usize>,
}

/// The places of the two requests that may follow a redirect.
#[derive(Clone, Copy)]
pub(super) struct After {
    /// The same, with its body.
    pub(super) same: usize,
    /// A GET without one.
    pub(super) get: usize,
}

/// Headers that speak of a body, which a GET after a redirect has none of.
const OF_THE_BODY: [&str; 4] = ["content-type", "content-encoding", "content-language", "content-location"];

/// The outlines of `requests`, in their order, and after them those of what may follow a redirect: see [`afters`].
pub(super) fn all<'r>(destination: &Destination, requests: &'r [Request], names: &Names) -> Result<Vec<Outline<'r>>> {
    let cookies = |request: &Request| place_of(names, COOKIES).filter(|_| request.wanted.cookies && !has(request, "cookie"));
    let mut all = Vec::new();
    for request in requests {
        let path = path(destination, request, names)?;
        all.push(Outline { request: Cow::Borrowed(request), path, cookies: cookies(request) });
    }
    for request in requests.iter().filter(|request| request.wanted.redirects > 0) {
        let place = place_of(names, LOCATION);
        ensure!(
            place.is_some(),
            "redirects are followed and nothing holds where they lead: this is a bug in squall, please report it"
        );
        let to = || place.map(|place| Template::value(place, Form::Path)).unwrap_or_default();
        all.push(Outline { request: Cow::Borrowed(request), path: to(), cookies: cookies(request) });
        all.push(Outline { request: Cow::Owned(as_get(request)), path: to(), cookies: cookies(request) });
    }
    Ok(all)
}

/// For each of `requests`, which of their outlines follow a redirect, where any does.
pub(super) fn afters(requests: &[Request]) -> Vec<Option<After>> {
    let mut next = requests.len();
    let after = |request: &Request| {
        (request.wanted.redirects > 0).then(|| {
            next += 2;
            After { same: next - 2, get: next - 1 }
        })
    };
    requests.iter().map(after).collect()
}

fn as_get(request: &Request) -> Request {
    let headers = request.headers.iter().filter(|(name, _)| !OF_THE_BODY.iter().any(|of| name.eq_ignore_ascii_case(of)));
    Request { method: "GET".to_owned(), headers: headers.cloned().collect(), body: Vec::new(), ..request.clone() }
}

/// The path of `request` at `destination`.
pub(super) fn path(destination: &Destination, request: &Request, names: &Names) -> Result<Template> {
    let path = format!("{}{}", template::escaped(&destination.base_path), request.path);
    let sample = template::sample(&path);
    ensure!(
        sample.starts_with('/') && sample.bytes().all(|byte| byte.is_ascii_graphic()),
        "`{path}` is not a path: it starts with `/` and has no space (write %20 for one)"
    );
    Ok(Template::new(&path, Form::Path, names))
}

/// Whether a request has a header of its own.
fn has(request: &Request, name: &str) -> bool {
    request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
}

pub(super) fn place_of(names: &Names, name: &str) -> Option<usize> {
    names.iter().position(|known| known == name)
}

impl Outline<'_> {
    /// Whether the plan gives it this header.
    pub(super) fn gives(&self, name: &str) -> bool {
        has(&self.request, name)
    }

    /// The codings that it asks for by itself.
    pub(super) fn codings(&self) -> Option<&'static str> {
        let Wanted { gzip, .. } = self.request.wanted;
        (gzip && !self.gives("accept-encoding")).then_some("gzip")
    }
}
