//! A request as frames, written once for the whole run: its header block is literals and places of the static table, which are the
//! same bytes on every stream. What is left to do per request is to write the stream's number into it; and, where something in it
//! differs from request to request, to compose the frames anew in a buffer of the stream's own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::frame::{HEAD, Head, PAYLOAD_MOST, flag, kind};
use super::hpack;
use crate::answers::Hears;
use crate::grpc::{self, Answers};
use crate::plan::{self, Request, Talk};
use crate::protocol::{Destination, Outline, Scheme};
use crate::target;
use crate::time::monotonic_now;
use crate::varying::{self, Form, Names, Values, template};

/// A request, ready to be put on any stream.
pub(super) struct Template {
    written: Written,
    /// Its answer has no body, whatever the answer's head says.
    pub(super) asks_head: bool,
    /// What is listened to of its answer.
    pub(super) hears: Hears,
    /// It is a call of gRPC, with so many messages in its answer.
    pub(super) call: Option<Answers>,
}

enum Written {
    /// Always the same frames.
    Fixed(Frames),
    Varying(Varying),
}

/// A request whose frames hang on its values.
struct Varying {
    /// The header block, in parts.
    block: Vec<Field>,
    body: Body,
}

/// What comes after the head.
enum Body {
    Text(varying::Template),
    /// A message, with its length before it.
    Message(grpc::Template),
}

/// Bytes before a message of gRPC: that it is not compressed, and its length.
const PREFIX: usize = 5;

/// A part of a header block.
enum Field {
    /// Fields that are always the same.
    Fixed(Vec<u8>),
    /// One that differs: its name as it is written, and its value.
    Varying(Vec<u8>, varying::Template),
    /// How long the body is: its name.
    Length(Vec<u8>),
    /// The cookies, where there are any: its name, and which value holds them.
    Cookies(Vec<u8>, usize),
    /// How long an answer is waited for: its name, and the value when it has just come due.
    Timeout(Vec<u8>, Countdown),
}

/// What is left of the time that an answer may take, as gRPC says it: digits and a unit, always as many as these. They are written anew
/// for each request, since it may have waited before it is sent.
#[derive(Clone, Copy)]
struct Countdown {
    whole: Duration,
    unit: u8,
}

impl Countdown {
    /// The most that gRPC takes.
    const DIGITS: usize = 8;
    /// With the unit.
    const LENGTH: usize = Countdown::DIGITS + 1;

    /// In microseconds where they have room.
    fn of(whole: Duration) -> Countdown {
        Countdown { whole, unit: if whole < Duration::from_secs(100) { b'u' } else { b'm' } }
    }

    /// Writes what is `left`, rounded up, so that a server never gives up first; at least one, since none is not allowed.
    fn write(self, left: Duration, digits: &mut [u8]) {
        let unit = if self.unit == b'u' { 1_000 } else { 1_000_000 };
        let mut count = left.as_nanos().div_ceil(unit).max(1);
        for digit in digits[..Countdown::DIGITS].iter_mut().rev() {
            *digit = b'0' + (count % 10) as u8;
            count /= 10;
        }
        digits[Countdown::DIGITS] = self.unit;
    }
}

/// The frames of one request.
#[derive(Default)]
pub(super) struct Frames {
    /// One HEADERS frame and as many CONTINUATION frames as its length takes.
    head: Vec<u8>,
    /// Where the frames start.
    starts: Vec<usize>,
    /// Where in the head the time that is left stands, if it does.
    countdown: Option<(usize, Countdown)>,
    pub(super) body: Vec<u8>,
    /// The header block before it is cut into frames.
    block: Vec<u8>,
}

