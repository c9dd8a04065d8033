//! Where a redirect leads (RFC 9110, section 15.4), as browsers follow it: within the same origin alone, since what is under test is one
//! service.

use std::borrow::Cow;

use url::{Position, Url};

use super::Flaw;

/// Whom requests go to: scheme, host and port.
#[derive(Clone, Debug)]
pub struct Origin(Url);

/// The request after a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// With its query.
    pub path: String,
    pub method: Method,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As before, with its body.
    Same,
    /// As a GET without one.
    Get,
}

impl Origin {
    /// That of `scheme://authority`.
    ///
    /// # Errors
    /// When that is none that a redirect can be held against.
    pub fn new(scheme: &str, authority: &str) -> Result<Origin, String> {
        let text = format!("{scheme}://{authority}/");
        Url::parse(&text).map(Origin).map_err(|why| format!("redirects from `{text}` cannot be followed: {why}"))
    }

    /// What an answer with this status asks for, to a request of `method` for `path`: `None` where it is no redirect. `location` is what
    /// its header says.
    ///
    /// # Errors
    /// When it leads to another origin, or nowhere.
    pub fn follow(&self, status: u16, method: &str, path: &[u8], location: Option<&[u8]>) -> Result<Option<Hop>, Flaw> {
        let method = match (status, method) {
            (301 | 302, "POST") => Method::Get,
            // What was asked for by its HEAD is still asked for by that.
            (303, "GET" | "HEAD") => Method::Same,
            (303, _) => Method::Get,
            (301 | 302 | 307 | 308, _) => Method::Same,
            _ => return Ok(None),
        };
        // What is no UTF-8 is sent on byte by byte, as browsers do: the parser %-encodes it.
        let said: Cow<'_, str> = location.map(String::from_utf8_lossy).ok_or(Flaw::Nowhere)?;
        let from = self.0.join(&String::from_utf8_lossy(path)).unwrap_or_else(|_| self.0.clone());
        let to = from.join(&said).map_err(|_| Flaw::Nowhere)?;
        if to.origin() != self.0.origin() {
            return Err(Flaw::Elsewhere);
        }
        Ok(Some(Hop { path: to[Position::BeforePath..Position::AfterQuery].to_owned(), method }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(status: u16, method: &str, path: &str, location: &str) -> Result<Option<(String, Method)>, Flaw> {
        let origin = Origin::new("http", "shop:8080").expect("an origin");
        let hop = origin.follow(status, method, path.as_bytes(), Some(location.as_bytes()))?;
        Ok(hop.map(|hop| (hop.path, hop.method)))
    }

    #[test]
    fn locations_are_read_as_browsers_read_them() {
        for (location, path) in [
            ("/b?c=d#e", "/b?c=d"),
            ("b", "/a/b"),
            ("../b", "/b"),
            ("?x=y", "/a/?x=y"),
            ("", "/a/?q=1"),
            ("http://shop:8080", "/"),
            ("HTTP://SHOP:8080/b", "/b"),
            ("//shop:8080/b", "/b"),
            ("/a b", "/a%20b"),
            ("/j\u{fc}rgen", "/j%C3%BCrgen"),
            ("http:b", "/a/b"),
        ] {
            assert_eq!(to(302, "GET", "/a/?q=1", location), Ok(Some((path.to_owned(), Method::Same))), "{location}");
        }
    }

    #[test]
    fn another_origin_is_not_gone_to() {
        for location in ["https://shop:8080/", "http://shop/", "http://other:8080/", "//other/", "mailto:a@b", "http://shop:8081/"]
        {
            assert_eq!(to(302, "GET", "/", location), Err(Flaw::Elsewhere), "{location}");
        }
        assert_eq!(to(302, "GET", "/", "http://[::"), Err(Flaw::Nowhere));
        let origin = Origin::new("http", "shop:8080").expect("an origin");
        assert_eq!(origin.follow(302, "GET", b"/", None), Err(Flaw::Nowhere));
        let usual = Origin::new("https", "shop").expect("an origin");
        assert!(usual.follow(302, "GET", b"/", Some(b"https://shop:443/b")).is_ok_and(|hop| hop.is_some()));
    }

    #[test]
    fn methods_change_as_the_standard_says() {
        use Method::{Get, Same};
        for (status, method, then) in [
            (301, "POST", Get),
            (302, "POST", Get),
            (303, "POST", Get),
            (303, "PUT", Get),
            (303, "HEAD", Same),
            (302, "PUT", Same),
            (307, "POST", Same),
            (308, "POST", Same),
            (301, "GET", Same),
        ] {
            assert_eq!(to(status, method, "/", "/b"), Ok(Some(("/b".to_owned(), then))), "{status} {method}");
        }
        for status in [200, 300, 304, 305, 306, 404] {
            assert_eq!(to(status, "GET", "/", "/b"), Ok(None), "{status}");
        }
    }

    proptest! {
        /// Whatever a peer says, what is asked for next is a path that can be sent as it stands.
        #[test]
        fn no_location_can_smuggle_anything_in(location in any::<Vec<u8>>(), path in "/[ -~]{0,20}") {
            let origin = Origin::new("http", "shop:8080").expect("an origin");
            if let Ok(Some(hop)) = origin.follow(307, "GET", path.as_bytes(), Some(&location)) {
                prop_assert!(hop.path.starts_with('/') && hop.path.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", hop.path);
                prop_assert!(!hop.path.contains('#'));
            }
        }
    }
}
