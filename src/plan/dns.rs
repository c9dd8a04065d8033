//! How often the target's name is looked up, and what it stands for where the plan knows better than whoever would be asked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::located::Located;
use crate::units::Span;

/// How often a name is looked up where the plan does not say: as old as connections grow, so that a new one knows of new addresses.
///
/// An interval, and not the time to live of a DNS record: the system's resolver does not tell that, and only the system's resolver knows what
/// a name means on this machine (its hosts file, its search domains, its VPN).
const USUAL: Span = Span::from_secs(5);
/// How often it may be looked up, within reason: somebody else answers.
const OFTEN: (Span, Span) = (Span::from_millis(100), Span::from_secs(24 * 3600));

/// When the target's name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// Before the run.
    Once,
    /// Again and again.
    Every(Span),
}

impl Default for Dns {
    fn default() -> Dns {
        Dns::Every(USUAL)
    }
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dns::Once => f.write_str("once, before the run"),
            Dns::Every(span) => write!(f, "every {span}"),
        }
    }
}

/// What a host at a port stands for, whatever DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub host: String,
    pub port: u16,
    /// One at least.
    pub addresses: Vec<SocketAddr>,
}

impl Override {
    /// `host:port`, as a plan writes it before the addresses.
    pub(super) fn place(text: &str) -> Result<(String, u16), String> {
        let wrong = || format!("`{text}` is not a host and a port: write them as in shop.example:8080");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port)) }
    }

    /// An address, at this port unless it says another.
    pub(super) fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        alone.or_else(|_| text.parse()).map_err(|_| {
            format!("`{text}` is not an address: write numbers, as in 10.0.0.1 or ::1, or with a port of its own, 10.0.0.1:9090")
        })
    }

    pub(super) fn is_of(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port == port
    }
}

/// `once`, or {every: 5s}.
pub(super) enum WrittenDns {
    Once,
    Often(Often),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Often {
    /// From one look to the next.
    every: Located<Span>,
}

impl WrittenDns {
    /// What it comes to, and what is wrong with it.
    pub(super) fn dns(&self) -> Result<Dns, String> {
        match self {
            WrittenDns::Once => Ok(Dns::Once),
            WrittenDns::Often(Often { every }) if every.value < OFTEN.0 || every.value > OFTEN.1 => {
                Err(format!("a name cannot be looked up every {}: from {} to {}", every.value, OFTEN.0, OFTEN.1))
            }
            WrittenDns::Often(Often { every }) => Ok(Dns::Every(every.value)),
        }
    }
}

impl<'de> Deserialize<'de> for WrittenDns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenDns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("once, or {every: 5s}")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenDns, E> {
                match word {
                    "once" => Ok(WrittenDns::Once),
                    _ => Err(E::custom(format!("`{word}` is not when a name is looked up: write once, or {{every: {word}}}"))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenDns, A::Error> {
                Often::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenDns::Often)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenDns {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dns".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let often = generator.subschema_for::<Often>();
        json_schema!({"anyOf": [{"enum": ["once"]}, often]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_addresses_are_read() {
        assert_eq!(Override::place("shop.example:8080"), Ok(("shop.example".to_owned(), 8080)));
        assert_eq!(Override::place("[::1]:80"), Ok(("::1".to_owned(), 80)));
        for bad in ["shop.example", "shop.example:", "shop.example:0", ":80", "shop.example:http"] {
            assert!(Override::place(bad).is_err(), "{bad}");
        }
        let address = |text: &str| Override::address(text, 80).map(|address| address.to_string());
        assert_eq!(address("10.0.0.1").as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(address("10.0.0.1:9090").as_deref(), Ok("10.0.0.1:9090"));
        assert_eq!(address("::1").as_deref(), Ok("[::1]:80"));
        assert_eq!(address("[::1]:9090").as_deref(), Ok("[::1]:9090"));
        assert!(address("shop.example").is_err());
    }
}
