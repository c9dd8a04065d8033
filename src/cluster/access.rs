//! How a cluster is found: contexts, files, service accounts, impersonation and proxies, by the rules of `kubectl`, so that whoever
//! can reach a cluster by the one reaches the same cluster by the other.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::{Deserialize, Serialize};

use super::Error;
use super::error::innermost;

/// How the cluster is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// The text of a kubeconfig, its current context.
    Kubeconfig(String),
    /// A context of `$KUBECONFIG` or `~/.kube/config`, the current one when `None`; inside of a pod, its service account.
    Context(Option<String>),
    /// A context of these kubeconfig files, written as `$KUBECONFIG` is: how a cluster is found again later.
    Files { kubeconfig: String, context: Option<String> },
    /// As found by the other, but as somebody else.
    As(Impersonation, Box<Access>),
}

/// Whom the server is to take us for, as `kubectl --as` has it. It goes over what the kubeconfig says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impersonation {
    pub user: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// The way to a cluster, whichever of its contexts is meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// Files as `$KUBECONFIG` lists them; those of the environment when absent.
    pub kubeconfig: Option<String>,
    pub who: Option<Impersonation>,
}

impl Reach {
    /// To this context, or to the current one.
    pub fn to(&self, context: Option<String>) -> Access {
        let access = match &self.kubeconfig {
            Some(kubeconfig) => Access::Files { kubeconfig: kubeconfig.clone(), context },
            None => Access::Context(context),
        };
        match &self.who {
            Some(who) => Access::As(who.clone(), Box::new(access)),
            None => access,
        }
    }
}

/// Looks a variable of the environment up.
type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Where a service account's token is in a pod.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Stands where a kubeconfig names no proxy, so that nobody looks into the environment by rules of their own.
const NO_PROXY_OF_ITS_OWN: &str = "http://none.invalid";

impl Access {
    /// The client's configuration, proxy included.
    pub(super) async fn config(&self) -> Result<Config, Error> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match self {
            Access::Kubeconfig(text) => {
                let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| unusable(misread(&e)))?;
                of_context(tidied(kubeconfig), None, &env).await
            }
            Access::Files { kubeconfig, context } => {
                let files = listed(kubeconfig);
                match merged(&files)? {
                    Some(found) => of_context(found, context.as_deref(), &env).await,
                    None => Err(unusable(format!("there is no {}", names(&files)))),
                }
            }
            Access::Context(context) => {
                let files = files_of_environment(&env);
                let found = merged(&files)?.filter(|found| !is_empty(found));
                match (found, context) {
                    (Some(found), context) => of_context(found, context.as_deref(), &env).await,
                    // Only where nobody configured anything: a broken file must not lead into another cluster than was meant.
                    (None, None) if in_pod(&env) => of_service_account(&env),
                    (None, _) => Err(unusable(format!("nothing is configured in {}, and this is no pod", names(&files)))),
                }
            }
            Access::As(who, through) => {
                let mut config = Box::pin(through.config()).await?;
                config.auth_info.impersonate = Some(who.user.clone());
                if !who.groups.is_empty() {
                    config.auth_info.impersonate_groups = Some(who.groups.clone());
                }
                Ok(config)
            }
        }
    }
}

fn unusable(why: String) -> Error {
    Error::Config { why }
}

/// Why a file cannot be read: where, and not the lines around it, which may hold a token.
fn misread(error: &KubeconfigError) -> String {
    innermost(error).lines().next().unwrap_or_default().to_owned()
}

