//! How requests get to the target, as far as the plan says it: what lies on the way, what encrypts them, and what its name
//! stands for.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::super::beside;
use super::super::check::reason;
use super::super::dns::WrittenDns;
use super::super::params::recorded;
use super::super::tree::{Id, Limits, Tree};
use super::super::written::WrittenTls;
use super::super::{Dns, Override, Target};
use super::{Desk, Located, Pairs};
use crate::proxy::Proxy;
use crate::target::TargetUrl;
use crate::tls::{Authorities, Credentials, FILE_MOST, Tls, Trust, Which, Wrong, server_name};

/// How connections are encrypted. Files are read when the plan is to be run; every reason why one could not be has been reported.
pub(super) fn tls(desk: &mut Desk<'_>, url: &str, written: Option<Located<WrittenTls>>, insecure: bool) -> Tls {
    let anybody = if insecure { Trust::Insecure } else { Trust::default() };
    let Some(Located { value: written, at }) = written else { return anybody.into() };
    if url.parse::<TargetUrl>().is_ok_and(|url| !url.https) {
        desk.wrong(at, "`tls` is for a target over https://, and this one is not").help =
            Some("write https://, or leave out `tls`".into());
    }
    let insecure = insecure || written.insecure.as_ref().is_some_and(|insecure| insecure.value);
    if let Some(ca) = written.ca.as_ref().filter(|_| insecure) {
        desk.wrong(ca.at, "whoever accepts any certificate asks no authority").help = Some("leave out `ca`, or `insecure`".into());
    }
    let name = written.server_name.inspect(|name| {
        if let Err(why) = server_name(&name.value) {
            desk.wrong(name.at, why);
        }
    });
    for (given, missing, key) in [(&written.cert, &written.key, "key"), (&written.key, &written.cert, "cert")] {
        if let (Some(given), None) = (given, missing)
            && !desk.is_left_out(at, &[key])
        {
            desk.wrong(given.at, format!("`{key}` is missing: a certificate is shown with the proof that it is one's own")).help =
                Some("as in `tls: {cert: client.pem, key: client.key}`; both may be the same file".into());
        }
    }
    let extra = written.ca.as_ref().and_then(|ca| {
        let bytes = pem(desk, ca, "authorities")?;
        reported(desk, ca.at, Authorities::of_pem(&ca.value, &bytes))
    });
    let credentials = written.cert.as_ref().zip(written.key.as_ref()).and_then(|(cert, key)| {
        let (shown, secret) = (pem(desk, cert, "certificate"), pem(desk, key, "key"));
        let read = Credentials::of_pem((&cert.value, &shown?), (&key.value, &secret?));
        read.map_err(|(which, wrong)| report(desk, if which == Which::Key { key.at } else { cert.at }, wrong)).ok()
    });
    let trust = if insecure { Trust::Insecure } else { Trust::Verified { extra } };
    Tls { trust, credentials, server_name: name.map(|name| name.value) }
}

/// The proxy on the way. Nothing that is said of it repeats what came from the environment.
pub(super) fn proxy(desk: &mut Desk<'_>, written: Option<Located<String>>, params: &BTreeMap<String, String>) -> Option<Proxy> {
    let Located { value: url, at } = written?;
    if !desk.source.to_be_run() && url.contains("${") {
        return None;
    }
    match url.parse::<Proxy>() {
        Err(why) => {
            desk.wrong(at, why);
            None
        }
        Ok(proxy) => {
            // As it stands in the plan, however it is quoted, and with its references.
            let (raw, _) = Tree::read(desk.source.text, Limits::PLAN);
            let raw = raw.scalar(at).map_or_else(String::new, |scalar| scalar.text.clone());
            if !tells_who(&raw, params) {
                return Some(proxy.shown_as(&recorded(&raw, params, |name| format!("${{{name}}}"))));
            }
            // Where it was recorded already there is nothing to be kept.
            if desk.source.to_be_run() {
                desk.wrong(at, "who this says that we are would stand in every recording").help = Some(
                    "put it into the environment: http://USER:${PROXY_PASSWORD}@HOST:PORT, or http://${PROXY_CREDENTIALS}@HOST:PORT, \
                     with variables that are no parameters"
                        .into(),
                );
            }
            Some(proxy)
        }
    }
}

/// Whether the URL of a proxy, as it is recorded, tells more of who we are to it than the user whose password comes from the environment:
/// a user alone may be a token.
pub(in crate::plan) fn tells_who(url: &str, params: &BTreeMap<String, String>) -> bool {
    // What comes from the environment as a character that stands in no URL.
    let masked = recorded(url, params, |_| "\0".to_owned());
    let rest = masked.split_once("://").map_or(masked.as_str(), |(_, rest)| rest);
    let Some((credentials, _)) = rest.rsplit_once('@') else { return false };
    let is_hidden = |text: &str| text.chars().all(|char| char == '\0');
    match credentials.split_once(':') {
        Some((_, password)) if !password.is_empty() => !is_hidden(password),
        _ => !is_hidden(credentials.trim_end_matches(':')),
    }
}