impl Template {
    /// The frames of the request of `outline` on their way to `destination`.
    ///
    /// # Errors
    /// When it cannot be sent as written.
    pub(super) fn new(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Template> {
        let request = &*outline.request;
        let (varying, call) = match &request.talk {
            Talk::Grpc(call) => {
                let known = call.known.as_ref();
                let known =
                    known.with_context(|| format!("the types of `{}` are not known: they must be asked for first", call.method))?;
                let (block, message) = (call_block(destination, outline, names)?, known.message.template(names));
                (Varying { block, body: Body::Message(message) }, Some(known.answers))
            }
            Talk::WebSocket(_) => {
                bail!("an exchange over a WebSocket is no request of HTTP/2: this is a bug in squall, please report it")
            }
            Talk::Http => {
                let body = Body::Text(varying::Template::of_body(&request.body, names));
                (Varying { block: block(destination, outline, names)?, body }, None)
            }
        };
        let (asks_head, hears) = (request.method == "HEAD", request.wanted.hears());
        if !varying.is_fixed() {
            return Ok(Template { written: Written::Varying(varying), asks_head, hears, call });
        }
        let mut frames = Frames::default();
        varying.compose(&Values::default(), &mut frames);
        frames.block = Vec::new();
        Ok(Template { written: Written::Fixed(frames), asks_head, hears, call })
    }

    /// Puts the frames with `values` in them into `own`, where they are not the same for every request.
    pub(super) fn compose(&self, values: &Values, own: &mut Option<Box<Frames>>) {
        if let Written::Varying(varying) = &self.written {
            varying.compose(values, own.get_or_insert_default());
        }
    }

    /// Its frames: the stream's own, where they were composed for it.
    pub(super) fn frames<'f>(&'f self, own: &'f Option<Box<Frames>>) -> &'f Frames {
        match (&self.written, own) {
            (Written::Fixed(frames), _) => frames,
            (Written::Varying(_), Some(own)) => own,
            (Written::Varying(_), None) => unreachable!("an exchange that begins has composed its request"),
        }
    }
}

impl Body {
    fn is_fixed(&self) -> bool {
        match self {
            Body::Text(text) => text.fixed().is_some(),
            Body::Message(message) => message.is_fixed(),
        }
    }

    fn write(&self, values: &Values, out: &mut Vec<u8>) {
        match self {
            Body::Text(text) => text.render(values, out),
            Body::Message(message) => {
                out.extend_from_slice(&[0; PREFIX]);
                message.write(values, out);
                let length = (out.len() - PREFIX) as u32;
                out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
            }
        }
    }
}

impl Varying {
    fn is_fixed(&self) -> bool {
        self.body.is_fixed() && !self.block.iter().any(|field| matches!(field, Field::Varying(..) | Field::Cookies(..)))
    }

    fn compose(&self, values: &Values, into: &mut Frames) {
        let Frames { head, starts, countdown, body, block } = into;
        starts.clear();
        [&mut *head, body, block].into_iter().for_each(Vec::clear);
        self.body.write(values, body);
        for field in &self.block {
            match field {
                Field::Fixed(bytes) => block.extend_from_slice(bytes),
                Field::Varying(name, value) => {
                    block.extend_from_slice(name);
                    hpack::write_length(block, value.length(values));
                    value.render(values, block);
                }
                Field::Cookies(name, index) => {
                    let cookies = values.get(*index);
                    if !cookies.is_empty() {
                        block.extend_from_slice(name);
                        hpack::write_length(block, cookies.len());
                        block.extend_from_slice(cookies);
                    }
                }
                Field::Length(name) => {
                    block.extend_from_slice(name);
                    let digits = body.len().checked_ilog10().unwrap_or(0) + 1;
                    hpack::write_length(block, digits as usize);
                    template::write_number(body.len() as u64, block);
                }
                Field::Timeout(name, time) => {
                    block.extend_from_slice(name);
                    hpack::write_length(block, Countdown::LENGTH);
                    let at = block.len();
                    block.resize(at + Countdown::LENGTH, 0);
                    time.write(time.whole, &mut block[at..]);
                    // It stands among the first fields; where those are longer than a frame, what it says stays as it is.
                    *countdown = (block.len() <= PAYLOAD_MOST).then_some((HEAD + at, *time));
                }
            }
        }
        let parts = block.chunks(PAYLOAD_MOST);
        let last = parts.len() - 1;
        for (n, part) in parts.enumerate() {
            starts.push(head.len());
            let end_stream = if n == 0 && body.is_empty() { flag::END_STREAM } else { 0 };
            let end_headers = if n == last { flag::END_HEADERS } else { 0 };
            let kind = if n == 0 { kind::HEADERS } else { kind::CONTINUATION };
            Head { length: part.len(), kind, flags: end_stream | end_headers, stream: 0 }.write(head);
            head.extend_from_slice(part);
        }
    }
}

impl Frames {
    /// Puts the head on `stream`; its answer is waited for until `deadline`.
    pub(super) fn write(&self, out: &mut Vec<u8>, stream: u32, deadline: Option<Instant>) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        if let (Some((at, time)), Some(deadline)) = (self.countdown, deadline) {
            let left = deadline.saturating_duration_since(monotonic_now()).min(time.whole);
            time.write(left, &mut out[start + at..start + at + Countdown::LENGTH]);
        }
        for frame in &self.starts {
            out[start + frame + HEAD - 4..start + frame + HEAD].copy_from_slice(&stream.to_be_bytes());
        }
    }