/// The paths in a list as `$KUBECONFIG` holds it.
fn listed(list: &str) -> Vec<PathBuf> {
    std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

fn files_of_environment(env: Environment<'_>) -> Vec<PathBuf> {
    let files = env("KUBECONFIG").map(|list| listed(&list)).unwrap_or_default();
    if !files.is_empty() {
        return files;
    }
    env("HOME").map(|home| Path::new(&home).join(".kube/config")).into_iter().collect()
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if names.is_empty() { "any file".to_owned() } else { names.join(" or ") }
}

/// The files as one: what is not there is left out, and the first to say something is believed. `None` where none is there.
fn merged(files: &[PathBuf]) -> Result<Option<Kubeconfig>, Error> {
    let mut merged: Option<Kubeconfig> = None;
    for file in files {
        if std::fs::metadata(file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            continue;
        }
        let unreadable = |error: KubeconfigError| unusable(format!("{}: {}", file.display(), misread(&error)));
        let read = tidied(Kubeconfig::read_from(file).map_err(unreadable)?);
        merged = Some(match merged {
            None => read,
            Some(before) => before.merge(read).map_err(unreadable)?,
        });
    }
    Ok(merged)
}

/// An empty `current-context` says nothing, and must not hide what a later file says.
fn tidied(mut kubeconfig: Kubeconfig) -> Kubeconfig {
    kubeconfig.current_context = kubeconfig.current_context.filter(|context| !context.is_empty());
    kubeconfig
}

fn is_empty(kubeconfig: &Kubeconfig) -> bool {
    kubeconfig.clusters.is_empty()
        && kubeconfig.contexts.is_empty()
        && kubeconfig.auth_infos.is_empty()
        && kubeconfig.current_context.is_none()
}

async fn of_context(mut kubeconfig: Kubeconfig, context: Option<&str>, env: Environment<'_>) -> Result<Config, Error> {
    let known: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    let choice = || if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) };
    let name = context
        .or(kubeconfig.current_context.as_deref())
        .ok_or_else(|| unusable(format!("no context is current, and none was named; {}", choice())))?
        .to_owned();
    let cluster = kubeconfig.contexts.iter().find(|context| context.name == name).and_then(|context| context.context.clone());
    let cluster = cluster.ok_or_else(|| unusable(format!("there is no context `{name}`; {}", choice())))?.cluster;
    let mut own_proxy = None;
    for named in kubeconfig.clusters.iter_mut().filter(|named| named.name == cluster) {
        if let Some(cluster) = &mut named.cluster {
            own_proxy = cluster.proxy_url.replace(NO_PROXY_OF_ITS_OWN.to_owned()).filter(|url| !url.is_empty());
        }
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let found = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = found.map_err(|error| unusable(format!("context `{name}`: {error}")))?;
    config.proxy_url = proxy(&config.cluster_url, own_proxy.as_deref(), env)?;
    Ok(config)
}

fn in_pod(env: Environment<'_>) -> bool {
    env("KUBERNETES_SERVICE_HOST").is_some()
        && env("KUBERNETES_SERVICE_PORT").is_some()
        && Path::new(SERVICE_ACCOUNT_TOKEN).is_file()
}

fn of_service_account(env: Environment<'_>) -> Result<Config, Error> {
    let mut config = Config::incluster().map_err(|error| unusable(format!("this pod's service account: {error}")))?;
    config.default_namespace = config.default_namespace.trim().to_owned();
    config.proxy_url = proxy(&config.cluster_url, None, env)?;
    Ok(config)
}

