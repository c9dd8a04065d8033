//! A proxy on the way to a target, as a plan names it. Its credentials are secrets: no message repeats what was read, and nothing prints
//! them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::target::TargetUrl;

/// Where the proxy is, and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// As `Proxy-Authorization` has it.
    authorization: Option<String>,
    /// As it may be shown.
    shown: String,
}

impl Proxy {
    /// The same, shown as it is written: with `${NAME}` in place of what came from the environment.
    pub fn shown_as(self, written: &str) -> Proxy {
        Proxy { shown: written.to_owned(), ..self }
    }

    /// What the header `Proxy-Authorization` says, where there are credentials.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// What its host may be called in reports: its name, unless that came from the environment.
    pub fn name(&self) -> &str {
        if self.shown.contains(&self.host) { &self.host } else { &self.shown }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a proxy looks like.
const AS_IN: &str = "write http://HOST:PORT, or http://USER:${PROXY_PASSWORD}@HOST:PORT";

impl FromStr for Proxy {
    type Err = String;

    /// `http://host:port`, with `user:password@` before the host where it wants to know; %-encoded where they must be.
    fn from_str(url: &str) -> Result<Proxy, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(match url.split_once("://") {
                Some(("https" | "socks" | "socks4" | "socks5" | "socks5h", _)) => {
                    format!("only a proxy that speaks plain HTTP is spoken to: {AS_IN}")
                }
                _ => format!("this is not the URL of a proxy: {AS_IN}"),
            });
        };
        let (credentials, place) = rest.rsplit_once('@').map_or((None, rest), |(credentials, place)| (Some(credentials), place));
        // Whatever is wrong with it may be part of a secret.
        let place: TargetUrl = format!("http://{place}").parse().map_err(|_| format!("this is not the URL of a proxy: {AS_IN}"))?;
        if !place.base.is_empty() {
            return Err(format!("a proxy has no path: {AS_IN}"));
        }
        let authorization = match credentials {
            None => None,
            Some(credentials) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let wrong =
                    || "the user or the password has a `%` without two hexadecimal digits after it: write %25 for it".to_owned();
                let mut pair = decoded(user).ok_or_else(wrong)?;
                if pair.contains(&b':') {
                    return Err("the user of a proxy holds a colon, which ends it".to_owned());
                }
                pair.push(b':');
                pair.extend(decoded(password).ok_or_else(wrong)?);
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
        };
        let shown = match credentials {
            None => url.to_owned(),
            Some(_) => format!("http://...@{}:{}", place.host, place.port),
        };
        Ok(Proxy { host: place.host, port: place.port, authorization, shown })
    }
}

/// Without its %-encoding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn proxies_are_taken_apart_and_print_no_secret() {
        let plain: Proxy = "http://proxy.corp:3128/".parse().expect("a proxy");
        assert_eq!((plain.host.as_str(), plain.port, plain.authorization()), ("proxy.corp", 3128, None));
        let known: Proxy = "http://al%40ice:hunter2%3A%2f@proxy.corp:3128".parse().expect("a proxy");
        // `al@ice:hunter2:/`, in base64.
        assert_eq!(known.authorization(), Some("Basic YWxAaWNlOmh1bnRlcjI6Lw=="));
        assert_eq!((format!("{known:?}"), known.name()), ("http://...@proxy.corp:3128".to_owned(), "proxy.corp"));
        let whole = known.shown_as("${PROXY}");
        assert_eq!((whole.to_string(), whole.name()), ("${PROXY}".to_owned(), "${PROXY}"));
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        for (text, says) in [
            ("proxy.corp:3128", "not the URL of a proxy"),
            ("https://hunter2@proxy", "plain HTTP"),
            ("socks5://hunter2@proxy", "plain HTTP"),
            ("http://a:hunter2/@", "not the URL"),
            ("http://hunter2:99999", "not the URL"),
            ("http://a:hunter2@proxy/path", "no path"),
            ("http://a:%hunter2@proxy", "%25"),
            ("http://a%3ahunter2:b@proxy", "a colon"),
            ("http://", "not the URL"),
        ] {
            let error = text.parse::<Proxy>().expect_err(text);
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_encoded_comes_back(text in "(http://)?[ -~é]{0,40}", bytes in any::<Vec<u8>>()) {
            let _ = text.parse::<Proxy>();
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decoded(&encoded), Some(bytes));
        }
    }
}
