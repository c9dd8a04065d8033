//! The server's identity: an authority and a certificate made at each start and kept in memory only, and a token. Whoever has the
//! token can run commands as us.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate with the authority that vouches for it, and the token that clients must show.
pub struct Identity {
    pub authority_pem: String,
    pub token: String,
    pub(super) tls: Arc<rustls::ServerConfig>,
}

impl Identity {
    /// A new identity for a server at `address`, also reachable as `localhost`.
    pub fn new(address: IpAddr) -> anyhow::Result<Identity> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "squall sandbox");
        let authority_key = KeyPair::generate().context("failed to make the key of the sandbox's authority")?;
        let authority_certificate =
            authority.self_signed(&authority_key).context("failed to sign the certificate of the sandbox's authority")?;

        let mut server = CertificateParams::new(vec!["localhost".to_owned(), "kubernetes.default.svc".to_owned()])
            .context("failed to name the sandbox's certificate")?;
        server.subject_alt_names.push(SanType::IpAddress(address));
        server.distinguished_name.push(DnType::CommonName, "squall sandbox API server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate().context("failed to make the key of the sandbox's server")?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let certificate =
            server.signed_by(&server_key, &issuer).context("failed to sign the certificate of the sandbox's server")?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("failed to set up TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("failed to set up TLS with the sandbox's certificate")?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Identity { authority_pem: authority_certificate.pem(), token: token()?, tls: Arc::new(tls) })
    }
}

/// 128 bits from the kernel: not from the run's seed, which is printed.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0u8; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").context("failed to open /dev/urandom")?, &mut bytes)
        .context("failed to read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
