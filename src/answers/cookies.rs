//! The cookies of one run of a flow (RFC 6265), as far as one service can tell its users apart by them: name and value, the paths that
//! they are for, and that they are taken back. All requests go to one origin, and a run takes seconds: whose domain a cookie is for, and
//! how long it would live, is not looked at.

use std::time::SystemTime;

use crate::varying::template::header_refuses;

/// The most cookies of one run; what comes on top is not kept. Servers can count on 50 (RFC 6265, section 6.1).
const COOKIES_MOST: usize = 64;
/// The longest cookie, name and value, in bytes (the same section); longer ones are not kept.
const COOKIE_MOST: usize = 4_096;
/// The longest path of one, in bytes; one that is longer is as if there were none.
const PATH_MOST: usize = 1_024;

/// Cookies, in the order in which they were first set.
#[derive(Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
}

#[derive(Debug, PartialEq, Eq)]
struct Cookie {
    name: Vec<u8>,
    value: Vec<u8>,
    path: Vec<u8>,
}

impl Jar {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty()
    }

    /// Keeps, changes or takes back what `set_cookie` says, the header of an answer to a request for `path`. `now` tells what has
    /// expired.
    pub fn set(&mut self, set_cookie: &[u8], path: &[u8], now: SystemTime) {
        let Some((cookie, gone)) = read(set_cookie, path, now) else { return };
        let place = self.cookies.iter().position(|known| known.name == cookie.name && known.path == cookie.path);
        match (place, gone) {
            (Some(place), true) => drop(self.cookies.remove(place)),
            (Some(place), false) => self.cookies[place].value = cookie.value,
            (None, false) if self.cookies.len() < COOKIES_MOST => self.cookies.push(cookie),
            (None, _) => {}
        }
    }

    /// Adds to `out` what the header `cookie` of a request for `path` says; nothing where there is no cookie for it. Those of longer
    /// paths come first (section 5.4).
    pub fn write(&self, path: &[u8], out: &mut Vec<u8>) {
        let path = without_query(path);
        let mut fit: Vec<&Cookie> = self.cookies.iter().filter(|cookie| is_for(&cookie.path, path)).collect();
        fit.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        for (n, cookie) in fit.into_iter().enumerate() {
            if n > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(&cookie.name);
            out.push(b'=');
            out.extend_from_slice(&cookie.value);
        }
    }
}

/// A cookie, and whether this takes it back; `None` where it is none (section 5.2).
fn read(set_cookie: &[u8], request_path: &[u8], now: SystemTime) -> Option<(Cookie, bool)> {
    let mut parts = set_cookie.split(|byte| *byte == b';');
    let (name, value) = split(parts.next()?)?;
    if name.is_empty()
        || name.len() + value.len() > COOKIE_MOST
        || header_refuses(name).is_some()
        || header_refuses(value).is_some()
    {
        return None;
    }
    let (mut path, mut age, mut expires) = (None, None, None);
    for part in parts {
        // An attribute may have no value.
        let (key, value) = split(part).unwrap_or((part.trim_ascii(), b""));
        // Of each, the last one counts.
        if key.eq_ignore_ascii_case(b"path") {
            path = Some(value).filter(|path| path.starts_with(b"/") && path.len() <= PATH_MOST);
        } else if key.eq_ignore_ascii_case(b"max-age") {
            age = seconds(value).or(age);
        } else if key.eq_ignore_ascii_case(b"expires") {
            expires = str::from_utf8(value).ok().and_then(date).or(expires);
        }
    }
    let path = path.unwrap_or_else(|| default_path(without_query(request_path)));
    let gone = age.map_or_else(|| expires.is_some_and(|expires| expires <= now), |seconds| seconds <= 0);
    Some((Cookie { name: name.to_vec(), value: value.to_vec(), path: path.to_vec() }, gone))
}

/// As the standard has it, and with the dashes that the first browsers wrote.
fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&text.replace('-', " "))).ok()
}

/// `a = b` into a and b, without the blanks around them.
fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
}

/// A number of seconds; one that is too large to be one is still after or before now.
fn seconds(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number =
        |digits: &[u8]| digits.iter().fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    all.then(|| sign * number(digits))
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// All of a request's path before its last slash (section 5.1.4).
fn default_path(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(slash) => &path[..slash],
    }
}