    /// Bytes of the head.
    pub(super) fn length(&self) -> usize {
        self.head.len()
    }
}

/// The pseudo-fields, which come first.
fn pseudo(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Vec<Field>> {
    let request = &*outline.request;
    ensure!(
        !request.method.is_empty() && request.method.bytes().all(|byte| byte.is_ascii_uppercase()),
        "`{}` is not a method: write one as in GET",
        request.method
    );
    // A dynamic table of no size, whatever size the peer allows: one that allows less than usual must be told of it at the start of the
    // next block (RFC 7541, section 4.2), and may be told each time.
    let mut start = vec![0x20];
    hpack::write_known(&mut start, ":method", &request.method);
    hpack::write_known(&mut start, ":scheme", if destination.scheme == Scheme::Https { "https" } else { "http" });
    let mut block = vec![Field::Fixed(start)];
    // What HTTP/1.1 calls `Host` is said here (RFC 9113, section 8.3.1).
    let authority = given(request, "host").map_or_else(|| template::escaped(&destination.authority()), str::to_owned);
    block.push(field(":authority", varying::Template::new(&authority, Form::Header, names)));
    block.push(field(":path", outline.path.clone()));
    Ok(block)
}

/// The value of a header that the plan gives.
fn given<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// What the plan gives, as fields.
fn fields(request: &Request, protocol: plan::Protocol, names: &Names, block: &mut Vec<Field>) -> Result<()> {
    for (name, value) in request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        target::header(name, value).and_then(|()| protocol.header(name, value)).map_err(|why| anyhow!(why))?;
        block.push(field(&name.to_ascii_lowercase(), varying::Template::new(value.trim(), Form::Header, names)));
    }
    Ok(())
}

const AGENT: &[u8] = concat!("squall/", env!("CARGO_PKG_VERSION")).as_bytes();

fn block(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Vec<Field>> {
    let request = &*outline.request;
    let mut block = pseudo(destination, outline, names)?;
    let mut usual = Vec::new();
    if given(request, "user-agent").is_none() {
        hpack::write(&mut usual, "user-agent", AGENT);
    }
    if given(request, "accept").is_none() {
        hpack::write(&mut usual, "accept", b"*/*");
    }
    if let Some(codings) = outline.codings() {
        hpack::write(&mut usual, "accept-encoding", codings.as_bytes());
    }
    block.push(Field::Fixed(usual));
    fields(request, plan::Protocol::Http2, names, &mut block)?;
    // Where content is expected, its absence is said too (RFC 9110, section 8.6).
    if !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        let mut name = Vec::new();
        hpack::write_name(&mut name, "content-length");
        block.push(Field::Length(name));
    }
    if let Some(index) = outline.cookies {
        let mut name = Vec::new();
        hpack::write_name(&mut name, "cookie");
        block.push(Field::Cookies(name, index));
    }
    Ok(block)
}

