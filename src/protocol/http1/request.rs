//! A request as bytes, written once for the whole run, or taken apart once where something in it differs from request to request. What
//! the plan says goes first; what it leaves out and the standard asks for (`Host`, `Content-Length`) is added.

use anyhow::{Result, anyhow, ensure};

use crate::protocol::{Destination, Outline, Scheme};
use crate::proxy::Proxy;
use crate::target;
use crate::varying::{Form, Names, Template, Values, template};

/// A request, ready to be sent any number of times.
pub(super) enum Written {
    /// Always the same bytes.
    Fixed(Vec<u8>),
    Varying(Varying),
}

/// A request whose bytes hang on its values.
pub(super) struct Varying {
    /// All before the length of the body.
    head: Template,
    /// Which value holds its cookies, where it may have any.
    cookies: Option<usize>,
    says_length: bool,
    body: Template,
}

impl Varying {
    /// Puts the request with `values` in it into `out`, whatever was there before.
    pub(super) fn compose(&self, values: &Values, out: &mut Vec<u8>) {
        out.clear();
        self.head.render(values, out);
        if let Some(cookies) = self.cookies.map(|index| values.get(index)).filter(|cookies| !cookies.is_empty()) {
            out.extend_from_slice(b"Cookie: ");
            out.extend_from_slice(cookies);
            out.extend_from_slice(b"\r\n");
        }
        if self.says_length {
            out.extend_from_slice(b"Content-Length: ");
            template::write_number(self.body.length(values) as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.body.render(values, out);
    }
}

/// The request of `outline` on its way to `destination`, with `names` in it.
pub(super) fn write(destination: &Destination, outline: &Outline<'_>, names: &Names) -> Result<Written> {
    let request = &outline.request;
    ensure!(is_token(&request.method), "`{}` is not a method: write one as in GET", request.method);
    // A proxy is told the whole URL, and who asks; unless it only hands on bytes.
    let proxy = destination.proxy.as_ref().filter(|_| destination.scheme == Scheme::Http);
    let mut head = Template::default();
    head.push_text(format!("{} ", request.method).as_bytes());
    if proxy.is_some() {
        head.push_text(format!("http://{}", destination.authority()).as_bytes());
    }
    head.push(outline.path.clone());
    head.push_text(b" HTTP/1.1\r\n");
    let given = |name: &str| outline.gives(name);
    if !given("host") {
        head.push_text(format!("Host: {}\r\n", destination.authority()).as_bytes());
    }
    if !given("user-agent") {
        head.push_text(concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
    }
    if !given("accept") {
        head.push_text(b"Accept: */*\r\n");
    }
    if let Some(known) = proxy.and_then(Proxy::authorization).filter(|_| !given("proxy-authorization")) {
        head.push_text(format!("Proxy-Authorization: {known}\r\n").as_bytes());
    }
    if let Some(codings) = outline.codings() {
        head.push_text(format!("Accept-Encoding: {codings}\r\n").as_bytes());
    }
    for (name, value) in &request.headers {
        target::header(name, value).map_err(|why| anyhow!(why))?;
        head.push_text(format!("{name}: ").as_bytes());
        head.push(Template::new(value, Form::Header, names));
        head.push_text(b"\r\n");
    }
    // Where content is expected, its absence is said too (RFC 9110, section 8.6).
    let says_length = !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let body = Template::of_body(&request.body, names);
    let fixed = head.fixed().is_some() && body.fixed().is_some() && outline.cookies.is_none();
    let written = Varying { head, cookies: outline.cookies, says_length, body };
    if !fixed {
        return Ok(Written::Varying(written));
    }
    let mut bytes = Vec::new();
    written.compose(&Values::default(), &mut bytes);
    Ok(Written::Fixed(bytes))
}

/// Methods are tokens (RFC 9110, section 9.1).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Wanted;
    use crate::plan::{Request, Talk};
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

    fn written(url: &str, request: &Request) -> Result<String> {
        let destination = Destination::read(url, Trust::default()).expect("a URL");
        let outlines = outline::all(&destination, std::slice::from_ref(request), &[])?;
        let Written::Fixed(bytes) = write(&destination, &outlines[0], &[])? else { panic!("nothing in it differs") };
        Ok(String::from_utf8(bytes).expect("the test's request is text"))
    }

    /// Goal: a request with values in it is whole, its length included, and the buffer's last content is gone.
    #[test]
    fn what_differs_is_put_into_each_request() {
        let destination = Destination::read("http://shop/a{{b", Trust::default()).expect("a URL");
        let names = ["item".to_owned(), "user".to_owned()];
        let request = request("PUT", "/items/{{item}}?u={{user}}", &[("x-user", "u {{ user }}")], "{\"user\":\"{{user}}\"}");
        let requests = [request];
        let outlines = outline::all(&destination, &requests, &names).expect("an outline");
        let Written::Varying(varying) = write(&destination, &outlines[0], &names).expect("a request") else { panic!("it differs") };
        let agent = concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n");
        let mut out = Vec::new();
        for (item, user, path, length) in [("7", "ann", "7?u=ann", 14), ("a b", "j\u{fc}rgen", "a%20b?u=j%C3%BCrgen", 18)] {
            let mut values = Values::default();
            [item, user].iter().for_each(|value| values.push(|out| out.extend_from_slice(value.as_bytes())));
            varying.compose(&values, &mut out);
            let head = format!("PUT /a{{{{b/items/{path} HTTP/1.1\r\nHost: shop\r\n{agent}Accept: */*\r\nx-user: u {user}\r\n");
            let whole = format!("{head}Content-Length: {length}\r\n\r\n{{\"user\":\"{user}\"}}");
            assert_eq!(String::from_utf8_lossy(&out), whole);
        }
    }

    #[test]
    fn requests_are_complete() {
        let agent = concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n");
        let get = written("http://shop:8080/api/", &request("GET", "/cart?a=b", &[("x-tenant", "gold")], "")).expect("a request");
        assert_eq!(get, format!("GET /api/cart?a=b HTTP/1.1\r\nHost: shop:8080\r\n{agent}Accept: */*\r\nx-tenant: gold\r\n\r\n"));
        let post = written("http://shop/", &request("POST", "/", &[("HOST", "other")], "hello")).expect("a request");
        assert_eq!(post, format!("POST / HTTP/1.1\r\n{agent}Accept: */*\r\nHOST: other\r\nContent-Length: 5\r\n\r\nhello"));
    }

    #[test]
    fn a_proxy_is_told_the_whole_url_and_who_asks_and_a_server_behind_a_tunnel_is_not() {
        let proxy: Proxy = "http://a:b@proxy:3128".parse().expect("a proxy");
        let through = |url: &str| {
            let destination = Destination::read(url, Trust::default()).expect("a URL").through(Some(proxy.clone()));
            let request = request("GET", "/cart", &[], "");
            let outlines = outline::all(&destination, std::slice::from_ref(&request), &[]).expect("an outline");
            let Ok(Written::Fixed(bytes)) = write(&destination, &outlines[0], &[]) else { panic!("a request") };
            String::from_utf8(bytes).expect("text")
        };
        let plain = through("http://shop:8080/api");
        assert!(plain.starts_with("GET http://shop:8080/api/cart HTTP/1.1\r\nHost: shop:8080\r\n"), "{plain}");
        assert!(plain.contains("\r\nProxy-Authorization: Basic YTpi\r\n"), "{plain}");
        let hidden = through("https://shop/api");
        assert!(hidden.starts_with("GET /api/cart HTTP/1.1\r\nHost: shop\r\n") && !hidden.contains("Proxy"), "{hidden}");
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        for (bad, says) in [
            (request("GET", "/ HTTP/1.1\r\nx: y", &[], ""), "is not a path"),
            (request("GET", "cart", &[], ""), "is not a path"),
            (request("GET /", "/", &[], ""), "is not a method"),
            (request("GET", "/", &[("a b", "c")], ""), "is not a header name"),
            (request("GET", "/", &[("token", "s3cret\r\nx: y")], ""), "control character"),
            (request("GET", "/", &[("Content-Length", "5")], ""), "squall's own affair"),
        ] {
            let error = written("http://shop/", &bad).expect_err("a bad request").to_string();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
    }
}
