//! The file with which `kubectl` and every other client finds a sandbox: its address, its authority, its token. Whoever reads it can
//! run commands as us, so it is written for its owner only.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
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

    /// Writes it with mode 0600, whole or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(self.to_yaml().as_bytes())?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let config = Kubeconfig {
            name: "squall".into(),
            server: "https://127.16.0.1:6443".into(),
            authority_pem: "-----BEGIN CERTIFICATE-----".into(),
            token: "t".into(),
            namespace: "default".into(),
        };
        config.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("token: t"));
    }
}
