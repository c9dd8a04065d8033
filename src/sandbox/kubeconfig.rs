//! The file with which `kubectl` and every other client finds a sandbox: its address, its authority, its token. Whoever reads it can
//! run commands as us, so it is written for its owner only.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::base64;

/// How to reach one sandbox.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// The name of its cluster, user and context.
    pub name: String,
    /// `https://127.16.0.1:6443`.
    pub server: String,
    /// The certificate of the authority that signed the server's, in PEM.
    pub authority_pem: String,
    /// The bearer token.
    pub token: String,
    /// The namespace of commands that name none.
    pub namespace: String,
}

impl Kubeconfig {
    /// The file's text, in YAML.
    pub fn to_yaml(&self) -> String {
        let Kubeconfig { name, server, token, namespace, authority_pem } = self;
        let authority = base64::encode(authority_pem.as_bytes());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n\
             users:\n- name: {name}\n  user:\n    token: {token}\n\
             contexts:\n- name: {name}\n  context: {{cluster: {name}, user: {name}, namespace: {namespace}}}\n"
        )
    }
}

/// Writes a kubeconfig into a file of its own, which only its owner may read: one that is there already is never written over.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Where a sandbox's API listens, when `text` is a file that a sandbox wrote and nobody has changed since.
pub fn server_in(text: &str) -> Option<SocketAddr> {
    let name = text.strip_prefix("apiVersion: v1\nkind: Config\ncurrent-context: ")?.lines().next()?;
    let server = text.lines().find_map(|line| line.strip_prefix("    server: https://"))?;
    let expected = |line: &str| {
        let fixed = ["apiVersion: v1", "kind: Config", "clusters:", "users:", "contexts:", "  cluster:", "  user:"];
        let values = ["    server: ", "    certificate-authority-data: ", "    token: ", "  context: {cluster: "];
        fixed.contains(&line)
            || values.iter().any(|value| line.starts_with(value))
            || line == format!("current-context: {name}")
            || line == format!("- name: {name}")
    };
    (text.lines().count() == 15 && text.lines().all(expected)).then(|| server.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config() -> Kubeconfig {
        Kubeconfig {
            name: "squall".into(),
            server: "https://127.16.0.1:6443".into(),
            authority_pem: "-----BEGIN CERTIFICATE-----".into(),
            token: "t".into(),
            namespace: "default".into(),
        }
    }

    #[test]
    fn only_the_owner_can_read_it_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        write_new(&path, &config().to_yaml()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_new(&path, "other").is_err());
        assert!(std::fs::read_to_string(&path).unwrap().contains("token: t"));
    }

    #[test]
    fn only_a_sandbox_s_own_unchanged_file_is_known_as_one() {
        let own = config().to_yaml();
        assert_eq!(server_in(&own), Some("127.16.0.1:6443".parse().unwrap()), "{own}");
        let more = own.replace("contexts:\n", "contexts:\n- name: production\n  context: {cluster: production, user: me}\n");
        for other in ["", "apiVersion: v1\nkind: Config\n", &more, &format!("{own}# mine\n")] {
            assert_eq!(server_in(other), None, "{other}");
        }
    }
}