/// The head of a call, in the order in which gRPC wants it.
fn call_block(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Vec<Field>> {
    let request = &*outline.request;
    let mut block = pseudo(destination, outline, names)?;
    let mut name = Vec::new();
    hpack::write_name(&mut name, "grpc-timeout");
    block.push(Field::Timeout(name, Countdown::of(request.timeout.duration())));
    let mut usual = Vec::new();
    hpack::write(&mut usual, "te", b"trailers");
    hpack::write(&mut usual, "content-type", b"application/grpc");
    if given(request, "user-agent").is_none() {
        hpack::write(&mut usual, "user-agent", AGENT);
    }
    block.push(Field::Fixed(usual));
    fields(request, plan::Protocol::Grpc, names, &mut block)?;
    Ok(block)
}

/// One field, as it is written.
fn field(name: &str, value: varying::Template) -> Field {
    let mut bytes = Vec::new();
    match value.fixed().map(str::from_utf8) {
        Some(Ok(text)) => hpack::write_known(&mut bytes, name, text),
        _ => {
            hpack::write_name(&mut bytes, name);
            return Field::Varying(bytes, value);
        }
    }
    Field::Fixed(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Wanted;
    use crate::plan::Request;
    use crate::protocol::http2::hpack::Decoder;
    use crate::protocol::{Trust, outline};
    use crate::units::Span;

    fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
        Request {
            method: method.into(),
            path: path.into(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: body.into(),
            timeout: Span::from_secs(1),
            wanted: Wanted::default(),
            talk: Talk::Http,
        }
    }

    fn template(url: &str, request: &Request) -> Result<Template> {
        let destination = Destination::read(url, Trust::default()).expect("a URL");
        let outlines = outline::all(&destination, std::slice::from_ref(request), &[])?;
        Template::new(&destination, &outlines[0], &[])
    }

    /// The frames on stream 5 and, as text, the header block in them.
    fn written(template: &Template) -> (Vec<Head>, String) {
        on_a_stream(template.frames(&None))
    }

    fn on_a_stream(frames: &Frames) -> (Vec<Head>, String) {
        let mut bytes = b"before".to_vec();
        frames.write(&mut bytes, 5, None);
        let (mut heads, mut block) = (Vec::new(), Vec::new());
        let mut rest = &bytes[6..];
        assert_eq!(rest.len(), frames.length());
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::read(head);
            block.extend(&after[..head.length]);
            rest = &after[head.length..];
            heads.push(head);
        }
        let mut text = String::new();
        let read = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Decoder::default()
            .read(&block, |name, value| text += &format!("{}: {}\n", read(name), read(value)))
            .expect("a block that can be read");
        (heads, text)
    }

    #[test]
    fn requests_are_complete() {
        let agent = concat!("user-agent: squall/", env!("CARGO_PKG_VERSION"), "\n");
        let get = template("http://shop:8080/api/", &request("GET", "/cart?a=b", &[("X-Tenant", "gold")], "")).expect("a request");
        let (heads, text) = written(&get);
        let start = ":method: GET\n:scheme: http\n:authority: shop:8080\n:path: /api/cart?a=b\n";
        assert_eq!(text, format!("{start}{agent}accept: */*\nx-tenant: gold\n"));
        assert_eq!((heads.len(), heads[0].kind, heads[0].stream), (1, kind::HEADERS, 5));
        assert_eq!(heads[0].flags, flag::END_STREAM | flag::END_HEADERS);

        let post = template("https://shop/", &request("POST", "/", &[("HOST", "other"), ("Accept", "a/b")], "hello"));
        let (heads, text) = written(post.as_ref().expect("a request"));
        let start = ":method: POST\n:scheme: https\n:authority: other\n:path: /\n";
        assert_eq!(text, format!("{start}{agent}accept: a/b\ncontent-length: 5\n"));
        assert_eq!(heads[0].flags, flag::END_HEADERS, "the body is still to come");
    }

    /// Goal: a request with values in it is whole, its length included, and what was composed last leaves nothing behind.
    #[test]
    fn what_differs_is_put_into_each_request() {
        let names = ["item".to_owned(), "user".to_owned()];
        let put = request("PUT", "/items/{{item}}", &[("X-User", " u {{ user }} ")], "{{user}}");
        let destination = Destination::read("https://shop/a{{b", Trust::default()).expect("a URL");
        let requests = [put];
        let outlines = outline::all(&destination, &requests, &names).expect("an outline");
        let template = Template::new(&destination, &outlines[0], &names).expect("a request");
        let agent = concat!("user-agent: squall/", env!("CARGO_PKG_VERSION"), "\n");
        let mut own = None;
        let long = "x".repeat(2 * PAYLOAD_MOST);
        for (item, user, path, frames) in [("7", long.as_str(), "7", 3), ("a b", "ann", "a%20b", 1), ("", "", "", 1)] {
            let mut values = Values::default();
            [item, user].iter().for_each(|value| values.push(|out| out.extend_from_slice(value.as_bytes())));
            template.compose(&values, &mut own);
            let (heads, text) = on_a_stream(template.frames(&own));
            let start =
                format!(":method: PUT\n:scheme: https\n:authority: shop\n:path: /a{{{{b/items/{path}\n{agent}accept: */*\n");
            assert_eq!(text, format!("{start}x-user: u {user}\ncontent-length: {}\n", user.len()));
            assert_eq!((heads.len(), heads[0].flags & flag::END_STREAM != 0), (frames, user.is_empty()));
            assert_eq!(template.frames(&own).body, user.as_bytes());
        }
    }

    #[test]
    fn a_head_that_is_longer_than_a_frame_is_continued() {
        let long = "x".repeat(2 * PAYLOAD_MOST);
        let get = template("http://shop/", &request("GET", "/", &[("x-long", &long)], "")).expect("a request");
        let (heads, text) = written(&get);
        let kinds: Vec<u8> = heads.iter().map(|head| head.kind).collect();
        assert_eq!(kinds, [kind::HEADERS, kind::CONTINUATION, kind::CONTINUATION]);
        assert!(heads.iter().all(|head| head.stream == 5));
        let flags: Vec<u8> = heads.iter().map(|head| head.flags).collect();
        assert_eq!(flags, [flag::END_STREAM, 0, flag::END_HEADERS]);
        assert!(text.contains(&long));
    }

    /// A server whose table is smaller than usual must be told that it is not used, before anything else (RFC 7541, section 4.2).
    #[test]
    fn every_block_begins_by_emptying_the_dynamic_table() {
        for request in [request("GET", "/", &[], ""), request("POST", "/", &[("x-tenant", "gold")], "hello")] {
            let template = template("http://shop/", &request).expect("a request");
            assert_eq!(template.frames(&None).head[HEAD], 0x20);
        }
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        for (bad, says) in [
            (request("GET", "/ HTTP/1.1\r\nx: y", &[], ""), "is not a path"),
            (request("GET", "cart", &[], ""), "is not a path"),
            (request("GET /", "/", &[], ""), "is not a method"),
            (request("GET", "/", &[("a b", "c")], ""), "is not a header name"),
            (request("GET", "/", &[(":path", "/b")], ""), "is not a header name"),
            (request("GET", "/", &[("token", "s3cret\r\nx: y")], ""), "control character"),
            (request("GET", "/", &[("Keep-Alive", "5")], ""), "HTTP/1.1 alone"),
            (request("GET", "/", &[("TE", "gzip")], ""), "`trailers`"),
        ] {
            let error = template("http://shop/", &bad).err().expect("a bad request").to_string();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
    }
}