/// The proxy that leads to `server`: the kubeconfig's own always; else the environment's, where neither it nor common sense exempts
/// the server.
fn proxy(server: &Uri, own: Option<&str>, env: Environment<'_>) -> Result<Option<Uri>, Error> {
    let any = |names: [&str; 2]| names.into_iter().find_map(env);
    let (place, url) = match own {
        Some(url) => ("`proxy-url`", url.to_owned()),
        None => {
            let (place, names) = match server.scheme_str() {
                Some("https") => ("HTTPS_PROXY", ["HTTPS_PROXY", "https_proxy"]),
                _ => ("HTTP_PROXY", ["HTTP_PROXY", "http_proxy"]),
            };
            let Some(url) = any(names) else { return Ok(None) };
            let host = server.host().unwrap_or_default();
            let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("https") { 443 } else { 80 });
            if is_here(host) || any(["NO_PROXY", "no_proxy"]).is_some_and(|list| exempts(&list, host, port)) {
                return Ok(None);
            }
            (place, url)
        }
    };
    let whole = if url.contains("://") { url } else { format!("http://{url}") };
    // The address may hold a password, so it is not repeated.
    let known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https" | "socks5" | "socks5h")) && uri.host().is_some();
    match whole.parse::<Uri>().ok().filter(known) {
        Some(uri) => Ok(Some(uri)),
        None => Err(unusable(format!(
            "{place} is no proxy's address: write http://, https:// or socks5://, a host and a port (it is not shown, since it may \
             hold a password)"
        ))),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether a host is this machine, which is behind no proxy of the environment's.
fn is_here(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

/// Whether a list as `NO_PROXY` holds it exempts a server: `*`, addresses, networks, domains with all below them, `.domain` for only
/// what is below; each but a network with a port where it is meant for that alone.
fn exempts(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_lowercase();
    let ip = address(&host);
    list.split(',').map(str::trim).filter(|rule| !rule.is_empty()).any(|rule| {
        if rule == "*" {
            return true;
        }
        if let Some((net, bits)) = rule.split_once('/') {
            return matches!((address(net), bits.parse(), ip), (Some(net), Ok(bits), Some(ip)) if within(net, bits, ip));
        }
        let (name, only) = match (address(rule), rule.rsplit_once(':')) {
            (None, Some((name, only))) => (name, only.parse::<u16>().ok()),
            _ => (rule, None),
        };
        if only.is_some_and(|only| only != port) {
            return false;
        }
        if let Some(exempt) = address(name) {
            return ip == Some(exempt);
        }
        let name = name.to_lowercase();
        let name = name.strip_prefix('*').unwrap_or(&name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

fn within(net: IpAddr, bits: u32, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) if bits <= 32 => (net.to_bits() ^ ip.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0,
        (IpAddr::V6(net), IpAddr::V6(ip)) if bits <= 128 => {
            (net.to_bits() ^ ip.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(context: &str, server: &str, current: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: '{current}'\n\
             clusters: [{{name: {context}, cluster: {{server: '{server}'}}}}]\nusers: [{{name: {context}, user: {{token: t}}}}]\n\
             contexts: [{{name: {context}, context: {{cluster: {context}, user: {context}, namespace: of-{context}}}}}]\n"
        )
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[tokio::test]
    async fn several_files_are_one_and_the_first_to_say_something_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let list = [
            dir.path().join("absent"),
            file("a", &kubeconfig("a", "https://a:1", "")),
            file("b", &kubeconfig("b", "https://b:1", "b")),
            file("c", &kubeconfig("a", "https://other:1", "a")),
        ];
        let list = std::env::join_paths(list).unwrap().into_string().unwrap();
        let of = |context: Option<&str>| Access::Files { kubeconfig: list.clone(), context: context.map(str::to_owned) };
        let current = of(None).config().await.unwrap();
        assert_eq!((current.cluster_url.host(), current.default_namespace.as_str()), (Some("b"), "of-b"));
        assert_eq!(of(Some("a")).config().await.unwrap().cluster_url.host(), Some("a"));
        let error = of(Some("z")).config().await.unwrap_err().to_string();
        assert!(error.contains("no context `z`") && error.contains("a, b"), "{error}");

        let absent = Access::Files { kubeconfig: dir.path().join("absent").display().to_string(), context: None };
        assert!(absent.config().await.unwrap_err().to_string().contains("there is no"));
        let unset = of_context(tidied(Kubeconfig::from_yaml(&kubeconfig("a", "https://a:1", "")).unwrap()), None, &nothing).await;
        assert!(unset.unwrap_err().to_string().contains("no context is current"));
    }

    #[tokio::test]
    async fn somebody_else_is_spoken_for_over_what_the_file_says() {
        let own = kubeconfig("a", "https://a:1", "a").replace("{token: t}", "{token: t, as: ann, as-groups: [dev]}");
        let own = Access::Kubeconfig(own);
        let config = own.config().await.unwrap();
        assert_eq!(config.auth_info.impersonate.as_deref(), Some("ann"));
        let bob = Impersonation { user: "bob".into(), groups: vec!["ops".into(), "dev".into()] };
        let config = Access::As(bob, Box::new(own)).config().await.unwrap();
        assert_eq!(config.auth_info.impersonate.as_deref(), Some("bob"));
        assert_eq!(config.auth_info.impersonate_groups.unwrap(), ["ops", "dev"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_which_and_not_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "users:\n- name: u\n  user: {token: hunter2\nclusters: [").unwrap();
        let error = merged(&[broken]).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("broken") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn the_proxy_is_the_one_that_kubectl_takes() {
        let both = |name: &str| match name {
            "HTTPS_PROXY" => Some("proxy.corp:3128".to_owned()),
            "NO_PROXY" => Some("10.0.0.0/8, .in.corp,exempt.corp:6443,".to_owned()),
            _ => None,
        };
        let of = |server: &str, own: Option<&str>| proxy(&server.parse().unwrap(), own, &both).unwrap().map(|uri| uri.to_string());
        let corp = Some("http://proxy.corp:3128/".to_owned());
        for (server, expected) in [
            ("https://k8s.example:6443", &corp),
            ("http://k8s.example", &None),
            ("https://127.0.0.1:6443", &None),
            ("https://[::1]:6443", &None),
            ("https://localhost:6443", &None),
            ("https://10.1.2.3:6443", &None),
            ("https://11.1.2.3:6443", &corp),
            ("https://k8s.in.corp", &None),
            ("https://in.corp", &corp),
            ("https://exempt.corp:6443", &None),
            ("https://a.exempt.corp:6443", &None),
            ("https://notexempt.corp:6443", &corp),
            ("https://exempt.corp", &corp),
        ] {
            assert_eq!(of(server, None), *expected, "{server}");
        }
        // What the kubeconfig itself says holds everywhere.
        assert_eq!(of("https://10.1.2.3", Some("socks5://s:1080")).as_deref(), Some("socks5://s:1080/"));
        let error = proxy(&"https://a".parse().unwrap(), Some("ftp://ann:hunter2@x"), &both).unwrap_err().to_string();
        assert!(error.contains("proxy-url") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn exemptions_are_read_as_go_reads_them() {
        for (list, host, exempt) in [
            ("*", "anything", true),
            ("", "anything", false),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.4", true),
            ("[::2]:443", "[::2]", true),
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "a.b", false),
            ("A.b", "x.a.B", true),
            ("1.2.3.4/xx", "1.2.3.4", false),
        ] {
            assert_eq!(exempts(list, host, 443), exempt, "{list} and {host}");
        }
    }
}