/// Whether a cookie for `cookie` goes along with a request for `path` (the same section).
fn is_for(cookie: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    /// A day in 2026.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn jar(set: &[(&str, &str)]) -> Jar {
        let mut jar = Jar::default();
        set.iter().for_each(|(path, cookie)| jar.set(cookie.as_bytes(), path.as_bytes(), now()));
        jar
    }

    #[track_caller]
    fn check(set: &[(&str, &str)], path: &str, sent: &str) {
        let mut out = Vec::new();
        jar(set).write(path.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), sent, "{set:?} to {path}");
    }

    #[test]
    fn cookies_come_back_to_where_they_are_for() {
        check(&[("/login", "sid=1; HttpOnly; Secure")], "/buy?item=2", "sid=1");
        check(&[("/login", "a=1"), ("/login", "b = 2 ")], "/", "a=1; b=2");
        check(&[("/a/b", "x=1")], "/a/c", "x=1");
        check(&[("/a/b", "x=1")], "/ab", "");
        check(&[("/a/b", "x=1; Path=/")], "/", "x=1");
        check(&[("/", "x=1; path=/shop")], "/shop/cart", "x=1");
        check(&[("/", "x=1; path=/shop")], "/shopping", "");
        check(&[("/", "x=1; path=/"), ("/", "x=2; path=/a")], "/a/b", "x=2; x=1");
        check(&[("/a?b=/c/d", "x=1")], "/", "x=1");
        check(&[("/", "x=")], "/", "x=");
        check(&[("/", "x=a=b")], "/", "x=a=b");
    }

    #[test]
    fn cookies_are_changed_and_taken_back() {
        check(&[("/", "x=1"), ("/", "x=2")], "/", "x=2");
        check(&[("/", "x=1"), ("/", "x=; Max-Age=0")], "/", "");
        check(&[("/", "x=1"), ("/", "x=; max-age=-5")], "/", "");
        check(&[("/", "x=1"), ("/", "x=; Expires=Thu, 01 Jan 1970 00:00:00 GMT")], "/", "");
        check(&[("/", "x=1"), ("/", "x=; Expires=Thu, 01-Jan-1970 00:00:00 GMT")], "/", "");
        check(&[("/", "x=1"), ("/", "x=; Expires=Thursday, 01-Jan-70 00:00:00 GMT")], "/", "");
        check(&[("/", "x=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT")], "/", "x=1");
        check(&[("/", "x=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=99999999999999999999")], "/", "x=1");
        check(&[("/", "x=1"), ("/", "x=; Max-Age=0; Path=/other")], "/", "x=1");
    }

    #[test]
    fn what_is_no_cookie_is_not_kept_and_there_is_an_end_to_them() {
        for bad in ["", ";", "x", "=1", "x=a\u{7}b", "Path=/; x=1\u{0}"] {
            assert!(jar(&[("/", bad)]).cookies.iter().all(|cookie| cookie.name == b"Path"), "{bad:?}");
        }
        assert!(jar(&[("/", &format!("x={}", "y".repeat(COOKIE_MOST)))]).is_empty());
        let mut many = Jar::default();
        (0..200).for_each(|n| many.set(format!("c{n}=1").as_bytes(), b"/", now()));
        assert_eq!(many.cookies.len(), COOKIES_MOST);
        many.clear();
        assert!(many.is_empty());
    }

    proptest! {
        /// Whatever a peer sets, what goes back can stand in a header and is bounded.
        #[test]
        fn whatever_is_set_can_be_sent(
            set in prop::collection::vec(prop_oneof![any::<Vec<u8>>(), cookie().prop_map(String::into_bytes)], 0..80),
            path in "/[a-c/?]{0,8}",
        ) {
            let mut jar = Jar::default();
            for (n, cookie) in set.iter().enumerate() {
                jar.set(cookie, if n % 2 == 0 { b"/" } else { path.as_bytes() }, now());
            }
            let mut out = Vec::new();
            jar.write(path.as_bytes(), &mut out);
            prop_assert_eq!(header_refuses(&out).filter(|why| why.contains("control")), None);
            prop_assert!(out.len() <= COOKIES_MOST * (COOKIE_MOST + 3));
        }
    }

    fn cookie() -> impl Strategy<Value = String> {
        let attribute = "(; ?(Path|PATH|Max-Age|Expires|Secure|Domain)(=[ -~]{0,30})?){0,4}";
        ("[a-c]{1,2}=[ -~]{0,8}", attribute).prop_map(|(pair, attributes)| pair + &attributes)
    }
}