/// When the target's name is looked up.
pub(super) fn dns(desk: &mut Desk<'_>, written: Option<Located<WrittenDns>>, resolve: &[Override]) -> Dns {
    let Some(Located { value: written, at }) = written else { return Dns::default() };
    if !resolve.is_empty() {
        desk.wrong(at, "what `resolve` says is not looked up").help = Some("leave out `dns`, or `resolve`".into());
    }
    written.dns().unwrap_or_else(|why| {
        desk.wrong(at, why);
        Dns::default()
    })
}

/// Whom connections are made to, as (host, port, what it may be called): who goes through a proxy asks for that alone. `None` where it could
/// not be read, which has been reported.
pub(super) fn asked(target: &Target) -> Option<(String, u16, String)> {
    match &target.proxy {
        Some(proxy) => Some((proxy.host.clone(), proxy.port, proxy.name().to_owned())),
        None => target.url.parse::<TargetUrl>().ok().map(|url| (url.host.clone(), url.port, url.host)),
    }
}

/// What names stand for, whatever DNS says.
pub(super) fn resolve(
    desk: &mut Desk<'_>,
    asked: Option<(String, u16, String)>,
    Pairs(written): Pairs<Located<String>, Located<Vec<Located<String>>>>,
) -> Vec<Override> {
    let mut known: Vec<Override> = Vec::new();
    for (place, addresses) in written {
        let (host, port) = match Override::place(&place.value) {
            Ok(place) => place,
            Err(why) => {
                desk.wrong(place.at, why);
                continue;
            }
        };
        if addresses.value.is_empty() {
            desk.wrong(addresses.at, format!("`{}` stands for no address", place.value)).help = Some("name one at least".into());
        }
        let mut found = Vec::new();
        for address in &addresses.value {
            match Override::address(&address.value, port) {
                Ok(address) => found.push(address),
                Err(why) => _ = desk.wrong(address.at, why),
            }
        }
        let read = Override { host, port, addresses: found };
        if let Some((host, port, name)) = &asked
            && !read.is_of(host, *port)
        {
            desk.wrong(place.at, format!("no connection goes to `{}`", place.value)).help =
                Some(format!("what is connected to is \"{name}:{port}\""));
        }
        if known.iter().any(|known| known.is_of(&read.host, read.port)) {
            desk.wrong(place.at, format!("what `{}` stands for is said twice", place.value));
        }
        known.push(read);
    }
    known
}

/// The bytes of a PEM file; none where the plan is only to be judged by.
fn pem(desk: &mut Desk<'_>, file: &Located<String>, what: &str) -> Option<Vec<u8>> {
    bytes(desk, file.at, &file.value, what, FILE_MOST)
}

/// The bytes of a file beside the plan, where it is to be run.
pub(super) fn bytes(desk: &mut Desk<'_>, at: Id, file: &str, what: &str, most: u64) -> Option<Vec<u8>> {
    let path = desk.beside(file)?;
    match read(&path, most) {
        Ok(bytes) if bytes.len() as u64 <= most => Some(bytes),
        Ok(_) => {
            desk.wrong(at, format!("the {what} `{}` is larger than {} MiB", path.display(), most >> 20));
            None
        }
        Err(error) => {
            let help = (error.kind() == std::io::ErrorKind::NotFound).then(|| beside(&path)).flatten();
            desk.wrong(at, format!("cannot read the {what} `{}`: {}", path.display(), reason(&error))).help = help;
            None
        }
    }
}

/// A byte more than is allowed, where it is larger.
fn read(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn reported<T>(desk: &mut Desk<'_>, at: Id, read: Result<T, Wrong>) -> Option<T> {
    read.map_err(|wrong| report(desk, at, wrong)).ok()
}

fn report(desk: &mut Desk<'_>, at: Id, wrong: Wrong) {
    desk.wrong(at, wrong.message).help = Some(wrong.help);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_to_a_proxy_is_told_by_all_that_does_not_come_from_the_environment() {
        let params = [("secret", "hunter2"), ("whole", "http://a:hunter2@p:1"), ("user", "alice"), ("plain", "http://p:1")];
        let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for quiet in [
            "http://p:1",
            "${PROXY}",
            "${plain}",
            "http://${WHO}@p",
            "http://alice:${PW}@p",
            "http://${user}:${PW}@p",
            "http://${A}:${B}@p",
        ] {
            assert!(!tells_who(quiet, &params), "{quiet}");
        }
        for loud in [
            "${whole}",
            "http://TOKEN@p",
            "http://alice:@p",
            "http://a:hunter2@p",
            "http://a:${secret}@p",
            "http://a:hunter2${PW}@p",
            "http://a:${PW}2@p",
            "http://x${WHO}@p",
            "${SCHEME}a:hunter2@p",
            "http://a:$${PW}@p",
        ] {
            assert!(tells_who(loud, &params), "{loud}");
        }
    }
}
