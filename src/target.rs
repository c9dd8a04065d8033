//! What a target's URL, a request's path and its headers may be: exactly what can be sent as written.

/// The parts of a target's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    pub https: bool,
    /// As written; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Empty or `/` and more, without a slash at its end: a request's path is appended to it.
    pub base: String,
}

impl std::str::FromStr for TargetUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<TargetUrl, String> {
        let (https, rest) = if let Some(rest) = url.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix("https://") {
            (true, rest)
        } else {
            return Err(match url.split_once("://") {
                Some((scheme, _)) => format!("`{scheme}://` is not spoken here: write http:// or https://"),
                None => format!("`{url}` has no scheme: write http://{url}"),
            });
        };
        if let Some(bad) = url.chars().find(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err(format!("{bad:?} cannot stand in a URL: write it %-encoded"));
        }
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        if path.contains(['?', '#']) {
            return Err("a target has no query or fragment: put the query into the request's path".into());
        }
        if authority.contains('@') {
            return Err("a target has no user and password: send an `authorization` header".into());
        }
        let (host, port) = if let Some(six) = authority.strip_prefix('[') {
            let (host, after) = six.split_once(']').ok_or("`[` without `]` after it")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("`{host}` is not an IPv6 address"))?;
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some("")))
        } else {
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        };
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() {
            return Err("the URL names no host".into());
        }
        if !authority.starts_with('[') && !host.chars().all(name) {
            return Err(format!("`{host}` is not a host name"));
        }
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(format!("`{port}` is not a port: write a number from 1 to 65535")),
            },
        };
        Ok(TargetUrl { https, host: host.to_owned(), port, base: path.trim_end_matches('/').to_owned() })
    }
}

impl TargetUrl {
    /// The Service that the host names in a cluster's DNS: `(name, namespace)` of `checkout.shop`, `checkout.shop.svc` and
    /// `checkout.shop.svc.cluster.local`. `None` for addresses and for names of another shape.
    pub fn service(&self) -> Option<(&str, &str)> {
        if self.host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        match self.host.trim_end_matches('.').split('.').collect::<Vec<_>>()[..] {
            [name, namespace] | [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => Some((name, namespace)),
            _ => None,
        }
    }
}

/// Whether a request's path can be sent as written.
pub(crate) fn path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("`{path}` is not a path: write /{path}"));
    }
    match path.chars().find(|c| c.is_whitespace() || c.is_control() || !c.is_ascii() || *c == '#') {
        Some(bad) => Err(format!("{bad:?} cannot stand in a path: write it %-encoded")),
        None => Ok(()),
    }
}

/// Whether a header can have this name (RFC 9110, section 5.6.2: token).
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Headers that are the load engine's own affair: how long the body is, and what becomes of the connection.
const OWN: [&str; 5] = ["content-length", "transfer-encoding", "connection", "upgrade", "expect"];

/// Whether a header can be sent as written. The value is a possible secret: no message repeats it.
pub(crate) fn header(name: &str, value: &str) -> Result<(), String> {
    if !is_header_name(name) {
        return Err(format!("`{name}` is not a header name"));
    }
    if OWN.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("`{name}` is squall's own affair: leave it out"));
    }
    // RFC 9110, 5.5: visible characters, spaces and tabs; line ends would be another header.
    if value.chars().any(|c| c != '\t' && c.is_control()) {
        return Err(format!("the value of `{name}` holds a control character, such as a line end"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |text: &str| text.parse::<TargetUrl>().unwrap_or_else(|error| panic!("{error}"));
        let plain = |host: &str, port, base: &str| TargetUrl { https: false, host: host.into(), port, base: base.into() };
        assert_eq!(url("http://checkout.shop/"), plain("checkout.shop", 80, ""));
        assert_eq!(url("http://127.0.0.1:8080/api/v1/"), plain("127.0.0.1", 8080, "/api/v1"));
        assert_eq!(url("http://[::1]:81"), plain("::1", 81, ""));
        assert_eq!(url("https://example.org").port, 443);
        assert_eq!(url("http://checkout.shop.svc.cluster.local").service(), Some(("checkout", "shop")));
        assert_eq!(url("http://127.0.0.1").service(), None);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_way_out() {
        for (text, says) in [
            ("checkout.shop", "write http://checkout.shop"),
            ("ftp://x", "`ftp://` is not spoken here"),
            ("http://", "names no host"),
            ("http://a:0", "not a port"),
            ("http://a:99999", "not a port"),
            ("http://[::1", "without `]`"),
            ("http://[nope]/", "not an IPv6 address"),
            ("http://u:p@a/", "authorization"),
            ("http://a/?q=1", "request's path"),
            ("http://a b/", "%-encoded"),
            ("http://a,b/", "not a host name"),
        ] {
            let error = text.parse::<TargetUrl>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(path("x").unwrap_err().contains("write /x"));
        assert!(path("/a b").is_err() && path("/a#b").is_err() && path("/a?b=c").is_ok());
        assert!(header("x-a", "b").is_ok() && header("a b", "c").is_err() && header("Content-Length", "3").is_err());
        assert!(header("Expect", "100-continue").is_err(), "a request is sent whole, without waiting to be asked for its body");
        let error = header("x-token", "hush\r\nx: y").unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }
}
