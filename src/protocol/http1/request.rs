//! A request as bytes, written once for the whole run. What the plan says goes first; what it leaves out and the standard asks
//! for (`Host`, `Content-Length`) is added.

use anyhow::{Result, anyhow, ensure};

use crate::plan::Request;
use crate::protocol::Destination;
use crate::target;

/// The bytes of `request` on their way to `destination`.
pub(super) fn write(destination: &Destination, request: &Request) -> Result<Vec<u8>> {
    ensure!(is_token(&request.method), "`{}` is not a method: write one as in GET", request.method);
    let path = format!("{}{}", destination.base_path, request.path);
    ensure!(
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()),
        "`{path}` is not a path: it starts with `/` and has no space (write %20 for one)"
    );
    let mut bytes = format!("{} {path} HTTP/1.1\r\n", request.method).into_bytes();
    let given = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    if !given("host") {
        bytes.extend(format!("Host: {}\r\n", destination.authority()).into_bytes());
    }
    if !given("user-agent") {
        bytes.extend(concat!("User-Agent: squall/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
    }
    if !given("accept") {
        bytes.extend(b"Accept: */*\r\n");
    }
    for (name, value) in &request.headers {
        target::header(name, value).map_err(|why| anyhow!(why))?;
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    // Where content is expected, its absence is said too (RFC 9110, section 8.6).
    if !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        bytes.extend(format!("Content-Length: {}\r\n", request.body.len()).into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(&request.body);
    Ok(bytes)
}

/// Methods are tokens (RFC 9110, section 9.1).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Trust;
    use crate::units::Span;

    fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
        Request {
            method: method.into(),
            path: path.into(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: body.into(),
            timeout: Span::from_secs(1),
        }
    }

    fn written(url: &str, request: &Request) -> Result<String> {
        let destination = Destination::read(url, Trust::default()).expect("a URL");
        write(&destination, request).map(|bytes| String::from_utf8(bytes).expect("the test's request is text"))
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
